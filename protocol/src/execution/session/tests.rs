use super::*;
use crate::execution::tests::hex;

impl SessionTable {
    /// Sessions, numbers and cached bytes of one key.
    pub(in super::super) fn share(&self, client: &PublicKey) -> (u64, u64, u64) {
        self.shares.get(client).map_or((0, 0, 0), |share| (share.ages.len() as u64, share.numbers, share.cached))
    }

    /// What follows from the table is what is counted beside it.
    pub(in super::super) fn assert_counted(&self) {
        let restored = SessionTable::restore(&self.table).expect("restores");
        assert_eq!(restored.shares, self.shares);
    }
}

const PARAMETERS: ExecutionParameters = ExecutionParameters {
    request_lifetime_max: 100,
    sessions_per_client: 2,
    session_courtesy: 10,
    reply_cache_bytes: 1000,
};

fn content(session: u8, number: u64, acknowledged_below: u64, valid_until: u64) -> RequestContent {
    RequestContent {
        client: PublicKey([3; 32]),
        session: SessionId([session; 16]),
        number,
        acknowledged_below,
        valid_until,
        operations: vec![],
    }
}

fn record(table: &mut SessionTable, content: &RequestContent, results: Option<Vec<Vec<u8>>>) {
    let known = table.find(&content.client, content.session);
    let record = NumberRecord { request: Digest([9; 32]), seq: Seq(1), index: 2, time: 3, revision: 4, results };
    let returned = table.record(content, known, record.clone(), &PARAMETERS, 0);
    assert_eq!(returned, record.results);
    table.assert_counted();
}

#[test]
fn entries_are_pinned() {
    let mut table = SessionTable::default();
    record(&mut table, &content(5, 7, 2, 50), Some(vec![vec![0xaa, 0xbb]]));
    record(&mut table, &content(5, 8, 2, 40), None);
    let entries: Vec<(String, String)> = table.table.iter().map(|(key, value)| (hex(&key), hex(value))).collect();
    let (client, session) = ("03".repeat(32), "05".repeat(16));
    let placed = format!("{}0000000000000001000000020000000000000003{}", "09".repeat(32), "0000000000000004");
    assert_eq!(
        entries,
        [
            (
                format!("{client}{session}"),
                "0000000000000002000000000000003200000000000000020000000000000012".to_owned()
            ),
            (format!("{client}{session}0000000000000007"), format!("{placed}0100000000000000010000000000000002aabb")),
            (format!("{client}{session}0000000000000008"), format!("{placed}00")),
        ]
    );
    table.drop_session(&PublicKey([3; 32]), SessionId([5; 16]));
    let entries: Vec<(String, String)> = table.table.iter().map(|(key, value)| (hex(&key), hex(value))).collect();
    assert_eq!(entries, [(client, "0000000000000032".to_owned())]);
    assert!(table.shares.is_empty());
}

#[test]
fn acknowledging_forgets_near_and_far_and_only_below() {
    for step in [1, 3, 4, 5, 100] {
        let mut table = SessionTable::default();
        for number in 1..=200 {
            record(&mut table, &content(1, number, 1, 50), Some(vec![]));
        }
        record(&mut table, &content(2, 1, 1, 50), None);
        record(&mut table, &content(1, 201, 1 + step, 50), None);
        let session = table.find(&PublicKey([3; 32]), SessionId([1; 16])).expect("session");
        assert_eq!((session.low, session.numbers), (1 + step, 201 - step));
        assert!(table.executed(&content(1, step, 0, 0)).is_none());
        assert!(table.executed(&content(1, step + 1, 0, 0)).is_some());
        // An acknowledgement that comes late changes nothing.
        record(&mut table, &content(1, 202, step, 50), None);
        assert_eq!(table.find(&PublicKey([3; 32]), SessionId([1; 16])).expect("session").low, 1 + step);
    }
}

#[test]
fn the_last_number_of_all_goes_with_its_session() {
    let mut table = SessionTable::default();
    record(&mut table, &content(1, u64::MAX - 1, u64::MAX - 1, 50), None);
    record(&mut table, &content(1, u64::MAX, u64::MAX - 1, 50), None);
    assert_eq!(table.drop_session(&PublicKey([3; 32]), SessionId([1; 16])), 2);
    assert_eq!(table.table.len(), 1);
}

