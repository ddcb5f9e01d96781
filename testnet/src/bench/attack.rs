//! A faulty client against a running testnet: the behaviours of [`crate::faults::client`] over real links, bounded in rate
//! and time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_client::{ClientError, Cluster};
use quorate_crypto::encoding::{decode, encode};
use quorate_keys::ClientKey;
use quorate_protocol::client::message::{CLIENT_FRAME_MAX, ReplicaMessage};
use quorate_transport::{ClientLimits, LinkState, ReplicaEvent, ReplicaLinks, ReplicaLinksConfig, TransportKey};

use super::fleet::Fleet;
use super::{BenchError, Stage, meter};
use crate::faults::client::{ClientBehaviour, FaultyClient};
use crate::launcher::Directory;

/// Most times a second that an attacker acts: about ten times what a correct client of a small cluster does.
pub const RATE_MAX: u32 = 2_000;
/// Longest attack.
pub const TIME_MAX: Duration = Duration::from_mins(10);
/// Processor time that is spent at once although the share allows it only later.
const CPU_BURST: Duration = Duration::from_millis(20);
/// How long the first link may take.
const LINKING_MAX: Duration = Duration::from_secs(10);
/// How long taking leave may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// What an attacker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attack {
    /// What it does wrong.
    pub behaviour: ClientBehaviour,
    /// For how long.
    pub time: Duration,
    /// So many times a second.
    pub rate: u32,
    /// The most processor time that this process may take meanwhile, in hundredths of one core; none for as much as it
    /// gets. Where attacker and replicas share a machine, an attack must not show what a busy machine costs.
    pub cpu_percent: Option<u8>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aftermath {
    /// Times it acted.
    pub acted: u64,
    /// Times it was due to act and had no processor time left.
    pub skipped: u64,
    /// Processor time of this process meanwhile.
    pub cpu: Duration,
    /// Requests put on the links.
    pub sent: u64,
    /// Requests that were too large for a link, or for which its queue had no room.
    pub not_sent: u64,
    /// Answers by kind: executed, busy, refused.
    pub answers: BTreeMap<&'static str, u64>,
    /// Links that replicas ended, by what they said.
    pub disconnected: BTreeMap<String, u64>,
}

impl Aftermath {
    fn event(&mut self, event: ReplicaEvent) {
        match event {
            ReplicaEvent::Up(_) => {}
            ReplicaEvent::Down(_, reason) => *self.disconnected.entry(reason.to_string()).or_default() += 1,
            ReplicaEvent::Frame { frame, .. } => {
                let kind = match decode::<ReplicaMessage>(&frame, 2 * CLIENT_FRAME_MAX) {
                    Ok(ReplicaMessage::Reply(_)) => "executed",
                    Ok(ReplicaMessage::Busy { .. }) => "busy",
                    Ok(ReplicaMessage::Refused { .. }) => "refused",
                    _ => "other",
                };
                *self.answers.entry(kind).or_default() += 1;
            }
        }
    }
}

/// Attacks the testnet in `directory` with a client whose key is registered before and removed afterwards.
///
/// # Errors
/// A rate or time out of bounds, no testnet, no quorum to register the key.
pub async fn run(directory: &Directory, attack: &Attack, mut tell: impl FnMut(Stage)) -> Result<Aftermath, BenchError> {
    if attack.rate == 0 || attack.rate > RATE_MAX {
        return Err(BenchError::Plan(format!("--rate {} is out of bounds: give 1 to {RATE_MAX}", attack.rate)));
    }
    if attack.time > TIME_MAX {
        return Err(BenchError::Plan(format!("an attack lasts at most {} s", TIME_MAX.as_secs())));
    }
    let cluster = crate::launcher::start::cluster(directory)?;
    let fleet = Fleet::register(directory, &cluster, 1, &mut tell).await?;
    // The key is removed whatever happens in between.
    let attacked = match fleet.keys() {
        [key, ..] => with_key(&cluster, key, attack, &mut tell).await,
        [] => Err(BenchError::Plan("no key was registered".to_owned())),
    };
    tell(Stage::Removing);
    let removed = fleet.remove().await;
    let aftermath = attacked?;
    if let Err(error) = removed {
        tracing::warn!(%error, "the key of this attack stays registered");
    }
    Ok(aftermath)
}

async fn with_key(
    cluster: &Cluster,
    key: &ClientKey,
    attack: &Attack,
    tell: &mut impl FnMut(Stage),
) -> Result<Aftermath, BenchError> {
    let id = cluster.genesis.cluster_id();
    let config = ReplicaLinksConfig {
        key: TransportKey::from_secret(key.0.clone()),
        replicas: cluster.addresses().await.map_err(ClientError::from)?,
        cluster: id,
        limits: ClientLimits::default(),
    };
    let (links, mut events) = ReplicaLinks::start(config).map_err(ClientError::from)?;
    let replicas = links.replicas();
    let mut client = FaultyClient::new(attack.behaviour, Arc::new(key.0.clone()), id, replicas.clone(), rand::random());
    let mut aftermath = Aftermath::default();

    // Replicas that lag do not know the key yet and refuse it until they do.
    let linking = Instant::now();
    while replicas.iter().any(|replica| links.state(*replica) != Some(LinkState::Up)) && linking.elapsed() < LINKING_MAX
    {
        tell(Stage::Connecting(0, 1));
        let _ = tokio::time::timeout(Duration::from_millis(50), events.recv()).await;
    }

    let (began, cpu_began) = (Instant::now(), meter::own_cpu());
    let has_cpu = || {
        attack.cpu_percent.is_none_or(|percent| {
            let allowed = began.elapsed() * u32::from(percent) / 100 + CPU_BURST;
            meter::own_cpu().saturating_sub(cpu_began) <= allowed
        })
    };
    let mut tick = tokio::time::interval(Duration::from_secs(1) / attack.rate);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let end = tokio::time::sleep(attack.time);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            Some(event) = events.recv() => aftermath.event(event),
            _ = tick.tick() => {
                if !has_cpu() {
                    aftermath.skipped += 1;
                    continue;
                }
                aftermath.acted += 1;
                for submission in client.act(wall()) {
                    let frame = submission.message().map(|message| Bytes::from(encode(&message)));
                    for replica in &submission.to {
                        match frame.clone().map(|frame| links.send(*replica, frame)) {
                            Some(Ok(())) => aftermath.sent += 1,
                            Some(Err(_)) | None => aftermath.not_sent += 1,
                        }
                    }
                }
                let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                tell(Stage::Loading(millis(began.elapsed()), millis(attack.time)));
            }
        }
    }
    while let Some(event) = events.try_recv() {
        aftermath.event(event);
    }
    aftermath.cpu = meter::own_cpu().saturating_sub(cpu_began);
    links.shut_down(GOODBYE).await;
    Ok(aftermath)
}

/// Milliseconds since the Unix epoch.
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
