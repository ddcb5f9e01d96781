//! VIEW-CHANGE and NEW-VIEW (Castro and Liskov 1999, section 4.4).

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, ReplicaId, Seq, Signed, View};

use crate::engine::{Departure, Now, Recipients, RecordIndex};
use crate::message::{Message, PrePrepare};
use crate::parameters::Micros;
use crate::pbft::safety::{self, Choice, NewViewError};
use crate::pbft::slot::ballot_of;
use crate::pbft::view_change_message::{NewView, ViewChange, ViewChangeBody};
use crate::pbft::{AwaitedNewView, KeptNewView, Replica};
use crate::proposal::Proposal;
use crate::record::Record;
use crate::rejoin::rules::Entrance;

/// A NEW-VIEW's missing VIEW-CHANGEs are asked for this often.
const FETCH_INTERVAL: Micros = 20_000;
/// That interval grows with every attempt up to so many times.
const FETCH_BACKOFF_MAX: u32 = 25;
/// NEW-VIEWs kept, with the VIEW-CHANGEs they rest on.
const NEW_VIEWS_KEPT: usize = 8;

impl Replica {
    /// How many members' newest VIEW-CHANGE is for the view this replica moves to, or a later one: who went on has left
    /// this view's predecessors too. Counting only those that are still here would let a replica whose timer fired first
    /// take the quorum with it, and nobody's timer would ever start again.
    pub(super) fn supporters(&self) -> usize {
        self.view_changes.values().filter(|message| message.view() >= self.view).count()
    }

    /// Leaves every view below `view`: nothing new is signed there from now on.
    pub(super) fn start_view_change(&mut self, now: Now, view: View, why: Departure) {
        if view <= self.view || self.foundation.is_rejoining() {
            return;
        }
        let failed = !self.entered || (self.view > View(0) && self.no_progress_in_view());
        // To pass a convicted primary over takes no time, and says nothing of how much time a view needs.
        if failed && why != Departure::ConvictedPrimary {
            self.failed_views = self.failed_views.saturating_add(1);
        }
        self.view_changes_started += 1;
        self.last_departure = Some(why);
        self.view = view;
        self.entered = false;
        // A view change that ends in time costs no relays.
        self.next_moving_relay = now.monotonic + self.foundation.parameters().view_timeout;
        self.timer = None;
        // Above the window there can only be what others decided; a VIEW-CHANGE that named it would be refused.
        let window =
            self.foundation.stable().next()..=self.foundation.stable().plus(self.foundation.parameters().window);
        let hidden = |slot: &crate::pbft::slot::Slot| {
            alive(Mutant::HidesDecided) && slot.committed.is_some()
                || alive(Mutant::HidesPrepared) && slot.committed.is_none()
        };
        let shown = self.slots.range(window).filter(|(_, slot)| !hidden(slot));
        let slots = shown.filter_map(|(_, slot)| slot.proof(view)).collect();
        let body = ViewChangeBody { view, stable: self.foundation.checkpoints.stable().cloned(), slots };
        let message = ViewChange::sign(
            body,
            self.foundation.header(),
            self.foundation.committee().cluster(),
            self.foundation.setup.signer.as_ref(),
        );
        let record = self.foundation.record(Record::LeftView(message.clone()));
        self.own_view_change = Some(message.clone());
        self.own_view_change_record = Some(record);
        self.view_changes.insert(self.foundation.id(), message.clone());
        self.foundation.send(Recipients::Others, Message::ViewChange(message), Some(record));
        self.try_new_view(now);
        self.try_awaited(now);
    }

    /// Whether nothing was executed since this view was entered.
    fn no_progress_in_view(&self) -> bool {
        self.entered_at >= self.foundation.executed
    }

    pub(super) fn handle_view_change(&mut self, now: Now, message: ViewChange) {
        let author = message.author();
        let digest = message.digest();
        if author == self.foundation.id() {
            self.handle_own_statements(now, &[message.signed]);
        } else {
            self.check_view_change(&message);
        }
        // One of a life that is over may still be what a NEW-VIEW rests on that was there before.
        for awaited in self.awaited.values_mut() {
            if awaited.new_view.body().view_changes.contains(&(author, digest)) {
                awaited.collected.insert(author, message.clone());
            }
        }
        if author == self.foundation.id() || self.is_superseded(&message) {
            return self.try_awaited(now);
        }
        let newness = |message: &ViewChange| (message.signed.statement.incarnation, message.view());
        if self.view_changes.get(&author).is_none_or(|held| newness(held) < newness(&message)) {
            self.view_changes.insert(author, message);
        }
        let views: BTreeMap<ReplicaId, View> = self
            .view_changes
            .iter()
            .filter(|(author, _)| **author != self.foundation.id())
            .map(|(author, message)| (*author, message.view()))
            .collect();
        if let Some(view) = safety::join_view(&views, self.view, self.foundation.committee()) {
            self.start_view_change(now, view, Departure::Joined);
        }
        self.try_new_view(now);
        self.try_awaited(now);
    }

