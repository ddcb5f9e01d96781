use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use quorate_crypto::{ClusterId, Incarnation, ReplicaId, SecretKey, Signer as _, View};
use quorate_kv::{
    Compare, CompareTarget, KeyRange, Operation, Parameters, PutRequest, RangeRequest, Relation, TxnRequest,
};
use quorate_protocol::client::message::WatchUpdate;
use quorate_protocol::engine::EngineStatus;
use quorate_protocol::execution::Service as _;
use quorate_protocol::request;
use quorate_transport::{
    ClientEndpoint, ClientEndpointConfig, ClientEvent, ClientEvents, ClientLimits, PeerAddress, ReplicaEvents,
    ReplicaLinks, ReplicaLinksConfig, TransportKey,
};

use super::turns::UNITS_AT_A_TIME;
use super::*;
use crate::process::inbox::lock;
use crate::process::view::Standing;

const CLUSTER: ClusterId = ClusterId(Digest([7; 32]));
const REPLICA: ReplicaId = ReplicaId(0);
/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

/// Keeps what would be sent.
struct Told(Arc<Mutex<Vec<(PublicKey, ReplicaMessage)>>>);

impl ClientFace for Told {
    fn outgoing(&mut self, client: PublicKey, message: ReplicaMessage) -> Vec<ReplicaMessage> {
        lock(&self.0).push((client, message));
        Vec::new()
    }
}

/// The service, stepped by hand, behind a port that clients connect to.
struct Port {
    service: Service,
    serving: Serving,
    events: ClientEvents,
    told: Arc<Mutex<Vec<(PublicKey, ReplicaMessage)>>>,
    address: PeerAddress,
}

fn standing() -> Standing {
    let status = EngineStatus {
        view: View(0),
        entered: true,
        primary: REPLICA,
        stable: Seq(0),
        stable_digest: Digest([0; 32]),
        decided: Seq(0),
        executed: Seq(0),
        pending: 0,
        unproposed: 0,
        view_changes: 0,
        leaders_take_turns: false,
        crowd: None,
        departure: None,
        transferring: false,
        incarnation: Incarnation(0),
        rejoining: false,
        without_log: Vec::new(),
        too_many_without_log: false,
    };
    let last_turn = Instant::now();
    Standing { status, is_primary: true, revision: 0, time: 0, last_turn, syncs: 0, frame_bytes: 0, log_bytes: 0 }
}

impl Port {
    fn start() -> Port {
        let (clients, events) = ClientEndpoint::start(ClientEndpointConfig {
            key: TransportKey::from_secret(secret(200)),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cluster: CLUSTER,
            admit: Arc::new(|_| true),
            limits: ClientLimits::default(),
        })
        .unwrap();
        let told = Arc::default();
        let address = PeerAddress { id: REPLICA, key: secret(200).public_key(), address: clients.local_address() };
        let service = Service {
            inbox: Arc::new(Inbox::new()),
            core: Arc::new(Inbox::new()),
            sessions: Arc::default(),
            view: Arc::new(CoreView::new(REPLICA, standing())),
            looking: Arc::default(),
            outgoing: Outgoing { clients, face: Some(Box::new(Told(Arc::clone(&told)))) },
            metrics: Arc::default(),
        };
        Port { service, serving: Serving::default(), events, told, address }
    }

    /// A client that has connected, and whose `questions` the service has taken.
    async fn client(&mut self, number: u8, questions: &[ClientMessage]) -> (ReplicaLinks, ReplicaEvents) {
        let client = ReplicaLinks::start(ReplicaLinksConfig {
            key: TransportKey::from_secret(secret(number)),
            replicas: vec![self.address],
            cluster: CLUSTER,
            limits: ClientLimits::default(),
        })
        .unwrap();
        for question in questions {
            client.0.send(REPLICA, Bytes::from(encode(question))).unwrap();
        }
        for _ in questions {
            self.take_question().await;
        }
        client
    }

    /// Takes the next question that a client has sent, or the end of a connection.
    async fn take_question(&mut self) {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap();
            let input = match event {
                ClientEvent::Connected { connection, key, .. } => {
                    self.service.sessions.connected(connection, key);
                    continue;
                }
                ClientEvent::Frame { connection, frame } => {
                    let key = self.service.sessions.key(connection).unwrap();
                    let question = quorate_crypto::encoding::decode(&frame, 2 << 20).unwrap();
                    ServiceInput::Asked(Asked { connection, key, question, _permit: frame.into_parts().1 })
                }
                ClientEvent::Closed { connection, .. } => ServiceInput::Closed(connection),
            };
            return self.service.take(input, &mut self.serving);
        }
    }

    fn look(&mut self, state: &KeyValue) {
        let look = Some(Look { state: state.clone(), revision: state.revision() });
        self.service.take(ServiceInput::Turn(TurnReport { look, ..TurnReport::default() }), &mut self.serving);
    }

    /// Serves once. Returns when to come back, and whom something was sent to.
    fn serve(&mut self, now: Instant) -> (Option<Instant>, Vec<(PublicKey, ReplicaMessage)>) {
        let wake = self.service.serve(&mut self.serving, now);
        (wake, std::mem::take(&mut *lock(&self.told)))
    }
}

