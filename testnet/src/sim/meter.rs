//! What a run costs: messages, bytes and signatures between two moments of virtual time.
//!
//! It counts what replicas say to each other, not what clients ask and hear, and not STATUS, which goes by the clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_crypto::{Claim, PublicKey, Seq, Signature, SignatureScheme, Signer};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;

use super::history::History;
use crate::faults::ManySignatures;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What a leader proposes: PRE-PREPAREs, blocks.
    Proposal,
    /// PREPARE, COMMIT, votes for blocks.
    Vote,
    /// Certificates that travel alone.
    Certificate,
    /// Leaving a view and entering the next: VIEW-CHANGE, NEW-VIEW, TIMEOUT, timeout certificates.
    ViewChange,
    /// CHECKPOINTs and their certificates.
    Checkpoint,
    /// Requests relayed, and whatever is asked for because it is lacking.
    Fetch,
}

/// What a message is for; none for STATUS.
const fn kind(message: &Message) -> Option<Kind> {
    Some(match message {
        Message::PrePrepare(_) | Message::BlockProposal(_) => Kind::Proposal,
        Message::Prepare(_) | Message::Commit(_) | Message::BlockVote(_) => Kind::Vote,
        Message::CommitCertificate(_) | Message::QuorumCertificate(_) => Kind::Certificate,
        Message::ViewChange(_)
        | Message::NewView(_)
        | Message::FetchViewChange { .. }
        | Message::Timeout(_)
        | Message::TimeoutCertificate(_) => Kind::ViewChange,
        Message::Checkpoint(_) | Message::StableCheckpoint(_) | Message::Executed(_) => Kind::Checkpoint,
        Message::Status(_) | Message::HotStuffStatus(_) => return None,
        _ => Kind::Fetch,
    })
}

/// When it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Between two moments, microseconds from the start.
    Between(Micros, Micros),
    /// From the first message that leaves a view after this moment to the next decision, microseconds from the start.
    ViewChange(Micros),
}

/// Messages of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// One for every recipient.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// By kind.
    pub traffic: BTreeMap<Kind, Traffic>,
    /// Signatures that replicas made.
    pub signed: u64,
    /// Signatures that replicas checked.
    pub checked: u64,
    /// Requests in the batches that were decided.
    pub operations: u64,
    /// Batches that were decided.
    pub batches: u64,
    /// How long the requests of this time took, microseconds: the median; none if there were none.
    pub latency: Option<Micros>,
    /// From the last decision before to the first one after, microseconds.
    pub gap: Micros,
    /// Whether the window was closed before the run ended.
    pub complete: bool,
}

impl Measured {
    /// All kinds together.
    pub fn total(&self) -> Traffic {
        self.traffic.values().fold(Traffic::default(), |sum, one| Traffic {
            messages: sum.messages + one.messages,
            bytes: sum.bytes + one.bytes,
        })
    }
}

/// Signatures made and checked by replicas since the run began.
#[derive(Debug, Default)]
struct SignatureCount {
    made: AtomicU64,
    checked: AtomicU64,
}

impl SignatureCount {
    fn read(&self) -> (u64, u64) {
        (self.made.load(Ordering::Relaxed), self.checked.load(Ordering::Relaxed))
    }
}

/// A scheme that counts.
struct CountedScheme {
    inner: Arc<dyn SignatureScheme>,
    count: Arc<SignatureCount>,
}

impl SignatureScheme for CountedScheme {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        self.count.checked.fetch_add(1, Ordering::Relaxed);
        self.inner.verify(key, message, signature)
    }

    fn verify_batch(&self, claims: &[&Claim]) -> bool {
        self.count.checked.fetch_add(claims.len() as u64, Ordering::Relaxed);
        self.inner.verify_batch(claims)
    }
}

/// A key that counts.
struct CountedKey {
    inner: Arc<dyn ManySignatures>,
    count: Arc<SignatureCount>,
}

impl Signer for CountedKey {
    fn public_key(&self) -> PublicKey {
        self.inner.public_key()
    }

