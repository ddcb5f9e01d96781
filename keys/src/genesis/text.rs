//! The TOML form of a genesis. Reading is by serde, which refuses unknown fields; writing is by hand, so that every
//! parameter stands below a comment that says what it means.

use std::fmt::Write as _;

use quorate_crypto::{Protocol, PublicKey, ReplicaId};
use serde::Deserialize;

use super::{
    Address, FORMAT_VERSION, GenesisClient, GenesisContents, GenesisError, GenesisReplica, KeyHolder, Parameters,
};

/// Read first and alone: a file of another version may have any other form.
#[derive(Deserialize)]
struct VersionOnly {
    format_version: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "format_version")]
    _format_version: i64,
    nonce: String,
    protocol: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    replica: Vec<Replica>,
    #[serde(default)]
    client: Vec<Client>,
    #[serde(default)]
    admin: Vec<Client>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replica {
    id: u16,
    consensus_key: String,
    transport_key: String,
    peer_address: String,
    client_address: String,
    operations_address: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    key: String,
    name: Option<String>,
}

/// One sentence of the TOML parser's report, which may have several lines, and the line it is about.
fn malformed(text: &str, error: &toml::de::Error) -> GenesisError {
    let start = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
    GenesisError::Malformed { line, message: error.message().replace('\n', ", ") }
}

/// Parses without validating what the values mean together.
pub(super) fn parse(text: &str) -> Result<GenesisContents, GenesisError> {
    let VersionOnly { format_version } = toml::from_str(text).map_err(|error| malformed(text, &error))?;
    match format_version {
        None => return Err(GenesisError::MissingVersion),
        Some(version) if version != i64::from(FORMAT_VERSION) => return Err(GenesisError::UnknownVersion(version)),
        Some(_) => {}
    }
    let file: File = toml::from_str(text).map_err(|error| malformed(text, &error))?;
    let mut nonce = [0; 32];
    hex::decode_to_slice(&file.nonce, &mut nonce).map_err(|_| GenesisError::BadNonce)?;
    Ok(GenesisContents {
        nonce,
        protocol: Protocol::from_name(&file.protocol).ok_or(GenesisError::UnknownProtocol(file.protocol))?,
        parameters: file.parameters,
        replicas: file.replica.into_iter().map(replica).collect::<Result<_, _>>()?,
        clients: clients(file.client, KeyHolder::Client)?,
        admins: clients(file.admin, KeyHolder::Admin)?,
    })
}

fn key(text: &str, holder: KeyHolder) -> Result<PublicKey, GenesisError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| GenesisError::BadKey(holder))?;
    Ok(PublicKey(bytes))
}

fn replica(text: Replica) -> Result<GenesisReplica, GenesisError> {
    let id = ReplicaId(text.id);
    let address = |field: &'static str, text: &str| {
        text.parse::<Address>().map_err(|error| GenesisError::BadAddress { id, field, error })
    };
    Ok(GenesisReplica {
        id,
        consensus_key: key(&text.consensus_key, KeyHolder::Consensus(id))?,
        transport_key: key(&text.transport_key, KeyHolder::Transport(id))?,
        peer_address: address("peer_address", &text.peer_address)?,
        client_address: address("client_address", &text.client_address)?,
        operations_address: text.operations_address.map(|text| address("operations_address", &text)).transpose()?,
    })
}

fn clients(list: Vec<Client>, holder: fn(usize) -> KeyHolder) -> Result<Vec<GenesisClient>, GenesisError> {
    list.into_iter()
        .zip(1..)
        .map(|(client, place)| Ok(GenesisClient { key: key(&client.key, holder(place))?, name: client.name }))
        .collect()
}

/// Writes valid contents. Names and addresses hold no character that TOML would have to escape: validation and
/// [`Address`] see to that.
pub(super) fn write(contents: &GenesisContents) -> String {
    let mut out = String::from(
        "# Genesis of a Quorate cluster. Every replica and client has the same file.\n\
         # Everything but the addresses is part of the cluster id: to change it is to make another cluster.\n",
    );
    // Writing to a String cannot fail; the macro's result says nothing.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = out.write_fmt(text);
        out.push('\n');
    };
    line(format_args!("format_version = {FORMAT_VERSION}"));
    line(format_args!("nonce = \"{}\"", hex::encode(contents.nonce)));
    line(format_args!("protocol = \"{}\"", contents.protocol));
    line(format_args!("\n[parameters]"));
    for row in contents.parameters.rows() {
        line(format_args!("# {} Default {}.", row.meaning, row.default));
        line(format_args!("{} = {}", row.name, row.value));
    }
    for replica in &contents.replicas {
        line(format_args!("\n[[replica]]"));
        line(format_args!("id = {}", replica.id));
        line(format_args!("consensus_key = \"{}\"", replica.consensus_key.to_hex()));
        line(format_args!("transport_key = \"{}\"", replica.transport_key.to_hex()));
        line(format_args!("peer_address = \"{}\"", replica.peer_address));
        line(format_args!("client_address = \"{}\"", replica.client_address));
        if let Some(address) = &replica.operations_address {
            line(format_args!("operations_address = \"{address}\""));
        }
    }
    for (heading, list) in [("client", &contents.clients), ("admin", &contents.admins)] {
        for client in list {
            line(format_args!("\n[[{heading}]]"));
            line(format_args!("key = \"{}\"", client.key.to_hex()));
            if let Some(name) = &client.name {
                line(format_args!("name = \"{name}\""));
            }
        }
    }
    out
}
