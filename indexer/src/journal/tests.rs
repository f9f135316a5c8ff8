//! The journal's promises: what was answered is there, in order, through reopening, tearing, damage, failed
//! syncs and a full disk.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::file::{ENTRY_HEADER_LEN, FIRST_ENTRY};
use super::*;

mod compact;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("runtime")
}

fn open(dir: &Path) -> Journal {
    open_with(dir, JournalConfig { reserve_bytes: 1 << 16, ..JournalConfig::default() })
}

fn open_with(dir: &Path, config: JournalConfig) -> Journal {
    Journal::open(dir, config).expect("journal").0
}

fn entry(day: i64, kind: u8, payload: &[u8]) -> Entry {
    Entry { day: Day(day), kind, payload: payload.to_vec() }
}

fn append(journal: &Journal, entries: Vec<Entry>) -> Result<Vec<Position>, JournalError> {
    runtime().block_on(journal.append(entries, Space::Ordinary))
}

/// All entries with their positions, and the report.
fn replay_after(journal: &Journal, after: &BTreeMap<FileName, u64>) -> (Vec<(Position, Entry)>, ReplayReport) {
    let mut entries = Vec::new();
    let each = |position: Position, kind, payload: &[u8]| {
        entries.push((position, Entry { day: position.file.day, kind, payload: payload.to_vec() }));
        ControlFlow::Continue(())
    };
    let report = journal.replay(|name| after.get(name).copied().unwrap_or(0), each).expect("replay");
    assert_eq!(report.entries, entries.len() as u64);
    (entries, report)
}

fn replay(journal: &Journal) -> (Vec<Entry>, ReplayReport) {
    let (entries, report) = replay_after(journal, &BTreeMap::new());
    (entries.into_iter().map(|(_, entry)| entry).collect(), report)
}

fn by_day(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.day);
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn entries_survive(
        appends in prop::collection::vec(
            prop::collection::vec((0i64..4, any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..6),
            1..8,
        ),
        file_bytes_max in FIRST_ENTRY..FIRST_ENTRY + 2_000,
        reopen_at in 0usize..8,
    ) {
        let temp = tempfile::tempdir().expect("directory");
        let config = JournalConfig { file_bytes_max, reserve_bytes: 0, ..JournalConfig::default() };
        let mut journal = open_with(temp.path(), config.clone());
        let mut kept = Vec::new();
        let mut positions = Vec::new();
        for (i, batch) in appends.into_iter().enumerate() {
            if i == reopen_at {
                drop(journal);
                journal = open_with(temp.path(), config.clone());
            }
            let entries: Vec<Entry> = batch.into_iter().map(|(d, k, p)| entry(d, k, &p)).collect();
            positions.extend(append(&journal, entries.clone()).expect("append").into_iter().zip(entries.clone()));
            kept.extend(entries);
        }
        prop_assert_eq!(replay(&journal).0, by_day(kept.clone()));
        drop(journal);
        let journal = open_with(temp.path(), config);
        let (found, report) = replay_after(&journal, &BTreeMap::new());
        prop_assert_eq!((report.damaged_count, report.torn.len()), (0, 0));
        // Positions told by append are those of the replay.
        positions.sort_by_key(|(position, _)| *position);
        prop_assert_eq!(&found, &positions);
        // From any position on comes exactly what is behind it in its file.
        for (from, _) in &positions {
            let (rest, _) = replay_after(&journal, &BTreeMap::from([(from.file, from.end)]));
            let behind = positions.iter().filter(|(p, _)| p.file != from.file || p.end > from.end).cloned();
            prop_assert_eq!(rest, behind.collect::<Vec<_>>());
        }
    }
}

/// A closed journal of three entries in one file, and where each ends.
fn three(dir: &Path) -> (PathBuf, [u64; 3]) {
    let journal = open(dir);
    let all = [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()];
    let positions = append(&journal, all.iter().map(|p| entry(7, 1, p)).collect()).expect("append");
    let ends: Vec<u64> = positions.iter().map(|p| p.end).collect();
    (dir.join(positions[0].file.to_string()), [ends[0], ends[1], ends[2]])
}

fn payloads(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| std::str::from_utf8(&entry.payload).expect("text")).collect()
}

#[test]
fn a_torn_tail_is_cut_wherever_it_tears() {
    let temp = tempfile::tempdir().expect("directory");
    let (path, [_, second, third]) = three(temp.path());
    let whole = fs::read(&path).expect("file");
    for len in second..third {
        for padding in [0, 100] {
            let mut torn = whole.clone();
            torn.truncate(usize::try_from(len).expect("length"));
            torn.resize(torn.len() + padding, 0);
            let torn_len = torn.len() as u64 - second;
            fs::write(&path, &torn).expect("tear");
            let journal = open(temp.path());
            let (entries, report) = replay(&journal);
            assert_eq!(payloads(&entries), ["first", "second"], "cut at {len}");
            assert_eq!(
                report.torn.iter().map(|t| (t.offset, t.len)).collect::<Vec<_>>(),
                match torn_len {
                    0 => vec![],
                    torn_len => vec![(second, torn_len)],
                }
            );
            assert_eq!((report.damaged_count, fs::metadata(&path).expect("file").len()), (0, second));
            assert_eq!(replay(&journal).1.torn, [], "cut once");
        }
    }
    // Appending goes on.
    let journal = open(temp.path());
    append(&journal, vec![entry(7, 1, b"fourth")]).expect("append");
    assert_eq!(payloads(&replay(&journal).0), ["first", "second", "fourth"]);
}

