//! The session table: which numbers executed, and how, as far as that must be remembered.
//!
//! Table 1, by the length of the key; integers are big-endian, values are encoded by [`quorate_crypto::encoding`]:
//!
//! ```text
//! client 32 B                              -> u64  a session in use until this agreed time was dropped
//! client 32 B, session 16 B                -> Session
//! client 32 B, session 16 B, number u64    -> NumberRecord, for every executed number from `low` on
//! ```
//!
//! One small entry a session and one an executed number: a request changes few bytes of the table however much its
//! client has in flight, and since a session's entry stands on the way to its numbers, few nodes. What bounds a key's
//! share is counted beside the table and follows from it.
//!
//! Why a request never executes twice: its number record stays until the client acknowledges the number (then `low` is
//! above it) or the session is dropped. A session is dropped only past the last `valid_until` of everything that executed
//! in it, and agreed time never goes back, so whatever executed in it is expired for good.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bincode::{Decode, Encode};
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::merkle_map::{MAX_VALUE, MerkleMap};
use quorate_crypto::{Digest, PublicKey, Seq};

use super::configuration::ExecutionParameters;
use super::service::RestoreError;
use crate::reply::{Outcome, Reply};
use crate::request::{RequestContent, SessionId};
use crate::state::TableId;

/// So many numbers, from the lowest unacknowledged one on, may be in flight in a session.
pub const SESSION_WINDOW: u64 = 1024;
/// Executed numbers remembered for one key, all its sessions together. It bounds what a key costs in memory, beside
/// [`CLIENT_CACHE_BYTES_MAX`], to about 4 MiB.
pub const NUMBERS_PER_CLIENT: u64 = 8192;
/// Bytes of cached results of one key, all its sessions together.
pub const CLIENT_CACHE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Bytes of cached results of one request.
pub const REQUEST_CACHE_BYTES_MAX: u64 = 1024 * 1024;
/// Numbers forgotten by one batch for sessions past their courtesy, up to the end of a session.
pub const SWEEP_NUMBERS_MAX: u64 = 1024;

pub(super) const SESSION_TABLE: TableId = TableId(1);

/// The encoded length of a number record without results.
const BARE_RECORD_BYTES: usize = 32 + 8 + 4 + 8 + 8 + 1;

/// A session as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Session {
    /// Numbers below are acknowledged: none of them executes any more. At least 1.
    pub(super) low: u64,
    /// The latest `valid_until` of what executed in it.
    pub(super) last_valid_until: u64,
    /// Its number records. At least 1: the newest request's own number is never below `low`.
    pub(super) numbers: u64,
    /// Bytes of results in them.
    pub(super) cached: u64,
}

/// How a number executed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct NumberRecord {
    /// The request that executed under the number.
    pub(super) request: Digest,
    /// In which batch.
    pub(super) seq: Seq,
    /// At which place.
    pub(super) index: u32,
    /// At which agreed time.
    pub(super) time: u64,
    /// The service's revision after it.
    pub(super) revision: u64,
    /// Its results, if they are cached.
    pub(super) results: Option<Vec<Vec<u8>>>,
}

impl NumberRecord {
    /// The answer to a retry: where it executed, and what came of it if that is cached.
    pub(super) fn into_reply(self) -> Reply {
        Reply {
            request: self.request,
            seq: self.seq,
            index: self.index,
            time: self.time,
            revision: self.revision,
            outcome: self.results.map_or(Outcome::ExecutedEarlier, Outcome::Results),
        }
    }
}

/// What one key's sessions cost together. A function of the table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Share {
    /// Every session under its last `valid_until`: the first is the oldest.
    ages: BTreeSet<(u64, SessionId)>,
    numbers: u64,
    cached: u64,
}

impl Share {
    fn is_full(&self, is_new_session: bool, parameters: &ExecutionParameters) -> bool {
        self.numbers >= NUMBERS_PER_CLIENT
            || (is_new_session && self.ages.len() as u64 >= parameters.sessions_per_client)
    }

