//! Movie fragments (ISO/IEC 14496-12 8.8): the samples of one `moof` box.

use stills_model::fault::Fault;

use super::super::bytes::Bytes;
use super::super::too_large;
use super::SAMPLES_MAX;
use super::boxes::{boxes, find};
use super::tables::Row;
use super::track::Defaults;

/// `sample_is_non_sync_sample`, and `sample_depends_on` = 1: needs others.
const NOT_SYNC: u32 = 0x0001_0000 | 0x0100_0000;

/// The rows of one track in a `moof` whose box starts at `at`; `next_dts` goes on from fragment to fragment for
/// files that leave `tfdt` out. `known` samples have been found before.
pub(super) fn rows(
    moof: &[u8],
    at: u64,
    track: u32,
    defaults: Defaults,
    next_dts: &mut i64,
    known: usize,
) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    // Where data goes on that states no place of its own: behind that of the track fragment before.
    let mut data_end = at;
    for (_, traf) in boxes(moof).filter(|(kind, _)| kind == b"traf") {
        let Some(header) = find(traf, b"tfhd").and_then(|tfhd| Header::read(tfhd, defaults)) else { continue };
        let base = header.base.unwrap_or(if header.from_moof { at } else { data_end });
        let own = header.track == track;
        let start = find(traf, b"tfdt").and_then(decode_time).unwrap_or(*next_dts);
        let mut run =
            Run { base, place: base, dts: start, header, room: SAMPLES_MAX.saturating_sub(known + rows.len()) };
        for (_, trun) in boxes(traf).filter(|(kind, _)| kind == b"trun") {
            if own {
                run.read(trun, |row| rows.push(row))?;
            } else {
                run.pass(trun);
            }
        }
        data_end = run.place;
        if own {
            *next_dts = run.dts;
        }
    }
    Ok(rows)
}

fn decode_time(tfdt: &[u8]) -> Option<i64> {
    let mut fields = Bytes::new(tfdt);
    let version = fields.u8()?;
    fields.skip(3)?;
    if version == 1 { i64::try_from(fields.u64()?).ok() } else { fields.u32().map(i64::from) }
}

/// `tfhd`, with the defaults filled in.
#[derive(Debug, Clone, Copy)]
struct Header {
    track: u32,
    base: Option<u64>,
    from_moof: bool,
    defaults: Defaults,
}

impl Header {
    fn read(tfhd: &[u8], defaults: Defaults) -> Option<Self> {
        let mut fields = Bytes::new(tfhd);
        fields.skip(1)?;
        let flags = fields.u24()?;
        let track = fields.u32()?;
        let base = if flags & 0x1 == 0 { None } else { Some(fields.u64()?) };
        let mut given = |bit: u32, default| if flags & bit == 0 { Some(default) } else { fields.u32() };
        let entry = given(0x2, defaults.entry)?;
        let duration = given(0x8, defaults.duration)?;
        let len = given(0x10, defaults.len)?;
        let defaults = Defaults { entry, duration, len, flags: given(0x20, defaults.flags)? };
        Some(Self { track, base, from_moof: flags & 0x0002_0000 != 0, defaults })
    }
}

/// Goes through the `trun` boxes of one track fragment.
struct Run {
    base: u64,
    place: u64,
    dts: i64,
    header: Header,
    room: usize,
}

/// The front of a `trun` box.
struct Front {
    flags: u32,
    count: u32,
    first_flags: Option<u32>,
}

impl Run {
    /// Hands over the rows of one `trun`; those that a cut box still holds.
    fn read(&mut self, trun: &[u8], mut take: impl FnMut(Row)) -> Result<(), Fault> {
        let mut fields = Bytes::new(trun);
        let Some(front) = self.front(&mut fields) else { return Ok(()) };
        for number in 0..front.count {
            if self.room == 0 {
                return Err(too_large(format!("the fragments hold more than {SAMPLES_MAX} samples")));
            }
            let first = front.first_flags.filter(|_| number == 0);
            let Some(row) = self.row(&mut fields, front.flags, first) else { break };
            self.room -= 1;
            take(row);
        }
        Ok(())
    }

    /// Goes behind the data of another track's `trun`, at no more cost than the bytes of its table.
    fn pass(&mut self, trun: &[u8]) {
        let mut fields = Bytes::new(trun);
        let Some(front) = self.front(&mut fields) else { return };
        if front.flags & 0x200 == 0 {
            let len = u64::from(front.count) * u64::from(self.header.defaults.len);
            self.place = self.place.saturating_add(len);
            return;
        }
        for _ in 0..front.count {
            if self.row(&mut fields, front.flags, None).is_none() {
                break;
            }
        }
    }

