//! One behaviour on one fresh testnet.

use std::time::{Duration, Instant};

use quorate_client::Client;
use quorate_crypto::ReplicaId;
use rustix::process::Signal;

use super::Gauntlet;
use super::attacker::Attacker;
use super::pulses::{Load, Pulses};
use super::row::{Pulse, Row};
use super::subject::{Occasion, Subject};
use crate::bench::meter;
use crate::drill::endurance::{entries, resident_bytes};
use crate::drill::judgement::{self, Accusation, Agreement};
use crate::drill::reader::Reader;
use crate::drill::site::{Place, Site};
use crate::drill::watcher::Watcher;
use crate::drill::writers::Writers;
use crate::drill::{DrillError, Tell};
use crate::faults::Misbehaviour;
use crate::launcher::control;
use crate::launcher::operations::NodeStatus;

/// How long the load runs before anything is measured, and how long an attack does.
const SETTLE: Duration = Duration::from_secs(1);
/// How long anything may take that has to happen afterwards.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// When the occasion begins, in tenths of the time, and when a frozen backup goes on.
const OCCASION_TENTHS: u32 = 2;
const BACKUP_GOES_ON_TENTHS: u32 = 5;
/// A primary that is frozen or killed goes on after so many view timeouts: it has been given up by then.
const GIVEN_UP_TIMEOUTS: u32 = 2;
/// The longest gap that a client may see, in view timeouts.
const GAP_TIMEOUTS: u32 = 4;
/// The backup that is frozen.
const FROZEN_BACKUP: ReplicaId = ReplicaId(3);
const MIB: f64 = 1024.0 * 1024.0;

/// Something that happens to a process at some time of the trial.
#[derive(Clone, Copy, Debug)]
enum Event {
    Freeze(ReplicaId),
    GoOn(ReplicaId),
    Kill(ReplicaId),
    Start(ReplicaId),
}

/// Runs `subject` on a testnet that is called `part` if it is kept. What goes wrong stands in the row.
///
/// # Errors
/// Only those that no other behaviour would get around: the testnet's place cannot be used.
pub(super) async fn run(
    gauntlet: &Gauntlet,
    subject: Subject,
    part: &str,
    place: &Place,
    tell: &mut Tell<'_>,
) -> Result<Row, DrillError> {
    let mut row = Row::of(gauntlet, subject);
    tell("starting a testnet".to_owned());
    let mut site = place.start(Some(part), gauntlet.common.replicas, |_| Vec::new()).await?;
    if let Err(error) = measure(gauntlet, subject, &mut site, &mut row, tell).await {
        row.failure = Some(error.to_string());
    }
    row.panics = site.description.ids().map(|id| panics(&site, id)).sum();
    Ok(row)
}

