//! Local media: opened beneath its root without following a link, then read by its descriptor only.
//!
//! The path is resolved by the kernel in one step (`openat2`), so that a directory swapped for a link between a
//! check and the opening gains nothing. Never writes, never maps: a file that shrinks is an error, not a signal.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};
use rustix::io::Errno;
use stills_model::fault::{Fault, FaultKind};

use super::READ_BYTES_MAX;

/// How often a path is resolved again when a rename elsewhere disturbed it (`EAGAIN` of openat2).
const RESOLVE_TRIES_MAX: u32 = 8;

/// Which file, in which state: changes with every write (to the file system's resolution, some milliseconds), and
/// with another file under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The file system.
    pub dev: u64,
    /// The file in it.
    pub ino: u64,
    /// When its content last changed, nanoseconds since the Unix epoch.
    pub mtime_ns: i128,
}

/// An open local file. All its methods block.
#[derive(Debug)]
pub struct MediaFile {
    file: File,
    len: u64,
    identity: Identity,
}

impl MediaFile {
    /// Opens `beneath`, a relative path, under the directory `root`. Links are followed in `root`, which the
    /// operator configures, and nowhere beneath it.
    ///
    /// # Errors
    /// `Gone` when nothing is there; `Forbidden` when the path holds a link or leads to no regular file;
    /// `Unreadable` when it may not be read, and when the root itself is not there: a disk that is not mounted
    /// must not make recordings disappear.
    pub fn open(root: &Path, beneath: &Path) -> Result<Self, Fault> {
        let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| unreadable("the root directory of the media cannot be opened", errno))?;
        // NONBLOCK: opening a pipe must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let mut tries = 0;
        let file = loop {
            tries += 1;
            match openat2(&root, beneath, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < RESOLVE_TRIES_MAX => {}
                outcome => break outcome.map_err(open_fault)?,
            }
        };
        let stat = fstat(&file).map_err(|errno| unreadable("the media cannot be looked at", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        Ok(Self { file: file.into(), len: len(&stat), identity: identity(&stat) })
    }

    /// Bytes when it was opened.
    #[expect(clippy::len_without_is_empty, reason = "a count of bytes on disk, not a collection")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Its identity when it was opened.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Reads exactly `len` bytes from `offset` on, at most [`READ_BYTES_MAX`].
    ///
    /// # Errors
    /// `TooLarge` over the limit, `Changed` when the file ends before, `Unreadable` when the disk fails.
    pub fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, Fault> {
        if u64::from(len) > READ_BYTES_MAX {
            let detail = format!("one read of media takes at most {READ_BYTES_MAX} bytes");
            return Err(Fault::new(FaultKind::TooLarge, detail));
        }
        // Checked first so that a false range costs no memory; the file may also have grown since it was opened.
        let end = offset.saturating_add(len.into());
        if end > self.len && end > self.stat()?.1 {
            return Err(shorter());
        }
        let mut bytes = vec![0; len as usize];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes.into()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(shorter()),
            Err(error) => Err(Fault::new(FaultKind::Unreadable, format!("the media cannot be read: {}", error.kind()))),
        }
    }

    /// Whether identity and length are still those of the opening.
    ///
    /// # Errors
    /// `Changed` if they are not.
    pub fn unchanged(&self) -> Result<(), Fault> {
        if self.stat()? == (self.identity, self.len) {
            Ok(())
        } else {
            Err(Fault::new(FaultKind::Changed, "the media changed while it was read"))
        }
    }

    fn stat(&self) -> Result<(Identity, u64), Fault> {
        let stat = fstat(&self.file).map_err(|errno| unreadable("the media cannot be looked at", errno))?;
        Ok((identity(&stat), len(&stat)))
    }
}

fn identity(stat: &Stat) -> Identity {
    let mtime_ns = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Identity { dev: stat.st_dev, ino: stat.st_ino, mtime_ns }
}

/// A regular file's length is never negative.
fn len(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn open_fault(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => {
            Fault::new(FaultKind::Gone, "the media is no longer at its place")
        }
        Errno::LOOP | Errno::XDEV => Fault::new(FaultKind::Forbidden, "the way to the media leads over a link"),
        Errno::NXIO | Errno::ISDIR | Errno::NODEV => not_regular(),
        Errno::ACCESS | Errno::PERM => unreadable("the media may not be read by this program", errno),
        _ => unreadable("the media cannot be opened", errno),
    }
}

fn not_regular() -> Fault {
    Fault::new(FaultKind::Forbidden, "the media is not a regular file")
}

fn shorter() -> Fault {
    Fault::new(FaultKind::Changed, "the media is shorter than it was")
}

