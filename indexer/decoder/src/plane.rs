//! Planes and their scaling: from a component as the decoder left it (any stride, spacing and depth) straight to
//! 8-bit samples of the wanted size. Knows nothing of colour.
//!
//! Two steps. Whole blocks of samples are averaged while the rows are read once (at 1080p this is what keeps scaling
//! under a millisecond); the convolution then covers the rest, so that the result is still the filter's.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use stills_model::fault::{Fault, FaultKind};

/// One component (grey, Y, U, V, R, G or B) of a decoded picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Component<'a> {
    /// From the first row's first byte to the last row's last sample.
    pub(crate) bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    /// Bytes from one sample to the next.
    pub(crate) step: usize,
    /// Bytes before a row's first sample.
    pub(crate) offset: usize,
    /// Unused low bits of a sample.
    pub(crate) shift: u32,
    /// Bits of a sample, 8 to 16; more than 8 are two bytes, the low one first.
    pub(crate) depth: u32,
    /// Samples in a row, at least 1.
    pub(crate) width: usize,
    /// Rows, at least 1.
    pub(crate) height: usize,
}

/// 8-bit samples, row after row without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) samples: Vec<u8>,
}

impl Plane {
    /// A plane of one value.
    pub(crate) fn filled(width: usize, height: usize, value: u8) -> Self {
        Self { width, height, samples: vec![value; width * height] }
    }

    /// The rows, top first.
    pub(crate) fn rows(&self) -> std::slice::ChunksExact<'_, u8> {
        self.samples.chunks_exact(self.width)
    }
}

/// Scales components; keeps its buffers from one to the next.
#[derive(Default)]
pub(crate) struct Scaler {
    resizer: Resizer,
    reduced: Vec<u8>,
    sums: Vec<u16>,
    halves: Vec<u16>,
    row: Vec<u8>,
}

/// Most samples averaged along one side: 16 x 16 x 255 still fits 16 bits.
const BLOCK_MAX: usize = 16;

impl Scaler {
    /// The component at `width` x `height` samples.
    pub(crate) fn scale(&mut self, source: &Component<'_>, width: usize, height: usize) -> Result<Plane, Fault> {
        let block = (power_of_two(block_side(source.width, width)), block_side(source.height, height));
        let (reduced_width, reduced_height) = (source.width.div_ceil(block.0), source.height.div_ceil(block.1));
        self.reduce(source, block);
        let view = TypedImageRef::<U8>::from_buffer(pixels(reduced_width)?, pixels(reduced_height)?, &self.reduced)
            .map_err(|error| internal(&error))?;
        let mut plane = Plane::filled(width, height, 0);
        let mut target = TypedImage::<U8>::from_buffer(pixels(width)?, pixels(height)?, &mut plane.samples)
            .map_err(|error| internal(&error))?;
        // The last block of a row may be cut short: the filter must see the picture end inside it.
        let (right, bottom) = (exact(source.width)? / exact(block.0)?, exact(source.height)? / exact(block.1)?);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
            .crop(0.0, 0.0, right, bottom);
        self.resizer.resize_typed(&view, &mut target, &options).map_err(|error| internal(&error))?;
        Ok(plane)
    }

    /// Averages blocks of samples into `self.reduced`; `across` is a power of two.
    fn reduce(&mut self, source: &Component<'_>, (across, down): (usize, usize)) {
        let Self { reduced, sums, halves, row, .. } = self;
        reduced.clear();
        reduced.reserve(source.width.div_ceil(across) * source.height.div_ceil(down));
        for top in (0..source.height).step_by(down) {
            let rows = down.min(source.height - top);
            if across == 1 && rows == 1 {
                reduced.extend_from_slice(source.row(top, row));
                continue;
            }
            sums.clear();
            sums.extend(source.row(top, row).iter().map(|&sample| u16::from(sample)));
            for y in top + 1..top + rows {
                for (sum, &sample) in sums.iter_mut().zip(source.row(y, row)) {
                    *sum += u16::from(sample);
                }
            }
            for _ in 0..across.trailing_zeros() {
                add_pairs(sums, halves);
                std::mem::swap(sums, halves);
            }
            let (whole, cut) = sums.split_at(source.width / across);
            average(whole, across * rows, reduced);
            average(cut, source.width % across * rows, reduced);
        }
    }
}

/// The sums of neighbours; a last one without a neighbour stays.
fn add_pairs(sums: &[u16], pairs: &mut Vec<u16>) {
    let (whole, rest) = sums.as_chunks::<2>();
    pairs.clear();
    pairs.extend(whole.iter().map(|[left, right]| left + right));
    pairs.extend(rest);
}

/// Appends `sums` of `count` samples each, divided. In 16 bits, so that eight are done at once; exact where all samples
/// are equal (tested), so that white stays white.
#[expect(clippy::cast_possible_truncation, reason = "a mean of bytes is a byte")]
fn average(sums: &[u16], count: usize, out: &mut Vec<u8>) {
    let Some(reciprocal) = 65_536usize.checked_div(count) else { return };
    let (reciprocal, half) = (reciprocal as u32, (count / 2) as u16);
    if count == 1 {
        out.extend(sums.iter().map(|&sum| sum as u8));
    } else {
        out.extend(sums.iter().map(|&sum| ((u32::from(sum + half) * reciprocal) >> 16) as u8));
    }
}

