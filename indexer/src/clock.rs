//! The wall clock, passed in wherever time matters, so that tests can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use stills_model::time::Timestamp;

/// Tells the wall-clock time. Cloning is cheap; clones of a settable clock move together.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `now` until [`Clock::set`] moves it.
    pub fn settable(now: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now.as_ms()))))
    }

    /// Moves a settable clock and all its clones; the machine's clock stays what it is.
    pub fn set(&self, now: Timestamp) {
        if let Some(ms) = &self.0 {
            ms.store(now.as_ms(), Ordering::Relaxed);
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        let ms = match &self.0 {
            Some(ms) => ms.load(Ordering::Relaxed),
            None => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
            }
        };
        Timestamp::from_ms(ms)
    }
}
