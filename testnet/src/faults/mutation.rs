//! The mutator: any field of what it says changes by a little (after ByzzFuzz, OOPSLA 2023, whose small-scope mutations
//! found real faults).

use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::{Signed, StatementBody};
use quorate_protocol::message::{Message, Prepare};
use quorate_protocol::pbft::view_change_message::{NewView, ViewChange};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::act::Act;
use super::hands::Hands;

/// How often a change is tried until one still decodes.
const TRIES: usize = 8;

/// Every second message is changed.
pub(super) fn act(act: &mut Act<'_>) -> u64 {
    let mut acted = 0;
    for index in 0..act.sends.len() {
        if act.random.random_bool(0.5)
            && let Some(changed) = mutate(act.hands, &act.sends[index].message, act.random)
        {
            act.sends[index].message = changed;
            acted += 1;
        }
    }
    acted
}

/// A message that differs from `message` in one byte of its encoding, which is one step of one field: signed anew in the
/// liar's name, or with the old signature.
pub(crate) fn mutate(hands: &Hands, message: &Message, random: &mut ChaCha8Rng) -> Option<Message> {
    let honest = encode(message);
    for _ in 0..TRIES {
        let mut bytes = honest.clone();
        let place = random.random_range(0..bytes.len());
        bytes[place] = match random.random_range(0..3) {
            0 => bytes[place].wrapping_add(1),
            1 => bytes[place].wrapping_sub(1),
            _ => bytes[place] ^ (1 << random.random_range(0..8)),
        };
        let Ok(changed) = decode::<Message>(&bytes, hands.parameters.frame_bytes_max) else { continue };
        if changed != *message {
            return Some(if random.random_bool(0.5) { sign_anew(hands, changed) } else { changed });
        }
    }
    None
}

/// Signs what a message says now, whatever it is, with the liar's key.
fn sign_anew(hands: &Hands, message: Message) -> Message {
    let again = |signed: Signed| hands.sign_statement(signed.statement);
    match message {
        Message::PrePrepare(mut message) => {
            if let StatementBody::PrePrepare(ballot) = &mut message.signed.statement.body {
                ballot.digest = message.proposal.digest();
            }
            message.signed = again(message.signed);
            Message::PrePrepare(message)
        }
        Message::Prepare(prepare) => Message::Prepare(Prepare { signed: again(prepare.signed), ..prepare }),
        Message::Commit(signed) => Message::Commit(again(signed)),
        Message::BlockProposal(mut message) => {
            if let StatementBody::Proposal { view, block } = &mut message.signed.statement.body {
                (*view, *block) = (message.block.view, message.block.digest());
            }
            message.signed = again(message.signed);
            Message::BlockProposal(message)
        }
        Message::BlockVote(signed) => Message::BlockVote(again(signed)),
        Message::Timeout(mut message) => {
            if let StatementBody::Timeout { high_view, .. } = &mut message.signed.statement.body {
                *high_view = message.high_qc.view();
            }
            message.signed = again(message.signed);
            Message::Timeout(message)
        }
        Message::Checkpoint(signed) => Message::Checkpoint(again(signed)),
        Message::Executed(signed) => Message::Executed(again(signed)),
        Message::ViewChange(message) => {
            let header = message.signed.statement;
            let (cluster, signer) = (hands.committee.cluster(), hands.signer.as_ref());
            Message::ViewChange(ViewChange::sign(message.body().clone(), header, cluster, signer))
        }
        Message::NewView(message) => {
            let header = message.signed.statement;
            let (cluster, signer) = (hands.committee.cluster(), hands.signer.as_ref());
            Message::NewView(NewView::sign_body(message.body().clone(), header, cluster, signer))
        }
        other => other,
    }
}
