//! A client that attacks: `quorate-testnet attack` in a process of its own, so that its processor time can be capped
//! and told from that of the load.

use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use serde::Deserialize;
use tokio::process::Command;
use tokio::task::{AbortHandle, JoinSet};

use crate::drill::DrillError;
use crate::faults::client::ClientBehaviour;
use crate::launcher::{Directory, LaunchError};

/// How long registering its key and taking leave may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running one. Dropping it ends its process.
pub(super) struct Attacker {
    running: JoinSet<std::io::Result<Output>>,
    task: AbortHandle,
    pid: Option<Pid>,
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
        rate: u32,
        cpu_percent: u8,
        time: Duration,
    ) -> Result<Attacker, DrillError> {
        let program = std::env::current_exe().map_err(|error| system("finding this program", error))?;
        let mut command = Command::new(program);
        command.args(["attack", behaviour.name(), "--json", "--dir"]).arg(directory.root());
        command.args(["--for", &format!("{}ms", time.as_millis())]);
        command.args(["--rate", &rate.to_string(), "--cpu", &cpu_percent.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| system("running the attacking client", error))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let mut running = JoinSet::new();
        let task = running.spawn(async move { child.wait_with_output().await });
        Ok(Attacker { running, task, pid, most: time + PATIENCE })
    }

    /// Lets it rest, or go on. It is told from outside, so that it rests from one moment to the next.
    pub(super) fn rest(&self, rests: bool) -> Result<(), DrillError> {
        let signal = if rests { Signal::STOP } else { Signal::CONT };
        // It is waited for by the task that runs it: until that has ended its number is its own. Why it ended early is told by
        // `end`.
        let Some(pid) = self.pid.filter(|_| !self.task.is_finished()) else { return Ok(()) };
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(system("stopping the attacking client", error.into())),
        }
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
