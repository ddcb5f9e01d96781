//! What a node counts, as Prometheus metrics. Nothing is global: each node of a process has its own.
//!
//! Counters that belong to an event are incremented where it happens ([`Metrics`]); what others count already (the
//! engine, the log, QUIC, the operating system) is read when somebody asks (`Readings`).

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use quorate_crypto::ReplicaId;
use quorate_transport::{ClientHandle, LinkStatistics, PeerHandle, TransportMetrics};

use crate::clients::Sessions;
use crate::disk::{Disk, DiskError};
use crate::process::view::CoreView;

/// What is counted where it happens.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Turns of the core.
    pub turns: Counter,
    /// Inputs the core took.
    pub inputs: Counter,
    /// Inputs in one turn.
    pub turn_inputs: Histogram,
    /// Requests in one executed batch.
    pub batch_requests: Histogram,
    /// Requests executed, those answered from memory included.
    pub requests_executed: Counter,
    /// Seconds one sync of the log took.
    pub sync_seconds: Histogram,
    /// Seconds one sync of the snapshots took.
    pub snapshot_sync_seconds: Histogram,
    /// Seconds until a snapshot was durable.
    pub snapshot_seconds: Histogram,
    /// Snapshots made durable.
    pub snapshots: Counter,
    /// Messages and requests verified.
    pub verified: Counter,
    /// Messages and requests verified in one batch.
    pub verified_together: Histogram,
    /// Frames and requests of peers that did not decode or verify.
    pub invalid_from_peers: Counter,
    /// Frames and requests of clients that did not decode or verify, or were over a limit.
    pub invalid_from_clients: Counter,
    /// Peers' links closed for what they sent.
    pub peers_disconnected: Counter,
    /// Frames dropped unread, of peers whose link was closed for what they sent.
    pub frames_muted: Counter,
    /// Frames to peers that found their queue full.
    pub frames_unsent: Counter,
    /// Bytes of requests relayed to peers, or sent because a peer asked for them.
    pub request_bytes_sent: Counter,
    /// Times peers were asked for requests.
    pub request_fetches: Counter,
    /// Answers to requests.
    pub replies: Counter,
    /// Requests that found no room.
    pub busy: Counter,
    /// Watches that are open.
    pub watches: Gauge,
    /// Offences seen, each once.
    pub evidence: Counter,
}

fn powers(start: f64, factor: f64, count: u16) -> Histogram {
    Histogram::new(exponential_buckets(start, factor, count))
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            turns: Counter::default(),
            inputs: Counter::default(),
            turn_inputs: powers(1.0, 2.0, 14),
            batch_requests: powers(1.0, 2.0, 13),
            requests_executed: Counter::default(),
            sync_seconds: powers(0.000_05, 2.0, 15),
            snapshot_sync_seconds: powers(0.000_05, 2.0, 15),
            snapshot_seconds: powers(0.001, 2.0, 15),
            snapshots: Counter::default(),
            verified: Counter::default(),
            verified_together: powers(1.0, 2.0, 13),
            invalid_from_peers: Counter::default(),
            invalid_from_clients: Counter::default(),
            peers_disconnected: Counter::default(),
            frames_muted: Counter::default(),
            frames_unsent: Counter::default(),
            request_bytes_sent: Counter::default(),
            request_fetches: Counter::default(),
            replies: Counter::default(),
            busy: Counter::default(),
            watches: Gauge::default(),
            evidence: Counter::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn verified_batch(&self, count: usize) {
        if count > 0 {
            self.verified.inc_by(count as u64);
            self.verified_together.observe(count as f64);
        }
    }

    /// Adds everything to `registry`, whose names are then `quorate_...`.
    fn register(&self, registry: &mut Registry) {
        registry.register("turns", "Turns of the core", self.turns.clone());
        registry.register("inputs", "Inputs the core took", self.inputs.clone());
        registry.register("turn_inputs", "Inputs in one turn", self.turn_inputs.clone());
        registry.register("batch_requests", "Requests in one executed batch", self.batch_requests.clone());
        registry.register("requests_executed", "Requests in executed batches", self.requests_executed.clone());
        registry.register("sync_seconds", "Seconds one sync of the log took", self.sync_seconds.clone());
        registry.register(
            "snapshot_sync_seconds",
            "Seconds one sync of the snapshots took",
            self.snapshot_sync_seconds.clone(),
        );
        registry.register("snapshot_seconds", "Seconds until a snapshot was durable", self.snapshot_seconds.clone());
        registry.register("snapshots", "Snapshots made durable", self.snapshots.clone());
        registry.register("verified", "Messages and requests verified", self.verified.clone());
        registry.register("verified_together", "Messages and requests in one batch", self.verified_together.clone());
        registry.register(
            "invalid_from_peers",
            "Frames and requests of peers refused",
            self.invalid_from_peers.clone(),
        );
        registry.register(
            "invalid_from_clients",
            "Frames and requests of clients refused",
            self.invalid_from_clients.clone(),
        );
        registry.register("peers_disconnected", "Links closed for what the peer sent", self.peers_disconnected.clone());
        registry.register("frames_muted", "Frames of such peers dropped unread", self.frames_muted.clone());
        registry.register("frames_unsent", "Frames to peers that found a full queue", self.frames_unsent.clone());
        registry.register("request_bytes_sent", "Bytes of requests sent to peers", self.request_bytes_sent.clone());
        registry.register("request_fetches", "Times peers were asked for requests", self.request_fetches.clone());
        registry.register("replies", "Answers to requests", self.replies.clone());
        registry.register("busy", "Requests that found no room", self.busy.clone());
        registry.register("watches", "Open watches", self.watches.clone());
        registry.register("evidence", "Offences seen, each once", self.evidence.clone());
    }
}

