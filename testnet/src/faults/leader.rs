//! The lying primary: what it proposes, and to whom.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, PublicKey, ReplicaId, Seq, Signature, StatementBody, View};
use quorate_protocol::engine::{Engine, Input, Recipients, Send};
use quorate_protocol::hotstuff::block::{Block, BlockContent};
use quorate_protocol::message::{Message, PrePrepare};
use quorate_protocol::proposal::{Payload, Proposal};
use quorate_protocol::request::Request;
use rand::RngExt as _;

use super::act::{Act, divert};
use super::catalogue::Behaviour;
use super::hotstuff::{Blocks, content_with};
use super::seen::Heard;

/// Numbers a lie is remembered for; older ones are forgotten.
const LIES_KEPT: usize = 256;
/// Forged requests whose bodies are served.
const FORGED_KEPT: usize = 64;
/// A slow primary's proposals leave after this share of the view timeout, in tenths: what backups then still need for
/// their votes fits into the rest.
const SLOW_TENTHS: u64 = 8;

/// A lying primary's memory.
#[derive(Default)]
pub(super) struct Leader {
    /// What it proposed in place of the honest proposal: sent again, it is the same.
    lies: BTreeMap<(View, Seq), PrePrepare>,
    /// The same under HotStuff.
    blocks: Blocks,
    forged: BTreeMap<Digest, Request>,
    /// When a slow proposal may leave.
    due: BTreeMap<(View, Seq), u64>,
    /// Whose requests are never proposed.
    censored: Option<PublicKey>,
}

impl Leader {
    /// Takes the requests of the censored client out of what the honest inside is given; how many.
    pub(super) fn censor(&mut self, engine: &impl Engine, input: &mut Input) -> u64 {
        let Input::Requests { requests, .. } = input else { return 0 };
        let Some(first) = requests.first() else { return 0 };
        let censored = *self.censored.get_or_insert(first.content().client);
        let before = requests.len();
        // What another primary proposed it fetches and votes for: a backup that did not would only hurt itself.
        requests.retain(|request| request.content().client != censored || engine.wants(&request.digest()));
        (before - requests.len()) as u64
    }

    pub(super) fn act(&mut self, behaviour: Behaviour, act: &mut Act<'_>) -> u64 {
        match behaviour {
            Behaviour::Silent => {
                let silenced = act.sends.len() as u64;
                act.sends.clear();
                silenced
            }
            Behaviour::Slow => self.slow(act),
            Behaviour::InTheDark => in_the_dark(act),
            Behaviour::ForgeRequest => {
                self.propose_otherwise(act, behaviour) + self.blocks_otherwise(act, behaviour) + self.serve_forged(act)
            }
            Behaviour::ReplayRequest => {
                self.propose_otherwise(act, behaviour) + self.blocks_otherwise(act, behaviour) + serve_replayed(act)
            }
            Behaviour::DuplicateRequest | Behaviour::WrongNumber | Behaviour::WrongView | Behaviour::OversizedBatch => {
                self.propose_otherwise(act, behaviour) + self.blocks_otherwise(act, behaviour)
            }
            _ => 0,
        }
    }

    /// Every own proposal becomes another one, the same for everybody.
    fn propose_otherwise(&mut self, act: &mut Act<'_>, behaviour: Behaviour) -> u64 {
        let mut acted = 0;
        for index in 0..act.sends.len() {
            let Message::PrePrepare(message) = &act.sends[index].message else { continue };
            let StatementBody::PrePrepare(ballot) = *message.signed.body() else { continue };
            if message.signed.signer() != act.hands.id {
                continue;
            }
            let place = (ballot.view, ballot.seq);
            let lie = match self.lies.get(&place) {
                Some(lie) => Some(lie.clone()),
                None => self.otherwise(act, behaviour, &ballot, &message.proposal.clone()),
            };
            let Some(lie) = lie else { continue };
            self.lies.insert(place, lie.clone());
            while self.lies.len() > LIES_KEPT {
                self.lies.pop_first();
            }
            act.sends[index].message = Message::PrePrepare(lie);
            acted += 1;
        }
        acted
    }

