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
/// So often a second one connection may be told that a client's share is used up; who goes on asking floods. A client that
/// heeds the answer asks again after 100 ms at the earliest, with what it has in flight.
const REFUSALS_PER_SECOND: u32 = 128;

/// Whether the answer to a request will find its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registration {
    /// It will.
    Registered,
    /// The connection has [`IN_FLIGHT_PER_CONNECTION`] requests in flight, or as many of one client as it may.
    Full,
    /// As `Full`, and it was told so too often within a second: it is to be read no further for a while.
    Flood,
}

struct Session {
    key: PublicKey,
    in_flight: HashMap<Digest, Waiting>,
    /// How many of them claim to be whose. What one connection claims takes nothing from another.
    per_client: HashMap<PublicKey, usize>,
    /// When the second began in which refusals are counted, and how many there were.
    refusals: Option<(Instant, u32)>,
}

struct Waiting {
    since: Instant,
    client: PublicKey,
}

impl Session {
    fn remove(&mut self, digest: &Digest) {
        if let Some(waiting) = self.in_flight.remove(digest) {
            self.no_longer(&waiting.client);
        }
    }

    /// One more of a client that has its share.
    fn refuse(&mut self, now: Instant) -> Registration {
        let counted = self.refusals.filter(|(began, _)| now.duration_since(*began) < Duration::from_secs(1));
        let (began, count) = counted.unwrap_or((now, 0));
        self.refusals = Some((began, count.saturating_add(1)));
        if count < REFUSALS_PER_SECOND { Registration::Full } else { Registration::Flood }
    }

    fn no_longer(&mut self, client: &PublicKey) {
        if let Some(count) = self.per_client.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                self.per_client.remove(client);
            }
        }
    }
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
        lock(&self.state)
            .sessions
            .insert(connection, Session { key, in_flight: HashMap::new(), per_client: HashMap::new(), refusals: None });
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

    /// `connection` waits for the answer to `digest`, which claims to be of `client`; at most `share` of one client may wait
    /// there.
    pub(crate) fn register(
        &self,
        connection: ConnectionId,
        digest: Digest,
        client: PublicKey,
        share: usize,
    ) -> Registration {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let Some(session) = state.sessions.get_mut(&connection) else { return Registration::Full };
        if let Some(waiting) = session.in_flight.get_mut(&digest) {
            waiting.since = now;
            return Registration::Registered;
        }
        let is_full = |session: &Session| {
            session.in_flight.len() >= IN_FLIGHT_PER_CONNECTION
                || session.per_client.get(&client).is_some_and(|count| *count >= share)
        };
        let mut forgotten = Vec::new();
        if is_full(session) {
            let is_old = |waiting: &Waiting| now.duration_since(waiting.since) >= FORGOTTEN_AFTER;
            let old = session.in_flight.extract_if(|_, waiting| is_old(waiting));
            forgotten = old.map(|(digest, waiting)| (digest, waiting.client)).collect();
            for (_, client) in &forgotten {
                session.no_longer(client);
            }
        }
        let registration = if is_full(session) {
            session.refuse(now)
        } else {
            session.in_flight.insert(digest, Waiting { since: now, client });
            *session.per_client.entry(client).or_default() += 1;
            Registration::Registered
        };
        for (digest, _) in &forgotten {
            state.leave(digest, connection);
        }
        if registration == Registration::Registered {
            state.routes.entry(digest).or_default().push(connection);
        }
        registration
    }

    /// Takes out who waits for each of `digests`, in their order.
    pub(crate) fn answered(&self, digests: impl Iterator<Item = Digest>) -> Vec<Vec<ConnectionId>> {
        let mut state = lock(&self.state);
        digests
            .map(|digest| {
                let route = state.routes.remove(&digest).unwrap_or_default();
                for connection in &route {
                    if let Some(session) = state.sessions.get_mut(connection) {
                        session.remove(&digest);
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
