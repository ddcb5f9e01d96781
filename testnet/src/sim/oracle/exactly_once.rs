//! Exactly once: a request number executes at one place of the order, and every answer that carries results is the one
//! of that place, to the byte.

use std::collections::BTreeMap;

use quorate_crypto::{Digest, PublicKey, ReplicaId, Seq};
use quorate_protocol::engine::Decided;
use quorate_protocol::execution::BatchOutcome;
use quorate_protocol::rejoin::rejoin_statement;
use quorate_protocol::reply::{Outcome, Reply};
use quorate_protocol::request::SessionId;

use crate::sim::report::Violation;

/// A place in the order: the batch, and the index in it.
pub(in crate::sim) type Place = (Seq, u32);

/// A request that executed.
pub(in crate::sim) struct Executed {
    pub(in crate::sim) reply: Reply,
    /// A replica's own Rejoin, which no client asked for.
    is_rejoin: bool,
}

/// What executed where.
#[derive(Default)]
pub(in crate::sim) struct ExactlyOnce {
    by_number: BTreeMap<(PublicKey, SessionId, u64), Place>,
    by_place: BTreeMap<Place, Executed>,
    places: BTreeMap<Digest, Place>,
}

impl ExactlyOnce {
    /// The next batch of the order executed with this outcome.
    pub(super) fn executed(&mut self, decided: &Decided, outcome: &BatchOutcome) -> Result<(), Violation> {
        for (request, (_, reply)) in decided.requests.iter().zip(&outcome.replies) {
            let now = reply.seq == decided.seq && matches!(reply.outcome, Outcome::Results(_));
            if !now {
                continue;
            }
            let content = request.content();
            let place = (reply.seq, reply.index);
            let number = (content.client, content.session, content.number);
            if let Some(first) = self.by_number.insert(number, place) {
                let what = format!("number {} executed at {first:?} and at {place:?}", content.number);
                return Err(Violation::new("exactly-once", what));
            }
            self.places.insert(reply.request, place);
            let executed = Executed { reply: reply.clone(), is_rejoin: rejoin_statement(request).is_some() };
            self.by_place.insert(place, executed);
        }
        Ok(())
    }

    /// An honest replica answers: results only from the place where the request executed.
    pub(super) fn answered(&self, replica: ReplicaId, reply: &Reply) -> Result<(), Violation> {
        let Outcome::Results(_) = reply.outcome else { return Ok(()) };
        match self.at(&reply.request) {
            Some(executed) if executed.reply == *reply => Ok(()),
            Some(executed) => Err(Violation::new(
                "exactly-once",
                format!("replica {replica} answers {reply:?} where the order gives {:?}", executed.reply),
            )),
            None => {
                let what = format!("replica {replica} answers {reply:?}, which never executed");
                Err(Violation::new("exactly-once", what))
            }
        }
    }

    /// Where a request executed, and with what.
    pub(super) fn at(&self, request: &Digest) -> Option<&Executed> {
        self.by_place.get(self.places.get(request)?)
    }

    /// Everything that executed and that clients asked for, in order.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&Place, &Executed)> {
        self.by_place.iter().filter(|(_, executed)| !executed.is_rejoin)
    }
}
