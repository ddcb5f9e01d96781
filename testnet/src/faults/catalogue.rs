//! The catalogue: every behaviour of a replica by its name, with its group and one line.

use std::fmt;
use std::str::FromStr;

use quorate_crypto::Protocol;
use thiserror::Error;

/// What a behaviour attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// What a primary proposes, and to whom.
    Leader,
    /// PREPARE, COMMIT, votes for blocks, and certificates.
    Voter,
    /// VIEW-CHANGE and NEW-VIEW; TIMEOUT under HotStuff.
    ViewChange,
    /// CHECKPOINT and the transfer of a state.
    Checkpoint,
    /// What clients are told.
    Answers,
}

impl Group {
    /// All groups, in the order of the catalogue.
    pub const ALL: [Group; 5] = [Group::Leader, Group::Voter, Group::ViewChange, Group::Checkpoint, Group::Answers];

    /// Its heading.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Leader => "leader",
            Group::Voter => "voter",
            Group::ViewChange => "view change",
            Group::Checkpoint => "checkpoint, transfer",
            Group::Answers => "answers to clients",
        }
    }
}

/// A behaviour by the name it has on the command line; [`CATALOGUE`] says what each does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the catalogue below has a line about each")]
pub enum Behaviour {
    Silent,
    Equivocate,
    EquivocateOne,
    DoubleVote,
    LieToClients,
    ForgeWatch,
    Slow,
    Censor,
    ForgeRequest,
    ReplayRequest,
    DuplicateRequest,
    WrongNumber,
    WrongView,
    InTheDark,
    OversizedBatch,
    VoteMany,
    BadSignature,
    WithholdPrepares,
    WithholdCommits,
    StaleVotes,
    FutureVotes,
    ForgedCertificate,
    Impersonate,
    Replay,
    Mutate,
    Amnesia,
    ViewChangeSpam,
    SeveralViewChanges,
    FalseCertificates,
    OmitCertificates,
    NewViewTooFew,
    NewViewWrongValues,
    NewViewLowerView,
    NewViewToSome,
    TimerGames,
    EarlyViewChange,
    WrongCheckpoint,
    TwoCheckpoints,
    GreatHeight,
    CorruptChunks,
    MisindexedChunks,
    SlowDrip,
    FalseSuspicion,
    StaleQc,
    Fork,
    WithholdQc,
    ForgeQc,
    ForgeTc,
    EarlyTimeout,
    TimeoutSpam,
    TwoTimeouts,
    HideQc,
    WithholdVotes,
    WithholdBlocks,
}

/// What the signatures of a behaviour come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It contradicts itself in front of honest replicas: some of them must see it.
    Convicts,
    /// It may contradict itself.
    MayConvict,
    /// Nothing it signs contradicts anything.
    None,
}

/// A behaviour as the catalogue lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub behaviour: Behaviour,
    /// Its name on the command line.
    pub name: &'static str,
    /// What it attacks.
    pub group: Group,
    /// What it does, in one line.
    pub line: &'static str,
    /// Whether it ever acts while the replica leads the view it has entered: else `--when primary` makes no sense.
    pub acts_as_primary: bool,
}

const fn entry(behaviour: Behaviour, name: &'static str, group: Group, line: &'static str) -> Entry {
    Entry { behaviour, name, group, line, acts_as_primary: true }
}

/// One that a primary has no occasion for.
const fn as_backup(behaviour: Behaviour, name: &'static str, group: Group, line: &'static str) -> Entry {
    Entry { behaviour, name, group, line, acts_as_primary: false }
}