#[test]
fn a_flipped_bit_loses_exactly_its_entry() {
    let temp = tempfile::tempdir().expect("directory");
    let (path, [first, second, _]) = three(temp.path());
    let whole = fs::read(&path).expect("file");
    for bit in first * 8..second * 8 {
        let mut damaged = whole.clone();
        damaged[usize::try_from(bit / 8).expect("offset")] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).expect("damage");
        let (entries, report) = replay(&open(temp.path()));
        assert_eq!(payloads(&entries), ["first", "third"], "bit {bit}");
        let found: Vec<_> = report.damaged.iter().map(|d| (d.offset, d.len)).collect();
        assert_eq!((found, report.torn), (vec![(first, second - first)], vec![]), "bit {bit}");
        assert_eq!(fs::metadata(&path).expect("file").len(), whole.len() as u64, "nothing is cut");
    }
}

#[test]
fn an_entry_moved_to_another_place_is_not_taken() {
    let temp = tempfile::tempdir().expect("directory");
    let (path, [first, second, third]) = three(temp.path());
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).expect("file");
    let mut entry = vec![0; usize::try_from(second - first).expect("length")];
    file.read_exact_at(&mut entry, first).expect("read");
    file.write_all_at(&entry, third).expect("write");
    let (entries, report) = replay(&open(temp.path()));
    assert_eq!(payloads(&entries), ["first", "second", "third"]);
    assert_eq!(report.torn.len(), 1);
}

#[test]
fn a_file_without_a_header_is_reported_and_kept() {
    let temp = tempfile::tempdir().expect("directory");
    let (path, _) = three(temp.path());
    let len = fs::metadata(&path).expect("file").len();
    let file = fs::OpenOptions::new().write(true).open(&path).expect("file");
    file.write_all_at(&[0; 4096 + 32], 0).expect("damage");
    let (journal, report) = Journal::open(temp.path(), JournalConfig::default()).expect("journal");
    assert_eq!(report.unreadable.len(), 1);
    let (entries, report) = replay(&journal);
    assert!(entries.is_empty());
    assert_eq!(report.damaged.iter().map(|d| (d.offset, d.len)).collect::<Vec<_>>(), [(0, len)]);
    append(&journal, vec![entry(7, 1, b"new")]).expect("append");
    assert_eq!(payloads(&replay(&journal).0), ["new"]);
    assert_eq!(fs::metadata(&path).expect("file").len(), len);
}

#[test]
fn many_at_once_share_syncs() {
    let temp = tempfile::tempdir().expect("directory");
    let journal = Arc::new(open(temp.path()));
    let runtime = runtime();
    let tasks: Vec<_> = (0..400u32)
        .map(|i| {
            let journal = Arc::clone(&journal);
            runtime.spawn(async move { journal.append(vec![entry(3, 0, &i.to_be_bytes())], Space::Ordinary).await })
        })
        .collect();
    let positions: Vec<Position> =
        tasks.into_iter().map(|task| runtime.block_on(task).expect("task").expect("append")[0]).collect();
    let stats = journal.stats();
    assert_eq!(stats.entries, 400);
    // One day, one file: each batch syncs once, however many it has.
    assert_eq!(stats.syncs, stats.batches);
    let (found, _) = replay_after(&journal, &BTreeMap::new());
    let mut expected: Vec<_> = positions.into_iter().zip((0..400u32).map(|i| i.to_be_bytes().to_vec())).collect();
    expected.sort();
    assert_eq!(found.into_iter().map(|(p, e)| (p, e.payload)).collect::<Vec<_>>(), expected);
}

#[test]
fn limits_are_answered() {
    let temp = tempfile::tempdir().expect("directory");
    let config = JournalConfig { payload_bytes_max: 10, queued_bytes_max: 100, queued_max: 1, ..Default::default() };
    let journal = open_with(temp.path(), config);
    let check = |entries, expected: &str| {
        assert_eq!(append(&journal, entries).expect_err("refused").to_string(), expected);
    };
    check(vec![entry(1, 0, &[0; 11])], "a journal payload of 11 bytes; at most 10 are allowed");
    check(vec![entry(1, 0, &[0; 9]); 4], "a journal append of 104 bytes; at most 100 are allowed");
    check(vec![entry(-1, 0, &[])], "day -1 is outside 0 to 9999999");
    check(vec![entry(10_000_000, 0, &[])], "day 10000000 is outside 0 to 9999999");
    let bytes = Arc::clone(&journal.queued_bytes).try_acquire_many_owned(90).expect("queue");
    check(vec![entry(1, 0, &[])], "the journal's queue is full");
    drop(bytes);
    append(&journal, vec![entry(1, 0, &[])]).expect("room again");
    assert_eq!(journal.queued_bytes.available_permits(), 100);
}

