//! A few threads of one's own for calls that block: the catalog, the disk cache, file reads.
//!
//! The number of threads and the length of the queue are fixed: over the limit the caller is told at once, and
//! a caller that waits too long goes away while its call, once begun, runs to its end. Never tokio's blocking
//! pool, which grows to hundreds of threads before it says no.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

type Call = Box<dyn FnOnce() + Send>;

/// The call was not made, or did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CallError {
    /// The queue is full.
    #[error("too many calls are waiting")]
    Full,
    /// The deadline has passed.
    #[error("the call took too long")]
    Late,
    /// The call panicked.
    #[error("the call failed")]
    Died,
}

#[derive(Default)]
struct Queue {
    calls: VecDeque<Call>,
    is_closed: bool,
}

struct Inner {
    queue: Mutex<Queue>,
    wake: Condvar,
    queued_max: usize,
}

/// A fixed set of threads with a bounded queue. Dropping it lets queued calls finish and then ends the threads.
pub struct Threads {
    inner: Arc<Inner>,
    name: String,
    n_started: AtomicUsize,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("queued_max", &self.inner.queued_max).finish_non_exhaustive()
    }
}

impl Threads {
    /// Starts `n_threads` threads (at least one) named `name`, with room for `queued_max` waiting calls.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(name: &str, n_threads: usize, queued_max: usize) -> std::io::Result<Self> {
        let inner = Arc::new(Inner { queue: Mutex::default(), wake: Condvar::new(), queued_max });
        let threads = Self { inner, name: name.to_owned(), n_started: AtomicUsize::new(0) };
        for _ in 0..n_threads.max(1) {
            threads.spawn()?;
        }
        Ok(threads)
    }

    fn spawn(&self) -> std::io::Result<()> {
        let (inner, n) = (Arc::clone(&self.inner), self.n_started.fetch_add(1, Ordering::Relaxed));
        std::thread::Builder::new().name(format!("{}-{n}", self.name)).spawn(move || inner.serve()).map(drop)
    }

    /// Starts one more thread, in place of one whose call does not end.
    pub fn add(&self) {
        if let Err(error) = self.spawn() {
            tracing::error!(%error, threads = self.name, "no thread in place of one that is lost");
        }
    }

    /// Makes the call on one of the threads and waits for its result, no longer than `deadline`.
    ///
    /// # Errors
    /// [`CallError::Full`] at once, [`CallError::Late`] at the deadline, [`CallError::Died`] after a panic.
    pub async fn call<T, F>(&self, deadline: Duration, call: F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (send, receive) = oneshot::channel();
        self.push(Box::new(move || {
            // Nobody waits any more: spare the work.
            if !send.is_closed() {
                let _ = send.send(call());
            }
        }))?;
        match tokio::time::timeout(deadline, receive).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(CallError::Died),
            Err(_) => Err(CallError::Late),
        }
    }

    /// Makes the call when its turn comes; nobody waits for it.
    ///
    /// # Errors
    /// [`CallError::Full`].
    pub fn leave(&self, call: impl FnOnce() + Send + 'static) -> Result<(), CallError> {
        self.push(Box::new(call))
    }

    fn push(&self, call: Call) -> Result<(), CallError> {
        let mut queue = self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.calls.len() >= self.inner.queued_max {
            return Err(CallError::Full);
        }
        queue.calls.push_back(call);
        drop(queue);
        self.inner.wake.notify_one();
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.inner.wake.notify_all();
    }
}

impl Inner {
    fn serve(&self) {
        while let Some(call) = self.next() {
            // A panic is the caller's to hear of (its answer is dropped); the thread serves on.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
        }
    }

    fn next(&self) -> Option<Call> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(call) = queue.calls.pop_front() {
                return Some(call);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn calls_answer_and_survive_panics() {
        let threads = Threads::start("test", 1, 8).expect("threads");
        assert_eq!(threads.call(LONG, || 7).await, Ok(7));
        assert_eq!(threads.call(LONG, || panic!("on purpose")).await, Err::<(), _>(CallError::Died));
        assert_eq!(threads.call(LONG, || 8).await, Ok(8));
    }

    #[tokio::test]
    async fn over_the_limit_is_said_at_once_and_late_calls_are_left() {
        let threads = Arc::new(Threads::start("test", 1, 1).expect("threads"));
        let (release, hold) = mpsc::channel::<()>();
        let (began, has_begun) = oneshot::channel();
        let busy = tokio::spawn({
            let threads = Arc::clone(&threads);
            async move {
                let hold = move || {
                    let _ = began.send(());
                    hold.recv()
                };
                threads.call(LONG, hold).await
            }
        });
        has_begun.await.expect("begun");
        // One waits (and gives up), the next finds no room.
        assert_eq!(threads.call(Duration::ZERO, || ()).await, Err(CallError::Late));
        assert_eq!(threads.call(LONG, || ()).await, Err(CallError::Full));
        release.send(()).expect("release");
        assert!(matches!(busy.await.expect("join"), Ok(Ok(()))));
    }
}
