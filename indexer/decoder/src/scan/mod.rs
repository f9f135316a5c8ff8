//! From a media file to its keyframe index: demuxing only, nothing is decoded.
//!
//! 1. [`scan`] looks at the first bytes and chooses the container;
//! 2. `mp4`, `ts` or `mkv` turns tables, packets or blocks into samples in decoding order;
//! 3. `verify` asks the bitstream where the container's keyframe flags look wrong;
//! 4. [`timeline`] turns samples into keyframes with their instants.
//!
//! Media is hostile: every table is bounded by the bytes that hold it, every loop by a maximum, and no byte is trusted.
//! Never decodes, never reads the pictures' bytes where tables tell enough, and knows nothing of FFmpeg.

use stills_model::clip::ClipPoint;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{DecoderConfig, Keyframe};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::leap::Scanned;

mod bitstream;
mod bytes;
mod mkv;
mod mp4;
pub(crate) mod samples;
mod timeline;
pub(crate) mod ts;
mod verify;
mod window;

use window::Window;

/// A media file as the scanner sees it.
pub trait Media {
    /// Bytes in the file.
    fn len(&self) -> u64;

    /// Whether there is not one byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Exactly `len` bytes from `offset` on; the scanner asks for at most
    /// [`READ_LEN_MAX`](stills_model::wire::READ_LEN_MAX) and never past the file's end.
    ///
    /// # Errors
    /// The fault that the source named; also when the range leaves the file.
    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault>;
}

/// Finds the keyframes of `media`.
///
/// The index is always that of the whole file: with the `resume` of an earlier scan only what came since is read, and
/// the keyframes found before come out of `resume`. What is incomplete at the end of a growing file is left for later.
/// A `resume` takes about 12 bytes a keyframe; one that is malformed or does not fit the file means a full scan. A file with pictures but without a keyframe
/// gives an index without keyframes.
///
/// # Errors
/// A [`Fault`] that names what is wrong with the media.
pub fn scan(media: &mut dyn Media, growing: bool, resume: &[u8]) -> Result<KeyframeIndex, Fault> {
    scanned(media, growing, resume).map(|scanned| scanned.index)
}

/// The same, and where the time that is written was not followed.
///
/// # Errors
/// As [`scan`].
pub fn scanned(media: &mut dyn Media, growing: bool, resume: &[u8]) -> Result<Scanned, Fault> {
    if media.is_empty() {
        return Err(damaged("the file is empty"));
    }
    let mut window = Window::new(media);
    match Container::of(&mut window, growing)? {
        Container::Mp4 => mp4::scan(&mut window, growing, resume, false).map(Scanned::from),
        Container::Mkv => mkv::scan(&mut window, growing, resume).map(Scanned::from),
        Container::Ts(layout) => ts::scan(&mut window, layout, growing, resume),
    }
}

/// What is found in a clip whose container is also one of recordings.
pub(crate) enum Clip {
    /// All its keyframes.
    Listed(KeyframeIndex),
    /// The one that was asked for; the container lists none.
    Found(Found),
}

/// A keyframe that was searched for.
pub(crate) struct Found {
    /// It, its configuration the one beside it.
    pub(crate) keyframe: Keyframe,
    pub(crate) config: DecoderConfig,
}

/// Finds the keyframes of a clip, or the one at or before `point` without reading it all.
///
/// # Errors
/// As [`scan`].
pub(crate) fn clip(media: &mut dyn Media, point: ClipPoint) -> Result<Clip, Fault> {
    let mut window = Window::new(media);
    match Container::of(&mut window, false)? {
        Container::Mp4 => {
            // Exact frames need the samples of all fragments anyway.
            if let ClipPoint::Keyframe(percent) = point
                && let Some(found) = mp4::seek::at_or_before(&mut window, percent)?
            {
                return Ok(Clip::Found(found));
            }
            mp4::scan(&mut window, false, &[], true).map(Clip::Listed)
        }
        Container::Mkv => mkv::scan(&mut window, false, &[]).map(Clip::Listed),
        Container::Ts(layout) => ts::seek::at_or_before(&mut window, layout, point).map(Clip::Found),
    }
}