/// Every behaviour. New ones are added at the end: seeds that once failed draw from the first so many.
#[rustfmt::skip]
pub const CATALOGUE: &[Entry] = &[
    entry(Behaviour::Silent, "silent", Group::Leader, "says nothing to anybody"),
    entry(Behaviour::Equivocate, "equivocate", Group::Leader, "as primary: one batch for half of the others, another for the rest"),
    entry(Behaviour::EquivocateOne, "equivocate-one", Group::Leader, "as primary: another batch for a single replica"),
    entry(Behaviour::DoubleVote, "double-vote", Group::Voter, "votes for two digests of one number"),
    entry(Behaviour::LieToClients, "lie-to-clients", Group::Answers, "wrong and stale answers to clients"),
    entry(Behaviour::ForgeWatch, "forge-watch", Group::Answers, "watch events that never happened"),
    entry(Behaviour::Slow, "slow", Group::Leader, "as primary: holds every proposal back until just before the timers"),
    entry(Behaviour::Censor, "censor", Group::Leader, "never lets the requests of one client be proposed"),
    entry(Behaviour::ForgeRequest, "forge-request", Group::Leader, "as primary: proposes a request that no client signed"),
    entry(Behaviour::ReplayRequest, "replay-request", Group::Leader, "as primary: proposes requests that executed long ago again"),
    entry(Behaviour::DuplicateRequest, "duplicate-request", Group::Leader, "as primary: proposes one request twice in a batch"),
    entry(Behaviour::WrongNumber, "wrong-number", Group::Leader, "as primary: proposes at numbers far above, far below, or with a gap"),
    entry(Behaviour::WrongView, "wrong-view", Group::Leader, "as primary: proposes in views that are not the present one"),
    entry(Behaviour::InTheDark, "in-the-dark", Group::Leader, "proposals and request bodies to a quorum only"),
    entry(Behaviour::OversizedBatch, "oversized-batch", Group::Leader, "as primary: proposes more requests than a batch may have"),
    entry(Behaviour::VoteMany, "vote-many", Group::Voter, "every vote many times, under several valid signatures"),
    entry(Behaviour::BadSignature, "bad-signature", Group::Voter, "votes whose signature does not hold"),
    as_backup(Behaviour::WithholdPrepares, "withhold-prepares", Group::Voter, "never sends a PREPARE"),
    entry(Behaviour::WithholdCommits, "withhold-commits", Group::Voter, "never sends a COMMIT"),
    entry(Behaviour::StaleVotes, "stale-votes", Group::Voter, "votes in views and at numbers that are over"),
    entry(Behaviour::FutureVotes, "future-votes", Group::Voter, "votes in views and at numbers far ahead"),
    entry(Behaviour::ForgedCertificate, "forged-certificate", Group::Voter, "certificates with too few, repeated or foreign authors, of another epoch or view"),
    entry(Behaviour::Impersonate, "impersonate", Group::Voter, "votes in the name of others, under its own key"),
    entry(Behaviour::Replay, "replay", Group::Voter, "sends again what it once heard or said, to anybody"),
    entry(Behaviour::Mutate, "mutate", Group::Voter, "changes any field of what it says by a little, signed anew or not"),
    entry(Behaviour::Amnesia, "amnesia", Group::Voter, "forgets at every restart what it voted for, and votes again"),
    entry(Behaviour::ViewChangeSpam, "view-change-spam", Group::ViewChange, "VIEW-CHANGEs up to a million views ahead"),
    as_backup(Behaviour::SeveralViewChanges, "several-view-changes", Group::ViewChange, "several VIEW-CHANGEs to one view"),
    as_backup(Behaviour::FalseCertificates, "false-certificates", Group::ViewChange, "VIEW-CHANGEs that lie about what it prepared"),
    as_backup(Behaviour::OmitCertificates, "omit-certificates", Group::ViewChange, "VIEW-CHANGEs that leave out what it prepared"),
    entry(Behaviour::NewViewTooFew, "new-view-too-few", Group::ViewChange, "opens views on fewer VIEW-CHANGEs than a quorum"),
    entry(Behaviour::NewViewWrongValues, "new-view-wrong-values", Group::ViewChange, "opens views with values its VIEW-CHANGEs do not give"),
    entry(Behaviour::NewViewLowerView, "new-view-lower-view", Group::ViewChange, "opens views without the certificates of the highest views"),
    entry(Behaviour::NewViewToSome, "new-view-to-some", Group::ViewChange, "opens views towards one replica only"),
    entry(Behaviour::TimerGames, "timer-games", Group::ViewChange, "VIEW-CHANGE and NEW-VIEW just before the timers"),
    entry(Behaviour::EarlyViewChange, "early-view-change", Group::ViewChange, "asks for the next view as soon as a view begins"),
    entry(Behaviour::WrongCheckpoint, "wrong-checkpoint", Group::Checkpoint, "CHECKPOINTs of a state that is not the one executed"),
    entry(Behaviour::TwoCheckpoints, "two-checkpoints", Group::Checkpoint, "a true and a false CHECKPOINT of one number, the false one first to half of the others"),
    entry(Behaviour::GreatHeight, "great-height", Group::Checkpoint, "says that it is far ahead, and serves nothing"),
    entry(Behaviour::CorruptChunks, "corrupt-chunks", Group::Checkpoint, "serves states with bytes changed"),
    entry(Behaviour::MisindexedChunks, "misindexed-chunks", Group::Checkpoint, "serves a part of the state in another's place"),
    entry(Behaviour::SlowDrip, "slow-drip", Group::Checkpoint, "serves each part of a state just before the fetcher gives up"),
    entry(Behaviour::FalseSuspicion, "false-suspicion", Group::ViewChange, "says in every STATUS that it finds the primary slow"),
    entry(Behaviour::StaleQc, "stale-qc", Group::Leader, "as leader: proposes on an older QC than it knows"),
    entry(Behaviour::Fork, "fork", Group::Leader, "as leader: proposes on the parent's parent, to abandon a block that is not committed"),
    entry(Behaviour::WithholdQc, "withhold-qc", Group::Leader, "as next leader: collects the votes, never shows the QC, and times out"),
    entry(Behaviour::ForgeQc, "forge-qc", Group::Voter, "QCs with too few, repeated or foreign authors, of another view, parent or block"),
    entry(Behaviour::ForgeTc, "forge-tc", Group::ViewChange, "TCs with too few, repeated or foreign authors, or on a lower QC than they name"),
    entry(Behaviour::EarlyTimeout, "early-timeout", Group::ViewChange, "TIMEOUT as soon as a view begins"),
    entry(Behaviour::TimeoutSpam, "timeout-spam", Group::ViewChange, "TIMEOUTs up to a million views ahead, on all sorts of QCs"),
    entry(Behaviour::TwoTimeouts, "two-timeouts", Group::ViewChange, "two TIMEOUTs of one view on different QCs"),
    entry(Behaviour::HideQc, "hide-qc", Group::ViewChange, "TIMEOUTs on an older QC than it holds"),
    entry(Behaviour::WithholdVotes, "withhold-votes", Group::Voter, "never sends a vote for a block"),
    entry(Behaviour::WithholdBlocks, "withhold-blocks", Group::Checkpoint, "serves no blocks, one at a time, or those of another chain"),
];

