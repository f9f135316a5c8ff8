//! What cannot be decoded, and what must be put together first: an error that names the codec or a picture, no crash.

use stills_decoder::render::Renderer;
use stills_model::fault::FaultKind;
use stills_model::keyframe::{Codec, DecoderConfig};
use stills_model::rendition::Rendition;

use crate::media::{Stream, encode, nal_units};
use crate::{LIMITED_601, SD, X264, check_packets, h264, jpeg, png, render};

const SMALL: &str = "testsrc2=size=320x240";

fn streams() -> Vec<Stream> {
    let small = |args: &[&str], format, codec| encode(SMALL, 1, args, format, codec);
    vec![
        small(&[&X264[..], &["-pix_fmt", "yuv420p"]].concat(), "h264", Codec::H264),
        small(&["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"], "hevc", Codec::Hevc),
        small(&["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime"], "ivf", Codec::Av1),
        small(&["-c:v", "libvpx-vp9", "-deadline", "realtime"], "ivf", Codec::Vp9),
        small(&["-c:v", "libvpx", "-deadline", "realtime"], "ivf", Codec::Vp8),
        small(&["-c:v", "mpeg4"], "m4v", Codec::Mpeg4),
        small(&["-c:v", "mpeg2video"], "mpeg2video", Codec::Mpeg2),
        small(&["-c:v", "mjpeg"], "mjpeg", Codec::Mjpeg),
    ]
}

/// A small generator with a fixed seed (xorshift), so that a failure comes again.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

#[test]
fn damage_gives_an_error_or_a_picture() {
    let mut noise = Noise(0x5eed_0001);
    let mut pictures = 0;
    for stream in streams() {
        let (config, whole) = (stream.config(), stream.packets().remove(0));
        let mut renderer = Renderer::new();
        for round in 0..60 {
            let mut packet = whole.clone();
            match round % 3 {
                0 => packet.truncate(noise.below(whole.len())),
                1 => (0..=round).for_each(|_| packet[noise.below(whole.len())] ^= 1 << noise.below(8)),
                _ => packet.iter_mut().skip(noise.below(64)).for_each(|byte| *byte = noise.byte()),
            }
            let packets = if round % 7 == 0 { vec![packet.clone(), packet] } else { vec![packet] };
            match renderer.render(&config, &packets, &[jpeg(64, 48), png(31, 17)]) {
                Ok(made) => {
                    pictures += 1;
                    assert!(made.pictures.iter().all(|picture| image::load_from_memory(picture).is_ok()));
                }
                Err(fault) => {
                    let named = fault.detail.contains(stream.codec.name()) || fault.kind == FaultKind::TooLarge;
                    assert!(named, "{fault}");
                }
            }
        }
        renderer.render(&config, &stream.packets(), &[jpeg(64, 48)]).expect("a good keyframe after all that");
    }
    assert!(pictures > 50, "most decoders hide some damage: {pictures}");
}

#[test]
fn what_holds_no_picture_is_named() {
    for stream in streams() {
        for packets in [vec![], vec![vec![]], vec![vec![0x55; 1000]], vec![stream.packets()[0][..6].to_vec()]] {
            let fault = render(&stream.config(), &packets, jpeg(64, 48)).expect_err("no picture");
            assert_eq!(fault.kind, FaultKind::Damaged, "{fault}");
            let expected = format!("the {} keyframe could not be decoded: ", stream.codec.name());
            assert!(fault.detail.starts_with(&expected), "{fault}");
        }
    }
}

#[test]
fn bad_parameter_sets_are_named() {
    let mut noise = Noise(0x5eed_0002);
    for stream in streams() {
        for round in 0..20 {
            let extradata = (0..noise.below(200)).map(|_| noise.byte());
            let first = [1, 0, 0x81][round % 3];
            let extradata = std::iter::once(first).chain(extradata).collect();
            let config = DecoderConfig { extradata, ..stream.config() };
            if let Err(fault) = render(&config, &stream.packets(), jpeg(64, 48)) {
                assert!(fault.detail.contains(stream.codec.name()), "{fault}");
            }
        }
    }
}

#[test]
fn limits_are_named() {
    let huge = encode("color=size=16000x8000", 1, &["-c:v", "mjpeg"], "mjpeg", Codec::Mjpeg);
    let fault = render(&huge.config(), &huge.packets(), jpeg(64, 48)).expect_err("128 million pixels");
    assert_eq!(fault.kind, FaultKind::TooLarge, "{fault}");
    let small = h264(SMALL, &[]);
    let check = |rendition: Rendition, kind| {
        let fault = render(&small.config(), &small.packets(), rendition).expect_err("no such picture");
        assert_eq!(fault.kind, kind, "{fault}");
    };
    check(jpeg(0, 240), FaultKind::TooLarge);
    check(jpeg(8193, 16), FaultKind::TooLarge);
    check(Rendition { quality: 0, ..jpeg(320, 240) }, FaultKind::Internal);
    check(Rendition { quality: 101, ..jpeg(320, 240) }, FaultKind::Internal);
}

