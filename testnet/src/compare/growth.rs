//! How fast the order grows on processes while f leaders lie, beside the same testnet before the lies and after them.
//!
//! ```text
//!   16 writers   settle │ before │ liars on, the others learn │ meanwhile │ honest again, settle │ after
//! ```
//!
//! A machine's speed drifts, so that the time with the lies is put beside the mean of the two without, seconds away. What it
//! costs to learn whom to pass over is left out: [`super::leaders`] measures that in virtual time.

use std::time::{Duration, Instant};

use quorate_crypto::ReplicaId;
use quorate_keys::Protocol;

use super::leaders::{Lie, REPLICAS, WRITERS};
use crate::drill::site::Site;
use crate::drill::writers::{Writers, Writing};
use crate::drill::{DrillError, Place, Tell, wait};
use crate::faults::Misbehaviour;

/// The lies that are measured so.
pub const LIES: [Lie; 2] = [Lie::Silent, Lie::Forking];
/// How long the load runs before anything is measured, and after the lies have ended.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the others have to learn whom to pass over: f + 1 rounds of leaders, with two time-outs in each.
const LEARNING: Duration = Duration::from_secs(2);

/// What came to be in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Numbers of the order: batches, or blocks that hold one.
    pub blocks: f64,
    /// Acknowledged writes.
    pub writes: f64,
}

/// One lie under one protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// What the replicas ran.
    pub protocol: Protocol,
    /// What f leaders did.
    pub lie: Lie,
    /// How often.
    pub acted: u64,
    /// Before it.
    pub before: Pace,
    /// While they did.
    pub meanwhile: Pace,
    /// When all were honest again.
    pub after: Pace,
}

impl Growth {
    /// Blocks under the lie beside the mean of before and after.
    pub fn blocks(&self) -> f64 {
        self.ratio(|pace| pace.blocks)
    }

    /// Writes under the lie beside the mean of before and after.
    pub fn writes(&self) -> f64 {
        self.ratio(|pace| pace.writes)
    }

    fn ratio(&self, of: fn(&Pace) -> f64) -> f64 {
        of(&self.meanwhile) / f64::midpoint(of(&self.before), of(&self.after))
    }
}

/// Measures it on a fresh testnet, for `time` each: without, with and again without the lie.
///
/// # Errors
/// The testnet cannot be started or used.
pub async fn growth(
    protocol: Protocol,
    lie: Lie,
    time: Duration,
    value_size: usize,
    tell: &mut Tell<'_>,
) -> Result<Growth, DrillError> {
    let what = format!("{} leaders on processes", lie.name());
    tell(format!("{what}: starting a testnet"));
    let mut site = Place::new(None, protocol).start(None, REPLICAS, |_| Vec::new()).await?;
    let writing = Writing { clients: WRITERS, bundle: 1 };
    let mut writers = Writers::start(&site, &writing, value_size, None, tell).await?;
    wait(SETTLE, &format!("{what}: the load settles"), tell).await;
    let before = pace(&site, &writers, &[], time, &format!("{what}: before"), tell).await?;
    let faults = site.description.tolerates();
    let liars = site.leaders(faults).await?;
    for liar in &liars {
        site.turn(*liar, &[Misbehaviour::always(lie.behaviour(protocol))]).await?;
    }
    wait(LEARNING, &format!("{what}: the others learn it"), tell).await;
    let meanwhile = pace(&site, &writers, &liars, time, &what, tell).await?;
    let mut acted = 0;
    for liar in &liars {
        acted += site.turn(*liar, &[]).await?.acts();
    }
    wait(SETTLE, &format!("{what}: honest again"), tell).await;
    let after = pace(&site, &writers, &[], time, &format!("{what}: after"), tell).await?;
    writers.stop().await;
    site.check_alive()?;
    Ok(Growth { protocol, lie, acted, before, meanwhile, after })
}

/// Waits so long, and says how much came to be meanwhile.
async fn pace(
    site: &Site,
    writers: &Writers,
    liars: &[ReplicaId],
    time: Duration,
    what: &str,
    tell: &mut Tell<'_>,
) -> Result<Pace, DrillError> {
    let begin = Reached::now(site, writers, liars).await?;
    wait(time, what, tell).await;
    let end = Reached::now(site, writers, liars).await?;
    Ok(end.since(&begin))
}

/// What was there at some moment.
#[derive(Clone, Copy, Debug)]
struct Reached {
    at: Instant,
    number: u64,
    writes: u64,
}

impl Reached {
    /// The number is the highest that one of the honest replicas has executed.
    async fn now(site: &Site, writers: &Writers, liars: &[ReplicaId]) -> Result<Reached, DrillError> {
        let statuses = site.statuses().await;
        let (at, writes) = (Instant::now(), writers.ledger.puts());
        let honest = site.description.ids().zip(&statuses).filter(|(id, _)| !liars.contains(id));
        let number = honest.filter_map(|(_, status)| Some(status.as_ref()?.executed)).max();
        let number = number.ok_or_else(|| DrillError::Stalled("no replica says where it stands".to_owned()))?;
        Ok(Reached { at, number, writes })
    }

    fn since(&self, before: &Reached) -> Pace {
        let seconds = (self.at - before.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let a_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Pace { blocks: a_second(self.number, before.number), writes: a_second(self.writes, before.writes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lie_is_put_beside_the_mean_of_before_and_after() {
        let begin = Instant::now();
        let at = |second, number, writes| Reached { at: begin + Duration::from_secs(second), number, writes };
        let growth = Growth {
            protocol: Protocol::HotStuff,
            lie: Lie::Forking,
            acted: 1,
            before: at(2, 300, 1_500).since(&at(0, 100, 500)),
            meanwhile: at(6, 950, 2_500).since(&at(4, 800, 2_000)),
            after: at(9, 1_400, 4_500).since(&at(8, 1_100, 3_000)),
        };
        assert_eq!(growth.before, Pace { blocks: 100.0, writes: 500.0 });
        assert!((growth.blocks() - 0.375).abs() < 1e-9 && (growth.writes() - 0.25).abs() < 1e-9, "{growth:?}");
    }
}
