//! Turning a replica while it runs: a Unix socket in its directory, one JSON line each way.
//!
//! ```json
//! {"v":1}                                                                       what is on?
//! {"v":1,"set":[{"behaviour":"equivocate","when":"primary"}],"for_ms":20000}    from now on do this, for so long
//! {"v":1,"set":[]}                                                              be honest again
//!
//! {"v":1,"on":[{"behaviour":"equivocate","when":"primary"}],"acted":{"equivocate":12}}
//! {"v":1,"error":"there is no behaviour \"equivcate\"; .."}
//! ```
//!
//! The directory has mode 0700, so only the user who started the testnet reaches it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::faults::{Misbehaviour, MisbehaviourError, Switch};

const VERSION: u32 = 1;
/// A line longer than this many bytes is refused.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// A socket's path may have so many bytes (`sun_path` has 108).
const SOCKET_PATH_MAX: usize = 100;

/// A behaviour and when it acts, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turned {
    /// Its name in the catalogue.
    pub behaviour: String,
    /// `always`, `primary`, a percentage such as `25%`, `view:3-9` or `seq:100-200`.
    pub when: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set: Option<Vec<Turned>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    for_ms: Option<u64>,
}

/// What a replica does wrong, by its own word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// What is on.
    pub on: Vec<Turned>,
    /// How often each behaviour acted since the process began.
    pub acted: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    conduct: Conduct,
}

impl Turned {
    /// The name, and `:when` if it is not always.
    pub fn to_text(&self) -> String {
        if self.when == "always" { self.behaviour.clone() } else { format!("{}:{}", self.behaviour, self.when) }
    }

    /// Reads `equivocate`, `equivocate:primary`, `silent:25%` or `vote-many:view:2-4`.
    ///
    /// # Errors
    /// One sentence.
    pub fn parse(text: &str) -> Result<Turned, String> {
        let (behaviour, when) = text.split_once(':').unwrap_or((text, "always"));
        let turned = Turned { behaviour: behaviour.to_owned(), when: when.to_owned() };
        turned.to_misbehaviour()?;
        Ok(turned)
    }

    fn to_misbehaviour(&self) -> Result<Misbehaviour, String> {
        let text = format!("{}:{}", self.behaviour, self.when);
        text.parse().map_err(|error: MisbehaviourError| error.to_string())
    }

    /// As it travels.
    pub fn from_misbehaviour(misbehaviour: &Misbehaviour) -> Turned {
        Turned { behaviour: misbehaviour.behaviour.name().to_owned(), when: misbehaviour.when.to_string() }
    }
}

impl Conduct {
    /// Whether nothing is on.
    pub fn is_honest(&self) -> bool {
        self.on.is_empty()
    }

    /// `honest`, or the names of what is on.
    pub fn label(&self) -> String {
        if self.on.is_empty() {
            return "honest".to_owned();
        }
        self.on.iter().map(|turned| turned.behaviour.as_str()).collect::<Vec<_>>().join("+")
    }

    /// How often all together acted.
    pub fn acts(&self) -> u64 {
        self.acted.values().sum()
    }
}

/// Misbehaviours from the arguments of a replica's process.
///
/// # Errors
/// One sentence about the first that is none.
pub fn misbehaviours(texts: &[String]) -> Result<Vec<Misbehaviour>, String> {
    texts.iter().map(|text| Turned::parse(text)?.to_misbehaviour()).collect()
}

/// A path to a socket that the system takes, however long the way there is; the file keeps the directory open.
fn reachable(socket: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if socket.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((socket.to_owned(), None));
    }
    let name = socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = File::open(socket.parent().unwrap_or_else(|| Path::new(".")))?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name), Some(directory)))
}

/// The listening end, held by a replica's process.
pub struct Server {
    listener: UnixListener,
    switch: Switch,
    /// Grows with every change, so that the end of an earlier one ends nothing else.
    changes: Arc<AtomicU64>,
}

impl Server {
    /// Listens at `socket`, in place of what an earlier process left there. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub fn bind(socket: &Path, switch: Switch) -> io::Result<Server> {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (path, _directory) = reachable(socket)?;
        Ok(Server { listener: UnixListener::bind(path)?, switch, changes: Arc::default() })
    }

    /// Answers until the process ends.
    pub async fn run(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (switch, changes) = (self.switch.clone(), Arc::clone(&self.changes));
                    tokio::spawn(async move {
                        if let Err(error) = serve(stream, &switch, &changes).await {
                            tracing::debug!(%error, "a control connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a control connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(stream: UnixStream, switch: &Switch, changes: &Arc<AtomicU64>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let error = take(&line, switch, changes).err();
    let conduct = Conduct {
        on: switch.on().iter().map(Turned::from_misbehaviour).collect(),
        acted: switch.acted().into_iter().map(|(behaviour, count)| (behaviour.name().to_owned(), count)).collect(),
    };
    let mut answer = serde_json::to_vec(&Answer { v: VERSION, error, conduct })?;
    answer.push(b'\n');
    writer.write_all(&answer).await
}

/// Does what a question asks.
fn take(line: &str, switch: &Switch, changes: &Arc<AtomicU64>) -> Result<(), String> {
    let question: Question = serde_json::from_str(line).map_err(|error| format!("not a question: {error}"))?;
    if question.v != VERSION {
        return Err(format!("the question has version {}, this replica knows {VERSION}", question.v));
    }
    let Some(set) = question.set else { return Ok(()) };
    let on = set.iter().map(Turned::to_misbehaviour).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = on.iter().map(|misbehaviour| misbehaviour.behaviour.name()).collect();
    tracing::warn!(behaviours = ?names, for_ms = question.for_ms, "turned by the testnet");
    switch.set(on);
    let change = changes.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(for_ms) = question.for_ms {
        let (switch, changes) = (switch.clone(), Arc::clone(changes));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            if changes.load(Ordering::SeqCst) == change {
                tracing::warn!("honest again");
                switch.set(Vec::new());
            }
        });
    }
    Ok(())
}

/// What the replica behind `socket` does wrong.
///
/// # Errors
/// One sentence.
pub async fn ask(socket: &Path) -> Result<Conduct, String> {
    exchange(socket, &Question { v: VERSION, set: None, for_ms: None }).await
}

/// Turns the replica behind `socket`. An empty list makes it honest.
///
/// # Errors
/// One sentence.
pub async fn turn(socket: &Path, set: Vec<Turned>, time: Option<Duration>) -> Result<Conduct, String> {
    let for_ms = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    exchange(socket, &Question { v: VERSION, set: Some(set), for_ms }).await
}

async fn exchange(socket: &Path, question: &Question) -> Result<Conduct, String> {
    let talk = async {
        let (path, _directory) = reachable(socket)?;
        let (reader, mut writer) = UnixStream::connect(path).await?.into_split();
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        writer.write_all(&line).await?;
        let mut answer = String::new();
        BufReader::new(reader.take(LINE_BYTES_MAX)).read_line(&mut answer).await?;
        io::Result::Ok(serde_json::from_str::<Answer>(&answer)?)
    };
    let answer = match tokio::time::timeout(PATIENCE, talk).await {
        Ok(answer) => answer.map_err(|error| format!("does not answer on its control socket ({error})"))?,
        Err(_) => return Err("does not answer on its control socket in time".to_owned()),
    };
    match answer.error {
        Some(error) => Err(format!("refuses: {error}")),
        None => Ok(answer.conduct),
    }
}

#[cfg(test)]
mod tests;
