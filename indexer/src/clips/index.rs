//! What is known of clips: their keyframes, each for one user, one set of credentials, one URL and one version of what
//! lies there. Of containers that list no keyframes it is those shown last; their bytes are held where the container
//! scatters them. Bounded in bytes; lost at a restart.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use stills_model::clip::{ClipPoint, KeyframeBytes};
use stills_model::id::UserId;
use stills_model::keyframe::DecoderConfig;
use stills_model::keyframe_index::KeyframeIndex;

use super::ClipWanted;
use crate::source::fetch::Pinned;

/// A clip that nobody asked for in this time is not likely to be asked for again.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// Keyframes of one clip that are held one by one: the points that one page shows of it.
const SINGLES_MAX: usize = 16;

/// What an entry takes beside its keyframes.
const ENTRY_BYTES: usize = 512;

/// What a keyframe of one range takes, and each further range.
const KEYFRAME_BYTES: usize = 72;
const RANGE_BYTES: usize = 16;

/// What is known of a clip in the state that it was found in.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) pinned: Pinned,
    /// All its keyframes, where its container lists them.
    pub(super) index: Option<Arc<KeyframeIndex>>,
    /// Those that were shown last, where it does not; the latest at the end.
    pub(super) singles: Vec<Arc<Single>>,
}

/// A keyframe that answers for a point.
#[derive(Debug)]
pub(super) struct Single {
    pub(super) point: ClipPoint,
    pub(super) at_ms: i64,
    pub(super) config: DecoderConfig,
    pub(super) keyframe: KeyframeBytes,
}

impl Single {
    fn bytes(&self) -> usize {
        match &self.keyframe {
            KeyframeBytes::Ranges(ranges) => RANGE_BYTES * ranges.len(),
            KeyframeBytes::Packets(packets) => packets.iter().map(Vec::len).sum(),
        }
    }
}

impl Known {
    fn bytes(&self) -> u32 {
        let of_index = |index: &Arc<KeyframeIndex>| {
            let keyframes = index.keyframes.iter().map(|keyframe| KEYFRAME_BYTES + RANGE_BYTES * keyframe.ranges.len());
            let configs = index.configs.iter().map(|config| 128 + config.extradata.len());
            keyframes.sum::<usize>() + configs.sum::<usize>()
        };
        let index = self.index.as_ref().map_or(0, of_index);
        let singles = self.singles.iter().map(|single| KEYFRAME_BYTES + single.bytes()).sum::<usize>();
        u32::try_from(ENTRY_BYTES + index + singles).unwrap_or(u32::MAX)
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

    /// Keeps one more keyframe of a clip, and what is known of others in the same state.
    pub(super) fn add(&self, wanted: &ClipWanted<'_>, pinned: Pinned, single: Single) {
        let known = self.get(wanted).filter(|known| known.pinned == pinned);
        let mut singles = known.map(|known| known.singles).unwrap_or_default();
        singles.retain(|held| held.point != single.point);
        singles.drain(..singles.len().saturating_sub(SINGLES_MAX - 1));
        singles.push(Arc::new(single));
        self.keep(wanted, Known { pinned, index: None, singles });
    }

    pub(super) fn forget(&self, wanted: &ClipWanted<'_>) {
        self.0.invalidate(&key(wanted));
    }
}
