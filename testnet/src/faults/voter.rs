//! The lying voter: PREPAREs and COMMITs.

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Seq, Signed, StatementBody, View};
use quorate_protocol::engine::Send;
use quorate_protocol::hotstuff::message::Timeout;
use quorate_protocol::message::{Message, Prepare};
use quorate_protocol::parameters::Micros;
use rand::RngExt as _;

use super::act::Act;
use super::amnesia::Amnesia;
use super::catalogue::Behaviour;
use super::hands::Hands;
use super::{forgery, mutation, votes};

/// Copies of a vote under its one signature, and under others.
const COPIES: usize = 2;
/// Between two certificates forged, microseconds.
const FORGERY_INTERVAL: Micros = 20_000;
/// Between two rounds of replaying, and how many messages each has.
const REPLAY_INTERVAL: Micros = 10_000;
const REPLAYED: usize = 3;
/// The farthest a vote reaches into the future, views or numbers.
const FAR: u64 = 1_000_000;

/// A lying voter's memory.
#[derive(Default)]
pub(super) struct Voter {
    amnesia: Amnesia,
    nonce: u64,
}

/// The signed vote of a message, if it is one of the liar's own.
fn own_vote(hands: &Hands, message: &Message) -> Option<(Signed, Ballot)> {
    let signed = match message {
        Message::Prepare(prepare) => prepare.signed,
        Message::Commit(signed) => *signed,
        _ => return None,
    };
    match *signed.body() {
        StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) if signed.signer() == hands.id => {
            Some((signed, ballot))
        }
        _ => None,
    }
}

/// What the liar itself signed in a message that is a vote, or a TIMEOUT, which is counted as votes are.
fn own_signed(hands: &Hands, message: &Message) -> Option<Signed> {
    match message {
        Message::BlockVote(signed) if signed.signer() == hands.id => Some(*signed),
        Message::Timeout(timeout) if timeout.signed.signer() == hands.id => Some(timeout.signed),
        other => own_vote(hands, other).map(|(signed, _)| signed),
    }
}

/// The same message with another signed vote in it.
fn with_vote(message: &Message, signed: Signed) -> Message {
    match message {
        Message::BlockVote(_) => Message::BlockVote(signed),
        Message::Timeout(timeout) => Message::Timeout(Timeout { signed, ..timeout.clone() }),
        Message::Prepare(prepare) => Message::Prepare(Prepare { signed, ..*prepare }),
        _ => Message::Commit(signed),
    }
}

impl Voter {
    pub(super) fn act(&mut self, behaviour: Behaviour, act: &mut Act<'_>) -> u64 {
        match behaviour {
            Behaviour::DoubleVote => votes::double(act.hands, act.sends),
            Behaviour::VoteMany => self.many(act),
            Behaviour::BadSignature => bad_signature(act),
            Behaviour::WithholdPrepares => act.withhold(|message| matches!(message, Message::Prepare(_))),
            Behaviour::WithholdCommits => {
                act.withhold(|message| matches!(message, Message::Commit(_) | Message::CommitCertificate(_)))
            }
            Behaviour::StaleVotes => more_votes(act, stale),
            Behaviour::FutureVotes => more_votes(act, |act, ballot| Some(future(act, ballot))),
            Behaviour::ForgedCertificate => forge(act),
            Behaviour::Impersonate => impersonate(act),
            Behaviour::Replay => replay(act),
            Behaviour::Mutate => mutation::act(act),
            Behaviour::Amnesia => self.amnesia.act(act),
            _ => 0,
        }
    }

    /// Each vote again under its signature, and under other signatures that hold as well.
    fn many(&mut self, act: &mut Act<'_>) -> u64 {
        let mut copies = Vec::new();
        for send in act.sends.iter() {
            let Some(signed) = own_signed(act.hands, &send.message) else { continue };
            for _ in 0..COPIES {
                copies.push(send.clone());
                self.nonce += 1;
                let again = act.hands.sign_again(&signed, self.nonce);
                copies.push(Send { message: with_vote(&send.message, again), ..send.clone() });
            }
        }
        let acted = copies.len() as u64;
        // The copies come first: what counts must not depend on which signature is seen first.
        copies.append(act.sends);
        *act.sends = copies;
        acted
    }
}

