use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

fn read(decoder: &mut FrameDecoder, mut chunk: Bytes) -> Result<Vec<Bytes>, FrameError> {
    let mut frames = Vec::new();
    loop {
        match decoder.step(&mut chunk)? {
            Decoded::Starved => return Ok(frames),
            Decoded::Announced(_) => {}
            Decoded::Frame(frame) => frames.push(frame),
        }
    }
}

#[test]
fn frames_read_back_however_the_bytes_are_cut() {
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..200 {
        let sent: Vec<Bytes> = (0..random.random_range(1..20))
            .map(|_| {
                let length =
                    if random.random_bool(0.1) { random.random_range(1..20_000) } else { random.random_range(1..300) };
                Bytes::from((0..length).map(|_| random.random()).collect::<Vec<u8>>())
            })
            .collect();
        let mut chunks = Vec::new();
        encode(&mut sent.clone(), &mut chunks);
        let mut wire = Bytes::from(chunks.concat());
        let mut decoder = FrameDecoder::new(20_000);
        let mut received = Vec::new();
        while !wire.is_empty() {
            let cut = random.random_range(1..=wire.len().min(7_000));
            received.extend(read(&mut decoder, wire.split_to(cut)).expect("honest bytes"));
        }
        assert_eq!(received, sent);
        assert!(!decoder.is_inside_frame());
    }
}

#[test]
fn a_length_over_the_cap_is_refused_before_anything_is_allocated() {
    for length in [1_001, u32::MAX] {
        let mut decoder = FrameDecoder::new(1_000);
        let error = read(&mut decoder, Bytes::copy_from_slice(&length.to_be_bytes())).unwrap_err();
        assert_eq!(error, FrameError::TooLong { length: length as usize, cap: 1_000 });
        assert!(matches!(decoder.state, State::Prefix { .. }), "no buffer was made");
    }
    assert_eq!(read(&mut FrameDecoder::new(1_000), Bytes::from_static(&[0; 4])), Err(FrameError::Empty));
    let mut exact = FrameDecoder::new(1_000);
    assert_eq!(exact.step(&mut Bytes::copy_from_slice(&1_000_u32.to_be_bytes())), Ok(Decoded::Announced(1_000)));
}

#[test]
fn an_announcement_alone_allocates_nothing_and_little_after_one_byte() {
    let mut decoder = FrameDecoder::new(4 << 20);
    read(&mut decoder, Bytes::copy_from_slice(&(4_u32 << 20).to_be_bytes())).expect("at the cap");
    let State::Body { body, .. } = &decoder.state else { panic!("a body is expected") };
    assert_eq!(body.capacity(), 0);
    read(&mut decoder, Bytes::from_static(b"x")).expect("a first byte");
    let State::Body { body, .. } = &decoder.state else { panic!("a body is expected") };
    assert!(body.capacity() <= 2 * FRAME_FIRST_ALLOCATION_BYTES);
}

#[test]
fn a_small_frame_does_not_keep_the_datagram_it_came_in() {
    let mut wire = Vec::new();
    wire.extend_from_slice(&5_u32.to_be_bytes());
    wire.extend_from_slice(b"votes");
    wire.extend_from_slice(&[0; 6_000]);
    let wire = Bytes::from(wire);
    let mut decoder = FrameDecoder::new(100);
    let mut chunk = wire.clone();
    assert_eq!(decoder.step(&mut chunk), Ok(Decoded::Announced(5)));
    let Ok(Decoded::Frame(frame)) = decoder.step(&mut chunk) else { panic!("a frame is expected") };
    assert_eq!(frame, "votes");
    assert!(!wire.as_ptr_range().contains(&frame.as_ptr()));
}

#[test]
fn random_bytes_never_panic() {
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..20_000 {
        let mut decoder = FrameDecoder::new(64);
        let mut small = false;
        for _ in 0..4 {
            let mut bytes: Vec<u8> = (0..random.random_range(0..80)).map(|_| random.random()).collect();
            if random.random_bool(0.7) && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&random.random_range(0_u32..70).to_be_bytes());
            }
            match read(&mut decoder, Bytes::from(bytes)) {
                Ok(frames) => small |= frames.iter().all(|frame| !frame.is_empty() && frame.len() <= 64),
                Err(_) => break,
            }
        }
        let _ = small;
    }
}
