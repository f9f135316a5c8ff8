//! The movie box: which track is the video to show, and all that is needed to read its samples.

use stills_model::fault::Fault;
use stills_model::keyframe::{DecoderConfig, Orientation};

use super::super::bytes::Bytes;
use super::super::damaged;
use super::boxes::{boxes, find, path};
use super::edits::Edits;
use super::entry::entries;
use super::tables::{Offsets, Sizes, Tables};

/// Tracks that are looked at; real files have two to five.
const TRACKS_MAX: usize = 64;

/// The video track of a movie.
#[derive(Debug)]
pub(super) struct Track<'a> {
    pub(super) id: u32,
    pub(super) timescale: u32,
    pub(super) entries: Vec<Result<DecoderConfig, Fault>>,
    pub(super) edits: Edits,
    pub(super) tables: Tables<'a>,
    /// What fragments take where they say nothing; present when the movie is fragmented.
    pub(super) defaults: Option<Defaults>,
    enabled: bool,
}

/// `trex`: defaults of the samples in fragments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub(super) entry: u32,
    pub(super) duration: u32,
    pub(super) len: u32,
    pub(super) flags: u32,
}

impl<'a> Track<'a> {
    /// The first video track that is enabled and decodable; else the first decodable; else the first, with its fault.
    pub(super) fn choose(moov: &'a [u8], is_clip: bool) -> Result<Self, Fault> {
        let tracks = boxes(moov).filter(|(kind, _)| kind == b"trak").take(TRACKS_MAX);
        let mut videos: Vec<Self> = tracks.filter_map(|(_, trak)| Self::read(moov, trak, is_clip)).collect();
        let decodable = |track: &Self| track.entries.iter().any(Result::is_ok);
        let chosen = videos.iter().position(|track| track.enabled && decodable(track));
        let chosen = chosen.or_else(|| videos.iter().position(decodable)).unwrap_or(0);
        if videos.is_empty() {
            return Err(damaged("the moov box has no video track"));
        }
        let track = videos.swap_remove(chosen);
        match track.entries.first() {
            None => Err(damaged("the video track has no sample description")),
            Some(Err(fault)) if !decodable(&track) => Err(fault.clone()),
            Some(_) => Ok(track),
        }
    }

    /// Nothing for tracks that are not video or lack what every track has.
    fn read(moov: &'a [u8], trak: &'a [u8], is_clip: bool) -> Option<Self> {
        let mdia = find(trak, b"mdia")?;
        if find(mdia, b"hdlr")?.get(8..12)? != b"vide" {
            return None;
        }
        let movie = find(moov, b"mvhd").and_then(Header::movie).unwrap_or_default();
        let header = find(trak, b"tkhd").and_then(Header::track).unwrap_or_default();
        let timescale = timescale(find(mdia, b"mdhd")?)?;
        let stbl = path(mdia, &[b"minf", b"stbl"])?;
        let orientation = orientation(times(header.matrix, movie.matrix));
        let defaults = find(moov, b"mvex").map(|mvex| defaults(mvex, header.id));
        let elst = path(trak, &[b"edts", b"elst"]).unwrap_or_default();
        Some(Self {
            id: header.id,
            timescale,
            entries: entries(find(stbl, b"stsd")?, orientation, is_clip),
            edits: Edits::read(elst, movie.timescale, timescale, defaults.is_some()),
            tables: tables(stbl),
            defaults,
            enabled: header.enabled,
        })
    }
}

fn tables(stbl: &[u8]) -> Tables<'_> {
    let table = |kind| find(stbl, kind).unwrap_or_default();
    let sizes = find(stbl, b"stsz").and_then(Sizes::stsz);
    let sizes = sizes.or_else(|| find(stbl, b"stz2").and_then(Sizes::stz2)).unwrap_or_default();
    let wide = find(stbl, b"co64");
    Tables {
        stts: table(b"stts"),
        ctts: table(b"ctts"),
        stss: find(stbl, b"stss"),
        stps: table(b"stps"),
        stsc: table(b"stsc"),
        sizes,
        offsets: Offsets { table: wide.unwrap_or_else(|| table(b"stco")), wide: wide.is_some() },
    }
}

fn timescale(mdhd: &[u8]) -> Option<u32> {
    let mut fields = Bytes::new(mdhd);
    let version = fields.u8()?;
    fields.skip(3 + if version == 1 { 16 } else { 8 })?;
    Some(fields.u32()?.max(1))
}