fn bad_signature(act: &mut Act<'_>) -> u64 {
    let mut acted = 0;
    for send in act.sends.iter_mut() {
        let Some(mut signed) = own_signed(act.hands, &send.message) else { continue };
        let byte = act.random.random_range(0..signed.signature.0.len());
        signed.signature.0[byte] ^= act.random.random_range(1..=255u8);
        send.message = with_vote(&send.message, signed);
        acted += 1;
    }
    acted
}

/// Beside every own vote one for another place.
fn more_votes(act: &mut Act<'_>, elsewhere: fn(&mut Act<'_>, &Ballot) -> Option<Ballot>) -> u64 {
    let votes: Vec<(Message, Ballot)> = act
        .sends
        .iter()
        .filter_map(|send| own_vote(act.hands, &send.message).map(|(_, ballot)| (send.message.clone(), ballot)))
        .collect();
    let mut acted = 0;
    for (message, ballot) in votes {
        let Some(ballot) = elsewhere(act, &ballot) else { continue };
        // A primary's PREPARE is refused for what it is; its COMMIT has to be looked at.
        let leads = act.hands.committee.primary(ballot.view) == act.hands.id;
        let vote = match &message {
            Message::Prepare(_) if !leads => with_vote(&message, act.hands.sign(StatementBody::Prepare(ballot))),
            _ => Message::Commit(act.hands.sign(StatementBody::Commit(ballot))),
        };
        act.tell_all(vote);
        acted += 1;
    }
    acted
}

/// A view that was left, or a number that is stable.
fn stale(act: &mut Act<'_>, ballot: &Ballot) -> Option<Ballot> {
    let view = ballot.view.0.checked_sub(act.random.random_range(1..=3)).map(View);
    match view {
        Some(view) if act.random.random_bool(0.7) => Some(Ballot { view, ..*ballot }),
        _ => {
            let seq = act.standing.stable.0.checked_sub(act.random.random_range(0..4))?;
            Some(Ballot { seq: Seq(seq), ..*ballot })
        }
    }
}

/// The next view, one far ahead, or a number far ahead.
fn future(act: &mut Act<'_>, ballot: &Ballot) -> Ballot {
    let far = act.random.random_range(2..FAR);
    match act.random.random_range(0..4) {
        0 => Ballot { view: ballot.view.next(), ..*ballot },
        1 => Ballot { view: View(ballot.view.0 + far), ..*ballot },
        2 => Ballot { seq: ballot.seq.plus(act.random.random_range(1..2 * act.hands.parameters.window)), ..*ballot },
        _ => Ballot { seq: ballot.seq.plus(far), ..*ballot },
    }
}

fn forge(act: &mut Act<'_>) -> u64 {
    if act.sends.is_empty() || !act.pace.allows(Behaviour::ForgedCertificate, act.now, FORGERY_INTERVAL) {
        return 0;
    }
    let Some(message) = forgery::any(act) else { return 0 };
    let to = act.anybody();
    act.tell(to, message);
    1
}

/// The liar's vote for another digest with somebody else's name under it.
fn impersonate(act: &mut Act<'_>) -> u64 {
    let votes: Vec<(Message, Ballot)> = act
        .sends
        .iter()
        .filter_map(|send| own_vote(act.hands, &send.message).map(|(_, ballot)| (send.message.clone(), ballot)))
        .collect();
    let acted = votes.len() as u64;
    for (message, ballot) in votes {
        let ballot = Hands::other_ballot(&ballot);
        let body = match &message {
            Message::Prepare(_) => StatementBody::Prepare(ballot),
            _ => StatementBody::Commit(ballot),
        };
        let victim = act.anybody();
        let statement = quorate_crypto::Statement { signer: victim, ..act.hands.statement(body) };
        let message = with_vote(&message, act.hands.sign_statement(statement));
        act.tell_all(message);
    }
    acted
}

fn replay(act: &mut Act<'_>) -> u64 {
    let kept = act.seen.messages().len();
    if kept == 0 || act.sends.is_empty() || !act.pace.allows(Behaviour::Replay, act.now, REPLAY_INTERVAL) {
        return 0;
    }
    for _ in 0..REPLAYED {
        let index = act.random.random_range(0..kept);
        let message = act.seen.messages()[index].clone();
        let to = act.anybody();
        act.tell(to, message);
    }
    REPLAYED as u64
}