fn unreadable(what: &str, errno: Errno) -> Fault {
    Fault::new(FaultKind::Unreadable, format!("{what}: {}", errno.kind()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// `root/cam/1.mp4` with ten bytes, and `outside/1.mp4` beside the root.
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir_all(dir.path().join("root/cam")).expect("dirs");
        fs::create_dir_all(dir.path().join("outside")).expect("dirs");
        fs::write(dir.path().join("root/cam/1.mp4"), b"0123456789").expect("file");
        fs::write(dir.path().join("outside/1.mp4"), b"secret").expect("file");
        dir
    }

    fn opened(dir: &tempfile::TempDir, beneath: &str) -> Result<MediaFile, FaultKind> {
        MediaFile::open(&dir.path().join("root"), Path::new(beneath)).map_err(|fault| fault.kind)
    }

    #[test]
    fn reads_by_range() {
        let dir = tree();
        let media = opened(&dir, "cam/1.mp4").expect("open");
        let read = |offset, len| media.read_at(offset, len).map_err(|fault| fault.kind);
        assert_eq!(media.len(), 10);
        assert_eq!(read(0, 10).as_deref(), Ok(&b"0123456789"[..]));
        assert_eq!(read(3, 4).as_deref(), Ok(&b"3456"[..]));
        assert_eq!(read(10, 0).as_deref(), Ok(&b""[..]));
        assert_eq!(read(10, 1), Err(FaultKind::Changed));
        assert_eq!(read(5, 6), Err(FaultKind::Changed));
        assert_eq!(read(u64::MAX, 1), Err(FaultKind::Changed));
        assert_eq!(read(0, u32::MAX), Err(FaultKind::TooLarge));
    }

    #[test]
    fn growth_is_read_and_shrinking_is_told() {
        let dir = tree();
        let path = dir.path().join("root/cam/1.mp4");
        let media = opened(&dir, "cam/1.mp4").expect("open");
        media.unchanged().expect("unchanged");
        fs::write(&path, b"0123456789abc").expect("grow");
        assert_eq!(media.read_at(9, 4).as_deref(), Ok(&b"9abc"[..]));
        assert_eq!(media.unchanged().map_err(|fault| fault.kind), Err(FaultKind::Changed));
        fs::write(&path, b"0123").expect("shrink");
        assert_eq!(media.read_at(2, 4).map_err(|fault| fault.kind), Err(FaultKind::Changed));
    }

    #[test]
    fn another_file_under_the_name_does_not_disturb_and_is_another_identity() {
        let dir = tree();
        let media = opened(&dir, "cam/1.mp4").expect("open");
        fs::write(dir.path().join("root/cam/new"), b"##########").expect("file");
        fs::rename(dir.path().join("root/cam/new"), dir.path().join("root/cam/1.mp4")).expect("rename");
        assert_eq!(media.read_at(0, 3).as_deref(), Ok(&b"012"[..]));
        assert_ne!(opened(&dir, "cam/1.mp4").expect("open").identity(), media.identity());
    }

    #[test]
    fn nothing_outside_the_root_is_reached() {
        let dir = tree();
        let at = |path: &str| dir.path().join(path);
        symlink(at("outside"), at("root/link-dir")).expect("link");
        symlink(at("outside/1.mp4"), at("root/cam/link.mp4")).expect("link");
        symlink("1.mp4", at("root/cam/inside.mp4")).expect("link");
        symlink("loop", at("root/loop")).expect("link");
        symlink("/proc/self/root", at("root/magic")).expect("link");
        let absolute = at("outside/1.mp4");
        for beneath in [
            "link-dir/1.mp4",
            "cam/link.mp4",
            "cam/inside.mp4",
            "loop",
            "magic/etc/passwd",
            "../outside/1.mp4",
            "cam/../../outside/1.mp4",
            &absolute.to_string_lossy(),
        ] {
            assert_eq!(opened(&dir, beneath).map(|_| ()), Err(FaultKind::Forbidden), "{beneath}");
        }
        // A directory that was fine when the event came, swapped for a link since.
        opened(&dir, "cam/1.mp4").expect("open");
        fs::rename(at("root/cam"), at("root/moved")).expect("rename");
        symlink(at("outside"), at("root/cam")).expect("link");
        assert_eq!(opened(&dir, "cam/1.mp4").map(|_| ()), Err(FaultKind::Forbidden));
    }

    #[test]
    fn kinds_by_the_system_s_answer() {
        for (errno, kind) in [
            (Errno::NOENT, FaultKind::Gone),
            (Errno::ACCESS, FaultKind::Unreadable),
            (Errno::PERM, FaultKind::Unreadable),
            (Errno::IO, FaultKind::Unreadable),
            (Errno::STALE, FaultKind::Unreadable),
            (Errno::MFILE, FaultKind::Unreadable),
            (Errno::NOSYS, FaultKind::Unreadable),
            (Errno::AGAIN, FaultKind::Unreadable),
            (Errno::XDEV, FaultKind::Forbidden),
        ] {
            assert_eq!(open_fault(errno).kind, kind, "{errno:?}");
        }
    }

    #[test]
    fn only_regular_files_that_are_there() {
        let dir = tree();
        let pipe = dir.path().join("root/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("pipe");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("root/socket")).expect("socket");
        for (beneath, kind) in [
            ("pipe", FaultKind::Forbidden),
            ("socket", FaultKind::Forbidden),
            ("cam", FaultKind::Forbidden),
            ("none.mp4", FaultKind::Gone),
            ("none/1.mp4", FaultKind::Gone),
            ("cam/1.mp4/x", FaultKind::Gone),
            ("", FaultKind::Gone),
            (&"x".repeat(300), FaultKind::Gone),
        ] {
            assert_eq!(opened(&dir, beneath).map(|_| ()), Err(kind), "{beneath}");
        }
        fs::remove_dir_all(dir.path().join("root")).expect("remove");
        assert_eq!(opened(&dir, "cam/1.mp4").map(|_| ()), Err(FaultKind::Unreadable), "an unmounted root");
    }
}
