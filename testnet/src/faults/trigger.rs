//! When a behaviour acts, as people write it: `always`, `primary`, `25%`, `view:3`, `view:3-9`, `seq:100-200`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use quorate_crypto::{Seq, View};
use quorate_protocol::engine::EngineStatus;
use quorate_protocol::parameters::Micros;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::catalogue::{Behaviour, UnknownBehaviour};

/// When a behaviour acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// At every opportunity.
    Always,
    /// Only while the replica leads the view it has entered.
    WhilePrimary,
    /// At so many opportunities in a hundred.
    Percent(u8),
    /// Only in these views, entered or not.
    Views(RangeInclusive<u64>),
    /// Only while the lowest number not decided here is one of these.
    Numbers(RangeInclusive<u64>),
}

/// Where a replica stands, as far as triggers look at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// It leads the view it has entered.
    pub leads: bool,
    /// The view it is in or moves to.
    pub view: View,
    /// The lowest number it has not decided.
    pub next: Seq,
}

impl Standing {
    pub(super) const fn of(status: &EngineStatus, leads: bool) -> Standing {
        Standing { leads, view: status.view, next: status.decided.next() }
    }
}

impl Trigger {
    /// Whether it is hit this time.
    pub(super) fn hits(&self, standing: &Standing, random: &mut ChaCha8Rng) -> bool {
        match self {
            Trigger::Always => true,
            Trigger::WhilePrimary => standing.leads,
            Trigger::Percent(percent) => random.random_range(0..100) < *percent,
            Trigger::Views(views) => views.contains(&standing.view.0),
            Trigger::Numbers(numbers) => numbers.contains(&standing.next.0),
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trigger::Always => f.write_str("always"),
            Trigger::WhilePrimary => f.write_str("primary"),
            Trigger::Percent(percent) => write!(f, "{percent}%"),
            Trigger::Views(views) => write!(f, "view:{}-{}", views.start(), views.end()),
            Trigger::Numbers(numbers) => write!(f, "seq:{}-{}", numbers.start(), numbers.end()),
        }
    }
}

/// A text that names no time to act.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no time to act: give always, primary, a percentage from 1% to 100%, view:3-9 or seq:100-200 (one number or a range)"
)]
pub struct UnknownTrigger(pub String);

impl FromStr for Trigger {
    type Err = UnknownTrigger;

    fn from_str(text: &str) -> Result<Trigger, UnknownTrigger> {
        let found = match text {
            "always" => Some(Trigger::Always),
            "primary" => Some(Trigger::WhilePrimary),
            other => match other.split_once(':') {
                Some(("view", views)) => range(views).map(Trigger::Views),
                Some(("seq", numbers)) => range(numbers).map(Trigger::Numbers),
                Some(_) => None,
                None => percent(other).map(Trigger::Percent),
            },
        };
        found.ok_or_else(|| UnknownTrigger(text.to_owned()))
    }
}

fn percent(text: &str) -> Option<u8> {
    let percent = text.strip_suffix('%')?.parse().ok()?;
    (1..=100).contains(&percent).then_some(percent)
}

/// `7` or `3-9`.
fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to).then_some(from..=to)
}

/// A behaviour switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misbehaviour {
    /// What.
    pub behaviour: Behaviour,
    /// At which opportunities.
    pub when: Trigger,
    /// Not after this time (monotonic microseconds); none for ever.
    pub until: Option<Micros>,
}

impl Misbehaviour {
    /// `behaviour` at every opportunity, for ever.
    pub const fn always(behaviour: Behaviour) -> Misbehaviour {
        Misbehaviour { behaviour, when: Trigger::Always, until: None }
    }
}

/// Why a text says nothing that a replica could do wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MisbehaviourError {
    /// No such behaviour.
    #[error(transparent)]
    Behaviour(#[from] UnknownBehaviour),
    /// No such trigger.
    #[error(transparent)]
    Trigger(#[from] UnknownTrigger),
    /// Both exist, but it would never act.
    #[error("{0} never acts while its replica leads a view: give another time than primary")]
    NeverActs(Behaviour),
}

impl FromStr for Misbehaviour {
    type Err = MisbehaviourError;

    /// Reads `equivocate`, `equivocate:primary`, `silent:25%` or `vote-many:view:2-4`.
    fn from_str(text: &str) -> Result<Misbehaviour, MisbehaviourError> {
        let (behaviour, when) = text.split_once(':').unwrap_or((text, "always"));
        let behaviour: Behaviour = behaviour.parse()?;
        let when: Trigger = when.parse()?;
        if when == Trigger::WhilePrimary && !behaviour.entry().acts_as_primary {
            return Err(MisbehaviourError::NeverActs(behaviour));
        }
        Ok(Misbehaviour { behaviour, when, until: None })
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            Trigger::Always => write!(f, "{}", self.behaviour),
            when => write!(f, "{}:{when}", self.behaviour),
        }
    }
}
