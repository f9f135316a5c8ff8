//! Looking through everything: whether each value can be read and fits the others; which recordings were set aside.

use stills_model::coverage::Coverage;
use stills_model::fault::Fault;
use stills_model::id::{RecordingId, Timeline};
use stills_model::keyframe::DecoderConfig;
use stills_model::keyframe_index::KeyframePage;
use stills_model::time::{Span, Timestamp};

use super::folded_ids::Pointer;
use super::row::{Entry, Row, State};
use super::sled::Table;
use super::{Catalog, CatalogError, apply, key, malformed};

/// Rows looked at in one call that lists some.
const ROWS_PER_CALL: usize = 20_000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogFindings {
    /// Values in all tables.
    pub values: u64,
    /// Recordings, deleted ones included.
    pub recordings: u64,
    /// Values that do not say what they should.
    pub malformed: u64,
    /// Recordings with keyframes of which no keyframe is stored.
    pub without_keyframes: u64,
}

/// A recording that could not be indexed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Whose camera.
    pub timeline: Timeline,
    /// Which recording.
    pub recording: RecordingId,
    /// What it announces.
    pub span: Option<Span>,
    /// Where its media lies.
    pub media_url: Box<str>,
    /// Why.
    pub fault: Fault,
    /// How often it was tried.
    pub attempts: u32,
}

/// Where a listing of rows goes on; the default is the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowCursor(pub(crate) Vec<u8>);

impl Catalog {
    /// Reads every value; `progress` hears of each thousand. May run beside everything else.
    ///
    /// # Errors
    /// A failing store, and a value whose check sum is wrong: that condemns it.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<CatalogFindings, CatalogError> {
        let mut findings = CatalogFindings::default();
        for table in Table::ALL {
            for item in self.tables.prefix(table, b"") {
                let (key, value) = item?;
                findings.values += 1;
                if findings.values.is_multiple_of(1000) {
                    progress(1000);
                }
                if table == Table::Timelines {
                    self.verify_value(&key, &value, &mut findings)?;
                }
            }
        }
        Ok(findings)
    }

    fn verify_value(&self, key: &[u8], value: &[u8], findings: &mut CatalogFindings) -> Result<(), CatalogError> {
        let is_well_formed = match key.get(24) {
            Some(1) => {
                findings.recordings += 1;
                let row = Row::decode(value);
                if let (Ok(row), Some((timeline, recording))) = (&row, key::parse_row(key)) {
                    findings.without_keyframes += u64::from(self.lacks_keyframes(&timeline, &recording, row)?);
                }
                row.is_ok()
            }
            Some(2) => key::parse_entry(key).is_some_and(|(start, id)| Entry::decode(start, id, value).is_ok()),
            Some(3) => Coverage::decode(value).is_ok(),
            Some(4) => KeyframePage::decode(value).is_ok(),
            Some(5) => value.len() == 1,
            Some(6) => value.len() == 8,
            Some(7 | 9) => apply::deleted_span(value).is_ok(),
            Some(8) => DecoderConfig::decode(value).is_ok(),
            Some(10) => self.verify_block(key, value, findings)?,
            _ => false,
        };
        findings.malformed += u64::from(!is_well_formed);
        Ok(())
    }

    /// Reads an hour block; false: what points to it says something else.
    fn verify_block(&self, key: &[u8], value: &[u8], findings: &mut CatalogFindings) -> Result<bool, CatalogError> {
        let (Some(timeline), Ok(pointer)) = (key::parse_timeline(key), Pointer::decode(value)) else {
            return Ok(false);
        };
        let place = pointer.place;
        let read = || {
            // It may have been replaced since it was listed; what replaced it is of its time.
            let now = self.tables.get(Table::Timelines, key)?;
            now.filter(|now| *now == value).map(|_| self.block(&place)).transpose()
        };
        let Some(block) = self.steady(&timeline, read)? else { return Ok(true) };
        findings.recordings += block.members().len() as u64;
        for member in block.members() {
            let is_read = Row::decode(&member.row).is_ok() && member.read_pages(KeyframePage::decode).is_ok();
            let lacks = member.entry.n_keyframes > 0 && member.entry.is_covering() && member.pages.is_empty();
            findings.without_keyframes += u64::from(lacks);
            findings.malformed += u64::from(!is_read);
        }
        Ok(pointer == Pointer::new(place, &block))
    }

    fn lacks_keyframes(&self, timeline: &Timeline, recording: &RecordingId, row: &Row) -> Result<bool, CatalogError> {
        let lacks = |row: &Row| -> Result<bool, CatalogError> {
            let Some(indexed) = row.indexed.as_ref().filter(|i| i.n_keyframes > 0 && !row.removed) else {
                return Ok(false);
            };
            Ok(!self.is_media_shown(timeline, &indexed.media)?)
        };
        // What was read may have changed since.
        Ok(lacks(row)? && self.row(timeline, recording)?.is_some_and(|now| lacks(&now).unwrap_or(false)))
    }

    /// Recordings that were set aside, some rows at a time. Returns where to go on; none: all were looked at.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn set_aside(&self, from: &RowCursor) -> Result<(Vec<SetAside>, Option<RowCursor>), CatalogError> {
        let mut found = Vec::new();
        let mut at = from.0.clone();
        let mut n_rows = 0;
        loop {
            let first = self.tables.range(Table::Timelines, &at, &[u8::MAX; 32]).next().transpose()?;
            let Some(timeline) = first.and_then(|(key, _)| key::parse_timeline(&key)) else { return Ok((found, None)) };
            let last = key::rows_end(&timeline);
            for item in self.tables.range(Table::Timelines, &at.max(key::rows(&timeline)), &last) {
                let (key, value) = item?;
                let Some((_, recording)) = key::parse_row(&key) else { continue };
                let row = Row::decode(&value).map_err(malformed)?;
                n_rows += 1;
                if let (State::Failed, Some(fault), Some((_, available))) = (row.state(), &row.fault, &row.latest) {
                    let (span, attempts, fault) = (row.span(), row.attempts, fault.clone());
                    let media_url = available.media_url.clone();
                    found.push(SetAside { timeline, recording, span, media_url, fault, attempts });
                }
                if n_rows == ROWS_PER_CALL {
                    return Ok((found, Some(RowCursor([&key[..], &[0]].concat()))));
                }
            }
            at = key::device_end(&timeline);
        }
    }

    /// Has a recording that was set aside scanned again. False: it is not set aside.
    ///
    /// # Errors
    /// A failing or damaged store.
    pub fn retry(&self, timeline: &Timeline, recording: &RecordingId, now: Timestamp) -> Result<bool, CatalogError> {
        let _turn = self.lock(timeline);
        let Some(old) = self.row(timeline, recording)?.filter(|row| row.state() == State::Failed) else {
            return Ok(false);
        };
        let new = Row { to_scan: true, fault: None, attempts: 0, ..old.clone() };
        self.settle_one(timeline, recording, old, new, now).map(|_| true)
    }
}
