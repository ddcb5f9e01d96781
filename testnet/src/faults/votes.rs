//! The double voter: every PREPARE and COMMIT has a twin for another digest.

use quorate_crypto::StatementBody;
use quorate_protocol::engine::Send;
use quorate_protocol::message::{Message, Prepare};

use super::hands::Hands;

/// Adds a vote for another digest to every own vote; returns how many.
pub(super) fn double(hands: &Hands, sends: &mut Vec<Send>) -> u64 {
    let mut twins = Vec::new();
    for send in sends.iter() {
        let twin = match &send.message {
            Message::Prepare(prepare) if prepare.signed.signer() == hands.id => {
                let StatementBody::Prepare(ballot) = prepare.signed.statement.body else { continue };
                let signed = hands.sign(StatementBody::Prepare(Hands::other_ballot(&ballot)));
                Message::Prepare(Prepare { signed, ..*prepare })
            }
            Message::Commit(signed) if signed.signer() == hands.id => {
                let StatementBody::Commit(ballot) = signed.statement.body else { continue };
                Message::Commit(hands.sign(StatementBody::Commit(Hands::other_ballot(&ballot))))
            }
            _ => continue,
        };
        twins.push(Send { to: send.to, message: twin, after: send.after });
    }
    let acted = twins.len() as u64;
    sends.extend(twins);
    acted
}
