//! The keys of the catalog's timeline table. All begin with user and device; the byte after them says what follows.
//!
//! | byte | then | value |
//! |---|---|---|
//! | 1 | recording id | the recording's row |
//! | 2 | length class, start, recording id | [`super::row::Entry`]: what a look-up by time needs |
//! | 3 | day | coverage of that day |
//! | 4 | media id, first instant | a page of keyframes |
//! | 5 | | which length classes the timeline has |
//! | 6 | bucket | epoch sequence |
//! | 7 | time, digest of source and id | a delete by range, or of the device |
//! | 8 | configuration id | a decoder configuration (under device zero: shared by the user's devices) |
//! | 9 | time, digest of source and id | a delete of the user (under device zero) |
//! | 10 | hour | [`super::folded_ids::Pointer`]: where the block of the recordings lies that start in it and are folded |

use sha2::{Digest, Sha256};
use stills_model::event::EventOrder;
use stills_model::id::{DeviceId, RecordingId, Timeline, UserId};
use stills_model::keyframe::ConfigId;
use stills_model::thumb::MediaId;
use stills_model::time::{Bucket, DAY_MS, Day, Hour, Timestamp};

use super::row::Entry;

const ROW: u8 = 1;
const ENTRY: u8 = 2;
const COVERAGE: u8 = 3;
const KEYFRAMES: u8 = 4;
const CLASSES: u8 = 5;
const EPOCH: u8 = 6;
const DELETE: u8 = 7;
const CONFIG: u8 = 8;
const USER_DELETE: u8 = 9;
const HOUR: u8 = 10;

/// Recordings are listed by start within classes of length, so that a look-up by instant reads back no further
/// than the class is long, whatever odd long recording the device also has: at most about eight times the
/// recordings that really cover it.
pub(super) const CLASS_MAX_MS: [i64; 5] = [15_000, 120_000, 960_000, 7_680_000, DAY_MS];

/// The class of a recording of this length.
pub(super) fn class_of(len_ms: i64) -> u8 {
    let class = CLASS_MAX_MS.iter().position(|max| len_ms <= *max).unwrap_or(CLASS_MAX_MS.len() - 1);
    u8::try_from(class).unwrap_or(0)
}

/// Signed integers in an order that bytes keep.
fn ordered(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ 1 << 63).to_be_bytes()
}

/// Undoes [`ordered`] on the first eight bytes.
fn unordered(bytes: &[u8]) -> Option<i64> {
    bytes.first_chunk().map(|raw| (u64::from_be_bytes(*raw) ^ 1 << 63).cast_signed())
}

fn key(timeline: &Timeline, kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = timeline.key().to_vec();
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// Where the user's own values lie: under the device of all zeros.
pub(super) const fn of_user(user: UserId) -> Timeline {
    Timeline { user, device: DeviceId::from_bytes([0; 12]) }
}

pub(super) fn row(timeline: &Timeline, recording: &RecordingId) -> Vec<u8> {
    key(timeline, ROW, &[recording.as_str().as_bytes()])
}

/// The prefix of all rows of a timeline.
pub(super) fn rows(timeline: &Timeline) -> Vec<u8> {
    key(timeline, ROW, &[])
}

/// Behind the last of all rows of a timeline.
pub(super) fn rows_end(timeline: &Timeline) -> Vec<u8> {
    key(timeline, ROW, &[&[u8::MAX]])
}

/// Timeline and recording of a row's key; none: another key.
pub(super) fn parse_row(key: &[u8]) -> Option<(Timeline, RecordingId)> {
    let id = key.get(25..).filter(|_| key[24] == ROW)?;
    Some((parse_timeline(key)?, std::str::from_utf8(id).ok()?.parse().ok()?))
}

pub(super) fn entry(timeline: &Timeline, class: u8, start: Timestamp, recording: &RecordingId) -> Vec<u8> {
    key(timeline, ENTRY, &[&[class], &ordered(start.as_ms()), recording.as_str().as_bytes()])
}

/// The key of an entry.
pub(super) fn entry_of(timeline: &Timeline, of: &Entry) -> Vec<u8> {
    entry(timeline, class_of(of.span.len_ms()), of.span.start, &of.recording)
}

/// First and last key of the entries of a class that start in `[from, to]`.
pub(super) fn entries(timeline: &Timeline, class: u8, from: Timestamp, to: Timestamp) -> (Vec<u8>, Vec<u8>) {
    let first = key(timeline, ENTRY, &[&[class], &ordered(from.as_ms())]);
    // No recording id reaches 0x80, so this is behind every id of the last start.
    let last = key(timeline, ENTRY, &[&[class], &ordered(to.as_ms()), &[0x80]]);
    (first, last)
}

/// Start and recording id of an entry's key.
pub(super) fn parse_entry(key: &[u8]) -> Option<(Timestamp, RecordingId)> {
    let rest = key.get(26..)?;
    let start = Timestamp::from_ms(unordered(rest)?);
    let recording = std::str::from_utf8(rest.get(8..)?).ok()?.parse().ok()?;
    Some((start, recording))
}

pub(super) fn coverage(timeline: &Timeline, day: Day) -> Vec<u8> {
    key(timeline, COVERAGE, &[&ordered(day.0)])
}

pub(super) fn page(timeline: &Timeline, media: &MediaId, first_at_ms: i64) -> Vec<u8> {
    key(timeline, KEYFRAMES, &[&media.0, &ordered(first_at_ms)])
}

/// The prefix of all pages of one media.
pub(super) fn pages(timeline: &Timeline, media: &MediaId) -> Vec<u8> {
    key(timeline, KEYFRAMES, &[&media.0])
}

pub(super) fn classes(timeline: &Timeline) -> Vec<u8> {
    key(timeline, CLASSES, &[])
}

pub(super) fn hour(timeline: &Timeline, hour: Hour) -> Vec<u8> {
    key(timeline, HOUR, &[&hour.to_bytes()])
}

/// The hour of such a key.
pub(super) fn parse_hour(key: &[u8]) -> Option<Hour> {
    Some(Hour::from_bytes(key.get(25..)?.try_into().ok()?))
}

pub(super) fn epoch(timeline: &Timeline, bucket: Bucket) -> Vec<u8> {
    key(timeline, EPOCH, &[&ordered(bucket.0)])
}

/// Whose recordings a delete can hit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope {
    Device(Timeline),
    User(UserId),
}

