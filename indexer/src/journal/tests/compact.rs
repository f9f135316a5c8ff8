//! Compaction: what is needed stays, in order and once; a crash at any step loses nothing; copies are whole.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::super::compact::{LATE_BYTES, is_due};
use super::super::file::{self, Batch, Form};
use super::*;

const KEPT: u8 = 1;
const OWNED: u8 = 2;

fn config() -> JournalConfig {
    JournalConfig {
        reserve_bytes: 0,
        file_bytes_max: FIRST_ENTRY + 300,
        run_bytes_max: 100,
        retired_grace: Duration::ZERO,
        ..Default::default()
    }
}

/// Entries of kind [`OWNED`] are needed unless they begin with "old".
fn owned(journal: Journal) -> Journal {
    journal.set_owner(OWNED, |_, payload| !payload.starts_with(b"old"));
    journal
}

/// A journal whose day 7 has many files, half of whose owned entries are old; and what is needed of it.
fn many_files(dir: &Path) -> Vec<String> {
    let mut needed = Vec::new();
    for run in 0..3 {
        let journal = open_with(dir, config());
        for n in 0..12 {
            let text = format!("{} {run}-{n} {}", if n % 2 == 0 { "old" } else { "new" }, "x".repeat(30));
            append(&journal, vec![entry(7, OWNED, text.as_bytes()), entry(8, KEPT, b"other day")]).expect("append");
            needed.extend((n % 2 == 1).then_some(text));
        }
        append(&journal, vec![entry(7, KEPT, format!("unowned {run}").as_bytes())]).expect("append");
        needed.push(format!("unowned {run}"));
    }
    needed
}

fn of_day_7(journal: &Journal) -> Vec<String> {
    let (entries, report) = replay(journal);
    assert_eq!((report.damaged_count, report.torn.len()), (0, 0));
    let of_day = entries.into_iter().filter(|entry| entry.day == Day(7));
    of_day.map(|entry| String::from_utf8(entry.payload).expect("text")).collect()
}

#[test]
fn what_is_needed_stays_in_order_and_once() {
    let temp = tempfile::tempdir().expect("directory");
    let needed = many_files(temp.path());
    let journal = owned(open_with(temp.path(), config()));
    // What is appended before, during and after comes last.
    append(&journal, vec![entry(7, KEPT, b"before")]).expect("append");
    let before = journal.stats();
    assert_eq!(journal.due(Day(8), &BTreeSet::new()), Some(Day(7)), "so many files");
    let done = journal.compact(Day(7)).expect("compacted");
    append(&journal, vec![entry(7, KEPT, b"after")]).expect("append");
    assert!(done.files_after < done.files_before, "{done:?}");
    assert_eq!((done.kept, done.dropped, done.is_damaged), (needed.len() as u64 + 1, 18, false));
    let expected: Vec<String> = needed.into_iter().chain(["before".to_owned(), "after".to_owned()]).collect();
    assert_eq!(of_day_7(&journal), expected);
    assert!(journal.stats().bytes < before.bytes);
    drop(journal);
    let journal = owned(open_with(temp.path(), config()));
    assert_eq!(of_day_7(&journal), expected);
    // Again, with what came since; and once more, with nothing to do.
    journal.compact(Day(7)).expect("compacted");
    assert_eq!(of_day_7(&journal), expected);
    assert_eq!(journal.due(Day(9), &BTreeSet::from([Day(8)])), None);
    drop(journal);
    assert_eq!(of_day_7(&open_with(temp.path(), config())), expected);
}

#[test]
fn a_crash_at_any_step_loses_nothing() {
    for crash_point in 1..=6 {
        let temp = tempfile::tempdir().expect("directory");
        let needed = many_files(temp.path());
        let journal = owned(open_with(temp.path(), config()));
        journal.faults.crash_point.store(crash_point, Ordering::SeqCst);
        let compacted = journal.compact(Day(7));
        assert_eq!(compacted.is_ok(), crash_point == 6, "step {crash_point}: {compacted:?}");
        drop(journal);
        for _ in 0..2 {
            let journal = owned(open_with(temp.path(), config()));
            let found = of_day_7(&journal);
            let still: Vec<String> = found.iter().filter(|text| !text.starts_with("old")).cloned().collect();
            assert_eq!(still, needed, "step {crash_point}: in order and once");
            assert!(found.len() == needed.len() || found.len() == needed.len() + 18, "all of the old ones or none");
            // It goes on, and ends as without a crash.
            journal.compact(Day(7)).expect("compacted");
            assert_eq!(of_day_7(&journal), needed, "step {crash_point}");
            assert_eq!(journal.stats().files, fs::read_dir(temp.path()).expect("list").count(), "nothing is left over");
        }
    }
}

