//! A simulated client: the production role, and a mind of its own about what to ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_crypto::encoding::decode;
use quorate_crypto::{Committee, ReplicaId, Signer};
use quorate_kv::{
    Compare, CompareTarget, DeleteRequest, KeyRange, Operation, PutRequest, RangeRequest, Relation, TxnOperation,
    TxnRequest,
};
use quorate_protocol::client::message::{ClientMessage, ReplicaMessage};
use quorate_protocol::client::{ClientParameters, ClientRole, Output, RequestEnding, Ticket, WatchStart};
use quorate_protocol::engine::Now;
use quorate_protocol::parameters::Micros;
use quorate_protocol::reply::{Outcome, Reply};
use quorate_protocol::request::{self, SessionId};
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use super::history::{Ended, History};
use super::oracle::Oracles;
use super::plan::Plan;
use super::report::Violation;

/// Longer than any run.
const PATIENCE: Micros = 1_000_000_000_000;

/// Serializable reads of one client in a run.
const READS_OF_A_CLIENT: usize = 10;
/// How long a serializable read may take.
const READ_PATIENCE: Micros = 3_000_000;

/// A client.
pub(super) struct Client {
    index: usize,
    role: ClientRole,
    asked: usize,
    pub(super) left: usize,
    in_flight_max: usize,
    keys: usize,
    open: BTreeMap<Ticket, usize>,
    /// The value it put last, to compare with.
    last_value: Vec<u8>,
    pub(super) wake_at: Option<Micros>,
    /// Whether it asks more than requests.
    curious: bool,
    reads_left: usize,
    reads: BTreeMap<Ticket, Vec<u8>>,
    watch: Option<(Ticket, KeyRange)>,
    /// Receipts asked for, by the id of the question.
    receipts: BTreeMap<u64, Reply>,
    /// Told but not judged yet.
    verdict: Result<(), Violation>,
    /// Replicas it found contradicting f + 1 others.
    pub(super) accused: Vec<ReplicaId>,
}

/// A message of a client on its way.
pub(super) struct Outgoing {
    pub(super) to: Vec<ReplicaId>,
    pub(super) message: ClientMessage,
}

fn now(at: Micros) -> Now {
    Now { monotonic: at, wall: 1_700_000_000_000 + at / 1_000 }
}

impl Client {
    pub(super) fn new(
        plan: &Plan,
        index: usize,
        committee: Committee,
        key: Arc<dyn Signer>,
        session: [u8; 16],
    ) -> Client {
        let parameters = ClientParameters { lifetime: plan.lifetime, ..ClientParameters::default() };
        let mut role = ClientRole::new(committee.clone(), key, SessionId(session), parameters);
        for replica in committee.ids() {
            role.link_up(now(0), replica);
        }
        Client {
            index,
            role,
            asked: 0,
            left: plan.operations_per_client,
            in_flight_max: plan.in_flight,
            keys: plan.keys,
            open: BTreeMap::new(),
            last_value: Vec::new(),
            wake_at: None,
            curious: plan.curious,
            reads_left: READS_OF_A_CLIENT,
            reads: BTreeMap::new(),
            watch: None,
            receipts: BTreeMap::new(),
            verdict: Ok(()),
            accused: Vec::new(),
        }
    }

    pub(super) fn link_up(&mut self, at: Micros, replica: ReplicaId) {
        self.role.link_up(now(at), replica);
    }

    pub(super) fn link_down(&mut self, replica: ReplicaId) {
        self.role.link_down(replica);
    }

    pub(super) fn timer(&mut self, at: Micros) {
        self.role.timer(now(at));
    }

    pub(super) fn wake(&self) -> Option<Micros> {
        self.role.wake()
    }

    /// Asks for something, if it has not asked for enough.
    pub(super) fn act(
        &mut self,
        at: Micros,
        random: &mut ChaCha12Rng,
        history: &mut History,
        oracles: &mut Oracles,
    ) -> bool {
        let curious = self.curious && self.be_curious(at, random, oracles);
        self.submit(at, random, history) || curious
    }

    /// Watches, reads without ordering. True if something is to be sent.
    fn be_curious(&mut self, at: Micros, random: &mut ChaCha12Rng, oracles: &mut Oracles) -> bool {
        let range_of = |range: &KeyRange| {
            let range = Operation::Range(RangeRequest::new(range.clone()));
            request::Operation { service: quorate_kv::SERVICE, bytes: range.to_bytes() }
        };
        let key = vec![b'a' + random.random_range(0..self.keys) as u8];
        let mut asked = false;
        if self.watch.is_none() {
            let range = if random.random_bool(0.5) { KeyRange::all() } else { KeyRange::single(key.clone()) };
            let start = if random.random_bool(0.5) { WatchStart::Now } else { WatchStart::Revision(1) };
            if let Ok(ticket) = self.role.watch(now(at), range_of(&range), start) {
                oracles.told.watch(self.index, (start != WatchStart::Now).then_some(1));
                self.watch = Some((ticket, range));
                asked = true;
            }
        }
        if self.reads_left > 0 && random.random_bool(0.3) {
            let operation = range_of(&KeyRange::single(key.clone()));
            if let Ok(ticket) = self.role.read(now(at), operation, None, READ_PATIENCE) {
                self.reads_left -= 1;
                self.reads.insert(ticket, key);
                asked = true;
            }
        }
        asked
    }

