//! Recordings whose time is over: removed as by a delete, each soon after its `expires_at`.
//!
//! Nothing here raises an epoch: no answer is kept for longer than the recording that it shows lives.

use stills_model::time::Timestamp;

use super::row::Row;
use super::sled::Table;
use super::tables::Batch;
use super::{Catalog, CatalogError, Effects, key};

/// Recordings removed in one call: each works out its day anew, which takes a millisecond or two.
const EXPIRED_PER_CALL: usize = 200;

impl Catalog {
    /// Removes recordings that have expired, some at a time. Returns what is left to do, and whether more may be due.
    ///
    /// # Errors
    /// A failing or damaged store; the call can be made again.
    pub fn expire(&self, now: Timestamp) -> Result<(Effects, bool), CatalogError> {
        let (from, to) = key::expiries_until(now);
        let due: Result<Vec<_>, _> = self.tables.range(Table::Expiry, &from, &to).take(EXPIRED_PER_CALL).collect();
        let due = due?;
        let mut effects = Effects::default();
        let mut done = Batch::default();
        for (key, _) in &due {
            if let Some((timeline, recording)) = key::parse_expiry(key) {
                let _turn = self.lock(&timeline);
                // A later event may have given it more time: that has a key of its own.
                if let Some(old) = self.row(&timeline, &recording)?.filter(|row| !row.removed && row.is_expired(now)) {
                    let new = Row { removed: true, ..old.clone() };
                    effects.purge.extend(self.settle_one(&timeline, &recording, old, new, now)?.purge);
                }
            }
            done.delete(key);
        }
        self.tables.apply(Table::Expiry, done)?;
        Ok((effects, due.len() == EXPIRED_PER_CALL))
    }
}
