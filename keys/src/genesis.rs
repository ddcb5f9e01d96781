//! The genesis file: what a cluster is at its beginning. Every replica and client of a cluster has the same one.
//!
//! What comes in: text, or [`GenesisContents`] put together by a program. What goes out: a [`Genesis`], which exists
//! only if every check passed and cannot be changed afterwards, so nobody needs to ask whether it was validated.
//!
//! | part | what it is |
//! |---|---|
//! | [`Parameters`] | the numbers all replicas agree on |
//! | `validation` | every reason to refuse, one sentence each |
//! | `cluster_identity` | the bytes whose digest is the cluster id |
//! | `text` | the TOML form, with a comment on every parameter |

use std::fmt;
use std::path::{Path, PathBuf};

use quorate_crypto::{
    ClusterId, Committee, CommitteeError, Digest, Epoch, FaultModel, Member, Protocol, PublicKey, ReplicaId,
};

use crate::private_key_block::fill_random;
use crate::protected_file::{self, KeyFileProblem};

mod address;
mod cluster_identity;
mod parameters;
mod text;
mod validation;

pub use address::{Address, AddressError};
pub use parameters::{FRAME_HEADROOM_BYTES, ParameterRow, Parameters, REQUEST_DIGEST_BYTES};

/// The version of the file's form and of the bytes behind the cluster id. Others are refused.
pub const FORMAT_VERSION: u32 = 1;

/// A genesis file longer than this many bytes is refused unread.
pub const GENESIS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most client keys a genesis file may name; more can be added later by ordered operations.
pub const CLIENTS_MAX: usize = 4096;

/// Most admin keys.
pub const ADMINS_MAX: usize = 64;

/// Longest name of a client or admin, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// One replica of the first committee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenesisReplica {
    /// Its number, 0 to n - 1.
    pub id: ReplicaId,
    /// Verifies its statements.
    pub consensus_key: PublicKey,
    /// Authenticates its links.
    pub transport_key: PublicKey,
    /// Where other replicas reach it (UDP). Not part of the cluster id, as all addresses.
    pub peer_address: Address,
    /// Where clients reach it (UDP).
    pub client_address: Address,
    /// Where its metrics and health are (HTTP), if that is to be known.
    pub operations_address: Option<Address>,
}

/// A key that may send requests from the beginning.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GenesisClient {
    /// Verifies its requests and authenticates its link.
    pub key: PublicKey,
    /// A name for people; part of the cluster id, since it is part of the replicated configuration.
    pub name: Option<String>,
}

/// Everything in a genesis file, checked or not. [`Genesis::new`] checks it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenesisContents {
    /// 32 random bytes, so that two clusters of the same keys and parameters are two clusters.
    pub nonce: [u8; 32],
    /// The agreement protocol.
    pub protocol: Protocol,
    /// The numbers all replicas agree on.
    pub parameters: Parameters,
    /// The first committee.
    pub replicas: Vec<GenesisReplica>,
    /// Keys that may send requests.
    pub clients: Vec<GenesisClient>,
    /// Keys that may send requests and sign changes of the configuration.
    pub admins: Vec<GenesisClient>,
}

/// A valid genesis: replicas are ordered by id, clients and admins by key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Genesis {
    contents: GenesisContents,
    cluster_id: ClusterId,
    committee: Committee,
}

/// Whose key it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyHolder {
    /// The consensus key of a replica.
    Consensus(ReplicaId),
    /// The transport key of a replica.
    Transport(ReplicaId),
    /// The client with that place in the file, from 1.
    Client(usize),
    /// The admin with that place in the file, from 1.
    Admin(usize),
}

impl fmt::Display for KeyHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyHolder::Consensus(id) => write!(f, "the consensus key of replica {id}"),
            KeyHolder::Transport(id) => write!(f, "the transport key of replica {id}"),
            KeyHolder::Client(place) => write!(f, "the key of client {place}"),
            KeyHolder::Admin(place) => write!(f, "the key of admin {place}"),
        }
    }
}

