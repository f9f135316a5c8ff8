//! What a picture's numbers mean as colours, and how they become what a JPEG, a WebP or a PNG holds.
//!
//! Works on pictures that are scaled already, in fixed point: one linear step from the source's own code
//! values to the target's, never through a rounded middle. Transfer curves and primaries are left as they are, as
//! browsers do with untagged pictures: HDR footage looks flat, not wrong.

use crate::plane::Plane;

/// What the components are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    /// Luma alone.
    Grey,
    /// Luma and two differences.
    Yuv,
    /// Red, green, blue.
    Rgb,
}

/// How the components of a picture are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colour {
    pub(crate) model: Model,
    /// 0 to 255, else 16 to 235 (differences 16 to 240). RGB is always taken as full, as swscale does.
    pub(crate) full_range: bool,
    pub(crate) matrix: Matrix,
}

/// The standard by which luma and differences are made from RGB (ITU-T H.273, `MatrixCoefficients`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matrix {
    Bt601,
    Bt709,
    Bt2020,
    Smpte240,
    Fcc,
    YCgCo,
}

impl Matrix {
    /// From the code point of H.273. A picture that does not say is taken as players take it (mpv's rule): BT.709 from
    /// 1280 across or more than 576 lines, else BT.601. Cameras that do not tag HD are BT.709 by their data sheets.
    pub(crate) fn from_code(code: i32, (width, height): (usize, usize)) -> Self {
        match code {
            1 => Self::Bt709,
            4 => Self::Fcc,
            5 | 6 => Self::Bt601,
            7 => Self::Smpte240,
            8 => Self::YCgCo,
            9 | 10 => Self::Bt2020,
            _ if width >= 1280 || height > 576 => Self::Bt709,
            _ => Self::Bt601,
        }
    }

    /// Rows R, G, B over columns Y, U, V; differences in units of ±0.5.
    fn to_rgb(self) -> [[f64; 3]; 3] {
        let (red, blue) = match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
            Self::Smpte240 => (0.212, 0.087),
            Self::Fcc => (0.30, 0.11),
            Self::YCgCo => return [[1.0, -1.0, 1.0], [1.0, 1.0, 0.0], [1.0, -1.0, -1.0]],
        };
        let green = 1.0 - red - blue;
        let (r, b) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
        [[1.0, 0.0, r], [1.0, -b * blue / green, -r * red / green], [1.0, b, 0.0]]
    }
}

/// What the numbers are to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Full-range BT.601.
    Jpeg,
    /// Limited-range BT.601.
    WebP,
    /// Red, green and blue.
    Rgb,
}

/// Rows Y, U, V over columns R, G, B: BT.601, the only one that readers of JPEG and WebP know.
const YUV_FROM_RGB: [[f64; 3]; 3] =
    [[0.299, 0.587, 0.114], [-0.168_736, -0.331_264, 0.5], [0.5, -0.418_688, -0.081_312]];

/// A linear map of three code values to three others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transform {
    /// Rows of three factors, times 8192: as large as still fits 16 bits, so that products are made eight at once.
    rows: [[i16; 3]; 3],
    /// What is added to each row, with one half for rounding, times 8192.
    offsets: [i32; 3],
}

/// Binary places of factors and offsets.
const PLACES: u32 = 13;

const IDENTITY: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

