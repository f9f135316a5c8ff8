//! From the bytes of a keyframe's ranges to the packets that a decoder is fed. Looks at containers' wrapping only,
//! never into a packet.

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::Packaging;

/// The packets in decoding order. `pieces` are the bytes of the keyframe's ranges, in order.
///
/// # Errors
/// [`FaultKind::Damaged`] when the bytes are not what the packaging says.
pub fn packets(packaging: &Packaging, pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Fault> {
    match packaging {
        Packaging::Samples { prefix } => Ok(pieces.iter().map(|piece| [&prefix[..], piece].concat()).collect()),
        Packaging::Ts { .. } => Err(Fault::new(FaultKind::Unsupported, "MPEG-TS is not read yet")),
    }
}
