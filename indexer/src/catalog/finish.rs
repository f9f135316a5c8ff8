//! A finished scan becomes keyframe pages, coverage and a state. Idempotent: the journal replays it.
//!
//! Stored form of [`Finished`] (a journal entry), version 2: version, packed order of the event that was scanned,
//! timeline, recording id, start, media length, digest of the head, whether it is complete, the index as on the decoder's
//! socket. Version 1, still read: version, timeline, recording id, start, order, and so on; the index in its version 1.

use std::collections::BTreeSet;

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::event::{Available, EventOrder};
use stills_model::fault::Fault;
use stills_model::id::{RecordingId, Timeline};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::thumb::MediaId;
use stills_model::time::{DAY_MS, Span, Timestamp};

use super::row::{Indexed, Row};
use super::settle::Change;
use super::sled::Table;
use super::tables::Batch;
use super::{Catalog, CatalogError, Effects, key};

/// What a scan found, of which event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Whose camera.
    pub timeline: Timeline,
    /// Which recording.
    pub recording: RecordingId,
    /// Where it starts: the day that the journal keeps it with.
    pub start: Timestamp,
    /// The `available` that was scanned; another one by now makes this result worthless.
    pub order: EventOrder,
    /// Bytes in the media at the scan.
    pub media_len: u64,
    /// A digest of the first keyframe's first bytes, see [`MediaId::new`].
    pub head: [u8; 16],
    /// Nothing more will come: either the event said so, or the recording had been silent for too long.
    pub is_complete: bool,
    /// All its keyframes.
    pub index: KeyframeIndex,
}

const VERSION: u8 = 2;

impl Finished {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION);
        // As an event has it.
        self.order.write_packed(&mut w);
        self.timeline.write(&mut w);
        w.text(self.recording.as_str()).signed(self.start.as_ms());
        w.unsigned(self.media_len).raw(&self.head).byte(u8::from(self.is_complete)).raw(&self.index.encode());
        w.finish()
    }

    /// Reads the stored form of this version and all earlier ones.
    ///
    /// # Errors
    /// When the bytes are not such a form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let version = r.byte()?;
        if !(1..=VERSION).contains(&version) {
            return Err(Malformed("finished version"));
        }
        let packed = if version > 1 { Some(EventOrder::read_packed(&mut r)?) } else { None };
        let timeline = Timeline::read(&mut r)?;
        let recording = r.text()?.parse().map_err(|_| Malformed("recording id"))?;
        let start = Timestamp::from_ms(r.signed()?);
        let order = packed.map_or_else(|| EventOrder::read(&mut r), Ok)?;
        let (media_len, head, is_complete) = (r.unsigned()?, r.array()?, r.flag()?);
        let index = if version == 1 { KeyframeIndex::decode_1(r.rest())? } else { KeyframeIndex::decode(r.rest())? };
        Ok(Self { timeline, recording, start, order, media_len, head, is_complete, index })
    }
}

/// What a recording covers: what was announced once it is complete, what is indexed while it grows.
fn covered_span(available: &Available, index: &KeyframeIndex) -> Span {
    let start = available.start;
    let measured = start.plus_ms(index.duration_ms.clamp(0, DAY_MS));
    let end = match available.end {
        Some(end) if available.growing => end.min(measured),
        Some(end) => end,
        None => measured,
    };
    Span { start, end: end.max(start) }
}

/// Keyframes outside the span count only where there is no other, and then the one nearest to it.
fn only_inside(mut index: KeyframeIndex, span: &Span) -> KeyframeIndex {
    let outside_ms = |at_ms: i64| at_ms.saturating_sub(span.len_ms()).max(at_ms.saturating_neg()).max(0);
    if let Some(nearest_ms) = index.keyframes.iter().map(|keyframe| outside_ms(keyframe.at_ms)).min() {
        index.keyframes.retain(|keyframe| outside_ms(keyframe.at_ms) == nearest_ms);
        if nearest_ms > 0 {
            index.keyframes.truncate(1);
        }
    }
    index
}

