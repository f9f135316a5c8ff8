//! Image files that people put (JPEG, PNG, WebP) to pictures, in the same worker and by the same path as keyframes.
//!
//! 1. the format by its first bytes, the size by its header: a file over its bounds is refused before it is decoded;
//! 2. decoded by the `image` crate (safe code), with bounds on what it allocates;
//! 3. colours multiplied with alpha, so that transparent pixels bleed nowhere while scaling, and lie on black in a JPEG;
//! 4. [`crate::render`]: scaled, turned as EXIF says, letterboxed, encoded. Colour profiles are left out.

use std::io::Cursor;

use image::metadata::Orientation as Exif;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::Orientation;
use stills_model::rendition::Rendition;

use crate::colour::{Colour, Matrix, Model};
use crate::geometry::Shape;
use crate::plane::Component;
use crate::render::{Renderer, Source};

/// What decoding may allocate: 40 million pixels of 16-bit RGBA are 305 MiB.
const ALLOC_MAX_BYTES: u64 = 512 << 20;

/// An image's pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageShown {
    /// Width and height of the image in pixels, upright.
    pub size: (u32, u32),
    /// In the order of the renditions asked for.
    pub pictures: Vec<Vec<u8>>,
}

/// Decodes a whole image file and makes each rendition of it, in their order.
///
/// # Errors
/// [`FaultKind::Unsupported`] for what is no JPEG, PNG or WebP, [`FaultKind::TooLarge`] for more than `pixels_max` pixels,
/// [`FaultKind::Damaged`] for what cannot be decoded to its end, else as [`Renderer::render`].
pub fn show(
    renderer: &mut Renderer,
    file: &[u8],
    pixels_max: u64,
    renditions: &[Rendition],
) -> Result<ImageShown, Fault> {
    let (image, exif) = decode(file, pixels_max)?;
    let orientation = orientation(exif);
    let (width, height) = (image.width(), image.height());
    let size = if orientation.quarter_turns % 2 == 1 { (height, width) } else { (width, height) };
    let (pixels, step) = if image.color().has_alpha() {
        (multiplied(image.into_rgba8().into_raw()), 4)
    } else {
        (image.into_rgb8().into_raw(), 3)
    };
    let (width, height) = (width as usize, height as usize);
    let component =
        |offset| Component { bytes: &pixels, stride: width * step, step, offset, shift: 0, depth: 8, width, height };
    let source = Source {
        shape: Shape { size: (width, height), sample_aspect: (1, 1), orientation },
        colour: Colour { model: Model::Rgb, full_range: true, matrix: Matrix::Bt601 },
        components: &[component(0), component(1), component(2)],
        alpha: (step == 4).then(|| component(3)),
    };
    Ok(ImageShown { size, pictures: renderer.show_source(&source, renditions)?.pictures })
}

fn decode(file: &[u8], pixels_max: u64) -> Result<(DynamicImage, Exif), Fault> {
    let unsupported = || Fault::new(FaultKind::Unsupported, "the file is no JPEG, PNG or WebP");
    let format = image::guess_format(file).map_err(|_| unsupported())?;
    if !matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP) {
        return Err(unsupported());
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(ALLOC_MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| fault(&error))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > pixels_max || pixels == 0 {
        let detail = format!("an image of {width}x{height} pixels; 1 to {pixels_max} pixels are allowed");
        return Err(Fault::new(FaultKind::TooLarge, detail));
    }
    // What EXIF says wrongly turns nothing.
    let exif = decoder.orientation().unwrap_or(Exif::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| fault(&error))?;
    Ok((image, exif))
}

fn fault(error: &image::ImageError) -> Fault {
    let kind = match error {
        image::ImageError::Limits(_) => FaultKind::TooLarge,
        image::ImageError::Unsupported(_) => FaultKind::Unsupported,
        _ => FaultKind::Damaged,
    };
    Fault::new(kind, format!("the image cannot be decoded: {error}"))
}

/// Mirroring first, then turning, which are EXIF's eight values.
fn orientation(exif: Exif) -> Orientation {
    let (quarter_turns, mirrored) = match exif {
        Exif::NoTransforms => (0, false),
        Exif::Rotate90 => (1, false),
        Exif::Rotate180 => (2, false),
        Exif::Rotate270 => (3, false),
        Exif::FlipHorizontal => (0, true),
        Exif::FlipVertical => (2, true),
        Exif::Rotate90FlipH => (3, true),
        Exif::Rotate270FlipH => (1, true),
    };
    Orientation { quarter_turns, mirrored }
}

