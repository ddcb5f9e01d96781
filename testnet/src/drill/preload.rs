//! Does a large store slow writes down?
//!
//! Two testnets run side by side, one empty, one with many keys. They are loaded in turn, one round after the other, so
//! that a machine that is busy for a while slows both. Each round gives a ratio.

use std::time::Duration;

use clap::Args;
use quorate_client::Client;
use serde_json::json;

use super::report::{Figure, Kind, Report};
use super::site::{Place, Site};
use super::statistics::median;
use super::{Common, DrillError, Tell};
use crate::bench::fleet::{self, Fleet};
use crate::bench::{self, DEFAULT_KEYS, Outcome, Plan, Stage, load};
use crate::command::arguments::duration;

/// The bar: throughput with the keys against throughput without.
const RATIO: f64 = 0.8;
/// Clients that share a set of links, as behind a gateway.
const CLIENTS_PER_CONNECTION: usize = 16;
/// How long a request may take until its outcome counts as unknown.
const PATIENCE: Duration = Duration::from_secs(30);

/// `drill preload`.
#[derive(Args, Clone, Debug)]
pub struct Preload {
    /// Keys in the store that is not empty.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub keys: u64,
    /// How many rounds, each with both testnets.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long each testnet is loaded in a round.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub time: Duration,
    /// Clients, each with a key of its own and one request under way.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub clients: usize,
    /// What every drill takes.
    #[command(flatten)]
    pub common: Common,
}

/// One of the two testnets.
struct Loaded {
    name: &'static str,
    site: Site,
    clients: Vec<Client>,
    plan: Plan,
    // Its keys stay registered: the testnet goes away with them.
    _fleet: Fleet,
}

impl Preload {
    /// Runs it.
    ///
    /// # Errors
    /// Numbers that make no sense; the testnets cannot be used; not one request of a round succeeds.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        bench::check(&self.plan(self.keys))?;
        let mut full = self.start(place, "preloaded", self.keys, tell).await?;
        load::preload(&full.clients, &full.plan, &mut |stage: Stage| tell(stage.to_string())).await?;
        let mut empty = self.start(place, "empty", 0, tell).await?;
        let mut rounds: Vec<(Outcome, Outcome)> = Vec::new();
        for round in 1..=self.rounds {
            let what = format!("round {round} of {}", self.rounds);
            // Whoever comes first in one round comes second in the next.
            if round % 2 == 1 {
                let without = empty.load(&what, tell).await?;
                rounds.push((without, full.load(&what, tell).await?));
            } else {
                let with = full.load(&what, tell).await?;
                rounds.push((empty.load(&what, tell).await?, with));
            }
        }
        for loaded in [empty, full] {
            fleet::close(loaded.clients).await;
        }
        Ok(self.report(&rounds))
    }

    fn plan(&self, preload: u64) -> Plan {
        Plan {
            clients: self.clients,
            connections: self.clients.div_ceil(CLIENTS_PER_CONNECTION),
            value_size: self.common.value_size,
            bundle: 1,
            duration: self.time,
            rate: None,
            keys: if preload == 0 { DEFAULT_KEYS } else { preload },
            preload,
        }
    }

    async fn start(
        &self,
        place: &Place,
        name: &'static str,
        preload: u64,
        tell: &mut Tell<'_>,
    ) -> Result<Loaded, DrillError> {
        tell(format!("starting the {name} testnet"));
        let site = place.start(Some(name), self.common.replicas, |_| Vec::new()).await?;
        let cluster = site.cluster(PATIENCE)?;
        let plan = self.plan(preload);
        let mut stage = |stage: Stage| tell(format!("{name}: {stage}"));
        let fleet = Fleet::register(&site.directory, &cluster, plan.clients, &mut stage).await?;
        let clients = fleet.connect(&cluster, plan.connections, &mut stage).await?;
        Ok(Loaded { name, site, clients, plan, _fleet: fleet })
    }

    fn report(&self, rounds: &[(Outcome, Outcome)]) -> Report {
        let per_second = |outcome: &Outcome| outcome.operations_per_second();
        let ratios: Vec<f64> = rounds.iter().map(|(empty, full)| per_second(full) / per_second(empty)).collect();
        let without: Vec<f64> = rounds.iter().map(|(empty, _)| per_second(empty)).collect();
        let with: Vec<f64> = rounds.iter().map(|(_, full)| per_second(full)).collect();
        let middle = |values: &[f64]| median(values).unwrap_or(0.0);
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let both = || rounds.iter().flat_map(|(empty, full)| [empty, full]);
        let ratio = middle(&ratios);
        let figures = vec![
            Figure::number("ratio", "throughput, preloaded against empty, median", ratio, "").with_bar(
                format!("at least {RATIO}"),
                ratio >= RATIO,
                Kind::Measure,
            ),
            Figure::number("ratio_min", "  least of a round", least, ""),
            Figure::number("ratio_max", "  most of a round", most, ""),
            Figure::number("empty_ops_per_s", "throughput, empty, median", middle(&without), "operations/s"),
            Figure::number("preloaded_ops_per_s", "throughput, preloaded, median", middle(&with), "operations/s"),
            Figure::count("view_changes", "view changes", both().map(|outcome| outcome.view_changes).sum()),
            Figure::count("errors", "requests with an error", both().map(Outcome::failures).sum()),
        ];
        let mut report = Report {
            setting: format!(
                "{} keys, {} rounds of {} s each, {} replicas, {} clients, {} bytes a value",
                self.keys,
                self.rounds,
                self.time.as_secs_f64(),
                self.common.replicas,
                self.clients,
                self.common.value_size
            ),
            figures,
            ..Report::default()
        };
        let each = ratios.iter().zip(without.iter().zip(&with)).map(|(ratio, (without, with))| {
            json!({"empty_ops_per_s": without.round(), "preloaded_ops_per_s": with.round(), "ratio": ratio})
        });
        report.details.insert("each".to_owned(), each.collect());
        report
    }
}

impl Loaded {
    async fn load(&mut self, what: &str, tell: &mut Tell<'_>) -> Result<Outcome, DrillError> {
        let mut stage = |stage: Stage| tell(format!("{what}, {}: {stage}", self.name));
        let outcome = bench::measured(&self.site.description, &self.clients, &self.plan, &mut stage).await?;
        self.site.check_alive()?;
        Ok(outcome)
    }
}
