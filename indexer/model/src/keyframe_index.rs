//! The keyframe index of a recording: made once by a scan, read in pages of at most [`PAGE_LEN_MAX`] keyframes.
//!
//! Form on the decoder's socket and, since version 2, in the journal: count of configurations and each one's stored
//! form, count of runs and each one as in a page's stored form, duration, resume state. Version 1, which the journal may
//! still hold, has whole pages in place of the runs. Neither names itself: who stores the form says which it is.

use crate::codec::{Malformed, Reader, Writer};
use crate::keyframe::{ConfigId, DecoderConfig, Keyframe};
pub use crate::keyframe_page::KeyframePage;
use crate::keyframe_page::{read_run, write_run};

/// Keyframes in one page: with the usual 2 s between keyframes a page is four minutes and about one KiB.
pub const PAGE_LEN_MAX: usize = 128;

/// Ranges that one keyframe may have; gradual refresh of a whole second at 60 pictures is the most seen.
pub const RANGES_MAX: usize = 64;

/// Decoder configurations that one recording may have; a camera that changes its mind every minute of a day is within.
pub const CONFIGS_MAX: usize = 2048;

/// Keyframes that one recording may have: a day of 23 pictures a second that are all keyframes.
pub const KEYFRAMES_MAX: usize = 2_000_000;

/// Ranges that one recording may have: a day of gradual refresh in 60 pictures a second, with room to spare. Equal ones
/// take next to no bytes, so it is this that bounds what an index takes in memory, to some 400 MB with its keyframes.
pub const INDEX_RANGES_MAX: usize = 8_000_000;

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

impl KeyframeIndex {
    /// Cuts the index into pages; the configurations are stored beside them under their ids.
    pub fn pages(&self) -> Vec<KeyframePage> {
        let ids: Vec<ConfigId> = self.configs.iter().map(DecoderConfig::id).collect();
        self.keyframes.chunks(PAGE_LEN_MAX).map(|run| KeyframePage::new(run, &ids)).collect()
    }

    /// The form, version 2.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.unsigned(self.configs.len() as u64);
        for config in &self.configs {
            w.bytes(&config.encode());
        }
        let runs = self.keyframes.chunks(PAGE_LEN_MAX);
        w.unsigned(runs.len() as u64);
        runs.for_each(|run| write_run(&mut w, run));
        w.signed(self.duration_ms).bytes(&self.resume);
        w.finish()
    }

    /// Reads the form of [`Self::encode`]. The sender is not trusted: order and references are checked.
    ///
    /// # Errors
    /// When the bytes are not such a form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let mut index = Self { configs: read_configs(&mut r)?, ..Self::default() };
        let mut n_ranges = 0;
        for _ in 0..r.unsigned()? {
            let run = read_run(&mut r, index.configs.len())?;
            n_ranges += run.iter().map(|keyframe| keyframe.ranges.len()).sum::<usize>();
            if n_ranges > INDEX_RANGES_MAX {
                return Err(Malformed("count of ranges"));
            }
            index.extend(run)?;
        }
        index.read_rest(r)
    }

    /// Reads the form of version 1.
    ///
    /// # Errors
    /// When the bytes are not such a form.
    pub fn decode_1(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let mut index = Self { configs: read_configs(&mut r)?, ..Self::default() };
        let ids: Vec<ConfigId> = index.configs.iter().map(DecoderConfig::id).collect();
        for _ in 0..r.unsigned()? {
            let page = KeyframePage::decode(r.bytes()?)?;
            // Looked up once per page: a hostile index must not cost keyframes times configurations.
            let place = |id| ids.iter().position(|known| known == id).and_then(|place| u16::try_from(place).ok());
            let places: Option<Vec<u16>> = page.configs.iter().map(place).collect();
            let places = places.ok_or(Malformed("configuration"))?;
            let mut run = page.keyframes;
            for keyframe in &mut run {
                keyframe.config = places[usize::from(keyframe.config)];
            }
            index.extend(run)?;
        }
        index.read_rest(r)
    }

    fn extend(&mut self, run: Vec<Keyframe>) -> Result<(), Malformed> {
        if self.keyframes.len() + run.len() > KEYFRAMES_MAX {
            return Err(Malformed("count of keyframes"));
        }
        let instants = self.keyframes.last().into_iter().chain(&run).map(|keyframe| keyframe.at_ms);
        if !instants.is_sorted_by(|a, b| a < b) {
            return Err(Malformed("order of keyframes"));
        }
        self.keyframes.extend(run);
        Ok(())
    }

    fn read_rest(mut self, mut r: Reader<'_>) -> Result<Self, Malformed> {
        self.duration_ms = r.signed()?;
        self.resume = r.bytes()?.to_vec();
        r.end()?;
        Ok(self)
    }
}

