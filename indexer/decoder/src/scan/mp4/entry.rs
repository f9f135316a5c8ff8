//! Sample entries of a video track (`stsd`): which codec, and what its decoder needs.

use stills_model::fault::Fault;
use stills_model::keyframe::{Codec, DecoderConfig, Orientation, Packaging};

use super::super::bytes::Bytes;
use super::super::{too_large, unsupported};
use super::boxes::{boxes, find};

/// Sample entries in one track; real files have one, a camera that changes its mode a few.
const ENTRIES_MAX: usize = 256;

/// The decoder configurations of a `stsd` box in order; an entry that is not decoded here is a fault of its own.
///
/// `is_clip` lets the codecs of clips alone pass.
pub(super) fn entries(stsd: &[u8], orientation: Orientation, is_clip: bool) -> Vec<Result<DecoderConfig, Fault>> {
    let content = stsd.get(8..).unwrap_or_default();
    let of_clips = |config: &DecoderConfig| config.codec.is_of_clips_alone();
    let read = |(kind, entry)| match config(kind, entry, orientation) {
        Ok(config) if of_clips(&config) && !is_clip => Err(not_decoded(kind)),
        config => config,
    };
    boxes(content).take(ENTRIES_MAX).map(read).collect()
}

fn not_decoded(kind: [u8; 4]) -> Fault {
    unsupported(format!("the video codec '{}' is not decoded here", kind.escape_ascii()))
}

fn config(kind: [u8; 4], entry: &[u8], orientation: Orientation) -> Result<DecoderConfig, Fault> {
    let name = kind.escape_ascii();
    if &kind == b"encv" {
        return Err(unsupported("the video is encrypted"));
    }
    let mut fields = Bytes::new(entry);
    let size = (|| {
        fields.skip(24)?;
        let size = (fields.u16()?.into(), fields.u16()?.into());
        fields.skip(50)?;
        Some(size)
    })();
    let size = size.unwrap_or((0, 0));
    let inside = fields.rest();
    let record = |kind: &[u8; 4]| find(inside, kind).unwrap_or_default().to_vec();
    let (codec, extradata) = match &kind {
        b"avc1" | b"avc2" | b"avc3" | b"avc4" | b"dva1" | b"dvav" | b"h264" | b"H264" => (Codec::H264, record(b"avcC")),
        b"hvc1" | b"hvc2" | b"hev1" | b"hev2" | b"dvh1" | b"dvhe" => (Codec::Hevc, record(b"hvcC")),
        b"av01" | b"dav1" => (Codec::Av1, record(b"av1C")),
        // The decoders of VP8 and VP9 take no extradata; vpcC only repeats what the bitstream says.
        b"vp08" => (Codec::Vp8, Vec::new()),
        b"vp09" => (Codec::Vp9, Vec::new()),
        b"mp4v" => elementary(&record(b"esds"))?,
        b"XVID" | b"xvid" | b"DIVX" | b"FMP4" => (Codec::Mpeg4, Vec::new()),
        b"jpeg" | b"mjpa" | b"mjpg" | b"MJPG" | b"AVDJ" => (Codec::Mjpeg, Vec::new()),
        b"m2v1" | b"mpg2" => (Codec::Mpeg2, Vec::new()),
        b"apco" | b"apcs" | b"apcn" | b"apch" | b"ap4h" | b"ap4x" => (Codec::ProRes, Vec::new()),
        b"AVdn" | b"AVdh" => (Codec::Dnxhd, Vec::new()),
        _ if is_mpeg2_by_rate(kind) => (Codec::Mpeg2, Vec::new()),
        _ => return Err(not_decoded(kind)),
    };
    if extradata.len() > DecoderConfig::EXTRADATA_MAX_BYTES {
        return Err(too_large(format!(
            "the parameter sets of '{name}' are over {} bytes",
            DecoderConfig::EXTRADATA_MAX_BYTES
        )));
    }
    let packaging = Packaging::Samples { prefix: Vec::new() };
    Ok(DecoderConfig { codec, packaging, extradata, size, sample_aspect: aspect(inside), orientation })
}

/// Sony's names for MPEG-2 of its camcorders (`xdv1`, `xd5b`, `hdv2`, `mx5p` and so on), one for each rate and size.
fn is_mpeg2_by_rate(kind: [u8; 4]) -> bool {
    matches!(&kind[..3], b"xdv" | b"xd5" | b"hdv" | b"mx5" | b"mx4" | b"mx3")
}

