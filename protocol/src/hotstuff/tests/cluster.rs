//! The harness: replicas, their records, a queue of messages in flight and a filter that loses some.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{
    ClusterId, Committee, Digest, Ed25519, Epoch, FaultModel, Incarnation, Member, ReplicaId, SecretKey, Seq, Signed,
    Signer, Verified, Verifier,
};

use crate::engine::{Decided, Engine, Halt, Input, Now, Recipients, RecordIndex, Step};
use crate::evidence::Evidence;
use crate::hotstuff::Replica;
use crate::message::{Message, MessageLimits};
use crate::parameters::Parameters;
use crate::pbft::Setup;
use crate::record::Record;
use crate::rejoin::{self, Rejoined, rejoin_statement};
use crate::request::{Operation, Request, RequestContent, SessionId};
use crate::state::{Snapshot, TableId};

pub type Filter = Box<dyn FnMut(ReplicaId, ReplicaId, &Message) -> bool>;
pub type Tamper = Box<dyn FnMut(ReplicaId, &mut Message)>;
pub type Installed = Box<dyn FnMut(&Replica)>;

pub fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

pub fn committee(n: u16) -> Arc<Committee> {
    let members = (0..n).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    Arc::new(Committee::new(ClusterId(Digest([7; 32])), Epoch(0), FaultModel::Byzantine, members).expect("committee"))
}

pub fn parameters() -> Parameters {
    Parameters { window: 16, checkpoint_interval: 4, ..Parameters::default() }
}

pub fn request(client: u8, number: u64) -> Request {
    let key = SecretKey::from_seed(&[100 + client; 32]);
    RequestContent {
        client: key.public_key(),
        session: SessionId([client; 16]),
        number,
        acknowledged_below: 1,
        valid_until: 1_000_000,
        operations: vec![Operation { service: 1, bytes: number.to_be_bytes().to_vec() }],
    }
    .sign(committee(4).cluster(), &key)
}

/// Every statement a message carries that its sender signed.
pub fn signed_by(from: ReplicaId, message: &Message) -> Vec<Signed> {
    let statements = match message {
        Message::BlockProposal(message) => vec![message.signed],
        Message::BlockVote(signed) | Message::Checkpoint(signed) => vec![*signed],
        Message::Timeout(message) => vec![message.signed],
        _ => vec![],
    };
    statements.into_iter().filter(|signed| signed.signer() == from).collect()
}

/// The kind of a message, for counting.
pub fn kind_of(message: &Message) -> &'static str {
    match message {
        Message::BlockProposal(_) => "proposal",
        Message::BlockVote(_) => "vote",
        Message::Timeout(_) => "timeout",
        Message::QuorumCertificate(_) => "qc",
        Message::TimeoutCertificate(_) => "tc",
        Message::HotStuffStatus(_) => "status",
        Message::FetchBlocks(_) => "fetch-blocks",
        Message::Blocks(_) => "blocks",
        Message::Requests(_) => "requests",
        Message::Chunk { .. } => "chunk",
        Message::State { .. } => "state",
        Message::Checkpoint(_) => "checkpoint",
        _ => "other",
    }
}

pub struct Cluster {
    pub committee: Arc<Committee>,
    pub verifier: Verifier,
    pub replicas: BTreeMap<ReplicaId, Replica>,
    pub records: BTreeMap<ReplicaId, Vec<(RecordIndex, Record)>>,
    pub decided: BTreeMap<ReplicaId, BTreeMap<Seq, Decided>>,
    pub snapshots: BTreeMap<ReplicaId, Snapshot>,
    pub states: BTreeMap<ReplicaId, MerkleMap>,
    /// The configuration tables, of which only rejoins are of interest here.
    pub tables: BTreeMap<ReplicaId, MerkleMap>,
    /// Replicas whose log is marked as untrusted.
    pub untrusted: BTreeSet<ReplicaId>,
    /// Everything that each replica said in its own name, in all its lives.
    pub said: BTreeMap<ReplicaId, Vec<Signed>>,
    pub lives: u64,
    pub evidence: BTreeMap<ReplicaId, Vec<Evidence>>,
    pub halts: BTreeMap<ReplicaId, Halt>,
    pub queue: VecDeque<(ReplicaId, ReplicaId, Message)>,
    pub filter: Filter,
    /// What a lying sender makes of its messages on their way.
    pub tamper: Tamper,
    /// Sees each replica that took a fetched state, before execution has it.
    pub installed: Installed,
    /// Logs are not marked as trusted, and nobody is told that they are.
    pub mark_waits: bool,
    /// Whose snapshots become durable only when the next one is taken.
    pub slow_store: Option<ReplicaId>,
    not_durable: Option<Snapshot>,
    /// States that were fetched, and of which a crash may still take everything.
    fetched: BTreeMap<ReplicaId, Seq>,
    interval: u64,
    pub now: Now,
    pub delivered: u64,
    /// Everything that was sent, by kind.
    pub sent: BTreeMap<&'static str, u64>,
    next: BTreeMap<ReplicaId, u64>,
}

