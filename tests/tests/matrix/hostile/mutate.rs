//! Files made wrong by chance: real ones with bits, numbers, stretches and ends changed, the same ones for the same seed.

/// A small random generator (xorshift64*): the same numbers everywhere for ever.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to below `end`; 0 where that is nothing.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let most = 1usize << self.below(14);
        start..(start + 1 + self.below(most)).min(len)
    }
}

/// Numbers at the edges of what fields hold.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Names of tables: the numbers that follow them decide what is read and reserved.
const NAMES: [&[u8]; 28] = [
    b"moov",
    b"trak",
    b"tkhd",
    b"mdhd",
    b"elst",
    b"stsd",
    b"avcC",
    b"hvcC",
    b"av1C",
    b"esds",
    b"stts",
    b"ctts",
    b"stss",
    b"stsc",
    b"stsz",
    b"stco",
    b"moof",
    b"tfhd",
    b"tfdt",
    b"trun",
    b"trex",
    b"sidx",
    // Matroska: Segment, Tracks, TrackEntry, Cluster, SimpleBlock's usual head, Cues.
    b"\x18\x53\x80\x67",
    b"\x16\x54\xae\x6b",
    b"\xae",
    b"\x1f\x43\xb6\x75",
    b"\xa3",
    b"\x1c\x53\xbb\x6b",
];

/// One of `seeds`, changed in one to four ways.
pub(super) fn mutated(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(4) {
        if bytes.is_empty() {
            break;
        }
        change(&mut bytes, seeds, chance);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let len = bytes.len();
    match chance.below(12) {
        0 => {
            for _ in 0..=chance.below(32) {
                let at = chance.below(len);
                bytes[at] ^= 1 << chance.below(8);
            }
        }
        1 => {
            // Headers are short and decide most.
            for _ in 0..=chance.below(8) {
                let at = chance.below(len.min(2048));
                bytes[at] = chance.byte();
            }
        }
        2 | 3 => {
            let at = chance.below(len.min(4096));
            number_at(bytes, at, chance);
        }
        4..=6 => {
            let name = NAMES[chance.below(NAMES.len())];
            let places: Vec<usize> =
                bytes.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(at, _)| at).collect();
            if !places.is_empty() {
                let place = places[chance.below(places.len())];
                let at = (place + chance.below(32)).saturating_sub(4);
                number_at(bytes, at, chance);
            }
        }
        7 => bytes.truncate(chance.below(len)),
        8 => {
            let value = if chance.below(2) == 0 { 0 } else { chance.byte() };
            bytes[chance.range(len)].fill(value);
        }
        9 => drop(bytes.drain(chance.range(len))),
        10 => {
            let copied = bytes[chance.range(len)].to_vec();
            let at = chance.below(len);
            bytes.splice(at..at, copied);
        }
        _ => {
            // The beginning of one file, the rest of another.
            let other = &seeds[chance.below(seeds.len())];
            bytes.truncate(chance.below(len));
            bytes.extend(&other[chance.below(other.len())..]);
        }
    }
}

/// Writes a number of 1, 2, 4 or 8 bytes that lies at an edge, or is a little off.
fn number_at(bytes: &mut [u8], at: usize, chance: &mut Chance) {
    let width = 1usize << chance.below(4);
    let value = EDGES[chance.below(EDGES.len())].wrapping_add(chance.below(3) as u64).to_be_bytes();
    for (place, byte) in bytes.iter_mut().skip(at).take(width).zip(&value[8 - width..]) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_files_and_they_differ() {
        let seeds = vec![(0..=255).cycle().take(5000).collect::<Vec<u8>>(), vec![7; 3000]];
        let round = |seed| {
            let mut chance = Chance::new(seed);
            (0..200).map(|_| mutated(&seeds, &mut chance)).collect::<Vec<_>>()
        };
        let first = round(1);
        assert_eq!(first, round(1));
        assert_ne!(first, round(2));
        let distinct: std::collections::HashSet<&Vec<u8>> = first.iter().collect();
        assert!(distinct.len() > 170, "{}", distinct.len());
    }
}