    fn sign(&self, message: &[u8]) -> Signature {
        self.count.made.fetch_add(1, Ordering::Relaxed);
        self.inner.sign(message)
    }
}

impl ManySignatures for CountedKey {
    fn sign_again(&self, message: &[u8], nonce: u64) -> Signature {
        self.inner.sign_again(message, nonce)
    }
}

/// The scheme of a run, which counts what it checks if the run is measured.
pub(super) fn counted_scheme(inner: Arc<dyn SignatureScheme>, meter: Option<&Meter>) -> Arc<dyn SignatureScheme> {
    match meter {
        Some(meter) => Arc::new(CountedScheme { inner, count: Arc::clone(&meter.count) }),
        None => inner,
    }
}

/// The key of a replica, which counts what it signs if the run is measured.
pub(super) fn counted_key(inner: Arc<dyn ManySignatures>, meter: Option<&Meter>) -> Arc<dyn ManySignatures> {
    match meter {
        Some(meter) => Arc::new(CountedKey { inner, count: Arc::clone(&meter.count) }),
        None => inner,
    }
}

/// Counts while its window is open.
pub(super) struct Meter {
    window: Window,
    count: Arc<SignatureCount>,
    opened: Option<(Micros, (u64, u64))>,
    closed: Option<Micros>,
    highest: Seq,
    last_decision: Micros,
    measured: Measured,
}

impl Meter {
    pub(super) fn new(window: Window) -> Meter {
        Meter {
            window,
            count: Arc::default(),
            opened: None,
            closed: None,
            highest: Seq(0),
            last_decision: 0,
            measured: Measured::default(),
        }
    }

    /// Time passes. True once the window is closed.
    pub(super) fn tick(&mut self, now: Micros) -> bool {
        if let Window::Between(from, until) = self.window {
            if now >= from && self.opened.is_none() {
                self.open(now);
            }
            if now >= until && self.closed.is_none() {
                self.close(now);
            }
        }
        self.closed.is_some()
    }

    fn open(&mut self, now: Micros) {
        self.opened = Some((now, self.count.read()));
    }

    fn close(&mut self, now: Micros) {
        let Some((_, (made, checked))) = self.opened else { return };
        let (made_then, checked_then) = self.count.read();
        self.measured.signed = made_then - made;
        self.measured.checked = checked_then - checked;
        self.measured.complete = true;
        self.closed = Some(now);
    }

    /// A message leaves for so many recipients.
    pub(super) fn sent(&mut self, now: Micros, message: &Message, bytes: usize, recipients: usize) {
        let Some(kind) = kind(message) else { return };
        if let Window::ViewChange(after) = self.window
            && self.opened.is_none()
            && now >= after
            && kind == Kind::ViewChange
        {
            self.open(now);
        }
        if self.opened.is_some() && self.closed.is_none() {
            let traffic = self.measured.traffic.entry(kind).or_default();
            traffic.messages += recipients as u64;
            traffic.bytes += (bytes * recipients) as u64;
        }
    }

    /// Some replica decided a batch of so many requests.
    pub(super) fn decided(&mut self, now: Micros, seq: Seq, requests: usize) {
        if seq <= self.highest {
            return;
        }
        self.highest = seq;
        if self.opened.is_some() && self.closed.is_none() {
            self.measured.batches += 1;
            self.measured.operations += requests as u64;
            if matches!(self.window, Window::ViewChange(_)) {
                self.measured.gap = now - self.last_decision;
                self.close(now);
            }
        }
        self.last_decision = now;
    }

    pub(super) fn finish(mut self, history: &History) -> Measured {
        if let Some((from, _)) = self.opened {
            let ended = history.all().filter(|asked| asked.at >= from && asked.is_executed());
            let mut took: Vec<Micros> = ended.filter_map(|asked| Some(asked.ended.as_ref()?.0 - asked.at)).collect();
            took.sort_unstable();
            self.measured.latency = took.get(took.len() / 2).copied();
        }
        self.measured
    }
}
