//! Walks the clusters of a segment (RFC 9559 5.1.3) from header to header: blocks become samples, frames are not read.

use stills_model::fault::Fault;

use super::super::timeline::{Access, Sample};
use super::super::too_large;
use super::super::window::Window;
use super::block::{self, Block};
use super::ebml::{Element, unsigned};
use super::track::Track;
use super::{CLUSTER, EBML, SAMPLES_MAX, SEGMENT, is_top};

/// Elements of one walk: pictures of a day at 60 a second with sound beside them.
const ELEMENTS_MAX: u32 = 30_000_000;

/// Times that a walk may lose its way and look for the next cluster.
const RESYNCS_MAX: u32 = 64;

const TIMESTAMP: u32 = 0xe7;

/// Where a walk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The next element.
    pub(super) at: u64,
    /// The time of the cluster that it is in, in the segment's ticks.
    pub(super) time: u64,
}

/// The clusters of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clusters<'t> {
    pub(super) track: &'t Track,
    pub(super) config: u16,
    /// Nanoseconds of a tick.
    pub(super) scale: u64,
    /// Where the segment ends.
    pub(super) end: u64,
    /// What is incomplete at the end is left for later.
    pub(super) growing: bool,
}

/// What a walk may be told to end at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The end of the segment.
    End,
    /// This many frames of the track, or this many elements.
    Frames(usize, u32),
}

impl Clusters<'_> {
    /// Appends the samples from `place` on, and moves `place` to where the next walk would go on.
    pub(super) fn walk(
        &self,
        window: &mut Window<'_>,
        place: &mut Place,
        until: Until,
        samples: &mut Vec<Sample>,
    ) -> Result<(), Fault> {
        let (first, mut resyncs) = (samples.len(), 0);
        let most = if let Until::Frames(_, most) = until { most } else { ELEMENTS_MAX };
        for _ in 0..most {
            let enough = matches!(until, Until::Frames(count, _) if samples.len() - first >= count);
            if place.at >= self.end || enough {
                return Ok(());
            }
            let element = Element::read(window, place.at)?;
            let Some((element, end)) = element.and_then(|element| Some((element, self.extent(element)?))) else {
                resyncs += 1;
                if self.growing && place.at + 12 > window.len() || resyncs > RESYNCS_MAX {
                    return Ok(());
                }
                let next = next_cluster(window, place.at + 1)?;
                if self.growing && next >= window.len() {
                    return Ok(());
                }
                place.at = next;
                continue;
            };
            // Another file behind this one.
            if matches!(element.id, EBML | SEGMENT) {
                return Ok(());
            }
            if end > window.len() && self.growing {
                return Ok(());
            }
            if element.id == TIMESTAMP {
                let len = u32::try_from(end - element.content).unwrap_or(8).min(8);
                place.time = unsigned(window.up_to(element.content, len)?);
            } else if block::holds_block(element.id)
                && end <= window.len()
                && let Some(block) = block::read(window, element, end)?
            {
                self.take(place.time, &block, samples)?;
            }
            place.at = end;
        }
        match until {
            Until::End => Err(too_large(format!("the file has more than {ELEMENTS_MAX} elements"))),
            Until::Frames(..) => Ok(()),
        }
    }

    /// Where the walk goes on behind an element: inside it for a cluster, behind it for others; nothing for what
    /// cannot be an element of a segment or cluster.
    fn extent(&self, element: Element) -> Option<u64> {
        if matches!(element.id, CLUSTER | EBML | SEGMENT) {
            return Some(element.content);
        }
        // Ids of four bytes are those of a segment's children; others are a cluster's.
        let known = is_top(element.id) || element.id < 0x1000_0000;
        element.end.filter(|end| known && (*end <= self.end || self.growing))
    }

    fn take(&self, cluster: u64, block: &Block, samples: &mut Vec<Sample>) -> Result<(), Fault> {
        if block.track != self.track.number {
            return Ok(());
        }
        if samples.len() + block.frames.len() > SAMPLES_MAX {
            return Err(too_large(format!("the video track has more than {SAMPLES_MAX} samples")));
        }
        let ticks = i64::try_from(cluster).unwrap_or(i64::MAX).saturating_add(block.time.into());
        let start = ticks.saturating_mul(i64::try_from(self.scale).unwrap_or(i64::MAX));
        let frames = block.frames.len().max(1) as u64;
        let stated = block.duration.map(|ticks| ticks.saturating_mul(self.scale) / frames);
        let duration = u32::try_from(stated.unwrap_or(self.track.duration)).unwrap_or(0);
        for (n, (offset, len)) in (0i64..).zip(&block.frames) {
            let access = if block.keyframe && *len > 0 { Access::Alone } else { Access::None };
            let pts = start.saturating_add(n * i64::from(duration));
            let (offset, len, config) = (*offset, *len, self.config);
            samples.push(Sample { offset, pts, len, duration, config, access, presented: true });
        }
        Ok(())
    }
}

/// Where the next cluster starts at or after `from`; the end of the file where there is none.
fn next_cluster(window: &mut Window<'_>, from: u64) -> Result<u64, Fault> {
    const STEP: u32 = 1 << 20;
    let mut at = from;
    loop {
        let bytes = window.up_to(at, STEP)?;
        if let Some(place) = bytes.windows(4).position(|four| four == CLUSTER.to_be_bytes()) {
            return Ok(at + place as u64);
        }
        if bytes.len() < 4 {
            return Ok(window.len());
        }
        at += bytes.len() as u64 - 3;
    }
}
