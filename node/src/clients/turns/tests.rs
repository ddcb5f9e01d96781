use super::*;

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

/// What is taken at one time, if every item takes as many units as `cost` says.
fn taken(turns: &mut Turns<(u8, usize)>, cost: impl Fn(u8) -> u64) -> Vec<(u8, usize)> {
    let mut taken = Vec::new();
    turns.work(|(whose, number)| {
        taken.push((whose, number));
        cost(whose)
    });
    taken
}

#[test]
fn dear_items_of_one_key_are_taken_between_anothers_and_a_bounded_number_at_a_time() {
    let mut turns = Turns::default();
    for (whose, count) in [(1, 100), (2, 3)] {
        for number in 0..count {
            turns.push(key(whose), (whose, number));
        }
    }
    let dear = UNITS_AT_A_TIME / 4;
    let first = taken(&mut turns, |_| dear);
    assert_eq!(first, [(1, 0), (2, 0), (1, 1), (2, 1)]);
    let second = taken(&mut turns, |_| dear);
    assert_eq!(second, [(1, 2), (2, 2), (1, 3), (1, 4)]);
    assert!(!turns.is_empty(), "the rest waits");
}

#[test]
fn cheap_items_of_a_key_share_a_turn() {
    let mut turns = Turns::default();
    for whose in [1, 2] {
        for number in 0..20 {
            turns.push(key(whose), (whose, number));
        }
    }
    let taken = taken(&mut turns, |whose| if whose == 1 { UNITS_AT_A_TIME / 4 } else { 1 });
    assert_eq!(taken.iter().filter(|(whose, _)| *whose == 2).count(), 20);
    assert_eq!(taken.iter().filter(|(whose, _)| *whose == 1).count(), 4);
}

#[test]
fn what_is_dropped_leaves_no_turn_behind() {
    let mut turns = Turns::default();
    for whose in [1, 2] {
        for number in 0..4 {
            turns.push(key(whose), (whose, number));
        }
    }
    turns.retain(|(whose, number)| *whose == 1 && *number == 3);
    turns.push(key(2), (2, 9));
    assert_eq!(taken(&mut turns, |_| 0), [(1, 3), (2, 9)], "no item is free, and each is taken once");
    assert!(turns.is_empty());
}
