//! The replica of a cluster: whichever engine its genesis names.
//!
//! This is where the choice is made; everything else asks [`Engine`] and does not know.

use quorate_crypto::{Digest, Protocol, Seq, Signed, Verified};

use crate::engine::{Engine, EngineStatus, Input, Now, RecordIndex, Step};
use crate::foundation::Setup;
use crate::parameters::Micros;
use crate::record::Record;
use crate::request::Request;
use crate::state::Snapshot;
use crate::{hotstuff, pbft};

/// One replica of a cluster.
pub enum Replica {
    /// Of a cluster that runs PBFT.
    Pbft(Box<pbft::Replica>),
    /// Of a cluster that runs HotStuff.
    HotStuff(Box<hotstuff::Replica>),
}

impl Replica {
    /// A replica that never signed anything, at the genesis state.
    pub fn new(setup: Setup) -> Replica {
        match setup.protocol {
            Protocol::Pbft => Replica::Pbft(Box::new(pbft::Replica::new(setup))),
            Protocol::HotStuff => Replica::HotStuff(Box::new(hotstuff::Replica::new(setup))),
        }
    }

    /// Rebuilds a replica from the records of its log, in order, and the newest durable snapshot. `trusted` is what the log's
    /// own mark says. A log of the other protocol belongs to another cluster, and is refused before it comes to this.
    pub fn recover(
        setup: Setup,
        now: Now,
        records: Vec<(RecordIndex, Record)>,
        snapshot: Option<Snapshot>,
        trusted: bool,
    ) -> Replica {
        match setup.protocol {
            Protocol::Pbft => Replica::Pbft(Box::new(pbft::Replica::recover(setup, now, records, snapshot, trusted))),
            Protocol::HotStuff => {
                Replica::HotStuff(Box::new(hotstuff::Replica::recover(setup, now, records, snapshot, trusted)))
            }
        }
    }

    fn engine(&self) -> &dyn Engine {
        match self {
            Replica::Pbft(replica) => &**replica,
            Replica::HotStuff(replica) => &**replica,
        }
    }
}

impl Engine for Replica {
    fn step(&mut self, now: Now, input: Input) -> Step {
        match self {
            Replica::Pbft(replica) => replica.step(now, input),
            Replica::HotStuff(replica) => replica.step(now, input),
        }
    }

    fn wake(&self) -> Option<Micros> {
        self.engine().wake()
    }

    fn status(&self) -> EngineStatus {
        self.engine().status()
    }

    fn knows(&self, request: &Digest) -> bool {
        self.engine().knows(request)
    }

    fn wants(&self, request: &Digest) -> bool {
        self.engine().wants(request)
    }

    fn oldest_pending(&self) -> Option<&Verified<Request>> {
        self.engine().oldest_pending()
    }

    fn executed_statement(&self, seq: Seq) -> Option<Signed> {
        self.engine().executed_statement(seq)
    }
}
