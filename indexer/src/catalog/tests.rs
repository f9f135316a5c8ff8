//! The catalog against brute-force models: any order of events gives one state; the frame rule picks one keyframe.

mod fold;
mod lifecycle;
mod retire;

use std::collections::BTreeMap;

use proptest::prelude::*;
use stills_model::coverage::{Coverage, Stretch};
use stills_model::event::{Available, Event, EventKind, EventOrder};
use stills_model::fault::FaultKind;
use stills_model::id::{DeviceId, RecordingId, Timeline, UserId};
use stills_model::keyframe::{ByteRange, Codec, DecoderConfig, Keyframe, Orientation, Packaging};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::time::{DAY_MS, Span, Timestamp};

use super::row::State;
use super::{Catalog, Finished, FoldCursor, Folded, Located, Missing, Received};

const SEAM_MS: i64 = 1000;
/// Just before midnight, so that generated footage crosses it.
const BASE_MS: i64 = 20_000 * DAY_MS - 60_000;
const NOW: Timestamp = Timestamp::from_ms(BASE_MS + 30 * DAY_MS);

fn user() -> UserId {
    UserId::from_bytes([1; 12])
}

fn device(n: u8) -> DeviceId {
    DeviceId::from_bytes([n; 12])
}

fn timeline(n: u8) -> Timeline {
    Timeline { user: user(), device: device(n) }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(BASE_MS + ms)
}

fn recording(n: u8) -> RecordingId {
    format!("r{n}").parse().expect("id")
}

fn open(dir: &tempfile::TempDir) -> Catalog {
    Catalog::open(dir.path(), SEAM_MS, "test").expect("open").0
}

fn event(time: i64, id: usize, kind: EventKind) -> Event {
    let order = EventOrder { time_ns: time, source: "/test".into(), id: id.to_string().into() };
    Event { order, user: user(), kind }
}

fn available(n: u8, start_ms: i64, len_ms: Option<i64>) -> EventKind {
    EventKind::Available(Box::new(Available {
        device: device(1),
        recording: recording(n),
        start: at(start_ms),
        end: len_ms.map(|len| at(start_ms + len)),
        media_url: format!("file:///media/{n}-{start_ms}").into(),
        growing: false,
        expires_at: None,
        size: None,
        etag: None,
        credentials_key: None,
    }))
}

fn index(instants: &[i64], duration_ms: i64) -> KeyframeIndex {
    let config = DecoderConfig {
        codec: Codec::H264,
        packaging: Packaging::Samples { prefix: vec![] },
        extradata: vec![],
        size: (16, 16),
        sample_aspect: (1, 1),
        orientation: Orientation::default(),
    };
    let keyframe = |&at_ms: &i64| Keyframe {
        at_ms,
        config: 0,
        ranges: vec![ByteRange { offset: at_ms.unsigned_abs(), len: 7 }],
        gop_bytes: 9,
    };
    KeyframeIndex {
        configs: vec![config],
        keyframes: instants.iter().map(keyframe).collect(),
        duration_ms,
        resume: vec![],
    }
}

/// Scans everything that waits for it: each media has a keyframe every 400 ms for as long as it lasts.
fn scan_all(catalog: &Catalog) {
    for (timeline, recording) in catalog.pending().expect("pending") {
        let row = catalog.row(&timeline, &recording).expect("row").expect("a row for pending work");
        let (order, available) = row.latest.expect("latest");
        let len_ms = available.span().map_or(3000, |span| span.len_ms());
        let instants: Vec<i64> = (0..=len_ms / 400).map(|n| n * 400).collect();
        let index = index(&instants, len_ms);
        let finished = Finished {
            timeline,
            recording,
            start: available.start,
            order,
            media_len: 1,
            head: [0; 16],
            is_complete: true,
            index,
        };
        assert_eq!(Finished::decode(&finished.encode()).as_ref(), Ok(&finished));
        catalog.finish(&finished, NOW).expect("finish");
        let indexed = catalog.row(&timeline, &finished.recording).expect("row").and_then(|row| row.indexed);
        if let Some(indexed) = indexed {
            catalog.note_prerendered(&timeline, &finished.recording, indexed.media, NOW).expect("prerendered");
        }
    }
    assert_eq!(catalog.pending().expect("pending"), []);
}

