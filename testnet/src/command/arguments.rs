//! Flags, variables and help. A flag wins over a variable, a variable over a file, a file over the default.

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use quorate_crypto::ReplicaId;
use quorate_keys::Protocol;

use super::run::Run;
use crate::drill::Drill;
use crate::faults::Trigger;
use crate::faults::client::{ClientBehaviour, UnknownClientBehaviour};
use crate::fuzz::command::Fuzz;
use crate::gauntlet::Gauntlet;
use crate::launcher::Directory;
use crate::launcher::control::Turned;
use crate::sim::command::Simulate;

const EXAMPLE: &str = "\
Examples:
  quorate-testnet up                        start four replicas and watch them; Ctrl-C stops
  quorate-testnet up -d && quorate put greeting hello
  quorate-testnet fault 0 equivocate        turn replica 0 into a liar while it runs
  quorate-testnet evidence                  what convicts it
  quorate-testnet bench --clients 64
  quorate-testnet drill kill-primary        what clients notice when the primary is killed
  quorate-testnet down

Exit codes: 0 ok; 1 refused by the service; 2 usage or configuration; 3 no quorum in time; 5 a simulated run broke a
rule, a scenario was not as expected, or a drill missed a bar; 130 interrupted.";

/// A Quorate cluster on this machine in which any replica can be made to lie, and the simulator that looks for what
/// breaks.
#[derive(Parser, Debug)]
#[command(name = "quorate-testnet", version, after_long_help = EXAMPLE, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    /// The testnet's directory.
    #[arg(long, value_name = "DIR", global = true, env = "QUORATE_CLUSTER", default_value = "testnet")]
    pub dir: PathBuf,
    /// Print JSON instead of text: one object, or one a line for what goes on.
    #[arg(long, global = true)]
    pub json: bool,
    /// Whether `--dir` stands on the command line. A drill, which makes a testnet, must not take the one that a variable
    /// names for its place.
    #[arg(skip)]
    pub dir_is_given: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Reads the command line of this process; ends it on a mistake, or after help.
    pub fn read() -> Arguments {
        let matches = Arguments::command().get_matches();
        Arguments::of(&matches).unwrap_or_else(|error| error.format(&mut Arguments::command()).exit())
    }

    fn of(matches: &ArgMatches) -> Result<Arguments, clap::Error> {
        let mut arguments = Arguments::from_arg_matches(matches)?;
        arguments.dir_is_given = matches.value_source("dir") == Some(ValueSource::CommandLine);
        Ok(arguments)
    }

    /// The testnet.
    pub fn directory(&self) -> Directory {
        Directory::new(self.dir.clone())
    }
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start a testnet, or go on with one that was stopped.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet up\n  quorate-testnet up -n 7 --fault 3=equivocate --fault 5=silent\n  quorate-testnet up -d --any-port --dir /tmp/another"
    )]
    Up(Up),
    /// Show where every replica stands.
    #[command(after_long_help = "Example:\n  quorate-testnet status --json")]
    Status,
    /// Make a replica lie, crash or pause while it runs, or be honest again.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet fault 0 equivocate\n  quorate-testnet fault 0 silent --when primary --for 20s\n  quorate-testnet fault 2 vote-many --when seq:100-200\n  quorate-testnet fault 0 heal\n\n`quorate-testnet faults` lists what there is."
    )]
    Fault(Fault),
    /// List the behaviours that replicas and clients can be given.
    Faults,
    /// End a replica's process at once, as a power cut would.
    #[command(after_long_help = "Example:\n  quorate-testnet kill 2")]
    Kill(One),
    /// Start a replica that was killed, or stop and start one that runs. It comes back honest.
    #[command(after_long_help = "Example:\n  quorate-testnet restart 2")]
    Restart(Restart),
    /// Take a replica's disk away: stop it, delete its log and its state, and start it with empty ones. It rejoins.
    #[command(after_long_help = "Example:\n  quorate-testnet wipe 2 && quorate-testnet status")]
    Wipe(One),
    /// Freeze a replica's process: it keeps its links and answers nobody.
    #[command(after_long_help = "Example:\n  quorate-testnet pause 2")]
    Pause(One),
    /// Let a paused replica go on.
    #[command(after_long_help = "Example:\n  quorate-testnet resume 2")]
    Resume(One),
    /// Show a replica's log.
    #[command(after_long_help = "Example:\n  quorate-testnet logs 2 -f")]
    Logs(Logs),
    /// Stop all replicas; their state is kept.
    #[command(after_long_help = "Example:\n  quorate-testnet down")]
    Down(Down),
    /// List proofs of misbehaviour that replicas found, or export one.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet evidence --json\n  quorate-testnet evidence export e-1 -o e1.json && quorate verify e1.json --genesis testnet/genesis.toml"
    )]
    Evidence(Evidence),
    /// Attack the running testnet with a client that misbehaves.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet attack flood --for 20s --rate 500\n  quorate-testnet attack same-number --json\n\n`quorate-testnet faults` lists what there is."
    )]
    Attack(Attack),
    /// Put load on the running testnet and report what it took.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet bench --clients 64 --value-size 128 --duration 10s\n  quorate-testnet bench --clients 16 --bundle 64\n  quorate-testnet bench --rate 2000 --json"
    )]
    Bench(Bench),
    /// Measure what happens when things break, on a fresh testnet of real processes.
    #[command(subcommand)]
    Drill(Drill),
    /// Run every behaviour of the catalogue in turn on fresh testnets under load, and judge each.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet gauntlet\n  quorate-testnet gauntlet --only equivocate,flood --for 5s\n  quorate-testnet gauntlet --resume\n\nResults go to a file, one JSON line each; with --resume what stands there already is not run again.\nBars: no acknowledged write lost, no wrong answer to a reader or a watcher, equal checkpoints, evidence against\nexactly the liar or nobody; no panic, no process lost; and, only with --strict, memory, descriptors, throughput and\nthe longest time that a client went without an answer."
    )]
    Gauntlet(Gauntlet),
    /// Measure fresh testnets of both protocols beside a fresh etcd cluster, round by round, on this machine.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet compare\n  quorate-testnet compare --etcd ./etcd --duration 5s --rounds 5 --json\n  quorate-testnet compare --kills 20 --growth 10s\n\nAll keep their data in one temporary directory (TMPDIR says where), which is removed in the end. What does not run\nin a round is paused, so that each has the machine to itself while it is measured."
    )]
    Compare(Compare),
    /// Play a scenario file: what goes wrong from when to when, and what must come of it.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet run testnet/scenarios/etcd-rejoining-replica.toml\n  quorate-testnet run scenario.toml --real\n\ndocs/testing.md says what a scenario file holds. Exit code 5: an expectation was not met."
    )]
    Run(Run),
    /// Run the same replicas in virtual time: one seed decides everything.
    Simulate(Simulate),
    /// Give mutated bytes to every decoder and file parser, and to whole replicas.
    #[command(
        after_long_help = "Examples:\n  quorate-testnet fuzz\n  quorate-testnet fuzz --target peer-message --for 10m\n  quorate-testnet fuzz --target replicas --seed 7 --input 1234"
    )]
    Fuzz(Fuzz),
    /// Print a completion script for a shell.
    #[command(
        after_long_help = "Example:\n  quorate-testnet completions bash > ~/.local/share/bash-completion/completions/quorate-testnet"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Run one replica; what `up` starts.
    #[command(hide = true)]
    Replica(Replica),
}

