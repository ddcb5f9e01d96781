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
/// So often a link's key may be refused at once for each client whose requests it carries; who goes on floods. A client
/// that heeds the answer asks again after 300 ms, then after twice that, with what it has in flight.
const REFUSALS_MAX: f64 = 256.0;
/// So many refusals a second are forgotten: who goes on for long is not let off with as many every second.
const REFUSALS_FORGOTTEN: f64 = 64.0;
/// The same request comes again only if its client has waited for longer than this.
const RESENT_AFTER: Duration = Duration::from_millis(100);
/// A client that has its share, and of whose requests none was answered or let in for so long, is let in once more: what it
/// waits for may have been dropped without an answer.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Most refusals that are remembered, for each client: whoever stops is let off within four seconds.
const REFUSALS_REMEMBERED: f64 = 2.0 * REFUSALS_MAX;
/// How long the most clients that had requests in flight at once are remembered: a batch may answer nearly all of them, and
/// what was refused to many is not to be held against the few that are left.
const CROWD_REMEMBERED: Duration = Duration::from_secs(4);
/// Keys without a connection whose refusals are remembered: to connect anew is no way round them.
const REMEMBERED_MAX: usize = 1024;

/// Whether the answer to a request will find its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registration {
    /// It will.
    Registered,
    /// It will, since it was registered before.
    Again,
    /// The connection has [`IN_FLIGHT_PER_CONNECTION`] requests in flight, or as many of one client as it may.
    Full,
    /// The link's key was refused too often lately: the connection is to be read no further for a while.
    Flood,
}

struct Session {
    key: PublicKey,
    in_flight: HashMap<Digest, Waiting>,
    /// It broke the rules: what it sent before it learns of that is not looked at.
    ended: bool,
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
    /// When the last refusal was, and how many were not forgotten by then.
    refusals: Option<(Instant, f64)>,
    /// The most clients that had something in flight at once of late, and when.
    most: Option<(Instant, usize)>,
}

impl Link {
    fn refuse(&mut self, now: Instant) {
        self.refusals = Some((now, self.refusals(now) + 1.0));
    }

    /// Refusals that are not forgotten.
    fn refusals(&self, now: Instant) -> f64 {
        self.refusals.map_or(0.0, |(last, count)| {
            let forgotten = REFUSALS_FORGOTTEN * now.duration_since(last).as_secs_f64() * self.clients(now);
            (count.min(REFUSALS_REMEMBERED * self.clients(now)) - forgotten).max(0.0)
        })
    }

    fn clients(&self, now: Instant) -> f64 {
        let most = self.most.filter(|(at, _)| now.duration_since(*at) < CROWD_REMEMBERED);
        most.map_or(0, |(_, most)| most).max(self.per_client.len()).max(1) as f64
    }

    /// Whether what a key did must not be forgotten with its last connection.
    fn is_of_use(&self, now: Instant) -> bool {
        self.connections > 0 || self.refusals(now) > 0.0
    }

    fn floods(&self, now: Instant) -> bool {
        self.refusals(now) > REFUSALS_MAX * self.clients(now)
    }

    fn has_share(&self, now: Instant, client: &PublicKey, share: usize) -> bool {
        let place = self.per_client.get(client);
        place.is_some_and(|place| place.count >= share && now.duration_since(place.moved) < STUCK_AFTER)
    }

    fn enter(&mut self, now: Instant, client: PublicKey) {
        let place = self.per_client.entry(client).or_insert(Place { count: 0, moved: now });
        place.count += 1;
        place.moved = now;
        if self.per_client.len() as f64 >= self.clients(now) {
            self.most = Some((now, self.per_client.len()));
        }
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

/// Connections and routes; bounded by the connections the port admits times [`IN_FLIGHT_PER_CONNECTION`], and by
/// [`REMEMBERED_MAX`].
#[derive(Default)]
pub(crate) struct Sessions {
    state: Mutex<State>,
}

impl Sessions {
    /// A client has connected and proven `key`.
    pub(crate) fn connected(&self, connection: ConnectionId, key: PublicKey) {
        let mut state = lock(&self.state);
        state.sessions.insert(connection, Session { key, in_flight: HashMap::new(), ended: false });
        state.links.entry(key).or_default().connections += 1;
    }

    /// Nothing that the connection sent is looked at any more. Whether that is new, as it is of one that hung up before what
    /// it sent was judged.
    pub(crate) fn end(&self, connection: ConnectionId) -> bool {
        let mut state = lock(&self.state);
        state.sessions.get_mut(&connection).is_none_or(|session| !std::mem::replace(&mut session.ended, true))
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
            if !link.is_of_use(now) {
                state.links.remove(&session.key);
            }
        }
        // Never more than so many beside those that are connected, whoever comes and goes.
        if state.links.len() > state.sessions.len() + REMEMBERED_MAX {
            state.links.retain(|_, link| link.is_of_use(now));
        }
        if state.links.len() > state.sessions.len() + REMEMBERED_MAX {
            state.links.retain(|_, link| link.connections > 0);
        }
    }

    /// Whose connection it is, while it is open and keeps the rules.
    pub(crate) fn key(&self, connection: ConnectionId) -> Option<PublicKey> {
        lock(&self.state).sessions.get(&connection).filter(|session| !session.ended).map(|session| session.key)
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
