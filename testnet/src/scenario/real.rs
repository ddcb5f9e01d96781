//! Playing a scenario on processes of this machine: the launcher starts them, signals and control sockets do what the
//! file says, clients write all the time, and afterwards everything acknowledged is read back.
//!
//! Replicas of one machine cannot be kept apart, and a process that is killed loses nothing the system has: `partition`,
//! `delay`, `loss` and `power-cut` need the simulator.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quorate_crypto::{Protocol, ReplicaId};
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::{Mistake, Observed, Scenario};
use crate::bench::meter;
use crate::drill::site::{Place, Site};
use crate::drill::writers::{Writers, Writing};
use crate::drill::{DrillError, Tell};
use crate::faults::Misbehaviour;
use crate::launcher::evidence;
use crate::launcher::operations::NodeStatus;
use crate::sim::script::Happening;

/// How often writers are looked at: how exactly a gap is known.
const LOOK: Duration = Duration::from_millis(5);
/// How often replicas are asked where they stand.
const ASK: Duration = Duration::from_millis(50);
/// How long anything may take that has to happen once everything is well.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of a value.
const VALUE_BYTES: usize = 64;

/// Something to do to a process.
#[derive(Debug, Clone, PartialEq)]
enum Action {
    Kill(ReplicaId),
    Start(ReplicaId),
    Turn(ReplicaId, Vec<Misbehaviour>),
    Freeze(ReplicaId),
    Thaw(ReplicaId),
}

/// What is to be done when, in order.
fn actions(scenario: &Scenario) -> Vec<(Duration, Action)> {
    let mut actions = Vec::new();
    for span in &scenario.script.spans {
        let id = |replica: usize| ReplicaId(replica as u16);
        // What ends something comes before what begins at the same time.
        let (from, until) = ((span.from, 1), (span.until, 0));
        match &span.what {
            Happening::Down { replica, .. } => {
                actions.push((from, Action::Kill(id(*replica))));
                actions.push((until, Action::Start(id(*replica))));
            }
            Happening::Frozen { replica } => {
                actions.push((from, Action::Freeze(id(*replica))));
                actions.push((until, Action::Thaw(id(*replica))));
            }
            Happening::Lies { replica, on } => {
                actions.push((from, Action::Turn(id(*replica), on.clone())));
                if span.until < scenario.script.heals_at {
                    actions.push((until, Action::Turn(id(*replica), Vec::new())));
                }
            }
            Happening::Apart { .. } | Happening::Links { .. } => {}
        }
    }
    actions.sort_by_key(|(at, _)| *at);
    actions.into_iter().map(|((at, _), action)| (Duration::from_micros(at), action)).collect()
}

/// That processes of this machine can play it.
///
/// # Errors
/// The first event that they cannot.
pub fn check(scenario: &Scenario) -> Result<(), Mistake> {
    for span in &scenario.script.spans {
        let what = match &span.what {
            Happening::Apart { .. } => "replicas of one machine cannot be kept apart",
            Happening::Links { .. } => "links of one machine cannot be made slow or lossy",
            Happening::Down { power_cut: true, .. } => "a process cannot lose power: write `crash`",
            _ => continue,
        };
        let sentence = format!("{what}; leave out --real to play it in the simulator");
        return Err(Mistake { path: scenario.path.clone(), line: Some(span.line), sentence });
    }
    Ok(())
}

/// What was seen while it was played.
#[derive(Debug, Default)]
struct Watched {
    puts: u64,
    last: Option<Instant>,
    gap: Duration,
    view: u64,
    asked: Option<Instant>,
}

impl Watched {
    fn look(&mut self, puts: u64, waits: bool) {
        let now = Instant::now();
        let last = *self.last.get_or_insert(now);
        if waits {
            self.gap = self.gap.max(now - last);
        }
        if puts > self.puts || !waits {
            (self.puts, self.last) = (puts, Some(now));
        }
    }

    fn stand(&mut self, statuses: &[Option<NodeStatus>], liars: &BTreeSet<usize>, protocol: Protocol) {
        let honest = statuses.iter().enumerate().filter(|(replica, _)| !liars.contains(replica));
        let turns = protocol.leaders_take_turns();
        let of = |status: &NodeStatus| if turns { status.view_changes } else { status.view };
        let left = honest.filter_map(|(_, status)| status.as_ref()).map(of);
        self.view = self.view.max(left.max().unwrap_or(0));
    }
}

