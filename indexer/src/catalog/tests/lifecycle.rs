//! What happens to recordings after they are indexed: made again, deleted, expired, forgotten.

use stills_model::event::{Event, EventKind};
use stills_model::time::{DAY_MS, HOUR_MS, Span};

use super::super::row::State;
use super::super::{Catalog, Finished};
use super::{BASE_MS, NOW, at, available, device, event, index, open, recording, timeline, user, visible};

/// A scan of a recording whose media begins with `head`.
fn scanned(event: &Event, n: u8, start: i64, head: u8, instants: &[i64], len_ms: i64) -> Finished {
    let (order, index) = (event.order.clone(), index(instants, len_ms));
    let (timeline, recording, start, head) = (timeline(1), recording(n), at(start), [head; 16]);
    Finished { timeline, recording, start, order, media_len: 1, head, is_complete: true, index }
}

#[test]
fn footage_recorded_again_is_other_media_even_where_the_sizes_agree() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let window = Span { start: at(0), end: at(10_000) };
    let mut known = Vec::new();
    for (id, head) in [(1u8, 7), (2, 7), (3, 8)] {
        let event = event(i64::from(id), usize::from(id), available(1, 0, Some(10_000)));
        catalog.apply(&event, NOW).expect("apply");
        let effects = catalog.finish(&scanned(&event, 1, 0, head, &[0, 2000], 10_000), NOW).expect("finish");
        let media = catalog.locate(timeline(1), at(0), NOW).expect("locate").expect("covered").media;
        let epoch = catalog.epoch(&timeline(1), &window).expect("epoch");
        known.push((media, epoch, effects.expect("effects").purge.len()));
    }
    assert_eq!((known[0].0, &known[0].1, 0), (known[1].0, &known[1].1, known[1].2), "announced again, moved: the same");
    assert_ne!((known[1].0, &known[1].1), (known[2].0, &known[2].1), "recorded again: another");
    assert_eq!(known[2].2, 1);
    assert_eq!(catalog.to_purge().expect("purge"), [(timeline(1), known[1].0)]);
    catalog.note_purged(&[(timeline(1), known[1].0)]).expect("purged");
    assert_eq!(catalog.to_purge().expect("purge"), []);
}

#[test]
fn a_delete_by_range_does_not_judge_by_what_an_earlier_event_covered() {
    let long = |catalog: &Catalog, order: [usize; 3]| {
        let events = [
            event(1, 1, available(1, 0, None)),
            event(2, 2, available(1, 0, None)),
            event(3, 3, EventKind::RangeDeleted { device: device(1), span: Span { start: at(0), end: at(5000) } }),
        ];
        for n in order {
            catalog.apply(&events[n], NOW).expect("apply");
            if n == 0 {
                catalog.finish(&scanned(&events[0], 1, 0, 1, &[0], 3000), NOW).expect("finish");
            }
        }
        catalog.finish(&scanned(&events[1], 1, 0, 1, &[0], 9000), NOW).expect("finish");
        visible(catalog).0
    };
    let dirs = [tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir")];
    let in_order = long(&open(&dirs[0]), [0, 1, 2]);
    assert_eq!(in_order, [(recording(1), Span { start: at(0), end: at(9000) }, State::Indexed)]);
    assert_eq!(long(&open(&dirs[1]), [2, 1, 0]), in_order);
}

/// A keyframe also answers for the end of the recording before, which may lie in another bucket.
#[test]
fn a_delete_raises_the_bucket_next_door() {
    use stills_model::time::BUCKET_MS;
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let edge = (BASE_MS / BUCKET_MS) * BUCKET_MS - BASE_MS;
    for (n, start, instants) in [(1, edge - 60_000, &[0][..]), (2, edge, &[0, 2000])] {
        let event = event(1, usize::from(n), available(n, start, Some(60_000)));
        catalog.apply(&event, NOW).expect("apply");
        catalog.finish(&scanned(&event, n, start, 1, instants, 60_000), NOW).expect("finish");
    }
    let asked = at(edge - 1);
    let shown = |at| catalog.locate(timeline(1), at, NOW).expect("locate").expect("covered").recording;
    assert_eq!(shown(asked), recording(2));
    let window = Span { start: at(edge - 60_000), end: asked };
    let before = catalog.epoch(&timeline(1), &window).expect("epoch");
    let deleted = EventKind::RecordingDeleted { device: device(1), recording: recording(2) };
    catalog.apply(&event(2, 9, deleted), NOW).expect("apply");
    assert_eq!(shown(asked), recording(1));
    assert_ne!(catalog.epoch(&timeline(1), &window).expect("epoch"), before);
}

#[test]
fn nothing_stays_covered_at_a_midnight_whose_recordings_are_gone() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    // Midnight is at 60 s.
    for (n, start) in [(1, 0), (2, 60_000)] {
        let event = event(1, usize::from(n), available(n, start, Some(10_000)));
        catalog.apply(&event, NOW).expect("apply");
        catalog.finish(&scanned(&event, n, start, 1, &[0], 10_000), NOW).expect("finish");
    }
    for n in [1, 2] {
        let deleted = EventKind::RecordingDeleted { device: device(1), recording: recording(n) };
        catalog.apply(&event(2, usize::from(n) + 2, deleted), NOW).expect("apply");
    }
    assert_eq!(visible(&catalog).1, []);
}

