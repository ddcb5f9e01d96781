//! State transfer: fetching the certified state of a checkpoint, and serving it.
//!
//! Target and state root come from a certificate of q CHECKPOINTs, or from f + 1 equal ones if nobody holds the certified
//! state any more, never from what one peer claims (rule P13; BFT-SMaRt #62). Every chunk is checked against the digest
//! expected at its path (rule P14; CometBFT ASA-2025-002). Every snapshot from the stable one on is kept, since a certificate
//! may name it, and for a capped time those that peers fetch, one for each. A fetcher that moves on to a newer checkpoint
//! keeps every subtree whose digest is equal.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::merkle_map::{Assembler, Chunk, ChunkError, MerkleMap};
use quorate_crypto::{Digest, ReplicaId, Seq};

use crate::engine::Now;
use crate::message::Message;
use crate::parameters::Micros;
use crate::state::{Snapshot, StateHeader, TableId};

/// Bytes of one chunk, about.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks asked of one peer at a time.
const OUTSTANDING_PER_PEER: usize = 4;
/// A peer that has not answered within this time is asked no more for a while.
const ANSWER_TIMEOUT: Micros = 1_000_000;
/// A peer that let a request time out rests this long.
const REST: Micros = 2_000_000;
/// A snapshot counts as being fetched this long after the last question about it.
const PIN: Micros = 5_000_000;
/// No snapshot is kept longer than this on account of fetchers. Each peer keeps one: what it asked about last.
const PIN_MAX: Micros = 120_000_000;
/// Longest path a peer may ask for, in nibbles.
const PATH_MAX: usize = 32 * 1024;

struct Held {
    snapshot: Snapshot,
    header: StateHeader,
    since: Micros,
}

/// The snapshot a peer asked about last, and when.
#[derive(Clone, Copy)]
struct Pin {
    seq: Seq,
    at: Micros,
}

#[derive(Debug, Default)]
struct Source {
    outstanding: usize,
    rests_until: Micros,
}

struct Fetch {
    seq: Seq,
    root: Digest,
    header: Option<StateHeader>,
    header_asked: Option<(ReplicaId, Micros)>,
    base: BTreeMap<TableId, MerkleMap>,
    tables: BTreeMap<TableId, Assembler>,
    outstanding: BTreeMap<(TableId, Vec<u8>), (ReplicaId, Micros)>,
    sources: BTreeMap<ReplicaId, Source>,
    /// Served a chunk that did not fit its digest: never asked again in this fetch.
    banned: BTreeSet<ReplicaId>,
    /// Said that they do not hold the state; asked again after the time given (set when it is first looked at): a
    /// snapshot may be on its way to their disks.
    gone: BTreeMap<ReplicaId, Option<Micros>>,
}

/// What a step of the transfer wants done.
#[derive(Debug)]
pub enum Progress {
    /// Nothing finished.
    Going,
    /// The state is complete and its root is the certified one.
    Complete(Snapshot),
    /// No peer holds this state any more; a newer certificate is needed.
    Gone,
}

/// Both roles of one replica.
pub struct Transfer {
    held: Vec<Held>,
    pins: BTreeMap<ReplicaId, Pin>,
    fetch: Option<Fetch>,
    /// What an abandoned fetch had assembled: a base for the next.
    leftover: BTreeMap<TableId, MerkleMap>,
    chunks_received: u64,
}

impl Transfer {
    /// Neither serving nor fetching.
    pub fn new(_own: ReplicaId) -> Transfer {
        Transfer { held: Vec::new(), pins: BTreeMap::new(), fetch: None, leftover: BTreeMap::new(), chunks_received: 0 }
    }