    /// As the primary of the view: opens it once q VIEW-CHANGEs are there and every body they carry is held.
    pub(super) fn try_new_view(&mut self, now: Now) {
        // A NEW-VIEW contains its author's own VIEW-CHANGE, in every life.
        if self.foundation.is_rejoining()
            || self.entered
            || !self.leads()
            || !self.view_changes.contains_key(&self.foundation.id())
        {
            return;
        }
        let view = self.view;
        let chosen: Vec<ViewChange> =
            self.view_changes.values().filter(|message| message.view() == view).cloned().collect();
        if chosen.len() < self.foundation.committee().quorum() {
            return;
        }
        let choice = safety::choose(&chosen);
        if !self.hold_everything(now, &choice) {
            return;
        }
        let named = chosen.iter().map(|message| (message.author(), message.digest())).collect();
        let new_view = NewView::sign(
            view,
            named,
            &choice.slots,
            self.foundation.header(),
            self.foundation.committee().cluster(),
            self.foundation.setup.signer.as_ref(),
        );
        self.enter_view(now, new_view.clone(), chosen, &choice);
        let record = self.new_views.get(&view).and_then(|kept| kept.record);
        self.foundation.send(Recipients::Others, Message::NewView(new_view), record);
        self.advance_all(now);
    }

    /// The new primary's PRE-PREPAREs are its votes: it must hold what they name. Asks for what is missing.
    fn hold_everything(&mut self, now: Now, choice: &Choice) -> bool {
        let mut complete = true;
        for (seq, digest) in &choice.slots {
            if *seq <= self.foundation.stable().max(choice.stable_seq()) {
                continue;
            }
            let proposal = self.find_proposal(*seq, digest);
            match proposal {
                Some(proposal) if self.foundation.bodies_held(&proposal) => {}
                Some(proposal) => {
                    // Names the bodies, so that they are asked for and kept when they come.
                    self.learn_wanted(*seq, proposal);
                    complete = false;
                }
                None => {
                    self.wanted_proposals.entry(*digest).or_default().insert(*seq);
                    complete = false;
                }
            }
            if !complete {
                self.slot(*seq).fetch.get_or_insert((now.monotonic, 0));
            }
        }
        complete
    }

    fn learn_wanted(&mut self, seq: Seq, proposal: Proposal) {
        if self.in_look_ahead(seq) {
            self.learn_proposal(seq, proposal);
        }
    }

    /// A proposal by digest, wherever it is held; the null request is always held.
    pub(super) fn find_proposal(&self, seq: Seq, digest: &Digest) -> Option<Proposal> {
        if *digest == Proposal::NULL.digest() {
            return Some(Proposal::NULL);
        }
        if let Some(proposal) = self.slots.get(&seq).and_then(|slot| slot.proposals.get(digest)) {
            return Some(proposal.clone());
        }
        self.slots.values().find_map(|slot| slot.proposals.get(digest)).cloned()
    }

    pub(super) fn handle_new_view(&mut self, now: Now, message: NewView) {
        let author = message.author();
        if author == self.foundation.id() {
            return self.handle_own_statements(now, &[message.signed]);
        }
        self.check_new_view(&message);
        let view = message.view();
        if view < self.view || (view == self.view && self.entered) {
            return;
        }
        if self.awaited.get(&author).is_some_and(|held| held.new_view.view() >= view) {
            return self.try_awaited(now);
        }
        let named: BTreeSet<(ReplicaId, Digest)> = message.body().view_changes.iter().copied().collect();
        let collected = self
            .view_changes
            .values()
            .filter(|held| named.contains(&(held.author(), held.digest())))
            .map(|held| (held.author(), held.clone()))
            .collect();
        self.awaited
            .insert(author, AwaitedNewView { new_view: message, collected, next_fetch: now.monotonic, attempts: 0 });
        self.try_awaited(now);
    }

