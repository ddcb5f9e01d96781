//! The execution layer: the second pure layer, and the one owner of everything replicated: the service's tables, the
//! sessions, the configuration, agreed time and the epoch. It alone judges duplicates, expiry and permission.
//!
//! What comes in: decided batches, in order, without a gap ([`Execution::apply`]). What goes out: a [`BatchOutcome`]
//! each, to the byte the same on every replica, and [`Snapshot`](crate::state::Snapshot)s at no cost. Nothing here reads a clock: time is what
//! the batches agreed on, t(n) = max(t(n - 1), header time); a null request executes at t(n - 1) and executes nothing.
//!
//! | table | contents | module |
//! |---|---|---|
//! | 0 | format version, seq, epoch, agreed time, the sweep's place | [`restore`](Execution::from_snapshot) |
//! | 1 | sessions and executed numbers | `session` |
//! | 2 | parameters, registered keys, replicas that rejoined | [`configuration`] |
//! | 16 and up | the service's own | [`service`] |
//!
//! How a request is judged, the first that applies:
//!
//! | condition | answer |
//! |---|---|
//! | this request executed under its number | its reply as it was, or [`Outcome::ExecutedEarlier`] if results are not cached |
//! | another request executed under it | [`Refusal::NumberTaken`] |
//! | the key is not registered | [`Refusal::UnknownClient`] |
//! | the number is acknowledged | [`Refusal::StaleNumber`] |
//! | valid_until < agreed time | [`Refusal::Expired`], or [`Refusal::Forgotten`] if a session in use until then was dropped |
//! | valid_until > agreed time + T_max | [`Refusal::ValidTooLong`] |
//! | the number is not in the window of [`SESSION_WINDOW`] above the lowest unacknowledged one | [`Refusal::NumberTooFar`] |
//! | an operation is unknown, reserved, or not allowed to the key | [`Refusal::UnknownOperation`], [`Refusal::NotSupported`], [`Refusal::NotPermitted`] |
//! | the key's share is full and its oldest session not past | [`Refusal::SessionTableFull`] |
//! | the key got its share of the batch, of results or of steps | [`Refusal::BatchShareSpent`] |
//! | otherwise | it executes, all its operations in order |
//!
//! A refusal consumes no number and leaves no trace in the state: what a refused request acknowledges does not count.
//! The lowest unacknowledged number is the higher of what the session's executed requests and the request itself
//! acknowledge. A client may acknowledge numbers that never executed; it can only close its own session by that.
//!
//! Results of requests that wrote are cached: up to `reply_cache_bytes` a session, [`CLIENT_CACHE_BYTES_MAX`] a key and
//! [`REQUEST_CACHE_BYTES_MAX`] a request. Results of read-only requests are not. They consume their number all the same,
//! and a retry of one is answered [`Outcome::ExecutedEarlier`], never executed a second time: a read that was lost is
//! asked for anew under a new number.
//!
//! At most one request of a number executes as long as its session is kept, and a session is kept at least until agreed
//! time is past the last valid_until of what executed in it. So a request never executes twice, whatever is dropped. A
//! client that signs two requests under one number, the second valid after the first has expired, may see both execute;
//! this harms only itself.
//!
//! A replica's own Rejoin ([`crate::rejoin`]) has no session and no client. It executes if it is the first of the incarnation
//! after the one the state shows; one of an earlier incarnation is refused as [`Refusal::StaleNumber`], one further ahead as
//! [`Refusal::NumberTooFar`].

mod batch;
pub mod configuration;
pub mod service;
mod session;
mod snapshot;

use std::sync::Arc;

use quorate_crypto::encoding::encode;
use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, Epoch, PublicKey, Seq, Signed, Verified, merkle_tree};

pub use batch::{BATCH_RESULTS_PER_CLIENT, BatchOutcome, STEPS_MAX};
pub use configuration::{
    CONFIGURATION_SERVICE, CONFIGURATION_TABLE, ClientRecord, ConfigurationOperation, ConfigurationResult,
    ExecutionParameters, InitialConfiguration, Permission,
};
pub use service::{Access, KEY_VALUE_SERVICE, RestoreError, Service};
pub use session::{
    CLIENT_CACHE_BYTES_MAX, NUMBERS_PER_CLIENT, REQUEST_CACHE_BYTES_MAX, SESSION_WINDOW, SWEEP_NUMBERS_MAX,
};