    /// Offers a durable snapshot to others. Everything from the stable checkpoint on is held, L / K + 1 at most: who is
    /// behind can ask for nothing but what is certified, and what is newer may become so only with its help. Below it the
    /// newest is held, and for each peer the one it is fetching: a liar that asks for an old one takes nobody else's.
    pub fn hold(&mut self, now: Now, snapshot: Snapshot, stable: Seq) {
        if self.held.iter().any(|held| held.snapshot.seq >= snapshot.seq) {
            return;
        }
        let newest_below = self.held.iter().map(|held| held.snapshot.seq).filter(|seq| *seq < stable).max();
        let pins = &self.pins;
        self.held.retain(|held| {
            let asked =
                pins.values().any(|pin| pin.seq == held.snapshot.seq && now.monotonic.saturating_sub(pin.at) < PIN);
            let pinned = asked && now.monotonic.saturating_sub(held.since) < PIN_MAX;
            held.snapshot.seq >= stable || Some(held.snapshot.seq) == newest_below || pinned
        });
        let header = snapshot.header();
        self.held.push(Held { snapshot, header, since: now.monotonic });
    }

    /// The state held at a checkpoint.
    pub fn at(&self, seq: Seq) -> Option<&Snapshot> {
        self.held.iter().map(|held| &held.snapshot).find(|snapshot| snapshot.seq == seq)
    }

    /// The states held above a checkpoint, with their roots.
    pub fn roots_above(&self, seq: Seq) -> Vec<(Seq, Digest)> {
        let above = self.held.iter().filter(|held| held.snapshot.seq > seq);
        above.map(|held| (held.snapshot.seq, held.header.digest())).collect()
    }

    /// The newest state held.
    pub fn newest(&self) -> Option<&Snapshot> {
        self.held.last().map(|held| &held.snapshot)
    }

    /// Whether a fetch is under way.
    pub fn is_active(&self) -> bool {
        self.fetch.is_some()
    }

    /// Chunks accepted since the process began.
    pub fn chunks_received(&self) -> u64 {
        self.chunks_received
    }

    /// The checkpoint being fetched.
    pub fn target(&self) -> Option<Seq> {
        self.fetch.as_ref().map(|fetch| fetch.seq)
    }

    /// Answers a question about the states held.
    pub fn answer(&mut self, now: Now, from: ReplicaId, question: &Message) -> Option<Message> {
        let (seq, path) = match question {
            Message::FetchState { seq } => (*seq, None),
            Message::FetchChunk { seq, table, path } if path.len() <= PATH_MAX => (*seq, Some((*table, path))),
            _ => return None,
        };
        let Some(held) = self.held.iter().find(|held| held.snapshot.seq == seq) else {
            return Some(Message::StateGone { seq });
        };
        self.pins.insert(from, Pin { seq, at: now.monotonic });
        match path {
            None => Some(Message::State { header: held.header.clone() }),
            Some((table, path)) => {
                let chunk = held.snapshot.tables.get(&table)?.chunk(path, CHUNK_BYTES)?;
                Some(Message::Chunk { seq, table, path: path.clone(), chunk })
            }
        }
    }

    /// Begins to fetch the state `root` at `seq`, or moves on to it. `base` is the fetcher's own older state.
    pub fn start(&mut self, seq: Seq, root: Digest, base: Option<&Snapshot>) {
        if self.fetch.as_ref().is_some_and(|fetch| fetch.seq >= seq) {
            return;
        }
        let mut bases = base.map(|snapshot| snapshot.tables.clone()).unwrap_or_default();
        bases.extend(std::mem::take(&mut self.leftover));
        if let Some(old) = self.fetch.take() {
            bases.extend(old.tables.iter().map(|(table, assembler)| (*table, assembler.partial())));
        }
        self.fetch = Some(Fetch {
            seq,
            root,
            header: None,
            header_asked: None,
            base: bases,
            tables: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            sources: BTreeMap::new(),
            banned: BTreeSet::new(),
            gone: BTreeMap::new(),
        });
    }

    /// Stops fetching; what was assembled serves as a base later.
    pub fn abandon(&mut self) {
        if let Some(fetch) = self.fetch.take() {
            self.leftover = fetch.tables.iter().map(|(table, assembler)| (*table, assembler.partial())).collect();
        }
    }

