//! Retention: what ended before goes without a trace, what did not stays as it is, wherever the round is cut.

use std::collections::BTreeSet;

use stills_model::event::EventKind;
use stills_model::thumb::MediaId;
use stills_model::time::Span;

use super::super::{RetireCursor, Table};
use super::{Catalog, NOW, at, available, device, event, fold_all, open, recording, scan_all, timeline, user, visible};

/// A whole round; the media whose pictures go.
fn retire(catalog: &Catalog, before_ms: i64) -> Vec<MediaId> {
    let (mut cursor, mut purge) = (Some(RetireCursor::default()), Vec::new());
    while let Some(from) = cursor {
        let (effects, next) = catalog.retire(at(before_ms), from, NOW).expect("retire");
        purge.extend(effects.purge.into_iter().map(|(_, media)| media));
        cursor = next;
    }
    purge
}

/// More recordings than a batch takes, in several classes of length, some deleted, some never scanned.
fn filled(dir: &tempfile::TempDir) -> Catalog {
    let catalog = open(dir);
    let mut id = 0;
    let mut apply = |kind| {
        id += 1;
        catalog.apply(&event(i64::try_from(id).expect("small"), id, kind), NOW).expect("apply");
    };
    for n in 0..250u8 {
        let start_ms = i64::from(n) * 10_000;
        apply(available(n, start_ms, Some([9_000, 10_000, 30_000][usize::from(n) % 3])));
        if n % 50 == 7 {
            apply(EventKind::RecordingDeleted { device: device(1), recording: recording(n) });
        }
    }
    apply(EventKind::RangeDeleted { device: device(1), span: Span { start: at(100_000), end: at(130_000) } });
    scan_all(&catalog);
    apply(available(255, 0, Some(5_000)));
    catalog
}

#[test]
fn what_ended_before_goes_and_nothing_else() {
    for fold in [
        |_: &Catalog| {},
        |catalog: &Catalog| {
            fold_all(catalog);
        },
    ] {
        what_ended_before_goes(fold);
    }
}

fn what_ended_before_goes(fold: fn(&Catalog)) {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = filled(&dir);
    fold(&catalog);
    let window = Span { start: at(0), end: at(2_600_000) };
    let epoch = catalog.epoch(&timeline(1), &window).expect("epoch");
    let before = visible(&catalog);
    let alive = |ms: i64| -> Vec<_> { before.0.iter().filter(|(_, span, _)| span.end >= at(ms)).cloned().collect() };
    let n_indexed = before.0.len() - 1;
    assert_eq!(retire(&catalog, -1), []);
    assert_eq!(visible(&catalog), before);
    let mut gone = BTreeSet::new();
    for ms in [5_001, 600_000, 2_300_000] {
        gone.extend(retire(&catalog, ms));
        assert_eq!(visible(&catalog).0, alive(ms), "before {ms}");
        let first = visible(&catalog).1.first().map(|stretch| stretch.span.start);
        assert!(first >= alive(ms).iter().map(|(_, span, _)| span.start).min(), "coverage before {ms}");
        fold(&catalog);
        assert_eq!(retire(&catalog, ms), [], "once");
    }
    assert_eq!(catalog.epoch(&timeline(1), &window).expect("epoch"), epoch, "raises nothing, forgets nothing");
    retire(&catalog, 10_000_000);
    assert_eq!(visible(&catalog), (vec![], vec![], 0));
    // Nothing of them is left but the epochs and which classes of length there were.
    let left: Vec<u8> =
        catalog.tables.prefix(Table::Timelines, &timeline(1).key()).map(|kv| kv.expect("kv").0[24]).collect();
    assert!(left.iter().all(|kind| [5, 6].contains(kind)), "{left:?}");
    assert_eq!(catalog.pending().expect("pending"), []);
    let to_purge: BTreeSet<_> = catalog.to_purge().expect("purge").into_iter().map(|(_, media)| media).collect();
    assert!(to_purge.is_superset(&gone) && to_purge.len() == n_indexed, "every picture is noted before its row goes");
    assert_eq!(catalog.epoch(&timeline(1), &window).expect("epoch"), epoch);
}

#[test]
fn deletes_of_a_user_and_of_devices_stay() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    catalog.apply(&event(5, 1, EventKind::UserDeleted), NOW).expect("apply");
    catalog.apply(&event(5, 2, EventKind::DeviceDeleted { device: device(1) }), NOW).expect("apply");
    retire(&catalog, 10_000_000);
    catalog.apply(&event(4, 3, available(1, 0, Some(1000))), NOW).expect("apply");
    assert_eq!(visible(&catalog).2, 0, "it was announced before");
    assert!(catalog.row(&timeline(1), &recording(1)).expect("row").is_some_and(|row| row.removed));
    assert_eq!(timeline(1).user, user());
}
