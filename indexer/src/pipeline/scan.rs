//! A scan: read the recording's tables, find its keyframes, make the result durable, take it into the catalog.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use stills_model::event::{Available, EventOrder};
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::{RecordingId, Timeline};
use stills_model::keyframe::ByteRange;
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::leap::{self, Leaps};

use super::prerender::{Edge, Turn};
use super::queue::{Job, Queue};
use super::{Entry, Pipeline, Space, SubmitError, entry_kind};
use crate::catalog::Finished;
use crate::catalog::row::Row;
use crate::decode::{Class, Ranges, ScanRequest};
use crate::source::{Media, Wanted};
use crate::thumbs::age;

/// The pause after our own stores could not take a result: a full disk or a full inbox.
const KEEP_PAUSE: Duration = Duration::from_secs(10);

/// The pause after the decoders had no room.
const BUSY_PAUSE: Duration = Duration::from_secs(2);

/// How much of the first keyframe is digested: more than its headers, less than a read that anyone would notice.
const HEAD_BYTES: u32 = 64 * 1024;

/// The scanner's reads, answered from the media.
struct ScannedMedia(Media);

impl Ranges for ScannedMedia {
    async fn read(&self, offset: u64, len: u32) -> Result<Bytes, Fault> {
        self.0.read(ByteRange { offset, len }).await
    }
}

/// The media that an event names.
fn wanted(timeline: Timeline, available: &Available) -> Wanted<'_> {
    Wanted {
        user: timeline.user,
        media_url: &available.media_url,
        credentials_key: available.credentials_key.as_deref(),
        is_growing: available.growing,
    }
}

/// Checks that what lies at a recording's place is what its event spoke of, as far as both say: another object (one
/// that is not written yet, or written over) is tried again, and never indexed in its stead.
fn is_as_announced(available: &Available, len: u64, etag: Option<&str>) -> Result<(), Fault> {
    let differs =
        |what: String| Err(Fault::new(FaultKind::Changed, format!("the media is not what was announced: {what}")));
    if let Some(size) = available.size
        && size != len
    {
        return differs(format!("it has {len} bytes, the event says {size}"));
    }
    match (&available.etag, etag) {
        (Some(announced), Some(etag)) if bare(announced) != bare(etag) => {
            differs("its entity tag is another one than the event's".to_owned())
        }
        _ => Ok(()),
    }
}

