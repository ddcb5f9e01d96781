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
/// So often a second a link's key may be refused for each client whose requests it carries; who goes on floods. A client
/// that heeds the answer asks again after 300 ms, then after twice that, with what it has in flight.
const REFUSALS_PER_SECOND: u32 = 256;
/// The same request comes again only if its client has waited for longer than this.
const RESENT_AFTER: Duration = Duration::from_millis(100);
/// A client that has its share, and of whose requests none was answered or let in for so long, is let in once more: what it
/// waits for may have been dropped without an answer.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Whether the answer to a request will find its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registration {
    /// It will.
    Registered,
    /// It will, since it was registered before.
    Again,
    /// The connection has [`IN_FLIGHT_PER_CONNECTION`] requests in flight, or as many of one client as it may.
    Full,
    /// The link's key was refused too often within a second: the connection is to be read no further for a while.
    Flood,
}

struct Session {
    key: PublicKey,
    in_flight: HashMap<Digest, Waiting>,
}

struct Waiting {
    since: Instant,
    client: PublicKey,
}

/// What a client has in flight over the connections of one key.
struct Place {
    count: usize,
    /// When one was last let in or answered.
    moved: Instant,
}

/// All connections that proved one key. What is claimed over them takes nothing from those of another key.
#[derive(Default)]
struct Link {
    connections: usize,
    per_client: HashMap<PublicKey, Place>,
    /// When the second began in which refusals are counted, and how many there were.
    refusals: Option<(Instant, u32)>,
}

impl Link {
    fn refuse(&mut self, now: Instant) {
        let (began, count) = self.refusals(now);
        self.refusals = Some((began, count.saturating_add(1)));
    }

    fn refusals(&self, now: Instant) -> (Instant, u32) {
        let counted = self.refusals.filter(|(began, _)| now.duration_since(*began) < Duration::from_secs(1));
        counted.unwrap_or((now, 0))
    }

    fn floods(&self, now: Instant) -> bool {
        let clients = u32::try_from(self.per_client.len()).unwrap_or(u32::MAX).max(1);
        self.refusals(now).1 > REFUSALS_PER_SECOND.saturating_mul(clients)
    }

    fn has_share(&self, now: Instant, client: &PublicKey, share: usize) -> bool {
        let place = self.per_client.get(client);
        place.is_some_and(|place| place.count >= share && now.duration_since(place.moved) < STUCK_AFTER)
    }

    fn enter(&mut self, now: Instant, client: PublicKey) {
        let place = self.per_client.entry(client).or_insert(Place { count: 0, moved: now });
        place.count += 1;
        place.moved = now;
    }

    fn leave(&mut self, now: Instant, client: &PublicKey) {
        if let Some(place) = self.per_client.get_mut(client) {
            place.count -= 1;
            place.moved = now;
            if place.count == 0 {
                self.per_client.remove(client);
            }
        }
    }
}

#[derive(Default)]
struct State {
    sessions: HashMap<ConnectionId, Session>,
    links: HashMap<PublicKey, Link>,
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
        let mut state = lock(&self.state);
        state.sessions.insert(connection, Session { key, in_flight: HashMap::new() });
        state.links.entry(key).or_default().connections += 1;
    }

    /// The connection is gone, and with it whoever waited there.
    pub(crate) fn closed(&self, connection: ConnectionId) {
        let mut state = lock(&self.state);
        let Some(session) = state.sessions.remove(&connection) else { return };
        let now = Instant::now();
        for digest in session.in_flight.keys() {
            state.leave(digest, connection);
        }
        if let Some(link) = state.links.get_mut(&session.key) {
            for waiting in session.in_flight.values() {
                link.leave(now, &waiting.client);
            }
            link.connections -= 1;
            if link.connections == 0 {
                state.links.remove(&session.key);
            }
        }
    }

    /// Whose connection it is, while it is open.
    pub(crate) fn key(&self, connection: ConnectionId) -> Option<PublicKey> {
        lock(&self.state).sessions.get(&connection).map(|session| session.key)
    }

    /// `connection` waits for the answer to `digest`, which claims to be of `client`; at most `share` of one client may wait
    /// on all connections of one key.
    pub(crate) fn register(
        &self,
        connection: ConnectionId,
        digest: Digest,
        client: PublicKey,
        share: usize,
    ) -> Registration {
        let mut state = lock(&self.state);
        let State { sessions, links, .. } = &mut *state;
        let now = Instant::now();
        let Some(session) = sessions.get_mut(&connection) else { return Registration::Full };
        let Some(link) = links.get_mut(&session.key) else { return Registration::Full };
        if let Some(waiting) = session.in_flight.get_mut(&digest) {
            if now.duration_since(waiting.since) < RESENT_AFTER {
                link.refuse(now);
                return if link.floods(now) { Registration::Flood } else { Registration::Again };
            }
            waiting.since = now;
            return Registration::Again;
        }
        if share < usize::MAX && link.floods(now) {
            return Registration::Flood;
        }
        if link.has_share(now, &client, share) {
            link.refuse(now);
            return if link.floods(now) { Registration::Flood } else { Registration::Full };
        }
        let mut forgotten = Vec::new();
        if session.in_flight.len() >= IN_FLIGHT_PER_CONNECTION {
            let is_old = |waiting: &Waiting| now.duration_since(waiting.since) >= FORGOTTEN_AFTER;
            for (digest, waiting) in session.in_flight.extract_if(|_, waiting| is_old(waiting)) {
                link.leave(now, &waiting.client);
                forgotten.push(digest);
            }
            if forgotten.is_empty() {
                return Registration::Full;
            }
        }
        session.in_flight.insert(digest, Waiting { since: now, client });
        link.enter(now, client);
        for digest in &forgotten {
            state.leave(digest, connection);
        }
        state.routes.entry(digest).or_default().push(connection);
        Registration::Registered
    }

    /// Takes out who waits for each of `digests`, in their order. `refused` ones count as such for whoever sent them.
    pub(crate) fn answered(&self, digests: impl Iterator<Item = (Digest, bool)>) -> Vec<Vec<ConnectionId>> {
        let mut state = lock(&self.state);
        let State { sessions, links, routes } = &mut *state;
        let now = Instant::now();
        digests
            .map(|(digest, refused)| {
                let route = routes.remove(&digest).unwrap_or_default();
                for connection in &route {
                    let Some(session) = sessions.get_mut(connection) else { continue };
                    let Some(waiting) = session.in_flight.remove(&digest) else { continue };
                    if let Some(link) = links.get_mut(&session.key) {
                        link.leave(now, &waiting.client);
                        if refused {
                            link.refuse(now);
                        }
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
