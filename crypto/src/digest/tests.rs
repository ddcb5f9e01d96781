//! Domains keep uses apart, lengths keep parts apart.

use std::collections::BTreeSet;

use super::*;

const DOMAINS: [Domain; 20] = [
    Domain::Cluster,
    Domain::Request,
    Domain::Operations,
    Domain::Payload,
    Domain::Proposal,
    Domain::ViewChange,
    Domain::NewView,
    Domain::MerkleLeaf,
    Domain::MerkleNode,
    Domain::MapNode,
    Domain::MapValue,
    Domain::State,
    Domain::OperationResult,
    Domain::Frame,
    Domain::Block,
    Domain::Trace,
    Domain::Fingerprint,
    Domain::Event,
    Domain::QuorumCertificate,
    Domain::SignatureBatch,
];

#[test]
fn every_domain_has_its_own_digest() {
    let tags: BTreeSet<&[u8]> = DOMAINS.iter().map(|domain| domain.tag()).collect();
    assert_eq!(tags.len(), DOMAINS.len());
    assert!(tags.iter().all(|tag| tag.starts_with(b"quorate/1/") && tag.len() < 256));
    let digests: BTreeSet<Digest> = DOMAINS.iter().map(|domain| Digest::of(*domain, &[b"same"])).collect();
    assert_eq!(digests.len(), DOMAINS.len());
}

#[test]
fn bytes_do_not_move_between_parts() {
    let digest = |parts: &[&[u8]]| Digest::of(Domain::Block, parts);
    let all = [
        digest(&[]),
        digest(&[b""]),
        digest(&[b"", b""]),
        digest(&[b"ab"]),
        digest(&[b"a", b"b"]),
        digest(&[b"ab", b""]),
        digest(&[b"", b"ab"]),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn parts_may_be_added_one_by_one() {
    let mut hasher = Hasher::new(Domain::Frame);
    hasher.part(b"one");
    hasher.part(b"two");
    assert_eq!(hasher.finish(), Digest::of(Domain::Frame, &[b"one", b"two"]));
}

/// Computed apart from this code: SHA-256 of the tag's length, the tag, and each part behind its length.
#[test]
fn golden_digest() {
    assert_eq!(Digest::of(Domain::Block, &[b"abc", b""]).to_hex(), GOLDEN);
}

const GOLDEN: &str = "6ba4905d0f2adb09514ac293828099e71a73e1890e1edeaad8081667f876050d";

#[test]
fn people_see_hexadecimal() {
    let digest = Digest([0x0a; 32]);
    assert_eq!(digest.short(), "0a0a0a");
    assert_eq!(format!("{digest:?}"), "0a0a0a");
    assert_eq!(digest.to_string(), "0a".repeat(32));
}
