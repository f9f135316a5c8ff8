//! In which hours a device's folded recordings lie, by a fingerprint of their ids: in the tables with each hour's place,
//! and in memory for devices that were asked for lately. A key of its own for each recording would be most of the tables.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use stills_model::codec::{Malformed, Reader, Writer};
use stills_model::id::RecordingId;
use stills_model::time::Hour;

use super::block::Block;
use super::hour_files::Place;

const VERSION: u8 = 2;

/// Short, since the block itself tells: among a year of recordings of a minute, one id in eight thousand that is not there
/// costs a look into a block.
pub(super) type Fingerprint = u32;

pub(super) fn fingerprint(recording: &RecordingId) -> Fingerprint {
    let digest = Sha256::digest(recording.as_str().as_bytes());
    Fingerprint::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// What the tables hold of an hour's block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) place: Place,
    /// Of its recordings, in ascending order.
    pub(super) fingerprints: Vec<Fingerprint>,
}

impl Pointer {
    pub(super) fn new(place: Place, block: &Block) -> Self {
        let mut fingerprints: Vec<_> =
            block.members().iter().map(|member| fingerprint(&member.entry.recording)).collect();
        fingerprints.sort_unstable();
        Self { place, fingerprints }
    }

    /// The stored form, version 2: version, place, number of fingerprints, and these as big-endian numbers.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.byte(VERSION);
        self.place.write(&mut w);
        let all: Vec<u8> = self.fingerprints.iter().flat_map(|one| one.to_be_bytes()).collect();
        w.bytes(&all);
        w.finish()
    }

    /// Reads of the stored form where the block lies.
    pub(super) fn place_in(bytes: &[u8]) -> Result<Place, Malformed> {
        Ok(read_place(bytes)?.0)
    }

    /// Reads the stored form.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (place, mut r) = read_place(bytes)?;
        let (all, rest) = r.bytes()?.as_chunks();
        r.end()?;
        if !rest.is_empty() {
            return Err(Malformed("fingerprints"));
        }
        Ok(Self { place, fingerprints: all.iter().map(|one| Fingerprint::from_be_bytes(*one)).collect() })
    }
}

/// The place, which comes first, and what is behind it.
fn read_place(bytes: &[u8]) -> Result<(Place, Reader<'_>), Malformed> {
    let mut r = Reader::new(bytes);
    if r.byte()? != VERSION {
        return Err(Malformed("hour version"));
    }
    Ok((Place::read(&mut r)?, r))
}

/// The folded recordings of a device.
#[derive(Debug, Default)]
pub(super) struct FoldedIds {
    /// How often the device's recordings had moved when this was gathered.
    pub(super) as_of: u64,
    all: Vec<(Fingerprint, Hour)>,
}

impl FoldedIds {
    pub(super) fn gather(as_of: u64, hours: BTreeMap<Hour, Pointer>) -> Self {
        let each = |(hour, pointer): (Hour, Pointer)| pointer.fingerprints.into_iter().map(move |one| (one, hour));
        let mut all: Vec<_> = hours.into_iter().flat_map(each).collect();
        all.sort_unstable();
        Self { as_of, all }
    }

    /// The hours in which a recording of this fingerprint lies: mostly none or one.
    pub(super) fn hours_of(&self, fingerprint: Fingerprint) -> impl Iterator<Item = Hour> {
        let first = self.all.partition_point(|(one, _)| *one < fingerprint);
        self.all[first..].iter().take_while(move |(one, _)| *one == fingerprint).map(|(_, hour)| *hour)
    }

    /// About how many bytes it takes.
    pub(super) fn cost(&self) -> u32 {
        u32::try_from(self.all.len().saturating_mul(size_of::<(Fingerprint, Hour)>()).saturating_add(128))
            .unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_as_they_were_written() {
        let place = Place { file: 3, offset: 70_000, len: 900 };
        let pointer = Pointer { place, fingerprints: vec![1, 77, u32::MAX] };
        let bytes = pointer.encode();
        assert_eq!(Pointer::decode(&bytes), Ok(pointer));
        assert_eq!(Pointer::place_in(&bytes), Ok(place));
        for cut in 0..bytes.len() {
            assert!(Pointer::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn ids_are_found_in_their_hours() {
        let place = Place { file: 0, offset: 8, len: 1 };
        let pointer = |fingerprints: &[u32]| Pointer { place, fingerprints: fingerprints.to_vec() };
        let ids = FoldedIds::gather(7, [(Hour(5), pointer(&[1, 9, 9])), (Hour(6), pointer(&[4, 9]))].into());
        let hours = |fingerprint| ids.hours_of(fingerprint).map(|hour| hour.0).collect::<Vec<_>>();
        assert_eq!((hours(1), hours(4), hours(9)), (vec![5], vec![6], vec![5, 5, 6]));
        assert_eq!((hours(0), hours(5), hours(u32::MAX)), (vec![], vec![], vec![]));
    }
}
