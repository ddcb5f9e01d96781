//! What the tests of this room share: a small service, requests without real signatures, one replica's run.

mod exactly_once;
mod judging;
mod model;
mod outcomes;
mod recovery;
mod rejoining;

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{
    Claim, ClusterId, Committee, Digest, Epoch, FaultModel, Member, PublicKey, ReplicaId, Seq, Signature,
    SignatureScheme, Verified, Verifier,
};

use super::{Access, RestoreError, Service};
use super::{BatchOutcome, Execution, ExecutionParameters, InitialConfiguration, KEY_VALUE_SERVICE};
use crate::proposal::{Payload, Proposal};
use crate::reply::Reply;
use crate::request::{Operation, Request, RequestContent, SessionId};
use crate::state::TableId;

/// Counts its writes and keeps each under its count. An operation is a tag and the length of the wanted result.
#[derive(Clone, Default)]
pub(super) struct Register {
    log: MerkleMap,
    /// Reads executed; not part of the state.
    pub(super) reads: u64,
}

const WRITE: u8 = 0;
const READ: u8 = 1;
const SCAN: u8 = 2;
const LOG: TableId = TableId(16);

pub(super) fn write(result_bytes: u32) -> Operation {
    let mut bytes = vec![WRITE];
    bytes.extend(result_bytes.to_be_bytes());
    Operation { service: KEY_VALUE_SERVICE, bytes }
}

pub(super) fn read(result_bytes: u32) -> Operation {
    Operation { service: KEY_VALUE_SERVICE, bytes: [vec![READ], result_bytes.to_be_bytes().to_vec()].concat() }
}

/// A read that looks at so many entries.
pub(super) fn scan(steps: u32) -> Operation {
    Operation { service: KEY_VALUE_SERVICE, bytes: [vec![SCAN], steps.to_be_bytes().to_vec()].concat() }
}

impl Register {
    pub(super) fn writes(&self) -> u64 {
        self.log.len() as u64
    }

    /// The result: when, after how many writes, and filling.
    pub(super) fn result(writes: u64, time: u64, filling: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + filling as usize);
        out.extend(writes.to_be_bytes());
        out.extend(time.to_be_bytes());
        out.resize(16 + filling as usize, 7);
        out
    }
}

impl Service for Register {
    fn classify(&self, operation: &[u8]) -> Option<Access> {
        let well_formed = operation.len() == 5 && operation[0] <= SCAN;
        well_formed.then(|| if operation[0] == WRITE { Access::Writes } else { Access::Reads })
    }

    fn execute(&mut self, operation: &[u8], agreed_time: u64, steps: &mut u64) -> Vec<u8> {
        let filling = u32::from_be_bytes(operation[1..5].try_into().expect("five bytes"));
        if operation[0] == SCAN {
            *steps = steps.saturating_sub(u64::from(filling));
            self.reads += 1;
            return Register::result(self.writes(), agreed_time, 0);
        }
        if operation[0] == WRITE {
            self.log.insert(&self.writes().to_be_bytes(), agreed_time.to_be_bytes().to_vec());
        } else {
            self.reads += 1;
        }
        Register::result(self.writes(), agreed_time, filling)
    }

    fn revision(&self) -> u64 {
        self.writes() + 1
    }

    fn next_deadline(&self) -> Option<u64> {
        (self.writes() > 0).then_some(self.writes() * 1000)
    }

    fn tables(&self) -> Vec<(TableId, MerkleMap)> {
        vec![(LOG, self.log.clone())]
    }

    fn restore(tables: &BTreeMap<TableId, MerkleMap>) -> Result<Self, RestoreError> {
        Ok(Register { log: tables.get(&LOG).ok_or(RestoreError::MissingTable(LOG))?.clone(), reads: 0 })
    }
}

/// Accepts every signature: what execution does with verified requests does not depend on it.
struct AcceptAll;

impl SignatureScheme for AcceptAll {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &Signature) -> bool {
        true
    }
    fn verify_batch(&self, _: &[&Claim]) -> bool {
        true
    }
}

pub(super) fn verified(request: Request) -> Arc<Verified<Request>> {
    let members = (1..=4u16).map(|id| Member { id: ReplicaId(id), key: client(id as u8) }).collect();
    let committee =
        Committee::new(ClusterId(Digest::ZERO), Epoch(0), FaultModel::Byzantine, members).expect("committee");
    Arc::new(Verifier::new(Arc::new(AcceptAll)).verify(request, &committee, &()).expect("structure"))
}

