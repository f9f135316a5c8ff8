//! A keyframe, what a decoder needs to show it, and which one answers for an instant.

use crate::codec::{Malformed, Reader, Writer};
use crate::time::Timestamp;

/// The video codecs that a recording may hold. The discriminant is part of stored forms: only ever append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the codecs' own names")]
pub enum Codec {
    H264 = 0,
    Hevc = 1,
    Av1 = 2,
    Vp8 = 3,
    Vp9 = 4,
    Mpeg4 = 5,
    Mjpeg = 6,
    Mpeg2 = 7,
    ProRes = 8,
    Dnxhd = 9,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 10] = [
        Self::H264,
        Self::Hevc,
        Self::Av1,
        Self::Vp8,
        Self::Vp9,
        Self::Mpeg4,
        Self::Mjpeg,
        Self::Mpeg2,
        Self::ProRes,
        Self::Dnxhd,
    ];

    /// Whether recordings may not be coded so, but only clips: no camera does.
    pub const fn is_of_clips_alone(self) -> bool {
        matches!(self, Self::ProRes | Self::Dnxhd)
    }

    /// The name that people know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Hevc => "HEVC",
            Self::Av1 => "AV1",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Mpeg4 => "MPEG-4 Visual",
            Self::Mjpeg => "Motion JPEG",
            Self::Mpeg2 => "MPEG-2 Video",
            Self::ProRes => "ProRes",
            Self::Dnxhd => "DNxHD",
        }
    }

    fn from_byte(byte: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|codec| *codec as u8 == byte).ok_or(Malformed("codec"))
    }
}

/// How the bytes of a keyframe's ranges become the packets that a decoder is fed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Packaging {
    /// Each range is one packet, with `prefix` put in front (Matroska strips common headers; else empty).
    Samples {
        /// The stripped header.
        prefix: Vec<u8>,
    },
    /// Each range is a stretch of MPEG-TS; the PES packets that start on `pid` inside it are the packets.
    Ts {
        /// The packet identifier of the video stream.
        pid: u16,
        /// Bytes from one sync byte to the next: 188, 192 or 204.
        packet_len: u8,
    },
}

/// How the decoded picture has to be turned to stand upright.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Orientation {
    /// Clockwise quarter turns, 0 to 3.
    pub quarter_turns: u8,
    /// Mirrored left to right, before turning.
    pub mirrored: bool,
}

/// All that a decoder needs beside the packets. Stored once under its [`ConfigId`]: a camera's recordings share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DecoderConfig {
    /// Which decoder.
    pub codec: Codec,
    /// How ranges become packets.
    pub packaging: Packaging,
    /// Parameter sets in force, in the form that FFmpeg takes as extradata (`avcC`, `hvcC`, `av1C`, Annex B);
    /// may be empty where they are in-band.
    pub extradata: Vec<u8>,
    /// Coded width and height in pixels as the container says; 0 where it does not.
    pub size: (u32, u32),
    /// Sample aspect ratio that the container demands, else (0, 0): the bitstream's own counts.
    pub sample_aspect: (u32, u32),
    /// From the container's display matrix.
    pub orientation: Orientation,
}

/// The first 16 bytes of the SHA-256 of a decoder configuration's stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigId(pub [u8; 16]);

const CONFIG_VERSION: u8 = 1;

impl DecoderConfig {
    /// Extradata beyond this is refused: real parameter sets are some hundred bytes.
    pub const EXTRADATA_MAX_BYTES: usize = 64 * 1024;

