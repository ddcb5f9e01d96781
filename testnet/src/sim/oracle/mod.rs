//! What must hold in every run, whatever breaks. One oracle a file; each says what it saw as a [`Violation`].
//!
//! What comes in: what honest replicas decided, published and stored; what clients asked and were told. What goes out:
//! the first rule that does not hold. Only replicas that never lie are held to anything.
//!
//! | file | rule |
//! |---|---|
//! | [`agreement`] | one proposal per number, at every honest replica, in every life of it |
//! | [`state_digest`] | the state at a number is what executing the one order gives |
//! | [`exactly_once`] | no request executes twice, and every answer to one is the same |
//! | [`validity`] | what executes was signed by a client |
//! | [`contradiction`] | no honest replica ever signs two things that contradict each other |
//! | [`certificates`] | what an honest replica proves follows from the paper, derived anew |
//! | [`block_certificates`] | the same for HotStuff, and what it votes for, gives up and decides |
//! | [`leadership`] | who leads a view there |
//! | [`signatures`] | which signature, of which life of a replica, counts in either |
//! | [`evidence`] | evidence verifies, and convicts only liars |
//! | [`durability`] | what a client was told is still so at the end |
//! | [`linearizability`] | the clients' history fits one order that respects real time |
//! | [`wing_gong`] | and some order explains it without looking at the replicas' |
//! | [`told`] | reads, watches and receipts say what the order says |
//! | [`memory`] | nothing grows without bound |
//! | [`liveness`] | once everything is well, everything ends |

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_crypto::{Committee, Protocol, ReplicaId, Seq, SignatureScheme, Signed, Verifier};
use quorate_node::key_value::KeyValue;
use quorate_protocol::engine::{Decided, EngineStatus};
use quorate_protocol::evidence::Evidence;
use quorate_protocol::execution::Execution;
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Parameters;
use quorate_protocol::rejoin::rejoin_statement;
use quorate_protocol::reply::Reply;
use quorate_protocol::request::Request;
use quorate_protocol::state::Snapshot;

use super::history::History;
use super::report::Violation;

pub(super) mod agreement;
pub(super) mod block_certificates;
pub(super) mod certificates;
pub(super) mod contradiction;
pub(super) mod durability;
pub(super) mod evidence;
pub(super) mod exactly_once;
pub(super) mod leadership;
pub(super) mod linearizability;
pub(super) mod liveness;
pub(super) mod memory;
pub(super) mod signatures;
pub(super) mod state_digest;
pub(super) mod told;
pub(super) mod validity;
pub(super) mod wing_gong;

type Verdict = Result<(), Violation>;

/// All oracles of a run.
pub(super) struct Oracles {
    protocol: Protocol,
    agreement: agreement::Agreement,
    state: state_digest::StateDigest,
    once: exactly_once::ExactlyOnce,
    pub(super) validity: validity::Validity,
    contradiction: contradiction::NoContradiction,
    certificates: certificates::Certificates,
    evidence: evidence::EvidenceCheck,
    memory: memory::BoundedMemory,
    pub(super) told: told::WhatClientsAreTold,
    searched: wing_gong::Searched,
    /// What sabotage signed with the keys of others: nobody is held to it.
    forged: BTreeSet<Signed>,
}

impl Oracles {
    pub(super) fn new(
        protocol: Protocol,
        genesis: Execution<KeyValue>,
        parameters: &Parameters,
        committee: Committee,
        scheme: Arc<dyn SignatureScheme>,
        liars: Vec<ReplicaId>,
    ) -> Oracles {
        let told = told::WhatClientsAreTold::new(committee.clone(), Arc::clone(&scheme));
        Oracles {
            protocol,
            agreement: agreement::Agreement::default(),
            state: state_digest::StateDigest::new(genesis, parameters.checkpoint_interval),
            once: exactly_once::ExactlyOnce::default(),
            validity: validity::Validity::default(),
            contradiction: contradiction::NoContradiction::default(),
            certificates: certificates::Certificates::new(
                committee.clone(),
                Arc::clone(&scheme),
                protocol,
                parameters.window,
                &liars,
            ),
            evidence: evidence::EvidenceCheck::new(committee, parameters.window, Verifier::new(scheme), liars),
            memory: memory::BoundedMemory::new(parameters),
            told,
            searched: wing_gong::Searched::default(),
            forged: BTreeSet::new(),
        }
    }

    /// Sabotage signs this with the key of a replica that never said so.
    pub(super) fn forged(&mut self, signed: Signed) {
        self.forged.insert(signed);
    }

