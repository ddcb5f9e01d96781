//! What the clients of a run send, and when.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use quorate_client::{Client, ClientError};
use quorate_kv::{Operation, PutRequest};
use rand::seq::index;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{BenchError, Plan, Stage};

/// Bytes of a key: `bench/0000000042`.
pub const KEY_BYTES: usize = 16;
/// Bytes a put has besides its key and value, at most.
pub const PUT_OVERHEAD_BYTES: usize = 64;
/// The longest latency that is told apart, microseconds; longer ones count as this.
const LATENCY_MAX: u64 = 600_000_000;
/// Requests of one client that may be overdue in an open loop. One more is counted as an error instead of being sent.
const OVERDUE_MAX: usize = 1024;
/// Puts in one request of a preload.
const PRELOAD_BUNDLE: u64 = 256;
/// Bytes of one request of a preload, at most, so that large values make small bundles.
const PRELOAD_BYTES: u64 = 512 * 1024;
/// Requests of a preload under way at once, all clients together.
const PRELOADING: usize = 8;
/// How often a request of a preload is tried.
const PRELOAD_TRIES: usize = 5;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// A client of a closed loop that failed waits so long: one that cannot go on must not take the machine from the others.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// How long after the end of the run answers are waited for, besides the patience of each call.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A client that can be put under load, of Quorate or of what it is compared with.
pub trait Target: Clone + Send + Sync + 'static {
    /// Why a request failed, in one sentence.
    type Error: Display + Send;

    /// How long a request may take.
    fn patience(&self) -> Duration;

    /// Writes all of `puts`, or none of them, in one request.
    ///
    /// # Errors
    /// Refused, or not answered in time.
    fn write(&self, puts: Vec<PutRequest>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl Target for Client {
    type Error = ClientError;

    fn patience(&self) -> Duration {
        Client::patience(self)
    }

    async fn write(&self, puts: Vec<PutRequest>) -> Result<(), ClientError> {
        let operations: Vec<Operation> = puts.into_iter().map(Operation::Put).collect();
        execute(self, &operations).await
    }
}

/// What a run gave.
pub struct Tally {
    /// Operations that succeeded before the time was over.
    pub operations: u64,
    /// Requests that carried them.
    pub requests: u64,
    /// Latency of requests, microseconds.
    pub latency: Histogram<u64>,
    /// Failed requests by what they said.
    pub errors: BTreeMap<String, u64>,
    /// How long it was measured.
    pub elapsed: Duration,
    /// The longest time between two answers, or without any.
    pub longest_silence: Duration,
}

/// Shared by all clients of a run.
struct Ledger {
    began: Instant,
    ends: Instant,
    counts: Mutex<Counts>,
}

struct Counts {
    operations: u64,
    requests: u64,
    latency: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    last_answer: Instant,
    longest_silence: Duration,
}

impl Ledger {
    fn new(duration: Duration) -> Ledger {
        let began = Instant::now();
        // Two digits more than a person reads; 256 KiB.
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX, 3).unwrap_or_else(|_| {
            unreachable!("the bounds are constants within what a histogram takes");
        });
        let counts = Counts {
            operations: 0,
            requests: 0,
            latency,
            errors: BTreeMap::new(),
            last_answer: began,
            longest_silence: Duration::ZERO,
        };
        Ledger { began, ends: began + duration, counts: Mutex::new(counts) }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// Notes how a request ended that was due at `due`. What comes after the end counts for nothing but latency.
    fn note(&self, due: Instant, operations: usize, outcome: Result<(), impl Display>) {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                let micros = u64::try_from(now.saturating_duration_since(due).as_micros()).unwrap_or(u64::MAX);
                counts.latency.saturating_record(micros);
                if now < self.ends {
                    counts.operations += operations as u64;
                    counts.requests += 1;
                    counts.longest_silence = counts.longest_silence.max(now - counts.last_answer);
                    counts.last_answer = now;
                }
            }
            Err(error) => *counts.errors.entry(error.to_string()).or_default() += 1,
        }
    }

    fn note_overdue(&self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.errors.entry("not sent: too many requests of its client are overdue".to_owned()).or_default() += 1;
    }

    fn close(self) -> Tally {
        let elapsed = self.ends - self.began;
        let Counts { operations, requests, latency, errors, last_answer, longest_silence } =
            self.counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let silence = self.ends.saturating_duration_since(last_answer);
        Tally { operations, requests, latency, errors, elapsed, longest_silence: longest_silence.max(silence) }
    }
}