impl Cluster {
    pub fn new(n: u16) -> Cluster {
        Cluster::with_parameters(n, parameters())
    }

    pub fn with_parameters(n: u16, parameters: Parameters) -> Cluster {
        let committee = committee(n);
        let verifier = Verifier::new(Arc::new(Ed25519));
        let mut cluster = Cluster {
            committee: Arc::clone(&committee),
            verifier: verifier.clone(),
            replicas: BTreeMap::new(),
            records: BTreeMap::new(),
            decided: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            states: BTreeMap::new(),
            tables: BTreeMap::new(),
            untrusted: BTreeSet::new(),
            said: BTreeMap::new(),
            lives: 0,
            evidence: BTreeMap::new(),
            halts: BTreeMap::new(),
            queue: VecDeque::new(),
            filter: Box::new(|_, _, _| true),
            tamper: Box::new(|_, _| {}),
            installed: Box::new(|_| {}),
            mark_waits: false,
            slow_store: None,
            not_durable: None,
            fetched: BTreeMap::new(),
            interval: parameters.checkpoint_interval,
            now: Now { monotonic: 1_000_000, wall: 1_000 },
            delivered: 0,
            sent: BTreeMap::new(),
            next: BTreeMap::new(),
        };
        for id in committee.ids() {
            let setup = cluster.setup(id, &parameters);
            cluster.replicas.insert(id, Replica::new(setup));
            cluster.next.insert(id, 1);
            cluster.states.insert(id, MerkleMap::new());
        }
        cluster
    }

    pub fn setup(&self, id: ReplicaId, parameters: &Parameters) -> Setup {
        Setup {
            protocol: quorate_crypto::Protocol::HotStuff,
            id,
            incarnation: Incarnation(0),
            rejoin_seed: quorate_crypto::Digest::of(quorate_crypto::Domain::Fingerprint, &[&self.lives.to_be_bytes()])
                .0,
            committee: Arc::clone(&self.committee),
            parameters: parameters.clone(),
            signer: Arc::new(key(id.0)),
            verifier: self.verifier.clone(),
        }
    }

    /// Kills a replica and starts it again from what its disk holds.
    pub fn restart(&mut self, id: ReplicaId, parameters: &Parameters) {
        // Another process, with other random bytes.
        self.lives += 1;
        let setup = self.setup(id, parameters);
        let records = self.records.get(&id).cloned().unwrap_or_default();
        let snapshot = self.snapshots.get(&id).cloned();
        let trusted = !self.untrusted.contains(&id);
        let replica = Replica::recover(setup, self.now, records, snapshot.clone(), trusted);
        if let Some(vote) = replica.last_vote().filter(|vote| vote.view > replica.tree.committed().view) {
            assert!(replica.tree.holds(&vote.block), "{id:?} lost a block it voted for");
        }
        self.fetched.remove(&id);
        if self.slow_store == Some(id) {
            self.not_durable = None;
        }
        let table = |number| {
            snapshot.as_ref().and_then(|snapshot| snapshot.tables.get(&TableId(number)).cloned()).unwrap_or_default()
        };
        self.states.insert(id, table(16));
        self.tables.insert(id, table(2));
        self.replicas.insert(id, replica);
        self.input(id, Input::Timer);
    }

    /// Takes a replica's disk away and starts it with the one that plain `init` makes.
    pub fn wipe(&mut self, id: u16, parameters: &Parameters) {
        let id = ReplicaId(id);
        self.records.remove(&id);
        self.snapshots.remove(&id);
        self.next.insert(id, 1);
        self.untrusted.insert(id);
        self.restart(id, parameters);
        self.link(id);
    }

