//! The sabotage that Twins must catch: quorums one smaller than they must be.
//!
//! Nothing in the production code can lower a quorum, so every replica gets one vote more than was cast. One real vote
//! less is then enough, as if q - 1 were a quorum.
//!
//! | with | goes, in the name of a replica that knows nothing of it |
//! |---|---|
//! | PRE-PREPARE, PREPARE | PREPARE |
//! | COMMIT | COMMIT |
//! | a vote for a block | the vote for that block |
//!
//! TIMEOUTs stay as they are. A committed block is safe under HotStuff since every TC that might abandon it has an honest
//! author in common with the certificate on its child. With q - 1 votes under that one the author need not be honest.
//!
//! While nobody equivocates that changes nothing anybody can see. Where somebody does, the replica in whose name a vote
//! was cast may say otherwise itself. That is no finding: what nobody said convicts nobody, is held against nobody and is
//! handed back to nobody, so that a run fails only by what comes of such a quorum.

use std::sync::Arc;

use quorate_crypto::encoding::encode;
use quorate_crypto::{Incarnation, Statement, StatementBody};
use quorate_protocol::message::{Message, Prepare};

use super::plan::Sabotage;
use super::world::{Event, World};

impl World {
    /// A proposal or a vote goes from one process to another: so does the vote that nobody cast.
    pub(super) fn lower_quorum(&mut self, from: usize, to: usize, message: &Message, delay: u64) {
        if self.plan.sabotage != Some(Sabotage::LowQuorum) {
            return;
        }
        let (body, primary) = match message {
            Message::PrePrepare(message) => {
                let StatementBody::PrePrepare(ballot) = *message.signed.body() else { return };
                let incarnation = message.signed.statement.incarnation;
                (StatementBody::Prepare(ballot), (incarnation, message.signed.signature))
            }
            Message::Prepare(prepare) => {
                (*prepare.signed.body(), (prepare.primary_incarnation, prepare.primary_signature))
            }
            Message::Commit(signed) | Message::BlockVote(signed) => {
                (*signed.body(), (Incarnation(0), signed.signature))
            }
            _ => return,
        };
        let committee = &self.cluster.committee;
        // Neither of the two that talk.
        let mut known = vec![self.cluster.identity(from), self.cluster.identity(to)];
        if let StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) = body {
            // Nor the primary, whose PREPARE nobody counts.
            known.push(committee.primary(ballot.view));
        }
        // Nor a liar, if somebody else is left: it could vote here and there itself.
        let others = committee.ids().filter(|id| !known.contains(id));
        let Some(absent) = others.min_by_key(|id| (self.processes[id.index()].liar, *id)) else { return };
        let signer = self.processes[absent.index()].signer.as_ref();
        let signed = Statement { epoch: committee.epoch(), signer: absent, incarnation: Incarnation(0), body }
            .sign(committee.cluster(), signer);
        let vote = match body {
            StatementBody::Prepare(_) => {
                let (primary_incarnation, primary_signature) = primary;
                Message::Prepare(Prepare { signed, primary_incarnation, primary_signature })
            }
            StatementBody::Commit(_) => Message::Commit(signed),
            StatementBody::BlockVote { .. } => Message::BlockVote(signed),
            _ => return,
        };
        self.oracles.forged(signed);
        // A decision that counts it rests on a vote that somebody sent.
        let verdict = self.oracles.seen(&vote);
        self.check(verdict);
        let life = self.processes[to].life;
        let event = Event::ToReplica { from: absent.index(), to, life, bytes: Arc::new(encode(&vote)) };
        self.queue.push(self.now + delay + 1, event);
    }
}
