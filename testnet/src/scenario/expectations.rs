//! What must come of a scenario, and what did.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_crypto::Protocol;
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::file::Time;

/// What must come of it. That no rule is broken is expected in any case, unless a rule is named.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// Exactly these replicas are convicted by evidence.
    evidence: Option<Spanned<Vec<u16>>>,
    /// The highest view of an honest replica is at least this; under HotStuff, where every block has a view of its own, it has
    /// given up so many.
    view_at_least: Option<u64>,
    /// And at most this.
    view_at_most: Option<u64>,
    /// So many requests succeed at least.
    requests_at_least: Option<u64>,
    /// Every request succeeds.
    all_requests_succeed: Option<bool>,
    /// The longest time between two answers while a request waits.
    gap_at_most: Option<Time>,
    /// What is expected in place of the above under HotStuff.
    hotstuff: Option<Box<Expectations>>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The first rule that did not hold, and what was seen.
    pub violation: Option<String>,
    /// Whom evidence convicts.
    pub convicted: BTreeSet<u16>,
    /// The highest view of an honest replica; under HotStuff, the most views that one has given up.
    pub view: u64,
    /// Requests of clients.
    pub requests: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// The longest time between two answers while a request waited.
    pub gap: Duration,
}

/// One expectation, and whether it was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What was expected, in words.
    pub expected: String,
    /// What was seen.
    pub observed: String,
    /// Whether it is what was expected.
    pub met: bool,
}

/// All expectations of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict(pub Vec<Judged>);

fn list(replicas: &BTreeSet<u16>) -> String {
    if replicas.is_empty() {
        return "nobody".to_owned();
    }
    replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl Expectations {
    /// What is expected under `protocol`.
    #[must_use]
    pub fn under(&self, protocol: Protocol) -> Expectations {
        let Some(other) = self.hotstuff.as_deref().filter(|_| protocol == Protocol::HotStuff) else {
            return self.clone();
        };
        Expectations {
            evidence: other.evidence.clone().or_else(|| self.evidence.clone()),
            view_at_least: other.view_at_least.or(self.view_at_least),
            view_at_most: other.view_at_most.or(self.view_at_most),
            requests_at_least: other.requests_at_least.or(self.requests_at_least),
            all_requests_succeed: other.all_requests_succeed.or(self.all_requests_succeed),
            gap_at_most: other.gap_at_most.or(self.gap_at_most),
            hotstuff: None,
        }
    }

    /// That it names only replicas that exist.
    pub(super) fn check(&self, replicas: usize) -> Result<(), (usize, String)> {
        let Some(evidence) = &self.evidence else { return Ok(()) };
        match evidence.get_ref().iter().find(|replica| usize::from(**replica) >= replicas) {
            Some(unknown) => Err((evidence.span().start, format!("there is no replica {unknown}"))),
            None => Ok(()),
        }
    }

    /// Whom evidence is to convict, if that is expected.
    pub fn accused(&self) -> Option<BTreeSet<u16>> {
        self.evidence.as_ref().map(|evidence| evidence.get_ref().iter().copied().collect())
    }

    /// Judges what came of it.
    pub fn judge(&self, observed: &Observed) -> Verdict {
        let mut judged = Vec::new();
        let mut judge = |expected: String, observed: String, met: bool| {
            judged.push(Judged { expected, observed, met });
        };
        let violation = observed.violation.clone();
        judge(
            "every rule holds".to_owned(),
            violation.clone().unwrap_or_else(|| "yes".to_owned()),
            violation.is_none(),
        );
        if let Some(accused) = self.accused() {
            let met = accused == observed.convicted;
            judge(format!("evidence convicts {}", list(&accused)), list(&observed.convicted), met);
        }
        if let Some(least) = self.view_at_least {
            judge(format!("view at least {least}"), observed.view.to_string(), observed.view >= least);
        }
        if let Some(most) = self.view_at_most {
            judge(format!("view at most {most}"), observed.view.to_string(), observed.view <= most);
        }
        if let Some(least) = self.requests_at_least {
            let met = observed.succeeded >= least;
            judge(format!("at least {least} requests succeed"), observed.succeeded.to_string(), met);
        }
        if self.all_requests_succeed == Some(true) {
            let met = observed.succeeded == observed.requests && observed.requests > 0;
            judge("every request succeeds".to_owned(), format!("{} of {}", observed.succeeded, observed.requests), met);
        }
        if let Some(Time(most)) = self.gap_at_most {
            let gap = format!("{} ms", observed.gap.as_millis());
            judge(format!("gap at most {} ms", most.as_millis()), gap, observed.gap <= most);
        }
        Verdict(judged)
    }
}

impl Verdict {
    /// Whether everything is as expected.
    pub fn is_met(&self) -> bool {
        self.0.iter().all(|one| one.met)
    }

    /// What was missed, in words.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.0.iter().filter(|one| !one.met);
        missed.map(|one| format!("expected: {}; observed: {}", one.expected, one.observed)).collect()
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let each = self.0.iter();
        Value::Array(
            each.map(|one| json!({ "expected": one.expected, "observed": one.observed, "met": one.met })).collect(),
        )
    }
}
