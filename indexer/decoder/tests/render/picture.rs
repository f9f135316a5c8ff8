//! Measuring pictures: planes of a coded picture, structural similarity, cell means.

/// One plane of samples.
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    samples: Vec<f64>,
}

impl Plane {
    /// A size to be filled.
    pub(crate) fn of_size((width, height): (usize, usize)) -> Self {
        Self { width, height, samples: Vec::new() }
    }
}

/// The planes of a JPEG as it holds them, luma first, the differences at half the size.
pub(crate) fn jpeg_planes(jpeg: &[u8]) -> Vec<Plane> {
    let yuv = turbojpeg::decompress_to_yuv(jpeg).expect("a JPEG");
    assert_eq!((yuv.subsamp, yuv.align), (turbojpeg::Subsamp::Sub2x2, 4));
    let (width, height) = (yuv.width, yuv.height);
    let mut rest = &yuv.pixels[..];
    let mut planes = Vec::new();
    for (width, height) in
        [(width, height), (width.div_ceil(2), height.div_ceil(2)), (width.div_ceil(2), height.div_ceil(2))]
    {
        // libjpeg-turbo stores luma up to an even size, and rows up to four bytes.
        let (stored_width, stored_height) =
            if planes.is_empty() { (width.next_multiple_of(2), height.next_multiple_of(2)) } else { (width, height) };
        let (plane, after) = rest.split_at(stored_width.next_multiple_of(4) * stored_height);
        let rows = plane.chunks(stored_width.next_multiple_of(4)).take(height);
        let samples = rows.flat_map(|row| &row[..width]).map(|&sample| f64::from(sample)).collect();
        planes.push(Plane { width, height, samples });
        rest = after;
    }
    planes
}

/// Green, blue, red of a PNG, as FFmpeg orders them.
pub(crate) fn png_planes(png: &[u8]) -> Vec<Plane> {
    let rgb = image::load_from_memory_with_format(png, image::ImageFormat::Png).expect("a PNG").to_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let plane = |channel: usize| rgb.pixels().map(|pixel| f64::from(pixel.0[channel])).collect();
    [1, 2, 0].map(|channel| Plane { width, height, samples: plane(channel) }).into()
}

/// From raw planes one after the other, of the sizes that `like` has.
pub(crate) fn raw_planes(mut bytes: &[u8], like: &[Plane]) -> Vec<Plane> {
    let mut planes = Vec::new();
    for &Plane { width, height, .. } in like {
        let (plane, rest) = bytes.split_at(width * height);
        planes.push(Plane { width, height, samples: plane.iter().map(|&sample| f64::from(sample)).collect() });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "the reference has the same size");
    planes
}

/// Structural similarity, 8 x 8 windows every 4 samples, as FFmpeg's own filter has it.
pub(crate) fn ssim(a: &Plane, b: &Plane) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let (mut total, mut count) = (0.0, 0.0);
    let side = 8.min(a.width).min(a.height);
    for top in (0..=a.height - side).step_by(4) {
        for left in (0..=a.width - side).step_by(4) {
            total += ssim_window(a, b, left, top, side);
            count += 1.0;
        }
    }
    total / count
}

fn ssim_window(a: &Plane, b: &Plane, left: usize, top: usize, side: usize) -> f64 {
    let n = (side * side) as f64;
    let (mut sa, mut sb, mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for y in top..top + side {
        for x in left..left + side {
            let (p, q) = (a.samples[y * a.width + x], b.samples[y * a.width + x]);
            sa += p;
            sb += q;
            saa += p * p;
            sbb += q * q;
            sab += p * q;
        }
    }
    let (c1, c2) = (6.5025, 58.5225);
    let (ma, mb) = (sa / n, sb / n);
    let (va, vb, cov) = (saa / n - ma * ma, sbb / n - mb * mb, sab / n - ma * mb);
    (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
}

/// The largest difference between the means of equal cells of `side` samples.
pub(crate) fn cell_difference(a: &Plane, b: &Plane, side: usize) -> f64 {
    let mut worst: f64 = 0.0;
    for top in (0..a.height).step_by(side) {
        for left in (0..a.width).step_by(side) {
            let (right, bottom) = ((left + side).min(a.width), (top + side).min(a.height));
            let mean = |of: &Plane| {
                let rows = (top..bottom).flat_map(|y| &of.samples[y * of.width + left..y * of.width + right]);
                rows.sum::<f64>() / ((right - left) * (bottom - top)) as f64
            };
            worst = worst.max((mean(a) - mean(b)).abs());
        }
    }
    worst
}