/// Red, green and blue multiplied with alpha.
fn multiplied(mut rgba: Vec<u8>) -> Vec<u8> {
    for [red, green, blue, alpha] in rgba.as_chunks_mut::<4>().0 {
        if *alpha < u8::MAX {
            for sample in [red, green, blue] {
                let product = u16::from(*sample) * u16::from(*alpha);
                *sample = u8::try_from((product + 127) / 255).unwrap_or(u8::MAX);
            }
        }
    }
    rgba
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::upright;
    use crate::plane::Plane;
    use image::{GrayImage, Rgba, RgbaImage};
    use stills_model::rendition::{Fit, Format};

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, ImageFormat::Png).expect("a PNG");
        file.into_inner()
    }

    fn letterbox(width: u16, height: u16, format: Format) -> Rendition {
        Rendition { width, height, fit: Fit::Letterbox, format, quality: 90 }
    }

    fn shown(file: &[u8], rendition: Rendition) -> RgbaImage {
        let shown = show(&mut Renderer::new(), file, 1 << 20, &[rendition]).expect("a picture");
        image::load_from_memory(&shown.pictures[0]).expect("an image").to_rgba8()
    }

    fn check_pixel(image: &RgbaImage, (x, y): (u32, u32), expected: [u8; 4]) {
        let got = image.get_pixel(x, y).0;
        let worst = got.iter().zip(expected).map(|(got, expected)| got.abs_diff(expected)).max();
        assert!(worst <= Some(3), "at {x}, {y}: {got:?}, expected {expected:?}");
    }

    #[test]
    fn every_orientation_is_that_of_the_crate_that_reads_it() {
        let image = GrayImage::from_raw(3, 2, b"abcdef".to_vec()).expect("an image");
        for value in 1..=8 {
            let exif = Exif::from_exif(value).expect("a value of EXIF");
            let mut expected = DynamicImage::from(image.clone());
            expected.apply_orientation(exif);
            let plane = Plane { width: 3, height: 2, samples: image.as_raw().clone() };
            let turned = upright(plane, orientation(exif));
            assert_eq!(turned.width, expected.width() as usize, "{exif:?}");
            assert_eq!(turned.samples, expected.into_luma8().into_raw(), "{exif:?}");
        }
    }

    #[test]
    fn transparency_stays_in_a_webp_and_is_black_in_a_jpeg() {
        // Left red, right transparent white.
        let image =
            RgbaImage::from_fn(64, 32, |x, _| if x < 32 { Rgba([255, 0, 0, 255]) } else { Rgba([255, 255, 255, 0]) });
        let file = png(&DynamicImage::from(image));
        let webp = shown(&file, letterbox(64, 64, Format::WebP));
        check_pixel(&webp, (8, 32), [255, 0, 0, 255]);
        assert_eq!(webp.get_pixel(56, 32).0[3], 0);
        assert_eq!((webp.get_pixel(8, 4).0[3], webp.get_pixel(8, 60).0[3]), (0, 0));
        let jpeg = shown(&file, letterbox(64, 64, Format::Jpeg));
        check_pixel(&jpeg, (8, 32), [254, 0, 0, 255]);
        for black in [(56, 32), (8, 4), (8, 60)] {
            check_pixel(&jpeg, black, [0, 0, 0, 255]);
        }
    }

    #[test]
    fn half_transparent_colours_keep_their_colour() {
        let image = RgbaImage::from_pixel(20, 20, Rgba([200, 100, 40, 128]));
        let webp = shown(&png(&DynamicImage::from(image)), letterbox(10, 10, Format::WebP));
        check_pixel(&webp, (5, 5), [200, 100, 40, 128]);
    }

    #[test]
    fn sizes_are_upright_and_nothing_is_made_where_nothing_is_asked_for() {
        let file = png(&DynamicImage::new_rgb8(30, 20));
        let shown = show(&mut Renderer::new(), &file, 600, &[]).expect("an image");
        assert_eq!(shown, ImageShown { size: (30, 20), pictures: vec![] });
    }

    #[test]
    fn what_is_no_image_or_too_large_is_a_fault() {
        let file = png(&DynamicImage::new_rgb8(30, 20));
        let check = |file: &[u8], pixels_max, expected| {
            let fault = show(&mut Renderer::new(), file, pixels_max, &[]).expect_err("a fault");
            assert_eq!(fault.kind, expected, "{fault}");
        };
        check(b"", 100, FaultKind::Unsupported);
        check(b"<svg xmlns='http://www.w3.org/2000/svg'/>", 100, FaultKind::Unsupported);
        check(b"GIF89a\x01\0\x01\0", 100, FaultKind::Unsupported);
        check(&file, 599, FaultKind::TooLarge);
        check(&file[..file.len() - 20], 600, FaultKind::Damaged);
        check(&file[..20], 600, FaultKind::Damaged);
    }
}
