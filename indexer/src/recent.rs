//! What was found lately: a table of fixed size in memory, one place for each of its keys' hashes, the newer in place of the
//! older. Whether an entry is still true is its owner's to know. No IO, and never a wait beyond copying one entry.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

type Place<K, V> = Mutex<Option<(K, V)>>;

/// The table. Two keys that share a place drive each other out, which costs a look-up and nothing else.
pub(crate) struct Recent<K, V> {
    places: Box<[Place<K, V>]>,
    /// Seeded anew for each table, so that nobody outside can choose keys that share a place.
    hasher: RandomState,
}

impl<K, V> std::fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recent").field("places", &self.places.len()).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// An empty table of `n_places` places, at least one.
    pub(crate) fn new(n_places: usize) -> Self {
        Self { places: (0..n_places.max(1)).map(|_| Mutex::new(None)).collect(), hasher: RandomState::new() }
    }

    /// What `look` makes of what was noted last of this key, unless another one has its place.
    pub(crate) fn find<T>(&self, key: &K, look: impl FnOnce(&V) -> Option<T>) -> Option<T> {
        let place = self.place(key).lock().unwrap_or_else(PoisonError::into_inner);
        place.as_ref().filter(|(known, _)| known == key).and_then(|(_, value)| look(value))
    }

    /// Notes what was found.
    pub(crate) fn put(&self, key: K, value: V) {
        let place = self.place(&key);
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, value));
    }

    fn place(&self, key: &K) -> &Place<K, V> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 16).unwrap_or(0);
        &self.places[hash % self.places.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_last_is_found_and_nothing_of_another_key() {
        let recent = Recent::new(8);
        for n in 0..100 {
            recent.put(n, n * 2);
            assert_eq!(recent.find(&n, |found| Some(*found)), Some(n * 2));
        }
        recent.put(7, 0);
        assert_eq!(recent.find(&7, |found| Some(*found)), Some(0));
        let found: Vec<i32> =
            (0..100).filter(|n| recent.find(n, |found| Some(*found == n * 2)) == Some(true)).collect();
        assert!(!found.is_empty() && found.len() <= 8, "{found:?}");
    }
}
