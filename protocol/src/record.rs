//! What a replica must find on disk after a restart. One driver turn writes its records as one frame.

use bincode::{Decode, Encode};
use quorate_crypto::{Certificate, Digest, Seq, Signed, View};

use crate::hotstuff::block::Block;
use crate::hotstuff::certificate::QuorumCertificate;
use crate::hotstuff::promise::Promise;
use crate::message::{Committed, PrePrepare, Prepare};
use crate::pbft::view_change_message::{NewView, ViewChange};
use crate::proposal::Proposal;
use crate::request::Request;

/// One promise, or something a promise rests on.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Record {
    /// Request bodies, each before the first vote that names it.
    Requests(Vec<Request>),
    /// The accepted assignment of a number (the primary's own one included), before PRE-PREPARE or PREPARE is sent.
    PrePrepare(PrePrepare),
    /// The PREPARE this replica signs for it; the exact bytes are re-sent after a restart.
    Prepare(Prepare),
    /// A prepared certificate, before COMMIT is sent, and the COMMIT itself.
    Prepared {
        /// The primary's signed assignment.
        pre_prepare: Signed,
        /// q - 1 PREPAREs of distinct backups.
        prepares: Certificate,
        /// The proposal.
        proposal: Proposal,
        /// This replica's COMMIT.
        commit: Signed,
    },
    /// A decision with its certificate.
    Committed(Committed),
    /// The replica left every view below; the exact VIEW-CHANGE.
    LeftView(ViewChange),
    /// The accepted or issued NEW-VIEW with the VIEW-CHANGEs it names.
    NewView {
        /// The NEW-VIEW.
        new_view: NewView,
        /// The VIEW-CHANGEs it rests on.
        view_changes: Vec<ViewChange>,
    },
    /// This replica's CHECKPOINT; its snapshot is durable already.
    Checkpoint(Signed),
    /// A stable checkpoint's certificate.
    Stable(Certificate),
    /// This replica's EXECUTED.
    Executed(Signed),
    /// Everything still needed that is not tied to a number above `stable`: written when the log is about to be cut.
    Base {
        /// The view the replica is in or moving to.
        view: View,
        /// Whether it has entered it.
        entered: bool,
        /// Certificate of the stable checkpoint; none for the genesis state.
        stable: Option<Certificate>,
        /// This replica's last VIEW-CHANGE.
        view_change: Option<ViewChange>,
        /// NEW-VIEWs still kept, with what they rest on.
        new_views: Vec<(NewView, Vec<ViewChange>)>,
        /// This replica's CHECKPOINTs still kept.
        checkpoints: Vec<Signed>,
        /// This replica's EXECUTEDs still kept.
        executed: Vec<Signed>,
    },
    /// A rejoin was begun with this incarnation and nonce (the signed statement).
    Rejoin(Signed),
    /// Reserved: numbers of a view that may be signed without one sync each (one sync for a range of numbers).
    Reserve {
        /// View the reservation holds in.
        view: View,
        /// Numbers up to this one may be signed without another sync.
        up_to: Seq,
        /// Digest of what the reservation rests on.
        basis: Digest,
    },
    /// A rejoin is complete: everything signed in this incarnation is about numbers above `above`.
    Rejoined {
        /// The Rejoin that won.
        statement: Signed,
        /// The certified checkpoint that showed it.
        above: Seq,
    },
    /// HotStuff: everything promised, before the vote, TIMEOUT or proposal that it newly holds is sent.
    HotStuff(Box<Promise>),
    /// HotStuff: a block, before the vote for it or its proposal is sent; its bodies stand before it.
    Block(Box<Block>),
    /// HotStuff: a block committed with its ancestors.
    BlockCommitted {
        /// The block.
        block: Digest,
        /// The certificate of its child in the next view.
        certificate: QuorumCertificate,
    },
    /// HotStuff: everything still needed that is not tied to a block above `root`: written when the log is about to be cut.
    HotStuffBase {
        /// Everything promised.
        promise: Box<Promise>,
        /// Certificate of the stable checkpoint; none for the genesis state.
        stable: Option<Certificate>,
        /// The lowest block kept: it is committed.
        root: Box<Block>,
        /// The newest block that the certificates inside its chain commit: whom leaders after it follow from.
        settled: Option<Box<Block>>,
        /// The newest block that those inside the chain of any child of `root` commit.
        settled_by_child: Option<Box<Block>>,
        /// This replica's CHECKPOINTs still kept.
        checkpoints: Vec<Signed>,
        /// This replica's EXECUTEDs still kept.
        executed: Vec<Signed>,
    },
}