/// What one client writes.
struct Writer {
    random: ChaCha8Rng,
    keys: u64,
    bundle: usize,
    filler: Vec<u8>,
    written: u64,
}

/// The key of that number.
fn key(number: u64) -> Vec<u8> {
    format!("bench/{number:010}").into_bytes()
}

impl Writer {
    fn new(plan: &Plan) -> Writer {
        let mut random = ChaCha8Rng::seed_from_u64(rand::random());
        let mut filler = vec![0; plan.value_size];
        random.fill_bytes(&mut filler);
        Writer { random, keys: plan.keys, bundle: plan.bundle, filler, written: 0 }
    }

    /// A value like no other of this client, as far as its size allows.
    fn value(&mut self) -> Vec<u8> {
        self.written += 1;
        let mut value = self.filler.clone();
        for (byte, count) in value.iter_mut().zip(self.written.to_be_bytes().iter().rev()) {
            *byte ^= count;
        }
        value
    }

    fn bundle(&mut self) -> Vec<PutRequest> {
        self.numbers().into_iter().map(|number| PutRequest::new(key(number), self.value())).collect()
    }

    /// Numbers of the keys of one request, at random. They differ where there are enough keys: etcd refuses a transaction
    /// that writes one key twice, and both sides of a comparison are to write the same.
    fn numbers(&mut self) -> Vec<u64> {
        match usize::try_from(self.keys) {
            Ok(keys) if (2..=keys).contains(&self.bundle) => {
                index::sample(&mut self.random, keys, self.bundle).iter().map(|number| number as u64).collect()
            }
            _ => (0..self.bundle).map(|_| self.random.random_range(0..self.keys)).collect(),
        }
    }
}

/// Executes one request of puts; a refused put is an error.
async fn execute(client: &Client, operations: &[Operation]) -> Result<(), ClientError> {
    let (_, results) = client.execute(operations).await?;
    match results.iter().find_map(|result| result.error()) {
        Some(error) => Err(error.clone().into()),
        None => Ok(()),
    }
}

