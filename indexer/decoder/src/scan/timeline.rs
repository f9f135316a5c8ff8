//! From samples in decoding order to keyframes with their instants: the one place where the rules about time, field
//! pairs, gradual refresh and bytes between keyframes live. Knows no container and reads nothing.

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::fault::Fault;
use stills_model::keyframe::{ByteRange, DecoderConfig, Keyframe, ticks_to_ms};
use stills_model::keyframe_index::{KeyframeIndex, RANGES_MAX};

use super::too_large;

/// Keyframes in one file: 24 h of all-intra video at 17 pictures a second; with its resume it still fits one message.
const KEYFRAMES_MAX: usize = 1_500_000;

/// Configurations in one file; real files have one, a camera that changes its mode a few.
const CONFIGS_MAX: usize = 1024;

/// Bytes of one keyframe that are worth feeding: 8K intra video stays far below, and it has to fit one message.
const KEYFRAME_LEN_MAX: u64 = 48 * 1024 * 1024;

/// What a sample is to somebody who wants to start decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Needs others.
    None,
    /// Shows its picture alone.
    Alone,
    /// The first field of a picture whose second field is the next sample.
    FirstField,
    /// Shows a whole picture this many samples later: gradual refresh.
    Gradual(u8),
}

/// One coded picture (or field) of the video track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Where its bytes start in the file.
    pub(super) offset: u64,
    /// Presentation time in ticks of the track, after edit lists.
    pub(super) pts: i64,
    /// How many bytes.
    pub(super) len: u32,
    /// How long it is shown, in ticks.
    pub(super) duration: u32,
    /// Which configuration of the timeline.
    pub(super) config: u16,
    /// Whether decoding can start here.
    pub(super) access: Access,
    /// False for what an edit list trims away.
    pub(super) presented: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    pts: i64,
    config: u16,
    presented: bool,
    gradual: bool,
    /// Samples still to come before it can be shown.
    wanting: u8,
    bytes: u64,
    ranges: Vec<ByteRange>,
}

/// What is known of the track so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timeline {
    timescale: u32,
    configs: Vec<DecoderConfig>,
    keys: Vec<Key>,
    /// Earliest presented time and the end of the last presented picture, once there is one.
    span: Option<(i64, i64)>,
}

impl Timeline {
    /// An empty timeline whose ticks are 1/`timescale` s.
    pub(super) fn new(timescale: u32) -> Self {
        Self { timescale: timescale.max(1), configs: Vec::new(), keys: Vec::new(), span: None }
    }

    /// The place of `config`, equal ones shared.
    pub(super) fn config(&mut self, config: &DecoderConfig) -> Result<u16, Fault> {
        let place = self.configs.iter().rposition(|known| known == config).unwrap_or_else(|| {
            self.configs.push(config.clone());
            self.configs.len() - 1
        });
        if place >= CONFIGS_MAX {
            return Err(too_large(format!("the file has more than {CONFIGS_MAX} decoder configurations")));
        }
        u16::try_from(place).map_err(|_| too_large("the file has too many decoder configurations"))
    }

    /// Ticks of a second.
    pub(super) const fn timescale(&self) -> u32 {
        self.timescale
    }

    /// The configurations so far.
    pub(super) fn configs(&self) -> &[DecoderConfig] {
        &self.configs
    }

