//! The sabotage that Twins must catch: quorums one smaller than they must be.
//!
//! Nothing in the production code can lower a quorum, so every replica gets one vote more than was cast: with a proposal
//! or a PREPARE the PREPARE, and with a COMMIT the COMMIT, of a replica that knows nothing of it. One real vote less is
//! then enough, as if q - 1 were a quorum. While nobody equivocates that changes nothing anybody can see.

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
        let (body, primary_incarnation, primary_signature) = match message {
            Message::PrePrepare(message) => {
                let StatementBody::PrePrepare(ballot) = *message.signed.body() else { return };
                let incarnation = message.signed.statement.incarnation;
                (StatementBody::Prepare(ballot), incarnation, message.signed.signature)
            }
            Message::Prepare(prepare) => {
                (*prepare.signed.body(), prepare.primary_incarnation, prepare.primary_signature)
            }
            Message::Commit(signed) => (*signed.body(), Incarnation(0), signed.signature),
            _ => return,
        };
        let (StatementBody::Prepare(ballot) | StatementBody::Commit(ballot)) = body else { return };
        let committee = &self.cluster.committee;
        let (sender, receiver) = (self.cluster.identity(from), self.cluster.identity(to));
        // Neither of the two that talk, nor the primary, whose PREPARE nobody counts.
        let known = [sender, receiver, committee.primary(ballot.view)];
        let Some(absent) = committee.ids().find(|id| !known.contains(id)) else { return };
        let signer = self.processes[absent.index()].signer.as_ref();
        let signed = Statement { epoch: committee.epoch(), signer: absent, incarnation: Incarnation(0), body }
            .sign(committee.cluster(), signer);
        let vote = match body {
            StatementBody::Commit(_) => Message::Commit(signed),
            _ => Message::Prepare(Prepare { signed, primary_incarnation, primary_signature }),
        };
        let life = self.processes[to].life;
        let event = Event::ToReplica { from: absent.index(), to, life, bytes: Arc::new(encode(&vote)) };
        self.queue.push(self.now + delay + 1, event);
    }
}
