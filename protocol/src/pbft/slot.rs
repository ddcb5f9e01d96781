//! One sequence number: votes by view, the proposals they name, the certificates they made.

use std::collections::BTreeMap;

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Certificate, Digest, Endorsement, ReplicaId, Signed, StatementBody, View};

use crate::engine::RecordIndex;
use crate::message::Prepare;
use crate::parameters::Micros;
use crate::pbft::view_change_message::SlotProof;
use crate::proposal::Proposal;

/// The votes of one view.
#[derive(Debug, Default)]
pub struct Round {
    /// The primary's assignment; the first one counts, a second one is evidence.
    pub pre_prepare: Option<Signed>,
    /// Whether the header time passed this replica's clock (always for what a NEW-VIEW carries).
    pub time_accepted: bool,
    /// PREPAREs by author, own one included.
    pub prepares: BTreeMap<ReplicaId, Prepare>,
    /// COMMITs by author, own one included.
    pub commits: BTreeMap<ReplicaId, Signed>,
    /// The record the own PRE-PREPARE or PREPARE waits for.
    pub vote_record: Option<RecordIndex>,
}

/// What PRE-PREPARE, PREPARE and COMMIT sign.
pub fn ballot_of(body: &StatementBody) -> Option<&Ballot> {
    match body {
        StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
            Some(ballot)
        }
        _ => None,
    }
}

impl Round {
    /// The ballot of the accepted PRE-PREPARE.
    pub fn ballot(&self) -> Option<Ballot> {
        self.pre_prepare.as_ref().and_then(|signed| ballot_of(signed.body()).copied())
    }
}

/// A prepared certificate this replica holds.
#[derive(Clone, Debug)]
pub struct PreparedCertificate {
    /// What it certifies.
    pub ballot: Ballot,
    /// The primary's PRE-PREPARE.
    pub pre_prepare: Signed,
    /// PREPAREs of q - 1 or more backups.
    pub prepares: Certificate,
}

/// One sequence number.
#[derive(Debug, Default)]
pub struct Slot {
    /// Votes of the current view and the next one.
    pub rounds: BTreeMap<View, Round>,
    /// Proposals that rounds and certificates name.
    pub proposals: BTreeMap<Digest, Proposal>,
    /// The prepared certificate of the highest view.
    pub prepared: Option<PreparedCertificate>,
    /// The commit certificate: the number is decided.
    pub committed: Option<Certificate>,
    /// The COMMIT of this replica in the highest view.
    pub own_commit: Option<Signed>,
    /// The record that COMMIT waits for.
    pub own_commit_record: Option<RecordIndex>,
    /// The lowest record this slot rests on; the log is not cut above it while the slot is kept.
    pub first_record: Option<RecordIndex>,
    /// Bytes of the requests this replica proposed here, as the primary of a view.
    pub own_bytes: usize,
    /// When to ask for what is missing, and how often that was done.
    pub fetch: Option<(Micros, u32)>,
}

impl Slot {
    /// The decided ballot.
    pub fn decided(&self) -> Option<&Ballot> {
        self.committed.as_ref().and_then(|certificate| ballot_of(&certificate.body))
    }

    /// The decided proposal, if it is held.
    pub fn decided_proposal(&self) -> Option<&Proposal> {
        self.proposals.get(&self.decided()?.digest)
    }

    /// Every digest whose proposal the slot still needs.
    pub fn needed_proposals(&self) -> impl Iterator<Item = Digest> + '_ {
        let rounds = self.rounds.values().filter_map(|round| round.ballot().map(|ballot| ballot.digest));
        let prepared = self.prepared.iter().map(|certificate| certificate.ballot.digest);
        rounds.chain(prepared).chain(self.decided().map(|ballot| ballot.digest))
    }

    /// Notes that a record holds something of this slot.
    pub fn rests_on(&mut self, record: RecordIndex) {
        self.first_record = Some(self.first_record.map_or(record, |first| first.min(record)));
    }

    /// Keeps the prepared certificate of the highest view (rule P3).
    pub fn keep_prepared(&mut self, certificate: PreparedCertificate) {
        if self.prepared.as_ref().is_none_or(|held| held.ballot.view <= certificate.ballot.view) {
            self.prepared = Some(certificate);
        }
    }

    /// What a VIEW-CHANGE to `target` must say about this number: the certificate of the highest view below it. It stays
    /// there after the number is decided (rule P4; besu #1734 left it out and two honest nodes decided differently). A
    /// certificate of `target` or later can only have come from others, who went on without this replica: a VIEW-CHANGE
    /// that carried it would be refused, and the choice for `target` does not rest on it.
    pub fn proof(&self, target: View) -> Option<SlotProof> {
        let committed = self.committed.as_ref().zip(self.decided()).filter(|(_, ballot)| ballot.view < target);
        let prepared = self.prepared.as_ref().filter(|prepared| prepared.ballot.view < target);
        if let Some((certificate, ballot)) = committed
            && prepared.is_none_or(|prepared| prepared.ballot.view <= ballot.view)
        {
            return Some(SlotProof::Committed { ballot: *ballot, commits: certificate.endorsements.clone() });
        }
        prepared.map(|prepared| SlotProof::Prepared {
            ballot: prepared.ballot,
            primary: Endorsement {
                signer: prepared.pre_prepare.signer(),
                incarnation: prepared.pre_prepare.statement.incarnation,
                signature: prepared.pre_prepare.signature,
            },
            prepares: prepared.prepares.endorsements.clone(),
        })
    }
}
