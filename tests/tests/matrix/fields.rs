//! Field-coded H.264, as cameras with interlaced sensors write it: a picture is coded as two, one of the even lines and
//! one of the odd, and a keyframe is only whole with both. No encoder at hand writes that, so it is written here: keyframes
//! as they are, sample by sample, and between them pictures that repeat them.

#![expect(clippy::cast_possible_truncation, reason = "sizes of small pictures, and the bytes of numbers")]

use std::io;
use std::path::Path;
use std::process::Command;

use e2e::harness::{Camera, Setup};

use crate::film::{FRAME_MS, Film, kept, run};
use crate::judge::{Subject, judge};
use crate::picture::Shown;

/// Of [`crate::film::Master::Plain`].
const WIDTH: usize = 480;
const HEIGHT: usize = 288;
const FRAMES: usize = 75;

/// Pictures from one keyframe to the next.
const GROUP: usize = 13;

/// Bits, the most significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Of the last byte.
    free: u32,
}

impl Bits {
    fn bits(&mut self, value: u32, count: u32) -> &mut Self {
        for place in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(value >> place & 1 == 1) << self.free;
            }
        }
        self
    }

    /// An Exp-Golomb code.
    fn ue(&mut self, value: u32) -> &mut Self {
        let len = (value + 1).ilog2();
        self.bits(0, len).bits(value + 1, len + 1)
    }

    /// Whole bytes, behind zeros up to the next one.
    fn aligned(&mut self, bytes: impl IntoIterator<Item = u8>) -> &mut Self {
        self.free = 0;
        self.bytes.extend(bytes);
        self
    }

    /// The NAL unit of what was written, behind a start code, and such that nothing in it looks like one.
    fn unit(&mut self, header: u8) -> Vec<u8> {
        self.bits(1, 1);
        let (mut unit, mut zeros) = (vec![0, 0, 0, 1, header], 0);
        for byte in &self.bytes {
            if zeros == 2 && *byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            unit.push(*byte);
        }
        unit
    }
}

const DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];

/// Main profile, numbers of 4 bits, order counts of 8, one reference, fields.
fn sequence_set() -> Vec<u8> {
    let mut w = Bits::default();
    w.bits(77, 8).bits(0, 8).bits(40, 8).ue(0).ue(0).ue(0).ue(4).ue(1).bits(0, 1);
    w.ue(WIDTH as u32 / 16 - 1).ue(HEIGHT as u32 / 32 - 1).bits(0, 1).bits(0, 1).bits(1, 1).bits(0, 2);
    w.unit(0x67)
}

/// Variable-length codes; the loop filter can be switched off.
fn picture_set() -> Vec<u8> {
    let mut w = Bits::default();
    w.ue(0).ue(0).bits(0, 2).ue(0).ue(0).ue(0).bits(0, 3).ue(0).ue(0).ue(0).bits(0b100, 3);
    w.unit(0x68)
}

/// The head of a slice that is a whole field.
fn slice(header: u8, kind: u32, number: u32, is_bottom: bool, order: u32, idr: u32) -> Bits {
    const IDR: u8 = 5;
    let mut w = Bits::default();
    w.ue(0).ue(kind).ue(0).bits(number, 4).bits(1, 1).bits(is_bottom.into(), 1);
    if header & 0x1f == IDR {
        w.ue(idr);
    }
    w.bits(order, 8);
    if kind == P {
        w.bits(0, 2); // as many references as usual, in the usual order
    }
    match (header & 0x1f, header >> 5) {
        (IDR, _) => w.bits(0, 2),
        (_, 0) => &mut w,
        (_, _) => w.bits(0, 1),
    };
    w.ue(0).ue(1);
    w
}

const P: u32 = 5;
const I: u32 = 7;

/// One field of a picture, its macroblocks as they are.
fn intra(mut head: Bits, header: u8, picture: &[u8], is_bottom: bool) -> Vec<u8> {
    let plane = |at: usize, width: usize, side: usize, (x, y): (usize, usize)| {
        let row = move |line: usize| at + ((y * side + line) * 2 + usize::from(is_bottom)) * width + x * side;
        (0..side).flat_map(move |line| picture[row(line)..row(line) + side].to_vec())
    };
    let (luma, half) = (WIDTH * HEIGHT, WIDTH / 2);
    for y in 0..HEIGHT / 32 {
        for x in 0..WIDTH / 16 {
            let chroma = |at| plane(at, half, 8, (x, y));
            let samples = plane(0, WIDTH, 16, (x, y)).chain(chroma(luma)).chain(chroma(luma + luma / 4));
            head.ue(25).aligned(samples);
        }
    }
    head.unit(header)
}

/// Both fields of picture `n`, each an access unit.
fn picture(n: usize, raw: &[u8]) -> [Vec<u8>; 2] {
    let (group, place) = ((n / GROUP) as u32, (n % GROUP) as u32);
    let coded = |is_bottom: bool| {
        let order = place * 2 + u32::from(is_bottom);
        match (place, is_bottom) {
            (0, false) => {
                let field = intra(slice(0x65, I, 0, false, order, group % 2), 0x65, raw, false);
                [sequence_set(), picture_set(), field].concat()
            }
            (0, true) => intra(slice(0x41, I, 0, true, order, 0), 0x41, raw, true),
            // All macroblocks skipped: the field of the keyframe again.
            _ => slice(0x01, P, 1, is_bottom, order, 0).ue((WIDTH * HEIGHT / 512) as u32).unit(0x01),
        }
    };
    [false, true].map(|is_bottom| [&DELIMITER[..], &coded(is_bottom)].concat())
}

