//! A backup is frozen under load, and goes on.
//!
//! A frozen process keeps its links and answers nobody, which is harder on the others than one that is gone. They are a
//! quorum without it: writers never wait long, and where the primary stays nobody asks for another view on its account,
//! neither while it sleeps nor when it wakes up. Where leaders take turns it misses its own until it is passed over.

use std::time::{Duration, Instant};

use clap::Args;
use quorate_crypto::ReplicaId;
use rustix::process::Signal;

use super::report::{Figure, Kind, Report};
use super::site::{Place, highest_view};
use super::writers::{Writers, Writing};
use super::{Common, DrillError, Tell};
use crate::bench::meter;
use crate::command::arguments::duration;

/// How long the load runs before.
const LOADED: Duration = Duration::from_secs(1);
/// How long it goes on after the replica is back, in which a late view change would show.
const WATCHED_AFTER: Duration = Duration::from_secs(2);
/// How long the replica may take to be back at head.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long a writer may go without an answer meanwhile: the worst gap after a leader is killed, and some room for the busy
/// machine.
const GAP: Duration = Duration::from_secs(1);

/// `drill pause`.
#[derive(Args, Clone, Debug)]
pub struct Pause {
    /// How long the backup is frozen.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub time: Duration,
    /// Who writes.
    #[command(flatten)]
    pub writing: Writing,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

impl Pause {
    /// Runs it.
    ///
    /// # Errors
    /// Flags that make no sense; the testnet cannot be used, or does not answer any more; a replica dies.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        self.writing.check(self.common.value_size)?;
        tell("starting a testnet".to_owned());
        let mut site = place.start(None, self.common.replicas, |_| Vec::new()).await?;
        let mut writers = Writers::start(&site, &self.writing, self.common.value_size, None, tell).await?;
        super::wait(LOADED, "load before", tell).await;
        writers.wait_for(1, PATIENCE, "load before", tell).await?;

        let backup = site.backup().await?;
        let before = site.statuses().await;
        let writes = writers.ledger.puts();
        let frozen = Instant::now();
        site.signal(backup, Signal::STOP)?;
        super::wait(self.time, &format!("replica {backup} is frozen"), tell).await;
        let missed = writers.ledger.puts() - writes;
        let resumed = Instant::now();
        site.signal(backup, Signal::CONT)?;
        tell(format!("replica {backup} catches up"));
        let at_head = site.wait_until_at_head(backup, PATIENCE).await?.then(|| resumed.elapsed());
        super::wait(WATCHED_AFTER, "load after", tell).await;

        let gap = writers.ledger.longest_gap(frozen, Instant::now());
        let after = site.statuses().await;
        let read_back = writers.finish(tell).await?;
        site.check_alive()?;
        let begun_by = |wanted: fn(ReplicaId, ReplicaId) -> bool| {
            let of = |list: &[Option<_>]| {
                let own = site.description.ids().zip(list).filter(|(id, _)| wanted(*id, backup));
                own.map(|(_, status)| Clone::clone(status)).collect::<Vec<_>>()
            };
            meter::view_changes(&of(&before), &of(&after))
        };
        let changes = begun_by(|id, backup| id != backup);
        let views = highest_view(&after).saturating_sub(highest_view(&before));
        let mut figures = vec![
            Figure::count("missed_writes", "writes acknowledged while it was frozen", missed),
            Figure::time("at_head_ms", "resumption until back at head", at_head).with_bar(
                "at all",
                at_head.is_some(),
                Kind::Count,
            ),
            Figure::time_within("gap_ms", "longest time a writer went without an answer", gap, GAP),
            Figure::view_changes(self.common.protocol, changes, views),
            Figure::count("own_view_changes", "view changes it asked for itself", begun_by(|id, backup| id == backup)),
        ];
        figures.extend(writers.figures(&read_back));
        Ok(Report {
            setting: format!(
                "replica {backup} frozen for {} s, {} replicas, {} clients, {} puts a request, {} bytes a value",
                self.time.as_secs_f64(),
                self.common.replicas,
                self.writing.clients,
                self.writing.bundle,
                self.common.value_size
            ),
            figures,
            notes: writers.notes(&read_back),
            ..Report::default()
        })
    }
}
