//! VIEW-CHANGE and NEW-VIEW: bodies that travel as the bytes their author signed the digest of.
//!
//! Both sign the digest of their whole body, proofs included; else a stranger could attach a bad half and frame an
//! honest signer. The bytes are kept as received and never encoded again.

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};
use quorate_crypto::encoding::{DECODE_CEILING, decode, encode};
use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Certificate, Claim, ClusterId, Committee, Digest, Domain, Endorsement, ReplicaId, Seq, Signature, Signed, Signer,
    Statement, StatementBody, Verify, View,
};

use crate::message::MessageError;
use crate::pbft::safety::{self, NewViewError, ProofError};

/// Proof that a proposal may have been decided at one number.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum SlotProof {
    /// The primary's PRE-PREPARE and PREPAREs of q - 1 distinct backups.
    Prepared {
        /// What all of them signed.
        ballot: Ballot,
        /// The primary's endorsement of the PRE-PREPARE.
        primary: Endorsement,
        /// The backups' endorsements of the PREPARE, ascending.
        prepares: Vec<Endorsement>,
    },
    /// q COMMITs; they stand for a prepared certificate of their view.
    Committed {
        /// What all of them signed.
        ballot: Ballot,
        /// The endorsements of the COMMIT, ascending.
        commits: Vec<Endorsement>,
    },
}

impl SlotProof {
    /// View, number and digest it proves.
    pub const fn ballot(&self) -> &Ballot {
        match self {
            SlotProof::Prepared { ballot, .. } | SlotProof::Committed { ballot, .. } => ballot,
        }
    }
}

/// The body of a VIEW-CHANGE.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ViewChangeBody {
    /// The view asked for.
    pub view: View,
    /// q CHECKPOINTs of the author's low watermark; none for the genesis state.
    pub stable: Option<Certificate>,
    /// A proof for every number above the low watermark that the author prepared or decided, ascending.
    pub slots: Vec<SlotProof>,
}

impl ViewChangeBody {
    /// The author's low watermark.
    pub fn stable_seq(&self) -> Seq {
        match self.stable.as_ref().map(|certificate| certificate.body) {
            Some(StatementBody::Checkpoint { seq, .. }) => seq,
            _ => Seq(0),
        }
    }
}

/// A VIEW-CHANGE as its author signed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ViewChange {
    /// `StatementBody::ViewChange`.
    pub signed: Signed,
    bytes: Vec<u8>,
    body: ViewChangeBody,
}

/// One PRE-PREPARE of a NEW-VIEW.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Reproposal {
    /// The number.
    pub seq: Seq,
    /// The digest chosen for it.
    pub digest: Digest,
    /// The new primary's signature over the PRE-PREPARE of the new view.
    pub signature: Signature,
}

/// The body of a NEW-VIEW.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct NewViewBody {
    /// The view opened.
    pub view: View,
    /// The VIEW-CHANGEs it rests on, by author (ascending) and digest.
    pub view_changes: Vec<(ReplicaId, Digest)>,
    /// What the new view carries over, ascending and without gaps.
    pub reproposals: Vec<Reproposal>,
}

/// A NEW-VIEW as its author signed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewView {
    /// `StatementBody::NewView`.
    pub signed: Signed,
    bytes: Vec<u8>,
    body: NewViewBody,
}

impl ViewChange {
    /// Signs a body.
    pub fn sign(body: ViewChangeBody, header: Statement, cluster: ClusterId, signer: &dyn Signer) -> ViewChange {
        let bytes = encode(&body);
        let digest = Digest::of(Domain::ViewChange, &[&bytes]);
        let statement = Statement { body: StatementBody::ViewChange { view: body.view, body: digest }, ..header };
        ViewChange { signed: statement.sign(cluster, signer), bytes, body }
    }

    /// The body.
    pub const fn body(&self) -> &ViewChangeBody {
        &self.body
    }

    /// The author.
    pub const fn author(&self) -> ReplicaId {
        self.signed.statement.signer
    }

    /// The view asked for.
    pub const fn view(&self) -> View {
        self.body.view
    }

    /// Bytes of the body.
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Digest of the bytes received.
    pub fn digest(&self) -> Digest {
        Digest::of(Domain::ViewChange, &[&self.bytes])
    }

