use super::*;

#[test]
fn endpoints_are_read_and_other_lines_left_alone() {
    let text = "# a testnet\nQUORATE_CLUSTER=x\n\nQUORATE_REPLICA_0_CLIENT=127.0.0.1:7600\n\
                export QUORATE_REPLICA_12_CLIENT=\"[::1]:7612\"\nQUORATE_REPLICA_0_PEER=127.0.0.1:7400\n";
    let endpoints = parse_endpoints(text).expect("valid");
    let shown: Vec<String> = endpoints.iter().map(|(id, address)| format!("{id} {address}")).collect();
    assert_eq!(shown, ["0 127.0.0.1:7600", "12 [::1]:7612"]);
}

#[test]
fn a_bad_endpoint_is_named_with_its_line() {
    let problem = parse_endpoints("\nQUORATE_REPLICA_0_CLIENT=127.0.0.1\n").expect_err("no port");
    assert!(problem.starts_with("line 2:"), "{problem}");
    let problem = parse_endpoints("QUORATE_REPLICA_x_CLIENT=127.0.0.1:1\n").expect_err("no number");
    assert!(problem.starts_with("line 1:"), "{problem}");
}

#[test]
fn a_missing_directory_says_how_to_start_a_cluster() {
    let error = load_genesis(Path::new("no/such/directory")).expect_err("it is not there");
    assert!(error.to_string().contains("testnet up"), "{error}");
}
