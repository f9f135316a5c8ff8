//! One keyframe to one or more pictures: decode, scale, encode.

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::DecoderConfig;
use stills_model::rendition::Rendition;

/// Decodes the keyframe in `packets` and makes each rendition of it.
///
/// # Errors
/// A [`Fault`] that names what is wrong with the media.
pub fn render(config: &DecoderConfig, packets: &[Vec<u8>], renditions: &[Rendition]) -> Result<Vec<Vec<u8>>, Fault> {
    let _ = (config, packets, renditions);
    Err(Fault::new(FaultKind::Internal, "not built yet"))
}
