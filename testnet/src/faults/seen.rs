//! What a liar has seen: everything its honest inside was given or said, as far as lies are made of it.

use std::collections::{BTreeMap, VecDeque};

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Certificate, Digest, ReplicaId, Seq, Signed, StatementBody, View};
use quorate_protocol::engine::{Input, Step};
use quorate_protocol::hotstuff::message::BlockProposal;
use quorate_protocol::message::{Message, PrePrepare};
use quorate_protocol::pbft::view_change_message::ViewChange;
use quorate_protocol::proposal::Proposal;
use quorate_protocol::request::Request;

use super::hotstuff::Chain;

/// Requests remembered, and their bytes together.
const REQUESTS_KEPT: usize = 64;
const REQUEST_BYTES_KEPT: usize = 2 << 20;
/// Proposals remembered.
const PROPOSALS_KEPT: usize = 64;
/// Ballots whose COMMITs are remembered.
const BALLOTS_KEPT: usize = 32;
/// Messages remembered to be replayed.
const MESSAGES_KEPT: usize = 64;
/// VIEW-CHANGEs remembered.
const VIEW_CHANGES_KEPT: usize = 64;

/// What a step was given, as far as behaviours answer to it.
pub(super) enum Heard {
    /// Nothing of interest.
    Nothing,
    /// A peer asks for request bodies.
    Bodies { from: ReplicaId, digests: Vec<Digest> },
    /// A proposal.
    Proposed(PrePrepare),
    /// Somebody else's COMMIT.
    Committed(Ballot),
    /// A block.
    Block(Box<BlockProposal>),
    /// Anything else that HotStuff replicas say: a view may have begun by it.
    HotStuff,
}

/// A liar's memory. Every list has a cap; the oldest goes first.
#[derive(Default)]
pub(super) struct Seen {
    requests: VecDeque<(Digest, Request)>,
    request_bytes: usize,
    /// Requests that executed.
    executed: VecDeque<(Digest, Request)>,
    proposals: VecDeque<(Digest, Proposal)>,
    commits: BTreeMap<Ballot, BTreeMap<ReplicaId, Signed>>,
    /// The highest certificate of a stable checkpoint.
    stable: Option<Certificate>,
    checkpoints: BTreeMap<StatementBody, BTreeMap<ReplicaId, Signed>>,
    view_changes: BTreeMap<(View, ReplicaId), ViewChange>,
    messages: VecDeque<Message>,
    chain: Chain,
}

fn keep<T>(list: &mut VecDeque<T>, entry: T, cap: usize) {
    list.push_back(entry);
    if list.len() > cap {
        list.pop_front();
    }
}

impl Seen {
    /// What the honest inside is about to be given.
    pub(super) fn hear(&mut self, input: &Input, quorum: usize) -> Heard {
        match input {
            Input::Requests { requests, .. } => {
                for request in requests {
                    self.request(request);
                }
                Heard::Nothing
            }
            Input::Message { from, message } => {
                self.message(message, quorum);
                self.chain.hear(message);
                match &**message {
                    Message::FetchRequests(digests) => Heard::Bodies { from: *from, digests: digests.clone() },
                    Message::Status(status) if !status.missing_requests.is_empty() => {
                        Heard::Bodies { from: *from, digests: status.missing_requests.clone() }
                    }
                    Message::HotStuffStatus(status) if !status.missing_requests.is_empty() => {
                        Heard::Bodies { from: *from, digests: status.missing_requests.clone() }
                    }
                    Message::PrePrepare(message) => Heard::Proposed(message.clone()),
                    Message::BlockProposal(proposal) => Heard::Block(Box::new(proposal.clone())),
                    Message::BlockVote(_)
                    | Message::Timeout(_)
                    | Message::QuorumCertificate(_)
                    | Message::TimeoutCertificate(_)
                    | Message::Blocks(_)
                    | Message::HotStuffStatus(_) => Heard::HotStuff,
                    Message::Commit(Signed { statement, .. }) => match statement.body {
                        StatementBody::Commit(ballot) => Heard::Committed(ballot),
                        _ => Heard::Nothing,
                    },
                    _ => Heard::Nothing,
                }
            }
            _ => Heard::Nothing,
        }
    }

