//! `status`.

use std::time::Duration;

use quorate_transport::LinkState;
use serde_json::{Value, json};

use super::failure::Failure;
use super::session::Session;
use crate::client::ReplicaState;

/// How long replicas that do not answer are waited for, unless --timeout is shorter.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let patience = PATIENCE.min(session.client.patience());
    let replicas = session.wait(session.client.status(patience)).await?;
    if session.report.json {
        let objects: Vec<Value> = replicas.iter().map(object).collect();
        let cluster = session.cluster.0.to_hex();
        session.report.value(&json!({"v": 1, "cluster": cluster, "replicas": objects}))?;
    } else {
        let header = format!(
            "{:<8} {:<8} {:<6} {:<9} {:<9} {:<11} {}",
            "REPLICA", "ROLE", "VIEW", "SEQ", "REVISION", "CHECKPOINT", "STATE"
        );
        session.report.bytes(header.as_bytes())?;
        for replica in &replicas {
            session.report.bytes(line(replica).as_bytes())?;
        }
    }
    let answered = replicas.iter().filter(|replica| replica.status.is_some()).count();
    let quorum = session.client.committee().quorum();
    if answered < quorum {
        return Err(Failure::unknown(format!(
            "only {answered} of {} replicas answered, and {quorum} are needed to make progress{}; look at their logs, or restart them",
            replicas.len(),
            session.client.link_report()
        )));
    }
    Ok(())
}

fn role(replica: &ReplicaState) -> &'static str {
    match &replica.status {
        Some(status) if status.primary == replica.id => "primary",
        Some(_) => "backup",
        None if replica.link == LinkState::Up => "silent",
        None => "down",
    }
}

fn line(replica: &ReplicaState) -> String {
    let role = role(replica);
    match (&replica.status, &replica.link) {
        (Some(status), _) => format!(
            "{:<8} {role:<8} {:<6} {:<9} {:<9} {:<11} {}",
            replica.id.0,
            status.view.0,
            status.executed.0,
            status.revision,
            status.checkpoint.0,
            status.checkpoint_digest.short()
        ),
        (None, LinkState::Down(error)) => format!("{:<8} {role:<8} {error}", replica.id.0),
        (None, _) => format!("{:<8} {role:<8}", replica.id.0),
    }
}

fn object(replica: &ReplicaState) -> Value {
    let mut object = json!({"id": replica.id.0, "up": replica.status.is_some(), "role": role(replica)});
    let more = match (&replica.status, &replica.link) {
        (Some(status), _) => json!({
            "view": status.view.0,
            "primary": status.primary.0,
            "executed": status.executed.0,
            "revision": status.revision,
            "time": status.time,
            "checkpoint_seq": status.checkpoint.0,
            "checkpoint_digest": status.checkpoint_digest.to_hex(),
        }),
        (None, LinkState::Down(error)) => json!({"error": error.to_string()}),
        (None, _) => json!({}),
    };
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

#[cfg(test)]
mod tests {
    use quorate_crypto::{Digest, ReplicaId, Seq, View};
    use quorate_protocol::client::message::ReplicaStatus;
    use quorate_transport::LinkError;

    use super::*;

    #[test]
    fn a_replica_is_described_by_its_own_word_or_by_its_link() {
        let status = ReplicaStatus {
            replica: ReplicaId(1),
            view: View(4),
            primary: ReplicaId(1),
            executed: Seq(9),
            revision: 3,
            time: 5,
            checkpoint: Seq(8),
            checkpoint_digest: Digest([0xab; 32]),
        };
        let up = ReplicaState { id: ReplicaId(1), link: LinkState::Up, status: Some(status) };
        assert_eq!(object(&up)["role"], "primary");
        assert!(line(&up).ends_with("ababab"));
        let down = ReplicaState { id: ReplicaId(2), link: LinkState::Down(LinkError::TimedOut), status: None };
        assert_eq!((role(&down), object(&down)["up"].as_bool()), ("down", Some(false)));
        let silent = ReplicaState { id: ReplicaId(3), link: LinkState::Up, status: None };
        assert_eq!(role(&silent), "silent");
    }
}