    /// Asks for what is missing, within the limits.
    pub fn questions(&mut self, now: Now, peers: &[ReplicaId]) -> Vec<(ReplicaId, Message)> {
        let Some(fetch) = &mut self.fetch else { return Vec::new() };
        fetch.expire(now);
        if fetch.header.is_none() {
            return fetch.ask_header(now, peers);
        }
        fetch.ask_chunks(now, peers)
    }

    /// When [`Transfer::questions`] has something to do again.
    pub fn wake(&self) -> Option<Micros> {
        let fetch = self.fetch.as_ref()?;
        let header = fetch.header_asked.map(|(_, deadline)| deadline);
        let chunks = fetch.outstanding.values().map(|(_, deadline)| *deadline).min();
        let rests = fetch.sources.values().map(|source| source.rests_until).filter(|until| *until > 0).min();
        let gone = fetch.gone.values().flatten().copied();
        header.into_iter().chain(chunks).chain(rests).chain(gone).min()
    }

    /// Takes an answer.
    pub fn take(&mut self, from: ReplicaId, answer: Message) -> Progress {
        let Some(fetch) = &mut self.fetch else { return Progress::Going };
        match answer {
            Message::StateGone { seq } if seq == fetch.seq => fetch.source_lacks_it(from),
            Message::State { header } => fetch.take_header(from, header),
            Message::Chunk { seq, table, path, chunk } if seq == fetch.seq => {
                self.chunks_received += u64::from(fetch.take_chunk(from, table, path, &chunk));
            }
            _ => {}
        }
        if fetch.is_complete() { self.finish() } else { Progress::Going }
    }

    /// How many peers said lately that they do not hold the state.
    pub fn lacking(&self) -> usize {
        self.fetch.as_ref().map_or(0, |fetch| fetch.gone.len())
    }

    /// Whether nobody can be asked at present and no answer is awaited.
    pub fn is_stuck(&self, now: Now, peers: &[ReplicaId]) -> bool {
        self.fetch.as_ref().is_some_and(|fetch| {
            fetch.header_asked.is_none()
                && fetch.outstanding.is_empty()
                && !peers.iter().any(|peer| fetch.usable(now, *peer))
        })
    }

    fn finish(&mut self) -> Progress {
        let Some(fetch) = self.fetch.take() else { return Progress::Going };
        let mut tables = BTreeMap::new();
        for (table, assembler) in fetch.tables {
            let Some(map) = assembler.finish() else { return Progress::Gone };
            tables.insert(table, map);
        }
        Progress::Complete(Snapshot { seq: fetch.seq, tables })
    }
}

impl Fetch {
    fn expire(&mut self, now: Now) {
        for until in self.gone.values_mut() {
            until.get_or_insert(now.monotonic + REST);
        }
        self.gone.retain(|_, until| until.is_some_and(|until| until > now.monotonic));
        let late: Vec<(TableId, Vec<u8>)> = self
            .outstanding
            .iter()
            .filter(|(_, (_, deadline))| *deadline <= now.monotonic)
            .map(|(key, _)| key.clone())
            .collect();
        for key in late {
            if let Some((peer, _)) = self.outstanding.remove(&key) {
                let source = self.sources.entry(peer).or_default();
                source.outstanding = source.outstanding.saturating_sub(1);
                source.rests_until = now.monotonic + REST;
            }
        }
        if let Some((peer, deadline)) = self.header_asked
            && deadline <= now.monotonic
        {
            self.header_asked = None;
            self.sources.entry(peer).or_default().rests_until = now.monotonic + REST;
        }
        for source in self.sources.values_mut() {
            if source.rests_until <= now.monotonic {
                source.rests_until = 0;
            }
        }
    }

