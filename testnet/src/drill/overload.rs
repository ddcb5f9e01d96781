//! Many more requests in flight than the machine orders.
//!
//! The same clients first have few requests in flight, then many. Replicas may answer that they are busy, and requests
//! may take long; what they must not do is mistake the overload for a faulty primary.

use std::time::Duration;

use clap::Args;
use quorate_client::Client;
use quorate_crypto::Protocol;

use super::report::{Figure, Report, Section};
use super::site::{Place, Site, highest_view};
use super::{Common, DrillError, Tell};
use crate::bench::fleet::{self, Fleet};
use crate::bench::{self, DEFAULT_KEYS, Outcome, Plan, meter};
use crate::command::arguments::duration;
use crate::launcher::operations;

/// Requests a client may have in flight.
const IN_FLIGHT_PER_CLIENT: usize = 64;
/// Clients that share a set of links, as behind a gateway.
const CLIENTS_PER_CONNECTION: usize = 16;
/// How long a request may take until its outcome counts as unknown.
const PATIENCE: Duration = Duration::from_secs(30);
/// The counter of Busy answers in a node's metrics.
const BUSY: &str = "quorate_busy_total";
/// How long a node may take to give its metrics.
const METRICS_PATIENCE: Duration = Duration::from_secs(10);

/// `drill overload`.
#[derive(Args, Clone, Debug)]
pub struct Overload {
    /// Requests in flight at once, all clients together.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub in_flight: usize,
    /// Requests in flight to compare with.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub baseline: usize,
    /// Clients that share them, each with a key of its own.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub clients: usize,
    /// How long each of the two is measured.
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = duration)]
    pub time: Duration,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

/// One of the two measurements.
struct Phase {
    in_flight: usize,
    outcome: Outcome,
    busy: u64,
    /// View changes, and the views that went by.
    views: (u64, u64),
}

impl Overload {
    /// Runs it.
    ///
    /// # Errors
    /// Numbers that do not fit together; the testnet cannot be used; not one request succeeds.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        self.check()?;
        tell("starting a testnet".to_owned());
        let mut site = place.start(None, self.common.replicas, |_| Vec::new()).await?;
        let cluster = site.cluster(PATIENCE)?;
        let connections = self.clients.div_ceil(CLIENTS_PER_CONNECTION);
        let mut stage = |stage: bench::Stage| tell(stage.to_string());
        let fleet = Fleet::register(&site.directory, &cluster, self.clients, &mut stage).await?;
        let clients = fleet.connect(&cluster, connections, &mut stage).await?;
        let few = self.phase(&mut site, &clients, self.baseline, tell).await?;
        let many = self.phase(&mut site, &clients, self.in_flight, tell).await?;
        fleet::close(clients).await;
        site.check_alive()?;

        let ratio = many.outcome.operations_per_second() / few.outcome.operations_per_second();
        let mut report = Report {
            setting: format!(
                "{} and {} requests in flight of {} clients, {} s each, {} replicas, {} bytes a value",
                self.baseline,
                self.in_flight,
                self.clients,
                self.time.as_secs_f64(),
                self.common.replicas,
                self.common.value_size
            ),
            figures: vec![Figure::number("throughput_ratio", "throughput, many against few in flight", ratio, "")],
            ..Report::default()
        };
        for phase in [few, many] {
            for (sentence, count) in phase.outcome.errors.iter().take(5) {
                report.notes.push(format!("{} in flight, {count} times: {sentence}", phase.in_flight));
            }
            report.sections.push(phase.section(self.common.protocol));
        }
        Ok(report)
    }

    fn check(&self) -> Result<(), DrillError> {
        let most = self.clients.saturating_mul(IN_FLIGHT_PER_CLIENT);
        for (flag, count) in [("--in-flight", self.in_flight), ("--baseline", self.baseline)] {
            if count == 0 || count > most {
                return Err(DrillError::Usage(format!(
                    "{flag} {count} is out of bounds: {} clients have 1 to {most} requests in flight, {IN_FLIGHT_PER_CLIENT} each; change --clients",
                    self.clients
                )));
            }
        }
        Ok(bench::check(&self.plan())?)
    }

    fn plan(&self) -> Plan {
        Plan {
            clients: self.clients,
            connections: self.clients.div_ceil(CLIENTS_PER_CONNECTION),
            value_size: self.common.value_size,
            bundle: 1,
            duration: self.time,
            rate: None,
            keys: DEFAULT_KEYS,
            preload: 0,
        }
    }

    async fn phase(
        &self,
        site: &mut Site,
        clients: &[Client],
        in_flight: usize,
        tell: &mut Tell<'_>,
    ) -> Result<Phase, DrillError> {
        let loops: Vec<Client> = clients.iter().cycle().take(in_flight).cloned().collect();
        let (busy, before) = (busy(site).await?, site.statuses().await);
        let mut stage = |stage: bench::Stage| tell(format!("{in_flight} in flight: {stage}"));
        let outcome = bench::measured(&site.description, &loops, &self.plan(), &mut stage).await?;
        site.check_alive()?;
        let after = site.statuses().await;
        let views = (meter::view_changes(&before, &after), highest_view(&after).saturating_sub(highest_view(&before)));
        Ok(Phase { in_flight, outcome, busy: self::busy(site).await?.saturating_sub(busy), views })
    }
}

impl Phase {
    fn section(&self, protocol: Protocol) -> Section {
        let outcome = &self.outcome;
        let (view_changes, views) = self.views;
        let figures = vec![
            Figure::count("in_flight", "requests in flight", self.in_flight as u64),
            Figure::number("ops_per_s", "throughput", outcome.operations_per_second(), "operations/s"),
            Figure::number("p50_ms", "latency, p50", outcome.quantile_ms(0.5), "ms"),
            Figure::number("p99_ms", "latency, p99", outcome.quantile_ms(0.99), "ms"),
            Figure::number("max_ms", "latency, most", outcome.max_ms(), "ms"),
            Figure::count("busy", "Busy answers, of all replicas", self.busy),
            Figure::view_changes(protocol, view_changes.max(outcome.view_changes), views),
            Figure::count("errors", "requests with an error", outcome.failures()),
        ];
        Section { name: format!("{} in flight", self.in_flight), figures }
    }
}

/// Busy answers that all replicas have given since they began.
async fn busy(site: &Site) -> Result<u64, DrillError> {
    let mut sum = 0;
    for (id, endpoints) in site.description.ids().zip(&site.description.replicas) {
        let unread =
            |error: String| DrillError::Stalled(format!("the metrics of replica {id} cannot be read: {error}"));
        let text = operations::get(endpoints.operations, "/metrics", METRICS_PATIENCE)
            .await
            .map_err(|error| unread(error.to_string()))?;
        let text = String::from_utf8_lossy(&text);
        sum += counter(&text, BUSY).ok_or_else(|| unread(format!("there is no {BUSY}")))?;
    }
    Ok(sum)
}

/// The value of a counter without labels in a page of metrics.
fn counter(page: &str, name: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let page = "# TYPE quorate_busy counter\nquorate_busy_total_of 3\nquorate_busy_total 17\n# EOF\n";
        assert_eq!(counter(page, BUSY), Some(17));
        assert_eq!(counter("# EOF\n", BUSY), None);
    }
}
