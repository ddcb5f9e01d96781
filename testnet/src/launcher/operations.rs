//! Asking a node where it stands: one HTTP/1.1 GET by hand, which spares an HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer longer than this many bytes is cut off.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody is there, or the connection broke.
    #[error("its HTTP does not answer ({0})")]
    Io(#[from] std::io::Error),
    /// It took too long.
    #[error("its HTTP does not answer in time")]
    Late,
    /// Not what a node of this version answers.
    #[error("its HTTP answers something else ({0})")]
    Unreadable(String),
}

/// A node's `/v1/status`, as far as the launcher uses it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NodeStatus {
    /// The view it is in or moving to.
    pub view: u64,
    /// Whether it has entered that view.
    pub entered: bool,
    /// Who leads that view.
    pub primary: u16,
    /// The highest number executed.
    pub executed: u64,
    /// The number `state_digest` belongs to.
    pub state_seq: Option<u64>,
    /// Root of the executed state.
    pub state_digest: Option<String>,
    /// Its certified checkpoint.
    pub checkpoint_seq: u64,
    /// The state root there.
    pub checkpoint_digest: String,
    /// The service's revision.
    pub revision: u64,
    /// Whether it would say 200 on `/readyz`.
    pub ready: bool,
    /// Whether it fetches the state.
    pub transferring: bool,
    /// Whether it has no trusted log and is on its way back.
    pub rejoining: bool,
    /// How often it rejoined.
    pub incarnation: u32,
    /// Links to the other replicas.
    pub links: Vec<LinkStatus>,
    /// Offences it has seen since it began.
    pub evidence: u64,
    /// Requests executed since it began.
    pub requests_executed: u64,
    /// View changes since it began.
    pub view_changes: u64,
    /// CPU time of its process, seconds.
    pub cpu_seconds: f64,
    /// Resident memory of its process, bytes.
    pub rss_bytes: u64,
    /// Syncs of its log since it began.
    pub syncs: u64,
    /// Bytes it sent since it began.
    pub wire_bytes: u64,
}

/// One link in a node's status.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LinkStatus {
    /// The replica at the other end.
    pub id: u16,
    /// Whether it is up.
    pub up: bool,
}

impl NodeStatus {
    /// Whether it is linked to every other replica.
    pub fn is_connected(&self) -> bool {
        self.links.iter().all(|link| link.up)
    }
}

/// Where the node whose operations are at `address` stands.
///
/// # Errors
/// Nobody answers within `patience`, or not as a node does.
pub async fn status(address: SocketAddr, patience: Duration) -> Result<NodeStatus, AskError> {
    let body = get(address, "/v1/status", patience).await?;
    serde_json::from_slice(&body).map_err(|error| AskError::Unreadable(error.to_string()))
}

/// The body of a successful answer to `GET path`.
///
/// # Errors
/// Nobody answers within `patience`, or not with 200.
pub async fn get(address: SocketAddr, path: &str, patience: Duration) -> Result<Vec<u8>, AskError> {
    tokio::time::timeout(patience, ask(address, path)).await.map_err(|_| AskError::Late)?
}

async fn ask(address: SocketAddr, path: &str) -> Result<Vec<u8>, AskError> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    body(&answer)
}

fn body(answer: &[u8]) -> Result<Vec<u8>, AskError> {
    let unreadable = |problem: &str| AskError::Unreadable(problem.to_owned());
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| unreadable("no header"))?;
    let header = String::from_utf8_lossy(&answer[..end]);
    let status = header.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(unreadable(status));
    }
    Ok(answer[end + 4..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_follows_a_200() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(body(answer).expect("200"), b"{}");
        assert!(matches!(body(b"HTTP/1.1 503 Service Unavailable\r\n\r\nno"), Err(AskError::Unreadable(_))));
        assert!(matches!(body(b"SSH-2.0-OpenSSH_9.6\r\n"), Err(AskError::Unreadable(_))));
        assert!(matches!(body(b""), Err(AskError::Unreadable(_))));
    }
}
