//! Which events were taken in the last 24 hours, by their identity. Knows bytes and hours, no tables: a day of them would be
//! half of what those hold, in an order that fits nothing else there.
//!
//! All of them are in memory (about 30 bytes each), and in one file per hour of arrival, which goes as a whole when a day
//! has passed. What was noted since the last [`SeenEvents::flush`] is lost with a crash, and comes again with the journal.
//!
//! Form of a file, version 1: it begins with "STILLSN1"; then groups, each its number of events (u32), the CRC-32C of
//! what follows (u32), and per event its identity (12 bytes) and the second of its arrival (u32); all little-endian. The
//! first group that is torn or damaged ends the file: events behind it are unknown, and taking one again changes nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};
use stills_model::event::EventOrder;
use stills_model::id::UserId;
use stills_model::time::{HOUR_MS, Hour, Timestamp};

const MAGIC: &[u8; 8] = b"STILLSN1";
/// For how long an event's identity is remembered.
const SEEN_MS: i64 = 24 * HOUR_MS;
/// Number and check sum.
const HEADER_LEN: usize = 8;
const EVENT_LEN: usize = 16;
/// Those who note wait for each other only within one of these.
const PARTS: usize = 16;

/// Stands for a user and an event's source and id: no two ever share it by chance, nor by anybody's doing.
pub(super) type Identity = [u8; 12];

/// The identity of a user's event.
pub(super) fn identity(user: UserId, order: &EventOrder) -> Identity {
    let mut digest = Sha256::new();
    digest.update(user.as_bytes());
    digest.update((order.source.len() as u64).to_be_bytes());
    digest.update(order.source.as_bytes());
    digest.update(order.id.as_bytes());
    let mut identity = Identity::default();
    identity.copy_from_slice(&digest.finalize()[..size_of::<Identity>()]);
    identity
}

/// The seconds of the epoch: up to the year 2106, beyond which all is one moment.
fn second_of(at: Timestamp) -> u32 {
    u32::try_from(at.as_ms().max(0) / 1000).unwrap_or(u32::MAX)
}

fn hour_of(second: u32) -> Hour {
    Timestamp::from_ms(i64::from(second) * 1000).hour()
}

/// The events of the last day.
#[derive(Debug)]
pub(super) struct SeenEvents {
    known: Arc<Known>,
    dir: PathBuf,
    /// Noted, and not yet in a file.
    unwritten: Mutex<Vec<(Identity, u32)>>,
    /// One writes at a time.
    writing: Mutex<()>,
}

/// What a thread fills from the files while others ask and note.
#[derive(Debug, Default)]
struct Known {
    parts: [Mutex<HashMap<Identity, u32>>; PARTS],
    /// The open files and where their last whole group ends; there once all files were read.
    files: OnceLock<Mutex<BTreeMap<Hour, HourFile>>>,
}

#[derive(Debug)]
struct HourFile {
    file: File,
    end: u64,
}

impl Known {
    fn part(&self, identity: &Identity) -> MutexGuard<'_, HashMap<Identity, u32>> {
        self.parts[usize::from(identity[0]) % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, identity: Identity, second: u32) {
        let mut part = self.part(&identity);
        let last = part.entry(identity).or_default();
        *last = second.max(*last);
    }

    /// The files, once all are read.
    fn files(&self) -> MutexGuard<'_, BTreeMap<Hour, HourFile>> {
        self.files.wait().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the files that `read` gives, and lets go of all who wait for them. Where it panics they wait no longer
    /// either, and there are none: an event that is taken again changes nothing.
    fn fill(&self, read: impl FnOnce() -> BTreeMap<Hour, HourFile>) {
        let open = catch_unwind(AssertUnwindSafe(read)).unwrap_or_default();
        // Filled by one thread, once.
        let _ = self.files.set(Mutex::new(open));
    }

    fn read(&self, files: Vec<(Hour, File)>) -> BTreeMap<Hour, HourFile> {
        let mut open = BTreeMap::new();
        for (hour, file) in files {
            match self.read_file(&file) {
                Ok(end) => drop(open.insert(hour, HourFile { file, end })),
                Err(error) => tracing::warn!(%error, hour = hour.0, "events taken in an hour could not be read"),
            }
        }
        open
    }

    /// Takes what a file holds; returns where its last whole group ends.
    fn read_file(&self, file: &File) -> io::Result<u64> {
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return Ok(0) };
        while let Some((events, behind)) = group(rest) {
            for event in events {
                let (identity, second) = event.split_at(size_of::<Identity>());
                if let (Ok(identity), Ok(second)) = (identity.try_into(), second.try_into()) {
                    self.note(identity, u32::from_le_bytes(second));
                }
            }
            rest = behind;
        }
        if !rest.is_empty() {
            tracing::warn!(bytes = rest.len(), "the end of a file of events taken is torn or damaged");
        }
        Ok((bytes.len() - rest.len()) as u64)
    }
}

