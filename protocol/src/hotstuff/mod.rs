//! Two-phase HotStuff: Jolteon (Gelashvili, Kokoris-Kogias, Sonnino, Spiegelman, Xiang 2021) as published.
//!
//! ```text
//!   requests ─► pending ─► block of view v ─► votes to the leader of v + 1 ─► QC(v) inside block v + 1 ─► …
//!                 │ timer        └ commits when its direct child in the next view is certified ─► execution
//!                 └────────► TIMEOUT(v) ─► TC(v) ─► block of v + 1 on the highest QC that the TC names, or a higher one
//! ```
//!
//! | file | chapter |
//! |---|---|
//! | [`safety`] | every rule that safety rests on, as pure functions |
//! | [`block`] | blocks, their digests, the genesis block |
//! | [`certificate`] | quorum and timeout certificates, the collector of votes |
//! | [`message`] | what replicas say, and what of it must hold |
//! | [`promise`] | what was signed, as it must be durable |
//! | [`tree`] | the tree of blocks and the committed chain |
//! | [`leaders`] | who leads a view |
//! | [`pacemaker`] | views, timers, TIMEOUTs |
//! | [`slow_leaders`] | leaders that are merely slow get little time |
//! | `proposing` | blocks, and the certificate alone when there is nothing to do |
//! | `voting` | proposals, votes, certificates |
//! | `timeouts` | entering views, giving up on them |
//! | `committing` | the commit rule, delivery, execution, checkpoints, cutting the log |
//! | `catch_up` | STATUS, re-sending, state transfer |
//! | `fetching` | blocks and bodies that are lacking, a new root for the tree |
//! | `handing_back` | handing statements back to who signed them |
//! | `rejoining` | lives: coming back without a log, and who is believed after that |
//! | `accusation` | finding signed contradictions |
//! | `recovery` | from records back to a replica |
//!
//! What the paper and the design left open is decided so:
//!
//! - A block carries the standing of the leaders ([`leaders`]), of several failed views the first is excused, and after n views
//!   without a commit nobody is passed over.
//! - A block justified by the view before carries no TC: it would have two forms and two digests.
//! - f + 1 TIMEOUTs of the present view are joined, too, not only those of later ones: where only some have a request, the
//!   others would never help to make the TC.
//! - What a block of a failed view named waits again at once, not only when a commit abandons the block: with nothing
//!   unproposed nobody would propose, and nothing would ever commit. It may be ordered twice then, and executes once.
//! - The timer runs on what is not committed *here*, a leader goes on for what its chain's own certificates do not commit.
//! - A short view (a quarter of the time) follows no other short view and does not count as failed.
//! - Who gets a vote for another block than it holds shows the voter the leader's signature under its own: else nobody holds
//!   both halves of an equivocation, since votes go to one replica only.
//! - A block whose time is too far ahead of a replica's clock is looked at again when the clock has come close enough, if its
//!   view lasts so long; one whose time lies too far back is refused for good.
//! - A vouched block that does not extend what is committed, in a later view, halts the replica ([`crate::engine::Halt`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_crypto::{Digest, Incarnation, ReplicaId, Seq, Signed, Verified, View};

use crate::engine::{Departure, Engine, EngineStatus, Input, Now, RecordIndex, Step};
use crate::foundation::Foundation;
use crate::message::Message;
use crate::parameters::Micros;
use crate::record::Record;
use crate::request::Request;

pub use crate::foundation::Setup;

mod accusation;
pub mod block;
mod catch_up;
pub mod certificate;
mod committing;
mod fetching;
mod handing_back;
pub mod leaders;
pub mod message;
pub mod pacemaker;
pub mod promise;
mod proposing;
mod recovery;
mod rejoining;
pub mod safety;
pub mod slow_leaders;
mod timeouts;
pub mod tree;
mod voting;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use block::Block;
use certificate::VoteCollector;
use fetching::{BlockFetch, BodyFetch};
use message::BlockProposal;
use pacemaker::Pacemaker;
use promise::Promise;
use slow_leaders::SlowLeaders;
use tree::{BlockTree, Root};

/// Nobody signs about a number above that of a Rejoin without having executed the Rejoin: numbers are decided one by one here.
const REJOIN_GAP: u64 = 0;

/// The block of the present view that this replica considers voting for: the first one that fits.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    digest: Digest,
    timing: Timing,
}

/// How the time of a candidate agreed with this replica's clock when it was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Timing {
    Agrees,
    /// It was too far ahead, and is compared again when the clock has come close enough.
    Early {
        until: Micros,
    },
    /// It lay too far back, and waiting makes it no better.
    Late,
}

/// A HotStuff replica.
pub struct Replica {
    foundation: Foundation,

    // What was promised.
    promise: Promise,
    /// The record that holds the newest promise.
    promise_record: Option<RecordIndex>,

