//! The track entries of Matroska (RFC 9559 5.1.4): which track is the video to show, and what its decoder needs.

use stills_model::fault::Fault;
use stills_model::keyframe::{Codec, DecoderConfig, Orientation, Packaging};

use super::super::{damaged, too_large, unsupported};
use super::ebml::{elements, find, float, unsigned};

/// Track entries that are looked at.
const TRACKS_MAX: usize = 64;

/// Bytes that may have been taken off the front of each block; real files strip some few.
const PREFIX_LEN_MAX: usize = 4096;

const TRACK_ENTRY: u32 = 0xae;
const VIDEO: u32 = 0xe0;

/// The video track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Track {
    pub(super) number: u64,
    /// How long a picture lasts, in nanoseconds; 0 where the file does not say.
    pub(super) duration: u64,
    pub(super) config: DecoderConfig,
}

impl Track {
    /// The first video track that is enabled and decodable; else the first decodable; else the fault of the first.
    pub(super) fn choose(tracks: &[u8]) -> Result<Self, Fault> {
        let entries = elements(tracks).filter(|(id, _)| *id == TRACK_ENTRY).map(|(_, entry)| entry);
        let videos = entries.take(TRACKS_MAX).filter(|entry| find(entry, 0x83).map(unsigned) == Some(1));
        let (mut second, mut fault) = (None, None);
        for entry in videos {
            match Self::read(entry) {
                Ok(track) if find(entry, 0xb9).map(unsigned) != Some(0) => return Ok(track),
                Ok(track) => second = second.or(Some(track)),
                Err(why) => fault = fault.or(Some(why)),
            }
        }
        second.ok_or_else(|| fault.unwrap_or_else(|| damaged("the file has no video track")))
    }

    fn read(entry: &[u8]) -> Result<Self, Fault> {
        let (codec, extradata) = codec(find(entry, 0x86).unwrap_or_default(), find(entry, 0x63a2).unwrap_or_default())?;
        if extradata.len() > DecoderConfig::EXTRADATA_MAX_BYTES {
            return Err(too_large(format!(
                "the codec's private data are over {} bytes",
                DecoderConfig::EXTRADATA_MAX_BYTES
            )));
        }
        let video = find(entry, VIDEO).unwrap_or_default();
        let pixels = |id| find(video, id).map_or(0, |content| u32::try_from(unsigned(content)).unwrap_or(0));
        let size = (pixels(0xb0), pixels(0xba));
        let roll = find(video, 0x7670).and_then(|projection| find(projection, 0x7675)).map_or(0.0, float);
        Ok(Self {
            number: find(entry, 0xd7).map_or(0, unsigned),
            duration: find(entry, 0x0023_e383).map_or(0, unsigned),
            config: DecoderConfig {
                codec,
                packaging: Packaging::Samples { prefix: prefix(entry)? },
                extradata,
                size,
                sample_aspect: aspect(size, (pixels(0x54b0), pixels(0x54ba)), pixels(0x54b2)),
                orientation: Orientation { quarter_turns: quarter_turns(roll), mirrored: false },
            },
        })
    }
}

/// Codec and extradata from the codec's id and private data.
fn codec(id: &[u8], private: &[u8]) -> Result<(Codec, Vec<u8>), Fault> {
    let id = id.split(|byte| *byte == 0).next().unwrap_or_default();
    let codec = match id {
        b"V_MPEG4/ISO/AVC" => Codec::H264,
        b"V_MPEGH/ISO/HEVC" => Codec::Hevc,
        b"V_AV1" => Codec::Av1,
        // The decoders of VP8, VP9 and Motion JPEG take no extradata.
        b"V_VP8" => return Ok((Codec::Vp8, Vec::new())),
        b"V_VP9" => return Ok((Codec::Vp9, Vec::new())),
        b"V_MJPEG" => return Ok((Codec::Mjpeg, Vec::new())),
        b"V_MPEG4/ISO/ASP" | b"V_MPEG4/ISO/SP" | b"V_MPEG4/ISO/AP" => Codec::Mpeg4,
        b"V_MPEG2" => Codec::Mpeg2,
        b"V_MS/VFW/FOURCC" => return windows(private),
        _ => return Err(unsupported(format!("the video codec '{}' is not decoded here", id.escape_ascii()))),
    };
    Ok((codec, private.to_vec()))
}