impl Transform {
    /// From `colour` to `target`.
    pub(crate) fn new(colour: Colour, target: Target) -> Self {
        let to_yuv = target != Target::Rgb;
        let rgb = if colour.model == Model::Rgb { IDENTITY } else { colour.matrix.to_rgb() };
        // Grey has no differences, and a matrix by BT.601 is left alone: neither may pick up rounding.
        let same = to_yuv && colour.model != Model::Rgb && (colour.matrix == Matrix::Bt601);
        let linear = match (same, to_yuv) {
            (true, _) => IDENTITY,
            (false, true) => product(YUV_FROM_RGB, rgb),
            (false, false) => rgb,
        };
        let differences = colour.model != Model::Rgb;
        let (black, luma_gain, difference_gain) = if colour.full_range || colour.model == Model::Rgb {
            (0.0, 1.0, 1.0)
        } else {
            (16.0, 255.0 / 219.0, 255.0 / 224.0)
        };
        let gain = [luma_gain, difference_gain, difference_gain];
        let (to_black, to_gain) = match target {
            Target::Jpeg | Target::Rgb => (0.0, [1.0; 3]),
            Target::WebP => (16.0, [219.0 / 255.0, 224.0 / 255.0, 224.0 / 255.0]),
        };
        let zero = if differences { [black, 128.0, 128.0] } else { [0.0; 3] };
        let (mut rows, mut offsets) = ([[0; 3]; 3], [0; 3]);
        for (index, (row, factors)) in rows.iter_mut().zip(linear).enumerate() {
            let centre = if to_yuv && index > 0 { 128.0 } else { to_black };
            let mut offset = centre + 0.5;
            for column in 0..3 {
                let factor = factors[column] * gain[column] * to_gain[index];
                offset -= factor * zero[column];
                row[column] = i16::try_from(fixed(factor)).unwrap_or(i16::MAX);
            }
            offsets[index] = fixed(offset);
        }
        Self { rows, offsets }
    }

    /// Whether it changes nothing.
    fn is_identity(&self) -> bool {
        let one = 1 << PLACES;
        self.rows == [[one, 0, 0], [0, one, 0], [0, 0, one]] && self.offsets.iter().all(|offset| offset >> PLACES == 0)
    }

    /// Changes three planes of one size in place.
    pub(crate) fn apply_full(&self, [a, b, c]: &mut [Plane; 3]) {
        if self.is_identity() {
            return;
        }
        let samples = a.samples.iter_mut().zip(&mut b.samples).zip(&mut c.samples);
        for ((a, b), c) in samples {
            let [x, y, z] = [*a, *b, *c];
            let of = |row: usize| {
                let [p, q, r] = self.rows[row];
                byte(times(p, x) + times(q, y) + times(r, z) + self.offsets[row])
            };
            (*a, *b, *c) = (of(0), of(1), of(2));
        }
    }

    /// Changes a luma plane and its two half-size difference planes in place.
    ///
    /// Differences never depend on luma: grey stays grey under every matrix.
    pub(crate) fn apply_halved(&self, [luma, u, v]: &mut [Plane; 3]) {
        if self.is_identity() {
            return;
        }
        let [luma_row, u_row, v_row] = self.rows;
        if luma_row[1] == 0 && luma_row[2] == 0 {
            self.apply_luma(luma);
        } else {
            let pairs = u.samples.iter().zip(&v.samples);
            let shift: Vec<i32> =
                pairs.map(|(&u, &v)| times(luma_row[1], u) + times(luma_row[2], v) + self.offsets[0]).collect();
            shift_luma(luma, &shift, u.width, luma_row[0]);
        }
        for (u, v) in u.samples.iter_mut().zip(&mut v.samples) {
            let (from_u, from_v) = (*u, *v);
            *u = byte(times(u_row[1], from_u) + times(u_row[2], from_v) + self.offsets[1]);
            *v = byte(times(v_row[1], from_u) + times(v_row[2], from_v) + self.offsets[2]);
        }
    }

    /// Changes the luma of a picture without colour in place.
    pub(crate) fn apply_luma(&self, luma: &mut Plane) {
        let [gain, u, v] = self.rows[0];
        let offset = self.offsets[0] + times(u, 128) + times(v, 128);
        for sample in &mut luma.samples {
            *sample = byte(times(gain, *sample) + offset);
        }
    }
}

/// Takes the alpha that they were multiplied with off three planes: what is transparent is left black.
pub(crate) fn unmultiply(planes: &mut [Plane; 3], alpha: &Plane) {
    for plane in planes {
        for (sample, alpha) in plane.samples.iter_mut().zip(&alpha.samples) {
            let (value, alpha) = (u32::from(*sample), u32::from(*alpha));
            *sample = u8::try_from((value * 255 + alpha / 2) / alpha.max(1)).unwrap_or(u8::MAX);
        }
    }
}

