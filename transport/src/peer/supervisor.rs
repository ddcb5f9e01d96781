//! Keeps one pair of replicas linked: dials, takes accepted links, picks the one in use, notices its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use quorate_crypto::ReplicaId;

use super::arbitration::{Choice, Origin, arbitrate};
use super::link::Link;
use super::{Peer, PeerEvent, Shared};
use crate::admission::TokenBucket;
use crate::error::{CloseCode, Dialled, LinkError, explain};
use crate::limits::{
    DIAL_TIMEOUT, FIRST_BACKOFF, LINKS_PER_SECOND_PER_PEER, LONGEST_BACKOFF, SPARE_LINGER, STABLE_AFTER,
};
use crate::mutex::lock;
use crate::stream::{Established, HeaderError, establish};

/// What a supervisor is told.
pub(crate) enum Notice {
    /// The peer dialled us and has proven its key.
    Accepted(Established),
    /// Our own attempt has ended.
    Dialled(Result<Established, LinkError>),
    /// A link has ended.
    Closed { number: u64, reason: LinkError },
    /// The peer is no member any more.
    Removed,
}

pub(super) struct Supervisor {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    notices: mpsc::Receiver<Notice>,
    active: Option<(Link, Instant)>,
    /// The second link, and until when it is kept.
    spare: Option<(Link, Instant)>,
    dial: Option<JoinHandle<()>>,
    next_dial: Instant,
    backoff: Duration,
    links: u64,
    rate: TokenBucket,
    /// The last failure that was logged: the same one again is no news.
    failure: Option<LinkError>,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>, peer: Arc<Peer>, notices: mpsc::Receiver<Notice>) -> Supervisor {
        let now = Instant::now();
        Supervisor {
            shared,
            peer,
            notices,
            active: None,
            spare: None,
            dial: None,
            next_dial: now,
            backoff: FIRST_BACKOFF,
            links: 0,
            rate: TokenBucket::new(LINKS_PER_SECOND_PER_PEER, LINKS_PER_SECOND_PER_PEER, now.into_std()),
            failure: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut shut_down = self.shared.shut_down.subscribe();
        loop {
            let wants_dial = self.active.is_none() && self.dial.is_none();
            let spare_until = self.spare.as_ref().map(|(_, until)| *until);
            tokio::select! {
                () = asked(&mut shut_down) => break,
                notice = self.notices.recv() => match notice {
                    None | Some(Notice::Removed) => break,
                    Some(notice) => self.take(notice),
                },
                () = sleep_until(self.next_dial), if wants_dial => self.start_dial(),
                () = sleep_until(spare_until.unwrap_or(self.next_dial)), if spare_until.is_some() => {
                    if let Some((link, _)) = self.spare.take() {
                        CloseCode::Replaced.close(&link.connection);
                    }
                }
            }
        }
        self.end();
    }

    fn end(&mut self) {
        self.stop_dial();
        let code = if *self.shared.shut_down.borrow() { CloseCode::ShutDown } else { CloseCode::KeyRemoved };
        for (link, _) in self.spare.take().into_iter().chain(self.active.take()) {
            code.close(&link.connection);
        }
        self.leave_link();
    }

    fn take(&mut self, notice: Notice) {
        match notice {
            Notice::Accepted(established) => {
                if self.rate.take(Instant::now().into_std()) {
                    self.install(established, self.peer.address.id);
                } else {
                    CloseCode::TooManyConnections.close(&established.connection);
                }
            }
            Notice::Dialled(Ok(established)) => {
                self.dial = None;
                self.install(established, self.shared.my_id);
            }
            Notice::Dialled(Err(error)) => {
                self.dial = None;
                self.report(error);
                self.back_off();
            }
            Notice::Closed { number, reason } => self.closed(number, &reason),
            Notice::Removed => {}
        }
    }

    /// Takes an authenticated link into use, or keeps it as the spare.
    fn install(&mut self, established: Established, dialler: ReplicaId) {
        let new = Origin { instance: established.instance, dialler };
        let choice = match &self.active {
            // A link whose end has not been reported yet is not worth keeping.
            Some((link, _)) if link.connection.close_reason().is_none() => Some(arbitrate(link.origin, new)),
            Some(_) => Some(Choice::ReplaceDead),
            None => None,
        };
        self.links += 1;
        let link = Link::start(&self.shared, &self.peer, established, dialler, self.links);
        match choice {
            None => self.enter_link(link),
            Some(Choice::ReplaceDead) => {
                if let Some((old, _)) = self.active.take() {
                    self.retire(&old);
                }
                if let Some((old, _)) = self.spare.take() {
                    CloseCode::Replaced.close(&old.connection);
                }
                self.leave_link();
                self.enter_link(link);
            }
            Some(Choice::ReplaceLive) => {
                link.activate();
                *lock(&self.peer.current) = Some(link.connection.clone());
                if let Some((old, _)) = self.active.replace((link, Instant::now())) {
                    old.deactivate();
                    lock(&self.peer.past).absorb(&old.connection);
                    self.keep_spare(old);
                }
            }
            Some(Choice::Spare) => self.keep_spare(link),
        }
        // A dial of ours that is under way is let run, even if its link can only become the spare: the peer may have
        // accepted it already and be sending on it, and what it sends would be lost without a word.
    }

    fn keep_spare(&mut self, link: Link) {
        if let Some((old, _)) = self.spare.replace((link, Instant::now() + SPARE_LINGER)) {
            CloseCode::Replaced.close(&old.connection);
        }
    }

    fn closed(&mut self, number: u64, reason: &LinkError) {
        if self.spare.as_ref().is_some_and(|(link, _)| link.number == number) {
            self.spare = None;
            return;
        }
        let Some((link, since)) = self.active.take_if(|(link, _)| link.number == number) else { return };
        let stable = since.elapsed() >= STABLE_AFTER;
        tracing::info!(peer = %self.peer.address.id, %reason, "a link went down");
        self.retire(&link);
        self.leave_link();
        if let Some((spare, _)) = self.spare.take_if(|(spare, _)| spare.connection.close_reason().is_none()) {
            self.enter_link(spare);
        } else if stable {
            self.backoff = FIRST_BACKOFF;
            self.next_dial = Instant::now();
        } else {
            self.back_off();
        }
    }

    fn enter_link(&mut self, link: Link) {
        self.failure = None;
        *lock(&self.peer.current) = Some(link.connection.clone());
        self.peer.up.store(true, Ordering::Relaxed);
        for queue in &self.peer.outbound {
            queue.set_linked(true);
        }
        link.activate();
        let id = self.peer.address.id;
        tracing::info!(peer = %id, dialler = %link.origin.dialler, "a link is up");
        self.active = Some((link, Instant::now()));
        self.shared.metrics.links_up.increment();
        self.shared.events.announce(u64::from(id.0), PeerEvent::Up(id), |_| false);
    }

    fn leave_link(&mut self) {
        if !self.peer.up.swap(false, Ordering::Relaxed) {
            return;
        }
        *lock(&self.peer.current) = None;
        for (class, queue) in self.peer.outbound.iter().enumerate() {
            let dropped = queue.set_linked(false);
            self.shared.metrics.frames_displaced[class].add(dropped as u64);
        }
        self.shared.metrics.links_down.increment();
        // An Up or Down that was not delivered yet says nothing any more.
        let id = self.peer.address.id;
        self.shared.events.announce(u64::from(id.0), PeerEvent::Down(id), |_| true);
    }

    /// Ends a link that was in use.
    fn retire(&self, link: &Link) {
        lock(&self.peer.past).absorb(&link.connection);
        CloseCode::Replaced.close(&link.connection);
    }

    fn start_dial(&mut self) {
        self.shared.metrics.dials.increment();
        let (shared, peer) = (Arc::clone(&self.shared), Arc::clone(&self.peer));
        self.dial = Some(tokio::spawn(async move {
            let outcome = timeout(DIAL_TIMEOUT, dial(&shared, &peer))
                .await
                .unwrap_or(Err(LinkError::NobodyListens { address: peer.address.address }));
            // Fails only when the supervisor has ended.
            let _ = peer.mailbox.send(Notice::Dialled(outcome)).await;
        }));
    }

    fn stop_dial(&mut self) {
        if let Some(dial) = self.dial.take() {
            dial.abort();
        }
    }

    fn back_off(&mut self) {
        self.next_dial = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }

    fn report(&mut self, error: LinkError) {
        let peer = self.peer.address.id;
        if self.failure.as_ref() == Some(&error) {
            tracing::debug!(%peer, %error, "still no link");
        } else if matches!(error, LinkError::NobodyListens { .. }) {
            tracing::info!(%peer, %error, "no link");
        } else {
            tracing::warn!(%peer, %error, "no link");
        }
        self.failure = Some(error);
    }
}

async fn asked(shut_down: &mut watch::Receiver<bool>) {
    // An error means that the endpoint is gone, which is the same.
    let _ = shut_down.wait_for(|shut_down| *shut_down).await;
}

async fn dial(shared: &Shared, peer: &Peer) -> Result<Established, LinkError> {
    let (address, id) = (peer.address.address, peer.address.id);
    let connecting = shared
        .endpoint
        .connect_with(peer.dial_config.clone(), address, "replica")
        .map_err(|error| LinkError::Failed(error.to_string()))?;
    let dialled = Dialled { address, id, handshake: true };
    let connection = connecting.await.map_err(|error| explain(&error, Some(dialled)))?;
    establish(connection, shared.instance, DIAL_TIMEOUT).await.map_err(|error| match error {
        HeaderError::Connection(error) => explain(&error, Some(Dialled { handshake: false, ..dialled })),
        other => LinkError::Violation(other.to_string()),
    })
}
