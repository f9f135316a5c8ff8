//! How long a failure is remembered: the one place where the age of a failure is chosen.

use std::time::{Duration, Instant};

use moka::Expiry;
use stills_model::fault::{Fault, FaultKind};
use stills_model::thumb::ThumbKey;

/// Failures remembered at most; each is some hundred bytes.
const REMEMBERED_MAX: u64 = 100_000;

/// For how long asking again is answered from memory; none: never.
pub const fn age_of(kind: FaultKind) -> Option<Duration> {
    match kind {
        // The media will not change by itself; a new event clears it by changing the media's identity.
        FaultKind::Unsupported | FaultKind::Damaged | FaultKind::TooLarge | FaultKind::Forbidden => {
            Some(Duration::from_secs(300))
        }
        // A decoder that died or hung on it would do so again, and each time costs a worker.
        FaultKind::Deadline | FaultKind::Crashed => Some(Duration::from_secs(30)),
        FaultKind::Gone => Some(Duration::from_secs(5)),
        FaultKind::Unreadable | FaultKind::Changed => Some(Duration::from_secs(2)),
        // Overload passes, and our own bugs are not to be cached.
        FaultKind::Busy | FaultKind::Internal => None,
    }
}

/// Whether a scan that failed so is worth another attempt, and how many in all.
pub const fn scan_attempts_max(kind: FaultKind) -> u32 {
    match kind {
        FaultKind::Unsupported | FaultKind::TooLarge | FaultKind::Forbidden => 1,
        // Perhaps announced before it was written to the end.
        FaultKind::Damaged => 4,
        FaultKind::Gone | FaultKind::Crashed | FaultKind::Deadline => 5,
        FaultKind::Unreadable | FaultKind::Changed | FaultKind::Internal => 8,
        FaultKind::Busy => u32::MAX,
    }
}

/// The pause before the next attempt: doubling from one second, ten minutes at most.
pub fn scan_pause(attempts: u32) -> Duration {
    Duration::from_secs((1u64 << attempts.saturating_sub(1).min(10)).min(600))
}

/// Failures of recent renders.
#[derive(Debug)]
pub(super) struct FaultMemory(moka::sync::Cache<ThumbKey, Fault>);

struct ByKind;

impl Expiry<ThumbKey, Fault> for ByKind {
    fn expire_after_create(&self, _: &ThumbKey, fault: &Fault, _: Instant) -> Option<Duration> {
        Some(age_of(fault.kind).unwrap_or(Duration::ZERO))
    }
}

impl FaultMemory {
    pub(super) fn new() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).expire_after(ByKind).build())
    }

    pub(super) fn remembered(&self, key: &ThumbKey) -> Option<Fault> {
        self.0.get(key)
    }

    pub(super) fn remember(&self, key: ThumbKey, fault: &Fault) {
        if age_of(fault.kind).is_some() {
            self.0.insert(key, fault.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!([1, 2, 3, 11, 99].map(|n| scan_pause(n).as_secs()), [1, 2, 4, 600, 600]);
    }
}
