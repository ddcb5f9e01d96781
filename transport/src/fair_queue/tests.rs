use super::*;

fn drain(queue: &FairQueue<&'static str>) -> Vec<&'static str> {
    std::iter::from_fn(|| queue.try_pop()).collect()
}

#[test]
fn lanes_take_turns_and_votes_go_first_within_one() {
    let queue = FairQueue::new();
    queue.push(1, 2, ["bulk"]);
    queue.push(1, 0, ["a1", "a2", "a3"]);
    queue.push(2, 0, ["b1"]);
    assert_eq!(drain(&queue), ["a1", "b1", "a2", "a3", "bulk"]);
}

#[test]
fn announcements_come_before_frames_and_do_not_pile_up() {
    let queue = FairQueue::new();
    let link = |item: &&str| *item == "up" || *item == "down";
    queue.push(1, 0, ["frame"]);
    for _ in 0..100 {
        queue.announce(1, "up", |_| false);
        queue.announce(1, "down", link);
    }
    assert_eq!(drain(&queue), ["down", "frame"]);
}

#[test]
fn a_retired_lane_goes_away_when_empty() {
    let queue = FairQueue::new();
    queue.announce(1, "connected", |_| false);
    queue.push(1, 0, ["frame"]);
    queue.retire(1, 0, "closed", |item| *item == "connected");
    assert_eq!(drain(&queue), ["connected", "frame", "closed"]);
    assert!(lock(&queue.state).lanes.is_empty());
}

#[test]
fn a_sender_the_consumer_never_heard_of_leaves_nothing_behind() {
    let queue = FairQueue::new();
    for lane in 0..100 {
        queue.announce(lane, "connected", |_| false);
        queue.retire(lane, 0, "closed", |item| *item == "connected");
    }
    assert!(drain(&queue).is_empty());
    assert!(lock(&queue.state).lanes.is_empty());
}

#[tokio::test]
async fn a_waiting_consumer_is_woken_by_the_first_item_and_by_the_end() {
    let queue = std::sync::Arc::new(FairQueue::new());
    let consumer = tokio::spawn({
        let queue = std::sync::Arc::clone(&queue);
        async move { (queue.pop().await, queue.pop().await) }
    });
    tokio::task::yield_now().await;
    queue.push(7, 1, ["first"]);
    tokio::task::yield_now().await;
    queue.close();
    assert_eq!(consumer.await.expect("no panic"), (Some("first"), None));
}

#[tokio::test]
async fn many_are_taken_at_once_up_to_the_limit() {
    let queue = FairQueue::new();
    queue.push(1, 0, ["a", "b", "c"]);
    let mut items = Vec::new();
    assert_eq!(queue.pop_many(&mut items, 2).await, 2);
    assert_eq!(items, ["a", "b"]);
}