/// Plays it on a fresh testnet at `place`.
///
/// # Errors
/// The testnet cannot be started or used.
pub async fn play(scenario: &Scenario, place: &Place, tell: &mut Tell<'_>) -> Result<Observed, DrillError> {
    let script = &scenario.script;
    let liars = script.liars();
    tell("starting a testnet".to_owned());
    let place = place.clone().with_parameters(scenario.parameters.clone());
    let mut site = place.start(None, script.replicas, |_| Vec::new()).await?;
    let writing = Writing { clients: script.load.clients, bundle: 1 };
    let mut writers = Writers::start(&site, &writing, VALUE_BYTES, script.load.requests, tell).await?;
    let mut watched = Watched::default();
    let mut violation = None;
    let mut asking: Option<JoinHandle<Vec<Option<NodeStatus>>>> = None;

    let (began, end) = (Instant::now(), Duration::from_micros(script.heals_at));
    let mut actions = actions(scenario).into_iter().peekable();
    loop {
        let passed = began.elapsed().min(end);
        while let Some((_, action)) = actions.next_if(|(at, _)| *at <= passed) {
            act(&mut site, action).await?;
        }
        if let Err(error) = site.check_alive() {
            violation = Some(format!("no-crash: {error}"));
            break;
        }
        let done = writers.are_done();
        watched.look(writers.ledger.puts(), !done);
        // A frozen replica lets whoever asks wait: the writers are looked at meanwhile.
        match asking.take_if(|asking| asking.is_finished()) {
            Some(answered) => watched.stand(&answered.await.unwrap_or_default(), &liars, scenario.protocol),
            None if asking.is_none() && watched.asked.is_none_or(|asked| asked.elapsed() >= ASK) => {
                watched.asked = Some(Instant::now());
                let description = site.description.clone();
                asking = Some(tokio::spawn(async move { meter::read(&description).await }));
            }
            None => {}
        }
        if passed >= end {
            break;
        }
        tell(format!("{:.1} of {:.1} s, {} puts", passed.as_secs_f64(), end.as_secs_f64(), writers.ledger.puts()));
        tokio::time::sleep(LOOK).await;
    }
    if violation.is_none() {
        violation = afterwards(scenario, &mut site, &mut writers, &mut watched, tell).await?;
    }
    let failed: u64 = writers.ledger.errors().values().sum();
    let succeeded = writers.ledger.puts();
    Ok(Observed {
        violation,
        convicted: convicted(scenario, &site).await?,
        view: watched.view,
        requests: succeeded + failed,
        succeeded,
        gap: watched.gap,
    })
}

async fn act(site: &mut Site, action: Action) -> Result<(), DrillError> {
    match action {
        Action::Kill(id) => {
            site.kill(&[id]).await?;
        }
        Action::Start(id) => {
            site.restart(&[id])?;
        }
        Action::Freeze(id) => site.signal(id, Signal::STOP)?,
        Action::Thaw(id) => site.signal(id, Signal::CONT)?,
        Action::Turn(id, on) => {
            site.turn(id, &on).await?;
        }
    }
    Ok(())
}

/// Everything is well, but for who still lies: writers end, what was acknowledged is read back, the honest agree.
async fn afterwards(
    scenario: &Scenario,
    site: &mut Site,
    writers: &mut Writers,
    watched: &mut Watched,
    tell: &mut Tell<'_>,
) -> Result<Option<String>, DrillError> {
    let liars = scenario.script.liars();
    let honest: Vec<ReplicaId> = site.description.ids().filter(|id| !liars.contains(&id.index())).collect();
    tell("everything heals".to_owned());
    site.wait_until_connected(&honest).await?;
    let (puts, healed) = (writers.ledger.puts(), Instant::now());
    // Somebody is answered again, unless all was written before.
    while !writers.are_done() && writers.ledger.puts() == puts {
        watched.look(puts, true);
        if healed.elapsed() > PATIENCE {
            return Ok(Some(format!("liveness: {}", writers.stalled(PATIENCE))));
        }
        tokio::time::sleep(LOOK).await;
    }
    let read_back = writers.finish(tell).await?;
    if read_back.lost + read_back.wrong > 0 {
        let sentence = read_back.examples.first().cloned().unwrap_or_default();
        return Ok(Some(format!("durability: {} lost, {} wrong: {sentence}", read_back.lost, read_back.wrong)));
    }
    tell("honest replicas come to agree".to_owned());
    let began = Instant::now();
    loop {
        let statuses = site.statuses().await;
        watched.stand(&statuses, &liars, scenario.protocol);
        let honest: Option<Vec<&NodeStatus>> =
            honest.iter().map(|id| statuses.get(id.index()).and_then(Option::as_ref)).collect();
        if let Some(honest) = honest {
            match agreement(&honest) {
                Some(true) => return Ok(None),
                Some(false) => return Ok(Some("state-digest: honest replicas have different states".to_owned())),
                None => {}
            }
        }
        if let Err(error) = site.check_alive() {
            return Ok(Some(format!("no-crash: {error}")));
        }
        if began.elapsed() > PATIENCE {
            return Ok(Some("liveness: an honest replica does not catch up".to_owned()));
        }
        tokio::time::sleep(ASK).await;
    }
}

