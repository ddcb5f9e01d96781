//! A shipped scenario on real processes.

use std::fs;
use std::path::Path;

use quorate_crypto::Protocol;

use crate::harness::Testnet;

under_both!(an_equivocating_primary_is_convicted_on_real_processes,);

fn an_equivocating_primary_is_convicted_on_real_processes(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    let temporary = testnet.place().join("temporary");
    fs::create_dir_all(&temporary).expect("made");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/equivocating-primary.toml");
    let file = file.to_str().expect("a name");
    let words = ["run", file, "--real", "--protocol", protocol.name(), "--json"];
    let told = testnet.testnet_with(("TMPDIR", &temporary), &words).json();
    assert_eq!((&told["mode"], &told["verdict"]), (&"real".into(), &"ok".into()), "{told:#}");
    assert_eq!(told["convicted"], serde_json::json!([0]), "{told:#}");
    let left: Vec<_> = fs::read_dir(&temporary).expect("there").collect();
    assert!(left.is_empty(), "files are left: {left:?}");
}
