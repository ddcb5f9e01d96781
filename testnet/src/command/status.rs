//! `status`: where every replica stands.

use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use serde_json::{Value, json};

use super::launch_failure;
use super::screen::{self, Cell, Tone};
use crate::launcher::process::Condition;
use crate::launcher::standing::{self, Standing};
use crate::launcher::{Description, Directory};

pub(super) async fn run(directory: &Directory, report: Report) -> Result<(), Failure> {
    let description = Description::load(directory).map_err(launch_failure)?;
    let standings = standing::all(directory, &description).await;
    let view = standing::view(&standings).unwrap_or_default();
    if report.json {
        let replicas: Vec<Value> = standings.iter().map(|one| object(one, view)).collect();
        return report.value(&json!({"v": 1, "protocol": description.protocol.name(), "replicas": replicas}));
    }
    screen::lines(&table(&standings, view));
    let faulty = standing::faulty(&standings);
    if standings.iter().all(|one| one.condition == Condition::Down) {
        screen::warn("the testnet does not run: start it with `quorate-testnet up`");
    } else if faulty > description.tolerates() {
        screen::warn(&format!(
            "{faulty} replicas are down, paused or misbehave, more than the {} that {} replicas tolerate",
            description.tolerates(),
            standings.len()
        ));
    }
    Ok(())
}

/// One replica in JSON.
pub(super) fn object(one: &Standing, view: u64) -> Value {
    let status = one.status.as_ref();
    let conduct = one.conduct.as_ref();
    json!({
        "id": one.id.0,
        "pid": one.condition.pid(),
        "up": one.is_up(),
        "paused": matches!(one.condition, Condition::Paused(_)),
        "role": one.role(view).map(standing::Role::name),
        "view": status.map(|status| status.view),
        "entered": status.map(|status| status.entered),
        "executed": status.map(|status| status.executed),
        "state_seq": status.and_then(|status| status.state_seq),
        "state_digest": status.and_then(|status| status.state_digest.clone()),
        "checkpoint_seq": status.map(|status| status.checkpoint_seq),
        "checkpoint_digest": status.map(|status| status.checkpoint_digest.clone()),
        "revision": status.map(|status| status.revision),
        "ready": status.is_some_and(|status| status.ready),
        "transferring": status.is_some_and(|status| status.transferring),
        "rejoining": status.is_some_and(|status| status.rejoining),
        "incarnation": status.map(|status| status.incarnation),
        "view_changes": status.map(|status| status.view_changes),
        "rss_bytes": status.map(|status| status.rss_bytes),
        "behaviour": one.behaviour(),
        "behaviours": conduct.map(|conduct| &conduct.on),
        "acted": conduct.map(|conduct| &conduct.acted),
        "peers": one.endpoints.peers.to_string(),
        "clients": one.endpoints.clients.to_string(),
        "operations": format!("http://{}", one.endpoints.operations),
    })
}

/// The table of `up`, with addresses.
pub(super) fn started_table(standings: &[Standing]) -> Vec<String> {
    let view = standing::view(standings).unwrap_or_default();
    let rows: Vec<Vec<Cell>> = standings
        .iter()
        .map(|one| {
            let mut row = place(one, view);
            row.push(Cell::plain(one.endpoints.peers));
            row.push(Cell::plain(format!("http://{}", one.endpoints.operations)));
            row.push(behaviour(one));
            row
        })
        .collect();
    screen::table(&["REPLICA", "STATUS", "VIEW", "SEQ", "STATE", "QUIC", "OPS", "BEHAVIOUR"], &rows)
}

/// The table of `status`.
fn table(standings: &[Standing], view: u64) -> Vec<String> {
    let rows: Vec<Vec<Cell>> = standings
        .iter()
        .map(|one| {
            let mut row = place(one, view);
            let checkpoint = one.status.as_ref().map_or_else(dash, |status| {
                let digest = short(&status.checkpoint_digest);
                Cell::plain(format!("{} {digest}", status.checkpoint_seq))
            });
            row.push(checkpoint);
            row.push(one.condition.pid().map_or_else(dash, Cell::plain));
            row.push(behaviour(one));
            row
        })
        .collect();
    screen::table(&["REPLICA", "STATUS", "VIEW", "SEQ", "STATE", "CHECKPOINT", "PID", "BEHAVIOUR"], &rows)
}

/// Number, what it is, view, number executed, state.
fn place(one: &Standing, view: u64) -> Vec<Cell> {
    let word = one.word(view);
    let tone = match word {
        "primary" => Tone::Good,
        "backup" => Tone::Plain,
        "paused" | "rejoining" => Tone::Warning,
        _ => Tone::Bad,
    };
    // Which life it is in; said only of those that had more than one.
    let life = one.status.as_ref().map_or(0, |status| status.incarnation);
    let word = if life > 0 { format!("{word} (life {life})") } else { word.to_owned() };
    let mut row = vec![Cell::plain(one.id), Cell::toned(word, tone)];
    match &one.status {
        None => row.extend([dash(), dash(), dash()]),
        Some(status) => {
            let moving = if status.entered { "" } else { "*" };
            row.push(Cell::plain(format!("{}{moving}", status.view)));
            row.push(Cell::plain(status.executed));
            row.push(Cell::plain(status.state_digest.as_deref().map_or_else(|| "-".to_owned(), short)));
        }
    }
    row
}

fn behaviour(one: &Standing) -> Cell {
    match &one.conduct {
        None => dash(),
        Some(conduct) if conduct.is_honest() && conduct.acts() == 0 => Cell::plain("honest"),
        Some(conduct) if conduct.is_honest() => Cell::plain(format!("honest (acted {} times before)", conduct.acts())),
        Some(conduct) => {
            let texts: Vec<String> = conduct.on.iter().map(super::turning::in_words).collect();
            Cell::toned(format!("{} (acted {} times)", texts.join(", "), conduct.acts()), Tone::Warning)
        }
    }
}

fn dash() -> Cell {
    Cell::plain("-")
}

/// The first digits of a digest.
fn short(digest: &str) -> String {
    format!("{}..", digest.get(..6).unwrap_or(digest))
}
