//! A run whose faults a person wrote down, in place of a plan that a seed drew: what happens from when to when.

use std::collections::BTreeSet;

use quorate_crypto::ReplicaId;
use quorate_protocol::parameters::{Micros, Parameters};

use super::plan::{Breakage, Ending, FAIR_WEATHER, Plan, Shape, Weather};
use super::process::Process;
use super::world::World;
use crate::faults::Misbehaviour;

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A replica's process is killed, or its machine loses power; it starts again in the end.
    Down {
        /// Which.
        replica: usize,
        /// Whether what was not synced is lost.
        power_cut: bool,
    },
    /// Nothing passes between groups; the place in the list is the replica.
    Apart {
        /// The group of each replica.
        group: Vec<u8>,
    },
    /// A replica lies.
    Lies {
        /// Which.
        replica: usize,
        /// How.
        on: Vec<Misbehaviour>,
    },
    /// A replica's process stands still.
    Frozen {
        /// Which.
        replica: usize,
    },
    /// Links between replicas are slow or lose messages.
    Links {
        /// Those of this replica; all without one.
        replica: Option<usize>,
        /// What they add, microseconds.
        latency: Micros,
        /// And up to so much more, microseconds.
        jitter: Micros,
        /// So many messages in a hundred are lost.
        loss_percent: u32,
    },
}

/// Something that goes wrong for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// When it begins, microseconds from the start.
    pub from: Micros,
    /// When it is over.
    pub until: Micros,
    /// What it is.
    pub what: Happening,
    /// The line of the file it stands on.
    pub line: usize,
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How many clients there are.
    pub clients: usize,
    /// Requests of each before everything heals; without end if none.
    pub requests: Option<u64>,
    /// Longest pause of a client between two requests, microseconds.
    pub pause: Micros,
    /// Requests that each has under way at most.
    pub in_flight: usize,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// n.
    pub replicas: usize,
    /// The numbers all replicas agree on.
    pub parameters: Parameters,
    /// What clients do.
    pub load: Load,
    /// What goes wrong.
    pub spans: Vec<Span>,
    /// When everything heals but the lies that have no end before, microseconds from the start.
    pub heals_at: Micros,
}

impl Script {
    /// Everybody who lies at some time. They count among the f all the time: nobody holds them to what they say.
    pub fn liars(&self) -> BTreeSet<usize> {
        let lies = self.spans.iter().filter_map(|span| match &span.what {
            Happening::Lies { replica, .. } => Some(*replica),
            _ => None,
        });
        lies.collect()
    }

    /// Makes a plan that of this script: nothing goes wrong in it but what is written.
    pub(super) fn adapt(&self, plan: &mut Plan) {
        plan.replicas = self.replicas;
        plan.parameters = self.parameters.clone();
        plan.liars = self.liars().into_iter().map(|liar| (ReplicaId(liar as u16), Vec::new())).collect();
        plan.faulty_clients = Vec::new();
        plan.skews = vec![0; self.replicas];
        plan.breakages = self.breakages();
        plan.heals_at = self.heals_at;
        plan.clients = self.load.clients;
        plan.operations_per_client =
            self.load.requests.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
        (plan.think_max, plan.in_flight) = (self.load.pause, self.load.in_flight);
        (plan.keys, plan.curious, plan.lifetime) = (5, false, 60_000);
    }

    fn breakages(&self) -> Vec<(Micros, Breakage)> {
        let mut breakages = Vec::new();
        for span in &self.spans {
            let lasts = span.until - span.from;
            // What ends something comes before what begins at the same time.
            let (from, until) = ((span.from, 1), (span.until, 0));
            match &span.what {
                Happening::Down { replica, power_cut } => {
                    let ending = if *power_cut { Ending::PowerCut } else { Ending::Kill };
                    let crash = Breakage::Crash { replica: *replica, ending, operations: None, downtime: lasts };
                    breakages.push((from, crash));
                }
                Happening::Apart { group } => {
                    let shape = Shape::Groups { group: group.clone() };
                    breakages.push((from, Breakage::Partition { shape, lasts }));
                }
                Happening::Lies { replica, on } => {
                    breakages.push((from, Breakage::Turn { replica: *replica, on: on.clone() }));
                    breakages.push((until, Breakage::Turn { replica: *replica, on: Vec::new() }));
                }
                Happening::Frozen { replica } => breakages.push((from, Breakage::Pause { replica: *replica, lasts })),
                Happening::Links { replica, latency, jitter, loss_percent } => {
                    let weather = Weather {
                        latency: FAIR_WEATHER.latency + latency,
                        jitter: FAIR_WEATHER.jitter + jitter,
                        loss: loss_percent * 10,
                        ..FAIR_WEATHER
                    };
                    breakages.push((from, Breakage::Links { replica: *replica, weather: Some(weather) }));
                    breakages.push((until, Breakage::Links { replica: *replica, weather: None }));
                }
            }
        }
        breakages.sort_by_key(|(at, _)| *at);
        // Lies without an end go on when everything else heals: what would come later never does.
        breakages.retain(|((at, _), _)| *at < self.heals_at);
        breakages.into_iter().map(|((at, _), breakage)| (at, breakage)).collect()
    }
}

impl World {
    /// A replica lies in these ways from now on; in none, it is honest.
    pub(super) fn turn_liar(&mut self, replica: usize, on: Vec<Misbehaviour>) {
        self.counters.happened(if on.is_empty() { "liar turned honest" } else { "replica turned liar" });
        self.processes[replica].switch.set(on);
    }

    /// Links get weather of their own, or that of all.
    pub(super) fn change_links(&mut self, replica: Option<usize>, weather: Option<Weather>) {
        if weather.is_some() {
            self.counters.happened("links changed");
        }
        let count = self.processes.len();
        for (from, to) in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if from != to && replica.is_none_or(|replica| from == replica || to == replica) {
                self.network.set_link(from, to, weather);
            }
        }
    }
}

/// What a run came to, for whoever has expectations of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// Requests that clients asked for.
    pub asked: u64,
    /// Those that executed and were answered so.
    pub succeeded: u64,
    /// The longest time between two answers in which a request waited, microseconds.
    pub gap: Micros,
    /// The highest view of an honest replica; under HotStuff, the most views that one has given up.
    pub view: u64,
    /// Replicas that evidence convicts.
    pub convicted: BTreeSet<u16>,
}

impl World {
    /// What this run came to.
    pub(super) fn story(&self) -> Story {
        let mut answers: Vec<(Micros, Micros)> =
            self.history.all().filter_map(|asked| Some((asked.ended.as_ref()?.0, asked.at))).collect();
        answers.sort_unstable();
        let (mut gap, mut last) = (0, 0);
        for (answered, asked) in answers {
            gap = gap.max(answered - last.max(asked));
            last = answered;
        }
        let succeeded = self.history.all().filter(|asked| asked.is_executed()).count() as u64;
        let convicted = self.oracles.convicted().iter().map(|id| id.0).collect();
        let honest = self.processes.iter().filter(|process| !process.liar).filter_map(Process::status);
        let turns = self.plan.protocol.leaders_take_turns();
        let left = honest.map(|status| if turns { status.view_changes } else { status.view.0 });
        let view = left.max().unwrap_or(0);
        Story { asked: self.history.count() as u64, succeeded, gap, view, convicted }
    }
}