impl Catalog {
    /// Takes the result of a scan. Returns none when the recording was deleted or announced anew meanwhile.
    ///
    /// # Errors
    /// A failing or damaged store; the result can be taken again.
    pub fn finish(&self, finished: &Finished, now: Timestamp) -> Result<Option<Effects>, CatalogError> {
        let Finished { timeline, recording, .. } = finished;
        let _turn = self.lock(timeline);
        let Some(old) = self.row(timeline, recording)? else { return Ok(None) };
        let current = old.latest.as_ref().filter(|(order, _)| *order == finished.order && !old.removed);
        let Some((order, available)) = current else { return Ok(None) };
        let mut available = available.clone();
        if finished.is_complete && available.growing {
            // It fell silent: what was announced as its end never came.
            (available.growing, available.end) = (false, None);
        }
        let span = covered_span(&available, &finished.index);
        let index = only_inside(finished.index.clone(), &span);
        let media = MediaId::new(recording, span.start, &index, &finished.head);

        let mut new = Row { latest: Some((order.clone(), available.clone())), ..old.clone() };
        (new.to_scan, new.to_prerender, new.fault, new.attempts, new.gone) = (false, true, None, 0, false);
        new.indexed = Some(Indexed {
            media,
            span,
            n_keyframes: u32::try_from(index.keyframes.len()).unwrap_or(u32::MAX),
            growing: available.growing,
            media_len: finished.media_len,
            media_url: available.media_url.clone(),
        });
        // A delete by range could not judge a recording without an end; now it can.
        new.removed = self.is_removed(timeline, &new, now)?;
        if new.removed {
            new.indexed = None;
            return self.settle_one(timeline, recording, old, new, now).map(Some);
        }
        self.unfold(timeline, recording, Some(finished.start.hour()))?;
        let batch = self.index_batch(timeline, &old, &media, &index)?;
        let changes = [Change { recording: recording.clone(), old, new }];
        let purge = self.settle(timeline, &changes, batch, now)?;
        let purge = purge.into_iter().map(|media| (*timeline, media)).collect();
        Ok(Some(Effects { scan: Vec::new(), purge }))
    }

    /// The pages and configurations to write, and the old ones to remove.
    fn index_batch(
        &self,
        timeline: &Timeline,
        old: &Row,
        media: &MediaId,
        index: &KeyframeIndex,
    ) -> Result<Batch, CatalogError> {
        let mut batch = Batch::default();
        if let Some(before) = &old.indexed {
            self.delete_pages(timeline, &before.media, &mut batch)?;
        }
        if old.indexed.as_ref().is_none_or(|before| before.media != *media) {
            self.delete_pages(timeline, media, &mut batch)?;
        }
        for page in index.pages() {
            let first_at_ms = page.keyframes.first().map_or(0, |keyframe| keyframe.at_ms);
            batch.put(&key::page(timeline, media, first_at_ms), &page.encode());
        }
        for config in &index.configs {
            // Named by what it says, so one that is there is the same.
            let key = key::config(timeline.user, &config.id());
            if self.tables.get(Table::Timelines, &key)?.is_none() {
                batch.put(&key, &config.encode());
            }
        }
        Ok(batch)
    }