    /// Whether neither a presented sample nor a keyframe has come yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.span.is_none() && self.keys.is_empty()
    }

    /// Takes the next sample in decoding order; `bytes` of it are video.
    pub(super) fn push(&mut self, sample: &Sample, bytes: u64) -> Result<(), Fault> {
        if sample.presented {
            let end = sample.pts.saturating_add(sample.duration.into());
            let (earliest, last) = self.span.unwrap_or((sample.pts, end));
            self.span = Some((earliest.min(sample.pts), last.max(end)));
        }
        let opens = sample.access != Access::None && sample.len > 0 && u64::from(sample.len) <= KEYFRAME_LEN_MAX;
        if opens {
            self.drop_incomplete();
            self.open(sample)?;
        }
        let Some(key) = self.keys.last_mut() else { return Ok(()) };
        key.bytes = key.bytes.saturating_add(bytes);
        if !opens && key.wanting > 0 {
            key.ranges.push(ByteRange { offset: sample.offset, len: sample.len });
            key.wanting -= 1;
            if key.gradual {
                // The picture that gets whole is the last one, so its instant is the keyframe's.
                key.pts = sample.pts;
                key.presented = sample.presented;
            }
        }
        Ok(())
    }

    fn open(&mut self, sample: &Sample) -> Result<(), Fault> {
        let wanting = match sample.access {
            Access::None | Access::Alone => 0,
            Access::FirstField => 1,
            Access::Gradual(later) => later,
        };
        if usize::from(wanting) >= RANGES_MAX {
            return Ok(());
        }
        if self.keys.len() >= KEYFRAMES_MAX {
            return Err(too_large(format!("the file has more than {KEYFRAMES_MAX} keyframes")));
        }
        self.keys.push(Key {
            pts: sample.pts,
            config: sample.config,
            presented: sample.presented,
            gradual: matches!(sample.access, Access::Gradual(_)),
            wanting,
            bytes: 0,
            ranges: vec![ByteRange { offset: sample.offset, len: sample.len }],
        });
        Ok(())
    }

    /// A gradual refresh that another keyframe or the end of the file cuts short never shows a whole picture.
    fn drop_incomplete(&mut self) {
        if self.keys.last().is_some_and(|key| key.gradual && key.wanting > 0) {
            let bytes = self.keys.pop().map_or(0, |key| key.bytes);
            if let Some(before) = self.keys.last_mut() {
                before.bytes = before.bytes.saturating_add(bytes);
            }
        } else if let Some(key) = self.keys.last_mut() {
            key.wanting = 0;
        }
    }

    /// The index of what came so far.
    pub(super) fn into_index(mut self, resume: Vec<u8>) -> KeyframeIndex {
        self.drop_incomplete();
        let mut keys = self.keys;
        keys.retain(|key| key.ranges.iter().map(|range| u64::from(range.len)).sum::<u64>() <= KEYFRAME_LEN_MAX);
        // Gradual refresh costs many pictures for one, so it counts only where true keyframes are rare.
        let gradual = keys.iter().filter(|key| key.gradual).count();
        if gradual * 2 < keys.len() {
            keys.retain(|key| !key.gradual);
        }
        // What an edit trims away counts only where there is no other.
        if keys.iter().any(|key| key.presented) {
            keys.retain(|key| key.presented);
        }
        let first = keys.iter().map(|key| key.pts).min().unwrap_or(0);
        let (start, end) = self.span.unwrap_or((first, first));
        let ms = |pts: i64| ticks_to_ms(pts.saturating_sub(start), self.timescale);
        let mut keyframes: Vec<Keyframe> = keys
            .into_iter()
            .map(|Key { pts, config, ranges, bytes, .. }| Keyframe { at_ms: ms(pts), config, ranges, gop_bytes: bytes })
            .collect();
        keyframes.sort_by_key(|keyframe| keyframe.at_ms);
        keyframes.dedup_by_key(|keyframe| keyframe.at_ms);
        let mut configs = self.configs;
        keep_used(&mut configs, &mut keyframes);
        KeyframeIndex { configs, keyframes, duration_ms: ms(end), resume }
    }

    /// Appends the form that [`Self::read`] takes.
    pub(super) fn write(&self, w: &mut Writer) {
        w.unsigned(self.timescale.into()).unsigned(self.configs.len() as u64);
        for config in &self.configs {
            w.bytes(&config.encode());
        }
        let (start, end) = self.span.unwrap_or((1, 0));
        w.signed(start).signed(end).unsigned(self.keys.len() as u64);
        let (mut pts, mut offset) = (0i64, 0u64);
        for key in &self.keys {
            w.signed(key.pts.wrapping_sub(pts)).unsigned(key.config.into());
            w.byte(u8::from(key.presented) | u8::from(key.gradual) << 1).byte(key.wanting);
            w.unsigned(key.bytes).unsigned(key.ranges.len() as u64);
            for range in &key.ranges {
                w.signed(range.offset.wrapping_sub(offset).cast_signed()).unsigned(range.len.into());
                offset = range.end();
            }
            pts = key.pts;
        }
    }

    /// Takes the form of [`Self::write`]; checks all that the rest relies on.
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut timeline = Self::new(r.unsigned_32()?);
        for _ in 0..r.unsigned()? {
            timeline.configs.push(DecoderConfig::decode(r.bytes()?)?);
        }
        let (start, end) = (r.signed()?, r.signed()?);
        timeline.span = (start <= end).then_some((start, end));
        let (mut pts, mut offset) = (0i64, 0u64);
        for _ in 0..r.unsigned()? {
            pts = pts.wrapping_add(r.signed()?);
            let config = r.unsigned_16()?;
            let (flags, wanting, bytes, count) = (r.byte()?, r.byte()?, r.unsigned()?, r.unsigned()?);
            let fits = usize::from(config) < timeline.configs.len() && (1..=RANGES_MAX as u64).contains(&count);
            if !fits || flags > 3 || timeline.keys.len() >= KEYFRAMES_MAX || u64::from(wanting) + count > 64 {
                return Err(Malformed("keyframe"));
            }
            let mut ranges = Vec::new();
            for _ in 0..count {
                let from = offset.wrapping_add(r.signed()?.cast_unsigned());
                let range = ByteRange { offset: from, len: r.unsigned_32()? };
                offset = range.end();
                ranges.push(range);
            }
            let (presented, gradual) = (flags & 1 == 1, flags & 2 == 2);
            timeline.keys.push(Key { pts, config, presented, gradual, wanting, bytes, ranges });
        }
        Ok(timeline)
    }
}

