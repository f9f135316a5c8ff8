//! One keyframe to one or more pictures. Never touches a file, a clock or a socket: packets in, picture bytes out.
//!
//! 1. decode once, without the loop filter where every rendition is much smaller than the picture ([`crate::frame`]);
//! 2. for each rendition: its size ([`crate::geometry`]);
//! 3. the planes scaled as planes, straight to the sizes that the target's own planes have ([`crate::plane`]);
//! 4. range and matrix, on the small planes ([`crate::colour`]);
//! 5. set upright, the small planes again, and put in their frame where they are letterboxed;
//! 6. encoded from planes ([`crate::jpeg`], [`crate::webp`], [`crate::png`]).

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::DecoderConfig;
use stills_model::rendition::{Format, Rendition};
use stills_model::wire::Luma;

use crate::colour::{Colour, Model, Target, Transform, halved, halved_visible, unmultiply};
use crate::frame::{Decoder, Picture};
use crate::geometry::{Layout, Shape, framed, upright};
use crate::jpeg;
use crate::luma;
use crate::plane::{Component, Plane, Scaler};
use crate::{png, webp};

/// The loop filter is left out where the picture has at least this many times the pixels of the largest rendition:
/// at 3 times (1280x720 to 640x480) the structural similarity to the filtered picture is 0.995.
const SKIP_LOOP_FILTER_RATIO: usize = 2;

/// Packets beyond this are gradual refresh: each predicts from the last, and without the loop filter they drift apart.
const SKIP_LOOP_FILTER_PACKETS_MAX: usize = 2;

/// Black, as a JPEG holds it.
const BLACK: [u8; 3] = [0, 128, 128];

/// A picture to make renditions of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) shape: Shape,
    pub(crate) colour: Colour,
    /// One of grey, or three.
    pub(crate) components: &'a [Component<'a>],
    /// How opaque it is; red, green and blue are then multiplied with it, which is how they look on black.
    pub(crate) alpha: Option<Component<'a>>,
}

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
        self.show_source(&Source { shape, colour, components: &components, alpha: None }, renditions)
    }

    /// The same of a picture that came from anywhere.
    pub(crate) fn show_source(&mut self, source: &Source<'_>, renditions: &[Rendition]) -> Result<Shown, Fault> {
        let mut shown = Shown { pictures: Vec::new(), luma: Luma::default() };
        for (n, rendition) in renditions.iter().enumerate() {
            let (bytes, luma) = self.make(source, rendition)?;
            shown.pictures.push(bytes);
            if n == 0 {
                shown.luma = luma;
            }
        }
        Ok(shown)
    }

    fn make(&mut self, source: &Source<'_>, rendition: &Rendition) -> Result<(Vec<u8>, Luma), Fault> {
        if rendition.format != Format::Png && !(1..=100).contains(&rendition.quality) {
            let detail = format!("a picture of quality {} was asked for; it is 1 to 100", rendition.quality);
            return Err(Fault::new(FaultKind::Internal, detail));
        }
        let Source { shape, colour, components, .. } = *source;
        let layout = shape.layout(rendition)?;
        let size = shape.unturned(layout.size);
        let turn = |planes: [Plane; 3]| planes.map(|plane| upright(plane, shape.orientation));
        match rendition.format {
            Format::Jpeg => {
                let planes = turn(self.yuv_planes(colour, components, size, Target::Jpeg, None)?);
                let luma = luma::of_luma(&planes[0]);
                let encoder = match &mut self.encoder {
                    Some(encoder) => encoder,
                    none => none.insert(jpeg::Encoder::new()?),
                };
                Ok((encoder.encode(&framed_yuv(planes, &layout, Some(BLACK)), rendition.quality)?, luma))
            }
            Format::WebP => {
                let alpha = match &source.alpha {
                    Some(alpha) => Some(self.scaler.scale(alpha, size.0, size.1)?),
                    None => None,
                };
                let planes = turn(self.yuv_planes(colour, components, size, Target::WebP, alpha.as_ref())?);
                let luma = luma::of_limited_luma(&planes[0]);
                let alpha = alpha.map(|alpha| upright(alpha, shape.orientation));
                let opaque = || Plane::filled(layout.size.0, layout.size.1, u8::MAX);
                let alpha = alpha.or_else(|| layout.is_padded().then(opaque));
                let alpha = alpha.map(|alpha| framed(alpha, &layout, Some(0)));
                // What is transparent has the colour beside it: the cheapest to code, and none bleeds in.
                let planes = framed_yuv(planes, &layout, None);
                Ok((webp::encode(&planes, alpha.as_ref(), rendition.quality)?, luma))
            }
            Format::Png => {
                let planes = turn(self.rgb_planes(colour, components, size)?);
                let luma = luma::of_rgb(&planes);
                Ok((png::encode(&planes.map(|plane| framed(plane, &layout, Some(0))))?, luma))
            }
        }
    }

    /// BT.601 4:2:0 at `width` x `height`, in the range that `target` has. With `alpha`, of the same size, the components
    /// are multiplied with it, and the result is not.
    fn yuv_planes(
        &mut self,
        colour: Colour,
        components: &[Component<'_>],
        (width, height): (usize, usize),
        target: Target,
        alpha: Option<&Plane>,
    ) -> Result<[Plane; 3], Fault> {
        let half = (width.div_ceil(2), height.div_ceil(2));
        let transform = Transform::new(colour, target);
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
                if let Some(alpha) = alpha {
                    unmultiply(&mut planes, alpha);
                }
                transform.apply_full(&mut planes);
                let [luma, u, v] = planes;
                Ok(match alpha {
                    Some(alpha) => [luma, halved_visible(&u, alpha), halved_visible(&v, alpha)],
                    None => [luma, halved(&u), halved(&v)],
                })
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
        Transform::new(colour, Target::Rgb).apply_full(&mut planes);
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

/// The planes of 4:2:0 in their frame; around them `fill`, or what is nearest.
fn framed_yuv([luma, u, v]: [Plane; 3], layout: &Layout, fill: Option<[u8; 3]>) -> [Plane; 3] {
    let (half, fill) = (layout.halved(), |index: usize| fill.map(|fill| fill[index]));
    [framed(luma, layout, fill(0)), framed(u, &half, fill(1)), framed(v, &half, fill(2))]
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
