//! Chores on a data directory that no program has open: its stores are opened here, and closed again.

use std::path::PathBuf;

use super::{Failure, Report, Tally, check};
use crate::cache::DiskCache;
use crate::catalog::{Catalog, Ladder, RowCursor, SetAside};
use crate::clock::Clock;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::journal::Journal;
use crate::pipeline;
use crate::run::{cache_config, incarnation, journal_config, rebuild_cache};

/// The data directory, owned by this process.
#[derive(Debug)]
pub struct Local {
    data: DataDir,
    config: Config,
    clock: Clock,
}

impl Failure {
    /// The form that is told.
    pub fn of(set_aside: &SetAside) -> Self {
        Self {
            user_id: set_aside.timeline.user.to_string(),
            device_id: set_aside.timeline.device.to_string(),
            recording_id: set_aside.recording.to_string(),
            start_timestamp: set_aside.span.map_or(0, |span| span.start.as_ms()),
            media_url: set_aside.media_url.to_string(),
            reason: set_aside.fault.to_string(),
            attempts: set_aside.attempts,
        }
    }
}

impl Local {
    /// Takes the directory.
    ///
    /// # Errors
    /// [`DataDirError::Owned`] while another program has it.
    pub fn open(config: &Config) -> Result<Self, DataDirError> {
        Ok(Self { data: DataDir::open(&config.data.dir)?, config: config.clone(), clock: Clock::system() })
    }

    /// Says that stores are about to be opened.
    fn begin(&self) -> Result<(), String> {
        if self.data.has_lost_power() {
            return Err(
                "the power went while the data was in use: what is derived is made anew at the next start of the \
                        server, or by a rebuild"
                    .to_owned(),
            );
        }
        self.data.note_in_use().map_err(text)
    }

    /// Says that they are closed, and puts them on the disk.
    fn end(&self) -> Result<(), String> {
        self.data.note_stopped().map_err(text)
    }

    fn journal(&self) -> Result<Journal, String> {
        Journal::open(&self.data.journal(), journal_config()).map(|(journal, _)| journal).map_err(text)
    }

    fn catalog(&self, from: Ladder) -> Result<Catalog, String> {
        let seam_ms = i64::try_from(self.config.coverage.seam_max.as_millis()).unwrap_or(i64::MAX);
        let (dir, incarnation): (PathBuf, String) = (self.data.catalog(), incarnation(&self.clock));
        let opened = match from {
            Ladder::AsIs => Catalog::open(&dir, seam_ms, &incarnation),
            from => Catalog::reopen(&dir, seam_ms, &incarnation, from),
        };
        opened.map(|(catalog, _)| catalog).map_err(text)
    }

    fn cache(&self) -> Result<DiskCache, String> {
        DiskCache::open(&self.data.cache(), cache_config(&self.config)).map(|(cache, _)| cache).map_err(text)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Which store could not be opened or read, and why.
    pub fn check(&self, tally: &Tally) -> Result<Report, String> {
        self.begin()?;
        let (journal, catalog, cache) = (self.journal()?, self.catalog(Ladder::AsIs)?, self.cache()?);
        let report = check::check(&journal, &catalog, &cache, tally)?;
        drop((journal, catalog, cache));
        self.end()?;
        Ok(report)
    }

    /// Makes catalog and cache index anew.
    ///
    /// # Errors
    /// Which store could not be opened, read or written, and why.
    pub fn rebuild(&self, tally: &Tally) -> Result<Report, String> {
        if self.data.has_lost_power() {
            self.data.set_derived_aside().map_err(text)?;
        }
        self.begin()?;
        let journal = self.journal()?;
        let catalog = self.catalog(Ladder::Aside)?;
        let days = self.config.retention.days.unwrap_or(0);
        let replayed = pipeline::fill(&catalog, &journal, days, &self.clock, tally).map_err(text)?;
        tally.begin("disk cache", 0);
        let cache = self.cache()?;
        cache.condemn_index();
        drop(cache);
        let cache = self.cache()?;
        rebuild_cache(&cache, &catalog).map_err(text)?;
        cache.sync().map_err(text)?;
        drop((journal, catalog, cache));
        self.end()?;
        let n_entries = replayed.n_events + replayed.n_finished;
        Ok(Report { journal_entries: n_entries, journal_damaged: replayed.n_damaged as u64, ..Report::default() })
    }

    /// Gives each recording that was set aside to `each`; with `is_retry` it is scanned again at the next start.
    ///
    /// # Errors
    /// Why the catalog cannot be opened or read.
    pub fn failures(&self, is_retry: bool, mut each: impl FnMut(Failure)) -> Result<(), String> {
        self.begin()?;
        let catalog = self.catalog(Ladder::AsIs)?;
        let mut cursor = Some(RowCursor::default());
        while let Some(from) = cursor {
            let (found, next) = catalog.set_aside(&from).map_err(text)?;
            for set_aside in &found {
                if is_retry {
                    catalog.retry(&set_aside.timeline, &set_aside.recording, self.clock.now()).map_err(text)?;
                }
                each(Failure::of(set_aside));
            }
            cursor = next;
        }
        drop(catalog);
        self.end()
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
