//! The replicated configuration: which keys may send requests and what they may do, and the numbers execution goes by.
//!
//! Table 2, by the first byte of the key:
//!
//! ```text
//! 0                     -> ExecutionParameters
//! 1, client key 32 B    -> ClientRecord
//! 2, replica id u16     -> crate::rejoin::RejoinRecord: incarnation, nonce and n_r of a replica that rejoined
//! ```
//!
//! It changes by operations of service 0. Admin keys are fixed at genesis (they are part of the cluster id); an admin
//! adds and removes the keys of clients. Rejoin is the one operation that nobody's client key may ask for: it is the
//! replica's own ([`crate::rejoin`]).

use bincode::{Decode, Encode};
use quorate_crypto::encoding::{decode, encode};
use quorate_crypto::merkle_map::MerkleMap;
use quorate_crypto::{PublicKey, ReplicaId, Seq, Signed, StatementKind};

use super::service::RestoreError;
use crate::parameters::Parameters;
use crate::rejoin::{self, Rejoined};
use crate::state::TableId;

/// The number of the configuration service in [`crate::request::Operation::service`].
pub const CONFIGURATION_SERVICE: u16 = 0;
/// Most registered keys, admins included.
pub const CLIENTS_MAX: usize = 16_384;
/// Most bytes of an operation of service 0.
pub const CONFIGURATION_OPERATION_BYTES_MAX: usize = 1024;

/// The table the configuration is in.
pub const CONFIGURATION_TABLE: TableId = TableId(2);

const PARAMETERS_KEY: &[u8] = &[0];
const CLIENT_TAG: u8 = 1;
const RECORD_BYTES_MAX: usize = 64;

/// The shared numbers that execution goes by. They are in the state, so that a snapshot alone says how to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ExecutionParameters {
    /// T_max, milliseconds: a request executes only if `valid_until` is at most so far ahead of agreed time.
    pub request_lifetime_max: u64,
    /// Sessions of one key; at least 1.
    pub sessions_per_client: u64,
    /// A session whose share has room stays so long past its last `valid_until`, milliseconds.
    pub session_courtesy: u64,
    /// Bytes of cached write results of one session.
    pub reply_cache_bytes: u64,
}

impl From<&Parameters> for ExecutionParameters {
    fn from(parameters: &Parameters) -> Self {
        ExecutionParameters {
            request_lifetime_max: parameters.request_lifetime_max,
            sessions_per_client: (parameters.sessions_per_client as u64).max(1),
            session_courtesy: parameters.session_courtesy,
            reply_cache_bytes: parameters.reply_cache_bytes as u64,
        }
    }
}

/// What a registered key may do; each permits what the ones before it permit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub enum Permission {
    /// Read-only operations.
    Read,
    /// Every operation of the services.
    Write,
    /// Changes of the configuration as well.
    Admin,
}

/// What is kept of a registered key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ClientRecord {
    /// What it may do.
    pub permission: Permission,
    /// The batch that registered it; 0 is genesis.
    pub since: Seq,
}

/// The configuration a cluster begins with; part of the cluster id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitialConfiguration {
    /// Keys that may read and write.
    pub clients: Vec<PublicKey>,
    /// Keys that may also change the configuration. One that is in both lists is an admin.
    pub admins: Vec<PublicKey>,
    /// The numbers.
    pub parameters: ExecutionParameters,
}

/// An operation of service 0.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum ConfigurationOperation {
    /// Registers a key, or changes what a client's key may do. Only for admins.
    AddClient {
        /// The key.
        key: PublicKey,
        /// [`Permission::Read`] or [`Permission::Write`].
        permission: Permission,
    },
    /// Ends a client key's registration. Its sessions stay until they are past, so that adding the key again executes
    /// nothing twice. Only for admins.
    RemoveClient {
        /// The key.
        key: PublicKey,
    },
    /// A replica without a trusted log comes back (protocol.md, Rejoin). Executed only in the form of
    /// [`crate::rejoin::rejoin_request`]; around it, a client's signature is refused as
    /// [`crate::reply::Refusal::NotPermitted`].
    Rejoin(Signed),
}

/// What an operation of service 0 answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum ConfigurationResult {
    /// The key is registered with this permission now.
    Registered(Permission),
    /// The key is no longer registered.
    Removed,
    /// Nothing to remove.
    NotRegistered,
    /// Admin keys are fixed at genesis: none is added, changed or removed.
    AdminKeysAreFixed,
    /// Not a key that may be configured ([`PublicKey::is_acceptable`]).
    UnacceptableKey,
    /// [`CLIENTS_MAX`] keys are registered.
    TooManyClients,
    /// The replica is in the incarnation it asked for from this batch on.
    Rejoined,
}

impl ConfigurationOperation {
    /// Decodes an operation; `None` if it is none, or a Rejoin that carries another statement.
    pub fn from_bytes(bytes: &[u8]) -> Option<ConfigurationOperation> {
        let operation: ConfigurationOperation = decode(bytes, CONFIGURATION_OPERATION_BYTES_MAX).ok()?;
        match &operation {
            ConfigurationOperation::Rejoin(signed) if signed.body().kind() != StatementKind::Rejoin => None,
            _ => Some(operation),
        }
    }