fn note_all_prerendered(catalog: &Catalog) {
    for (timeline, recording) in catalog.pending().expect("pending") {
        let row = catalog.row(&timeline, &recording).expect("row").expect("a row for pending work");
        if let Some(indexed) = row.indexed {
            catalog.note_prerendered(&timeline, &recording, indexed.media, NOW).expect("prerendered");
        }
    }
}

/// Folds all that can be folded.
fn fold_all(catalog: &Catalog) -> Folded {
    let (mut from, mut all) = (Some(FoldCursor::default()), Folded::default());
    while let Some(cursor) = from {
        let (folded, next) = catalog.fold(cursor, NOW).expect("fold");
        (all.hours, all.recordings) = (all.hours + folded.hours, all.recordings + folded.recordings);
        from = next;
    }
    all
}

/// What people can see of the first device.
fn visible(catalog: &Catalog) -> (Vec<(RecordingId, Span, State)>, Vec<Stretch>, usize) {
    let window = Span { start: at(-DAY_MS), end: at(DAY_MS) };
    let page = catalog.recordings(&timeline(1), &window, 0, 1000).expect("recordings");
    let recordings = page.recordings.into_iter().map(|listed| (listed.recording, listed.span, listed.row.state()));
    let coverage = catalog.coverage(&timeline(1), &window).expect("coverage");
    (recordings.collect(), coverage.stretches().to_vec(), page.n_total)
}

#[derive(Debug, Clone)]
enum Step {
    Available(u8, i64, Option<i64>),
    Deleted(u8),
    Range(i64, i64),
    Device,
    User,
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        8 => (0u8..4, 0i64..100_000, 0i64..9000).prop_map(|(n, start, len)| Step::Available(n, start, Some(len))),
        1 => (0u8..4, 0i64..100_000).prop_map(|(n, start)| Step::Available(n, start, None)),
        2 => (0u8..4).prop_map(Step::Deleted),
        2 => (0i64..90_000, 0i64..60_000).prop_map(|(start, len)| Step::Range(start, len)),
        1 => Just(Step::Device),
        1 => Just(Step::User),
    ];
    // Few distinct times, so that ties are broken by source and id.
    prop::collection::vec((0i64..6, step), 1..14)
}

fn events(steps: &[(i64, Step)]) -> Vec<Event> {
    let kind = |step: &Step| match step {
        Step::Available(n, start, len) => available(*n, *start, *len),
        Step::Deleted(n) => EventKind::RecordingDeleted { device: device(1), recording: recording(*n) },
        Step::Range(start, len) => {
            EventKind::RangeDeleted { device: device(1), span: Span { start: at(*start), end: at(start + len) } }
        }
        Step::Device => EventKind::DeviceDeleted { device: device(1) },
        Step::User => EventKind::UserDeleted,
    };
    steps.iter().enumerate().map(|(id, (time, step))| event(*time, id, kind(step))).collect()
}

