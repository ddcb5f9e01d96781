use quorate_crypto::{Certificate, Endorsement, Incarnation, Signature, Signer as _, Statement, StatementBody, View};

use super::*;
use crate::identity_file::{ClientKey, Identity};

fn replica(id: u16) -> GenesisReplica {
    let seed = u8::try_from(id).unwrap();
    let identity = Identity::from_seeds(&[seed + 1; 32], &[seed + 101; 32]).public();
    GenesisReplica {
        id: ReplicaId(id),
        consensus_key: identity.consensus,
        transport_key: identity.transport,
        peer_address: format!("127.0.0.1:{}", 7400 + id).parse().unwrap(),
        client_address: format!("127.0.0.1:{}", 7600 + id).parse().unwrap(),
        operations_address: None,
    }
}

fn client(seed: u8, name: Option<&str>) -> GenesisClient {
    GenesisClient { key: ClientKey::from_seed(&[seed; 32]).public().key, name: name.map(str::to_owned) }
}

fn contents(n: u16) -> GenesisContents {
    GenesisContents {
        nonce: [0x5a; 32],
        protocol: Protocol::Pbft,
        parameters: Parameters::default(),
        replicas: (0..n).map(replica).collect(),
        clients: vec![client(201, Some("app1")), client(202, None)],
        admins: vec![client(203, Some("operator"))],
    }
}

fn refusal(change: impl FnOnce(&mut GenesisContents)) -> GenesisError {
    let mut changed = contents(4);
    change(&mut changed);
    let error = Genesis::new(changed).expect_err("the change was not noticed");
    let sentence = error.to_string();
    assert!(!sentence.contains('\n') && sentence.len() > 20, "not one sentence: {sentence}");
    error
}

/// The default genesis as text, one piece replaced by another.
fn edited(from: &str, to: &str) -> Result<Genesis, GenesisError> {
    let text = Genesis::new(contents(4)).unwrap().to_toml();
    assert!(text.contains(from), "{from:?} is not in the text");
    Genesis::parse(&text.replacen(from, to, 1))
}

#[test]
fn the_text_round_trips() {
    let mut rich = contents(7);
    rich.protocol = Protocol::HotStuff;
    rich.parameters.window = 128;
    rich.replicas[3].operations_address = Some("[::1]:7503".parse().unwrap());
    for contents in [contents(4), rich] {
        let genesis = Genesis::new(contents).unwrap();
        assert_eq!(Genesis::parse(&genesis.to_toml()).unwrap(), genesis);
    }
}

#[test]
fn a_short_file_takes_every_default() {
    let text = Genesis::new(contents(4)).unwrap().to_toml();
    let start = text.find("[parameters]").unwrap();
    let end = text.find("\n[[replica]]").unwrap();
    let short = format!("{}{}", &text[..start], &text[end..]);
    assert_eq!(Genesis::parse(&short).unwrap().parameters(), &Parameters::default());
}

#[test]
fn defaults_are_valid_for_every_size_of_committee_below_forty() {
    for n in [4, 5, 6, 7, 22, 39] {
        let genesis = Genesis::new(contents(n)).unwrap();
        let bound = genesis.parameters().view_change_bytes_bound(genesis.committee().quorum() as u64);
        assert!(bound < genesis.parameters().frame_bytes_max, "{n} replicas: {bound}");
    }
    for row in Parameters::default().rows() {
        assert!(row.least <= row.default && row.default <= row.greatest, "{}", row.name);
    }
}

#[test]
fn the_committee_follows() {
    let genesis = Genesis::new(contents(7)).unwrap();
    let committee = genesis.committee();
    assert_eq!((committee.size(), committee.faults(), committee.quorum()), (7, 2, 5));
    assert_eq!((committee.epoch(), committee.cluster()), (Epoch(0), genesis.cluster_id()));
    assert_eq!(committee.key(ReplicaId(3)), Some(&genesis.replicas()[3].consensus_key));
    assert_eq!(genesis.replica_of(&genesis.replicas()[3].consensus_key).unwrap().id, ReplicaId(3));
    assert_eq!(genesis.replica(ReplicaId(7)), None);
}

