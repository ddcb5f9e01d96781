//! Drills: measured attacks on real processes, by which the bars of the design are judged.
//!
//! What comes in: which drill, how often or how long. What goes out: a [`Report`] of figures, some of which have a bar to
//! pass. Every drill makes a testnet of its own, under load, and takes it away again whatever happens.
//!
//! ```text
//!   Site: fresh testnet ─► clients (bench's fleet) ─► Writers, or bench's load ─► the attack ─► read back ─► Report
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`site`] | the testnet of a drill: started, killed, paused, asked, taken away |
//! | [`writers`] | load that remembers every acknowledged write |
//! | [`read_back`] | whether each is still there |
//! | [`reader`], [`watcher`] | clients that read and follow what was acknowledged |
//! | [`judgement`] | whether honest replicas agree, and whom evidence accuses |
//! | [`report`] | figures and bars |
//! | [`statistics`] | gaps, quantiles, medians |
//! | [`kill_primary`], [`kill_all`], [`pause`], [`endurance`], [`lag`], [`preload`], [`overload`], [`behaviours`] | the drills |

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use quorate_client::ClientError;
use quorate_keys::Protocol;

use crate::bench::BenchError;
use crate::launcher::LaunchError;

pub mod behaviours;
pub mod endurance;
pub mod judgement;
pub mod kill_all;
pub mod kill_primary;
pub mod lag;
pub mod overload;
pub mod pause;
pub mod preload;
pub mod read_back;
pub mod reader;
pub mod report;
pub mod site;
pub mod statistics;
pub mod watcher;
pub mod writers;

pub use report::Report;
pub use site::Place;

/// Told what is under way, for people who wait.
pub type Tell<'a> = dyn FnMut(String) + 'a;

/// The drills: the registry.
#[derive(Subcommand, Debug)]
pub enum Drill {
    /// Kill the primary under load, or two leaders in a row, again and again; measure how long a client goes without an
    /// answer.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet drill kill-primary --times 20\n  quorate-testnet drill kill-primary --together 2 -n 7\n\nBars: the gap's p50 at most 400 ms and p99 at most 800 ms, with two at a time no gap above 1.8 s; no acknowledged\nwrite lost."
    )]
    KillPrimary(kill_primary::KillPrimary),
    /// Kill all replicas at once under load, again and again; measure how long until writes are acknowledged anew.
    #[command(
        after_long_help = "Example:\n  quorate-testnet drill kill-all --times 10\n\nBars: writes are acknowledged within 5 s of the restart; no acknowledged write lost."
    )]
    KillAll(kill_all::KillAll),
    /// Freeze a backup under load, and let it go on; measure how long until it is back at head.
    #[command(
        after_long_help = "Example:\n  quorate-testnet drill pause --for 60s\n\nBars: no view change (HotStuff: at most one view of 50 given up), no writer waits longer than 1 s; it comes back to
head; no acknowledged write lost."
    )]
    Pause(pause::Pause),
    /// Put full load on for long; compare what replicas hold in the first minute and in the last.
    #[command(
        after_long_help = "Example:\n  quorate-testnet drill endurance --for 10m\n\nBars: no view change (HotStuff: at most one view of 50 given up); memory, descriptors, threads and log are bounded."
    )]
    Endurance(endurance::Endurance),
    /// Write much while a replica is down, start it again; measure how long until it is back at head.
    #[command(
        after_long_help = "Example:\n  quorate-testnet drill lag --writes 100000 --bundle 16\n\nBars: it comes back to head; no acknowledged write lost."
    )]
    Lag(lag::Lag),
    /// Compare the throughput of an empty store with that of one that holds many keys.
    #[command(
        after_long_help = "Example:\n  quorate-testnet drill preload --keys 1000000\n\nBar: the ratio is at least 0.8."
    )]
    Preload(preload::Preload),
    /// Have many more requests in flight than the machine orders, and compare with few.
    #[command(
        after_long_help = "Example:\n  quorate-testnet drill overload --in-flight 4096\n\nBar: no view change (HotStuff: at most one view of 50 given up)."
    )]
    Overload(overload::Overload),
    /// Let the first primary lie in every way of the catalogue, and check what clients, honest replicas and evidence say.
    #[command(
        after_long_help = "Example:\n  quorate-testnet drill behaviours --clients 16 --puts 500\n\nBars: all puts succeed; honest replicas have equal checkpoints; no wrong answer to a reader or a watcher; evidence\naccuses replica 0 for equivocate, equivocate-one and double-vote, and nobody else for anything."
    )]
    Behaviours(behaviours::Behaviours),
}

/// What every drill takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// What the replicas run: pbft or hotstuff.
    #[arg(long, value_parser = crate::command::arguments::protocol, default_value = "pbft")]
    pub protocol: Protocol,
    /// How many replicas; 3f + 1 of them tolerate f that fail.
    #[arg(short = 'n', long = "n", value_name = "N", default_value_t = 4)]
    pub replicas: usize,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub value_size: usize,
    /// Exit with 5 also if a bar is missed that is a time, a throughput or a size, which a busy machine may be to blame
    /// for.
    #[arg(long)]
    pub strict: bool,
}

/// Why a drill gave no report.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The testnet could not be started, or a replica died that nobody killed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A client failed that must not.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The load could not be put on.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// What has to happen did not happen in time.
    #[error("{0}")]
    Stalled(String),
    /// The flags make no sense together.
    #[error("{0}")]
    Usage(String),
}

impl Drill {
    /// Its name on the command line.
    pub const fn name(&self) -> &'static str {
        match self {
            Drill::KillPrimary(_) => "kill-primary",
            Drill::KillAll(_) => "kill-all",
            Drill::Pause(_) => "pause",
            Drill::Endurance(_) => "endurance",
            Drill::Lag(_) => "lag",
            Drill::Preload(_) => "preload",
            Drill::Overload(_) => "overload",
            Drill::Behaviours(_) => "behaviours",
        }
    }

    /// What every drill takes.
    pub const fn common(&self) -> &Common {
        match self {
            Drill::KillPrimary(drill) => &drill.common,
            Drill::KillAll(drill) => &drill.common,
            Drill::Pause(drill) => &drill.common,
            Drill::Endurance(drill) => &drill.common,
            Drill::Lag(drill) => &drill.common,
            Drill::Preload(drill) => &drill.common,
            Drill::Overload(drill) => &drill.common,
            Drill::Behaviours(drill) => &drill.common,
        }
    }

    /// Runs it. Dropping the future ends its processes as well.
    ///
    /// # Errors
    /// The testnet cannot be started or used, or does not answer any more.
    pub async fn run(&self, place: &Place, tell: &mut Tell<'_>) -> Result<Report, DrillError> {
        match self {
            Drill::KillPrimary(drill) => drill.run(place, tell).await,
            Drill::KillAll(drill) => drill.run(place, tell).await,
            Drill::Pause(drill) => drill.run(place, tell).await,
            Drill::Endurance(drill) => drill.run(place, tell).await,
            Drill::Lag(drill) => drill.run(place, tell).await,
            Drill::Preload(drill) => drill.run(place, tell).await,
            Drill::Overload(drill) => drill.run(place, tell).await,
            Drill::Behaviours(drill) => drill.run(place, tell).await,
        }
    }
}

/// Waits, and says so once a second.
pub(crate) async fn wait(time: Duration, what: &str, tell: &mut Tell<'_>) {
    let began = Instant::now();
    while let Some(left) = time.checked_sub(began.elapsed()) {
        tell(format!("{what}, {} of {} s", began.elapsed().as_secs(), time.as_secs_f64().ceil()));
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
    }
}
