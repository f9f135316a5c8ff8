//! Sizes and turns: what size a rendition of a picture has, how small planes are set upright, and put in a frame.

use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::Orientation;
use stills_model::rendition::{Fit, Rendition};

use crate::plane::Plane;

/// Longest side of what is made, in pixels.
const SIDE_MAX: u64 = 8192;

/// The shape of a decoded picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Samples across and down, as coded.
    pub(crate) size: (usize, usize),
    /// Width to height of one sample; (0, 0) or nonsense is square.
    pub(crate) sample_aspect: (u32, u32),
    /// How it is set upright.
    pub(crate) orientation: Orientation,
}

/// Where the picture lies in what is made of it, in pixels, upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of what is made.
    pub(crate) canvas: (usize, usize),
    /// Of the picture in it.
    pub(crate) size: (usize, usize),
    /// The picture's left upper corner; even, as a chroma sample stands for two pixels each way.
    pub(crate) at: (usize, usize),
}

impl Layout {
    /// Whether something of the canvas is not picture.
    pub(crate) fn is_padded(&self) -> bool {
        self.canvas != self.size
    }

    /// The same for a plane of half the size.
    pub(crate) fn halved(&self) -> Self {
        let half = |(width, height): (usize, usize)| (width.div_ceil(2), height.div_ceil(2));
        Self { canvas: half(self.canvas), size: half(self.size), at: half(self.at) }
    }
}

impl Shape {
    /// Where the picture lies in `rendition`.
    pub(crate) fn layout(&self, rendition: &Rendition) -> Result<Layout, Fault> {
        let canvas = self.target(rendition)?;
        if rendition.fit != Fit::Letterbox {
            return Ok(Layout { canvas, size: canvas, at: (0, 0) });
        }
        let (width, height) = self.inside((canvas.0 as u64, canvas.1 as u64));
        let (across, down) = (padded(width, canvas.0), padded(height, canvas.1));
        Ok(Layout { canvas, size: (across.0, down.0), at: (across.1, down.1) })
    }

    /// Width and height of `rendition` in pixels, upright.
    fn target(&self, rendition: &Rendition) -> Result<(usize, usize), Fault> {
        let asked = (u64::from(rendition.width), u64::from(rendition.height));
        let (width, height) = match (rendition.fit, asked) {
            (Fit::Stretch | Fit::Letterbox, size) => size,
            (Fit::Inside, (0, 0)) => self.display(),
            (Fit::Inside, (width, 0)) => (width, self.height_for(width)),
            (Fit::Inside, (0, height)) => (self.width_for(height), height),
            (Fit::Inside, size) => self.inside(size),
        };
        let limits = 1..=SIDE_MAX;
        if limits.contains(&width) && limits.contains(&height) {
            return Ok((usize::try_from(width).unwrap_or(0), usize::try_from(height).unwrap_or(0)));
        }
        let detail = format!("a picture of {width}x{height} pixels was asked for; a side is 1 to {SIDE_MAX}");
        Err(Fault::new(FaultKind::TooLarge, detail))
    }

    /// The largest size of its own shape inside a box.
    fn inside(&self, (width, height): (u64, u64)) -> (u64, u64) {
        match self.height_for(width) {
            fitting if fitting <= height => (width, fitting),
            _ => (self.width_for(height).min(width), height),
        }
    }

    /// The same before it is turned: what the planes are scaled to.
    pub(crate) fn unturned(&self, (width, height): (usize, usize)) -> (usize, usize) {
        if self.is_turned() { (height, width) } else { (width, height) }
    }

    fn is_turned(&self) -> bool {
        self.orientation.quarter_turns % 2 == 1
    }

    /// The size that shows it in its shape with square pixels, losing none: the longer side of a sample is stretched.
    fn display(&self) -> (u64, u64) {
        let (width, height) = (self.size.0 as u64, self.size.1 as u64);
        let (across, down) = match self.sample_aspect {
            (0, _) | (_, 0) => (1, 1),
            (across, down) => (u64::from(across), u64::from(down)),
        };
        let (width, height) = if across >= down {
            (rounded(width * across, down), height)
        } else {
            (width, rounded(height * down, across))
        };
        if self.is_turned() { (height, width) } else { (width, height) }
    }

