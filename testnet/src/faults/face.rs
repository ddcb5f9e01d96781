//! What a liar says to clients in a real process, where answers leave by another thread than the engine's.

use quorate_crypto::PublicKey;
use quorate_node::clients::ClientFace;
use quorate_protocol::client::message::ReplicaMessage;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::Switch;
use super::client_lies::ClientLies;

/// Stands between a node and its clients. Turned by the same [`Switch`] as the engine of its process; behaviours with an
/// end in time are ended by whoever holds the switch.
pub struct FaultyFace {
    switch: Switch,
    lies: ClientLies,
    random: ChaCha8Rng,
}

impl FaultyFace {
    /// `seed` decides every choice the behaviours make.
    pub fn new(switch: Switch, seed: u64) -> FaultyFace {
        FaultyFace { switch, lies: ClientLies::default(), random: ChaCha8Rng::seed_from_u64(seed) }
    }
}

impl ClientFace for FaultyFace {
    fn outgoing(&mut self, client: PublicKey, message: ReplicaMessage) -> Vec<ReplicaMessage> {
        let mut answers = vec![message];
        if self.switch.is_honest() {
            return answers;
        }
        let standing = self.switch.standing();
        for misbehaviour in self.switch.on() {
            if misbehaviour.when.hits(&standing, &mut self.random) {
                let acted = self.lies.act(misbehaviour.behaviour, &client, &mut answers, &mut self.random);
                self.switch.count(misbehaviour.behaviour, acted);
            }
        }
        self.lies.remember(&client, &answers);
        answers
    }
}
