use quorate_crypto::statement::Ballot;
use quorate_crypto::{Digest, Incarnation, ReplicaId, Seq, Signed, Statement, StatementBody, View};
use quorate_keys::{Identity, PassphraseSource, Protocol};

use super::*;
use crate::launcher::creation::{Plan, create};
use crate::launcher::ports;

struct Testnet {
    _place: tempfile::TempDir,
    directory: Directory,
    genesis: Genesis,
    description: Description,
}

fn testnet() -> Testnet {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Directory::new(place.path());
    let endpoints = ports::from_base(7400, 4).expect("they exist");
    let plan = Plan { protocol: Protocol::Pbft, endpoints, parameters: Vec::new() };
    let (genesis, description) = create(&directory, &plan).expect("made");
    Testnet { _place: place, directory, genesis, description }
}

impl Testnet {
    /// Two PRE-PREPAREs of replica 0 for one number, truly signed.
    fn lie(&self, seq: u64) -> Evidence {
        let key = self.directory.node(ReplicaId(0)).join("identity.key");
        let identity = Identity::load(&key, &PassphraseSource::Terminal).expect("its key");
        let sign = |fill: u8| -> Signed {
            let ballot = Ballot { view: View(0), seq: Seq(seq), digest: Digest([fill; 32]) };
            let committee = self.genesis.committee();
            let body = StatementBody::PrePrepare(ballot);
            Statement { epoch: committee.epoch(), signer: ReplicaId(0), incarnation: Incarnation(0), body }
                .sign(committee.cluster(), &identity.consensus)
        };
        Evidence::Contradiction(sign(1), sign(2))
    }

    fn put(&self, replica: u16, offence: &str, evidence: &Evidence) {
        let window = self.genesis.parameters().window;
        let verifier = quorate_crypto::Verifier::new(std::sync::Arc::new(quorate_crypto::Ed25519));
        let conviction = evidence.verify(self.genesis.committee(), window, &verifier).expect("convicts");
        let file = EvidenceFile::new(evidence, &conviction);
        let place = self.directory.found_evidence(ReplicaId(replica));
        fs::create_dir_all(&place).expect("made");
        let text = serde_json::to_string(&file).expect("JSON");
        fs::write(place.join(format!("{offence}.json")), text).expect("written");
    }

    fn collect(&self) -> Vec<Offence> {
        collect(&self.directory, &self.description, &self.genesis).expect("collected")
    }
}

#[test]
fn each_offence_is_listed_once_under_a_number_that_stays() {
    let testnet = testnet();
    let (first, second) = (testnet.lie(9), testnet.lie(3));
    testnet.put(1, &first.offence().to_hex(), &first);
    let listed = testnet.collect();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id.as_str(), listed[0].accused, listed[0].kind.as_str()), ("e-1", 0, "two-pre-prepares"));
    assert_eq!((listed[0].view, listed[0].seq, listed[0].seen_by.as_slice()), (Some(0), Some(9), &[1][..]));
    testnet.put(2, &first.offence().to_hex(), &first);
    testnet.put(3, &second.offence().to_hex(), &second);
    let listed = testnet.collect();
    let seen: Vec<_> = listed.iter().map(|one| (one.id.as_str(), one.seq, one.seen_by.clone())).collect();
    assert_eq!(seen, [("e-1", Some(9), vec![1, 2]), ("e-2", Some(3), vec![3])]);
    assert_eq!(testnet.collect(), listed);
}

#[test]
fn what_convicts_nobody_is_left_out_even_if_another_replica_holds_the_real_thing() {
    let testnet = testnet();
    let evidence = testnet.lie(5);
    let offence = evidence.offence().to_hex();
    let place = testnet.directory.found_evidence(ReplicaId(1));
    fs::create_dir_all(&place).expect("made");
    fs::write(place.join(format!("{offence}.json")), "{\"v\":1,\"accused\":2}").expect("written");
    testnet.put(1, "0000", &evidence);
    assert!(testnet.collect().is_empty(), "a file under a false name or without signatures was listed");
    testnet.put(3, &offence, &evidence);
    assert_eq!(testnet.collect().len(), 1);
}

#[test]
fn an_export_convicts_and_an_unknown_id_is_refused() {
    let testnet = testnet();
    let evidence = testnet.lie(5);
    testnet.put(1, &evidence.offence().to_hex(), &evidence);
    testnet.collect();
    let file = testnet.directory.root().join("exported.json");
    fs::write(&file, export(&testnet.directory, "e-1").expect("there")).expect("written");
    let conviction = EvidenceFile::verify(&file, &testnet.genesis).expect("convicts");
    assert_eq!(conviction.accused, ReplicaId(0));
    for id in ["e-2", "e-", "1", "../e-1"] {
        assert!(export(&testnet.directory, id).is_err(), "{id}");
    }
}
