//! A cluster directory as the launcher makes it.

use std::net::UdpSocket;

use quorate_crypto::ReplicaId;
use quorate_keys::genesis::{GenesisClient, GenesisReplica};
use quorate_keys::{ClientKey, Genesis, GenesisContents, Identity, Parameters, Protocol};
use tempfile::TempDir;

/// A directory with a `testnet` in it, and everybody's keys.
pub struct Testbed {
    pub directory: TempDir,
    pub genesis: Genesis,
    pub identities: Vec<Identity>,
    pub client: ClientKey,
    pub admin: ClientKey,
}

/// A UDP port nobody uses at the moment.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound").port()
}

/// Four replicas, a client and an admin. Nobody listens yet.
pub fn testbed() -> Testbed {
    let identities: Vec<Identity> = (0..4).map(|id| Identity::from_seeds(&[id + 1; 32], &[id + 101; 32])).collect();
    let client = ClientKey::from_seed(&[201; 32]);
    let admin = ClientKey::from_seed(&[202; 32]);
    let replicas = identities
        .iter()
        .enumerate()
        .map(|(id, identity)| {
            let public = identity.public();
            let address = |port: u16| format!("127.0.0.1:{port}").parse().expect("an address");
            GenesisReplica {
                id: ReplicaId(id as u16),
                consensus_key: public.consensus,
                transport_key: public.transport,
                peer_address: address(free_port()),
                client_address: address(free_port()),
                operations_address: None,
            }
        })
        .collect();
    let person = |key: &ClientKey, name: &str| GenesisClient { key: key.public().key, name: Some(name.to_owned()) };
    let genesis = Genesis::new(GenesisContents {
        nonce: [9; 32],
        protocol: Protocol::Pbft,
        parameters: Parameters::default(),
        replicas,
        clients: vec![person(&client, "client")],
        admins: vec![person(&admin, "admin")],
    })
    .expect("a valid genesis");
    let directory = tempfile::tempdir().expect("a directory");
    let testnet = directory.path().join("testnet");
    std::fs::create_dir(&testnet).expect("made");
    genesis.create(&testnet.join("genesis.toml")).expect("written");
    client.create(&testnet.join("client.key"), None).expect("written");
    admin.create(&testnet.join("admin.key"), None).expect("written");
    Testbed { directory, genesis, identities, client, admin }
}