    /// Enters the first awaited view whose VIEW-CHANGEs are complete; asks for those that are missing.
    pub(super) fn try_awaited(&mut self, now: Now) {
        let authors: Vec<ReplicaId> = self.awaited.keys().copied().collect();
        for author in authors {
            let Some(awaited) = self.awaited.get(&author) else { continue };
            let view = awaited.new_view.view();
            if view < self.view || (view == self.view && self.entered) {
                self.awaited.remove(&author);
                continue;
            }
            let complete = awaited.collected.len() == awaited.new_view.body().view_changes.len();
            if !complete {
                self.fetch_view_changes(now, author);
                continue;
            }
            let order = awaited.new_view.body().view_changes.iter();
            let view_changes: Vec<ViewChange> =
                order.filter_map(|(author, _)| awaited.collected.get(author).cloned()).collect();
            let entrance = self.entrance(&awaited.new_view, &view_changes);
            if entrance == Entrance::NotYet {
                continue;
            }
            let Some(awaited) = self.awaited.remove(&author).filter(|_| entrance == Entrance::Open) else { continue };
            match safety::new_view_holds(
                &awaited.new_view,
                &view_changes,
                self.foundation.committee(),
                self.foundation.parameters().window,
            ) {
                Ok(choice) => {
                    self.enter_view(now, awaited.new_view, view_changes, &choice);
                    self.advance_all(now);
                }
                Err(NewViewError::WrongChoice) => self.accuse_new_view(awaited.new_view, view_changes),
                Err(_) => {}
            }
        }
    }

    fn fetch_view_changes(&mut self, now: Now, author: ReplicaId) {
        let Some(awaited) = self.awaited.get_mut(&author) else { return };
        if awaited.next_fetch > now.monotonic {
            return;
        }
        awaited.attempts = awaited.attempts.saturating_add(1);
        // A liar's NEW-VIEW may name what does not exist: it is asked for ever more rarely.
        awaited.next_fetch = now.monotonic + FETCH_INTERVAL * u64::from(awaited.attempts.min(FETCH_BACKOFF_MAX));
        let attempts = awaited.attempts as usize;
        let view = awaited.new_view.view();
        let missing: Vec<(ReplicaId, Digest)> = awaited
            .new_view
            .body()
            .view_changes
            .iter()
            .filter(|(author, _)| !awaited.collected.contains_key(author))
            .copied()
            .collect();
        // Whoever entered the view holds them all: the two that made them may be faulty or gone.
        let anyone = self.foundation.others().nth(attempts % self.foundation.others().count());
        for (missing_author, body) in missing {
            let mut sources: BTreeSet<ReplicaId> = [author, missing_author].into_iter().chain(anyone).collect();
            sources.remove(&self.foundation.id());
            for source in sources {
                let ask = Message::FetchViewChange { view, author: missing_author, body };
                self.foundation.send(Recipients::One(source), ask, None);
            }
        }
    }

    pub(super) fn next_awaited_fetch(&self) -> Option<Micros> {
        // What is complete waits for execution, not for a time.
        let incomplete =
            |awaited: &&AwaitedNewView| awaited.collected.len() < awaited.new_view.body().view_changes.len();
        self.awaited.values().filter(incomplete).map(|awaited| awaited.next_fetch).min()
    }

    pub(super) fn answer_fetch_view_change(
        &mut self,
        now: Now,
        from: ReplicaId,
        view: View,
        author: ReplicaId,
        body: Digest,
    ) {
        if !self.foundation.may_answer_bulk(now, from) {
            return;
        }
        let kept = self.new_views.get(&view).into_iter().flat_map(|kept| kept.view_changes.iter());
        let own = self.own_view_change.iter();
        let found = kept
            .chain(self.view_changes.values())
            .chain(own)
            .find(|message| message.author() == author && message.view() == view && message.digest() == body)
            .cloned();
        if let Some(message) = found {
            self.foundation.charge(from, message.bytes());
            let after = if author == self.foundation.id() { self.own_view_change_record } else { None };
            self.foundation.send(Recipients::One(from), Message::ViewChange(message), after);
        }
    }