    // The chain.
    tree: BlockTree,
    /// The first record that each block of the tree rests on.
    records: BTreeMap<Digest, RecordIndex>,
    /// Who proposed the blocks of the tree, where that is known.
    signed: BTreeMap<Digest, Signed>,
    /// Committed, and not handed on yet since bodies are lacking.
    undelivered: VecDeque<Arc<Block>>,
    /// Handed on and not executed yet.
    executing: BTreeMap<Seq, Arc<Block>>,
    /// The newest state that was fetched instead of being executed here.
    installed: Seq,
    /// The tree began anew, and the log does not know it yet.
    base_is_due: bool,

    // The view.
    pacemaker: Pacemaker,
    slow_leaders: SlowLeaders,
    collector: VoteCollector,
    candidate: Option<Candidate>,
    /// Proposals whose parent was not here, the newest of each author, with who sent it.
    waiting: BTreeMap<ReplicaId, (ReplicaId, BlockProposal)>,
    /// Requests named by blocks whose views ended without certifying them: whoever sends one again must not be told that it is
    /// on its way.
    lost_requests: BTreeSet<Digest>,
    /// View of the last QC that was sent to all alone.
    told_certificate: View,

    // What is lacking.
    block_fetch: Option<BlockFetch>,
    /// Blocks that were asked for, the last few, newest first. Each is one that a verified certificate names, directly or
    /// through the blocks above it.
    asked_blocks: VecDeque<Digest>,
    body_fetch: Option<BodyFetch>,

    /// The view this replica was in when it last sent its STATUS.
    told_view: View,
    /// The view each peer said it was in last.
    peer_views: BTreeMap<ReplicaId, View>,
    /// The incarnation each replica was last seen to rejoin in, and the view of the block that holds the Rejoin.
    lines: BTreeMap<ReplicaId, (Incarnation, View)>,
    views_given_up: u64,
    last_departure: Option<Departure>,
}

impl Replica {
    /// A replica that never signed anything, at the genesis state.
    pub fn new(setup: Setup) -> Replica {
        let epoch = setup.committee.epoch();
        let tree = BlockTree::rooted(Root::genesis(), tree::orphans_max(&setup.parameters));
        Replica {
            foundation: Foundation::new(setup, REJOIN_GAP),
            promise: Promise::new(epoch),
            promise_record: None,
            tree,
            records: BTreeMap::new(),
            signed: BTreeMap::new(),
            undelivered: VecDeque::new(),
            executing: BTreeMap::new(),
            installed: Seq(0),
            base_is_due: false,
            pacemaker: Pacemaker::new(View(1)),
            slow_leaders: SlowLeaders::default(),
            collector: VoteCollector::default(),
            candidate: None,
            waiting: BTreeMap::new(),
            lost_requests: BTreeSet::new(),
            told_certificate: View(0),
            block_fetch: None,
            asked_blocks: VecDeque::new(),
            body_fetch: None,
            told_view: View(0),
            peer_views: BTreeMap::new(),
            lines: BTreeMap::new(),
            views_given_up: 0,
            last_departure: None,
        }
    }

    fn id(&self) -> ReplicaId {
        self.foundation.id()
    }

    fn view(&self) -> View {
        self.pacemaker.view()
    }

    /// The leader of `view`, by the chain that ends in `block`; unknown if that chain is not here.
    fn leader_after(&self, block: &Digest, view: View) -> Option<ReplicaId> {
        self.tree.counted(block).map(|counted| counted.leader(view, self.foundation.committee()))
    }

    /// Who leads the present view, by the highest certificate held; by turns while its chain is not here.
    fn leader(&self) -> ReplicaId {
        let by_chain = self.leader_after(&self.promise.high_qc.block(), self.view());
        by_chain.unwrap_or_else(|| self.foundation.committee().primary(self.view()))
    }

    /// Whether a batch may have this number: at most L above the stable checkpoint.
    fn in_window(&self, seq: Seq) -> bool {
        seq <= self.foundation.stable().plus(self.foundation.parameters().window)
    }

    /// Makes the promise durable with the next frame.
    fn record_promise(&mut self) -> RecordIndex {
        let record = self.foundation.record(Record::HotStuff(Box::new(self.promise.clone())));
        self.promise_record = Some(record);
        record
    }

    /// Makes a block durable with the next frame, and before it those of its bodies that are held.
    fn record_block(&mut self, block: &Arc<Block>) {
        let bodies = self.foundation.record_bodies(&block.proposal);
        let digest = block.digest();
        let first = match self.records.get(&digest) {
            Some(record) => *record,
            None => self.foundation.record(Record::Block(Box::new((**block).clone()))),
        };
        self.records.insert(digest, bodies.map_or(first, |bodies| bodies.min(first)));
    }

    /// Makes a block durable that is about to be signed for, with those ancestors above the committed block that no record
    /// holds. An ancestor that was fetched was recorded by nobody here, and without it the block would find no place in the tree
    /// after a restart.
    fn record_path(&mut self, block: &Arc<Block>) {
        for ancestor in self.tree.path(&block.parent).unwrap_or_default() {
            self.record_block(&ancestor);
        }
        self.record_block(block);
    }

