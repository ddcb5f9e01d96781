//! From the genesis file to what the pure layers are given: the shared numbers, the genesis state, the replica's setup.

use std::sync::Arc;

use quorate_crypto::{Committee, Incarnation, PublicKey, RememberingEd25519, ReplicaId, Verifier};
use quorate_keys::{Genesis, Identity};
use quorate_protocol::execution::{Execution, InitialConfiguration};
use quorate_protocol::foundation::Setup;
use quorate_protocol::parameters::Parameters;
use quorate_transport::limits::FRAME_CAP_BYTES;

use crate::failure::NodeError;
use crate::key_value::KeyValue;
use crate::log::LogKey;

/// The numbers the protocol goes by. Genesis speaks of milliseconds, the protocol of microseconds where it drives timers.
///
/// `reply_cache_bytes` of genesis is for all sessions of one key together; the protocol's is for one session.
pub fn parameters(genesis: &Genesis) -> Parameters {
    parameters_of(genesis.parameters())
}

/// The same of numbers that no genesis file holds yet.
pub fn parameters_of(numbers: &quorate_keys::genesis::Parameters) -> Parameters {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Parameters {
        window: numbers.window,
        checkpoint_interval: numbers.checkpoint_interval,
        view_timeout: numbers.view_timeout_ms.saturating_mul(1000),
        backoff_cap: u32::try_from(numbers.backoff_cap).unwrap_or(u32::MAX),
        batch_requests_max: size(numbers.batch_requests_max),
        batch_bytes_max: size(numbers.batch_bytes_max),
        proposal_time_bound: numbers.proposal_time_bound_ms,
        proposal_time_bound_cap: numbers.proposal_time_bound_cap_ms,
        request_lifetime_max: numbers.request_lifetime_max_ms,
        pending_requests_max: size(numbers.pending_requests_max),
        pending_requests_per_client_max: size(numbers.pending_requests_per_client_max),
        sessions_per_client: size(numbers.sessions_per_client),
        session_courtesy: numbers.session_idle_courtesy_ms,
        reply_cache_bytes: size(numbers.reply_cache_bytes / numbers.sessions_per_client.max(1)),
        frame_bytes_max: size(numbers.frame_bytes_max),
        ..Parameters::default()
    }
}

/// The parameters of the key-value service.
pub fn service_parameters(genesis: &Genesis) -> quorate_kv::Parameters {
    quorate_kv::Parameters {
        quota_bytes: genesis.parameters().kv_quota_bytes,
        auto_compaction_retention: genesis.parameters().auto_compaction_retention,
    }
}

/// The state before the first batch, the same on every replica.
pub fn genesis_state(genesis: &Genesis) -> Execution<KeyValue> {
    let keys = |list: &[quorate_keys::genesis::GenesisClient]| {
        list.iter().map(|client| client.key).collect::<Vec<PublicKey>>()
    };
    let initial = InitialConfiguration {
        clients: keys(genesis.clients()),
        admins: keys(genesis.admins()),
        parameters: (&parameters(genesis)).into(),
    };
    Execution::new(KeyValue::new(service_parameters(genesis)), &initial)
}

/// What a replica is given once.
pub fn replica_setup(genesis: &Genesis, id: ReplicaId, identity: &Identity) -> Setup {
    Setup {
        protocol: genesis.protocol(),
        id,
        incarnation: Incarnation(0),
        rejoin_seed: LogKey::random().0,
        committee: Arc::new(Committee::clone(genesis.committee())),
        parameters: parameters(genesis),
        signer: Arc::new(identity.consensus.clone()),
        verifier: Verifier::new(Arc::new(RememberingEd25519::default())),
    }
}

/// Whether this program can run a replica of that cluster with that identity.
///
/// # Errors
/// [`NodeError::Refused`] with one sentence.
pub fn check(genesis: &Genesis, id: ReplicaId, identity: &Identity) -> Result<(), NodeError> {
    let refused = |reason: String| Err(NodeError::Refused(reason));
    if genesis.parameters().frame_bytes_max > FRAME_CAP_BYTES as u64 {
        return refused(format!(
            "the genesis file sets frame_bytes_max to {}, but links of this program carry at most {FRAME_CAP_BYTES}",
            genesis.parameters().frame_bytes_max
        ));
    }
    let Some(replica) = genesis.replica(id) else {
        return refused(format!("the genesis file has no replica {id}; check `replica` in the configuration"));
    };
    let public = identity.public();
    if replica.consensus_key != public.consensus {
        return match genesis.replica_of(&public.consensus) {
            Some(owner) => refused(format!(
                "the identity file holds the key of replica {}, but the configuration says replica {id}; use the identity of replica {id}, or correct `replica`",
                owner.id
            )),
            None => refused(format!(
                "the identity file's key belongs to no replica of the genesis file; replica {id} needs the identity it was registered with"
            )),
        };
    }
    if replica.transport_key != public.transport {
        return refused(format!(
            "the identity file's transport key is not the one the genesis file names for replica {id}"
        ));
    }
    Ok(())
}
