//! Every behaviour of the catalogue in turn, on a fresh testnet whose primary lies from its first step.
//!
//! Clients write; a reader reads what was acknowledged, in order and from replicas' own states; a watcher follows all
//! keys. Afterwards the honest replicas have to agree, and the evidence has to convict the liar if its lie was signed,
//! and nobody else.

use std::time::{Duration, Instant};

use clap::Args;
use quorate_client::Client;
use quorate_crypto::ReplicaId;
use serde_json::json;

use super::judgement::{self, Accusation, Agreement};
use super::reader::Reader;
use super::report::{Figure, Kind, Report, Section};
use super::site::Place;
use super::watcher::Watcher;
use super::writers::{Writers, Writing};
use super::{Common, DrillError, Tell};
use crate::faults::{Behaviour, CATALOGUE, Group};
use crate::launcher::control;

/// Who lies: the primary of the first view.
const LIAR: ReplicaId = ReplicaId(0);
/// How long the clients may go without any acknowledgement, and how long anything may take that has to happen after.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often to look.
const POLL: Duration = Duration::from_millis(50);

/// `drill behaviours`.
#[derive(Args, Clone, Debug)]
pub struct Behaviours {
    /// Clients that write, each with a key of its own and one request under way.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub clients: usize,
    /// Puts of each client.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub puts: u64,
    /// Only this behaviour; may be given again. `quorate-testnet faults` lists them [default: all].
    #[arg(long = "behaviour", value_name = "NAME", value_parser = behaviour)]
    pub only: Vec<Behaviour>,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

fn behaviour(text: &str) -> Result<Behaviour, String> {
    text.parse().map_err(|error: crate::faults::UnknownBehaviour| error.to_string())
}

/// Whether a primary that nobody has a reason to leave, and that is not restarted, must come to lie in this way.
fn has_occasion(behaviour: Behaviour) -> bool {
    let entry = behaviour.entry();
    let waits = matches!(entry.group, Group::ViewChange | Group::Checkpoint) || behaviour == Behaviour::Amnesia;
    entry.acts_as_primary && !waits
}

impl Behaviours {
    /// Runs it.
    ///
    /// # Errors
    /// A testnet cannot be started or used, or does not answer any more; a replica dies.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        let writing = Writing { clients: self.clients, bundle: 1 };
        writing.check(self.common.value_size)?;
        if let Some(sentence) = self.only.iter().find_map(|behaviour| behaviour.refusal(self.common.protocol)) {
            return Err(DrillError::Usage(sentence));
        }
        let mut report = Report {
            setting: format!(
                "replica {LIAR} lies from its first step, {} replicas, {} clients with {} puts each, {} bytes a value",
                self.common.replicas, self.clients, self.puts, self.common.value_size
            ),
            ..Report::default()
        };
        for behaviour in self.chosen() {
            let (section, notes) = self.under(behaviour, &writing, place, tell).await?;
            report.sections.push(section);
            report.notes.extend(notes.into_iter().map(|note| format!("{behaviour}: {note}")));
        }
        report.figures.push(Figure::count("behaviours", "behaviours", report.sections.len() as u64));
        Ok(report)
    }

    /// Equivocation first, then the others in the order of the catalogue.
    fn chosen(&self) -> Vec<Behaviour> {
        let wanted = |behaviour: &Behaviour| self.only.is_empty() || self.only.contains(behaviour);
        let meant = CATALOGUE.iter().map(|entry| entry.behaviour).filter(|one| one.is_of(self.common.protocol));
        let mut chosen: Vec<Behaviour> = meant.filter(wanted).collect();
        chosen.sort_by_key(|behaviour| *behaviour != Behaviour::Equivocate);
        chosen
    }

