//! Bad surroundings: a full disk, garbage at the ports, more than one liar. Nothing is lost and nobody honest pays for it.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_crypto::Protocol;

use crate::harness::Testnet;

under_both!(
    a_full_disk_stops_one_replica_and_loses_nothing,
    garbage_at_every_port_changes_nothing,
    of_seven_replicas_two_lie_at_once,
);

/// A file system of a few megabytes, unmounted when the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this user may not mount one.
    fn at(place: &Path, megabytes: u32) -> Option<SmallDisk> {
        let options = format!("size={megabytes}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place).output();
        mounted.ok().filter(|output| output.status.success()).map(|_| SmallDisk(place.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a replica that hangs must not keep the test from ending.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(format!("{}/.", from.display())).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

fn a_full_disk_stops_one_replica_and_loses_nothing(protocol: Protocol) {
    let testnet = Testnet::started_with(protocol);
    testnet.testnet(&["down"]).well();
    let data = testnet.directory().join("node3/data");
    let saved = testnet.place().join("saved");
    fs::rename(&data, &saved).expect("moved");
    fs::create_dir(&data).expect("made");
    let Some(_disk) = SmallDisk::at(&data, 200) else {
        println!("skipped: no small file system can be mounted here");
        return;
    };
    copy(&saved, &data);
    testnet.up(&[]).well();
    let ballast = data.join("ballast");
    let filled = Command::new("dd").arg("if=/dev/zero").arg(format!("of={}", ballast.display())).arg("bs=64k").output();
    assert!(!filled.expect("dd runs").status.success(), "it writes until the disk is full");
    // What was prepared ahead is used up by a few megabytes of large values.
    let load = ["bench", "--clients", "4", "--value-size", "60000", "--duration", "1s"];
    for _ in 0..30 {
        testnet.testnet(&load).well();
        if testnet.replicas()[3]["up"] == false {
            break;
        }
    }
    assert_eq!(testnet.replicas()[3]["up"], false, "its disk is full");
    let log = testnet.testnet(&["logs", "3", "-n", "5"]).well().out;
    assert!(log.contains("is full") && log.contains("free space there and start the node again"), "{log}");
    // It may be linked for a moment before it prepares its log.
    let again = testnet.testnet(&["restart", "3"]);
    if again.code != 0 {
        again.fails(2, "exit code 5");
    }
    testnet.wait("replica 3 stops again", |replicas| replicas[3]["up"] == false);
    let written = testnet.put_all("meanwhile", 4, 10);
    fs::remove_file(&ballast).expect("removed");
    testnet.testnet(&["restart", "3"]).well();
    testnet.assert_agreement(&[0, 1, 2, 3]);
    testnet.assert_all_there("meanwhile", &written);
    assert!(testnet.evidence().is_empty());
}

/// Where a replica listens by QUIC: for its peers, and for clients.
fn addresses(config: &Path) -> Vec<String> {
    let text = fs::read_to_string(config).expect("a configuration");
    let config: toml::Table = text.parse().expect("TOML");
    ["peers", "clients"].iter().map(|port| config["listen"][*port].as_str().expect("text").to_owned()).collect()
}

fn garbage_at_every_port_changes_nothing(protocol: Protocol) {
    let testnet = Testnet::started_with(protocol);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let ports: Vec<String> =
        (0..4).flat_map(|id| addresses(&testnet.directory().join(format!("node{id}/node.toml")))).collect();
    assert_eq!(ports.len(), 8, "{ports:?}");
    // A long header of QUIC version 1, a short header, and neither: each with a body that means nothing.
    let mut state = 0x9e37_79b9_u32;
    for round in 0..500_u32 {
        for port in &ports {
            let mut datagram: Vec<u8> = Vec::with_capacity(1200);
            for _ in 0..=(round % 1200) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                datagram.push((state >> 24) as u8);
            }
            match round % 3 {
                0 if datagram.len() > 5 => datagram[..5].copy_from_slice(&[0xc0, 0, 0, 0, 1]),
                1 => datagram[0] = 0x40,
                _ => {}
            }
            socket.send_to(&datagram, port).expect("sent");
        }
    }
    let written = testnet.put_all("garbage", 4, 10);
    testnet.assert_all_there("garbage", &written);
    testnet.assert_agreement(&[0, 1, 2, 3]);
    let stays = testnet.primary_stays();
    assert!(testnet.replicas().iter().all(|replica| (!stays || replica["view"] == 0) && replica["up"] == true));
}

#[test]
fn what_is_too_large_or_unknown_is_refused_in_one_sentence() {
    let testnet = Testnet::started();
    let value = "x".repeat(1_600_000);
    fs::write(testnet.place().join("large"), format!("\n\nput large \"{value}\"\n\n\n")).expect("written");
    testnet.quorate(&["txn", "large"]).fails(2, "divide");
    // What lies just below the limit is taken, and stays readable.
    let value = "y".repeat(3 * 512 * 1024 - 100);
    fs::write(testnet.place().join("fits"), format!("\nput fits \"{value}\"\n\n\n")).expect("written");
    testnet.quorate(&["txn", "fits"]).well();
    assert!(testnet.quorate(&["get", "fits"]).well().out.contains(&value));
    // A key of nobody: the cluster does not know it.
    let stranger = testnet.place().join("stranger.key");
    let made = Command::new(crate::harness::program("quorate-keys")).args(["new", "--client"]).arg(&stranger).output();
    assert!(made.expect("quorate-keys runs").status.success());
    let key = stranger.to_str().expect("UTF-8");
    testnet.quorate(&["--key", key, "put", "a", "b"]).fails(1, "refuse this key");
    testnet.quorate(&["put", "still", "right"]).well();
}

fn of_seven_replicas_two_lie_at_once(protocol: Protocol) {
    let testnet = Testnet::of(protocol);
    testnet.up(&["-n", "7", "--fault", "0=equivocate", "--fault", "1=double-vote"]).well();
    let written = testnet.put_all("two-liars", 8, 20);
    testnet.assert_all_there("two-liars", &written);
    testnet.assert_agreement(&[2, 3, 4, 5, 6]);
    testnet.testnet(&["fault", "1", "silent"]).well();
    let written = testnet.put_all("one-silent", 8, 20);
    testnet.assert_all_there("one-silent", &written);
    testnet.assert_agreement(&[2, 3, 4, 5, 6]);
    let evidence = testnet.evidence();
    assert!(evidence.iter().any(|offence| offence["accused"] == 0), "{evidence:#?}");
    assert!(evidence.iter().all(|offence| offence["accused"] == 0 || offence["accused"] == 1), "{evidence:#?}");
}
