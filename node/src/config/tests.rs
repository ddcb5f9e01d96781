use super::*;

const GOOD: &str = r#"
version = 1
replica = 2
identity = "identity.key"
genesis = "../genesis.toml"
data = "data"
durability = "sync"

[listen]
peers = "127.0.0.1:7402"
clients = "127.0.0.1:7602"
operations = "127.0.0.1:7502"

[addresses]
0 = "node-0.example.org:7400"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/quorate"))
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.replica, ReplicaId(2));
    assert_eq!(config.identity, Path::new("/etc/quorate/identity.key"));
    assert_eq!(config.genesis, Path::new("/etc/quorate/../genesis.toml"));
    assert_eq!(config.addresses[&ReplicaId(0)].to_string(), "node-0.example.org:7400");
    assert_eq!(config.log, LogSection::default());
}

#[test]
fn what_is_written_is_read_back() {
    let config = parse(GOOD).unwrap();
    assert_eq!(Config::parse(&config.to_toml(), Path::new("/")).unwrap(), config);
    let without = Config { addresses: BTreeMap::new(), listen: Listen { operations: None, ..config.listen }, ..config };
    assert_eq!(Config::parse(&without.to_toml(), Path::new("/")).unwrap(), without);
}

#[test]
fn durability_has_no_default() {
    let error = parse(&GOOD.replace("durability = \"sync\"", "")).unwrap_err();
    assert!(error.starts_with("durability is missing"), "{error}");
    let error = parse(&GOOD.replace("\"sync\"", "\"none\"")).unwrap_err();
    assert!(error.starts_with("durability is \"none\""), "{error}");
}

#[test]
fn unknown_fields_and_versions_are_refused() {
    let error = parse(&GOOD.replace("replica = 2", "replica = 2\nfsync = false")).unwrap_err();
    assert!(error.contains("line 4: unknown field `fsync`"), "{error}");
    let error = parse(&GOOD.replace("clients =", "guests =")).unwrap_err();
    assert!(error.contains("guests"), "{error}");
    assert!(parse(&GOOD.replace("version = 1", "version = 2")).unwrap_err().contains("version is 2"));
    assert!(parse(&GOOD.replace("version = 1", "")).unwrap_err().contains("version is missing"));
}

#[test]
fn malformed_values_are_refused_with_their_line() {
    for (old, new, says) in [
        ("replica = 2", "replica = -1", "line 3"),
        ("127.0.0.1:7402", "127.0.0.1", "line 10"),
        ("node-0.example.org:7400", "node-0.example.org", "the address of replica 0"),
        ("\n0 =", "\nzero =", "not the number of a replica"),
    ] {
        let error = parse(&GOOD.replace(old, new)).unwrap_err();
        assert!(error.contains(says), "{new}: {error}");
    }
}