    /// Takes the failure of a scan. Returns how many times the recording has failed now, or none when the result
    /// is of no worth any more.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn fail(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        order: &EventOrder,
        fault: &Fault,
        is_final: bool,
        now: Timestamp,
    ) -> Result<Option<u32>, CatalogError> {
        let _turn = self.lock(timeline);
        let Some(old) = self.row(timeline, recording)? else { return Ok(None) };
        if old.removed || old.latest.as_ref().is_none_or(|(latest, _)| latest != order) {
            return Ok(None);
        }
        let mut new = old.clone();
        let is_growing = old.latest.as_ref().is_some_and(|(_, available)| available.growing);
        if let Some(indexed) = new.indexed.as_mut().filter(|_| is_final && !is_growing) {
            // Its last scan came to nothing: what was indexed before is all there is going to be.
            indexed.growing = false;
        }
        new.attempts = old.attempts.saturating_add(1);
        new.to_scan = !is_final;
        new.fault = Some(fault.clone());
        let attempts = new.attempts;
        self.settle_one(timeline, recording, old, new, now)?;
        Ok(Some(attempts))
    }

    /// Notes that the media of an indexed recording is no longer there. Of its keyframes only those in `stored` can
    /// still be shown: the others are forgotten, and with the last of them the recording leaves coverage.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn note_gone(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        media: MediaId,
        stored: &BTreeSet<i64>,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let _turn = self.lock(timeline);
        let Some(old) = self.row_likely_in(timeline, recording, media.hour())? else { return Ok(()) };
        let Some(indexed) = old.indexed.clone().filter(|indexed| indexed.media == media && !old.removed) else {
            return Ok(());
        };
        self.unfold(timeline, recording, Some(media.hour()))?;
        let mut batch = Batch::default();
        self.delete_pages(timeline, &media, &mut batch)?;
        let mut n_keyframes = 0;
        for mut page in self.keyframe_pages(timeline, &media)? {
            page.keyframes.retain(|keyframe| stored.contains(&keyframe.at_ms));
            if let Some(first) = page.keyframes.first() {
                batch.put(&key::page(timeline, &media, first.at_ms), &page.encode());
                n_keyframes += u32::try_from(page.keyframes.len()).unwrap_or(0);
            }
        }
        let left = (n_keyframes > 0).then_some(Indexed { n_keyframes, growing: false, ..indexed });
        let new = Row { gone: true, to_prerender: false, indexed: left, ..old.clone() };
        let changes = [Change { recording: recording.clone(), old, new }];
        self.settle(timeline, &changes, batch, now).map(|_| ())
    }

    /// Notes that a growing recording has fallen silent: it is scanned a last time, as complete.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn note_silent(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let _turn = self.lock(timeline);
        let Some(old) = self.row(timeline, recording)? else { return Ok(()) };
        let mut new = old.clone();
        let Some((_, available)) = &mut new.latest else { return Ok(()) };
        if !available.growing || old.removed {
            return Ok(());
        }
        (available.growing, available.end, new.to_scan) = (false, None, true);
        self.settle_one(timeline, recording, old, new, now).map(|_| ())
    }

    /// Notes that the anchors of a media are rendered, or are not going to be.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn note_prerendered(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        media: MediaId,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let _turn = self.lock(timeline);
        let Some(old) = self.row(timeline, recording)? else { return Ok(()) };
        if !old.to_prerender || old.indexed.as_ref().is_none_or(|indexed| indexed.media != media) {
            return Ok(());
        }
        let new = Row { to_prerender: false, ..old.clone() };
        self.settle_one(timeline, recording, old, new, now).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stills_model::id::{DeviceId, UserId};
    use stills_model::keyframe::{ByteRange, Codec, DecoderConfig, Keyframe, Orientation, Packaging};

    #[test]
    fn version_1_is_read() {
        let config = DecoderConfig {
            codec: Codec::H264,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata: vec![1],
            size: (16, 16),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        };
        // A page of one keyframe at 0, of 9 bytes at 48, 100 bytes before the next.
        let page = [&[1, 1][..], &config.id().0, &[1, 0, 0, 1, 96, 9, 100]].concat();
        let mut w = Writer::new();
        w.byte(1).raw(&[1; 12]).raw(&[2; 12]).text("r").signed(5).signed(6).text("/source").text("id");
        w.unsigned(1000).raw(&[3; 16]).byte(1);
        w.unsigned(1).bytes(&config.encode()).unsigned(1).bytes(&page).signed(60_000).bytes(&[]);
        let finished = Finished {
            timeline: Timeline { user: UserId::from_bytes([1; 12]), device: DeviceId::from_bytes([2; 12]) },
            recording: "r".parse().expect("an id"),
            start: Timestamp::from_ms(5),
            order: EventOrder { time_ns: 6, source: "/source".into(), id: "id".into() },
            media_len: 1000,
            head: [3; 16],
            is_complete: true,
            index: KeyframeIndex {
                configs: vec![config],
                keyframes: vec![Keyframe {
                    at_ms: 0,
                    config: 0,
                    ranges: vec![ByteRange { offset: 48, len: 9 }],
                    gop_bytes: 100,
                }],
                duration_ms: 60_000,
                resume: vec![],
            },
        };
        assert_eq!(Finished::decode(&w.finish()).as_ref(), Ok(&finished));
        assert_eq!(Finished::decode(&finished.encode()).as_ref(), Ok(&finished));
        assert_eq!(Finished::decode(&[3]), Err(Malformed("finished version")));
    }
}
