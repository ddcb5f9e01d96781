//! Making a testnet: keys, genesis, configurations, empty logs.
//!
//! Everything is made in `.creating` and moved into place, `testnet.toml` last: a testnet is there whole or not at all,
//! and what an interrupted creation left never ran and can be removed.

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use quorate_crypto::{PublicKey, ReplicaId};
use quorate_keys::genesis::{Address, GenesisClient, GenesisReplica, random_nonce};
use quorate_keys::identity_file::create_client_key;
use quorate_keys::{Genesis, GenesisContents, Identity, Parameters, PassphraseSource, Protocol};
use quorate_node::config::{Config, Listen, LogSection};
use quorate_node::log::{DEFAULT_SEGMENT_BYTES, Trust};
use quorate_node::process::{NodeSettings, initialise};

use super::description::{Description, Endpoints};
use super::directory::{Directory, node_name};
use super::failure::LaunchError;

/// What to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the replicas run.
    pub protocol: Protocol,
    /// Where they listen; as many replicas as this has entries.
    pub endpoints: Vec<Endpoints>,
    /// Parameters of the genesis file that are not to have their defaults.
    pub parameters: Vec<(String, u64)>,
}

/// Makes the testnet in `directory`, which must hold none.
///
/// # Errors
/// Numbers the genesis file refuses; files that cannot be written.
pub fn create(directory: &Directory, plan: &Plan) -> Result<(Genesis, Description), LaunchError> {
    let root = directory.root();
    fs::create_dir_all(root).map_err(|error| LaunchError::file(root, &error))?;
    let building = directory.creating();
    make_private(&building)?;

    let identities = plan.endpoints.iter().map(|_| Identity::generate());
    let identities = identities.collect::<Result<Vec<_>, _>>().map_err(|problem| refused(&building, problem))?;
    let client = create_client_key(&building.join("client.key"), None).map_err(usage)?;
    let admin = create_client_key(&building.join("admin.key"), None).map_err(usage)?;
    let genesis = genesis(plan, &identities, client.public().key, admin.public().key)?;
    genesis.create(&building.join("genesis.toml")).map_err(usage)?;
    if let Some(first) = identities.first() {
        quorate_node::setup::check(&genesis, ReplicaId(0), first).map_err(usage)?;
    }
    let outcomes: Vec<Result<(), LaunchError>> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0u16..)
            .map(ReplicaId)
            .zip(identities.into_iter().zip(&plan.endpoints))
            .map(|(id, (identity, endpoints))| {
                let (building, genesis) = (&building, &genesis);
                scope.spawn(move || create_node(building, genesis, id, identity, endpoints))
            })
            .collect();
        makers.into_iter().map(|maker| maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    outcomes.into_iter().collect::<Result<(), LaunchError>>()?;

    let description = Description { protocol: plan.protocol, replicas: plan.endpoints.clone() };
    write(&building.join("endpoints.env"), &description.to_endpoints_env())?;
    make_private(&building.join("evidence"))?;
    move_into_place(&building, root)?;
    write(&directory.description(), &description.to_toml())?;
    fs::remove_dir(&building).map_err(|error| LaunchError::file(&building, &error))?;
    Ok((genesis, description))
}

fn genesis(plan: &Plan, identities: &[Identity], client: PublicKey, admin: PublicKey) -> Result<Genesis, LaunchError> {
    let mut parameters = Parameters::default();
    for (name, value) in &plan.parameters {
        if !parameters.set(name, *value) {
            let names: Vec<_> = parameters.rows().iter().map(|row| row.name).collect();
            return Err(LaunchError::Usage(format!("there is no parameter {name:?}; there are {}", names.join(", "))));
        }
    }
    let replica = |(id, (identity, endpoints)): (u16, (&Identity, &Endpoints))| {
        let public = identity.public();
        Ok(GenesisReplica {
            id: ReplicaId(id),
            consensus_key: public.consensus,
            transport_key: public.transport,
            peer_address: address(endpoints.peers)?,
            client_address: address(endpoints.clients)?,
            operations_address: Some(address(endpoints.operations)?),
        })
    };
    let replicas =
        (0u16..).zip(identities.iter().zip(&plan.endpoints)).map(replica).collect::<Result<_, LaunchError>>()?;
    let named = |key, name: &str| vec![GenesisClient { key, name: Some(name.to_owned()) }];
    let contents = GenesisContents {
        nonce: random_nonce().map_err(|problem| LaunchError::Usage(problem.to_string()))?,
        protocol: plan.protocol,
        parameters,
        replicas,
        clients: named(client, "client"),
        admins: named(admin, "admin"),
    };
    Genesis::new(contents).map_err(|error| LaunchError::Usage(format!("this testnet cannot be made: {error}")))
}

