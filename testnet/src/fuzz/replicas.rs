//! A byte string as the schedule of four replicas: which message arrives next, which is lost or doubled, when time passes,
//! who dies and comes back, and what the liar among them, replica 3, makes of what it would have said. It is played once
//! with replicas of each protocol.
//!
//! What must hold: no panic, the three honest replicas never decide differently, and no evidence accuses one of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quorate_crypto::encoding::decode;
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{Committee, Digest, Incarnation, Protocol, ReplicaId, Seq, Verifier};
use quorate_protocol::engine::{Decided, Engine as _, Input, Now, Recipients, RecordIndex, Step};
use quorate_protocol::foundation::Setup;
use quorate_protocol::message::{Message, MessageLimits};
use quorate_protocol::parameters::Parameters;
use quorate_protocol::record::Record;
use quorate_protocol::replica::Replica;
use quorate_protocol::request::{Operation, Request, RequestContent, SessionId};
use quorate_protocol::state::{Snapshot, TableId};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::Taken;
use super::corpus::{self, LIAR, REPLICAS, WINDOW};
use crate::faults::Hands;
use crate::faults::mutation::mutate;
use crate::sim::signing::Keyring;

/// Messages in flight at most; more are lost.
const QUEUE_MAX: usize = 256;
/// Steps of one schedule at most.
const STEPS_MAX: usize = 400;
/// Where the state stands among the tables.
const TABLE: TableId = TableId(16);

fn parameters() -> Parameters {
    Parameters { window: WINDOW, checkpoint_interval: WINDOW / 4, ..Parameters::default() }
}

/// What replicas may run.
pub(super) const PROTOCOLS: [Protocol; 2] = [Protocol::Pbft, Protocol::HotStuff];

/// Runs the schedule.
pub(super) fn run(input: &[u8]) -> Taken {
    let decided = PROTOCOLS.map(|protocol| {
        let mut cluster = Schedule::new(protocol);
        cluster.play(input);
        cluster.decided.len()
    });
    decided.iter().any(|decided| *decided > 1).into()
}

/// The replicas and everything around them.
pub(super) struct Schedule {
    protocol: Protocol,
    keyring: Keyring,
    committee: Arc<Committee>,
    verifier: Verifier,
    replicas: Vec<Replica>,
    /// What each has on its disk: all of it durable at once.
    pub(super) records: Vec<Vec<(RecordIndex, Record)>>,
    next_record: Vec<u64>,
    snapshots: Vec<Option<Snapshot>>,
    states: Vec<MerkleMap>,
    queue: VecDeque<(ReplicaId, ReplicaId, Message)>,
    pub(super) decided: BTreeMap<Seq, Digest>,
    now: Now,
    /// The first messages that were sent, for the corpus.
    pub(super) seen: Vec<Message>,
}

impl Schedule {
    pub(super) fn new(protocol: Protocol) -> Schedule {
        let keyring = corpus::keyring();
        let mut schedule = Schedule {
            protocol,
            verifier: Verifier::new(keyring.scheme()),
            committee: Arc::new(corpus::committee()),
            keyring,
            replicas: Vec::new(),
            records: vec![Vec::new(); REPLICAS],
            next_record: vec![1; REPLICAS],
            snapshots: vec![None; REPLICAS],
            states: vec![MerkleMap::new(); REPLICAS],
            queue: VecDeque::new(),
            decided: BTreeMap::new(),
            now: Now { monotonic: 1_000_000, wall: 1_700_000_000_000 },
            seen: Vec::new(),
        };
        schedule.replicas = (0..REPLICAS).map(|index| Replica::new(schedule.setup(index))).collect();
        schedule
    }

    fn committee(&self) -> Arc<Committee> {
        Arc::clone(&self.committee)
    }

    fn setup(&self, index: usize) -> Setup {
        Setup {
            protocol: self.protocol,
            id: ReplicaId(index as u16),
            incarnation: Incarnation(0),
            committee: self.committee(),
            parameters: parameters(),
            signer: self.keyring.key(index),
            verifier: self.verifier.clone(),
            rejoin_seed: [index as u8; 32],
        }
    }

