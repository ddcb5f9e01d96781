//! Lies about what was prepared, and timer games: VIEW-CHANGE.

use std::collections::BTreeMap;

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Certificate, Endorsement, Seq, StatementBody, View};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;
use quorate_protocol::pbft::view_change_message::{SlotProof, ViewChange, ViewChangeBody};
use rand::RngExt as _;

use super::act::{Act, divert};
use super::catalogue::Behaviour;
use super::hands::Hands;
use super::new_view::NewViews;

/// Between two rounds of VIEW-CHANGEs ahead, and how many each has.
const SPAM_INTERVAL: Micros = 20_000;
const SPAM: usize = 3;
/// The farthest view asked for.
const FAR: u64 = 1_000_000;
/// An early VIEW-CHANGE is said again after this long.
const EARLY_INTERVAL: Micros = 100_000;
/// What is held back in timer games leaves after this share of the view timeout, in tenths.
const LATE_TENTHS: u64 = 8;

/// A liar's memory of what it said in view changes.
#[derive(Default)]
pub(super) struct ViewChanges {
    new_views: NewViews,
    /// The VIEW-CHANGE it sends in place of the honest one: sent again, it is the same.
    told: BTreeMap<View, ViewChange>,
    /// When what is held back may leave.
    due: BTreeMap<(View, bool), Micros>,
}

/// Most views whose lies are remembered.
const VIEWS_KEPT: usize = 64;

impl ViewChanges {
    pub(super) fn act(&mut self, behaviour: Behaviour, act: &mut Act<'_>) -> u64 {
        match behaviour {
            Behaviour::ViewChangeSpam => spam(act),
            Behaviour::SeveralViewChanges => several(act),
            Behaviour::FalseCertificates => self.replace(act, false_certificates),
            Behaviour::OmitCertificates => without_proofs(act),
            Behaviour::TimerGames => self.late(act),
            Behaviour::EarlyViewChange => early(act),
            Behaviour::FalseSuspicion => suspect(act),
            Behaviour::NewViewTooFew
            | Behaviour::NewViewWrongValues
            | Behaviour::NewViewLowerView
            | Behaviour::NewViewToSome => self.new_views.act(behaviour, act),
            _ => 0,
        }
    }

