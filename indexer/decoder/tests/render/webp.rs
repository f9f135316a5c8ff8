//! WebP and letterboxes: the planes that FFmpeg reads from ours are those of its own rendering; padding is what it should be.

use stills_model::keyframe::{Codec, Orientation};
use stills_model::rendition::{Fit, Format, Rendition};

use crate::media::{encode, ffmpeg};
use crate::picture::{Plane, raw_planes};
use crate::{FULL_601, HD, LIMITED_601, LIMITED_709, SD, X264, check, check_turned, h264, jpeg, render};

/// The planes as FFmpeg reads them; a WebP holds limited-range BT.601, and nothing is converted.
pub(crate) fn planes(webp: &[u8]) -> Vec<Plane> {
    let size = image::load_from_memory_with_format(webp, image::ImageFormat::WebP).expect("a WebP");
    let (width, height) = (size.width() as usize, size.height() as usize);
    let raw = ffmpeg(&["-f", "webp_pipe", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:1"], webp);
    let half = (width.div_ceil(2), height.div_ceil(2));
    raw_planes(&raw, &[Plane::of_size((width, height)), Plane::of_size(half), Plane::of_size(half)])
}

fn webp(width: u16, height: u16) -> Rendition {
    Rendition { format: Format::WebP, ..jpeg(width, height) }
}

#[test]
fn ranges_and_matrices() {
    let tagged = ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-pix_fmt", "yuv420p"];
    check("WebP of BT.709", &h264(HD, &tagged), webp(320, 240), LIMITED_709);
    check("WebP of BT.601", &h264(SD, &["-pix_fmt", "yuv420p"]), webp(320, 240), LIMITED_601);
    check("WebP of odd sizes", &h264(SD, &["-pix_fmt", "yuv420p"]), webp(317, 177), LIMITED_601);
    let full = ["-vf", "scale=out_range=pc", "-pix_fmt", "yuvj420p", "-colorspace", "smpte170m"];
    check("WebP of full range", &h264(SD, &full), webp(320, 240), FULL_601);
    check("WebP of 4:4:4", &h264(SD, &["-pix_fmt", "yuv444p"]), webp(320, 240), LIMITED_601);
    let rgb = encode(SD, 1, &["-c:v", "libx264rgb", "-pix_fmt", "rgb24"], "h264", Codec::H264);
    check("WebP of RGB", &rgb, webp(320, 240), FULL_601);
}

#[test]
fn turned() {
    let stream = h264(SD, &["-pix_fmt", "yuv420p"]);
    let mut config = stream.config();
    config.orientation = Orientation { quarter_turns: 1, mirrored: false };
    check_turned("WebP, turned", &stream, &config, webp(213, 320), LIMITED_601, ",transpose=clock");
}

/// Six patches that fill a picture, in the order of their rows.
const PATCHES: [(&str, [u8; 3]); 6] = [
    ("red", [255, 0, 0]),
    ("lime", [0, 255, 0]),
    ("blue", [0, 0, 255]),
    ("white", [255, 255, 255]),
    ("0x808080", [128, 128, 128]),
    ("0xC08040", [192, 128, 64]),
];

#[test]
fn patches_keep_their_colours_and_lie_in_their_frame() {
    let rows: Vec<String> =
        PATCHES.iter().map(|(colour, _)| format!("color={colour}:size=640x60:rate=1[p{colour}]")).collect();
    let names: String = PATCHES.iter().map(|(colour, _)| format!("[p{colour}]")).collect();
    let source = format!("{};{names}vstack=inputs=6", rows.join(";"));
    // 640x360 with square pixels, and the same squeezed: the frame is about what is seen.
    for (filter, size) in [("null", (640, 360)), ("scale=320:360,setsar=2", (320, 360))] {
        let vf = format!("{filter},format=gbrp,scale=out_color_matrix=bt601:out_range=tv,format=yuv444p");
        let args = [&X264[..], &["-qp", "0", "-vf", &vf, "-colorspace", "smpte170m"]].concat();
        let stream = encode(&source, 1, &args, "h264", Codec::H264);
        for format in [Format::Jpeg, Format::Png, Format::WebP] {
            let rendition = Rendition { width: 320, height: 240, fit: Fit::Letterbox, format, quality: 97 };
            let what = format!("{format:?} of {size:?}");
            let bytes = render(&stream.config(), &stream.packets(), rendition).expect("a picture");
            let picture = image::load_from_memory(&bytes).expect("a picture");
            assert_eq!((picture.width(), picture.height()), (320, 240), "{what}");
            assert_eq!(picture.color().has_alpha(), format == Format::WebP, "{what}");
            let picture = picture.to_rgba8();
            for (row, (_, colour)) in PATCHES.iter().enumerate() {
                let y = 30 + 15 + 30 * u32::try_from(row).expect("a row");
                for x in [2, 160, 317] {
                    let pixel = picture.get_pixel(x, y).0;
                    let worst = pixel.iter().zip(colour).map(|(got, wanted)| got.abs_diff(*wanted)).max();
                    assert!(worst <= Some(3) && pixel[3] == 255, "{what}: {pixel:?} is no {colour:?}");
                }
            }
            for (x, y) in [(0, 0), (160, 12), (319, 27), (0, 212), (160, 225), (319, 239)] {
                let pixel = picture.get_pixel(x, y).0;
                if format == Format::WebP {
                    assert_eq!(pixel[3], 0, "{what}: at {x}, {y}");
                } else {
                    assert!(pixel[..3].iter().all(|sample| *sample <= 3), "{what}: {pixel:?} at {x}, {y}");
                }
            }
        }
    }
}

/// A frame is there only where the shapes differ, and then exactly around the picture.
#[test]
fn frames_are_exactly_around_the_picture() {
    let stream = h264("color=white:size=640x480", &["-pix_fmt", "yuv420p"]);
    let check = |(width, height): (u16, u16), expected: Option<[u32; 4]>| {
        let rendition = Rendition { width, height, fit: Fit::Letterbox, format: Format::WebP, quality: 80 };
        let bytes = render(&stream.config(), &stream.packets(), rendition).expect("a picture");
        let picture = image::load_from_memory(&bytes).expect("a picture");
        assert_eq!(picture.color().has_alpha(), expected.is_some(), "{width}x{height}");
        let Some([left, top, right, bottom]) = expected else { return };
        for (x, y, pixel) in picture.to_rgba8().enumerate_pixels() {
            let is_inside = (left..right).contains(&x) && (top..bottom).contains(&y);
            assert_eq!(pixel.0[3], if is_inside { 255 } else { 0 }, "{width}x{height} at {x}, {y}");
        }
    };
    check((160, 120), None);
    check((161, 121), None);
    check((160, 90), Some([20, 0, 140, 90]));
    check((90, 160), Some([0, 46, 90, 114]));
}
