//! Image files through the pool: decoded in a worker, bounded, and as deadly to nobody but themselves as media is.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use stills_indexer::decode::Class;
use stills_model::fault::FaultKind;
use stills_model::rendition::{Fit, Format, Rendition};

use crate::harness::{self, pool, user};

fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).expect("a file");
    file.into_inner()
}

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> DynamicImage {
    let colour = |x| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) };
    RgbImage::from_fn(width, height, |x, _| colour(x)).into()
}

const LETTERBOX: Rendition =
    Rendition { width: 60, height: 60, fit: Fit::Letterbox, format: Format::WebP, quality: 90 };

#[tokio::test(flavor = "multi_thread")]
async fn every_format_becomes_every_rendition() {
    let pool = pool(1).await;
    let renditions = [LETTERBOX, Rendition { format: Format::Jpeg, ..LETTERBOX }];
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let file = file(&halves(120, 80), format);
        let shown = pool.picture(user(1), Class::Interactive, 9600, &file, &renditions).await.expect("pictures");
        assert_eq!((shown.size, shown.pictures.len()), ((120, 80), 2), "{format:?}");
        for picture in &shown.pictures {
            let picture = image::load_from_memory(picture).expect("a picture").to_rgb8();
            assert_eq!((picture.width(), picture.height()), (60, 60));
            let [red, _, blue] = picture.get_pixel(10, 30).0;
            assert!(red > 240 && blue < 15, "{format:?}");
            let [red, _, blue] = picture.get_pixel(50, 30).0;
            assert!(red < 15 && blue > 240, "{format:?}");
        }
    }
}

/// The picture with an Exif segment that says how it is to be turned.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let tiff =
        [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[orientation, 0, 0, 0, 0, 0, 0, 0]].concat();
    let len = u8::try_from(tiff.len() + 8).expect("short");
    [&jpeg[..2], &[0xff, 0xe1, 0, len], b"Exif\0\0", &tiff, &jpeg[2..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn photographs_are_set_upright() {
    let pool = pool(1).await;
    let jpeg = file(&halves(120, 80), ImageFormat::Jpeg);
    // Where the left, red half comes to lie, in an upright frame of the turned size.
    for (orientation, size, red) in
        [(1, (120, 80), (5, 30)), (3, (120, 80), (55, 30)), (6, (80, 120), (30, 5)), (8, (80, 120), (30, 55))]
    {
        let file = turned(&jpeg, orientation);
        let shown = pool.picture(user(1), Class::Interactive, 9600, &file, &[LETTERBOX]).await.expect("a picture");
        assert_eq!(shown.size, size, "orientation {orientation}");
        let picture = image::load_from_memory(&shown.pictures[0]).expect("a picture").to_rgb8();
        assert!(picture.get_pixel(red.0, red.1).0[0] > 240, "orientation {orientation}");
        assert!(picture.get_pixel(59 - red.0, 59 - red.1).0[2] > 240, "orientation {orientation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_is_a_value_and_the_worker_goes_on() {
    let pool = pool(1).await;
    let good = file(&halves(40, 40), ImageFormat::Png);
    // A header that promises a billion pixels, before any of them.
    let mut bomb = good.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0x7f, 0xff, 0, 0, 0x7f, 0xff]);
    let before = harness::workers(&pool);
    for (bad, expected) in [
        (b"no image".to_vec(), FaultKind::Unsupported),
        (good[..40].to_vec(), FaultKind::Damaged),
        (good.clone(), FaultKind::TooLarge),
    ] {
        let pixels_max = if expected == FaultKind::TooLarge { 1599 } else { 1600 };
        let shown = pool.picture(user(1), Class::Interactive, pixels_max, &bad, &[]).await;
        assert_eq!(shown.expect_err("a fault").kind, expected);
    }
    let kind = pool.picture(user(1), Class::Interactive, 40_000_000, &bomb, &[]).await.expect_err("a fault").kind;
    // Refused for its size, or for the check sum of the header that was changed.
    assert!(matches!(kind, FaultKind::TooLarge | FaultKind::Damaged), "{kind:?}");
    pool.picture(user(1), Class::Interactive, 1600, &good, &[LETTERBOX]).await.expect("a picture");
    assert_eq!(harness::workers(&pool), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn mutations_of_images_never_reach_the_caller_as_anything_but_values() {
    let pool = pool(1).await;
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let good = file(&halves(48, 32), format);
        for n in 0..good.len().min(120) {
            let mut bad = good.clone();
            let at = n * good.len() / good.len().min(120);
            bad[at] ^= 1 << (n % 8);
            match pool.picture(user(1), Class::Interactive, 1 << 20, &bad, &[LETTERBOX]).await {
                Ok(shown) => assert_eq!(shown.pictures.len(), 1),
                Err(fault) => assert!(
                    matches!(fault.kind, FaultKind::Damaged | FaultKind::Unsupported | FaultKind::TooLarge),
                    "{format:?}, byte {at}: {fault:?}"
                ),
            }
        }
    }
}