    /// Does what the bytes say: an operation, and one or two bytes for what it is about.
    pub(super) fn play(&mut self, input: &[u8]) {
        let mut bytes = input.iter().copied();
        for _ in 0..STEPS_MAX {
            let (Some(what), Some(which)) = (bytes.next(), bytes.next()) else { break };
            match what % 16 {
                0..=4 => {
                    // Whatever is first, several at once: most schedules must get somewhere.
                    for _ in 0..=which % 32 {
                        self.deliver(0);
                    }
                }
                5 | 6 => self.deliver(usize::from(which)),
                7 => drop(self.take(usize::from(which))),
                8 => {
                    if let Some(message) = self.take(usize::from(which)) {
                        self.queue.push_back(message.clone());
                        self.queue.push_back(message);
                    }
                }
                9 => self.lie(which, bytes.next().unwrap_or(0)),
                10 | 11 => self.submit(which),
                12 | 13 => self.pass(u64::from(which) * 2),
                14 => self.restart(usize::from(which) % REPLICAS),
                _ => {
                    let frame: Vec<u8> = bytes.by_ref().take(usize::from(which)).collect();
                    if let Ok(message) = decode::<Message>(&frame, 1024 * 1024) {
                        self.arrive(LIAR, ReplicaId(u16::from(which) % 3), message);
                    }
                }
            }
        }
    }

    fn take(&mut self, which: usize) -> Option<(ReplicaId, ReplicaId, Message)> {
        let length = self.queue.len();
        if length == 0 { None } else { self.queue.remove(which % length) }
    }

    fn deliver(&mut self, which: usize) {
        if let Some((from, to, message)) = self.take(which) {
            self.arrive(from, to, message);
        }
    }

    /// As the driver does it.
    fn arrive(&mut self, from: ReplicaId, to: ReplicaId, message: Message) {
        let committee = self.committee();
        if let Message::Requests(requests) = message {
            for request in requests {
                match self.verifier.verify(request.clone(), &committee, &()) {
                    Ok(request) if self.has_executed(to, &request) => {}
                    Ok(request) => self.input(to, Input::Requests { from: Some(from), requests: vec![request] }),
                    Err(_) => self.input(to, Input::InvalidRequest(Box::new(request))),
                }
            }
        } else if let Ok(message) = self.verifier.verify(message, &committee, &MessageLimits { window: WINDOW }) {
            self.input(to, Input::Message { from, message });
        }
    }

    fn has_executed(&self, id: ReplicaId, request: &Request) -> bool {
        let digest = request.digest();
        !self.replicas[usize::from(id.0)].wants(&digest)
            && self.states[usize::from(id.0)].contains_key(digest.as_bytes())
    }

