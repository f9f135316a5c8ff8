//! Edit lists (ISO/IEC 14496-12 8.6.6): from media time to presentation time. Rates other than 1 are read as 1.

use super::super::bytes::Bytes;

/// Edits beyond this are not read: every sample is looked up in them, and real files have one to three.
const EDITS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edit {
    /// First media time shown, in ticks of the track.
    from: i64,
    /// How long, `None` for the rest.
    len: Option<i64>,
    /// Where it stands in the presentation, in ticks of the track.
    at: i64,
}

/// The edits that show something; none means that all is shown as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Edits(Vec<Edit>);

impl Edits {
    /// Reads an `elst` box. `open` says that the last edit lasts as long as the media, whatever its duration: that of
    /// a fragmented file was written before its end was known.
    pub(super) fn read(elst: &[u8], movie_timescale: u32, timescale: u32, open: bool) -> Self {
        let mut edits = Vec::new();
        let mut bytes = Bytes::new(elst);
        let mut at = 0i64;
        if let (Some(version), Some(_), Some(count)) = (bytes.u8(), bytes.u24(), bytes.u32()) {
            for _ in 0..count {
                let Some((len, from)) = entry(&mut bytes, version) else { break };
                if edits.len() == EDITS_MAX {
                    break;
                }
                let len = ticks(len, movie_timescale, timescale);
                if from >= 0 {
                    edits.push(Edit { from, len: (len > 0).then_some(len), at });
                }
                at = at.saturating_add(len);
            }
        }
        if let (Some(last), true) = (edits.last_mut(), open) {
            last.len = None;
        }
        Self(edits)
    }

    /// The presentation time of a media time, and whether it is presented; what no edit shows keeps its distance from
    /// the first.
    pub(super) fn present(&self, pts: i64) -> (i64, bool) {
        let Some(first) = self.0.first() else { return (pts, true) };
        let shows = |edit: &&Edit| pts >= edit.from && edit.len.is_none_or(|len| pts - edit.from < len);
        let found = self.0.iter().find(shows);
        let edit = found.unwrap_or(first);
        (pts.saturating_sub(edit.from).saturating_add(edit.at), found.is_some())
    }
}

fn entry(bytes: &mut Bytes<'_>, version: u8) -> Option<(u64, i64)> {
    let entry = if version == 1 {
        (bytes.u64()?, bytes.u64()?.cast_signed())
    } else {
        (bytes.u32()?.into(), bytes.i32()?.into())
    };
    bytes.skip(4)?;
    Some(entry)
}

/// A duration in the movie's ticks in ticks of the track, rounded up so that no sample is lost to rounding.
fn ticks(len: u64, movie_timescale: u32, timescale: u32) -> i64 {
    let exact = (u128::from(len) * u128::from(timescale)).div_ceil(u128::from(movie_timescale.max(1)));
    i64::try_from(exact).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elst(entries: &[(u32, i32)]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, u8::try_from(entries.len()).expect("few")];
        for (len, from) in entries {
            bytes.extend(len.to_be_bytes());
            bytes.extend(from.to_be_bytes());
            bytes.extend([0, 1, 0, 0]);
        }
        bytes
    }

    #[test]
    fn presentation() {
        let check = |entries: &[(u32, i32)], open, pts, expected| {
            assert_eq!(Edits::read(&elst(entries), 1000, 2000, open).present(pts), expected, "{entries:?} {pts}");
        };
        check(&[], false, 7, (7, true));
        check(&[(500, -1)], false, 7, (7, true));
        check(&[(1000, 40)], false, 40, (0, true));
        check(&[(1000, 40)], false, 39, (-1, false));
        check(&[(1000, 40)], false, 2039, (1999, true));
        check(&[(1000, 40)], false, 2040, (2000, false));
        check(&[(1000, 40)], true, 9999, (9959, true));
        check(&[(0, 40)], false, 9999, (9959, true));
        check(&[(500, -1), (1000, 0)], false, 10, (1010, true));
        check(&[(10, 0), (10, 100)], false, 110, (30, true));
    }
}
