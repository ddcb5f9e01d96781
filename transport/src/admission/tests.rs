use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;

const UNPROVEN: Caller = Caller::Unproven { expected: false };

/// The `n`th address of the internet, from some port.
fn address(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0xc000_0200 + n), 40_000 + n as u16 % 1_000))
}

fn outsider(n: u32) -> Caller {
    Caller::new(address(n), true, false)
}

fn replica(n: u32) -> Caller {
    Caller::new(address(n), true, true)
}

/// Handshakes of `caller` under way, `count` more of them.
fn begin(places: &mut Places, caller: Caller, count: usize) {
    (0..count).for_each(|_| places.take(caller));
}

/// How many of `callers` get a handshake, which none of them finishes.
fn knock(rates: &mut Rates, places: &mut Places, callers: impl Iterator<Item = Caller>, now: Instant) -> usize {
    let mut accepted = 0;
    for caller in callers {
        if rates.judge(caller, places, now) == Verdict::Accept {
            places.take(caller);
            accepted += 1;
        }
    }
    accepted
}

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
    let mut places = Places::default();
    begin(&mut places, UNPROVEN, RETRY_ABOVE_HALF_OPEN - 1);
    assert_eq!(rates.judge(UNPROVEN, &places, now), Verdict::Accept);
    begin(&mut places, UNPROVEN, 1);
    for expected in [false, true] {
        assert_eq!(rates.judge(Caller::Unproven { expected }, &places, now), Verdict::Retry);
    }
    assert_eq!(rates.judge(outsider(1), &places, now), Verdict::Accept);
    assert_eq!(rates.judge(replica(2), &places, now), Verdict::Accept);
}

#[test]
fn unfinished_handshakes_of_one_address_keep_neither_a_member_nor_others_out() {
    let start = Instant::now();
    let mut rates = Rates::new(start);
    let mut places = Places::default();
    // Ten seconds of 64 attempts each, from one port after another.
    for attempt in 0..640_u16 {
        let from = SocketAddr::new(address(1).ip(), 1_024 + attempt);
        let at = start + Duration::from_millis(u64::from(attempt) * 1_000 / 64);
        knock(&mut rates, &mut places, [Caller::new(from, true, false)].into_iter(), at);
    }
    let now = start + Duration::from_secs(10);
    assert_eq!(places.outsiders, HALF_OPEN_CAP_PER_ADDRESS);
    assert_eq!(rates.judge(outsider(1), &places, now), Verdict::Ignore);
    for other in [UNPROVEN, outsider(2), replica(3)] {
        assert_eq!(rates.judge(other, &places, now), Verdict::Accept, "{other:?}");
    }
    places.give_back(outsider(1));
    assert_eq!(rates.judge(outsider(1), &places, now), Verdict::Accept, "one has ended");
}

#[test]
fn many_outsiders_fill_their_own_places_only_and_each_member_its_own() {
    let now = Instant::now();
    let mut rates = Rates::new(now);
    let mut places = Places::default();
    let spoofed = (0..1_000).map(|n| Caller::Unproven { expected: n % 2 == 0 });
    assert_eq!(knock(&mut rates, &mut places, spoofed, now), RETRY_ABOVE_HALF_OPEN);
    let proven = (0..1_000).map(outsider);
    assert_eq!(knock(&mut rates, &mut places, proven, now), HALF_OPEN_CAP - RETRY_ABOVE_HALF_OPEN);
    for member in [2_000, 2_001] {
        let attempts = (0..100).map(|_| replica(member));
        assert_eq!(knock(&mut rates, &mut places, attempts, now), HALF_OPEN_CAP_PER_REPLICA);
    }
    assert_eq!(places.outsiders, HALF_OPEN_CAP, "members take no places of others");
}

#[test]
fn places_that_are_given_back_leave_no_trace() {
    let places = Arc::new(Mutex::new(Places::default()));
    let guards: Vec<HalfOpen> =
        [UNPROVEN, outsider(1), outsider(1), replica(2)].map(|caller| HalfOpen::take(&places, caller)).into();
    let of_all = |places: &Places| (places.outsiders, places.of(outsider(1)), places.taken.len());
    assert_eq!(of_all(&lock(&places)), (3, 2, 3));
    drop(guards);
    assert_eq!(of_all(&lock(&places)), (0, 0, 0));
}

#[test]
fn an_outsider_is_an_address_or_a_v6_network_and_on_loopback_a_port() {
    let outsider = |text: &str| Caller::new(canonical(text.parse().expect("an address")), true, false);
    assert_eq!(outsider("192.0.2.1:1"), outsider("192.0.2.1:2"));
    assert_eq!(outsider("192.0.2.1:1"), outsider("[::ffff:192.0.2.1]:1"));
    assert_ne!(outsider("192.0.2.1:1"), outsider("192.0.2.2:1"));
    assert_eq!(outsider("[2001:db8:1:2::1]:1"), outsider("[2001:db8:1:2:ffff::2]:2"));
    assert_ne!(outsider("[2001:db8:1:2::1]:1"), outsider("[2001:db8:1:3::1]:1"));
    for local in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        assert_ne!(outsider(&format!("{local}:1")), outsider(&format!("{local}:2")));
    }
}

#[test]
fn a_hundred_clients_of_a_local_testnet_get_in_at_once() {
    let now = Instant::now();
    let mut rates = Rates::new(now);
    let mut places = Places::default();
    for port in 0..100 {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000 + port));
        // Whoever is asked to prove the address comes back at once.
        let callers = [false, true].map(|proven| Caller::new(from, proven, false));
        let accepted = callers.into_iter().find(|caller| rates.judge(*caller, &places, now) == Verdict::Accept);
        places.take(accepted.expect("a place"));
    }
}

#[test]
fn a_flood_of_spoofed_attempts_costs_bounded_work_and_nobody_elses_share() {
    let now = Instant::now();
    let mut rates = Rates::new(now);
    let places = Places::default();
    let mut flood = |expected| {
        let verdicts: Vec<Verdict> =
            (0..20_000).map(|_| rates.judge(Caller::Unproven { expected }, &places, now)).collect();
        [Verdict::Accept, Verdict::Retry].map(|wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count())
    };
    assert_eq!(flood(false), [UNPROVEN_HANDSHAKES_PER_SECOND as usize, RETRIES_PER_SECOND as usize]);
    assert_eq!(flood(true), [0, REPLICA_RETRIES_PER_SECOND as usize], "a replica's address is still answered");
    assert_eq!(rates.judge(outsider(1), &places, now), Verdict::Accept, "and proven, accepted");
    assert_eq!(rates.judge(replica(2), &places, now), Verdict::Accept);
}

#[test]
fn one_proven_address_has_its_rate_and_replicas_pass_it() {
    let now = Instant::now();
    let mut rates = Rates::new(now);
    let places = Places::default();
    let mut accepted = |caller| (0..1_000).filter(|_| rates.judge(caller, &places, now) == Verdict::Accept).count();
    assert_eq!(accepted(outsider(1)), HANDSHAKE_BURST_PER_ADDRESS as usize);
    assert_eq!(accepted(replica(1)), 1_000);
}
