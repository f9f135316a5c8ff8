//! Calls into a store that may panic, never return or say that it is damaged: each is watched, and after the first
//! such fault the store is condemned and answers nothing any more. Knows no store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls at once whose length is known; more than there are threads that call.
const SLOTS: usize = 128;

/// The store was found damaged in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("condemned after damage")]
pub(crate) struct Condemned;

/// Watches the calls into one open store.
#[derive(Debug)]
pub(crate) struct Watched {
    opened: Instant,
    /// When each running call began, in milliseconds after `opened` plus one; 0: no call.
    running: Box<[AtomicU64]>,
    is_condemned: AtomicBool,
    reason: Mutex<Option<String>>,
    /// Whether a write failed for want of a disk: the store may be whole, and refuses until it is opened anew.
    has_disk_failed: AtomicBool,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            running: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            is_condemned: AtomicBool::new(false),
            reason: Mutex::default(),
            has_disk_failed: AtomicBool::new(false),
        }
    }
}

impl Watched {
    /// Makes the call, unless the store is condemned. A panic condemns it.
    pub(crate) fn call<T>(&self, call: impl FnOnce() -> T) -> Result<T, Condemned> {
        if self.is_condemned() {
            return Err(Condemned);
        }
        let slot = self.begin();
        let called = catch_unwind(AssertUnwindSafe(call));
        if let Some(slot) = slot {
            slot.store(0, Ordering::Release);
        }
        called.map_err(|_| {
            self.condemn("it panicked");
            Condemned
        })
    }

    fn begin(&self) -> Option<&AtomicU64> {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        // None free: then this call is not watched, but the others are.
        self.running.iter().find(|slot| slot.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// For how long the longest call has been running.
    pub(crate) fn longest(&self) -> Duration {
        let began = self.running.iter().map(|slot| slot.load(Ordering::Acquire)).filter(|began| *began > 0).min();
        began.map_or(Duration::ZERO, |began| self.opened.elapsed().saturating_sub(Duration::from_millis(began)))
    }

    /// Ends the use of the store. True for the first one to do so.
    pub(crate) fn condemn(&self, reason: &str) -> bool {
        let is_first = !self.is_condemned.swap(true, Ordering::AcqRel);
        if is_first {
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        is_first
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.is_condemned.load(Ordering::Acquire)
    }

    /// Why it was condemned.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_disk_failure(&self) {
        self.has_disk_failed.store(true, Ordering::Release);
    }

    pub(crate) fn has_disk_failed(&self) -> bool {
        self.has_disk_failed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_panic_condemns() {
        let watched = Watched::default();
        assert_eq!(watched.call(|| 7), Ok(7));
        assert_eq!(watched.call(|| std::panic::resume_unwind(Box::new(()))), Err::<(), _>(Condemned));
        assert_eq!(watched.call(|| 7), Err(Condemned));
        assert_eq!(watched.reason().as_deref(), Some("it panicked"));
        assert!(!watched.condemn("something else"));
    }

    #[test]
    fn a_call_that_does_not_return_is_seen() {
        let watched = Watched::default();
        assert_eq!(watched.longest(), Duration::ZERO);
        std::thread::scope(|scope| {
            let (release, held) = mpsc::channel::<()>();
            let (began, has_begun) = mpsc::channel();
            let watched = &watched;
            scope.spawn(move || {
                watched.call(|| {
                    began.send(()).expect("a test");
                    let _ = held.recv();
                })
            });
            has_begun.recv().expect("begun");
            while watched.longest() < Duration::from_millis(5) {
                std::thread::yield_now();
            }
            assert_eq!(watched.call(|| 1), Ok(1), "others go on");
            drop(release);
        });
        assert_eq!(watched.longest(), Duration::ZERO);
    }
}
