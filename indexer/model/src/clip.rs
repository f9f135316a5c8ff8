//! Clips: media that callers name by URL. Points in them, and the containers that only clips may have.

use std::fmt;
use std::str::FromStr;

use crate::codec::{Malformed, Reader, Writer};
use crate::exact::count;
use crate::keyframe::{ByteRange, DecoderConfig};
use crate::keyframe_index::{KeyframeIndex, RANGES_MAX};
use crate::rendition::Rendition;
use crate::wire::PICTURES_MAX;

/// A share of a clip's length: 0 to 100 percent, kept in millionths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

/// Millionths in one percent.
const ONE: u32 = 1_000_000;

impl Percent {
    /// The beginning.
    pub const START: Self = Self(0);
    /// The end.
    pub const END: Self = Self(100 * ONE);

    /// A whole number of percent; what is over 100 is 100.
    pub fn whole(percent: u8) -> Self {
        Self(u32::from(percent) * ONE).min(Self::END)
    }

    /// The point in milliseconds of something `duration_ms` long, rounded down.
    pub fn of_ms(self, duration_ms: i64) -> i64 {
        let ms = i128::from(duration_ms) * i128::from(self.0) / i128::from(Self::END.0);
        i64::try_from(ms).unwrap_or(i64::MAX)
    }
}

/// Plain decimal digits with a fraction, if any; digits behind the sixth of the fraction are left out.
impl FromStr for Percent {
    type Err = InvalidPercent;

    fn from_str(text: &str) -> Result<Self, InvalidPercent> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_plain(whole) || !is_plain(fraction) {
            return Err(InvalidPercent);
        }
        let whole: u32 = whole.parse().map_err(|_| InvalidPercent)?;
        let millionths = format!("{fraction:0<6.6}").parse::<u32>().map_err(|_| InvalidPercent)?;
        let is_over = whole > 100 || whole == 100 && fraction.bytes().any(|b| b != b'0');
        if is_over { Err(InvalidPercent) } else { Ok(Self(whole * ONE + millionths)) }
    }
}

/// The text is not a percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPercent;

impl fmt::Display for InvalidPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be a number from 0 to 100, such as 12.5")
    }
}

impl std::error::Error for InvalidPercent {}

/// Containers that clips may have and recordings may not. The discriminants are bits of [`Containers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Container {
    /// Material Exchange Format.
    Mxf = 1,
    /// MPEG program streams.
    Mpeg = 2,
    /// Flash Video.
    Flv = 4,
    /// Audio Video Interleave.
    Avi = 8,
}

impl Container {
    /// Every one, with its name in the configuration.
    pub const ALL: [(&'static str, Self); 4] =
        [("mxf", Self::Mxf), ("mpeg", Self::Mpeg), ("flv", Self::Flv), ("avi", Self::Avi)];
}

impl FromStr for Container {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, container)| container).ok_or("must be one of \"mxf\", \"mpeg\", \"flv\", \"avi\"")
    }
}

/// Some of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Containers(u8);

impl Containers {
    /// Whether this one is among them.
    pub const fn has(self, container: Container) -> bool {
        self.0 & container as u8 != 0
    }
}

impl FromIterator<Container> for Containers {
    fn from_iter<I: IntoIterator<Item = Container>>(containers: I) -> Self {
        Self(containers.into_iter().fold(0, |bits, container| bits | container as u8))
    }
}

/// What is wanted of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipPoint {
    /// The keyframe at or before a share of the length.
    Keyframe(Percent),
    /// The frame nearest to this many milliseconds after the first presented one.
    Exact(i64),
}

/// Which picture of which media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipQuery {
    /// Bytes in the file.
    pub len: u64,
    /// Which picture.
    pub point: ClipPoint,
    /// Containers that may be read beside those of recordings.
    pub containers: Containers,
    /// The most frames that may be decoded for an exact one.
    pub frames_max: u32,
    /// What to make of it.
    pub renditions: Vec<Rendition>,
}

impl ClipQuery {
    /// Appends the form on the socket.
    pub fn write(&self, w: &mut Writer) {
        w.unsigned(self.len);
        match self.point {
            ClipPoint::Keyframe(percent) => w.byte(0).unsigned(percent.0.into()),
            ClipPoint::Exact(at_ms) => w.byte(1).signed(at_ms),
        };
        w.byte(self.containers.0).unsigned(self.frames_max.into()).unsigned(self.renditions.len() as u64);
        self.renditions.iter().for_each(|rendition| rendition.write(w));
    }

    /// Takes the form of [`Self::write`] off the reader.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let len = r.unsigned()?;
        let point = match r.byte()? {
            0 => ClipPoint::Keyframe(Percent(r.unsigned_32()?).min(Percent::END)),
            1 => ClipPoint::Exact(r.signed()?),
            _ => return Err(Malformed("point")),
        };
        let (containers, frames_max) = (Containers(r.byte()?), r.unsigned_32()?);
        let renditions = (0..count(r, PICTURES_MAX)?).map(|_| Rendition::read(r)).collect::<Result<_, _>>()?;
        Ok(Self { len, point, containers, frames_max, renditions })
    }
}

/// Where the bytes of a keyframe are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyframeBytes {
    /// In these ranges of the media, packaged as the configuration says.
    Ranges(Vec<ByteRange>),
    /// Here: the container spreads them so that no range holds them.
    Packets(Vec<Vec<u8>>),
}

/// A picture of a clip whose container lists no keyframes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipShown {
    /// Of the frame shown: milliseconds after the first presented one.
    pub at_ms: i64,
    /// What decodes its keyframe.
    pub config: DecoderConfig,
    /// The keyframe; of an exact frame nothing.
    pub keyframe: KeyframeBytes,
    /// In the order of the renditions asked for.
    pub pictures: Vec<Vec<u8>>,
}

