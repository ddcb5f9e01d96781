//! The clients of a run: keys, their registration, their links.

use std::time::Duration;

use quorate_client::{Client, ClientError, Cluster};
use quorate_crypto::PublicKey;
use quorate_keys::{ClientKey, PassphraseSource};
use quorate_kv::{Operation, PutRequest};
use quorate_protocol::execution::{ConfigurationOperation, ConfigurationResult, Permission};
use tokio::task::JoinSet;

use super::{BenchError, Stage};
use crate::launcher::Directory;

/// Most clients of a run: each has a UDP socket and a link to every replica.
pub const CLIENTS_MAX: usize = 4096;
/// Keys registered or removed by one request.
const KEYS_PER_REQUEST: usize = 256;
/// Clients that connect at the same time: each handshake costs both sides signatures.
const CONNECTING: usize = 32;
/// How long taking leave may take, all clients together.
const GOODBYE: Duration = Duration::from_millis(200);
/// How long a client may take for its first put.
const FIRST_PUT: Duration = Duration::from_secs(30);

/// Registered keys, and the admin who registered them.
pub struct Fleet {
    admin: Client,
    keys: Vec<ClientKey>,
}

impl Fleet {
    /// Makes `count` keys and registers them.
    ///
    /// # Errors
    /// The admin key is missing or refused; the cluster has no room for so many clients.
    pub async fn register(
        directory: &Directory,
        cluster: &Cluster,
        count: usize,
        tell: &mut impl FnMut(Stage),
    ) -> Result<Fleet, BenchError> {
        let key = ClientKey::load(&directory.admin_key(), &PassphraseSource::Terminal)
            .map_err(|error| BenchError::Plan(format!("{error}; without it no client keys can be registered")))?;
        let admin = Client::connect(Cluster { key, ..cluster.clone() }).await?;
        let keys = (0..count).map(|_| ClientKey::generate()).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|problem| BenchError::Plan(problem.to_string()))?;
        let mut registered = 0;
        let fleet = Fleet { admin, keys };
        for part in fleet.keys.chunks(KEYS_PER_REQUEST) {
            tell(Stage::Registering(registered, count as u64));
            let add = |key: PublicKey| ConfigurationOperation::AddClient { key, permission: Permission::Write };
            let results = fleet.configure(part, add).await?;
            if let Some(refused) = results.iter().find(|result| !matches!(result, ConfigurationResult::Registered(_))) {
                fleet.remove().await?;
                return Err(BenchError::Plan(format!(
                    "the cluster did not register the clients of this run ({refused:?}): lower --clients, or remove keys that are not needed any more"
                )));
            }
            registered += part.len() as u64;
        }
        Ok(fleet)
    }

    /// The registered keys.
    pub fn keys(&self) -> &[ClientKey] {
        &self.keys
    }

    async fn configure(
        &self,
        keys: &[ClientKey],
        operation: impl Fn(PublicKey) -> ConfigurationOperation,
    ) -> Result<Vec<ConfigurationResult>, ClientError> {
        let operations: Vec<_> = keys.iter().map(|key| operation(key.public().key)).collect();
        self.admin.configure(&operations).await.map(|(_, results)| results)
    }

    /// Removes the keys again.
    ///
    /// # Errors
    /// Those of a client.
    pub async fn remove(&self) -> Result<(), ClientError> {
        for part in self.keys.chunks(KEYS_PER_REQUEST) {
            self.configure(part, |key| ConfigurationOperation::RemoveClient { key }).await?;
        }
        Ok(())
    }

    /// Connects a client for every key: the first `connections` keys have links of their own, the others share them in
    /// turn. Each has executed one put when this returns.
    ///
    /// # Errors
    /// A client cannot open its socket, or its first put fails.
    pub async fn connect(
        &self,
        cluster: &Cluster,
        connections: usize,
        tell: &mut impl FnMut(Stage),
    ) -> Result<Vec<Client>, BenchError> {
        let (hosts, guests) = self.keys.split_at(connections.clamp(1, self.keys.len()));
        let mut clients = Vec::with_capacity(self.keys.len());
        let dialled = hosts.iter().map(|key| dial(Cluster { key: key.clone(), ..cluster.clone() }));
        self.join(dialled, &mut clients, tell).await?;
        let hosts = clients.clone();
        let mut invited = Vec::with_capacity(guests.len());
        for (key, host) in guests.iter().zip(hosts.iter().cycle()) {
            invited.push(host.guest(key).await?.with_patience(FIRST_PUT));
        }
        let invited = invited.into_iter().map(|client| first_put(client, cluster.patience));
        self.join(invited, &mut clients, tell).await?;
        Ok(clients)
    }

    async fn join<F>(
        &self,
        mut joining: impl Iterator<Item = F>,
        clients: &mut Vec<Client>,
        tell: &mut impl FnMut(Stage),
    ) -> Result<(), BenchError>
    where
        F: Future<Output = Result<Client, ClientError>> + Send + 'static,
    {
        let total = self.keys.len() as u64;
        let mut connecting: JoinSet<Result<Client, ClientError>> = JoinSet::new();
        loop {
            while connecting.len() < CONNECTING
                && let Some(next) = joining.next()
            {
                connecting.spawn(next);
            }
            tell(Stage::Connecting(clients.len() as u64, total));
            match connecting.join_next().await {
                None => return Ok(()),
                Some(Ok(client)) => clients.push(client?),
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }
}

/// Connects one client by links of its own.
async fn dial(cluster: Cluster) -> Result<Client, ClientError> {
    let patience = cluster.patience;
    let client = Client::connect(cluster).await?.with_patience(FIRST_PUT);
    first_put(client, patience).await
}

/// One put. Replicas that lag do not know the key yet and refuse it until they do; the client tries again.
async fn first_put(client: Client, patience: Duration) -> Result<Client, ClientError> {
    let put = Operation::Put(PutRequest::new("bench/first", "put"));
    let mut tries = 0;
    loop {
        match client.execute(std::slice::from_ref(&put)).await {
            Ok(_) => return Ok(client.with_patience(patience)),
            Err(ClientError::KeyRefused(_) | ClientError::Refused { .. }) if tries < 20 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Takes leave of all replicas.
pub async fn close(clients: Vec<Client>) {
    let mut closing = JoinSet::new();
    for client in clients {
        closing.spawn(async move { client.shut_down(GOODBYE).await });
    }
    // Whoever has not taken leave by then is found to be gone by the replicas.
    let _ = tokio::time::timeout(GOODBYE, async { while closing.join_next().await.is_some() {} }).await;
}