#[test]
fn a_kept_decoder_makes_the_same_pictures() {
    let streams = streams();
    let renditions = [jpeg(160, 120), png(80, 60), jpeg(320, 240)];
    let fresh = |stream: &Stream| Renderer::new().render(&stream.config(), &stream.packets(), &renditions);
    let mut renderer = Renderer::new();
    for stream in streams.iter().flat_map(|stream| [stream, stream]).chain(&streams) {
        let kept = renderer.render(&stream.config(), &stream.packets(), &renditions);
        assert!(kept.is_ok());
        assert_eq!(kept, fresh(stream), "{}", stream.codec.name());
        let small = [jpeg(64, 48)];
        let kept = renderer.render(&stream.config(), &stream.packets(), &small);
        let fresh = Renderer::new().render(&stream.config(), &stream.packets(), &small);
        assert_eq!(kept, fresh, "{} at a size that lets the loop filter be skipped", stream.codec.name());
    }
}

/// `avcC` from an Annex B stream, and the rest of its units with four bytes of length in front.
fn avcc(stream: &Stream) -> (Vec<u8>, Vec<u8>) {
    let (mut sets, mut packet) = ([Vec::new(), Vec::new()], Vec::new());
    for unit in nal_units(&stream.bytes) {
        match unit[0] & 31 {
            7 => sets[0] = unit.to_vec(),
            8 => sets[1] = unit.to_vec(),
            _ => packet.extend(u32::try_from(unit.len()).expect("a unit").to_be_bytes().iter().chain(unit)),
        }
    }
    let [sps, pps] = sets;
    let mut avcc = vec![1, sps[1], sps[2], sps[3], 0xff, 0xe1];
    for (set, count) in [(sps, None), (pps, Some(1))] {
        avcc.extend(count);
        avcc.extend(u16::try_from(set.len()).expect("a set").to_be_bytes());
        avcc.extend(set);
    }
    (avcc, packet)
}

#[test]
fn parameter_sets_out_of_band() {
    let stream = h264(SD, &["-pix_fmt", "yuv420p"]);
    let (extradata, packet) = avcc(&stream);
    let config = DecoderConfig { extradata, size: (704, 480), ..stream.config() };
    check_packets("avcC", &stream, &config, std::slice::from_ref(&packet), jpeg(320, 240), LIMITED_601, "");
    let fault = render(&stream.config(), &[packet], jpeg(320, 240)).expect_err("no parameter sets");
    assert_eq!(fault.kind, FaultKind::Damaged);

    let args = ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-pix_fmt", "yuv420p"];
    let stream = encode(SD, 1, &args, "ivf", Codec::Av1);
    let packet = stream.packets().remove(0);
    assert_eq!(packet[..3], [0x12, 0, 0x0a], "a delimiter, then the sequence header");
    let (header, frame) = packet[2..].split_at(2 + usize::from(packet[3]));
    let extradata = [&[0x81, 0, 0, 0], header].concat();
    let config = DecoderConfig { extradata, ..stream.config() };
    check_packets("av1C", &stream, &config, &[frame.to_vec()], jpeg(320, 240), LIMITED_601, "");
}

#[test]
fn gradual_refresh_is_shown_when_it_is_whole() {
    // Still content, so that the picture of any instant is the reference; one column is refreshed with each picture.
    let refresh = ["-pix_fmt", "yuv420p", "-x264-params", "intra-refresh=1:keyint=12:bframes=0:aud=1:scenecut=0"];
    let source = "testsrc2=size=704x480:rate=1,trim=end_frame=1,loop=loop=60:size=1";
    let stream = encode(source, 60, &[&X264[..], &refresh].concat(), "h264", Codec::H264);
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for unit in nal_units(&stream.bytes) {
        if unit[0] & 31 == 9 {
            packets.push(Vec::new());
        }
        packets.last_mut().expect("a delimiter first").extend([&[0, 0, 0, 1], unit].concat());
    }
    let sets = |packet: &Vec<u8>| nal_units(packet).iter().any(|unit| unit[0] & 31 == 7);
    let start = packets.iter().skip(1).position(sets).expect("a recovery point") + 1;
    check_packets("refresh", &stream, &stream.config(), &packets[start..start + 13], jpeg(320, 240), LIMITED_601, "");
}