/// Leaves out configurations that no keyframe points at.
fn keep_used(configs: &mut Vec<DecoderConfig>, keyframes: &mut [Keyframe]) {
    let mut used = vec![false; configs.len()];
    for keyframe in keyframes.iter() {
        if let Some(used) = used.get_mut(usize::from(keyframe.config)) {
            *used = true;
        }
    }
    let mut place = 0u16;
    let places: Vec<u16> = used
        .iter()
        .map(|used| {
            let own = place;
            place += u16::from(*used);
            own
        })
        .collect();
    for keyframe in keyframes {
        keyframe.config = places.get(usize::from(keyframe.config)).copied().unwrap_or(0);
    }
    let mut used = used.into_iter();
    configs.retain(|_| used.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;
    use stills_model::keyframe::{Codec, Orientation, Packaging};

    fn config(n: u8) -> DecoderConfig {
        DecoderConfig {
            codec: Codec::H264,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata: vec![n],
            size: (0, 0),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        }
    }

    fn sample(n: u64, access: Access) -> Sample {
        let pts = n.cast_signed() * 40;
        Sample { offset: n * 100, pts, len: 100, duration: 40, config: 1, access, presented: true }
    }

    /// What comes of samples with these kinds of access: instants and counts of ranges.
    fn check(accesses: &[Access], expected: &[(i64, usize, u64)]) {
        let mut timeline = Timeline::new(1000);
        timeline.config(&config(0)).expect("config");
        timeline.config(&config(1)).expect("config");
        for (n, access) in (0u64..).zip(accesses) {
            timeline.push(&sample(n, *access), 100).expect("push");
        }
        let index = timeline.clone().into_index(vec![]);
        let found: Vec<_> = index.keyframes.iter().map(|k| (k.at_ms, k.ranges.len(), k.gop_bytes)).collect();
        assert_eq!(found, expected, "{accesses:?}");
        assert_eq!(index.duration_ms, i64::try_from(accesses.len()).expect("few") * 40);
        assert!(index.keyframes.iter().all(|k| k.config == 0) && index.configs.len() <= 1);
        let mut w = Writer::new();
        timeline.write(&mut w);
        assert_eq!(Timeline::read(&mut Reader::new(&w.finish())), Ok(timeline));
    }

    #[test]
    fn accesses() {
        use Access::{Alone, FirstField, Gradual, None};
        check(&[Alone, None, None, Alone, None], &[(0, 1, 300), (120, 1, 200)]);
        check(&[None, Alone, None], &[(40, 1, 200)]);
        check(&[FirstField, None, None, FirstField, None], &[(0, 2, 300), (120, 2, 200)]);
        check(&[FirstField, Alone], &[(0, 1, 100), (40, 1, 100)]);
        check(&[Gradual(2), None, None, None, Gradual(2), None, None], &[(80, 3, 400), (240, 3, 300)]);
        check(&[Gradual(2), None, None, None, Gradual(2), None], &[(80, 3, 600)]);
        check(&[Gradual(200), None], &[]);
        check(&[Alone, Gradual(1), None, Alone], &[(0, 1, 100), (120, 1, 100)]);
        check(&[None, None], &[]);
    }

    #[test]
    fn trimmed_keyframes_count_only_alone() {
        let mut timeline = Timeline::new(1000);
        timeline.config(&config(0)).expect("config");
        let trimmed = Sample { presented: false, config: 0, ..sample(0, Access::Alone) };
        timeline.push(&trimmed, 100).expect("push");
        timeline.push(&Sample { config: 0, ..sample(1, Access::None) }, 100).expect("push");
        assert_eq!(timeline.clone().into_index(vec![]).keyframes[0].at_ms, -40);
        timeline.push(&Sample { config: 0, ..sample(2, Access::Alone) }, 100).expect("push");
        let index = timeline.into_index(vec![]);
        assert_eq!(index.keyframes.iter().map(|k| k.at_ms).collect::<Vec<_>>(), [40]);
    }
}
