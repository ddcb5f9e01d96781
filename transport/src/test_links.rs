//! What the link tests share: keys, ports, deadlines, and a bare dialler that can break every rule.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use quorate_crypto::{ClusterId, Digest, PublicKey, ReplicaId};

use crate::error::{Dialled, LinkError, explain};
use crate::key::TransportKey;
use crate::quic::{Role, bind, client_config};
use crate::stream::{Established, HeaderError, establish};
use crate::tls::{self, Port};

/// Far beyond what anything here takes: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const CLUSTER: ClusterId = ClusterId(Digest([0xc1; 32]));
pub(crate) const OTHER_CLUSTER: ClusterId = ClusterId(Digest([0xc2; 32]));

pub(crate) fn key(seed: u8) -> TransportKey {
    TransportKey::from_seed(&[seed; 32])
}

/// Loopback addresses whose ports were free a moment ago.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let sockets: [UdpSocket; N] =
        std::array::from_fn(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("bound"))
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in {PATIENCE:?}: {what}"))
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A dialler that runs no protocol of ours by itself.
pub(crate) struct BareDialler {
    pub(crate) endpoint: Endpoint,
    port: Port,
    key: TransportKey,
}

impl BareDialler {
    pub(crate) fn new(port: Port, key: TransportKey) -> BareDialler {
        let endpoint = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &key, port, None).expect("a free port");
        BareDialler { endpoint, port, key }
    }

    /// A handshake and not one stream.
    pub(crate) async fn shake_hands(
        &self,
        cluster: ClusterId,
        pinned: PublicKey,
        address: SocketAddr,
    ) -> Result<Connection, ConnectionError> {
        let tls = tls::client_config(self.port, &self.key, &cluster, pinned).expect("a key");
        let config = client_config(tls, Role::Replica, address);
        self.endpoint.connect_with(config, address, "replica").expect("an address").await
    }

    pub(crate) async fn dial(
        &self,
        cluster: ClusterId,
        pinned: PublicKey,
        address: SocketAddr,
    ) -> Result<Established, LinkError> {
        let tls = tls::client_config(self.port, &self.key, &cluster, pinned).expect("a key");
        self.dial_with(client_config(tls, Role::Replica, address), address, 1).await
    }

    pub(crate) async fn dial_with(
        &self,
        config: quinn::ClientConfig,
        address: SocketAddr,
        instance: u64,
    ) -> Result<Established, LinkError> {
        let dialled = Dialled { address, id: ReplicaId(0), handshake: true };
        let connecting = self.endpoint.connect_with(config, address, "replica").expect("an address");
        let connection = connecting.await.map_err(|error| explain(&error, Some(dialled)))?;
        establish(connection, instance, PATIENCE).await.map_err(|error| match error {
            HeaderError::Connection(error) => explain(&error, Some(dialled)),
            other => LinkError::Violation(other.to_string()),
        })
    }
}