    fn front(&mut self, fields: &mut Bytes<'_>) -> Option<Front> {
        fields.skip(1)?;
        let (flags, count) = (fields.u24()?, fields.u32()?);
        if flags & 0x1 != 0 {
            self.place = self.base.saturating_add_signed(fields.i32()?.into());
        }
        let first_flags = if flags & 0x4 == 0 { None } else { Some(fields.u32()?) };
        Some(Front { flags, count, first_flags })
    }

    fn row(&mut self, fields: &mut Bytes<'_>, flags: u32, first_flags: Option<u32>) -> Option<Row> {
        let defaults = self.header.defaults;
        let mut given = |bit: u32, default| if flags & bit == 0 { Some(default) } else { fields.u32() };
        let duration = given(0x100, defaults.duration)?;
        let len = given(0x200, defaults.len)?;
        let sample_flags = given(0x400, first_flags.unwrap_or(defaults.flags))?;
        let shift = i64::from(given(0x800, 0)?.cast_signed());
        let row = Row {
            offset: self.place,
            len,
            dts: self.dts,
            pts: self.dts.saturating_add(shift),
            duration,
            sync: first_flags.unwrap_or(sample_flags) & NOT_SYNC == 0,
            entry: usize::try_from(defaults.entry.saturating_sub(1)).ok()?,
        };
        self.place = self.place.saturating_add(len.into());
        self.dts = self.dts.saturating_add(duration.into());
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
        let content: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let len = u32::try_from(content.len() + 8).expect("small");
        [&len.to_be_bytes()[..], kind, &content].concat()
    }

    fn traf(boxes: &[Vec<u8>]) -> Vec<u8> {
        let content = boxes.concat();
        let len = u32::try_from(content.len() + 8).expect("small");
        [&len.to_be_bytes()[..], b"traf", &content].concat()
    }

    const DEFAULTS: Defaults = Defaults { entry: 1, duration: 40, len: 9, flags: 0x0101_0000 };

    fn check(moof: &[u8], expected: &[(u64, u32, i64, bool)]) {
        let found = rows(moof, 1000, 1, DEFAULTS, &mut 7, 0).expect("rows");
        let found: Vec<_> = found.iter().map(|row| (row.offset, row.len, row.pts, row.sync)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn places_and_flags() {
        // Default base is moof, data offset, first sample flags, sizes.
        let own = traf(&[
            boxed(b"tfhd", &[0x0002_0000, 1]),
            boxed(b"tfdt", &[0, 400]),
            boxed(b"trun", &[0x205, 2, 100, 0x0200_0000, 5, 6]),
            boxed(b"trun", &[0x200, 1, 7]),
        ]);
        check(&own, &[(1100, 5, 400, true), (1105, 6, 440, false), (1111, 7, 480, false)]);
        // No base: behind the data of the track fragment before. No tfdt: behind the last fragment.
        let other = traf(&[boxed(b"tfhd", &[0, 2]), boxed(b"trun", &[0x201, 1, 50, 100])]);
        let own = traf(&[boxed(b"tfhd", &[0, 1]), boxed(b"trun", &[0xc00, 1, 0x0200_0000, 2])]);
        check(&[other, own].concat(), &[(1150, 9, 9, true)]);
        // An explicit base, and a signed composition offset in version 0.
        let own = traf(&[
            boxed(b"tfhd", &[1, 1, 0, 5000]),
            boxed(b"tfdt", &[0x0100_0000, 0, 80]),
            boxed(b"trun", &[0x801, 1, 8, (-80i32).cast_unsigned()]),
        ]);
        check(&own, &[(5008, 9, 0, false)]);
    }

    #[test]
    fn absurd_counts_are_refused() {
        let moof = traf(&[boxed(b"tfhd", &[0, 1]), boxed(b"trun", &[0, u32::MAX])]);
        assert!(rows(&moof, 0, 1, DEFAULTS, &mut 0, 0).is_err());
        let moof = traf(&[boxed(b"tfhd", &[0, 1]), boxed(b"trun", &[0x200, 100, 1, 2])]);
        assert_eq!(rows(&moof, 0, 1, DEFAULTS, &mut 0, 0).expect("rows").len(), 2);
    }
}