    /// The bytes a request carries.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

/// The configuration table and what is derived from it.
#[derive(Clone)]
pub(super) struct Configuration {
    table: MerkleMap,
    parameters: ExecutionParameters,
    /// Entries of the table that are clients.
    clients: usize,
}

fn client_key(key: &PublicKey) -> [u8; 33] {
    let mut out = [CLIENT_TAG; 33];
    out[1..].copy_from_slice(&key.0);
    out
}

impl Configuration {
    pub(super) fn new(initial: &InitialConfiguration) -> Configuration {
        let parameters = ExecutionParameters {
            sessions_per_client: initial.parameters.sessions_per_client.max(1),
            ..initial.parameters
        };
        let mut table = MerkleMap::new();
        table.insert(PARAMETERS_KEY, encode(&parameters));
        let clients = initial.clients.iter().map(|key| (key, Permission::Write));
        let admins = initial.admins.iter().map(|key| (key, Permission::Admin));
        for (key, permission) in clients.chain(admins) {
            table.insert(&client_key(key), encode(&ClientRecord { permission, since: Seq(0) }));
        }
        let clients = table.len() - 1;
        assert!(clients <= CLIENTS_MAX, "{clients} keys in the initial configuration; the limit is {CLIENTS_MAX}");
        Configuration { table, parameters, clients }
    }

    pub(super) fn restore(table: &MerkleMap) -> Result<Configuration, RestoreError> {
        let malformed =
            |reason: &str| RestoreError::Malformed { table: CONFIGURATION_TABLE, reason: reason.to_owned() };
        let parameters: ExecutionParameters = table
            .get(PARAMETERS_KEY)
            .and_then(|bytes| decode(bytes, RECORD_BYTES_MAX).ok())
            .ok_or_else(|| malformed("no parameters"))?;
        let mut clients = 0;
        for (key, value) in table.range(&[CLIENT_TAG], Some(&[CLIENT_TAG + 1])) {
            if key.len() != 33 || key[0] != CLIENT_TAG || decode::<ClientRecord>(value, RECORD_BYTES_MAX).is_err() {
                return Err(malformed("an entry is not a client"));
            }
            clients += 1;
        }
        let rejoined = Rejoined::read(table).ok_or_else(|| malformed("an entry is not of a replica that rejoined"))?;
        let entries = clients + rejoined.len() + 1;
        if entries != table.len() || clients > CLIENTS_MAX || parameters.sessions_per_client == 0 {
            return Err(malformed("entries out of bounds"));
        }
        Ok(Configuration { table: table.clone(), parameters, clients })
    }

    pub(super) fn table(&self) -> &MerkleMap {
        &self.table
    }

    pub(super) const fn parameters(&self) -> &ExecutionParameters {
        &self.parameters
    }

    pub(super) fn client(&self, key: &PublicKey) -> Option<ClientRecord> {
        // `restore` decoded every entry and everything else wrote it here.
        self.table.get(&client_key(key)).and_then(|bytes| decode(bytes, RECORD_BYTES_MAX).ok())
    }

    /// The registered keys in ascending order.
    pub(super) fn clients(&self) -> impl Iterator<Item = (PublicKey, ClientRecord)> + '_ {
        self.table.range(&[CLIENT_TAG], Some(&[CLIENT_TAG + 1])).filter_map(|(key, value)| {
            Some((PublicKey(key.get(1..)?.try_into().ok()?), decode(value, RECORD_BYTES_MAX).ok()?))
        })
    }

    /// The replicas that rejoined. `restore` decoded every entry and everything else wrote it here.
    pub(super) fn rejoined(&self) -> Rejoined {
        Rejoined::read(&self.table).unwrap_or_default()
    }

    /// What is known of one replica that rejoined.
    pub(super) fn rejoin_record(&self, replica: ReplicaId) -> Option<rejoin::RejoinRecord> {
        rejoin::entry(&self.table, replica)
    }

    /// Executes a replica's own Rejoin; whether it won.
    pub(super) fn rejoin(&mut self, statement: &Signed, seq: Seq) -> bool {
        rejoin::execute(&mut self.table, statement, seq)
    }

    /// Executes an operation whose signer is an admin. `None` for the one that is not an admin's.
    pub(super) fn execute(&mut self, operation: &ConfigurationOperation, seq: Seq) -> Option<ConfigurationResult> {
        match operation {
            ConfigurationOperation::AddClient { key, permission } => Some(self.add(key, *permission, seq)),
            ConfigurationOperation::RemoveClient { key } => Some(self.remove(key)),
            ConfigurationOperation::Rejoin(_) => None,
        }
    }

    fn add(&mut self, key: &PublicKey, permission: Permission, seq: Seq) -> ConfigurationResult {
        let present = self.client(key);
        if permission == Permission::Admin || present.is_some_and(|client| client.permission == Permission::Admin) {
            return ConfigurationResult::AdminKeysAreFixed;
        }
        if !key.is_acceptable() {
            return ConfigurationResult::UnacceptableKey;
        }
        if present.is_none() && self.clients >= CLIENTS_MAX {
            return ConfigurationResult::TooManyClients;
        }
        let since = present.map_or(seq, |client| client.since);
        if self.table.insert(&client_key(key), encode(&ClientRecord { permission, since })).is_none() {
            self.clients += 1;
        }
        ConfigurationResult::Registered(permission)
    }

    fn remove(&mut self, key: &PublicKey) -> ConfigurationResult {
        match self.client(key) {
            None => ConfigurationResult::NotRegistered,
            Some(client) if client.permission == Permission::Admin => ConfigurationResult::AdminKeysAreFixed,
            Some(_) => {
                self.table.remove(&client_key(key));
                self.clients -= 1;
                ConfigurationResult::Removed
            }
        }
    }
}

#[cfg(test)]
mod tests;