#[test]
fn the_cluster_id_is_pinned() {
    let mut contents = contents(4);
    // Every value counts, not whether it is the default, which was this one when the digest was taken.
    contents.parameters.request_bytes_max = 1024 * 1024;
    let genesis = Genesis::new(contents).unwrap();
    assert_eq!(
        genesis.configuration_digest().to_hex(),
        "8f0f34fe5f6107160dad3f349d835d6eb6d0ea6af9ad6e618388a989bfaf7f7c"
    );
    assert_eq!(genesis.cluster_id().to_string(), "a516bb698b7e5fcac14cc69c29861bae35511a6759b3864706f94b6afd4714e5");
}

#[test]
fn the_cluster_id_ignores_addresses_and_order() {
    let original = Genesis::new(contents(4)).unwrap().cluster_id();
    let mut moved = contents(4);
    for replica in &mut moved.replicas {
        replica.peer_address = format!("node-{}.example.org:1", replica.id).parse().unwrap();
        replica.client_address = format!("node-{}.example.org:2", replica.id).parse().unwrap();
        replica.operations_address = Some(format!("node-{}.example.org:3", replica.id).parse().unwrap());
    }
    moved.replicas.reverse();
    moved.clients.reverse();
    assert_eq!(Genesis::new(moved).unwrap().cluster_id(), original);
}

#[test]
fn the_cluster_id_changes_with_everything_else() {
    let mut variants: Vec<(String, GenesisContents)> = vec![("nothing".to_owned(), contents(4))];
    let mut vary = |what: &str, change: &dyn Fn(&mut GenesisContents)| {
        let mut changed = contents(4);
        change(&mut changed);
        variants.push((what.to_owned(), changed));
    };
    vary("nonce", &|genesis| genesis.nonce[31] ^= 1);
    vary("protocol", &|genesis| genesis.protocol = Protocol::HotStuff);
    vary("consensus key", &|genesis| genesis.replicas[2].consensus_key = replica(9).consensus_key);
    vary("transport key", &|genesis| genesis.replicas[2].transport_key = replica(9).transport_key);
    vary("one replica more", &|genesis| genesis.replicas.push(replica(4)));
    vary("ids exchanged", &|genesis| {
        genesis.replicas[0].id = ReplicaId(1);
        genesis.replicas[1].id = ReplicaId(0);
    });
    vary("client key", &|genesis| genesis.clients[0].key = client(210, None).key);
    vary("client name", &|genesis| genesis.clients[0].name = Some("app2".to_owned()));
    vary("no client name", &|genesis| genesis.clients[0].name = None);
    vary("one client more", &|genesis| genesis.clients.push(client(210, None)));
    vary("one client less", &|genesis| drop(genesis.clients.pop()));
    vary("admin key", &|genesis| genesis.admins[0].key = client(210, None).key);
    vary("admin name", &|genesis| genesis.admins[0].name = None);
    vary("an admin who was a client", &|genesis| {
        let client = genesis.clients.remove(1);
        genesis.admins.push(client);
    });
    for row in Parameters::default().rows() {
        let mut changed = contents(4);
        let up = changed.parameters.set(row.name, row.value + 1);
        assert!(up, "{} cannot be set", row.name);
        if Genesis::new(changed.clone()).is_err() {
            changed.parameters.set(row.name, row.value - 1);
        }
        variants.push((row.name.to_owned(), changed));
    }
    let mut seen = std::collections::BTreeMap::new();
    for (what, contents) in variants {
        let id = Genesis::new(contents).unwrap_or_else(|error| panic!("{what}: {error}")).cluster_id();
        if let Some(other) = seen.insert(id, what.clone()) {
            panic!("{what} and {other} have one cluster id");
        }
    }
}