    /// The liar says something else than it would have, in its own name or with a signature that no longer holds.
    fn lie(&mut self, which: u8, seed: u8) {
        let own = (0..self.queue.len()).filter(|index| self.queue[*index].0 == LIAR).collect::<Vec<_>>();
        let Some(index) = own.get(usize::from(which) % own.len().max(1)) else { return };
        let hands = Hands {
            id: LIAR,
            incarnation: Incarnation(0),
            committee: self.committee(),
            signer: self.keyring.key(usize::from(LIAR.0)),
            parameters: parameters(),
        };
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(which) << 8 | u64::from(seed));
        let (from, to, message) = self.queue[*index].clone();
        if let Some(changed) = mutate(&hands, &message, &mut random) {
            self.queue.push_front((from, to, changed));
        }
    }

    fn submit(&mut self, which: u8) {
        let (client, number) = (usize::from(which) % corpus::CLIENTS, u64::from(which / 4));
        let key = self.keyring.key(REPLICAS + client);
        let request = RequestContent {
            client: key.public_key(),
            session: SessionId([client as u8; 16]),
            number,
            acknowledged_below: 1,
            valid_until: self.now.wall + 1_000_000,
            operations: vec![Operation { service: 1, bytes: vec![which] }],
        }
        .sign(self.committee().cluster(), key.as_ref());
        for id in 0..REPLICAS as u16 {
            // The upper bits leave replicas out.
            if which >> 6 == 0 || u16::from(which >> 6) != id {
                let Ok(verified) = self.verifier.verify(request.clone(), &self.committee(), &()) else { continue };
                if !self.has_executed(ReplicaId(id), &request) {
                    self.input(ReplicaId(id), Input::Requests { from: None, requests: vec![verified] });
                }
            }
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now.monotonic += milliseconds * 1_000;
        self.now.wall += milliseconds;
        for id in 0..REPLICAS as u16 {
            self.input(ReplicaId(id), Input::Timer);
        }
    }

    fn restart(&mut self, index: usize) {
        let (records, snapshot) = (self.records[index].clone(), self.snapshots[index].clone());
        let table = snapshot.as_ref().and_then(|snapshot| snapshot.tables.get(&TABLE).cloned());
        self.states[index] = table.unwrap_or_default();
        self.replicas[index] = Replica::recover(self.setup(index), self.now, records, snapshot, true);
        self.input(ReplicaId(index as u16), Input::Timer);
    }

    fn input(&mut self, id: ReplicaId, input: Input) {
        for input in [input, Input::TurnEnd] {
            let step = self.replicas[usize::from(id.0)].step(self.now, input);
            self.follow(id, step);
        }
    }

    fn follow(&mut self, id: ReplicaId, step: Step) {
        let index = usize::from(id.0);
        for record in step.records {
            self.records[index].push((RecordIndex(self.next_record[index]), record));
            self.next_record[index] += 1;
        }
        if let Some(cut) = step.cut {
            self.records[index].retain(|(record, _)| *record >= cut);
        }
        assert!(step.halt.is_none() || id == LIAR, "honest replica {id:?} halts: {:?}", step.halt);
        for evidence in step.evidence {
            let conviction = evidence.verify(&self.committee(), WINDOW, &self.verifier);
            let conviction =
                conviction.unwrap_or_else(|error| panic!("a replica's evidence does not convict: {error}"));
            assert_eq!(conviction.accused, LIAR, "evidence accuses an honest replica of {}", conviction.kind);
        }
        for send in step.sends {
            if self.seen.len() < 4 * QUEUE_MAX {
                self.seen.push(send.message.clone());
            }
            let to: Vec<ReplicaId> = match send.to {
                Recipients::Others => (0..REPLICAS as u16).map(ReplicaId).filter(|other| *other != id).collect(),
                Recipients::One(to) => vec![to],
            };
            for to in to {
                if self.queue.len() < QUEUE_MAX {
                    self.queue.push_back((id, to, send.message.clone()));
                }
            }
        }
        if let Some(snapshot) = step.install {
            self.states[index] = snapshot.tables.get(&TABLE).cloned().unwrap_or_default();
            self.store(id, snapshot);
        }
        for decided in step.decided {
            self.execute(id, &decided);
        }
    }

    fn store(&mut self, id: ReplicaId, snapshot: Snapshot) {
        self.snapshots[usize::from(id.0)] = Some(snapshot.clone());
        let root = snapshot.header().digest();
        self.input(id, Input::CheckpointStored { snapshot, root });
    }

    fn execute(&mut self, id: ReplicaId, decided: &Decided) {
        let seq = decided.seq;
        if id != LIAR {
            let digest = *self.decided.entry(seq).or_insert_with(|| decided.proposal.digest());
            assert_eq!(digest, decided.proposal.digest(), "{id:?} decided otherwise at {seq:?}");
        }
        let state = &mut self.states[usize::from(id.0)];
        for request in &decided.requests {
            state.insert(request.digest().as_bytes(), seq.0.to_be_bytes().to_vec());
        }
        let results = state.digest();
        let snapshot = Snapshot { seq, tables: BTreeMap::from([(TABLE, state.clone())]) };
        self.input(id, Input::Executed { seq, results, next_deadline: None });
        if seq.0.is_multiple_of(parameters().checkpoint_interval) {
            self.store(id, snapshot);
        }
    }
}