    /// What it was told since the last time, judged.
    pub(super) fn verdict(&mut self) -> Result<(), Violation> {
        std::mem::replace(&mut self.verdict, Ok(()))
    }

    fn judge(&mut self, verdict: Result<(), Violation>) {
        if self.verdict.is_ok() {
            self.verdict = verdict;
        }
    }

    fn submit(&mut self, at: Micros, random: &mut ChaCha12Rng, history: &mut History) -> bool {
        if self.left == 0 || self.open.len() >= self.in_flight_max {
            return false;
        }
        let operation = self.choose(random);
        let bytes = request::Operation { service: quorate_kv::SERVICE, bytes: operation.to_bytes() };
        match self.role.submit(now(at), vec![bytes], PATIENCE) {
            Ok(ticket) => {
                self.left -= 1;
                self.asked += 1;
                self.open.insert(ticket, history.ask(self.index, self.asked, at, operation));
                true
            }
            Err(_) => false,
        }
    }

    fn choose(&mut self, random: &mut ChaCha12Rng) -> Operation {
        let key = vec![b'a' + random.random_range(0..self.keys) as u8];
        let value = format!("{}.{}", self.index, self.asked).into_bytes();
        match random.random_range(0..10) {
            0..4 => {
                self.last_value.clone_from(&value);
                Operation::Put(PutRequest::new(key, value))
            }
            4..7 => Operation::Range(RangeRequest::new(KeyRange::single(key))),
            7 => Operation::Delete(DeleteRequest::new(KeyRange::single(key))),
            _ => {
                let target = if random.random_bool(0.5) {
                    CompareTarget::Value(self.last_value.clone())
                } else {
                    CompareTarget::ModRevision(0)
                };
                let range = KeyRange::single(key.clone());
                let compare = vec![Compare { range: range.clone(), relation: Relation::Equal, target }];
                let success = vec![TxnOperation::Put(PutRequest::new(key, value))];
                let failure = vec![TxnOperation::Range(RangeRequest::new(range))];
                Operation::Txn(TxnRequest { compare, success, failure })
            }
        }
    }

    /// A frame from a replica. Liars may hand out what they like for a receipt.
    pub(super) fn receive(&mut self, at: Micros, from: ReplicaId, bytes: &[u8], liar: bool, oracles: &mut Oracles) {
        let limit = 2 * quorate_protocol::client::message::CLIENT_FRAME_MAX;
        let Ok(message) = decode::<ReplicaMessage>(bytes, limit) else { return };
        if let ReplicaMessage::Receipt { id, receipt } = &message
            && let Some(reply) = self.receipts.get(id)
            && let Some((signed, path)) = receipt
            && !liar
        {
            let verdict = oracles.told.receipt(from, reply, signed, path);
            self.judge(verdict);
        }
        self.role.received(now(at), from, message);
    }

    /// Asks one replica, or another, for a receipt.
    fn ask_for_receipt(&mut self, reply: &Reply, outgoing: &mut Vec<Outgoing>) {
        if !self.curious || !matches!(reply.outcome, Outcome::Results(_)) {
            return;
        }
        let id = self.receipts.len() as u64;
        let replicas = self.role.committee().size() as u64;
        let to = vec![ReplicaId(((self.index as u64 + id) % replicas) as u16)];
        outgoing.push(Outgoing { to, message: ClientMessage::Receipt { id, seq: reply.seq, index: reply.index } });
        self.receipts.insert(id, reply.clone());
    }

    /// What it wants sent; what ended goes to the history, what it signed to the oracles.
    pub(super) fn drain(&mut self, at: Micros, history: &mut History, oracles: &mut Oracles) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        while let Some(output) = self.role.poll() {
            match output {
                Output::Send { to, message } => {
                    if let ClientMessage::Submit(request) = &message {
                        oracles.signed(request);
                    }
                    outgoing.push(Outgoing { to, message });
                }
                Output::Request { ticket, ending } => {
                    let Some(index) = self.open.remove(&ticket) else { continue };
                    let ended = match ending {
                        RequestEnding::Executed { reply, .. } => {
                            history.signed(index, reply.request);
                            self.ask_for_receipt(&reply, &mut outgoing);
                            Ended::Executed(reply)
                        }
                        RequestEnding::Refused { reason, requests, .. } => {
                            for request in &requests {
                                history.signed(index, request.digest());
                            }
                            Ended::Refused(reason)
                        }
                        RequestEnding::Unknown { requests, .. } => {
                            for request in &requests {
                                history.signed(index, request.digest());
                            }
                            Ended::Unknown
                        }
                    };
                    history.end(index, at, ended);
                }
                Output::Accusation(accusation) => self.accused.push(accusation.replica),
                Output::Read { ticket, ending } => {
                    if let Some(key) = self.reads.remove(&ticket) {
                        let verdict = oracles.told.read(self.index, &key, &ending);
                        self.judge(verdict);
                    }
                }
                Output::Watch { ticket, delivery } => {
                    if let Some((_, range)) = self.watch.clone().filter(|(of, _)| *of == ticket) {
                        let verdict = oracles.told.watched(self.index, &range, &delivery);
                        self.judge(verdict);
                    }
                }
                Output::Status { .. } => {}
            }
        }
        outgoing
    }
}
