use super::*;
use crate::disk::{FileDisk, MemoryDisk};

mod crash;
mod damage;
mod golden;

pub(super) const KEY: LogKey = LogKey([7; 32]);

/// Four blocks: a header and room for three small frames.
pub(super) const SMALL_SEGMENT: u64 = 4 * BLOCK_BYTES;

pub(super) fn identity() -> LogIdentity {
    LogIdentity { cluster: ClusterId(Digest([9; 32])), replica: ReplicaId(2) }
}

pub(super) fn settings() -> LogSettings {
    LogSettings { identity: identity(), trust: Trust::NewCluster, segment_bytes: SMALL_SEGMENT, key: KEY }
}

/// The payload of frame `number`: lengths from nothing to more than two segments.
pub(super) fn payload(number: u64) -> Vec<u8> {
    let length = match number % 7 {
        0 => 0,
        1 => 100,
        2 => 5_000,
        3 => BLOCK_BYTES as usize - frame::HEADER_BYTES,
        4 => 30_000,
        5 => BLOCK_BYTES as usize - frame::HEADER_BYTES + 1,
        _ => 700,
    };
    (0..length).map(|index| (number as usize * 31 + index * 7) as u8).collect()
}

pub(super) fn opened(disk: &MemoryDisk) -> Result<(FrameLog<MemoryDisk>, Vec<(FrameNumber, Vec<u8>)>), OpenError> {
    FrameLog::open(disk.clone(), identity())
}

/// A log with frames `1..=count`, each synced.
pub(super) fn written(disk: &MemoryDisk, count: u64) -> FrameLog<MemoryDisk> {
    let mut log = FrameLog::create(disk.clone(), &settings()).unwrap();
    append_synced(&mut log, count);
    log
}

pub(super) fn append_synced<D: Disk>(log: &mut FrameLog<D>, count: u64) {
    for _ in 0..count {
        let number = log.next_number();
        assert_eq!(log.append(&payload(number.0)).unwrap(), number);
        log.sync().unwrap();
    }
}

/// Asserts that `frames` are exactly `from..=to`, unchanged.
pub(super) fn assert_frames(frames: &[(FrameNumber, Vec<u8>)], from: u64, to: u64) {
    let numbers: Vec<u64> = frames.iter().map(|(number, _)| number.0).collect();
    assert_eq!(numbers, (from..=to).collect::<Vec<_>>());
    for (number, found) in frames {
        assert!(*found == payload(number.0), "frame {number} has other bytes");
    }
}

#[test]
fn frames_come_back_in_order() {
    let disk = MemoryDisk::new();
    written(&disk, 20);
    let (mut log, frames) = opened(&disk).unwrap();
    assert_frames(&frames, 1, 20);
    append_synced(&mut log, 5);
    drop(log);
    let (log, frames) = opened(&disk).unwrap();
    assert_frames(&frames, 1, 25);
    assert_eq!(log.first_number(), FrameNumber(1));
    assert_eq!(log.next_number(), FrameNumber(26));
}

#[test]
fn frames_come_back_from_files() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let mut log = FrameLog::create(FileDisk::create(&path, 0).unwrap(), &settings()).unwrap();
    append_synced(&mut log, 20);
    log.cut(FrameNumber(15)).unwrap();
    append_synced(&mut log, 5);
    drop(log);
    let (mut log, frames) = FrameLog::open(FileDisk::open(&path, 0).unwrap(), identity()).unwrap();
    assert_frames(&frames, 15, 25);
    append_synced(&mut log, 5);
}

#[test]
#[should_panic(expected = "only after the previous sync returned")]
fn a_frame_is_written_only_after_the_previous_sync() {
    let mut log = written(&MemoryDisk::new(), 0);
    log.append(b"first").unwrap();
    let _refused = log.append(b"second");
}

#[test]
fn a_payload_beyond_the_cap_is_refused_and_one_at_the_cap_taken() {
    let disk = MemoryDisk::new();
    let settings = LogSettings { segment_bytes: DEFAULT_SEGMENT_BYTES, ..settings() };
    let mut log = FrameLog::create(disk.clone(), &settings).unwrap();
    let mut payload = vec![5; MAX_PAYLOAD_BYTES + 1];
    assert!(matches!(log.append(&payload), Err(LogError::TooLong(_))));
    payload.pop();
    log.append(&payload).unwrap();
    log.sync().unwrap();
    let (_, frames) = opened(&disk).unwrap();
    assert!(frames.len() == 1 && frames[0].1 == payload);
}

#[test]
fn opening_never_makes_a_log_and_creating_never_replaces_one() {
    let disk = MemoryDisk::new();
    assert!(matches!(opened(&disk), Err(OpenError::Missing)));
    assert!(disk.clone().list().unwrap().is_empty());
    written(&disk, 3);
    assert!(matches!(FrameLog::create(disk.clone(), &settings()), Err(OpenError::AlreadyExists)));
    assert_frames(&opened(&disk).unwrap().1, 1, 3);
    FrameLog::discard(&mut disk.clone()).unwrap();
    assert!(disk.clone().list().unwrap().is_empty());
    assert!(matches!(opened(&disk), Err(OpenError::Missing)));
}