/// Puts the load of `plan` on what the clients are of, for as long as it says, and waits for the last answers.
pub async fn run<T: Target>(clients: &[T], plan: &Plan, tell: &mut impl FnMut(Stage)) -> Tally {
    let ledger = Arc::new(Ledger::new(plan.duration));
    let mut loops = JoinSet::new();
    for (index, client) in clients.iter().enumerate() {
        let (client, ledger, writer) = (client.clone(), Arc::clone(&ledger), Writer::new(plan));
        match plan.rate {
            None => loops.spawn(closed_loop(client, ledger, writer)),
            Some(rate) => {
                let every = plan.bundle as f64 * clients.len() as f64 / rate;
                let first = every * index as f64 / clients.len() as f64;
                loops.spawn(open_loop(client, ledger, writer, first, every))
            }
        };
    }
    let total = u64::try_from(plan.duration.as_millis()).unwrap_or(u64::MAX);
    let patience = clients.first().map_or(Duration::ZERO, Target::patience);
    let give_up = tokio::time::Instant::from_std(ledger.ends + patience + LAST_ANSWERS);
    let mut tick = tokio::time::interval(TELL_EVERY);
    loop {
        tokio::select! {
            ended = loops.join_next() => match ended {
                None => break,
                Some(Ok(())) => {}
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            },
            _ = tick.tick() => {
                let passed = u64::try_from(ledger.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tell(Stage::Loading(passed.min(total), total));
            }
            () = tokio::time::sleep_until(give_up) => break,
        }
    }
    loops.shutdown().await;
    match Arc::try_unwrap(ledger) {
        Ok(ledger) => ledger.close(),
        Err(shared) => unreachable!("{} loops outlived their set", Arc::strong_count(&shared) - 1),
    }
}

async fn closed_loop<T: Target>(client: T, ledger: Arc<Ledger>, mut writer: Writer) {
    while !ledger.is_over() {
        let puts = writer.bundle();
        let (due, count) = (Instant::now(), puts.len());
        let outcome = client.write(puts).await;
        let failed = outcome.is_err();
        ledger.note(due, count, outcome);
        if failed {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}

/// A request is due every `every` seconds, the first after `first`.
async fn open_loop<T: Target>(client: T, ledger: Arc<Ledger>, mut writer: Writer, first: f64, every: f64) {
    let room = Arc::new(Semaphore::new(OVERDUE_MAX));
    let mut sent = JoinSet::new();
    for index in 0u64.. {
        let due = ledger.began + Duration::from_secs_f64(every.mul_add(index as f64, first));
        if due >= ledger.ends {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        while sent.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            ledger.note_overdue();
            continue;
        };
        let (client, ledger, puts) = (client.clone(), Arc::clone(&ledger), writer.bundle());
        let count = puts.len();
        sent.spawn(async move {
            let outcome = client.write(puts).await;
            ledger.note(due, count, outcome);
            drop(permit);
        });
    }
    while sent.join_next().await.is_some() {}
}

/// Writes the first `plan.preload` keys, each once.
///
/// # Errors
/// One of the requests failed several times.
pub async fn preload(clients: &[Client], plan: &Plan, tell: &mut impl FnMut(Stage)) -> Result<(), BenchError> {
    let per_put = (plan.value_size + KEY_BYTES + PUT_OVERHEAD_BYTES) as u64;
    let bundle = PRELOAD_BUNDLE.min(PRELOAD_BYTES / per_put).max(1);
    let mut writing: JoinSet<Result<u64, ClientError>> = JoinSet::new();
    let mut next = 0;
    let mut done = 0;
    let mut turn = clients.iter().cycle();
    let mut writer = Writer::new(plan);
    loop {
        while writing.len() < PRELOADING
            && next < plan.preload
            && let Some(client) = turn.next()
        {
            let numbers = next..plan.preload.min(next + bundle);
            next = numbers.end;
            let count = numbers.end - numbers.start;
            let puts: Vec<_> =
                numbers.map(|number| Operation::Put(PutRequest::new(key(number), writer.value()))).collect();
            let client = client.clone();
            writing.spawn(async move { write_all(&client, &puts).await.map(|()| count) });
        }
        tell(Stage::Preloading(done, plan.preload));
        match writing.join_next().await {
            None => return Ok(()),
            Some(Ok(count)) => done += count?,
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// A put may be repeated safely: what it writes does not depend on how often.
async fn write_all(client: &Client, puts: &[Operation]) -> Result<(), ClientError> {
    let mut tries = 1;
    loop {
        match execute(client, puts).await {
            Err(ClientError::Unknown(_)) if tries < PRELOAD_TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_and_keys_have_their_length() {
        let plan = Plan {
            clients: 1,
            connections: 1,
            value_size: 4,
            bundle: 3,
            duration: Duration::from_secs(1),
            rate: None,
            keys: 5,
            preload: 0,
        };
        let mut writer = Writer::new(&plan);
        let (first, second) = (writer.value(), writer.value());
        assert_eq!((first.len(), second.len()), (4, 4));
        assert_ne!(first, second);
        assert_eq!(writer.bundle().len(), 3);
        let mut all = Writer::new(&Plan { bundle: 5, ..plan.clone() }).numbers();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4], "no key twice in a request while there are others");
        assert_eq!(Writer::new(&Plan { bundle: 9, ..plan.clone() }).numbers().len(), 9);
        assert_eq!((key(0).len(), key(9_999_999_999).len()), (KEY_BYTES, KEY_BYTES));
        assert!(Writer::new(&Plan { value_size: 0, ..plan }).value().is_empty());
    }

    #[test]
    fn only_what_was_answered_in_time_counts_as_throughput() {
        let ledger = Ledger::new(Duration::from_millis(20));
        ledger.note(Instant::now(), 7, Ok::<(), ClientError>(()));
        ledger.note(Instant::now(), 7, Err::<(), _>(ClientError::Closed));
        std::thread::sleep(Duration::from_millis(25));
        ledger.note(ledger.began, 7, Ok::<(), ClientError>(()));
        let tally = ledger.close();
        assert_eq!((tally.operations, tally.requests, tally.latency.len()), (7, 1, 2));
        assert!(tally.latency.max() >= 20_000, "a late answer is part of the latency");
        assert_eq!(tally.errors.values().sum::<u64>(), 1);
        assert!(tally.longest_silence >= Duration::from_millis(15) && tally.elapsed == Duration::from_millis(20));
    }
}