/// The contract's words, executed one by one: sort, then apply.
fn model(events: &[Event]) -> Vec<(RecordingId, Span)> {
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| a.order.cmp(&b.order));
    let mut alive: BTreeMap<RecordingId, Span> = BTreeMap::new();
    for event in sorted {
        match event.kind {
            EventKind::Available(available) => {
                let scanned = Span { start: available.start, end: available.start.plus_ms(3000) };
                alive.insert(available.recording.clone(), available.span().unwrap_or(scanned));
            }
            EventKind::RecordingDeleted { recording, .. } => drop(alive.remove(&recording)),
            EventKind::RangeDeleted { span, .. } => alive.retain(|_, held| !span.encloses(held)),
            EventKind::DeviceDeleted { .. } | EventKind::UserDeleted => alive.clear(),
        }
    }
    let mut list: Vec<_> = alive.into_iter().collect();
    list.sort_by(|a, b| (a.1.start, &a.0).cmp(&(b.1.start, &b.0)));
    list
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_events_gives_the_same_state(
        (steps, shuffled) in steps().prop_flat_map(|steps| {
            let places: Vec<usize> = (0..steps.len()).collect();
            (Just(steps), Just(places).prop_shuffle())
        }),
        scans in prop::collection::vec(any::<(bool, bool)>(), 14),
    ) {
        let events = events(&steps);
        let expected = model(&events);
        let dir = tempfile::tempdir().expect("dir");
        let catalog = open(&dir);
        for (place, (scan, fold)) in shuffled.iter().zip(scans) {
            // Twice: the second time is a duplicate and changes nothing.
            prop_assert_eq!(catalog.apply(&events[*place], NOW).expect("apply").0, Received::New);
            prop_assert_eq!(catalog.apply(&events[*place], NOW).expect("apply").0, Received::Duplicate);
            if scan {
                scan_all(&catalog);
            }
            if fold {
                fold_all(&catalog);
            }
        }
        scan_all(&catalog);
        let (recordings, coverage, _) = visible(&catalog);
        let listed: Vec<_> = recordings.iter().map(|(id, span, _)| (id.clone(), *span)).collect();
        prop_assert_eq!(&listed, &expected);
        prop_assert!(recordings.iter().all(|(_, _, state)| *state == State::Indexed));
        let mut union = Coverage::new();
        for (_, span) in &expected {
            union.insert(Stretch { span: *span, has_keyframe: true }, SEAM_MS);
        }
        prop_assert_eq!(&coverage[..], union.stretches());
        let seen = visible(&catalog);
        fold_all(&catalog);
        prop_assert_eq!(visible(&catalog), seen);
        // And a replay of everything in yet another order changes nothing.
        for event in events.iter().rev() {
            catalog.replay(event, NOW).expect("replay");
        }
        scan_all(&catalog);
        prop_assert_eq!(visible(&catalog).0, recordings);
    }

    #[test]
    fn the_frame_rule_equals_its_model(
        raw in prop::collection::vec(
            (0i64..120_000, 1i64..20_000, prop::collection::btree_set(0i64..21_000, 0..6)),
            1..9,
        ),
        instants in prop::collection::vec(-2_000i64..142_000, 24),
    ) {
        let dir = tempfile::tempdir().expect("dir");
        let catalog = open(&dir);
        let mut footage = Vec::new();
        for (n, (start, len, keyframes)) in (0u8..).zip(&raw) {
            let event = event(1, usize::from(n), available(n, *start, Some(*len)));
            catalog.apply(&event, NOW).expect("apply");
            let keyframes: Vec<i64> = keyframes.iter().copied().collect();
            let index = index(&keyframes, *len);
            let order = event.order;
            let finished = Finished { timeline: timeline(1), recording: recording(n), start: at(0), order, media_len: 1, head: [0; 16], is_complete: true, index };
            catalog.finish(&finished, NOW).expect("finish");
            footage.push((recording(n), Span { start: at(*start), end: at(start + len) }, keyframes));
        }
        for is_folded in [false, true] {
            for asked in instants.iter().copied().map(at) {
                let located = catalog.locate(timeline(1), asked, NOW).expect("locate");
                let expected = model_frame(&footage, asked);
                prop_assert_eq!(shown(&located), expected, "at {}, {}", asked.since_ms(at(0)), is_folded);
            }
            note_all_prerendered(&catalog);
            prop_assert_eq!(fold_all(&catalog).recordings, if is_folded { 0 } else { footage.len() });
        }
    }
}

fn shown(located: &Result<Located, Missing>) -> Option<(Timestamp, RecordingId)> {
    located.as_ref().ok().map(|located| (located.timestamp, located.recording.clone()))
}

/// The frame rule by looking at everything.
fn model_frame(footage: &[(RecordingId, Span, Vec<i64>)], asked: Timestamp) -> Option<(Timestamp, RecordingId)> {
    let mut coverage = Coverage::new();
    for (_, span, keyframes) in footage {
        coverage.insert(Stretch { span: *span, has_keyframe: !keyframes.is_empty() }, SEAM_MS);
    }
    let stretch = coverage.at(asked)?;
    let covering =
        footage.iter().filter(|(_, span, _)| span.contains(asked)).max_by_key(|(id, span, _)| (span.start, id));
    let here = covering.map_or(Span { start: asked, end: asked }, |(_, span, _)| *span);
    let frames = |only_touching: bool| {
        let near = move |span: &Span| {
            if only_touching { span.distance_ms(&here) <= SEAM_MS } else { stretch.span.encloses(span) }
        };
        footage.iter().filter(move |(_, span, _)| near(span)).flat_map(|(id, span, keyframes)| {
            let inside: Vec<i64> = keyframes.iter().copied().filter(|k| *k <= span.len_ms()).collect();
            let counted = if inside.is_empty() { keyframes.iter().copied().take(1).collect() } else { inside };
            counted.into_iter().map(move |k| (span.start.plus_ms(k), span.start, id.clone()))
        })
    };
    let best = |candidates: Vec<(Timestamp, Timestamp, RecordingId)>| {
        candidates.into_iter().min_by(|a, b| {
            let far = |t: Timestamp| t.since_ms(asked).abs();
            far(a.0).cmp(&far(b.0)).then(b.0.cmp(&a.0)).then((b.1, &b.2).cmp(&(a.1, &a.2)))
        })
    };
    best(frames(true).collect()).or_else(|| best(frames(false).collect())).map(|(t, _, id)| (t, id))
}