    /// Everything but the signatures, which are appended to `claims`.
    pub fn claims(&self, committee: &Committee, window: &u64, claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        if self.signed.statement.body != (StatementBody::ViewChange { view: self.body.view, body: self.digest() }) {
            return Err(MessageError::WrongStatement);
        }
        self.signed.claims(committee, &(), claims)?;
        safety::view_change_claims(&self.body, self.signed.statement.epoch, committee, *window, claims)?;
        Ok(())
    }
}

impl NewView {
    /// Signs a body made of what [`safety::choose`] computed.
    pub fn sign(
        view: View,
        view_changes: Vec<(ReplicaId, Digest)>,
        chosen: &[(Seq, Digest)],
        header: Statement,
        cluster: ClusterId,
        signer: &dyn Signer,
    ) -> NewView {
        let reproposals = chosen
            .iter()
            .map(|(seq, digest)| {
                let ballot = Ballot { view, seq: *seq, digest: *digest };
                let signed = Statement { body: StatementBody::PrePrepare(ballot), ..header }.sign(cluster, signer);
                Reproposal { seq: *seq, digest: *digest, signature: signed.signature }
            })
            .collect();
        Self::sign_body(NewViewBody { view, view_changes, reproposals }, header, cluster, signer)
    }

    /// Signs a body as it is. The honest replica uses [`NewView::sign`]; Byzantine ones say what they like.
    pub fn sign_body(body: NewViewBody, header: Statement, cluster: ClusterId, signer: &dyn Signer) -> NewView {
        let bytes = encode(&body);
        let digest = Digest::of(Domain::NewView, &[&bytes]);
        let statement = Statement { body: StatementBody::NewView { view: body.view, body: digest }, ..header };
        NewView { signed: statement.sign(cluster, signer), bytes, body }
    }

    /// The body.
    pub const fn body(&self) -> &NewViewBody {
        &self.body
    }

    /// The author.
    pub const fn author(&self) -> ReplicaId {
        self.signed.statement.signer
    }

    /// The view opened.
    pub const fn view(&self) -> View {
        self.body.view
    }

    /// The PRE-PREPAREs it contains, as signed statements.
    pub fn pre_prepares(&self) -> impl Iterator<Item = Signed> + '_ {
        self.body.reproposals.iter().map(|reproposal| {
            let ballot = Ballot { view: self.body.view, seq: reproposal.seq, digest: reproposal.digest };
            Signed {
                statement: Statement { body: StatementBody::PrePrepare(ballot), ..self.signed.statement },
                signature: reproposal.signature,
            }
        })
    }

    /// Everything that can be checked without the VIEW-CHANGEs; [`safety::new_view_holds`] checks the rest.
    pub fn claims(&self, committee: &Committee, window: &u64, claims: &mut Vec<Claim>) -> Result<(), MessageError> {
        let digest = Digest::of(Domain::NewView, &[&self.bytes]);
        if self.signed.statement.body != (StatementBody::NewView { view: self.body.view, body: digest }) {
            return Err(MessageError::WrongStatement);
        }
        safety::new_view_shape(&self.body, self.author(), committee, *window)?;
        self.signed.claims(committee, &(), claims)?;
        for pre_prepare in self.pre_prepares() {
            pre_prepare.claims(committee, &(), claims)?;
        }
        Ok(())
    }
}

impl Encode for ViewChange {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.signed.encode(encoder)?;
        self.bytes.encode(encoder)
    }
}

impl<Context> Decode<Context> for ViewChange {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let signed = Signed::decode(decoder)?;
        let bytes = Vec::<u8>::decode(decoder)?;
        let body = decode(&bytes, DECODE_CEILING).map_err(|error| DecodeError::OtherString(error.to_string()))?;
        Ok(ViewChange { signed, bytes, body })
    }
}

impl Encode for NewView {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.signed.encode(encoder)?;
        self.bytes.encode(encoder)
    }
}

impl<Context> Decode<Context> for NewView {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let signed = Signed::decode(decoder)?;
        let bytes = Vec::<u8>::decode(decoder)?;
        let body = decode(&bytes, DECODE_CEILING).map_err(|error| DecodeError::OtherString(error.to_string()))?;
        Ok(NewView { signed, bytes, body })
    }
}

impl From<ProofError> for NewViewError {
    fn from(error: ProofError) -> Self {
        NewViewError::Proof(error)
    }
}

bincode::impl_borrow_decode!(ViewChange);
bincode::impl_borrow_decode!(NewView);