    fn otherwise(
        &mut self,
        act: &mut Act<'_>,
        behaviour: Behaviour,
        ballot: &Ballot,
        honest: &Proposal,
    ) -> Option<PrePrepare> {
        if !matches!(honest.payload, Payload::Batch(_)) {
            return None;
        }
        let mut place = *ballot;
        let payload = match behaviour {
            Behaviour::WrongNumber => {
                place.seq = match act.random.random_range(0..4) {
                    0 => place.seq.plus(3 * act.hands.parameters.window),
                    1 => Seq(u64::MAX),
                    2 => act.standing.stable,
                    _ => place.seq.next(),
                };
                honest.payload.clone()
            }
            Behaviour::WrongView => {
                let members = act.hands.committee.size() as u64;
                place.view = match act.random.random_range(0..3) {
                    0 => View(place.view.0 + members),
                    1 => View(place.view.0.checked_sub(members).unwrap_or(place.view.0 + 1_000 * members)),
                    _ => place.view.next(),
                };
                honest.payload.clone()
            }
            _ => Payload::Batch(self.other_requests(act, behaviour, honest)?),
        };
        let proposal = Proposal { time: honest.time, payload };
        let ballot = Ballot { digest: proposal.digest(), ..place };
        Some(PrePrepare { signed: act.hands.sign(StatementBody::PrePrepare(ballot)), proposal })
    }

    /// Every own block becomes another one.
    fn blocks_otherwise(&mut self, act: &mut Act<'_>, behaviour: Behaviour) -> u64 {
        let mut blocks = std::mem::take(&mut self.blocks);
        let acted = blocks.replace(act, |act, block| self.block_otherwise(act, behaviour, block));
        self.blocks = blocks;
        acted
    }

    fn block_otherwise(&mut self, act: &mut Act<'_>, behaviour: Behaviour, honest: &Block) -> Option<BlockContent> {
        match behaviour {
            Behaviour::WrongNumber => Some(wrong_number(act, honest)),
            Behaviour::WrongView => Some(wrong_view(act, honest)),
            _ => {
                let requests = self.other_requests(act, behaviour, &honest.proposal)?;
                let proposal = Proposal { time: honest.proposal.time, payload: Payload::Batch(requests) };
                Some(content_with(honest, proposal))
            }
        }
    }

    /// What is proposed in place of an honest batch.
    fn other_requests(&mut self, act: &mut Act<'_>, behaviour: Behaviour, honest: &Proposal) -> Option<Vec<Digest>> {
        let Payload::Batch(requests) = &honest.payload else { return None };
        let mut requests = requests.clone();
        match behaviour {
            Behaviour::ForgeRequest => requests.push(self.forge(act)?),
            Behaviour::ReplayRequest => {
                let held: BTreeSet<Digest> = requests.iter().copied().collect();
                let old = act.seen.executed().iter().map(|(digest, _)| *digest).filter(|digest| !held.contains(digest));
                let room = act.hands.parameters.batch_requests_max.saturating_sub(requests.len());
                let old: BTreeSet<Digest> = old.take(room.min(3)).collect();
                if old.is_empty() {
                    // No room beside the honest ones, or nothing executed yet.
                    requests = vec![act.seen.executed().front()?.0];
                }
                requests.extend(old);
            }
            Behaviour::DuplicateRequest => requests.push(*requests.first()?),
            Behaviour::OversizedBatch => {
                let mut filler = honest.digest();
                while requests.len() <= act.hands.parameters.batch_requests_max {
                    filler = Digest::of(quorate_crypto::Domain::Fingerprint, &[filler.as_bytes()]);
                    requests.push(filler);
                }
            }
            _ => return None,
        }
        Some(requests)
    }