#[test]
fn the_id_under_the_other_protocol_is_that_of_the_file_that_says_it() {
    let of = |protocol| Genesis::new(GenesisContents { protocol, ..contents(4) }).unwrap();
    let (pbft, hotstuff) = (of(Protocol::Pbft), of(Protocol::HotStuff));
    assert_ne!(pbft.cluster_id(), hotstuff.cluster_id());
    for genesis in [&pbft, &hotstuff] {
        assert_eq!(genesis.cluster_id_under(Protocol::Pbft), pbft.cluster_id());
        assert_eq!(genesis.cluster_id_under(Protocol::HotStuff), hotstuff.cluster_id());
    }
}

#[test]
fn too_few_too_many_and_misnumbered_replicas_are_refused() {
    assert_eq!(refusal(|genesis| genesis.replicas.truncate(3)), GenesisError::TooFewReplicas(3));
    assert_eq!(refusal(|genesis| genesis.replicas.clear()), GenesisError::TooFewReplicas(0));
    assert_eq!(
        refusal(|genesis| genesis.replicas = (0..129).map(|_| replica(0)).collect()),
        GenesisError::TooManyReplicas(129)
    );
    assert_eq!(
        refusal(|genesis| genesis.replicas[3].id = ReplicaId(1)),
        GenesisError::DuplicateReplicaId(ReplicaId(1))
    );
    assert_eq!(
        refusal(|genesis| genesis.replicas[3].id = ReplicaId(4)),
        GenesisError::IdsNotContiguous { id: ReplicaId(4), n: 4 }
    );
}

#[test]
fn a_key_in_two_places_is_refused() {
    let consensus = |id| KeyHolder::Consensus(ReplicaId(id));
    let transport = |id| KeyHolder::Transport(ReplicaId(id));
    let twice = |first, second| GenesisError::KeyUsedTwice { first, second };
    assert_eq!(
        refusal(|genesis| genesis.replicas[2].consensus_key = genesis.replicas[0].consensus_key),
        twice(consensus(0), consensus(2))
    );
    assert_eq!(
        refusal(|genesis| genesis.replicas[2].transport_key = genesis.replicas[1].transport_key),
        twice(transport(1), transport(2))
    );
    assert_eq!(
        refusal(|genesis| genesis.replicas[2].transport_key = genesis.replicas[2].consensus_key),
        twice(consensus(2), transport(2))
    );
    assert_eq!(
        refusal(|genesis| genesis.clients[1].key = genesis.replicas[3].transport_key),
        twice(transport(3), KeyHolder::Client(2))
    );
    assert_eq!(
        refusal(|genesis| genesis.clients[1].key = genesis.clients[0].key),
        twice(KeyHolder::Client(1), KeyHolder::Client(2))
    );
    assert_eq!(
        refusal(|genesis| genesis.admins[0].key = genesis.clients[0].key),
        twice(KeyHolder::Client(1), KeyHolder::Admin(1))
    );
}

#[test]
fn keys_nobody_may_use_are_refused() {
    let mut small_order = [0; 32];
    small_order[0] = 1;
    let weak = PublicKey(small_order);
    let refused = GenesisError::UnacceptableKey;
    assert_eq!(
        refusal(|genesis| genesis.replicas[1].consensus_key = weak),
        refused(KeyHolder::Consensus(ReplicaId(1)))
    );
    assert_eq!(
        refusal(|genesis| genesis.replicas[1].transport_key = weak),
        refused(KeyHolder::Transport(ReplicaId(1)))
    );
    assert_eq!(refusal(|genesis| genesis.clients[0].key = weak), refused(KeyHolder::Client(1)));
    assert_eq!(refusal(|genesis| genesis.admins[0].key = PublicKey([0xff; 32])), refused(KeyHolder::Admin(1)));
}

