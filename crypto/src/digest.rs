//! SHA-256 digests with a domain tag for every use, so that bytes hashed for one purpose never stand for another.

use std::fmt;

use bincode::{Decode, Encode};
use sha2::{Digest as _, Sha256};

/// A 32-byte SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of nothing: 32 zero bytes. Used where a field has no content, never as the result of hashing.
    pub const ZERO: Digest = Digest([0; 32]);

    /// Digest of `parts` under `domain`. Every part is preceded by its length (u64, big-endian), so that moving a byte
    /// from one part to the next changes the digest.
    pub fn of(domain: Domain, parts: &[&[u8]]) -> Digest {
        let mut hasher = Hasher::new(domain);
        for part in parts {
            hasher.part(part);
        }
        hasher.finish()
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first three bytes in hexadecimal, for people.
    pub fn short(&self) -> String {
        hexadecimal(&self.0[..3])
    }

    /// All 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hexadecimal(&self.0)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]).map(|digit| char::from(DIGITS[digit as usize])).collect()
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.short())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// An incremental [`Digest::of`].
#[derive(Clone)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Starts a digest under `domain`.
    pub fn new(domain: Domain) -> Hasher {
        let tag = domain.tag();
        let mut inner = Sha256::new();
        inner.update([tag.len() as u8]);
        inner.update(tag);
        Hasher(inner)
    }

    /// Adds one part, preceded by its length.
    pub fn part(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    /// Ends the digest.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// What a digest is taken for. The tag is hashed first and never changes once released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// The identity of a cluster.
    Cluster,
    /// A client request, its signature included.
    Request,
    /// The operations inside a request.
    Operations,
    /// The list of request digests that makes a payload.
    Payload,
    /// d = H(time, payload kind, payload digest).
    Proposal,
    /// The body of a VIEW-CHANGE.
    ViewChange,
    /// The body of a NEW-VIEW.
    NewView,
    /// A leaf of a Merkle tree.
    MerkleLeaf,
    /// An inner node of a Merkle tree.
    MerkleNode,
    /// A node of the authenticated map.
    MapNode,
    /// A value in the authenticated map.
    MapValue,
    /// The replicated state: named sub-roots.
    State,
    /// One result of one operation.
    OperationResult,
    /// A frame of the log on disk.
    Frame,
    /// A HotStuff block.
    Block,
    /// The simulator's trace.
    Trace,
    /// A key's fingerprint.
    Fingerprint,
    /// A watch event.
    Event,
    /// A vote, timeout or quorum certificate of HotStuff.
    QuorumCertificate,
    /// All claims of a batch of signatures, from which its coefficients are drawn.
    SignatureBatch,
}

impl Domain {
    const fn tag(self) -> &'static [u8] {
        match self {
            Domain::Cluster => b"quorate/1/cluster",
            Domain::Request => b"quorate/1/request",
            Domain::Operations => b"quorate/1/operations",
            Domain::Payload => b"quorate/1/payload",
            Domain::Proposal => b"quorate/1/proposal",
            Domain::ViewChange => b"quorate/1/view-change",
            Domain::NewView => b"quorate/1/new-view",
            Domain::MerkleLeaf => b"quorate/1/merkle-leaf",
            Domain::MerkleNode => b"quorate/1/merkle-node",
            Domain::MapNode => b"quorate/1/map-node",
            Domain::MapValue => b"quorate/1/map-value",
            Domain::State => b"quorate/1/state",
            Domain::OperationResult => b"quorate/1/result",
            Domain::Frame => b"quorate/1/frame",
            Domain::Block => b"quorate/1/block",
            Domain::Trace => b"quorate/1/trace",
            Domain::Fingerprint => b"quorate/1/fingerprint",
            Domain::Event => b"quorate/1/event",
            Domain::QuorumCertificate => b"quorate/1/quorum-certificate",
            Domain::SignatureBatch => b"quorate/1/signature-batch",
        }
    }
}

#[cfg(test)]
mod tests;
