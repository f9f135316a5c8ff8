//! Fixtures: elementary streams made by the FFmpeg program, their packets, and FFmpeg's own scaling of them.
//! Streams are as short as can be, so that a packet is a whole file or one splits off without a demuxer.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use stills_model::keyframe::{Codec, DecoderConfig, Orientation, Packaging};

/// An elementary stream and what FFmpeg calls its format.
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) format: &'static str,
    pub(crate) codec: Codec,
}

/// Encodes a lavfi `source` with the encoder `args` to `frames` pictures.
pub(crate) fn encode(source: &str, frames: u32, args: &[&str], format: &'static str, codec: Codec) -> Stream {
    let frames = frames.to_string();
    let mut command = vec!["-f", "lavfi", "-i", source, "-frames:v", &frames];
    command.extend_from_slice(args);
    command.extend_from_slice(&["-f", format, "pipe:1"]);
    let bytes = ffmpeg(&command, &[]);
    assert!(bytes.len() > 100, "the encoder made a stream");
    Stream { bytes, format, codec }
}

impl Stream {
    /// All packets of the stream: one for a raw stream of one picture, one for each IVF frame.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        if self.format != "ivf" {
            return vec![self.bytes.clone()];
        }
        let (mut rest, mut packets) = (&self.bytes[32..], Vec::new());
        while let [a, b, c, d, ..] = *rest {
            let len = u32::from_le_bytes([a, b, c, d]) as usize;
            packets.push(rest[12..12 + len].to_vec());
            rest = &rest[12 + len..];
        }
        packets
    }

    /// A configuration without extradata: all is in-band.
    pub(crate) fn config(&self) -> DecoderConfig {
        DecoderConfig {
            codec: self.codec,
            packaging: Packaging::Samples { prefix: Vec::new() },
            extradata: Vec::new(),
            size: (0, 0),
            sample_aspect: (0, 0),
            orientation: Orientation::default(),
        }
    }

    /// The first picture after `filter`, which ends in a pixel format: planes one after the other.
    pub(crate) fn reference(&self, filter: &str) -> Vec<u8> {
        // FFmpeg's own scaler, with nothing of its speed tricks.
        let filter = filter.replace("FLAGS", "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp");
        let demuxer = if self.format == "mpeg2video" { "mpegvideo" } else { self.format };
        let args = ["-f", demuxer, "-i", "pipe:0", "-frames:v", "1", "-vf", &filter, "-f", "rawvideo", "pipe:1"];
        ffmpeg(&args, &self.bytes)
    }
}

/// The NAL units of an Annex B stream, without start codes.
pub(crate) fn nal_units(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, code)| *code == [0, 0, 1]).map(|(at, _)| at + 3).collect();
    let ends = starts.iter().skip(1).map(|start| start - 3).chain([bytes.len()]);
    let units = starts.iter().zip(ends).map(|(&start, end)| &bytes[start..end]);
    units.map(|unit| unit.strip_suffix(&[0]).unwrap_or(unit)).collect()
}

/// Runs the FFmpeg program on `input` and returns what it writes.
pub(crate) fn ffmpeg(args: &[&str], input: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let input_path = directory.path().join("input");
    std::fs::File::create(&input_path).and_then(|mut file| file.write_all(input)).expect("an input file");
    let output = run(args, &input_path);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn run(args: &[&str], input: &Path) -> std::process::Output {
    let stdin = std::fs::File::open(input).expect("the input file");
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1"])
        .args(args)
        .stdin(Stdio::from(stdin));
    command.output().expect("the ffmpeg program")
}
