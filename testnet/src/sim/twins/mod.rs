//! Twins (Bano, Sonnino, Chursin, Perelman, Li, Ching and Malkhi, "Twins: BFT Systems Made Robust", OPODIS 2021): a
//! replica that runs twice with one key is Byzantine without a line of faulty code.
//!
//! Four replicas, one of which has a twin; both instances are the production replica. Three rounds; in each the five
//! instances are divided into groups, and nothing passes between groups. All combinations are played: `scenarios` says
//! how many. Then everything heals, and the oracles of every other run judge: agreement among the honest, durability, no
//! honest contradiction, evidence against nobody but the twin, and that every request ends.
//!
//! For PBFT a round is a view. What belongs to a view travels in that view's round and in no other: an earlier round's
//! proposals and votes are lost, so that the view is left; a later view's wait until it is its turn. VIEW-CHANGEs of
//! earlier rounds pass, else a view that nobody could open would never be left. What belongs to no view (STATUS, bodies,
//! certificates, states) passes within a group at any time.
//!
//! For HotStuff, whose views follow each other as fast as messages travel, a round is no time but the view itself, as in the
//! paper: what belongs to view 1, 2 or 3 passes within the groups of the first, second or third round, later views are those
//! of the third, and what belongs to no view passes within the groups of its sender's view. Only TIMEOUTs and their
//! certificates also pass as VIEW-CHANGEs do, when so much time has gone by. Who leads follows from the chain. A client reaches everybody; whoever sends to a replica sends
//! to both instances of it; a replica has no link to itself.
//!
//! | file | what it is |
//! |---|---|
//! | `scenarios` | the list of all |
//! | `command` | `simulate --twins` |

use quorate_crypto::{Protocol, ReplicaId, StatementBody, View};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::{Micros, Parameters};

use super::network::Copies;
use super::plan::{FAIR_WEATHER, MILLISECOND, Plan};
use super::process::{Cluster, Process};
use super::world::World;

pub(super) mod command;
pub(super) mod scenarios;

pub use scenarios::{Scenario, Scenarios};

/// Rounds, each with its partition.
pub(super) const ROUNDS: usize = 3;
/// The view timer before any back-off.
const VIEW_TIMEOUT: Micros = 40 * MILLISECOND;
/// A round is longer than the timer of its view can be, two back-offs included: whoever made no progress wants to leave
/// when it is over.
const ROUND: Micros = 6 * VIEW_TIMEOUT;
/// The second instance's clock is so many milliseconds ahead, as two machines' are: what the twins propose differs.
pub(super) const SKEW: i64 = 3;
/// More than a client can ask for while the rounds last.
const OPERATIONS: usize = 1_000;

impl Scenario {
    /// Makes a plan that of this scenario: nothing goes wrong in it but the twin and the partitions.
    pub(super) fn adapt(self, plan: &mut Plan) {
        plan.replicas = scenarios::REPLICAS;
        plan.parameters = Parameters {
            view_timeout: VIEW_TIMEOUT,
            status_interval: 10 * MILLISECOND,
            status_interval_idle: 50 * MILLISECOND,
            checkpoint_interval: 4,
            window: 8,
            ..Parameters::default()
        };
        // Convicted of nothing beforehand, but nobody is held to what it says.
        plan.liars = [(ReplicaId(self.twin), Vec::new())].into();
        plan.faulty_clients = Vec::new();
        plan.weather = FAIR_WEATHER;
        plan.breakages = Vec::new();
        plan.heals_at = ROUNDS as Micros * ROUND;
        plan.sync_max = 200;
        plan.skews = vec![0; scenarios::REPLICAS];
        plan.skews.push(SKEW);
        (plan.clients, plan.operations_per_client, plan.keys) = (2, OPERATIONS, 2);
        (plan.think_max, plan.in_flight, plan.curious) = (40 * MILLISECOND, 1, false);
        plan.lifetime = 60_000;
        plan.twins = Some(self);
    }
}

impl Plan {
    /// How many processes there are: one for each replica, and the second instance of a twin, or of liars of two minds.
    pub(super) fn processes(&self) -> usize {
        self.replicas + self.twins.is_some() as usize + self.second_minds()
    }
}

impl Cluster {
    /// Whose process this is.
    pub(super) fn identity(&self, process: usize) -> ReplicaId {
        match self.twin {
            Some(twin) if process >= self.committee.size() => twin,
            // Liars of two minds are the first replicas, and their second instances follow the last.
            _ => ReplicaId((process % self.committee.size()) as u16),
        }
    }

