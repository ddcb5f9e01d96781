//! `fault` and `faults`: what a replica does wrong from now on.

use std::time::Duration;

use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use quorate_crypto::Protocol;
use serde_json::{Value, json};

use super::arguments::Fault;
use super::{launch_failure, processes, screen};
use crate::faults::client::ClientBehaviour;
use crate::faults::{Behaviour, CATALOGUE, Entry, Group};
use crate::launcher::control::{self, Turned};
use crate::launcher::process::condition;
use crate::launcher::{Description, Directory, LaunchError, standing};

/// What can be done to a replica besides the catalogue of its own lies.
const BESIDES: [(&str, &str); 3] = [
    ("heal", "honest again"),
    ("crash", "its process ends at once; `restart` brings it back"),
    ("pause", "its process is frozen; `resume` lets it go on"),
];

/// `faults`.
pub(super) fn catalogue(report: Report) -> Result<(), Failure> {
    let mut groups: Vec<(&str, Vec<(&str, String)>)> = Vec::new();
    for group in Group::ALL {
        let lies = CATALOGUE.iter().filter(|entry| entry.group == group);
        groups.push((group.name(), lies.map(|entry| (entry.name, marked(entry))).collect()));
    }
    groups.push(("process", BESIDES.iter().map(|(name, line)| (*name, (*line).to_owned())).collect()));
    groups.push(("client", ClientBehaviour::ALL.iter().map(|one| (one.name(), one.line().to_owned())).collect()));
    if report.json {
        let list: Vec<Value> = groups
            .iter()
            .flat_map(|(group, lies)| lies.iter().map(move |(name, line)| (group, name, line)))
            .map(|(group, name, line)| json!({"group": group, "name": name, "description": line}))
            .collect();
        return report.value(&json!({"v": 1, "faults": list}));
    }
    let mut rows = Vec::new();
    for (group, lies) in &groups {
        for (index, (name, line)) in lies.iter().enumerate() {
            let heading = if index == 0 { group } else { "" };
            rows.push(vec![screen::Cell::plain(heading), screen::Cell::plain(name), screen::Cell::plain(line)]);
        }
    }
    screen::lines(&screen::table(&["GROUP", "BEHAVIOUR", "WHAT IT DOES"], &rows));
    Ok(())
}

/// What a behaviour does, and under which protocol alone, if that is so.
fn marked(entry: &Entry) -> String {
    match Protocol::ALL.map(|protocol| entry.behaviour.is_of(protocol)) {
        [true, false] => format!("{} (pbft)", entry.line),
        [false, true] => format!("{} (hotstuff)", entry.line),
        _ => entry.line.to_owned(),
    }
}

/// Why a behaviour is refused that would do nothing under what the testnet runs.
pub(super) fn meaningless(turned: &Turned, protocol: Protocol) -> Option<String> {
    turned.behaviour.parse::<Behaviour>().ok()?.refusal(protocol)
}

impl Fault {
    pub(super) async fn run(&self, directory: &Directory, report: Report) -> Result<(), Failure> {
        let description = Description::load(directory).map_err(launch_failure)?;
        let (id, _) = description.replica(self.id).map_err(launch_failure)?;
        let names: Vec<&str> = self.behaviours.iter().map(String::as_str).collect();
        match names.as_slice() {
            ["crash"] if self.is_simple() => return processes::kill(directory, self.id, report),
            ["pause"] if self.is_simple() => return processes::pause(directory, self.id, report),
            ["crash" | "pause"] => {
                return Err(Failure::configuration(format!(
                    "{} takes neither --when nor --for: undo it with `quorate-testnet {} {id}`",
                    names[0],
                    if names[0] == "crash" { "restart" } else { "resume" }
                )));
            }
            _ => {}
        }
        let set = self.wanted(&names)?;
        if let Some(sentence) = set.iter().find_map(|turned| meaningless(turned, description.protocol)) {
            return Err(Failure::configuration(sentence));
        }
        if condition(directory, id).pid().is_none() {
            return Err(launch_failure(LaunchError::Replica {
                replica: id,
                problem: format!("does not run: start it with `quorate-testnet restart {id}`"),
            }));
        }
        let conduct = control::turn(&directory.control(id), set, self.time)
            .await
            .map_err(|problem| launch_failure(LaunchError::Replica { replica: id, problem }))?;
        let words: Vec<String> = conduct.on.iter().map(in_words).collect();
        let mut text = if words.is_empty() {
            format!("replica {id} is honest from now on")
        } else {
            format!("replica {id} from now on: {}", words.join(", "))
        };
        if let Some(time) = self.time.filter(|_| !words.is_empty()) {
            text = format!("{text}, for {}", shown(time));
        }
        report.both(
            &text,
            &json!({"v": 1, "id": id.0, "behaviour": conduct.label(), "behaviours": conduct.on, "acted": conduct.acted}),
        )?;
        self.warn_beyond_f(directory, &description).await;
        Ok(())
    }

    fn is_simple(&self) -> bool {
        self.when == "always" && self.time.is_none()
    }

    fn wanted(&self, names: &[&str]) -> Result<Vec<Turned>, Failure> {
        match names {
            ["heal" | "honest"] => Ok(Vec::new()),
            names => names
                .iter()
                .map(|name| {
                    let text = if self.when == "always" || name.contains(':') {
                        (*name).to_owned()
                    } else {
                        format!("{name}:{}", self.when)
                    };
                    Turned::parse(&text).map_err(|problem| {
                        Failure::configuration(format!("{problem}; besides, alone: heal, crash, pause"))
                    })
                })
                .collect(),
        }
    }

    /// Beyond f faulty replicas nothing is promised: whoever goes there should know.
    async fn warn_beyond_f(&self, directory: &Directory, description: &Description) {
        let standings = standing::all(directory, description).await;
        let faulty = standing::faulty(&standings);
        if faulty > description.tolerates() {
            screen::warn(&format!(
                "{faulty} replicas are down, paused or misbehave, more than the {} that {} replicas tolerate: the cluster may stall, or worse",
                description.tolerates(),
                standings.len()
            ));
        }
    }
}

/// `equivocate while primary`.
pub(super) fn in_words(turned: &Turned) -> String {
    match turned.when.as_str() {
        "always" => turned.behaviour.clone(),
        "primary" => format!("{} while primary", turned.behaviour),
        when => match when.split_once(':') {
            Some(("view", views)) => format!("{} in views {views}", turned.behaviour),
            Some((_, numbers)) => format!("{} at numbers {numbers}", turned.behaviour),
            None => format!("{} {when} of the time", turned.behaviour),
        },
    }
}

fn shown(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{} ms", time.as_millis()) }
}