    fn handle_message(&mut self, now: Now, from: ReplicaId, message: Message) {
        match message {
            Message::BlockProposal(proposal) => self.handle_proposal(now, from, proposal),
            Message::BlockVote(signed) => self.handle_vote(now, signed),
            Message::Timeout(timeout) => self.handle_timeout(now, from, timeout),
            Message::QuorumCertificate(certificate) => self.learn_certificate(now, Some(from), &certificate),
            Message::TimeoutCertificate(certificate) => self.learn_timeout_certificate(now, Some(from), &certificate),
            Message::FetchBlocks(fetch) => self.answer_fetch_blocks(now, from, fetch),
            Message::Blocks(blocks) => self.handle_blocks(now, from, blocks),
            Message::HotStuffStatus(status) => self.handle_status(now, from, status),
            Message::Checkpoint(signed) => self.handle_checkpoint(now, signed),
            Message::StableCheckpoint(certificate) => self.adopt_stable(now, certificate),
            Message::FetchRequests(digests) => {
                self.foundation.answer_fetch_requests(now, from, &digests);
            }
            Message::YourStatements(statements) => self.handle_own_statements(now, &statements),
            Message::FetchState { .. } | Message::FetchChunk { .. } => {
                self.foundation.answer_fetch_state(now, from, &message);
            }
            Message::State { .. } | Message::Chunk { .. } | Message::StateGone { .. } => {
                self.handle_transfer(now, from, message);
            }
            // The driver verifies requests one by one and hands them in as `Input::Requests`. The rest is the other engine's.
            Message::Requests(_)
            | Message::Executed(_)
            | Message::PrePrepare(_)
            | Message::Prepare(_)
            | Message::Commit(_)
            | Message::ViewChange(_)
            | Message::NewView(_)
            | Message::Status(_)
            | Message::FetchProposals(_)
            | Message::Proposals(_)
            | Message::FetchViewChange { .. }
            | Message::CommitCertificate(_) => {}
        }
    }

    fn handle_timer(&mut self, now: Now) {
        self.check_timer(now);
        self.end_turn(now);
    }

    fn end_turn(&mut self, now: Now) {
        if self.foundation.take_found_state() {
            self.vouch_for_held(now);
        }
        self.use_new_bodies(now);
        self.heed_clock(now);
        self.tend_rejoin(now);
        self.tend_base();
        self.propose(now);
        self.tend_timer(now);
        self.tend_relays(now);
        self.tend_fetches(now);
        self.foundation.tend_transfer(now);
        self.tend_status(now);
    }
}

impl Engine for Replica {
    fn step(&mut self, now: Now, input: Input) -> Step {
        if self.foundation.halted {
            return Step::default();
        }
        self.notice_pause(now);
        match input {
            Input::Message { from, message } => {
                if self.foundation.is_peer(from) {
                    self.handle_message(now, from, message.into_inner());
                }
            }
            Input::Requests { from, requests } => {
                self.handle_requests(now, from, requests);
            }
            Input::Refused(request) => self.foundation.refuse(&request),
            Input::InvalidRequest(request) => self.handle_invalid_request(*request),
            Input::Timer => self.handle_timer(now),
            Input::TurnEnd => self.end_turn(now),
            Input::Executed { seq, results, next_deadline } => self.handle_executed(now, seq, results, next_deadline),
            Input::CheckpointStored { snapshot, root } => self.handle_checkpoint_stored(now, snapshot, root),
            Input::LinkUp(peer) => self.handle_link_up(now, peer),
            Input::Rejoined(rejoined) => self.handle_rejoined(now, rejoined),
            Input::LogTrusted => self.handle_log_trusted(now),
        }
        self.foundation.take_step()
    }

    fn wake(&self) -> Option<Micros> {
        if self.foundation.halted {
            // Nothing is left to do; the process ends.
            return None;
        }
        let early = self.candidate.and_then(|candidate| match candidate.timing {
            Timing::Early { until } => Some(until),
            Timing::Agrees | Timing::Late => None,
        });
        let last = self.foundation.last_step;
        let timer = self.pacemaker.deadline().filter(|_| !self.foundation.is_rejoining());
        let fetches = [self.block_fetch.as_ref().map(BlockFetch::due), self.body_fetch.as_ref().map(BodyFetch::due)];
        let times = [Some(self.foundation.next_status), timer, self.relay_due().filter(|at| *at > last)];
        let others = [self.foundation.next_transfer(), self.foundation.next_rejoin()];
        times.into_iter().chain(fetches).chain(others).chain([early]).flatten().min()
    }

    fn status(&self) -> EngineStatus {
        EngineStatus {
            view_changes: self.views_given_up,
            leaders_take_turns: true,
            departure: self.last_departure,
            ..self.foundation.status(self.view(), true, self.leader())
        }
    }

    fn knows(&self, request: &Digest) -> bool {
        self.foundation.bodies.holds(request)
    }

    fn wants(&self, request: &Digest) -> bool {
        self.foundation.bodies.is_wanted(request)
    }

    fn oldest_pending(&self) -> Option<&Verified<Request>> {
        self.foundation.oldest_pending()
    }

    fn executed_statement(&self, seq: Seq) -> Option<Signed> {
        self.foundation.own_executed.get(&seq).copied()
    }
}
