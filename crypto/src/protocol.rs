//! Which protocol the replicas of a cluster agree by. It is part of what a cluster is: the cluster id covers it, and with it
//! every statement that is signed, every link and every disk.

use std::fmt;

/// The agreement protocol of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// PBFT (Castro and Liskov 1999, 2002).
    Pbft,
    /// Two-phase HotStuff as Jolteon has it (Gelashvili and others, 2021).
    HotStuff,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Protocol; 2] = [Protocol::Pbft, Protocol::HotStuff];

    /// The name in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Pbft => "pbft",
            Protocol::HotStuff => "hotstuff",
        }
    }

    /// Whether each view is one block and the next one has another leader, so that views say nothing about failures; else a
    /// primary stays until it is given up.
    pub const fn leaders_take_turns(self) -> bool {
        matches!(self, Protocol::HotStuff)
    }

    /// The protocol of that name.
    pub fn from_name(name: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