/// A codec by the four characters of a Windows bitmap header, whose extradata come behind it.
fn windows(header: &[u8]) -> Result<(Codec, Vec<u8>), Fault> {
    let name = header.get(16..20).unwrap_or_default();
    let codec = match name.to_ascii_uppercase().as_slice() {
        b"H264" | b"AVC1" | b"X264" => Codec::H264,
        b"HEVC" | b"H265" | b"HVC1" => Codec::Hevc,
        b"XVID" | b"DIVX" | b"DX50" | b"FMP4" | b"MP4V" => Codec::Mpeg4,
        b"MJPG" => return Ok((Codec::Mjpeg, Vec::new())),
        b"MPG2" => Codec::Mpeg2,
        _ => return Err(unsupported(format!("the video codec '{}' is not decoded here", name.escape_ascii()))),
    };
    Ok((codec, header.get(40..).unwrap_or_default().to_vec()))
}

/// What was stripped off the front of each block.
fn prefix(entry: &[u8]) -> Result<Vec<u8>, Fault> {
    let Some(encodings) = find(entry, 0x6d80) else { return Ok(Vec::new()) };
    let mut prefix = Vec::new();
    for (_, encoding) in elements(encodings).filter(|(id, _)| *id == 0x6240) {
        // Scope 1 is the blocks, and what holds where nothing is said.
        if find(encoding, 0x5032).map_or(1, unsigned) & 1 == 0 {
            continue;
        }
        if find(encoding, 0x5033).map(unsigned).unwrap_or(0) != 0 {
            return Err(unsupported("the video track is encrypted"));
        }
        let compression = find(encoding, 0x5034).unwrap_or_default();
        match find(compression, 0x4254).map_or(0, unsigned) {
            3 if prefix.is_empty() => prefix = find(compression, 0x4255).unwrap_or_default().to_vec(),
            3 => return Err(unsupported("the video track has several compressions, at most one is undone here")),
            algorithm => {
                let name = ["zlib", "bzlib", "lzo1x"].get(usize::try_from(algorithm).unwrap_or(usize::MAX));
                let name = name.unwrap_or(&"an unknown method");
                return Err(unsupported(format!(
                    "the video track is compressed with {name}, which is not undone here"
                )));
            }
        }
    }
    if prefix.len() > PREFIX_LEN_MAX {
        return Err(too_large(format!("the stripped header is over {PREFIX_LEN_MAX} bytes")));
    }
    Ok(prefix)
}

/// The sample aspect ratio that makes the pixels fill the display size; (0, 0) where nothing is demanded. Units 0 to 3
/// are pixels, lengths or a ratio, which all say the same; 4 is unknown.
fn aspect(size: (u32, u32), display: (u32, u32), unit: u32) -> (u32, u32) {
    if unit > 3 || [size.0, size.1, display.0, display.1].contains(&0) {
        return (0, 0);
    }
    let (x, y) = (u64::from(display.0) * u64::from(size.1), u64::from(display.1) * u64::from(size.0));
    let divisor = greatest_common_divisor(x, y);
    match (u32::try_from(x / divisor), u32::try_from(y / divisor)) {
        (Ok(x), Ok(y)) => (x, y),
        _ => (0, 0),
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}

/// Clockwise quarter turns from a roll, which counts degrees counterclockwise.
fn quarter_turns(roll: f64) -> u8 {
    [(-90.0, 1), (270.0, 1), (180.0, 2), (-180.0, 2), (90.0, 3), (-270.0, 3)]
        .into_iter()
        .find(|(degrees, _)| (roll - degrees).abs() < 1.0)
        .map_or(0, |(_, turns)| turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aspects_and_turns() {
        assert_eq!(aspect((720, 576), (16, 9), 3), (64, 45));
        assert_eq!(aspect((320, 240), (320, 240), 0), (1, 1));
        assert_eq!(aspect((320, 240), (0, 0), 0), (0, 0));
        assert_eq!(aspect((320, 240), (640, 240), 4), (0, 0));
        assert_eq!([0.0, -90.0, 180.0, 90.0, 45.0, f64::NAN].map(quarter_turns), [0, 1, 2, 3, 0, 0]);
    }

    #[test]
    fn codecs_by_both_kinds_of_name() {
        assert_eq!(codec(b"V_MPEG4/ISO/AVC\0", &[1]), Ok((Codec::H264, vec![1])));
        let mut header = vec![0; 42];
        header[16..20].copy_from_slice(b"mjpg");
        assert_eq!(codec(b"V_MS/VFW/FOURCC", &header), Ok((Codec::Mjpeg, vec![])));
        let fault = codec(b"V_THEORA", &[]).expect_err("Theora");
        assert_eq!(fault.detail, "the video codec 'V_THEORA' is not decoded here");
    }
}
