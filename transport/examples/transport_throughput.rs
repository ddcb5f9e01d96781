//! Messages a second and processor time per message over one link on loopback, through the public API.
//!
//! ```console
//! $ cargo run --release -p quorate-transport --example transport_throughput
//! ```
//!
//! Two replicas in one process. The first keeps a number of 200-byte votes outstanding; the second answers each with
//! one of the same size. "One way" counts messages of both directions, as each crosses the link once. Processor time
//! is that of the whole process, both ends and the kernel's share included.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_crypto::{ClusterId, Digest, ReplicaId};
use quorate_transport::{
    Class, PeerAddress, PeerConfig, PeerEndpoint, PeerEvent, PeerEvents, PeerHandle, PeerLimits, TransportKey,
};

const MESSAGE_BYTES: usize = 200;
const MEASURE: Duration = Duration::from_secs(3);
/// Ticks a second in `/proc/self/stat` on Linux, on every architecture.
const TICKS_PER_SECOND: u64 = 100;

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let ((one, mut one_events), (two, two_events), ids) = link().await?;
    tokio::spawn(answer(two.clone(), two_events, ids.0));
    println!("200-byte messages over one link on loopback");
    println!("outstanding   messages/s   round trip   us of processor per message");
    for outstanding in [1, 16, 256] {
        let (handle, to) = (one.clone(), ids.1);
        let (measured, events) = tokio::spawn(ping(handle, one_events, to, outstanding)).await?;
        one_events = events;
        let rate = measured.count as f64 / measured.elapsed.as_secs_f64();
        println!(
            "{outstanding:>11}   {rate:>10.0}   {:>7.0} us   {:>8.1}",
            outstanding as f64 * 2e6 / rate,
            measured.processor_per(1),
        );
    }
    let messages = flood(&one, &two, ids.1, Class::Proposal, MESSAGE_BYTES).await;
    println!("    one way   {:>10.0}   {:>10}   {:>8.1}", messages.rate(), "", messages.processor_per(1));
    let chunks = flood(&one, &two, ids.1, Class::Bulk, 1 << 20).await;
    println!("bulk: {:.0} MiB/s, {:.0} us of processor per MiB", chunks.rate(), chunks.processor_per(1));
    let statistics = one.link_statistics(ids.1).ok_or("no link")?;
    println!("{} datagrams out, {} packets lost", statistics.datagrams_sent, statistics.packets_lost);
    one.shut_down(Duration::from_secs(1)).await;
    two.shut_down(Duration::from_secs(1)).await;
    Ok(())
}

struct Measured {
    count: u64,
    elapsed: Duration,
    processor: Duration,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    fn processor_per(&self, size: u64) -> f64 {
        self.processor.as_secs_f64() * 1e6 / (self.count * size) as f64
    }
}

type End = (PeerHandle, PeerEvents);
type Ids = (ReplicaId, ReplicaId);

async fn link() -> Result<(End, End, Ids), Failure> {
    let free = || -> Result<SocketAddr, Failure> { Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?) };
    let ids = (ReplicaId(0), ReplicaId(1));
    let keys = [TransportKey::from_seed(&[1; 32]), TransportKey::from_seed(&[2; 32])];
    let peers = vec![
        PeerAddress { id: ids.0, key: keys[0].public_key(), address: free()? },
        PeerAddress { id: ids.1, key: keys[1].public_key(), address: free()? },
    ];
    let start = |me: usize| {
        PeerEndpoint::start(PeerConfig {
            my_id: peers[me].id,
            key: keys[me].clone(),
            listen: peers[me].address,
            peers: peers.clone(),
            cluster: ClusterId(Digest([7; 32])),
            limits: PeerLimits::default(),
        })
    };
    let (one, two) = (start(0)?, start(1)?);
    while !(one.0.is_up(ids.1) && two.0.is_up(ids.0)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Beyond the time for which a spare link is kept.
    tokio::time::sleep(Duration::from_secs(4)).await;
    Ok((one, two, ids))
}

/// Answers votes and takes everything else.
async fn answer(handle: PeerHandle, mut events: PeerEvents, to: ReplicaId) {
    let mut taken = Vec::new();
    while events.recv_many(&mut taken, 256).await > 0 {
        for event in taken.drain(..) {
            if let PeerEvent::Frame { class: Class::Vote, frame, .. } = event {
                let _ = handle.send(to, Class::Vote, frame.bytes().clone());
            }
        }
    }
}

async fn ping(handle: PeerHandle, mut events: PeerEvents, to: ReplicaId, outstanding: usize) -> (Measured, PeerEvents) {
    let message = Bytes::from(vec![0; MESSAGE_BYTES]);
    for _ in 0..outstanding {
        let _ = handle.send(to, Class::Vote, message.clone());
    }
    let (start, before) = (Instant::now(), processor_time());
    let (mut taken, mut answers) = (Vec::new(), 0);
    while start.elapsed() < MEASURE {
        events.recv_many(&mut taken, 256).await;
        for event in taken.drain(..) {
            if let PeerEvent::Frame { .. } = event {
                answers += 1;
                let _ = handle.send(to, Class::Vote, message.clone());
            }
        }
    }
    let processor = processor_time().saturating_sub(before);
    let measured = Measured { count: 2 * answers, elapsed: start.elapsed(), processor };
    // Lets what is under way arrive, and drops it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    while events.try_recv().is_some() {}
    (measured, events)
}

/// Keeps the queue of a class filled and counts what the other end received.
async fn flood(one: &PeerHandle, two: &PeerHandle, to: ReplicaId, class: Class, bytes: usize) -> Measured {
    let message = Bytes::from(vec![0; bytes]);
    let metrics = two.metrics();
    let received = || metrics.frames_received[class.index()].get();
    let (start, before, count) = (Instant::now(), processor_time(), received());
    while start.elapsed() < MEASURE {
        if one.send(to, class, message.clone()).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let processor = processor_time().saturating_sub(before);
    Measured { count: received() - count, elapsed: start.elapsed(), processor }
}

/// User and system time of this process; zero where `/proc` is not Linux's.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}
