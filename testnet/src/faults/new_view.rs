//! The lying new primary: NEW-VIEW.

use std::collections::BTreeMap;

use quorate_crypto::{Digest, Seq, StatementBody, View};
use quorate_protocol::message::Message;
use quorate_protocol::pbft::safety::choose;
use quorate_protocol::pbft::view_change_message::{NewView, NewViewBody, ViewChange};
use quorate_protocol::proposal::Proposal;
use rand::RngExt as _;

use super::act::{Act, divert};
use super::catalogue::Behaviour;
use super::hands::Hands;

/// Views whose lie is remembered.
const VIEWS_KEPT: usize = 64;

/// What a liar opened its views with: sent again, it is the same.
#[derive(Default)]
pub(super) struct NewViews {
    lies: BTreeMap<View, NewView>,
}

impl NewViews {
    pub(super) fn act(&mut self, behaviour: Behaviour, act: &mut Act<'_>) -> u64 {
        if behaviour == Behaviour::NewViewToSome {
            return to_some(act);
        }
        let mut acted = 0;
        for index in 0..act.sends.len() {
            let Message::NewView(honest) = &act.sends[index].message else { continue };
            if honest.author() != act.hands.id {
                continue;
            }
            let view = honest.view();
            let told = match self.lies.get(&view) {
                Some(told) => told.clone(),
                None => {
                    let honest = honest.clone();
                    let Some(lie) = lie(behaviour, act, &honest) else { continue };
                    lie
                }
            };
            act.sends[index].message = Message::NewView(told.clone());
            acted += 1;
            self.lies.insert(view, told);
            while self.lies.len() > VIEWS_KEPT {
                self.lies.pop_first();
            }
        }
        acted
    }
}

fn lie(behaviour: Behaviour, act: &mut Act<'_>, honest: &NewView) -> Option<NewView> {
    match behaviour {
        Behaviour::NewViewTooFew => {
            let mut body: NewViewBody = honest.body().clone();
            body.view_changes.truncate(act.hands.committee.quorum() - 1);
            let header = act.hands.statement(StatementBody::Rejoin { nonce: [0; 16] });
            Some(NewView::sign_body(body, header, act.hands.committee.cluster(), act.hands.signer.as_ref()))
        }
        Behaviour::NewViewWrongValues => Some(wrong_values(act, honest)),
        Behaviour::NewViewLowerView => lower_view(act, honest),
        _ => None,
    }
}

fn sign(hands: &Hands, honest: &NewView, chosen: &[(Seq, Digest)]) -> NewView {
    let header = hands.statement(StatementBody::Rejoin { nonce: [0; 16] });
    let named = honest.body().view_changes.clone();
    NewView::sign(honest.view(), named, chosen, header, hands.committee.cluster(), hands.signer.as_ref())
}

fn chosen(new_view: &NewView) -> Vec<(Seq, Digest)> {
    new_view.body().reproposals.iter().map(|reproposal| (reproposal.seq, reproposal.digest)).collect()
}

/// Another digest at one number, a number less, or one more.
fn wrong_values(act: &mut Act<'_>, honest: &NewView) -> NewView {
    let mut chosen = chosen(honest);
    match (chosen.len(), act.random.random_range(0..3)) {
        (1.., 0) => {
            chosen.pop();
        }
        (count @ 1.., 1) => {
            let place = act.random.random_range(0..count);
            chosen[place].1.0[5] ^= 1;
        }
        _ => {
            let after = chosen.last().map_or(act.standing.stable, |(seq, _)| *seq);
            let made_up = Proposal { time: act.standing.view.0, ..Proposal::NULL };
            chosen.push((after.next(), made_up.digest()));
        }
    }
    sign(act.hands, honest, &chosen)
}

/// What its VIEW-CHANGEs compute if the certificate of the highest view is left out at every number: one of a lower
/// view wins there, and where there is none the null request. None if nothing was prepared.
fn lower_view(act: &mut Act<'_>, honest: &NewView) -> Option<NewView> {
    let view_changes = act.seen.view_changes(honest.view(), &honest.body().view_changes)?;
    let choice = lower(&view_changes);
    (choice != chosen(honest)).then(|| sign(act.hands, honest, &choice))
}

/// [`choose`] with the wrong end of the rule.
pub(super) fn lower(view_changes: &[&ViewChange]) -> Vec<(Seq, Digest)> {
    let honest = choose(view_changes.iter().copied());
    let mut proven: BTreeMap<Seq, BTreeMap<View, Digest>> = BTreeMap::new();
    for proof in view_changes.iter().flat_map(|view_change| &view_change.body().slots) {
        let ballot = proof.ballot();
        proven.entry(ballot.seq).or_default().insert(ballot.view, ballot.digest);
    }
    let null = Proposal::NULL.digest();
    let second = |seq: &Seq| proven.get(seq).and_then(|views| views.values().rev().nth(1)).copied().unwrap_or(null);
    honest.slots.iter().map(|(seq, _)| (*seq, second(seq))).collect()
}

/// Opens its view towards the first of the others only.
fn to_some(act: &mut Act<'_>) -> u64 {
    let only = act.hands.others().first().copied();
    let own = act.hands.id;
    divert(act.hands, act.sends, |to, message| {
        let withheld = matches!(message, Message::NewView(message) if message.author() == own) && Some(to) != only;
        (!withheld).then(|| message.clone())
    })
}