fn finish(catalog: &Catalog, event: &Event, n: u8, len_ms: i64) {
    let instants: Vec<i64> = (0..=len_ms / 2000).map(|k| k * 2000).collect();
    let (order, index) = (event.order.clone(), index(&instants, len_ms));
    let finished = Finished {
        timeline: timeline(1),
        recording: recording(n),
        start: at(0),
        order,
        media_len: 1,
        head: [0; 16],
        is_complete: true,
        index,
    };
    catalog.finish(&finished, NOW).expect("finish");
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let missing = |ms: i64| catalog.locate(timeline(1), at(ms), NOW).expect("locate").expect_err("nothing there");
    assert_eq!(missing(0), Missing::NotRecorded);
    let first = event(1, 1, available(1, 0, Some(10_000)));
    catalog.apply(&first, NOW).expect("apply");
    assert_eq!(missing(5000), Missing::NotIndexed);
    finish(&catalog, &first, 1, 10_000);
    assert_eq!(missing(20_000), Missing::Gap { covered_before: Some(at(10_000)), covered_after: None });
    let second = event(1, 2, available(2, 3 * DAY_MS, Some(10_000)));
    catalog.apply(&second, NOW).expect("apply");
    finish(&catalog, &second, 2, 10_000);
    let both = Missing::Gap { covered_before: Some(at(10_000)), covered_after: Some(at(3 * DAY_MS)) };
    assert_eq!(missing(DAY_MS), both);
    let deleted = EventKind::RecordingDeleted { device: device(1), recording: recording(1) };
    catalog.apply(&event(2, 3, deleted), NOW).expect("apply");
    assert_eq!(missing(5000), Missing::Deleted);
}

#[test]
fn epochs_rise_only_when_shown_instants_change() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let window = Span { start: at(0), end: at(60_000) };
    let epoch = || catalog.epoch(&timeline(1), &window).expect("epoch");
    let record = |n: u8, id: usize, start: i64, len: i64, now: Timestamp| {
        let event = event(1, id, available(n, start, Some(len)));
        catalog.apply(&event, now).expect("apply");
        let index = index(&[0, 2000], len);
        let (order, timeline) = (event.order, timeline(1));
        catalog
            .finish(
                &Finished {
                    timeline,
                    recording: recording(n),
                    start: at(start),
                    order,
                    media_len: 1,
                    head: [0; 16],
                    is_complete: true,
                    index,
                },
                now,
            )
            .expect("finish");
    };
    let start = epoch();
    record(1, 1, 0, 10_000, at(10_000));
    record(2, 2, 10_100, 10_000, at(20_100));
    assert_eq!(epoch(), start, "a recorder that appends changes nothing");
    record(3, 3, 15_000, 3000, at(21_000));
    let overlapped = epoch();
    assert_ne!(overlapped, start, "a late overlap does");
    record(4, 4, 20_200, 5000, at(20_200 + 3_600_000));
    let late = epoch();
    assert_ne!(late, overlapped, "so does a neighbour that comes an hour later");
    record(5, 5, 10 * DAY_MS, 5000, NOW);
    assert_eq!(epoch(), late, "another day does not");
    let deleted = EventKind::RecordingDeleted { device: device(1), recording: recording(1) };
    let effects = catalog.apply(&event(9, 6, deleted), NOW).expect("apply").1;
    assert_eq!(effects.purge.len(), 1);
    assert_ne!(epoch(), late, "a delete does");
}