/// What a decoder found in a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClipFound {
    /// All its keyframes, because the container lists them.
    Listed(KeyframeIndex),
    /// The picture that was asked for.
    Shown(ClipShown),
}

impl ClipFound {
    /// Appends the form on the socket.
    pub fn write(&self, w: &mut Writer) {
        match self {
            Self::Listed(index) => {
                w.byte(0).raw(&index.encode());
            }
            Self::Shown(shown) => shown.write(w.byte(1)),
        }
    }

    /// Takes the form of [`Self::write`] off the reader.
    ///
    /// # Errors
    /// [`Malformed`], also for more ranges, packets or pictures than may be.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.byte()? {
            0 => Ok(Self::Listed(KeyframeIndex::decode(r.rest())?)),
            1 => Ok(Self::Shown(ClipShown::read(r)?)),
            _ => Err(Malformed("clip")),
        }
    }
}

impl ClipShown {
    fn write(&self, w: &mut Writer) {
        w.signed(self.at_ms).bytes(&self.config.encode());
        match &self.keyframe {
            KeyframeBytes::Ranges(ranges) => {
                w.byte(0).unsigned(ranges.len() as u64);
                for range in ranges {
                    w.unsigned(range.offset).unsigned(range.len.into());
                }
            }
            KeyframeBytes::Packets(packets) => write_all(packets, w.byte(1)),
        }
        write_all(&self.pictures, w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (at_ms, config) = (r.signed()?, DecoderConfig::decode(r.bytes()?)?);
        let range = |r: &mut Reader<'_>| Ok(ByteRange { offset: r.unsigned()?, len: r.unsigned_32()? });
        let keyframe = match r.byte()? {
            0 => KeyframeBytes::Ranges((0..count(r, RANGES_MAX)?).map(|_| range(r)).collect::<Result<_, _>>()?),
            1 => KeyframeBytes::Packets(read_all(r, RANGES_MAX)?),
            _ => return Err(Malformed("keyframe")),
        };
        Ok(Self { at_ms, config, keyframe, pictures: read_all(r, PICTURES_MAX)? })
    }
}

fn write_all(all: &[Vec<u8>], w: &mut Writer) {
    w.unsigned(all.len() as u64);
    for bytes in all {
        w.bytes(bytes);
    }
}

fn read_all(r: &mut Reader<'_>, max: usize) -> Result<Vec<Vec<u8>>, Malformed> {
    (0..count(r, max)?).map(|_| Ok(r.bytes()?.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u32>) {
        assert_eq!(text.parse::<Percent>().ok().map(|percent| percent.0), expected, "{text:?}");
    }

    #[test]
    fn percentages() {
        check("0", Some(0));
        check("10", Some(10 * ONE));
        check("12.5", Some(12_500_000));
        check("0.000001", Some(1));
        check("99.9999999", Some(99_999_999));
        check("100", Some(100 * ONE));
        check("100.000", Some(100 * ONE));
        check("007.50", Some(7_500_000));
        for wrong in
            ["", ".", "1.", ".5", "100.0000001", "101", "-1", "+1", "1e1", "1,5", "NaN", "inf", "99999999999", "1.2.3"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn points() {
        let check = |percent: &str, duration_ms: i64, expected: i64| {
            let percent: Percent = percent.parse().expect("percent");
            assert_eq!(percent.of_ms(duration_ms), expected);
        };
        check("0", 60_000, 0);
        check("10", 60_000, 6_000);
        check("33.333333", 60_000, 19_999);
        check("100", 60_000, 60_000);
        check("100", i64::MAX, i64::MAX);
        check("50", 0, 0);
        assert_eq!((Percent::whole(10), Percent::whole(255)), (Percent(10 * ONE), Percent::END));
    }

    #[test]
    fn queries_and_what_was_found_survive() {
        use crate::keyframe::{Codec, Orientation, Packaging};
        let config = DecoderConfig {
            codec: Codec::ProRes,
            packaging: Packaging::Samples { prefix: vec![] },
            extradata: vec![7],
            size: (1920, 1080),
            sample_aspect: (1, 1),
            orientation: Orientation::default(),
        };
        let renditions = vec![Rendition::thumb(16, 16).expect("size")];
        let containers: Containers = [Container::Mxf, Container::Avi].into_iter().collect();
        assert!(containers.has(Container::Avi) && !containers.has(Container::Flv));
        for point in [ClipPoint::Keyframe(Percent::whole(33)), ClipPoint::Exact(-5)] {
            let query = ClipQuery { len: 1 << 40, point, containers, frames_max: 9, renditions: renditions.clone() };
            let mut w = Writer::new();
            query.write(&mut w);
            assert_eq!(ClipQuery::read(&mut Reader::new(&w.finish())), Ok(query));
        }
        let ranges = KeyframeBytes::Ranges(vec![ByteRange { offset: 1 << 33, len: 4 }]);
        let packets = KeyframeBytes::Packets(vec![vec![1, 2], vec![]]);
        let shown = |keyframe| {
            let pictures = vec![vec![0xff, 0xd8]];
            ClipFound::Shown(ClipShown { at_ms: -1, config: config.clone(), keyframe, pictures })
        };
        for found in [ClipFound::Listed(KeyframeIndex::default()), shown(ranges), shown(packets)] {
            let mut w = Writer::new();
            found.write(&mut w);
            let bytes = w.finish();
            assert_eq!(ClipFound::read(&mut Reader::new(&bytes)), Ok(found));
            assert!(ClipFound::read(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
        }
    }
}
