//! What FFmpeg shows of a film, and how close a thumb comes to it.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::footage::read_clock;
use image::{DynamicImage, GrayImage, RgbImage};

/// The size that pictures are compared in.
pub(crate) const SIZE: (u32, u32) = (320, 240);

/// Least structural similarity of a thumb and FFmpeg's picture.
const SIMILAR_MIN: f64 = 0.98;

/// Most levels between the means of a patch of one colour.
const COLOUR_DIFFERENCE_MAX: f64 = 3.0;

/// A patch is a block that JPEG codes as one in colour too, so that nothing beside it rings into it.
const PATCH: u32 = 16;

/// Most levels between the samples of a patch of one colour.
const FLAT_MAX: u8 = 6;

/// Every picture of a film as FFmpeg presents it: scaled bicubically, set upright, by the instant that it shows.
pub(crate) struct Shown {
    pictures: BTreeMap<i64, RgbImage>,
}

impl Shown {
    /// Lets FFmpeg decode the whole file; keeps the pictures that `wanted` asks for by the milliseconds since the first.
    ///
    /// # Errors
    /// What FFmpeg says, or a film without a readable picture.
    pub(crate) fn of(file: &Path, wanted: impl Fn(i64) -> bool) -> io::Result<Self> {
        let (width, height) = SIZE;
        let scale = format!("scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int");
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "fatal", "-nostdin", "-i"]).arg(file).args(["-map", "0:v:0", "-vsync", "passthrough"]);
        command.args(["-vf", &scale, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let mut stdout = BufReader::with_capacity(1 << 20, stdout);
        let mut pictures = BTreeMap::new();
        let mut first = None;
        loop {
            let mut bytes = vec![0; (width * height * 3) as usize];
            match stdout.read_exact(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                read => read?,
            }
            let picture =
                RgbImage::from_raw(width, height, bytes).ok_or_else(|| io::Error::other("a short picture"))?;
            let luma = DynamicImage::ImageRgb8(picture.clone()).into_luma8();
            let Some(clock_ms) = read_clock(&luma) else { continue };
            let first = *first.get_or_insert(clock_ms);
            if clock_ms == first || wanted(clock_ms - first) {
                pictures.insert(clock_ms, picture);
            }
        }
        let status = child.wait()?;
        if pictures.is_empty() {
            return Err(io::Error::other(format!("FFmpeg shows no picture: {status}")));
        }
        Ok(Self { pictures })
    }

    /// The pictures of both.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.pictures.extend(other.pictures);
        self
    }

    /// The instant that the first presented picture shows.
    pub(crate) fn first_ms(&self) -> i64 {
        self.pictures.first_key_value().map_or(0, |(clock_ms, _)| *clock_ms)
    }

    /// Compares a thumb that shows `clock_ms`.
    ///
    /// # Errors
    /// What is different.
    pub(crate) fn compare(&self, clock_ms: i64, thumb: &RgbImage) -> Result<(), String> {
        let Some(picture) = self.pictures.get(&clock_ms) else {
            return Err("FFmpeg has no such picture".to_owned());
        };
        let luma = |of: &RgbImage| DynamicImage::ImageRgb8(of.clone()).into_luma8();
        let similar = similarity(&luma(picture), &luma(thumb));
        if similar < SIMILAR_MIN {
            return Err(format!("a structural similarity of {similar:.4} to FFmpeg's picture"));
        }
        let patches = patches(picture);
        if patches.is_empty() {
            return Err("FFmpeg's picture has no patch of one colour".to_owned());
        }
        for (x, y) in patches {
            let (theirs, ours) = (mean(picture, x, y), mean(thumb, x, y));
            let difference = theirs.iter().zip(&ours).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            if difference > COLOUR_DIFFERENCE_MAX {
                return Err(format!("the patch at {x},{y} is {ours:.1?} and FFmpeg's is {theirs:.1?}"));
            }
        }
        Ok(())
    }
}