    /// The oldest session but `own`, if agreed time is past everything that executed in it.
    fn droppable(&self, own: SessionId, time: u64) -> Option<SessionId> {
        let (last_valid_until, session) = self.ages.iter().find(|(_, session)| *session != own)?;
        (*last_valid_until < time).then_some(*session)
    }
}

/// The sessions of all clients.
#[derive(Clone, Default)]
pub(super) struct SessionTable {
    table: MerkleMap,
    shares: BTreeMap<PublicKey, Share>,
}

fn session_key(client: &PublicKey, session: SessionId) -> [u8; 48] {
    let mut out = [0; 48];
    out[..32].copy_from_slice(&client.0);
    out[32..].copy_from_slice(&session.0);
    out
}

fn number_key(client: &PublicKey, session: SessionId, number: u64) -> [u8; 56] {
    let mut out = [0; 56];
    out[..32].copy_from_slice(&client.0);
    out[32..48].copy_from_slice(&session.0);
    out[48..].copy_from_slice(&number.to_be_bytes());
    out
}

/// Bytes of results in an encoded number record.
fn cached_bytes(value: &[u8]) -> u64 {
    (value.len() - BARE_RECORD_BYTES) as u64
}

/// Decodes what this table wrote itself, or what [`SessionTable::restore`] has decoded before.
fn stored<T: Decode<()>>(value: &[u8]) -> T {
    decode(value, MAX_VALUE).unwrap_or_else(|error| unreachable!("an entry of the session table: {error}"))
}

impl SessionTable {
    pub(super) fn table(&self) -> &MerkleMap {
        &self.table
    }

    /// Sessions of all clients.
    pub(super) fn len(&self) -> usize {
        self.shares.values().map(|share| share.ages.len()).sum()
    }

    pub(super) fn find(&self, client: &PublicKey, session: SessionId) -> Option<Session> {
        self.table.get(&session_key(client, session)).map(stored)
    }

    pub(super) fn executed(&self, content: &RequestContent) -> Option<NumberRecord> {
        self.table.get(&number_key(&content.client, content.session, content.number)).map(stored)
    }

    /// Whether a session that was in use at `valid_until` or later was dropped, so that nobody knows any more whether a
    /// request of this `valid_until` executed.
    pub(super) fn has_forgotten(&self, client: &PublicKey, valid_until: u64) -> bool {
        self.table.get(&client.0).is_some_and(|value| valid_until <= stored::<u64>(value))
    }

    /// Whether the client's share has room for one more number, in a new session or a known one, at `time`; dropping
    /// its oldest session included.
    pub(super) fn has_room(
        &self,
        content: &RequestContent,
        is_new_session: bool,
        parameters: &ExecutionParameters,
        time: u64,
    ) -> bool {
        self.shares.get(&content.client).is_none_or(|share| {
            !share.is_full(is_new_session, parameters) || share.droppable(content.session, time).is_some()
        })
    }

    /// Remembers that `content` executed as `record` says. `known` is its session as [`SessionTable::find`] gave it, and
    /// [`SessionTable::has_room`] held at `time`. Returns the results.
    pub(super) fn record(
        &mut self,
        content: &RequestContent,
        known: Option<Session>,
        mut record: NumberRecord,
        parameters: &ExecutionParameters,
        time: u64,
    ) -> Option<Vec<Vec<u8>>> {
        self.make_room(content, known.is_none(), parameters, time);
        let mut session = known.unwrap_or(Session { low: 1, last_valid_until: 0, numbers: 0, cached: 0 });
        let previous_age = known.map(|session| session.last_valid_until);
        self.acknowledge(content, &mut session);
        session.last_valid_until = session.last_valid_until.max(content.valid_until);

        let share = self.shares.entry(content.client).or_default();
        let mut value = encode(&record);
        let mut cached = cached_bytes(&value);
        let mut results = record.results.take();
        if cached > REQUEST_CACHE_BYTES_MAX
            || session.cached.saturating_add(cached) > parameters.reply_cache_bytes
            || share.cached.saturating_add(cached) > CLIENT_CACHE_BYTES_MAX
        {
            value = encode(&record);
            cached = 0;
        }
        session.numbers += 1;
        session.cached += cached;
        share.numbers += 1;
        share.cached += cached;
        if previous_age != Some(session.last_valid_until) {
            if let Some(age) = previous_age {
                share.ages.remove(&(age, content.session));
            }
            share.ages.insert((session.last_valid_until, content.session));
        }
        let replaced = self.table.insert(&number_key(&content.client, content.session, content.number), value);
        assert!(replaced.is_none(), "number {} of {:?} executed twice", content.number, content.client);
        self.table.insert(&session_key(&content.client, content.session), encode(&session));
        results.take()
    }

