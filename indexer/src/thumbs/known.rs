//! Which keyframe answered for an instant, and what was covered in a window, remembered while it stays so: until something
//! of the device changes in the catalog. Spares a look-up on another thread, which costs more than all the rest of a
//! picture out of memory.

use std::sync::{Arc, Weak};

use stills_model::coverage::Coverage;
use stills_model::id::Timeline;
use stills_model::time::{Span, Timestamp};

use crate::catalog::{Catalog, Located};
use crate::recent::Recent;

/// Keyframes that are remembered: about 3 MiB.
const KEYFRAMES: usize = 1 << 14;

/// Windows that are remembered, and stretches of coverage in each: 6 MiB at most.
const WINDOWS: usize = 1 << 10;
const STRETCHES_MAX: usize = 200;

/// What is covered in a window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// What is covered.
    pub coverage: Arc<Coverage>,
    /// Recordings that are announced there and not indexed yet.
    pub n_pending: usize,
}

/// The answers.
#[derive(Debug)]
pub(super) struct Known {
    keyframes: Recent<(Timeline, Timestamp), Answer<Located>>,
    windows: Recent<(Timeline, Span), Answer<Outline>>,
}

struct Answer<T> {
    /// Whose answer it is: a catalog that was opened anew counts changes anew.
    catalog: Weak<Catalog>,
    n_changes: u64,
    found: T,
}

impl<T: Clone> Answer<T> {
    fn new(catalog: &Arc<Catalog>, n_changes: u64, found: &T) -> Self {
        Self { catalog: Arc::downgrade(catalog), n_changes, found: found.clone() }
    }

    /// What was found, if this catalog would find it again.
    fn still(&self, catalog: &Arc<Catalog>, timeline: &Timeline) -> Option<T> {
        let is_of = std::ptr::eq(self.catalog.as_ptr(), Arc::as_ptr(catalog));
        (is_of && self.n_changes == catalog.n_changes(timeline)).then(|| self.found.clone())
    }
}

impl Known {
    pub(super) fn new() -> Self {
        Self { keyframes: Recent::new(KEYFRAMES), windows: Recent::new(WINDOWS) }
    }

    /// What this catalog would answer for an instant, if that is known.
    pub(super) fn get(&self, catalog: &Arc<Catalog>, timeline: Timeline, instant: Timestamp) -> Option<Located> {
        self.keyframes.find(&(timeline, instant), |answer| answer.still(catalog, &timeline))
    }

    /// Notes an answer. `n_changes` is from before the catalog was asked, so that a change meanwhile makes the answer old.
    pub(super) fn note(&self, catalog: &Arc<Catalog>, n_changes: u64, located: &Located) {
        // What is not settled may become so by time alone.
        if located.is_settled {
            self.keyframes.put((located.timeline, located.asked), Answer::new(catalog, n_changes, located));
        }
    }

    /// What this catalog would say of a window, if that is known.
    pub(super) fn outline(&self, catalog: &Arc<Catalog>, timeline: Timeline, window: Span) -> Option<Outline> {
        self.windows.find(&(timeline, window), |answer| answer.still(catalog, &timeline))
    }

    /// Notes what it said; as [`Self::note`].
    pub(super) fn note_outline(&self, catalog: &Arc<Catalog>, n_changes: u64, of: (Timeline, Span), found: &Outline) {
        if found.coverage.stretches().len() <= STRETCHES_MAX {
            self.windows.put(of, Answer::new(catalog, n_changes, found));
        }
    }
}