fn create_node(
    building: &Path,
    genesis: &Genesis,
    id: ReplicaId,
    identity: Identity,
    endpoints: &Endpoints,
) -> Result<(), LaunchError> {
    let place = building.join(node_name(id));
    make_private(&place)?;
    identity.create(&place.join("identity.key"), None).map_err(usage)?;
    let config = Config {
        replica: id,
        identity: PathBuf::from("identity.key"),
        genesis: PathBuf::from("../genesis.toml"),
        data: PathBuf::from("data"),
        listen: listen(endpoints),
        addresses: std::collections::BTreeMap::new(),
        log: LogSection::default(),
    };
    write(&place.join("node.toml"), &config.to_toml())?;
    let settings = NodeSettings {
        replica: id,
        identity,
        genesis: genesis.clone(),
        data: place.join("data"),
        listen: listen(endpoints),
        addresses: std::collections::BTreeMap::new(),
        segment_bytes: DEFAULT_SEGMENT_BYTES,
    };
    initialise(&settings, Trust::NewCluster).map_err(usage)
}

/// Deletes the data of a replica that does not run, and makes what plain `init` makes: empty storage whose log is not to be
/// trusted. Evidence goes with the rest; keys stay.
///
/// # Errors
/// Files that cannot be read, removed or written.
pub fn wipe(directory: &Directory, id: ReplicaId) -> Result<(), LaunchError> {
    let config = Config::load(&directory.config(id)).map_err(usage)?;
    match fs::remove_dir_all(&config.data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(LaunchError::file(&config.data, &error));
        }
        _ => {}
    }
    let settings = NodeSettings::load(&config, &PassphraseSource::Terminal).map_err(usage)?;
    initialise(&settings, Trust::MustRejoin).map_err(usage)
}

/// Lets the replicas of a testnet that does not run listen elsewhere. The genesis file stays as it is, since addresses
/// are no part of a cluster's identity: `node.toml` says where the others are now.
///
/// # Errors
/// Files that cannot be read or written.
pub fn relocate(directory: &Directory, description: &Description) -> Result<(), LaunchError> {
    let peers = description.ids().zip(&description.replicas);
    let addresses =
        peers.map(|(id, endpoints)| Ok((id, address(endpoints.peers)?))).collect::<Result<_, LaunchError>>()?;
    for (id, endpoints) in description.ids().zip(&description.replicas) {
        let path = directory.config(id);
        let text = fs::read_to_string(&path).map_err(|error| LaunchError::file(&path, &error))?;
        let mut config = Config::parse(&text, Path::new("")).map_err(|problem| refused(&path, problem))?;
        config.listen = listen(endpoints);
        config.addresses = std::collections::BTreeMap::clone(&addresses);
        write(&path, &config.to_toml())?;
    }
    write(&directory.endpoints(), &description.to_endpoints_env())?;
    write(&directory.description(), &description.to_toml())
}

const fn listen(endpoints: &Endpoints) -> Listen {
    Listen { peers: endpoints.peers, clients: endpoints.clients, operations: Some(endpoints.operations) }
}

fn address(socket: SocketAddr) -> Result<Address, LaunchError> {
    socket.to_string().parse().map_err(|error| LaunchError::Usage(format!("{socket}: {error}")))
}

fn make_private(path: &Path) -> Result<(), LaunchError> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| LaunchError::file(path, &error))
}

/// Writes a file whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<(), LaunchError> {
    let partial = path.with_extension("partial");
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(|error| LaunchError::file(path, &error))
}

fn move_into_place(from: &Path, to: &Path) -> Result<(), LaunchError> {
    let listed = fs::read_dir(from).map_err(|error| LaunchError::file(from, &error))?;
    for entry in listed {
        let entry = entry.map_err(|error| LaunchError::file(from, &error))?;
        let target = to.join(entry.file_name());
        fs::rename(entry.path(), &target).map_err(|error| LaunchError::file(&target, &error))?;
    }
    Ok(())
}

fn usage(error: impl std::fmt::Display) -> LaunchError {
    LaunchError::Usage(error.to_string())
}

fn refused(path: &Path, problem: impl std::fmt::Display) -> LaunchError {
    LaunchError::File { path: path.to_owned(), problem: format!("is refused: {problem}") }
}

#[cfg(test)]
mod tests;
