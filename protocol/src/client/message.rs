//! What clients and replicas say to each other on the client port.

use bincode::{Decode, Encode};
use quorate_crypto::merkle_tree::MerklePath;
use quorate_crypto::{Digest, ReplicaId, Seq, Signed, View};

use crate::reply::{Refusal, Reply};
use crate::request::{Operation, Request};

/// Most bytes of one frame on the client port: a full request and its framing.
pub const CLIENT_FRAME_MAX: usize = 2 * 1024 * 1024;

/// From a client to a replica. `id` is chosen by the client and unique per link.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum ClientMessage {
    /// A signed request to order and execute.
    Submit(Request),
    /// A read of the replica's own executed state (`--serializable`): the client compares f + 1 answers at one revision.
    Read {
        /// Names the answer.
        id: u64,
        /// A read-only operation.
        operation: Operation,
        /// At this revision; none for the newest the replica has executed.
        revision: Option<u64>,
    },
    /// Subscribes to events from `from_revision` on.
    Watch {
        /// Names the events.
        id: u64,
        /// The range, as a service-specific operation.
        range: Operation,
        /// First revision wanted.
        from_revision: u64,
    },
    /// Ends a subscription.
    Unwatch {
        /// The subscription.
        id: u64,
    },
    /// Asks where the replica stands.
    Status {
        /// Names the answer.
        id: u64,
    },
    /// Asks for the signed results root of a batch and the path of one result.
    Receipt {
        /// Names the answer.
        id: u64,
        /// The batch.
        seq: Seq,
        /// The place in the batch.
        index: u32,
    },
}

/// What a watch delivers.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum WatchUpdate {
    /// Every event of one revision in the range, in the service's encoding.
    Events {
        /// The revision.
        revision: u64,
        /// The events.
        events: Vec<u8>,
    },
    /// Nothing in the range happened up to and including this revision.
    Progress {
        /// The revision.
        revision: u64,
    },
    /// The history asked for is compacted.
    Compacted {
        /// The lowest revision that is still there.
        revision: u64,
    },
    /// The subscription is refused or ended, with one sentence.
    Ended(String),
}

/// Where a replica stands, as it says itself.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ReplicaStatus {
    /// The replica.
    pub replica: ReplicaId,
    /// Its view.
    pub view: View,
    /// Who leads that view.
    pub primary: ReplicaId,
    /// Highest number executed.
    pub executed: Seq,
    /// The service's revision.
    pub revision: u64,
    /// Agreed time, milliseconds.
    pub time: u64,
    /// Stable checkpoint.
    pub checkpoint: Seq,
    /// Its state root.
    pub checkpoint_digest: Digest,
}

/// From a replica to a client.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum ReplicaMessage {
    /// The answer to a request.
    Reply(Reply),
    /// Not admitted; no timer was started for it.
    Busy {
        /// The request.
        request: Digest,
        /// When to try again, milliseconds.
        retry_after: u64,
    },
    /// Refused before it was ordered.
    Refused {
        /// The request.
        request: Digest,
        /// Why.
        reason: Refusal,
    },
    /// The answer to a read.
    Read {
        /// The read.
        id: u64,
        /// The revision it was answered at.
        revision: u64,
        /// The result in the service's encoding.
        result: Vec<u8>,
    },
    /// An event of a watch.
    Watch {
        /// The subscription.
        id: u64,
        /// What happened.
        update: WatchUpdate,
    },
    /// Where the replica stands.
    Status {
        /// The question.
        id: u64,
        /// The answer.
        status: ReplicaStatus,
    },
    /// A receipt, if the batch is still remembered.
    Receipt {
        /// The question.
        id: u64,
        /// EXECUTED, and the path from the result to the root it signs.
        receipt: Option<(Signed, MerklePath)>,
    },
}
