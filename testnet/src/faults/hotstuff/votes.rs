//! The lying voter under HotStuff.

use quorate_crypto::{Digest, Signed, Statement, View};
use quorate_protocol::engine::Send;
use quorate_protocol::hotstuff::certificate::Vote;
use quorate_protocol::hotstuff::message::Timeout;
use quorate_protocol::message::Message;
use rand::RngExt as _;

use crate::faults::act::Act;
use crate::faults::hands::Hands;

/// The farthest a vote reaches into the future, in views.
const FAR: u64 = 1_000_000;

/// The liar's own vote for a block, if the message is one.
pub(in crate::faults) fn own_vote(hands: &Hands, message: &Message) -> Option<(Signed, Vote)> {
    match message {
        Message::BlockVote(signed) if signed.signer() == hands.id => Some((*signed, Vote::of(signed.body())?)),
        _ => None,
    }
}

/// A vote of the same view for another block: one that was seen, or one that nobody ever proposed.
fn another_vote(act: &Act<'_>, vote: Vote) -> Vote {
    let seen = act.seen.chain().blocks().rev();
    let other = seen.filter(|block| block.view == vote.view).find(|block| block.digest() != vote.block);
    match other {
        Some(block) => Vote { view: vote.view, block: block.digest(), parent_view: block.justify.view() },
        None => Vote { block: made_up(vote.block), ..vote },
    }
}

const fn made_up(mut block: Digest) -> Digest {
    block.0[0] ^= 0xff;
    block
}

fn own_votes(act: &Act<'_>) -> Vec<(Send, Vote)> {
    let own = |send: &Send| own_vote(act.hands, &send.message).map(|(_, vote)| (send.clone(), vote));
    act.sends.iter().filter_map(own).collect()
}

/// Beside every own vote, to the same leader, one for another block of the view.
pub(super) fn double(act: &mut Act<'_>) -> u64 {
    let votes = own_votes(act);
    for (send, vote) in &votes {
        let twin = another_vote(act, *vote);
        act.sends.push(Send { message: Message::BlockVote(act.hands.sign(twin.body())), ..send.clone() });
    }
    votes.len() as u64
}

/// Beside every own vote one in another view, for whoever collects it.
pub(super) fn elsewhere(act: &mut Act<'_>, view: fn(&mut Act<'_>, View) -> Option<View>) -> u64 {
    let mut acted = 0;
    for (_, vote) in own_votes(act) {
        let Some(view) = view(act, vote.view) else { continue };
        // As late a parent as the view allows, or the true one.
        let parent_view = vote.parent_view.min(View(view.0.saturating_sub(1)));
        let elsewhere = Vote { view, parent_view, ..vote };
        act.tell_all(Message::BlockVote(act.hands.sign(elsewhere.body())));
        acted += 1;
    }
    acted
}

/// A view that is over.
pub(super) fn stale(act: &mut Act<'_>, view: View) -> Option<View> {
    let back = act.random.random_range(1..=3);
    view.0.checked_sub(back).filter(|view| *view > 0).map(View)
}

/// The next view, or one far ahead.
pub(super) fn future(act: &mut Act<'_>, view: View) -> View {
    let ahead = if act.random.random_bool(0.5) { 1 } else { act.random.random_range(2..FAR) };
    View(view.0.saturating_add(ahead))
}

/// The liar's vote for another block, and its TIMEOUT, with somebody else's name under it.
pub(super) fn impersonate(act: &mut Act<'_>) -> u64 {
    let mut false_names = Vec::new();
    for send in act.sends.iter() {
        if let Some((_, vote)) = own_vote(act.hands, &send.message) {
            let body = Vote { block: made_up(vote.block), ..vote }.body();
            false_names.push((send.clone(), body, None));
        } else if let Message::Timeout(timeout) = &send.message
            && timeout.signed.signer() == act.hands.id
        {
            false_names.push((send.clone(), *timeout.signed.body(), Some(timeout.high_qc.clone())));
        }
    }
    let acted = false_names.len() as u64;
    for (send, body, high_qc) in false_names {
        let victim = act.anybody();
        let signed = act.hands.sign_statement(Statement { signer: victim, ..act.hands.statement(body) });
        let message = match high_qc {
            Some(high_qc) => Message::Timeout(Timeout { signed, high_qc }),
            None => Message::BlockVote(signed),
        };
        act.sends.push(Send { message, ..send });
    }
    acted
}

/// Votes for nothing.
pub(super) fn withhold(act: &mut Act<'_>) -> u64 {
    let hands = act.hands;
    act.withhold(|message| own_vote(hands, message).is_some())
}
