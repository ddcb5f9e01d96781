//! Execution against a naive model: a list of everything that ever executed, and rules read off protocol.md.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::{Judgement, SESSION_WINDOW};
use super::*;
use crate::reply::{Outcome, Refusal};

/// One executed request, kept for ever.
struct Done {
    client: PublicKey,
    session: SessionId,
    number: u64,
    digest: Digest,
    reply: Reply,
    /// Bytes its results take in the cache, if they are in it.
    cached: Option<usize>,
    /// Acknowledged, or its session dropped.
    is_forgotten: bool,
}

#[derive(Default)]
struct Model {
    seq: u64,
    time: u64,
    writes: u64,
    swept: Option<PublicKey>,
    done: Vec<Done>,
    /// Lowest unacknowledged number of the sessions that exist.
    sessions: BTreeMap<(PublicKey, SessionId), u64>,
    /// Latest valid_until of what executed in them.
    ages: BTreeMap<(PublicKey, SessionId), u64>,
    forgotten_until: BTreeMap<PublicKey, u64>,
}

impl Model {
    fn of_session(&self, client: PublicKey, session: SessionId) -> impl Iterator<Item = &Done> {
        self.done.iter().filter(move |done| (done.client, done.session) == (client, session))
    }

    fn age(&self, client: PublicKey, session: SessionId) -> u64 {
        self.ages.get(&(client, session)).copied().unwrap_or(0)
    }

    fn ages_of(&self, client: PublicKey) -> BTreeSet<(u64, SessionId)> {
        let own = self.sessions.keys().filter(|(owner, _)| *owner == client);
        own.map(|(_, session)| (self.age(client, *session), *session)).collect()
    }

    fn drop_session(&mut self, client: PublicKey, session: SessionId) {
        let age = self.age(client, session);
        self.sessions.remove(&(client, session));
        self.ages.remove(&(client, session));
        for done in &mut self.done {
            if (done.client, done.session) == (client, session) {
                done.is_forgotten = true;
            }
        }
        let forgotten = self.forgotten_until.entry(client).or_default();
        *forgotten = (*forgotten).max(age);
    }

    fn begin(&mut self, header: Option<u64>, parameters: &ExecutionParameters) {
        self.seq += 1;
        let Some(header) = header else { return };
        self.time = self.time.max(header);
        let owners: BTreeSet<PublicKey> = self.sessions.keys().map(|(owner, _)| *owner).collect();
        let next = owners.iter().find(|owner| self.swept.is_none_or(|swept| **owner > swept)).or(owners.first());
        if let Some(owner) = next {
            self.swept = Some(*owner);
            for (age, session) in self.ages_of(*owner) {
                if age.saturating_add(parameters.session_courtesy) < self.time {
                    self.drop_session(*owner, session);
                }
            }
        }
    }

    fn refusal(&self, content: &RequestContent, parameters: &ExecutionParameters) -> Option<Refusal> {
        let key = (content.client, content.session);
        let known = self.sessions.get(&key);
        let low = known.copied().unwrap_or(1).max(content.acknowledged_below);
        if ![ALICE, BOB, ADMIN].map(client).contains(&content.client) {
            return Some(Refusal::UnknownClient);
        }
        if content.number < low {
            return Some(Refusal::StaleNumber);
        }
        if content.valid_until < self.time {
            let until = self.forgotten_until.get(&content.client);
            let is_forgotten = until.is_some_and(|until| content.valid_until <= *until);
            return Some(if is_forgotten { Refusal::Forgotten } else { Refusal::Expired });
        }
        if content.valid_until > self.time + parameters.request_lifetime_max {
            return Some(Refusal::ValidTooLong);
        }
        if u128::from(content.number) >= u128::from(low) + u128::from(SESSION_WINDOW) {
            return Some(Refusal::NumberTooFar);
        }
        let ages = self.ages_of(content.client);
        if known.is_none() && ages.len() as u64 >= parameters.sessions_per_client {
            let (oldest, _) = ages.first()?;
            if *oldest >= self.time {
                return Some(Refusal::SessionTableFull);
            }
        }
        None
    }