fn read_configs(r: &mut Reader<'_>) -> Result<Vec<DecoderConfig>, Malformed> {
    let n_configs = r.unsigned()?;
    if n_configs > CONFIGS_MAX as u64 {
        return Err(Malformed("count of configurations"));
    }
    (0..n_configs).map(|_| DecoderConfig::decode(r.bytes()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyframe::{Codec, Orientation, Packaging};
    use crate::keyframe_page::tests::any_keyframe;
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
        prop::collection::vec((1i64..100_000, any_keyframe(3)), 0..400).prop_map(|raw| {
            let mut at_ms = -50;
            raw.into_iter()
                .map(|(step, keyframe)| {
                    at_ms += step;
                    Keyframe { at_ms, ..keyframe }
                })
                .collect()
        })
    }

    fn encode_1(index: &KeyframeIndex) -> Vec<u8> {
        let mut w = Writer::new();
        w.unsigned(index.configs.len() as u64);
        for config in &index.configs {
            w.bytes(&config.encode());
        }
        let pages = index.pages();
        w.unsigned(pages.len() as u64);
        for page in pages {
            w.bytes(&page.encode());
        }
        w.signed(index.duration_ms).bytes(&index.resume);
        w.finish()
    }

    proptest! {
        #[test]
        fn indexes_survive_the_socket(keyframes in keyframes(), duration_ms: i64, resume: Vec<u8>) {
            let configs = (0..3).map(config).collect();
            let index = KeyframeIndex { configs, keyframes, duration_ms, resume };
            prop_assert_eq!(KeyframeIndex::decode(&index.encode()), Ok(index.clone()));
            prop_assert_eq!(KeyframeIndex::decode_1(&encode_1(&index)), Ok(index));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = KeyframeIndex::decode(&bytes);
            let _ = KeyframeIndex::decode_1(&bytes);
        }
    }

    #[test]
    fn what_a_scan_cannot_give_is_refused() {
        let check = |keyframes: Vec<Keyframe>, n_configs: u8, what: &'static str| {
            let configs = (0..n_configs).map(config).collect();
            let index = KeyframeIndex { configs, keyframes, ..KeyframeIndex::default() };
            assert_eq!(KeyframeIndex::decode(&index.encode()), Err(Malformed(what)));
        };
        let keyframe = |at_ms| Keyframe { at_ms, config: 0, ranges: vec![], gop_bytes: 0 };
        check(vec![keyframe(1), keyframe(1)], 1, "order of keyframes");
        check((0..=128).map(|n| keyframe(n.min(127))).collect(), 1, "order of keyframes");
        check(vec![keyframe(1)], 0, "configuration");
        // A few hundred kilobytes that would take gigabytes.
        let mut w = Writer::new();
        let ranges = vec![crate::keyframe::ByteRange { offset: 0, len: 0 }; RANGES_MAX];
        for n in 0..980 {
            let keyframe = |at_ms: i64| Keyframe { ranges: ranges.clone(), ..keyframe(n * 128 + at_ms) };
            write_run(&mut w, &(0..128).map(keyframe).collect::<Vec<_>>());
        }
        let (runs, mut whole) = (w.finish(), Writer::new());
        whole.unsigned(1).bytes(&config(0).encode()).unsigned(980).raw(&runs).signed(0).bytes(&[]);
        assert_eq!(KeyframeIndex::decode(&whole.finish()), Err(Malformed("count of ranges")));
    }
}
