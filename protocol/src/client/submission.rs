//! One request on its way to f + 1 equal replies.
//!
//! A request whose time limit was wrong (the client's clock was, or it waited too long) may be signed again with another
//! limit *under the same number*: at most one request of a number executes, so trying again never executes twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_crypto::{Committee, Digest, ReplicaId};

use crate::client::candidates::Candidates;
use crate::client::role::Number;
use crate::parameters::Micros;
use crate::reply::{Outcome, Refusal, Reply};
use crate::request::Request;

/// How often one number may be signed.
pub const ATTEMPTS_MAX: usize = 4;

/// What was heard about a request whose outcome is unknown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// Replicas connected when the client gave up.
    pub connected: usize,
    /// Replicas that said it executed, though fewer than f + 1 alike.
    pub answered: usize,
    /// Replicas whose last word was Busy.
    pub busy: usize,
    /// Replicas whose last word was a refusal.
    pub refused: BTreeMap<ReplicaId, Refusal>,
}

/// How a request ended for the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestEnding {
    /// It executed, at one place in the order.
    Executed {
        /// The reply that at least f + 1 replicas gave. Its outcome is `Results` or `ExecutedEarlier`; the latter also where
        /// f + 1 name the place, and not enough of them still have the results.
        reply: Reply,
        /// How many replicas had given it by then.
        matching: usize,
    },
    /// f + 1 replicas refuse it. For [`Refusal::Expired`] this is an outcome: the signature valid longest has expired, so
    /// none executed and none ever will. For other reasons it is none: the same bytes may still execute until agreed time
    /// passes `valid_until`, unless the reason lies in the bytes alone.
    Refused {
        /// Why.
        reason: Refusal,
        /// How many replicas say so.
        replicas: usize,
        /// The signed requests, one a signature under the one number.
        requests: Vec<Arc<Request>>,
    },
    /// Neither in time. It may have executed, or may yet; replaying the same bytes is safe and tells.
    Unknown {
        /// What was heard.
        heard: Heard,
        /// The signed requests, one a signature under the one number.
        requests: Vec<Arc<Request>>,
    },
}

/// What the answers so far amount to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Judgement {
    /// Wait on.
    Pending,
    /// f + 1 equal replies.
    Executed { reply: Reply, matching: usize },
    /// f + 1 equal refusals, and waiting does not help.
    Refused { reason: Refusal, replicas: usize },
    /// f + 1 replicas find its time limit wrong; it may be signed again.
    WrongTime,
}

#[derive(Clone, Debug)]
struct Attempt {
    request: Arc<Request>,
    digest: Digest,
    /// Replies that say it executed: at most one a replica.
    replies: Candidates<Reply>,
    /// The last refusal of each replica that has not said that any attempt executed.
    refusals: BTreeMap<ReplicaId, Refusal>,
}

/// One request: the state behind a ticket.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    /// Its number in the role's own session; none for saved bytes that are replayed, which are never signed again.
    pub(super) number: Option<Number>,
    attempts: Vec<Attempt>,
    /// Whether there was a link to send it over, so that some replica may have it.
    pub(super) sent: bool,
    /// The last Busy of each replica since the last transmission, milliseconds to wait.
    busy: BTreeMap<ReplicaId, u64>,
    /// When to send it again.
    pub(super) resend_at: Micros,
    /// How long after that the next time.
    pub(super) interval: Micros,
    /// When to give up.
    pub(super) give_up_at: Micros,
    /// Set while the role asks replicas for the agreed time, to sign again.
    pub(super) asking_time_since: Option<Micros>,
    /// Whether f + 1 said that it executed, and where, when it was sent last.
    placed: bool,
}

/// How a refusal is treated once f + 1 replicas agree on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Treatment {
    /// It may pass by itself: keep sending.
    Patience,
    /// Sign it again with another time limit.
    SignAgain,
    /// Tell the caller.
    Tell,
}

