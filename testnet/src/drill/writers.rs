//! Load that remembers what was acknowledged, so that it can be read back.
//!
//! Every put has a key of its own, so that each acknowledged write can be looked for by itself, and its value follows
//! from the key, so that remembering it costs a few bytes:
//!
//! ```text
//!   drill/0003/0000000042  =  "3-42......"      written once by writer 3
//! ```
//!
//! Each writer has one request under way and sends the next when it is answered (closed loop). One whose outcome is
//! unknown is an error and promises nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use quorate_client::{Client, ClientError};
use quorate_kv::{Operation, PutRequest};
use tokio::task::JoinSet;

use super::read_back::{self, ReadBack};
use super::report::Figure;
use super::site::Site;
use super::statistics::longest_gap;
use super::{DrillError, Tell};
use crate::bench::fleet::{self, Fleet};

/// The beginning of every key.
pub const PREFIX: &str = "drill/";
/// How long a put may take until its outcome counts as unknown.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a writer rests after an error, so that errors at once do not keep the machine busy.
const REST: Duration = Duration::from_millis(20);
/// How long the last answers are waited for, besides the patience of each call.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Clients that share a set of links, as behind a gateway.
const CLIENTS_PER_CONNECTION: usize = 16;
/// Sentences about errors that are told.
const EXAMPLES: usize = 5;

/// Who writes, and how much at once.
#[derive(Args, Clone, Debug)]
pub struct Writing {
    /// Clients that write all the time, each with a key of its own and one request under way.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub clients: usize,
    /// Puts in one request, under one signature.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub bundle: usize,
}

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which of its writer.
    pub number: u64,
    /// The revision it made; none if only that it had executed was still known.
    pub revision: Option<u64>,
}

/// When writing went on after some moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    any: Option<Instant>,
    fresh: Option<Instant>,
}

#[derive(Default)]
struct State {
    acknowledged: Vec<Vec<Acknowledged>>,
    puts: u64,
    errors: BTreeMap<String, u64>,
    /// When each writer's requests were answered.
    answers: Vec<Vec<Instant>>,
    mark: Option<Mark>,
}

/// What became of the writes. Shared by all writers; clones are the same ledger.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<State>>);

/// Clients that write until told to stop.
pub struct Writers {
    /// What became of their writes.
    pub ledger: Ledger,
    /// The clients, whose first is the one that is looked at closely.
    pub clients: Vec<Client>,
    // Its keys stay registered: the testnet goes away with them.
    _fleet: Fleet,
    over: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    value_size: usize,
}

/// The key of a write.
pub fn key(writer: usize, number: u64) -> Vec<u8> {
    format!("{PREFIX}{writer:04}/{number:010}").into_bytes()
}

/// The writer and the number in a key; none if it is no key of a writer.
pub fn parse_key(key: &[u8]) -> Option<(usize, u64)> {
    let (writer, number) = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.split_once('/')?;
    Some((writer.parse().ok()?, number.parse().ok()?))
}

/// The value of a write: `size` bytes, or more if it takes more to tell writes apart.
pub fn value(writer: usize, number: u64, size: usize) -> Vec<u8> {
    let mut value = format!("{writer}-{number}").into_bytes();
    value.resize(value.len().max(size), b'.');
    value
}

impl Writing {
    /// That replicas take what would be written, before a testnet is started for it.
    ///
    /// # Errors
    /// One sentence about what they would not take.
    pub fn check(&self, value_size: usize) -> Result<(), DrillError> {
        if !(1..=fleet::CLIENTS_MAX).contains(&self.clients) {
            return Err(DrillError::Usage(format!(
                "--clients {} is out of bounds: give 1 to {}",
                self.clients,
                fleet::CLIENTS_MAX
            )));
        }
        Ok(crate::bench::check_bundle(self.bundle, value_size)?)
    }
}

