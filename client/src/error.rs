//! What can go wrong for a client: one sentence each, with what to do next.

use std::fmt;
use std::sync::Arc;

use quorate_crypto::{ReplicaId, Seq};
use quorate_kv::{LimitError, OperationError};
use quorate_protocol::client::{Heard, SubmitError};
use quorate_protocol::reply::Refusal;
use quorate_protocol::request::Request;
use quorate_transport::{LinkError, StartError};
use thiserror::Error;

use crate::cluster::ClusterError;

/// Why a call gave no result.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No cluster, no key, no address.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The sockets could not be set up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The operation would be refused by every replica.
    #[error("{0}; correct the operation")]
    Limit(#[from] LimitError),
    /// The request cannot be sent.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// f + 1 replicas refuse the request. [`aftermath`] says whether that is its outcome.
    #[error("{replicas} replicas refuse the request: {}; {}", refusal_sentence(*reason), what_follows(*reason))]
    Refused {
        /// Why.
        reason: Refusal,
        /// How many say so.
        replicas: usize,
        /// What was signed.
        requests: Vec<Arc<Request>>,
    },
    /// So many replicas refuse the links of this key that the others are too few to agree on anything. Nothing was sent.
    #[error(
        "{0} replicas refuse this key, so nothing was sent: register it with `quorate client-key add`, signed by an admin key, or use another with --key FILE"
    )]
    KeyRefused(usize),
    /// The service refused the operation; nothing was changed.
    #[error("refused: {0}")]
    Operation(#[from] OperationError),
    /// No f + 1 equal replies in time: the request may have executed, or may yet.
    #[error("{0}")]
    Unknown(Box<UnknownOutcome>),
    /// No f + 1 equal answers in time to something that changes nothing.
    #[error(
        "only {answered} of the {needed} answers needed came in time{links}; check the replicas with `quorate status`, or wait longer with --timeout"
    )]
    NoQuorum {
        /// Replicas that answered.
        answered: usize,
        /// f + 1.
        needed: usize,
        /// Why links are down.
        links: LinkReport,
    },
    /// It executed, but its results are no longer kept.
    #[error("the request executed at seq {0}, but its results are no longer kept; read the keys to see them")]
    ResultsForgotten(Seq),
    /// f + 1 replicas agree on something this program does not understand.
    #[error(
        "f + 1 replicas agree on an answer this program cannot read ({0}); use the program of the cluster's version"
    )]
    Unreadable(String),
    /// The history asked for is gone.
    #[error("the revisions before {0} are compacted; start from {0}")]
    Compacted(u64),
    /// f + 1 replicas ended the watch.
    #[error("f + 1 replicas ended the watch: {0}; start it again")]
    WatchEnded(String),
    /// The client was shut down.
    #[error("the client is shut down; connect again")]
    Closed,
}

impl ClientError {
    /// The signed requests, all under one number, if they may have executed, or may yet, and replaying them can tell.
    pub fn to_replay(&self) -> Option<&[Arc<Request>]> {
        match self {
            ClientError::Unknown(outcome) => Some(&outcome.requests),
            ClientError::Refused { reason, requests, .. } if aftermath(*reason) == Aftermath::Open => Some(requests),
            _ => None,
        }
    }
}

/// A request whose outcome is unknown, with everything needed to replay it.
#[derive(Debug, Clone)]
pub struct UnknownOutcome {
    /// What was heard.
    pub heard: Heard,
    /// The signed requests, all under one number.
    pub requests: Vec<Arc<Request>>,
    /// f + 1.
    pub needed: usize,
    /// Why links are down.
    pub links: LinkReport,
    /// How long the client waited, milliseconds.
    pub waited: u128,
}

impl fmt::Display for UnknownOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Heard { connected, answered, busy, refused } = &self.heard;
        write!(
            f,
            "no {} equal replies within {} ms, so the outcome is unknown: {connected} replicas connected, {answered} answered",
            self.needed, self.waited
        )?;
        if *busy > 0 {
            write!(f, ", {busy} busy")?;
        }
        if let Some((replica, reason)) = refused.first_key_value() {
            write!(f, ", {} refused (replica {replica}: {})", refused.len(), refusal_sentence(*reason))?;
        }
        write!(f, "{}", self.links)
    }
}

/// Why links are down, for the end of a sentence.
#[derive(Debug, Clone, Default)]
pub struct LinkReport(pub Vec<(ReplicaId, LinkError)>);

impl fmt::Display for LinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (replica, error)) in self.0.iter().enumerate() {
            write!(f, "{}replica {replica}: {error}", if index == 0 { " (" } else { " | " })?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// What becomes of signed bytes that f + 1 replicas refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// They did not execute and never will.
    Nothing,
    /// They may execute until agreed time passes their time limit: a primary that kept them can have them ordered as soon
    /// as the reason is gone.
    Open,
    /// Nobody tells any more whether what they ask for was done, however often they are replayed.
    Untold,
}

/// What becomes of the bytes refused for `reason`. It is settled only where agreed time has gone past them, or the
/// reason lies in the bytes alone.
pub fn aftermath(reason: Refusal) -> Aftermath {
    match reason {
        Refusal::Expired | Refusal::UnknownOperation | Refusal::NotSupported => Aftermath::Nothing,
        Refusal::UnknownClient
        | Refusal::NotPermitted
        | Refusal::ValidTooLong
        | Refusal::NumberTooFar
        | Refusal::SessionTableFull
        | Refusal::BatchShareSpent => Aftermath::Open,
        Refusal::StaleNumber | Refusal::NumberTaken | Refusal::Forgotten => Aftermath::Untold,
    }
}

/// What that means for whoever asked, for the end of a sentence.
fn what_follows(reason: Refusal) -> &'static str {
    match aftermath(reason) {
        Aftermath::Nothing if reason == Refusal::Expired => "nothing was changed, so issue it again",
        Aftermath::Nothing => "nothing was changed",
        Aftermath::Open => "should that change before its time limit passes, it may still execute",
        Aftermath::Untold => "read the keys before you issue it again: it may be done already",
    }
}

/// A refusal and what to do about it. It may be one replica's word alone, so it promises nothing.
pub fn refusal_sentence(reason: Refusal) -> &'static str {
    match reason {
        Refusal::UnknownClient => {
            "this key is not registered; have an admin run `quorate client-key add`, or use another key with --key FILE"
        }
        Refusal::Expired => "its time limit has passed and it did not execute",
        Refusal::ValidTooLong => "its time limit lies too far ahead; check this machine's clock",
        Refusal::StaleNumber => "its number was settled before, and whether it executed is not told any more",
        Refusal::NumberTooFar => "too many of this session's requests are unsettled; wait for them",
        Refusal::SessionTableFull => {
            "this key has too many sessions open; wait a minute, or use one connection for many requests"
        }
        Refusal::NumberTaken => "another request executed under its number, such as the same command signed once more",
        Refusal::UnknownOperation => "the cluster does not know this operation; use the program of its version",
        Refusal::Forgotten => "its time limit has passed, and whether it executed before is no longer known",
        Refusal::NotPermitted => {
            "this key may not do that; use a key with that permission, such as an admin key with --key FILE"
        }
        Refusal::NotSupported => "this version of the cluster does not execute that operation",
        Refusal::BatchShareSpent => "this key asked for too much at once",
    }
}
