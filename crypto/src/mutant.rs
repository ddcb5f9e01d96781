//! Defects of our own code, built in behind the cargo feature `mutants`, of which one is let loose at run time: whatever
//! looks for defects must find each of them.
//!
//! A mutant is a branch at the line that holds a rule: `if alive(Mutant::X) { the rule is broken }`. Without the feature
//! [`alive`] is false at compile time and nothing is left of it. With the feature the mutant is chosen for the present
//! thread by `release`, or for a whole process by the variable [`VARIABLE`], so that one binary holds them all.
//!
//! `quorate-testnet simulate --mutants` lets them loose one after the other, and says how many seeds each survived. What
//! a simulator whose messages are typed cannot see dies by a named test instead.

use std::fmt;

/// Names the mutant of a process: what a test is to fail under.
pub const VARIABLE: &str = "QUORATE_MUTANT";

/// What kills a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Killer {
    /// An oracle of the simulator.
    Simulator,
    /// A test, by its package and name: the simulator cannot see it.
    Test(&'static str, &'static str),
}

macro_rules! mutants {
    ($($name:ident $text:literal $rule:literal $killer:expr, $what:literal;)+) => {
        /// One defect.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Mutant {
            $(#[doc = $what] $name,)+
        }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)+];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Mutant::$name => $text,)+ }
            }

            /// The rule it breaks: a row of the protocol's table, or a word for what is not in it.
            pub const fn rule(self) -> &'static str {
                match self { $(Mutant::$name => $rule,)+ }
            }

            /// What is wrong.
            pub const fn what(self) -> &'static str {
                match self { $(Mutant::$name => $what,)+ }
            }

            /// What kills it.
            pub const fn killer(self) -> Killer {
                match self { $(Mutant::$name => $killer,)+ }
            }
        }
    };
}

use Killer::{Simulator, Test};

