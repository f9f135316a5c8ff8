//! Files made wrong on purpose: what an attacker or a broken recorder would hand in, each a file of a few bytes to a few
//! megabytes.

use super::Seeds;

/// A hostile file.
#[derive(Debug, Clone)]
pub(super) struct Hostile {
    pub(super) name: String,
    /// How its name ends.
    pub(super) extension: &'static str,
    pub(super) bytes: Vec<u8>,
    /// It is no video at all: it must never be indexed.
    pub(super) is_refused: bool,
}

fn hostile(name: &str, extension: &'static str, bytes: impl Into<Vec<u8>>) -> Hostile {
    Hostile { name: name.to_owned(), extension, bytes: bytes.into(), is_refused: false }
}

fn refused(name: &str, bytes: impl Into<Vec<u8>>) -> Hostile {
    Hostile { is_refused: true, ..hostile(name, "mp4", bytes) }
}

/// All of them.
pub(super) fn all(seeds: &Seeds) -> Vec<Hostile> {
    [
        texts(seeds),
        other_files(),
        boxes(seeds),
        tables(seeds),
        fragments(seeds),
        ebml(seeds),
        streams(seeds),
        pictures(seeds),
    ]
    .concat()
}

/// Playlists and scripts under a video's name, which FFmpeg would follow to other files and hosts.
fn texts(seeds: &Seeds) -> Vec<Hostile> {
    let neighbour = &seeds.neighbour;
    let hls = |target: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n");
    let dash = "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
                mediaPresentationDuration=\"PT6S\"><Period><AdaptationSet mimeType=\"video/mp4\"><Representation id=\"1\" \
                bandwidth=\"1\"><BaseURL>neighbour.ts</BaseURL></Representation></AdaptationSet></Period></MPD>";
    vec![
        refused("HLS to a local file", hls(neighbour)),
        refused("HLS to a neighbour", hls("neighbour.ts")),
        refused("HLS to a file URL", hls(&format!("file://{neighbour}"))),
        refused("HLS to an address", hls("http://127.0.0.1:9/segment")),
        refused("HLS after white space", format!("\n\n  {}", hls(neighbour))),
        refused("HLS after a byte order mark", format!("\u{feff}{}", hls(neighbour))),
        refused("ffconcat, absolute", format!("ffconcat version 1.0\nfile '{neighbour}'\n")),
        refused("ffconcat, relative", "ffconcat version 1.0\nfile 'neighbour.ts'\n"),
        refused("DASH", dash),
        refused("SDP", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"),
        refused("a subtitle", "WEBVTT\n\n00:00.000 --> 00:01.000\nx\n"),
        refused("SVG", "<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"file:///etc/passwd\"/></svg>"),
    ]
}

fn other_files() -> Vec<Hostile> {
    let long = |byte: u8| vec![byte; 1 << 20];
    let noise: Vec<u8> = (0u32..1 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]).collect();
    vec![
        refused("nothing", []),
        refused("one byte", [0]),
        refused("zeros", long(0)),
        refused("ones", long(0xff)),
        refused("noise", noise),
        hostile("sync bytes", "ts", long(0x47)),
        refused("PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff\xff\xff\xff\xff\xff\xff\x08\x06\0\0\0"),
        refused(
            "JPEG",
            b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03",
        ),
        refused("GIF", b"GIF89a\xff\xff\xff\xff\0\0\0"),
        refused("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
        refused("ELF", b"\x7fELF\x02\x01\x01\0"),
        refused("AVI", b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl"),
        refused("FLV", b"FLV\x01\x05\0\0\0\x09\0\0\0\0"),
        refused("ASF", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c"),
        refused("Ogg", b"OggS\0\x02\0\0\0\0\0\0\0\0"),
        refused("MXF", b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02"),
    ]
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len() + 8).unwrap_or(u32::MAX);
    [&len.to_be_bytes()[..], kind, content].concat()
}

const FTYP: &[u8] = b"\0\0\0\x18ftypisom\0\0\0\0isommp42";

fn boxes(seeds: &Seeds) -> Vec<Hostile> {
    let nested = |kind: &[u8; 4], depth: usize| {
        let mut bytes = Vec::new();
        for left in (1..=depth).rev() {
            bytes.extend(u32::try_from(left * 8).unwrap_or(0).to_be_bytes());
            bytes.extend(kind);
        }
        [FTYP, &bytes].concat()
    };
    let without_moov = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        patch(&mut bytes, b"moov", -4, b"free");
        bytes
    };
    let chain = |kind: &[u8; 4], count: usize| [FTYP, &boxed(kind, &[]).repeat(count)].concat();
    vec![
        refused("only a file type", FTYP),
        refused("half a moov", &seeds.mp4[..200]),
        refused("no moov", without_moov(&seeds.mp4)),
        refused("no moov at the end", without_moov(&seeds.mp4_at_end)),
        refused("an empty moov", [FTYP, &boxed(b"moov", &[])].concat()),
        refused("a moov up to the end", [FTYP, b"\0\0\0\0moov"].concat()),
        refused("a moov of 2^63 bytes", [FTYP, b"\0\0\0\x01moov\x7f\xff\xff\xff\xff\xff\xff\xff"].concat()),
        refused("a moov of 2^64 bytes", [FTYP, b"\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff"].concat()),
        refused("a box of 7 bytes", [FTYP, b"\0\0\0\x07moov"].concat()),
        refused("a box of 1 byte that says 64 bits and stops", [FTYP, b"\0\0\0\x01moov"].concat()),
        refused("moov in moov, 20,000 deep", nested(b"moov", 20_000)),
        refused("trak in trak, 20,000 deep", [FTYP, &boxed(b"moov", &nested(b"trak", 20_000)[24..])].concat()),
        refused("a chain of 200,000 empty boxes", chain(b"free", 200_000)),
        refused("200,000 empty fragments", chain(b"moof", 200_000)),
        refused("10,000 empty tracks", [FTYP, &boxed(b"moov", &boxed(b"trak", &[]).repeat(10_000))].concat()),
    ]
}

/// Writes `value` at `offset` from the end of the first `name`.
fn patch(bytes: &mut [u8], name: &[u8], offset: isize, value: &[u8]) {
    let Some(place) = bytes.windows(name.len()).position(|window| window == name) else { return };
    let at = (place + name.len()).saturating_add_signed(offset);
    if let Some(target) = bytes.get_mut(at..at + value.len()) {
        target.copy_from_slice(value);
    }
}

fn patched(name: &str, seed: &[u8], changes: &[(&[u8], isize, &[u8])]) -> Hostile {
    let mut bytes = seed.to_vec();
    for (table, offset, value) in changes {
        patch(&mut bytes, table, *offset, value);
    }
    assert_ne!(bytes, seed, "{name}: the seed has no such table");
    hostile(name, "mp4", bytes)
}

const MOST: &[u8] = &[0xff; 4];
const MOST_SIGNED: &[u8] = &[0x7f, 0xff, 0xff, 0xff];
const NOUGHT: &[u8] = &[0; 4];

/// The tables of MP4 with numbers that no file can have.
fn tables(seeds: &Seeds) -> Vec<Hostile> {
    let mp4 = &seeds.mp4;
    vec![
        patched("samples of one absurd size", mp4, &[(b"stsz", 4, MOST)]),
        patched("2^32 samples", mp4, &[(b"stsz", 8, MOST)]),
        patched("2^32 samples of one byte", mp4, &[(b"stsz", 4, &[0, 0, 0, 1]), (b"stsz", 8, MOST)]),
        patched("2^31 samples of no bytes", mp4, &[(b"stsz", 4, NOUGHT), (b"stsz", 8, MOST_SIGNED)]),
        patched("2^32 chunks", mp4, &[(b"stco", 4, MOST)]),
        patched("chunks past the end", mp4, &[(b"stco", 8, MOST_SIGNED)]),
        patched("2^32 samples in a chunk", mp4, &[(b"stsc", 12, MOST)]),
        patched("chunks of no samples", mp4, &[(b"stsc", 12, NOUGHT)]),
        patched("a description that is not there", mp4, &[(b"stsc", 16, MOST)]),
        patched("2^32 runs of times", mp4, &[(b"stts", 4, MOST)]),
        patched("2^32 samples of 2^32 ticks", mp4, &[(b"stts", 8, MOST), (b"stts", 12, MOST)]),
        patched("samples that last no time", mp4, &[(b"stts", 12, NOUGHT)]),
        patched("2^32 offsets", &seeds.mp4_at_end, &[(b"ctts", 4, MOST)]),
        patched("absurd offsets", &seeds.mp4_at_end, &[(b"ctts", 12, &[0x80, 0, 0, 0])]),
        patched("2^32 keyframes", mp4, &[(b"stss", 4, MOST)]),
        patched("keyframe number nought", mp4, &[(b"stss", 8, NOUGHT)]),
        patched("keyframe number 2^32", mp4, &[(b"stss", 8, MOST)]),
        patched("no ticks in a second", mp4, &[(b"mdhd", 12, NOUGHT)]),
        patched("2^32 ticks in a second", mp4, &[(b"mdhd", 12, MOST)]),
        patched("2^32 edits", mp4, &[(b"elst", 4, MOST)]),
        patched("an edit that begins after the end", mp4, &[(b"elst", 12, MOST_SIGNED)]),
        patched("an edit of absurd length", mp4, &[(b"elst", 8, MOST), (b"elst", 12, NOUGHT)]),
        patched("2^32 descriptions", mp4, &[(b"stsd", 4, MOST)]),
        patched("no description", mp4, &[(b"stsd", 4, NOUGHT)]),
        patched("another codec's name", mp4, &[(b"stsd", 12, b"hvc1")]),
        patched("a codec that nobody knows", mp4, &[(b"stsd", 12, b"zzzz")]),
        patched("65535x65535 in its description", mp4, &[(b"avc1", 24, MOST)]),
        patched("parameter sets of absurd length", mp4, &[(b"avcC", 6, &[0xff, 0xff])]),
        patched("31 parameter sets that are not there", mp4, &[(b"avcC", 5, &[0xff])]),
        patched("lengths of three bytes", mp4, &[(b"avcC", 4, &[0xfe])]),
        patched("a profile that nobody knows", mp4, &[(b"avcC", 1, &[0xff, 0xff, 0xff])]),
        patched("another track's matrix", mp4, &[(b"tkhd", 40, &[0xff; 36])]),
    ]
}

fn fragments(seeds: &Seeds) -> Vec<Hostile> {
    let fragmented = &seeds.fragmented;
    vec![
        patched("2^32 samples in a run", fragmented, &[(b"trun", 4, MOST)]),
        patched("2^32 samples in a run without fields", fragmented, &[(b"trun", 0, NOUGHT), (b"trun", 4, MOST)]),
        patched("a run far behind the end", fragmented, &[(b"trun", 8, MOST_SIGNED)]),
        patched("a run before the file", fragmented, &[(b"trun", 8, &[0x80, 0, 0, 0])]),
        patched("a fragment at the end of time", fragmented, &[(b"tfdt", 4, &[0xff; 8])]),
        patched("a fragment of no track", fragmented, &[(b"tfhd", 4, MOST)]),
        patched("an index of absurd references", fragmented, &[(b"sidx", 22, &[0xff, 0xff])]),
    ]
}

/// A Matroska element with the content, its size in eight bytes.
fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    let size = (content.len() as u64 | 1 << 56).to_be_bytes();
    [id, &size, content].concat()
}

const EBML: &[u8] = b"\x1a\x45\xdf\xa3\x84\x42\x86\x81\x01";
const SEGMENT: &[u8] = b"\x18\x53\x80\x67";
const TRACKS: &[u8] = b"\x16\x54\xae\x6b";
const CLUSTER: &[u8] = b"\x1f\x43\xb6\x75";

fn ebml(seeds: &Seeds) -> Vec<Hostile> {
    let of = |parts: &[&[u8]]| [EBML, &parts.concat()].concat();
    let unknown = |id: &[u8]| [id, b"\x01\xff\xff\xff\xff\xff\xff\xff"].concat();
    let track = element(b"\xae", b"\xd7\x81\x01\x83\x81\x01\x86\x85V_VP8\xe0\x86\xb0\x81\x40\xba\x81\x40");
    let compressed = element(
        b"\xae",
        b"\xd7\x81\x01\x83\x81\x01\x86\x85V_VP8\x6d\x80\x8d\x62\x40\x8a\x50\x34\x87\x42\x54\x81\x00\x42\x55\x80",
    );
    let tracks = element(TRACKS, &track);
    let lace = |flags: u8| [&b"\x81\0\0"[..], &[flags, 0xff], &[0xff; 64]].concat();
    let laced =
        |flags| of(&[&unknown(SEGMENT), &tracks, &unknown(CLUSTER), b"\xe7\x81\0", &element(b"\xa3", &lace(flags))]);
    let small_clusters = element(CLUSTER, b"\xe7\x81\0").repeat(50_000);
    let seek = |to: &[u8; 8]| {
        let entry = [&b"\x53\xab\x84\x11\x4d\x9b\x74\x53\xac\x88"[..], to].concat();
        element(b"\x11\x4d\x9b\x74", &element(b"\x4d\xbb", &entry))
    };
    let mut files = vec![
        hostile("only an EBML head", "mkv", EBML),
        hostile("a segment of 2^56 bytes", "mkv", of(&[SEGMENT, b"\x01\xff\xff\xff\xff\xff\xff\xfe"])),
        hostile("a segment of no bytes", "mkv", of(&[SEGMENT, b"\x80"])),
        hostile("segments in segments, 20,000 deep", "mkv", of(&[&unknown(SEGMENT).repeat(20_000)])),
        hostile(
            "clusters in clusters, 20,000 deep",
            "mkv",
            of(&[&unknown(SEGMENT), &tracks, &unknown(CLUSTER).repeat(20_000)]),
        ),
        hostile("50,000 empty clusters", "mkv", of(&[&unknown(SEGMENT), &tracks, &small_clusters])),
        hostile("20,000 tracks", "mkv", of(&[&unknown(SEGMENT), &element(TRACKS, &track.repeat(20_000))])),
        hostile("a seek head that points at itself", "mkv", of(&[&unknown(SEGMENT), &seek(&[0; 8]), &tracks])),
        hostile("a seek head that points nowhere", "mkv", of(&[&unknown(SEGMENT), &seek(&[0xff; 8]), &tracks])),
        hostile("an EBML head of 2^56 bytes", "mkv", b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe"),
        hostile("sizes of no length", "mkv", of(&[SEGMENT, b"\0\0\0\0"])),
        hostile("compressed blocks", "mkv", of(&[&unknown(SEGMENT), &element(TRACKS, &compressed), &small_clusters])),
    ];
    files.extend([0x82, 0x84, 0x86].map(|flags| hostile(&format!("laces of flags {flags:#x}"), "mkv", laced(flags))));
    let mut cues = seeds.matroska.clone();
    // A cue's place in the segment.
    patch(&mut cues, b"\xf1", 1, &[0xff; 2]);
    files.push(hostile("cues past the end", "mkv", cues));
    files
}

fn ts_packet(pid: u16, starts: bool, payload: &[u8]) -> Vec<u8> {
    let fill = 183usize.saturating_sub(payload.len());
    let [high, low] = (pid | u16::from(starts) << 14).to_be_bytes();
    let mut packet = vec![0x47, high, low, 0x30, u8::try_from(fill).unwrap_or(183)];
    packet.extend(vec![0xff; fill]);
    packet.extend(payload);
    packet
}

fn streams(seeds: &Seeds) -> Vec<Hostile> {
    let pat = ts_packet(0, true, &[0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0, 0x20, 0, 0, 0, 0]);
    let pmt = ts_packet(
        0x20,
        true,
        &[0, 2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0, 0, 0, 0, 0],
    );
    let own = ts_packet(0, true, &[0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0, 0x00, 0, 0, 0, 0]);
    let long =
        ts_packet(0x20, true, &[0, 2, 0xbf, 0xff, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xff, 0xff, 0x1b, 0xe1, 0, 0xff, 0xff]);
    let head = [pat.clone(), pmt].concat();
    let idr = b"\0\0\x01\xe0\0\0\x80\x80\x05\x21\0\x01\0\x01\0\0\0\x01\x67\x42\xc0\x0a\xff\0\0\0\x01\x68\xce\0\0\0\x01\x65\xff";
    let empty_pes = ts_packet(0x100, true, b"\0\0\x01\xe0\0\0\x80\0\0");
    let unending =
        [&ts_packet(0x100, true, b"\0\0\x01\xe0\0\0\x80\0\0")[..], &ts_packet(0x100, false, &[0; 180]).repeat(8000)]
            .concat();
    let mut times = seeds.ts.clone();
    for (n, packet) in
        (0u8..).zip(times.chunks_mut(188).filter(|packet| packet.len() == 188 && packet[1] & 0x41 == 0x41))
    {
        if let Some(at) = packet.windows(4).position(|window| window == b"\0\0\x01\xe0") {
            packet[at + 9..at + 14].fill(n.wrapping_mul(37) | 1);
        }
    }
    vec![
        hostile("a program table that is its own", "ts", own.repeat(2000)),
        hostile("a program table that is too long", "ts", [pat, long].concat().repeat(2000)),
        hostile("a program without packets", "ts", head.repeat(2000)),
        hostile("10,000 empty PES packets", "ts", [&head[..], &empty_pes.repeat(10_000)].concat()),
        hostile("a PES packet without an end", "ts", [&head[..], &unending].concat()),
        hostile(
            "30,000 keyframes at one time",
            "ts",
            [&head[..], &ts_packet(0x100, true, idr).repeat(30_000)].concat(),
        ),
        hostile("times that jump", "ts", times),
        hostile("half a packet", "ts", &seeds.ts[..100]),
    ]
}

/// Pictures that claim to be larger than memory.
fn pictures(seeds: &Seeds) -> Vec<Hostile> {
    let sized = |seed: &[u8], side: [u8; 2]| {
        let mut bytes = seed.to_vec();
        let mut at = 0;
        // Height and width of every frame header.
        while let Some(next) = bytes[at..].windows(4).position(|window| window == b"\xff\xc0\0\x11") {
            at += next + 5;
            bytes[at..at + 2].copy_from_slice(&side);
            bytes[at + 2..at + 4].copy_from_slice(&side);
        }
        assert!(at > 0, "the seed has no frame header");
        bytes
    };
    let mut vp8 = seeds.vp8.clone();
    let mut at = 0;
    while let Some(next) = vp8[at..].windows(3).position(|window| window == b"\x9d\x01\x2a") {
        at += next + 3;
        vp8[at..at + 4].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    }
    let [high, low] = 16_000u16.to_be_bytes();
    vec![
        hostile("Motion JPEG of 16000x16000 in MP4", "mp4", sized(&seeds.mjpeg_mp4, [high, low])),
        hostile("Motion JPEG of 16000x16000 in Matroska", "mkv", sized(&seeds.mjpeg_mkv, [high, low])),
        hostile("Motion JPEG of 65535x65535", "mkv", sized(&seeds.mjpeg_mkv, [0xff, 0xff])),
        hostile("Motion JPEG of no size", "mkv", sized(&seeds.mjpeg_mkv, [0, 0])),
        hostile("Motion JPEG of 8000x8000", "mkv", sized(&seeds.mjpeg_mkv, 8000u16.to_be_bytes())),
        hostile("VP8 of 16383x16383", "webm", vp8),
    ]
}
