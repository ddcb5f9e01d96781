//! Every scenario there is, each once: who has a twin, and who reaches whom in which round.
//!
//! ```text
//!   ids in any order, any partition of 5 instances a round     4! x 52^3 = 3,374,592
//!   the three without a twin have no name but their turn       4  x 52^3 =   562,432
//!   a replica has no link to itself: {0 0'} {..} = {0} {0'} {..}  4 x 47^3 =   415,292
//!   either twin may be called the second                        4 x (47^3 + 15^3) / 2 = 214,396
//! ```
//!
//! Replica v leads view v in every scenario; that the twin is any of the four stands for the permutations of ids. 52 is
//! the number of ways to divide five into groups (Bell); 15 of the 47 kinds of links stay the same when the twins are
//! exchanged: the 10 with both in one group with somebody, and the 5 with each alone.

use std::collections::BTreeSet;
use std::fmt;

use super::ROUNDS;

/// Replicas.
pub(in crate::sim) const REPLICAS: usize = 4;
/// Processes: one more, the second instance of the twin, is the last.
pub(in crate::sim) const INSTANCES: usize = REPLICAS + 1;

/// In which group each instance is; groups are numbered by their first member.
pub(super) type Partition = [u8; INSTANCES];

/// One scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Its place in the list of all.
    pub number: u64,
    /// The replica that runs twice.
    pub twin: u16,
    /// Who reaches whom, by round.
    rounds: [Partition; ROUNDS],
}

impl Scenario {
    /// Whether two instances are in one group in this round.
    pub(super) fn together(&self, round: usize, one: usize, other: usize) -> bool {
        self.rounds[round][one] == self.rounds[round][other]
    }
}

/// As in `twin 0: 0 1 | 2 3 0' ; 0 1 2 3 0' ; ...`: the groups of each round.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "twin {}:", self.twin)?;
        for (round, partition) in self.rounds.iter().enumerate() {
            f.write_str(if round == 0 { " " } else { " ; " })?;
            for group in 0..INSTANCES as u8 {
                let members = (0..INSTANCES).filter(|instance| partition[*instance] == group);
                let names = members.map(|instance| match instance {
                    REPLICAS => format!("{}'", self.twin),
                    _ => instance.to_string(),
                });
                let names: Vec<String> = names.collect();
                if !names.is_empty() {
                    write!(f, "{}{}", if group == 0 { "" } else { " | " }, names.join(" "))?;
                }
            }
        }
        Ok(())
    }
}

/// All scenarios, in a fixed order.
#[derive(Debug)]
pub struct Scenarios {
    /// For each twin the kinds of links.
    kinds: Vec<Vec<Partition>>,
    /// Twin and one kind of link a round.
    list: Vec<(u8, [u8; ROUNDS])>,
}

impl Scenarios {
    /// Makes the list: a moment's work.
    pub fn new() -> Scenarios {
        let mut scenarios = Scenarios { kinds: Vec::new(), list: Vec::new() };
        for twin in 0..REPLICAS {
            let kinds = kinds_of_links(twin);
            let place = |wanted: &Partition| kinds.iter().position(|one| one == wanted).unwrap_or_default();
            let exchanged: Vec<usize> = kinds.iter().map(|one| place(&exchange(*one, twin))).collect();
            for (one, two, three) in triples(kinds.len()) {
                // Of a scenario and the one with the twins exchanged the first in the list is taken.
                if (one, two, three) <= (exchanged[one], exchanged[two], exchanged[three]) {
                    scenarios.list.push((twin as u8, [one as u8, two as u8, three as u8]));
                }
            }
            scenarios.kinds.push(kinds);
        }
        scenarios
    }

    /// How many there are.
    pub const fn count(&self) -> u64 {
        self.list.len() as u64
    }

