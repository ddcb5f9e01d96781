//! What no engine's own tests show: that a number given at the start draws the line between two lives, and that giving up a
//! log keeps what others certified alone.

use std::sync::Arc;

use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{
    ClusterId, Committee, Digest, Ed25519, Epoch, FaultModel, Incarnation, Member, ReplicaId, SecretKey, Seq, Signed,
    Signer, Statement, StatementBody, Verifier,
};

use super::{Foundation, Setup};
use crate::engine::Now;
use crate::parameters::Parameters;
use crate::rejoin::{self, Rejoined};

const WINDOW: u64 = 16;

fn key(id: u16) -> SecretKey {
    SecretKey::from_seed(&[id as u8 + 1; 32])
}

fn foundation(rejoin_gap: u64) -> Foundation {
    let members = (0..4).map(|id| Member { id: ReplicaId(id), key: key(id).public_key() }).collect();
    let committee = Committee::new(ClusterId(Digest([7; 32])), Epoch(0), FaultModel::Byzantine, members);
    let setup = Setup {
        protocol: quorate_crypto::Protocol::Pbft,
        id: ReplicaId(0),
        incarnation: Incarnation(0),
        rejoin_seed: [1; 32],
        committee: Arc::new(committee.expect("committee")),
        parameters: Parameters { window: WINDOW, checkpoint_interval: 4, ..Parameters::default() },
        signer: Arc::new(key(0)),
        verifier: Verifier::new(Arc::new(Ed25519)),
    };
    Foundation::new(setup, rejoin_gap)
}

fn signed(foundation: &Foundation, id: u16, incarnation: u32, body: StatementBody) -> Signed {
    Statement { epoch: Epoch(0), signer: ReplicaId(id), incarnation: Incarnation(incarnation), body }
        .sign(foundation.committee().cluster(), &key(id))
}

/// `id` rejoined at number 8.
fn rejoined(foundation: &Foundation, id: u16, nonce: [u8; 16]) -> Rejoined {
    let mut table = MerkleMap::new();
    let statement = signed(foundation, id, 1, StatementBody::Rejoin { nonce });
    assert!(rejoin::execute(&mut table, &statement, Seq(8)));
    Rejoined::read(&table).expect("well formed")
}

#[test]
fn a_new_life_speaks_above_the_gap_and_the_old_one_up_to_it() {
    for (gap, line) in [(0, 8), (WINDOW, 24)] {
        let mut foundation = foundation(gap);
        let lives = rejoined(&foundation, 3, [5; 16]);
        foundation.learn_lives(Now::default(), lives, true);
        let counts = |incarnation, seq| {
            let vote = signed(&foundation, 3, incarnation, StatementBody::Executed { seq, results: Digest::ZERO });
            foundation.vote_counts(&vote.statement, seq)
        };
        assert!(counts(0, Seq(line)) && !counts(0, Seq(line + 4)), "the old life, gap {gap}");
        assert!(!counts(1, Seq(line)) && counts(1, Seq(line + 4)), "the new life, gap {gap}");
        let vouches = |incarnation, seq| {
            let vote = signed(&foundation, 3, incarnation, StatementBody::Checkpoint { seq, digest: Digest::ZERO });
            foundation.checkpoint_counts(&vote.statement, seq)
        };
        assert!(vouches(0, Seq(line)) && !vouches(0, Seq(line + 4)), "a state, the old life, gap {gap}");
        assert_eq!(
            vouches(1, Seq(line)),
            gap == 0,
            "a state, the new life: only where no checkpoint had to come first"
        );
        assert!(vouches(1, Seq(line + 4)) && !vouches(2, Seq(line + 4)), "a state above, gap {gap}");
    }
}

#[test]
fn an_attempt_is_settled_once_the_gap_is_passed() {
    for (gap, line) in [(0, 8), (WINDOW, 24)] {
        let mut foundation = foundation(gap);
        foundation.begin_rejoin(Now::default());
        foundation.tend_rejoin(Now::default());
        let attempt = *foundation.lives.rejoining.as_ref().and_then(|rejoining| rejoining.attempt()).expect("begun");
        let StatementBody::Rejoin { nonce } = *attempt.statement.body() else { panic!("no Rejoin") };
        let shown = rejoined(&foundation, 0, nonce);
        assert!(!foundation.settle_attempt(&shown, Seq(line - 1)), "gap {gap}");
        assert!(foundation.settle_attempt(&shown, Seq(line)), "gap {gap}");
        assert!(!foundation.settle_attempt(&shown, Seq(line)), "once");
        assert!(foundation.begin_life(Now::default()) && !foundation.is_rejoining());
        assert!(!foundation.may_sign_about(Seq(line)) && foundation.may_sign_about(Seq(line + 1)), "gap {gap}");
        assert_eq!(foundation.may_vouch_for(Seq(line)), gap == 0);
        assert_eq!(foundation.header().incarnation, Incarnation(1));
    }
}

#[test]
fn giving_up_a_log_keeps_what_others_certified_and_no_statement_of_its_own() {
    let mut foundation = foundation(WINDOW);
    let body = StatementBody::Checkpoint { seq: Seq(4), digest: Digest([9; 32]) };
    for id in [1, 2] {
        let vote = signed(&foundation, id, 0, body);
        assert!(foundation.take_checkpoint(vote).is_none());
    }
    let third = signed(&foundation, 3, 0, body);
    let certificate = foundation.take_checkpoint(third).expect("three of four");
    assert!(foundation.stabilise(certificate));
    assert!(foundation.note_executed(Seq(5), None) && foundation.state_executed(Seq(5), Digest::ZERO).is_some());
    assert!(foundation.vouch(Seq(8), Digest::ZERO).is_none());
    let records = foundation.out.records.len();
    foundation.begin_rejoin(Now::default());
    assert_eq!((foundation.stable(), foundation.executed), (Seq(4), Seq(5)));
    assert!(foundation.own_executed.is_empty() && foundation.checkpoints.own(Seq(8)).is_none());
    let step = foundation.take_step();
    assert_eq!((step.records.len(), step.sends.len(), step.distrust_log), (records, 0, true));
}
