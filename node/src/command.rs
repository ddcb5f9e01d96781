//! The `quorate-node` command: makes a replica's storage and runs the replica.
//!
//! Exit codes: 0 ok; 2 usage or configuration; 4 a key or the genesis file is refused; 5 disk full; 6 damaged, foreign or
//! missing data; 7 storage error; 130 interrupted twice. Every error is one sentence that says what to do.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use quorate_keys::PassphraseSource;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat, LogSection};
use crate::failure::NodeError;
use crate::log::Trust;
use crate::process::{Node, NodeSettings, initialise};

/// Exit code after a second signal.
const INTERRUPTED: i32 = 130;

/// One replica of a Quorate cluster.
#[derive(Parser)]
#[command(name = "quorate-node", version, after_long_help = EXAMPLE, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print one JSON object instead of text, and write logs as JSON lines.
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLE: &str = "\
Example: the first start of a replica of a new cluster
  quorate-node check --config node.toml
  quorate-node init --new-cluster --config node.toml
  quorate-node run --config node.toml

Exit codes: 0 ok; 2 usage or configuration; 4 a key or the genesis file is refused; 5 disk full;
6 damaged, foreign or missing data; 7 storage error; 130 interrupted twice.";

#[derive(Subcommand)]
enum Command {
    /// Make the empty storage of a replica. After a loss, without further flags: the replica then rejoins by itself.
    #[command(after_long_help = "Example:\n  quorate-node init --new-cluster --config node.toml")]
    Init {
        #[command(flatten)]
        given: Given,
        /// The cluster never ran, so an empty log is the whole truth and the replica may sign. Never say so of a replica
        /// that ran before: it could contradict what it signed then.
        #[arg(long)]
        new_cluster: bool,
    },
    /// Run the replica until SIGINT or SIGTERM; a second signal ends it at once.
    #[command(after_long_help = "Example:\n  quorate-node run --config node.toml --json 2>> node.log")]
    Run {
        #[command(flatten)]
        given: Given,
    },
    /// Check that configuration, key and genesis file belong together.
    #[command(after_long_help = "Example:\n  quorate-node check --config node.toml")]
    Check {
        #[command(flatten)]
        given: Given,
    },
    /// Print a completion script for a shell.
    #[command(
        after_long_help = "Example:\n  quorate-node completions bash > ~/.local/share/bash-completion/completions/quorate-node"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct Given {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE", env = "QUORATE_NODE_CONFIG")]
    config: PathBuf,
    /// Where the passphrase of an encrypted identity is: a file of mode 0600, /dev/fd/N, or - for standard input.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Given {
    fn load(self) -> Result<(Config, NodeSettings), NodeError> {
        let config = Config::load(&self.config)?;
        let settings = NodeSettings::load(&config, &PassphraseSource::from_environment(self.passphrase_file))?;
        Ok((config, settings))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // A core dump or a debugger of another process of this user must not see secrets. Best effort.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<(), NodeError> {
    let json = arguments.json;
    match arguments.command {
        Command::Init { given, new_cluster } => {
            let (_, settings) = given.load()?;
            let trust = if new_cluster { Trust::NewCluster } else { Trust::MustRejoin };
            initialise(&settings, trust)?;
            let text = if new_cluster {
                format!("replica {} may run; its log is in {}", settings.replica, settings.data.display())
            } else {
                format!(
                    "replica {} has an empty log in {} that must not be trusted; once started it rejoins, and signs nothing else before that",
                    settings.replica,
                    settings.data.display()
                )
            };
            print(json, &text, &json!({"v": 1, "replica": settings.replica.0, "trusted": new_cluster}));
            Ok(())
        }
        Command::Check { given } => {
            let (_, settings) = given.load()?;
            let cluster = settings.genesis.cluster_id();
            let text = format!(
                "replica {} of cluster {cluster}, {} replicas, {}",
                settings.replica,
                settings.genesis.replicas().len(),
                settings.genesis.protocol()
            );
            let object = json!({
                "v": 1,
                "replica": settings.replica.0,
                "cluster": cluster.to_string(),
                "replicas": settings.genesis.replicas().len(),
                "protocol": settings.genesis.protocol().name(),
            });
            print(json, &text, &object);
            Ok(())
        }
        Command::Run { given } => {
            let (config, settings) = given.load()?;
            let format = if json { LogFormat::Json } else { config.log.format };
            start_logging(&LogSection { format, ..config.log })?;
            run_node(settings)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "quorate-node", &mut script);
            let script = String::from_utf8_lossy(&script);
            print(json, script.trim_end(), &json!({"v": 1, "shell": shell.to_string(), "script": script}));
            Ok(())
        }
    }
}

fn print(json: bool, text: &str, object: &Value) {
    use io::Write as _;
    let line = if json { object.to_string() } else { text.to_owned() };
    // A reader that went away is no error of this command.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Sends logs of this process to standard error.
///
/// # Errors
/// [`NodeError::Configuration`] if the level is no filter, or logging was started before.
pub fn start_logging(log: &LogSection) -> Result<(), NodeError> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| {
        NodeError::Configuration(format!("log.level is {:?}, which is no level: {error}", log.level))
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| NodeError::Configuration(format!("logging cannot be started: {error}")))
}

fn run_node(settings: NodeSettings) -> Result<(), NodeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("quorate-io").build().map_err(
        |error| NodeError::Configuration(format!("cannot start threads ({error}); raise the limit on them")),
    )?;
    let result = runtime.block_on(async {
        let unusable = |error: io::Error| NodeError::Configuration(format!("cannot take signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
        let mut node = Node::start(settings).await?;
        tokio::select! {
            _ = node.ended() => {}
            _ = interrupt.recv() => tracing::info!("stopping on SIGINT; once more ends at once"),
            _ = terminate.recv() => tracing::info!("stopping on SIGTERM; once more ends at once"),
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(INTERRUPTED);
        });
        node.stop().await
    });
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}
