//! The network between replicas, and between them and clients: delay, loss, duplication, partitions.

use quorate_protocol::parameters::Micros;
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use super::plan::{FAIR_WEATHER, Weather};

struct Partition {
    number: u64,
    side: Vec<bool>,
    one_way: bool,
}

/// The links of a run.
pub(super) struct Network {
    weather: Weather,
    partitions: Vec<Partition>,
    next: u64,
    /// Messages lost, for the report.
    pub(super) lost: u64,
}

impl Network {
    pub(super) const fn new(weather: Weather) -> Network {
        Network { weather, partitions: Vec::new(), next: 0, lost: 0 }
    }

    /// Begins a partition; its number ends it.
    pub(super) fn divide(&mut self, side: Vec<bool>, one_way: bool) -> u64 {
        self.next += 1;
        self.partitions.push(Partition { number: self.next, side, one_way });
        self.next
    }

    /// Ends a partition; which replicas were apart.
    pub(super) fn unite(&mut self, number: u64) -> Option<Vec<bool>> {
        let position = self.partitions.iter().position(|partition| partition.number == number)?;
        Some(self.partitions.remove(position).side)
    }

    /// Fair weather, nobody apart.
    pub(super) fn heal(&mut self) {
        self.weather = FAIR_WEATHER;
        self.partitions.clear();
    }

    /// Whether a message from one replica reaches the other now.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        !self
            .partitions
            .iter()
            .any(|partition| partition.side[from] != partition.side[to] && (!partition.one_way || partition.side[from]))
    }

    /// After which delays copies of a message between two replicas arrive: none if it is lost.
    pub(super) fn between_replicas(&mut self, random: &mut ChaCha12Rng, from: usize, to: usize) -> Vec<Micros> {
        if !self.reaches(from, to) {
            self.lost += 1;
            return Vec::new();
        }
        self.delays(random)
    }

    /// The same for a link that no partition touches: clients'.
    pub(super) fn delays(&mut self, random: &mut ChaCha12Rng) -> Vec<Micros> {
        let weather = self.weather;
        if weather.loss > 0 && random.random_range(0..1_000) < weather.loss {
            self.lost += 1;
            return Vec::new();
        }
        let mut delays = vec![self.delay(random)];
        if weather.duplicates > 0 && random.random_range(0..1_000) < weather.duplicates {
            delays.push(self.delay(random));
        }
        delays
    }

    fn delay(&self, random: &mut ChaCha12Rng) -> Micros {
        let weather = &self.weather;
        let held_up = if weather.stragglers > 0 && random.random_range(0..1_000) < weather.stragglers {
            random.random_range(0..weather.straggle)
        } else {
            0
        };
        weather.latency + random.random_range(0..=weather.jitter) + held_up
    }
}
