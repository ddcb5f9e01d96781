//! Streams of an authenticated connection: their headers, the task that writes one and the task that reads one.
//!
//! A stream is unidirectional and starts with nine bytes: its class, and the number of the sender's process instance
//! (u64, big-endian). Frames follow. The side that has sent its first header has accepted the other's key: a dialler
//! whose own key is refused never sees one.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadExactError, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::CloseCode;
use crate::frame::{Decoded, FrameDecoder, FrameError, PREFIX_BYTES, encode};
use crate::limits::{FRAME_OVERHEAD_BYTES, READ_CHUNKS, WRITE_BATCH_BYTES};
use crate::metrics::TransportMetrics;
use crate::outbound::OutboundQueue;
use crate::rest::Rest;

const HEADER_BYTES: usize = 9;

/// A received frame. It counts against its sender's budget until it is dropped, or until its permit is.
#[derive(Debug)]
pub struct Frame {
    bytes: Bytes,
    permit: FramePermit,
}

/// A frame's share of its sender's budget. Keep it for as long as the frame's content is held: when a sender's budget
/// is used up we stop reading from it, and it alone is stalled.
#[derive(Debug)]
pub struct FramePermit {
    _share: OwnedSemaphorePermit,
}

impl Frame {
    /// The content and its permit, apart.
    pub fn into_parts(self) -> (Bytes, FramePermit) {
        (self.bytes, self.permit)
    }

    /// The content.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An authenticated connection on which both sides have sent their first header.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) connection: Connection,
    /// Our stream of the first class.
    pub(crate) outgoing: SendStream,
    /// Theirs.
    pub(crate) incoming: RecvStream,
    /// The number of the other side's process.
    pub(crate) instance: u64,
}

/// A stream did not begin as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("a stream without a proper header")]
    Malformed,
    #[error("no stream header in time")]
    TimedOut,
}

/// Opens our stream of the first class, sends its header and waits for theirs.
pub(crate) async fn establish(
    connection: Connection,
    instance: u64,
    within: Duration,
) -> Result<Established, HeaderError> {
    let exchange = async {
        let outgoing = open(&connection, 0, instance).await?;
        let mut incoming = connection.accept_uni().await?;
        match read_header(&mut incoming).await? {
            (0, their_instance) => Ok((outgoing, incoming, their_instance)),
            _ => Err(HeaderError::Malformed),
        }
    };
    match timeout(within, exchange).await {
        Ok(Ok((outgoing, incoming, instance))) => Ok(Established { connection, outgoing, incoming, instance }),
        Ok(Err(error)) => {
            if matches!(error, HeaderError::Malformed) {
                CloseCode::Violation.close_because(&connection, &error.to_string());
            }
            // A connection that closed meanwhile says why better than the stream does.
            Err(connection.close_reason().map_or(error, HeaderError::Connection))
        }
        Err(_) => Err(connection.close_reason().map_or(HeaderError::TimedOut, HeaderError::Connection)),
    }
}

/// Opens a stream of `class` and sends its header. Lower classes have priority.
pub(crate) async fn open(connection: &Connection, class: usize, instance: u64) -> Result<SendStream, HeaderError> {
    let mut stream = connection.open_uni().await?;
    let _ = stream.set_priority(-i32::try_from(class).unwrap_or(i32::MAX));
    let mut header = [0; HEADER_BYTES];
    header[0] = class as u8;
    header[1..].copy_from_slice(&instance.to_be_bytes());
    match stream.write_all(&header).await {
        Ok(()) => Ok(stream),
        Err(_) => Err(connection.close_reason().map_or(HeaderError::Malformed, HeaderError::Connection)),
    }
}

/// The class and instance a stream's header names. The class is not checked yet.
pub(crate) async fn read_header(stream: &mut RecvStream) -> Result<(usize, u64), HeaderError> {
    let mut header = [0; HEADER_BYTES];
    match stream.read_exact(&mut header).await {
        Ok(()) => {
            let [class, instance @ ..] = header;
            Ok((usize::from(class), u64::from_be_bytes(instance)))
        }
        Err(ReadExactError::ReadError(quinn::ReadError::ConnectionLost(lost))) => Err(HeaderError::Connection(lost)),
        Err(_) => Err(HeaderError::Malformed),
    }
}

/// Writes what `queue` holds to `stream` for as long as the connection lives and while `active` says so: of two links
/// to one peer only one takes from the queue.
pub(crate) async fn write_frames(
    mut stream: SendStream,
    class: usize,
    queue: Arc<OutboundQueue>,
    mut active: watch::Receiver<bool>,
    metrics: Arc<TransportMetrics>,
) {
    let (mut frames, mut chunks) = (Vec::new(), Vec::new());
    loop {
        if active.wait_for(|active| *active).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            changed = active.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = queue.take(&mut frames, WRITE_BATCH_BYTES) => {}
        }
        let count = frames.len();
        let bytes: usize = frames.iter().map(|frame| frame.len() + PREFIX_BYTES).sum();
        encode(&mut frames, &mut chunks);
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        chunks.clear();
        metrics.frames_sent[class].add(count as u64);
        metrics.bytes_sent[class].add(bytes as u64);
    }
}