use crate::proposal::{Payload, Proposal};
use crate::rejoin::{Rejoined, rejoin_statement};
use crate::reply::{Outcome, RESULTS_BYTES_MAX, Refusal, Reply};
use crate::request::{Operation, Request, RequestContent};
use crate::state::StateHeader;
use batch::Shares;
use configuration::Configuration;
use session::{NumberRecord, Session, SessionTable};

/// What execution says of a request that is not ordered yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Nothing speaks against it.
    Fresh,
    /// It executed; this is the answer.
    Executed(Reply),
    /// It would be refused.
    Refused(Refusal),
}

/// [`Judgement`] with what execution goes on with.
enum Verdict {
    Fresh { session: Option<Session>, read_only: bool },
    Executed(Reply),
    Refused(Refusal),
}

/// The replicated state and the one way it changes.
#[derive(Clone)]
pub struct Execution<S> {
    service: S,
    configuration: Configuration,
    sessions: SessionTable,
    seq: Seq,
    epoch: Epoch,
    /// t(n), milliseconds. Never goes back.
    time: u64,
    /// The client whose sessions the last batch looked through for those past their courtesy.
    swept: PublicKey,
}

impl<S: Service> Execution<S> {
    /// The genesis state around an empty `service`.
    ///
    /// # Panics
    /// If the service claims tables that are not its own, or the configuration exceeds
    /// [`configuration::CLIENTS_MAX`]: the genesis file was checked.
    pub fn new(service: S, initial: &InitialConfiguration) -> Execution<S> {
        let execution = Execution {
            service,
            configuration: Configuration::new(initial),
            sessions: SessionTable::default(),
            seq: Seq(0),
            epoch: Epoch(0),
            time: 0,
            swept: PublicKey([0; 32]),
        };
        snapshot::assert_tables(&execution.service);
        execution
    }

    /// The last batch executed.
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// t(n), milliseconds.
    pub const fn time(&self) -> u64 {
        self.time
    }

    /// The configuration epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The service, for reads that need no order.
    pub const fn service(&self) -> &S {
        &self.service
    }

    /// The numbers execution goes by.
    pub const fn parameters(&self) -> &ExecutionParameters {
        self.configuration.parameters()
    }

    /// What a registered key may do; `None` if it is not registered. Links of others are refused by the node.
    pub fn permission(&self, client: &PublicKey) -> Option<Permission> {
        self.configuration.client(client).map(|client| client.permission)
    }

