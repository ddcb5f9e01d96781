//! From a contradiction to evidence. Every find is checked as an outsider would check it before it is reported, so an honest
//! replica never publishes evidence that does not convict.

use quorate_crypto::{ReplicaId, Signed};

use crate::evidence::{Evidence, contradict};
use crate::foundation::Foundation;

impl Foundation {
    /// Reports evidence, if its offence is news and it convicts.
    pub(crate) fn accuse(&mut self, evidence: Evidence) {
        let (author, offence) = (evidence.author(), evidence.offence());
        if !self.convictions.is_news(author, &offence) {
            return;
        }
        let window = self.parameters().window;
        if evidence.verify(self.committee(), window, &self.setup.verifier).is_ok() {
            self.convictions.note(author, evidence.life(), offence);
            self.out.evidence.push(evidence);
        }
    }

    /// Reports two statements of one author, if they contradict each other.
    pub(crate) fn accuse_pair(&mut self, held: Option<Signed>, now: &Signed) {
        if let Some(held) = held
            && contradict(&held, now).is_some()
        {
            self.accuse(Evidence::Contradiction(held, *now));
        }
    }

    /// Whether a replica was convicted before this one's eyes, and should not lead.
    pub(crate) fn is_barred(&self, replica: ReplicaId) -> bool {
        let life = |replica| self.lives.rejoined.incarnation(replica);
        self.convictions.bar(replica, self.committee().faults(), life)
    }
}