fn treatment(reason: Refusal) -> Treatment {
    match reason {
        Refusal::SessionTableFull | Refusal::NumberTooFar | Refusal::BatchShareSpent => Treatment::Patience,
        Refusal::Expired | Refusal::ValidTooLong => Treatment::SignAgain,
        Refusal::UnknownClient
        | Refusal::StaleNumber
        | Refusal::NumberTaken
        | Refusal::UnknownOperation
        | Refusal::Forgotten
        | Refusal::NotPermitted
        | Refusal::NotSupported => Treatment::Tell,
    }
}

impl Submission {
    pub(super) fn new(
        number: Option<Number>,
        requests: Vec<Arc<Request>>,
        now: Micros,
        interval: Micros,
        give_up_at: Micros,
    ) -> Submission {
        let mut submission = Submission {
            number,
            attempts: Vec::new(),
            sent: false,
            busy: BTreeMap::new(),
            resend_at: now.saturating_add(interval),
            interval: interval.saturating_mul(2),
            give_up_at,
            asking_time_since: None,
            placed: false,
        };
        for request in requests {
            submission.add(request);
        }
        submission
    }

    /// Adds a signature under the same number.
    pub(super) fn add(&mut self, request: Arc<Request>) {
        let digest = request.digest();
        self.attempts.push(Attempt { request, digest, replies: Candidates::default(), refusals: BTreeMap::new() });
        self.busy.clear();
        self.asking_time_since = None;
    }

    pub(super) fn requests(&self) -> Vec<Arc<Request>> {
        self.attempts.iter().map(|attempt| attempt.request.clone()).collect()
    }

    pub(super) fn newest(&self) -> Option<&Arc<Request>> {
        self.attempts.last().map(|attempt| &attempt.request)
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.attempts.iter().map(|attempt| attempt.digest)
    }

    /// Whether another signature under the same number is allowed.
    pub(super) fn may_sign_again(&self) -> bool {
        self.number.is_some() && self.attempts.len() < ATTEMPTS_MAX
    }

