//! `node.toml`: what one node is told by its operator. Everything replicas must agree on is in the genesis file instead.
//!
//! ```toml
//! version = 1
//! replica = 0
//! identity = "identity.key"        # paths are relative to this file
//! genesis = "../genesis.toml"
//! data = "data"
//! durability = "sync"              # no default: promises are synced to disk before they are sent
//!
//! [listen]
//! peers = "127.0.0.1:7400"         # UDP
//! clients = "127.0.0.1:7600"       # UDP
//! operations = "127.0.0.1:7500"    # HTTP; leave it out to have none
//!
//! [addresses]                      # where this node dials others, in place of the genesis file's addresses
//! 2 = "10.0.0.7:7400"
//!
//! [log]
//! level = "info"                   # error, warn, info, debug, trace, or a filter such as "info,quorate_node=debug"
//! format = "text"                  # or "json"
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate_crypto::ReplicaId;
use quorate_keys::genesis::Address;
use serde::{Deserialize, Serialize};

use crate::failure::NodeError;

/// The version of the file's form. Others are refused.
pub const CONFIG_VERSION: i64 = 1;

/// A configuration file longer than this many bytes is refused.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// The least level, or a filter by module.
    pub level: String,
    /// The form.
    pub format: LogFormat,
}

impl Default for LogSection {
    fn default() -> LogSection {
        LogSection { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// `[listen]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// UDP, for other replicas.
    pub peers: SocketAddr,
    /// UDP, for clients.
    pub clients: SocketAddr,
    /// HTTP, for health, metrics and status; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<SocketAddr>,
}

/// The file as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(rename = "version")]
    _version: i64,
    replica: u16,
    identity: PathBuf,
    genesis: PathBuf,
    data: PathBuf,
    durability: Option<String>,
    listen: Listen,
    #[serde(default)]
    addresses: BTreeMap<String, String>,
    #[serde(default)]
    log: LogSection,
}

/// A configuration that was read and checked. Paths are those of the process: what the file gives is relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which replica this is; the key must be its own.
    pub replica: ReplicaId,
    /// The identity file.
    pub identity: PathBuf,
    /// The genesis file.
    pub genesis: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// Where to dial others, in place of the genesis file's addresses.
    pub addresses: BTreeMap<ReplicaId, Address>,
    /// How to log.
    pub log: LogSection,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`NodeError::Configuration`] with one sentence.
    pub fn load(path: &Path) -> Result<Config, NodeError> {
        let shown = path.display();
        let refused = |reason: String| NodeError::Configuration(format!("cannot read {shown}: {reason}"));
        let length = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
        if length > CONFIG_BYTES_MAX {
            return Err(refused(format!(
                "it has {length} bytes, more than the {CONFIG_BYTES_MAX} a configuration may have"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Config::parse(&text, base).map_err(|reason| NodeError::Configuration(format!("{shown}: {reason}")))
    }

    /// Reads and checks the text of a configuration whose paths are relative to `base`.
    ///
    /// # Errors
    /// One sentence.
    pub fn parse(text: &str, base: &Path) -> Result<Config, String> {
        let table: toml::Table = toml::from_str(text).map_err(|error| explain(text, &error))?;
        match table.get("version") {
            None => {
                return Err(format!("version is missing; a node configuration begins with version = {CONFIG_VERSION}"));
            }
            Some(version) if version.as_integer() != Some(CONFIG_VERSION) => {
                return Err(format!("version is {version}, but this program knows {CONFIG_VERSION} only"));
            }
            Some(_) => {}
        }
        let file: ConfigFile = toml::from_str(text).map_err(|error| explain(text, &error))?;
        match file.durability.as_deref() {
            Some("sync") => {}
            Some(other) => {
                return Err(format!("durability is {other:?}, but only \"sync\" keeps the promises of a replica"));
            }
            None => {
                return Err(
                    "durability is missing and has no default; write durability = \"sync\", which syncs promises to disk before they are sent"
                        .to_owned(),
                );
            }
        }
        let mut addresses = BTreeMap::new();
        for (id, address) in &file.addresses {
            let parsed: u16 =
                id.parse().map_err(|_| format!("addresses names {id:?}, which is not the number of a replica"))?;
            let address: Address =
                address.parse().map_err(|error| format!("the address of replica {parsed}, {address:?}: {error}"))?;
            if addresses.insert(ReplicaId(parsed), address).is_some() {
                return Err(format!("addresses names replica {parsed} twice"));
            }
        }
        Ok(Config {
            replica: ReplicaId(file.replica),
            identity: base.join(file.identity),
            genesis: base.join(file.genesis),
            data: base.join(file.data),
            listen: file.listen,
            addresses,
            log: file.log,
        })
    }

    /// The text of a file that [`Config::parse`] reads back, for launchers. Paths are written as they are.
    pub fn to_toml(&self) -> String {
        let quote = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        let mut text = format!(
            "version = {CONFIG_VERSION}\nreplica = {}\nidentity = {}\ngenesis = {}\ndata = {}\n\
             # Promises are synced to disk before they are sent; there is no other mode and no default.\n\
             durability = \"sync\"\n\n[listen]\npeers = \"{}\"\nclients = \"{}\"\n",
            self.replica,
            quote(&self.identity),
            quote(&self.genesis),
            quote(&self.data),
            self.listen.peers,
            self.listen.clients,
        );
        if let Some(operations) = self.listen.operations {
            let _ = writeln!(text, "operations = \"{operations}\"");
        }
        if !self.addresses.is_empty() {
            text.push_str("\n[addresses]\n");
            for (id, address) in &self.addresses {
                let _ = writeln!(text, "{id} = \"{address}\"");
            }
        }
        let format = match self.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let level = toml::Value::String(self.log.level.clone());
        let _ = write!(text, "\n[log]\nlevel = {level}\nformat = \"{format}\"\n");
        text
    }
}

/// A TOML error as one sentence with its line.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().next().unwrap_or("malformed").to_owned();
    match error.span() {
        Some(span) => {
            let line = text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1);
            format!("line {line}: {message}")
        }
        None => message,
    }
}

#[cfg(test)]
mod tests;
