//! The primary is killed under load, again and again.
//!
//! A client that writes all the time looks at the clock whenever it is answered; the longest time between two answers
//! around a kill is the gap. The killed replica is started again and has to be back at head before the next kill. View
//! changes are expected here.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::report::{Figure, Report};
use super::site::{self, Place, Site};
use super::statistics::{longest_gap, quantile};
use super::writers::{Writers, Writing};
use super::{Common, DrillError, Tell};

/// The bar of the gap's median.
const GAP_P50: Duration = Duration::from_millis(400);
/// The bar of its 99th percentile.
const GAP_P99: Duration = Duration::from_millis(800);
/// How long the load runs before the first kill, and between a return and the next kill.
const SETTLE: Duration = Duration::from_millis(500);
/// How long after the first answer it is looked for another gap: a second view change belongs to the same kill.
const WATCHED_AFTER: Duration = Duration::from_secs(1);
/// How long the cluster may go without any answer, and a replica take to be back at head.
const PATIENCE: Duration = Duration::from_mins(1);

/// `drill kill-primary`.
#[derive(Args, Clone, Debug)]
pub struct KillPrimary {
    /// How many kills.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub times: u32,
    /// Who writes.
    #[command(flatten)]
    pub writing: Writing,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

/// What one kill gave.
struct Kill {
    replica: u16,
    gap: Duration,
    at_head: Duration,
}

impl KillPrimary {
    /// Runs it.
    ///
    /// # Errors
    /// Flags that make no sense; the testnet cannot be used; the cluster does not answer any more; the killed replica does not come back.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        self.writing.check(self.common.value_size)?;
        tell("starting a testnet".to_owned());
        let mut site = place.start(None, self.common.replicas, |_| Vec::new()).await?;
        let mut writers = Writers::start(&site, &self.writing, self.common.value_size, None, tell).await?;
        let mut kills = Vec::new();
        for time in 1..=self.times {
            tell(format!("kill {time} of {}", self.times));
            kills.push(kill(&mut site, &writers, &format!("kill {time} of {}", self.times), tell).await?);
        }
        let view = site::highest_view(&site.statuses().await);
        let read_back = writers.finish(tell).await?;
        site.check_alive()?;

        let gaps: Vec<Duration> = kills.iter().map(|kill| kill.gap).collect();
        let returns: Vec<Duration> = kills.iter().map(|kill| kill.at_head).collect();
        let mut figures = vec![
            Figure::count("kills", "kills of the primary", kills.len() as u64),
            Figure::time_within("gap_p50_ms", "longest time without an answer, p50", quantile(&gaps, 0.5), GAP_P50),
            Figure::time("gap_p90_ms", "  p90", quantile(&gaps, 0.9)),
            Figure::time_within("gap_p99_ms", "  p99", quantile(&gaps, 0.99), GAP_P99),
            Figure::time("gap_max_ms", "  most", quantile(&gaps, 1.0)),
            Figure::time("at_head_p50_ms", "restart until back at head, p50", quantile(&returns, 0.5)),
            Figure::time("at_head_max_ms", "  most", quantile(&returns, 1.0)),
            Figure::count("view", "view at the end", view),
        ];
        figures.extend(writers.figures(&read_back));
        let mut report = Report {
            setting: format!(
                "{} kills, {} replicas, {} clients, {} puts a request, {} bytes a value",
                self.times, self.common.replicas, self.writing.clients, self.writing.bundle, self.common.value_size
            ),
            figures,
            notes: writers.notes(&read_back),
            ..Report::default()
        };
        let each = |kill: &Kill| {
            let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1000.0;
            json!({"replica": kill.replica, "gap_ms": millis(kill.gap), "at_head_ms": millis(kill.at_head)})
        };
        report.details.insert("each".to_owned(), kills.iter().map(each).collect());
        Ok(report)
    }
}

async fn kill(site: &mut Site, writers: &Writers, what: &str, tell: &mut Tell<'_>) -> Result<Kill, DrillError> {
    let settled = Instant::now();
    super::wait(SETTLE, what, tell).await;
    wait_for_answer(writers, settled).await?;
    let primary = site.primary().await?;
    let killed = site.kill(&[primary]).await?;
    wait_for_answer(writers, killed).await?;
    super::wait(WATCHED_AFTER, what, tell).await;
    let gap = longest_gap(&writers.ledger.answers(), killed, Instant::now());

    tell(format!("{what}, replica {primary} comes back"));
    let restarted = site.restart(&[primary])?;
    site.wait_until_connected(&[primary]).await?;
    if !site.wait_until_at_head(primary, PATIENCE).await? {
        return Err(DrillError::Stalled(format!(
            "replica {primary} was not back at head within {} s of its restart",
            PATIENCE.as_secs()
        )));
    }
    Ok(Kill { replica: primary.0, gap: gap.unwrap_or(PATIENCE), at_head: restarted.elapsed() })
}

/// Waits until the client that is looked at was answered after `moment`.
async fn wait_for_answer(writers: &Writers, moment: Instant) -> Result<(), DrillError> {
    while !writers.ledger.is_answered_after(moment) {
        if moment.elapsed() > PATIENCE {
            return Err(writers.stalled(PATIENCE));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
