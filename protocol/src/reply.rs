//! What a replica answers. Replies are not signed one by one: authenticated links carry them and f + 1 equal ones count.

use bincode::{Decode, Encode};
use quorate_crypto::encoding::encode;
use quorate_crypto::{Digest, Domain, Seq};

/// Most bytes the results of one request may have together, 8 bytes of length for each included: 2 MiB less 64 KiB, so
/// that a reply fits a frame of the client port ([`crate::client::message::CLIENT_FRAME_MAX`]).
pub const RESULTS_BYTES_MAX: usize = 2 * 1024 * 1024 - 64 * 1024;

/// Why a request did not execute. None of these consumed the request's number, so a refusal is not an outcome: the same
/// bytes may still execute later, unless agreed time has passed `valid_until`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub enum Refusal {
    /// The client's key is not registered.
    UnknownClient,
    /// Agreed time has passed `valid_until`, and the request never executed. Agreed time never goes back, so it never
    /// will: this refusal is final.
    Expired,
    /// `valid_until` lies further ahead than T_max.
    ValidTooLong,
    /// The number lies below what the client acknowledged, in this request or in one that executed.
    StaleNumber,
    /// The number lies too far above the lowest unacknowledged one.
    NumberTooFar,
    /// The key's share of the session table is full of sessions that may not be dropped yet.
    SessionTableFull,
    /// Another request executed under this number.
    NumberTaken,
    /// The request names a service that does not exist, or an operation the service cannot decode.
    UnknownOperation,
    /// Agreed time has passed `valid_until`, and a session of this client that was in use until then was dropped: the
    /// request will not execute any more, but whether it executed earlier is forgotten.
    Forgotten,
    /// The client's key may not do this.
    NotPermitted,
    /// The operation is reserved and not executed by this version.
    NotSupported,
    /// The results this key got from the batch already have their largest size, or took as many steps as it may. The same
    /// bytes may be sent again.
    BatchShareSpent,
}

/// How a request ended at its place in the order.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Outcome {
    /// Executed; one result per operation, in order, in the service's encoding. Where they would exceed
    /// [`RESULTS_BYTES_MAX`] the list ends early: of the operations left over, the writes executed all the same, the
    /// read-only ones did not.
    Results(Vec<Vec<u8>>),
    /// Executed earlier; its results are no longer cached.
    ExecutedEarlier,
    /// Not executed.
    Refused(Refusal),
}

/// A replica's answer to one request. Replicas that executed the same prefix give equal answers to the byte.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Reply {
    /// Digest of the request.
    pub request: Digest,
    /// The batch it executed in.
    pub seq: Seq,
    /// Its place in the batch.
    pub index: u32,
    /// Agreed time of the batch, milliseconds.
    pub time: u64,
    /// The service's revision after it.
    pub revision: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Reply {
    /// The leaf this reply is in the tree whose root EXECUTED signs, at the reply's index of the batch that gave it:
    /// `H(result domain, encoded reply)`. It covers every field, the request's digest included.
    pub fn leaf(&self) -> [u8; 32] {
        Digest::of(Domain::OperationResult, &[&encode(self)]).0
    }
}