    fn height_for(&self, width: u64) -> u64 {
        let (shape_width, shape_height) = self.display();
        rounded(width * shape_height, shape_width)
    }

    fn width_for(&self, height: u64) -> u64 {
        let (shape_width, shape_height) = self.display();
        rounded(height * shape_width, shape_height)
    }
}

/// A side of the picture and where it begins on the canvas: whole chroma samples wherever there is padding, so that none
/// colours what is to be black.
fn padded(side: u64, canvas: usize) -> (usize, usize) {
    let side = usize::try_from(side).unwrap_or(canvas);
    if side >= canvas {
        return (canvas, 0);
    }
    let side = side.next_multiple_of(2).min(canvas);
    (side, (canvas - side) / 4 * 2)
}

/// `value / by`, to the nearest, at least 1.
fn rounded(value: u64, by: u64) -> u64 {
    ((value + by / 2) / by.max(1)).max(1)
}

/// The plane set upright: mirrored left to right first, then turned clockwise.
pub(crate) fn upright(plane: Plane, orientation: Orientation) -> Plane {
    let mut plane = plane;
    if orientation.mirrored {
        plane.samples.chunks_exact_mut(plane.width).for_each(<[u8]>::reverse);
    }
    match orientation.quarter_turns % 4 {
        0 => plane,
        2 => {
            plane.samples.reverse();
            plane
        }
        turns => {
            let (width, height) = (plane.width, plane.height);
            let mut samples = Vec::with_capacity(width * height);
            for x in 0..width {
                let column = plane.samples[if turns == 1 { x } else { width - 1 - x }..].iter().step_by(width);
                if turns == 1 {
                    samples.extend(column.rev());
                } else {
                    samples.extend(column);
                }
            }
            Plane { width: height, height: width, samples }
        }
    }
}

