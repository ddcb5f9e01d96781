//! A vote leaves only after its record is durable, as the system calls of a real node show it.
//!
//! ```text
//!   the core's thread   pwrite64(log) ─► fdatasync(log) returns ─► "handed to the links" ─► the next turn
//! ```
//!
//! Two views of it, neither of which would do alone. *The order*: the thread that writes the log writes a line of its own
//! just before it hands a vote to the links (`node/src/process/sending.rs`, level trace), so that its system calls in
//! their order say what came first. *The delay*: every sync of a backup whose votes are needed takes long, and a put may
//! not be faster than a sync. The second believes no line of the node, and sees what leaves by
//! whichever way; the first sees a sync that is missing altogether even where others take as long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate_client::Client;

use crate::harness::{Testnet, in_runtime};

/// The replica that is looked at: a backup in the first view.
const TRACED: u64 = 1;
/// How long each of its syncs takes in the second part.
const SYNC: Duration = Duration::from_millis(300);
/// The most that everything else in a put takes, so that no timer runs out meanwhile.
const VIEW_TIMEOUT: &str = "view_timeout_ms=5000";

/// `strace` on a process, detached when dropped.
struct Strace {
    child: Child,
    file: PathBuf,
}

impl Strace {
    /// None, with a word about why, where this machine has no `strace` or does not let it look.
    fn attach(pid: u64, file: &Path, more: &[&str]) -> Option<Strace> {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-tt", "-s", "256", "-p", &pid.to_string(), "-o"]).arg(file);
        command.args(["-e", "trace=pwrite64,fdatasync,fsync,write"]).args(more);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let Ok(mut child) = started else {
            println!("skipped: there is no strace on this machine");
            return None;
        };
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it says whether it is attached");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let strace = Strace { child, file: file.to_owned() };
        if !line.contains("attached") {
            println!("skipped: strace may not look at a process here ({})", line.trim());
            return None;
        }
        Some(strace)
    }

    /// Ends it, and gives what it saw.
    fn end(mut self) -> Vec<Call> {
        self.detach();
        calls(&fs::read_to_string(&self.file).expect("a trace"))
    }

    fn detach(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // SIGTERM makes it let the process go; a SIGKILL would as well, but leave the trace cut off.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.detach();
    }
}

/// A system call that returned, in the order in which calls returned.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    thread: u64,
    name: String,
    /// The file behind its descriptor.
    file: String,
    /// Its line.
    text: String,
}

/// Reads the lines of `strace -f -y`. A call that others interrupted stands in two lines, and counts where it returns.
fn calls(trace: &str) -> Vec<Call> {
    let mut begun: BTreeMap<u64, String> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Ok(thread) = thread.parse() else { continue };
        let Some((_time, text)) = rest.trim_start().split_once(' ') else { continue };
        if let Some(begins) = text.strip_suffix("<unfinished ...>") {
            begun.insert(thread, begins.to_owned());
            continue;
        }
        let text = match (text.strip_prefix("<... "), begun.remove(&thread)) {
            (Some(resumed), Some(begins)) => {
                format!("{begins}{}", resumed.split_once("resumed>").map_or("", |(_, ends)| ends))
            }
            _ => text.to_owned(),
        };
        let (name, arguments) = text.split_once('(').unwrap_or((&text, ""));
        let file = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(file, _)| file);
        // A call that was interrupted to be begun anew did nothing yet.
        if !text.contains("ERESTART") {
            calls.push(Call { thread, name: name.to_owned(), file: file.to_owned(), text: text.clone() });
        }
    }
    calls
}

/// What the thread that votes did about one vote.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    prepares: usize,
    commits: usize,
    /// Votes that left while something was written and not synced.
    early: Vec<String>,
    /// Votes never said before that left without anything synced since those of an earlier turn: without a record.
    bare: Vec<String>,
}

/// Which vote a line is about, whether it stands in a log or, quoted, in a trace.
fn vote_of(line: &str) -> String {
    let from = line.find("handed to the links").expect("a line about a vote");
    let line = line[from..].split("\\n").next().unwrap_or_default().trim_end();
    line.replace(['\\', '"'], "")
}

