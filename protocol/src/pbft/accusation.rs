//! Finding signed contradictions between what PBFT's messages say.

use quorate_crypto::{Signed, Statement, StatementBody};

use crate::evidence::{Evidence, hides_commit};
use crate::message::{PrePrepare, Prepare};
use crate::pbft::Replica;
use crate::pbft::slot::ballot_of;
use crate::pbft::view_change_message::{NewView, ViewChange};
use crate::request::Request;

impl Replica {
    /// A PRE-PREPARE against the one accepted, against those PREPAREs carry along, and against the author's NEW-VIEW.
    pub(super) fn check_pre_prepare(&mut self, signed: &Signed) {
        let Some(ballot) = ballot_of(signed.body()).copied() else { return };
        let Some(round) = self.slots.get(&ballot.seq).and_then(|slot| slot.rounds.get(&ballot.view)) else {
            return self.check_against_new_view(signed);
        };
        let held = round.pre_prepare;
        let others: Vec<Signed> = round
            .prepares
            .values()
            .filter(|prepare| ballot_of(prepare.signed.body()).is_some_and(|other| other.digest != ballot.digest))
            .filter_map(|prepare| primary_half(prepare, signed))
            .collect();
        self.foundation.accuse_pair(held, signed);
        for other in others {
            self.foundation.accuse_pair(Some(other), signed);
        }
        self.check_against_new_view(signed);
    }

    fn check_against_new_view(&mut self, signed: &Signed) {
        let Some(ballot) = ballot_of(signed.body()) else { return };
        let against = self
            .new_views
            .get(&ballot.view)
            .filter(|kept| crate::evidence::against_own_new_view(signed, &kept.new_view))
            .map(|kept| kept.new_view.clone());
        if let Some(new_view) = against {
            self.foundation.accuse(Evidence::AgainstOwnNewView(*signed, new_view));
        }
    }

    /// A PREPARE against an earlier one of its author, and the primary's signature it carries along against the
    /// PRE-PREPARE accepted here: both halves of an equivocation.
    pub(super) fn check_prepare(&mut self, prepare: &Prepare) {
        let Some(ballot) = ballot_of(prepare.signed.body()).copied() else { return };
        let primary = self.foundation.committee().primary(ballot.view);
        let Some(round) = self.slots.get(&ballot.seq).and_then(|slot| slot.rounds.get(&ballot.view)) else { return };
        let earlier = round.prepares.get(&prepare.signed.signer()).map(|held| held.signed);
        if let Some(earlier) = earlier {
            // Only the first PREPARE of an author counts and is looked at closely: the primary's signature it carries is
            // not verified, and checking forged ones without end would cost this thread its time.
            return self.foundation.accuse_pair(Some(earlier), &prepare.signed);
        }
        let accepted = round.pre_prepare.or_else(|| {
            let other = round
                .prepares
                .values()
                .find(|held| ballot_of(held.signed.body()).is_some_and(|other| other.digest != ballot.digest))?;
            let statement = Statement {
                signer: primary,
                incarnation: other.primary_incarnation,
                body: StatementBody::PrePrepare(*ballot_of(other.signed.body())?),
                ..other.signed.statement
            };
            Some(Signed { statement, signature: other.primary_signature })
        });
        if let Some(accepted) = accepted
            && ballot_of(accepted.body()).is_some_and(|held| held.digest != ballot.digest)
            && let Some(half) = primary_half(prepare, &accepted)
        {
            self.foundation.accuse_pair(Some(accepted), &half);
        }
    }

    pub(super) fn check_commit(&mut self, signed: &Signed) {
        let Some(ballot) = ballot_of(signed.body()).copied() else { return };
        let held = self
            .slots
            .get(&ballot.seq)
            .and_then(|slot| slot.rounds.get(&ballot.view))
            .and_then(|round| round.commits.get(&signed.signer()))
            .copied();
        self.foundation.accuse_pair(held, signed);
        let hidden = self.view_changes.get(&signed.signer()).filter(|message| hides_commit(signed, message)).cloned();
        if let Some(view_change) = hidden {
            self.foundation.accuse(Evidence::HiddenCommit(*signed, view_change));
        }
    }

    pub(super) fn check_view_change(&mut self, message: &ViewChange) {
        let held = self.view_changes.get(&message.author()).map(|held| held.signed);
        self.foundation.accuse_pair(held, &message.signed);
        let hidden: Vec<Signed> = self
            .slots
            .values()
            .flat_map(|slot| slot.rounds.values())
            .filter_map(|round| round.commits.get(&message.author()))
            .filter(|commit| hides_commit(commit, message))
            .copied()
            .collect();
        for commit in hidden {
            self.foundation.accuse(Evidence::HiddenCommit(commit, message.clone()));
        }
    }

    pub(super) fn check_new_view(&mut self, message: &NewView) {
        let kept = self.new_views.get(&message.view()).map(|kept| kept.new_view.signed);
        let awaited = self.awaited.get(&message.author()).map(|awaited| awaited.new_view.signed);
        self.foundation.accuse_pair(kept, &message.signed);
        self.foundation.accuse_pair(awaited, &message.signed);
    }

    pub(super) fn accuse_new_view(&mut self, new_view: NewView, view_changes: Vec<ViewChange>) {
        self.foundation.accuse(Evidence::WrongNewView(new_view, view_changes));
    }

    /// A body whose client signature does not hold: whoever proposed it is guilty, whoever sent it is not.
    pub(super) fn handle_invalid_request(&mut self, request: Request) {
        let digest = request.digest();
        if !self.foundation.bodies.is_wanted(&digest) {
            return;
        }
        let guilty = self.slots.values().find_map(|slot| {
            slot.rounds.values().find_map(|round| {
                let signed = round.pre_prepare?;
                let proposal = slot.proposals.get(&ballot_of(signed.body())?.digest)?;
                proposal.requests().contains(&digest).then(|| PrePrepare { signed, proposal: proposal.clone() })
            })
        });
        if let Some(pre_prepare) = guilty {
            self.foundation.accuse(Evidence::InvalidRequest(pre_prepare, Box::new(request)));
        }
    }
}

/// The PRE-PREPARE whose signature a PREPARE carries along, with the author of `like`.
fn primary_half(prepare: &Prepare, like: &Signed) -> Option<Signed> {
    let ballot = ballot_of(prepare.signed.body())?;
    let statement = Statement {
        signer: like.signer(),
        epoch: like.statement.epoch,
        incarnation: prepare.primary_incarnation,
        body: StatementBody::PrePrepare(*ballot),
    };
    Some(Signed { statement, signature: prepare.primary_signature })
}
