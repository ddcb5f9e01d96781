//! Dependencies between the crates of this workspace point one way (architecture):
//! `testnet -> node, client -> transport, kv, protocol, keys -> crypto`.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The layer of each crate; a crate may use those of lower layers only.
const LAYERS: [(&str, u8); 8] = [
    ("quorate-crypto", 0),
    ("quorate-keys", 1),
    ("quorate-protocol", 1),
    ("quorate-kv", 1),
    ("quorate-transport", 1),
    ("quorate-node", 2),
    ("quorate-client", 2),
    ("quorate-testnet", 3),
];

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, layer)| *layer)
}

#[test]
fn crates_use_only_those_below_them() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata");
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let known: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, known, "a crate was added or removed: give it its place in the architecture");
    for package in &metadata.packages {
        let own = layer(&package.name).expect("known");
        for dependency in package.dependencies.iter().filter(|one| one.kind != DependencyKind::Development) {
            if let Some(theirs) = layer(&dependency.name) {
                assert!(theirs < own, "{} must not use {}", package.name, dependency.name);
            }
        }
    }
}

#[test]
fn the_pure_crates_use_neither_sockets_nor_runtimes() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata");
    for package in &metadata.packages {
        if !["quorate-crypto", "quorate-protocol", "quorate-kv"].contains(&package.name.as_str()) {
            continue;
        }
        for dependency in package.dependencies.iter().filter(|one| one.kind != DependencyKind::Development) {
            for banned in ["tokio", "quinn", "rand", "axum", "rustix", "redb"] {
                assert_ne!(dependency.name, banned, "{} must stay pure", package.name);
            }
        }
    }
}
