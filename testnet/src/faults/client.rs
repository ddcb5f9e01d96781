//! The lying client: what it submits, and to whom. The simulator draws some from each seed, `quorate-testnet attack`
//! sends the same over real links.
//!
//! A faulty client has a registered key like any other: what it signs is valid and must execute at most once; it must
//! cost other clients no more than its share.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use quorate_crypto::{ClusterId, ReplicaId, Signature, Signer};
use quorate_kv::{Operation, PutRequest};
use quorate_protocol::client::message::{CLIENT_FRAME_MAX, ClientMessage};
use quorate_protocol::request::{self, REQUEST_BYTES_MAX, Request, RequestContent, SessionId};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

/// What a client does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientBehaviour {
    /// Requests whose signature does not hold.
    BadSignatures,
    /// As many valid requests as it can send.
    Flood,
    /// Two operations under one number, each to half of the replicas.
    SameNumber,
    /// Numbers that it used already, with other operations.
    NumberRewind,
    /// Numbers far ahead of those it used.
    NumberJump,
    /// Valid requests to one backup only.
    OneBackup,
    /// Keys and values at the limits and beyond.
    HugeValues,
}

impl ClientBehaviour {
    /// All of them, in the order in which they are listed.
    pub const ALL: [ClientBehaviour; 7] = [
        ClientBehaviour::BadSignatures,
        ClientBehaviour::Flood,
        ClientBehaviour::SameNumber,
        ClientBehaviour::NumberRewind,
        ClientBehaviour::NumberJump,
        ClientBehaviour::OneBackup,
        ClientBehaviour::HugeValues,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            ClientBehaviour::BadSignatures => "bad-signatures",
            ClientBehaviour::Flood => "flood",
            ClientBehaviour::SameNumber => "same-number",
            ClientBehaviour::NumberRewind => "number-rewind",
            ClientBehaviour::NumberJump => "number-jump",
            ClientBehaviour::OneBackup => "one-backup",
            ClientBehaviour::HugeValues => "huge-values",
        }
    }

    /// What it does, in one line.
    pub const fn line(self) -> &'static str {
        match self {
            ClientBehaviour::BadSignatures => "requests whose signature does not hold",
            ClientBehaviour::Flood => "as many valid requests as it can send",
            ClientBehaviour::SameNumber => "two operations under one number, each to half of the replicas",
            ClientBehaviour::NumberRewind => "numbers that it used already, with other operations",
            ClientBehaviour::NumberJump => "numbers far ahead of those it used",
            ClientBehaviour::OneBackup => "valid requests to a single replica",
            ClientBehaviour::HugeValues => "keys and values at the limits and beyond",
        }
    }
}

impl fmt::Display for ClientBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no behaviour of clients has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no behaviour of clients called {0:?}; there are: {list}", list = ClientBehaviour::ALL.map(ClientBehaviour::name).join(", "))]
pub struct UnknownClientBehaviour(pub String);

impl FromStr for ClientBehaviour {
    type Err = UnknownClientBehaviour;

    fn from_str(text: &str) -> Result<ClientBehaviour, UnknownClientBehaviour> {
        let found = ClientBehaviour::ALL.into_iter().find(|behaviour| behaviour.name() == text);
        found.ok_or_else(|| UnknownClientBehaviour(text.to_owned()))
    }
}

/// Valid requests of one burst of a flood.
const BURST: usize = 4;
/// Numbers a flooding client leaves unacknowledged.
const UNACKNOWLEDGED: u64 = 256;
/// How long its requests stay valid, milliseconds.
const LIFETIME: u64 = 5_000;
/// Bytes of a value that is large but allowed.
const LARGE: usize = 200 * 1024;
/// Longest key the store takes (`quorate_kv::limit::MAX_KEY_BYTES`), in bytes.
const KEY_MAX: usize = 4 * 1024;

/// Something a faulty client submits.
pub struct Submission {
    /// To these replicas.
    pub to: Vec<ReplicaId>,
    /// The request.
    pub request: Request,
    /// What it asks for.
    pub operation: Operation,
    /// Whether it is signed as it must be, and within the limits: then it may execute.
    pub valid: bool,
}

impl Submission {
    /// As it travels. None if it does not fit into a frame at all.
    pub fn message(&self) -> Option<ClientMessage> {
        (self.request.weight() < CLIENT_FRAME_MAX).then(|| ClientMessage::Submit(self.request.clone()))
    }
}

/// A client that does something wrong.
pub struct FaultyClient {
    behaviour: ClientBehaviour,
    key: Arc<dyn Signer>,
    cluster: ClusterId,
    replicas: Vec<ReplicaId>,
    session: SessionId,
    number: u64,
    written: u64,
    random: ChaCha8Rng,
    backup: ReplicaId,
}