    /// A client's request with other operations under the signature of the true ones; its digest.
    fn forge(&mut self, act: &mut Act<'_>) -> Option<Digest> {
        let honest = act.seen.newest_request()?;
        let mut content = honest.content().clone();
        content.number = content.number.saturating_add(1);
        let byte = content.operations.first_mut()?.bytes.last_mut()?;
        *byte ^= 1;
        let Signature(mut signature) = *honest.signature();
        signature[7] ^= act.random.random_range(1..=255);
        let forged = Request::from_parts(content, Signature(signature));
        let digest = forged.digest();
        self.forged.insert(digest, forged);
        while self.forged.len() > FORGED_KEPT {
            self.forged.pop_first();
        }
        Some(digest)
    }

    /// Whoever asks for a forged body gets it.
    fn serve_forged(&self, act: &mut Act<'_>) -> u64 {
        let Heard::Bodies { from, digests } = act.heard else { return 0 };
        let bodies = digests.iter().filter_map(|digest| self.forged.get(digest)).cloned().collect();
        serve(act, *from, bodies)
    }

    fn slow(&mut self, act: &mut Act<'_>) -> u64 {
        let delay = act.hands.parameters.view_timeout * SLOW_TENTHS / 10;
        let (now, due) = (act.now, &mut self.due);
        let own = act.hands.id;
        let acted = act.hold(|message| {
            let Message::PrePrepare(message) = message else { return None };
            let StatementBody::PrePrepare(ballot) = *message.signed.body() else { return None };
            let due = *due.entry((ballot.view, ballot.seq)).or_insert(now + delay);
            (message.signed.signer() == own && due > now).then_some(due)
        });
        while self.due.len() > LIES_KEPT {
            self.due.pop_first();
        }
        acted
    }
}

/// A number that is not the one after the parent's, or for a null block the parent's own.
fn wrong_number(act: &mut Act<'_>, honest: &Block) -> BlockContent {
    let seq = match act.random.random_range(0..4) {
        0 => honest.seq.plus(3 * act.hands.parameters.window),
        1 => Seq(u64::MAX),
        // One that is stable; nothing but a null block may have the number 0.
        2 if act.standing.stable > Seq(0) => act.standing.stable,
        _ => honest.seq.next(),
    };
    BlockContent { seq, ..honest.content().clone() }
}

/// A view that is not the present one: with the same certificate, so that it does not follow from it.
fn wrong_view(act: &mut Act<'_>, honest: &Block) -> BlockContent {
    let members = act.hands.committee.size() as u64;
    let view = match act.random.random_range(0..3) {
        0 => View(honest.view.0.saturating_add(members)),
        1 => View(honest.view.0.checked_sub(members).unwrap_or(honest.view.0.saturating_add(1_000 * members))),
        _ => honest.view.next(),
    };
    BlockContent { view, ..honest.content().clone() }
}

fn serve(act: &mut Act<'_>, to: ReplicaId, bodies: Vec<Request>) -> u64 {
    if bodies.is_empty() {
        return 0;
    }
    act.sends.push(Send { to: Recipients::One(to), message: Message::Requests(bodies), after: None });
    1
}

/// Bodies of requests that executed long ago are held by nobody else any more.
fn serve_replayed(act: &mut Act<'_>) -> u64 {
    let Heard::Bodies { from, digests } = act.heard else { return 0 };
    let old = act.seen.executed().iter().filter(|(digest, _)| digests.contains(digest));
    let bodies = old.map(|(_, request)| request.clone()).collect();
    serve(act, *from, bodies);
    0
}

/// f others never get a proposal or a body from it.
fn in_the_dark(act: &mut Act<'_>) -> u64 {
    let mut others = act.hands.others();
    let start = act.standing.view.0 as usize % others.len();
    others.rotate_left(start);
    let starved: Vec<ReplicaId> = others.into_iter().take(act.hands.committee.faults()).collect();
    divert(act.hands, act.sends, |to, message| {
        let withheld = matches!(
            message,
            Message::PrePrepare(_)
                | Message::Requests(_)
                | Message::Proposals(_)
                | Message::CommitCertificate(_)
                | Message::BlockProposal(_)
                | Message::Blocks(_)
        );
        if withheld && starved.contains(&to) { None } else { Some(message.clone()) }
    })
}