impl Component<'_> {
    /// One row as 8-bit samples; `scratch` holds them where they are not that already.
    fn row<'a>(&'a self, y: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let row = self.bytes.get(y * self.stride + self.offset..).unwrap_or_default();
        if self.shift + self.depth <= 8 {
            if self.step == 1 {
                return row.get(..self.width).unwrap_or_default();
            }
            scratch.clear();
            scratch.extend(row.iter().step_by(self.step).take(self.width));
            return scratch;
        }
        let (shift, half, max) = (self.shift, 1 << self.depth >> 9, (1u32 << self.depth) - 1);
        let narrow = |low: u8, high: u8| {
            let sample = u32::from(u16::from_le_bytes([low, high])) >> shift & max;
            u8::try_from((sample + half) >> (self.depth - 8)).unwrap_or(u8::MAX)
        };
        scratch.clear();
        if self.step == 2 {
            scratch.extend(row.as_chunks::<2>().0.iter().take(self.width).map(|&[low, high]| narrow(low, high)));
        } else {
            scratch.extend(row.chunks(self.step).take(self.width).map(|sample| match *sample {
                [low, high, ..] => narrow(low, high),
                _ => 0,
            }));
        }
        scratch
    }
}

/// How many samples are averaged before the convolution, so that it still has to shrink by 1.5: with less left to it
/// its own shape no longer counts, with more it costs as much again.
fn block_side(source: usize, target: usize) -> usize {
    (2 * source / (3 * target.max(1))).clamp(1, BLOCK_MAX)
}

/// The greatest power of two not above `n`, which is at least 1.
fn power_of_two(n: usize) -> usize {
    1 << n.ilog2()
}

fn pixels(side: usize) -> Result<u32, Fault> {
    u32::try_from(side).map_err(|error| internal(&error))
}

fn exact(side: usize) -> Result<f64, Fault> {
    pixels(side).map(f64::from)
}

fn internal(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Internal, format!("a plane could not be scaled: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(bytes: &[u8], width: usize, height: usize) -> Component<'_> {
        Component { bytes, stride: width, step: 1, offset: 0, shift: 0, depth: 8, width, height }
    }

    #[test]
    fn one_value_stays_that_value() {
        let mut scaler = Scaler::default();
        for value in [0, 1, 16, 127, 235, 254, 255] {
            let bytes = vec![value; 67 * 45];
            let source = component(&bytes, 67, 45);
            for (across, down) in (0..5).flat_map(|n| (1..=BLOCK_MAX).map(move |down| (1 << n, down))) {
                scaler.reduce(&source, (across, down));
                let expected = vec![value; 67usize.div_ceil(across) * 45usize.div_ceil(down)];
                assert_eq!(scaler.reduced, expected, "{value} in blocks of {across}x{down}");
            }
            for (width, height) in [(1, 1), (3, 2), (20, 13), (67, 45), (200, 100)] {
                let plane = scaler.scale(&source, width, height).expect("a plane");
                assert_eq!(plane, Plane::filled(width, height, value));
            }
        }
    }

    #[test]
    fn blocks_are_means() {
        let bytes = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19];
        let mut scaler = Scaler::default();
        scaler.reduce(&component(&bytes, 5, 2), (2, 2));
        assert_eq!(scaler.reduced, [7, 11, 14]);
        scaler.reduce(&component(&bytes, 5, 2), (4, 1));
        assert_eq!(scaler.reduced, [4, 9, 14, 19]);
    }

    #[test]
    fn samples_of_every_layout() {
        let check = |bytes: &[u8], step, offset, shift, depth, expected: [u8; 2]| {
            let layout = Component { bytes, stride: bytes.len(), step, offset, shift, depth, width: 2, height: 1 };
            assert_eq!(layout.row(0, &mut Vec::new()), expected, "step {step}, shift {shift}, depth {depth}");
        };
        check(&[1, 2], 1, 0, 0, 8, [1, 2]);
        check(&[1, 2, 3, 4], 2, 1, 0, 8, [2, 4]); // the second of two interleaved
        check(&[1, 2, 3, 4, 5, 6], 3, 2, 0, 8, [3, 6]); // packed RGB
        check(&[0xff, 3, 0x02, 2], 2, 0, 0, 10, [255, 129]); // rounded, and never over white
        check(&[0x40, 0x40, 0x80, 0x80], 2, 0, 6, 10, [64, 129]); // ten bits at the top
        check(&[0, 0, 0x80, 0x40, 9, 9, 0, 0xff], 4, 2, 0, 16, [65, 255]);
        check(&[0xf0, 0x0f, 0x08, 0], 2, 0, 0, 12, [255, 1]);
    }
}
