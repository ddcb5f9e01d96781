//! What a liar says to clients in a real process, where answers leave by another thread than the engine's.

use quorate_crypto::PublicKey;
use quorate_node::clients::ClientFace;
use quorate_protocol::client::message::ReplicaMessage;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::client_lies::ClientLies;
use super::{Behaviour, Misbehaviour, Switch, Trigger};

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

    fn hits(&mut self, misbehaviour: &Misbehaviour) -> bool {
        match misbehaviour.when {
            Trigger::Always => true,
            Trigger::WhilePrimary => self.switch.leads(),
            Trigger::Percent(percent) => self.random.random_range(0..100) < percent,
        }
    }
}

impl ClientFace for FaultyFace {
    fn outgoing(&mut self, client: PublicKey, message: ReplicaMessage) -> Vec<ReplicaMessage> {
        let mut answers = vec![message];
        if self.switch.is_honest() {
            return answers;
        }
        for misbehaviour in self.switch.on() {
            if !self.hits(&misbehaviour) {
                continue;
            }
            let acted = match misbehaviour.behaviour {
                Behaviour::Silent => {
                    let silenced = answers.len() as u64;
                    answers.clear();
                    silenced
                }
                Behaviour::LieToClients => self.lies.rewrite(&client, &mut answers, &mut self.random),
                Behaviour::ForgeWatch => ClientLies::forge_events(&mut answers),
                Behaviour::Equivocate | Behaviour::EquivocateOne | Behaviour::DoubleVote => 0,
            };
            self.switch.count(misbehaviour.behaviour, acted);
        }
        self.lies.remember(&client, &answers);
        answers
    }
}
