//! The keyframe index of a recording: made once by a scan, read in pages of at most [`PAGE_LEN_MAX`] keyframes.
//!
//! Stored form of a page, version 1: version, count of configurations and their ids, count of keyframes, then
//! per keyframe, delta-coded against the one before: instant, configuration, ranges (offset against the end of
//! the range before), bytes to the next keyframe. A keyframe of a usual camera takes 8 to 12 bytes.

use crate::codec::{Malformed, Reader, Writer};
use crate::keyframe::{ByteRange, ConfigId, DecoderConfig, Keyframe};

/// Keyframes in one page: with the usual 2 s between keyframes a page is four minutes and about one KiB.
pub const PAGE_LEN_MAX: usize = 128;

/// Ranges that one keyframe may have; gradual refresh of a whole second at 60 pictures is the most seen.
pub const RANGES_MAX: usize = 64;

/// Decoder configurations that one recording may have; a camera that changes its mind every minute of a day is within.
pub const CONFIGS_MAX: usize = 2048;

/// Keyframes that one recording may have: a day of 23 pictures a second that are all keyframes.
pub const KEYFRAMES_MAX: usize = 2_000_000;

/// All keyframes of a recording, in order of their instants, as a scan returns them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyframeIndex {
    /// The decoder configurations that [`Keyframe::config`] points at.
    pub configs: Vec<DecoderConfig>,
    /// Sorted by `at_ms`, no two alike.
    pub keyframes: Vec<Keyframe>,
    /// Milliseconds from the earliest presented picture to the end of the last one.
    pub duration_ms: i64,
    /// Where a scan of the grown file can go on; opaque to all but the scanner, empty when it has to start over.
    pub resume: Vec<u8>,
}

/// A run of keyframes as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyframePage {
    /// The configurations that [`Keyframe::config`] points at in this page.
    pub configs: Vec<ConfigId>,
    /// At most [`PAGE_LEN_MAX`], sorted by `at_ms`.
    pub keyframes: Vec<Keyframe>,
}

const VERSION: u8 = 1;

impl KeyframeIndex {
    /// Cuts the index into pages; the configurations are stored beside them under their ids.
    pub fn pages(&self) -> Vec<KeyframePage> {
        let ids: Vec<ConfigId> = self.configs.iter().map(DecoderConfig::id).collect();
        self.keyframes.chunks(PAGE_LEN_MAX).map(|run| KeyframePage::new(run, &ids)).collect()
    }

    /// The form on the decoder's socket.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.unsigned(self.configs.len() as u64);
        for config in &self.configs {
            w.bytes(&config.encode());
        }
        let pages = self.pages();
        w.unsigned(pages.len() as u64);
        for page in pages {
            w.bytes(&page.encode());
        }
        w.signed(self.duration_ms).bytes(&self.resume);
        w.finish()
    }

    /// Reads the form of [`Self::encode`]. The sender is not trusted: order and references are checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let mut index = Self::default();
        let n_configs = r.unsigned()?;
        if n_configs > CONFIGS_MAX as u64 {
            return Err(Malformed("count of configurations"));
        }
        for _ in 0..n_configs {
            index.configs.push(DecoderConfig::decode(r.bytes()?)?);
        }
        let ids: Vec<ConfigId> = index.configs.iter().map(DecoderConfig::id).collect();
        for _ in 0..r.unsigned()? {
            let page = KeyframePage::decode(r.bytes()?)?;
            if index.keyframes.len() + page.keyframes.len() > KEYFRAMES_MAX {
                return Err(Malformed("count of keyframes"));
            }
            // Looked up once per page: a hostile index must not cost keyframes times configurations.
            let place = |id| ids.iter().position(|known| known == id).and_then(|place| u16::try_from(place).ok());
            let places: Option<Vec<u16>> = page.configs.iter().map(place).collect();
            let places = places.ok_or(Malformed("configuration"))?;
            for mut keyframe in page.keyframes {
                keyframe.config = places[usize::from(keyframe.config)];
                if index.keyframes.last().is_some_and(|last| last.at_ms >= keyframe.at_ms) {
                    return Err(Malformed("order of keyframes"));
                }
                index.keyframes.push(keyframe);
            }
        }
        index.duration_ms = r.signed()?;
        index.resume = r.bytes()?.to_vec();
        r.end()?;
        Ok(index)
    }
}

