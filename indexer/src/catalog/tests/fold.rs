//! Folded recordings read and change as others do, whoever looks meanwhile, and after every stop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use stills_model::event::EventKind;
use stills_model::time::{DAY_MS, HOUR_MS, Span};

use super::super::block::Block;
use super::super::{CatalogError, FoldCursor, Folded};
use super::{Catalog, NOW, at, available, device, event, fold_all, open, recording, scan_all, timeline, visible};

/// Recordings of a minute over some hours, scanned.
fn filled(dir: &tempfile::TempDir) -> Catalog {
    let catalog = open(dir);
    for n in 0..180u8 {
        let event = event(1, usize::from(n), available(n, i64::from(n) * 60_000, Some(60_000)));
        catalog.apply(&event, NOW).expect("apply");
    }
    scan_all(&catalog);
    catalog
}

/// All that can be read of a recording, of a media and of a window.
fn all_of(catalog: &Catalog) -> String {
    let mut all = format!("{:?}", visible(catalog));
    for n in 0..180u8 {
        let row = catalog.row(&timeline(1), &recording(n)).expect("row");
        let Some(media) = row.as_ref().and_then(|row| row.indexed.as_ref()).map(|indexed| indexed.media) else {
            all += &format!("{row:?}");
            continue;
        };
        let pages = catalog.keyframe_pages(&timeline(1), &media).expect("pages");
        let one = catalog.keyframe(&timeline(1), &media, 4000).expect("keyframe");
        let before = catalog.keyframe_up_to(&timeline(1), &media, 4399).expect("before");
        let first = catalog.first_keyframes(&timeline(1), &media, 3).expect("first");
        let is_shown = catalog.is_media_shown(&timeline(1), &media).expect("shown");
        all += &format!("{row:?} {pages:?} {one:?} {before:?} {first:?} {is_shown}");
    }
    let window = Span { start: at(-DAY_MS), end: at(DAY_MS) };
    let activity = catalog.activity(&timeline(1), &window, HOUR_MS).expect("activity");
    let (aside, devices) = (catalog.set_aside(&super::super::RowCursor::default()), catalog.devices(super::user()));
    all + &format!("{activity:?} {aside:?} {devices:?}")
}

#[test]
fn folded_recordings_read_as_others_do() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = filled(&dir);
    let before = all_of(&catalog);
    let n_before = catalog.verify(|_| {}).expect("verify");
    // The first starts a minute before midnight, so there is one hour more than three.
    assert_eq!(fold_all(&catalog), Folded { hours: 4, recordings: 180 });
    assert_eq!(all_of(&catalog), before);
    assert_eq!(fold_all(&catalog), Folded::default(), "nothing is left to fold");
    let folded = catalog.verify(|_| {}).expect("verify");
    assert_eq!((folded.recordings, folded.malformed, folded.without_keyframes), (180, 0, 0));
    assert!(folded.values * 2 < n_before.values, "{} of {}", folded.values, n_before.values);
    drop(catalog);
    let catalog = open(&dir);
    assert_eq!(all_of(&catalog), before);
}

#[test]
fn what_is_young_or_has_work_stays() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = filled(&dir);
    let fold = |now| catalog.fold(FoldCursor::default(), now).expect("fold").0.recordings;
    assert_eq!(fold(at(60_000 + HOUR_MS / 2 - 1)), 0);
    // The hour that ended half an hour ago, with the recording in it.
    assert_eq!(fold(at(60_000 + HOUR_MS / 2)), 1);
    let again = event(2, 500, available(179, 179 * 60_000, Some(60_000)));
    catalog.apply(&again, NOW).expect("apply");
    assert_eq!(fold_all(&catalog).recordings, 178, "one is to be scanned again");
    scan_all(&catalog);
    assert_eq!(fold_all(&catalog).recordings, 1, "it joins its hour");
}

#[test]
fn a_change_brings_its_hour_back() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = filled(&dir);
    fold_all(&catalog);
    let seen = visible(&catalog);
    let deleted = EventKind::RecordingDeleted { device: device(1), recording: recording(70) };
    let effects = catalog.apply(&event(2, 501, deleted), NOW).expect("apply").1;
    assert_eq!(effects.purge.len(), 1);
    let left: Vec<_> = seen.0.iter().filter(|(id, ..)| *id != recording(70)).cloned().collect();
    assert_eq!(visible(&catalog).0, left);
    assert_eq!(fold_all(&catalog), Folded { hours: 1, recordings: 60 }, "the deleted one too");
    assert_eq!(visible(&catalog).0, left);
    let range = Span { start: at(0), end: at(HOUR_MS) };
    let effects = catalog.apply(&event(3, 502, EventKind::RangeDeleted { device: device(1), span: range }), NOW);
    assert_eq!(effects.expect("apply").1.purge.len(), 60);
    fold_all(&catalog);
    let effects = catalog.apply(&event(4, 503, EventKind::DeviceDeleted { device: device(1) }), NOW).expect("apply").1;
    assert_eq!(effects.purge.len(), 119);
    assert_eq!(visible(&catalog), (vec![], vec![], 0));
    // The order of a delete counts for folded ones as for others.
    fold_all(&catalog);
    catalog.apply(&event(3, 504, available(5, 0, Some(60_000))), NOW).expect("apply");
    assert_eq!(visible(&catalog).2, 0);
}