    /// Whether sabotage signed any of these.
    pub(super) fn is_any_forged<'a>(&self, statements: impl IntoIterator<Item = &'a Signed>) -> bool {
        !self.forged.is_empty() && statements.into_iter().any(|signed| self.forged.contains(signed))
    }

    /// An honest replica decided a number.
    pub(super) fn decided(&mut self, replica: ReplicaId, decided: &Decided) -> Verdict {
        if self.agreement.decided(replica, decided)? {
            if self.protocol == Protocol::HotStuff {
                self.certificates.decided(replica, decided.seq, &decided.proposal)?;
            }
            for request in &decided.requests {
                self.validity.executed(request)?;
                if let Some(statement) = rejoin_statement(request) {
                    self.certificates.rejoins(&statement, decided.seq);
                }
            }
            let outcome = self.state.execute(decided);
            self.once.executed(decided, &outcome)?;
            self.told.executed(decided.seq, outcome.results_root, self.state.reference());
        }
        Ok(())
    }

    /// A message of an honest replica left it.
    pub(super) fn left(&mut self, replica: ReplicaId, message: &Message) -> Verdict {
        // A certificate that it relays may hold a vote of its own that it never cast.
        if !self.forged.is_empty() && self.is_any_forged(&block_certificates::own_statements(replica, message)) {
            return Ok(());
        }
        self.contradiction.left(replica, message)?;
        self.certificates.left(replica, message)
    }

    /// Anybody sends a message.
    pub(super) fn seen(&mut self, message: &Message) -> Verdict {
        self.certificates.seen(message)
    }

    /// An honest replica took a message.
    pub(super) fn accepted(&mut self, replica: ReplicaId, message: &Message) -> Verdict {
        self.certificates.accepted(replica, message)
    }

    /// A replica counts among the f from now on although it does not lie: it may be convicted.
    pub(super) fn count_among_faulty(&mut self, replica: ReplicaId) {
        self.evidence.count_among_faulty(replica);
        self.certificates.count_among_faulty(replica);
    }

    /// Whom evidence has convicted so far.
    pub(super) const fn convicted(&self) -> &BTreeSet<ReplicaId> {
        &self.evidence.convicted
    }

    /// How often the checks that wait for rare things were made.
    pub(super) fn work(&self) -> Vec<(&'static str, u64)> {
        let (derived, told) = (self.certificates.derived, self.told.told);
        let blocks = self.certificates.derived_blocks();
        vec![
            ("checked commit certificates", derived.commit),
            ("checked prepared certificates", derived.prepared),
            ("checked checkpoint certificates", derived.checkpoint),
            ("checked VIEW-CHANGEs", derived.view_change),
            ("checked NEW-VIEWs", derived.new_view),
            ("NEW-VIEWs that nobody could check", self.certificates.unjudged()),
            ("checked quorum certificates", blocks.quorum),
            ("checked timeout certificates", blocks.timeout),
            ("checked proposals", blocks.proposals),
            ("checked votes", blocks.votes),
            ("checked TIMEOUTs", blocks.timeouts),
            ("checked decisions", blocks.decisions),
            ("votes that nobody could check", self.certificates.unjudged_votes()),
            ("checked serializable reads", told.reads),
            ("reads without agreement", told.reads_without_agreement),
            ("checked watch revisions", told.watched_revisions),
            ("checked watch progress", told.watch_progress),
            ("watches of compacted history", told.watches_compacted),
            ("checked receipts", told.receipts),
            ("histories searched", self.searched.decided),
            ("histories too long to search", self.searched.undecided),
        ]
    }

    /// An honest replica answers a client.
    pub(super) fn answered(&mut self, replica: ReplicaId, reply: &Reply) -> Verdict {
        self.once.answered(replica, reply)
    }

    /// An honest replica took or installed a checkpoint.
    pub(super) fn snapshot(&mut self, replica: ReplicaId, snapshot: &Snapshot) -> Verdict {
        self.state.snapshot(replica, snapshot)
    }

    /// Any replica published evidence.
    pub(super) fn evidence(&mut self, replica: ReplicaId, evidence: &Evidence) -> Verdict {
        let convicting = match evidence {
            Evidence::Contradiction(first, second) => vec![first, second],
            Evidence::HiddenCommit(commit, _) => vec![commit],
            _ => Vec::new(),
        };
        if self.is_any_forged(convicting) {
            return Ok(());
        }
        self.evidence.check(replica, evidence)
    }

    /// Where an honest replica stands after a turn, that started with a snapshot of this number.
    pub(super) fn status(&self, replica: ReplicaId, status: &EngineStatus, started: Seq, log_bytes: u64) -> Verdict {
        self.memory.check(replica, status, started, log_bytes)
    }

    /// A client signed a request.
    pub(super) fn signed(&mut self, request: &Request) {
        self.validity.signed(request);
    }

    /// The highest number of the one order.
    pub(super) fn last(&self) -> Seq {
        self.state.reference().seq()
    }

    /// At the end: the clients' history against the one order, and the honest replicas' states against each other.
    pub(super) fn finish(&mut self, history: &History, states: &[(ReplicaId, &Execution<KeyValue>)]) -> Verdict {
        for (replica, execution) in states {
            self.state.finished(*replica, execution)?;
        }
        durability::check(history, &self.once, self.state.reference())?;
        linearizability::check(history, &self.once)?;
        wing_gong::check(history, &mut self.searched)
    }
}

#[cfg(test)]
mod tests;
