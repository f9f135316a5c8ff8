//! What an operator has done now and then: check what is derived, make it anew, see what could not be indexed. The
//! same for a server that runs (over its admin listener, [`remote`]) and for a data directory at rest ([`local`]).
//!
//! A chore runs in the background, one at a time; [`Status`] says how far it is. The forms here are what the admin
//! listener speaks.

pub mod arguments;
pub mod check;
pub mod command;
pub mod local;
pub mod remote;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub use check::Report;

/// Something that takes a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chore {
    /// Catalog and cache index are made anew from journal and volumes.
    Rebuild,
    /// Everything is read and compared.
    Check,
}

/// How far a chore is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Status {
    /// None was begun in this run.
    #[default]
    Idle,
    /// It is under way.
    Running {
        /// Which.
        chore: Chore,
        /// What it is at.
        phase: String,
        /// How much of that is done, in a unit of its own.
        done: u64,
        /// How much there is; 0: not known.
        total: u64,
    },
    /// It has ended.
    Done {
        /// Which.
        chore: Chore,
        /// What it found.
        report: Report,
    },
    /// It could not be done.
    Failed {
        /// Which.
        chore: Chore,
        /// Why.
        error: String,
    },
}

/// A recording that could not be indexed, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose.
    pub user_id: String,
    /// Which camera.
    pub device_id: String,
    /// Which recording.
    pub recording_id: String,
    /// Where it starts, in milliseconds.
    pub start_timestamp: i64,
    /// Where its media lies.
    pub media_url: String,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// Some of them, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// In order of user, device and recording.
    pub failures: Vec<Failure>,
    /// What to ask for next; none: these were the last.
    pub next: Option<String>,
}

/// How far the work is; shared by who does it and who asks.
#[derive(Debug, Default)]
pub struct Tally {
    phase: Mutex<&'static str>,
    done: AtomicU64,
    total: AtomicU64,
}

impl Tally {
    /// Something of `total` (0: not known) begins.
    pub fn begin(&self, phase: &'static str, total: u64) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// So much more is done.
    pub fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }

    /// Phase, done and total.
    pub fn get(&self) -> (&'static str, u64, u64) {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        (phase, self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// The one chore that runs, or ran last.
#[derive(Debug, Default)]
pub struct Chores {
    /// How far it is.
    pub tally: Tally,
    status: Mutex<Status>,
}

impl Chores {
    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one; false: another is under way.
    pub fn begin(&self, chore: Chore) -> bool {
        let mut status = self.lock();
        if matches!(*status, Status::Running { .. }) {
            return false;
        }
        self.tally.begin("beginning", 0);
        *status = Status::Running { chore, phase: String::new(), done: 0, total: 0 };
        true
    }

    /// Ends it.
    pub fn end(&self, chore: Chore, result: Result<Report, String>) {
        *self.lock() = match result {
            Ok(report) => Status::Done { chore, report },
            Err(error) => Status::Failed { chore, error },
        };
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        let status = self.lock().clone();
        let Status::Running { chore, .. } = status else { return status };
        let (phase, done, total) = self.tally.get();
        Status::Running { chore, phase: phase.to_owned(), done, total }
    }
}