/// `up`.
#[derive(Args, Debug)]
pub struct Up {
    /// How many replicas; 3f + 1 of them tolerate f that lie [default: 4, or as many as there are].
    #[arg(short = 'n', long = "replicas", value_name = "N")]
    pub replicas: Option<usize>,
    /// What they run: pbft or hotstuff [default: pbft, or what they run].
    #[arg(long, value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// Make a replica misbehave from its first step: 3=equivocate, 3=silent:primary, 3=lie-to-clients:25%.
    #[arg(long = "fault", value_name = "ID=BEHAVIOUR", value_parser = fault)]
    pub faults: Vec<(u16, Turned)>,
    /// Give a parameter of the genesis file another value than its default; only for a new testnet.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    pub parameters: Vec<(String, u64)>,
    /// Start over: stop what runs and remove its state.
    #[arg(long)]
    pub fresh: bool,
    /// Return when the first operation has committed; `down` stops the testnet.
    #[arg(short, long)]
    pub detach: bool,
    /// Replica i listens on N + i (replicas), N + 100 + i (HTTP) and N + 200 + i (clients) [default: 7400].
    #[arg(long, value_name = "N", conflicts_with = "any_port")]
    pub port_base: Option<u16>,
    /// Take any ports that are free.
    #[arg(long)]
    pub any_port: bool,
}

