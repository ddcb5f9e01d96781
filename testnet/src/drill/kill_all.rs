//! All replicas are killed at once under load, and started again.
//!
//! The time counts from just before the first process is started until a write is acknowledged that was issued after
//! that. Writes that were under way when the replicas died may be acknowledged earlier; that time is told besides.

use std::time::{Duration, Instant};

use clap::Args;
use quorate_crypto::ReplicaId;
use serde_json::json;

use super::report::{Figure, Report};
use super::site::{Place, Site};
use super::statistics::quantile;
use super::writers::{Writers, Writing};
use super::{Common, DrillError, Tell};

/// The bar: how long until writes are acknowledged anew.
const SERVING: Duration = Duration::from_secs(5);
/// How long the load runs before each kill.
const LOADED: Duration = Duration::from_millis(1500);
/// How long the cluster may take to acknowledge a write at all.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often to look whether one was.
const POLL: Duration = Duration::from_millis(2);

/// `drill kill-all`.
#[derive(Args, Clone, Debug)]
pub struct KillAll {
    /// How many times all are killed.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
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
    any: Duration,
    serving: Duration,
}

impl KillAll {
    /// Runs it.
    ///
    /// # Errors
    /// Flags that make no sense; the testnet cannot be used; the cluster does not answer any more.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        self.writing.check(self.common.value_size)?;
        tell("starting a testnet".to_owned());
        let mut site = place.start(None, self.common.replicas, |_| Vec::new()).await?;
        let mut writers = Writers::start(&site, &self.writing, self.common.value_size, None, tell).await?;
        let mut kills = Vec::new();
        for time in 1..=self.times {
            kills.push(kill(&mut site, &writers, &format!("kill {time} of {}", self.times), tell).await?);
        }
        super::wait(LOADED, "load after the last kill", tell).await;
        let read_back = writers.finish(tell).await?;
        site.check_alive()?;

        let serving: Vec<Duration> = kills.iter().map(|kill| kill.serving).collect();
        let any: Vec<Duration> = kills.iter().map(|kill| kill.any).collect();
        let mut figures = vec![
            Figure::count("kills", "kills of all replicas", kills.len() as u64),
            Figure::time("serving_p50_ms", "restart until a new write is acknowledged, p50", quantile(&serving, 0.5)),
            Figure::time_within("serving_max_ms", "  most", quantile(&serving, 1.0), SERVING),
            Figure::time("any_p50_ms", "restart until any write is acknowledged, p50", quantile(&any, 0.5)),
            Figure::time("any_max_ms", "  most", quantile(&any, 1.0)),
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
            json!({"serving_ms": millis(kill.serving), "any_ms": millis(kill.any)})
        };
        report.details.insert("each".to_owned(), kills.iter().map(each).collect());
        Ok(report)
    }
}

async fn kill(site: &mut Site, writers: &Writers, what: &str, tell: &mut Tell<'_>) -> Result<Kill, DrillError> {
    let before = writers.ledger.puts();
    super::wait(LOADED, what, tell).await;
    writers.wait_for(before + 1, PATIENCE, what, tell).await?;
    let ids: Vec<ReplicaId> = site.description.ids().collect();
    site.kill(&ids).await?;
    tell(format!("{what}, replicas come back"));
    // Nobody is there to acknowledge anything between the two.
    writers.ledger.mark(Instant::now());
    site.restart(&ids)?;
    let marked = Instant::now();
    loop {
        if let (Some(any), Some(serving)) = writers.ledger.since_mark() {
            return Ok(Kill { any, serving });
        }
        site.check_alive()?;
        if marked.elapsed() > PATIENCE {
            return Err(writers.stalled(PATIENCE));
        }
        tokio::time::sleep(POLL).await;
    }
}