    /// The registered keys, ascending.
    pub fn clients(&self) -> impl Iterator<Item = (PublicKey, ClientRecord)> + '_ {
        self.configuration.clients()
    }

    /// The digest of the configuration: another one means that a registered key or a parameter changed.
    pub fn configuration_digest(&self) -> Digest {
        self.configuration.table().digest()
    }

    /// The replicas that rejoined, with their incarnations.
    pub fn rejoined(&self) -> Rejoined {
        self.configuration.rejoined()
    }

    /// Sessions remembered, of all clients.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The header of the state as it is. Costs hashing what changed since the last time.
    pub fn header(&self) -> StateHeader {
        self.snapshot().header()
    }

    /// Judges a request before it is ordered, as a batch executed next would, at an agreed time between the present one
    /// and `wall` (the caller's clock, ms; agreed time stands still while nothing is ordered). It refuses only what is
    /// refused at every time between the two; in particular `Expired` is said only when agreed time has passed, and is
    /// final.
    pub fn judge(&self, request: &Request, wall: u64) -> Judgement {
        if let Some(statement) = rejoin_statement(request) {
            return self.permits_rejoin(&statement).map_or_else(Judgement::Refused, |()| Judgement::Fresh);
        }
        match self.verdict(request.content(), request.digest(), self.time.max(wall)) {
            Verdict::Fresh { .. } => Judgement::Fresh,
            Verdict::Executed(reply) => Judgement::Executed(reply),
            Verdict::Refused(refusal) => Judgement::Refused(refusal),
        }
    }

    /// Executes the batch that was decided at `seq`; `requests` are the bodies in the proposal's order.
    ///
    /// # Panics
    /// If `seq` does not follow the last one, a body is not the one the proposal names, or the payload is of a kind that
    /// no engine decides: then this replica's own order is broken, and what it would answer is worth nothing.
    pub fn apply(&mut self, seq: Seq, proposal: &Proposal, requests: &[Arc<Verified<Request>>]) -> BatchOutcome {
        assert_eq!(seq, self.seq.next(), "batches execute in order");
        assert_eq!(requests.len(), proposal.requests().len(), "batch {seq} lacks bodies");
        self.seq = seq;
        match proposal.payload {
            Payload::Null => {}
            Payload::Batch(_) => {
                self.time = if alive(Mutant::TimeGoesBack) { proposal.time } else { self.time.max(proposal.time) };
                self.service.advance(self.time);
                let courtesy = self.parameters().session_courtesy;
                self.swept = self.sessions.sweep(self.swept, self.time, courtesy);
            }
            Payload::Certified(_) => unreachable!("batch {seq} has a payload that is refused when proposed"),
        }
        let mut shares = Shares::default();
        let mut executed = 0;
        let mut rejoined = false;
        let mut replies = Vec::with_capacity(requests.len());
        for (index, (request, named)) in requests.iter().zip(proposal.requests()).enumerate() {
            let digest = request.digest();
            assert_eq!(digest, *named, "batch {seq} names another body at place {index}");
            let (reply, is_new) = match rejoin_statement(request) {
                Some(statement) => {
                    let (reply, is_new) = self.rejoin(&statement, digest, index as u32);
                    rejoined |= is_new;
                    (reply, is_new)
                }
                None => self.answer(request.content(), digest, index as u32, &mut shares),
            };
            executed += usize::from(is_new);
            replies.push((request.content().client, reply));
        }
        let leaves: Vec<[u8; 32]> = replies.iter().map(|(_, reply)| reply.leaf()).collect();
        BatchOutcome {
            seq,
            time: self.time,
            results_root: merkle_tree::root(&leaves),
            leaves,
            replies,
            rejoined,
            executed,
            revision: self.service.revision(),
            next_deadline: self.service.next_deadline(),
        }
    }

    /// Executes a replica's own Rejoin; says whether it won.
    fn rejoin(&mut self, statement: &Signed, digest: Digest, index: u32) -> (Reply, bool) {
        let outcome = match self.permits_rejoin(statement) {
            Ok(()) if self.configuration.rejoin(statement, self.seq) => {
                Outcome::Results(vec![encode(&ConfigurationResult::Rejoined)])
            }
            Ok(()) => Outcome::Refused(Refusal::NumberTaken),
            Err(refusal) => Outcome::Refused(refusal),
        };
        let is_new = matches!(outcome, Outcome::Results(_));
        let (seq, time, revision) = (self.seq, self.time, self.service.revision());
        (Reply { request: digest, seq, index, time, revision, outcome }, is_new)
    }

    /// The first Rejoin of an incarnation to execute wins, and incarnations follow one another.
    fn permits_rejoin(&self, statement: &Signed) -> Result<(), Refusal> {
        let known = self.configuration.rejoin_record(statement.signer()).map_or(0, |record| record.incarnation.0);
        match statement.statement.incarnation.0.checked_sub(known) {
            Some(1) => Ok(()),
            None | Some(0) => Err(Refusal::StaleNumber),
            Some(_) => Err(Refusal::NumberTooFar),
        }
    }

    /// Executes or answers one request; says whether it executed now.
    fn answer(&mut self, content: &RequestContent, digest: Digest, index: u32, shares: &mut Shares) -> (Reply, bool) {
        let refused = |refusal, execution: &Self| Reply {
            request: digest,
            seq: execution.seq,
            index,
            time: execution.time,
            revision: execution.service.revision(),
            outcome: Outcome::Refused(refusal),
        };
        let (session, read_only) = match self.verdict(content, digest, self.time) {
            Verdict::Executed(reply) => return (reply, false),
            Verdict::Refused(refusal) => return (refused(refusal, self), false),
            Verdict::Fresh { .. } if shares.is_spent(&content.client) => {
                return (refused(Refusal::BatchShareSpent, self), false);
            }
            Verdict::Fresh { session, read_only } => (session, read_only),
        };
        let (results, bytes, steps) = self.execute(&content.operations);
        shares.add(content.client, bytes, steps);
        let (seq, time, revision) = (self.seq, self.time, self.service.revision());
        let mut record = NumberRecord { request: digest, seq, index, time, revision, results: None };
        let parameters = self.configuration.parameters();
        let results = if read_only {
            self.sessions.record(content, session, record, parameters, time);
            results
        } else {
            record.results = Some(results);
            self.sessions.record(content, session, record, parameters, time).unwrap_or_default()
        };
        (Reply { request: digest, seq, index, time, revision, outcome: Outcome::Results(results) }, true)
    }

    /// Runs the operations of a request that [`Execution::verdict`] let through, in order. Returns the results as far as
    /// they fit a reply and steps are left, their bytes, and the steps taken.
    fn execute(&mut self, operations: &[Operation]) -> (Vec<Vec<u8>>, usize, u64) {
        let mut results = Vec::with_capacity(operations.len());
        let (mut bytes, mut steps) = (0, STEPS_MAX);
        let mut is_cut = false;
        for operation in operations {
            if is_cut && self.is_read_only(operation) {
                continue;
            }
            let result = self.execute_one(operation, &mut steps);
            is_cut = is_cut || bytes + result.len() + 8 > RESULTS_BYTES_MAX;
            if !is_cut {
                bytes += result.len() + 8;
                results.push(result);
            }
            // With no steps left a read would find nothing where there is something.
            is_cut = is_cut || steps == 0;
        }
        (results, bytes, STEPS_MAX - steps)
    }

    fn execute_one(&mut self, operation: &Operation, steps: &mut u64) -> Vec<u8> {
        if operation.service == CONFIGURATION_SERVICE {
            let result = ConfigurationOperation::from_bytes(&operation.bytes)
                .and_then(|operation| self.configuration.execute(&operation, self.seq));
            encode(&result.unwrap_or_else(|| unreachable!("an unknown operation of the configuration was let through")))
        } else {
            self.service.execute(&operation.bytes, self.time, steps)
        }
    }

    fn is_read_only(&self, operation: &Operation) -> bool {
        operation.service != CONFIGURATION_SERVICE && self.service.classify(&operation.bytes) == Some(Access::Reads)
    }

    /// The rules of the module's table, in its order, but the last. `latest` is agreed time, or as far as it may have
    /// come when the request executes.
    fn verdict(&self, content: &RequestContent, digest: Digest, latest: u64) -> Verdict {
        let session = self.sessions.find(&content.client, content.session);
        if let Some(session) = &session
            && content.number >= session.low
            && !alive(Mutant::ExecutesTwice)
            && let Some(record) = self.sessions.executed(content)
        {
            return if record.request == digest {
                Verdict::Executed(record.into_reply())
            } else {
                Verdict::Refused(Refusal::NumberTaken)
            };
        }
        match self.permits(content, session.as_ref(), latest) {
            Ok(read_only) => Verdict::Fresh { session, read_only },
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    /// Whether a request that did not execute as far as is remembered may execute; if so, whether it only reads.
    fn permits(&self, content: &RequestContent, session: Option<&Session>, latest: u64) -> Result<bool, Refusal> {
        let parameters = self.configuration.parameters();
        let permission = self.permission(&content.client).ok_or(Refusal::UnknownClient)?;
        let low = session.map_or(1, |session| session.low).max(content.acknowledged_below);
        // Before expiry: an acknowledged number may have executed, and `Expired` says that it did not.
        if content.number < low && !alive(Mutant::ExecutesAcknowledged) {
            return Err(Refusal::StaleNumber);
        }
        if content.valid_until < self.time && !alive(Mutant::ExecutesExpired) {
            let forgotten = self.sessions.has_forgotten(&content.client, content.valid_until);
            return Err(if forgotten { Refusal::Forgotten } else { Refusal::Expired });
        }
        if content.valid_until > latest.saturating_add(parameters.request_lifetime_max) {
            return Err(Refusal::ValidTooLong);
        }
        if content.number - low >= SESSION_WINDOW {
            return Err(Refusal::NumberTooFar);
        }
        let read_only = self.permits_operations(&content.operations, permission)?;
        if !self.sessions.has_room(content, session.is_none(), parameters, latest) {
            return Err(Refusal::SessionTableFull);
        }
        Ok(read_only)
    }

    fn permits_operations(&self, operations: &[Operation], permission: Permission) -> Result<bool, Refusal> {
        let mut read_only = true;
        for operation in operations {
            let needed = match operation.service {
                CONFIGURATION_SERVICE => match ConfigurationOperation::from_bytes(&operation.bytes) {
                    None => return Err(Refusal::UnknownOperation),
                    // A replica's own, whoever carries it; a client's signature around it changes nothing.
                    Some(ConfigurationOperation::Rejoin(_)) => return Err(Refusal::NotPermitted),
                    Some(_) => Permission::Admin,
                },
                KEY_VALUE_SERVICE => match self.service.classify(&operation.bytes) {
                    None => return Err(Refusal::UnknownOperation),
                    Some(Access::Reads) => Permission::Read,
                    Some(Access::Writes) => Permission::Write,
                },
                _ => return Err(Refusal::UnknownOperation),
            };
            if permission < needed {
                return Err(Refusal::NotPermitted);
            }
            read_only = read_only && needed == Permission::Read;
        }
        Ok(read_only)
    }
}

#[cfg(test)]
mod tests;
