use super::*;
use crate::hotstuff::certificate::QuorumCertificate;
use crate::hotstuff::testing::{certify, chain, committee, timeout, verifier};

const D: Micros = 250_000;

fn parameters() -> Parameters {
    Parameters { view_timeout: D, backoff_cap: 16, ..Parameters::default() }
}

fn at(monotonic: Micros) -> Now {
    Now { monotonic, wall: 0 }
}

#[test]
fn the_timer_runs_only_while_something_is_outstanding() {
    let mut pacemaker = Pacemaker::new(View(1));
    pacemaker.tend(at(1_000), false, &parameters(), &committee(4));
    assert_eq!(pacemaker.deadline(), None);
    pacemaker.tend(at(1_000), true, &parameters(), &committee(4));
    pacemaker.tend(at(9_000), true, &parameters(), &committee(4));
    assert_eq!(pacemaker.deadline(), Some(1_000 + D), "it is not put off by work that comes");
    assert!(!pacemaker.is_expired(at(D)) && pacemaker.is_expired(at(1_000 + D)));
    pacemaker.tend(at(9_000), false, &parameters(), &committee(4));
    assert_eq!(pacemaker.deadline(), None);
    pacemaker.tend(at(9_000), true, &parameters(), &committee(4));
    assert!(pacemaker.enter(View(2), Entry::Quorum));
    assert_eq!(pacemaker.deadline(), None, "every view has its own time");
}

#[test]
fn views_only_go_up() {
    let mut pacemaker = Pacemaker::new(View(5));
    assert!(!pacemaker.enter(View(5), Entry::Quorum) && !pacemaker.enter(View(2), Entry::Quorum));
    assert!(pacemaker.enter(View(9), Entry::Quorum));
    assert_eq!(pacemaker.view(), View(9));
}

#[test]
fn the_time_doubles_with_every_f_plus_one_failed_views_up_to_a_cap_and_a_commit_ends_that() {
    let mut pacemaker = Pacemaker::new(View(1));
    let mut patience = Vec::new();
    for view in 2..=12 {
        patience.push(pacemaker.patience(&parameters(), &committee(4)) / D);
        pacemaker.enter(View(view), Entry::Timeout { voted: false });
    }
    assert_eq!(patience, [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 16]);
    pacemaker.enter(View(13), Entry::Quorum);
    assert_eq!(pacemaker.patience(&parameters(), &committee(4)), 16 * D, "a QC alone is no progress");
    pacemaker.progressed();
    assert_eq!(pacemaker.patience(&parameters(), &committee(4)), D);
}

/// A killed leader costs one full timeout and a quarter.
#[test]
fn who_voted_gives_the_next_view_a_quarter_but_never_two_in_a_row() {
    let mut pacemaker = Pacemaker::new(View(1));
    let mut patience = Vec::new();
    for view in 2..=6 {
        pacemaker.enter(View(view), Entry::Timeout { voted: true });
        patience.push(4 * pacemaker.patience(&parameters(), &committee(4)) / D);
    }
    assert_eq!(patience, [1, 4, 1, 8, 1], "in quarters");
    pacemaker.enter(View(7), Entry::Quorum);
    assert!(pacemaker.patience(&parameters(), &committee(4)) >= D, "after a QC there is nothing to be impatient about");
}

#[test]
fn a_process_that_slept_catches_up_before_its_timer_fires() {
    let mut pacemaker = Pacemaker::new(View(1));
    pacemaker.tend(at(0), true, &parameters(), &committee(4));
    pacemaker.notice_pause(at(10 * D), 10 * D, &parameters());
    assert!(!pacemaker.is_expired(at(10 * D)) && pacemaker.is_expired(at(11 * D)));
    pacemaker.notice_pause(at(20 * D), 9 * D, &parameters());
    assert!(pacemaker.is_expired(at(20 * D)), "once only");
}

#[test]
fn one_timeout_of_each_author_is_kept_the_newest() {
    let genesis = QuorumCertificate::Genesis;
    let mut pacemaker = Pacemaker::new(View(3));
    assert_eq!(pacemaker.add(timeout(1, 2, &genesis)), Collected::Nothing, "that view is over");
    assert_eq!(pacemaker.add(timeout(1, 3, &genesis)), Collected::New);
    assert_eq!(pacemaker.add(timeout(1, 3, &genesis)), Collected::Nothing);
    assert_eq!(pacemaker.add(timeout(1, u64::MAX, &genesis)), Collected::New);
    assert_eq!(pacemaker.add(timeout(1, 4, &genesis)), Collected::Nothing);
    assert_eq!(pacemaker.timeout_of(ReplicaId(1)).map(Timeout::view), Some(View(u64::MAX)));
    let qc = certify(&chain(1)[1]);
    pacemaker.add(timeout(2, 3, &genesis));
    assert_eq!(pacemaker.add(timeout(2, 3, &qc)), Collected::Contradicts(timeout(2, 3, &genesis).signed));
    assert_eq!(pacemaker.given_up_by().collect::<Vec<_>>(), [ReplicaId(2)]);
    pacemaker.enter(View(5), Entry::Quorum);
    assert_eq!(pacemaker.timeout_of(ReplicaId(2)), None, "what is over is forgotten");
    assert!(pacemaker.timeout_of(ReplicaId(1)).is_some());
}

#[test]
fn f_plus_one_are_joined_and_q_make_a_certificate() {
    let committee = committee(4);
    let qc = certify(&chain(2)[2]);
    let genesis = QuorumCertificate::Genesis;
    let mut pacemaker = Pacemaker::new(View(3));
    pacemaker.add(timeout(1, 900, &genesis));
    assert_eq!(pacemaker.joins(View(0), &committee), None, "one alone moves nobody");
    pacemaker.add(timeout(2, 4, &qc));
    assert_eq!(pacemaker.joins(View(0), &committee), Some(View(4)));
    assert_eq!(pacemaker.joins(View(4), &committee), None, "joined already");
    pacemaker.add(timeout(3, 4, &genesis));
    assert_eq!(pacemaker.certificate(&committee), None);
    pacemaker.add(timeout(0, 4, &genesis));
    let certificate = pacemaker.certificate(&committee).expect("three of view 4");
    assert_eq!((certificate.view, certificate.high_qc.view(), certificate.timeouts.len()), (View(4), View(2), 3));
    assert!(verifier().verify(certificate, &committee, &()).is_ok());
}

#[test]
fn timeouts_of_a_life_that_is_over_can_be_forgotten() {
    let genesis = QuorumCertificate::Genesis;
    let mut pacemaker = Pacemaker::new(View(3));
    pacemaker.add(timeout(1, 3, &genesis));
    pacemaker.add(timeout(2, 3, &genesis));
    pacemaker.keep_timeouts(|timeout| timeout.signed.signer() != ReplicaId(1));
    assert_eq!(pacemaker.given_up_by().collect::<Vec<_>>(), [ReplicaId(2)]);
}

/// The rest of the view is what the next leader has for the certificate.
#[test]
fn a_leader_that_hurried_leaves_the_view_its_time() {
    let (committee, parameters) = (committee(4), parameters());
    let mut pacemaker = Pacemaker::new(View(3));
    pacemaker.tend(at(1_000), true, &parameters, &committee);
    let full = pacemaker.deadline();
    pacemaker.hurry(2_000);
    assert_eq!((pacemaker.deadline(), pacemaker.is_hurried()), (Some(2_000), true));
    pacemaker.calm(&parameters, &committee);
    assert_eq!((pacemaker.deadline(), pacemaker.is_hurried()), (full, false));
}
