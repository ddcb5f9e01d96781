//! Which connection is whose, and which connections wait for the answer to which request.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use quorate_crypto::{Digest, PublicKey};
use quorate_transport::ConnectionId;

use crate::process::inbox::lock;

/// Requests of one connection that wait for their answer: as many as a session has numbers in flight.
pub(crate) const IN_FLIGHT_PER_CONNECTION: usize = 1024;
/// A request that got no answer for so long makes room for another: it was dropped on the way, or its client has
/// stopped to ask for it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// Whether the answer to a request will find its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registration {
    /// It will.
    Registered,
    /// The connection has [`IN_FLIGHT_PER_CONNECTION`] requests in flight.
    Full,
}

struct Session {
    key: PublicKey,
    in_flight: HashMap<Digest, Instant>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<ConnectionId, Session>,
    routes: HashMap<Digest, Vec<ConnectionId>>,
}

impl State {
    fn leave(&mut self, digest: &Digest, connection: ConnectionId) {
        if let Some(route) = self.routes.get_mut(digest) {
            route.retain(|waiting| *waiting != connection);
            if route.is_empty() {
                self.routes.remove(digest);
            }
        }
    }
}

/// Connections and routes; bounded by the connections the port admits times [`IN_FLIGHT_PER_CONNECTION`].
#[derive(Default)]
pub(crate) struct Sessions {
    state: Mutex<State>,
}

impl Sessions {
    /// A client has connected and proven `key`.
    pub(crate) fn connected(&self, connection: ConnectionId, key: PublicKey) {
        lock(&self.state).sessions.insert(connection, Session { key, in_flight: HashMap::new() });
    }

    /// The connection is gone, and with it whoever waited there.
    pub(crate) fn closed(&self, connection: ConnectionId) {
        let mut state = lock(&self.state);
        if let Some(session) = state.sessions.remove(&connection) {
            for digest in session.in_flight.keys() {
                state.leave(digest, connection);
            }
        }
    }

    /// Whose connection it is, while it is open.
    pub(crate) fn key(&self, connection: ConnectionId) -> Option<PublicKey> {
        lock(&self.state).sessions.get(&connection).map(|session| session.key)
    }

    /// `connection` waits for the answer to `digest`.
    pub(crate) fn register(&self, connection: ConnectionId, digest: Digest) -> Registration {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let Some(session) = state.sessions.get_mut(&connection) else { return Registration::Full };
        if let Some(since) = session.in_flight.get_mut(&digest) {
            *since = now;
            return Registration::Registered;
        }
        let mut forgotten = Vec::new();
        if session.in_flight.len() >= IN_FLIGHT_PER_CONNECTION {
            session.in_flight.retain(|digest, since| {
                let kept = now.duration_since(*since) < FORGOTTEN_AFTER;
                if !kept {
                    forgotten.push(*digest);
                }
                kept
            });
            if forgotten.is_empty() {
                return Registration::Full;
            }
        }
        session.in_flight.insert(digest, now);
        for digest in &forgotten {
            state.leave(digest, connection);
        }
        state.routes.entry(digest).or_default().push(connection);
        Registration::Registered
    }

    /// Takes out who waits for each of `digests`, in their order.
    pub(crate) fn answered(&self, digests: impl Iterator<Item = Digest>) -> Vec<Vec<ConnectionId>> {
        let mut state = lock(&self.state);
        digests
            .map(|digest| {
                let route = state.routes.remove(&digest).unwrap_or_default();
                for connection in &route {
                    if let Some(session) = state.sessions.get_mut(connection) {
                        session.in_flight.remove(&digest);
                    }
                }
                route
            })
            .collect()
    }

    /// Requests that wait for an answer, of all connections.
    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.state).routes.len()
    }
}

#[cfg(test)]
mod tests;
