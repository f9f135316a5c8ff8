//! Planes and their scaling: from a component as the decoder left it (any stride, spacing and depth) straight to
//! 8-bit samples of the wanted size. Knows nothing of colour.
//!
//! Two steps. Whole blocks of samples are averaged while the rows are read once (at 1080p this is what keeps scaling
//! under a millisecond); the convolution then covers the rest, at least a halving, so that the result is the filter's.

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
    row: Vec<u8>,
}

/// Most samples averaged along one side: 16 x 16 x 255 still fits 16 bits.
const BLOCK_MAX: usize = 16;

impl Scaler {
    /// The component at `width` x `height` samples.
    pub(crate) fn scale(&mut self, source: &Component<'_>, width: usize, height: usize) -> Result<Plane, Fault> {
        let block = (block_side(source.width, width), block_side(source.height, height));
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

    /// Averages blocks of samples into `self.reduced`.
    fn reduce(&mut self, source: &Component<'_>, (across, down): (usize, usize)) {
        let width = source.width.div_ceil(across);
        self.reduced.clear();
        self.reduced.reserve(width * source.height.div_ceil(down));
        self.sums.resize(source.width, 0);
        for top in (0..source.height).step_by(down) {
            let rows = down.min(source.height - top);
            if across == 1 && rows == 1 {
                self.reduced.extend_from_slice(source.row(top, &mut self.row));
                continue;
            }
            self.sums.fill(0);
            for y in top..top + rows {
                for (sum, &sample) in self.sums.iter_mut().zip(source.row(y, &mut self.row)) {
                    *sum += u16::from(sample);
                }
            }
            match across {
                1 => average::<1>(&self.sums, rows, &mut self.reduced),
                2 => average::<2>(&self.sums, rows, &mut self.reduced),
                3 => average::<3>(&self.sums, rows, &mut self.reduced),
                4 => average::<4>(&self.sums, rows, &mut self.reduced),
                _ => {
                    let blocks = self.sums.chunks(across);
                    self.reduced.extend(blocks.map(|block| mean(block, reciprocal(block.len() * rows))));
                }
            }
        }
    }
}

/// Averages `N` column sums of `rows` rows each at a time.
fn average<const N: usize>(sums: &[u16], rows: usize, out: &mut Vec<u8>) {
    let (blocks, rest) = sums.as_chunks::<N>();
    let whole = reciprocal(N * rows);
    out.extend(blocks.iter().map(|block| mean(block, whole)));
    if !rest.is_empty() {
        out.push(mean(rest, reciprocal(rest.len() * rows)));
    }
}

/// 1 / `count` in 16 binary places.
fn reciprocal(count: usize) -> u32 {
    65_536 / u32::try_from(count.max(1)).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "a mean of bytes is a byte")]
fn mean(block: &[u16], reciprocal: u32) -> u8 {
    let sum: u32 = block.iter().map(|&sum| u32::from(sum)).sum();
    // 65,536 / count is rounded down, by less than 1/256 of itself: half a unit more keeps white white.
    ((sum * reciprocal + 0x8000) >> 16) as u8
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

/// How many samples are averaged before the convolution: so many that it still has to halve.
fn block_side(source: usize, target: usize) -> usize {
    (source / target.max(1) / 2).clamp(1, BLOCK_MAX)
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