/// What is read from others when somebody asks.
#[derive(Clone)]
pub(crate) struct Readings {
    pub(crate) view: Arc<CoreView>,
    pub(crate) peers: PeerHandle,
    pub(crate) peer_ids: Vec<ReplicaId>,
    pub(crate) clients: ClientHandle,
    pub(crate) sessions: Arc<Sessions>,
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readings")
    }
}

impl Readings {
    /// Statistics of the link to each peer.
    pub(crate) fn links(&self) -> Vec<(ReplicaId, LinkStatistics)> {
        self.peer_ids.iter().filter_map(|id| Some((*id, self.peers.link_statistics(*id)?))).collect()
    }

    /// Bytes sent: UDP payloads to replicas, frames to clients.
    pub(crate) fn wire_bytes(&self) -> u64 {
        let peers: u64 = self.links().iter().map(|(_, link)| link.wire_bytes_sent).sum();
        peers + self.clients.metrics().bytes_sent.iter().map(quorate_transport::metrics::Counter::get).sum::<u64>()
    }
}

/// CPU time of the whole process, seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Resident memory of the whole process, bytes; 0 where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()))
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Everything as one registry.
pub(crate) fn registry(metrics: &Metrics, readings: Readings) -> Registry {
    let mut registry = Registry::with_prefix("quorate");
    metrics.register(&mut registry);
    registry.register_collector(Box::new(readings));
    registry
}

