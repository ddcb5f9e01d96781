//! Every reason to refuse a genesis. All of them are checked before anything is computed from it.

use std::collections::{BTreeMap, BTreeSet};

use quorate_crypto::committee::MAX_MEMBERS;
use quorate_crypto::encoding::DECODE_CEILING;
use quorate_crypto::{Committee, PublicKey, ReplicaId};

use super::{ADMINS_MAX, CLIENTS_MAX, GenesisContents, GenesisError, KeyHolder, NAME_BYTES_MAX, Parameters};

/// Checks everything but the size of the largest VIEW-CHANGE and NEW-VIEW, for which the committee must exist first.
pub(super) fn check(contents: &GenesisContents) -> Result<(), GenesisError> {
    if contents.nonce == [0; 32] {
        return Err(GenesisError::BadNonce);
    }
    check_counts(contents)?;
    check_ids(contents)?;
    check_keys(contents)?;
    check_names(contents)?;
    check_addresses(contents)?;
    contents.parameters.check()
}

/// The largest VIEW-CHANGE of the committee fits one frame; otherwise a view change under full load would end the
/// cluster (protocol.md, PBFT). `frame_bytes_max` less headroom must hold it.
pub(super) fn check_view_change_fits(parameters: &Parameters, committee: &Committee) -> Result<(), GenesisError> {
    let bound = parameters.view_change_bytes_bound(committee.quorum() as u64);
    if bound + super::FRAME_HEADROOM_BYTES > parameters.frame_bytes_max {
        return Err(GenesisError::ViewChangeTooLarge {
            n: committee.size(),
            window: parameters.window,
            bound,
            frame: parameters.frame_bytes_max,
        });
    }
    Ok(())
}

/// The largest NEW-VIEW can be recorded with the VIEW-CHANGEs it rests on; otherwise a view change under full load would
/// end every replica, since a record beyond [`DECODE_CEILING`] could never be read again.
pub(super) fn check_new_view_can_be_recorded(
    parameters: &Parameters,
    committee: &Committee,
) -> Result<(), GenesisError> {
    let bound = parameters.record_bytes_bound(committee.quorum() as u64);
    if bound > DECODE_CEILING as u64 {
        return Err(GenesisError::NewViewTooLarge { n: committee.size(), window: parameters.window, bound });
    }
    Ok(())
}

fn check_counts(contents: &GenesisContents) -> Result<(), GenesisError> {
    match contents.replicas.len() {
        n if n < 4 => return Err(GenesisError::TooFewReplicas(n)),
        n if n > MAX_MEMBERS => return Err(GenesisError::TooManyReplicas(n)),
        _ => {}
    }
    if contents.clients.len() > CLIENTS_MAX {
        return Err(GenesisError::TooManyClients(contents.clients.len()));
    }
    if contents.admins.len() > ADMINS_MAX {
        return Err(GenesisError::TooManyAdmins(contents.admins.len()));
    }
    if contents.clients.is_empty() && contents.admins.is_empty() {
        return Err(GenesisError::NobodyMaySpeak);
    }
    Ok(())
}

fn check_ids(contents: &GenesisContents) -> Result<(), GenesisError> {
    let n = contents.replicas.len();
    let mut seen: BTreeSet<ReplicaId> = BTreeSet::new();
    for replica in &contents.replicas {
        if !seen.insert(replica.id) {
            return Err(GenesisError::DuplicateReplicaId(replica.id));
        }
        if replica.id.index() >= n {
            return Err(GenesisError::IdsNotContiguous { id: replica.id, n });
        }
    }
    Ok(())
}

/// Every key with its holder, in the order of the file.
fn holders(contents: &GenesisContents) -> impl Iterator<Item = (KeyHolder, PublicKey)> + '_ {
    let replicas = contents.replicas.iter().flat_map(|replica| {
        [
            (KeyHolder::Consensus(replica.id), replica.consensus_key),
            (KeyHolder::Transport(replica.id), replica.transport_key),
        ]
    });
    let clients = contents.clients.iter().zip(1..).map(|(client, place)| (KeyHolder::Client(place), client.key));
    let admins = contents.admins.iter().zip(1..).map(|(admin, place)| (KeyHolder::Admin(place), admin.key));
    replicas.chain(clients).chain(admins)
}

/// A key used twice would let one role's signatures or links stand for another's.
fn check_keys(contents: &GenesisContents) -> Result<(), GenesisError> {
    let mut seen: BTreeMap<PublicKey, KeyHolder> = BTreeMap::new();
    for (second, key) in holders(contents) {
        if !key.is_acceptable() {
            return Err(GenesisError::UnacceptableKey(second));
        }
        if let Some(first) = seen.insert(key, second) {
            return Err(GenesisError::KeyUsedTwice { first, second });
        }
    }
    Ok(())
}

fn check_names(contents: &GenesisContents) -> Result<(), GenesisError> {
    let clients = contents.clients.iter().zip(1..).map(|(client, place)| (KeyHolder::Client(place), client));
    let admins = contents.admins.iter().zip(1..).map(|(admin, place)| (KeyHolder::Admin(place), admin));
    for (holder, entry) in clients.chain(admins) {
        let Some(name) = &entry.name else { continue };
        let printable =
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b'-'));
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !printable {
            return Err(GenesisError::BadName(holder));
        }
    }
    Ok(())
}

/// Peer and client addresses are UDP, operations addresses TCP: each kind must be distinct in itself.
fn check_addresses(contents: &GenesisContents) -> Result<(), GenesisError> {
    let (mut datagram, mut stream) = (BTreeSet::new(), BTreeSet::new());
    for replica in &contents.replicas {
        for address in [&replica.peer_address, &replica.client_address] {
            if !datagram.insert(address) {
                return Err(GenesisError::AddressUsedTwice(address.clone()));
            }
        }
        if let Some(address) = &replica.operations_address
            && !stream.insert(address)
        {
            return Err(GenesisError::AddressUsedTwice(address.clone()));
        }
    }
    Ok(())
}