mutants! {
    QuorumTooSmall "quorum-too-small" "quorum" Simulator, "A quorum is one member short.";
    OneHonestTooFew "one-honest-too-few" "quorum" Simulator, "f members are believed where f + 1 are needed.";
    SameSignerTwice "same-signer-twice" "P1" Test("quorate-crypto", "certificate"), "One author counts as many in a certificate.";
    EpochIgnored "epoch-ignored" "epoch" Test("quorate-crypto", "certificate"), "A certificate of another epoch holds.";
    SignaturesUnchecked "signatures-unchecked" "signature" Simulator, "Signatures are not looked at.";
    BatchUnchecked "batch-unchecked" "X1" Test("quorate-crypto", "signature_scheme"), "A batch of signatures holds whatever is in it.";
    LivesMixedUp "lives-mixed-up" "incarnation" Test("quorate-protocol", "evidence"), "Statements of two incarnations convict their author.";
    ChunkNotBound "chunk-not-bound" "P14" Test("quorate-crypto", "merkle_map"), "A chunk is taken whatever its digest.";
    TrailingBytes "trailing-bytes" "X3" Test("quorate-crypto", "encoding"), "Bytes behind a message are ignored.";
    CapUnchecked "cap-unchecked" "X3" Test("quorate-crypto", "encoding"), "No cap is looked at before a message is decoded.";
    PathNotBound "path-not-bound" "X2" Test("quorate-crypto", "merkle_tree"), "A path's index is not compared with the length of its list.";

    PrimaryPrepares "primary-prepares" "prepared" Test("quorate-protocol", "safety"), "The primary's own PREPARE counts among those of the backups.";
    PrepareOfAnything "prepare-of-anything" "prepared" Test("quorate-protocol", "safety"), "PREPAREs of another ballot count.";
    PreparedTooSoon "prepared-too-soon" "prepared" Simulator, "One PREPARE fewer than needed is enough.";
    CommitOfAnything "commit-of-anything" "committed" Test("quorate-protocol", "safety"), "COMMITs of another ballot count.";
    CommittedTooSoon "committed-too-soon" "committed" Simulator, "One COMMIT fewer than a quorum is enough.";
    AcceptsTwice "accepts-twice" "one digest" Test("quorate-protocol", "safety"), "A second proposal for one number of one view is voted for.";
    AcceptsAgainstDecided "accepts-against-decided" "one digest" Test("quorate-protocol", "safety"), "A proposal that contradicts a decision is voted for.";
    WatermarkIgnored "watermark-ignored" "P9" Test("quorate-protocol", "safety"), "Numbers far above the stable checkpoint are taken.";
    VotesInOtherViews "votes-in-other-views" "one view" Test("quorate-protocol", "safety"), "A replica votes in a view it has not entered.";
    LowestViewWins "lowest-view-wins" "P3" Simulator, "Of two prepared certificates the older one is carried over.";
    FirstCheckpointWins "first-checkpoint-wins" "P6" Test("quorate-protocol", "safety"), "A new view rests on the first stable checkpoint at hand, not the highest.";
    ProofOfAnyView "proof-of-any-view" "P2" Test("quorate-protocol", "safety"), "A VIEW-CHANGE may prove with certificates of the view it asks for.";
    ProofOfAnyPrimary "proof-of-any-primary" "P2" Test("quorate-protocol", "safety"), "Who led the view of a proof is not looked at.";
    NewViewOfAnybody "new-view-of-anybody" "P2" Test("quorate-protocol", "safety"), "Anybody opens a view.";
    NewViewSendersRepeat "new-view-senders-repeat" "P2" Test("quorate-protocol", "safety"), "A NEW-VIEW rests on one VIEW-CHANGE many times.";
    NewViewNotRecomputed "new-view-not-recomputed" "P2" Simulator, "What a NEW-VIEW carries over is taken on trust.";
    ConvictedLeads "convicted-leads" "evidence" Test("quorate-protocol", "evidence"), "A primary that evidence convicts leads on.";
    JoinsAlone "joins-alone" "P9" Test("quorate-protocol", "safety"), "One replica that is ahead takes the others into its view.";
    AnyTimeGoes "any-time-goes" "agreed time" Test("quorate-protocol", "safety"), "A proposal's time is not compared with the clock.";

    TrustsDigests "trusts-digests" "bodies" Simulator, "A vote is given without the bodies.";
    VoteBeforeRecord "vote-before-record" "durable" Simulator, "A COMMIT leaves before its record is durable.";
    DecisionBeforeRecord "decision-before-record" "durable" Test("quorate-protocol", "normal_case"), "A decision counts a vote of its own that is not durable.";
    ForgetsPrepared "forgets-prepared" "P10" Simulator, "A restarted replica no longer knows what it prepared.";
    ForgetsVotes "forgets-votes" "P10" Simulator, "A restarted replica no longer knows what it voted for.";
    ForgetsViewChange "forgets-view-change" "P10" Simulator, "A restarted replica no longer knows that it left a view.";
    ForgetsAssignments "forgets-assignments" "P10" Simulator, "A restarted primary assigns its numbers anew.";
    HidesDecided "hides-decided" "P4" Simulator, "A VIEW-CHANGE leaves out what is decided.";
    HidesPrepared "hides-prepared" "P4" Simulator, "A VIEW-CHANGE leaves out what is prepared.";
    StableTooSoon "stable-too-soon" "checkpoint" Simulator, "One CHECKPOINT fewer than a quorum makes it stable.";
    RootsMixed "roots-mixed" "checkpoint" Test("quorate-protocol", "checkpoint"), "CHECKPOINTs of different roots count together.";
    CutsTooMuch "cuts-too-much" "durable" Simulator, "The log is cut beyond what the stable checkpoint covers.";
    NeverPrepares "never-prepares" "liveness" Simulator, "A replica that entered a later view gives no PREPARE.";
    NoViewTimer "no-view-timer" "liveness" Simulator, "Nobody notices a dead primary.";
    ViewChangeOnce "view-change-once" "P7" Simulator, "A VIEW-CHANGE is sent once.";
    NoStatus "no-status" "P11" Simulator, "What was lost is never sent again.";
    BodiesNotFetched "bodies-not-fetched" "liveness" Simulator, "A missing body is not asked for.";

    OldVotesCount "old-votes-count" "rejoin" Test("quorate-protocol", "pbft"), "Votes of a life that is over count.";
    OldLivesOpenViews "old-lives-open-views" "rejoin" Test("quorate-protocol", "pbft"), "A view is entered on VIEW-CHANGEs of a life that is over.";

    CommitsAcrossViews "commits-across-views" "H1" Simulator, "A block commits although its certified child is not in the view right after.";
    CertificateFieldsUnsigned "certificate-fields-unsigned" "H2" Simulator, "What a quorum certificate says is not compared with what its votes signed.";
    BadVoteSpoils "bad-vote-spoils" "H3" Test("quorate-protocol", "hotstuff::certificate"), "One bad vote stops the certificate of a quorum of good ones.";
    TimeoutUnlocksNothing "timeout-unlocks-nothing" "H4" Test("quorate-protocol", "hotstuff::safety"), "A replica votes for nothing that rests on a lower certificate than it holds.";
    RecoversFromQuorumOnly "recovers-from-quorum-only" "H5" Simulator, "A restarted replica goes back to the view of its quorum certificate.";
    ForgetsPromises "forgets-promises" "H6" Simulator, "A restarted replica no longer knows in which views it signed.";
    BlockLacksCertificates "block-lacks-certificates" "H7" Test("quorate-protocol", "hotstuff::block"), "A block's digest leaves out the certificates it rests on.";
    CommitsNewestFirst "commits-newest-first" "H7" Simulator, "Ancestors are handed on newest first.";
    VotesAfterTimeout "votes-after-timeout" "vote" Simulator, "A replica votes in a view it gave up on.";
    TimeoutsWithoutCertificate "timeouts-without-certificate" "TC" Test("quorate-protocol", "hotstuff::certificate"), "A timeout certificate holds without the quorum certificate that its TIMEOUTs name.";
    AnybodyLeads "anybody-leads" "leader" Test("quorate-protocol", "hotstuff::safety"), "Anybody's block is voted for.";

    ExecutesTwice "executes-twice" "exactly once" Simulator, "A number that executed executes again.";
    ExecutesExpired "executes-expired" "exactly once" Test("quorate-protocol", "execution"), "A request executes after its time limit.";
    ExecutesAcknowledged "executes-acknowledged" "exactly once" Test("quorate-protocol", "execution"), "A number its client has acknowledged executes.";
    TimeGoesBack "time-goes-back" "agreed time" Test("quorate-protocol", "execution"), "Agreed time follows the last proposal, even back.";
    HalfTransactions "half-transactions" "atomic" Test("quorate-kv", "transactions"), "A transaction that is refused half-way leaves its first half.";

    BelievesOne "believes-one" "f + 1" Simulator, "A client believes the first answer.";
    SyncSkipped "sync-skipped" "durable" Simulator, "The log is written and not synced.";
    SyncErrorIgnored "sync-error-ignored" "X4" Test("quorate-node", "log"), "A failed sync counts as one that was done.";
    ChecksumIgnored "checksum-ignored" "durable" Test("quorate-node", "log"), "A frame is read whatever its checksum.";
    GapIgnored "gap-ignored" "durable" Test("quorate-node", "log"), "A log with a hole in it counts as one with a torn end.";
}

impl Mutant {
    /// The mutant of this name.
    pub fn by_name(name: &str) -> Option<Mutant> {
        Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "mutants")]
mod loose {
    use std::cell::Cell;

    use super::{Mutant, VARIABLE};

    thread_local! {
        static LOOSE: Cell<Option<Mutant>> = Cell::new(of_process());
    }

    /// # Panics
    /// If the variable names no mutant: a test that then passes would prove nothing.
    fn of_process() -> Option<Mutant> {
        let name = std::env::var(VARIABLE).ok()?;
        Some(Mutant::by_name(&name).unwrap_or_else(|| panic!("{VARIABLE}={name} names no mutant")))
    }

    /// Lets a mutant loose in the present thread, or none.
    pub fn release(mutant: Option<Mutant>) {
        LOOSE.set(mutant);
    }

    /// Whether this mutant is loose in the present thread.
    pub fn alive(mutant: Mutant) -> bool {
        LOOSE.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use loose::{alive, release};

/// Whether this mutant is loose: never, without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn alive(_: Mutant) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_found_again() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::by_name(mutant.name()), Some(*mutant));
            assert!(mutant.what().ends_with('.') && !mutant.rule().is_empty());
        }
        assert!(Mutant::ALL.len() >= 40);
    }
}
