//! Validity: nothing executes that no client signed, but a Rejoin that a replica signed itself.

use std::collections::BTreeSet;

use quorate_crypto::Digest;
use quorate_protocol::rejoin::rejoin_statement;
use quorate_protocol::request::Request;

use crate::sim::report::Violation;

/// The requests that clients signed.
#[derive(Default)]
pub(in crate::sim) struct Validity {
    signed: BTreeSet<Digest>,
}

impl Validity {
    /// A client signed `request`.
    pub(super) fn signed(&mut self, request: &Request) {
        self.signed.insert(request.digest());
    }

    pub(super) fn executed(&self, request: &Request) -> Result<(), Violation> {
        // That its replica signed it is part of what every replica verifies.
        if rejoin_statement(request).is_some() || self.signed.contains(&request.digest()) {
            return Ok(());
        }
        let number = request.content().number;
        Err(Violation::new("validity", format!("request {number} executes although no client signed it")))
    }
}