/// A plane at half the size, the mean of each 2 x 2 samples weighted by how opaque they are: what cannot be seen does not
/// bleed into what can.
pub(crate) fn halved_visible(plane: &Plane, alpha: &Plane) -> Plane {
    let (width, height) = (plane.width.div_ceil(2), plane.height.div_ceil(2));
    let mut samples = Vec::with_capacity(width * height);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let rows = [2 * y, (2 * y + 1).min(plane.height - 1)];
        let columns = [2 * x, (2 * x + 1).min(plane.width - 1)];
        let (mut sum, mut weights, mut plain) = (0, 0, 0);
        for at in rows.into_iter().flat_map(|row| columns.map(|column| row * plane.width + column)) {
            let (sample, weight) = (u32::from(plane.samples[at]), u32::from(alpha.samples[at]));
            (sum, weights, plain) = (sum + sample * weight, weights + weight, plain + sample);
        }
        let mean = (sum + weights / 2).checked_div(weights).unwrap_or((plain + 2) / 4);
        samples.push(u8::try_from(mean).unwrap_or(u8::MAX));
    }
    Plane { width, height, samples }
}

/// Adds `shift`, a plane of half the size and `width`, to `gain` times the luma, as JPEG readers enlarge differences:
/// three parts of the nearer sample and one of the next, both ways. What they add for colour is so taken off exactly.
fn shift_luma(luma: &mut Plane, shift: &[i32], width: usize, gain: i16) {
    let last = shift.len() / width - 1;
    let (mut column, mut wide) = (vec![0; width + 2], vec![[0; 2]; width]);
    for (y, row) in luma.samples.chunks_exact_mut(luma.width).enumerate() {
        let (near, next) = (y / 2, if y % 2 == 0 { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(last) });
        let rows = shift[near * width..][..width].iter().zip(&shift[next * width..][..width]);
        for (column, (&near, &next)) in column[1..].iter_mut().zip(rows) {
            *column = (3 * near + next) >> 2;
        }
        column[0] = column[1];
        column[width + 1] = column[width];
        for (pair, around) in wide.iter_mut().zip(column.windows(3)) {
            *pair = [(3 * around[1] + around[0]) >> 2, (3 * around[1] + around[2]) >> 2];
        }
        for (sample, shift) in row.iter_mut().zip(wide.as_flattened()) {
            *sample = byte(times(gain, *sample) + shift);
        }
    }
}

/// A plane at half the size, the mean of each 2 x 2 samples (fewer at odd edges).
pub(crate) fn halved(plane: &Plane) -> Plane {
    let (width, height) = (plane.width.div_ceil(2), plane.height.div_ceil(2));
    let mut samples = Vec::with_capacity(width * height);
    for y in 0..height {
        let upper = &plane.samples[2 * y * plane.width..][..plane.width];
        let lower = &plane.samples[(2 * y + 1).min(plane.height - 1) * plane.width..][..plane.width];
        for (upper, lower) in upper.chunks(2).zip(lower.chunks(2)) {
            let sum = |pair: &[u8]| u16::from(pair[0]) + u16::from(pair[pair.len() - 1]);
            samples.push(u8::try_from((sum(upper) + sum(lower) + 2) / 4).unwrap_or(u8::MAX));
        }
    }
    Plane { width, height, samples }
}

fn product(a: [[f64; 3]; 3], b: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    a.map(|row| [0, 1, 2].map(|column| (0..3).map(|k| row[k] * b[k][column]).sum()))
}

#[expect(clippy::cast_possible_truncation, reason = "factors are below 3, offsets below 600")]
fn fixed(value: f64) -> i32 {
    (value * f64::from(1 << PLACES)).round() as i32
}

fn times(factor: i16, sample: u8) -> i32 {
    i32::from(factor) * i32::from(sample)
}