    /// Sends one false VIEW-CHANGE a view in place of the honest one.
    fn replace(&mut self, act: &mut Act<'_>, lie: fn(&mut Act<'_>, &ViewChangeBody) -> ViewChangeBody) -> u64 {
        let mut acted = 0;
        for index in 0..act.sends.len() {
            let Some(body) = own_body(act.hands, &act.sends[index].message) else { continue };
            let told = match self.told.get(&body.view) {
                Some(told) => told.clone(),
                None => sign(act.hands, lie(act, &body)),
            };
            act.sends[index].message = Message::ViewChange(told.clone());
            acted += 1;
            self.told.insert(body.view, told);
            while self.told.len() > VIEWS_KEPT {
                self.told.pop_first();
            }
        }
        acted
    }

    /// VIEW-CHANGE and NEW-VIEW leave just before the others' timers run out: every view change takes as long as it can
    /// without counting as failed (after "Liveness Attacks on HotStuff").
    fn late(&mut self, act: &mut Act<'_>) -> u64 {
        let delay = act.hands.parameters.view_timeout * LATE_TENTHS / 10;
        let (now, own, due) = (act.now, act.hands.id, &mut self.due);
        let acted = act.hold(|message| {
            let place = match message {
                Message::ViewChange(message) if message.author() == own => (message.view(), false),
                Message::NewView(message) if message.author() == own => (message.view(), true),
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

/// Whoever finds its primary slow, for whatever reason, has one more to leave it with.
fn suspect(act: &mut Act<'_>) -> u64 {
    let mut acted = 0;
    for send in act.sends.iter_mut() {
        if let Message::Status(status) = &mut send.message {
            acted += u64::from(!status.suspects);
            status.suspects = true;
        }
    }
    acted
}

pub(super) fn sign(hands: &Hands, body: ViewChangeBody) -> ViewChange {
    let header = hands.statement(StatementBody::Rejoin { nonce: [0; 16] });
    ViewChange::sign(body, header, hands.committee.cluster(), hands.signer.as_ref())
}

/// The body of a VIEW-CHANGE of the liar's own.
fn own_body(hands: &Hands, message: &Message) -> Option<ViewChangeBody> {
    match message {
        Message::ViewChange(message) if message.author() == hands.id => Some(message.body().clone()),
        _ => None,
    }
}

/// Every own VIEW-CHANGE as if nothing had been prepared, or, if nothing was, as if no checkpoint were stable.
pub(super) fn without_proofs(act: &mut Act<'_>) -> u64 {
    let mut acted = 0;
    for send in act.sends.iter_mut() {
        let Some(body) = own_body(act.hands, &send.message) else { continue };
        let omitted = if body.slots.is_empty() {
            ViewChangeBody { stable: None, ..body.clone() }
        } else {
            ViewChangeBody { slots: Vec::new(), ..body.clone() }
        };
        if omitted != body {
            send.message = Message::ViewChange(sign(act.hands, omitted));
            acted += 1;
        }
    }
    acted
}

/// VIEW-CHANGEs ahead, near and far, each properly signed.
fn spam(act: &mut Act<'_>) -> u64 {
    if act.sends.is_empty() || !act.pace.allows(Behaviour::ViewChangeSpam, act.now, SPAM_INTERVAL) {
        return 0;
    }
    for _ in 0..SPAM {
        let ahead = match act.random.random_range(0..3) {
            0 => act.random.random_range(1..4),
            1 => act.random.random_range(4..1_000),
            _ => act.random.random_range(1_000..=FAR),
        };
        let view = View(act.standing.view.0 + ahead);
        let body = ViewChangeBody { view, stable: act.seen.stable_certificate().cloned(), slots: Vec::new() };
        let message = Message::ViewChange(sign(act.hands, body));
        act.tell_all(message);
    }
    SPAM as u64
}

/// Asks for the next view as soon as one is entered, and goes on asking.
fn early(act: &mut Act<'_>) -> u64 {
    let ready = act.standing.entered && !act.sends.is_empty();
    if !ready || !act.pace.allows(Behaviour::EarlyViewChange, act.now, EARLY_INTERVAL) {
        return 0;
    }
    let view = act.standing.view.next();
    let body = ViewChangeBody { view, stable: act.seen.stable_certificate().cloned(), slots: Vec::new() };
    let message = Message::ViewChange(sign(act.hands, body));
    act.tell_all(message);
    1
}

/// Two different VIEW-CHANGEs to one view, and the first one twice under different signatures.
fn several(act: &mut Act<'_>) -> u64 {
    let mut another = None;
    for send in act.sends.iter() {
        let Some(body) = own_body(act.hands, &send.message) else { continue };
        another = Some((send.message.clone(), variant(act, &body)));
        break;
    }
    let Some((first, variant)) = another else { return 0 };
    let second = match variant {
        Some(body) => Message::ViewChange(sign(act.hands, body)),
        None => first.clone(),
    };
    let others = act.hands.others();
    let half = others.len().div_ceil(2);
    let acted = divert(act.hands, act.sends, |to, message| {
        let mine = matches!(message, Message::ViewChange(message) if message.author() == act.hands.id);
        let second_half = others.iter().position(|id| *id == to).is_some_and(|place| place >= half);
        Some(if mine && second_half { second.clone() } else { message.clone() })
    });
    act.tell_all(second);
    act.tell_all(first);
    acted + 2
}

/// Another body that holds: one proof less, or one commit certificate more.
fn variant(act: &Act<'_>, body: &ViewChangeBody) -> Option<ViewChangeBody> {
    let mut other = body.clone();
    if other.slots.pop().is_some() {
        return Some(other);
    }
    if other.stable.take().is_some() {
        return Some(other);
    }
    let window = act.hands.parameters.window;
    let (ballot, commits) = act.seen.commits().iter().find(|(ballot, commits)| {
        commits.len() >= act.hands.committee.quorum()
            && ballot.view < body.view
            && ballot.seq > Seq(0)
            && ballot.seq.0 <= window
    })?;
    let commits = Certificate::collect(commits.values())?.endorsements;
    other.slots.push(SlotProof::Committed { ballot: *ballot, commits });
    Some(other)
}

/// A proof that does not hold in place of one that does, or of none.
fn false_certificates(act: &mut Act<'_>, body: &ViewChangeBody) -> ViewChangeBody {
    let mut body = body.clone();
    let honest = body.slots.pop();
    let lowest = body.slots.last().map_or(body.stable_seq(), |proof| proof.ballot().seq);
    let ballot = honest.as_ref().map_or_else(
        || Ballot {
            view: View(body.view.0.saturating_sub(1)),
            seq: lowest.next(),
            digest: act.hands.committee.cluster().0,
        },
        |proof| *proof.ballot(),
    );
    let own = |ballot: Ballot, act: &Act<'_>| Endorsement {
        signer: act.hands.id,
        incarnation: act.hands.incarnation,
        signature: act.hands.sign(StatementBody::Prepare(ballot)).signature,
    };
    let lie = match (honest, act.random.random_range(0..5)) {
        (Some(SlotProof::Prepared { ballot, primary, mut prepares }), 0) => {
            prepares.pop();
            SlotProof::Prepared { ballot, primary, prepares }
        }
        (Some(SlotProof::Prepared { ballot, primary, mut prepares }), 1) => {
            if let [first, second, ..] = prepares.as_mut_slice() {
                *second = *first;
            }
            SlotProof::Prepared { ballot, primary, prepares }
        }
        (Some(SlotProof::Prepared { ballot, primary, prepares }), 2) => {
            SlotProof::Prepared { ballot: Hands::other_ballot(&ballot), primary, prepares }
        }
        (Some(SlotProof::Prepared { ballot, prepares, .. }), 3) => {
            // The liar's own signature where the primary's stands.
            SlotProof::Prepared { ballot, primary: own(ballot, act), prepares }
        }
        (Some(SlotProof::Committed { mut ballot, commits }), _) => {
            ballot.view = View(body.view.0 - 1);
            ballot.digest.0[1] ^= 1;
            SlotProof::Committed { ballot, commits }
        }
        _ => {
            let quorum = act.hands.committee.quorum();
            SlotProof::Committed { ballot: Hands::other_ballot(&ballot), commits: vec![own(ballot, act); quorum] }
        }
    };
    body.slots.push(lie);
    body
}
