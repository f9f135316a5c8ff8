//! What is known of clips: their keyframes, each for one user, one set of credentials, one URL and one version of what
//! lies there. Bounded in bytes; lost at a restart; holds no byte of media.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use stills_model::id::UserId;
use stills_model::keyframe_index::KeyframeIndex;

use super::ClipWanted;
use crate::source::fetch::Pinned;

/// A clip that nobody asked for in this time is not likely to be asked for again.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// What an entry takes beside its keyframes.
const ENTRY_BYTES: usize = 512;

/// What a keyframe of one range takes, and each further range.
const KEYFRAME_BYTES: usize = 72;
const RANGE_BYTES: usize = 16;

/// The keyframes of a clip in the state that they were found in.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) pinned: Pinned,
    pub(super) index: Arc<KeyframeIndex>,
}

impl Known {
    fn bytes(&self) -> u32 {
        let keyframes =
            self.index.keyframes.iter().map(|keyframe| KEYFRAME_BYTES + RANGE_BYTES * keyframe.ranges.len());
        let configs = self.index.configs.iter().map(|config| 128 + config.extradata.len());
        let total = ENTRY_BYTES + keyframes.sum::<usize>() + configs.sum::<usize>();
        u32::try_from(total).unwrap_or(u32::MAX)
    }
}

/// Whose, with which credentials, where.
type Key = (UserId, Option<Box<str>>, Box<str>);

fn key(wanted: &ClipWanted<'_>) -> Key {
    (wanted.user, wanted.credentials_key.map(Into::into), wanted.url.into())
}

/// What is known of all clips.
#[derive(Debug)]
pub(super) struct Memory(Cache<Key, Known>);

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Self {
        let weigh = |key: &Key, known: &Known| known.bytes().saturating_add(u32::try_from(key.2.len()).unwrap_or(0));
        Self(Cache::builder().max_capacity(bytes_max).weigher(weigh).time_to_idle(IDLE_MAX).build())
    }

    pub(super) fn get(&self, wanted: &ClipWanted<'_>) -> Option<Known> {
        self.0.get(&key(wanted))
    }

    pub(super) fn keep(&self, wanted: &ClipWanted<'_>, known: Known) {
        self.0.insert(key(wanted), known);
    }

    pub(super) fn forget(&self, wanted: &ClipWanted<'_>) {
        self.0.invalidate(&key(wanted));
    }
}
