//! The frame rule: which keyframe answers for an instant, and what it takes to show it.
//!
//! 1. The stretch of coverage that holds the instant; none: say what is there instead ([`Missing`]).
//! 2. The covering recording: of several, the one that starts last, then the greater id.
//! 3. The candidates: the keyframes of that recording and of those that touch it (overlap it, or lie within a
//!    seam of it); in a seam, of those on either side.
//! 4. The nearest wins; of two equally near the later; of two at one instant the recording that takes precedence.
//! 5. Candidates without any keyframe: the nearest keyframe of the whole stretch.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;

use stills_model::coverage::Coverage;
use stills_model::fault::{Fault, FaultKind};
use stills_model::id::{RecordingId, Timeline};
use stills_model::keyframe::nearer;
use stills_model::keyframe_index::KeyframePage;
use stills_model::thumb::MediaId;
use stills_model::time::{Span, Timestamp};

use super::block::Block;
use super::row::{Entry, State};
use super::settle::SETTLED_AFTER_MS;
use super::sled::Table;
use super::{Catalog, CatalogError, key, malformed};

/// How many recordings without a keyframe are looked through for one that has some.
const EMPTY_RECORDINGS_MAX: usize = 64;

/// Days that are looked through on either side for a stretch's end, when nothing near has a keyframe.
const STRETCH_DAYS_MAX: usize = 8;

/// Keyframes of a recording that are read together, for the one instant as for those that follow: two pages. So few in tests
/// that the model is compared with either way of looking.
const READ_WHOLE_MAX: u32 = if cfg!(test) { 2 } else { 256 };

/// The keyframe that answers for an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Whose camera.
    pub timeline: Timeline,
    /// Of which recording.
    pub recording: RecordingId,
    /// Of which media.
    pub media: MediaId,
    /// Milliseconds after the recording's start.
    pub at_ms: i64,
    /// Wall clock of the keyframe.
    pub timestamp: Timestamp,
    /// The instant that was asked.
    pub asked: Timestamp,
    /// The answer is not expected to change: the recording does not grow, and none that is announced or expected at an edge
    /// of what is recorded, which may overlap it by a seam, can bring a nearer keyframe.
    pub is_settled: bool,
    /// A recording that is announced or expected to follow right behind may bring a nearer keyframe.
    pub is_provisional: bool,
    /// Whether asking for the keyframe's own instant gives this keyframe: so unless it lies outside of coverage.
    pub is_own_instant: bool,
    /// When the recording is to disappear.
    pub expires_at: Option<Timestamp>,
}

impl Located {
    /// Signed milliseconds from the instant asked to the keyframe shown.
    pub fn distance_ms(&self) -> i64 {
        self.timestamp.since_ms(self.asked)
    }
}

/// Why no keyframe answers for an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The device has recorded nothing at all.
    NotRecorded,
    /// Nothing is recorded at the instant.
    Gap {
        /// The last covered instant before it.
        covered_before: Option<Timestamp>,
        /// The first covered instant after it.
        covered_after: Option<Timestamp>,
    },
    /// What was recorded there is deleted.
    Deleted,
    /// A recording is announced there and not indexed yet.
    NotIndexed,
    /// The recording there could not be indexed.
    Failed(Fault),
}

/// Answers the frame rule for instants of one window, reading what they share once.
#[derive(Debug)]
pub struct Locator<'a> {
    catalog: &'a Catalog,
    timeline: Timeline,
    coverage: Coverage,
    /// Entries that have a part in the window or touch one that has, by start then id.
    entries: Arc<Vec<Entry>>,
    /// The longest of them: none that starts earlier than that before an instant reaches it.
    longest_ms: i64,
    /// What the entries were read for.
    read: Span,
    /// Where the keyframes of those that are folded are found.
    blocks: Vec<Arc<Block>>,
    /// The instants of all keyframes of recordings that were read whole, in order.
    instants: HashMap<MediaId, Vec<i64>>,
    /// Those in pages of the others, by the first.
    pages: HashMap<(MediaId, i64), Vec<i64>>,
    now: Timestamp,
}

impl Catalog {
    /// Answers for instants inside `window`.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn locator(&self, timeline: Timeline, window: Span, now: Timestamp) -> Result<Locator<'_>, CatalogError> {
        let coverage = self.coverage(&timeline, &window)?;
        let mut locator = Locator {
            catalog: self,
            timeline,
            coverage,
            entries: Arc::default(),
            longest_ms: 0,
            read: window,
            blocks: Vec::new(),
            instants: HashMap::new(),
            pages: HashMap::new(),
            now,
        };
        locator.read_entries(window)?;
        Ok(locator)
    }

    /// Answers for one instant.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn locate(
        &self,
        timeline: Timeline,
        asked: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Located, Missing>, CatalogError> {
        self.locator(timeline, Span { start: asked, end: asked }, now)?.locate(asked)
    }
}

