//! A store that is replaced while others use it: they get it anew for each call, and hold it no longer than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

/// How often it is looked whether there is one again.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long the users of one that was taken away are waited for, and how often they are looked for.
const LET_GO_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 3 });

/// One store, or none while it is opened anew.
#[derive(Debug)]
pub struct Live<T> {
    current: ArcSwapOption<T>,
    is_partial: AtomicBool,
    /// How often it became partial or whole.
    n_turns: AtomicU64,
}

/// A moment at which it was known whether a store is whole.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    is_whole: bool,
    n_turns: u64,
}

impl<T: Send + Sync + 'static> Live<T> {
    /// Holds an open store.
    pub fn new(store: T) -> Self {
        let (is_partial, n_turns) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { current: ArcSwapOption::from_pointee(store), is_partial, n_turns }
    }

    /// The store, if there is one.
    pub fn get(&self) -> Option<Arc<T>> {
        self.current.load_full()
    }

    /// The store, waited for no longer than `deadline`.
    pub async fn get_within(&self, deadline: Duration) -> Option<Arc<T>> {
        if let Some(store) = self.get() {
            return Some(store);
        }
        let until = Instant::now() + deadline;
        loop {
            match self.get() {
                None if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                found => return found,
            }
        }
    }

    /// Whether it lacks what is still being put into it again: what it does not have may have been there.
    pub fn is_partial(&self) -> bool {
        self.is_partial.load(Ordering::Acquire)
    }

    /// See [`Live::is_partial`].
    pub fn set_partial(&self, is_partial: bool) {
        self.is_partial.store(is_partial, Ordering::Release);
        self.n_turns.fetch_add(1, Ordering::AcqRel);
    }

    /// Now: for [`Live::is_whole_since`].
    pub fn moment(&self) -> Moment {
        let n_turns = self.n_turns.load(Ordering::Acquire);
        Moment { is_whole: !self.is_partial(), n_turns }
    }

    /// Whether it was whole all the time since: what it did not have then was not there. Asking only afterwards would
    /// not do: it may have been empty in between.
    pub fn is_whole_since(&self, moment: Moment) -> bool {
        moment.is_whole && self.n_turns.load(Ordering::Acquire) == moment.n_turns
    }

    /// Takes the store away and closes it once nobody uses it. False: somebody does not let go, or closing does not
    /// end; it is left behind.
    pub async fn close(&self) -> bool {
        let Some(mut store) = self.current.swap(None) else { return true };
        let until = Instant::now() + LET_GO_MAX;
        let alone = loop {
            match Arc::try_unwrap(store) {
                Ok(alone) => break alone,
                Err(shared) if Instant::now() < until => {
                    store = shared;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(shared) => {
                    // The last one to let go may be one that never returns.
                    drop(shared);
                    return false;
                }
            }
        };
        // Closing a damaged store may panic or never return: in a thread of its own, which is left behind then.
        let (done, is_done) = tokio::sync::oneshot::channel();
        let close = move || {
            let closed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(alone)));
            let _ = done.send(closed.is_ok());
        };
        let spawned = std::thread::Builder::new().name("close".to_owned()).spawn(close).is_ok();
        spawned && matches!(tokio::time::timeout(LET_GO_MAX, is_done).await, Ok(Ok(true)))
    }

    /// Puts a store in place.
    pub fn put(&self, store: T) {
        self.current.store(Some(Arc::new(store)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_is_closed_when_nobody_uses_it() {
        let live = Live::new(7);
        assert!(live.close().await);
        assert_eq!(live.get_within(Duration::ZERO).await, None);
        live.put(8);
        let used = live.get_within(Duration::ZERO).await.expect("a store");
        let closing = async {
            tokio::task::yield_now().await;
            drop(used);
        };
        assert!(tokio::join!(live.close(), closing).0);
    }

    #[test]
    fn whether_it_was_whole_all_the_time() {
        let live = Live::new(7);
        let before = live.moment();
        assert!(live.is_whole_since(before));
        live.set_partial(true);
        let meanwhile = live.moment();
        assert!(!live.is_whole_since(before) && !live.is_whole_since(meanwhile));
        live.set_partial(false);
        assert!(!live.is_whole_since(before) && !live.is_whole_since(meanwhile) && live.is_whole_since(live.moment()));
    }

    #[tokio::test]
    async fn one_that_is_held_is_left_behind() {
        let live = Live::new(7);
        let held = live.get();
        assert!(!live.close().await);
        live.put(8);
        assert_eq!((held.as_deref(), live.get().as_deref()), (Some(&7), Some(&8)));
    }
}
