//! Who does not reach whom: the shapes of a partition.

use quorate_protocol::parameters::Micros;

/// A partition. `side[i]` says on which side replica i is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) enum Shape {
    /// Neither side reaches the other.
    Symmetric { side: Vec<bool> },
    /// The true side does not reach the other, which still reaches it.
    OneWay { side: Vec<bool> },
    /// Everybody reaches the two neighbours alone.
    Ring,
    /// The true side, fewer than half, is cut off.
    Minority { side: Vec<bool> },
    /// Symmetric, but there only every second period.
    Flapping { side: Vec<bool>, period: Micros },
    /// Each group is apart from all others.
    Groups { group: Vec<u8> },
    /// One replica is alone.
    Isolated { replica: usize },
}

impl Shape {
    /// For the counters.
    pub(in crate::sim) const fn name(&self) -> &'static str {
        match self {
            Shape::Symmetric { .. } => "partition symmetric",
            Shape::OneWay { .. } => "partition one-way",
            Shape::Ring => "partition ring",
            Shape::Minority { .. } => "partition minority",
            Shape::Flapping { .. } => "partition flapping",
            Shape::Groups { .. } => "partition in groups",
            Shape::Isolated { .. } => "partition isolated",
        }
    }

    /// Whether a message from one of `replicas` to another is lost, so long after the partition began.
    pub(in crate::sim) fn cuts(&self, replicas: usize, from: usize, to: usize, since: Micros) -> bool {
        match self {
            Shape::Symmetric { side } | Shape::Minority { side } => side[from] != side[to],
            Shape::OneWay { side } => side[from] && !side[to],
            Shape::Ring => (from + 1) % replicas != to && (to + 1) % replicas != from,
            Shape::Flapping { side, period } => side[from] != side[to] && (since / period).is_multiple_of(2),
            Shape::Groups { group } => group[from] != group[to],
            Shape::Isolated { replica } => from == *replica || to == *replica,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(shape: &Shape, since: Micros) -> Vec<(usize, usize)> {
        let links = (0..4).flat_map(|from| (0..4).map(move |to| (from, to))).filter(|(from, to)| from != to);
        links.filter(|(from, to)| shape.cuts(4, *from, *to, since)).collect()
    }

    #[test]
    fn every_shape_cuts_the_links_it_is_named_for() {
        let side = vec![true, false, false, false];
        let around_0 = vec![(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)];
        assert_eq!(cut(&Shape::Symmetric { side: side.clone() }, 0), around_0);
        assert_eq!(cut(&Shape::Minority { side: side.clone() }, 0), around_0);
        assert_eq!(cut(&Shape::Isolated { replica: 0 }, 0), around_0);
        assert_eq!(cut(&Shape::OneWay { side: side.clone() }, 0), vec![(0, 1), (0, 2), (0, 3)]);
        assert_eq!(cut(&Shape::Groups { group: vec![7, 2, 2, 2] }, 0), around_0);
        assert_eq!(cut(&Shape::Groups { group: vec![0, 1, 2, 3] }, 0).len(), 12);
        assert_eq!(cut(&Shape::Ring, 0), vec![(0, 2), (1, 3), (2, 0), (3, 1)]);
        let flapping = Shape::Flapping { side, period: 10 };
        assert_eq!((cut(&flapping, 9), cut(&flapping, 10), cut(&flapping, 20)), (around_0.clone(), vec![], around_0));
    }
}
