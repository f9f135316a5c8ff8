//! One keyframe of a fragmented file by its time, without a look at every fragment: by the random access points at its
//! end (`mfra`, ISO/IEC 14496-12 8.8.9) or the segment index in front (`sidx`, 8.16.3). Files without either, or whose
//! tables do not hold what they say, are left to the scan of all fragments.

use stills_model::clip::Percent;
use stills_model::fault::Fault;
use stills_model::keyframe::{ByteRange, DecoderConfig, Keyframe, ticks_to_ms};

use super::super::bytes::Bytes;
use super::super::timeline::{Access, Sample};
use super::super::verify::{Trust, verify};
use super::super::window::Window;
use super::super::{Found, damaged};
use super::boxes::{boxes, find};
use super::tables::Row;
use super::track::Track;
use super::{Top, find_moov, fragments};

/// Fewer fragments than this are as quickly looked at one by one.
const POINTS_MIN: usize = 8;

/// Boxes between the movie's tables and its first fragment, or in front of a fragment inside its segment.
const BOXES_BETWEEN: usize = 16;

/// Bytes of `mfra` or `sidx`: a day of one-second fragments takes 2 MB.
const TABLE_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Points that are tried when the one that the table names is not what it says.
const TRIES_MAX: usize = 4;

/// Fragments behind the last point.
const LAST_FRAGMENTS_MAX: usize = 1024;

/// Where decoding can start: a time of the media, before edits, and the fragment's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    time: i64,
    at: u64,
}