    /// Records a reply. Only [`Judgement`] decides what it is worth.
    pub(super) fn reply(&mut self, from: ReplicaId, reply: Reply) {
        if let Outcome::Refused(reason) = reply.outcome {
            self.refusal(from, reply.request, reason);
            return;
        }
        self.busy.remove(&from);
        for attempt in &mut self.attempts {
            attempt.refusals.remove(&from);
        }
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.digest == reply.request) else { return };
        // A replica that gave results and is asked again may have dropped them since: its first answer says more.
        if reply.outcome == Outcome::ExecutedEarlier && attempt.replies.contains(from) {
            return;
        }
        attempt.replies.put(from, reply);
    }

    /// Records a refusal. It never takes back the same replica's word that the request executed.
    pub(super) fn refusal(&mut self, from: ReplicaId, request: Digest, reason: Refusal) {
        self.busy.remove(&from);
        if self.attempts.iter().any(|attempt| attempt.replies.contains(from)) {
            return;
        }
        // From the end: signed twice with one time limit, two attempts are the same bytes.
        if let Some(attempt) = self.attempts.iter_mut().rev().find(|attempt| attempt.digest == request) {
            attempt.refusals.insert(from, reason);
        }
    }

    /// Records that `from` did not admit it; returns how long to wait (ms) once f + 1 replicas say so. The shortest wait
    /// of them counts: no liar makes the client wait longer than an honest replica asks. A replica counts once a
    /// transmission: one that says it over and over would put off the next one for ever.
    pub(super) fn busy(&mut self, from: ReplicaId, retry_after: u64, committee: &Committee) -> Option<u64> {
        let again = self.busy.insert(from, retry_after).is_some();
        if again || self.busy.len() < committee.one_honest() {
            return None;
        }
        self.busy.values().min().copied()
    }

    /// It was sent to everybody again.
    pub(super) fn resent(&mut self, now: Micros, interval_max: Micros) {
        self.busy.clear();
        self.resend_at = now.saturating_add(self.interval);
        self.interval = self.interval.saturating_mul(2).min(interval_max);
    }

    /// It is about to be sent again. Returns what is known without the results: f + 1 replicas say that it executed, at one
    /// place, knew so when it was sent last, too, and still no f + 1 give equal results. Some lost theirs: they drop what was
    /// acknowledged or is too large to keep, and a fetched state brings none of a read. All were asked again and had their
    /// time, so waiting on might last for ever: replicas that said "executed" and drop the session later say "forgotten".
    pub(super) fn executed_without_results(&mut self, committee: &Committee) -> Option<(Reply, usize)> {
        let place = self.place(committee.one_honest());
        let knew = std::mem::replace(&mut self.placed, place.is_some());
        place.filter(|_| knew)
    }

    /// The place in the order that at least `needed` replicas name, whatever results they give.
    fn place(&self, needed: usize) -> Option<(Reply, usize)> {
        self.attempts.iter().find_map(|attempt| {
            let mut places = Candidates::default();
            for (reply, replicas) in attempt.replies.iter() {
                let place = Reply { outcome: Outcome::ExecutedEarlier, ..reply.clone() };
                for replica in replicas {
                    places.put(*replica, place.clone());
                }
            }
            places.agreed(needed).map(|(place, matching)| (place.clone(), matching))
        })
    }

    /// What the answers so far amount to.
    pub(super) fn judge(&self, committee: &Committee) -> Judgement {
        let needed = committee.one_honest();
        for attempt in &self.attempts {
            if let Some((reply, matching)) = attempt.replies.agreed(needed) {
                return Judgement::Executed { reply: reply.clone(), matching };
            }
        }
        let newest = self.attempts.last().and_then(|attempt| agreed_refusal(&attempt.refusals, needed));
        if newest.is_some_and(|(reason, _)| treatment(reason) == Treatment::SignAgain) && self.may_sign_again() {
            return Judgement::WrongTime;
        }
        if let Some(replicas) = self.expired(needed) {
            return Judgement::Refused { reason: Refusal::Expired, replicas };
        }
        match newest {
            // Another signature of ours took the number: its reply is what counts.
            Some((Refusal::NumberTaken, _)) if self.attempts.len() > 1 => Judgement::Pending,
            // Another signature of ours is valid longer, and may still execute.
            None | Some((Refusal::Expired, _)) => Judgement::Pending,
            Some((reason, _)) if treatment(reason) == Treatment::Patience => Judgement::Pending,
            Some((reason, replicas)) => Judgement::Refused { reason, replicas },
        }
    }

    /// How many replicas, `needed` at least, say that the signature valid longest has expired. An honest one of them knows
    /// that the number was not used, and no signature under it is valid any more.
    fn expired(&self, needed: usize) -> Option<usize> {
        let longest = self.attempts.iter().max_by_key(|attempt| attempt.request.content().valid_until)?;
        let replicas = longest.refusals.values().filter(|reason| **reason == Refusal::Expired).count();
        (replicas >= needed).then_some(replicas)
    }

    /// Replicas whose results contradict `accepted`. One that says "executed earlier" merely forgot.
    pub(super) fn contradicting(&self, accepted: &Reply) -> Vec<ReplicaId> {
        self.attempts
            .iter()
            .flat_map(|attempt| attempt.replies.iter())
            .filter(|(reply, _)| contradicts(reply, accepted))
            .flat_map(|(_, replicas)| replicas.iter().copied())
            .collect()
    }

    pub(super) fn heard(&self, connected: usize) -> Heard {
        Heard {
            connected,
            answered: self.attempts.iter().map(|attempt| attempt.replies.answered()).max().unwrap_or(0),
            busy: self.busy.len(),
            refused: self.attempts.last().map(|attempt| attempt.refusals.clone()).unwrap_or_default(),
        }
    }
}

/// Whether two replies to one request cannot both be honest: both carry results, and anything in them differs.
pub(super) fn contradicts(reply: &Reply, accepted: &Reply) -> bool {
    reply.request == accepted.request
        && matches!((&reply.outcome, &accepted.outcome), (Outcome::Results(_), Outcome::Results(_)))
        && reply != accepted
}

/// The reason that at least `needed` replicas give, and how many do.
fn agreed_refusal(refusals: &BTreeMap<ReplicaId, Refusal>, needed: usize) -> Option<(Refusal, usize)> {
    let mut counts: BTreeMap<Refusal, usize> = BTreeMap::new();
    for reason in refusals.values() {
        *counts.entry(*reason).or_default() += 1;
    }
    counts.into_iter().find(|(_, count)| *count >= needed)
}