    fn answer(&mut self, request: &Request, index: u32, parameters: &ExecutionParameters) -> Reply {
        let content = request.content();
        let digest = request.digest();
        let key = (content.client, content.session);
        let here = |outcome, writes: u64, model: &Model| Reply {
            request: digest,
            seq: Seq(model.seq),
            index,
            time: model.time,
            revision: writes + 1,
            outcome,
        };
        let earlier = self.of_session(key.0, key.1).find(|done| done.number == content.number && !done.is_forgotten);
        if let Some(done) = earlier {
            if done.digest != digest {
                return here(Outcome::Refused(Refusal::NumberTaken), self.writes, self);
            }
            let mut reply = done.reply.clone();
            if done.cached.is_none() {
                reply.outcome = Outcome::ExecutedEarlier;
            }
            return reply;
        }
        if let Some(refusal) = self.refusal(content, parameters) {
            return here(Outcome::Refused(refusal), self.writes, self);
        }
        // The heart of it: whatever was dropped and forgotten, it never executed before.
        assert!(self.done.iter().all(|done| done.digest != digest), "a request executes twice");
        let ages = self.ages_of(content.client);
        if !self.sessions.contains_key(&key) && ages.len() as u64 >= parameters.sessions_per_client {
            let (_, oldest) = *ages.first().expect("a full share");
            self.drop_session(content.client, oldest);
        }
        let reply = self.execute(request, here);
        let low = self.sessions.entry(key).or_insert(1);
        *low = (*low).max(content.acknowledged_below);
        let low = *low;
        let age = self.ages.entry(key).or_default();
        *age = (*age).max(content.valid_until);
        for done in &mut self.done {
            if (done.client, done.session) == key && done.number < low {
                done.is_forgotten = true;
            }
        }
        let in_cache: usize =
            self.of_session(key.0, key.1).filter(|done| !done.is_forgotten).filter_map(|done| done.cached).sum();
        let Outcome::Results(results) = &reply.outcome else { unreachable!() };
        // One list and its items, each with a length of 8 bytes.
        let bytes = 8 + results.iter().map(|result| 8 + result.len()).sum::<usize>();
        let writes = content.operations.iter().any(|operation| operation.bytes[0] == WRITE);
        let fits = in_cache + bytes <= parameters.reply_cache_bytes as usize;
        self.done.push(Done {
            client: content.client,
            session: content.session,
            number: content.number,
            digest,
            reply: reply.clone(),
            cached: (writes && fits).then_some(bytes),
            is_forgotten: false,
        });
        reply
    }

    fn execute(&mut self, request: &Request, here: impl Fn(Outcome, u64, &Model) -> Reply) -> Reply {
        let mut results = Vec::new();
        for operation in &request.content().operations {
            if operation.bytes[0] == WRITE {
                self.writes += 1;
            }
            let filling = u32::from_be_bytes(operation.bytes[1..5].try_into().expect("five bytes"));
            results.push(Register::result(self.writes, self.time, filling));
        }
        here(Outcome::Results(results), self.writes, self)
    }
}

/// A request to come, relative to the time of its batch; or an old one again.
#[derive(Clone, Debug)]
enum Next {
    New { client: u8, session: u8, number: u64, back: u64, valid: i64, kind: u8, signature: u8 },
    Again(prop::sample::Index),
}

#[derive(Clone, Debug)]
struct NextBatch {
    /// `None` is a null request.
    time: Option<i64>,
    requests: Vec<Next>,
    restores: bool,
}

fn next() -> impl Strategy<Value = Next> {
    let number = prop_oneof![12 => 1u64..12, 2 => 1020u64..1040, 1 => Just(u64::MAX), 1 => u64::MAX - 3..u64::MAX];
    let new = (0u8..9, 0u8..7, number, 0u64..8, -30i64..240, 0u8..6, 0u8..2).prop_map(
        |(client, session, number, back, valid, kind, signature)| {
            let client = if client < 5 {
                ALICE
            } else if client < 8 {
                BOB
            } else {
                99
            };
            Next::New { client, session, number, back, valid, kind, signature }
        },
    );
    prop_oneof![3 => new, 2 => any::<prop::sample::Index>().prop_map(Next::Again)]
}

fn next_batch() -> impl Strategy<Value = NextBatch> {
    let time = prop_oneof![1 => Just(None), 9 => (-40i64..60).prop_map(Some), 1 => (200i64..2000).prop_map(Some)];
    (time, prop::collection::vec(next(), 0..9), prop::bool::weighted(0.2))
        .prop_map(|(time, requests, restores)| NextBatch { time, requests, restores })
}