#[test]
fn a_log_of_another_cluster_or_replica_is_refused() {
    let disk = MemoryDisk::new();
    written(&disk, 3);
    let other = LogIdentity { cluster: ClusterId(Digest([1; 32])), ..identity() };
    assert!(
        matches!(FrameLog::open(disk.clone(), other), Err(OpenError::ForeignCluster(found)) if found == identity().cluster)
    );
    let other = LogIdentity { replica: ReplicaId(3), ..identity() };
    assert!(matches!(FrameLog::open(disk, other), Err(OpenError::ForeignReplica(ReplicaId(2)))));
}

#[test]
fn trust_is_durable_and_where_it_came_from_stays_known() {
    for (trust, trusted) in [(Trust::NewCluster, true), (Trust::MustRejoin, false)] {
        let disk = MemoryDisk::new();
        let mut log = FrameLog::create(disk.clone(), &LogSettings { trust, ..settings() }).unwrap();
        assert_eq!(log.is_trusted(), trusted);
        log.set_trusted(!trusted).unwrap();
        disk.power_cut(1);
        let (log, _) = opened(&disk).unwrap();
        assert_eq!(log.is_trusted(), !trusted);
        assert_eq!(log.was_made_for_new_cluster(), trusted);
        assert_eq!(log.identity(), identity());
    }
}

#[test]
fn cutting_keeps_the_size_bounded_and_the_frames_asked_for() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, 0);
    let mut largest = 0;
    for _ in 0..200 {
        append_synced(&mut log, 1);
        let keep = FrameNumber(log.next_number().0.saturating_sub(5).max(1));
        log.cut(keep).unwrap();
        while log.maintain().unwrap() {}
        assert!(log.first_number() <= keep);
        largest = largest.max(log.size_on_disk());
    }
    assert!(largest < 16 * SMALL_SEGMENT, "{largest}");
    let on_disk: u64 = disk.clone().list().unwrap().iter().map(|name| disk.contents(name).unwrap().len() as u64).sum();
    assert_eq!(on_disk, log.size_on_disk());
    let first = log.first_number().0;
    drop(log);
    assert_frames(&opened(&disk).unwrap().1, first, 200);
}

#[test]
fn everything_can_be_cut_away() {
    for count in 1..30 {
        let disk = MemoryDisk::new();
        let mut log = written(&disk, count);
        log.cut(FrameNumber(count + 1)).unwrap();
        append_synced(&mut log, 1);
        let first = log.first_number().0;
        drop(log);
        let (mut log, frames) = opened(&disk).unwrap();
        assert_frames(&frames, first, count + 1);
        append_synced(&mut log, 3);
    }
}

#[test]
fn appending_into_ready_segments_takes_one_write_and_one_sync() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, 0);
    let before = disk.operations();
    log.append(b"short").unwrap();
    log.sync().unwrap();
    assert_eq!(disk.operations() - before, 2);
    log.sync().unwrap();
    assert_eq!(disk.operations() - before, 2, "nothing to sync, nothing done");
}

#[test]
fn a_full_disk_is_noticed_before_a_frame_is_begun() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, 3);
    disk.set_capacity(Some(log.size_on_disk()));
    assert!(matches!(log.maintain(), Err(LogError::Disk(error)) if error.is_disk_full()), "early warning");
    let small = log.ready_bytes() / BLOCK_BYTES;
    assert!(small > 0);
    for _ in 0..small {
        log.append(b"still fits").unwrap();
        log.sync().unwrap();
    }
    assert_eq!(log.ready_bytes(), 0);
    let files = disk.clone().list().unwrap();
    for _ in 0..3 {
        assert!(matches!(log.append(b"does not fit"), Err(LogError::Disk(error)) if error.is_disk_full()));
    }
    assert_eq!(disk.clone().list().unwrap(), files, "nothing is left of the attempt");
    disk.set_capacity(None);
    let number = log.append(b"fits again").unwrap();
    log.sync().unwrap();
    drop(log);
    let (_, frames) = opened(&disk).unwrap();
    assert_eq!(frames.last(), Some(&(number, b"fits again".to_vec())));
    assert_eq!(frames.len() as u64, 3 + small + 1);
}

#[test]
fn a_full_disk_can_be_relieved_by_cutting() {
    let disk = MemoryDisk::new();
    let mut log = written(&disk, 10);
    disk.set_capacity(Some(log.size_on_disk()));
    while log.ready_bytes() > 0 {
        log.append(b"x").unwrap();
        log.sync().unwrap();
    }
    log.cut(log.next_number()).unwrap();
    log.append(b"there is room").unwrap();
    log.sync().unwrap();
}