    /// The links of a replica come up.
    pub fn link(&mut self, id: ReplicaId) {
        for other in self.replicas.keys().copied().filter(|other| *other != id).collect::<Vec<_>>() {
            self.input(other, Input::LinkUp(id));
            self.input(id, Input::LinkUp(other));
        }
    }

    /// No replica ever said two things that convict it, in whatever lives.
    pub fn assert_no_contradiction(&self) {
        for (id, said) in &self.said {
            for (index, first) in said.iter().enumerate() {
                for second in &said[index + 1..] {
                    assert_eq!(crate::evidence::contradict(first, second), None, "{id:?}: {first:?}, {second:?}");
                }
            }
        }
    }

    pub fn input(&mut self, id: ReplicaId, input: Input) {
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let step = replica.step(self.now, input);
        self.take(id, step);
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let step = replica.step(self.now, Input::TurnEnd);
        self.take(id, step);
    }

    fn take(&mut self, id: ReplicaId, step: Step) {
        let next = self.next.entry(id).or_insert(1);
        for record in step.records {
            self.records.entry(id).or_default().push((RecordIndex(*next), record));
            *next += 1;
        }
        if let Some(cut) = step.cut {
            self.records.entry(id).or_default().retain(|(index, _)| *index >= cut);
        }
        if let Some(halt) = step.halt {
            self.halts.insert(id, halt);
        }
        self.evidence.entry(id).or_default().extend(step.evidence);
        if step.distrust_log {
            self.untrusted.insert(id);
        }
        for send in step.sends {
            *self.sent.entry(kind_of(&send.message)).or_default() += 1;
            for signed in signed_by(id, &send.message) {
                let said = self.said.entry(id).or_default();
                if !said.contains(&signed) {
                    said.push(signed);
                }
            }
            let to: Vec<ReplicaId> = match send.to {
                Recipients::Others => self.committee.ids().filter(|other| *other != id).collect(),
                Recipients::One(to) => vec![to],
            };
            for to in to {
                self.queue.push_back((id, to, send.message.clone()));
            }
        }
        if let Some(snapshot) = step.install {
            (self.installed)(&self.replicas[&id]);
            self.fetched.insert(id, snapshot.seq);
            self.states.insert(id, snapshot.tables.get(&TableId(16)).cloned().unwrap_or_default());
            self.tables.insert(id, snapshot.tables.get(&TableId(2)).cloned().unwrap_or_default());
            self.input(id, Input::Rejoined(Rejoined::of_snapshot(&snapshot)));
            self.store(id, snapshot);
        }
        for decided in step.decided {
            self.execute(id, decided);
        }
        if step.trust_log.is_some() {
            assert_eq!(self.fetched.get(&id), None, "{id:?} trusts its log before it holds the state durably");
        }
        if step.trust_log.is_some() && !self.mark_waits {
            self.untrusted.remove(&id);
            self.input(id, Input::LogTrusted);
        }
    }

    /// The slow store is done with the last snapshot, too.
    pub fn store_last(&mut self) {
        if let (Some(id), Some(snapshot)) = (self.slow_store.take(), self.not_durable.take()) {
            self.store(id, snapshot);
        }
    }

    fn store(&mut self, id: ReplicaId, mut snapshot: Snapshot) {
        if self.slow_store == Some(id) {
            let Some(before) = self.not_durable.replace(snapshot) else { return };
            snapshot = before;
        }
        let root = snapshot.header().digest();
        self.snapshots.insert(id, snapshot.clone());
        self.fetched.retain(|of, seq| *of != id || *seq > snapshot.seq);
        self.input(id, Input::CheckpointStored { snapshot, root });
    }

    fn execute(&mut self, id: ReplicaId, decided: Decided) {
        let seq = decided.seq;
        let state = self.states.entry(id).or_default();
        for request in &decided.requests {
            state.insert(request.digest().as_bytes(), seq.0.to_be_bytes().to_vec());
        }
        let results = state.digest();
        let table = self.tables.entry(id).or_default();
        let rejoins: Vec<Signed> = decided.requests.iter().filter_map(|request| rejoin_statement(request)).collect();
        let changed = rejoins.iter().filter(|statement| rejoin::execute(table, statement, seq)).count() > 0;
        let snapshot =
            Snapshot { seq, tables: BTreeMap::from([(TableId(2), table.clone()), (TableId(16), state.clone())]) };
        let rejoined = Rejoined::read(table).expect("well formed");
        self.decided.entry(id).or_default().insert(seq, decided);
        if changed {
            self.input(id, Input::Rejoined(rejoined));
        }
        self.input(id, Input::Executed { seq, results, next_deadline: None });
        if seq.0.is_multiple_of(self.interval) {
            self.store(id, snapshot);
        }
    }

