//! QUIC set up for few, long-lived, low-latency links: windows, timeouts, datagram sizes, sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::udp::{UdpSockRef, UdpSocketState};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::error::StartError;
use crate::key::TransportKey;
use crate::limits::{
    CLIENT_IDLE_TIMEOUT, CLIENT_KEEP_ALIVE, CLIENT_SEND_WINDOW_BYTES, CLIENT_STREAMS, CLIENT_WINDOW_BYTES,
    CONNECTION_WINDOW_BYTES, INCOMING_BUFFER_BYTES, INCOMING_BUFFER_TOTAL_BYTES, INCOMING_CAP,
    INITIAL_CONGESTION_WINDOW_BYTES, INITIAL_ROUND_TRIP, LOOPBACK_UDP_PAYLOAD_BYTES, NETWORK_UDP_PAYLOAD_BYTES,
    PEER_IDLE_TIMEOUT, PEER_KEEP_ALIVE, PEER_STREAMS, SEND_WINDOW_BYTES, SOCKET_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};
use crate::tls::Port;

/// Which end of which kind of link a transport configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Either end of a link between replicas.
    Replica,
    /// The replica's end of a client's connection.
    ServesClient,
    /// The client's end.
    Client,
}

impl Role {
    fn idle_timeout(self) -> Duration {
        match self {
            Role::Replica => PEER_IDLE_TIMEOUT,
            Role::ServesClient | Role::Client => CLIENT_IDLE_TIMEOUT,
        }
    }

    fn keep_alive(self) -> Option<Duration> {
        match self {
            Role::Replica => Some(PEER_KEEP_ALIVE),
            Role::ServesClient => None,
            Role::Client => Some(CLIENT_KEEP_ALIVE),
        }
    }

    /// What is buffered for sending and not acknowledged, in bytes.
    fn send_window(self) -> u64 {
        match self {
            Role::Replica | Role::Client => SEND_WINDOW_BYTES,
            Role::ServesClient => CLIENT_SEND_WINDOW_BYTES,
        }
    }

    /// (stream window, connection window, streams).
    fn windows(self) -> (u32, u32, u32) {
        match self {
            Role::Replica => (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES, PEER_STREAMS),
            Role::ServesClient => (CLIENT_WINDOW_BYTES, CLIENT_WINDOW_BYTES, CLIENT_STREAMS),
            Role::Client => (STREAM_WINDOW_BYTES, 2 * STREAM_WINDOW_BYTES, CLIENT_STREAMS),
        }
    }
}

/// The transport parameters and local tuning of a link to `remote`.
pub(crate) fn transport_config(role: Role, remote: IpAddr) -> Arc<TransportConfig> {
    let (stream_window, connection_window, streams) = role.windows();
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_CONGESTION_WINDOW_BYTES);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(streams))
        .stream_receive_window(VarInt::from_u32(stream_window))
        .receive_window(VarInt::from_u32(connection_window))
        .send_window(role.send_window())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(role.idle_timeout().as_millis() as u32))))
        .keep_alive_interval(role.keep_alive())
        .initial_rtt(INITIAL_ROUND_TRIP)
        .allow_spin(false)
        .congestion_controller_factory(Arc::new(congestion));
    if is_loopback(remote) {
        config.initial_mtu(LOOPBACK_UDP_PAYLOAD_BYTES).min_mtu(LOOPBACK_UDP_PAYLOAD_BYTES).mtu_discovery_config(None);
    } else {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(NETWORK_UDP_PAYLOAD_BYTES);
        config.mtu_discovery_config(Some(discovery));
    }
    Arc::new(config)
}

/// The dialling side's configuration towards one replica.
pub(crate) fn client_config(tls: Arc<QuicClientConfig>, role: Role, remote: SocketAddr) -> ClientConfig {
    let mut config = ClientConfig::new(tls);
    config.transport_config(transport_config(role, remote.ip()));
    config
}

/// Two server configurations that differ in datagram size only: for connections from loopback and from elsewhere.
pub(crate) struct ServerConfigs {
    loopback: Arc<ServerConfig>,
    network: Arc<ServerConfig>,
}

impl ServerConfigs {
    pub(crate) fn new(tls: Arc<QuicServerConfig>, key: &TransportKey, port: Port, role: Role) -> ServerConfigs {
        let make = |remote: IpAddr| {
            let mut config = ServerConfig::new(tls.clone(), Arc::new(key.token_key(port.name())));
            config
                .transport_config(transport_config(role, remote))
                .migration(false)
                .max_incoming(INCOMING_CAP)
                .incoming_buffer_size(INCOMING_BUFFER_BYTES)
                .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES);
            Arc::new(config)
        };
        ServerConfigs {
            loopback: make(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            network: make(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        }
    }

    /// The one for a connection from `remote`.
    pub(crate) fn facing(&self, remote: SocketAddr) -> Arc<ServerConfig> {
        Arc::clone(if is_loopback(remote.ip()) { &self.loopback } else { &self.network })
    }
}

/// Binds a UDP socket and starts QUIC on it. Must be called within a tokio runtime.
pub(crate) fn bind(
    address: SocketAddr,
    key: &TransportKey,
    port: Port,
    server: Option<&ServerConfigs>,
) -> Result<Endpoint, StartError> {
    let failed = |source| StartError::Bind { address, source };
    let socket = UdpSocket::bind(address).map_err(failed)?;
    enlarge_buffers(&socket);
    let mut config = EndpointConfig::new(Arc::new(key.reset_key(port.name())));
    let connection_id_key = key.connection_id_key(port.name());
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(connection_id_key)));
    config
        .max_udp_payload_size(LOOPBACK_UDP_PAYLOAD_BYTES)
        .map_err(|error| StartError::Configuration(format!("datagram size: {error}")))?;
    let server = server.map(|configs| (*configs.network).clone());
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime)).map_err(failed)
}

/// The wildcard address from which all of `remotes` can be reached.
pub(crate) fn any_address(remotes: impl IntoIterator<Item = SocketAddr>) -> SocketAddr {
    let any_v6 = remotes.into_iter().any(|remote| remote.is_ipv6());
    SocketAddr::new(if any_v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }, 0)
}

/// A number that names this process among its restarts. It need not be secret.
pub(crate) fn fresh_instance() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StartError::Randomness)?;
    Ok(u64::from_be_bytes(bytes))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Asks for larger socket buffers; the system's own cap applies, and smaller ones only cost throughput.
fn enlarge_buffers(socket: &UdpSocket) {
    let outcome = UdpSocketState::new(UdpSockRef::from(socket)).and_then(|state| {
        state.set_recv_buffer_size(UdpSockRef::from(socket), SOCKET_BUFFER_BYTES)?;
        state.set_send_buffer_size(UdpSockRef::from(socket), SOCKET_BUFFER_BYTES)
    });
    if let Err(error) = outcome {
        tracing::debug!(%error, "socket buffers keep their size");
    }
}