/// A transport stream; both fields of a picture in one PES packet, or each in its own.
fn stream(raw: &[u8], is_apart: bool) -> Vec<u8> {
    let mut mux = Mux::default();
    for (n, frame) in raw.chunks_exact(WIDTH * HEIGHT * 3 / 2).enumerate() {
        if n % GROUP == 0 {
            mux.tables();
        }
        let at = n as u64 * FRAME_MS as u64 * 90;
        let [top, bottom] = picture(n, frame);
        if is_apart {
            mux.pes(at, &top);
            mux.pes(at + FRAME_MS as u64 * 45, &bottom);
        } else {
            mux.pes(at, &[top, bottom].concat());
        }
    }
    mux.bytes
}

const VIDEO: u16 = 0x100;
const TABLE: u16 = 0x20;

#[derive(Default)]
struct Mux {
    bytes: Vec<u8>,
    counters: std::collections::BTreeMap<u16, u8>,
}

impl Mux {
    fn packets(&mut self, pid: u16, mut payload: &[u8]) {
        let mut first = true;
        while !payload.is_empty() {
            let (now, rest) = payload.split_at(payload.len().min(184));
            let counter = self.counters.entry(pid).or_default();
            let [high, low] = (pid | u16::from(std::mem::take(&mut first)) << 14).to_be_bytes();
            let fill = 184 - now.len();
            self.bytes.extend([0x47, high, low, if fill > 0 { 0x30 } else { 0x10 } | *counter]);
            *counter = (*counter + 1) % 16;
            if fill > 0 {
                self.bytes.push((fill - 1) as u8);
                self.bytes.extend((1..fill).map(|n| if n == 1 { 0 } else { 0xff }));
            }
            self.bytes.extend(now);
            payload = rest;
        }
    }

    fn table(&mut self, pid: u16, id: u8, number: u16, content: &[u8]) {
        let len = (content.len() + 9) as u8;
        let section = [&[id, 0xb0, len][..], &number.to_be_bytes(), &[0xc1, 0, 0], content].concat();
        let check = section.iter().fold(u32::MAX, |check, byte| {
            (0..8).fold(check ^ u32::from(*byte) << 24, |check, _| {
                check << 1 ^ if check >> 31 == 1 { 0x04c1_1db7 } else { 0 }
            })
        });
        self.packets(pid, &[&[0][..], &section, &check.to_be_bytes()].concat());
    }

    fn tables(&mut self) {
        let [high, low] = (TABLE | 0xe000).to_be_bytes();
        self.table(0, 0, 1, &[0, 1, high, low]);
        let [high, low] = (VIDEO | 0xe000).to_be_bytes();
        self.table(TABLE, 2, 1, &[high, low, 0xf0, 0, 0x1b, high, low, 0xf0, 0]);
    }

    fn pes(&mut self, at: u64, payload: &[u8]) {
        let pts = [
            0x21 | (at >> 29 & 0xe) as u8,
            (at >> 22) as u8,
            (at >> 14) as u8 | 1,
            (at >> 7) as u8,
            (at << 1) as u8 | 1,
        ];
        self.packets(VIDEO, &[&[0, 0, 1, 0xe0, 0, 0, 0x84, 0x80, 5][..], &pts, payload].concat());
    }
}

fn subject(name: &str, file: &Path) -> io::Result<Subject> {
    let keys_ms: Vec<i64> = (0..FRAMES as i64).step_by(GROUP).map(|n| n * FRAME_MS).collect();
    let shown = Shown::of(file, |at_ms| keys_ms.contains(&at_ms))?;
    Ok(Subject { name: name.to_owned(), file: file.to_owned(), duration_ms: 6_000, keys_ms: Some(keys_ms), shown })
}

#[tokio::test]
async fn keyframes_of_two_fields_are_whole() {
    let raw = Film::new("as it is", "yuv", "-pix_fmt yuv420p -color_range tv -f rawvideo").file().expect("pictures");
    let written = |is_apart: bool| {
        kept(&format!("fields in PES packets, {is_apart}"), "ts", |to| {
            std::fs::write(to, stream(&std::fs::read(&raw)?, is_apart))
        })
        .expect("a stream")
    };
    let (together, apart) = (written(false), written(true));
    let mut files = vec![("in one PES packet", together.clone()), ("in PES packets of their own", apart)];
    for (name, extension) in [("in MP4", "mp4"), ("in Matroska", "mkv")] {
        let packed = kept(&format!("fields, {name}"), extension, |to| {
            let mut command = Command::new("ffmpeg");
            command.args(["-v", "error", "-nostdin", "-y", "-i"]).arg(&together).args(["-c", "copy"]).arg(to);
            run(&mut command).map(drop)
        });
        files.push((name, packed.expect("a file")));
    }
    let stills = Setup::new().start().await;
    let mut faults = Vec::new();
    for (number, (name, file)) in (1..).zip(&files) {
        let subject = subject(name, file).expect("a subject");
        let judged = judge(&stills, &Camera::numbered(number), &subject).await;
        faults.extend(judged.err().map(|fault| format!("fields {name}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // Each was shown from its own two pictures, and none by a detour.
    assert_eq!(stills.metrics().await.sum("stills_render_fallbacks_total", &[]), 0.0);
}
