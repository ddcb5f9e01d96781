//! `bench` against a running testnet.

use crate::harness::Testnet;

const FIELDS: [&str; 9] = [
    "ops_per_s",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p999_ms",
    "replica_cpu_us_per_op",
    "client_cpu_us_per_op",
    "wire_bytes_per_op",
    "syncs_per_op",
];

#[test]
fn load_is_measured_in_closed_and_open_loop_and_leaves_no_keys_behind() {
    let testnet = Testnet::started();
    let load = ["bench", "--clients", "6", "--duration", "800ms", "--bundle", "4"];
    let keys = ["--preload", "300", "--keys", "300", "--json"];
    let closed = testnet.testnet(&[&load[..], &keys[..]].concat()).json();
    assert_eq!((closed["v"].as_u64(), closed["errors"].as_u64()), (Some(1), Some(0)));
    for field in FIELDS {
        assert!(closed[field].as_f64().is_some_and(|number| number > 0.0), "{field}: {closed:#}");
    }
    assert!(closed["p50_ms"].as_f64() <= closed["p999_ms"].as_f64());
    let preloaded = testnet.quorate(&["get", "bench/", "--prefix", "--keys-only", "--json"]).json();
    assert_eq!(preloaded["count"].as_u64(), Some(301), "300 keys and the one every client begins with");

    let open = testnet.testnet(&["bench", "--clients", "4", "--duration", "1s", "--rate", "40", "--json"]).json();
    let rate = open["ops_per_s"].as_f64().expect("a number");
    assert!((30.0..=41.0).contains(&rate), "{rate} instead of the 40 that are due");

    let text = testnet.testnet(&["bench", "--clients", "2", "--duration", "300ms"]).well().out;
    assert!(text.contains("operations/s") && text.contains("p99.9"), "{text}");
    testnet.testnet(&["bench", "--bundle", "2000"]).fails(2, "--bundle");
}