#[test]
fn a_file_whose_sync_failed_is_given_up() {
    let temp = tempfile::tempdir().expect("directory");
    let journal = open(temp.path());
    let before = append(&journal, vec![entry(5, 1, b"before")]).expect("append")[0];
    journal.faults.failing_syncs.store(1, Ordering::SeqCst);
    let after = append(&journal, vec![entry(5, 1, b"after")]).expect("append")[0];
    assert_eq!((before.file.sequence, after.file.sequence), (1, 2));
    assert_eq!(payloads(&replay(&journal).0), ["before", "after"]);
    // Twice in a row: the append fails, and nothing of it is promised.
    journal.faults.failing_syncs.store(2, Ordering::SeqCst);
    append(&journal, vec![entry(5, 1, b"never")]).expect_err("failed");
    let last = append(&journal, vec![entry(5, 1, b"last")]).expect("append")[0];
    assert_eq!(last.file.sequence, 4);
    assert_eq!(payloads(&replay(&journal).0), ["before", "after", "last"]);
    assert_eq!(journal.stats().sync_failures, 3);
}

#[test]
fn half_a_write_leaves_nothing_behind_the_durable_end() {
    let temp = tempfile::tempdir().expect("directory");
    let journal = open(temp.path());
    let first = append(&journal, vec![entry(5, 1, b"first")]).expect("append")[0];
    journal.faults.failing_writes.store(1, Ordering::SeqCst);
    let error = append(&journal, vec![entry(5, 1, b"failed")]).expect_err("full");
    assert!(matches!(error, JournalError::NoSpace { .. }), "{error}");
    assert_eq!(fs::metadata(temp.path().join(first.file.to_string())).expect("file").len(), first.end);
    let second = append(&journal, vec![entry(5, 1, b"second")]).expect("append")[0];
    assert_eq!(second.file, first.file);
    drop(journal);
    let (entries, report) = replay(&open(temp.path()));
    assert_eq!((payloads(&entries), report.damaged_count), (vec!["first", "second"], 0));
}

#[test]
fn deletes_are_taken_on_a_full_disk() {
    let temp = tempfile::tempdir().expect("directory");
    let journal = open(temp.path());
    append(&journal, vec![entry(5, 1, b"before")]).expect("append");
    journal.faults.is_full.store(true, Ordering::SeqCst);
    let reserved = |entries| runtime().block_on(journal.append(entries, Space::Reserved));
    append(&journal, vec![entry(5, 1, b"refused")]).expect_err("full");
    let taken = reserved(vec![entry(4, 2, b"delete 4"), entry(6, 2, b"delete 6")]).expect("taken");
    assert!(taken.iter().all(|position| position.file.day == Day(6)), "kept as long as the latest day");
    reserved(vec![entry(5, 2, b"delete 5")]).expect("taken");
    reserved(vec![entry(9, 2, b"delete 9")]).expect_err("its file would go too early");
    reserved(vec![entry(5, 2, &[0; 1 << 16])]).expect_err("longer than the reserve");
    append(&journal, vec![entry(6, 1, b"refused")]).expect_err("full");
    let expected = ["before", "delete 4", "delete 6", "delete 5"];
    assert_eq!(payloads(&replay(&journal).0), expected);
    journal.faults.is_full.store(false, Ordering::SeqCst);
    append(&journal, vec![entry(6, 1, b"room again")]).expect("append");
    drop(journal);
    let (journal, report) = Journal::open(temp.path(), JournalConfig::default()).expect("journal");
    assert!(report.has_reserve);
    assert_eq!(payloads(&replay(&journal).0), [&expected[..], &["room again"]].concat());
}

#[test]
fn more_days_than_open_files() {
    let temp = tempfile::tempdir().expect("directory");
    let journal = open(temp.path());
    for round in 0..2 {
        append(&journal, (0..80).map(|day| entry(day, round, &[])).collect()).expect("append");
    }
    assert_eq!(journal.stats().files, 80);
    assert_eq!(replay(&journal).0.len(), 160);
    assert!(replay(&journal).0.chunks(2).all(|day| (day[0].kind, day[1].kind) == (0, 1)));
}

#[test]
fn a_replay_stops_when_told() {
    let temp = tempfile::tempdir().expect("directory");
    let journal = open(temp.path());
    append(&journal, vec![entry(1, 1, b"a"), entry(1, 1, b"b")]).expect("append");
    let report = journal.replay(|_| 0, |_, _, _| ControlFlow::Break(())).expect("replay");
    assert_eq!((report.entries, report.is_stopped), (1, true));
    assert_eq!(ENTRY_HEADER_LEN as u64 + 1, journal.files()[0].end - FIRST_ENTRY - ENTRY_HEADER_LEN as u64 - 1);
}
