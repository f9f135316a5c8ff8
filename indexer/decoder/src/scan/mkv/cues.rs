//! Cues (RFC 9559 5.1.5): places of keyframes, so that only the headers there are read.

use stills_model::fault::Fault;

use super::super::timeline::Sample;
use super::super::window::Window;
use super::CLUSTER;
use super::cluster::{Clusters, Place, Until};
use super::ebml::{Element, elements, find, unsigned};

/// One cue point of the video track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cue {
    /// Where its cluster starts in the file.
    pub(super) cluster: u64,
    /// Where its block starts behind the cluster's header, where the file says so.
    pub(super) block: Option<u64>,
}

/// Elements in front of a cluster's time.
const HEAD_MAX: usize = 8;

/// Elements from a cue's place to its block: the blocks of a cluster of some seconds.
const BLOCKS_MAX: u32 = 2048;

/// The cues of a track, in the order of their places, no two alike. Positions count from `segment` on.
pub(super) fn cues(content: &[u8], track: u64, segment: u64) -> Vec<Cue> {
    let mut cues: Vec<Cue> = elements(content)
        .filter(|(id, _)| *id == 0xbb)
        .flat_map(|(_, point)| elements(point).filter(|(id, _)| *id == 0xb7))
        .filter(|(_, place)| find(place, 0xf7).map(unsigned) == Some(track))
        .filter_map(|(_, place)| {
            let cluster = segment.checked_add(unsigned(find(place, 0xf1)?))?;
            Some(Cue { cluster, block: find(place, 0xf0).map(unsigned) })
        })
        .collect();
    cues.sort_by_key(|cue| (cue.cluster, cue.block));
    cues.dedup();
    cues
}

/// The first frame of the track at a cue; nothing where the cue lies.
pub(super) fn sample(window: &mut Window<'_>, clusters: &Clusters<'_>, cue: Cue) -> Result<Option<Sample>, Fault> {
    let Some(cluster) = Element::read(window, cue.cluster)?.filter(|cluster| cluster.id == CLUSTER) else {
        return Ok(None);
    };
    let mut place = Place { at: cluster.content, time: 0 };
    let mut found = Vec::new();
    if let Some(block) = cue.block {
        // The cluster's time comes first; then straight to the block.
        let Some(time) = time(window, cluster)? else { return Ok(None) };
        place = Place { at: cluster.content.saturating_add(block), time };
    }
    clusters.walk(window, &mut place, Until::Frames(1, BLOCKS_MAX), &mut found)?;
    Ok(found.first().copied())
}

fn time(window: &mut Window<'_>, cluster: Element) -> Result<Option<u64>, Fault> {
    let mut at = cluster.content;
    for _ in 0..HEAD_MAX {
        let Some(child) = Element::read(window, at)? else { break };
        let Some(end) = child.end else { break };
        if child.id == 0xe7 {
            let len = u32::try_from(end - child.content).unwrap_or(8).min(8);
            return Ok(Some(unsigned(window.up_to(child.content, len)?)));
        }
        at = end;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cues_of_one_track() {
        let cue =
            |track: u8, cluster: u8| [0xbb, 0x8b, 0xb3, 0x81, 9, 0xb7, 0x86, 0xf7, 0x81, track, 0xf1, 0x81, cluster];
        let bytes = [cue(1, 50), cue(2, 60), cue(1, 20), cue(1, 50)].concat();
        let place = |cluster| Cue { cluster, block: None };
        assert_eq!(cues(&bytes, 1, 1000), [place(1020), place(1050)]);
        assert_eq!(cues(&bytes[..7], 1, 0), []);
    }
}