    /// The one of this number.
    pub fn get(&self, number: u64) -> Option<Scenario> {
        let (twin, rounds) = self.list.get(usize::try_from(number).ok()?)?;
        let kinds = &self.kinds[usize::from(*twin)];
        Some(Scenario { number, twin: u16::from(*twin), rounds: rounds.map(|kind| kinds[usize::from(kind)]) })
    }
}

impl Default for Scenarios {
    fn default() -> Scenarios {
        Scenarios::new()
    }
}

fn triples(count: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..count).flat_map(move |one| (0..count).flat_map(move |two| (0..count).map(move |three| (one, two, three))))
}

/// Every way to divide the instances into groups: restricted growth strings.
fn partitions() -> Vec<Partition> {
    let mut all = vec![Vec::new()];
    for _ in 0..INSTANCES {
        all = all
            .into_iter()
            .flat_map(|begun: Vec<u8>| {
                let next = begun.iter().max().map_or(0, |most| most + 1);
                (0..=next).map(move |group| [begun.as_slice(), &[group]].concat())
            })
            .collect();
    }
    all.into_iter().filter_map(|one| Partition::try_from(one).ok()).collect()
}

/// Groups numbered by their first member.
fn renumber(partition: Partition) -> Partition {
    let mut names: Vec<u8> = Vec::new();
    partition.map(|group| {
        let known = names.iter().position(|name| *name == group);
        known.unwrap_or_else(|| {
            names.push(group);
            names.len() - 1
        }) as u8
    })
}

/// The same with the twins in each other's place.
fn exchange(partition: Partition, twin: usize) -> Partition {
    let mut other = partition;
    other.swap(twin, REPLICAS);
    renumber(other)
}

/// The partitions, but of those with the same links one. There is no link between the twins.
fn kinds_of_links(twin: usize) -> Vec<Partition> {
    let mut seen = BTreeSet::new();
    let links = |partition: &Partition| -> Vec<(usize, usize)> {
        let pairs = (0..INSTANCES).flat_map(|one| (0..one).map(move |other| (one, other)));
        pairs.filter(|pair| *pair != (REPLICAS, twin) && partition[pair.0] == partition[pair.1]).collect()
    };
    partitions().into_iter().filter(|partition| seen.insert(links(partition))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_those_of_the_documentation() {
        assert_eq!(partitions().len(), 52, "Bell number of five");
        for twin in 0..REPLICAS {
            let kinds = kinds_of_links(twin);
            assert_eq!(kinds.len(), 47);
            assert_eq!(kinds.iter().filter(|one| exchange(**one, twin) == **one).count(), 15);
            assert!(kinds.iter().all(|one| kinds.contains(&exchange(*one, twin))));
        }
        let scenarios = Scenarios::new();
        assert_eq!(scenarios.count(), 4 * (47 * 47 * 47 + 15 * 15 * 15) / 2);
        assert_eq!(scenarios.count(), 214_396);
        assert_eq!(scenarios.get(scenarios.count()), None);
    }

    #[test]
    fn no_scenario_stands_for_another_twice() {
        let scenarios = Scenarios::new();
        let mut seen = BTreeSet::new();
        for number in 0..scenarios.count() {
            let scenario = scenarios.get(number).expect("in the list");
            let twin = usize::from(scenario.twin);
            let exchanged = scenario.rounds.map(|partition| exchange(partition, twin));
            assert!(seen.insert((twin, scenario.rounds)), "{scenario} stands twice");
            assert!(exchanged == scenario.rounds || !seen.contains(&(twin, exchanged)), "{scenario}");
        }
    }

    #[test]
    fn a_scenario_is_told_by_its_groups() {
        let rounds = [[0, 0, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 2, 3, 4]];
        let scenario = Scenario { number: 0, twin: 0, rounds };
        assert_eq!(scenario.to_string(), "twin 0: 0 1 | 2 3 0' ; 0 1 2 3 0' ; 0 | 1 | 2 | 3 | 0'");
        assert!(scenario.together(0, 2, 4) && !scenario.together(0, 0, 4) && scenario.together(1, 0, 4));
    }
}
