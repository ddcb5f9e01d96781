//! The gauntlet: every behaviour of the catalogue in turn, of replicas and of clients, on real processes under load.
//!
//! What comes in: how long each, and which. What goes out: a [`Row`] each, in a file that an interrupted run goes on
//! with, and in the end what the bars of the design say about all of them.
//!
//! ```text
//!   for each: fresh testnet ─► writers, a reader, a watcher ─► the behaviour, and what gives it occasion
//!               ─► read back, agreement, evidence, what processes hold ─► Row ─► file
//!   all rows, each beside the fault-free ones before and after it ─► Verdict each
//! ```
//!
//! Throughput means little on a machine whose speed drifts: the same load without any fault runs first, after every five
//! behaviours and last, and what misses its bar of throughput is taken twice more.
//!
//! | module | what it is |
//! |---|---|
//! | [`subject`] | what is run: nothing, a liar, a client that attacks; and the occasion it needs |
//! | [`trial`] | one of them on one testnet |
//! | [`attacker`] | the client that attacks, in a process of its own |
//! | [`row`] | what was measured, as it stands in the file |
//! | [`verdict`] | the bars |

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quorate_crypto::Protocol;

use crate::command::arguments::duration;
use crate::drill::writers::Writing;
use crate::drill::{Common, DrillError, Place, Tell};
use crate::launcher::LaunchError;

pub mod attacker;
mod pulses;
pub mod row;
pub mod subject;
pub mod trial;
pub mod verdict;

use row::Row;
use subject::Subject;

/// After so many behaviours the fault-free load is measured again.
const FAULT_FREE_EVERY: usize = 5;

/// `gauntlet`.
#[derive(Args, Clone, Debug)]
pub struct Gauntlet {
    /// How long each behaviour goes on: 15s, 500ms, 2m.
    #[arg(long = "for", value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub time: Duration,
    /// Only these behaviours, with commas between; `quorate-testnet faults` lists them [default: all].
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = behaviour)]
    pub only: Vec<Subject>,
    /// Where results go, one JSON line each.
    #[arg(long, value_name = "FILE", default_value = "gauntlet.jsonl")]
    pub out: PathBuf,
    /// Go on with the file: what stands there is not run again.
    #[arg(long)]
    pub resume: bool,
    /// How often a behaviour is taken again that misses its bar of throughput; the median of all its rows counts.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub again: usize,
    /// Clients that write all the time, each with a key of its own and one request under way.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub clients: usize,
    /// How often a client that attacks acts a second, as far as its processor time goes.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
    /// The most processor time that a client that attacks may take, in hundredths of one core.
    #[arg(long = "cpu", value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub cpu_percent: u8,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

fn behaviour(text: &str) -> Result<Subject, String> {
    Protocol::ALL
        .into_iter()
        .flat_map(Subject::all)
        .find(|subject| subject.name() == text)
        .ok_or_else(|| format!("there is no behaviour {text:?}; `quorate-testnet faults` lists what there is"))
}

impl Gauntlet {
    /// How it is taken, in one line.
    pub fn setting(&self) -> String {
        format!(
            "{} s each, {} replicas, {} clients with one request each, {} bytes a value",
            self.time.as_secs_f64(),
            self.common.replicas,
            self.clients,
            self.common.value_size
        )
    }

    pub(crate) fn writing(&self) -> Writing {
        Writing { clients: self.clients, bundle: 1 }
    }

    fn chosen(&self) -> Vec<Subject> {
        Subject::all(self.common.protocol)
            .filter(|subject| self.only.is_empty() || self.only.contains(subject))
            .collect()
    }

    /// Runs it, and returns the rows of the file, those of earlier runs included.
    ///
    /// # Errors
    /// Flags that make no sense; a file that cannot be used. What goes wrong with one behaviour stands in its row.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Vec<Row>, DrillError> {
        self.writing().check(self.common.value_size)?;
        if let Some(sentence) = self.only.iter().find_map(|subject| subject.refusal(self.common.protocol)) {
            return Err(DrillError::Usage(sentence));
        }
        let mut rows = self.earlier()?;
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&self.out)
            .map_err(|error| LaunchError::file(&self.out, &error))?;
        let chosen = self.chosen();
        let mut since = None;
        while let Some(subject) = self.next(&chosen, &rows, since) {
            since = Some(if subject == Subject::FaultFree { 0 } else { since.unwrap_or(0) + 1 });
            let taken = rows.iter().filter(|row| row.name == subject.name()).count();
            let part = format!("{}-{}", subject.name(), taken + 1);
            let left = chosen.iter().filter(|subject| !is_taken(**subject, &rows)).count();
            let what = format!("{left} of {} left, {}", chosen.len(), subject.name());
            let row = trial::run(self, subject, &part, place, &mut |now| tell(format!("{what}: {now}"))).await?;
            append(&mut file, &self.out, &row)?;
            rows.push(row);
        }
        rows.retain(|row| row.is_fault_free() || chosen.iter().any(|subject| subject.name() == row.name));
        Ok(rows)
    }

    /// What comes next, after what there is; `since` behaviours ran since the fault-free load was measured, none if it was
    /// not in this run. None if there is nothing left.
    fn next(&self, chosen: &[Subject], rows: &[Row], since: Option<usize>) -> Option<Subject> {
        let fresh = chosen.iter().find(|subject| !is_taken(**subject, rows)).copied();
        // What is taken again has a fault-free row of its own before it and after it.
        if since.is_some_and(|since| since >= FAULT_FREE_EVERY || since > 0 && fresh.is_none()) {
            return Some(Subject::FaultFree);
        }
        let missed = |subject: &&Subject| verdict::misses_throughput(subject.name(), rows, self.again);
        let next = fresh.or_else(|| chosen.iter().find(missed).copied());
        if since.is_none() && (next.is_some() || rows.last().is_some_and(|row| !row.is_fault_free())) {
            return Some(Subject::FaultFree);
        }
        next
    }

    /// What stands in the file already.
    fn earlier(&self) -> Result<Vec<Row>, DrillError> {
        let text = match std::fs::read_to_string(&self.out) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(|error| LaunchError::file(&self.out, &error))?,
        };
        if !self.resume && !text.is_empty() {
            return Err(DrillError::Usage(format!(
                "{} has results already: go on with --resume, or name another file with --out",
                self.out.display()
            )));
        }
        let rows = text.lines().map(serde_json::from_str).collect::<Result<Vec<Row>, _>>();
        let rows = rows.map_err(|error| {
            DrillError::Usage(format!("{} has a line that is no result: {error}", self.out.display()))
        })?;
        let own = Row::of(self, Subject::FaultFree);
        if let Some(other) = rows.iter().find(|row| !row.was_taken_as(&own)) {
            return Err(DrillError::Usage(format!(
                "{} has {} with another --for, --clients, --protocol, -n, --value-size, --rate or --cpu: rows of one table are taken alike",
                self.out.display(),
                other.name
            )));
        }
        Ok(rows)
    }
}

fn is_taken(subject: Subject, rows: &[Row]) -> bool {
    rows.iter().any(|row| row.name == subject.name())
}

fn append(file: &mut File, path: &Path, row: &Row) -> Result<(), DrillError> {
    let line = serde_json::to_string(row).map_err(|error| LaunchError::file(path, &error.into()))?;
    Ok(writeln!(file, "{line}").map_err(|error| LaunchError::file(path, &error))?)
}
