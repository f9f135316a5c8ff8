//! Folding: recordings that change no more leave the tables for hour blocks, a tenth as large.
//!
//! 1. [`Catalog::fold`] walks over what started in an hour that is over and puts each device's hour into one block,
//!    together with what the hour's block held before.
//! 2. The tables keep, per hour, where its block lies, and fingerprints of the ids in it ([`super::folded_ids`]).
//! 3. Reads look into the tables first, then into the block ([`Catalog::steady`] repeats one that a fold or unfold
//!    has crossed).
//! 4. Whoever changes a folded recording unfolds its hour first: all of it is in the tables again, and is folded anew
//!    on a later walk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};

use stills_model::codec::Malformed;
use stills_model::id::{RecordingId, Timeline};
use stills_model::keyframe_index::KeyframePage;
use stills_model::thumb::MediaId;
use stills_model::time::{HOUR_MS, Hour, Span, Timestamp};

use super::block::{Block, Member};
use super::folded_ids::{FoldedIds, Pointer, fingerprint};
use super::hour_files::Place;
use super::row::{Entry, Row, State};
use super::sled::Table;
use super::tables::Batch;
use super::{CHANGE_COUNTERS, Catalog, CatalogError, key, malformed};

/// How long after its hour a recording is left alone: most of what still happens to it happens within that.
const FOLDED_AFTER_MS: i64 = HOUR_MS / 2;

/// Hours that one call folds, and timelines and entries that it looks at: it takes some ten milliseconds.
const HOURS_PER_CALL: usize = 32;
const TIMELINES_PER_CALL: usize = 200;
const ENTRIES_PER_CALL: usize = 4000;

/// Of an hour with more recordings than that the others stay in the tables.
const MEMBERS_MAX: usize = 4000;

/// Where a walk goes on; the default is the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoldCursor {
    timeline: Vec<u8>,
    hour: Option<Hour>,
}

/// What one call has folded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// Blocks written.
    pub hours: usize,
    /// Recordings that left the tables.
    pub recordings: usize,
}

/// What a recording's entry says of whether it changes no more.
fn may_fold(state: State, span: &Span) -> bool {
    matches!(state, State::Indexed | State::Deleted) && span.len_ms() <= HOUR_MS
}

/// The hour to which a row belongs; none: it is not to be folded now.
fn folding_hour(row: &Row) -> Option<Hour> {
    let is_final = row.fault.is_none() && !row.has_work();
    let (_, available) = row.latest.as_ref().filter(|_| is_final)?;
    let span = row.span().filter(|span| span.start == available.start && may_fold(row.state(), span))?;
    Some(span.start.hour())
}

impl Catalog {
    /// Folds some of what started long before `now`. Returns what was done and where to go on; none: the walk is over.
    ///
    /// # Errors
    /// A failing or damaged store; the call can be made again.
    pub fn fold(&self, mut from: FoldCursor, now: Timestamp) -> Result<(Folded, Option<FoldCursor>), CatalogError> {
        let _alone = self.folding.lock().unwrap_or_else(PoisonError::into_inner);
        let before = now.plus_ms(-FOLDED_AFTER_MS).hour();
        let mut folded = Folded::default();
        for _ in 0..TIMELINES_PER_CALL {
            let Some(timeline) = self.timeline_from(&from.timeline)? else {
                self.give_back()?;
                return Ok((folded, None));
            };
            let (hours, is_all) = self.unfolded(&timeline, from.hour, before)?;
            let last = hours.last_key_value().map(|(hour, _)| *hour);
            let some: Vec<_> = hours.into_iter().take(HOURS_PER_CALL.saturating_sub(folded.hours)).collect();
            let reached = some.last().map(|(hour, _)| *hour);
            self.fold_hours(&timeline, some, &mut folded)?;
            if reached != last || !is_all {
                let next = reached.or(from.hour).map(|hour| Hour(hour.0.saturating_add(1)));
                return Ok((folded, Some(FoldCursor { timeline: timeline.key().to_vec(), hour: next })));
            }
            from = FoldCursor { timeline: key::device_end(&timeline), hour: None };
        }
        Ok((folded, Some(from)))
    }

