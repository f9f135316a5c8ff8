//! Matroska and WebM (RFC 9559): reads element headers, the tables in front, and the headers of blocks; never a frame.
//!
//! 1. the segment's head: `Info`, `Tracks` and where `Cues` are;
//! 2. with cues: the first frames for the earliest instant, the header at each cue, and the blocks behind the last cue
//!    for the duration. Bytes between keyframes are then distances in the file, other tracks included;
//! 3. without cues, for growing files, and where flags are found to lie: every block's header;
//! 4. ask the bitstream where flags look wrong, and hand all samples to the timeline, in nanoseconds.
//!
//! `resume`, version 1: version, `MKV`, the check sum of `Tracks`, the next element and its cluster's time, whom to
//! believe about keyframes, and the timeline.

use std::collections::VecDeque;

use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::fault::Fault;
use stills_model::keyframe_index::KeyframeIndex;

use super::timeline::{Access, Sample, Timeline};
use super::verify::{Trust, flags_hold, verify};
use super::window::Window;
use super::{check_sum, damaged, too_large};

mod block;
mod cluster;
mod cues;
mod ebml;
mod track;

use cluster::{Clusters, Place, Until};
use cues::Cue;
use ebml::{Element, elements, find, unsigned};
use track::Track;

const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;
const SEEK_HEAD: u32 = 0x114d_9b74;
const INFO: u32 = 0x1549_a966;
const TRACKS: u32 = 0x1654_ae6b;
const CUES: u32 = 0x1c53_bb6b;
const CLUSTER: u32 = 0x1f43_b675;
const CHAPTERS: u32 = 0x1043_a770;
const TAGS: u32 = 0x1254_c367;
const ATTACHMENTS: u32 = 0x1941_a469;

/// Samples in one file, as for MP4.
const SAMPLES_MAX: usize = 6_000_000;

/// Bytes of `Tracks`, `Info` or `SeekHead`.
const HEAD_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of `Cues`: a day of keyframes at 25 a second is below it.
const CUES_LEN_MAX: u64 = 64 * 1024 * 1024;

/// Elements in front of the first cluster.
const HEAD_MAX: usize = 256;

/// Fewer cues than this are not worth leaving blocks out.
const CUES_MIN: usize = 4;

/// Frames that are read at the start to find the earliest instant: reordering never reaches further.
const FIRST_FRAMES: usize = 32;

/// And the elements, other tracks' blocks among them, that this may take.
const FIRST_ELEMENTS: u32 = 1024;

const RESUME: &[u8] = b"\x01MKV";

/// Whether a file that begins with `head` is of this family.
pub(super) fn begins(head: &[u8]) -> bool {
    head.starts_with(&EBML.to_be_bytes())
}

/// Whether elements with this id stand directly in a segment.
const fn is_top(id: u32) -> bool {
    matches!(id, SEEK_HEAD | INFO | TRACKS | CUES | CLUSTER | CHAPTERS | TAGS | ATTACHMENTS)
}

/// Finds the keyframes of a Matroska or WebM file.
pub(super) fn scan(window: &mut Window<'_>, growing: bool, resume: &[u8]) -> Result<KeyframeIndex, Fault> {
    let head = Head::read(window)?;
    let track = Track::choose(&head.tracks)?;
    let tracks_sum = check_sum(&head.tracks);
    let mut state = match State::read(resume) {
        Ok(state) if state.tracks_sum == tracks_sum && state.place.at <= window.len() => state,
        _ => State {
            tracks_sum,
            place: Place { at: head.clusters, time: 0 },
            trust: Trust::Open,
            timeline: Timeline::new(1_000_000_000),
        },
    };
    let config = state.timeline.config(&track.config)?;
    let clusters = Clusters { track: &track, config, scale: head.scale, end: head.end, growing };
    if !growing
        && state.timeline.is_empty()
        && let Some(index) = by_cues(window, &head, &clusters, &state.timeline)?
    {
        return Ok(index);
    }
    let mut samples = Vec::new();
    clusters.walk(window, &mut state.place, Until::End, &mut samples)?;
    fill_durations(&mut samples);
    verify(window, state.timeline.configs(), &mut samples, &mut state.trust)?;
    for sample in &samples {
        state.timeline.push(sample, sample.len.into())?;
    }
    if state.timeline.is_empty() && !growing {
        return Err(damaged("the video track has no whole picture inside the file"));
    }
    let resume = if growing { state.write() } else { Vec::new() };
    Ok(state.timeline.into_index(resume))
}

/// The samples of the video from some cluster on, in decoding order, whose headers are read as they are asked for.
pub(super) struct Stream {
    head: Head,
    track: Track,
    growing: bool,
    place: Place,
    listed: VecDeque<Sample>,
}

