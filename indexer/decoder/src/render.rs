//! One keyframe to one or more pictures. Never touches a file, a clock or a socket: packets in, picture bytes out.
//!
//! 1. decode once, without the loop filter where every rendition is much smaller than the picture ([`crate::frame`]);
//! 2. for each rendition: its size ([`crate::geometry`]);
//! 3. the planes scaled as planes, straight to the sizes that the target's own planes have ([`crate::plane`]);
//! 4. range and matrix, on the small planes ([`crate::colour`]);
//! 5. set upright, the small planes again;
//! 6. encoded from planes ([`crate::jpeg`], [`crate::png`]).

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::DecoderConfig;
use stills_model::rendition::{Format, Rendition};
use stills_model::wire::Luma;

use crate::colour::{Colour, Model, Transform, halved};
use crate::frame::{Decoder, Picture};
use crate::geometry::{Shape, upright};
use crate::jpeg;
use crate::luma;
use crate::plane::{Component, Plane, Scaler};
use crate::png;

/// The loop filter is left out where the picture has at least this many times the pixels of the largest rendition:
/// at 3 times (1280x720 to 640x480) the structural similarity to the filtered picture is 0.995.
const SKIP_LOOP_FILTER_RATIO: usize = 2;

/// Packets beyond this are gradual refresh: each predicts from the last, and without the loop filter they drift apart.
const SKIP_LOOP_FILTER_PACKETS_MAX: usize = 2;

/// Renders keyframes. Keeps the decoder of the last configuration and the scaling buffers: the next is cheaper.
#[derive(Default)]
pub struct Renderer {
    decoder: Option<Decoder>,
    scaler: Scaler,
    encoder: Option<jpeg::Encoder>,
}

/// A keyframe's pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// In the order of the renditions asked for.
    pub pictures: Vec<Vec<u8>>,
    /// Of the first picture; of none, nothing.
    pub luma: Luma,
}

impl Renderer {
    /// A renderer with nothing open yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes the keyframe in `packets` once and makes each rendition of it, in their order.
    ///
    /// # Errors
    /// [`FaultKind::Unsupported`] for a codec or pixel format that is not decoded here, [`FaultKind::Damaged`] for
    /// packets that give no picture, [`FaultKind::TooLarge`] for a picture or a rendition over its limits,
    /// [`FaultKind::Internal`] for a rendition that cannot be (a JPEG of quality 0).
    pub fn render(
        &mut self,
        config: &DecoderConfig,
        packets: &[impl AsRef<[u8]>],
        renditions: &[Rendition],
    ) -> Result<Shown, Fault> {
        let mut decoder = match self.decoder.take() {
            Some(decoder) if decoder.is_for(config) => decoder,
            _ => Decoder::open(config)?,
        };
        let skip = may_skip_loop_filter(decoder.size(), packets.len(), renditions);
        let picture = decoder.decode(packets, skip)?;
        // A decoder that failed is not kept: what it holds is unknown.
        self.decoder = Some(decoder);
        self.show(&picture, config, renditions)
    }

    /// Makes each rendition of a decoded picture, in their order.
    pub(crate) fn show(
        &mut self,
        picture: &Picture,
        config: &DecoderConfig,
        renditions: &[Rendition],
    ) -> Result<Shown, Fault> {
        let shape = shape(picture, config);
        let (colour, components) = picture.components()?;
        let mut shown = Shown { pictures: Vec::new(), luma: Luma::default() };
        for (n, rendition) in renditions.iter().enumerate() {
            let (bytes, luma) = self.make(&shape, colour, &components, rendition)?;
            shown.pictures.push(bytes);
            if n == 0 {
                shown.luma = luma;
            }
        }
        Ok(shown)
    }