/// A keyframe that might be the answer, with the precedence of its recording.
struct Candidate<'e> {
    entry: &'e Entry,
    at_ms: i64,
    timestamp: Timestamp,
}

impl Locator<'_> {
    /// The keyframe that answers for `asked`, which lies in the locator's window.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn locate(&mut self, asked: Timestamp) -> Result<Result<Located, Missing>, CatalogError> {
        let Some(stretch) = self.coverage.at(asked) else { return Ok(Err(self.missing(asked)?)) };
        let Some((entry, at_ms)) = self.nearest(asked, &stretch.span)? else {
            return Ok(Err(Missing::NotRecorded));
        };
        let (shown, span) = (entry.span.start.plus_ms(at_ms), stretch.span);
        let (is_steady, is_provisional) = self.outlook(asked, shown, &span);
        Ok(Ok(Located { is_provisional, ..self.located(asked, entry, at_ms, is_steady) }))
    }

    /// Where decoding starts for the frame nearest to `asked`, which lies in the locator's window: in the recording
    /// that covers it (in a seam the nearest, of two equally near the later), the last keyframe at or before it, else
    /// the first. Any frame of that recording may be the answer, and none of another.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn locate_start(&mut self, asked: Timestamp) -> Result<Result<Located, Missing>, CatalogError> {
        let Some(stretch) = self.coverage.at(asked) else { return Ok(Err(self.missing(asked)?)) };
        let Some(entry) = self.holding(asked, &stretch.span)? else { return Ok(Err(Missing::NotRecorded)) };
        let (timeline, media) = (&self.timeline, &entry.media);
        let at_or_before = self.catalog.keyframe_up_to(timeline, media, asked.since_ms(entry.span.start))?;
        let first = self.catalog.first_keyframes(timeline, media, 1)?.first().copied();
        let Some(at_ms) = at_or_before.or(first) else { return Ok(Err(Missing::NotRecorded)) };
        Ok(Ok(self.located(asked, entry, at_ms, true)))
    }

    fn located(&self, asked: Timestamp, entry: Entry, at_ms: i64, is_steady: bool) -> Located {
        let timestamp = entry.span.start.plus_ms(at_ms);
        Located {
            timeline: self.timeline,
            is_settled: is_steady && entry.state != State::Growing,
            is_provisional: false,
            is_own_instant: entry.span.contains(timestamp),
            recording: entry.recording,
            media: entry.media,
            at_ms,
            timestamp,
            asked,
            expires_at: entry.expires_at,
        }
    }

    /// The recording with keyframes that holds the instant, else the nearest one.
    fn holding(&self, asked: Timestamp, stretch: &Span) -> Result<Option<Entry>, CatalogError> {
        if let Some(entry) = self.covering(asked).filter(|entry| entry.n_keyframes > 0) {
            return Ok(Some(entry.clone()));
        }
        let here = Span { start: asked, end: asked };
        // The nearest first; of two equally near the one that starts later.
        let mut all = self.with_keyframes_in(&self.whole(stretch, asked)?, asked)?;
        all.sort_by(|a, b| {
            let (near, far) = (a.span.distance_ms(&here), b.span.distance_ms(&here));
            near.cmp(&far).then_with(|| b.precedence().cmp(&a.precedence()))
        });
        Ok(all.into_iter().next())
    }

    /// Reads the entries of `span` and of what may touch them.
    fn read_entries(&mut self, span: Span) -> Result<(), CatalogError> {
        let seam_ms = self.catalog.seam_ms();
        let around = Span { start: span.start.plus_ms(-seam_ms), end: span.end.plus_ms(seam_ms) };
        let (mut entries, blocks) = self.catalog.entries_and_blocks(&self.timeline, &around)?;
        entries.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
        self.blocks = blocks;
        self.entries = Arc::new(entries);
        self.longest_ms = self.entries.iter().map(|entry| entry.span.len_ms()).max().unwrap_or(0);
        self.read = span;
        Ok(())
    }

    fn nearest(&mut self, asked: Timestamp, stretch: &Span) -> Result<Option<(Entry, i64)>, CatalogError> {
        // What touches the covering recording may lie outside what was read: read again around it.
        if let Some(covering) = self.covering(asked).map(|entry| entry.span)
            && !self.read.encloses(&covering)
        {
            let start = self.read.start.min(covering.start);
            self.read_entries(Span { start, end: self.read.end.max(covering.end) })?;
        }
        let covering = self.covering(asked).map_or(Span { start: asked, end: asked }, |entry| entry.span);
        let seam_ms = self.catalog.seam_ms();
        let touching = |entry: &&Entry| {
            entry.is_covering() && entry.span.distance_ms(&covering) <= seam_ms && entry.n_keyframes > 0
        };
        let entries = Arc::clone(&self.entries);
        let mut candidates: Vec<&Entry> =
            near(&entries, self.longest_ms, &covering, seam_ms).iter().filter(touching).collect();
        let others;
        if candidates.is_empty() {
            others = self.with_keyframes_in(&self.whole(stretch, asked)?, asked)?;
            candidates = others.iter().collect();
        }
        // The nearest recordings first, so that the others need not be looked into.
        let here = Span { start: asked, end: asked };
        candidates.sort_by_key(|entry| entry.span.distance_ms(&here));
        let mut best: Option<Candidate<'_>> = None;
        for entry in candidates {
            // A keyframe outside its recording's span is the only one it has, wherever that lies.
            let reach_ms = if entry.n_keyframes == 1 { 0 } else { entry.span.distance_ms(&here) };
            if best.as_ref().is_some_and(|best| best.timestamp.since_ms(asked).abs() < reach_ms) {
                continue;
            }
            let Some(at_ms) = self.nearest_in(entry, asked)? else { continue };
            let candidate = Candidate { entry, at_ms, timestamp: entry.span.start.plus_ms(at_ms) };
            best = Some(match best {
                None => candidate,
                Some(best) => better(asked, best, candidate),
            });
        }
        Ok(best.map(|best| (best.entry.clone(), best.at_ms)))
    }

    /// Of the recordings that cover the instant, the one that is shown.
    fn covering(&self, asked: Timestamp) -> Option<&Entry> {
        // Sorted by precedence, so the last that matches.
        let here = near(&self.entries, self.longest_ms, &Span { start: asked, end: asked }, 0);
        here.iter().rev().find(|entry| entry.is_covering() && entry.span.contains(asked))
    }

    /// A stretch as it goes on over the days behind and ahead of those that were read.
    fn whole(&self, stretch: &Span, asked: Timestamp) -> Result<Span, CatalogError> {
        let mut known = *stretch;
        for _ in 0..STRETCH_DAYS_MAX {
            let wider = self.catalog.coverage(&self.timeline, &known)?.at(asked).map_or(known, |wider| wider.span);
            if wider == known {
                break;
            }
            known = wider;
        }
        Ok(known)
    }

    /// Recordings of the stretch that have keyframes, nearest first, where none of the candidates has any.
    fn with_keyframes_in(&self, stretch: &Span, asked: Timestamp) -> Result<Vec<Entry>, CatalogError> {
        let here = Span { start: asked, end: asked };
        let mut all = self.catalog.entries(&self.timeline, stretch)?;
        all.retain(|entry| entry.is_covering() && entry.n_keyframes > 0);
        all.sort_by_key(|entry| entry.span.distance_ms(&here));
        all.truncate(EMPTY_RECORDINGS_MAX);
        Ok(all)
    }

    /// The instant of a recording's keyframe nearest to `asked`.
    fn nearest_in(&mut self, entry: &Entry, asked: Timestamp) -> Result<Option<i64>, CatalogError> {
        let target_ms = asked.since_ms(entry.span.start);
        if let Some(all) = self.instants.get(&entry.media) {
            return Ok(nearest_of(all, target_ms));
        }
        if entry.n_keyframes <= READ_WHOLE_MAX {
            return self.nearest_of_all(entry.media, target_ms);
        }
        let pages_key = |at_ms| key::page(&self.timeline, &entry.media, at_ms);
        let (up_to, after) = ((i64::MIN, target_ms), (target_ms.saturating_add(1), i64::MAX));
        let around = self.catalog.steady(&self.timeline, || {
            let range = |(from, to)| self.catalog.tables.range(Table::Timelines, &pages_key(from), &pages_key(to));
            [range(up_to).next_back(), range(after).next()].into_iter().flatten().collect::<Result<Vec<_>, _>>()
        })?;
        if around.is_empty() {
            // It is folded: its pages come together.
            return self.nearest_of_all(entry.media, target_ms);
        }
        let mut best: Option<i64> = None;
        for (key, value) in around {
            let here = nearest_of(self.instants_in_page(entry.media, &key, &value)?, target_ms);
            best = [best, here].into_iter().flatten().reduce(|a, b| nearest(target_ms, a, b));
        }
        Ok(best)
    }

    /// The same, from all keyframes of the recording.
    fn nearest_of_all(&mut self, media: MediaId, target_ms: i64) -> Result<Option<i64>, CatalogError> {
        let folded = self.blocks.iter().filter(|block| block.hour() == Some(media.hour()));
        let folded = folded.map(|block| block.member_of(&media)).find_map(|member| member);
        let pages = match folded {
            Some(member) => member.read_pages(KeyframePage::instants).map_err(malformed)?,
            None => self.catalog.read_pages(&self.timeline, &media, KeyframePage::instants)?,
        };
        let all = pages.concat();
        let found = nearest_of(&all, target_ms);
        self.instants.insert(media, all);
        Ok(found)
    }

    fn instants_in_page(&mut self, media: MediaId, key: &[u8], value: &[u8]) -> Result<&[i64], CatalogError> {
        let first = key.last_chunk::<8>().map_or(0, |raw| i64::from_be_bytes(*raw));
        Ok(match self.pages.entry((media, first)) {
            MapEntry::Occupied(known) => known.into_mut(),
            MapEntry::Vacant(new) => new.insert(KeyframePage::instants(value).map_err(malformed)?),
        })
    }

    /// Whether no recording that is announced or expected at an edge can bring a nearer keyframe, though it overlap by a
    /// seam; and whether one that follows right behind can.
    fn outlook(&self, asked: Timestamp, shown: Timestamp, stretch: &Span) -> (bool, bool) {
        let distance_ms = shown.since_ms(asked).abs();
        let seam_ms = self.catalog.seam_ms();
        let is_announced = |edge: Timestamp| {
            let edge = Span { start: edge, end: edge };
            let mut near = near(&self.entries, self.longest_ms, &edge, seam_ms).iter();
            near.any(|entry| entry.state == State::Pending && entry.span.distance_ms(&edge) <= seam_ms)
        };
        let fresh = |edge: Timestamp| self.now.since_ms(edge) <= SETTLED_AFTER_MS || is_announced(edge);
        let (to_end_ms, to_start_ms) = (stretch.end.since_ms(asked), asked.since_ms(stretch.start));
        let reaches = |to_edge_ms: i64| (to_edge_ms - seam_ms).max(0);
        let from_end = reaches(to_end_ms) <= distance_ms && distance_ms > 0 && fresh(stretch.end);
        let from_start = reaches(to_start_ms) < distance_ms && fresh(stretch.start);
        (!from_end && !from_start, from_end && to_end_ms <= distance_ms)
    }

    /// What to say of an instant that is not covered.
    fn missing(&self, asked: Timestamp) -> Result<Missing, CatalogError> {
        let here: Vec<&Entry> = self.entries.iter().filter(|entry| entry.span.contains(asked)).collect();
        let in_state = |state: State| here.iter().find(|entry| entry.state == state);
        if in_state(State::Pending).is_some() {
            return Ok(Missing::NotIndexed);
        }
        if let Some(entry) = in_state(State::Failed) {
            let row = self.catalog.row(&self.timeline, &entry.recording)?;
            if let Some(fault) = row.and_then(|row| row.fault) {
                return Ok(Missing::Failed(fault));
            }
        }
        if in_state(State::Gone).is_some() {
            return Ok(Missing::Failed(Fault::new(FaultKind::Gone, "the recording's media is gone")));
        }
        if in_state(State::Deleted).is_some() {
            return Ok(Missing::Deleted);
        }
        let (covered_before, covered_after) = self.catalog.covered_around(&self.timeline, asked)?;
        Ok(match (covered_before, covered_after) {
            (None, None) => Missing::NotRecorded,
            _ => Missing::Gap { covered_before, covered_after },
        })
    }
}

