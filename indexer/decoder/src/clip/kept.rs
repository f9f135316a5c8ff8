//! Media of which nothing is read twice: what a search came by is there when its result is shown. Bounded; what is over
//! the bound is read again.

use std::collections::BTreeMap;

use stills_model::fault::Fault;

use crate::scan::Media;

/// Bytes that are remembered; a search reads a few MiB, and the picture is among the last of them.
const KEPT_MAX: usize = 64 * 1024 * 1024;

/// Media and what was read of it.
pub(super) struct Kept<'m> {
    media: &'m mut dyn Media,
    /// By offset; no two overlap.
    pieces: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

impl<'m> Kept<'m> {
    pub(super) fn new(media: &'m mut dyn Media) -> Self {
        Self { media, pieces: BTreeMap::new(), bytes: 0 }
    }

    /// The bytes from `at` on that are remembered in one piece; else where the next such piece begins.
    fn at_hand(&self, at: u64) -> Result<&[u8], Option<u64>> {
        let before = self.pieces.range(..=at).next_back();
        let held = before.and_then(|(offset, piece)| piece.get(usize::try_from(at - offset).ok()?..));
        match held {
            Some(held) if !held.is_empty() => Ok(held),
            _ => Err(self.pieces.range(at..).next().map(|(offset, _)| *offset)),
        }
    }
}

impl Media for Kept<'_> {
    fn len(&self) -> u64 {
        self.media.len()
    }

    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        loop {
            let at = offset.saturating_add(bytes.len() as u64);
            let missing = len - u32::try_from(bytes.len()).unwrap_or(len);
            if missing == 0 {
                return Ok(bytes);
            }
            match self.at_hand(at) {
                Ok(held) => bytes.extend_from_slice(held.get(..missing as usize).unwrap_or(held)),
                Err(next) => {
                    let until_next = next.map_or(missing, |next| u32::try_from(next - at).unwrap_or(u32::MAX));
                    let read = self.media.read(at, missing.min(until_next))?;
                    bytes.extend_from_slice(&read);
                    if self.bytes + read.len() <= KEPT_MAX {
                        self.bytes += read.len();
                        self.pieces.insert(at, read);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that count how often each is read.
    struct Watched {
        bytes: Vec<u8>,
        reads: Vec<u32>,
    }

    impl Media for Watched {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }
        fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
            let from = usize::try_from(offset).expect("small");
            let range = from..from + len as usize;
            self.reads[range.clone()].iter_mut().for_each(|reads| *reads += 1);
            Ok(self.bytes[range].to_vec())
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_read_once_at_most(asked in prop::collection::vec((0u64..900, 0u32..100), 0..30)) {
            let bytes: Vec<u8> = (0..1000_u32).map(|n| (n * 31 % 251) as u8).collect();
            let mut watched = Watched { bytes: bytes.clone(), reads: vec![0; 1000] };
            let mut kept = Kept::new(&mut watched);
            for (offset, len) in asked {
                let from = usize::try_from(offset).expect("small");
                prop_assert_eq!(kept.read(offset, len), Ok(bytes[from..from + len as usize].to_vec()));
            }
            prop_assert!(watched.reads.iter().all(|reads| *reads <= 1));
        }
    }
}
