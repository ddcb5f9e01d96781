//! Looking for every acknowledged write by itself, after whatever happened.

use quorate_client::{Client, ClientError};
use quorate_kv::{KeyRange, KeyValue, Operation, Outcome, RangeRequest};
use tokio::task::JoinSet;

use super::writers::{Acknowledged, key, value};
use super::{DrillError, Tell};

/// Keys that one request reads back.
const READ_BUNDLE: usize = 64;
/// Requests that read back, under way at once.
const READING: usize = 8;
/// How often such a request is tried.
const READ_TRIES: usize = 5;
/// Sentences about wrong answers that are kept.
const EXAMPLES: usize = 5;

/// What reading back gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// Acknowledged writes that were looked for.
    pub read: u64,
    /// Those that are not there.
    pub lost: u64,
    /// Those that are there with another value or revision than acknowledged.
    pub wrong: u64,
    /// The first few of both.
    pub examples: Vec<String>,
}

/// Reads every one of `writes` back, by ordered gets that several of `clients` make at once.
///
/// # Errors
/// Those of a client; a read without an answer is tried again a few times.
pub async fn run(
    clients: &[Client],
    writes: Vec<(usize, Acknowledged)>,
    value_size: usize,
    tell: &mut Tell<'_>,
) -> Result<ReadBack, DrillError> {
    let total = writes.len();
    let mut parts = writes.chunks(READ_BUNDLE).map(<[_]>::to_vec).zip(clients.iter().cycle());
    let mut reading: JoinSet<Result<ReadBack, ClientError>> = JoinSet::new();
    let mut sum = ReadBack::default();
    loop {
        while reading.len() < READING
            && let Some((part, client)) = parts.next()
        {
            let client = client.clone();
            reading.spawn(async move { read_part(&client, &part, value_size).await });
        }
        tell(format!("reading back, {} of {total} writes", sum.read));
        match reading.join_next().await {
            None => return Ok(sum),
            Some(Ok(part)) => sum.add(part?),
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Ordered gets of some writes, in one request.
async fn read_part(
    client: &Client,
    writes: &[(usize, Acknowledged)],
    value_size: usize,
) -> Result<ReadBack, ClientError> {
    let gets: Vec<Operation> = writes
        .iter()
        .map(|(writer, write)| Operation::Range(RangeRequest::new(KeyRange::single(key(*writer, write.number)))))
        .collect();
    let mut tries = 1;
    let results = loop {
        match client.execute(&gets).await {
            Ok((_, results)) => break results,
            Err(ClientError::Unknown(_) | ClientError::ResultsForgotten(_)) if tries < READ_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    };
    let mut found = ReadBack::default();
    for ((writer, write), result) in writes.iter().zip(results) {
        match result.outcome {
            Outcome::Range(range) => found.judge(*writer, *write, range.kvs.first(), value_size),
            Outcome::Refused(error) => return Err(error.into()),
            _ => return Err(ClientError::Unreadable("the answer to another operation".to_owned())),
        }
    }
    Ok(found)
}

impl ReadBack {
    /// Judges what an ordered get found under the key of an acknowledged write.
    fn judge(&mut self, writer: usize, write: Acknowledged, found: Option<&KeyValue>, value_size: usize) {
        self.read += 1;
        let name = String::from_utf8_lossy(&key(writer, write.number)).into_owned();
        let example = match (found, write.revision) {
            (None, _) => {
                self.lost += 1;
                format!("{name} is lost, though it was acknowledged")
            }
            // The key was written once: its revision is the acknowledged one and no other.
            (Some(found), revision)
                if found.value != value(writer, write.number, value_size)
                    || revision.is_some_and(|revision| revision != found.mod_revision) =>
            {
                self.wrong += 1;
                let acknowledged = revision.map_or_else(|| "unknown".to_owned(), |revision| revision.to_string());
                format!("{name} was acknowledged at revision {acknowledged} and is at {} now", found.mod_revision)
            }
            _ => return,
        };
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    fn add(&mut self, other: ReadBack) {
        self.read += other.read;
        self.lost += other.lost;
        self.wrong += other.wrong;
        let room = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_write_must_be_there_as_acknowledged() {
        let write = Acknowledged { number: 4, revision: Some(9) };
        let there = KeyValue {
            key: key(1, 4),
            value: value(1, 4, 8),
            create_revision: 9,
            mod_revision: 9,
            version: 1,
            lease: 0,
        };
        let judged = |write, found: Option<KeyValue>| {
            let mut judged = ReadBack::default();
            judged.judge(1, write, found.as_ref(), 8);
            (judged.lost, judged.wrong, judged.examples.len())
        };
        assert_eq!(judged(write, Some(there.clone())), (0, 0, 0));
        assert_eq!(judged(Acknowledged { revision: None, ..write }, Some(there.clone())), (0, 0, 0));
        assert_eq!(judged(write, None), (1, 0, 1));
        assert_eq!(judged(write, Some(KeyValue { value: value(1, 5, 8), ..there.clone() })), (0, 1, 1));
        assert_eq!(judged(write, Some(KeyValue { mod_revision: 10, ..there.clone() })), (0, 1, 1));
        assert_eq!(judged(write, Some(KeyValue { mod_revision: 8, ..there })), (0, 1, 1));
    }
}
