//! Following the changes of a range: every revision from the first on, in order, none twice, none left out, each on the
//! word of f + 1 replicas.

use quorate_crypto::encoding::decode;
use quorate_kv::limit::MAX_RESULT_BYTES;
use quorate_kv::{EventList, KeyRange, Operation as KeyValueOperation, RangeRequest, SERVICE};
use quorate_protocol::client::{Delivery, WatchStart};
use quorate_protocol::request::Operation;
use tokio::sync::mpsc;

use crate::client::Client;
use crate::error::ClientError;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Every change of one revision in the range.
    Events(EventList),
    /// Nothing else changed in the range up to and including this revision.
    Progress(u64),
}

/// A watch. It ends when it is dropped.
pub struct Watch {
    client: Client,
    range: Operation,
    updates: mpsc::Receiver<Delivery>,
    /// Where to go on if the updates break off; none as long as nothing came.
    next: Option<u64>,
    start: WatchStart,
}

impl Client {
    /// Follows the changes of `range`, from revision `from` on, or from now.
    ///
    /// # Errors
    /// An empty or too long key; too many watches.
    pub async fn watch(&self, range: KeyRange, from: Option<u64>) -> Result<Watch, ClientError> {
        let operation = KeyValueOperation::Range(RangeRequest::new(range));
        quorate_kv::check(&operation)?;
        let range = Operation { service: SERVICE, bytes: operation.to_bytes() };
        let start = from.map_or(WatchStart::Now, WatchStart::Revision);
        let updates = self.subscribe(range.clone(), start).await?;
        Ok(Watch { client: self.clone(), range, updates, next: None, start })
    }
}

impl Watch {
    /// The next update. Waits as long as it takes.
    ///
    /// # Errors
    /// [`ClientError::Compacted`] if the history asked for is gone, [`ClientError::WatchEnded`] if f + 1 replicas refuse.
    /// The watch is over then.
    pub async fn next(&mut self) -> Result<WatchEvent, ClientError> {
        loop {
            let Some(delivery) = self.updates.recv().await else {
                let start = self.next.map_or(self.start, WatchStart::Revision);
                self.updates = self.client.subscribe(self.range.clone(), start).await?;
                continue;
            };
            match delivery {
                Delivery::Events { revision, events } => {
                    self.next = Some(revision.saturating_add(1));
                    let list: EventList = decode(&events, MAX_RESULT_BYTES)
                        .map_err(|error| ClientError::Unreadable(error.to_string()))?;
                    return Ok(WatchEvent::Events(list));
                }
                Delivery::Progress { revision } => {
                    self.next = Some(revision.saturating_add(1));
                    return Ok(WatchEvent::Progress(revision));
                }
                Delivery::Compacted { revision } => return Err(ClientError::Compacted(revision)),
                Delivery::Ended { reason } => return Err(ClientError::WatchEnded(reason)),
            }
        }
    }
}
