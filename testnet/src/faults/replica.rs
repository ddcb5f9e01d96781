//! An engine that lies: the honest one inside, and what the behaviours make of its steps.

use quorate_crypto::{Digest, PublicKey, Seq, Signed, Verified};
use quorate_protocol::client::message::ReplicaMessage;
use quorate_protocol::engine::{Engine, EngineStatus, Input, Now, Send, Step};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;
use quorate_protocol::request::Request;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::Switch;
use super::act::Act;
use super::catalogue::{Behaviour, Group};
use super::checkpoint::Checkpoint;
use super::client_lies::ClientLies;
use super::equivocation::Equivocation;
use super::hands::Hands;
use super::held::{Held, Pace};
use super::hotstuff::HotStuff;
use super::leader::Leader;
use super::seen::{Heard, Seen};
use super::trigger::{Misbehaviour, Standing};
use super::view_change::ViewChanges;
use super::voter::Voter;

/// An engine whose words are rewritten by the behaviours its [`Switch`] has on. With none on it is the engine inside.
pub struct FaultyReplica<E> {
    inner: E,
    switch: Switch,
    hands: Hands,
    random: ChaCha8Rng,
    seen: Seen,
    held: Held,
    pace: Pace,
    half: Equivocation,
    one: Equivocation,
    leader: Leader,
    voter: Voter,
    view_changes: ViewChanges,
    checkpoint: Checkpoint,
    hotstuff: HotStuff,
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
            seen: Seen::default(),
            held: Held::default(),
            pace: Pace::default(),
            half: Equivocation::half(),
            one: Equivocation::one_against_rest(),
            leader: Leader::default(),
            voter: Voter::default(),
            view_changes: ViewChanges::default(),
            checkpoint: Checkpoint::default(),
            hotstuff: HotStuff::default(),
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
            let acted = self.lies.act(misbehaviour.behaviour, client, &mut answers, &mut self.random);
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
        let standing = Standing::of(&status, leads);
        self.switch.set_standing(standing);
        let random = &mut self.random;
        let mut on = self.switch.on();
        on.retain(|misbehaviour| {
            let hit = misbehaviour.when.hits(&standing, random);
            hit && misbehaviour.until.is_none_or(|until| now < until)
        });
        on
    }

    /// A censor takes requests away before its honest inside ever sees them.
    fn censor(&mut self, now: Micros, input: &mut Input) {
        let censors = |on: &Misbehaviour| on.behaviour == Behaviour::Censor;
        if !matches!(input, Input::Requests { .. }) || !self.switch.on().iter().any(censors) {
            return;
        }
        if self.active(now).iter().any(censors) {
            let acted = self.leader.censor(&self.inner, input);
            self.switch.count(Behaviour::Censor, acted);
        }
    }

    /// Whether some behaviour answers to what was heard although its honest inside has nothing to say.
    fn answers_to(&self, heard: &Heard) -> bool {
        let answers = |on: &Misbehaviour| match heard {
            Heard::Nothing => false,
            Heard::HotStuff => on.behaviour == Behaviour::EarlyTimeout,
            Heard::Bodies { .. } | Heard::Proposed(_) | Heard::Committed(_) | Heard::Block(_) => matches!(
                on.behaviour,
                Behaviour::ForgeRequest | Behaviour::ReplayRequest | Behaviour::Amnesia | Behaviour::EarlyTimeout
            ),
        };
        self.switch.on().iter().any(answers)
    }

    fn rewrite(&mut self, now: Micros, heard: &Heard, sends: &mut Vec<Send>) {
        let active = self.active(now);
        let standing = self.inner.status();
        // A life that rejoined lies as the one it is.
        self.hands.incarnation = standing.incarnation;
        for Misbehaviour { behaviour, .. } in active {
            let mut act = Act {
                hands: &self.hands,
                seen: &self.seen,
                heard,
                standing: &standing,
                now,
                random: &mut self.random,
                sends: &mut *sends,
                held: &mut self.held,
                pace: &mut self.pace,
            };
            let acted = match (behaviour, behaviour.group()) {
                (Behaviour::Equivocate, _) => self.half.rewrite(act.hands, act.sends, act.random),
                (Behaviour::EquivocateOne, _) => self.one.rewrite(act.hands, act.sends, act.random),
                (_, Group::Leader) => self.leader.act(behaviour, &mut act),
                (_, Group::Voter) => self.voter.act(behaviour, &mut act),
                (_, Group::ViewChange) => self.view_changes.act(behaviour, &mut act),
                (_, Group::Checkpoint) => self.checkpoint.act(behaviour, &mut act),
                (_, Group::Answers) => 0,
            };
            let acted = acted + self.hotstuff.act(behaviour, &mut act);
            self.switch.count(behaviour, acted);
        }
    }
}

impl<E: Engine> Engine for FaultyReplica<E> {
    fn step(&mut self, now: Now, mut input: Input) -> Step {
        let mut step = if self.switch.is_honest() {
            self.inner.step(now, input)
        } else if let Input::Message { message, .. } = &input
            && matches!(&**message, Message::YourStatements(_))
        {
            // A liar that is shown its own lies does not stop for them.
            Step::default()
        } else {
            let quorum = self.hands.committee.quorum();
            let heard = self.seen.hear(&input, quorum);
            self.censor(now.monotonic, &mut input);
            let mut step = self.inner.step(now, input);
            self.seen.say(&step, quorum);
            if !step.sends.is_empty() || self.answers_to(&heard) {
                self.rewrite(now.monotonic, &heard, &mut step.sends);
            }
            step
        };
        // What was held back leaves as it is, whatever is on by now.
        self.held.release(now.monotonic, &mut step.sends);
        step
    }

    fn wake(&self) -> Option<Micros> {
        self.inner.wake().into_iter().chain(self.held.wake()).min()
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