    /// The processes of a replica: one, or two of a twin or a liar of two minds.
    pub(super) fn processes_of(&self, replica: ReplicaId) -> impl Iterator<Item = usize> + use<> {
        let second = (self.twin == Some(replica)).then(|| self.committee.size());
        let of_two_minds = replica.index() < self.second_minds;
        let second = second.or_else(|| of_two_minds.then(|| self.committee.size() + replica.index()));
        std::iter::once(replica.index()).chain(second)
    }
}

/// The view a message belongs to, and whether it may come late.
const fn view_of(message: &Message) -> Option<(View, bool)> {
    let signed = match message {
        Message::PrePrepare(message) => &message.signed,
        Message::Prepare(message) => &message.signed,
        Message::Commit(signed) => signed,
        Message::ViewChange(message) => &message.signed,
        Message::NewView(message) => &message.signed,
        Message::BlockProposal(message) => &message.signed,
        Message::BlockVote(signed) => signed,
        Message::Timeout(message) => &message.signed,
        Message::TimeoutCertificate(certificate) => return Some((certificate.view, true)),
        _ => return None,
    };
    match &signed.statement.body {
        StatementBody::PrePrepare(ballot) | StatementBody::Prepare(ballot) | StatementBody::Commit(ballot) => {
            Some((ballot.view, false))
        }
        StatementBody::NewView { view, .. } => Some((*view, false)),
        StatementBody::ViewChange { view, .. } => Some((*view, true)),
        StatementBody::Proposal { view, .. } | StatementBody::BlockVote { view, .. } => Some((*view, false)),
        StatementBody::Timeout { view, .. } => Some((*view, true)),
        _ => None,
    }
}

impl World {
    /// The round under way, while there is one.
    fn round(&self) -> Option<usize> {
        let round = usize::try_from(self.now / ROUND).unwrap_or(ROUNDS);
        (self.plan.twins.is_some() && !self.healed && round < ROUNDS).then_some(round)
    }

    /// Whether the round under way lets a message through.
    fn passes(&self, scenario: Scenario, round: usize, from: usize, to: usize, message: &Message) -> bool {
        let belongs = view_of(message);
        if self.plan.protocol == Protocol::Pbft {
            let in_time = belongs.is_none_or(|(view, late)| view.0 == round as u64 || (late && view.0 < round as u64));
            return in_time && scenario.together(round, from, to);
        }
        let of_sender = || self.processes[from].status().map_or(View(0), |status| status.view);
        let (view, late) = belongs.unwrap_or_else(|| (of_sender(), false));
        // Views begin at 1 there.
        let own = usize::try_from(view.0.saturating_sub(1)).unwrap_or(ROUNDS).min(ROUNDS - 1);
        scenario.together(own, from, to) || (late && own < round && scenario.together(round, from, to))
    }

    /// After which delays copies of a message between two processes arrive: never, if the round does not let it through.
    pub(super) fn copies(&mut self, from: usize, to: usize, message: &Message) -> Copies {
        if let (Some(scenario), Some(round)) = (self.plan.twins, self.round())
            && !self.passes(scenario, round, from, to, message)
        {
            self.network.done.cut += 1;
            return Copies::default();
        }
        if self.are_kept_apart(from, to) {
            self.network.done.cut += 1;
            return Copies::default();
        }
        self.network.between_replicas(&mut self.random, from, to, self.now)
    }

    /// What the rounds came to, for the counters.
    pub(super) fn count_rounds(&mut self) {
        let Some(scenario) = self.plan.twins else { return };
        let honest = self.processes.iter().filter(|process| !process.liar);
        let statuses: Vec<_> = honest.filter_map(Process::status).collect();
        let highest = statuses.iter().map(|status| status.view.0).max().unwrap_or(0);
        self.counters.happened(match highest {
            0 => "twins: rounds ended in view 0",
            1 => "twins: rounds ended in view 1",
            2 => "twins: rounds ended in view 2",
            _ => "twins: rounds ended in view 3",
        });
        if statuses.iter().any(|status| status.decided.0 > 0) {
            self.counters.happened("twins: decided something before it healed");
        }
        let twins = self.cluster.processes_of(ReplicaId(scenario.twin));
        let stand: Vec<_> = twins.filter_map(|process| self.processes[process].status()).collect();
        if stand.iter().any(|status| Some(status.decided) != stand.first().map(|first| first.decided)) {
            self.counters.happened("twins: the two stood apart");
        }
    }
}

#[cfg(test)]
mod tests;