/// One replica.
#[derive(Args, Debug)]
pub struct One {
    /// The replica's number.
    pub id: u16,
}

/// `restart`.
#[derive(Args, Debug)]
pub struct Restart {
    /// The replica's number.
    pub id: u16,
    /// End it at once if it runs, instead of asking it to stop.
    #[arg(long)]
    pub kill: bool,
}

/// `fault`.
#[derive(Args, Debug)]
pub struct Fault {
    /// The replica's number.
    pub id: u16,
    /// What it is to do from now on, in place of what it did; heal makes it honest.
    #[arg(required = true, value_name = "BEHAVIOUR")]
    pub behaviours: Vec<String>,
    /// When it acts: always, primary (while it leads), a percentage of the opportunities such as 25%, in views such as
    /// view:3 or view:3-9, or at sequence numbers such as seq:100-200.
    #[arg(long, value_name = "WHEN", default_value = "always", value_parser = trigger)]
    pub when: String,
    /// Honest again after this time: 20s, 500ms, 2m.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub time: Option<Duration>,
}

/// `logs`.
#[derive(Args, Debug)]
pub struct Logs {
    /// The replica's number.
    pub id: u16,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    pub follow: bool,
    /// Begin so many lines before the end; 0 is all.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
    pub lines: usize,
}

/// `down`.
#[derive(Args, Debug)]
pub struct Down {
    /// At once, as a power cut would.
    #[arg(long)]
    pub kill: bool,
}

/// `evidence`.
#[derive(Args, Debug)]
pub struct Evidence {
    /// What to do instead of listing.
    #[command(subcommand)]
    pub action: Option<EvidenceAction>,
}

