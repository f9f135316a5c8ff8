//! A run of keyframes and its stored forms. Knows no configurations, only their ids; never reads a part of a page.
//!
//! Version 2, since the forms are in columns ([`column`]): version, count of configurations and their ids, the run.
//! A run ([`write_run`]): count of keyframes; instant of the first, steps to each next; configurations; counts of
//! ranges; place of the first keyframe's first byte, steps to each next; lengths of all ranges; gaps between the ranges
//! of a keyframe; which share of a step is video, bytes of video beyond that share; bytes of video of the last keyframe.
//! Thirty keyframes of a camera whose lengths and distances vary by a tenth and a fifth take some 167 bytes.
//!
//! Version 1, still read: version, configurations as in version 2, count of keyframes, then per keyframe, delta-coded
//! against the one before: instant, configuration, ranges (offset against the end of the range before), bytes to the
//! next keyframe. The same thirty took 420 bytes.

use crate::codec::{Malformed, Reader, Writer};
use crate::column;
use crate::keyframe::{ByteRange, ConfigId, Keyframe};
use crate::keyframe_index::{PAGE_LEN_MAX, RANGES_MAX};

/// A run of keyframes as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyframePage {
    /// The configurations that [`Keyframe::config`] points at in this page.
    pub configs: Vec<ConfigId>,
    /// At most [`PAGE_LEN_MAX`], sorted by `at_ms`.
    pub keyframes: Vec<Keyframe>,
}

const VERSION: u8 = 2;

/// How many bytes of a stretch of media are video, of how many: all of them, or what transport stream packets of each
/// length carry. What a page's form says is the place in this list: only ever append.
const SHARES: [(i64, i64); 4] = [(1, 1), (184, 188), (184, 192), (184, 204)];

impl KeyframePage {
    /// A run out of an index whose configurations have these ids.
    pub(crate) fn new(run: &[Keyframe], ids: &[ConfigId]) -> Self {
        let mut page = Self::default();
        for keyframe in run {
            let id = ids[usize::from(keyframe.config)];
            let place = page.configs.iter().position(|known| *known == id).unwrap_or_else(|| {
                page.configs.push(id);
                page.configs.len() - 1
            });
            // A page has at most 128 configurations, one per keyframe.
            page.keyframes.push(Keyframe { config: u16::try_from(place).unwrap_or(0), ..keyframe.clone() });
        }
        page
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION).unsigned(self.configs.len() as u64);
        for id in &self.configs {
            w.raw(&id.0);
        }
        write_run(&mut w, &self.keyframes);
        w.finish()
    }

    /// Reads the stored form of this version and all earlier ones.
    ///
    /// # Errors
    /// When the bytes are not such a form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let version = read_version(&mut r)?;
        let mut configs = Vec::new();
        for _ in 0..r.unsigned()? {
            configs.push(ConfigId(r.array()?));
        }
        let keyframes = match version {
            1 => read_run_1(&mut r, configs.len())?,
            _ => read_run(&mut r, configs.len())?,
        };
        r.end()?;
        Ok(Self { configs, keyframes })
    }

    /// The instants of a stored form's keyframes, in order; of version 2 nothing behind them is looked at.
    ///
    /// # Errors
    /// When the bytes are not such a form, as far as they are looked at.
    pub fn instants(bytes: &[u8]) -> Result<Vec<i64>, Malformed> {
        let mut r = Reader::new(bytes);
        if read_version(&mut r)? == 1 {
            return Ok(Self::decode(bytes)?.keyframes.iter().map(|keyframe| keyframe.at_ms).collect());
        }
        for _ in 0..r.unsigned()? {
            r.array::<{ size_of::<ConfigId>() }>()?;
        }
        let count = read_count(&mut r)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let at_ms = r.signed()?;
        Ok(sums(at_ms, &column::read(&mut r, count - 1)?).collect())
    }
}

fn read_version(r: &mut Reader<'_>) -> Result<u8, Malformed> {
    let version = r.byte()?;
    if (1..=VERSION).contains(&version) { Ok(version) } else { Err(Malformed("keyframe page version")) }
}

