//! Images of one colour, calls that put and get them, and looks at what comes back.

use std::io::Cursor;

use e2e::harness::{Answer, Stills};
use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
use reqwest::Method;

pub(crate) const RED: [u8; 3] = [220, 30, 30];
pub(crate) const BLUE: [u8; 3] = [30, 30, 220];
pub(crate) const GREEN: [u8; 3] = [30, 160, 30];

/// A PNG of one colour.
pub(crate) fn png(width: u32, height: u32, [red, green, blue]: [u8; 3]) -> Vec<u8> {
    coded(&RgbaImage::from_pixel(width, height, Rgba([red, green, blue, 255])).into(), ImageFormat::Png)
}

/// The image in a format.
pub(crate) fn coded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let image = if format == ImageFormat::Jpeg { &DynamicImage::from(image.to_rgb8()) } else { image };
    image.write_to(&mut file, format).expect("a file");
    file.into_inner()
}

/// The path of an image with a query.
pub(crate) fn image(path: &str, query: &str) -> String {
    format!("/images/v1/image/{path}?{query}")
}

/// Puts an image with the owner's token.
pub(crate) async fn put(stills: &Stills, target: &str, file: impl Into<Vec<u8>>) -> Answer {
    put_as(stills, stills.owner(), target, file).await
}

/// Puts an image with another token.
pub(crate) async fn put_as(stills: &Stills, token: &str, target: &str, file: impl Into<Vec<u8>>) -> Answer {
    stills.ask(Method::PUT, target).bearer(token).body("image/png", file).send().await
}

/// A picture as it came.
pub(crate) struct Picture {
    pub(crate) pixels: RgbaImage,
    has_alpha: bool,
}

impl Picture {
    /// Demands a 200 of this format and size, which says whether it fills its box.
    pub(crate) fn of(answer: &Answer, is_webp: bool, size: (u32, u32), is_match: bool) -> Self {
        let answer = answer.clone().expect(200);
        let (name, format) =
            if is_webp { ("image/webp", ImageFormat::WebP) } else { ("image/jpeg", ImageFormat::Jpeg) };
        assert_eq!(answer.header("content-type"), name, "{answer:?}");
        assert_eq!(answer.header("aspectMatch"), if is_match { "true" } else { "false" }, "{answer:?}");
        let decoded = image::load_from_memory_with_format(&answer.body, format).expect("a picture");
        let picture = Self { has_alpha: decoded.color().has_alpha(), pixels: decoded.to_rgba8() };
        assert_eq!(picture.pixels.dimensions(), size, "{answer:?}");
        picture
    }

    /// Whether there is this colour, opaque, at a place.
    pub(crate) fn is_colour(&self, (x, y): (u32, u32), colour: [u8; 3]) -> bool {
        let pixel = self.pixels.get_pixel(x, y).0;
        pixel[3] == 255 && pixel.iter().zip(colour).all(|(got, wanted)| got.abs_diff(wanted) <= 12)
    }

    /// Demands the colour in the middle and in all corners: nothing is padded.
    pub(crate) fn is_all(&self, colour: [u8; 3]) {
        let (width, height) = self.pixels.dimensions();
        for place in [(width / 2, height / 2), (0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)] {
            assert!(self.is_colour(place, colour), "{:?} at {place:?}", self.pixels.get_pixel(place.0, place.1));
        }
        assert!(!self.has_alpha);
    }

    /// Demands the colour inside of a rectangle (left, top, right, bottom), and around it nothing but padding: black, or
    /// transparent where the format can be.
    pub(crate) fn is_framed(&self, colour: [u8; 3], [left, top, right, bottom]: [u32; 4], is_webp: bool) {
        assert_eq!(self.has_alpha, is_webp);
        let (width, height) = self.pixels.dimensions();
        // At an inner edge a JPEG's blocks and the chroma samples of both blur.
        let is_near = |x: u32, y: u32| {
            let near = |at: u32, edge: u32, side: u32| edge != 0 && edge != side && at.abs_diff(edge) < 9;
            near(x, left, width) || near(x, right, width) || near(y, top, height) || near(y, bottom, height)
        };
        for (x, y, pixel) in self.pixels.enumerate_pixels() {
            if (left..right).contains(&x) && (top..bottom).contains(&y) {
                assert!(is_near(x, y) || self.is_colour((x, y), colour), "{pixel:?} at {x}, {y} is no {colour:?}");
                assert_eq!(pixel.0[3], 255, "at {x}, {y}");
            } else if is_webp {
                assert_eq!(pixel.0[3], 0, "at {x}, {y}");
            } else {
                let is_black = pixel.0[..3].iter().all(|sample| *sample < 8);
                assert!(is_near(x, y) || is_black, "{pixel:?} at {x}, {y} is not black");
            }
        }
    }
}