#[test]
fn the_share_drops_the_oldest_other_session_past_its_last_validity() {
    let mut table = SessionTable::default();
    record(&mut table, &content(1, 1, 1, 50), None);
    record(&mut table, &content(2, 1, 1, 60), None);
    // Used again, the first is the younger one now.
    record(&mut table, &content(1, 2, 1, 70), None);
    let new = content(3, 1, 1, 100);
    assert!(!table.has_room(&new, true, &PARAMETERS, 60));
    assert!(table.has_room(&new, true, &PARAMETERS, 61));
    assert!(table.has_room(&content(1, 3, 1, 100), false, &PARAMETERS, 0), "a known session needs no place");
    let other = RequestContent { client: PublicKey([4; 32]), ..new.clone() };
    assert!(table.has_room(&other, true, &PARAMETERS, 0));
    let fresh = NumberRecord { request: Digest([9; 32]), seq: Seq(1), index: 2, time: 3, revision: 4, results: None };
    table.record(&new, None, fresh, &PARAMETERS, 61);
    table.assert_counted();
    assert!(table.find(&new.client, SessionId([1; 16])).is_some());
    assert!(table.find(&new.client, SessionId([2; 16])).is_none());
    assert!(table.has_forgotten(&new.client, 60) && !table.has_forgotten(&new.client, 61));
}

#[test]
fn a_table_that_contradicts_itself_is_refused() {
    let mut table = SessionTable::default();
    record(&mut table, &content(1, 5, 3, 50), Some(vec![vec![1]]));
    let client = PublicKey([3; 32]);
    let good = table.find(&client, SessionId([1; 16])).expect("session");
    let wrong = [
        Session { low: 6, ..good },
        Session { numbers: 0, ..good },
        Session { numbers: 2, ..good },
        Session { cached: 0, ..good },
    ];
    for session in wrong {
        let mut damaged = table.table.clone();
        damaged.insert(&session_key(&client, SessionId([1; 16])), encode(&session));
        assert!(SessionTable::restore(&damaged).is_err());
    }
    assert!(SessionTable::restore(&table.table).is_ok());
}

#[test]
fn the_cache_is_capped_for_a_request_a_session_and_a_key() {
    let parameters = ExecutionParameters { sessions_per_client: 100, reply_cache_bytes: 3 << 20, ..PARAMETERS };
    let mut table = SessionTable::default();
    let mut is_cached = |session, number, bytes: usize| {
        let content = content(session, number, 1, 50);
        let results = Some(vec![vec![0; bytes]]);
        let record = NumberRecord { request: Digest([9; 32]), seq: Seq(1), index: 2, time: 3, revision: 4, results };
        let known = table.find(&content.client, content.session);
        table.record(&content, known, record, &parameters, 0);
        table.assert_counted();
        table.executed(&content).expect("recorded").results.is_some()
    };
    // A list and its one item each have a length of 8 bytes.
    let whole = REQUEST_CACHE_BYTES_MAX as usize - 16;
    assert!(!is_cached(1, 1, whole + 1));
    assert!(is_cached(1, 2, whole));
    assert!(is_cached(1, 3, whole));
    assert!(is_cached(1, 4, whole));
    assert!(!is_cached(1, 5, 0), "the session has its 3 MiB");
    assert!(is_cached(2, 1, whole - 1000));
    assert!(is_cached(2, 2, 1000 - 16));
    assert!(!is_cached(2, 3, 0), "the key has its 4 MiB");
    let other = RequestContent { client: PublicKey([4; 32]), ..content(1, 1, 1, 50) };
    let results = Some(vec![vec![1]]);
    let record = NumberRecord { request: Digest([9; 32]), seq: Seq(1), index: 2, time: 3, revision: 4, results };
    table.record(&other, None, record, &parameters, 0);
    assert!(table.executed(&other).expect("recorded").results.is_some(), "another key has its own");
}