/// The places of blocks of one colour.
fn patches(picture: &RgbImage) -> Vec<(u32, u32)> {
    let (width, height) = picture.dimensions();
    let places = (0..height / PATCH).flat_map(|y| (0..width / PATCH).map(move |x| (x * PATCH, y * PATCH)));
    let is_flat = |&(left, top): &(u32, u32)| {
        let (mut least, mut most) = ([u8::MAX; 3], [0; 3]);
        for (x, y) in block(left, top) {
            for (channel, value) in picture.get_pixel(x, y).0.into_iter().enumerate() {
                least[channel] = least[channel].min(value);
                most[channel] = most[channel].max(value);
            }
        }
        least.iter().zip(most).all(|(least, most)| most - least <= FLAT_MAX)
    };
    places.filter(is_flat).collect()
}

fn mean(picture: &RgbImage, left: u32, top: u32) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for (x, y) in block(left, top) {
        for (sum, value) in sums.iter_mut().zip(picture.get_pixel(x, y).0) {
            *sum += f64::from(value);
        }
    }
    sums.map(|sum| sum / f64::from(PATCH * PATCH))
}

fn block(left: u32, top: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..PATCH).flat_map(move |y| (0..PATCH).map(move |x| (left + x, top + y)))
}

/// Structural similarity in windows of 8x8 every 4 samples, as FFmpeg's own filter measures it.
fn similarity(a: &GrayImage, b: &GrayImage) -> f64 {
    const SIDE: u32 = 8;
    let (width, height) = a.dimensions();
    let (mut total, mut count) = (0.0, 0.0);
    for top in (0..=height - SIDE).step_by(4) {
        for left in (0..=width - SIDE).step_by(4) {
            total += window_similarity(a, b, (left, top), SIDE);
            count += 1.0;
        }
    }
    total / count
}

fn window_similarity(a: &GrayImage, b: &GrayImage, (left, top): (u32, u32), side: u32) -> f64 {
    let (mut sum_a, mut sum_b, mut squares_a, mut squares_b, mut products) = (0u32, 0u32, 0u32, 0u32, 0u32);
    for y in top..top + side {
        let row = |of: &GrayImage| {
            let start = (y * of.width() + left) as usize;
            start..start + side as usize
        };
        for (p, q) in a.as_raw()[row(a)].iter().zip(&b.as_raw()[row(b)]) {
            let (p, q) = (u32::from(*p), u32::from(*q));
            sum_a += p;
            sum_b += q;
            squares_a += p * p;
            squares_b += q * q;
            products += p * q;
        }
    }
    let n = f64::from(side * side);
    let (mean_a, mean_b) = (f64::from(sum_a) / n, f64::from(sum_b) / n);
    let variances = f64::from(squares_a) / n - mean_a * mean_a + f64::from(squares_b) / n - mean_b * mean_b;
    let covariance = f64::from(products) / n - mean_a * mean_b;
    let (c1, c2) = (6.5025, 58.5225);
    (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
        / ((mean_a * mean_a + mean_b * mean_b + c1) * (variances + c2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_seen() {
        let bars = |x: u32| image::Rgb(if (x / 40).is_multiple_of(2) { [200, 30, 30] } else { [20, 60, 180] });
        let picture = RgbImage::from_fn(320, 240, |x, _| bars(x));
        let shown = Shown { pictures: BTreeMap::from([(5, picture.clone())]) };
        assert_eq!(shown.compare(5, &picture), Ok(()));
        assert!(shown.compare(6, &picture).is_err());
        let tinted = RgbImage::from_fn(320, 240, |x, _| image::Rgb([bars(x).0[0] + 4, bars(x).0[1], bars(x).0[2]]));
        assert!(shown.compare(5, &tinted).expect_err("another colour").contains("patch"));
        let moved = RgbImage::from_fn(320, 240, |x, _| bars(x + 4));
        assert!(shown.compare(5, &moved).expect_err("moved").contains("similarity"));
    }
}
