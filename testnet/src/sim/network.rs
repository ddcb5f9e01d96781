//! The network between replicas, and between them and clients: delay, loss, duplication, reordering, partitions, and what
//! a liar's link makes of a frame.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_protocol::parameters::Micros;
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use super::plan::{FAIR_WEATHER, Garbling, Shape, Weather};

struct Partition {
    number: u64,
    shape: Shape,
    began: Micros,
}

/// What the network did, for the report.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Weathered {
    pub(super) lost: u64,
    pub(super) cut: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) held_up: u64,
    pub(super) garbage: u64,
    pub(super) truncated: u64,
    pub(super) flipped: u64,
}

/// Copies of one message on their way: none if it is lost, two if it is duplicated.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Copies([Option<Micros>; 2]);

impl Iterator for Copies {
    type Item = Micros;

    fn next(&mut self) -> Option<Micros> {
        self.0[0].take().or_else(|| self.0[1].take())
    }
}

/// The links of a run.
pub(super) struct Network {
    replicas: usize,
    weather: Weather,
    links: BTreeMap<(usize, usize), Weather>,
    garbling: Garbling,
    partitions: Vec<Partition>,
    next: u64,
    /// When the last copy sent on a link between replicas arrives.
    last_arrival: Vec<Micros>,
    pub(super) done: Weathered,
}

impl Network {
    pub(super) fn new(
        replicas: usize,
        weather: Weather,
        links: BTreeMap<(usize, usize), Weather>,
        garbling: Garbling,
    ) -> Network {
        let last_arrival = vec![0; replicas * replicas];
        let done = Weathered::default();
        Network { replicas, weather, links, garbling, partitions: Vec::new(), next: 0, last_arrival, done }
    }

    /// Begins a partition; its number ends it.
    pub(super) fn divide(&mut self, shape: Shape, now: Micros) -> u64 {
        self.next += 1;
        self.partitions.push(Partition { number: self.next, shape, began: now });
        self.next
    }

    /// Ends a partition; what it was.
    pub(super) fn unite(&mut self, number: u64) -> Option<Shape> {
        let position = self.partitions.iter().position(|partition| partition.number == number)?;
        Some(self.partitions.remove(position).shape)
    }

    /// A link has this weather from now on; without one that of all links.
    pub(super) fn set_link(&mut self, from: usize, to: usize, weather: Option<Weather>) {
        match weather {
            Some(weather) => self.links.insert((from, to), weather),
            None => self.links.remove(&(from, to)),
        };
    }

    /// Fair weather, nobody apart. What liars' links make of frames stays.
    pub(super) fn heal(&mut self) {
        self.weather = FAIR_WEATHER;
        self.links.clear();
        self.partitions.clear();
    }

    /// Whether a message from one replica reaches the other now.
    pub(super) fn reaches(&self, from: usize, to: usize, now: Micros) -> bool {
        let cuts = |one: &Partition| one.shape.cuts(self.replicas, from, to, now.saturating_sub(one.began));
        !self.partitions.iter().any(cuts)
    }

    /// After which delays copies of a message between two replicas arrive.
    pub(super) fn between_replicas(&mut self, random: &mut ChaCha12Rng, from: usize, to: usize, now: Micros) -> Copies {
        if !self.reaches(from, to, now) {
            self.done.cut += 1;
            return Copies::default();
        }
        let weather = self.links.get(&(from, to)).copied().unwrap_or(self.weather);
        let copies = self.delays_in(random, &weather);
        for delay in copies.clone() {
            let last = &mut self.last_arrival[from * self.replicas + to];
            self.done.reordered += u64::from(now + delay < *last);
            *last = (*last).max(now + delay);
        }
        copies
    }

    /// The same for a link that no partition touches: clients'.
    pub(super) fn delays(&mut self, random: &mut ChaCha12Rng) -> Copies {
        let weather = self.weather;
        self.delays_in(random, &weather)
    }

    /// For what clients and replicas say on streams, which lose nothing: one delay.
    pub(super) fn stream_delay(&mut self, random: &mut ChaCha12Rng) -> Micros {
        let weather = self.weather;
        self.delay(random, &weather)
    }

