//! The sample tables of a track (ISO/IEC 14496-12 8.6, 8.7) as samples in decoding order. Borrows the `moov` bytes:
//! a table costs no memory beside them.

use super::super::bytes::Bytes;

/// One sample as the tables say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) dts: i64,
    pub(super) pts: i64,
    pub(super) duration: u32,
    pub(super) sync: bool,
    /// Which sample entry, from 0.
    pub(super) entry: usize,
}

/// The tables; absent ones are empty.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tables<'a> {
    pub(super) stts: &'a [u8],
    pub(super) ctts: &'a [u8],
    pub(super) stss: Option<&'a [u8]>,
    /// Pictures that can be entered though those shown before them cannot be decoded then (QuickTime).
    pub(super) stps: &'a [u8],
    pub(super) stsc: &'a [u8],
    pub(super) sizes: Sizes<'a>,
    pub(super) offsets: Offsets<'a>,
}

/// `stsz` or `stz2`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sizes<'a> {
    /// This many of one size.
    Uniform { len: u32, count: u32 },
    /// Bits of each, and all of them.
    Each { bits: u8, table: &'a [u8], count: u32 },
}

impl Default for Sizes<'_> {
    fn default() -> Self {
        Self::Uniform { len: 0, count: 0 }
    }
}

impl<'a> Sizes<'a> {
    pub(super) fn stsz(content: &'a [u8]) -> Option<Self> {
        let mut fields = Bytes::new(content);
        fields.skip(4)?;
        let (len, count) = (fields.u32()?, fields.u32()?);
        Some(if len > 0 { Self::Uniform { len, count } } else { Self::each(32, fields.rest(), count) })
    }

    pub(super) fn stz2(content: &'a [u8]) -> Option<Self> {
        let mut fields = Bytes::new(content);
        fields.skip(7)?;
        let (bits, count) = (fields.u8()?, fields.u32()?);
        matches!(bits, 4 | 8 | 16).then(|| Self::each(bits, fields.rest(), count))
    }

    fn each(bits: u8, table: &'a [u8], count: u32) -> Self {
        let held = u32::try_from(table.len() * 8 / usize::from(bits)).unwrap_or(u32::MAX);
        Self::Each { bits, table, count: count.min(held) }
    }

    pub(super) const fn count(&self) -> u32 {
        match self {
            Self::Uniform { count, .. } | Self::Each { count, .. } => *count,
        }
    }

    fn len(&self, sample: u32) -> Option<u32> {
        let Self::Each { bits, table, .. } = self else {
            return match self {
                Self::Uniform { len, .. } | Self::Each { count: len, .. } => Some(*len),
            };
        };
        let place = usize::try_from(sample).ok()?;
        let at = |width: usize| Bytes::new(table.get(place * width..)?).take(width);
        match bits {
            32 => Bytes::new(at(4)?).u32(),
            16 => Bytes::new(at(2)?).u16().map(u32::from),
            8 => table.get(place).map(|byte| u32::from(*byte)),
            _ => table.get(place / 2).map(|byte| u32::from(if place % 2 == 0 { byte >> 4 } else { byte & 15 })),
        }
    }
}

/// `stco` or `co64`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offsets<'a> {
    pub(super) table: &'a [u8],
    pub(super) wide: bool,
}

impl Offsets<'_> {
    fn get(&self, chunk: u32) -> Option<u64> {
        let place = usize::try_from(chunk).ok()?;
        if self.wide {
            Bytes::new(self.table.get(8 + place * 8..)?).u64()
        } else {
            Bytes::new(self.table.get(8 + place * 4..)?).u32().map(u64::from)
        }
    }
}

impl<'a> Tables<'a> {
    /// How many samples the tables claim.
    pub(super) const fn count(&self) -> u32 {
        self.sizes.count()
    }

    /// The samples in decoding order, until any of the tables that they need ends.
    pub(super) fn rows(self) -> impl Iterator<Item = Row> + 'a {
        let (mut durations, mut shifts) = (Runs::new(self.stts), Runs::new(self.ctts));
        let (mut syncs, mut partial) = (self.stss.map(Syncs::new), Syncs::new(self.stps));
        let mut chunks = Chunks::new(self.stsc, self.offsets);
        let mut dts = 0i64;
        (0..self.count()).map_while(move |sample| {
            let (offset, entry) = chunks.next_sample()?;
            let len = self.sizes.len(sample)?;
            chunks.offset = chunks.offset.saturating_add(len.into());
            // Negative durations occur in the wild; they count as the shortest.
            let duration = durations.next_value().unwrap_or(1);
            let duration = if duration > i32::MAX.cast_unsigned() { 1 } else { duration };
            let shift = i64::from(shifts.next_value().unwrap_or(0).cast_signed());
            let sync = syncs.as_mut().is_none_or(|syncs| syncs.holds(sample)) | partial.holds(sample);
            let row = Row { offset, len, dts, pts: dts.saturating_add(shift), duration, sync, entry };
            dts = dts.saturating_add(duration.into());
            Some(row)
        })
    }
}

