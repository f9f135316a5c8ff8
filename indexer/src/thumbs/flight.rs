//! One render for all who ask for the same picture at the same time.
//!
//! The render is a task of its own: a caller that goes away takes nothing with it, and one that comes late
//! subscribes. (A future shared by its callers would be dropped with the first of them.)

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use stills_model::fault::{Fault, FaultKind};
use tokio::sync::watch;

type Outcome = Result<Bytes, Fault>;
type InFlight<K> = HashMap<K, watch::Receiver<Option<Outcome>>>;

/// Renders in flight, by the key of what they make.
#[derive(Debug)]
pub(crate) struct Flights<K>(Arc<Mutex<InFlight<K>>>);

impl<K> Clone for Flights<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Keeps a flight on the list. It goes off with the last of these: when its task ends, however it ends, or later, when
/// what it made is stored. Until then whoever comes is told at once what came of it.
#[derive(Debug)]
pub(crate) struct Landing<K: Eq + Hash> {
    flights: Flights<K>,
    key: K,
    /// Closed with the last of these, after the flight is off the list.
    tell: watch::Sender<Option<Outcome>>,
}

impl<K: Eq + Hash> Drop for Landing<K> {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<K: Clone + Debug + Eq + Hash + Send + Sync + 'static> Flights<K> {
    fn lock(&self) -> MutexGuard<'_, InFlight<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome of the render of `key`: the one in flight, or the one that `render` begins. It may give its landing
    /// to what stores the picture, so that nobody waits for that and nobody misses it.
    pub(crate) async fn join<F, R>(&self, key: K, render: F) -> Outcome
    where
        F: FnOnce(Arc<Landing<K>>) -> R,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let mut outcome = {
            let mut flights = self.lock();
            match flights.get(&key) {
                Some(outcome) => outcome.clone(),
                None => {
                    let (tell, outcome) = watch::channel(None);
                    flights.insert(key.clone(), outcome.clone());
                    let landing = Arc::new(Landing { flights: self.clone(), key, tell });
                    let render = render(Arc::clone(&landing));
                    tokio::spawn(async move {
                        let done = render.await;
                        let tell = landing.tell.clone();
                        // Off the list before it is told, unless it is still being stored.
                        drop(landing);
                        tell.send_replace(Some(done));
                    });
                    outcome
                }
            }
        };
        let told = outcome.wait_for(Option::is_some).await;
        told.ok()
            .and_then(|told| told.clone())
            .unwrap_or_else(|| Err(Fault::new(FaultKind::Internal, "the render ended without a result")))
    }

    /// Waits until what was made of such keys and told is stored too. What is still being made is not waited for.
    pub(crate) async fn stored(&self, is_meant: impl Fn(&K) -> bool) {
        let is_told = |(key, outcome): &(&K, &watch::Receiver<Option<_>>)| is_meant(key) && outcome.borrow().is_some();
        let told: Vec<_> = self.lock().iter().filter(is_told).map(|(_, outcome)| outcome.clone()).collect();
        for mut outcome in told {
            while outcome.changed().await.is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use stills_model::id::{DeviceId, Timeline, UserId};
    use stills_model::rendition::Rendition;
    use stills_model::thumb::{MediaId, ThumbKey};
    use tokio::sync::Semaphore;

    fn key() -> ThumbKey {
        let timeline = Timeline { user: UserId::from_bytes([1; 12]), device: DeviceId::from_bytes([2; 12]) };
        let rendition = Rendition::thumb(16, 16).expect("size");
        ThumbKey { timeline, media: MediaId([3; 12]), at_ms: 0, rendition, version: 1 }
    }

    #[tokio::test]
    async fn a_hundred_callers_share_one_render_even_when_the_first_leaves() {
        let (flights, n_renders, gate) =
            (Flights::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let join = || {
            let (flights, n_renders, gate) = (flights.clone(), Arc::clone(&n_renders), Arc::clone(&gate));
            tokio::spawn(async move {
                let render = |_| async move {
                    n_renders.fetch_add(1, Ordering::Relaxed);
                    drop(gate.acquire().await);
                    Ok(Bytes::from_static(b"picture"))
                };
                flights.join(key(), render).await
            })
        };
        let first = join();
        while n_renders.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        let others: Vec<_> = (0..99).map(|_| join()).collect();
        gate.add_permits(1);
        for other in others {
            assert_eq!(other.await.expect("join").expect("picture"), "picture");
        }
        assert_eq!(n_renders.load(Ordering::Relaxed), 1);
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn while_it_is_stored_it_is_told_and_not_made_again() {
        let flights = Flights::default();
        let mut stored = None;
        let first = flights.join(key(), |landing| {
            stored = Some(landing);
            async { Ok(Bytes::from_static(b"picture")) }
        });
        assert_eq!(first.await.expect("told before it is stored"), "picture");
        let again = flights.join(key(), |_| async { Ok(Bytes::from_static(b"another")) });
        assert_eq!(again.await.expect("picture"), "picture");
        let mut waiting = std::pin::pin!(flights.stored(|_| true));
        let waker = std::task::Waker::noop();
        let polled = waiting.as_mut().poll(&mut std::task::Context::from_waker(waker));
        assert!(polled.is_pending(), "it is not stored yet");
        drop(stored);
        waiting.await;
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn what_is_not_made_yet_is_not_waited_for() {
        let flights = Flights::default();
        let inside = flights.clone();
        let render = |_| async move {
            // As a render does that finds its media gone.
            inside.stored(|_| true).await;
            Ok(Bytes::from_static(b"picture"))
        };
        assert_eq!(flights.join(key(), render).await.expect("picture"), "picture");
    }

    #[tokio::test]
    async fn a_render_that_panics_is_an_error_and_leaves_no_trace() {
        let flights = Flights::default();
        let died = flights.join(key(), |_| async { panic!("on purpose") }).await;
        assert_eq!(died.expect_err("no picture").kind, FaultKind::Internal);
        assert!(flights.lock().is_empty());
    }
}