#[test]
fn clients_admins_and_names_are_bounded() {
    let nobody = refusal(|genesis| {
        genesis.clients.clear();
        genesis.admins.clear();
    });
    assert_eq!(nobody, GenesisError::NobodyMaySpeak);
    let clients = refusal(|genesis| genesis.clients = vec![client(1, None); CLIENTS_MAX + 1]);
    assert_eq!(clients, GenesisError::TooManyClients(CLIENTS_MAX + 1));
    let admins = refusal(|genesis| genesis.admins = vec![client(1, None); ADMINS_MAX + 1]);
    assert_eq!(admins, GenesisError::TooManyAdmins(ADMINS_MAX + 1));
    for name in [String::new(), "a b".to_owned(), "\"".to_owned(), "\u{1b}[31m".to_owned(), "a".repeat(65)] {
        let error = refusal(|genesis| genesis.clients[1].name = Some(name));
        assert_eq!(error, GenesisError::BadName(KeyHolder::Client(2)));
    }
    assert_eq!(
        refusal(|genesis| genesis.admins[0].name = Some("\n".to_owned())),
        GenesisError::BadName(KeyHolder::Admin(1))
    );
    assert_eq!(refusal(|genesis| genesis.nonce = [0; 32]), GenesisError::BadNonce);
}

#[test]
fn an_address_in_two_places_is_refused() {
    let twice = |text: &str| GenesisError::AddressUsedTwice(text.parse().unwrap());
    assert_eq!(
        refusal(|genesis| genesis.replicas[1].peer_address = genesis.replicas[0].peer_address.clone()),
        twice("127.0.0.1:7400")
    );
    assert_eq!(
        refusal(|genesis| genesis.replicas[1].client_address = genesis.replicas[1].peer_address.clone()),
        twice("127.0.0.1:7401")
    );
    let operations = refusal(|genesis| {
        for replica in &mut genesis.replicas {
            replica.operations_address = Some("127.0.0.1:7500".parse().unwrap());
        }
    });
    assert_eq!(operations, twice("127.0.0.1:7500"));
    // One port may serve UDP and TCP.
    let mut shared = contents(4);
    shared.replicas[0].operations_address = Some(shared.replicas[0].peer_address.clone());
    assert!(Genesis::new(shared).is_ok());
}

#[test]
fn every_parameter_has_bounds() {
    for row in Parameters::default().rows() {
        let below = row.least.checked_sub(1);
        for value in below.into_iter().chain([row.greatest + 1, u64::MAX]) {
            let error = refusal(|genesis| assert!(genesis.parameters.set(row.name, value)));
            let ParameterRow { name, least, greatest, .. } = row;
            assert_eq!(error, GenesisError::OutOfBounds { name, value, least, greatest });
        }
    }
    assert!(!Parameters::default().set("no_such_parameter", 1));
}

#[test]
fn parameters_that_do_not_fit_each_other_are_refused() {
    assert_eq!(
        refusal(|genesis| genesis.parameters.checkpoint_interval = 129),
        GenesisError::WindowTooSmall { window: 256, interval: 129 }
    );
    let cases: [(&[(&str, u64)], &str); 7] = [
        (&[("batch_bytes_max", 4 * 1024 * 1024 - 65_535)], "batch_bytes_max must be"),
        (
            &[("frame_bytes_max", 2 * 1024 * 1024), ("batch_bytes_max", 1024 * 1024), ("batch_requests_max", 65_536)],
            "batch_requests_max digests",
        ),
        (&[("request_bytes_max", 2 * 1024 * 1024 + 1)], "request_bytes_max must not"),
        (&[("proposal_time_bound_ms", 8001)], "proposal_time_bound_ms must not"),
        (&[("proposal_time_bound_cap_ms", 120_000)], "proposal_time_bound_cap_ms must be below"),
        (&[("view_timeout_ms", 7500)], "view_timeout_ms times backoff_cap"),
        (&[("pending_requests_per_client_max", 4097)], "pending_requests_per_client_max must not"),
    ];
    for (changes, sentence) in cases {
        let error = refusal(|genesis| {
            for (name, value) in changes {
                assert!(genesis.parameters.set(name, *value));
            }
        });
        assert!(matches!(error, GenesisError::ParametersDisagree(_)), "{error:?}");
        assert!(error.to_string().starts_with(sentence), "{error}");
    }
    // One less, and each is accepted.
    for (name, value) in [
        ("checkpoint_interval", 128),
        ("batch_bytes_max", 4 * 1024 * 1024 - 65_536),
        ("request_bytes_max", 2 * 1024 * 1024),
        ("proposal_time_bound_ms", 8000),
        ("proposal_time_bound_cap_ms", 119_999),
        ("view_timeout_ms", 7499),
        ("pending_requests_per_client_max", 4096),
    ] {
        let mut fitting = contents(4);
        assert!(fitting.parameters.set(name, value));
        assert!(Genesis::new(fitting).is_ok(), "{name} = {value}");
    }
}

