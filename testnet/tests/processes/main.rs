//! Real processes: the launcher, its replicas and the client, as people use them.
//!
//! Every test has a testnet of its own in a temporary directory on ports that happen to be free. They run one after the
//! other, since each alone takes the whole machine.

/// Each of these tests under each protocol.
macro_rules! under_both {
    ($($test:ident),+ $(,)?) => {
        mod pbft {
            $(#[test] fn $test() { super::$test(quorate_crypto::Protocol::Pbft); })+
        }
        mod hotstuff {
            $(#[test] fn $test() { super::$test(quorate_crypto::Protocol::HotStuff); })+
        }
    };
}

mod harness;

mod behaviours;
mod compare;
mod crashes;
mod drills;
mod durability;
mod gauntlet;
mod hostile;
mod lifecycle;
mod load;
mod refusals;
mod scenarios;