/// Appends at most [`PAGE_LEN_MAX`] keyframes.
pub(crate) fn write_run(w: &mut Writer, run: &[Keyframe]) {
    w.unsigned(run.len() as u64);
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
    let instants: Vec<i64> = run.iter().map(|keyframe| keyframe.at_ms).collect();
    w.signed(first.at_ms);
    column::write(w, &steps(&instants));
    column::write(w, &run.iter().map(|keyframe| i64::from(keyframe.config)).collect::<Vec<_>>());
    column::write(w, &run.iter().map(|keyframe| small(keyframe.ranges.len())).collect::<Vec<_>>());

    let mut places: Vec<i64> = Vec::with_capacity(run.len());
    for keyframe in run {
        // One without ranges, which no scan gives, lies where the one before does.
        let before = places.last().copied().unwrap_or(0);
        places.push(keyframe.ranges.first().map_or(before, |range| range.offset.cast_signed()));
    }
    let place_steps = steps(&places);
    w.signed(places[0]);
    column::write(w, &place_steps);
    let ranges = || run.iter().flat_map(|keyframe| &keyframe.ranges);
    column::write(w, &ranges().map(|range| i64::from(range.len)).collect::<Vec<_>>());
    let pairs = run.iter().flat_map(|keyframe| keyframe.ranges.windows(2));
    let gap = |pair: &[ByteRange]| pair[1].offset.wrapping_sub(pair[0].end()).cast_signed();
    column::write(w, &pairs.map(gap).collect::<Vec<_>>());

    let of_share = |share: usize| {
        let mut w = Writer::new();
        let beyond =
            |(keyframe, step): (&Keyframe, &i64)| keyframe.gop_bytes.cast_signed().wrapping_sub(video(*step, share));
        column::write(&mut w, &run.iter().zip(&place_steps).map(beyond).collect::<Vec<_>>());
        (share, w.finish())
    };
    let shortest = (0..SHARES.len()).map(of_share).min_by_key(|(_, beyond)| beyond.len());
    let (share, beyond) = shortest.unwrap_or_default();
    w.byte(u8::try_from(share).unwrap_or(0)).raw(&beyond).unsigned(last.gop_bytes);
}

/// Takes a run off the reader, all of whose keyframes have one of `n_configs` configurations.
pub(crate) fn read_run(r: &mut Reader<'_>, n_configs: usize) -> Result<Vec<Keyframe>, Malformed> {
    let count = read_count(r)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let at_ms = r.signed()?;
    let instant_steps = column::read(r, count - 1)?;
    let is_config = |config: &u16| usize::from(*config) < n_configs;
    let config = |raw| u16::try_from(raw).ok().filter(is_config).ok_or(Malformed("configuration"));
    let configs: Vec<u16> = column::read(r, count)?.into_iter().map(config).collect::<Result<_, _>>()?;
    let n_ranges = |raw| usize::try_from(raw).ok().filter(|n| *n <= RANGES_MAX).ok_or(Malformed("count of ranges"));
    let counts: Vec<usize> = column::read(r, count)?.into_iter().map(n_ranges).collect::<Result<_, _>>()?;

    let place = r.signed()?;
    let place_steps = column::read(r, count - 1)?;
    let mut lens = column::read(r, counts.iter().sum())?.into_iter();
    let mut gaps = column::read(r, counts.iter().map(|n| n.saturating_sub(1)).sum())?.into_iter();
    let share = usize::from(r.byte()?);
    if share >= SHARES.len() {
        return Err(Malformed("share of video"));
    }
    let beyond = column::read(r, count - 1)?;
    let of_step = |(beyond, step): (&i64, &i64)| beyond.wrapping_add(video(*step, share)).cast_unsigned();
    let gop_bytes = beyond.iter().zip(&place_steps).map(of_step).chain([r.unsigned()?]);

    let mut keyframes = Vec::with_capacity(count);
    let (instants, places) = (sums(at_ms, &instant_steps), sums(place, &place_steps));
    for ((((at_ms, config), n), place), gop_bytes) in instants.zip(configs).zip(counts).zip(places).zip(gop_bytes) {
        let mut ranges = Vec::with_capacity(n);
        let mut offset = place.cast_unsigned();
        for index in 0..n {
            if index > 0 {
                offset = offset.wrapping_add(gaps.next().unwrap_or(0).cast_unsigned());
            }
            let len = u32::try_from(lens.next().unwrap_or(0)).map_err(|_| Malformed("length of a range"))?;
            ranges.push(ByteRange { offset, len });
            offset = offset.saturating_add(len.into());
        }
        keyframes.push(Keyframe { at_ms, config, ranges, gop_bytes });
    }
    Ok(keyframes)
}

