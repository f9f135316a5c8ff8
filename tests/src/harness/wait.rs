//! Waiting for a condition, with a deadline. Nothing in the tests waits for time alone.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long anything may take on a machine that is busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks: short against what is waited for, long against what a look costs.
const EVERY: Duration = Duration::from_millis(15);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`DEADLINE`].
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    some(what, async || condition().await.then_some(())).await;
}

/// Waits until `attempt` gives something, and gives it.
///
/// # Panics
/// When it does not within [`DEADLINE`].
pub async fn some<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
    }
}
