//! `quorate-keys genesis`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use quorate_crypto::ReplicaId;
use quorate_keys::genesis::{Address, GenesisClient, GenesisContents, GenesisReplica, NAME_BYTES_MAX};
use quorate_keys::{Genesis, KeyFileError, KeyFileProblem, Parameters, Protocol, PublicClientKey, PublicFile};
use serde_json::json;

use crate::outcome::{Failure, Report};

/// How far above the peer port clients are served if nothing else is said: 7400 and 7600, as in a testnet.
const CLIENT_PORT_OFFSET: u16 = 200;

/// Puts public halves together into a genesis file, checks it and writes it. Replicas are numbered from 0 in the order
/// given. Compare the fingerprints with their owners before you hand the file out.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  quorate-keys genesis --replica node0.pub@10.0.0.1:7400 --replica node1.pub@10.0.0.2:7400 \\
      --replica node2.pub@10.0.0.3:7400 --replica node3.pub@10.0.0.4:7400,10.0.0.4:7600,10.0.0.4:7500 \\
      --client app.pub --admin admin.pub --parameter view_timeout_ms=500 -o genesis.toml")]
pub(crate) struct MakeGenesis {
    /// A replica's public file, where its peers reach it, and optionally where clients and operators do. Clients are
    /// served 200 ports above the peers' unless said otherwise.
    #[arg(long = "replica", value_name = "FILE@PEER[,CLIENT[,OPERATIONS]]", required = true)]
    replicas: Vec<ReplicaArgument>,
    /// Public file of a client key; its name is the file's without the extension.
    #[arg(long = "client", value_name = "FILE")]
    clients: Vec<PathBuf>,
    /// Public file of an admin key, which may also send requests.
    #[arg(long = "admin", value_name = "FILE")]
    admins: Vec<PathBuf>,
    /// The agreement protocol: pbft or hotstuff.
    #[arg(long, default_value = "pbft", value_parser = protocol)]
    protocol: Protocol,
    /// Set a parameter to another value than its default; the names are those of the file's [parameters].
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, u64)>,
    /// The file to write; never overwritten.
    #[arg(short, long, value_name = "FILE", default_value = "genesis.toml")]
    output: PathBuf,
}

#[derive(Clone)]
struct ReplicaArgument {
    file: PathBuf,
    peer: Address,
    client: Address,
    operations: Option<Address>,
}

impl FromStr for ReplicaArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<ReplicaArgument, String> {
        let (file, addresses) =
            text.rsplit_once('@').ok_or("give the public file and the address: node0.pub@host:port")?;
        let mut addresses = addresses.split(',').map(|address| {
            address.parse::<Address>().map_err(|error| format!("address {address:?} is refused: {error}"))
        });
        let peer = addresses.next().ok_or("the peer address is missing")??;
        let client = match addresses.next() {
            Some(address) => address?,
            None => peer
                .port()
                .checked_add(CLIENT_PORT_OFFSET)
                .and_then(|port| peer.with_port(port))
                .ok_or("there is no port 200 above the peer port; give the client address too")?,
        };
        let operations = addresses.next().transpose()?;
        if addresses.next().is_some() {
            return Err("there are at most three addresses: peer, client, operations".to_owned());
        }
        Ok(ReplicaArgument { file: PathBuf::from(file), peer, client, operations })
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    Protocol::from_name(text).ok_or_else(|| "the protocol must be pbft or hotstuff".to_owned())
}

fn parameter(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("give NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("the value of {name} must be a whole number"))?;
    Ok((name.to_owned(), value))
}

fn wrong_kind(path: &Path, expected: &'static str, found: &'static str) -> Failure {
    KeyFileError { path: path.to_owned(), problem: KeyFileProblem::WrongKind { expected, found } }.into()
}

/// The file's name without extension, if it may stand in a genesis file.
fn name_of(path: &Path) -> Option<String> {
    let name = path.file_stem()?.to_str()?;
    let printable = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b'-'));
    (printable && !name.is_empty() && name.len() <= NAME_BYTES_MAX).then(|| name.to_owned())
}

fn clients(paths: &[PathBuf]) -> Result<Vec<GenesisClient>, Failure> {
    paths
        .iter()
        .map(|path| match PublicFile::load(path)? {
            PublicFile::Client(PublicClientKey { key }) => Ok(GenesisClient { key, name: name_of(path) }),
            PublicFile::Replica(_) => Err(wrong_kind(path, "client key", "replica identity")),
        })
        .collect()
}

impl MakeGenesis {
    fn contents(&self) -> Result<GenesisContents, Failure> {
        let mut parameters = Parameters::default();
        for (name, value) in &self.parameters {
            if !parameters.set(name, *value) {
                let names: Vec<&str> = parameters.rows().iter().map(|row| row.name).collect();
                return Err(Failure::usage(format!("there is no parameter {name:?}; there are {}", names.join(", "))));
            }
        }
        let mut replicas = Vec::with_capacity(self.replicas.len());
        for (argument, id) in self.replicas.iter().zip(0..) {
            let PublicFile::Replica(identity) = PublicFile::load(&argument.file)? else {
                return Err(wrong_kind(&argument.file, "replica identity", "client key"));
            };
            replicas.push(GenesisReplica {
                id: ReplicaId(id),
                consensus_key: identity.consensus,
                transport_key: identity.transport,
                peer_address: argument.peer.clone(),
                client_address: argument.client.clone(),
                operations_address: argument.operations.clone(),
            });
        }
        Ok(GenesisContents {
            nonce: quorate_keys::genesis::random_nonce()
                .map_err(|problem| KeyFileError { path: self.output.clone(), problem })?,
            protocol: self.protocol,
            parameters,
            replicas,
            clients: clients(&self.clients)?,
            admins: clients(&self.admins)?,
        })
    }

    pub(crate) fn run(self, report: Report) -> Result<(), Failure> {
        let genesis = Genesis::new(self.contents()?)?;
        genesis.create(&self.output)?;
        let (committee, cluster) = (genesis.committee(), genesis.cluster_id().to_string());
        eprintln!("wrote {}", self.output.display());
        report.print(
            &format!(
                "cluster {cluster}\n{}, {} replicas, tolerates {} faulty, quorum {}",
                genesis.protocol(),
                committee.size(),
                committee.faults(),
                committee.quorum()
            ),
            json!({
                "v": 1,
                "file": self.output,
                "cluster": cluster,
                "protocol": genesis.protocol().name(),
                "replicas": committee.size(),
                "faults": committee.faults(),
                "quorum": committee.quorum(),
                "clients": genesis.clients().len(),
                "admins": genesis.admins().len(),
            }),
        )
    }
}