/// An entity tag without quotes and the mark of a weak one: notifications of stores leave them out.
fn bare(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// What a scan found, and the media it was found in.
struct Scanned {
    media: Media,
    head: [u8; 16],
    index: KeyframeIndex,
}

/// The digest of the first keyframe's first bytes, which tells a recording from one made again in its place.
async fn head(media: &Media, index: &KeyframeIndex) -> Result<[u8; 16], Fault> {
    let mut head = [0; 16];
    if let Some(first) = index.keyframes.first().and_then(|keyframe| keyframe.ranges.first()) {
        let bytes = media.read(ByteRange { len: first.len.min(HEAD_BYTES), ..*first }).await?;
        head.copy_from_slice(&Sha256::digest(&bytes)[..16]);
    }
    Ok(head)
}

impl Pipeline {
    /// Scans a recording if it still has to be, and queues its prerender.
    pub(super) async fn scan(&self, timeline: &Timeline, recording: &RecordingId) {
        let (of, id) = (*timeline, recording.clone());
        let row = match self.write(move |catalog, _| catalog.row(&of, &id)).await {
            Ok(row) => row,
            Err(error) => {
                tracing::error!(%error, "a recording to scan could not be looked up; trying again");
                return self.scan_later(KEEP_PAUSE, *timeline, recording.clone());
            }
        };
        let Some(row) = row.filter(|row| !row.removed) else { return };
        let (timeline, recording) = (*timeline, recording.clone());
        let is_back = row.gone && !row.to_scan && self.is_back(timeline, &row).await;
        if !row.to_scan && !row.to_prerender && !is_back {
            return;
        }
        let mut held = None;
        if let (true, Some((order, available))) = (row.to_scan || is_back, row.latest) {
            let began = Instant::now();
            let scanned = self.scan_media(timeline, &available).await;
            let outcome = scanned.as_ref().map(|_| ()).map_err(|fault| fault.kind);
            self.0.parts.metrics.scan(outcome, began.elapsed());
            match scanned {
                Ok(Scanned { media, head, index }) => {
                    let (again, start, media_len) = (recording.clone(), available.start, media.len());
                    let is_complete = !available.growing;
                    let recording = recording.clone();
                    let finished = Finished { timeline, recording, start, order, media_len, head, is_complete, index };
                    if let Err(error) = self.finish(finished).await {
                        tracing::error!(%error, "a finished scan could not be kept; it is made again");
                        return self.scan_later(KEEP_PAUSE, timeline, again);
                    }
                    held = Some(media).filter(Media::is_whole);
                }
                Err(fault) => return self.failed(timeline, recording, order, fault).await,
            }
        }
        // Media fetched whole is rendered from at once: later it would have to be fetched again.
        if held.is_some() {
            let mut n_done = 0;
            while let Turn::More(more) = self.prerender(&timeline, &recording, n_done, Edge::Rendered).await {
                n_done = more;
            }
            return;
        }
        let urgency = self.0.queue.urgency(&Job::Scan { timeline, recording: recording.clone() });
        self.0.queue.push(urgency, Job::Prerender { timeline, recording, n_done: 0 });
    }

    /// Whether the media of a recording that had lost it can be opened again.
    async fn is_back(&self, timeline: Timeline, row: &Row) -> bool {
        let Some((_, available)) = &row.latest else { return false };
        self.0.parts.source.is_there(wanted(timeline, available)).await
    }

    async fn scan_media(&self, timeline: Timeline, available: &Available) -> Result<Scanned, Fault> {
        let media = self.0.parts.source.open(wanted(timeline, available)).await?;
        let media_len = media.len();
        if !available.growing {
            is_as_announced(available, media_len, media.etag().as_deref())?;
        }
        let media = ScannedMedia(media);
        // Of this very place: another file under the same recording id begins anew.
        let of = (timeline, available.recording.clone(), available.media_url.clone());
        let resume = self.0.resumes.get(&of).unwrap_or_default();
        let request = ScanRequest { len: media_len, growing: available.growing, resume: &resume };
        let leap::Scanned { mut index, leaps } =
            self.0.parts.pool.scan(timeline.user, Class::Batch, request, &media).await?;
        self.note_leaps(available, &leaps);
        let resume = std::mem::take(&mut index.resume);
        if available.growing {
            self.0.resumes.insert(of, resume.into());
        } else {
            self.0.resumes.invalidate(&of);
        }
        let head = head(&media.0, &index).await?;
        if !available.growing {
            media.0.unchanged().await?;
        }
        if index.keyframes.is_empty() && !available.growing {
            return Err(Fault::new(FaultKind::Damaged, "the media holds no keyframe"));
        }
        Ok(Scanned { media: media.0, head, index })
    }

    /// Tells where the clock of a recording leapt: what lies behind is shown at instants that nobody wrote down.
    fn note_leaps(&self, available: &Available, leaps: &Leaps) {
        if leaps.count == 0 {
            return;
        }
        self.0.parts.metrics.scan_leaps(leaps.count.into());
        let told: Vec<String> =
            leaps.first.iter().map(|leap| format!("{:+} ms at byte {}", leap.by_ms, leap.offset)).collect();
        let (recording, device, n_leaps, leaps) =
            (&available.recording, &available.device, leaps.count, told.join(", "));
        tracing::warn!(%recording, %device, n_leaps, leaps, "scanned: the clock of a recording leaps; it goes on picture by picture");
    }

    /// Journal first, then catalog: a rebuild never reads media again. Only what still grows is not journalled, or
    /// every event of it would write its whole index once more: a rebuild scans it anew, as its next event would.
    async fn finish(&self, finished: Finished) -> Result<(), SubmitError> {
        let entry = Entry { day: finished.start.day(), kind: entry_kind::FINISHED, payload: finished.encode() };
        let between = self.0.in_between.read().await;
        if finished.is_complete {
            self.0.parts.journal.append(vec![entry], Space::Ordinary).await?;
        }
        let effects = self.write(move |catalog, now| catalog.finish(&finished, now)).await?;
        drop(between);
        if let Some(effects) = effects {
            self.follow(effects).await;
        }
        Ok(())
    }

    /// Notes a failure and tries again after a pause, or sets the recording aside with its reason.
    async fn failed(&self, timeline: Timeline, recording: RecordingId, order: EventOrder, fault: Fault) {
        if fault.kind == FaultKind::Busy {
            // Says nothing of the recording: it costs no attempt.
            return self.scan_later(BUSY_PAUSE, timeline, recording);
        }
        let max = age::scan_attempts_max(fault.kind);
        let (id, again, noted) = (recording.clone(), recording.clone(), fault.clone());
        let attempts = self.write(move |catalog, now| {
            let so_far = catalog.row(&timeline, &id)?.map_or(0, |row| row.attempts);
            let is_final = so_far.saturating_add(1) >= max;
            catalog.fail(&timeline, &id, &order, &noted, is_final, now)
        });
        match attempts.await {
            Ok(Some(attempts)) if attempts < max => {
                tracing::info!(%fault, attempts, "a recording could not be scanned; trying again");
                self.scan_later(age::scan_pause(attempts), timeline, recording);
            }
            Ok(Some(attempts)) => {
                tracing::warn!(%fault, attempts, %recording, "a recording was set aside");
                if fault.kind == FaultKind::Gone {
                    self.note_gone(timeline, recording).await;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "a failed scan could not be noted; trying again");
                self.scan_later(KEEP_PAUSE, timeline, again);
            }
        }
    }

    /// Leaves of a recording without media what is stored of it.
    pub(super) async fn note_gone(&self, timeline: Timeline, recording: RecordingId) {
        let id = recording.clone();
        let row = self.write(move |catalog, _| catalog.row(&timeline, &id)).await.ok().flatten();
        let Some(indexed) = row.and_then(|row| row.indexed) else { return };
        if let Err(error) = self.0.parts.thumbs.note_gone(timeline, recording, indexed.media).await {
            tracing::warn!(%error, "a missing media could not be noted");
        }
    }

    fn scan_later(&self, pause: Duration, timeline: Timeline, recording: RecordingId) {
        Queue::push_later(Arc::clone(&self.0), pause, Job::Scan { timeline, recording });
    }
}

impl AsRef<Queue> for super::Inner {
    fn as_ref(&self) -> &Queue {
        &self.queue
    }
}

#[cfg(test)]
mod tests {
    use stills_model::id::DeviceId;
    use stills_model::time::Timestamp;

    use super::*;

    #[test]
    fn what_lies_there_is_what_was_announced() {
        let check = |size: Option<u64>, announced: Option<&str>, etag: Option<&str>, expected: bool| {
            let available = Available {
                device: DeviceId::from_bytes([7; 12]),
                recording: "r".parse().expect("an id"),
                start: Timestamp::from_ms(0),
                end: None,
                media_url: "s3://footage/1.mp4".into(),
                growing: false,
                expires_at: None,
                size,
                etag: announced.map(Into::into),
                credentials_key: None,
            };
            let outcome = is_as_announced(&available, 10, etag);
            assert_eq!(outcome.is_ok(), expected, "{size:?} {announced:?} {etag:?}");
            assert!(outcome.err().is_none_or(|fault| fault.kind == FaultKind::Changed));
        };
        check(None, None, Some("\"a\""), true);
        check(Some(10), None, None, true);
        check(Some(11), None, None, false);
        check(Some(10), Some("a"), None, true);
        check(None, Some("a"), Some("\"a\""), true);
        check(None, Some("\"a\""), Some("W/\"a\""), true);
        check(None, Some("a-2"), Some("\"a\""), false);
        check(Some(10), Some("b"), Some("\"a\""), false);
    }
}
