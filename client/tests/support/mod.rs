//! What the tests of the command share.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod genesis;
pub mod replicas;