    /// Delivers what is in flight until nothing is.
    pub fn settle(&mut self) {
        let mut budget = 200_000;
        while let Some((from, to, mut message)) = self.queue.pop_front() {
            (self.tamper)(from, &mut message);
            budget -= 1;
            assert!(budget > 0, "the network never settles");
            if (self.filter)(from, to, &message) {
                self.deliver(from, to, message);
            }
        }
    }

    /// Lets a millisecond pass, in which every message in flight arrives and none of the answers to it.
    pub fn hop(&mut self) {
        self.now.monotonic += 1_000;
        self.now.wall += 1;
        for (from, to, mut message) in std::mem::take(&mut self.queue) {
            (self.tamper)(from, &mut message);
            if (self.filter)(from, to, &message) {
                self.deliver(from, to, message);
            }
        }
        for id in self.replicas.keys().copied().collect::<Vec<_>>() {
            self.input(id, Input::Timer);
        }
    }

    pub fn deliver(&mut self, from: ReplicaId, to: ReplicaId, message: Message) {
        self.delivered += 1;
        if let Message::Requests(requests) = message {
            for outcome in self.verifier.verify_all(requests.clone(), &self.committee, &()).into_iter().zip(requests) {
                match outcome {
                    // As the driver does: execution is asked first.
                    (Ok(request), _) if self.has_executed(to, &request) => {}
                    (Ok(request), _) => {
                        self.input(to, Input::Requests { from: Some(from), requests: vec![request] });
                    }
                    (Err(_), request) => self.input(to, Input::InvalidRequest(Box::new(request))),
                }
            }
            return;
        }
        let limits = MessageLimits { window: parameters().window };
        let Ok(message) = self.verifier.verify(message, &self.committee, &limits) else { return };
        self.input(to, Input::Message { from, message });
    }

    fn has_executed(&self, id: ReplicaId, request: &Request) -> bool {
        let digest = request.digest();
        let wanted = self.replicas.get(&id).is_some_and(|replica| replica.wants(&digest));
        !wanted && self.states.get(&id).is_some_and(|state| state.contains_key(digest.as_bytes()))
    }

    pub fn verified(&self, request: &Request) -> Verified<Request> {
        self.verifier.verify(request.clone(), &self.committee, &()).expect("valid request")
    }

    /// A client gives a request to every replica that runs.
    pub fn submit(&mut self, request: &Request) {
        for id in self.replicas.keys().copied().collect::<Vec<_>>() {
            let verified = self.verified(request);
            self.input(id, Input::Requests { from: None, requests: vec![verified] });
        }
    }

    pub fn submit_to(&mut self, id: u16, request: &Request) {
        let verified = self.verified(request);
        self.input(ReplicaId(id), Input::Requests { from: None, requests: vec![verified] });
    }

    /// Lets `millis` pass in steps of 5 ms, delivering everything in between.
    pub fn run(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(5) {
            self.now.monotonic += 5_000;
            self.now.wall += 5;
            for id in self.replicas.keys().copied().collect::<Vec<_>>() {
                self.input(id, Input::Timer);
            }
            self.settle();
        }
    }

    pub fn stop(&mut self, id: u16) {
        self.replicas.remove(&ReplicaId(id));
    }

    pub fn view(&self, id: u16) -> u64 {
        self.replicas[&ReplicaId(id)].status().view.0
    }

    pub fn executed(&self, id: u16) -> u64 {
        self.replicas[&ReplicaId(id)].status().executed.0
    }

    pub fn has_decided(&self, id: u16, request: &Request) -> bool {
        let digest = request.digest();
        self.decided
            .get(&ReplicaId(id))
            .is_some_and(|decided| decided.values().any(|decided| decided.proposal.requests().contains(&digest)))
    }

    /// No two replicas decided differently.
    pub fn assert_agreement(&self) {
        let mut all: BTreeMap<Seq, Digest> = BTreeMap::new();
        for (id, decided) in &self.decided {
            for (seq, decided) in decided {
                let digest = *all.entry(*seq).or_insert_with(|| decided.proposal.digest());
                assert_eq!(digest, decided.proposal.digest(), "{id:?} decided differently at {seq}");
            }
        }
    }
}