impl KeyframePage {
    fn new(run: &[Keyframe], ids: &[ConfigId]) -> Self {
        let mut page = Self::default();
        for keyframe in run {
            let id = ids[usize::from(keyframe.config)];
            let place = page.configs.iter().position(|known| *known == id).unwrap_or_else(|| {
                page.configs.push(id);
                page.configs.len() - 1
            });
            // A page has at most 128 configurations, one per keyframe.
            page.keyframes.push(Keyframe { config: u16::try_from(place).unwrap_or(0), ..keyframe.clone() });
        }
        page
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION).unsigned(self.configs.len() as u64);
        for id in &self.configs {
            w.raw(&id.0);
        }
        w.unsigned(self.keyframes.len() as u64);
        let (mut at_ms, mut offset) = (0i64, 0u64);
        for keyframe in &self.keyframes {
            w.signed(keyframe.at_ms.wrapping_sub(at_ms)).unsigned(keyframe.config.into());
            w.unsigned(keyframe.ranges.len() as u64);
            for range in &keyframe.ranges {
                w.signed(range.offset.wrapping_sub(offset).cast_signed()).unsigned(range.len.into());
                offset = range.end();
            }
            w.unsigned(keyframe.gop_bytes);
            at_ms = keyframe.at_ms;
        }
        w.finish()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.byte()? != VERSION {
            return Err(Malformed("keyframe page version"));
        }
        let mut page = Self::default();
        for _ in 0..r.unsigned()? {
            page.configs.push(ConfigId(r.array()?));
        }
        let count = r.unsigned()?;
        if count > PAGE_LEN_MAX as u64 {
            return Err(Malformed("keyframe page length"));
        }
        let (mut at_ms, mut offset) = (0i64, 0u64);
        for _ in 0..count {
            at_ms = at_ms.wrapping_add(r.signed()?);
            let config = r.unsigned_16()?;
            if usize::from(config) >= page.configs.len() {
                return Err(Malformed("configuration"));
            }
            let n_ranges = r.unsigned()?;
            if n_ranges > RANGES_MAX as u64 {
                return Err(Malformed("count of ranges"));
            }
            let mut ranges = Vec::new();
            for _ in 0..n_ranges {
                let range =
                    ByteRange { offset: offset.wrapping_add(r.signed()?.cast_unsigned()), len: r.unsigned_32()? };
                offset = range.end();
                ranges.push(range);
            }
            page.keyframes.push(Keyframe { at_ms, config, ranges, gop_bytes: r.unsigned()? });
        }
        r.end()?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyframe::{Codec, Orientation, Packaging};
    use proptest::prelude::*;

    fn config(n: u8) -> DecoderConfig {
        DecoderConfig {
            codec: Codec::H264,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata: vec![n],
            size: (1920, 1080),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        }
    }

    fn keyframes() -> impl Strategy<Value = Vec<Keyframe>> {
        let ranges = prop::collection::vec((0u64..1 << 50, any::<u32>()), 1..4);
        let one = (1i64..100_000, 0u16..3, ranges, any::<u64>());
        prop::collection::vec(one, 0..400).prop_map(|raw| {
            let mut at_ms = -50;
            raw.into_iter()
                .map(|(step, config, ranges, gop_bytes)| {
                    at_ms += step;
                    let ranges = ranges.into_iter().map(|(offset, len)| ByteRange { offset, len }).collect();
                    Keyframe { at_ms, config, ranges, gop_bytes }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn indexes_survive_the_socket(keyframes in keyframes(), duration_ms: i64, resume: Vec<u8>) {
            let configs = (0..3).map(config).collect();
            let index = KeyframeIndex { configs, keyframes, duration_ms, resume };
            prop_assert_eq!(KeyframeIndex::decode(&index.encode()), Ok(index));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = KeyframePage::decode(&bytes);
            let _ = KeyframeIndex::decode(&bytes);
        }
    }

    #[test]
    fn a_usual_keyframe_takes_few_bytes() {
        let keyframes = (0..30).map(|n| Keyframe {
            at_ms: n * 2000,
            config: 0,
            ranges: vec![ByteRange { offset: n.cast_unsigned() * 1_000_000, len: 188_000 }],
            gop_bytes: 1_000_000,
        });
        let index = KeyframeIndex { configs: vec![config(0)], keyframes: keyframes.collect(), ..Default::default() };
        let len: usize = index.pages().iter().map(|page| page.encode().len()).sum();
        assert!(len <= 30 * 14 + 20, "{len} bytes");
    }
}