impl Stream {
    /// From the file's first cluster on.
    pub(super) fn new(window: &mut Window<'_>, growing: bool) -> Result<Self, Fault> {
        let head = Head::read(window)?;
        let track = Track::choose(&head.tracks)?;
        let place = Place { at: head.clusters, time: 0 };
        Ok(Self { head, track, growing, place, listed: VecDeque::new() })
    }

    /// Goes to the sample at `offset`, by cues where there are some: the next one is that, or none.
    pub(super) fn seek(&mut self, window: &mut Window<'_>, offset: u64) -> Result<(), Fault> {
        let cues = self.head.cues(window, self.track.number)?;
        let at = cues.iter().map(|cue| cue.cluster).filter(|at| *at <= offset).max();
        self.place = Place { at: at.unwrap_or(self.head.clusters), time: 0 };
        self.listed.clear();
        while let Some(sample) = self.next(window)? {
            if sample.offset == offset {
                self.listed.push_front(sample);
                break;
            }
        }
        Ok(())
    }

    /// The next sample.
    pub(super) fn next(&mut self, window: &mut Window<'_>) -> Result<Option<Sample>, Fault> {
        let Self { head, track, growing, .. } = self;
        let clusters = Clusters { track, config: 0, scale: head.scale, end: head.end, growing: *growing };
        let mut samples = Vec::new();
        while self.listed.is_empty() {
            let before = self.place;
            clusters.walk(window, &mut self.place, Until::Frames(1, FIRST_ELEMENTS), &mut samples)?;
            self.listed.extend(samples.drain(..));
            if self.place == before {
                break;
            }
        }
        Ok(self.listed.pop_front().filter(|sample| sample.offset.saturating_add(sample.len.into()) <= window.len()))
    }
}

/// The index from what cues point at; nothing where there are too few of them or the flags they lead to are wrong.
fn by_cues(
    window: &mut Window<'_>,
    head: &Head,
    clusters: &Clusters<'_>,
    empty: &Timeline,
) -> Result<Option<KeyframeIndex>, Fault> {
    let cues = head.cues(window, clusters.track.number)?;
    let (Some(last), true) = (cues.last().copied(), cues.len() >= CUES_MIN) else { return Ok(None) };
    let (mut first, mut place) = (Vec::new(), Place { at: head.clusters, time: 0 });
    clusters.walk(window, &mut place, Until::Frames(FIRST_FRAMES, FIRST_ELEMENTS), &mut first)?;
    let mut keys = Vec::new();
    for cue in &cues {
        keys.extend(cues::sample(window, clusters, *cue)?.filter(|sample| sample.access == Access::Alone));
    }
    let (mut tail, mut place) = (Vec::new(), Place { at: last.cluster, time: 0 });
    clusters.walk(window, &mut place, Until::End, &mut tail)?;
    // Cues name keyframes by their places in the file; a keyframe that none names, at either end, counts all the same.
    let known = |sample: &&Sample| sample.access == Access::Alone;
    keys.extend(first.iter().filter(known));
    keys.extend(tail.iter().filter(known));
    keys.sort_by_key(|key| key.offset);
    keys.dedup_by_key(|key| key.offset);
    if keys.len() < CUES_MIN || !flags_hold(window, empty.configs(), &keys)? {
        return Ok(None);
    }
    fill_durations(&mut first);
    fill_durations(&mut tail);
    let mut timeline = empty.clone();
    for sample in first.iter().chain(&tail) {
        timeline.push(&Sample { access: Access::None, ..*sample }, 0)?;
    }
    for (n, key) in keys.iter().enumerate() {
        let next = keys.get(n + 1).map_or(head.end, |next| next.offset);
        timeline.push(key, next.saturating_sub(key.offset))?;
    }
    Ok(Some(timeline.into_index(Vec::new())))
}

/// Gives samples without a duration the mean distance of all.
fn fill_durations(samples: &mut [Sample]) {
    let (min, max) = samples.iter().fold((i64::MAX, i64::MIN), |(min, max), s| (min.min(s.pts), max.max(s.pts)));
    let gaps = i64::try_from(samples.len().saturating_sub(1)).unwrap_or(i64::MAX);
    let mean = max.saturating_sub(min).checked_div(gaps).and_then(|mean| u32::try_from(mean).ok()).unwrap_or(0);
    samples.iter_mut().filter(|sample| sample.duration == 0).for_each(|sample| sample.duration = mean);
}