#[test]
fn a_view_change_that_fits_no_frame_is_refused() {
    let mut large = contents(100);
    large.parameters.window = 1024;
    let error = Genesis::new(large).unwrap_err();
    // q = 67 of 100: 1025 certificates of 200 + 80 * 67 bytes, and 1024.
    assert_eq!(
        error,
        GenesisError::ViewChangeTooLarge { n: 100, window: 1024, bound: 5_700_024, frame: 4 * 1024 * 1024 }
    );
    let mut fitting = contents(100);
    (fitting.parameters.window, fitting.parameters.checkpoint_interval) = (40, 20);
    assert!(Genesis::new(fitting).is_ok());
}

#[test]
fn a_new_view_whose_record_could_not_be_read_back_is_refused() {
    // q = 27 of 40: 28 VIEW-CHANGEs of 1024 bytes and 257 certificates of 200 + 80 * 27 bytes.
    let error = Genesis::new(contents(40)).unwrap_err();
    let bound = 28 * (1024 + 257 * 2360) + 640 * 256 + 65_536;
    assert_eq!(error, GenesisError::NewViewTooLarge { n: 40, window: 256, bound });
    let sentence = error.to_string();
    assert!(sentence.contains("at most 16777216; lower window") && !sentence.contains('\n'), "{sentence}");
    for (n, window) in [(4, 6_960), (7, 3_939), (40, 249), (100, 42)] {
        for (window, fits) in [(window, true), (window + 1, false)] {
            let mut changed = contents(n);
            (changed.parameters.window, changed.parameters.checkpoint_interval) = (window, 8);
            let result = Genesis::new(changed);
            assert_eq!(result.is_ok(), fits, "{n} replicas, window {window}: {result:?}");
        }
    }
}

#[test]
fn the_view_change_bound_holds_for_real_certificates() {
    let signer = Identity::from_seeds(&[1; 32], &[2; 32]).consensus;
    let body = StatementBody::ViewChange { view: View(u64::MAX), body: Digest([0xff; 32]) };
    for quorum in [3_u16, 86] {
        let endorsements = (0..quorum)
            .map(|id| Endorsement {
                signer: ReplicaId(id),
                incarnation: Incarnation(u32::MAX),
                signature: Signature([0xff; 64]),
            })
            .collect();
        let certificate = Certificate { epoch: Epoch(u64::MAX), body, endorsements };
        let statement = Statement { epoch: Epoch(0), signer: ReplicaId(0), incarnation: Incarnation(0), body };
        let signed = statement.sign(ClusterId::default(), &signer);
        assert_eq!(signed.statement.signer, ReplicaId(0));
        // What a prepared certificate adds: time, payload kind and payload digest.
        let encoded = quorate_crypto::encoding::encode(&certificate).len() + 8 + 4 + 32;
        let one = 200 + 80 * usize::from(quorum);
        assert!(encoded <= one, "{encoded} bytes for {quorum} signatures");
        assert!(quorate_crypto::encoding::encode(&signed).len() <= 1024);
        let parameters = Parameters { window: 256, ..Parameters::default() };
        assert!(parameters.view_change_bytes_bound(u64::from(quorum)) >= (257 * encoded) as u64);
    }
    assert!(signer.public_key().is_acceptable());
}

