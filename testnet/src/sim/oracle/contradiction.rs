//! No honest contradiction: over its whole life, crashes included, an honest replica never lets two statements leave that
//! would convict it.

use std::collections::BTreeMap;

use quorate_crypto::{Incarnation, ReplicaId, Seq, Signed, StatementBody, StatementKind, View};
use quorate_protocol::evidence::{against_own_new_view, contradict, hides_commit};
use quorate_protocol::message::Message;
use quorate_protocol::pbft::view_change_message::{NewView, ViewChange};

use super::block_certificates::own_statements;
use crate::sim::report::Violation;

type Place = (StatementKind, View, Seq);

/// Everything one replica ever said.
#[derive(Default)]
struct Said {
    statements: BTreeMap<Place, Signed>,
    /// By life: a life that rejoined may leave a view that an earlier one left otherwise.
    view_changes: BTreeMap<(Incarnation, View), ViewChange>,
    new_views: BTreeMap<(Incarnation, View), NewView>,
}

/// Everything all honest replicas ever said.
#[derive(Default)]
pub(in crate::sim) struct NoContradiction {
    said: BTreeMap<ReplicaId, Said>,
}

fn place(signed: &Signed) -> Place {
    let (view, seq) = match signed.body() {
        StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
            (ballot.view, ballot.seq)
        }
        StatementBody::ViewChange { view, .. }
        | StatementBody::NewView { view, .. }
        | StatementBody::Proposal { view, .. }
        | StatementBody::BlockVote { view, .. }
        | StatementBody::Timeout { view, .. } => (*view, Seq(0)),
        StatementBody::Checkpoint { seq, .. } | StatementBody::Executed { seq, .. } => (View(0), *seq),
        StatementBody::Rejoin { .. } => (View(0), Seq(0)),
    };
    (signed.body().kind(), view, seq)
}

fn convicted(replica: ReplicaId, kind: &str, what: &str) -> Violation {
    Violation::new("no-contradiction", format!("honest replica {replica} convicts itself of {kind}: {what}"))
}

impl NoContradiction {
    /// `message` left `replica`. What others signed and it relays is not its word.
    pub(super) fn left(&mut self, replica: ReplicaId, message: &Message) -> Result<(), Violation> {
        let said = self.said.entry(replica).or_default();
        match message {
            Message::PrePrepare(message) => said.statement(replica, &message.signed),
            Message::Prepare(message) => said.statement(replica, &message.signed),
            Message::Commit(signed) => said.commit(replica, signed),
            Message::Checkpoint(signed) | Message::Executed(signed) => said.statement(replica, signed),
            Message::ViewChange(message) if message.author() == replica => said.view_change(replica, message),
            Message::NewView(message) if message.author() == replica => said.new_view(replica, message),
            // In whatever life: protocol.md, Evidence.
            _ => own_statements(replica, message).iter().try_for_each(|signed| said.statement(replica, signed)),
        }
    }
}

impl Said {
    fn statement(&mut self, replica: ReplicaId, signed: &Signed) -> Result<(), Violation> {
        if signed.signer() != replica {
            return Ok(());
        }
        let before = self.statements.entry(place(signed)).or_insert(*signed);
        if let Some(kind) = contradict(before, signed) {
            let what = format!("{:?} and {:?}", before.body(), signed.body());
            return Err(convicted(replica, kind, &what));
        }
        let (kind, from, to) = match signed.body() {
            StatementBody::Timeout { view, .. } => (StatementKind::BlockVote, View(0), *view),
            StatementBody::BlockVote { view, .. } => (StatementKind::Timeout, *view, View(u64::MAX)),
            _ => (signed.body().kind(), View(1), View(0)),
        };
        if from <= to {
            let others = self.statements.range((kind, from, Seq(0))..=(kind, to, Seq(0)));
            for (_, other) in others {
                if let Some(kind) = contradict(other, signed) {
                    let what = format!("{:?} and {:?}", other.body(), signed.body());
                    return Err(convicted(replica, kind, &what));
                }
            }
        }
        if let StatementBody::PrePrepare(ballot) = signed.body()
            && let Some(new_view) = self.new_views.get(&(signed.statement.incarnation, ballot.view))
            && against_own_new_view(signed, new_view)
        {
            return Err(convicted(replica, "against-own-new-view", &format!("{ballot:?}")));
        }
        Ok(())
    }

    fn commit(&mut self, replica: ReplicaId, signed: &Signed) -> Result<(), Violation> {
        self.statement(replica, signed)?;
        match self.view_changes.values().find(|message| hides_commit(signed, message)) {
            Some(message) => {
                Err(convicted(replica, "hidden-commit", &format!("{:?}, {:?}", signed.body(), message.view())))
            }
            None => Ok(()),
        }
    }

    fn view_change(&mut self, replica: ReplicaId, message: &ViewChange) -> Result<(), Violation> {
        self.statement(replica, &message.signed)?;
        let life = message.signed.statement.incarnation;
        if self.view_changes.contains_key(&(life, message.view())) {
            return Ok(());
        }
        let from = (StatementKind::Commit, View(0), Seq(0));
        let to = (StatementKind::Commit, message.view(), Seq(0));
        for (_, commit) in self.statements.range(from..to) {
            if hides_commit(commit, message) {
                return Err(convicted(replica, "hidden-commit", &format!("{:?}, {:?}", commit.body(), message.view())));
            }
        }
        self.view_changes.insert((life, message.view()), message.clone());
        Ok(())
    }

    fn new_view(&mut self, replica: ReplicaId, message: &NewView) -> Result<(), Violation> {
        self.statement(replica, &message.signed)?;
        let life = message.signed.statement.incarnation;
        self.new_views.entry((life, message.view())).or_insert_with(|| message.clone());
        message.pre_prepares().try_for_each(|signed| self.statement(replica, &signed))
    }
}
