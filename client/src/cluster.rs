//! Finding a cluster: which replicas there are, where they listen, and which key to sign with.
//!
//! A cluster directory holds `genesis.toml`, `endpoints.env` (optional) and `client.key`. An endpoint is taken from the
//! flag, else the variable `QUORATE_REPLICA_<id>_CLIENT`, else `endpoints.env`, else the genesis file. Addresses are not
//! part of a cluster's identity: a wrong one cannot lead to a wrong replica, since every link proves the replica's key.
//!
//! ```text
//! # endpoints.env, for shells to source as well
//! QUORATE_REPLICA_0_CLIENT=127.0.0.1:7600
//! QUORATE_REPLICA_1_CLIENT=127.0.0.1:7601
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_crypto::{Digest, ReplicaId};
use quorate_keys::genesis::{Address, GenesisFileError};
use quorate_keys::{ClientKey, Genesis, KeyFileError, PassphraseSource};
use quorate_protocol::client::ClientParameters;
use quorate_transport::PeerAddress;
use thiserror::Error;

/// Where the launcher puts a cluster unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "testnet";
/// The variable that names the cluster directory.
pub const CLUSTER_VARIABLE: &str = "QUORATE_CLUSTER";
/// An endpoints file longer than this many bytes is refused.
const ENDPOINTS_BYTES_MAX: u64 = 64 * 1024;

/// Why no cluster could be found or used. All of them are exit code 2.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There is no such directory.
    #[error(
        "there is no cluster directory at {}: start a testnet with `cargo testnet up -d`, or name one with --cluster DIR or {CLUSTER_VARIABLE}",
        .0.display()
    )]
    NoDirectory(PathBuf),
    /// The directory has no genesis file.
    #[error("{} has no genesis.toml: it is not a cluster directory; start a testnet with `cargo testnet up -d`, or name another with --cluster DIR", .0.display())]
    NoGenesis(PathBuf),
    /// The genesis file is refused.
    #[error(transparent)]
    Genesis(#[from] GenesisFileError),
    /// There is no key to sign with.
    #[error(
        "there is no client key at {}: name one with --key FILE, or make one with `quorate-keys new {} --client` and have an admin register it with `quorate client-key add`",
        .0.display(), .0.display()
    )]
    NoKey(PathBuf),
    /// The key is refused.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The endpoints file cannot be used.
    #[error("{} cannot be used: {problem}; correct it or remove it to use the addresses of genesis.toml", path.display())]
    Endpoints {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An endpoint given by flag or variable makes no sense.
    #[error(
        "{0}: an endpoint is given as ID=HOST:PORT with the id of a replica in genesis.toml, for example 0=127.0.0.1:7600"
    )]
    Endpoint(String),
    /// A host name has no address.
    #[error(
        "the address {address} of replica {replica} cannot be resolved: {reason}; give another with --endpoint {replica}=HOST:PORT"
    )]
    Resolve {
        /// The replica.
        replica: ReplicaId,
        /// Its address.
        address: Address,
        /// Why not.
        reason: String,
    },
}

/// Everything a client needs to know of a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The replicas, their keys, the numbers they share.
    pub genesis: Genesis,
    /// Signs requests and authenticates links.
    pub key: ClientKey,
    /// Client addresses that replace those of the genesis file.
    pub endpoints: BTreeMap<ReplicaId, Address>,
    /// How the client behaves.
    pub parameters: ClientParameters,
    /// How long a call waits for f + 1 equal answers.
    pub patience: Duration,
}

/// How long a call waits unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

impl Cluster {
    /// A cluster with the usual behaviour and the addresses of its genesis file.
    pub fn new(genesis: Genesis, key: ClientKey) -> Cluster {
        let mut cluster = Cluster {
            genesis,
            key,
            endpoints: BTreeMap::new(),
            parameters: ClientParameters::default(),
            patience: PATIENCE,
        };
        cluster.set_patience(PATIENCE);
        let limit = cluster.genesis.parameters().request_bytes_max;
        cluster.parameters.request_bytes_max = usize::try_from(limit).unwrap_or(usize::MAX);
        cluster
    }

    /// Sets how long calls wait, and how long requests stay valid: as long and half as long again, so that a slow answer
    /// still finds the request valid, but no longer than half of what the cluster allows, which is room for a clock that
    /// is off.
    pub fn set_patience(&mut self, patience: Duration) {
        let wanted = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let wanted = wanted.saturating_add(wanted / 2).max(5_000);
        self.patience = patience;
        self.parameters.lifetime = wanted.min(self.genesis.parameters().request_lifetime_max_ms / 2);
    }

    /// The cluster whose files are in `directory`, with its `client.key`.
    ///
    /// # Errors
    /// No directory, genesis file or key; files that are refused.
    pub fn in_directory(directory: &Path) -> Result<Cluster, ClusterError> {
        let key = directory.join("client.key");
        Cluster::load(directory, &key, &PassphraseSource::Terminal)
    }

