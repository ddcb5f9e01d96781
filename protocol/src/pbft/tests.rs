//! Whole replicas in one process: real signatures, instant disks, a network the test holds in its hands.

mod cluster;
mod evidence;
mod fetching;
mod handing_back;
mod lives;
mod normal_case;
mod recovery;
mod rejoin;
mod review;
mod slow_primary;
mod transfer;
mod view_change;
