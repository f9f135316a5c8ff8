//! Asks the bitstream whether the container's keyframe flags are true, for cameras that flag every picture, none, or
//! the wrong ones, and finds field pairs and gradual refresh behind the flags.
//!
//! What it costs: one small read for a container that looks right; one per flagged sample where one of them turns
//! out to be a recovery point or half a picture; one per sample (neighbours share reads) where the flags are wrong.
//! Never reads more than a sample's head.

use stills_model::codec::Malformed;
use stills_model::fault::Fault;
use stills_model::keyframe::{Codec, DecoderConfig, Packaging};

use super::bitstream::{self, Kind, Look, SLICE_HEAD, Sets};
use super::timeline::{Access, Sample};
use super::too_large;
use super::window::Window;

/// A file whose every sample is flagged is suspicious from this many samples on, and believed if these are intra.
const SUSPECT_LEN: usize = 9;

/// Samples that are looked at in one scan: over nine hours at 30 pictures a second.
const LOOKS_MAX: usize = 1_000_000;

/// NAL units in front of the first slice that are passed.
const UNITS_MAX: usize = 32;

/// Bytes read of a unit in front of the first slice.
const UNIT_LEN: u32 = 1024;

/// Bytes read of a sample that has start codes instead of lengths.
const HEAD_LEN: u32 = 4096;

/// Whom to believe about keyframes; found out once per file, kept across scans of a growing one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Trust {
    /// Not found out yet.
    #[default]
    Open = 0,
    /// The container's flags as they are.
    Flags = 1,
    /// The flags name the places, the bitstream says how to start there.
    FlagsAndBitstream = 2,
    /// The bitstream alone.
    Bitstream = 3,
}

impl Trust {
    /// Reads the stored form, which is the discriminant.
    pub(super) fn from_byte(byte: u8) -> Result<Self, Malformed> {
        let all = [Self::Open, Self::Flags, Self::FlagsAndBitstream, Self::Bitstream];
        all.into_iter().find(|trust| *trust as u8 == byte).ok_or(Malformed("trust"))
    }
}

/// Corrects the access of `samples`, which are in decoding order and all there are since the last call.
pub(super) fn verify(
    window: &mut Window<'_>,
    configs: &[DecoderConfig],
    samples: &mut [Sample],
    trust: &mut Trust,
) -> Result<(), Fault> {
    let mut looker = Looker::new(configs);
    if *trust == Trust::Open {
        *trust = judge(window, &mut looker, samples)?;
    }
    if matches!(trust, Trust::Open | Trust::Flags) {
        return Ok(());
    }
    let all = *trust == Trust::Bitstream;
    let mut looks = 0;
    for place in 0..samples.len() {
        let Some(sample) = samples.get(place).copied().filter(|sample| all || sample.access != Access::None) else {
            continue;
        };
        looks += 1;
        if looks > LOOKS_MAX {
            return Err(too_large(format!("the keyframe flags are wrong, and the file has over {LOOKS_MAX} samples")));
        }
        let found = looker.look(window, &sample)?;
        let mut access = access(found, all);
        if let (Access::Alone, Some(field), Some(next)) = (access, found.field, samples.get(place + 1)) {
            let second = looker.look(window, next)?.field;
            if second.is_some_and(|second| field.pairs_with(second)) {
                access = Access::FirstField;
            }
        }
        // The second field of a pair is no keyframe of its own, even where it is intra.
        let before = place.checked_sub(1).and_then(|before| samples.get(before));
        if before.is_some_and(|before| before.access == Access::FirstField) {
            access = Access::None;
        }
        if let Some(sample) = samples.get_mut(place) {
            sample.access = access;
        }
    }
    Ok(())
}

/// Whether keyframes that the container names stand alone, by a look at the second one; for containers that name them
/// without listing the samples between.
pub(super) fn flags_hold(window: &mut Window<'_>, configs: &[DecoderConfig], keys: &[Sample]) -> Result<bool, Fault> {
    let Some(sample) = keys.get(1).or(keys.first()) else { return Ok(true) };
    let found = Looker::new(configs).look(window, sample)?;
    Ok(access(found, false) == Access::Alone && found.field.is_none())
}

