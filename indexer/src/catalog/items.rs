//! Walks over keys in order, from either end: what is in memory over what is in the store.

use std::ops::Bound;
use std::sync::Arc;

use super::sled::{Bounds, Item, Items as Stored, StoreError, Table};
use super::tables::Layer;

type Pair = (Vec<u8>, Vec<u8>);

/// Keys and values in order; ends with the first error. What is written while it runs may be seen or not.
pub(super) struct Items {
    table: Table,
    /// The layers that hold anything, the latest first.
    over: Vec<Arc<Layer>>,
    under: Stored,
    /// What the store has next at either end.
    ahead: Option<Pair>,
    behind: Option<Pair>,
    /// What is still to come.
    bounds: Bounds,
    is_over: bool,
}

/// From which end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl Items {
    /// Walks through the layers, the latest first, over what the store has within the bounds.
    pub(super) fn new(table: Table, over: Vec<Arc<Layer>>, under: Stored, bounds: Bounds) -> Self {
        Self { table, over, under, ahead: None, behind: None, bounds, is_over: false }
    }

    fn step(&mut self, end: End) -> Option<Item> {
        while !self.is_over {
            let stored = match self.stored(end) {
                Ok(stored) => stored,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            };
            let changed = self.changed(end);
            let is_changed = match (&stored, &changed) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some((stored, _)), Some((changed, _))) => match end {
                    End::Front => changed <= stored,
                    End::Back => changed >= stored,
                },
            };
            let (key, value) = match (changed, stored) {
                (Some(changed), stored) if is_changed => {
                    // The store's value of the same key is an old one.
                    if let Some(later) = stored.filter(|(key, _)| *key != changed.0) {
                        self.put_back(end, later);
                    }
                    changed
                }
                (_, Some((key, value))) => (key, Some(value)),
                (_, None) => break,
            };
            match end {
                End::Front => self.bounds.0 = Bound::Excluded(key.clone()),
                End::Back => self.bounds.1 = Bound::Excluded(key.clone()),
            }
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
        self.is_over = true;
        None
    }

    /// The first changed key of what is still to come, from this end; the latest layer has the word.
    fn changed(&self, end: End) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let mut best: Option<(Vec<u8>, Option<Vec<u8>>)> = None;
        if !is_range(&self.bounds) {
            return None;
        }
        for layer in &self.over {
            layer.with(self.table, |changed| {
                let mut range = changed.range::<Vec<u8>, _>((self.bounds.0.as_ref(), self.bounds.1.as_ref()));
                let found = if end == End::Front { range.next() } else { range.next_back() };
                let Some((key, value)) = found else { return };
                let is_better = best.as_ref().is_none_or(|(best, _)| match end {
                    End::Front => key < best,
                    End::Back => key > best,
                });
                if is_better {
                    best = Some((key.clone(), value.clone()));
                }
            });
        }
        best
    }

    /// Takes what the store has next at this end.
    fn stored(&mut self, end: End) -> Result<Option<Pair>, StoreError> {
        let (near, far) = match end {
            End::Front => (&mut self.ahead, &mut self.behind),
            End::Back => (&mut self.behind, &mut self.ahead),
        };
        if let Some(kept) = near.take() {
            return Ok(Some(kept));
        }
        loop {
            let next = if end == End::Front { self.under.next() } else { self.under.next_back() };
            match next.transpose()? {
                // What was handed down meanwhile, and was shown from memory already.
                Some((key, _)) if !is_within(&self.bounds, &key) => {}
                Some(found) => return Ok(Some(found)),
                // At its end, what was looked at from the other end is the only one left.
                None => return Ok(far.take()),
            }
        }
    }

    fn put_back(&mut self, end: End, item: Pair) {
        match end {
            End::Front => self.ahead = Some(item),
            End::Back => self.behind = Some(item),
        }
    }
}

/// Whether anything can lie within: `BTreeMap::range` panics where nothing can.
fn is_range((from, to): &Bounds) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(from), Bound::Included(to)) => from <= to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from < to,
    }
}

fn is_within((from, to): &Bounds, key: &[u8]) -> bool {
    let is_behind = match from {
        Bound::Included(from) => key >= &from[..],
        Bound::Excluded(from) => key > &from[..],
        Bound::Unbounded => true,
    };
    is_behind
        && match to {
            Bound::Included(to) => key <= &to[..],
            Bound::Excluded(to) => key < &to[..],
            Bound::Unbounded => true,
        }
}

impl Iterator for Items {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.step(End::Front)
    }
}

impl DoubleEndedIterator for Items {
    fn next_back(&mut self) -> Option<Item> {
        self.step(End::Back)
    }
}