#[test]
fn unknown_fields_are_refused_everywhere() {
    for (from, to, field) in [
        ("protocol =", "colour = 1\nprotocol =", "colour"),
        ("[parameters]", "[parameters]\nwindows = 3", "windows"),
        ("[[replica]]\n", "[[replica]]\nspeed = 1\n", "speed"),
        ("[[client]]\n", "[[client]]\nrole = \"admin\"\n", "role"),
        ("[[admin]]\n", "[[admin]]\nrole = 1\n", "role"),
        ("[[admin]]", "[[administrator]]", "administrator"),
    ] {
        let error = edited(from, to).unwrap_err();
        assert!(
            matches!(&error, GenesisError::Malformed { line, message } if *line > 1 && message.contains(field)),
            "{error}"
        );
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn other_versions_are_refused_before_anything_else() {
    let error = edited("format_version = 1", "format_version = 2\nunheard_of = true").unwrap_err();
    assert_eq!(
        error.to_string(),
        "format_version is 2, but this program knows 1 only; use the program that wrote the file"
    );
    assert_eq!(edited("format_version = 1", "").unwrap_err(), GenesisError::MissingVersion);
    assert!(matches!(Genesis::parse("[[[").unwrap_err(), GenesisError::Malformed { line: 1, .. }));
    assert_eq!(Genesis::parse("").unwrap_err(), GenesisError::MissingVersion);
}

#[test]
fn values_of_the_wrong_form_are_refused() {
    let key = replica(2).transport_key.to_hex();
    let client_key = client(201, None).key.to_hex();
    assert_eq!(edited("\"pbft\"", "\"raft\"").unwrap_err(), GenesisError::UnknownProtocol("raft".to_owned()));
    assert_eq!(edited("5a5a", "5a").unwrap_err(), GenesisError::BadNonce);
    assert_eq!(edited(&key, &key[1..]).unwrap_err(), GenesisError::BadKey(KeyHolder::Transport(ReplicaId(2))));
    assert!(matches!(edited(&client_key, "zz").unwrap_err(), GenesisError::BadKey(KeyHolder::Client(_))));
    assert_eq!(
        edited("127.0.0.1:7401", "127.0.0.1").unwrap_err(),
        GenesisError::BadAddress { id: ReplicaId(1), field: "peer_address", error: AddressError::NoPort }
    );
    for (from, to) in [
        ("window = 256", "window = \"256\""),
        ("window = 256", "window = -256"),
        ("window = 256", "window = 256\nwindow = 256"),
        ("id = 3", "id = 70000"),
        ("id = 3", ""),
    ] {
        assert!(matches!(edited(from, to).unwrap_err(), GenesisError::Malformed { .. }), "{to}");
    }
}

#[test]
fn files_are_capped_and_links_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("genesis.toml");
    let genesis = Genesis::new(contents(4)).unwrap();
    genesis.create(&path).unwrap();
    assert!(matches!(genesis.create(&path), Err(GenesisFileError::Unreadable { problem: KeyFileProblem::Exists, .. })));
    let link = directory.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(Genesis::load(&link).unwrap(), genesis);
    let long = directory.path().join("long.toml");
    std::fs::write(&long, "#".repeat(GENESIS_BYTES_MAX + 1)).unwrap();
    let error = Genesis::load(&long).unwrap_err();
    assert!(matches!(error, GenesisFileError::Unreadable { problem: KeyFileProblem::TooLong(_), .. }));
    std::fs::write(&long, "format_version = 9").unwrap();
    assert!(matches!(Genesis::load(&long), Err(GenesisFileError::Refused { .. })));
    assert!(random_nonce().unwrap() != random_nonce().unwrap());
}
