//! Pictures of keyframes against FFmpeg's own rendering of the same frame: by structure and by colour, never by bytes.

mod media;
mod picture;

use media::{Stream, encode, nal_units};
use stills_decoder::render::Renderer;
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe::{Codec, DecoderConfig, Orientation};
use stills_model::rendition::{Fit, Format, Rendition};

const X264: [&str; 4] = ["-c:v", "libx264", "-preset", "veryfast"];
const LIMITED_709: &str = "in_range=tv:in_color_matrix=bt709";
const LIMITED_601: &str = "in_range=tv:in_color_matrix=bt601";
const FULL_601: &str = "in_range=pc:in_color_matrix=bt601";

fn jpeg(width: u16, height: u16) -> Rendition {
    Rendition { width, height, fit: Fit::Stretch, format: Format::Jpeg, quality: 97 }
}

fn render(config: &DecoderConfig, packets: &[Vec<u8>], rendition: Rendition) -> Result<Vec<u8>, Fault> {
    Renderer::new().render(config, packets, &[rendition]).map(|mut pictures| pictures.remove(0))
}

fn h264(source: &str, args: &[&str]) -> Stream {
    encode(source, 1, &[&X264[..], args].concat(), "h264", Codec::H264)
}

/// Checks the rendition against FFmpeg's scaling with `turn` (a filter, or empty) after it.
fn check_turned(what: &str, stream: &Stream, config: &DecoderConfig, rendition: Rendition, colour: &str, turn: &str) {
    let bytes = render(config, &stream.packets(), rendition).expect(what);
    let png = rendition.format == Format::Png;
    let got = if png { picture::png_planes(&bytes) } else { picture::jpeg_planes(&bytes) };
    let (width, height) = (got[0].width, got[0].height);
    let (width, height) = if turn.contains("transpose") { (height, width) } else { (width, height) };
    let format = if png { "format=gbrp" } else { "out_range=pc:out_color_matrix=bt601,format=yuvj420p" };
    let filter = format!("scale={width}:{height}:FLAGS:{colour}{}{format}{turn}", if png { "," } else { ":" });
    let reference = picture::raw_planes(&stream.reference(&filter), &got);
    let ssim = picture::ssim(&got[0], &reference[0]);
    let cells =
        [(0, 16), (1, 8), (2, 8)].map(|(plane, side)| picture::cell_difference(&got[plane], &reference[plane], side));
    println!("{what}: SSIM {ssim:.4}, cells {cells:.2?}");
    assert!(ssim >= 0.98, "{what}: SSIM {ssim}");
    assert!(cells.iter().all(|&difference| difference <= 3.0), "{what}: colours differ by {cells:?}");
}

fn check(what: &str, stream: &Stream, rendition: Rendition, colour: &str) {
    check_turned(what, stream, &stream.config(), rendition, colour, "");
}

const HD: &str = "testsrc2=size=1280x720";
const SD: &str = "testsrc2=size=704x480";

#[test]
fn ranges_and_matrices() {
    let tagged = ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-pix_fmt", "yuv420p"];
    check("H.264 BT.709", &h264(HD, &tagged), jpeg(320, 240), LIMITED_709);
    let untagged = ["-vf", "scale=out_color_matrix=bt709", "-pix_fmt", "yuv420p"];
    check("H.264 HD untagged", &h264(HD, &untagged), jpeg(320, 240), LIMITED_709);
    let full = ["-vf", "scale=out_color_matrix=bt709:out_range=pc", "-pix_fmt", "yuvj420p", "-colorspace", "bt709"];
    check("H.264 full range", &h264(HD, &full), jpeg(320, 240), "in_range=pc:in_color_matrix=bt709");
    check("H.264 SD untagged", &h264(SD, &["-pix_fmt", "yuv420p"]), jpeg(320, 240), LIMITED_601);
}