    /// Recordings of short classes in the tables that start in `from` or later and before `before`, by hour; whether
    /// these are all.
    fn unfolded(
        &self,
        timeline: &Timeline,
        from: Option<Hour>,
        before: Hour,
    ) -> Result<(BTreeMap<Hour, Vec<RecordingId>>, bool), CatalogError> {
        let start = from.map_or(Timestamp::from_ms(i64::MIN), |hour| hour.end().plus_ms(-HOUR_MS));
        let end = before.end().plus_ms(-HOUR_MS - 1);
        let (mut hours, mut whole_before) = (BTreeMap::<Hour, Vec<RecordingId>>::new(), before);
        for (class, _) in self.classes_of(timeline)?.filter(|(_, shorter_ms)| *shorter_ms <= HOUR_MS) {
            let (first, last) = key::entries(timeline, class, start, end);
            for (n, item) in self.tables.range(Table::Timelines, &first, &last).enumerate() {
                let (key, value) = item?;
                let Some((start, recording)) = key::parse_entry(&key) else { continue };
                if n >= ENTRIES_PER_CALL {
                    whole_before = whole_before.min(start.hour());
                    break;
                }
                let entry = Entry::decode(start, recording, &value).map_err(malformed)?;
                if may_fold(entry.state, &entry.span) {
                    hours.entry(start.hour()).or_default().push(entry.recording);
                }
            }
        }
        if whole_before == before {
            return Ok((hours, true));
        }
        // An hour alone may hold more than one call looks at.
        let first = hours.keys().next().copied();
        hours.retain(|hour, _| *hour < whole_before || Some(*hour) == first);
        Ok((hours, false))
    }

    fn fold_hours(
        &self,
        timeline: &Timeline,
        hours: Vec<(Hour, Vec<RecordingId>)>,
        folded: &mut Folded,
    ) -> Result<(), CatalogError> {
        if hours.is_empty() {
            return Ok(());
        }
        let _turn = self.lock(timeline);
        let (mut batch, mut old) = (Batch::default(), Vec::new());
        for (hour, recordings) in hours {
            let before = self.place(timeline, hour)?;
            let mut members = match &before {
                Some(place) => Arc::unwrap_or_clone(self.steady(timeline, || self.block(place))?).into_members(),
                None => Vec::new(),
            };
            let n_before = members.len();
            for recording in recordings {
                if members.len() < MEMBERS_MAX {
                    members.extend(self.take_hot(timeline, hour, &recording, &mut batch)?);
                }
            }
            if members.len() == n_before {
                continue;
            }
            folded.hours += 1;
            folded.recordings += members.len() - n_before;
            let block = Block::new(members);
            let bytes = block.encode().map_err(CatalogError::Hours)?;
            let place = self.hours.append(&bytes).map_err(CatalogError::Hours)?;
            batch.put(&key::hour(timeline, hour), &Pointer::new(place, &block).encode());
            old.extend(before);
        }
        if folded.hours == 0 {
            return Ok(());
        }
        // Not synced here: what the disk loses in a power cut is made anew with the tables; a checkpoint syncs it, and a stop.
        self.move_to(timeline, batch, old)
    }

    /// A recording from the tables, if it is to be folded; the batch takes it out of there.
    fn take_hot(
        &self,
        timeline: &Timeline,
        hour: Hour,
        recording: &RecordingId,
        batch: &mut Batch,
    ) -> Result<Option<Member>, CatalogError> {
        let row_key = key::row(timeline, recording);
        let Some(raw) = self.tables.get(Table::Timelines, &row_key)? else { return Ok(None) };
        let row = Row::decode(&raw).map_err(malformed)?;
        if folding_hour(&row) != Some(hour) {
            return Ok(None);
        }
        let mut pages = Vec::new();
        if let Some(indexed) = &row.indexed {
            for item in self.tables.prefix(Table::Timelines, &key::pages(timeline, &indexed.media)) {
                let (key, value) = item?;
                batch.delete(&key);
                pages.push(value);
            }
        }
        let Some(member) = Member::new(recording, &row, pages) else { return Ok(None) };
        batch.delete(&row_key);
        batch.delete(&key::entry_of(timeline, &member.entry));
        Ok(Some(member))
    }

