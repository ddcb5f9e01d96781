//! The figures of rows, rows as JSON, and where the lines of the two protocols cross.

use quorate_crypto::Protocol;
use serde_json::{Value, json};

use super::{DELAY, Row, Situation};
use crate::sim::meter::Kind;

/// One number of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Messages a batch, each recipient counted.
    Messages,
    /// Bytes of them a batch.
    Bytes,
    /// Signatures made a batch, by all replicas.
    Signed,
    /// Signatures checked a batch, by all replicas.
    Checked,
    /// Message delays from a request to its reply.
    Delays,
}

impl Figure {
    /// All of them.
    pub const ALL: [Figure; 5] = [Figure::Messages, Figure::Bytes, Figure::Signed, Figure::Checked, Figure::Delays];

    /// For headings and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Figure::Messages => "messages",
            Figure::Bytes => "bytes",
            Figure::Signed => "signatures-made",
            Figure::Checked => "signatures-checked",
            Figure::Delays => "message-delays",
        }
    }

    /// What it is, for the axis of a plot.
    pub const fn line(self) -> &'static str {
        match self {
            Figure::Messages => "messages a batch",
            Figure::Bytes => "bytes a batch",
            Figure::Signed => "signatures made a batch",
            Figure::Checked => "signatures checked a batch",
            Figure::Delays => "message delays from request to reply",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Figure::Messages => "messages",
            Figure::Bytes => "bytes",
            Figure::Signed => "signatures made",
            Figure::Checked => "signatures checked",
            Figure::Delays => "message delays from request to reply",
        }
    }

    /// Of this row, for each batch. Where the leader dies, a view change takes the place of a batch.
    pub fn of(self, row: &Row) -> Option<f64> {
        match row.situation {
            Situation::LeaderDies => self.over(row, 1),
            _ => self.over(row, row.measured.batches),
        }
    }

    /// Of this row, for each operation: the two protocols do not put equally many into a batch. None where a view change is
    /// counted, and for delays, which are a request's anyway.
    pub fn of_operation(self, row: &Row) -> Option<f64> {
        let counted = row.situation != Situation::LeaderDies && self != Figure::Delays;
        counted.then(|| self.over(row, row.measured.operations)).flatten()
    }

    fn over(self, row: &Row, count: u64) -> Option<f64> {
        let (total, count) = (row.measured.total(), count.max(1) as f64);
        Some(match self {
            Figure::Messages => total.messages as f64 / count,
            Figure::Bytes => total.bytes as f64 / count,
            Figure::Signed => row.measured.signed as f64 / count,
            Figure::Checked => row.measured.checked as f64 / count,
            Figure::Delays => return row.delays,
        })
    }
}

/// Where the lines of the two protocols cross, one sentence a figure and situation.
pub fn crossings(rows: &[Row]) -> Vec<String> {
    let mut sentences = Vec::new();
    for situation in Situation::ALL {
        for figure in Figure::ALL {
            let per = match (situation, figure) {
                (_, Figure::Delays) => "",
                (Situation::LeaderDies, _) => " a view change",
                _ => " a batch",
            };
            let what = |per: &str| format!("{}{per}, {}", figure.noun(), situation.name());
            sentences.extend(crossing(rows, situation, &what(per), |row| figure.of(row)));
            sentences.extend(crossing(rows, situation, &what(" an operation"), |row| figure.of_operation(row)));
        }
    }
    sentences
}

fn crossing(rows: &[Row], situation: Situation, what: &str, of: impl Fn(&Row) -> Option<f64>) -> Option<String> {
    let value = |protocol: Protocol, replicas: usize| {
        let row =
            rows.iter().find(|row| row.situation == situation && row.protocol == protocol && row.replicas == replicas);
        row.and_then(&of)
    };
    let mut sizes: Vec<usize> = rows.iter().map(|row| row.replicas).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let lower: Vec<(usize, Protocol)> = sizes
        .into_iter()
        .filter_map(|size| {
            let (pbft, hotstuff) = (value(Protocol::Pbft, size)?, value(Protocol::HotStuff, size)?);
            Some((size, if hotstuff < pbft { Protocol::HotStuff } else { Protocol::Pbft }))
        })
        .collect();
    let (first, last) = (lower.first()?, lower.last()?);
    let turns: Vec<String> = lower
        .windows(2)
        .filter(|pair| pair[0].1 != pair[1].1)
        .map(|pair| {
            format!("between n = {} and n = {}, where {} begins to take fewer", pair[0].0, pair[1].0, pair[1].1)
        })
        .collect();
    Some(if turns.is_empty() {
        format!("{what}: {} takes fewer from n = {} to n = {}", first.1, first.0, last.0)
    } else {
        format!("{what}: the lines cross {}", turns.join(", and "))
    })
}

/// Everything.
pub fn to_json(seed: u64, rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let kinds: serde_json::Map<String, Value> = row
                .measured
                .traffic
                .iter()
                .map(|(kind, traffic)| {
                    (name(*kind).to_owned(), json!({"messages": traffic.messages, "bytes": traffic.bytes}))
                })
                .collect();
            json!({
                "protocol": row.protocol.name(),
                "replicas": row.replicas,
                "situation": row.situation.name(),
                "batches": row.measured.batches,
                "operations": row.measured.operations,
                "messages": row.measured.total().messages,
                "bytes": row.measured.total().bytes,
                "kinds": kinds,
                "signatures_made": row.measured.signed,
                "signatures_checked": row.measured.checked,
                "delays": row.delays,
                "gap_ms": (row.situation == Situation::LeaderDies).then_some(row.measured.gap as f64 / 1e3),
            })
        })
        .collect();
    json!({"v": 1, "seed": seed, "delay_ms": DELAY as f64 / 1e3, "rows": rows})
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Proposal => "proposals",
        Kind::Vote => "votes",
        Kind::Certificate => "certificates",
        Kind::ViewChange => "view_change",
        Kind::Checkpoint => "checkpoints",
        Kind::Fetch => "requests_and_fetches",
    }
}