    async fn under(
        &self,
        behaviour: Behaviour,
        writing: &Writing,
        place: &Place,
        tell: &mut Tell<'_>,
    ) -> Result<(Section, Vec<String>), DrillError> {
        let name = behaviour.name();
        let mut tell = |what: String| tell(format!("{name}: {what}"));
        tell("starting a testnet".to_owned());
        let lies = |id: ReplicaId| if id == LIAR { vec![name.to_owned()] } else { Vec::new() };
        let mut site = place.start(Some(name), self.common.replicas, lies).await?;
        let observer = Client::connect(site.cluster(PATIENCE)?).await?;
        let watcher = Watcher::start(&observer, self.common.value_size).await?;
        let mut writers = Writers::start(&site, writing, self.common.value_size, Some(self.puts), &mut tell).await?;
        let reader = Reader::start(&observer, writers.ledger.clone(), self.common.value_size);

        let total = self.clients as u64 * self.puts;
        let (mut last, mut last_progress) = (0, Instant::now());
        while !writers.are_done() {
            let (puts, errors) = (writers.ledger.puts(), writers.ledger.errors().values().sum::<u64>());
            tell(format!("{puts} of {total} puts"));
            if puts + errors > last {
                (last, last_progress) = (puts + errors, Instant::now());
            } else if last_progress.elapsed() > PATIENCE {
                return Err(writers.stalled(PATIENCE));
            }
            tokio::time::sleep(POLL).await;
        }
        let read = reader.stop().await?;
        tell("the watcher catches up".to_owned());
        let watched = watcher.finish(&writers.ledger.acknowledged(), PATIENCE).await?;
        let agreement = judgement::agree(&mut site, Some(LIAR), &observer, PATIENCE, &mut tell).await?;
        let acted = control::ask(&site.directory.control(LIAR)).await.map_or(0, |conduct| conduct.acts());
        let accusation = Accusation::of(behaviour, LIAR, acted);
        let accused = judgement::accused(&site, accusation.must(), PATIENCE).await?;
        let read_back = writers.finish(&mut tell).await?;
        site.check_alive()?;

        let succeeded = writers.ledger.puts();
        let names: Vec<String> = accused.iter().map(ToString::to_string).collect();
        let shown = if names.is_empty() { "nobody".to_owned() } else { names.join(" ") };
        let mut lied = Figure::count("acted", "times it lied", acted);
        if has_occasion(behaviour) {
            lied = lied.with_bar("at least once", acted > 0, Kind::Count);
        }
        let (checkpoint, agreed) = match agreement {
            Agreement::Agreed(seq) => (Some(seq), format!("equal at {seq}")),
            Agreement::Contradicted(seq) => (Some(seq), format!("different at {seq}")),
            Agreement::Apart => (None, "at different numbers".to_owned()),
        };
        let mut figures = vec![
            Figure::count("puts", "puts that succeeded", succeeded).with_bar(
                format!("all {total}"),
                succeeded == total,
                Kind::Count,
            ),
            lied,
            Figure::text("checkpoint", "checkpoints of honest replicas", json!(checkpoint), agreed).with_bar(
                "equal",
                matches!(agreement, Agreement::Agreed(_)),
                Kind::Count,
            ),
            Figure::text("accused", "replicas that evidence accuses", json!(accused), shown).with_bar(
                accusation.to_string(),
                accusation.is_just(&accused),
                Kind::Count,
            ),
            Figure::count("reads", "reads of acknowledged writes", read.answers).with_bar(
                "at least one",
                read.answers > 0,
                Kind::Count,
            ),
            Figure::none_of("wrong_reads", "wrong answers to them", read.wrong),
            Figure::count("read_errors", "reads with an error", read.errors),
            Figure::count("events", "events of the watcher", watched.events),
            Figure::none_of("wrong_events", "wrong events", watched.wrong),
            Figure::none_of("missing_events", "events that never came", watched.missing),
        ];
        figures.extend(writers.figures(&read_back));
        let notes = writers.notes(&read_back).into_iter().chain(read.examples).chain(watched.examples).collect();
        Ok((Section { name: name.to_owned(), figures }, notes))
    }
}

#[cfg(test)]
mod tests {
    use quorate_crypto::Protocol;

    use super::*;

    #[test]
    fn equivocation_comes_first_and_every_behaviour_is_there() {
        let common = Common { protocol: Protocol::Pbft, replicas: 4, value_size: 8, strict: false };
        let mut drill = Behaviours { clients: 1, puts: 1, only: Vec::new(), common };
        let meant = CATALOGUE.iter().filter(|entry| entry.behaviour.is_of(Protocol::Pbft)).count();
        assert_eq!((drill.chosen().len(), drill.chosen()[0]), (meant, Behaviour::Equivocate));
        drill.only = vec![Behaviour::ForgeWatch];
        assert_eq!(drill.chosen(), [Behaviour::ForgeWatch]);
    }
}
