//! The replicated key-value service: etcd's data model as a deterministic state machine. Service 1 of the cluster.
//!
//! What comes in: encoded [`Operation`]s in the agreed order, with the agreed time. What goes out: one
//! [`OperationResult`] each, the digest of the state, the events of every revision, and the entries that changed since
//! a snapshot. There is no I/O, clock, thread, randomness or float here: the same operations give the same bytes on
//! every replica.
//!
//! | module | what it is |
//! |---|---|
//! | [`operation`] | what a client asks for: put, range, delete, txn, compaction |
//! | [`outcome`] | what it gets: one result an operation, refusals included |
//! | [`limit`] | every cap by name, and [`check`], which looks at an operation before it is executed |
//! | [`key_range`] | etcd's key and range end |
//! | [`history_key`] | the order-preserving key of the history |
//! | [`event`] | a change of one key as stored and as watched |
//! | [`store`] | the state: three authenticated maps and what executes on them |
//!
//! ```text
//!            PAIRS    key              -> mod, create revision, version, lease, value      what exists now
//!   Store    EVENTS   (revision, sub)  -> kind, key, the pair it replaced                what it takes to go back
//!            META     format, parameters, status
//! ```
//!
//! So every value is stored once, a proof of the present state is one path, a put changes two entries, and history is
//! forgotten from its old end on.
//!
//! The model is etcd 3's: the store starts at revision 1, every write makes one revision, a transaction makes one for
//! all it writes, and a read may name any revision that is not compacted. Where this differs from etcd:
//!
//! - compaction takes effect for readers at once, but superseded entries leave the store a bounded number at a time;
//! - every operation has a bounded cost: a range looks at up to [`limit::MAX_VISITED_KEYS`] keys and says where to go
//!   on, a deletion of more is refused;
//! - there is no alarm to disarm: a put that would exceed the quota is refused, the next that fits is not;
//! - transactions do not nest and leases do not exist yet.

pub mod event;
pub mod history_key;
pub mod key_range;
pub mod limit;
pub mod operation;
pub mod outcome;
pub mod store;

pub use event::{Event, EventKind, EventList, EventPage, KeyValue, PreviousValues};
pub use key_range::KeyRange;
pub use limit::{LimitError, check};
pub use operation::{
    CompactionRequest, Compare, CompareTarget, DeleteRequest, Operation, PutRequest, RangeRequest, Relation, SortOrder,
    SortTarget, TxnOperation, TxnRequest, is_read_only,
};
pub use outcome::{
    CompactionResponse, DeleteResponse, OperationError, OperationResult, Outcome, PutResponse, RangeResponse,
    TxnOutcome, TxnResponse,
};
pub use store::{Change, LoadError, Parameters, Status, Store, TableId};

/// The number of this service in a request's operations.
pub const SERVICE: u16 = 1;
