//! The bytes whose digest is the cluster id, laid out by hand: every number has a fixed width, big-endian, and every
//! list its length in front, so no two geneses share one string.
//!
//! ```text
//! cluster       u32 format version | 32 B nonce | u8 protocol (1 pbft, 2 hotstuff)
//!               u16 count, then each parameter as u64 in the order of their table
//!               u16 count, then each replica: u16 id, 32 B consensus key, 32 B transport key
//!               u16 count, then each admin: 32 B key
//!               32 B digest of the configuration
//! configuration u64 epoch (0)
//!               u16 count, then each replica as above
//!               u16 count, then each client: 32 B key, u8 length of the name (0: none), name
//!               u16 count, then each admin, in the same form
//! ```
//!
//! Replicas are ordered by id, clients and admins by key, whatever their order in the file. Addresses are left out: a
//! cluster that moves is the same cluster.

use quorate_crypto::digest::Domain;
use quorate_crypto::{ClusterId, Digest, Protocol};

use super::{FORMAT_VERSION, GenesisClient, GenesisContents};

/// Every list is capped far below 2^16 by validation.
fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or_else(|_| unreachable!("validation caps every list"));
    out.extend_from_slice(&count.to_be_bytes());
}

fn put_replicas(out: &mut Vec<u8>, contents: &GenesisContents) {
    put_count(out, contents.replicas.len());
    for replica in &contents.replicas {
        out.extend_from_slice(&replica.id.0.to_be_bytes());
        out.extend_from_slice(&replica.consensus_key.0);
        out.extend_from_slice(&replica.transport_key.0);
    }
}

fn put_clients(out: &mut Vec<u8>, clients: &[GenesisClient]) {
    put_count(out, clients.len());
    for client in clients {
        let name = client.name.as_deref().unwrap_or_default();
        out.extend_from_slice(&client.key.0);
        out.push(u8::try_from(name.len()).unwrap_or_else(|_| unreachable!("validation caps every name")));
        out.extend_from_slice(name.as_bytes());
    }
}

/// Digest of the initial replicated configuration. `contents` are valid and in canonical order.
pub(super) fn configuration_digest(contents: &GenesisContents) -> Digest {
    let mut out = Vec::new();
    out.extend_from_slice(&0_u64.to_be_bytes());
    put_replicas(&mut out, contents);
    put_clients(&mut out, &contents.clients);
    put_clients(&mut out, &contents.admins);
    Digest::of(Domain::Cluster, &[b"configuration", &out])
}

/// The cluster id. `contents` are valid and in canonical order.
pub(super) fn cluster_id(contents: &GenesisContents) -> ClusterId {
    let mut out = Vec::new();
    out.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
    out.extend_from_slice(&contents.nonce);
    out.push(match contents.protocol {
        Protocol::Pbft => 1,
        Protocol::HotStuff => 2,
    });
    let rows = contents.parameters.rows();
    put_count(&mut out, rows.len());
    for row in rows {
        out.extend_from_slice(&row.value.to_be_bytes());
    }
    put_replicas(&mut out, contents);
    put_count(&mut out, contents.admins.len());
    for admin in &contents.admins {
        out.extend_from_slice(&admin.key.0);
    }
    out.extend_from_slice(configuration_digest(contents).as_bytes());
    ClusterId(Digest::of(Domain::Cluster, &[b"cluster", &out]))
}
