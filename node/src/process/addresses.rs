//! Where the other replicas are dialled: names become addresses, as far as the name service knows them.
//!
//! Names belong to the organisations that run the replicas, so a liar can withdraw its own. That must keep nobody else
//! from starting: a replica whose name does not resolve is not dialled, and it can still dial this one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use quorate_crypto::{PublicKey, ReplicaId};
use quorate_keys::genesis::Address;
use quorate_transport::PeerAddress;

use super::NodeSettings;
use crate::failure::NodeError;

/// How long the name service may take for a name; all are asked for at once. A name server that keeps silent must not
/// hold up the start either.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);
/// With more than f names unresolved it is not liars, it is the name service of this node, which after a power cut may
/// come up later than the node: it is asked so many times before the node starts all the same.
const LOOKUP_ROUNDS: u32 = 6;
/// The wait between these times.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);

/// Stands for an address that is not known. QUIC refuses to dial it before a packet is sent.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The other replicas with the addresses to dial. Of those that do not resolve it is said once.
///
/// # Errors
/// [`NodeError::Configuration`] if the configuration names a replica that the genesis file does not have.
pub(super) async fn of_peers(settings: &NodeSettings) -> Result<Vec<PeerAddress>, NodeError> {
    for id in settings.addresses.keys() {
        if settings.genesis.replica(*id).is_none() {
            return Err(NodeError::Configuration(format!(
                "addresses names replica {id}, which the genesis file does not have"
            )));
        }
    }
    let mut peers: Vec<Sought> = settings
        .genesis
        .replicas()
        .iter()
        .filter(|replica| replica.id != settings.replica)
        .map(|replica| Sought {
            id: replica.id,
            key: replica.transport_key,
            named: settings.addresses.get(&replica.id).unwrap_or(&replica.peer_address).clone(),
            found: None,
        })
        .collect();
    let faults = settings.genesis.committee().faults();
    for round in 1..=LOOKUP_ROUNDS {
        look_up(&mut peers).await;
        if peers.iter().filter(|peer| peer.found.is_none()).count() <= faults {
            break;
        }
        if round < LOOKUP_ROUNDS {
            tokio::time::sleep(LOOKUP_INTERVAL).await;
        }
    }
    for Sought { id, named, .. } in peers.iter().filter(|peer| peer.found.is_none()) {
        tracing::warn!(
            replica = %id,
            address = %named,
            "the address of a replica does not resolve, so this node does not dial it until it is started again; a link comes up if that replica dials"
        );
    }
    Ok(peers
        .iter()
        .map(|peer| PeerAddress { id: peer.id, key: peer.key, address: peer.found.unwrap_or(NOWHERE) })
        .collect())
}

/// A replica whose address is looked up.
struct Sought {
    id: ReplicaId,
    key: PublicKey,
    named: Address,
    found: Option<SocketAddr>,
}

/// Asks for all that are not found yet, at once.
async fn look_up(peers: &mut [Sought]) {
    let lookups: Vec<_> = peers
        .iter_mut()
        .filter(|peer| peer.found.is_none())
        .map(|peer| {
            let lookup = tokio::spawn(resolve(peer.named.clone()));
            (peer, lookup)
        })
        .collect();
    for (peer, lookup) in lookups {
        peer.found = lookup.await.ok().flatten();
    }
}

async fn resolve(address: Address) -> Option<SocketAddr> {
    let lookup = tokio::net::lookup_host((address.host(), address.port()));
    tokio::time::timeout(LOOKUP_PATIENCE, lookup).await.ok()?.ok()?.next()
}
