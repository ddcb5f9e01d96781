//! Who was convicted by this replica's own eyes, of what, and what follows from it for whom it lets lead.
//!
//! ```text
//!   evidence that verifies ─► its offence is remembered, and reported once
//!                          └► its author, as the primary of a view, is suspected from the view's first moment on
//! ```
//!
//! A primary that equivocates and still gets its numbers decided is neither slow nor silent: only its signatures give it
//! away (threats.md, L2: the view is left). One conviction moves nobody alone: as with a slow primary, a replica leaves
//! together with f others who suspect it, so that a liar who shows its two faces to a single backup does not part that
//! backup from the others ([`crate::pbft::monitor::may_evict`]).

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::mutant::{Mutant, alive};
use quorate_crypto::{Digest, Incarnation, ReplicaId};

/// Most offences of one author that are reported. Beyond them it is convicted often enough, and each costs two checks of
/// signatures here and a file at whoever keeps evidence. Per author: else one liar would use up the room of another.
const OFFENCES_MAX: usize = 256;

/// What was proven of one author.
#[derive(Debug, Default)]
struct Offences {
    known: BTreeSet<Digest>,
    /// The newest life that offended.
    life: Incarnation,
}

/// What was proven here since the process began.
#[derive(Debug, Default)]
pub struct Convictions {
    offences: BTreeMap<ReplicaId, Offences>,
}

impl Convictions {
    /// Whether evidence of this offence is worth checking.
    pub fn is_news(&self, author: ReplicaId, offence: &Digest) -> bool {
        let known = self.offences.get(&author).map(|offences| &offences.known);
        known.is_none_or(|known| !known.contains(offence) && known.len() < OFFENCES_MAX)
    }

    /// The evidence verified: an offence of this life of its author.
    pub fn note(&mut self, author: ReplicaId, life: Incarnation, offence: Digest) {
        let offences = self.offences.entry(author).or_default();
        offences.known.insert(offence);
        offences.life = offences.life.max(life);
    }

    /// Whether `primary` should not lead; `life` says in which life each replica is. Who contradicted itself because it had
    /// lost its log, and came back in a new life, is as good as any other. With more than `faults` convicted nothing is
    /// promised any more, and to pass over nearly everybody would only add to the harm.
    pub fn bar(&self, primary: ReplicaId, faults: usize, life: impl Fn(ReplicaId) -> Incarnation) -> bool {
        let guilty = |(author, offences): (&ReplicaId, &Offences)| offences.life >= life(*author);
        let barred = self.offences.get(&primary).is_some_and(|offences| guilty((&primary, offences)));
        let count = self.offences.iter().filter(|each| guilty(*each)).count();
        !alive(Mutant::ConvictedLeads) && count <= faults && barred
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Incarnation = Incarnation(0);

    fn offence(number: u8) -> Digest {
        Digest([number; 32])
    }

    #[test]
    fn an_offence_is_news_once_and_one_author_does_not_use_up_the_room_of_another() {
        let mut convictions = Convictions::default();
        assert!(convictions.is_news(ReplicaId(0), &offence(1)));
        convictions.note(ReplicaId(0), FIRST, offence(1));
        assert!(!convictions.is_news(ReplicaId(0), &offence(1)));
        for number in 0..OFFENCES_MAX as u64 {
            convictions.note(
                ReplicaId(0),
                FIRST,
                Digest::of(quorate_crypto::Domain::Fingerprint, &[&number.to_be_bytes()]),
            );
        }
        assert!(!convictions.is_news(ReplicaId(0), &offence(2)), "enough of it is known");
        assert!(convictions.is_news(ReplicaId(1), &offence(2)));
    }

    #[test]
    fn who_is_convicted_does_not_lead_unless_more_than_f_are() {
        let mut convictions = Convictions::default();
        assert!(!convictions.bar(ReplicaId(0), 1, |_| FIRST));
        convictions.note(ReplicaId(0), FIRST, offence(1));
        assert!(convictions.bar(ReplicaId(0), 1, |_| FIRST));
        assert!(!convictions.bar(ReplicaId(1), 1, |_| FIRST));
        convictions.note(ReplicaId(1), FIRST, offence(2));
        assert!(!convictions.bar(ReplicaId(0), 1, |_| FIRST) && !convictions.bar(ReplicaId(1), 1, |_| FIRST));
    }

    #[test]
    fn a_new_life_is_not_barred_for_what_the_one_before_did() {
        let mut convictions = Convictions::default();
        convictions.note(ReplicaId(0), FIRST, offence(1));
        let rejoined = |replica: ReplicaId| if replica == ReplicaId(0) { Incarnation(1) } else { FIRST };
        assert!(!convictions.bar(ReplicaId(0), 1, rejoined));
        // Nor does it count among those that are too many.
        convictions.note(ReplicaId(2), FIRST, offence(2));
        assert!(convictions.bar(ReplicaId(2), 1, rejoined));
        convictions.note(ReplicaId(0), Incarnation(1), offence(3));
        assert!(!convictions.bar(ReplicaId(0), 1, rejoined), "two at once are more than f");
        assert!(convictions.bar(ReplicaId(0), 2, rejoined));
    }
}
