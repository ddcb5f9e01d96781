use super::*;

#[test]
fn nothing_is_acknowledged_that_may_still_execute() {
    let mut numbers = Numbers::default();
    assert_eq!(numbers.acknowledged_below(), 1);
    assert_eq!(numbers.take(8), Some(1));
    assert_eq!(numbers.take(8), Some(2));
    assert_eq!(numbers.take(8), Some(3));
    numbers.settle(2);
    assert_eq!(numbers.acknowledged_below(), 1);
    numbers.give_up(1, 5_000);
    numbers.expire(5_000);
    assert_eq!(numbers.acknowledged_below(), 1, "valid until 5,000 inclusive");
    numbers.expire(5_001);
    assert_eq!(numbers.acknowledged_below(), 3);
    numbers.settle(3);
    assert_eq!(numbers.acknowledged_below(), 4);
}

#[test]
fn a_number_in_flight_never_expires() {
    let mut numbers = Numbers::default();
    numbers.take(8);
    numbers.expire(u64::MAX);
    assert_eq!(numbers.acknowledged_below(), 1);
}

#[test]
fn the_span_is_kept() {
    let mut numbers = Numbers::default();
    assert_eq!(numbers.take(2), Some(1));
    assert_eq!(numbers.take(2), Some(2));
    assert_eq!(numbers.take(2), None);
    numbers.settle(2);
    assert_eq!(numbers.take(2), None, "the lowest open number counts");
    numbers.settle(1);
    assert_eq!(numbers.take(2), Some(3));
}
