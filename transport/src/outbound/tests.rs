use super::*;

fn frame(name: u8, length: usize) -> Bytes {
    Bytes::from(vec![name; length])
}

async fn drain(queue: &OutboundQueue) -> Vec<u8> {
    let mut frames = Vec::new();
    queue.take(&mut frames, usize::MAX).await;
    frames.iter().map(|frame| frame[0]).collect()
}

fn linked(overflow: Overflow, frames: usize) -> OutboundQueue {
    let queue = OutboundQueue::new(overflow, frames * (100 + FRAME_OVERHEAD_BYTES), 100 + FRAME_OVERHEAD_BYTES);
    queue.set_linked(true);
    queue
}

#[tokio::test]
async fn votes_push_out_the_oldest() {
    let queue = linked(Overflow::DropOldest, 3);
    for name in 1..=5 {
        let displaced = usize::from(name > 3);
        assert_eq!(queue.push(frame(name, 100)), Pushed::Queued { displaced });
        assert!(queue.waiting_bytes() <= queue.cap);
    }
    assert_eq!(drain(&queue).await, [3, 4, 5]);
    assert_eq!(queue.waiting_bytes(), 0);
}

#[tokio::test]
async fn bulk_is_refused_when_full() {
    let queue = linked(Overflow::Refuse, 2);
    assert_eq!(queue.push(frame(1, 100)), Pushed::Queued { displaced: 0 });
    assert_eq!(queue.push(frame(2, 100)), Pushed::Queued { displaced: 0 });
    assert_eq!(queue.push(frame(3, 100)), Pushed::Refused);
    assert_eq!(drain(&queue).await, [1, 2]);
}

#[tokio::test]
async fn without_a_link_only_the_newest_are_kept() {
    let queue = linked(Overflow::DropOldest, 3);
    queue.push(frame(1, 100));
    queue.push(frame(2, 100));
    assert_eq!(queue.set_linked(false), 1);
    assert_eq!(queue.push(frame(3, 100)), Pushed::Queued { displaced: 1 });
    queue.set_linked(true);
    assert_eq!(drain(&queue).await, [3]);
}

#[test]
fn a_flood_of_tiny_frames_is_bounded_too() {
    let queue = linked(Overflow::DropOldest, 10);
    for _ in 0..10_000 {
        queue.push(frame(1, 1));
    }
    assert!(lock(&queue.state).frames.len() <= queue.cap / FRAME_OVERHEAD_BYTES);
}

#[tokio::test]
async fn one_write_takes_about_its_limit() {
    let queue = linked(Overflow::DropOldest, 10);
    for name in 0..10 {
        queue.push(frame(name, 100));
    }
    let mut frames = Vec::new();
    queue.take(&mut frames, 250).await;
    assert_eq!(frames.len(), 3);
}