    /// The stored form, version 1.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(CONFIG_VERSION).byte(self.codec as u8);
        match &self.packaging {
            Packaging::Samples { prefix } => w.byte(0).bytes(prefix),
            Packaging::Ts { pid, packet_len } => w.byte(1).unsigned(u64::from(*pid)).byte(*packet_len),
        };
        w.bytes(&self.extradata).unsigned(self.size.0.into()).unsigned(self.size.1.into());
        w.unsigned(self.sample_aspect.0.into()).unsigned(self.sample_aspect.1.into());
        w.byte(self.orientation.quarter_turns | u8::from(self.orientation.mirrored) << 2);
        w.finish()
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.byte()? != CONFIG_VERSION {
            return Err(Malformed("decoder configuration version"));
        }
        let codec = Codec::from_byte(r.byte()?)?;
        let packaging = match r.byte()? {
            0 => Packaging::Samples { prefix: r.bytes()?.to_vec() },
            1 => Packaging::Ts { pid: r.unsigned_16()?, packet_len: r.byte()? },
            _ => return Err(Malformed("packaging")),
        };
        let extradata = r.bytes()?.to_vec();
        let size = (r.unsigned_32()?, r.unsigned_32()?);
        let sample_aspect = (r.unsigned_32()?, r.unsigned_32()?);
        let orientation = r.byte()?;
        r.end()?;
        if orientation > 7 || extradata.len() > Self::EXTRADATA_MAX_BYTES {
            return Err(Malformed("decoder configuration"));
        }
        let orientation = Orientation { quarter_turns: orientation & 3, mirrored: orientation & 4 != 0 };
        Ok(Self { codec, packaging, extradata, size, sample_aspect, orientation })
    }

    /// The id it is stored under.
    pub fn id(&self) -> ConfigId {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(self.encode());
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        ConfigId(id)
    }
}

/// Bytes of a media file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// From the start of the file.
    pub offset: u64,
    /// How many.
    pub len: u32,
}

impl ByteRange {
    /// One past the last byte.
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }
}

/// One keyframe of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyframe {
    /// Milliseconds of wall clock after the recording's start; negative only for media that lies about its start.
    pub at_ms: i64,
    /// Which of the index's decoder configurations is in force here.
    pub config: u16,
    /// What to read and feed, in order: one packet for most codecs, two for a field pair, several for gradual refresh.
    pub ranges: Vec<ByteRange>,
    /// Bytes of video from here to the next keyframe: how much moved, without decoding.
    pub gop_bytes: u64,
}

/// Media time to wall clock: ticks since the earliest presented picture, rounded to the nearest millisecond
/// (half away from zero), never stretched. The one place where ticks and milliseconds meet.
pub fn ticks_to_ms(ticks: i64, timescale: u32) -> i64 {
    let (ticks, timescale) = (i128::from(ticks), i128::from(timescale.max(1)));
    let doubled = ticks * 2000;
    let rounded = (doubled.abs() + timescale) / (2 * timescale) * doubled.signum();
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

/// Which of two keyframe instants answers for `asked`: the nearer; of two equally near, the later.
pub fn nearer(asked: Timestamp, a: Timestamp, b: Timestamp) -> Timestamp {
    let distance = |t: Timestamp| t.since_ms(asked).unsigned_abs();
    match distance(a).cmp(&distance(b)) {
        std::cmp::Ordering::Less => a,
        std::cmp::Ordering::Greater => b,
        std::cmp::Ordering::Equal => a.max(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding() {
        assert_eq!(ticks_to_ms(90_000, 90_000), 1000);
        assert_eq!(ticks_to_ms(3003, 90_000), 33);
        assert_eq!(ticks_to_ms(1, 2000), 1);
        assert_eq!(ticks_to_ms(-1, 2000), -1);
        assert_eq!(ticks_to_ms(i64::MAX, 1), i64::MAX);
    }

    #[test]
    fn ties_go_to_the_later() {
        let t = Timestamp::from_ms;
        assert_eq!(nearer(t(10), t(8), t(12)), t(12));
        assert_eq!(nearer(t(10), t(12), t(8)), t(12));
        assert_eq!(nearer(t(10), t(9), t(12)), t(9));
    }

    #[test]
    fn configurations_survive_their_stored_form() {
        let mut config = DecoderConfig {
            codec: Codec::Hevc,
            packaging: Packaging::Ts { pid: 0x100, packet_len: 188 },
            extradata: vec![1, 2, 3],
            size: (3840, 2160),
            sample_aspect: (4, 3),
            orientation: Orientation { quarter_turns: 3, mirrored: true },
        };
        assert_eq!(DecoderConfig::decode(&config.encode()), Ok(config.clone()));
        let id = config.id();
        config.packaging = Packaging::Samples { prefix: vec![0] };
        assert_eq!(DecoderConfig::decode(&config.encode()), Ok(config.clone()));
        assert_ne!(config.id(), id);
    }
}