#[test]
fn seen_events_are_forgotten_after_a_day() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let first = event(1, 1, available(1, 0, Some(10_000)));
    catalog.apply(&first, NOW).expect("apply");
    let late = NOW.plus_ms(DAY_MS - 1);
    catalog.apply(&event(1, 2, available(2, 0, Some(10_000))), late).expect("apply");
    let is_seen = |n: usize, now| {
        let order = event(1, n, EventKind::UserDeleted).order;
        catalog.is_seen(user(), &order, now).expect("seen")
    };
    assert!(is_seen(1, late) && !is_seen(1, NOW.plus_ms(DAY_MS + 1000)));
    // An hour's events are forgotten together.
    catalog.forget_seen(NOW.plus_ms(DAY_MS + HOUR_MS)).expect("forget");
    assert_eq!(catalog.seen.count(), 2);
    catalog.set_checkpoint(b"").expect("checkpoint");
    catalog.forget_seen(NOW.plus_ms(DAY_MS + HOUR_MS)).expect("forget");
    assert_eq!(catalog.seen.count(), 1);
    assert!(is_seen(2, late));
    drop(catalog);
    let catalog = open(&dir);
    assert!(catalog.is_seen(user(), &event(1, 2, EventKind::UserDeleted).order, late).expect("seen"));
}

#[test]
fn a_recording_goes_when_its_time_is_over_and_does_not_come_back() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    let expiring = |n: u8, id: usize, expires_ms: i64| {
        let EventKind::Available(mut available) = available(n, 0, Some(10_000)) else { unreachable!("available") };
        available.expires_at = Some(at(expires_ms));
        event(i64::try_from(id).expect("small"), id, EventKind::Available(available))
    };
    let events = [expiring(1, 1, 50_000), expiring(2, 2, 50_000), expiring(2, 3, 90_000)];
    for event in &events {
        catalog.apply(event, at(20_000)).expect("apply");
    }
    for (n, event) in [(1, &events[0]), (2, &events[2])] {
        catalog.finish(&scanned(event, n, 0, n, &[0], 10_000), at(20_000)).expect("finish");
    }
    let window = Span { start: at(0), end: at(10_000) };
    let epoch = catalog.epoch(&timeline(1), &window).expect("epoch");
    assert_eq!(catalog.expire(at(49_999)).expect("expire").0.purge.len(), 0);
    assert_eq!(visible(&catalog).2, 2);
    assert_eq!(catalog.expire(at(50_000)).expect("expire").0.purge.len(), 1);
    let ids: Vec<_> = visible(&catalog).0.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, [recording(2)], "a later event gave the second more time");
    catalog.expire(at(90_000)).expect("expire");
    assert_eq!(visible(&catalog).1, []);
    assert_eq!(catalog.epoch(&timeline(1), &window).expect("epoch"), epoch, "nothing kept outlives the recording");
    // Neither an older delete nor a replay brings it back.
    let deleted = EventKind::RecordingDeleted { device: device(1), recording: recording(2) };
    catalog.apply(&event(0, 9, deleted), at(95_000)).expect("apply");
    events.iter().for_each(|event| drop(catalog.replay(event, at(95_000)).expect("replay")));
    assert_eq!((visible(&catalog).2, catalog.pending().expect("pending").len()), (0, 0));
}

/// What ends right at midnight and what begins a seam later are one coverage, whichever day is asked.
#[test]
fn a_seam_may_begin_at_midnight() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    // Midnight is at 60 s; the second has no keyframe of its own.
    record(&catalog, &[(1, 30_000, 30_000, &[6_900]), (2, 61_000, 5_000, &[])]);
    check_shown(&catalog, &[60_000, 60_999, 61_000, 66_000], 36_900);
}

/// Takes recordings: number, start, length and the instants of their keyframes after it, all in milliseconds.
fn record(catalog: &Catalog, recordings: &[(u8, i64, i64, &[i64])]) {
    for &(n, start, len, instants) in recordings {
        let event = event(1, usize::from(n), available(n, start, Some(len)));
        catalog.apply(&event, NOW).expect("apply");
        catalog.finish(&scanned(&event, n, start, 1, instants, len), NOW).expect("finish");
    }
}

/// What is shown at all of these instants is the keyframe at another.
fn check_shown(catalog: &Catalog, asked: &[i64], expected: i64) {
    for asked in asked {
        let located = catalog.locate(timeline(1), at(*asked), NOW).expect("locate");
        assert_eq!(located.map(|located| located.timestamp), Ok(at(expected)), "at {asked}");
    }
}

/// The only keyframe of a stretch lies behind midnight, a seam away from what touches no midnight itself.
#[test]
fn a_keyframe_is_found_across_midnight() {
    let dir = tempfile::tempdir().expect("dir");
    let catalog = open(&dir);
    record(&catalog, &[(1, 28_710, 13_813, &[]), (2, 41_048, 17_953, &[]), (3, 60_001, 1, &[0])]);
    check_shown(&catalog, &[28_710, 34_472, 59_001, 60_001], 60_001);
}