/// The events of a group, and what is behind it; none: no whole group is there.
fn group(bytes: &[u8]) -> Option<(impl Iterator<Item = &[u8]>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_LEN)?;
    let (count, sum) = header.split_at(4);
    let count = usize::try_from(u32::from_le_bytes(count.try_into().ok()?)).ok()?;
    let (events, behind) = rest.split_at_checked(count.checked_mul(EVENT_LEN)?)?;
    let is_whole = count > 0 && sum == crc32c::crc32c(events).to_le_bytes();
    is_whole.then(|| (events.chunks_exact(EVENT_LEN), behind))
}

impl SeenEvents {
    /// Opens the files in `dir`, which is created when it is missing; a thread reads them.
    ///
    /// # Errors
    /// When the directory cannot be read or created, or the thread not be started.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut files = Vec::new();
        for item in fs::read_dir(&dir)? {
            let item = item?;
            let Some(hour) = item.file_name().to_str().and_then(hour_named) else { continue };
            files.push((hour, OpenOptions::new().read(true).write(true).open(item.path())?));
        }
        let known = Arc::new(Known::default());
        let reader = Arc::clone(&known);
        let read = move || reader.fill(|| reader.read(files));
        std::thread::Builder::new().name("seen-events".to_owned()).spawn(read)?;
        Ok(Self { known, dir, unwritten: Mutex::default(), writing: Mutex::default() })
    }

    /// Whether the event was noted within 24 hours before `now`. Waits until the files are read.
    pub(super) fn is_known(&self, identity: &Identity, now: Timestamp) -> bool {
        self.known.files.wait();
        let at = self.known.part(identity).get(identity).copied();
        at.is_some_and(|at| is_recent(at, now))
    }

    /// Notes an event as taken.
    pub(super) fn note(&self, identity: Identity, now: Timestamp) {
        let second = second_of(now);
        self.known.note(identity, second);
        self.unwritten().push((identity, second));
    }

    fn unwritten(&self) -> MutexGuard<'_, Vec<(Identity, u32)>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands all that was noted to the disk.
    ///
    /// # Errors
    /// A full or failing disk; nothing is forgotten, and the next call tries again.
    pub(super) fn flush(&self) -> io::Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = std::mem::take(&mut *self.unwritten());
        let mut hours = BTreeMap::<Hour, Vec<(Identity, u32)>>::new();
        for event in noted {
            hours.entry(hour_of(event.1)).or_default().push(event);
        }
        let mut failed = None;
        for (hour, events) in hours {
            if let Err(error) = self.write(hour, &events) {
                self.unwritten().extend(events);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn write(&self, hour: Hour, events: &[(Identity, u32)]) -> io::Result<()> {
        let mut files = self.known.files();
        let HourFile { file, end } = match files.entry(hour) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut options = OpenOptions::new();
                let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
                let file = options.open(path(&self.dir, hour))?;
                File::open(&self.dir)?.sync_all()?;
                new.insert(HourFile { file, end: 0 })
            }
        };
        let mut bytes = Vec::with_capacity(MAGIC.len() + HEADER_LEN + events.len() * EVENT_LEN);
        if *end == 0 {
            bytes.extend_from_slice(MAGIC);
        }
        let mut body = Vec::with_capacity(events.len() * EVENT_LEN);
        for (identity, second) in events {
            body.extend_from_slice(identity);
            body.extend_from_slice(&second.to_le_bytes());
        }
        let count = u32::try_from(events.len()).map_err(|_| io::Error::other("4 billion events at once"))?;
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        file.write_all_at(&bytes, *end)?;
        file.sync_data()?;
        *end += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what was noted more than 24 hours before `now`, an hour at a time.
    ///
    /// # Errors
    /// When a file cannot be deleted; it is tried again.
    pub(super) fn forget(&self, now: Timestamp) -> io::Result<()> {
        let mut is_any = false;
        {
            let mut files = self.known.files();
            while let Some(first) = files.first_entry().filter(|first| first.key().end().plus_ms(SEEN_MS) <= now) {
                match fs::remove_file(path(&self.dir, *first.key())) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                first.remove();
                is_any = true;
            }
        }
        for part in self.known.parts.iter().filter(|_| is_any) {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.retain(|_, at| is_recent(*at, now));
            // A burst does not keep its memory for ever.
            if part.len() < part.capacity() / 4 {
                part.shrink_to_fit();
            }
        }
        Ok(())
    }

    /// Bytes of its files.
    pub(super) fn size_on_disk(&self) -> u64 {
        self.known.files().values().map(|file| file.end).sum()
    }

    /// How many events are remembered.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.known.files.wait();
        self.known.parts.iter().map(|part| part.lock().expect("lock").len()).sum()
    }
}

