//! `testnet.toml`: what the launcher must know of a testnet beyond its genesis file.
//!
//! ```toml
//! version = 1
//! protocol = "pbft"
//!
//! [[replica]]
//! id = 0
//! peers = "127.0.0.1:7400"         # UDP, other replicas
//! clients = "127.0.0.1:7600"       # UDP, clients
//! operations = "127.0.0.1:7500"    # HTTP
//! ```

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use quorate_client::cluster::endpoint_variable;
use quorate_crypto::ReplicaId;
use quorate_keys::Protocol;
use serde::Deserialize;

use super::directory::Directory;
use super::failure::LaunchError;

const VERSION: u32 = 1;

/// Where one replica listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// UDP, for other replicas.
    pub peers: SocketAddr,
    /// UDP, for clients.
    pub clients: SocketAddr,
    /// HTTP.
    pub operations: SocketAddr,
}

/// A testnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What the replicas run.
    pub protocol: Protocol,
    /// Where they listen, by their number.
    pub replicas: Vec<Endpoints>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    protocol: String,
    replica: Vec<ReplicaText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplicaText {
    id: u16,
    peers: SocketAddr,
    clients: SocketAddr,
    operations: SocketAddr,
}

impl Description {
    /// Reads the description of the testnet in `directory`.
    ///
    /// # Errors
    /// There is none, or it is malformed.
    pub fn load(directory: &Directory) -> Result<Description, LaunchError> {
        let path = directory.description();
        if !path.is_file() {
            return Err(LaunchError::NoTestnet(directory.root().to_owned()));
        }
        let text = fs::read_to_string(&path).map_err(|error| LaunchError::file(&path, &error))?;
        Description::parse(&text).map_err(|problem| LaunchError::File {
            path,
            problem: format!("cannot be read ({problem}); correct it, or begin anew with `quorate-testnet up --fresh`"),
        })
    }

    fn parse(text: &str) -> Result<Description, String> {
        let text: Text = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if text.version != VERSION {
            return Err(format!("its version is {}, this program knows {VERSION}", text.version));
        }
        let protocol =
            Protocol::from_name(&text.protocol).ok_or_else(|| format!("there is no protocol {:?}", text.protocol))?;
        let mut replicas = Vec::with_capacity(text.replica.len());
        for (index, replica) in text.replica.into_iter().enumerate() {
            if usize::from(replica.id) != index {
                return Err(format!("replica {} stands in the place of replica {index}", replica.id));
            }
            let ReplicaText { peers, clients, operations, .. } = replica;
            replicas.push(Endpoints { peers, clients, operations });
        }
        Ok(Description { protocol, replicas })
    }

    /// The text that [`Description::load`] reads.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "# Made by quorate-testnet. Ports may be changed with `up --port-base N` or `up --any-port`.\n\
             version = {VERSION}\nprotocol = \"{}\"\n",
            self.protocol
        );
        for (id, Endpoints { peers, clients, operations }) in self.replicas.iter().enumerate() {
            let _ = write!(
                text,
                "\n[[replica]]\nid = {id}\npeers = \"{peers}\"\nclients = \"{clients}\"\noperations = \"{operations}\"\n"
            );
        }
        text
    }

    /// The text of `endpoints.env`: for clients, and for shells to source.
    pub fn to_endpoints_env(&self) -> String {
        let mut text = "# Where the replicas listen; made by quorate-testnet.\n".to_owned();
        for (id, endpoints) in self.ids().zip(&self.replicas) {
            let _ = writeln!(text, "{}={}", endpoint_variable(id), endpoints.clients);
            let _ = writeln!(text, "QUORATE_REPLICA_{id}_OPERATIONS=http://{}", endpoints.operations);
        }
        text
    }

    /// The numbers of the replicas.
    pub fn ids(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        (0..self.replicas.len()).map(|id| ReplicaId(id as u16))
    }

    /// The replica of that number.
    ///
    /// # Errors
    /// There is none.
    pub fn replica(&self, id: u16) -> Result<(ReplicaId, Endpoints), LaunchError> {
        let endpoints = self.replicas.get(usize::from(id)).copied();
        endpoints
            .map(|endpoints| (ReplicaId(id), endpoints))
            .ok_or(LaunchError::NoReplica { id, replicas: self.replicas.len() })
    }

    /// f.
    pub const fn tolerates(&self) -> usize {
        self.replicas.len().saturating_sub(1) / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_writes() {
        let replicas = crate::launcher::ports::from_base(7400, 5).expect("they exist");
        let description = Description { protocol: Protocol::Pbft, replicas };
        assert_eq!(Description::parse(&description.to_toml()), Ok(description.clone()));
        assert_eq!(description.tolerates(), 1);
        assert!(description.to_endpoints_env().contains("\nQUORATE_REPLICA_4_CLIENT=127.0.0.1:7604\n"));
    }

    #[test]
    fn it_refuses_other_files() {
        for (text, says) in [
            ("version = 2\nprotocol = \"pbft\"\nreplica = []", "version is 2"),
            ("version = 1\nprotocol = \"raft\"\nreplica = []", "no protocol"),
            ("version = 1\nprotocol = \"pbft\"\nreplica = []\nextra = 1", "unknown field"),
            (
                "version = 1\nprotocol = \"pbft\"\n[[replica]]\nid = 1\npeers = \"127.0.0.1:1\"\nclients = \"127.0.0.1:2\"\noperations = \"127.0.0.1:3\"",
                "in the place of",
            ),
        ] {
            let error = Description::parse(text).expect_err(text);
            assert!(error.contains(says), "{error}");
        }
    }
}