/// How to start at a picture that was looked at: `all` says that the flags tell nothing.
fn access(look: Look, all: bool) -> Access {
    match look.kind {
        Some(Kind::Instant) => Access::Alone,
        Some(Kind::Gradual(later)) => Access::Gradual(later),
        // Only the keyframe itself is ever fed, so an intra picture is as good as an IDR.
        Some(Kind::Dependent) if look.all_intra || look.intra && !all => Access::Alone,
        Some(Kind::Dependent) => Access::None,
        None if all => Access::None,
        None => Access::Alone,
    }
}

/// Finds out whom to believe from the flags and a few looks.
fn judge(window: &mut Window<'_>, looker: &mut Looker<'_>, samples: &[Sample]) -> Result<Trust, Fault> {
    let Some(first) = samples.first() else { return Ok(Trust::Open) };
    let codec = looker.configs.get(usize::from(first.config)).map(|config| config.codec);
    if !matches!(codec, Some(Codec::H264 | Codec::Hevc | Codec::Mpeg4 | Codec::Mpeg2)) {
        return Ok(Trust::Flags);
    }
    let flagged: Vec<&Sample> = samples.iter().filter(|sample| sample.access != Access::None).collect();
    if flagged.len() == samples.len() && samples.len() >= SUSPECT_LEN {
        for sample in samples.iter().take(SUSPECT_LEN) {
            let found = looker.look(window, sample)?;
            if access(found, true) == Access::None && found.kind.is_some() || found.field.is_some() {
                return Ok(Trust::Bitstream);
            }
        }
        return Ok(Trust::Flags);
    }
    // The second one tells more: a stream of gradual refresh often begins with one true keyframe.
    let Some(sample) = flagged.get(1).or(flagged.first()) else {
        let few = samples.len() < SUSPECT_LEN;
        return Ok(if few { Trust::Open } else { Trust::Bitstream });
    };
    let found = looker.look(window, sample)?;
    Ok(match access(found, false) {
        Access::None => Trust::Bitstream,
        Access::Gradual(_) => Trust::FlagsAndBitstream,
        _ if found.field.is_some() => Trust::FlagsAndBitstream,
        // One flag is too few to judge the rest by.
        _ if flagged.len() < 2 => Trust::Open,
        _ => Trust::Flags,
    })
}

/// Looks at the heads of samples; extradata are read once per configuration.
struct Looker<'c> {
    configs: &'c [DecoderConfig],
    parsed: Vec<Option<Parsed>>,
}

/// The parameter sets in extradata and the length size of NAL units; neither for samples with start codes.
type Parsed = Option<(Sets, usize)>;

impl<'c> Looker<'c> {
    fn new(configs: &'c [DecoderConfig]) -> Self {
        Self { configs, parsed: vec![None; configs.len()] }
    }

    fn look(&mut self, window: &mut Window<'_>, sample: &Sample) -> Result<Look, Fault> {
        let place = usize::from(sample.config);
        let (Some(config), Some(parsed)) = (self.configs.get(place), self.parsed.get_mut(place)) else {
            return Ok(Look::default());
        };
        // Behind a stripped prefix the units start elsewhere; such files come from careful muxers.
        let stripped = !matches!(&config.packaging, Packaging::Samples { prefix } if prefix.is_empty());
        if stripped {
            return Ok(Look::default());
        }
        match parsed.get_or_insert_with(|| bitstream::configured(config.codec, &config.extradata)) {
            Some((sets, length_size)) => {
                let units = heads(window, config.codec, sample, *length_size)?;
                Ok(bitstream::look(config.codec, units.iter().map(Vec::as_slice), sets))
            }
            None => {
                let head = window.up_to(sample.offset, sample.len.min(HEAD_LEN))?;
                Ok(bitstream::look(config.codec, bitstream::units(head), &mut Sets::default()))
            }
        }
    }
}

