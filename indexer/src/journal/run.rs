//! Runs: entries that a compaction put together, in their order, and compressed as one. Knows neither files nor offsets.
//!
//! Form: method (which stands where the kind of an entry does), then as the method says, one after the other: kind u8,
//! length of the payload (LEB128), payload.
//!
//! Why so long: entries of a thousand devices that record side by side repeat each other's texts, and their own ids only
//! a minute later. An event and its result of 500 bytes take 273 in runs of 64 KiB, 242 in runs of 256 KiB, 222 in runs
//! of 1 MiB and 217 in runs of 4 MiB; zlib, which looks back 32 KiB, takes 300. A damaged stretch loses its whole run.

use std::io;

use stills_model::codec::{Malformed, Reader, Writer};

/// The longest run before compression, and so the most that reading one allocates. What is longer is not compressed.
pub(super) const RUN_BYTES_MAX: u32 = 1 << 20;

/// Beyond this level a tenth of a per cent is gained for twice the time.
const LEVEL: i32 = 3;

/// How a run is stored. Part of the stored form: only ever add.
mod method {
    pub(super) const PLAIN: u8 = 0;
    pub(super) const ZSTD: u8 = 1;
}

/// Collects entries.
pub(super) struct Collector {
    entries: Writer,
    bytes_max: usize,
    compressor: zstd::bulk::Compressor<'static>,
}

/// A run as it is stored.
pub(super) struct Run {
    pub(super) method: u8,
    pub(super) bytes: Vec<u8>,
}

impl Collector {
    /// Collects `bytes_max` bytes into a run, at most [`RUN_BYTES_MAX`].
    pub(super) fn new(bytes_max: u32) -> io::Result<Self> {
        let bytes_max = usize::try_from(bytes_max.min(RUN_BYTES_MAX)).unwrap_or(0);
        Ok(Self { entries: Writer::new(), bytes_max, compressor: zstd::bulk::Compressor::new(LEVEL)? })
    }

    /// Takes an entry; gives the run that is full with those before it.
    pub(super) fn push(&mut self, kind: u8, payload: &[u8]) -> io::Result<Option<Run>> {
        // A kind and a length take six bytes at most: payloads are shorter than 4 GiB.
        let full = if self.entries.len() + 6 + payload.len() > self.bytes_max { self.finish()? } else { None };
        self.entries.byte(kind).bytes(payload);
        Ok(full)
    }

    /// The entries taken since the last run, if there are any.
    pub(super) fn finish(&mut self) -> io::Result<Option<Run>> {
        let plain = std::mem::take(&mut self.entries).finish();
        if plain.is_empty() {
            return Ok(None);
        }
        if plain.len() <= self.bytes_max {
            let bytes = self.compressor.compress(&plain)?;
            if bytes.len() < plain.len() {
                return Ok(Some(Run { method: method::ZSTD, bytes }));
            }
        }
        Ok(Some(Run { method: method::PLAIN, bytes: plain }))
    }
}

/// Gives entries back.
#[derive(Default)]
pub(super) struct Opener {
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    plain: Vec<u8>,
}

impl Opener {
    /// The entries of a run: kinds and payloads in their order, at least one.
    ///
    /// # Errors
    /// When the bytes are not a run, or one that is longer than [`RUN_BYTES_MAX`] once it is decompressed.
    pub(super) fn open<'a>(&'a mut self, method: u8, bytes: &'a [u8]) -> Result<Vec<(u8, &'a [u8])>, Malformed> {
        let plain = match method {
            method::PLAIN => bytes,
            method::ZSTD => self.decompress(bytes).map_err(|_| Malformed("compression of a run"))?,
            _ => return Err(Malformed("method of a run")),
        };
        let (mut r, mut entries) = (Reader::new(plain), Vec::new());
        while r.left() > 0 {
            entries.push((r.byte()?, r.bytes()?));
        }
        if entries.is_empty() { Err(Malformed("run without entries")) } else { Ok(entries) }
    }

    fn decompress(&mut self, bytes: &[u8]) -> io::Result<&[u8]> {
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        self.plain.clear();
        // Never writes beyond the capacity, whatever the input says of its length.
        self.plain.reserve_exact(usize::try_from(RUN_BYTES_MAX).unwrap_or(0));
        decompressor.decompress_to_buffer(bytes, &mut self.plain)?;
        Ok(&self.plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(bytes_max: u32, entries: &[(u8, Vec<u8>)]) -> Vec<Run> {
        let mut collector = Collector::new(bytes_max).expect("a collector");
        let mut runs: Vec<Run> = Vec::new();
        for (kind, payload) in entries {
            runs.extend(collector.push(*kind, payload).expect("pushed"));
        }
        runs.extend(collector.finish().expect("finished"));
        runs
    }

    fn check(method: u8, bytes: &[u8], what: &'static str) {
        assert_eq!(Opener::default().open(method, bytes), Err(Malformed(what)));
    }

    #[test]
    fn what_is_no_run_is_refused() {
        check(method::PLAIN, &[], "run without entries");
        check(method::PLAIN, &[1, 2, 3], "length");
        check(method::ZSTD, b"nonsense", "compression of a run");
        check(7, &[1, 0], "method of a run");
    }

    #[test]
    fn a_run_that_grows_too_long_is_refused() {
        let len = usize::try_from(RUN_BYTES_MAX).expect("length");
        let longest = [&[1][..], &[0xfc, 0xff, 0x3f], &vec![0; len - 4]].concat();
        let compressed = |plain: &[u8]| zstd::bulk::compress(plain, 19).expect("compressed");
        assert_eq!(Opener::default().open(method::ZSTD, &compressed(&longest)).map(|entries| entries.len()), Ok(1));
        check(method::ZSTD, &compressed(&vec![0; len + 1]), "compression of a run");
        let bomb = compressed(&vec![0; 64 * len]);
        assert!(bomb.len() < 20_000);
        check(method::ZSTD, &bomb, "compression of a run");
        // One entry that long is stored as it is, and read as it is.
        let entry = (5, vec![0; 2 * len]);
        let [run] = &runs(u32::MAX, std::slice::from_ref(&entry))[..] else { panic!("one run") };
        assert_eq!(run.method, method::PLAIN);
        assert_eq!(Opener::default().open(run.method, &run.bytes), Ok(vec![(5, &entry.1[..])]));
    }

    proptest! {
        #[test]
        fn entries_survive(
            entries in prop::collection::vec((any::<u8>(), prop::collection::vec(0u8..4, 0..90)), 0..40),
            bytes_max in 0u32..400,
        ) {
            let (runs, mut opener, mut found) = (runs(bytes_max, &entries), Opener::default(), Vec::new());
            for run in &runs {
                let opened = opener.open(run.method, &run.bytes).expect("a run");
                found.extend(opened.into_iter().map(|(kind, payload)| (kind, payload.to_vec())));
            }
            prop_assert_eq!(found, entries);
        }

        #[test]
        fn garbage_never_panics(method in 0u8..3, bytes: Vec<u8>) {
            let _ = Opener::default().open(method, &bytes).map(|entries| entries.len());
        }
    }
}
