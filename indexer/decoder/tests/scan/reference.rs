//! What FFmpeg's demuxers say of a file, and the comparison with our index.

use std::path::Path;
use std::process::Command;

use stills_decoder::packets::packets;
use stills_model::keyframe::{Keyframe, ticks_to_ms};
use stills_model::keyframe_index::KeyframeIndex;

/// One packet of the video stream.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) pts: i64,
    pub(crate) duration: i64,
    pub(crate) size: usize,
    pub(crate) key: bool,
    pub(crate) discarded: bool,
    pub(crate) crc: u32,
}

/// The packets of the first video stream, in decoding order.
pub(crate) struct Reference {
    pub(crate) packets: Vec<Packet>,
    timescale: u32,
}

impl Reference {
    pub(crate) fn of(path: &Path) -> Self {
        let show = |what: &str| {
            let args = ["-v", "error", "-select_streams", "v:0", "-show_data_hash", "crc32"];
            let output = Command::new("ffprobe").args(args).args(["-show_entries", what]).arg(path).output();
            String::from_utf8(output.expect("ffprobe runs").stdout).expect("text")
        };
        let field = |section: &str, name: &str| {
            let find = |line: &str| line.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
            section.lines().find_map(find).unwrap_or_default()
        };
        let base = field(&show("stream=time_base"), "time_base");
        let timescale = base.strip_prefix("1/").expect("a time base").parse().expect("a number");
        let read = |packet: &str| {
            let flags = field(packet, "flags");
            let hash = field(packet, "data_hash");
            Some(Packet {
                pts: field(packet, "pts").parse().ok()?,
                duration: field(packet, "duration").parse().unwrap_or(0),
                size: field(packet, "size").parse().ok()?,
                key: flags.contains('K'),
                discarded: flags.contains('D'),
                crc: u32::from_str_radix(hash.strip_prefix("CRC32:")?, 16).ok()?,
            })
        };
        let packets = show("packet=pts,duration,size,flags,data_hash");
        Self { packets: packets.split("[/PACKET]").filter_map(read).collect(), timescale }
    }

    fn start(&self) -> i64 {
        self.packets.iter().filter(|packet| !packet.discarded).map(|packet| packet.pts).min().expect("a picture")
    }

    /// Milliseconds after the earliest presented picture.
    pub(crate) fn ms(&self, packet: &Packet) -> i64 {
        ticks_to_ms(packet.pts - self.start(), self.timescale)
    }

    pub(crate) fn keyframes(&self) -> Vec<&Packet> {
        let mut keys: Vec<&Packet> = self.packets.iter().filter(|packet| packet.key && !packet.discarded).collect();
        keys.sort_by_key(|packet| packet.pts);
        keys
    }

    pub(crate) fn duration_ms(&self) -> i64 {
        let end = self.packets.iter().map(|packet| packet.pts + packet.duration).max().expect("a picture");
        ticks_to_ms(end - self.start(), self.timescale)
    }
}

/// The packets that a keyframe's ranges hold.
pub(crate) fn fed(file: &[u8], index: &KeyframeIndex, keyframe: &Keyframe) -> Vec<Vec<u8>> {
    let cut = |offset: u64, len: u32| {
        let from = usize::try_from(offset).expect("offset");
        file[from..from + len as usize].to_vec()
    };
    let pieces: Vec<Vec<u8>> = keyframe.ranges.iter().map(|range| cut(range.offset, range.len)).collect();
    let packets = packets(&index.configs[usize::from(keyframe.config)].packaging, &pieces).expect("packets");
    packets.into_iter().map(std::borrow::Cow::into_owned).collect()
}

/// Every keyframe that FFmpeg finds and no other, each at its instant, with FFmpeg's own bytes; the duration to within
/// `slack_ms`, because not every container tells how long its last picture lasts.
pub(crate) fn check(path: &Path, index: &KeyframeIndex, slack_ms: i64) {
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let file = std::fs::read(path).expect("the fixture is there");
    let reference = Reference::of(path);
    let keys = reference.keyframes();
    let expected: Vec<i64> = keys.iter().map(|packet| reference.ms(packet)).collect();
    let found: Vec<i64> = index.keyframes.iter().map(|keyframe| keyframe.at_ms).collect();
    assert_eq!(found, expected, "{name}: instants");
    for (keyframe, packet) in index.keyframes.iter().zip(keys) {
        let fed = fed(&file, index, keyframe);
        assert_eq!(fed.len(), 1, "{name}: one packet");
        // FFmpeg's HEVC parser counts the first zero of a start code to the picture before.
        let zeros = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(from, more)| [&fed[0][from..], &[0][..more]].concat());
        let same = |bytes: &Vec<u8>| bytes.len() == packet.size && crc32(bytes) == packet.crc;
        let same = if name == "hevc.ts" { zeros.iter().any(same) } else { same(&fed[0]) };
        assert!(same, "{name}: the packet at {} ms: {} bytes, expected {}", keyframe.at_ms, fed[0].len(), packet.size);
    }
    let off = (index.duration_ms - reference.duration_ms()).abs();
    assert!(off <= slack_ms, "{name}: {} ms long, {} expected", index.duration_ms, reference.duration_ms());
    let first = reference.packets.iter().position(|packet| packet.key && !packet.discarded).expect("a keyframe");
    let video: usize = reference.packets[first..].iter().map(|packet| packet.size).sum();
    let sum: u64 = index.keyframes.iter().map(|keyframe| keyframe.gop_bytes).sum();
    let ratio = sum as f64 / video as f64;
    assert!((0.9..1.6).contains(&ratio), "{name}: {sum} bytes between keyframes, {video} in the file");
    assert!(!found.is_empty(), "{name}: keyframes");
}

/// As in zlib: the check sum that ffprobe prints.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}
