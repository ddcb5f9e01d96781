use quorate_client::Cluster;
use quorate_keys::PassphraseSource;

use super::*;
use crate::launcher::ports;

fn plan(count: usize) -> Plan {
    Plan {
        protocol: Protocol::Pbft,
        endpoints: ports::from_base(7400, count).expect("they exist"),
        parameters: vec![("view_timeout_ms".to_owned(), 300)],
    }
}

#[test]
fn a_testnet_is_made_whole_and_can_be_used() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Directory::new(place.path().join("testnet"));
    let (genesis, description) = create(&directory, &plan(4)).expect("made");
    assert!(directory.is_testnet() && !directory.creating().exists());
    assert_eq!(Description::load(&directory).expect("readable"), description);
    let cluster = Cluster::in_directory(directory.root()).expect("a client finds it");
    assert_eq!(cluster.genesis, genesis);
    assert_eq!(cluster.genesis.parameters().view_timeout_ms, 300);
    assert_eq!(cluster.endpoints.len(), 4);
    for id in description.ids() {
        let config = Config::load(&directory.config(id)).expect("readable");
        let settings = NodeSettings::load(&config, &PassphraseSource::Terminal).expect("belongs together");
        assert_eq!((settings.replica, settings.genesis.cluster_id()), (id, genesis.cluster_id()));
        assert!(settings.data.join(quorate_node::process::LOG_DIRECTORY).is_dir());
    }
}

#[test]
fn replicas_can_be_told_to_listen_elsewhere() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Directory::new(place.path());
    let (genesis, mut description) = create(&directory, &plan(4)).expect("made");
    description.replicas = ports::from_base(9000, 4).expect("they exist");
    relocate(&directory, &description).expect("written");
    assert_eq!(Description::load(&directory).expect("readable"), description);
    let cluster = Cluster::in_directory(directory.root()).expect("a client finds it");
    assert_eq!(cluster.genesis.cluster_id(), genesis.cluster_id());
    assert_eq!(cluster.endpoints[&ReplicaId(2)].port(), 9202);
    let config = Config::load(&directory.config(ReplicaId(1))).expect("readable");
    assert_eq!((config.listen.peers.port(), config.addresses[&ReplicaId(3)].port()), (9001, 9003));
}

#[test]
fn what_cannot_be_made_is_refused_with_a_sentence() {
    let refuse = |plan: &Plan| {
        let place = tempfile::tempdir().expect("a directory");
        create(&Directory::new(place.path()), plan).expect_err("refused").to_string()
    };
    assert!(refuse(&plan(3)).contains("at least 4"));
    let unknown = Plan { parameters: vec![("speed".to_owned(), 9)], ..plan(4) };
    assert!(refuse(&unknown).contains("view_timeout_ms"));
    let out_of_bounds = Plan { parameters: vec![("view_timeout_ms".to_owned(), 0)], ..plan(4) };
    assert!(refuse(&out_of_bounds).contains("view_timeout_ms"));
}