    /// The cluster whose files are in `directory`, with the key in the file `key`.
    pub fn load(directory: &Path, key: &Path, passphrase: &PassphraseSource) -> Result<Cluster, ClusterError> {
        let genesis = load_genesis(directory)?;
        if !key.exists() {
            return Err(ClusterError::NoKey(key.to_owned()));
        }
        let key = ClientKey::load(key, passphrase)?;
        let mut cluster = Cluster::new(genesis, key);
        let endpoints = directory.join("endpoints.env");
        if endpoints.exists() {
            cluster.endpoints = read_endpoints(&endpoints)?;
        }
        Ok(cluster)
    }

    /// Replaces the endpoints that the environment names.
    pub fn with_environment(mut self) -> Result<Cluster, ClusterError> {
        let ids: Vec<ReplicaId> = self.genesis.replicas().iter().map(|replica| replica.id).collect();
        for id in ids {
            let variable = endpoint_variable(id);
            if let Some(value) = std::env::var(&variable).ok().filter(|value| !value.is_empty()) {
                let address = value.parse().map_err(|_| ClusterError::Endpoint(format!("{variable}={value}")))?;
                self.endpoints.insert(id, address);
            }
        }
        Ok(self)
    }

    /// Replaces one endpoint by `ID=HOST:PORT`.
    pub fn with_endpoint(mut self, text: &str) -> Result<Cluster, ClusterError> {
        let error = || ClusterError::Endpoint(text.to_owned());
        let (id, address) = text.split_once('=').ok_or_else(error)?;
        let id = ReplicaId(id.parse().map_err(|_| error())?);
        if self.genesis.replica(id).is_none() {
            return Err(error());
        }
        self.endpoints.insert(id, address.parse().map_err(|_| error())?);
        Ok(self)
    }

    /// The replicas with their transport keys and resolved client addresses, for links of one's own.
    ///
    /// # Errors
    /// A host name without an address.
    pub async fn addresses(&self) -> Result<Vec<PeerAddress>, ClusterError> {
        let mut addresses = Vec::new();
        for replica in self.genesis.replicas() {
            let address = self.endpoints.get(&replica.id).unwrap_or(&replica.client_address);
            let resolved = resolve(replica.id, address).await?;
            addresses.push(PeerAddress { id: replica.id, key: replica.transport_key, address: resolved });
        }
        Ok(addresses)
    }
}

async fn resolve(replica: ReplicaId, address: &Address) -> Result<SocketAddr, ClusterError> {
    let failed = |reason: String| ClusterError::Resolve { replica, address: address.clone(), reason };
    if let Ok(ip) = address.host().parse() {
        return Ok(SocketAddr::new(ip, address.port()));
    }
    let mut found =
        tokio::net::lookup_host((address.host(), address.port())).await.map_err(|error| failed(error.to_string()))?;
    found.next().ok_or_else(|| failed("it has no address".to_owned()))
}

/// The genesis file in a cluster directory.
pub fn load_genesis(directory: &Path) -> Result<Genesis, ClusterError> {
    if !directory.is_dir() {
        return Err(ClusterError::NoDirectory(directory.to_owned()));
    }
    let path = directory.join("genesis.toml");
    if !path.exists() {
        return Err(ClusterError::NoGenesis(directory.to_owned()));
    }
    Ok(Genesis::load(&path)?)
}

/// The line of `endpoints.env`, and the variable, that says where a replica listens for clients.
pub fn endpoint_variable(replica: ReplicaId) -> String {
    format!("QUORATE_REPLICA_{replica}_CLIENT")
}

/// The client addresses in an endpoints file. Lines about anything else are for others.
fn read_endpoints(path: &Path) -> Result<BTreeMap<ReplicaId, Address>, ClusterError> {
    let failed = |problem: String| ClusterError::Endpoints { path: path.to_owned(), problem };
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > ENDPOINTS_BYTES_MAX {
        return Err(failed(format!("it has {length} bytes, more than {ENDPOINTS_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    parse_endpoints(&text).map_err(failed)
}

fn parse_endpoints(text: &str) -> Result<BTreeMap<ReplicaId, Address>, String> {
    let mut endpoints = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else { continue };
        let Some(id) = name.strip_prefix("QUORATE_REPLICA_").and_then(|rest| rest.strip_suffix("_CLIENT")) else {
            continue;
        };
        let at = index + 1;
        let id = id.parse().map_err(|_| format!("line {at}: {id:?} is not the number of a replica"))?;
        let value = value.trim_matches(|quote| quote == '"' || quote == '\'');
        let address = value.parse().map_err(|error| format!("line {at}: {error}"))?;
        endpoints.insert(ReplicaId(id), address);
    }
    Ok(endpoints)
}

/// The first digits of a cluster's id, for people.
pub fn short_cluster(genesis: &Genesis) -> String {
    let Digest(bytes) = genesis.cluster_id().0;
    hex::encode(&bytes[..6])
}

#[cfg(test)]
mod tests;