    fn usable(&self, now: Now, peer: ReplicaId) -> bool {
        !self.banned.contains(&peer)
            && !self.gone.contains_key(&peer)
            && self.sources.get(&peer).is_none_or(|source| source.rests_until <= now.monotonic)
    }

    fn ask_header(&mut self, now: Now, peers: &[ReplicaId]) -> Vec<(ReplicaId, Message)> {
        if self.header_asked.is_some() {
            return Vec::new();
        }
        let Some(peer) = peers.iter().copied().find(|peer| self.usable(now, *peer)) else { return Vec::new() };
        self.header_asked = Some((peer, now.monotonic + ANSWER_TIMEOUT));
        vec![(peer, Message::FetchState { seq: self.seq })]
    }

    fn ask_chunks(&mut self, now: Now, peers: &[ReplicaId]) -> Vec<(ReplicaId, Message)> {
        let mut questions = Vec::new();
        let usable: Vec<ReplicaId> = peers.iter().copied().filter(|peer| self.usable(now, *peer)).collect();
        if usable.is_empty() {
            return questions;
        }
        let room = usable.len() * OUTSTANDING_PER_PEER;
        for (table, assembler) in &self.tables {
            for path in assembler.wanted(room + self.outstanding.len()) {
                let key = (*table, path);
                if self.outstanding.contains_key(&key) {
                    continue;
                }
                let busy = |peer: &ReplicaId| self.sources.get(peer).map_or(0, |source| source.outstanding);
                let Some(peer) = usable.iter().copied().min_by_key(busy) else { return questions };
                if busy(&peer) >= OUTSTANDING_PER_PEER {
                    return questions;
                }
                self.sources.entry(peer).or_default().outstanding += 1;
                questions.push((peer, Message::FetchChunk { seq: self.seq, table: key.0, path: key.1.clone() }));
                self.outstanding.insert(key, (peer, now.monotonic + ANSWER_TIMEOUT));
            }
        }
        questions
    }

    fn source_lacks_it(&mut self, from: ReplicaId) {
        self.gone.entry(from).or_insert(None);
        if self.header_asked.is_some_and(|(peer, _)| peer == from) {
            self.header_asked = None;
        }
        self.outstanding.retain(|_, (peer, _)| *peer != from);
        if let Some(source) = self.sources.get_mut(&from) {
            source.outstanding = 0;
        }
    }

    /// The header is what the certificate's digest names, or it is nothing (rule P13).
    fn take_header(&mut self, from: ReplicaId, header: StateHeader) {
        if self.header.is_some() || header.seq != self.seq {
            return;
        }
        if header.digest() != self.root || !header.is_well_formed() {
            self.banned.insert(from);
            self.header_asked = None;
            return;
        }
        let empty = MerkleMap::new();
        for (table, root) in &header.tables {
            let base = self.base.get(table).unwrap_or(&empty);
            self.tables.insert(*table, Assembler::new(*root, base));
        }
        self.base.clear();
        self.header = Some(header);
        self.header_asked = None;
    }

    /// Whether the chunk was asked for and fits the digest expected at its path.
    fn take_chunk(&mut self, from: ReplicaId, table: TableId, path: Vec<u8>, chunk: &Chunk) -> bool {
        let key = (table, path);
        if self.outstanding.get(&key).is_none_or(|(peer, _)| *peer != from) {
            return false;
        }
        self.outstanding.remove(&key);
        if let Some(source) = self.sources.get_mut(&from) {
            source.outstanding = source.outstanding.saturating_sub(1);
        }
        let Some(assembler) = self.tables.get_mut(&table) else { return false };
        match assembler.add(&key.1, chunk) {
            Ok(()) => true,
            // Two chunks crossed and this one's place is filled already: nobody's fault.
            Err(ChunkError::NotWanted) => false,
            Err(_) => {
                self.banned.insert(from);
                false
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.header.is_some() && self.tables.values().all(Assembler::is_complete)
    }
}

#[cfg(test)]
mod tests;
