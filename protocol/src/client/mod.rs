//! The client's role as a state machine without I/O, and what clients and replicas say to each other.
//!
//! What comes in: operations to order, reads, watches, answers of replicas (each with the replica at the other end of
//! the authenticated link it came by), clock readings. What goes out: messages to send, results that f + 1 distinct
//! replicas agree on, accusations of replicas that contradict those.
//!
//! | module | what it is |
//! |---|---|
//! | [`message`] | the bytes on the client port |
//! | [`role`] | the state machine: [`ClientRole`] |
//! | [`candidates`] | counting equal answers of distinct replicas |
//! | [`agreed_time`] | what the client knows of the cluster's clock |
//! | [`numbers`] | request numbers and what is acknowledged |
//! | [`submission`] | one request on its way to f + 1 equal replies |
//! | [`serializable_read`] | f + 1 equal answers at one revision, without ordering |
//! | [`subscription`] | a watch: revision by revision, each on the word of f + 1 replicas |
//! | [`accusation`] | an answer that f + 1 others contradict; never a conviction |
//!
//! ```text
//!   submit ─► sign ─► send to all ─► wait ──► f + 1 equal replies ────────► Executed
//!                        ▲            │
//!                        └─ 300 ms, doubling; Busy by f + 1: later
//!                                     ├─► f + 1 equal refusals ───────────► Refused (or signed again, same number,
//!                                     │                                     when only its time limit was wrong)
//!                                     └─► out of patience ────────────────► Unknown, with the signed bytes
//! ```
//!
//! Among f + 1 replicas at least one is honest, so f liars can neither make an answer nor change one; since at least
//! q >= 2f + 1 replicas are honest, they cannot withhold one either (Castro and Liskov 1999, section 4.1).

pub mod accusation;
pub mod agreed_time;
pub mod candidates;
pub mod message;
pub mod numbers;
pub mod role;
pub mod serializable_read;
pub mod submission;
pub mod subscription;

pub use accusation::{Accusation, Contradiction};
pub use role::{AuthorId, ClientParameters, ClientRole, Output, SubmitError, Ticket, WatchStart};
pub use serializable_read::ReadEnding;
pub use submission::{Heard, RequestEnding};
pub use subscription::Delivery;
