//! Frames on a stream: a length (u32, big-endian), then that many bytes. Pure: bytes in, frames out.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::limits::{COALESCE_FRAME_BYTES, FRAME_FIRST_ALLOCATION_BYTES};

/// Bytes of a length prefix.
pub(crate) const PREFIX_BYTES: usize = 4;

/// A length prefix that no honest sender writes. The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {length} bytes was announced, the cap is {cap}")]
    TooLong { length: usize, cap: usize },
    #[error("an empty frame was announced")]
    Empty,
}

/// One step of reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// All bytes are used up.
    Starved,
    /// A frame of this many bytes begins; nothing is allocated for it yet.
    Announced(usize),
    /// A frame is complete.
    Frame(Bytes),
}

/// Reads frames from a stream's bytes as they come in.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    cap: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Prefix { bytes: [u8; PREFIX_BYTES], have: usize },
    Body { length: usize, body: Vec<u8> },
}

const FRESH: State = State::Prefix { bytes: [0; PREFIX_BYTES], have: 0 };

impl FrameDecoder {
    /// Reads frames of up to `cap` bytes.
    pub(crate) fn new(cap: usize) -> FrameDecoder {
        FrameDecoder { cap, state: FRESH }
    }

    /// Whether a frame has begun and is not complete.
    pub(crate) fn is_inside_frame(&self) -> bool {
        !matches!(self.state, State::Prefix { have: 0, .. })
    }

    /// Uses up bytes of `chunk` until something is to be told. After an error the decoder must not be used again.
    pub(crate) fn step(&mut self, chunk: &mut Bytes) -> Result<Decoded, FrameError> {
        match &mut self.state {
            State::Prefix { bytes, have } => {
                let taken = chunk.len().min(PREFIX_BYTES - *have);
                bytes[*have..*have + taken].copy_from_slice(&chunk[..taken]);
                chunk.advance(taken);
                *have += taken;
                if *have < PREFIX_BYTES {
                    return Ok(Decoded::Starved);
                }
                let length = u32::from_be_bytes(*bytes) as usize;
                if length > self.cap {
                    return Err(FrameError::TooLong { length, cap: self.cap });
                }
                if length == 0 {
                    return Err(FrameError::Empty);
                }
                self.state = State::Body { length, body: Vec::new() };
                Ok(Decoded::Announced(length))
            }
            State::Body { length, body } => {
                if body.is_empty() && chunk.len() >= *length {
                    let frame = whole(chunk, *length);
                    self.state = FRESH;
                    return Ok(Decoded::Frame(frame));
                }
                let taken = chunk.len().min(*length - body.len());
                let needed = body.len() + taken;
                if needed > body.capacity() {
                    // It doubles up to its length and not beyond: a frame may wait for long.
                    let room = needed.max(2 * body.capacity()).max(FRAME_FIRST_ALLOCATION_BYTES).min(*length);
                    body.reserve_exact(room - body.len());
                }
                body.extend_from_slice(&chunk[..taken]);
                chunk.advance(taken);
                if body.len() < *length {
                    return Ok(Decoded::Starved);
                }
                let frame = Bytes::from(std::mem::take(body));
                self.state = FRESH;
                Ok(Decoded::Frame(frame))
            }
        }
    }
}

/// A frame that lies whole in a received chunk. Small ones are copied: a slice would keep the whole datagram, maybe a
/// hundred times its size, for as long as the frame is kept, and no budget would know.
fn whole(chunk: &mut Bytes, length: usize) -> Bytes {
    if length * 2 < chunk.len() || length <= COALESCE_FRAME_BYTES {
        let frame = Bytes::copy_from_slice(&chunk[..length]);
        chunk.advance(length);
        frame
    } else {
        chunk.split_to(length)
    }
}

/// Puts length prefixes before `frames` and small frames together into few chunks, ready for one write. `frames` is
/// left empty. Each frame is within the cap of its class, which the queue has checked.
pub(crate) fn encode(frames: &mut Vec<Bytes>, chunks: &mut Vec<Bytes>) {
    let small = |frame: &Bytes| frame.len() <= COALESCE_FRAME_BYTES;
    let together = frames.iter().map(|frame| PREFIX_BYTES + if small(frame) { frame.len() } else { 0 }).sum();
    let mut buffer = BytesMut::with_capacity(together);
    for frame in frames.drain(..) {
        buffer.put_u32(frame.len() as u32);
        if small(&frame) {
            buffer.put_slice(&frame);
        } else {
            chunks.push(buffer.split().freeze());
            chunks.push(frame);
        }
    }
    if !buffer.is_empty() {
        chunks.push(buffer.freeze());
    }
}

#[cfg(test)]
mod tests;
