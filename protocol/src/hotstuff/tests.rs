//! Whole replicas in one process: real signatures, instant disks, a network the test holds in its hands.

mod catching_up;
mod chaos;
mod cluster;
mod failures;
mod liars;
mod normal_case;
mod rejoin;
mod restarts;