struct Writer<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Writer<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
        let counter = ConstCounter::new(value);
        let encoder = self.0.encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        let encoder = self.0.encode_descriptor(name, help, None, gauge.metric_type())?;
        gauge.encode(encoder)
    }

    fn transport(&mut self, port: &str, metrics: &TransportMetrics) -> Result<(), fmt::Error> {
        let sum = |counters: &[quorate_transport::metrics::Counter; 3]| {
            counters.iter().map(quorate_transport::metrics::Counter::get).sum()
        };
        for (name, help, value) in [
            ("frames_sent", "Frames handed to QUIC", sum(&metrics.frames_sent)),
            ("bytes_sent", "Bytes of frames handed to QUIC", sum(&metrics.bytes_sent)),
            ("frames_received", "Frames received", sum(&metrics.frames_received)),
            ("bytes_received", "Bytes of frames received", sum(&metrics.bytes_received)),
            ("frames_displaced", "Frames a newer one displaced from a full queue", sum(&metrics.frames_displaced)),
            ("frames_refused", "Frames a full queue did not take", sum(&metrics.frames_refused)),
            ("budget_waits", "Reads that waited for the consumer", metrics.budget_waits.get()),
            ("violations", "Connections closed for a breach of rules", metrics.violations.get()),
            ("handshakes_completed", "Handshakes completed", metrics.handshakes_completed.get()),
            ("handshakes_failed", "Handshakes failed", metrics.handshakes_failed.get()),
            ("connections_refused", "Connections refused", metrics.connections_refused.get()),
            ("rests", "Requests for which a client's connection was made to rest", metrics.rests.get()),
            ("slow_readers", "Clients closed since they did not read", metrics.slow_readers.get()),
        ] {
            self.counter(&format!("{port}_{name}"), help, value)?;
        }
        Ok(())
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut writer = Writer(&mut encoder);
        let now = self.view.standing();
        writer.gauge("view", "The view the replica is in or moving to", now.status.view.0)?;
        writer.gauge("view_entered", "Whether it has entered that view", u64::from(now.status.entered))?;
        writer.gauge("is_primary", "Whether it leads that view", u64::from(now.is_primary))?;
        writer.gauge("executed", "The highest number executed", now.status.executed.0)?;
        writer.gauge("decided", "The highest number decided without a gap", now.status.decided.0)?;
        writer.gauge("checkpoint", "The stable checkpoint", now.status.stable.0)?;
        writer.gauge("revision", "The service's revision", now.revision)?;
        writer.gauge("pending", "Requests admitted and not executed", now.status.pending as u64)?;
        writer.gauge("transferring", "Whether the state is being fetched", u64::from(now.status.transferring))?;
        writer.counter("view_changes", "View changes started", now.status.view_changes)?;
        writer.counter("syncs", "Syncs of the log", now.syncs)?;
        writer.counter("log_written_bytes", "Bytes of records written", now.frame_bytes)?;
        writer.gauge("log_bytes", "Bytes of the log's files", now.log_bytes)?;
        writer.gauge("snapshot_bytes", "Bytes of the snapshots' files", self.view.snapshot_bytes())?;
        writer.gauge("links", "Peers to whom a link is up", self.peers.linked().len() as u64)?;
        writer.gauge("client_connections", "Clients' connections", self.clients.connections() as u64)?;
        writer.gauge("requests_in_flight", "Requests that wait for an answer", self.sessions.in_flight() as u64)?;
        writer.counter("wire_bytes", "Bytes sent on the wire", self.wire_bytes())?;
        writer.gauge("resident_bytes", "Resident memory of the process", resident_bytes())?;
        let cpu = ConstCounter::new(cpu_seconds());
        let entry = writer.0.encode_descriptor("cpu_seconds", "CPU time of the process", None, cpu.metric_type())?;
        cpu.encode(entry)?;
        writer.transport("peers", &self.peers.metrics())?;
        writer.transport("clients", &self.clients.metrics())
    }
}

/// A disk whose syncs are timed.
#[derive(Debug)]
pub(crate) struct TimedDisk<D> {
    pub(crate) disk: D,
    pub(crate) sync_seconds: Histogram,
}

impl<D: Disk> Disk for TimedDisk<D> {
    fn create(&mut self, name: &str) -> Result<(), DiskError> {
        self.disk.create(name)
    }

    fn length(&mut self, name: &str) -> Result<Option<u64>, DiskError> {
        self.disk.length(name)
    }

    fn allocate(&mut self, name: &str, length: u64) -> Result<(), DiskError> {
        self.disk.allocate(name, length)
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.disk.read_at(name, offset, buffer)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disk.write_at(name, offset, bytes)
    }

    fn sync_data(&mut self, name: &str) -> Result<(), DiskError> {
        let began = std::time::Instant::now();
        let result = self.disk.sync_data(name);
        self.sync_seconds.observe(began.elapsed().as_secs_f64());
        result
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.disk.remove(name)
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.disk.sync_directory()
    }

    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.disk.list()
    }
}