fn is_recent(at: u32, now: Timestamp) -> bool {
    i64::from(second_of(now)) - i64::from(at) < SEEN_MS / 1000
}

fn path(dir: &Path, hour: Hour) -> PathBuf {
    dir.join(format!("{}.seen", hour.0))
}

fn hour_named(name: &str) -> Option<Hour> {
    let hour = name.strip_suffix(".seen")?.parse().ok()?;
    (format!("{hour}.seen") == name).then_some(Hour(hour))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_790_000_000_000);

    fn open(dir: &Path) -> SeenEvents {
        SeenEvents::open(dir.to_owned()).expect("open")
    }

    fn id(n: u8) -> Identity {
        [n; 12]
    }

    #[test]
    fn a_reader_that_panics_holds_up_nobody() {
        let known = Known::default();
        known.fill(|| panic!("on purpose"));
        assert!(known.files().is_empty());
    }

    fn known(seen: &SeenEvents, now: Timestamp) -> Vec<u8> {
        (0..100).filter(|n| seen.is_known(&id(*n), now)).collect()
    }

    #[test]
    fn what_was_flushed_is_known_again() {
        let dir = tempfile::tempdir().expect("dir");
        let seen = open(dir.path());
        for (n, hours) in [(1, 0), (2, 0), (3, 1), (4, 5)] {
            seen.note(id(n), NOW.plus_ms(hours * HOUR_MS));
            if n == 2 {
                seen.flush().expect("flush");
            }
        }
        seen.flush().expect("flush");
        seen.note(id(5), NOW);
        assert_eq!(known(&seen, NOW), [1, 2, 3, 4, 5]);
        drop(seen);
        let seen = open(dir.path());
        assert_eq!(known(&seen, NOW), [1, 2, 3, 4], "the fifth comes with the journal");
        // Appended to what was there, and noted again later.
        seen.note(id(6), NOW);
        seen.note(id(1), NOW.plus_ms(2 * HOUR_MS));
        seen.flush().expect("flush");
        let day_later = NOW.plus_ms(SEEN_MS);
        assert_eq!(known(&open(dir.path()), NOW.plus_ms(SEEN_MS - 1000)), [1, 2, 3, 4, 6]);
        assert_eq!(known(&open(dir.path()), day_later), [1, 3, 4]);
        seen.forget(day_later.plus_ms(HOUR_MS)).expect("forget");
        assert_eq!(seen.count(), 2, "the first and the fourth");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 3);
        seen.forget(day_later.plus_ms(9 * HOUR_MS)).expect("forget");
        assert_eq!((seen.count(), seen.size_on_disk()), (0, 0));
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
    }

    #[test]
    fn a_torn_end_costs_only_itself() {
        let dir = tempfile::tempdir().expect("dir");
        let seen = open(dir.path());
        for n in 0..3 {
            seen.note(id(n), NOW);
            seen.flush().expect("flush");
        }
        let path = path(dir.path(), NOW.hour());
        let whole = fs::read(&path).expect("file");
        let len = HEADER_LEN + EVENT_LEN;
        assert_eq!(whole.len(), MAGIC.len() + 3 * len);
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("cut");
            let seen = open(dir.path());
            let n_whole = cut.saturating_sub(MAGIC.len()) / len;
            assert_eq!(known(&seen, NOW).len(), n_whole, "{cut}");
            // What is written next begins where the last whole group ends.
            seen.note(id(50), NOW);
            seen.flush().expect("flush");
            assert_eq!(known(&open(dir.path()), NOW).len(), n_whole + 1, "{cut}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 16;
            fs::write(&path, &flipped).expect("flip");
            let found = known(&open(dir.path()), NOW);
            assert!(found.iter().eq((0..3).take(found.len()).collect::<Vec<u8>>().iter()), "{at}: {found:?}");
        }
    }

    #[test]
    fn users_and_sources_have_their_own() {
        let order = |source: &str, id: &str| EventOrder { time_ns: 0, source: source.into(), id: id.into() };
        let of = |user: u8, source: &str, id: &str| identity(UserId::from_bytes([user; 12]), &order(source, id));
        let all = [of(1, "a", "bc"), of(1, "ab", "c"), of(2, "a", "bc"), of(1, "a", "bd")];
        let different: std::collections::BTreeSet<Identity> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of(1, "a", "bc"), all[0]);
    }
}
