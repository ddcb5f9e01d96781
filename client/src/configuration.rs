//! Registering and removing client keys: ordered operations that an admin key signs.

use quorate_crypto::PublicKey;
use quorate_crypto::encoding::decode;
use quorate_protocol::execution::{CONFIGURATION_SERVICE, ConfigurationOperation, ConfigurationResult};
use quorate_protocol::request::Operation;

use crate::client::{Client, Executed};
use crate::error::ClientError;

/// A result of the configuration service has no more bytes than this.
const RESULT_BYTES_MAX: usize = 64;

impl Client {
    /// Executes changes of the configuration as one request; the client's key must be an admin's. One result each.
    ///
    /// # Errors
    /// Those of [`Client::submit`]; [`quorate_protocol::reply::Refusal::NotPermitted`] for another key.
    pub async fn configure(
        &self,
        operations: &[ConfigurationOperation],
    ) -> Result<(Executed, Vec<ConfigurationResult>), ClientError> {
        let operations = operations
            .iter()
            .map(|operation| Operation { service: CONFIGURATION_SERVICE, bytes: operation.to_bytes() })
            .collect();
        let executed = self.submit(operations).await?;
        let results = read_results(executed.results()?)?;
        Ok((executed, results))
    }
}

/// Reads results of the configuration service.
pub fn read_results(results: &[Vec<u8>]) -> Result<Vec<ConfigurationResult>, ClientError> {
    let read = |bytes: &Vec<u8>| decode(bytes, RESULT_BYTES_MAX);
    results.iter().map(read).collect::<Result<_, _>>().map_err(|error| ClientError::Unreadable(error.to_string()))
}

/// What became of one key, in a sentence.
pub fn sentence(key: &PublicKey, result: ConfigurationResult) -> String {
    let name = key.fingerprint().short();
    match result {
        ConfigurationResult::Registered(permission) => format!("key {name} is registered: it may {}", may(permission)),
        ConfigurationResult::Removed => format!("key {name} is removed"),
        ConfigurationResult::NotRegistered => format!("key {name} was not registered"),
        ConfigurationResult::AdminKeysAreFixed => format!("key {name} is an admin's: admin keys are fixed at genesis"),
        ConfigurationResult::UnacceptableKey => format!("key {name} is not an acceptable ed25519 key"),
        ConfigurationResult::TooManyClients => {
            format!("key {name} is not registered: the cluster has as many as it may; remove some first")
        }
        // Of a replica's own operation, which no client asks for.
        ConfigurationResult::Rejoined => format!("replica {name} rejoined"),
    }
}

fn may(permission: quorate_protocol::execution::Permission) -> &'static str {
    use quorate_protocol::execution::Permission;
    match permission {
        Permission::Read => "read",
        Permission::Write => "read and write",
        Permission::Admin => "read, write and change the configuration",
    }
}
