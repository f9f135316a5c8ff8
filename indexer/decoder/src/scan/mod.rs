//! From a media file to its keyframe index: demuxing only, nothing is decoded.

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe_index::KeyframeIndex;

/// A media file as the scanner sees it.
pub trait Media {
    /// Bytes in the file.
    fn len(&self) -> u64;

    /// Exactly `len` bytes from `offset` on.
    ///
    /// # Errors
    /// The fault that the source named; also when the range leaves the file.
    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault>;
}

/// Finds the keyframes of `media`.
///
/// # Errors
/// A [`Fault`] that names what is wrong with the media.
pub fn scan(media: &mut dyn Media, growing: bool, resume: &[u8]) -> Result<KeyframeIndex, Fault> {
    let _ = (media, growing, resume);
    Err(Fault::new(FaultKind::Internal, "not built yet"))
}
