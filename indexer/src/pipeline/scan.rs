//! A scan: read the recording's tables, find its keyframes, make the result durable, take it into the catalog.

use std::time::Instant;

use bytes::Bytes;
use stills_model::event::{Available, EventOrder};
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::{RecordingId, Timeline};
use stills_model::keyframe::ByteRange;
use stills_model::keyframe_index::KeyframeIndex;

use super::queue::{Job, Queue};
use super::{Entry, Pipeline, Space, SubmitError, entry_kind};
use crate::catalog::Finished;
use crate::decode::{Class, Ranges, ScanRequest};
use crate::source::Media;
use crate::thumbs::age;

/// The scanner's reads, answered from the media.
struct ScannedMedia(Media);

impl Ranges for ScannedMedia {
    async fn read(&self, offset: u64, len: u32) -> Result<Bytes, Fault> {
        self.0.read(ByteRange { offset, len }).await
    }
}

impl Pipeline {
    /// Scans a recording if it still has to be, and queues its prerender.
    pub(super) async fn scan(&self, timeline: &Timeline, recording: &RecordingId) {
        let (of, id) = (*timeline, recording.clone());
        let row = match self.write(move |catalog, _| catalog.row(&of, &id)).await {
            Ok(row) => row,
            Err(error) => return tracing::error!(%error, "a recording to scan could not be looked up"),
        };
        let Some(row) = row.filter(|row| !row.removed) else { return };
        let (timeline, recording) = (*timeline, recording.clone());
        if !row.to_scan && !row.to_prerender {
            return;
        }
        if let (true, Some((order, available))) = (row.to_scan, row.latest) {
            let began = Instant::now();
            let scanned = self.scan_media(timeline, &available).await;
            let outcome = scanned.as_ref().map(|_| ()).map_err(|fault| fault.kind);
            self.0.parts.metrics.scan(outcome, began.elapsed());
            match scanned {
                Ok((media_len, index)) => {
                    let start = available.start;
                    let is_complete = !available.growing;
                    let recording = recording.clone();
                    let finished = Finished { timeline, recording, start, order, media_len, is_complete, index };
                    if let Err(error) = self.finish(finished).await {
                        tracing::error!(%error, "a finished scan could not be kept; it is made again after a restart");
                        return;
                    }
                }
                Err(fault) => return self.failed(timeline, recording, order, fault).await,
            }
        }
        let urgency = self.0.queue.urgency(&Job::Scan { timeline, recording: recording.clone() });
        self.0.queue.push(urgency, Job::Prerender { timeline, recording, n_done: 0 });
    }

    async fn scan_media(&self, timeline: Timeline, available: &Available) -> Result<(u64, KeyframeIndex), Fault> {
        let media = self.0.parts.source.open(timeline.user, &available.media_url).await?;
        let len = media.len();
        let media = ScannedMedia(media);
        let of = (timeline, available.recording.clone());
        let resume = self.0.resumes.get(&of).unwrap_or_default();
        let request = ScanRequest { len, growing: available.growing, resume: &resume };
        let mut index = self.0.parts.pool.scan(timeline.user, Class::Batch, request, &media).await?;
        let resume = std::mem::take(&mut index.resume);
        if available.growing {
            self.0.resumes.insert(of, resume.into());
        } else {
            self.0.resumes.invalidate(&of);
        }
        if !available.growing {
            media.0.unchanged().await?;
        }
        if index.keyframes.is_empty() && !available.growing {
            return Err(Fault::new(FaultKind::Damaged, "the media holds no keyframe"));
        }
        Ok((len, index))
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
        let max = age::scan_attempts_max(fault.kind);
        let (id, noted) = (recording.clone(), fault.clone());
        let attempts = self.write(move |catalog, now| {
            let so_far = catalog.row(&timeline, &id)?.map_or(0, |row| row.attempts);
            let is_final = so_far.saturating_add(1) >= max;
            catalog.fail(&timeline, &id, &order, &noted, is_final, now)
        });
        match attempts.await {
            Ok(Some(attempts)) if attempts < max => {
                tracing::info!(%fault, attempts, "a recording could not be scanned; trying again");
                let pause = age::scan_pause(attempts);
                Queue::push_later(std::sync::Arc::clone(&self.0), pause, Job::Scan { timeline, recording });
            }
            Ok(Some(attempts)) => {
                tracing::warn!(%fault, attempts, %recording, "a recording was set aside");
                if fault.kind == FaultKind::Gone {
                    self.note_gone(timeline, recording).await;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a failed scan could not be noted"),
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
}

impl AsRef<Queue> for super::Inner {
    fn as_ref(&self) -> &Queue {
        &self.queue
    }
}
