use super::*;
use crate::faults::Trigger;

fn turned(behaviour: &str, when: &str) -> Turned {
    Turned { behaviour: behaviour.to_owned(), when: when.to_owned() }
}

fn serve_at(socket: &Path) -> Switch {
    let switch = Switch::honest();
    tokio::spawn(Server::bind(socket, switch.clone()).expect("bound").run());
    switch
}

#[tokio::test]
async fn a_replica_is_turned_and_healed_while_it_runs() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = place.path().join("control.sock");
    let switch = serve_at(&socket);
    assert!(ask(&socket).await.expect("answers").is_honest());
    let set = vec![turned("equivocate", "primary"), turned("lie-to-clients", "25%")];
    let conduct = turn(&socket, set.clone(), None).await.expect("turned");
    assert_eq!((conduct.on.as_slice(), conduct.label().as_str()), (set.as_slice(), "equivocate+lie-to-clients"));
    assert_eq!(switch.on().len(), 2);
    assert_eq!(switch.on()[1].when, Trigger::Percent(25));
    turn(&socket, Vec::new(), None).await.expect("healed");
    assert!(switch.is_honest());
}

#[tokio::test]
async fn a_behaviour_for_a_time_ends_and_ends_no_later_one() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = place.path().join("control.sock");
    let switch = serve_at(&socket);
    turn(&socket, vec![turned("silent", "always")], Some(Duration::from_millis(40))).await.expect("turned");
    turn(&socket, vec![turned("double-vote", "always")], None).await.expect("turned");
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(switch.on().len(), 1, "the end of an earlier change ended a later one");
    turn(&socket, vec![turned("silent", "always")], Some(Duration::from_millis(10))).await.expect("turned");
    tokio::time::timeout(Duration::from_secs(5), async {
        while !switch.is_honest() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it ends");
}

#[tokio::test]
async fn nonsense_is_refused_and_changes_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = place.path().join("control.sock");
    let switch = serve_at(&socket);
    let unknown = turn(&socket, vec![turned("equivcate", "always")], None).await.expect_err("unknown");
    assert!(unknown.contains("the catalogue has"), "{unknown}");
    assert!(turn(&socket, vec![turned("silent", "never")], None).await.is_err());
    for line in ["", "{}", "{\"v\":2}", "{\"v\":1,\"kill\":true}", "GET / HTTP/1.1"] {
        assert!(take(line, &switch, &Arc::default()).is_err(), "{line}");
    }
    assert!(switch.is_honest());
    assert!(ask(&place.path().join("nobody.sock")).await.is_err());
}

#[tokio::test]
async fn a_socket_far_down_is_reached_all_the_same() {
    let place = tempfile::tempdir().expect("a directory");
    let deep = place.path().join("d".repeat(120));
    fs::create_dir(&deep).expect("made");
    let socket = deep.join("control.sock");
    let switch = serve_at(&socket);
    turn(&socket, vec![turned("forge-watch", "always")], None).await.expect("turned");
    assert!(!switch.is_honest());
    Server::bind(&socket, switch).expect("what an earlier process left is replaced");
}

#[test]
fn behaviours_as_arguments() {
    assert_eq!(Turned::parse("silent"), Ok(turned("silent", "always")));
    assert_eq!(Turned::parse("silent:25%").map(|turned| turned.to_text()), Ok("silent:25%".to_owned()));
    assert!(Turned::parse("silent:0%").is_err() && Turned::parse("silent:101%").is_err() && Turned::parse("").is_err());
    assert!(misbehaviours(&["equivocate:primary".to_owned(), "bad".to_owned()]).is_err());
}
