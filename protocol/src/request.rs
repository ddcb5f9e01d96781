//! Client requests: what a client signs, and the digest that names it.
//!
//! Signed bytes, fixed width, big-endian:
//!
//! ```text
//! offset   0  kind                u8     0x40
//!          1  version             u8     1
//!          2  cluster             32 B
//!         34  client key          32 B
//!         66  session             16 B
//!         82  number              u64
//!         90  acknowledged below  u64
//!         98  valid until         u64    milliseconds of agreed time
//!        106  operations digest   32 B
//! ```

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use quorate_crypto::digest::Hasher;
use quorate_crypto::statement::REQUEST_KIND;
use quorate_crypto::verified::BadSignature;
use quorate_crypto::{Claim, ClusterId, Committee, Digest, Domain, PublicKey, Signature, Signer, Verify};
use thiserror::Error;

use crate::rejoin::rejoin_statement;

/// Most bytes the operations of one request may have together: 1.5 MiB.
pub const REQUEST_BYTES_MAX: usize = 3 * 512 * 1024;
/// Most operations one request (a bundle) may carry.
pub const REQUEST_OPERATIONS_MAX: usize = 1024;
/// What a request weighs beside its operations' bytes, for batch accounting (bytes).
pub const REQUEST_OVERHEAD: usize = 256;

/// A client's session: 128 random bits, fresh for every process of the client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct SessionId(pub [u8; 16]);

/// One operation for one replicated service. The key-value store is service 1.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Operation {
    /// Which service executes it.
    pub service: u16,
    /// The operation in the service's own encoding.
    pub bytes: Vec<u8>,
}

/// Everything of a request but its signature.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RequestContent {
    /// The client's key: its identity.
    pub client: PublicKey,
    /// The session.
    pub session: SessionId,
    /// Number within the session, from 1. At most one request of a number executes.
    pub number: u64,
    /// The client has the results of every number below; replicas may forget them.
    pub acknowledged_below: u64,
    /// Agreed time (ms) after which the request no longer executes.
    pub valid_until: u64,
    /// Run in order, one result each.
    pub operations: Vec<Operation>,
}

/// A signed request. Its digests are computed when it is made or decoded, so they always fit the content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    content: RequestContent,
    signature: Signature,
    operations_digest: Digest,
    digest: Digest,
}

/// Why a request is refused before it reaches the protocol. Every replica judges alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Numbers begin at 1.
    #[error("request numbers begin at 1")]
    NumberZero,
    /// No operation, or more than [`REQUEST_OPERATIONS_MAX`].
    #[error("a request carries 1 to {REQUEST_OPERATIONS_MAX} operations, not {0}")]
    OperationCount(usize),
    /// More than [`REQUEST_BYTES_MAX`] bytes of operations.
    #[error("the operations have {0} bytes, the limit is {REQUEST_BYTES_MAX}")]
    TooLarge(usize),
    /// A Rejoin whose statement is not the named key's owner's, or of another epoch.
    #[error("the request carries a Rejoin that is not its replica's own")]
    ForeignRejoin,
    /// The signature does not verify.
    #[error(transparent)]
    BadSignature(#[from] BadSignature),
}

fn operations_digest(operations: &[Operation]) -> Digest {
    let mut hasher = Hasher::new(Domain::Operations);
    for operation in operations {
        hasher.part(&operation.service.to_be_bytes());
        hasher.part(&operation.bytes);
    }
    hasher.finish()
}

impl RequestContent {
    fn signed_bytes(&self, cluster: ClusterId, operations: Digest) -> Vec<u8> {
        let mut out = Vec::with_capacity(138);
        out.push(REQUEST_KIND);
        out.push(1);
        out.extend_from_slice(cluster.0.as_bytes());
        out.extend_from_slice(&self.client.0);
        out.extend_from_slice(&self.session.0);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.acknowledged_below.to_be_bytes());
        out.extend_from_slice(&self.valid_until.to_be_bytes());
        out.extend_from_slice(operations.as_bytes());
        out
    }

    fn digest(&self, operations: Digest, signature: &Signature) -> Digest {
        Digest::of(
            Domain::Request,
            &[
                &self.client.0,
                &self.session.0,
                &self.number.to_be_bytes(),
                &self.acknowledged_below.to_be_bytes(),
                &self.valid_until.to_be_bytes(),
                operations.as_bytes(),
                &signature.0,
            ],
        )
    }

    /// Signs the request with the client's key.
    pub fn sign(self, cluster: ClusterId, key: &dyn Signer) -> Request {
        let operations_digest = operations_digest(&self.operations);
        let signature = key.sign(&self.signed_bytes(cluster, operations_digest));
        let digest = self.digest(operations_digest, &signature);
        Request { content: self, signature, operations_digest, digest }
    }
}

impl Request {
    /// Puts a content and a signature together, unchecked. For tests and for Byzantine replicas: what the product sends
    /// is made by [`RequestContent::sign`].
    pub fn from_parts(content: RequestContent, signature: Signature) -> Request {
        let operations_digest = operations_digest(&content.operations);
        let digest = content.digest(operations_digest, &signature);
        Request { content, signature, operations_digest, digest }
    }

    /// The content.
    pub const fn content(&self) -> &RequestContent {
        &self.content
    }

    /// The client's signature.
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The digest that names this request. It covers the signature: two signatures over one content are two requests,
    /// of which at most one executes (they share a number).
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes this request takes in a batch, for limits.
    pub fn weight(&self) -> usize {
        weight_of(&self.content.operations)
    }
}

/// [`Request::weight`] of a request that carries `operations`: no encoded request of theirs is longer.
pub fn weight_of(operations: &[Operation]) -> usize {
    REQUEST_OVERHEAD + operations.iter().map(|operation| operation.bytes.len() + 10).sum::<usize>()
}

impl Encode for Request {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.content.encode(encoder)?;
        self.signature.encode(encoder)
    }
}

impl<Context> Decode<Context> for Request {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let content = RequestContent::decode(decoder)?;
        let signature = Signature::decode(decoder)?;
        Ok(Request::from_parts(content, signature))
    }
}

bincode::impl_borrow_decode!(Request);

impl Verify for Request {
    type Context = ();
    type Error = RequestError;

    fn claims(&self, committee: &Committee, (): &(), claims: &mut Vec<Claim>) -> Result<(), RequestError> {
        let content = &self.content;
        if content.number == 0 {
            return Err(RequestError::NumberZero);
        }
        let count = content.operations.len();
        if count == 0 || count > REQUEST_OPERATIONS_MAX {
            return Err(RequestError::OperationCount(count));
        }
        let bytes: usize = content.operations.iter().map(|operation| operation.bytes.len()).sum();
        if bytes > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLarge(bytes));
        }
        if let Some(statement) = rejoin_statement(self) {
            // A replica's own: its statement is what is verified, and no client has signed anything.
            if committee.key(statement.signer()) != Some(&content.client) {
                return Err(RequestError::ForeignRejoin);
            }
            return statement.claims(committee, &(), claims).map_err(|_| RequestError::ForeignRejoin);
        }
        claims.push(Claim {
            key: content.client,
            message: content.signed_bytes(committee.cluster(), self.operations_digest),
            signature: self.signature,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