    /// Enters a view: the NEW-VIEW is recorded before anything is signed in it.
    fn enter_view(&mut self, now: Now, new_view: NewView, view_changes: Vec<ViewChange>, choice: &Choice) {
        if let Some(certificate) = choice.stable.clone() {
            self.take_stable(certificate);
        }
        let view = new_view.view();
        let own = new_view.author() == self.foundation.id();
        self.install_view(&new_view, choice);
        if own {
            // The PRE-PREPAREs inside are this replica's votes: what they name becomes durable with them.
            for signed in new_view.pre_prepares().collect::<Vec<_>>() {
                self.record_reproposal(signed);
            }
        }
        let record =
            self.foundation.record(Record::NewView { new_view: new_view.clone(), view_changes: view_changes.clone() });
        for reproposal in &new_view.body().reproposals {
            if let Some(slot) = self.slots.get_mut(&reproposal.seq) {
                slot.rests_on(record);
                if own && let Some(round) = slot.rounds.get_mut(&view) {
                    round.vote_record = Some(record);
                }
            }
        }
        let stable = self.foundation.stable();
        self.new_views.insert(view, KeptNewView { new_view, view_changes, stable, record: Some(record) });
        self.forget_old_views();
        // PRE-PREPAREs of this view that came before its NEW-VIEW were not kept: say at once what is missing.
        self.foundation.next_status = now.monotonic;
        for (seq, digest) in &choice.slots {
            if self.in_look_ahead(*seq) && self.find_proposal(*seq, digest).is_none() {
                self.wanted_proposals.entry(*digest).or_default().insert(*seq);
            }
            if *seq > self.foundation.delivered {
                self.want_missing(now, *seq, 0);
            }
        }
    }

    /// NEW-VIEWs are kept until the second stable checkpoint after them; while views change and no checkpoint comes,
    /// only the newest.
    pub(super) fn forget_old_views(&mut self) {
        while self.new_views.len() > NEW_VIEWS_KEPT {
            self.new_views.pop_first();
        }
    }

    fn record_reproposal(&mut self, signed: Signed) {
        let Some(ballot) = ballot_of(signed.body()).copied() else { return };
        let Some(proposal) = self.slots.get(&ballot.seq).and_then(|slot| slot.proposals.get(&ballot.digest)).cloned()
        else {
            return;
        };
        self.record_bodies(ballot.seq, &proposal);
        let record = self.foundation.record(Record::PrePrepare(PrePrepare { signed, proposal }));
        self.slot(ballot.seq).rests_on(record);
    }

    /// The state change of entering a view, shared with recovery.
    pub(super) fn install_view(&mut self, new_view: &NewView, choice: &Choice) {
        let view = new_view.view();
        self.view = view;
        self.entered = true;
        self.timer = None;
        self.monitor.begin_view(self.foundation.last_step);
        self.entered_at = self.foundation.executed;
        let reproposed: BTreeMap<Seq, Signed> =
            new_view.pre_prepares().filter_map(|signed| Some((ballot_of(signed.body())?.seq, signed))).collect();
        let seqs: Vec<Seq> = self.slots.keys().copied().collect();
        for seq in seqs {
            self.slot(seq).rounds.retain(|round, _| *round >= view);
        }
        for (seq, signed) in &reproposed {
            if !self.in_look_ahead(*seq) {
                continue;
            }
            let Some(ballot) = ballot_of(signed.body()).copied() else { continue };
            self.check_pre_prepare(signed);
            let proposal = self.find_proposal(*seq, &ballot.digest);
            let round = self.slot(*seq).rounds.entry(view).or_default();
            round.pre_prepare = Some(*signed);
            round.time_accepted = true;
            if let Some(proposal) = proposal {
                self.learn_proposal(*seq, proposal);
            }
        }
        let all: Vec<Seq> = self.slots.keys().copied().collect();
        for seq in all {
            self.forget_proposals(seq);
        }
        // What this view proposes, not what lost to it in an earlier one.
        let named: BTreeSet<Digest> = reproposed
            .iter()
            .filter_map(|(seq, signed)| self.slots.get(seq)?.proposals.get(&ballot_of(signed.body())?.digest))
            .flat_map(|proposal| proposal.requests().iter().copied())
            .collect();
        self.foundation.pending.reset_proposed(|digest| named.contains(digest));
        let last = choice.slots.last().map_or(choice.stable_seq(), |(seq, _)| *seq);
        self.next_seq = last.max(self.foundation.stable()).max(self.foundation.delivered).next();
        self.last_batch = 1;
        self.view_changes.retain(|_, message| message.view() > view);
        self.awaited.retain(|_, awaited| awaited.new_view.view() > view);
    }

    /// The NEW-VIEW of the view this replica is in, with the record it waits for.
    pub(super) fn current_new_view(&self) -> Option<(&NewView, Option<RecordIndex>)> {
        self.new_views.get(&self.view).filter(|_| self.entered).map(|kept| (&kept.new_view, kept.record))
    }
}