impl Behaviour {
    /// How the catalogue lists it.
    pub fn entry(self) -> &'static Entry {
        CATALOGUE
            .iter()
            .find(|entry| entry.behaviour == self)
            .unwrap_or_else(|| unreachable!("{self:?} is not in the catalogue"))
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// What it attacks.
    pub fn group(self) -> Group {
        self.entry().group
    }

    /// Whether it means anything under `protocol`: the others attack messages that only the other protocol has.
    pub const fn is_of(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Pbft => !matches!(
                self,
                Behaviour::StaleQc
                    | Behaviour::Fork
                    | Behaviour::WithholdQc
                    | Behaviour::ForgeQc
                    | Behaviour::ForgeTc
                    | Behaviour::EarlyTimeout
                    | Behaviour::TimeoutSpam
                    | Behaviour::TwoTimeouts
                    | Behaviour::HideQc
                    | Behaviour::WithholdVotes
                    | Behaviour::WithholdBlocks
            ),
            Protocol::HotStuff => !matches!(
                self,
                Behaviour::WithholdPrepares
                    | Behaviour::WithholdCommits
                    | Behaviour::ForgedCertificate
                    | Behaviour::ViewChangeSpam
                    | Behaviour::SeveralViewChanges
                    | Behaviour::FalseCertificates
                    | Behaviour::OmitCertificates
                    | Behaviour::NewViewTooFew
                    | Behaviour::NewViewWrongValues
                    | Behaviour::NewViewLowerView
                    | Behaviour::NewViewToSome
                    | Behaviour::EarlyViewChange
                    | Behaviour::FalseSuspicion
            ),
        }
    }

    /// Why it is refused under `protocol`, in a sentence; none if it means something there.
    pub fn refusal(self, protocol: Protocol) -> Option<String> {
        if self.is_of(protocol) {
            return None;
        }
        let own = Protocol::ALL.into_iter().find(|own| self.is_of(*own))?;
        Some(format!(
            "{self} is a behaviour of {own}: the testnet runs {protocol}; `quorate-testnet faults` says which is which"
        ))
    }

    /// Whether what it signs convicts it.
    pub const fn evidence(self) -> Evidence {
        match self {
            Behaviour::Equivocate
            | Behaviour::EquivocateOne
            | Behaviour::DoubleVote
            | Behaviour::ForgeRequest
            | Behaviour::TwoCheckpoints
            | Behaviour::NewViewWrongValues
            | Behaviour::NewViewLowerView
            | Behaviour::TwoTimeouts => Evidence::Convicts,
            Behaviour::ReplayRequest
            | Behaviour::WrongNumber
            | Behaviour::WrongView
            | Behaviour::StaleVotes
            | Behaviour::FutureVotes
            | Behaviour::Mutate
            | Behaviour::Amnesia
            | Behaviour::ViewChangeSpam
            | Behaviour::SeveralViewChanges
            | Behaviour::FalseCertificates
            | Behaviour::OmitCertificates
            | Behaviour::EarlyViewChange
            // One TIMEOUT or block of each view as long as the process lives and the behaviour acts. A restart forgets what was
            // told, and what is sent again then may differ; TIMEOUTs ahead meet the true ones when their view comes.
            | Behaviour::StaleQc
            | Behaviour::Fork
            | Behaviour::WithholdQc
            | Behaviour::ForgeQc
            | Behaviour::ForgeTc
            | Behaviour::EarlyTimeout
            | Behaviour::TimeoutSpam
            | Behaviour::HideQc => Evidence::MayConvict,
            _ => Evidence::None,
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no behaviour {0:?}; the catalogue has: {list}", list = names())]
pub struct UnknownBehaviour(pub String);

fn names() -> String {
    CATALOGUE.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

impl FromStr for Behaviour {
    type Err = UnknownBehaviour;

    fn from_str(text: &str) -> Result<Behaviour, UnknownBehaviour> {
        let found = CATALOGUE.iter().find(|entry| entry.name == text);
        found.map(|entry| entry.behaviour).ok_or_else(|| UnknownBehaviour(text.to_owned()))
    }
}