/// Old files are deleted one by one: a crash in between.
#[test]
fn old_files_that_are_half_deleted_are_not_read() {
    let temp = tempfile::tempdir().expect("directory");
    let needed = many_files(temp.path());
    let journal = owned(open_with(temp.path(), JournalConfig { retired_grace: Duration::MAX, ..config() }));
    let sources: Vec<FileName> = journal.files().iter().map(|p| p.file).filter(|name| name.day == Day(7)).collect();
    journal.compact(Day(7)).expect("compacted");
    drop(journal);
    for name in sources {
        assert_eq!(
            of_day_7(&open_with(temp.path(), JournalConfig { retired_grace: Duration::MAX, ..config() })),
            needed
        );
        fs::remove_file(temp.path().join(name.to_string())).expect("deleted");
    }
    assert_eq!(of_day_7(&open_with(temp.path(), config())), needed);
}

#[test]
fn a_failure_leaves_everything_as_it_was() {
    let temp = tempfile::tempdir().expect("directory");
    many_files(temp.path());
    let journal = owned(open_with(temp.path(), config()));
    let before = of_day_7(&journal);
    // A directory where the first new file would be written.
    fs::create_dir(temp.path().join("compacting-0")).expect("in the way");
    journal.compact(Day(7)).expect_err("refused");
    assert_eq!(of_day_7(&journal), before);
    append(&journal, vec![entry(7, KEPT, b"goes on")]).expect("append");
    assert_eq!(of_day_7(&journal).last().map(String::as_str), Some("goes on"));
}

#[test]
fn a_day_of_which_nothing_is_needed_vanishes() {
    let temp = tempfile::tempdir().expect("directory");
    let journal = owned(open_with(temp.path(), config()));
    append(&journal, vec![entry(3, OWNED, b"old"), entry(4, OWNED, b"new")]).expect("append");
    let done = journal.compact(Day(3)).expect("compacted");
    assert_eq!((done.files_after, done.dropped), (0, 1));
    assert_eq!(journal.days(), [Day(4)]);
    append(&journal, vec![entry(3, OWNED, b"new, late")]).expect("append");
    drop(journal);
    assert_eq!(payloads(&replay(&open_with(temp.path(), config())).0), ["new, late", "new"]);
}

#[test]
fn a_damaged_day_is_kept_for_inspection() {
    let temp = tempfile::tempdir().expect("directory");
    let (path, [first, ..]) = three(temp.path());
    let mut bytes = fs::read(&path).expect("file");
    bytes[usize::try_from(first).expect("offset") + ENTRY_HEADER_LEN] ^= 1;
    fs::write(&path, &bytes).expect("damage");
    let journal = open(temp.path());
    let done = journal.compact(Day(7)).expect("looked at");
    assert!(done.is_damaged);
    assert_eq!(fs::read(&path).expect("file"), bytes);
    assert_eq!(payloads(&replay(&journal).0), ["first", "third"]);
    let skip = BTreeSet::from([Day(7)]);
    assert_eq!((journal.due(Day(9), &BTreeSet::new()), journal.due(Day(9), &skip)), (Some(Day(7)), None));
}

/// The manual's backup: the directory is copied file by file, while entries are taken and files are joined.
#[test]
fn a_copy_made_while_it_runs_has_all_that_was_durable() {
    let temp = tempfile::tempdir().expect("directory");
    let config = || JournalConfig { retired_grace: Duration::from_secs(3600), ..config() };
    let journal = open_with(&temp.path().join("journal"), config());
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let journal = &journal;
        let (taken, seen) = std::sync::mpsc::channel();
        scope.spawn({
            let is_done = &is_done;
            move || {
                for n in 0u32.. {
                    if is_done.load(Ordering::SeqCst) {
                        return;
                    }
                    let day = i64::from(n % 3);
                    append(journal, vec![entry(day, KEPT, &n.to_be_bytes())]).expect("append");
                    taken.send(n).expect("a receiver");
                }
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                for day in 0..3 {
                    journal.compact(Day(day)).expect("compacted");
                }
            }
        });
        let mut last = 0;
        for round in 0..8 {
            // Twenty more at least, so that there is something new to copy.
            (0..20).for_each(|_| last = seen.recv().expect("appended"));
            let copy = temp.path().join(format!("copy-{round}"));
            fs::create_dir(&copy).expect("directory");
            let mut listed: Vec<_> = fs::read_dir(temp.path().join("journal"))
                .expect("list")
                .map(|item| item.expect("file").path())
                .collect();
            listed.sort();
            for path in listed.iter().filter(|path| path.extension().is_some_and(|e| e == "journal")) {
                fs::copy(path, copy.join(path.file_name().expect("name"))).expect("copied");
            }
            let (entries, report) = replay(&open_with(&copy, config()));
            assert_eq!(report.damaged_count, 0);
            let found: BTreeSet<Vec<u8>> = entries.into_iter().map(|entry| entry.payload).collect();
            assert!((0..=last).all(|n| found.contains(&n.to_be_bytes()[..])), "round {round}");
        }
        is_done.store(true, Ordering::SeqCst);
        while seen.recv().is_ok() {}
    });
}

