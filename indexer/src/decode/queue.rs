//! Slots for running requests and the queues in front of them: two numbers, two classes, no worker in sight.
//!
//! Interactive requests go first, then batch scans, then batch renders. A batch scan may spend its time waiting
//! for remote reads, so batch scans never hold the last slot (when there is more than one); a batch render holds a
//! slot for tens of milliseconds, so batch renders may hold all of them and an idle machine is used in full.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Class, Counters};

/// What a request needs a slot for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Interactive,
    BatchScan,
    BatchRender,
}

impl Lane {
    pub(super) fn of(class: Class, scan: bool) -> Self {
        match (class, scan) {
            (Class::Interactive, _) => Self::Interactive,
            (Class::Batch, true) => Self::BatchScan,
            (Class::Batch, false) => Self::BatchRender,
        }
    }
}

/// All slots are taken and the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The slots of a pool.
#[derive(Debug)]
pub(super) struct Slots {
    state: Mutex<State>,
    running_max: usize,
    queued_max: usize,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    batch_scans: usize,
    next_ticket: u64,
    interactive: VecDeque<Waiter>,
    scans: VecDeque<Waiter>,
    renders: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    call: oneshot::Sender<Slot>,
}

impl State {
    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Waiter> {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::BatchScan => &mut self.scans,
            Lane::BatchRender => &mut self.renders,
        }
    }

    fn may_run(&self, lane: Lane, running_max: usize) -> bool {
        let scans_max = running_max.saturating_sub(1).max(1);
        self.running < running_max && (lane != Lane::BatchScan || self.batch_scans < scans_max)
    }

    fn queued_beside(&self, lane: Lane) -> usize {
        if lane == Lane::Interactive { self.interactive.len() } else { self.scans.len() + self.renders.len() }
    }
}

/// The right to run one request; given on when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    lane: Lane,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.end(self.lane);
    }
}

/// A place in the queue; given up when dropped before its slot came.
struct Place<'a> {
    slots: &'a Slots,
    lane: Lane,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.lane(self.lane).retain(|waiter| waiter.ticket != self.ticket);
        self.slots.show(&state);
    }
}

