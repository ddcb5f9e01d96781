//! From what the core publishes to frames on links. A message to all is encoded once.
//!
//! | class | messages |
//! |---|---|
//! | vote | PREPARE, COMMIT, block votes, TIMEOUTs, CHECKPOINT, EXECUTED, STATUS, questions |
//! | proposal | PRE-PREPARE, VIEW-CHANGE, NEW-VIEW, blocks, quorum and timeout certificates, a few requests |
//! | bulk | many requests, state, proposals, blocks and certificates for those who lag |
//!
//! A view change must not wait behind megabytes of state transfer, so its messages go with proposals. What is too long
//! for its class goes with the next that takes it.

use std::sync::Arc;

use bytes::Bytes;
use quorate_crypto::Signed;
use quorate_crypto::encoding::encode;
use quorate_protocol::engine::Recipients;
use quorate_protocol::message::Message;
use quorate_transport::limits::{FRAME_CAP_BYTES, VOTE_FRAME_CAP_BYTES};
use quorate_transport::{Class, PeerHandle, SendError};

use crate::metrics::Metrics;

/// Requests up to so many bytes go with proposals: one of them may be all that a proposal lacks.
const FEW_REQUESTS_BYTES: usize = 64 * 1024;

/// The class a message of `length` bytes goes by.
fn class_of(message: &Message, length: usize) -> Class {
    let class = match message {
        Message::Prepare(_)
        | Message::Commit(_)
        | Message::Checkpoint(_)
        | Message::Executed(_)
        | Message::Status(_)
        | Message::FetchRequests(_)
        | Message::FetchProposals(_)
        | Message::FetchViewChange { .. }
        | Message::FetchState { .. }
        | Message::FetchChunk { .. }
        | Message::BlockVote(_)
        | Message::Timeout(_)
        | Message::FetchBlocks(_)
        | Message::HotStuffStatus(_) => Class::Vote,
        Message::PrePrepare(_)
        | Message::ViewChange(_)
        | Message::NewView(_)
        | Message::YourStatements(_)
        | Message::BlockProposal(_)
        | Message::QuorumCertificate(_)
        | Message::TimeoutCertificate(_) => Class::Proposal,
        Message::Requests(_) if length <= FEW_REQUESTS_BYTES => Class::Proposal,
        Message::Requests(_)
        | Message::Proposals(_)
        | Message::CommitCertificate(_)
        | Message::Blocks(_)
        | Message::StableCheckpoint(_)
        | Message::State { .. }
        | Message::Chunk { .. }
        | Message::StateGone { .. } => Class::Bulk,
    };
    if class == Class::Vote && length > VOTE_FRAME_CAP_BYTES { Class::Proposal } else { class }
}

/// A line about a vote, with what it says.
fn handed(vote: &str, signed: &Signed) {
    tracing::trace!(vote, says = ?signed.body(), "handed to the links");
}

/// Sends to peers.
pub(crate) struct Sending {
    pub(crate) peers: PeerHandle,
    pub(crate) metrics: Arc<Metrics>,
}

impl Sending {
    /// Puts each message into the queues of its recipients. A full queue loses it: the protocol repeats what is missed.
    pub(crate) fn publish(&self, sends: Vec<(Recipients, Message)>) {
        if sends.is_empty() {
            return;
        }
        tracing::trace!(messages = sends.len(), "a turn publishes");
        for (to, message) in sends {
            // The tests that follow the system calls of a node see by these lines when which vote leaves the core.
            match &message {
                Message::Prepare(prepare) => handed("PREPARE", &prepare.signed),
                Message::Commit(commit) => handed("COMMIT", commit),
                _ => {}
            }
            let frame = Bytes::from(encode(&message));
            let class = class_of(&message, frame.len());
            match &message {
                Message::Requests(_) => {
                    self.metrics.request_bytes_sent.inc_by(frame.len() as u64);
                }
                Message::FetchRequests(_) => {
                    self.metrics.request_fetches.inc();
                }
                _ => {}
            }
            if frame.len() > FRAME_CAP_BYTES {
                tracing::error!(bytes = frame.len(), "a message exceeds the frame cap and is not sent");
                self.metrics.frames_unsent.inc();
                continue;
            }
            match to {
                Recipients::Others => {
                    self.peers.broadcast(class, &frame);
                }
                Recipients::One(id) => {
                    if let Err(SendError::Full(_)) = self.peers.send(id, class, frame) {
                        self.metrics.frames_unsent.inc();
                    }
                }
            }
        }
    }
}
