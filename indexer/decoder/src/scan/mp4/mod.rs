//! MP4 and MOV (ISO/IEC 14496-12), whole or fragmented: reads box headers, `moov` and `moof` boxes, never `mdat`.
//!
//! 1. walk the boxes at the top from header to header;
//! 2. `moov`: choose the video track, turn its tables into samples; a movie without `mvex` is complete with it;
//! 3. `moof`: append the samples of each fragment; `sidx` and `mfra` only repeat what the walk finds;
//! 4. ask the bitstream where flags look wrong, and hand all samples to the timeline.
//!
//! `resume`, version 1, is written for growing fragmented files: version, `MP4`, where the next box starts, where `moov`
//! is and its check sum, the decode time to go on from, whom to believe about keyframes, and the timeline.

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::fault::Fault;
use stills_model::keyframe::DecoderConfig;
use stills_model::keyframe_index::KeyframeIndex;

use super::bytes::Bytes;
use super::timeline::{Access, Sample, Timeline};
use super::verify::{Trust, verify};
use super::window::Window;
use super::{check_sum, damaged, too_large};

mod boxes;
mod edits;
mod entry;
mod fragments;
pub(super) mod seek;
mod tables;
mod track;

use tables::Row;
use track::Track;

/// Samples in one file: a recording spans at most 24 h, which is 5.2 million pictures at 60 a second.
const SAMPLES_MAX: usize = 6_000_000;

/// Bytes of one `moov` or `moof`: the tables of a day at 60 pictures a second are about 100 MiB.
const TABLES_LEN_MAX: u64 = 256 * 1024 * 1024;

/// Boxes at the top of a file: four per fragment and ten fragments a second for a day.
const BOXES_MAX: u32 = 4_000_000;

const RESUME: &[u8] = b"\x01MP4";

/// Whether a file that begins with `head` is of this family.
pub(super) fn begins(head: &[u8]) -> bool {
    const FIRST: [&[u8; 4]; 13] = [
        b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot", b"sidx", b"uuid", b"emsg",
        b"prft",
    ];
    head.get(4..8).is_some_and(|kind| FIRST.iter().any(|known| kind == &known[..]))
}

/// Finds the keyframes of an MP4 or MOV file.
///
/// `is_clip` lets the codecs of clips alone pass.
pub(super) fn scan(
    window: &mut Window<'_>,
    growing: bool,
    resume: &[u8],
    is_clip: bool,
) -> Result<KeyframeIndex, Fault> {
    if let Ok(state) = State::read(resume)
        && let Some(moov) = state.moov(window)?
    {
        let mut walk = Walk { growing, is_clip, state, samples: Vec::new(), places: Vec::new() };
        walk.fragments(window, &moov)?;
        return walk.finish(window, true);
    }
    let (walk, fragmented) = walk(window, growing, is_clip)?;
    walk.finish(window, fragmented)
}

/// All samples in decoding order as the container gives them, the ticks of a second, and the configurations.
pub(super) fn samples(
    window: &mut Window<'_>,
    growing: bool,
    is_clip: bool,
) -> Result<(Vec<Sample>, u32, Vec<DecoderConfig>), Fault> {
    let (walk, _) = walk(window, growing, is_clip)?;
    let timeline = &walk.state.timeline;
    Ok((walk.samples, timeline.timescale(), timeline.configs().to_vec()))
}

/// Takes all samples, and tells whether there are fragments.
fn walk(window: &mut Window<'_>, growing: bool, is_clip: bool) -> Result<(Walk, bool), Fault> {
    let (moov, found) = find_moov(window, growing)?;
    let track = Track::choose(&moov, is_clip)?;
    let state = State {
        at: found.end,
        moov_at: found.at,
        moov_sum: check_sum(&moov),
        next_dts: 0,
        trust: Trust::Open,
        timeline: Timeline::new(track.timescale),
    };
    let mut walk = Walk { growing, is_clip, state, samples: Vec::new(), places: Vec::new() };
    walk.tables(window, &track)?;
    if track.defaults.is_some() {
        walk.fragments(window, &moov)?;
    }
    Ok((walk, track.defaults.is_some()))
}

/// A box at the top of the file.
#[derive(Debug, Clone, Copy)]
struct Top {
    kind: [u8; 4],
    at: u64,
    content: u64,
    end: u64,
    /// It lasts as long as the file, which may still grow.
    open: bool,
}

impl Top {
    /// The box at `at`; nothing where its header is not whole or lies.
    fn read(window: &mut Window<'_>, at: u64) -> Result<Option<Self>, Fault> {
        let mut head = Bytes::new(window.up_to(at, 16)?);
        let (Some(size), Some(kind)) = (head.u32(), head.fourcc()) else { return Ok(None) };
        let open = size == 0;
        let (header, size) = match size {
            0 => (8, window.len().saturating_sub(at)),
            1 => {
                let Some(size) = head.u64() else { return Ok(None) };
                (16, size)
            }
            _ => (8, size.into()),
        };
        let top = Self { kind, at, content: at + header, end: at.saturating_add(size), open };
        Ok(Some(top).filter(|_| size >= header))
    }

    fn is_whole(&self, window: &Window<'_>) -> bool {
        self.end <= window.len()
    }

    fn bytes(&self, window: &mut Window<'_>) -> Result<Vec<u8>, Fault> {
        let len = self.end - self.content;
        if len > TABLES_LEN_MAX {
            let kind = self.kind.escape_ascii();
            return Err(too_large(format!("the {kind} box has {len} bytes, at most {TABLES_LEN_MAX} are read")));
        }
        window.whole(self.content, len)
    }
}