/// The votes that a node's log shows before the first that `calls` show: what is said again has its record already.
fn said_before(log: &str, calls: &[Call]) -> BTreeSet<String> {
    let first = calls.iter().find(|call| is_vote(call)).expect("votes were traced");
    // What is written begins with its time.
    let time = first.text.split('"').nth(1).and_then(|line| line.split(' ').next()).expect("a time");
    assert!(log.lines().any(|line| line.starts_with(time)), "the log has the vote that the trace has: {time}");
    let before = log.lines().take_while(|line| !line.starts_with(time));
    before.filter(|line| line.contains("handed to the links")).map(vote_of).collect()
}

/// Whether a call writes the line about a vote.
fn is_vote(call: &Call) -> bool {
    call.name == "write" && call.text.contains("handed to the links")
}

/// Goes through the calls of the thread that hands votes on. `said` are the votes it handed on before.
fn judge(calls: &[Call], mut said: BTreeSet<String>) -> Seen {
    let voters: BTreeSet<u64> = calls.iter().filter(|call| is_vote(call)).map(|call| call.thread).collect();
    assert_eq!(voters.len(), 1, "one thread votes: {voters:?}");
    let mut seen = Seen::default();
    let mut unsynced: BTreeSet<&str> = BTreeSet::new();
    // Frames made durable so far, and how many there were when the last new vote left: in this turn, and in those before.
    let (mut durable, mut this_turn, mut before) = (0, 0, 0);
    for call in calls.iter().filter(|call| voters.contains(&call.thread)) {
        match call.name.as_str() {
            "pwrite64" => {
                unsynced.insert(&call.file);
            }
            "fdatasync" | "fsync" if call.text.ends_with("= 0") || call.text.ends_with("(DELAYED)") => {
                durable += usize::from(unsynced.remove(call.file.as_str()));
            }
            "write" if is_vote(call) => {
                *if call.text.contains("PREPARE") { &mut seen.prepares } else { &mut seen.commits } += 1;
                let is_new = said.insert(vote_of(&call.text));
                if !unsynced.is_empty() {
                    seen.early.push(call.text.clone());
                } else if is_new && durable == before {
                    seen.bare.push(call.text.clone());
                }
                this_turn = if is_new { durable } else { this_turn };
            }
            // One frame holds the records of all that leaves in a turn.
            "write" if call.text.contains("a turn publishes") => before = this_turn,
            _ => {}
        }
    }
    seen
}

/// How long each of `count` puts took, one after the other.
fn puts(testnet: &Testnet, count: usize) -> Vec<Duration> {
    let cluster = testnet.cluster();
    in_runtime(async {
        let client = Client::connect(cluster).await.expect("connected");
        let mut took = Vec::new();
        for number in 0..count {
            let began = Instant::now();
            client.put("durable", number.to_string()).await.expect("a put succeeds");
            took.push(began.elapsed());
        }
        took
    })
}

#[test]
fn no_vote_leaves_before_its_record_is_durable() {
    let testnet = Testnet::new();
    testnet.up(&["--parameter", VIEW_TIMEOUT]).well();
    testnet.testnet(&["down"]).well();
    let config = testnet.directory().join(format!("node{TRACED}/node.toml"));
    let text = fs::read_to_string(&config).expect("a configuration");
    let traced = text.replace("level = \"info\"", "level = \"info,quorate_node::process::sending=trace\"");
    assert_ne!(text, traced, "its level is set: {text}");
    fs::write(&config, traced).expect("written");
    testnet.up(&[]).well();
    // The log prepares itself for what is to come in its first turns, by syncs of its own.
    puts(&testnet, 200);
    let pid = testnet.replicas()[TRACED as usize]["pid"].as_u64().expect("it runs");

    let trace = testnet.place().join("order");
    let Some(strace) = Strace::attach(pid, &trace, &[]) else { return };
    puts(&testnet, 20);
    let log = testnet.directory().join(format!("node{TRACED}/node.log"));
    let judged = |calls: &[Call]| judge(calls, said_before(&fs::read_to_string(&log).expect("a log"), calls));
    let seen = judged(&strace.end());
    // A slot that the other three have committed already needs no vote of one that strace slows down.
    assert!(seen.prepares >= 5 && seen.commits >= 5, "twenty puts: {seen:?}");
    assert!(seen.early.is_empty() && seen.bare.is_empty(), "votes left before their records were durable: {seen:#?}");

    // Three of four are a quorum: from now on no put is acknowledged without its PREPARE and its COMMIT.
    testnet.testnet(&["kill", "3"]).well();
    let delay = format!("inject=fdatasync,fsync:delay_enter={}", SYNC.as_micros());
    let trace = testnet.place().join("delay");
    let Some(strace) = Strace::attach(pid, &trace, &["-e", &delay]) else { return };
    let took = puts(&testnet, 3);
    let calls = strace.end();
    // Once at least: a turn that finds the others' PREPAREs waiting writes both of its records in one frame.
    assert!(took.iter().all(|took| *took >= SYNC), "a vote did not wait for its sync: {took:?}");
    let seen = judged(&calls);
    assert!(seen.prepares >= 3 && seen.commits >= 3 && seen.early.is_empty() && seen.bare.is_empty(), "{seen:#?}");
    assert_eq!(testnet.primary(), 0, "no timer ran out");
}

