//! Pictures of keyframes against FFmpeg's own rendering of the same frame: by structure and by colour, never by bytes.

mod damage;
mod media;
mod picture;
mod webp;

use media::{Stream, encode};
use stills_decoder::render::Renderer;
use stills_model::fault::Fault;
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
    Renderer::new().render(config, packets, &[rendition]).map(|mut shown| shown.pictures.remove(0))
}

fn h264(source: &str, args: &[&str]) -> Stream {
    encode(source, 1, &[&X264[..], args].concat(), "h264", Codec::H264)
}

/// Checks the rendition against FFmpeg's scaling with `turn` (a filter, or empty) after it.
fn check_turned(what: &str, stream: &Stream, config: &DecoderConfig, rendition: Rendition, colour: &str, turn: &str) {
    check_packets(what, stream, config, &stream.packets(), rendition, colour, turn);
}

/// The same with the stream's packets in another form.
fn check_packets(
    what: &str,
    stream: &Stream,
    config: &DecoderConfig,
    packets: &[Vec<u8>],
    rendition: Rendition,
    colour: &str,
    turn: &str,
) {
    let bytes = render(config, packets, rendition).expect(what);
    let png = rendition.format == Format::Png;
    let got = match rendition.format {
        Format::Jpeg => picture::jpeg_planes(&bytes),
        Format::Png => picture::png_planes(&bytes),
        Format::WebP => webp::planes(&bytes),
    };
    let (width, height) = (got[0].width, got[0].height);
    let (width, height) = if turn.contains("transpose") { (height, width) } else { (width, height) };
    let format = match rendition.format {
        Format::Jpeg => "out_range=pc:out_color_matrix=bt601,format=yuvj420p",
        Format::Png => "format=gbrp",
        Format::WebP => "out_range=tv:out_color_matrix=bt601,format=yuv420p",
    };
    let filter = format!("scale={width}:{height}:FLAGS:{colour}{}{format}{turn}", if png { "," } else { ":" });
    let reference = picture::raw_planes(&stream.reference(&filter), &got);
    let ssim = picture::ssim(&got[0], &reference[0]);
    let cells =
        [(0, 16), (1, 8), (2, 8)].map(|(plane, side)| picture::cell_difference(&got[plane], &reference[plane], side));
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

fn inside(width: u16, height: u16) -> Rendition {
    Rendition { fit: Fit::Inside, ..jpeg(width, height) }
}

fn png(width: u16, height: u16) -> Rendition {
    Rendition { format: Format::Png, quality: 0, ..jpeg(width, height) }
}

fn size_of(stream: &Stream, config: &DecoderConfig, rendition: Rendition) -> (u32, u32) {
    let bytes = render(config, &stream.packets(), rendition).expect("a picture");
    let picture = image::load_from_memory(&bytes).expect("a picture");
    (picture.width(), picture.height())
}

#[test]
fn pixel_formats() {
    let formats = ["yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le"];
    for format in formats {
        check(format, &h264(SD, &["-pix_fmt", format]), jpeg(320, 240), LIMITED_601);
    }
    // FFmpeg's scaler takes all grey for full range: limited grey is stretched after it.
    for (range, stretch) in [("pc", ""), ("tv", ",lutyuv=y=clip((val-16)*255/219\\,0\\,255)")] {
        let grey = h264(SD, &["-vf", "extractplanes=y", "-pix_fmt", "gray", "-color_range", range]);
        let what = format!("grey, {range}");
        check_turned(&what, &grey, &grey.config(), jpeg(320, 240), FULL_601, stretch);
    }
    let rgb = encode(SD, 1, &["-c:v", "libx264rgb", "-pix_fmt", "rgb24"], "h264", Codec::H264);
    check("RGB", &rgb, jpeg(320, 240), FULL_601);
    check("RGB to PNG", &rgb, png(320, 240), FULL_601);
}

#[test]
fn codecs() {
    let sd = |args: &[&str], format, codec| encode(SD, 1, args, format, codec);
    let x265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"];
    for format in ["yuv420p", "yuv420p10le", "yuv422p12le"] {
        let stream = sd(&[&x265[..], &["-pix_fmt", format]].concat(), "hevc", Codec::Hevc);
        check(&format!("HEVC {format}"), &stream, jpeg(320, 240), LIMITED_601);
    }
    for format in ["yuv420p", "yuv420p10le"] {
        let args = ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-pix_fmt", format];
        check(&format!("AV1 {format}"), &sd(&args, "ivf", Codec::Av1), jpeg(320, 240), LIMITED_601);
    }
    let vpx = ["-deadline", "realtime", "-b:v", "8M", "-pix_fmt", "yuv420p"];
    let vp9 = sd(&[&["-c:v", "libvpx-vp9"], &vpx[..]].concat(), "ivf", Codec::Vp9);
    check("VP9", &vp9, jpeg(320, 240), LIMITED_601);
    let vp8 = sd(&[&["-c:v", "libvpx"], &vpx[..]].concat(), "ivf", Codec::Vp8);
    check("VP8", &vp8, jpeg(320, 240), LIMITED_601);
    check("MPEG-4", &sd(&["-c:v", "mpeg4", "-q:v", "2"], "m4v", Codec::Mpeg4), jpeg(320, 240), LIMITED_601);
    let mpeg2 = sd(&["-c:v", "mpeg2video", "-q:v", "2"], "mpeg2video", Codec::Mpeg2);
    check("MPEG-2", &mpeg2, jpeg(320, 240), LIMITED_601);
    for format in ["yuvj420p", "yuvj422p", "yuvj444p"] {
        let stream = sd(&["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", format], "mjpeg", Codec::Mjpeg);
        check(&format!("Motion JPEG {format}"), &stream, jpeg(320, 240), FULL_601);
    }
}

#[test]
fn sizes_up_and_down() {
    let odd = h264("testsrc2=size=641x361", &["-pix_fmt", "yuv444p"]);
    for (width, height) in [(320, 240), (321, 241), (77, 45), (641, 361), (640, 480), (16, 16), (1279, 719)] {
        check(&format!("odd source to {width}x{height}"), &odd, jpeg(width, height), LIMITED_601);
    }
    let small = h264("testsrc2=size=160x120", &["-pix_fmt", "yuv420p"]);
    for (width, height) in [(160, 120), (640, 480), (159, 481)] {
        check(&format!("small source to {width}x{height}"), &small, jpeg(width, height), LIMITED_601);
    }
    let cropped = h264("testsrc2=size=714x402", &["-pix_fmt", "yuv420p"]);
    check("cropped", &cropped, jpeg(640, 480), LIMITED_601);
    for (width, height) in [(1, 1), (1, 240), (320, 1)] {
        let size = size_of(&small, &small.config(), jpeg(width, height));
        assert_eq!(size, (u32::from(width), u32::from(height)));
    }
}

#[test]
fn upright_pictures() {
    let stream = h264(SD, &["-pix_fmt", "yuv420p"]);
    let check = |quarter_turns, mirrored, filter| {
        let config = DecoderConfig { orientation: Orientation { quarter_turns, mirrored }, ..stream.config() };
        let what = format!("{quarter_turns} turns, mirrored: {mirrored}");
        check_turned(&what, &stream, &config, jpeg(320, 240), LIMITED_601, filter);
        check_turned(&format!("{what}, PNG"), &stream, &config, png(213, 320), LIMITED_601, filter);
    };
    check(1, false, ",transpose=clock");
    check(2, false, ",hflip,vflip");
    check(3, false, ",transpose=cclock");
    check(0, true, ",hflip");
    check(1, true, ",hflip,transpose=clock");
    let config = DecoderConfig { orientation: Orientation { quarter_turns: 1, mirrored: false }, ..stream.config() };
    assert_eq!(size_of(&stream, &config, inside(0, 0)), (480, 704));
    assert_eq!(size_of(&stream, &config, inside(120, 0)), (120, 176));
}

#[test]
fn sample_aspect_ratios() {
    let stream = h264("testsrc2=size=720x576,setsar=16/11", &["-pix_fmt", "yuv420p"]);
    assert_eq!(size_of(&stream, &stream.config(), inside(0, 288)), (524, 288));
    assert_eq!(size_of(&stream, &stream.config(), jpeg(320, 240)), (320, 240));
    let demanded = DecoderConfig { sample_aspect: (64, 45), ..stream.config() };
    assert_eq!(size_of(&stream, &demanded, inside(0, 288)), (512, 288), "the container's counts before the stream's");
    check("stretched from wide samples", &stream, inside(320, 240), LIMITED_601);
}

#[test]
fn interlaced_pictures() {
    let fields =
        h264("testsrc2=size=720x576", &["-pix_fmt", "yuv420p", "-flags", "+ilme+ildct", "-x264-params", "tff=1"]);
    check("H.264 interlaced", &fields, jpeg(320, 240), LIMITED_601);
    let args = ["-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct"];
    let fields = encode("testsrc2=size=720x576", 1, &args, "mpeg2video", Codec::Mpeg2);
    check("MPEG-2 interlaced", &fields, jpeg(320, 240), LIMITED_601);
}

#[test]
fn png_colours() {
    let hd = h264(HD, &["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-pix_fmt", "yuv420p"]);
    check("PNG BT.709", &hd, png(320, 240), LIMITED_709);
    let wide = ["-vf", "scale=out_color_matrix=bt2020", "-colorspace", "bt2020nc", "-pix_fmt", "yuv420p10le"];
    let wide = h264(SD, &wide);
    check("PNG BT.2020", &wide, png(320, 240), "in_range=tv:in_color_matrix=bt2020");
    check("JPEG BT.2020", &wide, jpeg(320, 240), "in_range=tv:in_color_matrix=bt2020");
    check("PNG full size", &hd, Rendition { fit: Fit::Inside, ..png(0, 0) }, LIMITED_709);
}