fn find_moov(window: &mut Window<'_>, growing: bool) -> Result<(Vec<u8>, Top), Fault> {
    let (mut at, mut fragments) = (0, false);
    for _ in 0..BOXES_MAX {
        let Some(top) = Top::read(window, at)? else { break };
        match &top.kind {
            b"moov" if top.is_whole(window) => return Ok((top.bytes(window)?, top)),
            b"moov" if !growing => return Err(damaged("the moov box is cut off: the file ends inside it")),
            b"moof" => fragments = true,
            _ => {}
        }
        at = top.end;
    }
    Err(damaged(match (growing, fragments) {
        (true, false) => "the growing file has no moov box yet",
        (false, false) => "the file has no moov box: it was cut off or never finished",
        (_, true) => "the file has fragments but no moov box in front of them",
    }))
}

/// What a scan knows and the next one goes on with.
struct State {
    /// Where the next box at the top starts.
    at: u64,
    moov_at: u64,
    moov_sum: u64,
    next_dts: i64,
    trust: Trust,
    timeline: Timeline,
}

impl State {
    fn write(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(RESUME).unsigned(self.at).unsigned(self.moov_at).unsigned(self.moov_sum).signed(self.next_dts);
        w.byte(self.trust as u8);
        self.timeline.write(&mut w);
        w.finish()
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.raw(RESUME.len())? != RESUME {
            return Err(Malformed("resume version"));
        }
        let (at, moov_at, moov_sum, next_dts) = (r.unsigned()?, r.unsigned()?, r.unsigned()?, r.signed()?);
        let trust = Trust::from_byte(r.byte()?)?;
        let timeline = Timeline::read(&mut r)?;
        r.end()?;
        Ok(Self { at, moov_at, moov_sum, next_dts, trust, timeline })
    }

    /// The `moov` box that the state was made with, if it still stands there.
    fn moov(&self, window: &mut Window<'_>) -> Result<Option<Vec<u8>>, Fault> {
        let Some(top) = Top::read(window, self.moov_at)? else { return Ok(None) };
        if &top.kind != b"moov" || !top.is_whole(window) {
            return Ok(None);
        }
        Ok(Some(top.bytes(window)?).filter(|moov| check_sum(moov) == self.moov_sum))
    }
}

struct Walk {
    growing: bool,
    is_clip: bool,
    state: State,
    /// Found in this scan.
    samples: Vec<Sample>,
    /// Where the timeline keeps the configuration of each sample entry; nothing for those that are not decoded here.
    places: Vec<Option<u16>>,
}

impl Walk {
    fn know(&mut self, track: &Track<'_>) -> Result<(), Fault> {
        for entry in track.entries.iter().skip(self.places.len()) {
            let place = entry.as_ref().ok().map(|config| self.state.timeline.config(config)).transpose()?;
            self.places.push(place);
        }
        Ok(())
    }

    /// Takes the samples of the movie's own tables.
    fn tables(&mut self, window: &Window<'_>, track: &Track<'_>) -> Result<(), Fault> {
        self.know(track)?;
        let count = usize::try_from(track.tables.count()).unwrap_or(usize::MAX);
        if count > SAMPLES_MAX {
            return Err(too_large(format!("the video track has {count} samples, at most {SAMPLES_MAX} are read")));
        }
        self.samples.reserve(count);
        let mut end = 0;
        for row in track.tables.rows() {
            end = row.dts.saturating_add(row.duration.into());
            self.take(window, track, row);
        }
        self.state.next_dts = end;
        Ok(())
    }

    /// Takes the samples of all fragments from `state.at` on.
    fn fragments(&mut self, window: &mut Window<'_>, moov: &[u8]) -> Result<(), Fault> {
        let track = Track::choose(moov, self.is_clip)?;
        self.know(&track)?;
        for _ in 0..BOXES_MAX {
            let Some(top) = Top::read(window, self.state.at)? else { break };
            if self.growing && top.open {
                break;
            }
            if &top.kind == b"moof" {
                if !top.is_whole(window) {
                    break;
                }
                let moof = top.bytes(window)?;
                let (mut next_dts, defaults) = (self.state.next_dts, track.defaults.unwrap_or_default());
                let rows = fragments::rows(&moof, top.at, track.id, defaults, &mut next_dts, self.samples.len())?;
                let missing = |row: &Row| row.offset.saturating_add(row.len.into()) > window.len();
                if self.growing && rows.iter().any(missing) {
                    break;
                }
                self.state.next_dts = next_dts;
                for row in rows {
                    self.take(window, &track, row);
                }
            }
            self.state.at = top.end;
        }
        Ok(())
    }

    /// Takes one sample; one that lies past the file's end, or whose entry is not decoded here, is left out.
    fn take(&mut self, window: &Window<'_>, track: &Track<'_>, row: Row) {
        if row.offset.saturating_add(row.len.into()) > window.len() {
            return;
        }
        let Some(Some(config)) = self.places.get(row.entry).copied() else { return };
        let (pts, presented) = track.edits.present(row.pts);
        let access = if row.sync && row.len > 0 { Access::Alone } else { Access::None };
        let Row { offset, len, duration, .. } = row;
        self.samples.push(Sample { offset, pts, len, duration, config, access, presented });
    }

    fn finish(mut self, window: &mut Window<'_>, fragmented: bool) -> Result<KeyframeIndex, Fault> {
        let State { timeline, trust, .. } = &mut self.state;
        verify(window, timeline.configs(), &mut self.samples, trust)?;
        for sample in &self.samples {
            timeline.push(sample, sample.len.into())?;
        }
        if timeline.is_empty() && !self.growing {
            return Err(damaged("the video track has no whole picture inside the file"));
        }
        let resume = if self.growing && fragmented { self.state.write() } else { Vec::new() };
        Ok(self.state.timeline.into_index(resume))
    }
}
