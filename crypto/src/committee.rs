//! The members of an epoch and the only quorum arithmetic of the project (protocol.md, Model).
//!
//! For n = 3f + 1 the quorum is 2f + 1; for n = 5 or 6 (f = 1) it is not, so no other module may write such a formula.

use bincode::{Decode, Encode};
use thiserror::Error;

use crate::identity::{ClusterId, Epoch, ReplicaId, View};
use crate::keys::PublicKey;
use crate::mutant::{Mutant, alive};

/// Most members a committee may have. Bounds every bitmap and list of signers.
pub const MAX_MEMBERS: usize = 128;

/// What faulty members may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum FaultModel {
    /// Anything: f = floor((n - 1) / 3), q = ceil((n + f + 1) / 2).
    Byzantine,
}

/// One member: its id and the key its statements are verified with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Member {
    /// The replica's number.
    pub id: ReplicaId,
    /// The consensus key (never the transport key).
    pub key: PublicKey,
}

/// Who counts in one epoch of one cluster. Passed to every check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committee {
    cluster: ClusterId,
    epoch: Epoch,
    fault_model: FaultModel,
    members: Vec<Member>,
}

/// Why a list of members makes no committee.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitteeError {
    /// Fewer than four members tolerate no Byzantine fault.
    #[error("a Byzantine committee needs at least 4 members, not {0}")]
    TooFew(usize),
    /// More than [`MAX_MEMBERS`].
    #[error("a committee has at most {MAX_MEMBERS} members, not {0}")]
    TooMany(usize),
    /// Two members share an id.
    #[error("replica id {0} stands twice")]
    DuplicateId(ReplicaId),
    /// Two members share a key.
    #[error("replicas {0} and {1} share one key")]
    DuplicateKey(ReplicaId, ReplicaId),
    /// A key of small order or in a non-canonical encoding.
    #[error("the key of replica {0} is not an acceptable ed25519 key")]
    UnacceptableKey(ReplicaId),
}

impl Committee {
    /// Builds a committee; members are ordered by id.
    pub fn new(
        cluster: ClusterId,
        epoch: Epoch,
        fault_model: FaultModel,
        mut members: Vec<Member>,
    ) -> Result<Committee, CommitteeError> {
        if members.len() < 4 {
            return Err(CommitteeError::TooFew(members.len()));
        }
        if members.len() > MAX_MEMBERS {
            return Err(CommitteeError::TooMany(members.len()));
        }
        members.sort_by_key(|member| member.id);
        for (index, member) in members.iter().enumerate() {
            for other in &members[index + 1..] {
                if member.id == other.id {
                    return Err(CommitteeError::DuplicateId(member.id));
                }
                if member.key == other.key {
                    return Err(CommitteeError::DuplicateKey(member.id, other.id));
                }
            }
        }
        Ok(Committee { cluster, epoch, fault_model, members })
    }

    /// The cluster every statement must name.
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The epoch every statement must name.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What faulty members may do.
    pub const fn fault_model(&self) -> FaultModel {
        self.fault_model
    }

    /// The members, ordered by id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// n.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// f: the number of faulty members tolerated.
    pub fn faults(&self) -> usize {
        match self.fault_model {
            FaultModel::Byzantine => (self.size() - 1) / 3,
        }
    }

    /// q: any two sets of q members share an honest one, and n - f members are a quorum.
    pub fn quorum(&self) -> usize {
        (self.size() + self.faults() + 1).div_ceil(2) - usize::from(alive(Mutant::QuorumTooSmall))
    }

    /// f + 1: among so many members at least one is honest.
    pub fn one_honest(&self) -> usize {
        self.faults() + usize::from(!alive(Mutant::OneHonestTooFew))
    }

    /// The key of `id`, if it is a member.
    pub fn key(&self, id: ReplicaId) -> Option<&PublicKey> {
        self.members.binary_search_by_key(&id, |member| member.id).ok().map(|index| &self.members[index].key)
    }

    /// Whether `id` is a member.
    pub fn contains(&self, id: ReplicaId) -> bool {
        self.key(id).is_some()
    }

    /// The primary of `view`: members take turns (Castro and Liskov 1999, section 4.1: p = v mod n).
    pub fn primary(&self, view: View) -> ReplicaId {
        self.members[(view.0 % self.size() as u64) as usize].id
    }

    /// The ids of all members.
    pub fn ids(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.members.iter().map(|member| member.id)
    }
}

#[cfg(test)]
mod tests;