/// One file of day 7 that a compaction made, of runs of 40 entries or so; and its entries.
fn runs_of_day_7(dir: &Path) -> (FileName, Vec<Entry>) {
    let config = JournalConfig { reserve_bytes: 0, run_bytes_max: 1000, ..JournalConfig::default() };
    let journal = open_with(dir, JournalConfig { retired_grace: Duration::ZERO, ..config });
    let entries: Vec<Entry> = (0..200).map(|n| entry(7, KEPT, format!("entry {n} of day 7").as_bytes())).collect();
    append(&journal, entries.clone()).expect("append");
    journal.compact(Day(7)).expect("compacted");
    (journal.files()[0].file, entries)
}

/// Of a file with runs: where each begins, and how many entries it has.
fn starts(journal: &Journal) -> Vec<(u64, usize)> {
    let mut starts: Vec<(u64, usize)> = vec![(FIRST_ENTRY, 0)];
    for (position, _) in replay_after(journal, &BTreeMap::new()).0 {
        let last = starts.last_mut().expect("a start");
        last.1 += 1;
        if position.end > last.0 {
            starts.push((position.end, 0));
        }
    }
    starts.pop();
    starts
}

#[test]
fn entries_are_compressed_and_given_back_from_any_position() {
    let temp = tempfile::tempdir().expect("directory");
    let (name, entries) = runs_of_day_7(temp.path());
    let journal = open(temp.path());
    let plain: usize = entries.iter().map(|entry| ENTRY_HEADER_LEN + entry.payload.len()).sum();
    assert!((journal.files()[0].end - FIRST_ENTRY) * 4 < plain as u64, "a quarter at most");
    let (found, _) = replay_after(&journal, &BTreeMap::new());
    assert_eq!(found.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), entries);
    assert!(starts(&journal).len() > 3);
    for (n, (position, _)) in found.iter().enumerate() {
        let (rest, report) = replay_after(&journal, &BTreeMap::from([(name, position.end)]));
        assert_eq!(report.damaged_count, 0);
        // What comes behind comes again, and perhaps some of what came before, in its run.
        assert!(found.ends_with(&rest) && (found.len() - n - 1..found.len() - n + 60).contains(&rest.len()), "{n}");
    }
    assert_eq!(replay_after(&journal, &BTreeMap::from([(name, found[199].0.end)])).0, []);
}

#[test]
fn a_damaged_run_loses_itself_alone() {
    let temp = tempfile::tempdir().expect("directory");
    let (name, entries) = runs_of_day_7(temp.path());
    let path = temp.path().join(name.to_string());
    let whole = fs::read(&path).expect("file");
    let starts = starts(&open(temp.path()));
    let mut before = 0;
    for (n, (start, len)) in starts.iter().enumerate() {
        let is_last = n + 1 == starts.len();
        let end = starts.get(n + 1).map_or(whole.len() as u64, |(next, _)| *next);
        // In the marker, in the length, in what is compressed.
        for at in [0, 9, ENTRY_HEADER_LEN + 20] {
            let mut bytes = whole.clone();
            bytes[usize::try_from(*start).expect("offset") + at] ^= 0x10;
            fs::write(&path, &bytes).expect("damage");
            let (found, report) = replay(&open(temp.path()));
            assert_eq!(found, [&entries[..before], &entries[before + len..]].concat(), "run {n} at {at}");
            let stretches = if is_last { &report.torn } else { &report.damaged };
            assert_eq!(stretches[..], [Stretch { file: name, offset: *start, len: end - start }]);
        }
        before += len;
    }
    // Such a day is kept as it is.
    let mut bytes = whole;
    bytes[usize::try_from(starts[1].0).expect("offset")] ^= 1;
    fs::write(&path, &bytes).expect("damage");
    assert!(open(temp.path()).compact(Day(7)).expect("looked at").is_damaged);
}

#[test]
fn a_run_that_cannot_be_opened_is_damage() {
    let temp = tempfile::tempdir().expect("directory");
    let name = FileName { day: Day(7), sequence: 2 };
    let path = temp.path().join(name.to_string());
    let (file, marker) = file::create(&path, 0).expect("file");
    file::write_header(&file, Form::Runs, &marker, Batch { first: 2, last: 2 }).expect("header");
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).expect("compressed");
    let run = [&[KEPT, 4][..], b"kept"].concat();
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for (method, payload) in [(0, &run), (1, &bomb), (9, &run), (0, &run)] {
        let at = FIRST_ENTRY + bytes.len() as u64;
        file::encode_entry(&mut bytes, &marker, at, method, payload);
        ends.push(FIRST_ENTRY + bytes.len() as u64);
    }
    file.write_all_at(&bytes, FIRST_ENTRY).expect("written");
    let (found, report) = replay(&open(temp.path()));
    assert_eq!(payloads(&found), ["kept", "kept"]);
    let stretch = |n: usize| Stretch { file: name, offset: ends[n - 1], len: ends[n] - ends[n - 1] };
    assert_eq!((report.damaged, report.damaged_count), (vec![stretch(1), stretch(2)], 2));
}