    /// Drops the client's oldest session if its share is full. One is enough: it gives up its place and, since every
    /// session has one, at least one number.
    fn make_room(&mut self, content: &RequestContent, is_new: bool, parameters: &ExecutionParameters, time: u64) {
        let Some(share) = self.shares.get(&content.client) else { return };
        if share.is_full(is_new, parameters) {
            let oldest = share.droppable(content.session, time);
            let oldest = oldest.unwrap_or_else(|| unreachable!("a request was let in without room"));
            self.drop_session(&content.client, oldest);
        }
    }

    /// Forgets the numbers below what `content` acknowledges. They lie within a window above `session.low`.
    fn acknowledge(&mut self, content: &RequestContent, session: &mut Session) {
        if content.acknowledged_below <= session.low {
            return;
        }
        let (from, to) = (session.low, content.acknowledged_below);
        session.low = to;
        if session.numbers == 0 {
            return;
        }
        let mut numbers = 0;
        let mut cached = 0;
        if to - from <= 4 {
            for number in from..to {
                if let Some(value) = self.table.remove(&number_key(&content.client, content.session, number)) {
                    numbers += 1;
                    cached += cached_bytes(&value);
                }
            }
        } else {
            (numbers, cached) = self.remove_numbers(&content.client, content.session, from, Some(to));
        }
        session.numbers -= numbers;
        session.cached -= cached;
        self.forget_share(&content.client, numbers, cached);
    }

    /// Removes the number records from `from` up to but not `to`; returns how many and their bytes of results.
    fn remove_numbers(&mut self, client: &PublicKey, session: SessionId, from: u64, to: Option<u64>) -> (u64, u64) {
        let mut end = number_key(client, session, to.unwrap_or(u64::MAX)).to_vec();
        if to.is_none() {
            // The successor of the key of the largest number.
            end.push(0);
        }
        let mut cached = 0;
        let keys: Vec<Vec<u8>> = self
            .table
            .range(&number_key(client, session, from), Some(&end))
            .map(|(key, value)| {
                cached += cached_bytes(value);
                key
            })
            .collect();
        for key in &keys {
            self.table.remove(key);
        }
        (keys.len() as u64, cached)
    }

    fn forget_share(&mut self, client: &PublicKey, numbers: u64, cached: u64) {
        if let Some(share) = self.shares.get_mut(client) {
            share.numbers -= numbers;
            share.cached -= cached;
        }
    }

    /// Drops a session and everything in it; returns how many numbers that were.
    fn drop_session(&mut self, client: &PublicKey, id: SessionId) -> u64 {
        let Some(value) = self.table.remove(&session_key(client, id)) else { return 0 };
        let session: Session = stored(&value);
        let (numbers, cached) = self.remove_numbers(client, id, session.low, None);
        assert_eq!((numbers, cached), (session.numbers, session.cached), "the numbers of a session of {client:?}");
        self.forget_share(client, numbers, cached);
        if let Some(share) = self.shares.get_mut(client) {
            share.ages.remove(&(session.last_valid_until, id));
            if share.ages.is_empty() {
                self.shares.remove(client);
            }
        }
        let forgotten = self.table.get(&client.0).map_or(0, stored::<u64>).max(session.last_valid_until);
        self.table.insert(&client.0, encode(&forgotten));
        numbers
    }

