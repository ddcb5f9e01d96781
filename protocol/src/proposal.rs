//! What is ordered: a header time and a payload, named by d = H(time, payload kind, payload digest).
//!
//! The view is not in d, so a proposal keeps its name through view changes (protocol.md, Signed statements).

use bincode::{Decode, Encode};
use quorate_crypto::digest::Hasher;
use quorate_crypto::{Digest, Domain};

/// What a proposal carries.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Payload {
    /// Fills a gap; executes nothing. One constant, whatever the view.
    Null,
    /// Requests named by digest, in order. May be empty: an empty batch only moves agreed time.
    Batch(Vec<Digest>),
    /// Reserved: a reference certified by a dissemination layer. Refused until that layer exists.
    Certified(Digest),
}

/// A proposal: agreed time (ms since the Unix epoch) and payload.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Proposal {
    /// The primary's clock when it proposed, in milliseconds. Zero for a null request.
    pub time: u64,
    /// What is ordered.
    pub payload: Payload,
}

impl Proposal {
    /// The null request: d0 = H(0, null, zero digest).
    pub const NULL: Proposal = Proposal { time: 0, payload: Payload::Null };

    /// d.
    pub fn digest(&self) -> Digest {
        let (kind, payload) = match &self.payload {
            Payload::Null => (0u8, Digest::ZERO),
            Payload::Batch(requests) => (1, batch_digest(requests)),
            Payload::Certified(reference) => (2, *reference),
        };
        Digest::of(Domain::Proposal, &[&self.time.to_be_bytes(), &[kind], payload.as_bytes()])
    }

    /// The digests of the requests it names.
    pub fn requests(&self) -> &[Digest] {
        match &self.payload {
            Payload::Batch(requests) => requests,
            Payload::Null | Payload::Certified(_) => &[],
        }
    }

    /// What every replica judges alike (protocol.md, "What rejects a proposal"): known payload kind, limits, no request
    /// twice inside the batch, a null request only as the one constant.
    pub fn is_well_formed(&self, batch_requests_max: usize) -> bool {
        match &self.payload {
            Payload::Null => self.time == 0,
            Payload::Certified(_) => false,
            Payload::Batch(requests) => {
                let mut seen: Vec<&Digest> = requests.iter().collect();
                seen.sort_unstable();
                requests.len() <= batch_requests_max && seen.windows(2).all(|pair| pair[0] != pair[1])
            }
        }
    }
}

fn batch_digest(requests: &[Digest]) -> Digest {
    let mut hasher = Hasher::new(Domain::Payload);
    for request in requests {
        hasher.part(request.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_in_the_digest() {
        let one = Digest([1; 32]);
        let two = Digest([2; 32]);
        let proposals = [
            Proposal::NULL,
            Proposal { time: 0, payload: Payload::Batch(vec![]) },
            Proposal { time: 1, payload: Payload::Batch(vec![]) },
            Proposal { time: 1, payload: Payload::Batch(vec![one]) },
            Proposal { time: 1, payload: Payload::Batch(vec![one, two]) },
            Proposal { time: 1, payload: Payload::Batch(vec![two, one]) },
            Proposal { time: 1, payload: Payload::Certified(one) },
        ];
        for (index, proposal) in proposals.iter().enumerate() {
            for other in &proposals[index + 1..] {
                assert_ne!(proposal.digest(), other.digest());
            }
        }
    }

    #[test]
    fn duplicates_inside_a_batch_and_too_many_are_refused() {
        let one = Digest([1; 32]);
        let two = Digest([2; 32]);
        let batch = |requests: Vec<Digest>| Proposal { time: 1, payload: Payload::Batch(requests) };
        assert!(batch(vec![one, two]).is_well_formed(2));
        assert!(!batch(vec![one, two, one]).is_well_formed(9));
        assert!(!batch(vec![one, two]).is_well_formed(1));
        assert!(!Proposal { time: 1, payload: Payload::Null }.is_well_formed(9));
        assert!(!Proposal { time: 1, payload: Payload::Certified(one) }.is_well_formed(9));
    }
}
