//! Byzantine behaviours, one registry for real processes and the simulator alike.
//!
//! What comes in: what an honest engine wants to send, or answer a client. What goes out: what a liar sends instead,
//! signed with its own key and no other. Which behaviours act is decided by a [`Switch`] that can be turned while the
//! replica runs; it counts how often each acted.
//!
//! ```text
//!   Driver ──step──► FaultyReplica ──step──► honest engine
//!                        │  `seen` keeps what came in and what the engine wants said
//!                        │  each behaviour in turn rewrites Step.sends
//!                        │  `held` keeps back what is to leave later, and asks to be woken for it
//!   node ──answer──► FaultyReplica::answer ──► what the client gets
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `catalogue`, `trigger` | behaviours by name and group, and when they act |
//! | `switch` | what is on, and what was counted |
//! | `phase` | what the cluster was busy with, and pairs that cannot meet |
//! | `hands`, `seen`, `held`, `act` | what a liar has: a key, a memory, patience, an opportunity |
//! | `replica` | the wrapper around an honest engine |
//! | `leader`, `equivocation` | proposals |
//! | `voter`, `votes`, `forgery`, `mutation`, `amnesia` | votes and certificates |
//! | `view_change`, `new_view` | VIEW-CHANGE and NEW-VIEW |
//! | `checkpoint` | checkpoints and states |
//! | `hotstuff` | the same and more in HotStuff's messages |
//! | `client_lies`, `face` | answers to clients |
//! | `client` | faulty clients |
//!
//! Nothing here knows whether it runs in virtual time, reads a clock, or makes randomness of its own.

pub mod client;
pub mod phase;

mod act;
mod amnesia;
mod catalogue;
mod checkpoint;
mod client_lies;
mod equivocation;
mod face;
mod forgery;
mod hands;
mod held;
mod hotstuff;
mod leader;
pub(crate) mod mutation;
mod new_view;
mod replica;
mod seen;
mod switch;
mod trigger;
mod view_change;
mod voter;
mod votes;

pub use catalogue::{Behaviour, CATALOGUE, Entry, Evidence, Group, UnknownBehaviour};
pub use face::FaultyFace;
pub use hands::{Hands, ManySignatures};
pub use replica::FaultyReplica;
pub use switch::Switch;
pub use trigger::{Misbehaviour, MisbehaviourError, Standing, Trigger, UnknownTrigger};

#[cfg(test)]
mod tests;
