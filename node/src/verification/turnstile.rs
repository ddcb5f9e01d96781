//! What a client's request passes before anything is spent on it. A key that asks for too much on a busy machine has one
//! request under way at a time, like a client that waits for its answers ([`Crowd`]); everything else it sends is told
//! Busy unverified. That is no verdict on the request, and nobody counts on it arriving: a replica that needs its body
//! for a vote asks its peers.
//!
//! The answers to such a key are held back for a moment and leave together: they say to come back much later, and one
//! packet each would cost as much as the requests do.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use quorate_crypto::PublicKey;

use super::demand::Demand;
use crate::clients::ServiceInput;
use crate::crowd::Crowd;
use crate::process::core::Admitted;

/// Answers wait this long for others.
const HELD_FOR: Duration = Duration::from_millis(20);
/// So many leave at once.
const HELD_MAX: usize = 256;

/// The turnstile.
pub(super) struct Turnstile {
    demand: Demand,
    crowd: Arc<Crowd>,
    registered: Admitted,
    held: Vec<ServiceInput>,
    leaves_at: Option<Instant>,
}

impl Turnstile {
    pub(super) fn new(now: Instant, crowd: Arc<Crowd>, registered: Admitted) -> Turnstile {
        Turnstile { demand: Demand::new(now), crowd, registered, held: Vec::new(), leaves_at: None }
    }

    /// Whether a request that claims to be of `client` may pass, that came over a link whose key is proven to be `link`. It
    /// counts as asked for by the link: nobody is turned away for what others claim in its name. Over a link that asks for
    /// too much each registered key has one request under way; a made-up one, which execution would refuse, has none.
    pub(super) fn admits(&mut self, now: Instant, link: &PublicKey, client: &PublicKey) -> bool {
        if self.demand.turn(now) {
            let Turnstile { demand, crowd, .. } = self;
            crowd.retain(|key| demand.is_too_much(key));
        }
        // The key of a link may have been unregistered since it came up, and must not count as others that ask for little.
        if self.is_registered(link) {
            self.demand.ask(link);
        }
        !self.demand.is_too_much(link) || (self.is_registered(client) && self.crowd.admits(*client, now))
    }

    fn is_registered(&self, client: &PublicKey) -> bool {
        let registered: &BTreeSet<PublicKey> = &self.registered.read().unwrap_or_else(PoisonError::into_inner);
        registered.contains(client)
    }

    /// A request that was let through came to its end before the core took it.
    pub(super) fn returned(&self, client: &PublicKey) {
        self.crowd.returned(client);
    }

    /// Holds an answer back.
    pub(super) fn hold(&mut self, now: Instant, answer: ServiceInput) {
        self.held.push(answer);
        self.leaves_at.get_or_insert(now + HELD_FOR);
    }

    /// When what is held back leaves.
    pub(super) const fn leaves_at(&self) -> Option<Instant> {
        self.leaves_at
    }

    /// What leaves now, all or nothing.
    pub(super) fn leaving(&mut self, now: Instant) -> Vec<ServiceInput> {
        if self.held.len() < HELD_MAX && self.leaves_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.leaves_at = None;
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use quorate_crypto::Digest;
    use quorate_transport::ConnectionId;

    use super::*;

    fn busy(number: u8) -> ServiceInput {
        let request = Digest([number; 32]);
        ServiceInput::Busy { connection: ConnectionId(1), key: PublicKey([1; 32]), request, retry_after: 100 }
    }

    #[test]
    fn answers_leave_together_and_soon() {
        let now = Instant::now();
        let mut turnstile = Turnstile::new(now, Arc::new(Crowd::new()), Arc::new(RwLock::default()));
        assert_eq!(turnstile.leaves_at(), None);
        turnstile.hold(now, busy(1));
        turnstile.hold(now + HELD_FOR / 2, busy(2));
        assert!(turnstile.leaving(now + HELD_FOR / 2).is_empty());
        assert_eq!(turnstile.leaves_at(), Some(now + HELD_FOR));
        assert_eq!(turnstile.leaving(now + HELD_FOR).len(), 2);
        assert_eq!(turnstile.leaves_at(), None);
        (0..HELD_MAX).for_each(|_| turnstile.hold(now, busy(3)));
        assert_eq!(turnstile.leaving(now).len(), HELD_MAX, "so many do not wait");
    }

    #[test]
    fn only_registered_keys_count_as_others() {
        let now = Instant::now();
        let registered = Arc::new(RwLock::new(BTreeSet::from([PublicKey([1; 32])])));
        let mut turnstile = Turnstile::new(now, Arc::new(Crowd::new()), registered);
        let (one, stranger) = (PublicKey([1; 32]), PublicKey([2; 32]));
        assert!(turnstile.admits(now, &one, &one) && turnstile.admits(now, &stranger, &stranger));
        assert_eq!(turnstile.demand.keys(), 1);
    }

    #[test]
    fn who_asks_for_too_much_has_one_under_way_at_a_time() {
        let (now, crowd) = (Instant::now(), Arc::new(Crowd::new()));
        let (greedy, modest) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let registered = Arc::new(RwLock::new(BTreeSet::from([greedy, modest])));
        let mut turnstile = Turnstile::new(now, Arc::clone(&crowd), registered);
        assert!(turnstile.admits(now, &modest, &modest));
        assert!((0..100).all(|_| turnstile.admits(now, &greedy, &greedy)), "nobody is judged before the count ends");
        turnstile.demand.end_count(now, true);
        assert!(turnstile.admits(now, &greedy, &greedy) && !turnstile.admits(now, &greedy, &greedy));
        assert!((0..100).all(|_| turnstile.admits(now, &modest, &modest)));
        turnstile.returned(&greedy);
        assert!(turnstile.admits(now, &greedy, &greedy));
    }

    /// A burst in another's name is the burst of who sends it.
    #[test]
    fn nobody_is_held_back_for_what_others_claim() {
        let (now, crowd) = (Instant::now(), Arc::new(Crowd::new()));
        let (liar, victim, modest) = (PublicKey([1; 32]), PublicKey([2; 32]), PublicKey([3; 32]));
        let registered = Arc::new(RwLock::new(BTreeSet::from([liar, victim, modest])));
        let mut turnstile = Turnstile::new(now, Arc::clone(&crowd), registered);
        assert!(turnstile.admits(now, &modest, &modest) && turnstile.admits(now, &victim, &victim));
        assert!((0..100).all(|_| turnstile.admits(now, &liar, &victim)));
        turnstile.demand.end_count(now, true);
        assert!(turnstile.admits(now, &liar, &victim), "carried for another, one at a time");
        assert!(!turnstile.admits(now, &liar, &victim));
        assert!((0..100).all(|_| turnstile.admits(now, &victim, &victim)), "its own link asks for little");
        assert!(!turnstile.admits(now, &liar, &PublicKey([9; 32])), "a key that nobody registered");
    }
}