fn aspect(inside: &[u8]) -> (u32, u32) {
    let read = |pasp: &[u8]| {
        let mut fields = Bytes::new(pasp);
        Some((fields.u32()?, fields.u32()?)).filter(|(x, y)| *x > 0 && *y > 0)
    };
    find(inside, b"pasp").and_then(read).unwrap_or((0, 0))
}

/// Codec and decoder specific information of an `esds` box (ISO/IEC 14496-1 7.2.6).
fn elementary(esds: &[u8]) -> Result<(Codec, Vec<u8>), Fault> {
    let mut fields = Bytes::new(esds);
    let read = |fields: &mut Bytes<'_>| {
        fields.skip(4)?;
        descriptor(fields, 3)?;
        fields.skip(2)?;
        let flags = fields.u8()?;
        fields.skip(if flags & 0x80 == 0 { 0 } else { 2 })?;
        if flags & 0x40 != 0 {
            let url = fields.u8()?;
            fields.skip(url.into())?;
        }
        fields.skip(if flags & 0x20 == 0 { 0 } else { 2 })?;
        descriptor(fields, 4)?;
        let kind = fields.u8()?;
        fields.skip(12)?;
        let specific = descriptor(fields, 5).and_then(|len| fields.take(len));
        Some((kind, specific.unwrap_or_default().to_vec()))
    };
    match read(&mut fields) {
        // Files without a readable descriptor are MPEG-4 Visual with its headers in-band.
        None => Ok((Codec::Mpeg4, Vec::new())),
        Some((0x20, specific)) => Ok((Codec::Mpeg4, specific)),
        Some((0x60..=0x65, specific)) => Ok((Codec::Mpeg2, specific)),
        Some((0x6c, _)) => Ok((Codec::Mjpeg, Vec::new())),
        Some((0x21, _)) => Err(unsupported("H.264 in an 'mp4v' entry is not decoded here")),
        Some((kind, _)) => Err(unsupported(format!("the video codec 'mp4v' {kind:#04x} is not decoded here"))),
    }
}

/// The length of a descriptor with this tag, its header taken.
fn descriptor(fields: &mut Bytes<'_>, tag: u8) -> Option<usize> {
    if fields.u8()? != tag {
        return None;
    }
    let mut len = 0usize;
    for _ in 0..4 {
        let byte = fields.u8()?;
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &[u8; 4], inside: &[u8]) -> Vec<u8> {
        let mut content = vec![0; 78];
        content[24..28].copy_from_slice(&[7, 128, 4, 56]);
        content.extend(inside);
        let len = u32::try_from(content.len() + 8).expect("small");
        [&[0; 8][..], &len.to_be_bytes(), kind, &content].concat()
    }

    #[test]
    fn codecs_and_what_they_need() {
        let config = |kind: &[u8; 4], inside: &[u8]| {
            let found = entries(&entry(kind, inside), Orientation::default(), false);
            found.into_iter().next().expect("one entry")
        };
        let of_clip = |kind: &[u8; 4]| {
            let found = entries(&entry(kind, b""), Orientation::default(), true);
            found.into_iter().next().expect("one entry").map(|config| config.codec)
        };
        for (kind, codec) in [(b"ap4h", Codec::ProRes), (b"apcn", Codec::ProRes), (b"AVdh", Codec::Dnxhd)] {
            assert_eq!(of_clip(kind), Ok(codec));
        }
        assert_eq!(of_clip(b"avc1"), Ok(Codec::H264));
        assert!(of_clip(b"drac").is_err());
        let avc = config(b"avc1", b"\0\0\0\x0aavcC\x01\x02\0\0\0\x10pasp\0\0\0\x04\0\0\0\x03").expect("avc1");
        assert_eq!((avc.codec, avc.size, avc.sample_aspect), (Codec::H264, (1920, 1080), (4, 3)));
        assert_eq!(avc.extradata, [1, 2]);
        let fault = config(b"ap4h", b"").expect_err("ProRes");
        assert_eq!(fault.detail, "the video codec 'ap4h' is not decoded here");
        assert_eq!(config(b"mp4v", b"").expect("mp4v").codec, Codec::Mpeg4);
        let esds = b"\0\0\0\x27esds\0\0\0\0\x03\x1b\0\x01\0\x04\x13\x61\x11\0\0\0\0\0\0\0\0\0\0\0\x05\x02\xaa\xbb";
        let mpeg2 = config(b"mp4v", esds).expect("esds");
        assert_eq!((mpeg2.codec, mpeg2.extradata), (Codec::Mpeg2, vec![0xaa, 0xbb]));
    }
}
