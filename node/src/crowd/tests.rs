use super::*;

const KEY: PublicKey = PublicKey([1; 32]);
const OTHER: PublicKey = PublicKey([2; 32]);

fn turn(crowd: &Crowd, now: Instant, refused: &[PublicKey], pending: &[PublicKey]) {
    crowd.turned(now, refused.iter().copied(), |key| pending.contains(key));
}

#[test]
fn a_key_in_the_crowd_has_one_request_under_way_and_another_none() {
    let (crowd, now) = (Crowd::new(), Instant::now());
    assert!(crowd.admits(KEY, now), "it has nothing pending");
    assert!(!crowd.admits(KEY, now), "one is on its way to the core");
    assert!(crowd.admits(OTHER, now), "each key has a place of its own");
    crowd.taken(&KEY);
    assert!(!crowd.admits(KEY, now), "the turn that takes it has not ended");
    turn(&crowd, now, &[], &[KEY]);
    assert!(!crowd.admits(KEY, now), "it is pending");
    turn(&crowd, now, &[], &[]);
    assert!(crowd.admits(KEY, now), "it has executed: a key with nothing pending is always admitted");
}

#[test]
fn what_ends_on_its_way_blocks_nobody() {
    let (crowd, now) = (Crowd::new(), Instant::now());
    assert!(crowd.admits(KEY, now));
    crowd.returned(&KEY);
    assert!(crowd.admits(KEY, now), "its signature did not hold, and it may have been another's");
}

#[test]
fn a_refusal_is_followed_by_a_rest() {
    let (crowd, now) = (Crowd::new(), Instant::now());
    assert!(crowd.admits(KEY, now));
    crowd.taken(&KEY);
    turn(&crowd, now, &[KEY], &[]);
    assert!(!crowd.admits(KEY, now));
    assert!(crowd.admits(KEY, now + REST));
    turn(&crowd, now, &[OTHER], &[]);
    assert!(crowd.admits(OTHER, now), "who is not in the crowd needs none");
}

#[test]
fn what_was_handed_on_before_a_key_came_is_no_debt() {
    let (crowd, now) = (Crowd::new(), Instant::now());
    assert!(crowd.admits(KEY, now));
    crowd.retain(|_| false);
    crowd.taken(&KEY);
    assert!(crowd.admits(KEY, now));
    crowd.taken(&KEY);
    crowd.taken(&KEY);
    turn(&crowd, now, &[], &[]);
    assert!(crowd.admits(KEY, now));
}