/// What stands in front of the clusters.
struct Head {
    /// Where positions in the file count from, and where the segment ends.
    segment: u64,
    end: u64,
    /// Where the first cluster is.
    clusters: u64,
    /// Nanoseconds of a tick.
    scale: u64,
    tracks: Vec<u8>,
    cues_at: Option<u64>,
}

impl Head {
    fn read(window: &mut Window<'_>) -> Result<Self, Fault> {
        let not_whole = || damaged("the file ends before its tracks are described");
        let ebml = Element::read(window, 0)?.and_then(|ebml| ebml.end).ok_or_else(not_whole)?;
        let segment = Element::read(window, ebml)?.ok_or_else(not_whole)?;
        if segment.id != SEGMENT {
            return Err(damaged("the EBML header is not followed by a segment"));
        }
        let end = segment.end.unwrap_or(u64::MAX).min(window.len());
        let mut head =
            Self { segment: segment.content, end, clusters: end, scale: 1_000_000, tracks: Vec::new(), cues_at: None };
        let mut tracks_at = None;
        let mut at = segment.content;
        for _ in 0..HEAD_MAX {
            let Some(element) = Element::read(window, at)? else { break };
            if element.id == CLUSTER {
                head.clusters = at;
                break;
            }
            let Some(next) = element.end else { break };
            head.take(window, element, &mut tracks_at)?;
            at = next;
        }
        if head.tracks.is_empty()
            && let Some(at) = tracks_at
            && let Some(element) = Element::read(window, at)?.filter(|element| element.id == TRACKS)
        {
            head.take(window, element, &mut None)?;
        }
        if head.tracks.is_empty() { Err(not_whole()) } else { Ok(head) }
    }

    fn take(&mut self, window: &mut Window<'_>, element: Element, tracks_at: &mut Option<u64>) -> Result<(), Fault> {
        match element.id {
            INFO => {
                let info = content(window, element, HEAD_LEN_MAX)?.unwrap_or_default();
                let scale = find(&info, 0x002a_d7b1).map(unsigned);
                self.scale = scale.filter(|scale| (1..=1_000_000_000).contains(scale)).unwrap_or(1_000_000);
            }
            TRACKS if self.tracks.is_empty() => {
                self.tracks = content(window, element, HEAD_LEN_MAX)?.unwrap_or_default();
            }
            CUES => self.cues_at = Some(element.at),
            SEEK_HEAD => {
                let seeks = content(window, element, HEAD_LEN_MAX)?.unwrap_or_default();
                for (_, seek) in elements(&seeks).filter(|(id, _)| *id == 0x4dbb) {
                    let id = find(seek, 0x53ab).map_or(0, unsigned);
                    let at = find(seek, 0x53ac).and_then(|at| self.segment.checked_add(unsigned(at)));
                    match u32::try_from(id) {
                        Ok(CUES) => self.cues_at = self.cues_at.or(at),
                        Ok(TRACKS) => *tracks_at = at,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The cues of a track; none where the file has no readable ones.
    fn cues(&self, window: &mut Window<'_>, track: u64) -> Result<Vec<Cue>, Fault> {
        let Some(at) = self.cues_at else { return Ok(Vec::new()) };
        let Some(element) = Element::read(window, at)?.filter(|element| element.id == CUES) else {
            return Ok(Vec::new());
        };
        let content = content(window, element, CUES_LEN_MAX)?.unwrap_or_default();
        Ok(cues::cues(&content, track, self.segment))
    }
}

/// The content of an element that the file holds wholly.
fn content(window: &mut Window<'_>, element: Element, max: u64) -> Result<Option<Vec<u8>>, Fault> {
    let Some(len) = element.len().filter(|_| element.end.is_some_and(|end| end <= window.len())) else {
        return Ok(None);
    };
    if len > max {
        return Err(too_large(format!("the element {:#x} has {len} bytes, at most {max} are read", element.id)));
    }
    window.whole(element.content, len).map(Some)
}

/// What a scan knows and the next one goes on with.
struct State {
    tracks_sum: u64,
    place: Place,
    trust: Trust,
    timeline: Timeline,
}

impl State {
    fn write(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(RESUME).unsigned(self.tracks_sum).unsigned(self.place.at).unsigned(self.place.time);
        w.byte(self.trust as u8);
        self.timeline.write(&mut w);
        w.finish()
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.raw(RESUME.len())? != RESUME {
            return Err(Malformed("resume version"));
        }
        let tracks_sum = r.unsigned()?;
        let place = Place { at: r.unsigned()?, time: r.unsigned()? };
        let trust = Trust::from_byte(r.byte()?)?;
        let timeline = Timeline::read(&mut r)?;
        r.end()?;
        Ok(Self { tracks_sum, place, trust, timeline })
    }
}