/// The starts of the NAL units up to the first slice.
fn heads(window: &mut Window<'_>, codec: Codec, sample: &Sample, length_size: usize) -> Result<Vec<Vec<u8>>, Fault> {
    let end = sample.offset.saturating_add(sample.len.into());
    let prefix = u32::try_from(length_size).unwrap_or(4);
    let (mut at, mut units) = (sample.offset, Vec::new());
    while units.len() < UNITS_MAX && at.saturating_add(u64::from(prefix) + 1) < end {
        let Some(bytes) = window.exactly(at, prefix + 1)? else { break };
        let (length, header) = bytes.split_at(length_size.min(bytes.len()));
        let length = length.iter().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
        let picture = header.first().is_some_and(|byte| bitstream::is_picture(codec, *byte));
        at += u64::from(prefix);
        let wanted = if picture { u32::try_from(SLICE_HEAD).unwrap_or(48) } else { UNIT_LEN };
        let held = length.min(end - at).min(wanted.into());
        units.push(window.up_to(at, u32::try_from(held).unwrap_or(0))?.to_vec());
        if picture {
            break;
        }
        at = at.saturating_add(length);
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::super::Media;
    use super::super::bitstream::made::{interlaced, pps, slice};
    use super::*;
    use stills_model::keyframe::Orientation;

    struct Memory(Vec<u8>);

    impl Media for Memory {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
        fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
            let from = usize::try_from(offset).expect("offset");
            Ok(self.0[from..from + len as usize].to_vec())
        }
    }

    fn config() -> DecoderConfig {
        let (sps, pps) = (interlaced(), pps());
        let len = |unit: &[u8]| u8::try_from(unit.len()).expect("short");
        let extradata = [&[1, 100, 0, 40, 0xff, 0xe1, 0, len(&sps)][..], &sps, &[1, 0, len(&pps)], &pps].concat();
        DecoderConfig {
            codec: Codec::H264,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata,
            size: (1920, 1080),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        }
    }

    const IDR: u8 = 0x65;
    const OTHER: u8 = 0x41;
    const I: u32 = 7;
    const P: u32 = 5;

    /// Verifies samples of one slice each, with the container's flag for each.
    fn check(pictures: &[(Vec<u8>, bool)], trust: Trust, expected: &[Access]) {
        let (mut bytes, mut samples) = (Vec::new(), Vec::new());
        for (unit, flag) in pictures {
            let len = u32::try_from(unit.len()).expect("short");
            let access = if *flag { Access::Alone } else { Access::None };
            let (offset, pts) = (bytes.len() as u64, 0);
            samples.push(Sample { offset, pts, len: len + 4, duration: 1, config: 0, access, presented: true });
            bytes.extend(len.to_be_bytes());
            bytes.extend(unit);
        }
        let (mut media, mut found) = (Memory(bytes), Trust::Open);
        verify(&mut Window::new(&mut media), &[config()], &mut samples, &mut found).expect("verified");
        assert_eq!(found, trust);
        assert_eq!(samples.iter().map(|sample| sample.access).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn flags_are_kept_or_corrected() {
        use Access::{Alone, FirstField, None};
        let idr = || slice(IDR, I, 0, Option::None);
        let intra = || slice(OTHER, I, 1, Option::None);
        let other = || slice(OTHER, P, 1, Option::None);
        check(&[(idr(), true), (other(), false), (idr(), true)], Trust::Flags, &[Alone, None, Alone]);
        // An intra picture that is flagged stands alone, whether or not it is an IDR.
        check(&[(idr(), true), (other(), false), (intra(), true)], Trust::Flags, &[Alone, None, Alone]);
        // A flag on a picture that needs others: the bitstream counts from then on.
        let wrong = [(idr(), true), (other(), true), (idr(), false), (other(), false)];
        check(&wrong, Trust::Bitstream, &[Alone, None, Alone, None]);
        // All flagged: true for all-intra, a lie otherwise.
        let all = |unit: fn() -> Vec<u8>| {
            (0..9).map(move |n| (if n == 0 { slice(IDR, I, 0, Option::None) } else { unit() }, true))
        };
        check(&all(intra).collect::<Vec<_>>(), Trust::Flags, &[Alone; 9]);
        let lie = [&[Alone][..], &[None; 8]].concat();
        check(&all(other).collect::<Vec<_>>(), Trust::Bitstream, &lie);
        // None flagged: few samples are left for later, many are looked at.
        let none: Vec<_> = (0..9).map(|n| (if n == 4 { idr() } else { other() }, false)).collect();
        check(&none, Trust::Bitstream, &[None, None, None, None, Alone, None, None, None, None]);
        check(&none[..5], Trust::Open, &[None; 5]);
        // Field pairs in samples of their own.
        let field = |header, kind, bottom| slice(header, kind, 0, Some(bottom));
        let pair = [(field(IDR, I, false), true), (field(OTHER, P, true), false)];
        let pairs = [&pair[..], &[(other(), false)], &pair].concat();
        check(&pairs, Trust::FlagsAndBitstream, &[FirstField, None, None, FirstField, None]);
        let both = [(field(IDR, I, false), true), (field(OTHER, I, true), true), (other(), false)];
        check(&both, Trust::FlagsAndBitstream, &[FirstField, None, None]);
    }
}