/// All keyframes of a clip, however many fragments that takes; nothing of a container that would be read whole.
///
/// # Errors
/// As [`scan`].
pub(crate) fn listed(media: &mut dyn Media) -> Result<Option<KeyframeIndex>, Fault> {
    let mut window = Window::new(media);
    match Container::of(&mut window, false)? {
        Container::Mp4 => mp4::scan(&mut window, false, &[], true).map(Some),
        Container::Mkv => mkv::scan(&mut window, false, &[]).map(Some),
        Container::Ts(_) => Ok(None),
    }
}

/// Bytes that tell any container that is read here.
const TELLING_LEN: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Mp4,
    Mkv,
    /// Where the first packet is, and how far it is to the next.
    Ts((usize, u8)),
}

impl Container {
    fn of(window: &mut Window<'_>, growing: bool) -> Result<Self, Fault> {
        let head = window.up_to(0, 4096)?.to_vec();
        if mp4::begins(&head) {
            return Ok(Self::Mp4);
        }
        if mkv::begins(&head) {
            return Ok(Self::Mkv);
        }
        let text = head.trim_ascii_start();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        if text.starts_with(b"#EXTM3U") || text.starts_with(b"<?xml") || text.starts_with(b"<MPD") {
            return Err(unsupported("the file is a playlist, not MP4, MPEG-TS or Matroska"));
        }
        if let Some(layout) = ts::layout(window.up_to(0, ts::HEAD_LEN)?) {
            return Ok(Self::Ts(layout));
        }
        if growing && head.len() < TELLING_LEN {
            return Err(damaged("the growing file is too short yet to tell what it is"));
        }
        Err(unsupported("the file is not MP4, MPEG-TS or Matroska"))
    }
}

fn damaged(detail: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Damaged, detail)
}

fn unsupported(detail: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Unsupported, detail)
}

fn too_large(detail: impl Into<String>) -> Fault {
    Fault::new(FaultKind::TooLarge, detail)
}

/// FNV-1a: tells another file from the one that a resume is of; not against anybody who forges media, who harms only
/// himself.
fn check_sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    /// Bytes that a parser of these containers goes into: pieces of headers with anything between.
    fn media() -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&[u8]> = vec![
            b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
            b"\0\0\x01\0moov",
            b"\0\0\0\x80trak",
            b"\0\0\0\x60mdia\0\0\0\x40minf\0\0\0\x30stbl",
            b"\0\0\0\x40moof\0\0\0\x38traf\0\0\0\x14trun\0\0\x02\x05\xff\xff\xff\xff",
            b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff",
            b"\x16\x54\xae\x6b\x93\xae\x91\xd7\x81\x01\x83\x81\x01\x86\x85V_VP8\xe0\x80",
            b"\x1f\x43\xb6\x75\xff\xe7\x81\x05\xa3\x86\x81\0\0\x80\x01\x02",
            b"\xa0\x8a\xa1\x84\x81\0\0\x06\x9b\x81\x01",
            b"\x47\x40\x00\x10\x00\x00\xb0\x0d\0\x01\xc1\0\0\0\x01\xe0\x20",
            b"\0\0\x01\xe0\0\0\x80\x80\x05\x21\0\x01\0\x01",
        ];
        let piece = prop_oneof![
            prop::sample::select(pieces).prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..40),
            (any::<u8>(), 0usize..400).prop_map(|(byte, len)| vec![byte; len]),
        ];
        prop::collection::vec(piece, 1..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_index_or_a_fault(bytes in media(), resume: Vec<u8>, growing: bool) {
            if let Err(fault) = scan(&mut Memory(bytes), growing, &resume) {
                prop_assert_ne!(fault.kind, FaultKind::Internal);
            }
        }

        #[test]
        fn any_resume_of_this_version_is_taken_or_refused(kind in 0usize..3, rest: Vec<u8>) {
            let magic: &[u8] = [&b"\x01MP4"[..], b"\x01TS", b"\x01MKV"][kind];
            let mut bytes = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff".to_vec();
            bytes.extend(b"\x16\x54\xae\x6b\x91\xae\x8f\xd7\x81\x01\x83\x81\x01\x86\x85V_VP8\xe0\x80");
            let _ = scan(&mut Memory(bytes), true, &[magic, &rest].concat());
        }
    }
}