    fn delays_in(&mut self, random: &mut ChaCha12Rng, weather: &Weather) -> Copies {
        if weather.loss > 0 && random.random_range(0..1_000) < weather.loss {
            self.done.lost += 1;
            return Copies::default();
        }
        let first = self.delay(random, weather);
        let twice = weather.duplicates > 0 && random.random_range(0..1_000) < weather.duplicates;
        self.done.duplicated += u64::from(twice);
        Copies([Some(first), twice.then(|| self.delay(random, weather))])
    }

    fn delay(&mut self, random: &mut ChaCha12Rng, weather: &Weather) -> Micros {
        let held_up = if weather.stragglers > 0 && random.random_range(0..1_000) < weather.stragglers {
            self.done.held_up += 1;
            random.random_range(0..weather.straggle)
        } else {
            0
        };
        weather.latency + random.random_range(0..=weather.jitter) + held_up
    }

    /// What arrives of a frame that a liar sends.
    pub(super) fn garble(&mut self, random: &mut ChaCha12Rng, bytes: &Arc<Vec<u8>>) -> Arc<Vec<u8>> {
        let Garbling { garbage, truncated, flipped } = self.garbling;
        if self.garbling == Garbling::default() || bytes.is_empty() {
            return Arc::clone(bytes);
        }
        let dice = random.random_range(0..1_000);
        if dice < garbage {
            self.done.garbage += 1;
            let length = if random.random_bool(0.5) { random.random_range(0..64) } else { bytes.len() };
            return Arc::new((0..length).map(|_| random.random()).collect());
        }
        if dice < garbage + truncated {
            self.done.truncated += 1;
            return Arc::new(bytes[..random.random_range(0..bytes.len())].to_vec());
        }
        if dice < garbage + truncated + flipped {
            self.done.flipped += 1;
            let mut bent = bytes.to_vec();
            let place = random.random_range(0..bent.len());
            bent[place] ^= 1 << random.random_range(0..8);
            return Arc::new(bent);
        }
        Arc::clone(bytes)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    const FOUL: Weather =
        Weather { latency: 10, jitter: 1_000, loss: 300, duplicates: 100, stragglers: 50, straggle: 5_000 };

    #[test]
    fn foul_weather_loses_doubles_holds_up_and_reorders() {
        let random = &mut ChaCha12Rng::seed_from_u64(1);
        let mut network = Network::new(4, FOUL, BTreeMap::new(), Garbling::default());
        let arrived: usize = (0..1_000).map(|now| network.between_replicas(random, 0, 1, now).count()).sum();
        let Weathered { lost, duplicated, reordered, held_up, .. } = network.done;
        assert!((250..350).contains(&lost), "{lost} of 1000 lost at 300 in a thousand");
        assert_eq!(arrived as u64, 1_000 - lost + duplicated);
        assert!(duplicated > 30 && reordered > 100 && held_up > 10, "{duplicated} {reordered} {held_up}");
        network.heal();
        assert_eq!((0..100).map(|now| network.between_replicas(random, 0, 1, now).count()).sum::<usize>(), 100);
    }

    #[test]
    fn a_link_can_have_weather_of_its_own() {
        let random = &mut ChaCha12Rng::seed_from_u64(1);
        let dead = Weather { loss: 1_000, ..FOUL };
        let mut network = Network::new(4, FAIR_WEATHER, BTreeMap::from([((0, 1), dead)]), Garbling::default());
        assert_eq!(network.between_replicas(random, 0, 1, 0).count(), 0);
        assert_eq!(network.between_replicas(random, 1, 0, 0).count(), 1);
    }

    #[test]
    fn a_garbled_frame_is_another_and_the_counters_say_how() {
        let random = &mut ChaCha12Rng::seed_from_u64(1);
        let garbling = Garbling { garbage: 200, truncated: 200, flipped: 200 };
        let mut network = Network::new(4, FAIR_WEATHER, BTreeMap::new(), garbling);
        let frame = Arc::new(vec![7; 40]);
        let bent = (0..1_000).filter(|_| network.garble(random, &frame) != frame).count() as u64;
        let Weathered { garbage, truncated, flipped, .. } = network.done;
        assert_eq!(bent, garbage + truncated + flipped);
        assert!(garbage > 100 && truncated > 100 && flipped > 100);
    }
}
