//! An engine that lies: the honest one inside, and what the behaviours make of its steps.

use std::sync::Arc;

use quorate_crypto::statement::Ballot;
use quorate_crypto::{
    Committee, Digest, Incarnation, PublicKey, ReplicaId, Seq, Signed, Signer, Statement, StatementBody, Verified,
};
use quorate_protocol::client::message::ReplicaMessage;
use quorate_protocol::engine::{Engine, EngineStatus, Input, Now, Send, Step};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;
use quorate_protocol::request::Request;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::client_lies::ClientLies;
use super::equivocation::Equivocation;
use super::votes;
use super::{Behaviour, Misbehaviour, Switch, Trigger};

/// What a liar has to lie with: its own key and nobody else's.
#[derive(Clone)]
pub struct Hands {
    /// Who it is.
    pub id: ReplicaId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The members.
    pub committee: Arc<Committee>,
    /// Its own key.
    pub signer: Arc<dyn Signer>,
}

impl Hands {
    /// Signs anything in the liar's own name.
    pub fn sign(&self, body: StatementBody) -> Signed {
        Statement { epoch: self.committee.epoch(), signer: self.id, incarnation: self.incarnation, body }
            .sign(self.committee.cluster(), self.signer.as_ref())
    }

    /// Everybody else, ascending.
    pub fn others(&self) -> Vec<ReplicaId> {
        self.committee.ids().filter(|id| *id != self.id).collect()
    }

    /// The same ballot for another digest.
    pub fn other_ballot(ballot: &Ballot) -> Ballot {
        let mut digest = ballot.digest;
        digest.0[0] ^= 0xff;
        Ballot { digest, ..*ballot }
    }
}

/// An engine whose words are rewritten by the behaviours its [`Switch`] has on. With none on it is the engine inside.
pub struct FaultyReplica<E> {
    inner: E,
    switch: Switch,
    hands: Hands,
    random: ChaCha8Rng,
    half: Equivocation,
    one: Equivocation,
    lies: ClientLies,
}

impl<E: Engine> FaultyReplica<E> {
    /// Wraps an honest engine. `seed` decides every choice the behaviours make.
    pub fn new(inner: E, switch: Switch, hands: Hands, seed: u64) -> FaultyReplica<E> {
        FaultyReplica {
            inner,
            switch,
            hands,
            random: ChaCha8Rng::seed_from_u64(seed),
            half: Equivocation::half(),
            one: Equivocation::one_against_rest(),
            lies: ClientLies::default(),
        }
    }

    /// The engine inside.
    pub const fn inner(&self) -> &E {
        &self.inner
    }

    /// The engine inside.
    pub const fn inner_mut(&mut self) -> &mut E {
        &mut self.inner
    }

    /// What turns it.
    pub const fn switch(&self) -> &Switch {
        &self.switch
    }

    /// What a client gets instead of an honest answer: nothing, the answer, or others.
    pub fn answer(&mut self, now: Now, client: &PublicKey, message: ReplicaMessage) -> Vec<ReplicaMessage> {
        let mut answers = vec![message];
        for misbehaviour in self.active(now.monotonic) {
            let acted = match misbehaviour.behaviour {
                Behaviour::Silent => {
                    let silenced = answers.len() as u64;
                    answers.clear();
                    silenced
                }
                Behaviour::LieToClients => self.lies.rewrite(client, &mut answers, &mut self.random),
                Behaviour::ForgeWatch => ClientLies::forge_events(&mut answers),
                Behaviour::Equivocate | Behaviour::EquivocateOne | Behaviour::DoubleVote => 0,
            };
            self.switch.count(misbehaviour.behaviour, acted);
        }
        self.lies.remember(client, &answers);
        answers
    }

    /// What is on, not over, and hit by its trigger this time.
    fn active(&mut self, now: Micros) -> Vec<Misbehaviour> {
        if self.switch.is_honest() {
            return Vec::new();
        }
        let status = self.inner.status();
        let leads = status.entered && status.primary == self.hands.id;
        self.switch.set_leads(leads);
        let random = &mut self.random;
        let mut on = self.switch.on();
        on.retain(|misbehaviour| {
            let hit = match misbehaviour.when {
                Trigger::Always => true,
                Trigger::WhilePrimary => leads,
                Trigger::Percent(percent) => random.random_range(0..100) < percent,
            };
            hit && misbehaviour.until.is_none_or(|until| now < until)
        });
        on
    }

    fn rewrite(&mut self, now: Micros, sends: &mut Vec<Send>) {
        for misbehaviour in self.active(now) {
            let acted = match misbehaviour.behaviour {
                Behaviour::Silent => {
                    let silenced = sends.len() as u64;
                    sends.clear();
                    silenced
                }
                Behaviour::Equivocate => self.half.rewrite(&self.hands, sends, &mut self.random),
                Behaviour::EquivocateOne => self.one.rewrite(&self.hands, sends, &mut self.random),
                Behaviour::DoubleVote => votes::double(&self.hands, sends),
                Behaviour::LieToClients | Behaviour::ForgeWatch => 0,
            };
            self.switch.count(misbehaviour.behaviour, acted);
        }
    }
}

impl<E: Engine> Engine for FaultyReplica<E> {
    fn step(&mut self, now: Now, input: Input) -> Step {
        // A liar that is shown its own lies does not stop for them.
        if let Input::Message { message, .. } = &input
            && matches!(&**message, Message::YourStatements(_))
            && !self.switch.is_honest()
        {
            return Step::default();
        }
        let mut step = self.inner.step(now, input);
        if !step.sends.is_empty() && !self.switch.is_honest() {
            self.rewrite(now.monotonic, &mut step.sends);
        }
        step
    }

    fn wake(&self) -> Option<Micros> {
        self.inner.wake()
    }

    fn status(&self) -> EngineStatus {
        self.inner.status()
    }

    fn knows(&self, request: &Digest) -> bool {
        self.inner.knows(request)
    }

    fn wants(&self, request: &Digest) -> bool {
        self.inner.wants(request)
    }

    fn oldest_pending(&self) -> Option<&Verified<Request>> {
        self.inner.oldest_pending()
    }

    fn executed_statement(&self, seq: Seq) -> Option<Signed> {
        self.inner.executed_statement(seq)
    }
}
