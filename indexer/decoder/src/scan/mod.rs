//! From a media file to its keyframe index: demuxing only, nothing is decoded.
//!
//! 1. [`scan`] looks at the first bytes and chooses the container;
//! 2. `mp4`, `ts` or `mkv` turns tables, packets or blocks into samples in decoding order;
//! 3. `verify` asks the bitstream where the container's keyframe flags look wrong;
//! 4. [`timeline`] turns samples into keyframes with their instants.
//!
//! Media is hostile: every table is bounded by the bytes that hold it, every loop by a maximum, and no byte is trusted.
//! Never decodes, never reads the pictures' bytes where tables tell enough, and knows nothing of FFmpeg.

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe_index::KeyframeIndex;

mod bitstream;
mod bytes;
mod mkv;
mod mp4;
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
/// A `resume` that is malformed or does not fit the file means a full scan. A file with pictures but without a keyframe
/// gives an index without keyframes.
///
/// # Errors
/// A [`Fault`] that names what is wrong with the media.
pub fn scan(media: &mut dyn Media, growing: bool, resume: &[u8]) -> Result<KeyframeIndex, Fault> {
    if media.is_empty() {
        return Err(damaged("the file is empty"));
    }
    let mut window = Window::new(media);
    match Container::of(&mut window)? {
        Container::Mp4 => mp4::scan(&mut window, growing, resume),
        Container::Mkv => mkv::scan(&mut window, growing, resume),
        Container::Ts(layout) => ts::scan(&mut window, layout, growing, resume),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Mp4,
    Mkv,
    /// Where the first packet is, and how far it is to the next.
    Ts((usize, u8)),
}

impl Container {
    fn of(window: &mut Window<'_>) -> Result<Self, Fault> {
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
