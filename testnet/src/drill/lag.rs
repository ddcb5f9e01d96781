//! A replica is down while much is written, and comes back.
//!
//! It has to fetch what it missed while the load goes on, and reach the others, who do not wait for it.

use std::time::Duration;

use clap::Args;

use super::report::{Figure, Kind, Report};
use super::site::Place;
use super::writers::{Writers, Writing};
use super::{Common, DrillError, Tell};

/// How long the cluster may go without acknowledging anything.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the replica may take to be back at head.
const AT_HEAD_PATIENCE: Duration = Duration::from_mins(5);

/// `drill lag`.
#[derive(Args, Clone, Debug)]
pub struct Lag {
    /// Writes that are acknowledged while the replica is down.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub writes: u64,
    /// Who writes.
    #[command(flatten)]
    pub writing: Writing,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

impl Lag {
    /// Runs it.
    ///
    /// # Errors
    /// Flags that make no sense; the testnet cannot be used, or does not answer any more; a replica dies.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        self.writing.check(self.common.value_size)?;
        tell("starting a testnet".to_owned());
        let mut site = place.start(None, self.common.replicas, |_| Vec::new()).await?;
        let mut writers = Writers::start(&site, &self.writing, self.common.value_size, None, tell).await?;
        writers.wait_for(1, PATIENCE, "load before", tell).await?;

        let backup = site.backup().await?;
        site.kill(&[backup]).await?;
        let begun = writers.ledger.puts();
        writers.wait_for(begun + self.writes, PATIENCE, &format!("replica {backup} is down"), tell).await?;
        let executed = |statuses: &[Option<crate::launcher::operations::NodeStatus>]| {
            statuses.iter().flatten().map(|status| status.executed).max().unwrap_or(0)
        };
        let missed = executed(&site.statuses().await);
        let restarted = site.restart(&[backup])?;
        let before = writers.ledger.puts();
        tell(format!("replica {backup} catches up"));
        let at_head = site.wait_until_at_head(backup, AT_HEAD_PATIENCE).await?.then(|| restarted.elapsed());
        let meanwhile = writers.ledger.puts() - before;
        let read_back = writers.finish(tell).await?;
        site.check_alive()?;

        let mut figures = vec![
            Figure::count("missed_writes", "writes acknowledged while it was down", before - begun),
            Figure::count("head", "highest number executed when it was restarted", missed),
            Figure::time("at_head_ms", "restart until back at head", at_head).with_bar(
                "at all",
                at_head.is_some(),
                Kind::Count,
            ),
            Figure::count("meanwhile_writes", "writes acknowledged while it caught up", meanwhile),
        ];
        figures.extend(writers.figures(&read_back));
        Ok(Report {
            setting: format!(
                "replica {backup} down for {} writes, {} replicas, {} clients, {} puts a request, {} bytes a value",
                self.writes, self.common.replicas, self.writing.clients, self.writing.bundle, self.common.value_size
            ),
            figures,
            notes: writers.notes(&read_back),
            ..Report::default()
        })
    }
}