impl Slots {
    pub(super) fn new(running_max: usize, queued_max: usize, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), running_max, queued_max, counters })
    }

    /// A slot, at once or when it is this request's turn.
    ///
    /// # Errors
    /// At once, when no slot is free and the queue of the request's class is full.
    pub(super) async fn take(self: &Arc<Self>, lane: Lane) -> Result<Slot, Full> {
        let (call, called) = oneshot::channel();
        let place = {
            let mut state = self.lock();
            if state.may_run(lane, self.running_max) {
                self.begin(&mut state, lane);
                return Ok(Slot { slots: Arc::clone(self), lane });
            }
            if state.queued_beside(lane) >= self.queued_max {
                return Err(Full);
            }
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.lane(lane).push_back(Waiter { ticket, call });
            self.show(&state);
            Place { slots: self, lane, ticket }
        };
        let slot = called.await;
        drop(place);
        // A waiter is only ever dropped by its own place.
        slot.map_err(|_| Full)
    }

    /// How many requests run now.
    pub(super) fn running(&self) -> usize {
        self.lock().running
    }

    fn begin(&self, state: &mut State, lane: Lane) {
        state.running += 1;
        state.batch_scans += usize::from(lane == Lane::BatchScan);
        self.show(state);
    }

    /// Takes back a slot and calls whoever may run now.
    fn end(self: &Arc<Self>, lane: Lane) {
        let mut calls = Vec::new();
        {
            let mut state = self.lock();
            state.running -= 1;
            state.batch_scans -= usize::from(lane == Lane::BatchScan);
            for lane in [Lane::Interactive, Lane::BatchScan, Lane::BatchRender] {
                while state.may_run(lane, self.running_max) {
                    let Some(waiter) = state.lane(lane).pop_front() else { break };
                    self.begin(&mut state, lane);
                    calls.push((waiter.call, lane));
                }
            }
            self.show(&state);
        }
        // Without the lock: a slot whose waiter has gone comes back here when it is dropped.
        for (call, lane) in calls {
            let _ = call.send(Slot { slots: Arc::clone(self), lane });
        }
    }

    fn show(&self, state: &State) {
        let queued = state.interactive.len() + state.scans.len() + state.renders.len();
        self.counters.running.store(state.running as u64, Ordering::Relaxed);
        self.counters.queued.store(queued as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use tokio::sync::oneshot::error::TryRecvError;

    fn poll_now<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn slots(running_max: usize, queued_max: usize) -> Arc<Slots> {
        Slots::new(running_max, queued_max, Arc::default())
    }

    fn take_now(slots: &Arc<Slots>, lane: Lane) -> Option<Result<Slot, Full>> {
        poll_now(pin!(slots.take(lane)))
    }

    fn queued(slots: &Slots) -> u64 {
        slots.counters.queued.load(Ordering::Relaxed)
    }

    #[test]
    fn interactive_first_then_scans_then_renders() {
        let slots = slots(1, 8);
        let mut running = take_now(&slots, Lane::BatchRender).and_then(Result::ok);
        let mut waiting: Vec<_> =
            [Lane::BatchRender, Lane::BatchScan, Lane::Interactive, Lane::BatchRender, Lane::Interactive]
                .into_iter()
                .map(|lane| (lane, Box::pin(slots.take(lane))))
                .collect();
        for (_, take) in &mut waiting {
            assert!(poll_now(take.as_mut()).is_none());
        }
        assert_eq!(queued(&slots), 5);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            assert!(running.take().is_some(), "one runs at a time");
            let next = waiting.iter_mut().enumerate().find_map(|(n, (lane, take))| {
                let slot = poll_now(take.as_mut())?.ok()?;
                order.push(*lane);
                running = Some(slot);
                Some(n)
            });
            drop(waiting.remove(next.expect("one is called")));
        }
        assert_eq!(
            order,
            [Lane::Interactive, Lane::Interactive, Lane::BatchScan, Lane::BatchRender, Lane::BatchRender]
        );
        drop(running);
        assert_eq!((slots.running(), queued(&slots)), (0, 0));
    }

    #[test]
    fn batch_scans_leave_a_slot() {
        let slots = slots(2, 8);
        let first = take_now(&slots, Lane::BatchScan);
        let mut second = Box::pin(slots.take(Lane::BatchScan));
        assert!(poll_now(second.as_mut()).is_none());
        let render = take_now(&slots, Lane::BatchRender);
        assert!(matches!(render, Some(Ok(_))));
        // The render's slot is not for the second scan; the first scan's is.
        drop(render);
        assert!(poll_now(second.as_mut()).is_none());
        drop(first);
        assert!(matches!(poll_now(second.as_mut()), Some(Ok(_))));
        // A pool of one has to give it its only slot.
        assert!(matches!(take_now(&self::slots(1, 0), Lane::BatchScan), Some(Ok(_))));
    }

    #[test]
    fn full_queues_refuse_at_once_and_apart() {
        let slots = slots(1, 1);
        let _running = take_now(&slots, Lane::Interactive);
        let mut batch = Box::pin(slots.take(Lane::BatchRender));
        assert!(poll_now(batch.as_mut()).is_none());
        assert!(matches!(take_now(&slots, Lane::BatchScan), Some(Err(Full))));
        let mut person = Box::pin(slots.take(Lane::Interactive));
        assert!(poll_now(person.as_mut()).is_none());
        assert!(matches!(take_now(&slots, Lane::Interactive), Some(Err(Full))));
        // Whoever gives up leaves room.
        drop(batch);
        assert_eq!(queued(&slots), 1);
        assert!(take_now(&slots, Lane::BatchScan).is_none());
    }

    #[test]
    fn a_slot_whose_waiter_has_gone_is_not_lost() {
        let slots = slots(1, 4);
        let running = take_now(&slots, Lane::Interactive);
        let (call, mut called) = oneshot::channel();
        slots.lock().interactive.push_back(Waiter { ticket: u64::MAX, call });
        called.close();
        let mut next = Box::pin(slots.take(Lane::Interactive));
        assert!(poll_now(next.as_mut()).is_none());
        drop(running);
        assert!(matches!(called.try_recv(), Err(TryRecvError::Closed | TryRecvError::Empty)));
        assert!(matches!(poll_now(next.as_mut()), Some(Ok(_))));
        assert_eq!(slots.running(), 0);
    }
}
