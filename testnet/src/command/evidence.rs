//! `evidence`: what convicts whom.

use std::io::Write as _;
use std::path::Path;

use quorate_client::command::failure::Failure;
use quorate_client::command::report::Report;
use quorate_keys::Genesis;
use serde_json::{Value, json};

use super::arguments::{Evidence, EvidenceAction};
use super::launch_failure;
use super::screen::{self, Cell, Tone};
use crate::launcher::evidence::{Offence, collect, export};
use crate::launcher::{Description, Directory, LaunchError};

/// Offences listed for people; a liar commits one a batch.
const LISTED: usize = 20;

impl Evidence {
    pub(super) fn run(&self, directory: &Directory, report: Report) -> Result<(), Failure> {
        let description = Description::load(directory).map_err(launch_failure)?;
        let genesis = Genesis::load(&directory.genesis()).map_err(|error| Failure::configuration(error.to_string()))?;
        let offences = collect(directory, &description, &genesis).map_err(launch_failure)?;
        match &self.action {
            None => list(&offences, report),
            Some(EvidenceAction::Export { id, output }) => {
                let text = export(directory, id).map_err(launch_failure)?;
                match output.as_deref().filter(|path| *path != Path::new("-")) {
                    None => report.bytes(text.as_bytes()),
                    Some(path) => save(path, &text, id, report),
                }
            }
        }
    }
}

fn list(offences: &[Offence], report: Report) -> Result<(), Failure> {
    if report.json {
        let list: Vec<Value> = offences.iter().map(object).collect();
        return report.value(&json!({"v": 1, "evidence": list}));
    }
    if offences.is_empty() {
        return report.bytes(b"no replica has been caught lying");
    }
    let or_dash = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let row = |offence: &Offence| {
        let seen_by: Vec<String> = offence.seen_by.iter().map(ToString::to_string).collect();
        vec![
            Cell::plain(&offence.id),
            Cell::toned(format!("replica {}", offence.accused), Tone::Bad),
            Cell::plain(&offence.kind),
            Cell::plain(or_dash(offence.view)),
            Cell::plain(or_dash(offence.seq)),
            Cell::plain(seen_by.join(" ")),
        ]
    };
    let rows: Vec<Vec<Cell>> = offences.iter().take(LISTED).map(row).collect();
    screen::lines(&screen::table(&["EVIDENCE", "CONVICTS", "OF", "VIEW", "SEQ", "SEEN BY"], &rows));
    if offences.len() > LISTED {
        say!("  and {} more; --json lists all", offences.len() - LISTED);
    }
    Ok(())
}

fn object(offence: &Offence) -> Value {
    let Offence { id, accused, kind, view, seq, seen_by, file } = offence;
    json!({
        "id": id, "accused": accused, "kind": kind, "view": view, "seq": seq, "seen_by": seen_by, "file": file,
    })
}

fn save(path: &Path, text: &str, id: &str, report: Report) -> Result<(), Failure> {
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")
    };
    write().map_err(|error| launch_failure(LaunchError::file(path, &error)))?;
    let shown = path.display();
    report.both(
        &format!("{id} is in {shown}; anyone can check it with `quorate verify {shown} --genesis genesis.toml`"),
        &json!({"v": 1, "id": id, "file": path}),
    )
}