async fn measure(
    gauntlet: &Gauntlet,
    subject: Subject,
    site: &mut Site,
    row: &mut Row,
    tell: &mut Tell<'_>,
) -> Result<(), DrillError> {
    let size = gauntlet.common.value_size;
    let view_timeout = Duration::from_millis(site.genesis.parameters().view_timeout_ms);
    row.gap_bar_ms = millis(GAP_TIMEOUTS * view_timeout);
    let honest: Vec<ReplicaId> = site.description.ids().filter(|id| Some(*id) != subject.liar()).collect();
    let observer = Client::connect(site.cluster(PATIENCE)?).await?;
    let watcher = Watcher::start(&observer, size).await?;
    let mut writers = Writers::start(site, &gauntlet.writing(), size, None, tell).await?;
    let reader = Reader::start(&observer, writers.ledger.clone(), size);
    tell("the load settles".to_owned());
    tokio::time::sleep(SETTLE).await;

    (row.descriptors[0], row.threads[0]) = held(site, &honest);
    let mut attacker = begin(gauntlet, subject, site).await?;
    let before = site.statuses().await;
    let (from, puts, busy) = (Instant::now(), writers.ledger.puts(), busy());
    let mut events = events(subject, gauntlet.time, view_timeout);
    let time = attacker.as_ref().map_or(gauntlet.time, |_| Pulses::time(gauntlet.time));
    let mut pulses = Pulses::new(gauntlet.time);
    while from.elapsed() < time {
        let passed = from.elapsed();
        tell(format!("{} of {} s", passed.as_secs(), time.as_secs_f64().ceil()));
        if let Some(attacker) = &mut attacker {
            pulses.tend(passed, attacker, || load(subject, site, &writers)).await?;
        }
        if let Some((_, event)) = events.pop_if(|(at, _)| *at <= passed) {
            happen(event, subject, site).await?;
        }
        // A state grows with what is written: what takes longer than a fault-free run is compared as far as that goes.
        if passed < gauntlet.time {
            let resident = honest.iter().filter_map(|id| site.pid(*id)).map(resident_bytes).fold(0.0, f64::max);
            row.resident_mib = row.resident_mib.max((resident / MIB * 10.0).round() / 10.0);
        }
        let next = events.last().map_or(time, |(at, _)| *at).min(time);
        tokio::time::sleep(SAMPLE_EVERY.min(next.saturating_sub(from.elapsed()))).await;
    }
    if let Some(attacker) = &attacker {
        row.pulses = pulses.end(load(subject, site, &writers).await);
        attacker.rest(false)?;
    }
    let until = Instant::now();
    row.ops_per_s = ((writers.ledger.puts() - puts) as f64 / (until - from).as_secs_f64()).round();
    row.longest_gap_ms = writers.ledger.longest_gap(from, until).map(millis);
    let after = site.statuses().await;
    row.view_changes = meter::view_changes(&before, &after);
    let busy = busy_since(busy, until - from);
    cores(row, &before, &after, until - from);
    tell("the last answers".to_owned());
    writers.stop().await;
    let read = reader.stop().await?;
    (row.reads, row.wrong_reads) = (read.answers, read.wrong);
    row.errors = read.errors + writers.ledger.errors().values().sum::<u64>();
    row.notes.extend(read.examples);
    if let Some(attacker) = attacker {
        let said = attacker.end().await?;
        row.acted = said.acted;
        row.attacker_cores = Some(thousandths(said.cpu_seconds / said.seconds));
        if said.skipped > 0 {
            row.notes.push(format!("{} times the attacker had no processor time left", said.skipped));
        }
    }
    let replicas = row.honest_cores.unwrap_or(0.0) * honest.len() as f64 + row.attacker_cores.unwrap_or(0.0);
    row.foreign_cores = busy.map(|others| thousandths((others - replicas).max(0.0)));
    if let Some(attacks) = Pulse::attacks(&row.pulses) {
        (row.ops_per_s, row.honest_cores) = (attacks.ops_per_s, Some(attacks.honest_cores));
    }
    let watched = watcher.finish(&writers.ledger.acknowledged(), PATIENCE).await?;
    (row.events, row.wrong_events, row.missing_events) = (watched.events, watched.wrong, watched.missing);
    row.notes.extend(watched.examples);
    let agreement = judgement::agree(site, subject.liar(), &observer, PATIENCE, tell).await?;
    (row.agreed, row.checkpoint) = match agreement {
        Agreement::Agreed(seq) => (true, format!("equal at {seq}")),
        Agreement::Contradicted(seq) => (false, format!("different at {seq}")),
        Agreement::Apart => (false, "at different numbers".to_owned()),
    };
    judge_evidence(subject, site, row).await?;
    let read_back = writers.read_back(tell).await?;
    (row.writes, row.lost_writes, row.wrong_writes) = (read_back.read, read_back.lost, read_back.wrong);
    row.notes.extend(writers.notes(&read_back));
    (row.descriptors[1], row.threads[1]) = held(site, &honest);
    site.check_alive()
}

/// Lets the liar lie, or the attacker begin.
async fn begin(gauntlet: &Gauntlet, subject: Subject, site: &Site) -> Result<Option<Attacker>, DrillError> {
    match subject {
        Subject::FaultFree => Ok(None),
        Subject::Replica(behaviour) => {
            let liar = subject.liar().unwrap_or_default();
            site.turn(liar, &[Misbehaviour::always(behaviour)]).await?;
            Ok(None)
        }
        Subject::Client(behaviour) => {
            let percent = Pulses::share_of(gauntlet.cpu_percent);
            let attacker = Attacker::start(
                &site.directory,
                behaviour,
                gauntlet.rate,
                percent,
                Pulses::time(gauntlet.time) + SETTLE,
            )?;
            // Its key is registered first.
            tokio::time::sleep(SETTLE).await;
            Ok(Some(attacker))
        }
    }
}

