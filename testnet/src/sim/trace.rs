//! The trace of a run: a digest over every event to the byte, and, if asked for, a line for people about each.

use quorate_crypto::digest::Hasher;
use quorate_crypto::{Digest, Domain};
use quorate_protocol::message::Message;
use quorate_protocol::parameters::Micros;

use super::fingerprint::Fingerprint;

/// Collects the digest and, where wanted, the lines.
pub(super) struct Trace {
    hasher: Hasher,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(wants_lines: bool) -> Trace {
        Trace { hasher: Hasher::new(Domain::Trace), lines: wants_lines.then(Vec::new) }
    }

    /// One event: when, what kind, between whom, its bytes.
    pub(super) fn event(&mut self, at: Micros, kind: &str, from: u64, to: u64, bytes: &[u8]) {
        let mut fingerprint = Fingerprint::new();
        fingerprint.part(kind.as_bytes());
        fingerprint.part(bytes);
        let [one, two] = fingerprint.finish();
        let mut entry = [0; 40];
        for (place, word) in entry.chunks_exact_mut(8).zip([at, from, to, one, two]) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        self.hasher.part(&entry);
    }

    /// Whether lines are wanted: making one costs time.
    pub(super) const fn wants_lines(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line, made only if it is wanted. It never enters the digest.
    pub(super) fn line(&mut self, at: Micros, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>11.6} {}", at as f64 / 1e6, line()));
        }
    }

    /// The digest and the lines.
    pub(super) fn finish(self) -> (Digest, Vec<String>) {
        (self.hasher.finish(), self.lines.unwrap_or_default())
    }
}

/// A message in one line.
pub(super) fn describe(message: &Message) -> String {
    match message {
        Message::PrePrepare(message) => {
            format!("PRE-PREPARE {:?} requests {}", message.signed.body(), message.proposal.requests().len())
        }
        Message::Prepare(prepare) => format!("PREPARE {:?}", prepare.signed.body()),
        Message::Commit(signed) => format!("COMMIT {:?}", signed.body()),
        Message::ViewChange(message) => format!(
            "VIEW-CHANGE of r{} to {:?}, stable {:?}, slots {:?}",
            message.author(),
            message.view(),
            message.body().stable_seq(),
            message.body().slots.iter().map(|slot| (slot.ballot().seq, slot.ballot().view)).collect::<Vec<_>>()
        ),
        Message::NewView(message) => format!(
            "NEW-VIEW {:?} on {:?}, carries {:?}",
            message.view(),
            message.body().view_changes.iter().map(|(author, _)| author.0).collect::<Vec<_>>(),
            message.body().reproposals.iter().map(|one| (one.seq, one.digest)).collect::<Vec<_>>()
        ),
        Message::Checkpoint(signed) | Message::Executed(signed) => {
            format!("{:?} by r{}", signed.body(), signed.signer())
        }
        Message::Requests(requests) => format!("REQUESTS {}", requests.len()),
        Message::Status(status) => format!(
            "STATUS {:?} entered {} stable {:?} executed {:?} slots {:?} missing {}+{}",
            status.view,
            status.entered,
            status.stable,
            status.executed,
            status
                .slots
                .iter()
                .map(|slot| (slot.seq.0, slot.pre_prepared, slot.prepares, slot.commits))
                .collect::<Vec<_>>(),
            status.missing_requests.len(),
            status.missing_proposals.len()
        ),
        Message::CommitCertificate(committed) => format!("COMMIT-CERTIFICATE {:?}", committed.certificate.body),
        Message::StableCheckpoint(certificate) => format!("STABLE {:?}", certificate.body),
        Message::State { header } => format!("STATE at {:?}", header.seq),
        Message::Chunk { seq, table, path, .. } => format!("CHUNK of {seq:?} {table:?} path {path:?}"),
        other => format!("{other:?}"),
    }
}