#[test]
fn devices_and_reopening() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let first = event(1, 1, available(1, 0, Some(10_000)));
    catalog.apply(&first, NOW).expect("apply");
    assert_eq!(catalog.devices(user()).expect("devices"), []);
    finish(&catalog, &first, 1, 10_000);
    let devices = catalog.devices(user()).expect("devices");
    assert_eq!(
        devices.iter().map(|d| (d.timeline, d.first, d.last)).collect::<Vec<_>>(),
        [(timeline(1), at(0), at(10_000))]
    );
    let epoch = catalog.epoch(&timeline(1), &Span { start: at(0), end: at(1) }).expect("epoch");
    catalog.set_checkpoint(b"here").expect("checkpoint");
    drop(catalog);
    let (catalog, _) = Catalog::open(dir.path(), SEAM_MS, "another").expect("open");
    assert_eq!(catalog.checkpoint().expect("checkpoint").as_deref(), Some(&b"here"[..]));
    assert_eq!(catalog.epoch(&timeline(1), &Span { start: at(0), end: at(1) }).expect("epoch"), epoch);
    assert_eq!(catalog.devices(user()).expect("devices"), devices);
}

#[test]
fn pictures_near_the_end_are_settled_only_when_nothing_more_is_expected() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let first = event(1, 1, available(1, 0, Some(10_000)));
    catalog.apply(&first, NOW).expect("apply");
    finish(&catalog, &first, 1, 9000);
    let is_settled = |ms: i64, now: Timestamp| {
        catalog.locate(timeline(1), at(ms), now).expect("locate").expect("covered").is_settled
    };
    assert!(is_settled(4000, at(11_000)));
    assert!(!is_settled(9900, at(11_000)));
    let later = at(10_000 + 3_600_000);
    assert!(is_settled(9900, later));
    // What is announced there may bring a nearer one, and has done so once it is indexed.
    let next = event(2, 2, available(2, 10_000, Some(20_000)));
    catalog.apply(&next, NOW).expect("apply");
    assert!(!is_settled(9900, later));
    assert!(is_settled(4000, later));
    finish(&catalog, &next, 2, 9000);
    assert!(is_settled(9900, later));
}

#[test]
fn a_recording_without_media_shows_what_is_stored_and_then_leaves() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let first = event(1, 1, available(1, 0, Some(10_000)));
    catalog.apply(&first, NOW).expect("apply");
    finish(&catalog, &first, 1, 10_000);
    let media =
        catalog.row(&timeline(1), &recording(1)).expect("row").and_then(|row| row.indexed).expect("indexed").media;
    let gone = |stored: &[i64]| {
        let stored = stored.iter().copied().collect();
        catalog.note_gone(&timeline(1), &recording(1), media, &stored, NOW).expect("gone");
    };
    let shown_at = |ms: i64| shown(&catalog.locate(timeline(1), at(ms), NOW).expect("locate")).map(|(t, _)| t);
    gone(&[2000, 8000]);
    assert_eq!([shown_at(0), shown_at(5500), shown_at(9000)], [Some(at(2000)), Some(at(8000)), Some(at(8000))]);
    assert_eq!(visible(&catalog).0[0].2, State::Gone);
    gone(&[]);
    assert_eq!(visible(&catalog).1, []);
    let located = catalog.locate(timeline(1), at(5000), NOW).expect("locate");
    assert!(matches!(located, Err(Missing::Failed(fault)) if fault.kind == FaultKind::Gone));
    // A later event tries again.
    let again = event(2, 2, available(1, 0, Some(10_000)));
    catalog.apply(&again, NOW).expect("apply");
    finish(&catalog, &again, 1, 10_000);
    assert_eq!(shown_at(0), Some(at(0)));
}

/// Whoever remembers an answer asks for the number first: a write that it did not count would be shown too late.
#[test]
fn every_write_to_a_device_counts_as_a_change() {
    let dir = tempfile::tempdir().expect("directory");
    let catalog = open(&dir);
    let n_changes = || catalog.n_changes(&timeline(1));
    let span = Span { start: at(0), end: at(90_000) };
    let writes = [
        available(1, 0, Some(60_000)),
        available(2, 60_000, None),
        EventKind::RecordingDeleted { device: device(1), recording: recording(1) },
        EventKind::RangeDeleted { device: device(1), span },
        EventKind::DeviceDeleted { device: device(1) },
        EventKind::UserDeleted,
    ];
    for (n, kind) in (1..).zip(writes) {
        let before = n_changes();
        let epoch = catalog.epoch(&timeline(1), &span).expect("epoch");
        assert_eq!((n_changes(), epoch.is_empty()), (before, false), "reading is no change");
        catalog.apply(&event(n, usize::try_from(n).expect("few"), kind), NOW).expect("apply");
        assert!(n_changes() > before, "write {n}");
    }
}
