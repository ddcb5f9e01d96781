use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn a_bucket_gives_its_burst_then_its_rate() {
    let start = Instant::now();
    let mut bucket = TokenBucket::new(10, 3, start);
    assert_eq!((0..5).filter(|_| bucket.take(start)).count(), 3);
    assert!(!bucket.take(start + Duration::from_millis(99)));
    assert!(bucket.take(start + Duration::from_millis(200)));
    assert_eq!((0..9).filter(|_| bucket.take(start + Duration::from_hours(1))).count(), 3);
    assert!(!bucket.take(start), "a clock that seems to step back gives nothing");
}

#[test]
fn above_the_threshold_an_address_must_be_proven() {
    let now = Instant::now();
    let mut rates = Rates::new(now);
    assert_eq!(rates.judge(SOURCE, false, false, RETRY_ABOVE_HALF_OPEN - 1, now), Verdict::Accept);
    assert_eq!(rates.judge(SOURCE, false, false, RETRY_ABOVE_HALF_OPEN, now), Verdict::Retry);
    assert_eq!(rates.judge(SOURCE, true, false, RETRY_ABOVE_HALF_OPEN, now), Verdict::Accept);
    assert_eq!(rates.judge(SOURCE, true, true, HALF_OPEN_CAP, now), Verdict::Ignore);
}

#[test]
fn a_flood_of_spoofed_attempts_costs_bounded_work_and_nobody_elses_share() {
    let now = Instant::now();
    let mut rates = Rates::new(now);
    let verdicts: Vec<Verdict> =
        (0..10_000_u32).map(|n| rates.judge(IpAddr::V4(Ipv4Addr::from(n)), false, false, 0, now)).collect();
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    assert_eq!(count(Verdict::Accept), UNPROVEN_HANDSHAKES_PER_SECOND as usize);
    assert_eq!(count(Verdict::Retry), RETRIES_PER_SECOND as usize);
    assert_eq!(rates.judge(SOURCE, false, true, 0, now), Verdict::Retry, "a replica's address is still answered");
    assert_eq!(rates.judge(SOURCE, true, false, 0, now), Verdict::Accept, "and proven, accepted");
}

#[test]
fn one_proven_address_has_its_rate_and_replicas_pass_it() {
    let now = Instant::now();
    let mut rates = Rates::new(now);
    let accepted = (0..1_000).filter(|_| rates.judge(SOURCE, true, false, 0, now) == Verdict::Accept).count();
    assert_eq!(accepted, HANDSHAKE_BURST_PER_ADDRESS as usize);
    assert_eq!(rates.judge(SOURCE, true, true, 0, now), Verdict::Accept);
}
