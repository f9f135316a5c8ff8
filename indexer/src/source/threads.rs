//! A few threads for reads that block, with a bounded queue: when it is full, the answer is `Busy` at once.
//!
//! Never grows, and never holds up an async thread. A job whose caller has gone is dropped unread.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use stills_model::fault::{Fault, FaultKind};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The threads. Dropping it lets them finish what is queued and end; it does not wait for them.
pub struct Threads {
    queue: Arc<Queue>,
}

struct Queue {
    jobs: Mutex<Jobs>,
    ready: Condvar,
    queued_max: usize,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// No job runs under the lock, so a poisoned one still holds a sound queue.
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; waits for one, and gives none once all is done and closed.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if jobs.closed {
                return None;
            }
            jobs = self.ready.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Threads {
    /// Starts `running_max` threads with this name (at most 15 bytes show), and room for `queued_max` waiting jobs.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(name: &str, running_max: usize, queued_max: usize) -> io::Result<Self> {
        let queue = Arc::new(Queue { jobs: Mutex::default(), ready: Condvar::new(), queued_max });
        let threads = Self { queue };
        for _ in 0..running_max.max(1) {
            let queue = Arc::clone(&threads.queue);
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                while let Some(job) = queue.next() {
                    // The panic is on stderr already; the caller learns of it by the reply that never comes.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })?;
        }
        Ok(threads)
    }

    /// Does the job on one of the threads.
    ///
    /// # Errors
    /// The job's own; `Busy` when the queue is full; `Internal` when the job panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (reply, outcome) = oneshot::channel();
        self.enqueue(Box::new(move || {
            if !reply.is_closed() {
                // The caller may go away while the job runs; then nobody wants the outcome.
                let _ = reply.send(job());
            }
        }))?;
        outcome.await.unwrap_or_else(|_| Err(Fault::new(FaultKind::Internal, "reading the media failed inside")))
    }

    fn enqueue(&self, job: Job) -> Result<(), Fault> {
        let mut jobs = self.queue.lock();
        if jobs.waiting.len() >= self.queue.queued_max {
            return Err(Fault::new(FaultKind::Busy, "too many reads of media are waiting; try again soon"));
        }
        jobs.waiting.push_back(job);
        drop(jobs);
        self.queue.ready.notify_one();
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("queued_max", &self.queue.queued_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn outcomes_come_back() {
        let threads = Threads::start("test", 2, 4).expect("threads");
        assert_eq!(threads.run(|| Ok(7)).await, Ok(7));
        let fault = Fault::new(FaultKind::Gone, "gone");
        assert_eq!(threads.run(|| Err::<(), _>(Fault::new(FaultKind::Gone, "gone"))).await, Err(fault));
    }

    #[tokio::test]
    async fn a_panic_is_one_fault_and_the_thread_goes_on() {
        let threads = Threads::start("test", 1, 4).expect("threads");
        let outcome = threads.run(|| Ok(Vec::<u8>::new()[1])).await;
        assert_eq!(outcome.map_err(|fault| fault.kind), Err(FaultKind::Internal));
        assert_eq!(threads.run(|| Ok(1)).await, Ok(1));
    }

    #[tokio::test]
    async fn a_full_queue_answers_at_once_and_jobs_without_a_caller_are_dropped() {
        let threads = Arc::new(Threads::start("test", 1, 1).expect("threads"));
        let (release, held) = mpsc::channel::<()>();
        let (began, beginning) = oneshot::channel();
        let occupant = tokio::spawn({
            let threads = Arc::clone(&threads);
            async move {
                let job = move || {
                    let _ = began.send(());
                    held.recv().map_err(|_| Fault::new(FaultKind::Internal, "released by drop"))
                };
                threads.run(job).await
            }
        });
        beginning.await.expect("the only thread is taken");
        let (ran, runs) = mpsc::channel::<()>();
        let mut waiting = Box::pin(threads.run(move || ran.send(()).map_err(|_| Fault::new(FaultKind::Internal, "x"))));
        assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        assert_eq!(threads.run(|| Ok(())).await.map_err(|fault| fault.kind), Err(FaultKind::Busy));
        drop(waiting);
        release.send(()).expect("held");
        assert_eq!(occupant.await.expect("join"), Ok(()));
        // The only thread takes jobs in order: after the next one the abandoned one has had its turn.
        let again = async {
            while threads.run(|| Ok(())).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        again.await;
        assert!(runs.try_recv().is_err());
    }
}
