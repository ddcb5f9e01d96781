//! Whether many client keys ask at once, as the core last said: the thread that verifies goes by it.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_protocol::engine::Crowd;

/// What the core last said. Both numbers are set and read together.
#[derive(Debug, Default)]
pub(crate) struct CrowdSign(AtomicU64);

impl CrowdSign {
    /// The core says how it stands.
    pub(crate) fn set(&self, crowd: Option<Crowd>) {
        let part = |number: usize| u64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let both = crowd.map_or(0, |crowd| part(crowd.share.max(1)) << 32 | part(crowd.mean_weight));
        self.0.store(both, Ordering::Relaxed);
    }

    /// What it last said; no share is zero.
    pub(crate) fn get(&self) -> Option<Crowd> {
        let both = self.0.load(Ordering::Relaxed);
        let (share, mean_weight) = ((both >> 32) as usize, (both & u64::from(u32::MAX)) as usize);
        (share > 0).then_some(Crowd { share, mean_weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        let sign = CrowdSign::default();
        assert_eq!(sign.get(), None);
        for crowd in [None, Some(Crowd { share: 2, mean_weight: 0 }), Some(Crowd { share: 40, mean_weight: 1 << 20 })] {
            sign.set(crowd);
            assert_eq!(sign.get(), crowd);
        }
    }
}