impl Next {
    fn request(&self, time: u64, old: &[Request]) -> Option<Request> {
        match self {
            Next::Again(index) => (!old.is_empty()).then(|| index.get(old).clone()),
            Next::New { client: id, session, number, back, valid, kind, signature } => {
                let operations = match kind {
                    0 => vec![read(3)],
                    1 => vec![write(120)],
                    2 => vec![write(0), read(1), write(2)],
                    _ => vec![write(0)],
                };
                let ask = Ask {
                    client: client(*id),
                    session: *session,
                    number: *number,
                    acknowledged_below: number.saturating_sub(*back),
                    valid_until: time.saturating_add_signed(*valid),
                    operations,
                    signature: *signature,
                };
                Some(ask.request())
            }
        }
    }
}

fn check(batches: &[NextBatch], parameters: ExecutionParameters) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut whole = genesis(parameters);
    let mut restored = genesis(parameters);
    let mut old: Vec<Request> = Vec::new();
    for next in batches {
        let header = next.time.map(|delta| model.time.max(1000).saturating_add_signed(delta));
        let mut requests: Vec<Request> = Vec::new();
        if let Some(header) = header {
            for request in next.requests.iter().filter_map(|next| next.request(header, &old)) {
                if requests.iter().all(|other| other.digest() != request.digest()) {
                    requests.push(request);
                }
            }
        }
        let judged = requests.first().map(|request| whole.judge(request, header.unwrap_or(0)));
        let exact = header.is_some_and(|header| header <= whole.time());
        model.begin(header, &parameters);
        let expected: Vec<Reply> =
            (0u32..).zip(&requests).map(|(index, request)| model.answer(request, index, &parameters)).collect();
        let (proposal, bodies) = match header {
            Some(header) => batch(header, &requests),
            None => (Proposal::NULL, Vec::new()),
        };
        let outcome = whole.apply(Seq(model.seq), &proposal, &bodies);
        let replies: Vec<Reply> = outcome.replies.iter().map(|(_, reply)| reply.clone()).collect();
        prop_assert_eq!(&replies, &expected);
        prop_assert_eq!(outcome.time, model.time);
        prop_assert_eq!(whole.service().writes(), model.writes);
        prop_assert_eq!(whole.sessions(), model.sessions.len());
        whole.sessions.assert_counted();
        prop_assert_eq!(&restored.apply(Seq(model.seq), &proposal, &bodies), &outcome);
        prop_assert_eq!(restored.header(), whole.header());
        if next.restores {
            restored = Execution::from_snapshot(&whole.snapshot()).expect("restores");
        }
        // Nothing was swept away in between, so what was judged just before must come true.
        if parameters.session_courtesy == u64::MAX
            && let (Some(judged), Some(reply)) = (judged, replies.first())
        {
            match (&judged, &reply.outcome) {
                (Judgement::Executed(judged), _) => prop_assert_eq!(judged, reply),
                (Judgement::Refused(_), Outcome::Refused(_)) => {}
                (Judgement::Fresh, Outcome::Results(_)) => prop_assert_eq!(reply.seq, outcome.seq),
                (Judgement::Fresh, Outcome::Refused(_)) => prop_assert!(!exact, "judged fresh, then refused"),
                _ => prop_assert!(false, "judged {judged:?}, came out as {reply:?}"),
            }
            if exact && let (Judgement::Refused(judged), Outcome::Refused(refusal)) = (&judged, &reply.outcome) {
                prop_assert_eq!(judged, refusal);
            }
        }
        old.extend(requests);
    }
    // Everything that executed is answered or refused for good, now and in a far future.
    let far = model.time + 1_000_000;
    for time in [model.time, far] {
        let before = whole.service().writes();
        for done in &model.done {
            let request = old.iter().find(|request| request.digest() == done.digest).expect("it was decided");
            let outcome = apply(&mut whole, time, std::slice::from_ref(request));
            prop_assert_eq!(outcome.executed, 0);
            // `Expired` says that it never executed, so it is never said of one that did.
            prop_assert_ne!(&outcome.replies[0].1.outcome, &Outcome::Refused(Refusal::Expired));
        }
        prop_assert_eq!(whole.service().writes(), before);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn batches_come_out_as_the_rules_say(batches in prop::collection::vec(next_batch(), 1..50), keeps: bool) {
        let parameters = ExecutionParameters {
            request_lifetime_max: 200,
            sessions_per_client: 3,
            session_courtesy: if keeps { u64::MAX } else { 150 },
            reply_cache_bytes: 300,
        };
        check(&batches, parameters)?;
    }
}
