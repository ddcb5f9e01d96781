//! The processes of a testnet: spawning them, finding them again from any terminal, sending them signals.
//!
//! A pid file alone proves nothing, since numbers are used again: a process is a replica of this testnet if its own
//! arguments say so.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use quorate_crypto::ReplicaId;
use rustix::process::{Pid, Signal, kill_process};

use super::directory::Directory;
use super::failure::LaunchError;

/// The hidden subcommand that a replica's process runs.
pub const SUBCOMMAND: &str = "replica";
/// How long a replica may take to end after it was asked to.
pub const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How often to look.
const POLL: Duration = Duration::from_millis(5);
/// Bytes from the end of a log in which its last line is looked for.
const LAST_LINE_BYTES: u64 = 4096;

/// What the operating system says about a replica's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    Down,
    /// It runs.
    Running(u32),
    /// It was stopped by a signal and does nothing until it is continued.
    Paused(u32),
}

impl Condition {
    /// The number of the process.
    pub const fn pid(self) -> Option<u32> {
        match self {
            Condition::Down => None,
            Condition::Running(pid) | Condition::Paused(pid) => Some(pid),
        }
    }
}

/// A process that was just started.
#[derive(Debug)]
pub struct Spawned {
    /// Which replica.
    pub id: ReplicaId,
    /// The process, for its exit status.
    pub child: Child,
    log: PathBuf,
    log_began: u64,
}

/// What the operating system says about replica `id`.
pub fn condition(directory: &Directory, id: ReplicaId) -> Condition {
    let Some(pid) = fs::read_to_string(directory.pid(id)).ok().and_then(|text| text.trim().parse::<u32>().ok()) else {
        return Condition::Down;
    };
    let Ok(root) = directory.canonical() else { return Condition::Down };
    let proc = PathBuf::from(format!("/proc/{pid}"));
    // A process that ended and was not yet waited for has no arguments.
    let Ok(arguments) = fs::read(proc.join("cmdline")) else { return Condition::Down };
    if !is_replica(&arguments, &root, id) {
        return Condition::Down;
    }
    match fs::read_to_string(proc.join("stat")).ok().as_deref().and_then(state) {
        None | Some('Z' | 'X') => Condition::Down,
        Some('T' | 't') => Condition::Paused(pid),
        Some(_) => Condition::Running(pid),
    }
}

/// Whether these are the arguments of replica `id` of the testnet in `root`.
fn is_replica(arguments: &[u8], root: &Path, id: ReplicaId) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let id = id.0.to_string();
    let wanted: [&[u8]; 5] = [SUBCOMMAND.as_bytes(), b"--dir", root.as_os_str().as_bytes(), b"--id", id.as_bytes()];
    let mut given = arguments.split(|byte| *byte == 0).skip(1);
    wanted.iter().all(|wanted| given.next() == Some(wanted))
}

/// The state of a process: the field after its name, which stands in parentheses and may contain anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Starts replica `id` of `directory` with the given misbehaviours, in a process group of its own, so that Ctrl-C
/// reaches the launcher alone.
///
/// # Errors
/// The system refuses.
pub fn spawn(directory: &Directory, id: ReplicaId, behaviours: &[String]) -> Result<Spawned, LaunchError> {
    let system = |what: &str, error: io::Error| LaunchError::System {
        what: format!("{what} for replica {id}"),
        error,
        advice: "check the limits on processes and open files",
    };
    let program = std::env::current_exe().map_err(|error| system("finding this program", error))?;
    let root = directory.canonical()?;
    let log = directory.log(id);
    let file = File::options().create(true).append(true).open(&log).map_err(|error| LaunchError::file(&log, &error))?;
    let log_began = file.metadata().map_or(0, |metadata| metadata.len());
    let errors = file.try_clone().map_err(|error| LaunchError::file(&log, &error))?;
    let mut command = Command::new(program);
    command.arg0("quorate-testnet").arg(SUBCOMMAND).arg("--dir").arg(root).arg("--id").arg(id.0.to_string());
    for behaviour in behaviours {
        command.arg("--behaviour").arg(behaviour);
    }
    command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
    let mut child = command.spawn().map_err(|error| system("starting a process", error))?;
    wait_for_arguments(&mut child);
    super::creation::write(&directory.pid(id), &format!("{}\n", child.id()))?;
    Ok(Spawned { id, child, log, log_began })
}

/// Waits until a process has its arguments, which [`condition`] knows it by: it is started a moment before.
fn wait_for_arguments(child: &mut Child) {
    let arguments = PathBuf::from(format!("/proc/{}/cmdline", child.id()));
    let has_none = || fs::read(&arguments).is_ok_and(|arguments| arguments.is_empty());
    while has_none() && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Spawned {
    /// Why it ended, if it has.
    pub fn death(&mut self) -> Option<LaunchError> {
        let status = self.child.try_wait().ok()??;
        let last = self.last_line().unwrap_or_else(|| "it wrote nothing".to_owned());
        Some(LaunchError::Died { replica: self.id, ending: ending(status), last, log: self.log.clone() })
    }

    /// The last line this process wrote to its log.
    fn last_line(&self) -> Option<String> {
        let mut file = File::open(&self.log).ok()?;
        let length = file.metadata().ok()?.len();
        let from = self.log_began.max(length.saturating_sub(LAST_LINE_BYTES));
        file.seek(SeekFrom::Start(from)).ok()?;
        let mut bytes = Vec::new();
        file.take(LAST_LINE_BYTES).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.strip_prefix("error: ").unwrap_or(line).to_owned())
    }
}