pub(super) fn client(id: u8) -> PublicKey {
    use quorate_crypto::Signer as _;
    quorate_crypto::SecretKey::from_seed(&[id; 32]).public_key()
}

pub(super) const ALICE: u8 = 11;
pub(super) const BOB: u8 = 12;
pub(super) const ADMIN: u8 = 13;

/// A request with defaults; fields are changed by name.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) client: PublicKey,
    pub(super) session: u8,
    pub(super) number: u64,
    pub(super) acknowledged_below: u64,
    pub(super) valid_until: u64,
    pub(super) operations: Vec<Operation>,
    /// Two signatures make two requests of one content.
    pub(super) signature: u8,
}

pub(super) fn ask(client_id: u8, session: u8, number: u64) -> Ask {
    Ask {
        client: client(client_id),
        session,
        number,
        acknowledged_below: 1,
        valid_until: 1100,
        operations: vec![write(0)],
        signature: 0,
    }
}

impl Ask {
    pub(super) fn request(&self) -> Request {
        let content = RequestContent {
            client: self.client,
            session: SessionId([self.session; 16]),
            number: self.number,
            acknowledged_below: self.acknowledged_below,
            valid_until: self.valid_until,
            operations: self.operations.clone(),
        };
        Request::from_parts(content, Signature([self.signature; 64]))
    }
}

pub(super) const PARAMETERS: ExecutionParameters = ExecutionParameters {
    request_lifetime_max: 200,
    sessions_per_client: 4,
    session_courtesy: 1000,
    reply_cache_bytes: 4096,
};

pub(super) fn initial(parameters: ExecutionParameters) -> InitialConfiguration {
    InitialConfiguration { clients: vec![client(ALICE), client(BOB)], admins: vec![client(ADMIN)], parameters }
}

pub(super) fn genesis(parameters: ExecutionParameters) -> Execution<Register> {
    Execution::new(Register::default(), &initial(parameters))
}

pub(super) fn batch(time: u64, requests: &[Request]) -> (Proposal, Vec<Arc<Verified<Request>>>) {
    let named = requests.iter().map(Request::digest).collect();
    (Proposal { time, payload: Payload::Batch(named) }, requests.iter().cloned().map(verified).collect())
}

/// Executes the next batch.
pub(super) fn apply(execution: &mut Execution<Register>, time: u64, requests: &[Request]) -> BatchOutcome {
    let (proposal, bodies) = batch(time, requests);
    execution.apply(execution.seq().next(), &proposal, &bodies)
}

/// Executes one request in a batch of its own.
pub(super) fn run(execution: &mut Execution<Register>, time: u64, ask: &Ask) -> Reply {
    let outcome = apply(execution, time, &[ask.request()]);
    assert_eq!(outcome.replies.len(), 1);
    assert_eq!(outcome.replies[0].0, ask.client);
    outcome.replies[0].1.clone()
}

pub(super) fn null(execution: &mut Execution<Register>) -> BatchOutcome {
    execution.apply(execution.seq().next(), &Proposal::NULL, &[])
}

/// All hexadecimal digits of `bytes`.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("into memory");
        out
    })
}

#[test]
fn time_is_the_highest_header_and_null_executes_nothing() {
    let mut execution = genesis(PARAMETERS);
    assert_eq!(null(&mut execution).time, 0);
    assert_eq!(apply(&mut execution, 500, &[]).time, 500);
    assert_eq!(apply(&mut execution, 400, &[]).time, 500);
    let outcome = null(&mut execution);
    assert_eq!((outcome.time, outcome.seq, outcome.executed), (500, Seq(4), 0));
    assert_eq!(outcome.results_root, quorate_crypto::merkle_tree::NO_LEAVES);
    assert!(outcome.replies.is_empty());
    let reply = run(&mut execution, 300, &ask(ALICE, 1, 1).valid_for_tests(600));
    assert_eq!(reply.time, 500);
}

impl Ask {
    pub(super) fn valid_for_tests(mut self, valid_until: u64) -> Ask {
        self.valid_until = valid_until;
        self
    }
}

#[test]
#[should_panic(expected = "batches execute in order")]
fn a_gap_in_the_order_stops_the_replica() {
    genesis(PARAMETERS).apply(Seq(2), &Proposal::NULL, &[]);
}

#[test]
#[should_panic(expected = "names another body")]
fn a_body_that_is_not_the_named_one_stops_the_replica() {
    let (proposal, _) = batch(1000, &[ask(ALICE, 1, 1).request()]);
    let other = verified(ask(ALICE, 1, 2).request());
    genesis(PARAMETERS).apply(Seq(1), &proposal, &[other]);
}