    /// Has a recording back in the tables, if it is folded, with all of its hour, which most likely is `hour`. The timeline
    /// is locked by the caller.
    pub(super) fn unfold(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        hour: Option<Hour>,
    ) -> Result<(), CatalogError> {
        if self.tables.get(Table::Timelines, &key::row(timeline, recording))?.is_some() {
            return Ok(());
        }
        // Every unfolding makes what is known of the device's ids old: of many deletes none should need it.
        let found = self.steady(timeline, || self.block_of(timeline, recording, hour))?;
        let Some((hour, place, block)) = found else { return Ok(()) };
        let mut batch = Batch::default();
        for member in block.members() {
            batch.put(&key::row(timeline, &member.entry.recording), &member.row);
            batch.put(&key::entry_of(timeline, &member.entry), &member.entry.encode());
            for page in &member.pages {
                let first_at_ms =
                    KeyframePage::decode(page).map_err(malformed)?.keyframes.first().map_or(0, |k| k.at_ms);
                batch.put(&key::page(timeline, &member.entry.media, first_at_ms), page);
            }
        }
        batch.delete(&key::hour(timeline, hour));
        self.move_to(timeline, batch, vec![place])
    }

    /// Applies a batch that moves recordings between tables and blocks, and leaves the blocks `old` behind.
    fn move_to(&self, timeline: &Timeline, batch: Batch, old: Vec<Place>) -> Result<(), CatalogError> {
        // What may take long comes first: readers wait while the number of moves is odd.
        self.tables.make_room()?;
        let moves = &self.shard(timeline).moves;
        let folds = self.folds(timeline);
        let mut left_behind = self.left_behind();
        moves.fetch_add(1, Ordering::SeqCst);
        folds.fetch_add(1, Ordering::SeqCst);
        let moved = self.tables.apply(Table::Timelines, batch);
        folds.fetch_add(1, Ordering::SeqCst);
        moves.fetch_add(1, Ordering::SeqCst);
        left_behind.extend(moved.is_ok().then_some(old).into_iter().flatten());
        moved
    }

    fn left_behind(&self) -> MutexGuard<'_, Vec<Place>> {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what may lie in the tables or in a block, again if it was moved meanwhile.
    pub(super) fn steady<T>(
        &self,
        timeline: &Timeline,
        mut read: impl FnMut() -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let moves = &self.shard(timeline).moves;
        loop {
            let before = moves.load(Ordering::SeqCst);
            let found = read();
            if before.is_multiple_of(2) && moves.load(Ordering::SeqCst) == before {
                if let Err(CatalogError::Block) = &found {
                    self.tables.watched().condemn("an hour block is damaged");
                }
                return found;
            }
            // A move is one batch into memory.
            std::thread::yield_now();
        }
    }

    pub(super) fn place(&self, timeline: &Timeline, hour: Hour) -> Result<Option<Place>, CatalogError> {
        let value = self.tables.get(Table::Timelines, &key::hour(timeline, hour))?;
        value.map(|raw| Pointer::place_in(&raw).map_err(malformed)).transpose()
    }

    /// How often recordings of a timeline have moved, and of those that share its counter.
    fn folds(&self, timeline: &Timeline) -> &AtomicU64 {
        &self.folds[Self::hash(timeline) % CHANGE_COUNTERS]
    }

    /// Where a timeline's folded recordings lie. One that was gathered during a move is used by nobody after it.
    fn folded_ids(&self, timeline: &Timeline) -> Result<Arc<FoldedIds>, CatalogError> {
        let as_of = self.folds(timeline).load(Ordering::SeqCst);
        if let Some(known) = self.folded_ids.get(timeline).filter(|known| known.as_of == as_of) {
            return Ok(known);
        }
        let ids = Arc::new(FoldedIds::gather(as_of, self.pointers(timeline).collect::<Result<_, _>>()?));
        self.folded_ids.insert(*timeline, Arc::clone(&ids));
        Ok(ids)
    }

    fn pointers(&self, timeline: &Timeline) -> impl Iterator<Item = Result<(Hour, Pointer), CatalogError>> {
        let (first, last) = (key::hour(timeline, Hour(i32::MIN)), key::hour(timeline, Hour(i32::MAX)));
        self.tables.range(Table::Timelines, &first, &last).map(|item| {
            let (key, value) = item?;
            let hour = key::parse_hour(&key).ok_or_else(|| malformed(Malformed("hour")))?;
            Ok((hour, Pointer::decode(&value).map_err(malformed)?))
        })
    }

    /// Reads a block.
    pub(super) fn block(&self, place: &Place) -> Result<Arc<Block>, CatalogError> {
        if let Some(known) = self.blocks.get(place) {
            return Ok(known);
        }
        let bytes = self.hours.read(place).map_err(CatalogError::Hours)?.ok_or(CatalogError::Block)?;
        let block = Arc::new(Block::decode(&bytes).map_err(|_| CatalogError::Block)?);
        self.blocks.insert(*place, Arc::clone(&block));
        Ok(block)
    }

