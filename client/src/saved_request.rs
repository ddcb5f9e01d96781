//! Signed requests of unknown outcome, kept in a file. Replaying them is safe: replicas execute at most one request of a
//! number, and none past its time limit.
//!
//! ```json
//! {"v":1,"cluster":"<64 hex digits>","requests":["<hex of an encoded request>"]}
//! ```
//!
//! Whoever has the file can have its operations executed until their time limit, so its mode is 0600.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_crypto::ClusterId;
use quorate_crypto::encoding::{DecodeError, decode, encode};
use quorate_protocol::client::message::CLIENT_FRAME_MAX;
use quorate_protocol::client::submission::ATTEMPTS_MAX;
use quorate_protocol::request::Request;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the file's form.
const VERSION: u32 = 1;
/// A longer file is refused unread: a few full requests in hexadecimal.
const FILE_BYTES_MAX: u64 = (ATTEMPTS_MAX * CLIENT_FRAME_MAX * 2 + 4096) as u64;

/// Requests as saved: signatures of one client under one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRequest {
    /// The cluster they were signed for.
    pub cluster: ClusterId,
    /// The requests.
    pub requests: Vec<Request>,
}

/// Why a file holds no saved request.
#[derive(Debug, Error)]
pub enum SavedRequestError {
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not of the form above.
    #[error("{} is not a saved request ({problem}); name a file that a command with exit code 3 has saved", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// It belongs to another cluster.
    #[error("{} was signed for cluster {}, and this is cluster {}; name the right one with --cluster DIR", path.display(), cluster.0.short(), this.0.short())]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        cluster: ClusterId,
        /// The one at hand.
        this: ClusterId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    v: u32,
    cluster: String,
    requests: Vec<String>,
}

impl SavedRequest {
    /// The requests of an unknown outcome.
    pub fn new(cluster: ClusterId, requests: &[Arc<Request>]) -> SavedRequest {
        SavedRequest { cluster, requests: requests.iter().map(|request| (**request).clone()).collect() }
    }

    /// Writes a new file into `directory`, named after the newest request, and syncs it. Returns its path.
    ///
    /// # Errors
    /// [`SavedRequestError::Io`].
    pub fn save(&self, directory: &Path) -> Result<PathBuf, SavedRequestError> {
        let name = self.requests.last().map_or_else(String::new, |request| request.digest().to_hex());
        let path = directory.join(format!("request-{}.json", name.get(..16).unwrap_or(&name)));
        let io = |error| SavedRequestError::Io { path: path.clone(), error };
        std::fs::create_dir_all(directory).map_err(io)?;
        let contents = Contents {
            v: VERSION,
            cluster: self.cluster.0.to_hex(),
            requests: self.requests.iter().map(|request| hex::encode(encode(request))).collect(),
        };
        let text = serde_json::to_string(&contents).map_err(|error| io(error.into()))?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(io)?;
        file.sync_all().map_err(io)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
        Ok(path)
    }

    /// Reads a saved request.
    ///
    /// # Errors
    /// All of [`SavedRequestError`].
    pub fn load(path: &Path, this: ClusterId) -> Result<SavedRequest, SavedRequestError> {
        let io = |error| SavedRequestError::Io { path: path.to_owned(), error };
        let malformed = |problem: String| SavedRequestError::Malformed { path: path.to_owned(), problem };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > FILE_BYTES_MAX {
            return Err(malformed(format!("it has {length} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let contents: Contents = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        if contents.v != VERSION {
            return Err(malformed(format!("its version is {}, this program knows {VERSION}", contents.v)));
        }
        let cluster =
            parse_cluster(&contents.cluster).ok_or_else(|| malformed("its cluster is no digest".to_owned()))?;
        if cluster != this {
            return Err(SavedRequestError::OtherCluster { path: path.to_owned(), cluster, this });
        }
        if contents.requests.is_empty() || contents.requests.len() > ATTEMPTS_MAX {
            return Err(malformed(format!("it holds {} requests", contents.requests.len())));
        }
        let mut requests = Vec::with_capacity(contents.requests.len());
        for text in &contents.requests {
            let bytes = hex::decode(text).map_err(|error| malformed(error.to_string()))?;
            let request =
                decode(&bytes, CLIENT_FRAME_MAX).map_err(|error: DecodeError| malformed(error.to_string()))?;
            requests.push(request);
        }
        Ok(SavedRequest { cluster, requests })
    }
}

fn parse_cluster(text: &str) -> Option<ClusterId> {
    let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
    Some(ClusterId(quorate_crypto::Digest(bytes)))
}

#[cfg(test)]
mod tests;