    /// What the honest inside wants said and done.
    pub(super) fn say(&mut self, step: &Step, quorum: usize) {
        for send in &step.sends {
            self.message(&send.message, quorum);
            self.chain.note(&send.message);
        }
        for decided in &step.decided {
            for request in &decided.requests {
                keep(&mut self.executed, (request.digest(), (***request).clone()), REQUESTS_KEPT);
            }
        }
    }

    fn request(&mut self, request: &Request) {
        if request.weight() > REQUEST_BYTES_KEPT / 4 {
            return;
        }
        self.request_bytes += request.weight();
        self.requests.push_back((request.digest(), request.clone()));
        while self.requests.len() > REQUESTS_KEPT || self.request_bytes > REQUEST_BYTES_KEPT {
            if let Some((_, gone)) = self.requests.pop_front() {
                self.request_bytes -= gone.weight();
            }
        }
    }

    fn message(&mut self, message: &Message, quorum: usize) {
        match message {
            Message::PrePrepare(message) => {
                keep(&mut self.proposals, (message.proposal.digest(), message.proposal.clone()), PROPOSALS_KEPT);
            }
            Message::Commit(signed) => {
                if let StatementBody::Commit(ballot) = *signed.body() {
                    self.commits.entry(ballot).or_default().insert(signed.signer(), *signed);
                    while self.commits.len() > BALLOTS_KEPT {
                        self.commits.pop_first();
                    }
                }
            }
            Message::Checkpoint(signed) => {
                let votes = self.checkpoints.entry(*signed.body()).or_default();
                votes.insert(signed.signer(), *signed);
                if votes.len() >= quorum
                    && let Some(certificate) = Certificate::collect(votes.values())
                {
                    self.stable(&certificate);
                }
                while self.checkpoints.len() > BALLOTS_KEPT {
                    self.checkpoints.pop_first();
                }
            }
            Message::StableCheckpoint(certificate) => self.stable(certificate),
            Message::ViewChange(message) => {
                if let Some(certificate) = &message.body().stable {
                    self.stable(certificate);
                }
                self.view_changes.insert((message.view(), message.author()), message.clone());
                while self.view_changes.len() > VIEW_CHANGES_KEPT {
                    self.view_changes.pop_first();
                }
            }
            _ => {}
        }
        let large = matches!(
            message,
            Message::Requests(_) | Message::Chunk { .. } | Message::Proposals(_) | Message::Blocks(_)
        );
        if !large {
            keep(&mut self.messages, message.clone(), MESSAGES_KEPT);
        }
    }

    fn stable(&mut self, certificate: &Certificate) {
        let number = |certificate: &Certificate| match certificate.body {
            StatementBody::Checkpoint { seq, .. } => seq,
            _ => Seq(0),
        };
        if self.stable.as_ref().is_none_or(|held| number(held) < number(certificate)) {
            self.stable = Some(certificate.clone());
        }
    }

    /// The newest request it was given.
    pub(super) fn newest_request(&self) -> Option<&Request> {
        self.requests.back().map(|(_, request)| request)
    }

    /// Requests that executed, oldest first.
    pub(super) const fn executed(&self) -> &VecDeque<(Digest, Request)> {
        &self.executed
    }

    /// The proposal of a digest.
    pub(super) fn proposal(&self, digest: &Digest) -> Option<&Proposal> {
        self.proposals.iter().rev().find(|(held, _)| held == digest).map(|(_, proposal)| proposal)
    }

    /// COMMITs by ballot.
    pub(super) const fn commits(&self) -> &BTreeMap<Ballot, BTreeMap<ReplicaId, Signed>> {
        &self.commits
    }

    /// The certificate of the highest stable checkpoint it knows.
    pub(super) const fn stable_certificate(&self) -> Option<&Certificate> {
        self.stable.as_ref()
    }

    /// The VIEW-CHANGEs of a NEW-VIEW, if all are known.
    pub(super) fn view_changes(&self, view: View, named: &[(ReplicaId, Digest)]) -> Option<Vec<&ViewChange>> {
        named.iter().map(|(author, _)| self.view_changes.get(&(view, *author))).collect()
    }

    /// What it knows of HotStuff's chain.
    pub(super) const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Messages to replay.
    pub(super) const fn messages(&self) -> &VecDeque<Message> {
        &self.messages
    }
}