/// Whether replicas have one state; nothing while they are not at the same number.
fn agreement(honest: &[&NodeStatus]) -> Option<bool> {
    let first = honest.first()?;
    for one in honest {
        let known = |other: &&&NodeStatus| one.state_seq.is_some() && one.state_seq == other.state_seq;
        if honest.iter().filter(known).any(|other| other.state_digest != one.state_digest) {
            return Some(false);
        }
        let certified = |other: &&&NodeStatus| other.checkpoint_seq == one.checkpoint_seq;
        if honest.iter().filter(certified).any(|other| other.checkpoint_digest != one.checkpoint_digest) {
            return Some(false);
        }
    }
    honest
        .iter()
        .all(|one| one.executed == first.executed && one.checkpoint_seq == first.checkpoint_seq)
        .then_some(true)
}

/// Whom evidence convicts. If somebody must be convicted, it is waited for.
async fn convicted(scenario: &Scenario, site: &Site) -> Result<BTreeSet<u16>, DrillError> {
    let wanted = scenario.expectations.accused().unwrap_or_default();
    let began = Instant::now();
    loop {
        let offences = evidence::collect(&site.directory, &site.description, &site.genesis)?;
        let convicted: BTreeSet<u16> = offences.iter().map(|offence| offence.accused).collect();
        if convicted.is_superset(&wanted) || began.elapsed() > PATIENCE / 4 {
            return Ok(convicted);
        }
        tokio::time::sleep(ASK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HEAD: &str = "title = \"t\"\nreplicas = 4\nduration = \"2s\"\n";

    fn scenario(events: &str) -> Scenario {
        Scenario::parse(Path::new("t.toml"), &format!("{HEAD}{events}"), None).expect("a scenario")
    }

    #[test]
    fn what_ends_comes_before_what_begins_and_lies_go_on() {
        let all = scenario(
            "[[event]]\nat = \"1s\"\ndo = \"crash\"\nreplica = 2\n[[event]]\nat = \"500ms\"\ndo = \"fault\"\nreplica = 0\n\
             behaviours = [\"silent\"]\n[[event]]\nat = \"200ms\"\ndo = \"pause\"\nreplica = 2\nfor = \"800ms\"\n",
        );
        let (zero, two) = (ReplicaId(0), ReplicaId(2));
        let silent = crate::launcher::control::misbehaviours(&["silent".to_owned()]).expect("known");
        let millis = Duration::from_millis;
        assert_eq!(
            actions(&all),
            [
                (millis(200), Action::Freeze(two)),
                (millis(500), Action::Turn(zero, silent)),
                (millis(1_000), Action::Thaw(two)),
                (millis(1_000), Action::Kill(two)),
                (millis(2_000), Action::Start(two)),
            ]
        );
        assert_eq!(check(&all), Ok(()));
    }

    #[test]
    fn what_needs_the_simulator_is_refused_with_its_line() {
        for event in
            ["do = \"power-cut\"\nreplica = 1", "do = \"partition\"\ngroups = [[0]]", "do = \"loss\"\npercent = 5"]
        {
            let mistake = check(&scenario(&format!("[[event]]\nat = \"1s\"\n{event}\n"))).expect_err("refused");
            assert_eq!(mistake.line, Some(5), "{mistake}");
        }
    }

    #[test]
    fn a_gap_counts_only_while_somebody_waits() {
        let mut watched = Watched::default();
        watched.look(0, true);
        std::thread::sleep(Duration::from_millis(20));
        watched.look(1, true);
        let gap = watched.gap;
        assert!(gap >= Duration::from_millis(20));
        std::thread::sleep(2 * gap);
        watched.look(1, false);
        watched.look(1, true);
        assert!(watched.gap < 2 * gap, "{:?} after {gap:?}", watched.gap);
    }
}
