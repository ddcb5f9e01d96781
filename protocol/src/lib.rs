//! The replica and the client as state machines without I/O.
//!
//! What comes in: verified messages, requests, clock readings, results of execution ([`engine::Input`]). What goes out:
//! records to make durable, messages that wait for them, decided batches ([`engine::Step`]).
//!
//! | module | what it is |
//! |---|---|
//! | [`engine`] | the seam: input, step, the trait that PBFT and HotStuff implement |
//! | [`foundation`] | what a replica stands on whichever protocol orders |
//! | [`pbft`] | Practical Byzantine Fault Tolerance with signatures (Castro and Liskov 1999) |
//! | [`hotstuff`] | two-phase HotStuff as Jolteon has it (Gelashvili and others 2021) |
//! | [`replica`] | whichever of the two a cluster runs |
//! | [`pending`], [`bodies`], [`throughput`] | requests admitted and waiting; request bodies held; how many fit |
//! | [`checkpoint`], [`transfer`] | stable checkpoints; fetching a certified state |
//! | [`evidence`] | signed contradictions and their offline check |
//! | [`rejoin`] | how a replica that lost its log comes back |
//! | [`execution`] | the second pure layer: sessions, exactly-once, agreed time, the service |
//! | [`client`] | the client's role and what clients and replicas say to each other |

pub mod bodies;
pub mod checkpoint;
pub mod client;
pub mod engine;
pub mod evidence;
pub mod execution;
pub mod foundation;
pub mod hotstuff;
pub mod message;
pub mod parameters;
pub mod pbft;
pub mod pending;
pub mod proposal;
pub mod record;
pub mod rejoin;
pub mod replica;
pub mod reply;
pub mod request;
pub mod state;
pub mod throughput;
pub mod transfer;