/// The keyframe at or before a share of the length; nothing where the tables do not tell.
pub(in crate::scan) fn at_or_before(window: &mut Window<'_>, percent: Percent) -> Result<Option<Found>, Fault> {
    let (moov, found) = find_moov(window, false)?;
    let track = Track::choose(&moov, true)?;
    if track.defaults.is_none() || track.tables.count() > 0 {
        return Ok(None);
    }
    let points = match access_points(window, &track)? {
        points if points.len() >= POINTS_MIN => points,
        _ => segments(window, &track, found.end)?,
    };
    let (Some(last), true) = (points.last(), points.len() >= POINTS_MIN) else { return Ok(None) };
    let presented = |row: &Row| track.edits.present(row.pts).0;
    let Some(first) = rows(window, &track, found.end)? else { return Ok(None) };
    let Some(origin) = first.rows.iter().map(presented).min() else { return Ok(None) };
    let Some(end) = end(window, &track, last.at)? else { return Ok(None) };
    let target = origin.saturating_add(percent.of_ms(end.saturating_sub(origin)));
    let place = points.partition_point(|point| track.edits.present(point.time).0 <= target);
    for point in points.get(..place.max(1)).unwrap_or_default().iter().rev().take(TRIES_MAX) {
        let Some(fragment) = rows(window, &track, point.at)? else { return Ok(None) };
        let is_first = place <= 1;
        if let Some(found) = keyframe(window, &track, &fragment.rows, |pts| is_first || pts <= target, origin)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The points of `mfra`, in order.
fn access_points(window: &mut Window<'_>, track: &Track<'_>) -> Result<Vec<Point>, Fault> {
    let Some(at) = window.len().checked_sub(16) else { return Ok(Vec::new()) };
    let tail = window.up_to(at, 16)?.to_vec();
    let mut fields = Bytes::new(&tail);
    let is_offset = fields.u32() == Some(16) && fields.fourcc() == Some(*b"mfro");
    let size = fields.skip(4).and_then(|()| fields.u32()).filter(|_| is_offset);
    let Some(at) = size.and_then(|size| window.len().checked_sub(size.into())) else { return Ok(Vec::new()) };
    let Some(mfra) = table(window, at, b"mfra")? else { return Ok(Vec::new()) };
    let own = boxes(&mfra).filter(|(kind, _)| kind == b"tfra").filter_map(|(_, tfra)| points_of(tfra, track.id));
    Ok(in_order(own.flatten().collect()))
}

/// The content of a box at a place, if it is that box, whole and not too long.
fn table(window: &mut Window<'_>, at: u64, kind: &[u8; 4]) -> Result<Option<Vec<u8>>, Fault> {
    match Top::read(window, at)? {
        Some(top) if &top.kind == kind && top.is_whole(window) && top.end - top.content <= TABLE_LEN_MAX => {
            top.bytes(window).map(Some)
        }
        _ => Ok(None),
    }
}

fn points_of(tfra: &[u8], track: u32) -> Option<Vec<Point>> {
    let mut fields = Bytes::new(tfra);
    let is_wide = fields.u8()? == 1;
    fields.skip(3)?;
    if fields.u32()? != track {
        return None;
    }
    let sizes = fields.u32()?;
    let numbers = (sizes >> 4 & 3) + (sizes >> 2 & 3) + (sizes & 3) + 3;
    let count = fields.u32()?;
    let mut points = Vec::new();
    for _ in 0..count {
        let (time, at) =
            if is_wide { (fields.u64()?, fields.u64()?) } else { (fields.u32()?.into(), fields.u32()?.into()) };
        fields.skip(usize::try_from(numbers).ok()?)?;
        points.push(Point { time: i64::try_from(time).ok()?, at });
    }
    Some(points)
}

/// The points of the `sidx` behind the movie's tables.
fn segments(window: &mut Window<'_>, track: &Track<'_>, from: u64) -> Result<Vec<Point>, Fault> {
    let mut at = from;
    for _ in 0..BOXES_BETWEEN {
        let Some(top) = Top::read(window, at)? else { break };
        if &top.kind == b"moof" || &top.kind == b"mdat" {
            break;
        }
        if &top.kind == b"sidx"
            && let Some(sidx) = table(window, at, b"sidx")?
            && let Some(points) = segments_of(&sidx, track, top.end)
        {
            return Ok(in_order(points));
        }
        at = top.end;
    }
    Ok(Vec::new())
}

fn segments_of(sidx: &[u8], track: &Track<'_>, end: u64) -> Option<Vec<Point>> {
    let mut fields = Bytes::new(sidx);
    let is_wide = fields.u8()? == 1;
    fields.skip(3)?;
    if fields.u32()? != track.id || fields.u32()? != track.timescale {
        return None;
    }
    let (time, offset) =
        if is_wide { (fields.u64()?, fields.u64()?) } else { (fields.u32()?.into(), fields.u32()?.into()) };
    let (mut time, mut at) = (i64::try_from(time).ok()?, end.checked_add(offset)?);
    fields.skip(2)?;
    let count = fields.u16()?;
    let mut points = Vec::new();
    for _ in 0..count {
        let (size, duration) = (fields.u32()?, fields.u32()?);
        fields.skip(4)?;
        // An index of indexes.
        if size >> 31 == 1 {
            return None;
        }
        points.push(Point { time, at });
        time = time.checked_add(duration.into())?;
        at = at.checked_add(size.into())?;
    }
    Some(points)
}

/// Nothing of points that do not go forward: such a table is not to be trusted.
fn in_order(points: Vec<Point>) -> Vec<Point> {
    let is_sorted = points.windows(2).all(|pair| pair[0].time <= pair[1].time && pair[0].at <= pair[1].at);
    if is_sorted { points } else { Vec::new() }
}

/// The samples of a fragment, and where it ends.
struct Fragment {
    rows: Vec<Row>,
    end: u64,
}

/// The first fragment at or behind `from`; nothing where there is none, or where it does not say when it begins.
fn rows(window: &mut Window<'_>, track: &Track<'_>, from: u64) -> Result<Option<Fragment>, Fault> {
    let mut at = from;
    for _ in 0..BOXES_BETWEEN {
        let Some(top) = Top::read(window, at)? else { return Ok(None) };
        if &top.kind != b"moof" {
            at = top.end;
            continue;
        }
        if !top.is_whole(window) {
            return Ok(None);
        }
        let moof = top.bytes(window)?;
        let has_time = boxes(&moof).any(|(kind, traf)| kind == *b"traf" && find(traf, b"tfdt").is_some());
        let rows = fragments::rows(&moof, top.at, track.id, track.defaults.unwrap_or_default(), &mut 0, 0)?;
        return Ok(Some(Fragment { rows, end: top.end }).filter(|_| has_time));
    }
    Ok(None)
}

/// The end of the last picture, by the fragments from the last point on.
fn end(window: &mut Window<'_>, track: &Track<'_>, from: u64) -> Result<Option<i64>, Fault> {
    let (mut at, mut end) = (from, None);
    for _ in 0..LAST_FRAGMENTS_MAX {
        let Some(fragment) = rows(window, track, at)? else { break };
        let ends = fragment.rows.iter().map(|row| track.edits.present(row.pts).0.saturating_add(row.duration.into()));
        end = ends.max().max(end);
        at = fragment.end;
    }
    Ok(end)
}

/// The last of the samples that can be entered and that `may_be` shown; nothing too where it takes many samples.
fn keyframe(
    window: &mut Window<'_>,
    track: &Track<'_>,
    rows: &[Row],
    may_be: impl Fn(i64) -> bool,
    origin: i64,
) -> Result<Option<Found>, Fault> {
    let Some(config) = rows.first().and_then(|row| track.entries.get(row.entry)).and_then(|entry| entry.as_ref().ok())
    else {
        return Ok(None);
    };
    let entry = rows.first().map(|row| row.entry);
    let sample = |row: &Row| {
        let (pts, presented) = track.edits.present(row.pts);
        let access = if row.sync && row.len > 0 { Access::Alone } else { Access::None };
        let Row { offset, len, duration, .. } = *row;
        Sample { offset, pts, len, duration, config: 0, access, presented }
    };
    let mut samples: Vec<Sample> = rows.iter().take_while(|row| Some(row.entry) == entry).map(sample).collect();
    verify(window, std::slice::from_ref(config), &mut samples, &mut Trust::Open)?;
    let enters = |sample: &Sample| matches!(sample.access, Access::Alone | Access::FirstField) && may_be(sample.pts);
    let Some(place) = samples.iter().rposition(enters) else { return Ok(None) };
    let n_samples = if samples[place].access == Access::FirstField { 2 } else { 1 };
    let fed = samples.iter().skip(place).take(n_samples);
    let ranges: Vec<ByteRange> = fed.map(|fed| ByteRange { offset: fed.offset, len: fed.len }).collect();
    if ranges.iter().any(|range| range.end() > window.len()) {
        return Err(damaged("the fragment's pictures lie behind the end of the file"));
    }
    let at_ms = ticks_to_ms(samples[place].pts.saturating_sub(origin), track.timescale);
    let config: DecoderConfig = config.clone();
    Ok(Some(Found { keyframe: Keyframe { at_ms, config: 0, ranges, gop_bytes: 0 }, config }))
}
