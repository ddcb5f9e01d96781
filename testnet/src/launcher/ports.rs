//! Which ports a testnet listens on: by a rule anyone can remember, or any that are free.
//!
//! Replica i of a testnet with base B: UDP B + i for replicas, UDP B + 200 + i for clients, HTTP B + 100 + i. The base is
//! 7400 unless told otherwise; the page is on B + 70, which bounds the number of replicas.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use quorate_crypto::ReplicaId;
use rand::RngExt as _;

use super::description::Endpoints;
use super::failure::LaunchError;

/// Where ports begin unless told otherwise.
pub const DEFAULT_BASE: u16 = 7400;
/// Most replicas of a testnet: the port of the page comes next.
pub const REPLICAS_MAX: usize = 70;

const OPERATIONS: u16 = 100;
const CLIENTS: u16 = 200;
/// Below what systems give to outgoing connections, which would take a port between the choice and its use.
const ANY: std::ops::Range<u16> = 10_000..32_000;
/// Random ports tried for one that is free.
const TRIES: usize = 200;

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The ports of `count` replicas by the rule.
///
/// # Errors
/// Too many replicas; ports beyond 65535 or that need privileges.
pub fn from_base(base: u16, count: usize) -> Result<Vec<Endpoints>, LaunchError> {
    if count > REPLICAS_MAX {
        return Err(LaunchError::Ports(format!(
            "{count} replicas are too many for one machine's ports; at most {REPLICAS_MAX} fit, or take any free ones with --any-port"
        )));
    }
    let last = u16::MAX - CLIENTS - REPLICAS_MAX as u16;
    if !(1024..=last).contains(&base) {
        return Err(LaunchError::Ports(format!(
            "--port-base {base} leaves no room: give a number from 1024 to {last}, for example {DEFAULT_BASE}"
        )));
    }
    let endpoints = |id: u16| Endpoints {
        peers: local(base + id),
        clients: local(base + CLIENTS + id),
        operations: local(base + OPERATIONS + id),
    };
    Ok((0..count as u16).map(endpoints).collect())
}

/// Free ports for `count` replicas.
///
/// # Errors
/// None were found.
pub fn any_free(count: usize) -> Result<Vec<Endpoints>, LaunchError> {
    let mut taken = BTreeSet::new();
    let mut choose = |is_free| choose(&mut taken, is_free);
    let mut replicas = Vec::with_capacity(count);
    for _ in 0..count {
        replicas.push(Endpoints {
            peers: choose(udp_is_free)?,
            clients: choose(udp_is_free)?,
            operations: choose(tcp_is_free)?,
        });
    }
    Ok(replicas)
}

/// Free TCP ports, all different.
///
/// # Errors
/// None were found.
pub fn any_free_tcp(count: usize) -> Result<Vec<SocketAddr>, LaunchError> {
    let mut taken = BTreeSet::new();
    (0..count).map(|_| choose(&mut taken, tcp_is_free)).collect()
}

fn choose(taken: &mut BTreeSet<u16>, is_free: fn(SocketAddr) -> bool) -> Result<SocketAddr, LaunchError> {
    let mut random = rand::rng();
    for _ in 0..TRIES {
        let port = random.random_range(ANY);
        if is_free(local(port)) && taken.insert(port) {
            return Ok(local(port));
        }
    }
    Err(LaunchError::Ports(format!(
        "no free port was found between {} and {}; stop what uses them, or choose with --port-base N",
        ANY.start, ANY.end
    )))
}

/// Says which port of a replica is taken, if one is.
///
/// # Errors
/// [`LaunchError::PortInUse`].
pub fn check_free(replica: ReplicaId, endpoints: &Endpoints) -> Result<(), LaunchError> {
    let taken = |address: SocketAddr, purpose| LaunchError::PortInUse { port: address.port(), purpose, replica };
    if !udp_is_free(endpoints.peers) {
        return Err(taken(endpoints.peers, "UDP, for replicas"));
    }
    if !udp_is_free(endpoints.clients) {
        return Err(taken(endpoints.clients, "UDP, for clients"));
    }
    if !tcp_is_free(endpoints.operations) {
        return Err(taken(endpoints.operations, "HTTP"));
    }
    Ok(())
}

fn udp_is_free(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok()
}

fn tcp_is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_by_the_rule() {
        let replicas = from_base(DEFAULT_BASE, 4).expect("they exist");
        let ports: Vec<_> =
            replicas.iter().map(|at| (at.peers.port(), at.operations.port(), at.clients.port())).collect();
        assert_eq!(ports, [(7400, 7500, 7600), (7401, 7501, 7601), (7402, 7502, 7602), (7403, 7503, 7603)]);
        assert!(from_base(80, 4).is_err() && from_base(65_400, 4).is_err() && from_base(7400, 71).is_err());
        from_base(u16::MAX - CLIENTS - 70, 70).expect("the last that fits");
    }

    #[test]
    fn a_taken_port_is_named() {
        let mut endpoints = any_free(1).expect("there are some")[0];
        check_free(ReplicaId(2), &endpoints).expect("free");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        endpoints.clients = socket.local_addr().expect("bound");
        let error = check_free(ReplicaId(2), &endpoints).expect_err("taken").to_string();
        assert!(error.contains(&endpoints.clients.port().to_string()) && error.contains("--any-port"), "{error}");
        drop(socket);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        endpoints.operations = listener.local_addr().expect("bound");
        assert!(check_free(ReplicaId(2), &endpoints).is_err());
    }
}
