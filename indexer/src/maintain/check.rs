//! The check: journal, catalog and disk cache are read whole and compared. Changes nothing.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use stills_model::thumb::ThumbKey;

use super::Tally;
use crate::cache::DiskCache;
use crate::catalog::Catalog;
use crate::journal::Journal;

/// What a check found, or what there is after a rebuild.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Entries in the journal.
    pub journal_entries: u64,
    /// Stretches of the journal that cannot be read: what stood there is lost.
    pub journal_damaged: u64,
    /// Recordings in the catalog, deleted ones included.
    pub recordings: u64,
    /// Values of the catalog that do not say what they should.
    pub catalog_malformed: u64,
    /// Recordings whose keyframes are missing.
    pub without_keyframes: u64,
    /// Whole pictures on the disk.
    pub pictures: u64,
    /// Pictures that are damaged; they are rendered again when they are asked for.
    pub pictures_damaged: u64,
    /// Pictures that the cache index does not name.
    pub pictures_unlisted: u64,
    /// Pictures of deleted recordings that are still there.
    pub deleted_left: u64,
    /// Stretches of volumes with bytes where nothing is stored.
    pub strays: u64,
}

impl Report {
    /// What is wrong, a sentence each.
    pub fn faults(&self, only_deleted: bool) -> Vec<String> {
        let deleted = [
            (self.deleted_left, "pictures of deleted recordings are still stored"),
            (self.strays, "stretches of volumes hold bytes where nothing is stored"),
        ];
        let others = [
            (self.journal_damaged, "stretches of the journal cannot be read; what stood there is lost"),
            (self.catalog_malformed, "values of the catalog cannot be understood; `rebuild` makes them anew"),
            (self.without_keyframes, "recordings lack their keyframes; `rebuild` brings them back"),
            (self.pictures_damaged, "pictures are damaged; they are rendered again when they are asked for"),
            (self.pictures_unlisted, "pictures are missing from the cache index; `rebuild` finds them"),
        ];
        let others = others.into_iter().filter(|_| !only_deleted);
        let told = deleted.into_iter().chain(others).filter(|(n, _)| *n > 0);
        told.map(|(n, what)| format!("{n} {what}")).collect()
    }

    /// All that was counted, a line each.
    pub fn lines(&self) -> Vec<String> {
        let Self { journal_entries, recordings, pictures, .. } = self;
        vec![
            format!("journal: {journal_entries} entries"),
            format!("catalog: {recordings} recordings, deleted ones included"),
            format!("disk cache: {pictures} whole pictures"),
        ]
    }
}

/// Reads everything.
///
/// # Errors
/// Which store could not be read, and why.
pub fn check(journal: &Journal, catalog: &Catalog, cache: &DiskCache, tally: &Tally) -> Result<Report, String> {
    let mut report = Report::default();
    tally.begin("journal (bytes)", journal.stats().bytes);
    let read = journal.replay(
        |_| 0,
        |_, _, payload| {
            tally.add(payload.len() as u64);
            ControlFlow::Continue(())
        },
    );
    let read = read.map_err(|error| error.to_string())?;
    (report.journal_entries, report.journal_damaged) = (read.entries, read.damaged_count);

    tally.begin("catalog (values)", 0);
    let found = catalog.verify(|n| tally.add(n)).map_err(|error| format!("the catalog: {error}"))?;
    report.recordings = found.recordings;
    (report.catalog_malformed, report.without_keyframes) = (found.malformed, found.without_keyframes);

    tally.begin("disk cache (bytes)", cache.stats().bytes);
    // What cannot be looked up is not taken for left over.
    let is_shown = |key: &ThumbKey| catalog.is_media_shown(&key.timeline, &key.media).unwrap_or(true);
    let found = cache.verify(is_shown, |n| tally.add(n)).map_err(|error| format!("the disk cache: {error}"))?;
    (report.pictures, report.pictures_damaged) = (found.pictures, found.damaged);
    (report.pictures_unlisted, report.deleted_left, report.strays) = (found.unlisted, found.left, found.strays);
    Ok(report)
}