/// Whoever reads while recordings move sees each of them once.
#[test]
fn readers_miss_nothing_while_recordings_move() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = filled(&dir);
    let (seen, is_over) = (visible(&catalog), AtomicBool::new(false));
    let media =
        catalog.row(&timeline(1), &recording(9)).expect("row").and_then(|row| row.indexed).expect("indexed").media;
    let (asked, later) = (at(9 * 60_000 + 4900), at(2 * DAY_MS));
    let located = catalog.locate(timeline(1), asked, later).expect("locate");
    assert!(located.is_ok(), "{located:?}");
    std::thread::scope(|scope| {
        let read = || {
            let mut n_reads = 0;
            while !is_over.load(Ordering::Relaxed) || n_reads < 10 {
                assert_eq!(visible(&catalog), seen);
                assert!(catalog.is_media_shown(&timeline(1), &media).expect("shown"));
                assert!(catalog.keyframe(&timeline(1), &media, 4000).expect("keyframe").is_some());
                assert_eq!(catalog.locate(timeline(1), asked, later).expect("locate"), located);
                n_reads += 1;
            }
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for n in 0..60u8 {
            fold_all(&catalog);
            let _turn = catalog.lock(&timeline(1));
            catalog.unfold(&timeline(1), &recording(n * 3), None).expect("unfold");
        }
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
    });
}

/// The check sum keeps damage away from it; what has the right sum and is wrong all the same must not end the server.
#[test]
fn a_block_that_is_wrong_is_told_from_a_right_one_or_read() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = filled(&dir);
    fold_all(&catalog);
    let place = catalog.place(&timeline(1), at(60_000).hour()).expect("place").expect("folded");
    let bytes = catalog.hours.read(&place).expect("read").expect("whole");
    assert_eq!(Block::decode(&bytes).expect("a block").encode().expect("encoded"), bytes);
    for n in 0..bytes.len() {
        assert!(Block::decode(&bytes[..n]).is_err(), "cut at {n}");
        for bit in 0..8 {
            let mut wrong = bytes.clone();
            wrong[n] ^= 1 << bit;
            let _ = Block::decode(&wrong);
        }
    }
}

/// What a crash leaves on the disk may still point to a block that was replaced: its bytes are there until it does not.
#[test]
fn a_replaced_block_outlives_what_points_to_it() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = filled(&dir);
    let before = all_of(&catalog);
    fold_all(&catalog);
    catalog.set_checkpoint(b"").expect("checkpoint");
    {
        let _turn = catalog.lock(&timeline(1));
        catalog.unfold(&timeline(1), &recording(100), None).expect("unfold");
    }
    let left = tempfile::tempdir().expect("dir");
    copy(dir.path(), left.path());
    assert_eq!(all_of(&open(&left)), before);
    let place = *catalog.left_behind.lock().expect("lock").first().expect("one");
    assert!(catalog.hours.read(&place).expect("read").is_some());
    fold_all(&catalog);
    assert!(catalog.left_behind.lock().expect("lock").is_empty());
    assert_eq!(all_of(&catalog), before);
}

fn copy(from: &Path, to: &Path) {
    for item in std::fs::read_dir(from).expect("list") {
        let (path, to) = {
            let item = item.expect("item");
            (item.path(), to.join(item.file_name()))
        };
        if path.is_dir() {
            std::fs::create_dir(&to).expect("create");
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).expect("copy");
        }
    }
}

/// A block that is not what was written condemns the store: its recordings come from the journal again.
#[test]
fn a_damaged_block_condemns_the_catalog() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = filled(&dir);
    fold_all(&catalog);
    drop(catalog);
    let path = dir.path().join("hours/0000000000.hours");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    let catalog = open(&dir);
    assert!(matches!(catalog.row(&timeline(1), &recording(0)), Err(CatalogError::Block)));
    assert_eq!(catalog.watched().reason().as_deref(), Some("an hour block is damaged"));
}