impl FaultyClient {
    /// `seed` decides everything it does.
    pub fn new(
        behaviour: ClientBehaviour,
        key: Arc<dyn Signer>,
        cluster: ClusterId,
        replicas: Vec<ReplicaId>,
        seed: u64,
    ) -> FaultyClient {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut session = [0; 16];
        random.fill_bytes(&mut session);
        // Not the first, who leads the first view.
        let backup = random.random_range(1..replicas.len().max(2)).min(replicas.len().saturating_sub(1));
        let backup = replicas.get(backup).copied().unwrap_or_default();
        FaultyClient {
            behaviour,
            key,
            cluster,
            replicas,
            session: SessionId(session),
            number: 0,
            written: 0,
            random,
            backup,
        }
    }

    /// What it does.
    pub const fn behaviour(&self) -> ClientBehaviour {
        self.behaviour
    }

    /// What it submits now. `wall` is its clock, milliseconds since the Unix epoch.
    pub fn act(&mut self, wall: u64) -> Vec<Submission> {
        match self.behaviour {
            ClientBehaviour::BadSignatures => {
                let mut bad = self.put(wall);
                let Signature(mut signature) = *bad.request.signature();
                signature[self.random.random_range(0..64)] ^= self.random.random_range(1..=255);
                bad.request = Request::from_parts(bad.request.content().clone(), Signature(signature));
                bad.valid = false;
                vec![bad]
            }
            ClientBehaviour::Flood => (0..BURST).map(|_| self.put(wall)).collect(),
            ClientBehaviour::SameNumber => {
                let mut first = self.put(wall);
                self.number -= 1;
                let mut second = self.put(wall);
                let half = self.replicas.len() / 2;
                first.to.truncate(half);
                second.to.drain(..half);
                vec![first, second]
            }
            ClientBehaviour::NumberRewind => {
                if self.number > 3 && self.random.random_bool(0.5) {
                    let present = self.number;
                    self.number = self.random.random_range(0..present);
                    let rewound = self.put(wall);
                    self.number = present;
                    vec![rewound]
                } else {
                    vec![self.put(wall)]
                }
            }
            ClientBehaviour::NumberJump => {
                if self.random.random_bool(0.5) {
                    let ahead = [1_025, 5_000, 1 << 32, u64::MAX / 2];
                    self.number = self.number.saturating_add(ahead[self.random.random_range(0..ahead.len())]);
                }
                let jumped = self.put(wall);
                if self.number > u64::MAX / 4 {
                    // There is nowhere left to jump to.
                    self.random.fill_bytes(&mut self.session.0);
                    self.number = 0;
                }
                vec![jumped]
            }
            ClientBehaviour::OneBackup => {
                let mut lonely = self.put(wall);
                lonely.to = vec![self.backup];
                vec![lonely]
            }
            ClientBehaviour::HugeValues => {
                let (key, value) = match self.random.random_range(0..4) {
                    0 => (KEY_MAX, 10),
                    1 => (KEY_MAX + 1, 10),
                    2 => (8, LARGE),
                    _ => (8, REQUEST_BYTES_MAX),
                };
                vec![self.put_of(wall, key, value)]
            }
        }
    }

    fn put(&mut self, wall: u64) -> Submission {
        self.put_of(wall, 4, 12)
    }

    /// A put of the next number, to everybody. Its keys begin with `z`: honest clients of the simulator use others, so
    /// that what they read does not depend on it.
    fn put_of(&mut self, wall: u64, key: usize, value: usize) -> Submission {
        self.number = self.number.saturating_add(1).max(1);
        self.written += 1;
        let mut bytes = vec![b'z'; key];
        if let Some(last) = bytes.last_mut() {
            *last = b'0' + (self.written % 8) as u8;
        }
        let mut written = self.written.to_string().into_bytes();
        written.resize(written.len().max(value), b'.');
        let operation = Operation::Put(PutRequest::new(bytes, written));
        let encoded = operation.to_bytes();
        let valid = encoded.len() <= REQUEST_BYTES_MAX;
        let content = RequestContent {
            client: self.key.public_key(),
            session: self.session,
            number: self.number,
            acknowledged_below: self.number.saturating_sub(UNACKNOWLEDGED).max(1),
            valid_until: wall + LIFETIME,
            operations: vec![request::Operation { service: quorate_kv::SERVICE, bytes: encoded }],
        };
        let request = content.sign(self.cluster, self.key.as_ref());
        Submission { to: self.replicas.clone(), request, operation, valid }
    }
}