fn read_count(r: &mut Reader<'_>) -> Result<usize, Malformed> {
    let count = usize::try_from(r.unsigned()?).ok().filter(|count| *count <= PAGE_LEN_MAX);
    count.ok_or(Malformed("keyframe page length"))
}

fn small(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn steps(values: &[i64]) -> Vec<i64> {
    values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect()
}

/// `first`, then what each step leads to.
fn sums(first: i64, steps: &[i64]) -> impl Iterator<Item = i64> {
    let next = move |sum: &mut i64, step: &i64| {
        *sum = sum.wrapping_add(*step);
        Some(*sum)
    };
    std::iter::once(first).chain(steps.iter().scan(first, next))
}

/// How much of a step is video. Never over the step: no share is over one.
fn video(step: i64, share: usize) -> i64 {
    let (carried, of) = SHARES[share];
    step / of * carried
}

/// The run of version 1.
fn read_run_1(r: &mut Reader<'_>, n_configs: usize) -> Result<Vec<Keyframe>, Malformed> {
    let count = read_count(r)?;
    let mut keyframes = Vec::new();
    let (mut at_ms, mut offset) = (0i64, 0u64);
    for _ in 0..count {
        at_ms = at_ms.wrapping_add(r.signed()?);
        let config = r.unsigned_16()?;
        if usize::from(config) >= n_configs {
            return Err(Malformed("configuration"));
        }
        let n_ranges = r.unsigned()?;
        if n_ranges > RANGES_MAX as u64 {
            return Err(Malformed("count of ranges"));
        }
        let mut ranges = Vec::new();
        for _ in 0..n_ranges {
            let range = ByteRange { offset: offset.wrapping_add(r.signed()?.cast_unsigned()), len: r.unsigned_32()? };
            offset = range.end();
            ranges.push(range);
        }
        keyframes.push(Keyframe { at_ms, config, ranges, gop_bytes: r.unsigned()? });
    }
    Ok(keyframes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any keyframes, with `n_configs` configurations.
    pub(crate) fn any_keyframe(n_configs: u16) -> impl Strategy<Value = Keyframe> {
        let range = (any::<u64>(), any::<u32>()).prop_map(|(offset, len)| ByteRange { offset, len });
        let ranges = prop::collection::vec(range, 0..4);
        (any::<i64>(), 0..n_configs, ranges, any::<u64>()).prop_map(|(at_ms, config, ranges, gop_bytes)| Keyframe {
            at_ms,
            config,
            ranges,
            gop_bytes,
        })
    }

    /// Noise from -`most` to `most`, all alike likely.
    fn noise(seed: &mut u64, most: i64) -> i64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(*seed >> 33).expect("31 bits") % (2 * most + 1) - most
    }

    /// A minute of a camera: keyframes every 2 s of 90 KB, 800 KB apart, which vary by a tenth and by a fifth. Of a
    /// stream in packets (`packet_len`), both are whole packets, of each of which 184 bytes are video.
    fn minute(seed: &mut u64, packet_len: Option<i64>) -> Vec<Keyframe> {
        let whole = |len: i64| len / packet_len.unwrap_or(1) * packet_len.unwrap_or(1);
        let mut offset = whole(5000);
        let one = |n: i64| {
            let (len, step) = (whole(90_000 + noise(seed, 9_000)), whole(800_000 + noise(seed, 160_000)));
            let range = ByteRange { offset: offset.cast_unsigned(), len: u32::try_from(len).expect("length") };
            offset += step;
            let gop_bytes = packet_len.map_or(step, |of| step / of * 184).cast_unsigned();
            Keyframe { at_ms: n * 2000, config: 0, ranges: vec![range], gop_bytes }
        };
        (0..30).map(one).collect()
    }

    fn page(keyframes: Vec<Keyframe>) -> KeyframePage {
        KeyframePage { configs: vec![ConfigId([7; 16])], keyframes }
    }

    #[test]
    fn a_usual_keyframe_takes_few_bytes() {
        let mut seed = 1;
        let mut mean = |packet_len| {
            let lens = (0..100).map(|_| page(minute(&mut seed, packet_len)).encode().len());
            lens.sum::<usize>() / 100
        };
        // 121 bytes are noise, 14.1 and 18.3 bits a keyframe, and 16 are the configuration's id.
        let (plain, packets) = (mean(None), mean(Some(188)));
        println!("thirty keyframes: {plain} bytes, in transport stream packets {packets}");
        assert!(plain <= 170, "{plain} bytes");
        assert!(packets <= 118, "{packets} bytes");
    }

    /// What version 1 wrote, byte by byte.
    fn encode_1(page: &KeyframePage) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(1).unsigned(page.configs.len() as u64);
        for id in &page.configs {
            w.raw(&id.0);
        }
        w.unsigned(page.keyframes.len() as u64);
        let (mut at_ms, mut offset) = (0i64, 0u64);
        for keyframe in &page.keyframes {
            w.signed(keyframe.at_ms.wrapping_sub(at_ms)).unsigned(keyframe.config.into());
            w.unsigned(keyframe.ranges.len() as u64);
            for range in &keyframe.ranges {
                w.signed(range.offset.wrapping_sub(offset).cast_signed()).unsigned(range.len.into());
                offset = range.end();
            }
            w.unsigned(keyframe.gop_bytes);
            at_ms = keyframe.at_ms;
        }
        w.finish()
    }

    #[test]
    fn version_1_is_read() {
        let mut bytes = vec![1, 1];
        bytes.extend([9; 16]);
        // Two keyframes: at -1 and 1999, of 300 bytes at 48 and of 2 and 1 bytes at 1048 and 1060.
        bytes.extend([2, 1, 0, 1, 96, 0xac, 2, 0xe8, 7, 0xa0, 31, 0, 2, 0xf8, 10, 2, 20, 1, 5]);
        let range = |offset, len| ByteRange { offset, len };
        let keyframes = vec![
            Keyframe { at_ms: -1, config: 0, ranges: vec![range(48, 300)], gop_bytes: 1000 },
            Keyframe { at_ms: 1999, config: 0, ranges: vec![range(1048, 2), range(1060, 1)], gop_bytes: 5 },
        ];
        assert_eq!(KeyframePage::decode(&bytes), Ok(KeyframePage { configs: vec![ConfigId([9; 16])], keyframes }));
        assert_eq!(KeyframePage::decode(&[3, 0, 0]), Err(Malformed("keyframe page version")));
    }

    proptest! {
        #[test]
        fn pages_survive(keyframes in prop::collection::vec(any_keyframe(3), 0..=PAGE_LEN_MAX)) {
            let page = KeyframePage { configs: (0..3).map(|n| ConfigId([n; 16])).collect(), keyframes };
            prop_assert_eq!(KeyframePage::decode(&page.encode()), Ok(page.clone()));
            let instants: Vec<i64> = page.keyframes.iter().map(|keyframe| keyframe.at_ms).collect();
            for form in [page.encode(), encode_1(&page)] {
                prop_assert_eq!(KeyframePage::instants(&form), Ok(instants.clone()));
            }
            prop_assert_eq!(KeyframePage::decode(&encode_1(&page)), Ok(page));
        }

        #[test]
        fn usual_pages_survive(mut seed: u64, is_packets: bool) {
            let page = page(minute(&mut seed, is_packets.then_some(188)));
            prop_assert_eq!(KeyframePage::decode(&page.encode()), Ok(page));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, at in 0usize..200, flipped: u8, mut seed: u64) {
            let _ = (KeyframePage::decode(&bytes), KeyframePage::instants(&bytes));
            for version in [1, 2] {
                let form = [&[version, 1][..], &[0; 16], &bytes].concat();
                let _ = (KeyframePage::decode(&form), KeyframePage::instants(&form));
            }
            let mut bytes = page(minute(&mut seed, None)).encode();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = flipped;
            }
            let _ = KeyframePage::decode(&bytes);
        }
    }
}