#[expect(clippy::cast_sign_loss, reason = "clamped to a byte")]
fn byte(value: i32) -> u8 {
    (value >> PLACES).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(colour: Colour, target: Target, from: [u8; 3]) -> [u8; 3] {
        let mut full = from.map(|value| Plane::filled(1, 1, value));
        Transform::new(colour, target).apply_full(&mut full);
        if target != Target::Rgb && colour.model == Model::Yuv {
            let mut halved = from.map(|value| Plane::filled(1, 1, value));
            Transform::new(colour, target).apply_halved(&mut halved);
            assert_eq!(full, halved, "both layouts agree on {from:?}");
        }
        full.map(|plane| plane.samples[0])
    }

    #[test]
    fn known_colours() {
        use Target::{Jpeg, Rgb, WebP};
        let check = |full_range, matrix, from, target, expected| {
            let colour = Colour { model: Model::Yuv, full_range, matrix };
            assert_eq!(map(colour, target, from), expected, "{colour:?} {from:?} to {target:?}");
        };
        check(false, Matrix::Bt601, [16, 128, 128], Jpeg, [0, 128, 128]);
        check(false, Matrix::Bt709, [235, 128, 128], Jpeg, [255, 128, 128]);
        check(false, Matrix::Bt2020, [126, 128, 128], Jpeg, [128, 128, 128]);
        check(true, Matrix::Bt601, [7, 99, 201], Jpeg, [7, 99, 201]);
        // Pure red, limited range, by each standard.
        check(false, Matrix::Bt709, [63, 102, 240], Rgb, [255, 1, 0]);
        check(false, Matrix::Bt601, [81, 90, 240], Rgb, [254, 0, 0]);
        check(false, Matrix::Bt709, [63, 102, 240], Jpeg, [77, 85, 255]);
        check(true, Matrix::YCgCo, [128, 128, 128], Rgb, [128, 128, 128]);
        // A WebP is limited range by BT.601: what is that already is left alone.
        check(false, Matrix::Bt601, [16, 99, 201], WebP, [16, 99, 201]);
        check(true, Matrix::Bt601, [0, 128, 128], WebP, [16, 128, 128]);
        check(true, Matrix::Bt601, [255, 0, 255], WebP, [235, 16, 240]);
        check(false, Matrix::Bt709, [63, 102, 240], WebP, [82, 90, 240]);
        let rgb = Colour { model: Model::Rgb, full_range: false, matrix: Matrix::Bt709 };
        assert_eq!(map(rgb, Jpeg, [255, 0, 0]), [76, 85, 255]);
        assert_eq!(map(rgb, Rgb, [1, 2, 3]), [1, 2, 3]);
        assert_eq!(map(rgb, WebP, [255, 0, 0]), [81, 90, 240]);
        assert_eq!(map(rgb, WebP, [255, 255, 255]), [235, 128, 128]);
    }

    #[test]
    fn untagged_pictures_are_read_by_their_size() {
        let check = |size, expected| assert_eq!(Matrix::from_code(2, size), expected, "{size:?}");
        check((720, 576), Matrix::Bt601);
        check((1280, 720), Matrix::Bt709);
        check((960, 720), Matrix::Bt709);
        check((640, 480), Matrix::Bt601);
        assert_eq!(Matrix::from_code(200, (640, 480)), Matrix::Bt601);
    }

    #[test]
    fn what_cannot_be_seen_colours_nothing() {
        let plane = |samples: &[u8]| Plane { width: 2, height: 2, samples: samples.to_vec() };
        let alpha = plane(&[255, 0, 0, 255]);
        assert_eq!(halved_visible(&plane(&[200, 9, 9, 100]), &alpha).samples, [150]);
        assert_eq!(halved_visible(&plane(&[10, 20, 30, 40]), &plane(&[0; 4])).samples, [25]);
        let mut planes = [plane(&[100, 0, 7, 255]), plane(&[50; 4]), plane(&[0; 4])];
        unmultiply(&mut planes, &plane(&[128, 0, 255, 255]));
        assert_eq!(planes[0].samples, [199, 0, 7, 255]);
    }

    #[test]
    fn halving_keeps_odd_edges() {
        let plane = Plane { width: 3, height: 3, samples: vec![10, 20, 30, 10, 20, 30, 50, 70, 90] };
        assert_eq!(halved(&plane), Plane { width: 2, height: 2, samples: vec![15, 30, 60, 90] });
    }
}
