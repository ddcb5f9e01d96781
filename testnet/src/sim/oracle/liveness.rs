//! Liveness: once everything but the liars is well, every request of a correct client ends, and every honest replica
//! catches up, within a bound.

use quorate_crypto::{ReplicaId, Seq};
use quorate_protocol::engine::EngineStatus;

use crate::sim::history::{Asked, History};
use crate::sim::report::Violation;

/// What is not finished yet: none if everything is.
pub(in crate::sim) fn unfinished(
    history: &History,
    honest: &[(ReplicaId, EngineStatus)],
    last: Seq,
) -> Option<Violation> {
    let mut left: Vec<String> = history.all().filter(|asked| asked.ended.is_none()).map(Asked::name).collect();
    left.truncate(5);
    let mut behind: Vec<String> = Vec::new();
    for (replica, status) in honest {
        if status.executed < last || status.pending > 0 || status.rejoining {
            behind.push(format!(
                "replica {replica} at executed {} of {last}, view {} entered {}, stable {}, pending {}, transferring {}, rejoining {}",
                status.executed, status.view, status.entered, status.stable, status.pending, status.transferring, status.rejoining
            ));
        }
    }
    if left.is_empty() && behind.is_empty() {
        return None;
    }
    Some(Violation::new("liveness", format!("not ended: [{}]; {}", left.join(", "), behind.join("; "))))
}