/// Takes frames read from one stream.
pub(crate) trait FrameSink: Send + 'static {
    /// Takes all of `frames`, in order.
    fn deliver(&self, frames: &mut Vec<Frame>);
}

/// What one stream may cost.
pub(crate) struct Inlet {
    pub(crate) class: usize,
    /// Largest frame, in bytes.
    pub(crate) cap: usize,
    /// Bytes received and not released, [`FRAME_OVERHEAD_BYTES`] a frame included.
    pub(crate) budget: Arc<Semaphore>,
    /// How long a frame may take from its first to its last byte, while we are reading.
    pub(crate) deadline: Duration,
    /// Until when it is not read.
    pub(crate) rest: Rest,
    pub(crate) metrics: Arc<TransportMetrics>,
}

/// Why reading a stream ended.
#[derive(Debug, thiserror::Error)]
enum ReadEnd {
    #[error("the stream or the connection ended")]
    Ended,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a frame was not complete in time")]
    TooSlow,
}

/// Reads frames of a stream into `sink` until it ends. A breach of the frame rules closes the whole connection, with
/// its reason, and is counted.
pub(crate) async fn read_frames(stream: RecvStream, connection: Connection, inlet: Inlet, sink: impl FrameSink) {
    let metrics = Arc::clone(&inlet.metrics);
    let end = Reader { decoder: FrameDecoder::new(inlet.cap), inlet, frames: Vec::new(), permit: None, sink }
        .run(stream)
        .await;
    let code = match end {
        ReadEnd::Ended => return,
        ReadEnd::Frame(FrameError::TooLong { .. }) => {
            metrics.oversize_frames.increment();
            CloseCode::FrameTooLong
        }
        ReadEnd::Frame(FrameError::Empty) | ReadEnd::TooSlow => {
            metrics.violations.increment();
            CloseCode::Violation
        }
    };
    tracing::warn!(remote = %connection.remote_address(), reason = %end, "closing a connection");
    code.close_because(&connection, &end.to_string());
}

struct Reader<S> {
    decoder: FrameDecoder,
    inlet: Inlet,
    /// Complete, not yet delivered.
    frames: Vec<Frame>,
    /// The share of the frame that is being read.
    permit: Option<OwnedSemaphorePermit>,
    sink: S,
}

impl<S: FrameSink> Reader<S> {
    async fn run(mut self, mut stream: RecvStream) -> ReadEnd {
        let mut chunks: [Bytes; READ_CHUNKS] = std::array::from_fn(|_| Bytes::new());
        let mut deadline: Option<Instant> = None;
        loop {
            if self.inlet.rest.wait().await {
                deadline = deadline.map(|_| Instant::now() + self.inlet.deadline);
            }
            let read = stream.read_chunks(&mut chunks);
            let outcome = match deadline {
                Some(deadline) => match timeout_at(deadline, read).await {
                    Ok(outcome) => outcome,
                    Err(_) => return ReadEnd::TooSlow,
                },
                None => read.await,
            };
            let Ok(Some(count)) = outcome else { return ReadEnd::Ended };
            for chunk in &mut chunks[..count] {
                match self.take_chunk(std::mem::take(chunk)).await {
                    Ok(true) => deadline = None,
                    Ok(false) => {}
                    Err(end) => return end,
                }
            }
            self.flush();
            if !self.decoder.is_inside_frame() {
                deadline = None;
            } else if deadline.is_none() {
                deadline = Some(Instant::now() + self.inlet.deadline);
            }
        }
    }

    /// Whether the deadline of the current frame begins anew: a frame was completed, or we did not read for a while.
    async fn take_chunk(&mut self, mut chunk: Bytes) -> Result<bool, ReadEnd> {
        let mut anew = false;
        loop {
            match self.decoder.step(&mut chunk)? {
                Decoded::Starved => return Ok(anew),
                Decoded::Announced(length) => anew |= self.reserve(length).await?,
                Decoded::Frame(bytes) => {
                    anew = true;
                    self.inlet.metrics.frames_received[self.inlet.class].increment();
                    self.inlet.metrics.bytes_received[self.inlet.class].add((bytes.len() + PREFIX_BYTES) as u64);
                    if let Some(share) = self.permit.take() {
                        self.frames.push(Frame { bytes, permit: FramePermit { _share: share } });
                    }
                }
            }
        }
    }

    /// Takes a frame's share of the budget; waits for it if need be, and says so.
    async fn reserve(&mut self, length: usize) -> Result<bool, ReadEnd> {
        let share = (length + FRAME_OVERHEAD_BYTES) as u32;
        if let Ok(permit) = Arc::clone(&self.inlet.budget).try_acquire_many_owned(share) {
            self.permit = Some(permit);
            return Ok(false);
        }
        self.inlet.metrics.budget_waits.increment();
        // The consumer must see what we hold back, or it would never release it.
        self.flush();
        let permit = Arc::clone(&self.inlet.budget).acquire_many_owned(share).await.map_err(|_| ReadEnd::Ended)?;
        self.permit = Some(permit);
        Ok(true)
    }

    fn flush(&mut self) {
        if !self.frames.is_empty() {
            self.sink.deliver(&mut self.frames);
            self.frames.clear();
        }
    }
}