/// `exit code 2`, `signal 9`.
fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// Sends a signal to a replica's process.
///
/// # Errors
/// The system refuses; a process that is gone is no error.
pub fn signal(id: ReplicaId, pid: u32, signal: Signal) -> Result<(), LaunchError> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(LaunchError::System {
            what: format!("sending a signal to replica {id}"),
            error: error.into(),
            advice: "run this as the user who started it",
        }),
    }
}

/// Makes processes end that this one started, and waits until they have.
///
/// # Errors
/// The system refuses.
pub fn end(directory: &Directory, spawned: Vec<Spawned>) -> Result<(), LaunchError> {
    for Spawned { id, mut child, .. } in spawned {
        child.kill().and_then(|()| child.wait()).map_err(|error| LaunchError::System {
            what: format!("ending replica {id}"),
            error,
            advice: "end it with `quorate-testnet kill`",
        })?;
        forget(directory, id);
    }
    Ok(())
}

/// Removes what says where the process of a replica that ended is found.
fn forget(directory: &Directory, id: ReplicaId) {
    // Whether it is there says nothing any more.
    let _ = fs::remove_file(directory.pid(id));
    let _ = fs::remove_file(directory.control(id));
}

/// Asks replicas to end, or with `at_once` makes them, and waits until they have. Those that do not end in
/// [`STOP_PATIENCE`] are made to. `hurry` is asked often whether to lose patience now. Returns those that ran.
///
/// # Errors
/// The system refuses, or a process survives everything.
pub fn stop(
    directory: &Directory,
    ids: &[ReplicaId],
    at_once: bool,
    mut hurry: impl FnMut() -> bool,
) -> Result<Vec<ReplicaId>, LaunchError> {
    let running: Vec<(ReplicaId, u32)> =
        ids.iter().filter_map(|id| condition(directory, *id).pid().map(|pid| (*id, pid))).collect();
    let mut killing = at_once;
    for (id, pid) in &running {
        signal(*id, *pid, if killing { Signal::KILL } else { Signal::TERM })?;
        // A paused process hears it only when it goes on.
        signal(*id, *pid, Signal::CONT)?;
    }
    let mut began = Instant::now();
    while let Some((id, pid)) = running.iter().find(|(id, pid)| condition(directory, *id).pid() == Some(*pid)) {
        if !killing && (hurry() || began.elapsed() > STOP_PATIENCE) {
            killing = true;
            began = Instant::now();
            for (id, pid) in &running {
                if condition(directory, *id).pid() == Some(*pid) {
                    signal(*id, *pid, Signal::KILL)?;
                }
            }
        }
        if killing && began.elapsed() > STOP_PATIENCE {
            return Err(LaunchError::Replica {
                replica: *id,
                problem: format!("(process {pid}) does not end; look at what it waits for with `ps -l -p {pid}`"),
            });
        }
        std::thread::sleep(POLL);
    }
    for (id, _) in &running {
        forget(directory, *id);
    }
    Ok(running.into_iter().map(|(id, _)| id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_known_by_its_arguments() {
        let root = Path::new("/srv/testnet");
        let arguments = b"quorate-testnet\0replica\0--dir\0/srv/testnet\0--id\x002\0--behaviour\0silent\0";
        assert!(is_replica(arguments, root, ReplicaId(2)));
        assert!(!is_replica(arguments, root, ReplicaId(1)));
        assert!(!is_replica(arguments, Path::new("/srv/other"), ReplicaId(2)));
        assert!(!is_replica(b"vi\0replica\0/srv/testnet\0", root, ReplicaId(2)));
        assert!(!is_replica(b"", root, ReplicaId(2)));
    }

    #[test]
    fn a_pid_file_that_names_another_process_is_stale() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = Directory::new(place.path());
        let id = ReplicaId(0);
        fs::create_dir(directory.node(id)).expect("made");
        assert_eq!(condition(&directory, id), Condition::Down);
        for contents in [std::process::id().to_string(), "4194305".to_owned(), "none".to_owned(), String::new()] {
            fs::write(directory.pid(id), contents).expect("written");
            assert_eq!(condition(&directory, id), Condition::Down);
        }
        assert_eq!(stop(&directory, &[id], true, || false).expect("nothing to do"), []);
    }

    #[test]
    fn the_state_stands_behind_the_name_whatever_that_is() {
        assert_eq!(state("12 (quorate-testne) S 1 12"), Some('S'));
        assert_eq!(state("12 (a) T (b) R 1 12"), Some('R'));
        assert_eq!(state("nonsense"), None);
    }
}
