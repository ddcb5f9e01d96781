//! The library and the command against replicas behind real sockets, some of which misbehave.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use quorate_client::{Client, ClientError, Cluster, RangeOptions, WatchEvent};
use quorate_keys::PublicFile;
use quorate_kv::KeyRange;
use serde_json::Value;

mod support;

use support::genesis::{Testbed, testbed};
use support::replicas::{Manner, Replicas, newcomer};

/// Runs the command in a thread of its own, so that the replicas go on.
async fn quorate(directory: &Path, arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::cargo_bin("quorate").expect("the command is built");
    command.current_dir(directory).env_clear().args(arguments).write_stdin(stdin.to_owned());
    tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("it ends")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

async fn client(bed: &Testbed) -> Client {
    let mut cluster = Cluster::new(bed.genesis.clone(), bed.client.clone());
    cluster.set_patience(Duration::from_secs(5));
    Client::connect(cluster).await.expect("sockets")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_what_the_manual_says() {
    let bed = testbed();
    let _replicas = Replicas::start(&bed);
    let run = |arguments: &'static [&'static str], stdin: &'static str| {
        let directory = bed.directory.path();
        async move { quorate(directory, arguments, stdin).await }
    };
    let started = Instant::now();
    let put = stdout(&run(&["put", "greeting", "hello"], "").await);
    println!("first put: {:?}", started.elapsed());
    assert!(put.starts_with("OK revision 2 seq ") && put.ends_with(" matching replies of 4)\n"), "{put}");
    assert_eq!(stdout(&run(&["get", "greeting"], "").await), "hello\n");
    assert_eq!(stdout(&run(&["get", "greeting", "--serializable"], "").await), "hello\n");
    assert_eq!(stdout(&run(&["get", "nothing"], "").await), "");
    assert_eq!(run(&["get", "nothing", "--fail"], "").await.status.code(), Some(1));

    stdout(&run(&["put", "users/a"], "from stdin").await);
    stdout(&run(&["put", "users/b", "2"], "").await);
    assert_eq!(stdout(&run(&["get", "users/", "--prefix"], "").await), "users/a\nfrom stdin\nusers/b\n2\n");
    let json: Value =
        serde_json::from_str(&stdout(&run(&["get", "users/", "--prefix", "--limit", "1", "--json"], "").await))
            .expect("JSON");
    assert_eq!((&json["v"], &json["count"], &json["kvs"][0]["value"]), (&1.into(), &2.into(), &"from stdin".into()));
    assert_eq!(stdout(&run(&["get", "users/b", "--rev", "3"], "").await), "");

    assert!(stdout(&run(&["cas", "users/b", "2", "3"], "").await).starts_with("OK revision 5 "));
    let failed = run(&["cas", "users/b", "2", "4"], "").await;
    assert_eq!((failed.status.code(), failed.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("users/b is 3"));

    let etcdctl = "value(\"users/b\") = \"3\"\n\nput users/c 1\nget users/b\n\nget users/a\n";
    assert_eq!(stdout(&run(&["txn"], etcdctl).await), "SUCCESS\n\nOK\n\nusers/b\n3\n");
    let labelled = "compare:\n  version(\"users/c\") = 0\nsuccess:\n  del users/c\nfailure:\n  get users/c\n";
    assert_eq!(stdout(&run(&["txn"], labelled).await), "FAILURE\n\nusers/c\n1\n");
    assert_eq!(run(&["txn", "--fail"], labelled).await.status.code(), Some(1));

    assert!(stdout(&run(&["del", "users/", "--prefix"], "").await).starts_with("OK deleted 3 revision 7 "));
    let watched = stdout(&run(&["watch", "users/", "--prefix", "--from", "5", "--count", "3"], "").await);
    assert_eq!(watched, "5 PUT users/b 3\n6 PUT users/c 1\n7 DELETE users/a\n7 DELETE users/b\n7 DELETE users/c\n");
    let json = stdout(&run(&["watch", "users/b", "--from", "5", "--count", "1", "--json"], "").await);
    let json: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&json["revision"], &json["events"][0]["type"]), (&5.into(), &"put".into()));

    let shell = stdout(&run(&["shell"], "put s 'a b'\nget s\nnonsense\nget s --json\nexit\nput s c\n").await);
    let lines: Vec<&str> = shell.lines().collect();
    assert!(lines[0].starts_with("OK revision 8 ") && lines[1] == "a b" && lines[2].contains("\"a b\""), "{shell}");
    assert_eq!(lines.len(), 3);

    let status: Value = serde_json::from_str(&stdout(&run(&["status", "--json"], "").await)).expect("JSON");
    assert_eq!(status["replicas"][3]["revision"], 8);
    assert!(stdout(&run(&["status"], "").await).contains("primary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_registered_by_an_admin_only() {
    let bed = testbed();
    let replicas = Replicas::start(&bed);
    let directory = bed.directory.path();
    PublicFile::Client(newcomer().public()).create(&directory.join("app1.pub")).expect("written");
    newcomer().create(&directory.join("app1.key"), None).expect("written");
    let as_newcomer = ["put", "a", "1", "--key", "app1.key"];
    let refused = quorate(directory, &as_newcomer, "").await;
    // It may yet be registered before the request expires, and a primary that lies may keep the bytes until then.
    assert_eq!(refused.status.code(), Some(3));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("not registered") && told.contains("quorate --request"), "{told}");
    let add = ["client-key", "add", "app1.pub", "--write"];
    let by_client = [&add[..], &["--key", "testnet/client.key"]].concat();
    let refused = quorate(directory, &by_client, "").await;
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this key may not do that"), "{refused:?}");
    assert!(stdout(&quorate(directory, &add, "").await).contains("may read and write"));
    stdout(&quorate(directory, &as_newcomer, "").await);
    assert!(
        stdout(&quorate(directory, &["client-key", "remove", "app1.pub", "--json"], "").await)
            .contains("\"done\":true")
    );
    assert_eq!(quorate(directory, &as_newcomer, "").await.status.code(), Some(3));

    for replica in 0..4 {
        replicas.behave(replica, Manner::Closed);
    }
    let started = Instant::now();
    let closed = quorate(directory, &["put", "a", "1"], "").await;
    assert_eq!(closed.status.code(), Some(1), "{closed:?}");
    assert!(String::from_utf8_lossy(&closed.stderr).contains("client-key add"));
    assert!(started.elapsed() < Duration::from_secs(5), "known at once, not after the timeout");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_liar_changes_nothing_and_is_named() {
    let bed = testbed();
    let replicas = Replicas::start(&bed);
    replicas.behave(0, Manner::Lying);
    let client = client(&bed).await;
    let mut accusations = client.accusations();
    let mut watch = client.watch(KeyRange::prefix("k"), Some(2)).await.expect("room");
    for round in 0..20_u64 {
        let written = client.put("k", round.to_string()).await.expect("three honest replicas suffice");
        assert_eq!(written.revision, round + 2);
        let pair = client.get("k").await.expect("read").expect("there");
        assert_eq!(pair.value, round.to_string().into_bytes());
        let options = RangeOptions { serializable: true, ..RangeOptions::default() };
        let ranged = client.range(KeyRange::single("k"), options).await.expect("read");
        assert_eq!(ranged.kvs[0].value, round.to_string().into_bytes());
        let event = loop {
            match watch.next().await.expect("it goes on") {
                WatchEvent::Events(list) => break list,
                WatchEvent::Progress(_) => {}
            }
        };
        assert_eq!((event.revision, &event.events[0].kv.value), (round + 2, &round.to_string().into_bytes()));
    }
    let accused = accusations.try_recv().expect("the liar is named");
    assert_eq!(accused.replica.0, 0);
    let command = quorate(bed.directory.path(), &["get", "k"], "").await;
    assert_eq!(stdout(&command), "19\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_silent_replicas_cost_nothing_and_three_cost_the_quorum() {
    let bed = testbed();
    let replicas = Replicas::start(&bed);
    replicas.behave(1, Manner::Silent);
    replicas.behave(2, Manner::Silent);
    let directory = bed.directory.path();
    let started = Instant::now();
    stdout(&quorate(directory, &["put", "a", "1"], "").await);
    println!("put with two silent replicas: {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(2), "slow replicas are not waited for");
    replicas.behave(3, Manner::Silent);
    let unknown = quorate(directory, &["put", "a", "2", "--timeout", "700ms"], "").await;
    let saved = saved(&unknown);

    // It executed at once, unseen; the replay tells, and executes nothing twice.
    replicas.behave(3, Manner::Honest);
    let replayed = stdout(&quorate(directory, &["--request", &saved], "").await);
    assert!(replayed.starts_with("OK revision 3 "), "{replayed}");
    let again = stdout(&quorate(directory, &["--request", &saved], "").await);
    assert_eq!(again.split(" (").next(), replayed.split(" (").next());
    assert_eq!(stdout(&quorate(directory, &["get", "a"], "").await), "2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_replicas_are_asked_again() {
    let bed = testbed();
    let replicas = Replicas::start(&bed);
    for replica in 0..4 {
        replicas.behave(replica, Manner::Busy);
    }
    let client = client(&bed).await;
    let other = replicas.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        for replica in 0..4 {
            other.behave(replica, Manner::Honest);
        }
    });
    client.put("a", "1").await.expect("it is sent again");
    for replica in 0..4 {
        replicas.behave(replica, Manner::Busy);
    }
    let outcome = client.with_patience(Duration::from_millis(200)).put("a", "2").await;
    let Err(ClientError::Unknown(outcome)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(outcome.heard.busy, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_are_in_flight_and_each_executes_once() {
    let bed = testbed();
    let _replicas = Replicas::start(&bed);
    let client = client(&bed).await;
    let started = Instant::now();
    let tasks: Vec<_> = (0..500_u32)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                client.put(format!("key{number:04}"), vec![0; 1024]).await.map(|written| written.revision)
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for task in tasks {
        revisions.push(task.await.expect("it ends").expect("it executes"));
    }
    println!("500 puts: {:?}", started.elapsed());
    revisions.sort_unstable();
    assert_eq!(revisions, (2..502).collect::<Vec<u64>>());
    let all = client.range(KeyRange::prefix("key"), RangeOptions::default()).await.expect("read");
    assert_eq!((all.kvs.len(), all.count, all.more), (500, 500, false));
    let some = RangeOptions { limit: 10, descending: true, keys_only: true, ..RangeOptions::default() };
    let some = client.range(KeyRange::prefix("key"), some).await.expect("read");
    assert_eq!((some.kvs.len(), some.count, some.more), (10, 500, true));
    assert_eq!(some.kvs[0].key, b"key0499");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_results_were_dropped_is_ordered_anew_and_a_write_is_not() {
    let bed = testbed();
    let replicas = Replicas::start(&bed);
    let client = client(&bed).await;
    client.put("a", "1").await.expect("it executes");
    replicas.forget(2);
    assert_eq!(client.get("a").await.expect("read").map(|pair| pair.value), Some(b"1".to_vec()));
    replicas.forget(1);
    let outcome = client.put("a", "2").await;
    assert!(matches!(outcome, Err(ClientError::ResultsForgotten(_))), "{outcome:?}");
    assert_eq!(client.get("a").await.expect("read").map(|pair| pair.version), Some(2));
}

/// Values that together exceed one reply come in several, all as of one revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_larger_than_a_reply_is_read_in_parts() {
    let bed = testbed();
    let _replicas = Replicas::start(&bed);
    let client = client(&bed).await;
    for number in 0..5 {
        client.put(format!("big{number}"), vec![number; 400 * 1024]).await.expect("it executes");
    }
    for serializable in [false, true] {
        for descending in [false, true] {
            let options = RangeOptions { serializable, descending, ..RangeOptions::default() };
            let all = client.range(KeyRange::prefix("big"), options).await.expect("read");
            let mut keys: Vec<_> = all.kvs.iter().map(|kv| kv.key.clone()).collect();
            if descending {
                keys.reverse();
            }
            assert_eq!(keys, [b"big0", b"big1", b"big2", b"big3", b"big4"]);
            assert_eq!((all.count, all.more), (5, false));
        }
    }
}

/// The reader of a watch stops for longer than its queue holds, and still misses and repeats nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_misses_nothing() {
    let bed = testbed();
    let _replicas = Replicas::start(&bed);
    let client = client(&bed).await;
    let mut watch = client.watch(KeyRange::prefix("k"), Some(1)).await.expect("room");
    for number in 0..700_u32 {
        client.put("k", number.to_string()).await.expect("it executes");
    }
    let mut next = 2;
    while next < 702 {
        if let WatchEvent::Events(list) = watch.next().await.expect("it goes on") {
            assert_eq!(list.revision, next);
            next += 1;
        }
    }
}

/// Where the command says that it saved a request.
fn saved(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{told}");
    told.split("quorate --request ").nth(1).and_then(|rest| rest.split('`').next()).expect(&told).to_owned()
}

/// What was sent to some may execute, whoever refuses the key afterwards; and while f + 1 may answer, nobody gives in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_and_a_laggard_refuse_no_key() {
    let bed = testbed();
    let replicas = Replicas::start(&bed);
    let directory = bed.directory.path();
    let client = client(&bed).await;
    client.put("a", "0").await.expect("it executes");
    replicas.behave(2, Manner::Closed);
    replicas.behave(3, Manner::Closed);
    while client.link_report().0.len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.put("a", "1").await.expect("two can answer");
    stdout(&quorate(directory, &["put", "a", "2"], "").await);

    for replica in [0, 1] {
        replicas.behave(replica, Manner::Silent);
    }
    let unheard = saved(&quorate(directory, &["put", "a", "3", "--timeout", "300ms"], "").await);
    let started = Instant::now();
    let put = tokio::spawn({
        let client = client.clone();
        async move { client.put("a", "4").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    replicas.behave(1, Manner::Closed);
    let outcome = put.await.expect("it ends");
    let Err(ClientError::Unknown(outcome)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(outcome.requests.len(), 1, "replicas 0 and 1 may have it");
    assert!(started.elapsed() < Duration::from_secs(4), "known at once, not after the timeout");
    let later = client.put("a", "5").await;
    assert!(matches!(later, Err(ClientError::KeyRefused(3))), "{later:?}");
    let replayed = client.replay(vec![(*outcome.requests[0]).clone()]).await;
    assert!(matches!(replayed, Err(ClientError::Unknown(_))), "{replayed:?}");
    let replayed = quorate(directory, &["--request", &unheard], "").await;
    assert_eq!(replayed.status.code(), Some(3), "{replayed:?}");
    assert!(String::from_utf8_lossy(&replayed.stderr).contains("is still in"), "{replayed:?}");
}

/// A replay ends as the command would have, had it heard the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_cas_exits_with_1() {
    let bed = testbed();
    let replicas = Replicas::start(&bed);
    let directory = bed.directory.path();
    PublicFile::Client(bed.admin.public()).create(&directory.join("admin.pub")).expect("written");
    PublicFile::Client(newcomer().public()).create(&directory.join("app1.pub")).expect("written");
    stdout(&quorate(directory, &["put", "balance", "100"], "").await);
    let unheard = |arguments: &'static [&'static str]| {
        for replica in 1..4 {
            replicas.behave(replica, Manner::Silent);
        }
        let replicas = replicas.clone();
        async move {
            let file = saved(&quorate(directory, &[arguments, &["--timeout", "300ms"]].concat(), "").await);
            for replica in 1..4 {
                replicas.behave(replica, Manner::Honest);
            }
            quorate(directory, &["--request", &file], "").await
        }
    };
    let swapped = stdout(&unheard(&["cas", "balance", "100", "90"]).await);
    assert!(swapped.starts_with("OK revision 3 seq ") && swapped.lines().count() == 1, "{swapped}");
    let failing: [(&'static [&'static str], &str); 3] = [
        (&["cas", "balance", "100", "80"], "the comparison failed: balance is 90"),
        (&["cas", "nothing", "100", "80"], "the comparison failed: there is no key nothing"),
        (&["client-key", "remove", "admin.pub"], "admin keys are fixed"),
    ];
    for (arguments, sentence) in failing {
        let failed = unheard(arguments).await;
        assert_eq!((failed.status.code(), failed.stdout.len()), (Some(1), 0), "{failed:?}");
        assert!(String::from_utf8_lossy(&failed.stderr).contains(sentence), "{failed:?}");
    }
    assert!(stdout(&unheard(&["client-key", "add", "app1.pub"]).await).contains("may read, seq "));
}

/// Runs the command, presses Ctrl-C after a while, and waits for its end.
async fn interrupted(directory: &Path, arguments: &[&str]) -> Output {
    let child = std::process::Command::new(assert_cmd::cargo::cargo_bin("quorate"))
        .current_dir(directory)
        .args(arguments)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("signalled");
    tokio::task::spawn_blocking(move || child.wait_with_output().expect("it ends")).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interruption_is_exit_code_130_and_saves_what_is_unknown() {
    let bed = testbed();
    let replicas = Replicas::start(&bed);
    let directory = bed.directory.path();
    let watch = interrupted(directory, &["watch", "a"]).await;
    assert_eq!(watch.status.code(), Some(130), "{watch:?}");
    for replica in 0..4 {
        replicas.behave(replica, Manner::Silent);
    }
    let put = interrupted(directory, &["put", "a", "1"]).await;
    assert_eq!(put.status.code(), Some(130), "{put:?}");
    assert!(String::from_utf8_lossy(&put.stderr).contains("quorate --request testnet/requests/"), "{put:?}");
}
