//! Clips: the picture at one point of media that a caller named, with as few reads as its container allows.
//!
//! 1. [`kept`] remembers what was read, so that nothing is read twice;
//! 2. MP4 and Matroska list their keyframes: the list is the answer, and the service reads the keyframe itself;
//! 3. of MPEG-TS one keyframe is searched for by time, in our own code, and shown at once;
//! 4. MXF, program streams, FLV and AVI go through libav's demuxers ([`demux`]), for clips alone and where the configuration
//!    lets them: [`other`] finds the keyframe by their index, or by time where they have none.
//!
//! Exact frames of what lists its keyframes are the service's to ask for; of the rest they are decoded here.

mod demux;
mod kept;
mod other;

use stills_model::clip::{ClipFound, ClipPoint, ClipQuery, ClipShown, Container, KeyframeBytes};
use stills_model::exact::ExactQuery;
use stills_model::fault::{Fault, FaultKind};

use crate::exact;
use crate::packets::packets;
use crate::render::Renderer;
use crate::scan::{self, Found, Media};
use kept::Kept;

/// Bytes that tell a container.
const TELLING_LEN: u32 = 4096;

/// Finds the picture of a clip, or all keyframes where the container lists them.
///
/// # Errors
/// A [`Fault`] that names what is wrong with the media, or that its container is not read here.
pub fn find(media: &mut dyn Media, query: &ClipQuery, renderer: &mut Renderer) -> Result<ClipFound, Fault> {
    if media.is_empty() {
        return Err(Fault::new(FaultKind::Damaged, "the file is empty"));
    }
    let mut kept = Kept::new(media);
    let telling = u32::try_from(kept.len()).unwrap_or(u32::MAX).min(TELLING_LEN);
    if let Some(container) = container(&kept.read(0, telling)?) {
        if !query.containers.has(container) {
            let name = Container::ALL.into_iter().find(|(_, known)| *known == container).map_or("", |(name, _)| name);
            let detail = format!("containers of the kind '{name}' are not read here (fetch.formats)");
            return Err(Fault::new(FaultKind::Unsupported, detail));
        }
        return other::find(&mut kept, container, query, renderer).map(ClipFound::Shown);
    }
    match scan::clip(&mut kept, query.point)? {
        scan::Clip::Listed(index) => Ok(ClipFound::Listed(index)),
        scan::Clip::Found(found) => match shown(&mut kept, found, query, renderer) {
            // What a table of fragments names may lie; the fragments themselves tell.
            Err(fault) if fault.kind == FaultKind::Damaged => match scan::listed(&mut kept)? {
                Some(index) => Ok(ClipFound::Listed(index)),
                None => Err(fault),
            },
            shown => shown.map(ClipFound::Shown),
        },
    }
}

/// The container that a file beginning with `head` has, if it is one of clips alone.
fn container(head: &[u8]) -> Option<Container> {
    // The first key of a partition pack, behind at most a little run-in.
    const PARTITION: &[u8] = &[0x06, 0x0e, 0x2b, 0x34, 0x02, 0x05, 0x01, 0x01, 0x0d, 0x01, 0x02, 0x01, 0x01, 0x02];
    if head.starts_with(&[0, 0, 1, 0xba]) {
        Some(Container::Mpeg)
    } else if head.starts_with(b"FLV\x01") {
        Some(Container::Flv)
    } else if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ") {
        Some(Container::Avi)
    } else {
        head.windows(PARTITION.len()).any(|key| key == PARTITION).then_some(Container::Mxf)
    }
}

/// The picture of a keyframe that was searched for, or the exact frame behind it.
fn shown(media: &mut dyn Media, found: Found, query: &ClipQuery, renderer: &mut Renderer) -> Result<ClipShown, Fault> {
    let Found { keyframe, config } = found;
    if let ClipPoint::Exact(at_ms) = query.point {
        let exact_query = ExactQuery {
            len: query.len,
            growing: false,
            from_ms: keyframe.at_ms,
            ranges: keyframe.ranges,
            config: config.clone(),
            instants_ms: vec![at_ms],
            frames_max: query.frames_max,
            renditions: query.renditions.clone(),
        };
        let found = exact::exact(media, &exact_query, renderer)?;
        let none = || Err(Fault::new(FaultKind::Damaged, "no frame at this point could be decoded"));
        let frame = found.answers.into_iter().next().unwrap_or_else(none)?;
        let keyframe = KeyframeBytes::Ranges(Vec::new());
        return Ok(ClipShown { at_ms: frame.at_ms, config, keyframe, pictures: frame.pictures });
    }
    let mut pieces = Vec::new();
    for range in &keyframe.ranges {
        pieces.push(media.read(range.offset, range.len)?);
    }
    let packets = packets(&config.packaging, &pieces)?;
    let pictures = renderer.render(&config, &packets, &query.renditions)?.pictures;
    Ok(ClipShown { at_ms: keyframe.at_ms, config, keyframe: KeyframeBytes::Ranges(keyframe.ranges), pictures })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_their_first_bytes() {
        let check = |head: &[u8], expected: Option<Container>| assert_eq!(container(head), expected, "{head:?}");
        check(&[0, 0, 1, 0xba, 0x44], Some(Container::Mpeg));
        check(b"FLV\x01\x05", Some(Container::Flv));
        check(b"RIFF\x00\x00\x00\x00AVI LIST", Some(Container::Avi));
        check(b"RIFF\x00\x00\x00\x00WAVEfmt ", None);
        let pack = [0x06, 0x0e, 0x2b, 0x34, 0x02, 0x05, 0x01, 0x01, 0x0d, 0x01, 0x02, 0x01, 0x01, 0x02, 0x04];
        check(&pack, Some(Container::Mxf));
        check(&[&[0; 100][..], &pack].concat(), Some(Container::Mxf));
        check(b"\x00\x00\x00\x18ftypisom", None);
        check(&[], None);
    }
}
