//! What a simulated cluster is at its beginning: its members, and the state before the first batch.

use quorate_crypto::{ClusterId, Committee, Digest, Domain, Epoch, FaultModel, Member, PublicKey, ReplicaId};
use quorate_node::key_value::KeyValue;
use quorate_protocol::execution::{Execution, ExecutionParameters, InitialConfiguration};

use super::plan::Plan;
use super::signing::Keyring;

/// The members, with keys that the seed decides.
pub(super) fn committee(plan: &Plan, keys: &Keyring) -> Committee {
    let members = (0..plan.replicas)
        .map(|index| Member { id: ReplicaId(index as u16), key: keys.key(index).public_key() })
        .collect();
    let cluster = ClusterId(Digest::of(Domain::Cluster, &[b"simulated", &plan.seed.to_be_bytes()]));
    Committee::new(cluster, Epoch(0), FaultModel::Byzantine, members)
        .unwrap_or_else(|error| panic!("the plan's committee: {error}"))
}

/// The state before the first batch.
pub(super) fn genesis(plan: &Plan, clients: &[PublicKey]) -> Execution<KeyValue> {
    let parameters = quorate_kv::Parameters {
        auto_compaction_retention: plan.compaction_retention,
        ..quorate_kv::Parameters::default()
    };
    let initial = InitialConfiguration {
        clients: clients.to_vec(),
        admins: Vec::new(),
        parameters: ExecutionParameters::from(&plan.parameters),
    };
    Execution::new(KeyValue::new(parameters), &initial)
}
