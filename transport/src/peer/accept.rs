//! The door for other replicas: which attempts get a handshake, and to whom an authenticated link belongs.

use std::sync::Arc;

use quinn::{Connecting, Connection};
use tokio::time::timeout;

use super::supervisor::Notice;
use super::{Peer, Shared};
use crate::admission::HalfOpen;
use crate::error::CloseCode;
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::stream::{HeaderError, establish};
use crate::tls::proven_key;

/// Looks at connection attempts until the endpoint closes.
pub(super) async fn run(shared: Arc<Shared>) {
    let endpoint = shared.endpoint.clone();
    while let Some(incoming) = endpoint.accept().await {
        let expected = |remote| shared.expected.contains(&remote);
        if let Some((connecting, half_open)) = shared.gate.admit(incoming, &shared.server_configs, expected) {
            tokio::spawn(shake_hands(Arc::clone(&shared), connecting, half_open));
        }
    }
}

async fn shake_hands(shared: Arc<Shared>, connecting: Connecting, half_open: HalfOpen) {
    let remote = connecting.remote_address();
    let connection = match timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            shared.gate.failed(remote, &error);
            return;
        }
        Err(_) => {
            shared.gate.failed(remote, &"the handshake took too long");
            return;
        }
    };
    // TLS has refused strangers; a member may have been removed since.
    let id = proven_key(&connection).and_then(|key| shared.members.id_of(&key));
    let Some(peer) = id.and_then(|id| shared.peers.get(&id)) else {
        shared.gate.refused(remote, &"its key was removed");
        CloseCode::KeyRemoved.close(&connection);
        return;
    };
    // The supervisor limits how often links come up, but never hears of a connection that does not get so far, and
    // each may buffer three full streams for as long as the exchange of headers may take.
    let Ok(_permit) = peer.unestablished.try_acquire() else {
        shared.gate.refused(remote, &"too many connections of this member are coming up");
        CloseCode::TooManyConnections.close(&connection);
        return;
    };
    drop(half_open);
    match hand_over(&shared, peer, connection).await {
        Ok(()) => shared.metrics.handshakes_completed.increment(),
        Err(error) => shared.gate.failed(remote, &error),
    }
}

async fn hand_over(shared: &Shared, peer: &Peer, connection: Connection) -> Result<(), HeaderError> {
    let established = establish(connection.clone(), shared.instance, HANDSHAKE_TIMEOUT).await?;
    if peer.mailbox.try_send(Notice::Accepted(established)).is_err() {
        CloseCode::TooManyConnections.close(&connection);
    }
    Ok(())
}