#[test]
fn a_trace_with_a_vote_before_its_sync_is_told_from_a_good_one() {
    let write = "7 10:00:00.1 pwrite64(9</n/data/log/log-0>, \"x\", 1, 0) = 1\n";
    let sync = "7 10:00:00.2 fdatasync(9</n/data/log/log-0>) = 0\n";
    let line = |number: u64| {
        format!("2026-01-01T10:00:00.{number}Z TRACE handed to the links vote=\"PREPARE\" says=Prepare({number})\n")
    };
    let traced = |number: u64| {
        let quoted = line(number).replace('"', "\\\"").replace('\n', "\\n");
        format!("7 10:00:00.3 write(2</n/node.log>, \"{quoted}\", 99) = 99\n")
    };
    let (vote, next) = (&*traced(1), &*traced(2));
    let early = |lines: &[&str]| {
        let seen = judge(&calls(&lines.concat()), BTreeSet::new());
        seen.early.len() + seen.bare.len()
    };
    let turn = "7 10:00:00.3 write(2</n/node.log>, \"TRACE a turn publishes messages=2\\n\", 40) = 40\n";
    assert_eq!(early(&[write, sync, turn, vote]), 0);
    assert_eq!(early(&[write, sync, turn, vote, next]), 0, "one frame for two votes");
    assert_eq!(early(&[write, sync, turn, vote, write, sync, turn, next]), 0);
    assert_eq!(early(&[write, vote, sync]), 1, "sent before its sync");
    assert_eq!(early(&[write, vote]), 1, "no sync at all");
    assert_eq!(early(&[write, sync, turn, vote, turn, next]), 1, "the second has no record of its own");
    assert_eq!(early(&[write, sync, vote, vote]), 0, "the same said again needs none");
    assert_eq!(early(&[write, sync, vote, write, vote]), 1, "yet nothing leaves between a record and its sync");
    assert_eq!(early(&[vote]), 1, "no record at all");
    let trace = calls(vote);
    assert_eq!(said_before(&[line(0), line(1), line(2)].concat(), &trace), BTreeSet::from([vote_of(&line(0))]));
    assert_eq!(judge(&trace, BTreeSet::from([vote_of(&line(1))])).bare.len(), 0, "said before it was looked at");
    assert_eq!(judge(&trace, BTreeSet::from([vote_of(&line(0))])).bare.len(), 1);
    let failed = "7 10:00:00.2 fdatasync(9</n/data/log/log-0>) = -1 EIO (Input/output error)\n";
    assert_eq!(early(&[write, failed, vote]), 1);
    // Another thread comes between a call and its return.
    let begins = "7 10:00:00.2 fdatasync(9</n/data/log/log-0> <unfinished ...>\n";
    let other = "8 10:00:00.2 fdatasync(3</n/data/snapshots/a>) = 0\n";
    let returns = "7 10:00:00.4 <... fdatasync resumed>) = 0\n";
    assert_eq!(early(&[write, begins, other, returns, vote]), 0);
    assert_eq!(early(&[write, other, vote]), 1, "the sync of another file");
}
