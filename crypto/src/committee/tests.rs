//! The quorum arithmetic for every size, and which lists of members are refused.

use super::*;
use crate::digest::Digest;
use crate::keys::{SecretKey, Signer as _};

fn members(count: usize) -> Vec<Member> {
    (0..count)
        .map(|index| {
            let mut seed = [0; 32];
            seed[0] = index as u8;
            Member { id: ReplicaId(index as u16), key: SecretKey::from_seed(&seed).public_key() }
        })
        .collect()
}

fn build(members: Vec<Member>) -> Result<Committee, CommitteeError> {
    Committee::new(ClusterId(Digest([1; 32])), Epoch(0), FaultModel::Byzantine, members)
}

#[test]
fn any_two_quorums_share_an_honest_member_and_the_honest_are_a_quorum() {
    let all = members(MAX_MEMBERS);
    for size in 4..=MAX_MEMBERS {
        let committee = build(all[..size].to_vec()).expect("a committee");
        let (n, f, q) = (committee.size(), committee.faults(), committee.quorum());
        assert_eq!(n, size);
        assert!(3 * f < n, "n = {n}: f = {f} is too many");
        assert!(3 * (f + 1) >= n, "n = {n}: more than f = {f} could be tolerated");
        // Two quorums overlap in at least 2q - n members, of which at most f are faulty.
        assert!(2 * q > n + f, "n = {n}: quorums of {q} may share no honest member");
        // A smaller quorum would not do.
        assert!(2 * (q - 1) < n + f + 1, "n = {n}: a quorum of {q} is larger than needed");
        // Progress without the faulty.
        assert!(n - f >= q, "n = {n}: {} honest members make no quorum of {q}", n - f);
        assert_eq!(committee.one_honest(), f + 1);
        if n == 3 * f + 1 {
            assert_eq!(q, 2 * f + 1, "n = {n}");
        }
    }
}

/// Where n is not 3f + 1 the common formula is wrong: two sets of 2f + 1 = 3 of 5 may share a faulty member alone.
#[test]
fn two_f_plus_one_is_no_quorum_of_five_or_six() {
    for (size, quorum) in [(4, 3), (5, 4), (6, 4), (7, 5), (8, 6), (10, 7)] {
        let committee = build(members(size)).expect("a committee");
        assert_eq!(committee.quorum(), quorum, "n = {size}");
    }
    for size in [5, 6] {
        let committee = build(members(size)).expect("a committee");
        assert_ne!(committee.quorum(), 2 * committee.faults() + 1, "n = {size}");
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    assert_eq!(build(members(3)), Err(CommitteeError::TooFew(3)));
    assert_eq!(build(members(0)), Err(CommitteeError::TooFew(0)));
    assert_eq!(build(members(MAX_MEMBERS + 1)), Err(CommitteeError::TooMany(MAX_MEMBERS + 1)));
}

#[test]
fn shared_ids_and_keys_are_refused() {
    let mut twice = members(5);
    twice[4].id = ReplicaId(1);
    assert_eq!(build(twice), Err(CommitteeError::DuplicateId(ReplicaId(1))));
    let mut one_key = members(5);
    one_key[4].key = one_key[1].key;
    assert_eq!(build(one_key), Err(CommitteeError::DuplicateKey(ReplicaId(1), ReplicaId(4))));
}

#[test]
fn members_are_found_by_id_in_any_order() {
    let mut reversed = members(7);
    reversed.reverse();
    for member in &mut reversed {
        member.id = ReplicaId(member.id.0 * 10);
    }
    let committee = build(reversed.clone()).expect("a committee");
    for member in &reversed {
        assert_eq!(committee.key(member.id), Some(&member.key));
    }
    assert!(!committee.contains(ReplicaId(1)));
    assert!(committee.ids().is_sorted());
    assert_eq!(committee.ids().count(), 7);
}

#[test]
fn members_take_turns_as_primary() {
    let committee = build(members(4)).expect("a committee");
    let primaries: Vec<u16> = (0..6).map(|view| committee.primary(View(view)).0).collect();
    assert_eq!(primaries, [0, 1, 2, 3, 0, 1]);
    assert_eq!(committee.primary(View(u64::MAX)), ReplicaId(3));
}