fn defaults(mvex: &[u8], track: u32) -> Defaults {
    let read = |trex: &[u8]| {
        let mut fields = Bytes::new(trex);
        fields.skip(4)?;
        let id = fields.u32()?;
        let (entry, duration) = (fields.u32()?, fields.u32()?);
        Some((id, Defaults { entry, duration, len: fields.u32()?, flags: fields.u32()? }))
    };
    let all = boxes(mvex).filter(|(kind, _)| kind == b"trex").filter_map(|(_, trex)| read(trex));
    let mut own = all.filter(|(id, _)| *id == track);
    own.next().map_or(Defaults { entry: 1, ..Defaults::default() }, |(_, defaults)| defaults)
}

/// The upper left of a display matrix: a, b, c, d as 16.16.
type Matrix = [i32; 4];

const UPRIGHT: Matrix = [1 << 16, 0, 0, 1 << 16];

/// What `mvhd` and `tkhd` have in common.
#[derive(Debug)]
struct Header {
    id: u32,
    enabled: bool,
    timescale: u32,
    matrix: Matrix,
}

impl Default for Header {
    fn default() -> Self {
        Self { id: 0, enabled: true, timescale: 1000, matrix: UPRIGHT }
    }
}

impl Header {
    fn movie(mvhd: &[u8]) -> Option<Self> {
        let mut fields = Bytes::new(mvhd);
        let wide = fields.u8()? == 1;
        fields.skip(3 + if wide { 16 } else { 8 })?;
        let timescale = fields.u32()?;
        fields.skip(if wide { 24 } else { 20 })?;
        Some(Self { timescale, matrix: matrix(&mut fields).unwrap_or(UPRIGHT), ..Self::default() })
    }

    fn track(tkhd: &[u8]) -> Option<Self> {
        let mut fields = Bytes::new(tkhd);
        let wide = fields.u8()? == 1;
        let enabled = fields.u24()? & 1 == 1;
        fields.skip(if wide { 16 } else { 8 })?;
        let id = fields.u32()?;
        fields.skip(if wide { 28 } else { 24 })?;
        Some(Self { id, enabled, matrix: matrix(&mut fields).unwrap_or(UPRIGHT), ..Self::default() })
    }
}

fn matrix(fields: &mut Bytes<'_>) -> Option<Matrix> {
    let (a, b, _, c, d) = (fields.i32()?, fields.i32()?, fields.i32()?, fields.i32()?, fields.i32()?);
    // All zeros would show nothing; writers that leave the matrix out mean upright.
    Some([a, b, c, d]).filter(|matrix| *matrix != [0; 4])
}

/// First `m`, then `n`, for row vectors.
fn times(m: Matrix, n: Matrix) -> Matrix {
    let [m, n] = [m, n].map(|matrix| matrix.map(i64::from));
    let cell = |x: i64, y: i64, p: i64, q: i64| {
        let sum = (x * p + y * q) >> 16;
        i32::try_from(sum).unwrap_or(if sum < 0 { i32::MIN } else { i32::MAX })
    };
    [
        cell(m[0], m[1], n[0], n[2]),
        cell(m[0], m[1], n[1], n[3]),
        cell(m[2], m[3], n[0], n[2]),
        cell(m[2], m[3], n[1], n[3]),
    ]
}

/// Quarter turns and mirroring nearest to a matrix. (a, b) is where the picture's right goes, (c, d) where its
/// bottom goes, y pointing down.
fn orientation([a, b, c, d]: Matrix) -> Orientation {
    let [a, b, c, d] = [a, b, c, d].map(i64::from);
    let mirrored = i128::from(a) * i128::from(d) < i128::from(b) * i128::from(c);
    let (a, b) = if mirrored { (-a, -b) } else { (a, b) };
    let quarter_turns = if a.abs() >= b.abs() {
        if a < 0 { 2 } else { 0 }
    } else if b > 0 {
        1
    } else {
        3
    };
    Orientation { quarter_turns, mirrored }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientations() {
        const ONE: i32 = 1 << 16;
        let check = |matrix, quarter_turns, mirrored| {
            assert_eq!(orientation(matrix), Orientation { quarter_turns, mirrored }, "{matrix:?}");
        };
        check(UPRIGHT, 0, false);
        check([0, ONE, -ONE, 0], 1, false);
        check([-ONE, 0, 0, -ONE], 2, false);
        check([0, -ONE, ONE, 0], 3, false);
        check([-ONE, 0, 0, ONE], 0, true);
        check([ONE, 0, 0, -ONE], 2, true);
        check([0, ONE, ONE, 0], 3, true);
        check(times([0, ONE, -ONE, 0], [0, ONE, -ONE, 0]), 2, false);
        check(times([i32::MIN; 4], [i32::MAX; 4]), 2, false);
    }
}
