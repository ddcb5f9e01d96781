//! A Rejoin as a request: so it is named, fetched, recorded, relayed and ordered like every other.
//!
//! No client signs it. It has one form only, which follows from the statement: the replica's own key as client, no session,
//! the incarnation as number, valid for ever, the statement as its one operation, and the statement's signature as its own.
//! What a client signs around a Rejoin is a request of that client, and execution refuses it.

use quorate_crypto::{PublicKey, Signed, StatementBody};

use crate::execution::{CONFIGURATION_SERVICE, ConfigurationOperation};
use crate::request::{Operation, Request, RequestContent, SessionId};

/// The request that carries `statement`, a Rejoin by the replica whose consensus key is `key`.
pub fn rejoin_request(statement: &Signed, key: PublicKey) -> Request {
    Request::from_parts(content(statement, key), statement.signature)
}

fn content(statement: &Signed, client: PublicKey) -> RequestContent {
    RequestContent {
        client,
        session: SessionId([0; 16]),
        // Rejoins of one incarnation share a number: once one is ordered, the others are no longer pending.
        number: u64::from(statement.statement.incarnation.0),
        acknowledged_below: 1,
        valid_until: u64::MAX,
        operations: vec![Operation {
            service: CONFIGURATION_SERVICE,
            bytes: ConfigurationOperation::Rejoin(*statement).to_bytes(),
        }],
    }
}

/// The statement of a request that has exactly the form of [`rejoin_request`]; `None` for every other. Whether the statement
/// is the key's owner's, and verifies, is checked where requests are verified.
pub fn rejoin_statement(request: &Request) -> Option<Signed> {
    let [operation] = request.content().operations.as_slice() else { return None };
    if operation.service != CONFIGURATION_SERVICE {
        return None;
    }
    let ConfigurationOperation::Rejoin(statement) = ConfigurationOperation::from_bytes(&operation.bytes)? else {
        return None;
    };
    let is_rejoin = matches!(statement.body(), StatementBody::Rejoin { .. });
    let has_its_form = *request.signature() == statement.signature
        && *request.content() == content(&statement, request.content().client);
    (is_rejoin && has_its_form).then_some(statement)
}
