//! A client that attacks: `quorate-testnet attack` in a process of its own, so that its processor time can be capped
//! and told from that of the load.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::Gauntlet;
use crate::drill::DrillError;
use crate::faults::client::ClientBehaviour;
use crate::launcher::{Directory, LaunchError};

/// How long registering its key and taking leave may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running one. Dropping it ends its process.
pub(super) struct Attacker {
    running: JoinSet<std::io::Result<Output>>,
    most: Duration,
}

/// What it said in the end, as far as it is used.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    pub(super) acted: u64,
    pub(super) skipped: u64,
    pub(super) cpu_seconds: f64,
    pub(super) seconds: f64,
}

impl Attacker {
    pub(super) fn start(
        directory: &Directory,
        behaviour: ClientBehaviour,
        gauntlet: &Gauntlet,
        time: Duration,
    ) -> Result<Attacker, DrillError> {
        let program = std::env::current_exe().map_err(|error| system("finding this program", error))?;
        let mut command = Command::new(program);
        command.args(["attack", behaviour.name(), "--json", "--dir"]).arg(directory.root());
        command.args(["--for", &format!("{}ms", time.as_millis())]);
        command.args(["--rate", &gauntlet.rate.to_string(), "--cpu", &gauntlet.cpu_percent.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut running = JoinSet::new();
        running.spawn(async move { command.output().await });
        Ok(Attacker { running, most: time + PATIENCE })
    }

    /// Waits for its end.
    pub(super) async fn end(mut self) -> Result<Said, DrillError> {
        let ended = tokio::time::timeout(self.most, self.running.join_next()).await;
        let Ok(Some(Ok(output))) = ended else {
            return Err(DrillError::Stalled("the attacking client did not end".to_owned()));
        };
        let output = output.map_err(|error| system("running the attacking client", error))?;
        let unreadable = || {
            let said = String::from_utf8_lossy(&output.stderr);
            DrillError::Stalled(format!("the attacking client failed: {}", said.trim()))
        };
        if !output.status.success() {
            return Err(unreadable());
        }
        serde_json::from_slice(&output.stdout).map_err(|_| unreadable())
    }
}

fn system(what: &str, error: std::io::Error) -> DrillError {
    LaunchError::System { what: what.to_owned(), error, advice: "check the limits on processes and open files" }.into()
}