/// The plane on its canvas; `fill` around it, or the nearest sample where there is none.
pub(crate) fn framed(plane: Plane, layout: &Layout, fill: Option<u8>) -> Plane {
    if !layout.is_padded() {
        return plane;
    }
    let ((width, height), (left, top)) = (layout.canvas, layout.at);
    let mut samples = Vec::with_capacity(width * height);
    for y in 0..height {
        let row = y.checked_sub(top).filter(|row| *row < plane.height);
        let nearest = row.unwrap_or(if y < top { 0 } else { plane.height - 1 });
        match (row, fill) {
            (None, Some(fill)) => samples.resize(samples.len() + width, fill),
            _ => {
                let row = &plane.samples[nearest * plane.width..][..plane.width];
                samples.resize(samples.len() + left, fill.unwrap_or(row[0]));
                samples.extend_from_slice(row);
                samples.resize((y + 1) * width, fill.unwrap_or(row[plane.width - 1]));
            }
        }
    }
    Plane { width, height, samples }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stills_model::rendition::Format;

    #[test]
    fn sizes() {
        let check = |size, sample_aspect, quarter_turns, fit, asked: (u16, u16), expected| {
            let orientation = Orientation { quarter_turns, mirrored: false };
            let (width, height) = asked;
            let rendition = Rendition { width, height, fit, format: Format::Jpeg, quality: 80 };
            let got = Shape { size, sample_aspect, orientation }.layout(&rendition).map(|layout| layout.canvas).ok();
            assert_eq!(got, expected, "{size:?} {sample_aspect:?} turned {quarter_turns} for {asked:?}, {fit:?}");
        };
        let (stretch, inside) = (Fit::Stretch, Fit::Inside);
        check((1920, 1080), (0, 0), 0, stretch, (320, 240), Some((320, 240)));
        check((1920, 1080), (0, 0), 1, stretch, (320, 240), Some((320, 240)));
        check((1920, 1080), (0, 0), 0, stretch, (0, 240), None);
        check((1920, 1080), (1, 1), 0, inside, (640, 0), Some((640, 360)));
        check((1920, 1080), (1, 1), 3, inside, (640, 0), Some((640, 1138)));
        check((1920, 1080), (1, 1), 0, inside, (320, 240), Some((320, 180)));
        check((1080, 1920), (1, 1), 0, inside, (320, 240), Some((135, 240)));
        check((1920, 1080), (1, 1), 0, inside, (0, 0), Some((1920, 1080)));
        check((1920, 1080), (1, 1), 1, inside, (0, 0), Some((1080, 1920)));
        check((720, 576), (64, 45), 0, inside, (0, 0), Some((1024, 576)));
        check((720, 576), (64, 45), 0, inside, (0, 288), Some((512, 288)));
        check((720, 480), (8, 9), 0, inside, (0, 0), Some((720, 540)));
        check((2, 2), (u32::MAX, 1), 0, inside, (640, 0), Some((640, 1)));
        check((2, 2), (1, u32::MAX), 0, inside, (640, 0), None);
        check((4000, 1), (0, 0), 0, inside, (16, 16), Some((16, 1)));
    }

    #[test]
    fn letterboxes() {
        let check = |size, quarter_turns, (width, height): (u16, u16), expected: Option<[usize; 4]>| {
            let orientation = Orientation { quarter_turns, mirrored: false };
            let rendition = Rendition { width, height, fit: Fit::Letterbox, format: Format::Jpeg, quality: 80 };
            let got = Shape { size, sample_aspect: (0, 0), orientation }.layout(&rendition).ok();
            if let Some(layout) = &got {
                assert_eq!(layout.canvas, (usize::from(width), usize::from(height)));
                assert!(
                    layout.at.0 + layout.size.0 <= layout.canvas.0 && layout.at.1 + layout.size.1 <= layout.canvas.1
                );
            }
            let got = got.map(|Layout { size, at, .. }| [at.0, at.1, size.0, size.1]);
            assert_eq!(got, expected, "{size:?} turned {quarter_turns} in {width}x{height}");
        };
        check((1920, 1080), 0, (320, 180), Some([0, 0, 320, 180]));
        check((1920, 1080), 0, (320, 240), Some([0, 30, 320, 180]));
        check((1920, 1080), 1, (320, 240), Some([92, 0, 136, 240]));
        check((640, 480), 0, (160, 90), Some([20, 0, 120, 90]));
        check((640, 480), 0, (161, 91), Some([18, 0, 122, 91]));
        check((4000, 1), 0, (16, 16), Some([0, 6, 16, 2]));
        check((4000, 1), 0, (1, 1), Some([0, 0, 1, 1]));
        check((1, 4000), 0, (3, 3), Some([0, 0, 2, 3]));
        check((640, 480), 0, (160, 0), None);
    }

    #[test]
    fn frames() {
        let layout = Layout { canvas: (5, 4), size: (2, 2), at: (2, 0) };
        let check = |fill, expected: &[u8]| {
            let plane = Plane { width: 2, height: 2, samples: b"abcd".to_vec() };
            assert_eq!(framed(plane, &layout, fill).samples, expected, "{fill:?}");
        };
        check(Some(b'.'), b"..ab...cd...........");
        check(None, b"aaabbcccddcccddcccdd");
    }

    #[test]
    fn turns() {
        let plane = || Plane { width: 3, height: 2, samples: b"abcdef".to_vec() };
        let check = |quarter_turns, mirrored, width, expected: &[u8]| {
            let turned = upright(plane(), Orientation { quarter_turns, mirrored });
            assert_eq!((turned.width, &*turned.samples), (width, expected), "{quarter_turns} {mirrored}");
        };
        check(0, false, 3, b"abcdef");
        check(1, false, 2, b"daebfc");
        check(2, false, 3, b"fedcba");
        check(3, false, 2, b"cfbead");
        check(0, true, 3, b"cbafed");
        check(1, true, 2, b"fcebda");
    }
}