/// Why a genesis is refused, one sentence each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Not TOML, a missing field, an unknown field, a value of the wrong type.
    #[error("line {line}: {message}")]
    Malformed {
        /// Line of the file, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The version says nothing.
    #[error("format_version is missing; a genesis file begins with format_version = {FORMAT_VERSION}")]
    MissingVersion,
    /// Written for another program.
    #[error("format_version is {0}, but this program knows {FORMAT_VERSION} only; use the program that wrote the file")]
    UnknownVersion(i64),
    /// Neither of the two.
    #[error("protocol is {0:?}, but it must be \"pbft\" or \"hotstuff\"")]
    UnknownProtocol(String),
    /// Not 32 random bytes.
    #[error("nonce must be 64 hexadecimal digits, and not all zero")]
    BadNonce,
    /// Not 32 bytes in hexadecimal.
    #[error("{0} is not 64 hexadecimal digits")]
    BadKey(KeyHolder),
    /// Not host:port.
    #[error("{field} of replica {id} is refused: {error}")]
    BadAddress {
        /// The replica.
        id: ReplicaId,
        /// The field's name.
        field: &'static str,
        /// Why.
        error: AddressError,
    },
    /// A name that could not be printed safely.
    #[error("the name that belongs to {0} must be 1 to {NAME_BYTES_MAX} letters, digits, '.', '_', '@' or '-'")]
    BadName(KeyHolder),
    /// Fewer than four replicas.
    #[error("the number of replicas is {0}, but at least 4 are needed to tolerate a faulty one")]
    TooFewReplicas(usize),
    /// More than the committee may have.
    #[error("{0} replicas are too many; at most {max} are allowed", max = quorate_crypto::committee::MAX_MEMBERS)]
    TooManyReplicas(usize),
    /// Two replicas with one id.
    #[error("replica id {0} stands twice")]
    DuplicateReplicaId(ReplicaId),
    /// An id of n or more.
    #[error("replica id {id} is out of place; {n} replicas must have the ids 0 to {last}", last = n - 1)]
    IdsNotContiguous {
        /// The id that does not belong.
        id: ReplicaId,
        /// Number of replicas.
        n: usize,
    },
    /// A key that verifies signatures nobody made, or in a second encoding.
    #[error("{0} is not an acceptable ed25519 key")]
    UnacceptableKey(KeyHolder),
    /// One key in two places.
    #[error("{first} and {second} are the same; every key must be used once")]
    KeyUsedTwice {
        /// One place.
        first: KeyHolder,
        /// The other.
        second: KeyHolder,
    },
    /// Two replicas at one address.
    #[error("address {0} stands twice")]
    AddressUsedTwice(Address),
    /// A parameter beyond its bounds.
    #[error("{name} is {value}, but it must be {least} to {greatest}")]
    OutOfBounds {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: u64,
        /// Least accepted.
        least: u64,
        /// Greatest accepted.
        greatest: u64,
    },
    /// Two parameters that do not fit each other.
    #[error("{0}")]
    ParametersDisagree(&'static str),
    /// The log could not be cut in time.
    #[error("window is {window}, but it must be at least twice checkpoint_interval, which is {interval}")]
    WindowTooSmall {
        /// L.
        window: u64,
        /// K.
        interval: u64,
    },
    /// The largest VIEW-CHANGE would fit no frame.
    #[error(
        "a VIEW-CHANGE of {n} replicas with window {window} may take {bound} bytes, but frame_bytes_max is {frame}; lower window"
    )]
    ViewChangeTooLarge {
        /// Number of replicas.
        n: usize,
        /// L.
        window: u64,
        /// Upper bound of its size in bytes.
        bound: u64,
        /// The frame cap in bytes.
        frame: u64,
    },
    /// The largest NEW-VIEW with what it rests on could not be read back from the log.
    #[error(
        "a NEW-VIEW of {n} replicas with window {window} may take {bound} bytes in the log with the VIEW-CHANGEs it rests on, but a record has at most {max}; lower window",
        max = quorate_crypto::encoding::DECODE_CEILING
    )]
    NewViewTooLarge {
        /// Number of replicas.
        n: usize,
        /// L.
        window: u64,
        /// Upper bound of the record's size in bytes.
        bound: u64,
    },
    /// More clients than the cap.
    #[error("{0} clients are too many; at most {CLIENTS_MAX} are allowed at genesis")]
    TooManyClients(usize),
    /// More admins than the cap.
    #[error("{0} admins are too many; at most {ADMINS_MAX} are allowed")]
    TooManyAdmins(usize),
    /// Neither a client nor an admin.
    #[error("there is neither a client nor an admin, so nobody could ever use the cluster; add one")]
    NobodyMaySpeak,
    /// The committee refused its members.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
}

/// A genesis file that was not loaded: one sentence with its path.
#[derive(Debug, thiserror::Error)]
pub enum GenesisFileError {
    /// It cannot be read.
    #[error("{} {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: KeyFileProblem,
    },
    /// It is not a valid genesis.
    #[error("{} is refused: {error}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        error: GenesisError,
    },
}