    /// The block that holds a recording, which most likely is that of `hour`.
    fn block_of(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        hour: Option<Hour>,
    ) -> Result<Option<(Hour, Place, Arc<Block>)>, CatalogError> {
        if let Some(hour) = hour
            && let Some(found) = self.block_in(timeline, recording, hour)?
        {
            return Ok(Some(found));
        }
        let ids = self.folded_ids(timeline)?;
        for hour in ids.hours_of(fingerprint(recording)) {
            if let Some(found) = self.block_in(timeline, recording, hour)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The block of this hour, if it holds the recording.
    fn block_in(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        hour: Hour,
    ) -> Result<Option<(Hour, Place, Arc<Block>)>, CatalogError> {
        let Some(place) = self.place(timeline, hour)? else { return Ok(None) };
        let block = self.block(&place)?;
        Ok(block.member(recording).is_some().then_some((hour, place, block)))
    }

    /// The row of a folded recording, which most likely starts in `hour`.
    pub(super) fn folded_row(
        &self,
        timeline: &Timeline,
        recording: &RecordingId,
        hour: Option<Hour>,
    ) -> Result<Option<Row>, CatalogError> {
        let found = self.block_of(timeline, recording, hour)?;
        let member = found.as_ref().and_then(|(_, _, block)| block.member(recording));
        member.map(|member| Row::decode(&member.row).map_err(malformed)).transpose()
    }

    /// Of each keyframe page of a folded media what `decode` reads; none: it is not folded.
    pub(super) fn folded_pages<T>(
        &self,
        timeline: &Timeline,
        media: &MediaId,
        decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, CatalogError> {
        let Some(place) = self.place(timeline, media.hour())? else { return Ok(None) };
        let block = self.block(&place)?;
        block.member_of(media).map(|member| member.read_pages(decode).map_err(malformed)).transpose()
    }

    /// The blocks of the hours from `from` to `to`, in order, each read when it is asked for.
    pub(super) fn blocks_within(
        &self,
        timeline: &Timeline,
        from: Hour,
        to: Hour,
    ) -> impl Iterator<Item = Result<Arc<Block>, CatalogError>> {
        self.places_within(timeline, from, to).map(|place| self.block(&place?))
    }

    fn places_within(
        &self,
        timeline: &Timeline,
        from: Hour,
        to: Hour,
    ) -> impl Iterator<Item = Result<Place, CatalogError>> {
        let (first, last) = (key::hour(timeline, from), key::hour(timeline, to));
        let items = self.tables.range(Table::Timelines, &first, &last);
        items.map(|item| Pointer::place_in(&item?.1).map_err(malformed))
    }

    /// The entries of folded recordings that have a part in `span`; `each` block that was read.
    pub(super) fn folded_entries(
        &self,
        timeline: &Timeline,
        span: &Span,
        found: &mut Vec<Entry>,
        mut each: impl FnMut(Arc<Block>),
    ) -> Result<(), CatalogError> {
        for block in self.blocks_within(timeline, span.start.plus_ms(-HOUR_MS).hour(), span.end.hour()) {
            let block = block?;
            let has_part = |entry: &&Entry| entry.span.end >= span.start && entry.span.start <= span.end;
            found.extend(block.members().iter().map(|member| &member.entry).filter(has_part).cloned());
            each(block);
        }
        Ok(())
    }

    /// Gives back to the disk what nothing points to any more, not even after a crash.
    fn give_back(&self) -> Result<(), CatalogError> {
        let left = std::mem::take(&mut *self.left_behind());
        if left.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.tables.flush() {
            self.left_behind().extend(left);
            return Err(error);
        }
        left.iter().for_each(|place| self.hours.release(place));
        let mut used = BTreeSet::new();
        let mut from = Vec::new();
        while let Some(timeline) = self.timeline_from(&from)? {
            for place in self.places_within(&timeline, Hour(i32::MIN), Hour(i32::MAX)) {
                used.insert(place?.file);
            }
            from = key::device_end(&timeline);
        }
        // What was left behind during the walk, the disk may still point to.
        let left_behind = self.left_behind();
        used.extend(left_behind.iter().map(|place| place.file));
        self.hours.keep_only(|file| used.contains(&file));
        Ok(())
    }
}