/// `evidence export`.
#[derive(Subcommand, Debug)]
pub enum EvidenceAction {
    /// Write one proof to a file that anyone can check with `quorate verify FILE --genesis genesis.toml`.
    Export {
        /// The proof: e-1.
        id: String,
        /// The file; standard output if it is left out.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// `attack`.
#[derive(Args, Debug)]
pub struct Attack {
    /// What the client does wrong.
    #[arg(value_name = "BEHAVIOUR", value_parser = client_behaviour)]
    pub behaviour: ClientBehaviour,
    /// How long: 20s, 500ms, 2m; ten minutes at most.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub time: Duration,
    /// How often it acts a second, 2000 times at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rate: u32,
    /// The most processor time it may take, in hundredths of one core [default: what it gets].
    #[arg(long = "cpu", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub cpu_percent: Option<u8>,
}

/// `bench`.
#[derive(Args, Debug)]
pub struct Bench {
    /// Clients, each with a key of its own.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub clients: usize,
    /// Sets of links to all replicas that clients share, as behind a gateway; as many as clients gives each its own
    /// [default: one for 16 clients].
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub value_size: usize,
    /// Puts in one request, under one signature.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub bundle: usize,
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Operations a second that are due whatever became of earlier ones (open loop); without it each client waits for
    /// its answer (closed loop).
    #[arg(long, value_name = "OPS")]
    pub rate: Option<f64>,
    /// Distinct keys to write to, at random [default: 10000, or as many as are preloaded].
    #[arg(long, value_name = "N")]
    pub keys: Option<u64>,
    /// Keys to write before it is measured, each once.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preload: u64,
}

/// `compare`.
#[derive(Args, Debug)]
pub struct Compare {
    /// The etcd program [default: the one on PATH; without one its rows are skipped].
    #[arg(long, value_name = "PATH")]
    pub etcd: Option<PathBuf>,
    /// Clients of the rows with many clients; 1 client and 16 with bundles have rows of their own.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub clients: usize,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    pub value_size: usize,
    /// How long each row is measured in each round.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// How often everything is measured, the systems in turn; 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// How many leaders of each protocol are killed, to see what that costs. It is also measured, in virtual time, what f
    /// that lie cost. 0 leaves out both.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub kills: u32,
    /// How long each protocol's order is watched before f leaders of processes lie, while they do and after that; 0s leaves
    /// it out.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration_or_none)]
    pub growth: Duration,
}

/// The hidden `replica`. The order of its arguments is how a process is recognised.
#[derive(Args, Debug)]
pub struct Replica {
    /// The replica's number.
    #[arg(long = "id")]
    id: u16,
    /// What it does wrong from its first step.
    #[arg(long = "behaviour")]
    pub behaviours: Vec<String>,
}

impl Replica {
    /// The replica's number.
    pub const fn id(&self) -> ReplicaId {
        ReplicaId(self.id)
    }
}

/// `pbft`, `hotstuff`.
pub(crate) fn protocol(text: &str) -> Result<Protocol, String> {
    Protocol::from_name(text).ok_or_else(|| "there are pbft and hotstuff".to_owned())
}

fn fault(text: &str) -> Result<(u16, Turned), String> {
    let (id, behaviour) =
        text.split_once('=').ok_or_else(|| "give a replica and a behaviour, for example 3=equivocate".to_owned())?;
    let id = id.parse().map_err(|_| format!("{id:?} is not the number of a replica"))?;
    Ok((id, Turned::parse(behaviour)?))
}

fn parameter(text: &str) -> Result<(String, u64), String> {
    let form = || "give a name and a number, for example view_timeout_ms=500".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(form)?;
    Ok((name.to_owned(), value.parse().map_err(|_| form())?))
}

fn client_behaviour(text: &str) -> Result<ClientBehaviour, String> {
    text.parse().map_err(|error: UnknownClientBehaviour| error.to_string())
}

fn trigger(text: &str) -> Result<String, String> {
    text.parse::<Trigger>().map(|when| when.to_string()).map_err(|error| error.to_string())
}

/// `10s`, `500ms`, `2m`, or seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a time; write 10s, 500ms or 2m"))?;
    let millis = match &text[digits.len()..] {
        "ms" => Some(number),
        "s" | "" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    // A day bounds what is added to clocks later.
    let millis = millis.filter(|millis| (1..=86_400_000).contains(millis));
    millis.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is not a time from 1ms to a day"))
}

/// The same, or `0s`: what is not done at all.
fn duration_or_none(text: &str) -> Result<Duration, String> {
    if ["0", "0s", "0ms"].contains(&text) { Ok(Duration::ZERO) } else { duration(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn faults_and_times_as_people_write_them() {
        assert!(matches!(fault("3=equivocate"), Ok((3, turned)) if turned.when == "always"));
        assert!(matches!(fault("0=silent:primary"), Ok((0, turned)) if turned.when == "primary"));
        for bad in ["equivocate", "x=silent", "1=nonsense", "1=silent:often"] {
            assert!(fault(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert!(duration("0").is_err() && duration("soon").is_err());
        assert_eq!((duration_or_none("0s"), duration_or_none("2s")), (Ok(Duration::ZERO), duration("2s")));
        assert!(duration_or_none("0h").is_err());
    }

    #[test]
    fn a_drill_knows_whether_its_place_was_named() {
        for (given, named) in [
            (&["quorate-testnet", "drill", "kill-all"][..], false),
            (&["quorate-testnet", "drill", "kill-all", "--dir", "/srv/t"], true),
            (&["quorate-testnet", "--dir", "/srv/t", "drill", "kill-all", "--times", "2"], true),
        ] {
            let matches = Arguments::command().try_get_matches_from(given).expect("accepted");
            assert_eq!(Arguments::of(&matches).expect("read").dir_is_given, named, "{given:?}");
        }
    }

    #[test]
    fn the_hidden_command_takes_what_the_launcher_gives() {
        let given = ["quorate-testnet", "replica", "--dir", "/srv/t", "--id", "2", "--behaviour", "silent:25%"];
        let arguments = Arguments::try_parse_from(given).expect("accepted");
        assert_eq!(arguments.dir, PathBuf::from("/srv/t"));
        assert!(matches!(arguments.command, Command::Replica(replica) if replica.id() == ReplicaId(2)));
    }
}