/// The runs of `stts` or `ctts`; past the end the last value goes on.
struct Runs<'a> {
    entries: Bytes<'a>,
    left: u32,
    value: Option<u32>,
}

impl<'a> Runs<'a> {
    fn new(content: &'a [u8]) -> Self {
        Self { entries: Bytes::new(content.get(8..).unwrap_or_default()), left: 0, value: None }
    }

    fn next_value(&mut self) -> Option<u32> {
        while self.left == 0 {
            let (Some(count), Some(value)) = (self.entries.u32(), self.entries.u32()) else { return self.value };
            (self.left, self.value) = (count, Some(value));
        }
        self.left -= 1;
        self.value
    }
}

/// The ascending sample numbers of `stss`.
struct Syncs<'a> {
    entries: Bytes<'a>,
    next: u32,
}

impl<'a> Syncs<'a> {
    fn new(content: &'a [u8]) -> Self {
        Self { entries: Bytes::new(content.get(8..).unwrap_or_default()), next: 0 }
    }

    fn holds(&mut self, sample: u32) -> bool {
        while self.next <= sample {
            let Some(next) = self.entries.u32() else { return false };
            self.next = next;
        }
        self.next == sample.saturating_add(1)
    }
}

/// The chunks of `stsc` and their offsets.
struct Chunks<'a> {
    runs: Bytes<'a>,
    offsets: Offsets<'a>,
    /// Chunks begun so far, which is the number of the present one.
    begun: u32,
    run: Run,
    upcoming: Option<Run>,
    /// Samples left in the present chunk, and where the next one is.
    left: u32,
    offset: u64,
}

/// Chunks from `first` on hold this many samples of this entry, both counted from 1.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    first: u32,
    samples: u32,
    entry: u32,
}

impl Run {
    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self { first: bytes.u32()?, samples: bytes.u32()?, entry: bytes.u32()? })
    }
}

impl<'a> Chunks<'a> {
    fn new(stsc: &'a [u8], offsets: Offsets<'a>) -> Self {
        let mut runs = Bytes::new(stsc.get(8..).unwrap_or_default());
        let upcoming = Run::read(&mut runs);
        Self { runs, offsets, begun: 0, run: Run::default(), upcoming, left: 0, offset: 0 }
    }

    fn next_sample(&mut self) -> Option<(u64, usize)> {
        // An empty chunk is skipped; the table of offsets bounds the loop.
        while self.left == 0 {
            self.offset = self.offsets.get(self.begun)?;
            self.begun = self.begun.checked_add(1)?;
            while let Some(run) = self.upcoming.filter(|run| run.first <= self.begun) {
                self.run = run;
                self.upcoming = Run::read(&mut self.runs);
            }
            self.left = self.run.samples;
        }
        self.left -= 1;
        Some((self.offset, usize::try_from(self.run.entry.saturating_sub(1)).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[u32]) -> Vec<u8> {
        [&[0; 8][..], &values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>()].concat()
    }

    #[test]
    fn rows_follow_all_tables() {
        let (stts, ctts) = (table(&[2, 10, 9, 20]), table(&[1, 5, 1, (-3i32).cast_unsigned()]));
        let (stss, stsc) = (table(&[1, 4]), table(&[1, 2, 1, 3, 1, 2]));
        let (stsz, stco) = (table(&[]), table(&[1000, 2000, 3000, 4000]));
        let stsz = [&stsz[..4], &0u32.to_be_bytes(), &6u32.to_be_bytes(), &table(&[1, 2, 3, 4, 5, 6])[8..]].concat();
        let tables = Tables {
            stts: &stts,
            ctts: &ctts,
            stss: Some(&stss),
            stps: &[],
            stsc: &stsc,
            sizes: Sizes::stsz(&stsz).expect("stsz"),
            offsets: Offsets { table: &stco, wide: false },
        };
        let found: Vec<_> = tables.rows().map(|r| (r.offset, r.len, r.dts, r.pts, r.sync, r.entry)).collect();
        let expected = [
            (1000, 1, 0, 5, true, 0),
            (1001, 2, 10, 7, false, 0),
            (2000, 3, 20, 17, false, 0),
            (2003, 4, 40, 37, true, 0),
            (3000, 5, 60, 57, false, 1),
            (4000, 6, 80, 77, false, 1),
        ];
        assert_eq!(found, expected);
        assert!(tables.rows().all(|row| row.duration == 10 || row.duration == 20));
    }

    #[test]
    fn compact_sizes_and_short_tables() {
        let stz2 = [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9, 0x12, 0x30];
        let sizes = Sizes::stz2(&stz2).expect("stz2");
        assert_eq!((sizes.count(), sizes.len(0), sizes.len(1), sizes.len(2)), (4, Some(1), Some(2), Some(3)));
        let uniform = Sizes::stsz(&[0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]).expect("stsz");
        let (stsc, stco) = (table(&[1, 2, 1]), table(&[10, 20]));
        let offsets = Offsets { table: &stco, wide: false };
        let tables = Tables { stsc: &stsc, sizes: uniform, offsets, ..Tables::default() };
        assert_eq!(tables.rows().map(|row| row.offset).collect::<Vec<_>>(), [10, 17, 20, 27]);
    }
}