impl Scope {
    fn prefix(self) -> (Timeline, u8) {
        match self {
            Self::Device(timeline) => (timeline, DELETE),
            Self::User(user) => (of_user(user), USER_DELETE),
        }
    }
}

pub(super) fn delete(scope: Scope, order: &EventOrder) -> Vec<u8> {
    let (owner, kind) = scope.prefix();
    key(&owner, kind, &[&ordered(order.time_ns), &identity(order)])
}

/// First and last key of the deletes whose time is not before `order`'s.
pub(super) fn deletes_since(scope: Scope, order: &EventOrder) -> (Vec<u8>, Vec<u8>) {
    let (owner, kind) = scope.prefix();
    (key(&owner, kind, &[&ordered(order.time_ns)]), key(&owner, kind, &[&[0xff; 25]]))
}

/// First and last key of all deletes.
pub(super) fn deletes(scope: Scope) -> (Vec<u8>, Vec<u8>) {
    let (owner, kind) = scope.prefix();
    (key(&owner, kind, &[]), key(&owner, kind, &[&[0xff; 25]]))
}

pub(super) fn config(user: UserId, id: &ConfigId) -> Vec<u8> {
    key(&of_user(user), CONFIG, &[&id.0])
}

/// A fixed-length stand-in for an event's source and id.
pub(super) fn identity(order: &EventOrder) -> [u8; 16] {
    let mut digest = Sha256::new();
    digest.update((order.source.len() as u64).to_be_bytes());
    digest.update(order.source.as_bytes());
    digest.update(order.id.as_bytes());
    let mut identity = [0; 16];
    identity.copy_from_slice(&digest.finalize()[..16]);
    identity
}

/// The key of a recording in the table of pending work.
pub(super) fn pending(timeline: &Timeline, recording: &RecordingId) -> Vec<u8> {
    [&timeline.key()[..], recording.as_str().as_bytes()].concat()
}

/// The key of a recording in the table of expiries.
pub(super) fn expiry(at: Timestamp, timeline: &Timeline, recording: &RecordingId) -> Vec<u8> {
    [&ordered(at.as_ms())[..], &pending(timeline, recording)].concat()
}

/// First and last key of what has expired at `now`.
pub(super) fn expiries_until(now: Timestamp) -> (Vec<u8>, Vec<u8>) {
    (Vec::new(), [&ordered(now.as_ms())[..], &[u8::MAX; 25]].concat())
}

/// Timeline and recording of a key of the table of expiries.
pub(super) fn parse_expiry(key: &[u8]) -> Option<(Timeline, RecordingId)> {
    parse_pending(key.get(8..)?)
}

/// The key of a media in the table of pictures to remove.
pub(super) fn purge(timeline: &Timeline, media: &MediaId) -> Vec<u8> {
    [&timeline.key()[..], &media.0].concat()
}

/// Timeline and media of a key of pictures to remove.
pub(super) fn parse_purge(key: &[u8]) -> Option<(Timeline, MediaId)> {
    let media = key.get(24..)?.try_into().ok()?;
    Some((parse_timeline(key)?, MediaId(media)))
}

/// Timeline and recording of a pending key.
pub(super) fn parse_pending(key: &[u8]) -> Option<(Timeline, RecordingId)> {
    let (user, rest) = key.split_first_chunk()?;
    let (device, id) = rest.split_first_chunk()?;
    let timeline = Timeline { user: UserId::from_bytes(*user), device: DeviceId::from_bytes(*device) };
    Some((timeline, std::str::from_utf8(id).ok()?.parse().ok()?))
}

/// The key behind which the user's next device begins.
pub(super) fn device_end(timeline: &Timeline) -> Vec<u8> {
    key(timeline, u8::MAX, &[])
}

/// User and device of any timeline key.
pub(super) fn parse_timeline(key: &[u8]) -> Option<Timeline> {
    let (user, rest) = key.split_first_chunk()?;
    let device = rest.first_chunk()?;
    Some(Timeline { user: UserId::from_bytes(*user), device: DeviceId::from_bytes(*device) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_order_as_bytes() {
        let times = [i64::MIN, -1, 0, 1, 1_757_371_980_000, i64::MAX];
        assert!(times.windows(2).all(|pair| ordered(pair[0]) < ordered(pair[1])));
        assert!(times.iter().all(|t| unordered(&ordered(*t)) == Some(*t)));
    }

    #[test]
    fn entries_are_found_by_their_start() {
        let timeline = Timeline { user: UserId::from_bytes([1; 12]), device: DeviceId::from_bytes([2; 12]) };
        let recording: RecordingId = "z~z".parse().expect("id");
        let start = Timestamp::from_ms(1000);
        let key = entry(&timeline, 1, start, &recording);
        let (first, last) = entries(&timeline, 1, start, start);
        assert!(first < key && key < last);
        assert_eq!(parse_entry(&key), Some((start, recording.clone())));
        assert_eq!(parse_pending(&pending(&timeline, &recording)), Some((timeline, recording)));
        assert_eq!([0, 15_000, 15_001, 60_000, DAY_MS].map(class_of), [0, 0, 1, 1, 4]);
    }
}
