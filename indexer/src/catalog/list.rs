//! What exists: coverage of a window, recordings page by page, devices of a user.

use stills_model::codec::Malformed;
use stills_model::coverage::Coverage;
use stills_model::id::{RecordingId, Timeline, UserId};
use stills_model::keyframe::Keyframe;
use stills_model::keyframe_index::KeyframePage;
use stills_model::thumb::MediaId;
use stills_model::time::{Day, Span, Timestamp};

use super::row::{Row, State};
use super::sled::Table;
use super::{Catalog, CatalogError, key, malformed};

/// A device and the instants between which it has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Whose camera.
    pub timeline: Timeline,
    /// The first covered instant.
    pub first: Timestamp,
    /// The last covered instant.
    pub last: Timestamp,
}

/// A recording in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The recorder's name of it.
    pub recording: RecordingId,
    /// What it covers, or announces.
    pub span: Span,
    /// Its row.
    pub row: Row,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingsPage {
    /// By start, then id.
    pub recordings: Vec<Listed>,
    /// How many there are on all pages.
    pub n_total: usize,
}

impl Catalog {
    /// What is covered in `window`, stretches cut at its ends.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn coverage(&self, timeline: &Timeline, window: &Span) -> Result<Coverage, CatalogError> {
        // Days are cut at midnight and meet there; a seam may also reach across it, or out of the window. What ends
        // right at midnight stands with the day before, a moment further off.
        let around = Span { start: window.start.plus_ms(-self.seam_ms - 1), end: window.end.plus_ms(self.seam_ms) };
        let mut merged = Coverage::new();
        for day in around.days() {
            for stretch in self.day_coverage(timeline, day)?.stretches() {
                merged.insert(*stretch, self.seam_ms);
            }
        }
        Ok(merged)
    }

    /// The last covered instant before and the first after an instant that is not covered.
    pub(super) fn covered_around(
        &self,
        timeline: &Timeline,
        instant: Timestamp,
    ) -> Result<(Option<Timestamp>, Option<Timestamp>), CatalogError> {
        let key = |day| key::coverage(timeline, day);
        let (first, last) = (key(Day(i64::MIN)), key(Day(i64::MAX)));
        let here = key(instant.day());
        let tables = &self.tables;
        let mut before = None;
        for item in tables.range(Table::Timelines, &first, &here).rev() {
            before = Coverage::decode(&item?.1).map_err(malformed)?.before(instant);
            if before.is_some() {
                break;
            }
        }
        let mut after = None;
        for item in tables.range(Table::Timelines, &here, &last) {
            after = Coverage::decode(&item?.1).map_err(malformed)?.after(instant);
            if after.is_some() {
                break;
            }
        }
        Ok((before, after))
    }

    /// How many recordings of the window are announced and not indexed yet.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn n_pending(&self, timeline: &Timeline, window: &Span) -> Result<usize, CatalogError> {
        let mut n_pending = 0;
        // Few recordings have work at any time, so their list is shorter than that of the window.
        for item in self.tables.prefix(Table::Pending, &timeline.key()) {
            let Some((_, recording)) = key::parse_pending(&item?.0) else { continue };
            let Some(row) = self.row(timeline, &recording)? else { continue };
            let is_inside = row.span().is_some_and(|span| span.intersection(window).is_some());
            n_pending += usize::from(is_inside && row.state() == State::Pending);
        }
        Ok(n_pending)
    }

    /// The recordings that have a part in `window`, deleted ones left out.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn recordings(
        &self,
        timeline: &Timeline,
        window: &Span,
        skip: usize,
        count: usize,
    ) -> Result<RecordingsPage, CatalogError> {
        let mut entries = self.entries(timeline, window)?;
        entries.retain(|entry| entry.state != State::Deleted);
        entries.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        let n_total = entries.len();
        let mut recordings = Vec::new();
        for entry in entries.into_iter().skip(skip).take(count) {
            if let Some(row) = self.row(timeline, &entry.recording)? {
                recordings.push(Listed { recording: entry.recording, span: entry.span, row });
            }
        }
        Ok(RecordingsPage { recordings, n_total })
    }

    /// All keyframes of a media, in order, page by page.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn keyframe_pages(&self, timeline: &Timeline, media: &MediaId) -> Result<Vec<KeyframePage>, CatalogError> {
        self.read_pages(timeline, media, KeyframePage::decode)
    }

    /// Of each keyframe page of a media, in order, what `decode` reads.
    pub(super) fn read_pages<T>(
        &self,
        timeline: &Timeline,
        media: &MediaId,
        decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, CatalogError> {
        self.steady(timeline, || {
            let pages = self.tables.prefix(Table::Timelines, &key::pages(timeline, media));
            let pages: Vec<_> =
                pages.map(|item| decode(&item?.1).map_err(malformed)).collect::<Result<_, CatalogError>>()?;
            let folded = || self.folded_pages(timeline, media, &decode);
            Ok(if pages.is_empty() { folded()?.unwrap_or_default() } else { pages })
        })
    }

    /// The page of a media that begins last of those that begin at or before `at_ms`.
    fn page_up_to(
        &self,
        timeline: &Timeline,
        media: &MediaId,
        at_ms: i64,
    ) -> Result<Option<KeyframePage>, CatalogError> {
        let (from, to) = (key::page(timeline, media, i64::MIN), key::page(timeline, media, at_ms));
        self.steady(timeline, || {
            if let Some(item) = self.tables.range(Table::Timelines, &from, &to).next_back() {
                return KeyframePage::decode(&item?.1).map(Some).map_err(malformed);
            }
            let pages = self.folded_pages(timeline, media, KeyframePage::decode)?.unwrap_or_default();
            let begins_before = |page: &KeyframePage| page.keyframes.first().is_some_and(|first| first.at_ms <= at_ms);
            Ok(pages.into_iter().rfind(begins_before))
        })
    }

    /// Whether a recording still shows this media: its keyframe pages go in the same batch as the recording.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn is_media_shown(&self, timeline: &Timeline, media: &MediaId) -> Result<bool, CatalogError> {
        self.steady(timeline, || {
            let first = self.tables.prefix(Table::Timelines, &key::pages(timeline, media)).next();
            Ok(first.transpose()?.is_some() || self.folded_pages(timeline, media, |_| Ok(()))?.is_some())
        })
    }

    /// One keyframe of a media and the page that resolves its configuration.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn keyframe(
        &self,
        timeline: &Timeline,
        media: &MediaId,
        at_ms: i64,
    ) -> Result<Option<(Keyframe, KeyframePage)>, CatalogError> {
        let Some(page) = self.page_up_to(timeline, media, at_ms)? else { return Ok(None) };
        let found = page.keyframes.iter().find(|keyframe| keyframe.at_ms == at_ms).cloned();
        Ok(found.map(|keyframe| (keyframe, page)))
    }

    /// The instant of the last keyframe of a media at or before `at_ms`; none where all come later.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn keyframe_up_to(
        &self,
        timeline: &Timeline,
        media: &MediaId,
        at_ms: i64,
    ) -> Result<Option<i64>, CatalogError> {
        let Some(page) = self.page_up_to(timeline, media, at_ms)? else { return Ok(None) };
        Ok(page.keyframes.iter().map(|keyframe| keyframe.at_ms).rfind(|known_ms| *known_ms <= at_ms))
    }

    /// The instants of the first keyframes of a media, at most as many as a page has.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn first_keyframes(
        &self,
        timeline: &Timeline,
        media: &MediaId,
        count: usize,
    ) -> Result<Vec<i64>, CatalogError> {
        self.steady(timeline, || {
            let mut instants = match self.tables.prefix(Table::Timelines, &key::pages(timeline, media)).next() {
                Some(item) => KeyframePage::instants(&item?.1).map_err(malformed)?,
                None => {
                    let folded = self.folded_pages(timeline, media, KeyframePage::instants)?;
                    folded.and_then(|pages| pages.into_iter().next()).unwrap_or_default()
                }
            };
            instants.truncate(count);
            Ok(instants)
        })
    }

    /// The timelines of a user, in order of device.
    ///
    /// # Errors
    /// A failing store.
    pub(super) fn timelines(&self, user: UserId) -> Result<Vec<Timeline>, CatalogError> {
        let end = [&user.as_bytes()[..], &[u8::MAX; 14]].concat();
        let mut from = user.as_bytes().to_vec();
        let mut timelines = Vec::new();
        while let Some(item) = self.tables.range(Table::Timelines, &from, &end).next() {
            let Some(timeline) = key::parse_timeline(&item?.0) else { break };
            timelines.push(timeline);
            from = key::device_end(&timeline);
        }
        Ok(timelines)
    }

    /// Bytes of video a second in each bucket of the window, none where nothing is recorded: a motion hint that
    /// costs no decoding. A keyframe's bytes up to the next one are spread evenly over that time.
    ///
    /// # Errors
    /// A failing or damaged store.
    #[expect(clippy::cast_precision_loss, reason = "a hint, shown with three digits")]
    pub fn activity(
        &self,
        timeline: &Timeline,
        window: &Span,
        bucket_ms: i64,
    ) -> Result<Vec<Option<f64>>, CatalogError> {
        let bucket_ms = bucket_ms.max(1);
        let n_buckets = usize::try_from(window.len_ms() / bucket_ms + 1).unwrap_or(0);
        let mut sums = vec![(0f64, 0i64); n_buckets];
        for entry in self.entries(timeline, window)?.iter().filter(|entry| entry.is_covering()) {
            let pages = self.keyframe_pages(timeline, &entry.media)?;
            let keyframes: Vec<&Keyframe> = pages.iter().flat_map(|page| &page.keyframes).collect();
            for (n, keyframe) in keyframes.iter().enumerate() {
                let end_ms = keyframes.get(n + 1).map_or(entry.span.len_ms(), |next| next.at_ms);
                let (from, to) = (entry.span.start.plus_ms(keyframe.at_ms), entry.span.start.plus_ms(end_ms));
                let rate = keyframe.gop_bytes as f64 / end_ms.saturating_sub(keyframe.at_ms).max(1) as f64;
                let Some(part) = Span::new(from, to).and_then(|gop| gop.intersection(window)) else { continue };
                let first = part.start.since_ms(window.start) / bucket_ms;
                let last = part.end.since_ms(window.start) / bucket_ms;
                for bucket in first..=last {
                    let start = window.start.plus_ms(bucket * bucket_ms);
                    let Some(common) = Span::new(start, start.plus_ms(bucket_ms)).and_then(|b| b.intersection(&part))
                    else {
                        continue;
                    };
                    if let Some(sum) = usize::try_from(bucket).ok().and_then(|bucket| sums.get_mut(bucket)) {
                        sum.0 += rate * common.len_ms() as f64;
                        sum.1 += common.len_ms();
                    }
                }
            }
        }
        Ok(sums.into_iter().map(|(bytes, ms)| (ms > 0).then(|| bytes * 1000.0 / ms as f64)).collect())
    }

    /// The last covered instant of a device.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn newest(&self, timeline: &Timeline) -> Result<Option<Timestamp>, CatalogError> {
        let (from, to) = (key::coverage(timeline, Day(i64::MIN)), key::coverage(timeline, Day(i64::MAX)));
        for item in self.tables.range(Table::Timelines, &from, &to).rev() {
            let coverage = Coverage::decode(&item?.1).map_err(malformed)?;
            if let Some(last) = coverage.stretches().last() {
                return Ok(Some(last.span.end));
            }
        }
        Ok(None)
    }

    /// The devices of a user that have recorded anything, with their first and last covered instants.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn devices(&self, user: UserId) -> Result<Vec<Device>, CatalogError> {
        let mut devices = Vec::new();
        for timeline in self.timelines(user)? {
            let (from, to) = (key::coverage(&timeline, Day(i64::MIN)), key::coverage(&timeline, Day(i64::MAX)));
            let mut days = self.tables.range(Table::Timelines, &from, &to);
            let Some(first) = days.next().transpose()? else { continue };
            let last = days.next_back().transpose()?.unwrap_or_else(|| first.clone());
            let first = Coverage::decode(&first.1).map_err(malformed)?;
            let last = Coverage::decode(&last.1).map_err(malformed)?;
            if let (Some(first), Some(last)) = (first.stretches().first(), last.stretches().last()) {
                devices.push(Device { timeline, first: first.span.start, last: last.span.end });
            }
        }
        Ok(devices)
    }
}
