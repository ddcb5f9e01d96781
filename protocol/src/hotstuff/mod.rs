//! Two-phase HotStuff: Jolteon (Gelashvili, Kokoris-Kogias, Sonnino, Spiegelman, Xiang 2021) as published.
//!
//! ```text
//!   requests ─► pending ─► block of view v ─► votes to the leader of v + 1 ─► QC(v) inside block v + 1 ─► …
//!                 │ timer        └ commits when its direct child in the next view is certified ─► execution
//!                 └────────► TIMEOUT(v) ─► TC(v) ─► block of v + 1 on the highest QC that the TC names, or a higher one
//! ```
//!
//! | file | chapter |
//! |---|---|
//! | [`safety`] | every rule that safety rests on, as pure functions |
//! | [`block`] | blocks, their digests, the genesis block |
//! | [`certificate`] | quorum and timeout certificates, the collector of votes |
//! | [`message`] | what replicas say, and what of it must hold |
//! | [`promise`] | what was signed, as it must be durable |
//! | [`tree`] | the tree of blocks and the committed chain |
//! | [`leaders`] | who leads a view |
//! | [`pacemaker`] | views, timers, TIMEOUTs |

pub mod block;
pub mod certificate;
pub mod leaders;
pub mod message;
pub mod pacemaker;
pub mod promise;
pub mod safety;
pub mod tree;

#[cfg(test)]
pub(crate) mod testing;
