//! The testnet: Byzantine replicas, the simulator and its checkers. The only place of the project with code that lies.
//!
//! What comes in: seeds, behaviours by name. What goes out: reports, and clusters in which anyone can make replicas lie.
//!
//! | module | what it is |
//! |---|---|
//! | [`faults`] | the registry of Byzantine behaviours, wrapped around an honest engine |
//! | [`fuzz`] | bytes from anywhere into every decoder, and into replicas |
//! | [`launcher`] | a testnet on this machine: files, processes, replicas turned while they run |
//! | [`mod@bench`] | load against a running testnet |
//! | [`drill`] | attacks on real processes, and what clients notice of them |
//! | [`gauntlet`] | every behaviour in turn on real processes, and a verdict on each |
//! | [`compare`] | a testnet beside other systems on this machine, in one run |
//! | [`measure`] | what agreement costs as the cluster grows, counted in virtual time |
//! | [`command`] | the `quorate-testnet` command |
//! | [`scenario`] | scenario files, played in the simulator or on real processes |
//! | [`sim`] | the same replicas in virtual time: one seed decides everything |

/// Writes a line for people. Whoever has gone away (`| head`) misses it, and the work goes on.
macro_rules! say {
    ($($what:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut anstream::stdout(), format_args!("{}\n", format_args!($($what)*)));
    }};
}

pub mod bench;
pub mod command;
pub mod compare;
pub mod drill;
pub mod faults;
pub mod fuzz;
pub mod gauntlet;
pub mod launcher;
pub mod measure;
pub mod scenario;
pub mod sim;