/// Of two instants of a recording the one that answers for a third.
fn nearest(target_ms: i64, a: i64, b: i64) -> i64 {
    let t = Timestamp::from_ms;
    nearer(t(target_ms), t(a), t(b)).as_ms()
}

/// Of instants in ascending order the one that answers for another.
fn nearest_of(instants: &[i64], target_ms: i64) -> Option<i64> {
    let after = instants.partition_point(|at_ms| *at_ms <= target_ms);
    let around = &instants[after.saturating_sub(1)..instants.len().min(after + 1)];
    around.iter().copied().reduce(|a, b| nearest(target_ms, a, b))
}

/// Of entries by start, none longer than `longest_ms`: those that may reach into `span` or lie no further than `around_ms`
/// from it.
fn near<'e>(entries: &'e [Entry], longest_ms: i64, span: &Span, around_ms: i64) -> &'e [Entry] {
    let first = span.start.plus_ms(-longest_ms.saturating_add(around_ms));
    let last = span.end.plus_ms(around_ms);
    let from = entries.partition_point(|entry| entry.span.start < first);
    let to = entries.partition_point(|entry| entry.span.start <= last);
    &entries[from..to.max(from)]
}

fn better<'e>(asked: Timestamp, a: Candidate<'e>, b: Candidate<'e>) -> Candidate<'e> {
    if a.timestamp == b.timestamp {
        return if a.entry.precedence() < b.entry.precedence() { b } else { a };
    }
    if nearer(asked, a.timestamp, b.timestamp) == a.timestamp { a } else { b }
}
