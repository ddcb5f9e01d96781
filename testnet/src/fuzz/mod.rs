//! Fuzzing: bytes from anywhere into every decoder and file parser, and into whole replicas.
//!
//! What comes in: a byte string. What goes out: whether it was taken, or a panic, which is a bug. Each target holds more
//! than "no panic": what decodes encodes to something that decodes to the same, a damaged log gives a prefix of what was
//! written or an error, and replicas that a byte string schedules agree, while no evidence accuses an honest one.
//!
//! The same targets run in two ways: `quorate-testnet fuzz` mutates a corpus by itself, on a stable compiler and from a
//! seed, which is what CI does for a short time; and `fuzz/`, which is no member of the workspace, hands them to libFuzzer
//! through cargo-fuzz, which is guided by coverage and wants a nightly compiler.
//!
//! | file | what it is |
//! |---|---|
//! | `decoders` | what comes over links and out of records |
//! | `files` | what people write and what lies on disks |
//! | `replicas` | a byte string as the schedule of four replicas, one of them a liar |
//! | `corpus` | honest examples to start from |
//! | `mutator` | what is done to them |
//! | [`command`] | the `fuzz` subcommand |

mod corpus;
mod decoders;
mod files;
mod mutator;
mod replicas;

pub mod command;

#[cfg(test)]
mod tests;

/// What became of an input that did not panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It was well formed.
    Yes,
    /// It was refused.
    No,
}

impl From<bool> for Taken {
    fn from(taken: bool) -> Taken {
        if taken { Taken::Yes } else { Taken::No }
    }
}

/// Something that takes bytes from outside.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and of its file in `fuzz/`.
    pub name: &'static str,
    /// What it takes.
    pub what: &'static str,
    run: fn(&[u8]) -> Taken,
    examples: fn() -> Vec<Vec<u8>>,
}

impl Target {
    /// Gives it `input`.
    ///
    /// # Panics
    /// If a rule does not hold: that is what fuzzing looks for.
    pub fn run(&self, input: &[u8]) -> Taken {
        (self.run)(input)
    }

    /// The target of this name.
    pub fn by_name(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every target.
pub const TARGETS: [Target; 14] = [
    Target { name: "peer-message", what: "frames from peers", run: decoders::peer_message, examples: corpus::messages },
    Target {
        name: "client-message",
        what: "frames from clients",
        run: decoders::client_message,
        examples: corpus::client_messages,
    },
    Target {
        name: "replica-message",
        what: "frames a client gets",
        run: decoders::replica_message,
        examples: corpus::replica_messages,
    },
    Target { name: "record", what: "records of the log", run: decoders::record, examples: corpus::records },
    Target { name: "evidence", what: "evidence, and its verdict", run: decoders::evidence, examples: corpus::evidence },
    Target {
        name: "operation",
        what: "operations and what they do to a store",
        run: decoders::operations,
        examples: corpus::operations,
    },
    Target { name: "map-proof", what: "proofs of the state", run: decoders::map_proof, examples: corpus::map_proofs },
    Target { name: "chunk", what: "chunks of state transfer", run: decoders::chunk, examples: corpus::chunks },
    Target { name: "genesis", what: "genesis.toml", run: files::genesis, examples: corpus::genesis },
    Target { name: "configuration", what: "node.toml", run: files::configuration, examples: corpus::configuration },
    Target { name: "transaction", what: "txn's text form", run: files::transaction, examples: corpus::transactions },
    Target { name: "log", what: "a damaged log on disk", run: files::log, examples: corpus::edits },
    Target { name: "snapshots", what: "damaged snapshots on disk", run: files::snapshots, examples: corpus::edits },
    Target { name: "replicas", what: "schedules of four replicas", run: replicas::run, examples: corpus::schedules },
];