    /// Looks at the next client after `cursor` and drops its sessions past their courtesy, so that keys that never
    /// come back cost nothing for long. Returns the new cursor.
    pub(super) fn sweep(&mut self, cursor: PublicKey, time: u64, courtesy: u64) -> PublicKey {
        let after = (Bound::Excluded(cursor), Bound::Unbounded);
        let next = self.shares.range(after).next().or_else(|| self.shares.first_key_value());
        let Some((client, _)) = next else { return cursor };
        let client = *client;
        let mut dropped = 0;
        while dropped < SWEEP_NUMBERS_MAX
            && let Some((last_valid_until, session)) = self.shares.get(&client).and_then(|share| share.ages.first())
            && last_valid_until.saturating_add(courtesy) < time
        {
            dropped += self.drop_session(&client, *session);
        }
        client
    }

    /// Reads a table written by another replica or an earlier process, and counts the shares.
    pub(super) fn restore(table: &MerkleMap) -> Result<SessionTable, RestoreError> {
        let malformed = |reason: &str| RestoreError::Malformed { table: SESSION_TABLE, reason: reason.to_owned() };
        let mut shares: BTreeMap<PublicKey, Share> = BTreeMap::new();
        // The session whose numbers are being read, with those that are still to come. They follow it in the order.
        let mut open: Option<(PublicKey, SessionId, Session)> = None;
        let is_complete = |open: &Option<(PublicKey, SessionId, Session)>| {
            open.is_none_or(|(_, _, session)| session.numbers == 0 && session.cached == 0)
        };
        for (key, value) in table {
            match Entry::parse(&key, value).ok_or_else(|| malformed("an entry does not decode"))? {
                Entry::Forgotten => {}
                Entry::Session(client, id, session) => {
                    if !is_complete(&open) || session.numbers == 0 {
                        return Err(malformed("a session miscounts its numbers"));
                    }
                    let share = shares.entry(client).or_default();
                    share.ages.insert((session.last_valid_until, id));
                    share.numbers = share.numbers.saturating_add(session.numbers);
                    share.cached = share.cached.saturating_add(session.cached);
                    open = Some((client, id, session));
                }
                Entry::Number(client, id, number) => {
                    let session = open
                        .as_mut()
                        .filter(|(owner, session, of)| (*owner, *session) == (client, id) && number >= of.low)
                        .map(|(_, _, session)| session)
                        .ok_or_else(|| malformed("a number outside a session"))?;
                    let (Some(numbers), Some(cached)) =
                        (session.numbers.checked_sub(1), session.cached.checked_sub(cached_bytes(value)))
                    else {
                        return Err(malformed("a session miscounts its numbers"));
                    };
                    (session.numbers, session.cached) = (numbers, cached);
                }
            }
        }
        if !is_complete(&open) {
            return Err(malformed("a session miscounts its numbers"));
        }
        Ok(SessionTable { table: table.clone(), shares })
    }
}

/// An entry of the table, for restoring.
enum Entry {
    Forgotten,
    Session(PublicKey, SessionId, Session),
    Number(PublicKey, SessionId, u64),
}

impl Entry {
    fn parse(key: &[u8], value: &[u8]) -> Option<Entry> {
        let (client, rest) = key.split_first_chunk::<32>()?;
        let client = PublicKey(*client);
        if rest.is_empty() {
            return decode::<u64>(value, 8).is_ok().then_some(Entry::Forgotten);
        }
        let (session, rest) = rest.split_first_chunk::<16>()?;
        let session = SessionId(*session);
        if rest.is_empty() {
            return Some(Entry::Session(client, session, decode(value, MAX_VALUE).ok()?));
        }
        let number = u64::from_be_bytes(rest.try_into().ok()?);
        decode::<NumberRecord>(value, MAX_VALUE).ok()?;
        Some(Entry::Number(client, session, number))
    }
}

#[cfg(test)]
mod tests;