/// What happens when, the last first.
fn events(subject: Subject, time: Duration, view_timeout: Duration) -> Vec<(Duration, Event)> {
    let begins = time * OCCASION_TENTHS / 10;
    let primary = ReplicaId(0);
    match subject.occasion() {
        Occasion::None => Vec::new(),
        Occasion::FrozenPrimary => {
            vec![(begins + GIVEN_UP_TIMEOUTS * view_timeout, Event::GoOn(primary)), (begins, Event::Freeze(primary))]
        }
        Occasion::FrozenBackup => vec![
            (time * BACKUP_GOES_ON_TENTHS / 10, Event::GoOn(FROZEN_BACKUP)),
            (begins, Event::Freeze(FROZEN_BACKUP)),
        ],
        Occasion::RestartedLiar => {
            let liar = subject.liar().unwrap_or(primary);
            vec![(begins + GIVEN_UP_TIMEOUTS * view_timeout, Event::Start(liar)), (begins, Event::Kill(liar))]
        }
    }
}

async fn happen(event: Event, subject: Subject, site: &mut Site) -> Result<(), DrillError> {
    match event {
        Event::Freeze(id) => site.signal(id, Signal::STOP),
        Event::GoOn(id) => site.signal(id, Signal::CONT),
        Event::Kill(id) => site.kill(&[id]).await.map(|_| ()),
        Event::Start(id) => site.restart_with(&[id], |_| vec![subject.name().to_owned()]).map(|_| ()),
    }
}

/// How often the liar lied, and whom the evidence accuses of it.
async fn judge_evidence(subject: Subject, site: &Site, row: &mut Row) -> Result<(), DrillError> {
    let accusation = match (subject, subject.liar()) {
        (Subject::Replica(behaviour), Some(liar)) => {
            let conduct = control::ask(&site.directory.control(liar)).await;
            row.acted = conduct.map_err(DrillError::Stalled)?.acts();
            Accusation::of(behaviour, liar, row.acted)
        }
        _ => Accusation::Nobody,
    };
    let accused = judgement::accused(site, accusation.must(), PATIENCE).await?;
    row.to_accuse = accusation.to_string();
    row.accused_justly = accusation.is_just(&accused);
    row.accused = accused.into_iter().collect();
    Ok(())
}

/// Cores that the liar and, in the mean, the honest replicas were busy with.
fn cores(row: &mut Row, before: &[Option<NodeStatus>], after: &[Option<NodeStatus>], time: Duration) {
    let of = |id: usize| {
        let (before, after) = (before.get(id)?.as_ref()?, after.get(id)?.as_ref()?);
        // Less than before is another process.
        let spent = after.cpu_seconds - before.cpu_seconds;
        (spent >= 0.0).then(|| thousandths(spent / time.as_secs_f64()))
    };
    let liar = row.liar.map(usize::from);
    let honest: Vec<f64> = (0..row.n).filter(|id| Some(*id) != liar).filter_map(of).collect();
    row.attacker_cores = liar.and_then(of);
    row.honest_cores = (!honest.is_empty()).then(|| thousandths(honest.iter().sum::<f64>() / honest.len() as f64));
}

/// Processor time of the whole machine, and of this process.
fn busy() -> Option<(Duration, Duration)> {
    meter::machine_cpu().map(|machine| (machine, meter::own_cpu()))
}

/// Cores that all but this process were busy with since `before`.
fn busy_since(before: Option<(Duration, Duration)>, time: Duration) -> Option<f64> {
    let ((machine, own), (machine_before, own_before)) = busy().zip(before)?;
    let others = machine.saturating_sub(machine_before).saturating_sub(own.saturating_sub(own_before));
    Some(others.as_secs_f64() / time.as_secs_f64())
}

/// Most descriptors and most threads of an honest replica.
fn held(site: &Site, honest: &[ReplicaId]) -> (u64, u64) {
    let most = |what: &str| {
        let pids = honest.iter().filter_map(|id| site.pid(*id));
        pids.map(|pid| entries(format!("/proc/{pid}/{what}").as_ref()) as u64).max().unwrap_or(0)
    };
    (most("fd"), most("task"))
}

/// What writers have done and the honest replicas have spent by now.
async fn load(subject: Subject, site: &Site, writers: &Writers) -> Load {
    let statuses = site.statuses().await;
    let liar = subject.liar().map(|liar| usize::from(liar.0));
    let honest = statuses.iter().enumerate().filter(|(id, _)| Some(*id) != liar);
    let cpu_seconds = honest.map(|(_, status)| Some(status.as_ref()?.cpu_seconds)).collect();
    Load { at: Instant::now(), puts: writers.ledger.puts(), cpu_seconds }
}

/// Lines of panics in a replica's log.
fn panics(site: &Site, id: ReplicaId) -> u64 {
    let log = std::fs::read(site.directory.log(id)).unwrap_or_default();
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains("panicked at")).count() as u64
}

fn millis(time: Duration) -> f64 {
    thousandths(time.as_secs_f64() * 1000.0)
}

fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