/// A fresh nonce for a new cluster, from the randomness of the operating system.
pub fn random_nonce() -> Result<[u8; 32], KeyFileProblem> {
    let mut nonce = [0; 32];
    fill_random(&mut nonce)?;
    Ok(nonce)
}

impl Genesis {
    /// Checks `contents`, puts them in canonical order and computes what follows from them.
    pub fn new(mut contents: GenesisContents) -> Result<Genesis, GenesisError> {
        validation::check(&contents)?;
        contents.replicas.sort_by_key(|replica| replica.id);
        contents.clients.sort();
        contents.admins.sort();
        let cluster_id = cluster_identity::cluster_id(&contents);
        let members =
            contents.replicas.iter().map(|replica| Member { id: replica.id, key: replica.consensus_key }).collect();
        let committee = Committee::new(cluster_id, Epoch(0), FaultModel::Byzantine, members)?;
        validation::check_view_change_fits(&contents.parameters, &committee)?;
        validation::check_new_view_can_be_recorded(&contents.parameters, &committee)?;
        Ok(Genesis { contents, cluster_id, committee })
    }

    /// Parses and checks the text of a genesis file.
    pub fn parse(text: &str) -> Result<Genesis, GenesisError> {
        Genesis::new(text::parse(text)?)
    }

    /// Loads a genesis file of at most [`GENESIS_BYTES_MAX`]. Links are followed: nothing in it is secret, and one that
    /// was tampered with makes another cluster, which no honest replica talks to.
    pub fn load(path: &Path) -> Result<Genesis, GenesisFileError> {
        let text = protected_file::read_public(path, GENESIS_BYTES_MAX)
            .map_err(|problem| GenesisFileError::Unreadable { path: path.to_owned(), problem })?;
        Genesis::parse(&text).map_err(|error| GenesisFileError::Refused { path: path.to_owned(), error })
    }

    /// Writes a new genesis file and syncs it. Never overwrites.
    pub fn create(&self, path: &Path) -> Result<(), GenesisFileError> {
        protected_file::create(path, 0o644, &self.to_toml())
            .map_err(|problem| GenesisFileError::Unreadable { path: path.to_owned(), problem })
    }

    /// The text of the file: every parameter with its meaning. [`Genesis::parse`] gives an equal genesis back.
    pub fn to_toml(&self) -> String {
        text::write(&self.contents)
    }

    /// The digest that names the cluster; addresses are not part of it.
    pub const fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The id of the cluster that the same file would define with this protocol: whoever holds a foreign id can tell by
    /// it whether the protocol alone is another.
    pub fn cluster_id_under(&self, protocol: Protocol) -> ClusterId {
        cluster_identity::cluster_id(&GenesisContents { protocol, ..self.contents.clone() })
    }

    /// The digest of the initial replicated configuration: committee, transport keys, client keys, admin keys.
    pub fn configuration_digest(&self) -> Digest {
        cluster_identity::configuration_digest(&self.contents)
    }

    /// The committee of epoch 0.
    pub const fn committee(&self) -> &Committee {
        &self.committee
    }

    /// Everything in the file.
    pub const fn contents(&self) -> &GenesisContents {
        &self.contents
    }

    /// The contents, to change and check again.
    pub fn into_contents(self) -> GenesisContents {
        self.contents
    }

    /// The cluster's random bytes.
    pub const fn nonce(&self) -> &[u8; 32] {
        &self.contents.nonce
    }

    /// The agreement protocol.
    pub const fn protocol(&self) -> Protocol {
        self.contents.protocol
    }

    /// The numbers all replicas agree on.
    pub const fn parameters(&self) -> &Parameters {
        &self.contents.parameters
    }

    /// The replicas, ordered by id, which is also their index.
    pub fn replicas(&self) -> &[GenesisReplica] {
        &self.contents.replicas
    }

    /// The replica `id`.
    pub fn replica(&self, id: ReplicaId) -> Option<&GenesisReplica> {
        self.contents.replicas.get(id.index())
    }

    /// The replica whose consensus key is `key`.
    pub fn replica_of(&self, key: &PublicKey) -> Option<&GenesisReplica> {
        self.contents.replicas.iter().find(|replica| replica.consensus_key == *key)
    }

    /// The client keys, ordered.
    pub fn clients(&self) -> &[GenesisClient] {
        &self.contents.clients
    }

    /// The admin keys, ordered.
    pub fn admins(&self) -> &[GenesisClient] {
        &self.contents.admins
    }
}

#[cfg(test)]
mod tests;