impl Ledger {
    fn new(writers: usize) -> Ledger {
        Ledger(Arc::new(Mutex::new(State {
            acknowledged: vec![Vec::new(); writers],
            answers: vec![Vec::new(); writers],
            ..State::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a request of `writer` ended that was issued at `issued` and wrote `first` and those that follow.
    fn note(&self, writer: usize, first: u64, issued: Instant, outcome: &Result<Vec<Option<u64>>, ClientError>) {
        let now = Instant::now();
        let mut state = self.lock();
        let revisions = match outcome {
            Ok(revisions) => revisions,
            Err(error) => {
                *state.errors.entry(error.to_string()).or_default() += 1;
                return;
            }
        };
        let written = (first..).zip(revisions).map(|(number, revision)| Acknowledged { number, revision: *revision });
        if let Some(own) = state.acknowledged.get_mut(writer) {
            own.extend(written);
        }
        state.puts += revisions.len() as u64;
        if let Some(own) = state.answers.get_mut(writer) {
            own.push(now);
        }
        if let Some(mark) = &mut state.mark {
            mark.any.get_or_insert(now);
            if issued >= mark.at {
                mark.fresh.get_or_insert(now);
            }
        }
    }

    /// Puts that were acknowledged.
    pub fn puts(&self) -> u64 {
        self.lock().puts
    }

    /// Requests that failed, by what they said.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.lock().errors.clone()
    }

    /// Some acknowledged write, if there is one; equal `random` numbers give equal choices.
    pub fn pick(&self, random: u64) -> Option<(usize, Acknowledged)> {
        let state = self.lock();
        let writers: Vec<usize> =
            (0..state.acknowledged.len()).filter(|w| !state.acknowledged[*w].is_empty()).collect();
        let writer = *writers.get(random as usize % writers.len().max(1))?;
        let own = &state.acknowledged[writer];
        own.get((random >> 16) as usize % own.len()).map(|write| (writer, *write))
    }

    /// When the first writer's requests were answered.
    pub fn answers(&self) -> Vec<Instant> {
        self.lock().answers.first().cloned().unwrap_or_default()
    }

    /// The longest time that any one writer went without an answer, as [`longest_gap`] counts it. None if one of them
    /// was never answered at all.
    pub fn longest_gap(&self, from: Instant, until: Instant) -> Option<Duration> {
        let state = self.lock();
        let gaps: Option<Vec<Duration>> =
            state.answers.iter().map(|answers| longest_gap(answers, from, until)).collect();
        gaps?.into_iter().max()
    }

    /// Whether the first writer was answered after `moment`.
    pub fn is_answered_after(&self, moment: Instant) -> bool {
        self.lock().answers.first().and_then(|own| own.last()).is_some_and(|answer| *answer > moment)
    }

    /// From `at` on, watches for the first answer.
    pub fn mark(&self, at: Instant) {
        self.lock().mark = Some(Mark { at, any: None, fresh: None });
    }

    /// How long after the mark any write was acknowledged, and how long after it one that was issued after it.
    pub fn since_mark(&self) -> (Option<Duration>, Option<Duration>) {
        let Some(mark) = self.lock().mark else { return (None, None) };
        let since = |moment: Option<Instant>| moment.map(|moment| moment.saturating_duration_since(mark.at));
        (since(mark.any), since(mark.fresh))
    }

    /// Every acknowledged write.
    pub fn acknowledged(&self) -> Vec<(usize, Acknowledged)> {
        let state = self.lock();
        let writers = state.acknowledged.iter().enumerate();
        writers.flat_map(|(writer, own)| own.iter().map(move |write| (writer, *write))).collect()
    }
}

impl Writers {
    /// Registers and connects the clients, and lets them write: each for ever, or `limit` requests.
    ///
    /// # Errors
    /// Clients that cannot be registered or connected.
    pub async fn start(
        site: &Site,
        writing: &Writing,
        value_size: usize,
        limit: Option<u64>,
        tell: &mut Tell<'_>,
    ) -> Result<Writers, DrillError> {
        let cluster = site.cluster(PATIENCE)?;
        let mut stage = |stage: crate::bench::Stage| tell(stage.to_string());
        let fleet = Fleet::register(&site.directory, &cluster, writing.clients, &mut stage).await?;
        let connections = writing.clients.div_ceil(CLIENTS_PER_CONNECTION);
        let clients = fleet.connect(&cluster, connections, &mut stage).await?;
        let ledger = Ledger::new(clients.len());
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (writer, client) in clients.iter().enumerate() {
            let (client, ledger, over) = (client.clone(), ledger.clone(), Arc::clone(&over));
            tasks.spawn(write(client, ledger, over, writer, writing.bundle as u64, value_size, limit));
        }
        Ok(Writers { ledger, clients, _fleet: fleet, over, tasks, value_size })
    }

    /// Whether all have written what they were to write.
    pub fn are_done(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.is_empty()
    }

    /// Waits until `puts` have been acknowledged in all.
    ///
    /// # Errors
    /// [`DrillError::Stalled`] if `patience` passes without a single one.
    pub async fn wait_for(
        &self,
        puts: u64,
        patience: Duration,
        what: &str,
        tell: &mut Tell<'_>,
    ) -> Result<(), DrillError> {
        let (begun, mut last, mut last_progress) = (self.ledger.puts(), self.ledger.puts(), Instant::now());
        while last < puts {
            tell(format!("{what}, {} of {} writes", last - begun, puts - begun));
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = self.ledger.puts();
            if now > last {
                (last, last_progress) = (now, Instant::now());
            } else if last_progress.elapsed() > patience {
                return Err(self.stalled(patience));
            }
        }
        Ok(())
    }

    /// That nothing was acknowledged for so long, and what requests said.
    pub fn stalled(&self, patience: Duration) -> DrillError {
        let errors = self.ledger.errors();
        let said = errors.keys().next_back().map_or_else(String::new, |error| format!(": {error}"));
        DrillError::Stalled(format!("no write was acknowledged within {} s{said}", patience.as_secs()))
    }

    /// Lets the writers end, waits for their last answers, and reads every acknowledged write back in order.
    ///
    /// # Errors
    /// Those of a client that reads.
    pub async fn finish(&mut self, tell: &mut Tell<'_>) -> Result<ReadBack, DrillError> {
        self.stop().await;
        self.read_back(tell).await
    }

    /// Lets the writers end, and waits for their last answers.
    pub async fn stop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // Whoever has not been answered by then has no acknowledgement.
        let _ = tokio::time::timeout(PATIENCE + LAST_ANSWERS, all).await;
        self.tasks.shutdown().await;
    }

    /// Reads every acknowledged write back in order, and takes leave of the replicas.
    ///
    /// # Errors
    /// Those of a client that reads.
    pub async fn read_back(&mut self, tell: &mut Tell<'_>) -> Result<ReadBack, DrillError> {
        let read_back = read_back::run(&self.clients, self.ledger.acknowledged(), self.value_size, tell).await?;
        fleet::close(std::mem::take(&mut self.clients)).await;
        Ok(read_back)
    }

    /// What every drill with writers reports of them.
    pub fn figures(&self, read_back: &ReadBack) -> Vec<Figure> {
        let errors = self.ledger.errors().values().sum();
        vec![
            Figure::count("acknowledged_writes", "acknowledged writes, all read back", read_back.read),
            Figure::none_of("lost_writes", "acknowledged writes lost", read_back.lost),
            Figure::none_of("wrong_writes", "acknowledged writes with another value or revision", read_back.wrong),
            Figure::count("errors", "requests with an error", errors),
        ]
    }

    /// What is worth reading about them.
    pub fn notes(&self, read_back: &ReadBack) -> Vec<String> {
        let errors = self.ledger.errors();
        let errors = errors.iter().take(EXAMPLES).map(|(sentence, count)| format!("{count} times: {sentence}"));
        read_back.examples.iter().cloned().chain(errors).collect()
    }
}

async fn write(
    client: Client,
    ledger: Ledger,
    over: Arc<AtomicBool>,
    writer: usize,
    bundle: u64,
    value_size: usize,
    limit: Option<u64>,
) {
    let mut requests = 0;
    while !over.load(Ordering::Relaxed) && limit.is_none_or(|limit| requests < limit) {
        let first = requests * bundle;
        let puts: Vec<Operation> = (first..first + bundle)
            .map(|number| Operation::Put(PutRequest::new(key(writer, number), value(writer, number, value_size))))
            .collect();
        let issued = Instant::now();
        let outcome = put(&client, &puts).await;
        ledger.note(writer, first, issued, &outcome);
        if outcome.is_err() {
            tokio::time::sleep(REST).await;
        }
        requests += 1;
    }
}

/// The revisions that a bundle of puts made. A refused put is an error.
async fn put(client: &Client, puts: &[Operation]) -> Result<Vec<Option<u64>>, ClientError> {
    match client.execute(puts).await {
        Ok((_, results)) => match results.iter().find_map(|result| result.error()) {
            Some(error) => Err(error.clone().into()),
            None => Ok(results.iter().map(|result| Some(result.revision)).collect()),
        },
        // It executed, which is what an acknowledgement promises.
        Err(ClientError::ResultsForgotten(_)) => Ok(vec![None; puts.len()]),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_write_and_values_tell_writes_apart() {
        assert_eq!(parse_key(&key(3, 42)), Some((3, 42)));
        assert_eq!((parse_key(b"drill/3"), parse_key(b"other/1/2"), parse_key(b"\xff")), (None, None, None));
        assert_eq!(value(3, 42, 10), b"3-42......");
        assert_ne!(value(1, 11, 0), value(11, 1, 0));
    }

    #[test]
    fn a_write_that_was_issued_before_the_mark_is_not_a_new_one() {
        let ledger = Ledger::new(2);
        let before = Instant::now();
        ledger.mark(Instant::now());
        assert_eq!(ledger.since_mark(), (None, None));
        ledger.note(1, 0, before, &Ok(vec![Some(2)]));
        assert!(matches!(ledger.since_mark(), (Some(_), None)));
        ledger.note(1, 1, Instant::now(), &Err(ClientError::Closed));
        assert!(matches!(ledger.since_mark(), (Some(_), None)), "an error acknowledges nothing");
        ledger.note(1, 2, Instant::now(), &Ok(vec![Some(3), None]));
        assert!(matches!(ledger.since_mark(), (Some(_), Some(_))));
        assert_eq!((ledger.puts(), ledger.answers().len(), ledger.errors().len()), (3, 0, 1));
        assert_eq!(ledger.longest_gap(before, Instant::now()), None, "writer 0 was never answered");
        let numbers: Vec<u64> = ledger.acknowledged().iter().map(|(_, write)| write.number).collect();
        assert_eq!(numbers, [0, 2, 3]);
        assert_eq!(ledger.pick(7).map(|(writer, _)| writer), Some(1));
    }
}
