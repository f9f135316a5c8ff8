//! What shape a keyframe's picture has when it is shown: only a decoder knows, as containers and bitstreams may both say
//! otherwise. Told by a small picture in its own shape, which is rendered and kept like any other.

use stills_model::fault::{Fault, FaultKind};
use stills_model::id::{RecordingId, Timeline};
use stills_model::rendition::{Fit, Format, Rendition};

use super::{ThumbError, Thumbs};
use crate::catalog::Located;
use crate::decode::Class;

/// Two kilobytes; its longer side tells the shape within one part in 300 for anything that a camera records.
const PROBE: Rendition = Rendition { width: 256, height: 256, fit: Fit::Inside, format: Format::Jpeg, quality: 20 };

impl Thumbs {
    /// Width and height of the picture as it is shown, in no particular unit.
    ///
    /// # Errors
    /// As [`Self::picture`].
    pub async fn shape(&self, located: &Located, class: Class) -> Result<(u32, u32), ThumbError> {
        shape_of(&self.picture(located, PROBE, class).await?.body)
    }

    /// The keyframe of a recording's poster, and its shape.
    ///
    /// # Errors
    /// As [`Self::poster`].
    pub async fn poster_shape(
        &self,
        timeline: Timeline,
        recording: RecordingId,
        class: Class,
    ) -> Result<(Located, (u32, u32)), ThumbError> {
        let (picture, located) = self.poster(timeline, recording, PROBE, class).await?;
        Ok((located, shape_of(&picture.body)?))
    }
}

fn shape_of(jpeg: &[u8]) -> Result<(u32, u32), ThumbError> {
    let no_frame = || ThumbError::Fault(Fault::new(FaultKind::Internal, "the picture has no frame header"));
    frame_size(jpeg).ok_or_else(no_frame)
}

/// Width and height from the frame header of a baseline JPEG (ITU-T T.81, B.2.2).
fn frame_size(jpeg: &[u8]) -> Option<(u32, u32)> {
    let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let [0xff, marker, high, low, ..] = *rest else { return None };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let segment = rest.get(4..len + 2)?;
        if marker == 0xc0 {
            let [_, h1, h0, w1, w0, ..] = *segment else { return None };
            let side = |high, low| Some(u32::from(u16::from_be_bytes([high, low]))).filter(|side| *side > 0);
            return side(w1, w0).zip(side(h1, h0));
        }
        rest = rest.get(len + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_frame_headers() {
        let head = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x0b\x08\0\x90\x01\0\x01\x01\x11\0";
        assert_eq!(frame_size(head), Some((256, 144)));
        for len in 0..17 {
            assert_eq!(frame_size(&head[..len]), None, "{len} bytes");
        }
        assert_eq!(frame_size(b"\xff\xd8\xff\xd9"), None);
        assert_eq!(frame_size(b"\xff\xd8\xff\xe0\0\0\xff\xe0\0\0"), None);
    }
}
