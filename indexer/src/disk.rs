//! Whether the disk of the data directory takes writes, and a ballast that is let go when it is full: what has to be
//! written then (deletes, an index that is opened anew) is little and needs room. Decides nothing for others.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FallocateFlags, StatVfsMountFlags, fallocate, statvfs};

/// How often those who wait for room look.
const WAIT_EVERY: Duration = Duration::from_millis(250);

/// The most that is kept in ballast.
const BALLAST_MAX: u64 = 32 << 20;

/// What a test write writes.
const TRIAL: &[u8] = &[0x5a; 4096];

/// How the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DiskState {
    /// It takes writes.
    Well = 0,
    /// There is less room than `data.free_min`.
    Full = 1,
    /// It is mounted read-only.
    ReadOnly = 2,
    /// Writing fails.
    Failing = 3,
}

impl DiskState {
    /// The word in logs, metrics and readiness.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Failing => "failing",
        }
    }

    const fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Well,
            1 => Self::Full,
            2 => Self::ReadOnly,
            _ => Self::Failing,
        }
    }
}

/// The disk of a data directory.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    free_min: u64,
    state: AtomicU8,
    free: AtomicU64,
    /// Whether a write failed since the last look.
    is_suspect: AtomicBool,
    /// Whether a small write succeeds, full or not.
    takes_little: AtomicBool,
}

impl Disk {
    /// Takes stock. Nothing here fails: a disk that cannot be asked is not well.
    pub fn new(dir: &Path, free_min: u64) -> Self {
        let disk = Self {
            dir: dir.to_owned(),
            free_min,
            state: AtomicU8::new(DiskState::Well as u8),
            free: AtomicU64::new(u64::MAX),
            is_suspect: AtomicBool::new(true),
            takes_little: AtomicBool::new(true),
        };
        disk.look();
        disk
    }

    /// How it was at the last look.
    pub fn state(&self) -> DiskState {
        DiskState::of(self.state.load(Ordering::Acquire))
    }

    /// Whether what can wait may write.
    pub fn is_well(&self) -> bool {
        self.state() == DiskState::Well
    }

    /// Whether what cannot wait can be written.
    pub fn takes_little(&self) -> bool {
        self.takes_little.load(Ordering::Acquire)
    }

    /// Bytes that were free at the last look, the ballast left out.
    pub fn free_bytes(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Somebody could not write: the next look tries it.
    pub fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Release);
    }

    /// Waits until it is well.
    pub async fn until_well(&self) {
        while !self.is_well() {
            tokio::time::sleep(WAIT_EVERY).await;
        }
    }

    /// Looks, and keeps or lets go the ballast. Returns the new state if it changed. For a thread that may wait.
    pub fn look(&self) -> Option<DiskState> {
        let before = self.state();
        let is_suspect = self.is_suspect.swap(false, Ordering::AcqRel) || before != DiskState::Well;
        let (mut free, mut now) = self.ask(before);
        if now == DiskState::Full && free < self.ballast_bytes() && fs::remove_file(self.ballast_path()).is_ok() {
            (free, now) = self.ask(before);
        }
        self.free.store(free, Ordering::Relaxed);
        let tried = if is_suspect || now != DiskState::Well { self.try_write() } else { Ok(()) };
        if let Err(error) = &tried {
            now = match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskState::Full,
                io::ErrorKind::ReadOnlyFilesystem => DiskState::ReadOnly,
                _ => DiskState::Failing,
            };
        }
        // A store that is opened anew needs more than a block, or it would be closed for nothing.
        self.takes_little.store(tried.is_ok() && free >= self.ballast_bytes() / 4, Ordering::Release);
        if now == DiskState::Well {
            self.take_ballast();
        }
        self.state.store(now as u8, Ordering::Release);
        (now != before).then_some(now)
    }

    /// What the file system says: how much is free, and what that means.
    fn ask(&self, before: DiskState) -> (u64, DiskState) {
        match statvfs(&self.dir) {
            Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => (0, DiskState::ReadOnly),
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                (free, if free < self.enough(before) { DiskState::Full } else { DiskState::Well })
            }
            Err(_) => (0, DiskState::Failing),
        }
    }

    /// What has to be free: a little more to become well than to stay it, and the ballast where it is not taken yet.
    fn enough(&self, before: DiskState) -> u64 {
        let ballast = if self.ballast_path().exists() { 0 } else { self.ballast_bytes() };
        let margin = if before == DiskState::Well { 0 } else { self.free_min / 8 };
        self.free_min.saturating_add(ballast).saturating_add(margin)
    }

    fn ballast_bytes(&self) -> u64 {
        (self.free_min / 2).min(BALLAST_MAX)
    }

    fn ballast_path(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    fn take_ballast(&self) {
        let path = self.ballast_path();
        if self.ballast_bytes() == 0 || path.exists() {
            return;
        }
        let taken = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let taken = taken.and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, self.ballast_bytes())?));
        if let Err(error) = taken {
            tracing::warn!(%error, "no room for the ballast");
            let _ = fs::remove_file(&path);
        }
    }

    /// Whether a block can be made durable.
    fn try_write(&self) -> io::Result<()> {
        let path = self.dir.join("trial");
        let tried = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(TRIAL)?;
            file.sync_data()
        })();
        let _ = fs::remove_file(&path);
        tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_less_room_than_it_should_have_is_full_but_takes_little() {
        let temp = tempfile::tempdir().expect("directory");
        // Far more than there is; the ballast is never more than 32 MiB.
        let disk = Disk::new(temp.path(), u64::MAX / 4);
        assert_eq!((disk.state(), disk.takes_little()), (DiskState::Full, true));
        assert_eq!(fs::read_dir(temp.path()).expect("list").count(), 0, "neither ballast nor trial is left");
    }

    #[test]
    fn a_disk_that_fails_is_noticed_once_somebody_says_so_and_recovers() {
        let temp = tempfile::tempdir().expect("directory");
        let disk = Disk::new(temp.path(), 1 << 20);
        assert!(disk.is_well() && disk.takes_little());
        assert_eq!(fs::metadata(temp.path().join("ballast")).expect("ballast").len(), 1 << 19);
        // A directory where the trial is written: writing fails as on a bad disk.
        fs::create_dir(temp.path().join("trial")).expect("in the way");
        assert_eq!(disk.look(), None, "not tried without a suspicion");
        disk.suspect();
        assert_eq!(disk.look(), Some(DiskState::Failing));
        assert!(!disk.takes_little());
        assert_eq!(disk.look(), None);
        fs::remove_dir(temp.path().join("trial")).expect("away");
        assert_eq!(disk.look(), Some(DiskState::Well));
        assert!(disk.takes_little());
    }

    #[test]
    fn a_directory_that_is_gone_is_a_failing_disk() {
        let disk = Disk::new(Path::new("/nowhere/at/all"), 0);
        assert_eq!((disk.state(), disk.takes_little()), (DiskState::Failing, false));
    }
}
