//! Lies in TIMEOUTs, and games with timers.

use std::collections::BTreeMap;

use quorate_crypto::{StatementBody, View};
use quorate_protocol::engine::{Recipients, Send};
use quorate_protocol::hotstuff::certificate::QuorumCertificate;
use quorate_protocol::hotstuff::message::Timeout;
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;
use rand::RngExt as _;

use super::blocks::own_proposal;
use crate::faults::act::Act;
use crate::faults::catalogue::Behaviour;
use crate::faults::hands::Hands;

/// Between two rounds of TIMEOUTs ahead, and how many each has.
const SPAM_INTERVAL: Micros = 20_000;
const SPAM: usize = 3;
/// The farthest view given up.
const FAR: u64 = 1_000_000;
/// What is held back in timer games leaves after this share of the view timeout, in tenths.
const LATE_TENTHS: u64 = 8;
/// Most views whose lies are remembered.
const VIEWS_KEPT: usize = 64;

/// A liar's memory of its TIMEOUTs: sent again, they are the same.
#[derive(Default)]
pub(super) struct Timeouts {
    told: BTreeMap<View, Timeout>,
    /// When what is held back may leave.
    due: BTreeMap<(View, bool), Micros>,
}

/// A TIMEOUT of the liar's own. The certificate must be of a view before `view`.
pub(in crate::faults) fn sign(hands: &Hands, view: View, high_qc: QuorumCertificate) -> Timeout {
    let signed = hands.sign(StatementBody::Timeout { view, high_view: high_qc.view() });
    Timeout { signed, high_qc }
}

/// The liar's own TIMEOUT, if the message is one.
pub(in crate::faults) fn own_timeout<'a>(hands: &Hands, message: &'a Message) -> Option<&'a Timeout> {
    match message {
        Message::Timeout(timeout) if timeout.signed.signer() == hands.id => Some(timeout),
        _ => None,
    }
}

/// A certificate lower than that of a TIMEOUT: any that was seen, or that of the genesis block.
fn lower(act: &mut Act<'_>, timeout: &Timeout) -> Option<QuorumCertificate> {
    if timeout.high_qc == QuorumCertificate::Genesis {
        return None;
    }
    let seen = act.seen.chain().quorums_before(timeout.high_qc.view());
    let choice = act.random.random_range(0..=seen.len());
    Some(seen.get(choice).map_or(QuorumCertificate::Genesis, |certificate| (*certificate).clone()))
}

impl Timeouts {
    fn keep(&mut self, timeout: Timeout) {
        self.told.insert(timeout.view(), timeout);
        while self.told.len() > VIEWS_KEPT {
            self.told.pop_first();
        }
    }

    /// Gives a view up as soon as it begins, whatever its leader does.
    pub(super) fn early(&mut self, act: &mut Act<'_>) -> u64 {
        for send in act.sends.iter_mut() {
            if let Some(timeout) = own_timeout(act.hands, &send.message)
                && let Some(told) = self.told.get(&timeout.view())
            {
                send.message = Message::Timeout(told.clone());
            }
        }
        let view = act.standing.view;
        if self.told.contains_key(&view) || view == View(0) {
            return 0;
        }
        if let Some(said) = act.seen.chain().timeout_of(view, act.hands.id) {
            // It did so when it was honest.
            self.keep(said.clone());
            return 0;
        }
        let timeout = sign(act.hands, view, act.seen.chain().highest_before(view));
        act.tell_all(Message::Timeout(timeout.clone()));
        self.keep(timeout);
        1
    }

    /// Every own TIMEOUT with an older certificate than it holds, the same one each time it is sent.
    pub(super) fn hide(&mut self, act: &mut Act<'_>) -> u64 {
        let mut acted = 0;
        for index in 0..act.sends.len() {
            let Some(honest) = own_timeout(act.hands, &act.sends[index].message).cloned() else { continue };
            let view = honest.view();
            if !self.told.contains_key(&view) {
                let Some(older) = lower(act, &honest) else { continue };
                self.keep(sign(act.hands, view, older));
            }
            if let Some(told) = self.told.get(&view) {
                act.sends[index].message = Message::Timeout(told.clone());
                acted += 1;
            }
        }
        acted
    }

    /// TIMEOUT, and the block of a view that begins with one, leave just before the others' timers run out (after "Liveness
    /// Attacks on HotStuff").
    pub(super) fn late(&mut self, act: &mut Act<'_>) -> u64 {
        let delay = act.hands.parameters.view_timeout * LATE_TENTHS / 10;
        let (now, hands, due) = (act.now, act.hands, &mut self.due);
        let acted = act.hold(|message| {
            let place = match (own_timeout(hands, message), own_proposal(hands, message)) {
                (Some(timeout), _) => (timeout.view(), false),
                (_, Some(proposal)) if proposal.block.timeout.is_some() => (proposal.block.view, true),
                _ => return None,
            };
            let due = *due.entry(place).or_insert(now + delay);
            (due > now).then_some(due)
        });
        while self.due.len() > VIEWS_KEPT {
            self.due.pop_first();
        }
        acted
    }
}

/// TIMEOUTs ahead, near and far, with whatever certificates there are.
pub(super) fn spam(act: &mut Act<'_>) -> u64 {
    if act.sends.is_empty() || !act.pace.allows(Behaviour::TimeoutSpam, act.now, SPAM_INTERVAL) {
        return 0;
    }
    for _ in 0..SPAM {
        let ahead = match act.random.random_range(0..3) {
            0 => act.random.random_range(1..4),
            1 => act.random.random_range(4..1_000),
            _ => act.random.random_range(1_000..=FAR),
        };
        let view = View(act.standing.view.0.saturating_add(ahead));
        let seen = act.seen.chain().quorums_before(view);
        let choice = act.random.random_range(0..=seen.len());
        let high_qc = seen.get(choice).map_or(QuorumCertificate::Genesis, |certificate| (*certificate).clone());
        let timeout = sign(act.hands, view, high_qc);
        act.tell_all(Message::Timeout(timeout));
    }
    SPAM as u64
}

/// Beside every own TIMEOUT one that names an older certificate: half of the others hear that one first.
pub(super) fn two(act: &mut Act<'_>) -> u64 {
    let others = act.hands.others();
    let half = others.len().div_ceil(2);
    let mut acted = 0;
    let mut out = Vec::with_capacity(act.sends.len());
    for send in std::mem::take(act.sends) {
        let honest = own_timeout(act.hands, &send.message).cloned();
        let older = honest.as_ref().and_then(|honest| lower(act, honest));
        let (Some(honest), Some(older)) = (honest, older) else {
            out.push(send);
            continue;
        };
        acted += 1;
        let other = Message::Timeout(sign(act.hands, honest.view(), older));
        let told = match send.to {
            Recipients::Others => others.clone(),
            Recipients::One(id) => vec![id],
        };
        for id in told {
            let mut pair = [other.clone(), send.message.clone()];
            if others.iter().position(|other| *other == id).is_some_and(|place| place >= half) {
                pair.reverse();
            }
            out.extend(pair.map(|message| Send { to: Recipients::One(id), message, after: send.after }));
        }
    }
    *act.sends = out;
    acted
}
