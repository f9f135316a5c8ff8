//! From the bytes of a keyframe's ranges to the packets that a decoder is fed.

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::Packaging;

/// The packets in decoding order. `pieces` are the bytes of the keyframe's ranges, in order.
///
/// # Errors
/// [`FaultKind::Damaged`] when the bytes are not what the packaging says.
pub fn packets(packaging: &Packaging, pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Fault> {
    let _ = (packaging, pieces);
    Err(Fault::new(FaultKind::Internal, "not built yet"))
}
