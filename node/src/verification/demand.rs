//! How much each client key asks for, and which of them ask for too much: more than twice what the others do in the mean,
//! on a machine that has no processor time to spare. While there is some, nobody asks for too much, so that a key that
//! wants much gets all that others leave.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quorate_crypto::PublicKey;

/// What a key asks for is counted for so long; the last full count is judged by.
const WINDOW: Duration = Duration::from_millis(250);
/// Requests in a window that are never too many.
const SLACK: u64 = 8;
/// Beyond the mean of the others so many times is too much. Clients that act alike, at random, rarely differ so much.
const TIMES: u64 = 2;
/// Keys counted in a window. Those beyond never ask for too much.
const KEYS_MAX: usize = 8_192;

/// Whether `own` requests are too many beside `of_others` of so many `others`.
fn is_too_much(own: u64, of_others: u64, others: u64) -> bool {
    others > 0 && own.saturating_sub(SLACK).saturating_mul(others) > TIMES.saturating_mul(of_others)
}

/// Whether a thread that ran so long and was kept from running so long while `passed` went by lacks processor time: it
/// waits longer for a processor than it has one, or has no time left.
fn is_strained(ran: Duration, waited: Duration, passed: Duration) -> bool {
    (waited > ran && waited * 50 > passed) || ran * 10 > passed * 9
}

/// For how long this thread ran and for how long it could have run and had no processor, since it began; none where the
/// system does not tell.
fn processor_time() -> Option<(Duration, Duration)> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let mut numbers = told.split_whitespace().map(|number| number.parse().map(Duration::from_nanos).ok());
    Some((numbers.next()??, numbers.next()??))
}

#[derive(Debug, Default)]
struct Count {
    of_key: BTreeMap<PublicKey, u64>,
    of_all: u64,
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Demand {
    began: Instant,
    processor: Option<(Duration, Duration)>,
    strained: bool,
    now: Count,
    before: Count,
}

impl Demand {
    pub(super) fn new(now: Instant) -> Demand {
        let (processor, count) = (processor_time(), Count::default);
        Demand { began: now, processor, strained: false, now: count(), before: count() }
    }

    /// Ends the count that is over. Whether one is.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.began);
        if passed < WINDOW {
            return false;
        }
        let processor = processor_time();
        let strained = self.processor.zip(processor).is_some_and(|((ran_before, waited_before), (ran, waited))| {
            is_strained(ran.saturating_sub(ran_before), waited.saturating_sub(waited_before), passed)
        });
        self.processor = processor;
        self.end_count(now, strained);
        true
    }

    pub(super) fn end_count(&mut self, now: Instant, strained: bool) {
        self.began = now;
        self.strained = strained;
        self.before = std::mem::take(&mut self.now);
    }

    /// `key` asks for one more.
    pub(super) fn ask(&mut self, key: &PublicKey) {
        if let Some(count) = self.now.of_key.get_mut(key) {
            *count += 1;
        } else if self.now.of_key.len() < KEYS_MAX {
            self.now.of_key.insert(*key, 1);
        } else {
            return;
        }
        self.now.of_all += 1;
    }

    /// Keys that ask now.
    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.now.of_key.len()
    }

    /// Whether `key` asks for too much.
    pub(super) fn is_too_much(&self, key: &PublicKey) -> bool {
        let Some(own) = self.before.of_key.get(key).filter(|_| self.strained) else { return false };
        is_too_much(*own, self.before.of_all - own, self.before.of_key.len() as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey([byte; 32])
    }

    fn counted(strained: bool, asked: &[(u8, u64)]) -> Demand {
        let mut demand = Demand::new(Instant::now());
        for (byte, times) in asked {
            (0..*times).for_each(|_| demand.ask(&key(*byte)));
        }
        demand.end_count(Instant::now(), strained);
        demand
    }

    #[test]
    fn too_much_is_twice_what_others_ask_for_in_the_mean() {
        let alike: Vec<(u8, u64)> = (0..16).map(|byte| (byte, 64)).collect();
        let demand = counted(true, &alike);
        assert!((0..16).all(|byte| !demand.is_too_much(&key(byte))), "they ask alike, however much");
        let demand = counted(true, &[(1, 100), (2, 20), (3, 20)]);
        assert!(demand.is_too_much(&key(1)));
        assert!(!demand.is_too_much(&key(2)) && !demand.is_too_much(&key(9)));
        assert!(!counted(true, &[(1, 40 + SLACK), (2, 20)]).is_too_much(&key(1)));
        assert!(counted(true, &[(1, 41 + SLACK), (2, 20)]).is_too_much(&key(1)));
        assert!(!counted(true, &[(1, 100_000)]).is_too_much(&key(1)), "it takes from nobody");
        assert!(!counted(true, &[(1, SLACK), (2, 1)]).is_too_much(&key(1)), "a few are never too many");
    }

    #[test]
    fn with_processor_time_to_spare_nothing_is_too_much() {
        assert!(!counted(false, &[(1, 100_000), (2, 20)]).is_too_much(&key(1)));
        let millis = Duration::from_millis;
        assert!(is_strained(millis(20), millis(30), millis(250)), "it waits more than it runs");
        assert!(!is_strained(millis(30), millis(20), millis(250)));
        assert!(!is_strained(millis(1), millis(2), millis(250)), "of next to nothing that says little");
        assert!(is_strained(millis(240), millis(0), millis(250)), "it has no time left");
    }

    #[test]
    fn counts_are_of_the_last_window_and_of_so_many_keys() {
        let mut demand = counted(true, &[(1, 100), (2, 1)]);
        assert!(demand.is_too_much(&key(1)));
        assert!(!demand.turn(Instant::now()));
        assert!(demand.turn(Instant::now() + WINDOW));
        demand.strained = true;
        assert!(!demand.is_too_much(&key(1)), "it has stopped");
        for number in 0..2 * KEYS_MAX as u64 {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            demand.ask(&PublicKey(bytes));
        }
        assert_eq!((demand.now.of_key.len(), demand.now.of_all), (KEYS_MAX, KEYS_MAX as u64));
    }
}
