//! Requests: admission, the bodies that proposals name, relays.

use std::sync::Arc;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, ReplicaId, Verified};

use crate::engine::{Busy, Now, Recipients, RecordIndex, RequestNumber};
use crate::foundation::Foundation;
use crate::message::Message;
use crate::pending::Admission;
use crate::proposal::Proposal;
use crate::record::Record;
use crate::rejoin::rejoin_statement;
use crate::request::Request;

pub(super) fn number_of(request: &Request) -> RequestNumber {
    let content = request.content();
    RequestNumber { client: content.client, session: content.session, number: content.number }
}

impl Foundation {
    /// Takes requests in: what a proposal names and lacks, and what finds room. `leads` says whether this replica proposes
    /// at present: then what peers relay is proposed before others.
    pub(crate) fn handle_requests(
        &mut self,
        now: Now,
        from: Option<ReplicaId>,
        requests: Vec<Verified<Request>>,
        leads: bool,
    ) {
        let room = self.room();
        for request in requests {
            let digest = request.digest();
            let wanted = self.bodies.is_wanted(&digest);
            self.bodies_came |= wanted;
            // Who only follows has no use for requests that nobody ordered yet.
            let too_early =
                rejoin_statement(&request).is_some_and(|statement| !self.admits_rejoin(now, &statement, digest, leads));
            if !wanted && (too_early || self.is_rejoining()) {
                continue;
            }
            let number = number_of(&request);
            match self.pending.admission(&digest, &number.client, request.weight(), room, leads) {
                // Fetched for a vote or a decision: who sent it has it pending, or it was decided.
                _ if wanted && from.is_some() => self.bodies.insert(digest, request, false),
                Admission::Known => {}
                Admission::Busy if wanted => self.bodies.insert(digest, request, false),
                Admission::Busy => {
                    // Who has to fetch a state cannot tell what executed: each proposal that passes by would make room
                    // for another request, and none would leave.
                    let behind = self.executed < self.stable();
                    if let Some(peer) = from.filter(|peer| !behind && self.pending.may_vouch(*peer)) {
                        let weight = request.weight();
                        self.bodies.insert(digest, request, true);
                        self.pending.admit_for(peer, digest, number, weight, now.monotonic);
                    } else if from.is_none() {
                        let retry_after = self.retry_after();
                        self.out.busy.push(Busy { request: digest, client: number.client, retry_after });
                    }
                }
                // A client's own copy is pending even when a proposal named it before it came: the proposal may never
                // be decided, and the request must not be forgotten with it.
                Admission::Admit => {
                    // A body that a proposal names already is on its way to execution; no timer runs for it twice.
                    let weight = request.weight();
                    let named = self.bodies.is_named(&digest);
                    self.bodies.insert(digest, request, true);
                    self.pending.admit(digest, number, weight, now.monotonic);
                    if named {
                        self.pending.proposed(&digest);
                    }
                }
            }
            if let Some(peer) = from.filter(|_| leads) {
                self.pending.urge(peer, &digest);
            }
        }
    }

    /// Execution would not execute it any more: it leaves.
    pub(crate) fn refuse(&mut self, request: &Digest) {
        self.pending.remove(request);
        self.bodies.not_pending(request);
    }

    /// Whether bodies came since this was last asked that something waits for. Asked once a turn: a batch of a thousand
    /// bodies that come one by one must not cost a thousand looks at a thousand bodies.
    pub(crate) fn take_bodies_came(&mut self) -> bool {
        std::mem::take(&mut self.bodies_came)
    }

    /// What the timers run on.
    pub(crate) fn oldest_pending(&self) -> Option<&Verified<Request>> {
        self.pending.oldest().and_then(|admitted| self.bodies.get(&admitted.digest)).map(|body| &**body)
    }

    /// A proposal that is kept from now on names its requests. One that may be decided takes them away from others; a second
    /// proposal of a number that was decided or executed otherwise does not.
    pub(crate) fn name_requests(&mut self, proposal: &Proposal, may_win: bool) {
        for request in proposal.requests() {
            self.bodies.name(request);
            if may_win {
                self.pending.proposed(request);
            }
        }
    }

    /// The proposal is kept no longer.
    pub(crate) fn unname_requests(&mut self, proposal: &Proposal) {
        for request in proposal.requests() {
            self.bodies.unname(request);
        }
    }

    /// Whether every body is held: without them no vote.
    pub(crate) fn bodies_held(&self, proposal: &Proposal) -> bool {
        alive(Mutant::TrustsDigests) || proposal.requests().iter().all(|request| self.bodies.holds(request))
    }

    /// The bodies a proposal names and this replica lacks.
    pub(crate) fn lacking<'a>(&'a self, proposal: &'a Proposal) -> impl Iterator<Item = Digest> + 'a {
        proposal.requests().iter().filter(|digest| !self.bodies.holds(digest)).copied()
    }

    /// What the bodies that are held weigh together.
    pub(crate) fn weight(&self, proposal: &Proposal) -> usize {
        proposal.requests().iter().filter_map(|digest| self.bodies.get(digest)).map(|body| body.weight()).sum()
    }

    /// The byte limit of a batch, which every replica judges alike once it holds the bodies. A single request always
    /// fits: its own limit is lower.
    pub(crate) fn fits_a_batch(&self, proposal: &Proposal) -> bool {
        proposal.requests().len() <= 1 || self.weight(proposal) <= self.parameters().batch_bytes_max
    }

    /// Makes every body of `proposal` durable with the next frame, once. Returns the lowest record that holds one: what
    /// keeps the proposal rests on it.
    pub(crate) fn record_bodies(&mut self, proposal: &Proposal) -> Option<RecordIndex> {
        let mut fresh = Vec::new();
        let mut lowest: Option<RecordIndex> = None;
        for digest in proposal.requests() {
            match self.bodies.recorded(digest) {
                Some(record) => lowest = Some(lowest.map_or(record, |lowest| lowest.min(record))),
                None => {
                    if let Some(body) = self.bodies.get(digest) {
                        fresh.push((*digest, Arc::clone(body)));
                    }
                }
            }
        }
        if !fresh.is_empty() {
            let requests = fresh.iter().map(|(_, body)| (***body).clone()).collect();
            let record = self.record(Record::Requests(requests));
            for (digest, _) in &fresh {
                self.bodies.set_recorded(digest, record);
            }
            lowest = Some(lowest.map_or(record, |lowest| lowest.min(record)));
        }
        lowest
    }

    /// Hands pending requests to others.
    pub(crate) fn relay(&mut self, to: Recipients, digests: &[Digest]) {
        let requests: Vec<_> =
            digests.iter().filter_map(|digest| self.bodies.get(digest)).map(|body| (***body).clone()).collect();
        if !requests.is_empty() {
            self.send(to, Message::Requests(requests), None);
        }
    }
}