fn state(keys: usize) -> KeyValue {
    let mut state = KeyValue::new(Parameters::default());
    for number in 0..keys {
        let put = PutRequest::new(format!("key{number}"), "value");
        state.execute(&Operation::Put(put).to_bytes(), 1, &mut 0);
    }
    state
}

fn wrap(operation: &Operation) -> request::Operation {
    request::Operation { service: quorate_kv::SERVICE, bytes: operation.to_bytes() }
}

fn count_all() -> request::Operation {
    wrap(&Operation::Range(RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::all()) }))
}

fn read(id: u64, operation: request::Operation, revision: Option<u64>) -> ClientMessage {
    ClientMessage::Read { id, operation, revision }
}

fn of(told: &[(PublicKey, ReplicaMessage)], number: u8) -> usize {
    told.iter().filter(|(key, _)| *key == secret(number).public_key()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_one_key_do_not_delay_anothers_reply() {
    const KEYS: usize = 2048;
    let mut port = Port::start();
    let many: Vec<ClientMessage> =
        (0..reads::READS_PER_CONNECTION as u64).map(|id| read(id, count_all(), None)).collect();
    let _first = port.client(1, &many).await;
    let _second = port.client(1, &many).await;
    let _other = port.client(2, &[read(0, count_all(), None)]).await;
    port.look(&state(KEYS));

    let now = Instant::now();
    let (mut wake, told) = port.serve(now);
    assert_eq!(of(&told, 2), 1, "it is not behind the other key's reads");
    let at_a_time = UNITS_AT_A_TIME as usize / KEYS;
    assert!(told.len() <= at_a_time, "{} reads at a time, of {KEYS} keys each", told.len());
    let mut answered = told.len();
    while let Some(moment) = wake {
        assert!(moment <= now, "the rest does not wait");
        let (next, told) = port.serve(now);
        assert!(told.len() <= at_a_time);
        answered += told.len();
        wake = next;
    }
    assert_eq!(answered, 2 * many.len() + 1, "every read is answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_of_one_key_do_not_delay_anothers_events() {
    let mut port = Port::start();
    let range = wrap(&Operation::Range(RangeRequest::new(KeyRange::all())));
    let watch = |id| ClientMessage::Watch { id, range: range.clone(), from_revision: 2 };
    let many: Vec<ClientMessage> = (0..watches::WATCHES_PER_CONNECTION as u64).map(watch).collect();
    let _first = port.client(1, &many).await;
    let _other = port.client(2, &many[..1]).await;
    let state = state(500);
    port.look(&state);

    let now = Instant::now();
    let events = |told: &[(PublicKey, ReplicaMessage)]| {
        told.iter()
            .all(|(_, message)| matches!(message, ReplicaMessage::Watch { update: WatchUpdate::Events { .. }, .. }))
    };
    let (mut wake, mut all) = port.serve(now);
    assert_eq!(of(&all, 2), 500, "it is not behind the other key's watches");
    assert!(all.len() < 20_000, "{} events at a time", all.len());
    while wake.is_some_and(|wake| wake <= now) {
        let (next, told) = port.serve(now);
        assert!(told.len() < 20_000);
        all.extend(told);
        wake = next;
    }
    assert!(events(&all));
    assert_eq!(all.len(), 500 * (many.len() + 1), "every watch is served");
    assert_eq!(wake, None, "nothing more until there is a newer look");
    port.look(&state);
    assert!(port.serve(now).1.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_read_keeps_its_permit() {
    let mut port = Port::start();
    let compare = Compare {
        range: KeyRange::single("key"),
        relation: Relation::Equal,
        target: CompareTarget::Value(vec![0; 1 << 20]),
    };
    let operation = wrap(&Operation::Txn(TxnRequest { compare: vec![compare], ..TxnRequest::default() }));
    // Of a revision that does not come, so that it waits.
    let question = |id| read(id, operation.clone(), Some(99));
    let client = port.client(1, &[question(0), question(1)]).await;
    client.0.send(REPLICA, Bytes::from(encode(&question(2)))).unwrap();
    port.look(&state(1));
    assert!(port.serve(Instant::now()).1.is_empty());
    let third = tokio::time::timeout(Duration::from_millis(500), port.take_question()).await;
    assert!(third.is_err(), "two reads use up the connection's budget for as long as they wait");

    let later = Instant::now() + Duration::from_secs(1);
    let mut given_up = 0;
    while !port.serving.reads.is_empty() {
        given_up += port.serve(later).1.len();
    }
    assert_eq!(given_up, 2);
    port.take_question().await;
    assert!(!port.serving.reads.is_empty());
    drop(client);
    port.take_question().await;
    assert!(port.serving.reads.is_empty(), "the end of a connection is told although its reads wait");
}
