//! Checkpoints: votes of all members, the stable one, what this replica vouched for itself (Castro and Liskov 1999,
//! section 4.3).

use std::collections::BTreeMap;

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Certificate, Committee, Digest, ReplicaId, Seq, Signed, StatementBody};

/// Checkpoint votes. Bounded: numbers within the look-ahead, one vote per member and number.
#[derive(Debug, Default)]
pub struct Checkpoints {
    votes: BTreeMap<Seq, BTreeMap<ReplicaId, Signed>>,
    /// This replica's own statements, kept until the second stable checkpoint after them.
    own: BTreeMap<Seq, Signed>,
    stable: Option<Certificate>,
    previous: Seq,
}

/// Number and digest of a CHECKPOINT statement.
pub fn parts(body: &StatementBody) -> Option<(Seq, Digest)> {
    match body {
        StatementBody::Checkpoint { seq, digest } => Some((*seq, *digest)),
        _ => None,
    }
}

impl Checkpoints {
    /// The stable checkpoint: the low watermark h.
    pub fn stable_seq(&self) -> Seq {
        self.stable.as_ref().and_then(|certificate| parts(&certificate.body)).map_or(Seq(0), |(seq, _)| seq)
    }

    /// Its state root; zero for the genesis state.
    pub fn stable_digest(&self) -> Digest {
        self.stable.as_ref().and_then(|certificate| parts(&certificate.body)).map_or(Digest::ZERO, |(_, digest)| digest)
    }

    /// The certificate of the stable checkpoint.
    pub fn stable(&self) -> Option<&Certificate> {
        self.stable.as_ref()
    }

    /// The stable checkpoint before: what happened up to it is no longer kept.
    pub fn previous_seq(&self) -> Seq {
        self.previous
    }

    /// This replica's own CHECKPOINT at `seq`.
    pub fn own(&self, seq: Seq) -> Option<&Signed> {
        self.own.get(&seq)
    }

    /// All own CHECKPOINTs still kept, ascending.
    pub fn all_own(&self) -> impl Iterator<Item = &Signed> {
        self.own.values()
    }

    /// The vote of `author` at `seq`, if one is held.
    pub fn vote(&self, seq: Seq, author: ReplicaId) -> Option<&Signed> {
        self.votes.get(&seq)?.get(&author)
    }

    /// The newest vote of `author`.
    pub fn newest_vote(&self, author: ReplicaId) -> Option<&Signed> {
        self.votes.values().rev().find_map(|votes| votes.get(&author))
    }

    /// Notes an own CHECKPOINT.
    pub fn add_own(&mut self, seq: Seq, signed: Signed) {
        self.own.insert(seq, signed);
        if seq > self.stable_seq() {
            self.votes.entry(seq).or_default().insert(signed.signer(), signed);
        }
    }

    /// Adds a verified vote; of each author the first of its latest life counts. Returns the certificate when it completes one.
    pub fn add(&mut self, signed: Signed, committee: &Committee) -> Option<Certificate> {
        let (seq, _) = parts(signed.body())?;
        if seq <= self.stable_seq() {
            return None;
        }
        let held = self.votes.entry(seq).or_default().entry(signed.signer()).or_insert(signed);
        // A replica that came back may have been repaired: what it said before must not stand in its way.
        if signed.statement.incarnation > held.statement.incarnation {
            *held = signed;
        }
        self.certificate_at(seq, committee)
    }

    /// q equal votes at `seq`, if there are so many.
    pub fn certificate_at(&self, seq: Seq, committee: &Committee) -> Option<Certificate> {
        let votes = self.votes.get(&seq)?;
        let mut by_digest: BTreeMap<Digest, Vec<&Signed>> = BTreeMap::new();
        for signed in votes.values() {
            if let Some((_, digest)) = parts(signed.body()) {
                let digest = if alive(Mutant::RootsMixed) { Digest::ZERO } else { digest };
                by_digest.entry(digest).or_default().push(signed);
            }
        }
        let winner = by_digest
            .into_values()
            .find(|votes| votes.len() + usize::from(alive(Mutant::StableTooSoon)) >= committee.quorum())?;
        Certificate::collect(winner)
    }

    /// The newest checkpoint above the stable one that `enough` members vouch for equally.
    pub fn vouched(&self, enough: usize) -> Option<(Seq, Digest)> {
        self.votes.iter().rev().find_map(|(seq, votes)| {
            let digests = votes.values().filter_map(|signed| parts(signed.body())).map(|(_, digest)| digest);
            let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
            digests.for_each(|digest| *counts.entry(digest).or_default() += 1);
            counts.into_iter().find(|(_, count)| *count >= enough).map(|(digest, _)| (*seq, digest))
        })
    }

    /// Makes a verified certificate the stable one, if it is newer. Returns whether it was.
    pub fn stabilise(&mut self, certificate: Certificate) -> bool {
        let Some((seq, _)) = parts(&certificate.body) else { return false };
        let before = self.stable_seq();
        if seq <= before {
            return false;
        }
        self.previous = before;
        self.stable = Some(certificate);
        self.votes = self.votes.split_off(&seq.next());
        self.own = self.own.split_off(&before);
        true
    }

    /// After a restart: the stable certificate as it stood.
    pub fn restore(&mut self, certificate: Certificate) {
        self.stabilise(certificate);
    }
}

#[cfg(test)]
mod tests;