    fn make(
        &mut self,
        shape: &Shape,
        colour: Colour,
        components: &[Component<'_>],
        rendition: &Rendition,
    ) -> Result<(Vec<u8>, Luma), Fault> {
        let size = shape.unturned(shape.target(rendition)?);
        let turn = |planes: [Plane; 3]| planes.map(|plane| upright(plane, shape.orientation));
        match rendition.format {
            Format::Jpeg if !(1..=100).contains(&rendition.quality) => {
                let detail = format!("a JPEG of quality {} was asked for; it is 1 to 100", rendition.quality);
                Err(Fault::new(FaultKind::Internal, detail))
            }
            Format::Jpeg => {
                let planes = turn(self.jpeg_planes(colour, components, size)?);
                let encoder = match &mut self.encoder {
                    Some(encoder) => encoder,
                    none => none.insert(jpeg::Encoder::new()?),
                };
                Ok((encoder.encode(&planes, rendition.quality)?, luma::of_luma(&planes[0])))
            }
            Format::Png => {
                let planes = turn(self.rgb_planes(colour, components, size)?);
                Ok((png::encode(&planes)?, luma::of_rgb(&planes)))
            }
        }
    }

    /// Full-range BT.601 4:2:0 at `width` x `height`.
    fn jpeg_planes(
        &mut self,
        colour: Colour,
        components: &[Component<'_>],
        (width, height): (usize, usize),
    ) -> Result<[Plane; 3], Fault> {
        let half = (width.div_ceil(2), height.div_ceil(2));
        let transform = Transform::new(colour, true);
        match (colour.model, components) {
            (Model::Yuv, [luma, u, v]) => {
                let mut planes = [
                    self.scaler.scale(luma, width, height)?,
                    self.scaler.scale(u, half.0, half.1)?,
                    self.scaler.scale(v, half.0, half.1)?,
                ];
                transform.apply_halved(&mut planes);
                Ok(planes)
            }
            (Model::Rgb, [_, _, _]) => {
                let mut planes = self.full_planes(components, (width, height))?;
                transform.apply_full(&mut planes);
                let [luma, u, v] = planes;
                Ok([luma, halved(&u), halved(&v)])
            }
            (_, [grey, ..]) => {
                let mut luma = self.scaler.scale(grey, width, height)?;
                transform.apply_luma(&mut luma);
                let blank = Plane::filled(half.0, half.1, 128);
                Ok([luma, blank.clone(), blank])
            }
            (_, []) => Err(Fault::new(FaultKind::Internal, "a picture without components")),
        }
    }

    /// Red, green and blue at `size`.
    fn rgb_planes(
        &mut self,
        colour: Colour,
        components: &[Component<'_>],
        size: (usize, usize),
    ) -> Result<[Plane; 3], Fault> {
        let mut planes = self.full_planes(components, size)?;
        Transform::new(colour, false).apply_full(&mut planes);
        Ok(planes)
    }

    /// Three components at one size; those that grey does not have are blank.
    fn full_planes(
        &mut self,
        components: &[Component<'_>],
        (width, height): (usize, usize),
    ) -> Result<[Plane; 3], Fault> {
        let mut scaled = |index: usize| match components.get(index) {
            Some(component) => self.scaler.scale(component, width, height),
            None => Ok(Plane::filled(width, height, 128)),
        };
        Ok([scaled(0)?, scaled(1)?, scaled(2)?])
    }
}

/// The container's demands count before the bitstream's.
fn shape(picture: &Picture, config: &DecoderConfig) -> Shape {
    let sample_aspect = match config.sample_aspect {
        (0, _) | (_, 0) => picture.sample_aspect(),
        demanded => demanded,
    };
    Shape { size: picture.size(), sample_aspect, orientation: config.orientation }
}

fn may_skip_loop_filter((width, height): (usize, usize), packets: usize, renditions: &[Rendition]) -> bool {
    let largest = renditions.iter().map(|rendition| match (rendition.width, rendition.height) {
        (0, 0) => usize::MAX,
        // The other side follows from the picture's shape; twice the given one is more than common shapes need.
        (0, side) | (side, 0) => usize::from(side) * usize::from(side) * 2,
        (width, height) => usize::from(width) * usize::from(height),
    });
    let largest = largest.max().unwrap_or(usize::MAX);
    packets <= SKIP_LOOP_FILTER_PACKETS_MAX && width * height >= largest.saturating_mul(SKIP_LOOP_FILTER_RATIO)
}
