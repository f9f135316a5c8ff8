//! Which keyframe answered for an instant, remembered while it stays so: until something of the device changes in the
//! catalog. Spares a look-up on another thread, which costs more than all the rest of a picture out of memory.

use std::sync::{Arc, Weak};

use stills_model::id::Timeline;
use stills_model::time::Timestamp;

use crate::catalog::{Catalog, Located};
use crate::recent::Recent;

/// Answers that are remembered: about 3 MiB.
const ANSWERS: usize = 1 << 14;

/// The answers.
#[derive(Debug)]
pub(super) struct Known(Recent<(Timeline, Timestamp), Answer>);

struct Answer {
    /// Whose answer it is: a catalog that was opened anew counts changes anew.
    catalog: Weak<Catalog>,
    n_changes: u64,
    located: Located,
}

impl Known {
    pub(super) fn new() -> Self {
        Self(Recent::new(ANSWERS))
    }

    /// What this catalog would answer for an instant, if that is known.
    pub(super) fn get(&self, catalog: &Arc<Catalog>, timeline: Timeline, instant: Timestamp) -> Option<Located> {
        self.0.find(&(timeline, instant), |answer| {
            let is_of = std::ptr::eq(answer.catalog.as_ptr(), Arc::as_ptr(catalog));
            (is_of && answer.n_changes == catalog.n_changes(&timeline)).then(|| answer.located.clone())
        })
    }

    /// Notes an answer. `n_changes` is from before the catalog was asked, so that a change meanwhile makes the answer old.
    pub(super) fn note(&self, catalog: &Arc<Catalog>, n_changes: u64, located: &Located) {
        // What is not settled may become so by time alone.
        if located.is_settled {
            let answer = Answer { catalog: Arc::downgrade(catalog), n_changes, located: located.clone() };
            self.0.put((located.timeline, located.asked), answer);
        }
    }
}
