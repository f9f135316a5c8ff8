//! Reading every byte of the volumes: whether pictures are whole, whether the index has them, and whether anything is
//! left where something was punched out. Changes nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use stills_model::thumb::ThumbKey;

use super::slots::PageKey;
use super::volume::{FIRST_ENTRY, Found, HEADER_LEN, Volume};
use super::{CacheError, DiskCache};

/// How long a delete that is under way is given before what it has not removed yet counts.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(500);

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFindings {
    /// Whole pictures.
    pub pictures: u64,
    /// Pictures whose bytes are not those that were stored. They are never served.
    pub damaged: u64,
    /// Whole pictures that the index does not name: never served either, a rebuild finds them.
    pub unlisted: u64,
    /// Pictures of recordings that are not shown any more: a delete has not removed them.
    pub left: u64,
    /// Stretches in which bytes are left though nothing is stored there.
    pub strays: u64,
}

/// Something that should not be there, unless a delete is just about to remove it.
enum Suspect {
    Picture(Found),
    Stretch(u64, u64),
}

impl DiskCache {
    /// Reads all volumes. `is_shown` says whether a picture's recording still shows it; `progress` hears how many bytes
    /// were read. May run beside everything else.
    pub fn verify(
        &self,
        is_shown: impl Fn(&ThumbKey) -> bool,
        mut progress: impl FnMut(u64),
    ) -> Result<CacheFindings, CacheError> {
        let mut findings = CacheFindings::default();
        let mut suspects: Vec<(Arc<Volume>, Suspect)> = Vec::new();
        let volumes: Vec<_> = self.read_volumes().values().map(Arc::clone).collect();
        for volume in volumes {
            let failed = || CacheError::io("read", &self.volume_path(volume.id));
            let end = volume.len();
            let mut at = FIRST_ENTRY;
            loop {
                let found = volume.entry_from(at, end).map_err(failed())?;
                let next = found.map_or(end, |found| found.slot.offset);
                if !volume.is_zero(at, next).map_err(failed())? {
                    suspects.push((Arc::clone(&volume), Suspect::Stretch(at, next)));
                }
                let Some(found) = found else { break };
                let entry_end = found.slot.offset + u64::from(found.slot.len);
                if found.is_punched {
                    let body = found.slot.offset + HEADER_LEN as u64;
                    if !volume.is_zero(body, entry_end).map_err(failed())? {
                        suspects.push((Arc::clone(&volume), Suspect::Stretch(body, entry_end)));
                    }
                } else if !is_shown(&found.key) {
                    suspects.push((Arc::clone(&volume), Suspect::Picture(found)));
                } else {
                    self.verify_picture(&volume, &found, &mut findings)?;
                }
                progress(entry_end - at);
                at = entry_end;
            }
        }
        if !suspects.is_empty() {
            std::thread::sleep(SECOND_LOOK_AFTER);
        }
        for (volume, suspect) in suspects.iter().filter(|(volume, _)| self.volume(volume.id).is_some()) {
            let failed = || CacheError::io("read", &self.volume_path(volume.id));
            match suspect {
                Suspect::Stretch(from, to) => {
                    findings.strays += u64::from(!volume.is_zero(*from, *to).map_err(failed())?);
                }
                Suspect::Picture(found) => {
                    let now = volume.entry_from(found.slot.offset, volume.len()).map_err(failed())?;
                    let is_left = now.is_some_and(|now| now.slot == found.slot && !now.is_punched);
                    findings.left += u64::from(is_left && !is_shown(&found.key));
                }
            }
        }
        Ok(findings)
    }

    fn verify_picture(&self, volume: &Volume, found: &Found, findings: &mut CacheFindings) -> Result<(), CacheError> {
        let is_whole = |volume: &Volume| volume.read(found.slot, &found.key).is_ok_and(|body| body.is_some());
        if is_whole(volume) {
            findings.pictures += 1;
            // Twice: it may be on its way into the index.
            let is_listed = || -> Result<bool, CacheError> {
                let slot = self.index.page(&PageKey::of(&found.key))?.get(found.key.at_ms);
                Ok(slot.is_some_and(|slot| slot.age() >= found.slot.age()))
            };
            findings.unlisted += u64::from(!is_listed()? && !is_listed()?);
        } else {
            // A delete may just have taken it.
            let now = volume.entry_from(found.slot.offset, volume.len());
            let now = now.map_err(CacheError::io("read", &self.volume_path(volume.id)))?;
            findings.damaged += u64::from(now.is_none_or(|now| now.slot != found.slot || !now.is_punched));
        }
        Ok(())
    }
}

impl Volume {
    /// Whether nothing but zeros stands there.
    fn is_zero(&self, from: u64, to: u64) -> io::Result<bool> {
        let mut piece = vec![0; 1 << 16];
        let mut at = from;
        while at < to {
            let len = usize::try_from(to - at).map_or(piece.len(), |left| left.min(piece.len()));
            self.read_at(&mut piece[..len], at)?;
            if piece[..len].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += len as u64;
        }
        Ok(true)
    }
}