/// Earlier releases did not compress what they joined.
#[test]
fn what_an_earlier_release_joined_is_read_and_joined_again() {
    let temp = tempfile::tempdir().expect("directory");
    let path = temp.path().join(FileName { day: Day(7), sequence: 2 }.to_string());
    let (file, marker) = file::create(&path, 0).expect("file");
    file::write_header(&file, Form::Entries, &marker, Batch { first: 2, last: 2 }).expect("header");
    let mut bytes = Vec::new();
    for payload in ["old and needed no more", "new"] {
        let at = FIRST_ENTRY + bytes.len() as u64;
        file::encode_entry(&mut bytes, &marker, at, OWNED, payload.as_bytes());
    }
    file.write_all_at(&bytes, FIRST_ENTRY).expect("written");
    let journal = owned(open_with(temp.path(), config()));
    assert_eq!(of_day_7(&journal), ["old and needed no more", "new"]);
    append(&journal, vec![entry(7, OWNED, b"new, late")]).expect("append");
    let done = journal.compact(Day(7)).expect("compacted");
    assert_eq!((done.kept, done.dropped, done.files_after), (2, 1, 1));
    drop(journal);
    assert_eq!(of_day_7(&open_with(temp.path(), config())), ["new", "new, late"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_entries_survive_any_compactions(
        rounds in prop::collection::vec(
            prop::collection::vec((any::<u8>(), prop::collection::vec(0u8..3, 0..200)), 0..12),
            1..6,
        ),
        run_bytes_max in 0u32..600,
        file_bytes_max in FIRST_ENTRY..FIRST_ENTRY + 400,
    ) {
        let temp = tempfile::tempdir().expect("directory");
        let config = JournalConfig { run_bytes_max, file_bytes_max, ..config() };
        let (mut kept, mut journal) = (Vec::new(), open_with(temp.path(), config.clone()));
        for (n, round) in rounds.into_iter().enumerate() {
            let entries: Vec<Entry> = round.into_iter().map(|(kind, payload)| entry(7, kind, &payload)).collect();
            for entry in entries {
                append(&journal, vec![entry.clone()]).expect("append");
                kept.push(entry);
            }
            let done = journal.compact(Day(7)).expect("compacted");
            prop_assert_eq!((done.kept, done.dropped), (kept.len() as u64, 0));
            if n % 2 == 0 {
                drop(journal);
                journal = open_with(temp.path(), config.clone());
            }
            prop_assert_eq!(&replay(&journal).0, &kept);
        }
    }
}

/// A thousand devices write 768 MB of entries a day, in files of 64 MiB, which become 0.43 of that.
#[test]
fn a_long_day_ends_compacted_and_is_rewritten_a_few_times() {
    let file = |len, compacted| Shelved { len, current: true, compacted };
    let (mut files, mut n_rewritten, mut late_max) = (Vec::new(), 0, 0);
    let compact = |files: &mut Vec<Shelved>| {
        let len = |file: &Shelved| if file.compacted { file.len } else { file.len * 43 / 100 };
        let whole = files.iter().map(len).sum();
        *files = vec![file(whole, true)];
        whole
    };
    for _ in 0..12 {
        files.push(file(64 << 20, false));
        late_max = late_max.max(files.iter().filter(|file| !file.compacted).count());
        if is_due(&files, false) {
            n_rewritten += compact(&mut files);
        }
    }
    assert!(late_max <= 5, "{late_max} files are not compressed");
    if is_due(&files, true) {
        n_rewritten += compact(&mut files);
    }
    assert!(files.iter().all(|file| file.compacted));
    let len = files[0].len;
    assert!(n_rewritten < 4 * len, "{n_rewritten} bytes for {len}");
    // What comes late is joined when it is worth it, and then there is nothing more to do.
    assert!(!is_due(&files, true));
    files.push(file(len / 5, false));
    assert!(!is_due(&files, true));
    files.push(file(len / 5, false));
    assert!(is_due(&files, true));
    // A quiet day is left alone until it is over, unless it has many files.
    assert!(!is_due(&[file(LATE_BYTES - 1, false)], false));
    assert!(is_due(&[file(FIRST_ENTRY, false); 8], false));
}
