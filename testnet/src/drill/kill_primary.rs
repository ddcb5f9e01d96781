//! The primary is killed under load, again and again, alone or with the one that would follow it.
//!
//! A client that writes all the time looks at the clock whenever it is answered; the longest time between two answers
//! around a kill is the gap. Whoever was killed is started again and has to be back at head before the next kill. View
//! changes are expected here.

use std::time::{Duration, Instant};

use clap::Args;
use quorate_crypto::ReplicaId;
use serde_json::json;

use super::report::{Figure, Report};
use super::site::{self, Place, Site};
use super::statistics::{longest_gap, quantile};
use super::writers::{Writers, Writing};
use super::{Common, DrillError, Tell};

/// The bar of the gap's median when one leader dies.
const GAP_P50: Duration = Duration::from_millis(400);
/// The bar of its 99th percentile.
const GAP_P99: Duration = Duration::from_millis(800);
/// The bar of every gap when two leaders in a row die.
const GAP_OF_TWO: Duration = Duration::from_millis(1_800);
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
    /// How many leaders die at a time, each the one that would follow the one before: 1, or 2 with at least 7 replicas.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=2))]
    pub together: u16,
    /// Who writes.
    #[command(flatten)]
    pub writing: Writing,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

/// What one kill gave.
struct Kill {
    replicas: Vec<ReplicaId>,
    gap: Duration,
    at_head: Duration,
}

impl KillPrimary {
    /// Runs it.
    ///
    /// # Errors
    /// Flags that make no sense; the testnet cannot be used; the cluster does not answer any more; a killed replica does not
    /// come back.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        self.writing.check(self.common.value_size)?;
        self.check_size()?;
        tell("starting a testnet".to_owned());
        let mut site = place.start(None, self.common.replicas, |_| Vec::new()).await?;
        let mut writers = Writers::start(&site, &self.writing, self.common.value_size, None, tell).await?;
        let mut kills: Vec<Kill> = Vec::new();
        for time in 1..=self.times {
            let what = format!("kill {time} of {}", self.times);
            tell(what.clone());
            let killed = self.kill(&mut site, &writers, kills.last(), &what, tell).await?;
            kills.push(killed);
        }
        let view = site::highest_view(&site.statuses().await);
        let read_back = writers.finish(tell).await?;
        site.check_alive()?;

        let mut figures = self.figures(&kills);
        figures.push(Figure::count("view", "view at the end", view));
        figures.extend(writers.figures(&read_back));
        let leaders = if self.together == 1 { "" } else { " of two leaders in a row" };
        let mut report = Report {
            setting: format!(
                "{} kills{leaders}, {} replicas, {} clients, {} puts a request, {} bytes a value",
                self.times, self.common.replicas, self.writing.clients, self.writing.bundle, self.common.value_size
            ),
            figures,
            notes: writers.notes(&read_back),
            ..Report::default()
        };
        let each = |kill: &Kill| {
            let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1000.0;
            let replicas: Vec<u16> = kill.replicas.iter().map(|replica| replica.0).collect();
            json!({
                "replica": replicas.first(), "replicas": replicas,
                "gap_ms": millis(kill.gap), "at_head_ms": millis(kill.at_head),
            })
        };
        report.details.insert("each".to_owned(), kills.iter().map(each).collect());
        Ok(report)
    }

    /// Beyond f nothing is promised, a gap least of all.
    fn check_size(&self) -> Result<(), DrillError> {
        let (together, replicas) = (usize::from(self.together), self.common.replicas);
        if together <= replicas.saturating_sub(1) / 3 {
            return Ok(());
        }
        Err(DrillError::Usage(format!(
            "{replicas} replicas do not tolerate --together {together}: give -n {} or more",
            3 * together + 1
        )))
    }

    fn figures(&self, kills: &[Kill]) -> Vec<Figure> {
        let gaps: Vec<Duration> = kills.iter().map(|kill| kill.gap).collect();
        let returns: Vec<Duration> = kills.iter().map(|kill| kill.at_head).collect();
        let gap = |key: &'static str, label: &str, share: f64, bar: Option<Duration>| {
            let gap = quantile(&gaps, share);
            match bar {
                Some(bar) => Figure::time_within(key, label, gap, bar),
                None => Figure::time(key, label, gap),
            }
        };
        let [p50, p99, most] = match self.together {
            1 => [Some(GAP_P50), Some(GAP_P99), None],
            _ => [None, None, Some(GAP_OF_TWO)],
        };
        vec![
            Figure::count("kills", "kills of the primary", kills.len() as u64),
            Figure::count("together", "leaders that died each time", u64::from(self.together)),
            gap("gap_p50_ms", "longest time without an answer, p50", 0.5, p50),
            gap("gap_p90_ms", "  p90", 0.9, None),
            gap("gap_p99_ms", "  p99", 0.99, p99),
            gap("gap_max_ms", "  most", 1.0, most),
            Figure::time("at_head_p50_ms", "restart until back at head, p50", quantile(&returns, 0.5)),
            Figure::time("at_head_max_ms", "  most", quantile(&returns, 1.0)),
        ]
    }

    async fn kill(
        &self,
        site: &mut Site,
        writers: &Writers,
        before: Option<&Kill>,
        what: &str,
        tell: &mut Tell<'_>,
    ) -> Result<Kill, DrillError> {
        let settled = Instant::now();
        super::wait(SETTLE, what, tell).await;
        wait_for_answer(writers, settled).await?;
        let replicas = self.next_leaders(site, before).await?;
        let killed = site.kill(&replicas).await?;
        wait_for_answer(writers, killed).await?;
        super::wait(WATCHED_AFTER, what, tell).await;
        let gap = longest_gap(&writers.ledger.answers(), killed, Instant::now());

        let names: Vec<String> = replicas.iter().map(ToString::to_string).collect();
        tell(format!("{what}, replica {} comes back", names.join(" and ")));
        let restarted = site.restart(&replicas)?;
        site.wait_until_connected(&replicas).await?;
        for replica in &replicas {
            if !site.wait_until_at_head(*replica, PATIENCE).await? {
                return Err(DrillError::Stalled(format!(
                    "replica {replica} was not back at head within {} s of its restart",
                    PATIENCE.as_secs()
                )));
            }
        }
        Ok(Kill { replicas, gap: gap.unwrap_or(PATIENCE), at_head: restarted.elapsed() })
    }

    /// Who dies next: whoever leads, and the one that follows. Where leaders take turns, those that died last are passed
    /// over for a while and lead nothing: two in a row are found by going on where the last ones ended.
    async fn next_leaders(&self, site: &mut Site, before: Option<&Kill>) -> Result<Vec<ReplicaId>, DrillError> {
        let together = usize::from(self.together);
        let goes_on = together > 1 && self.common.protocol.leaders_take_turns();
        match before.and_then(|kill| kill.replicas.last()) {
            Some(last) if goes_on => Ok(site.in_turn(*last, 1 + together).split_off(1)),
            _ => site.leaders(together).await,
        }
    }
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
