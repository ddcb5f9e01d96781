use super::command::{Extent, fuzz};
use super::*;

/// The short form of `quorate-testnet fuzz`.
#[test]
fn no_target_breaks_a_rule() {
    for target in &TARGETS {
        let outcome = fuzz(target, 1, Extent::Runs(600), None);
        assert!(outcome.failed.is_none(), "{}: {:?}", target.name, outcome.failed);
        assert!(outcome.taken > 0, "{}: nothing is taken, not even the examples", target.name);
    }
}

#[test]
fn a_broken_rule_is_found_and_found_again() {
    fn picky(input: &[u8]) -> Taken {
        assert!(!input.contains(&0x7f), "there it is");
        Taken::Yes
    }
    let target = Target { name: "picky", what: "anything but one byte", run: picky, examples: || vec![vec![1, 2, 3]] };
    let outcome = fuzz(&target, 3, Extent::Runs(100_000), None);
    let (input, reason) = outcome.failed.expect("it is found");
    assert_eq!(reason, "there it is");
    let again = fuzz(&target, 3, Extent::Runs(input + 1), Some(input));
    assert_eq!(again.failed, Some((input, reason)));
}

#[test]
fn schedules_order_requests_and_change_views() {
    let orderly = &corpus::schedules()[0];
    for protocol in replicas::PROTOCOLS {
        let mut schedule = replicas::Schedule::new(protocol);
        schedule.play(orderly);
        assert!(schedule.decided.len() > 8, "{protocol}: {}", schedule.decided.len());
    }
    let kinds: std::collections::HashSet<_> = corpus::messages().iter().map(|bytes| bytes[..4].to_vec()).collect();
    assert!(kinds.len() >= 16, "the corpus holds {} kinds of messages", kinds.len());
}
