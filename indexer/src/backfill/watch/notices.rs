//! What the kernel says of a folder at once: inotify on every directory beneath it. Only a hint of where to look;
//! what is true is what is found there. Where it cannot be had (network mounts, too many directories) there is none,
//! and everything is looked at more often.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// What is heard of files and directories.
const HEARD: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);

/// Directories that are listened to; the kernel's own limit is often lower.
const DIRECTORIES_MAX: usize = 100_000;

/// Bytes of notices read at once: room for the longest name many times over.
const BUFFER_BYTES: usize = 64 * 1024;

/// File systems where another machine may write without the kernel here knowing: NFS, SMB (three numbers), FUSE, Ceph,
/// 9P, AFS.
const REMOTE: [i64; 8] = [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x00c3_6400, 0x0102_1997, 0x5346_414f];

/// What was heard since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Files to look at, relative to the folder; `true` if one was closed after writing or moved into place.
    pub files: BTreeMap<PathBuf, bool>,
    /// Whether directories came or went, or notices were lost: look at everything.
    pub is_everything: bool,
}

/// The kernel's notices of one folder.
#[derive(Debug)]
pub struct Notices {
    root: PathBuf,
    inotify: OwnedFd,
    directories: BTreeMap<i32, PathBuf>,
}

impl Notices {
    /// Listens to a folder and all directories beneath it; nothing where that is of no use.
    ///
    /// # Errors
    /// Why not, for the log.
    pub fn of(root: &Path) -> io::Result<Option<Self>> {
        let kind = rustix::fs::statfs(root)?.f_type;
        if REMOTE.contains(&kind) {
            return Ok(None);
        }
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut notices = Self { root: root.to_owned(), inotify, directories: BTreeMap::new() };
        notices.cover()?;
        Ok(Some(notices))
    }

    /// Listens to every directory that is there now; to those that it listens to already, once.
    ///
    /// # Errors
    /// The limit on directories, ours or the kernel's.
    pub fn cover(&mut self) -> io::Result<()> {
        let mut directories = BTreeMap::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(directory) = waiting.pop() {
            let path = self.root.join(&directory);
            match inotify::add_watch(self.inotify.as_fd(), &path, HEARD) {
                Ok(descriptor) => directories.insert(descriptor, directory.clone()),
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::ACCESS) => continue,
                Err(error) => return Err(error.into()),
            };
            if directories.len() > DIRECTORIES_MAX {
                return Err(io::Error::other(format!("more than {DIRECTORIES_MAX} directories")));
            }
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(inner.map(|entry| directory.join(entry.file_name())));
        }
        // Descriptors of directories that are gone, the kernel has dropped itself.
        self.directories = directories;
        Ok(())
    }

    /// All that was said since the last time; never waits. The kernel keeps it until then, or says that it could not.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hear(&mut self) -> io::Result<Heard> {
        let mut heard = Heard::default();
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(self.inotify.as_fd(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            if flags.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT) || flags.contains(ReadFlags::ISDIR) {
                heard.is_everything = true;
                continue;
            }
            let directory = self.directories.get(&event.wd());
            if let Some((directory, name)) = directory.zip(event.file_name()) {
                let path = directory.join(OsStr::from_bytes(name.to_bytes()));
                let is_closed = flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO);
                let closed = heard.files.entry(path).or_default();
                // Written again after it was closed: not closed.
                *closed = if flags.contains(ReadFlags::MODIFY) { is_closed } else { *closed || is_closed };
            }
        }
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn files_are_heard_of_and_directories_ask_for_a_look_at_everything() {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir(dir.path().join("a")).expect("dir");
        let Some(mut notices) = Notices::of(dir.path()).expect("notices") else { panic!("a local file system") };
        let mut file = fs::File::create(dir.path().join("a/1.mp4")).expect("file");
        file.write_all(b"x").expect("written");
        let path = PathBuf::from("a/1.mp4");
        let heard = notices.hear().expect("heard");
        assert_eq!(heard, Heard { files: [(path.clone(), false)].into(), is_everything: false });
        drop(file);
        assert_eq!(notices.hear().expect("heard").files, [(path.clone(), true)].into());
        fs::rename(dir.path().join("a/1.mp4"), dir.path().join("2.mp4")).expect("moved");
        let moved = [(path, false), (PathBuf::from("2.mp4"), true)].into();
        assert_eq!(notices.hear().expect("heard").files, moved);
        fs::create_dir(dir.path().join("b")).expect("dir");
        assert!(notices.hear().expect("heard").is_everything);
        notices.cover().expect("covered");
        fs::write(dir.path().join("b/3.mp4"), b"x").expect("file");
        assert_eq!(notices.hear().expect("heard").files, [(PathBuf::from("b/3.mp4"), true)].into());
    }
}
