//! A small disk of one's own, which can be filled: a tmpfs. Mounting takes root; without it the tests fail and say so.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of `bytes` at `path`, which is created.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn mount(path: &Path, bytes: u64) -> Self {
        std::fs::create_dir_all(path).expect("a directory");
        let options = format!("size={bytes},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "stills-tests"]).arg(path).output();
        let done = done.expect("the program mount");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "a tmpfs cannot be mounted; these tests have to run as root: {said}");
        Self(path.to_owned())
    }

    /// Fills it to the last byte, with a file that [`Tmpfs::free`] removes.
    ///
    /// # Panics
    /// When there is no end to it.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("a file");
        // Ever smaller pieces, because a write that does not fit may be refused whole.
        for len in [1 << 16, 1 << 12, 1] {
            let piece = vec![7; len];
            for n in 0.. {
                if file.write_all(&piece).is_err() {
                    break;
                }
                assert!(n < 1 << 20, "a disk without an end");
            }
        }
    }

    /// Removes what [`Tmpfs::fill`] wrote.
    ///
    /// # Panics
    /// When there is nothing to remove.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler");
    }

    /// Makes it read-only, or writable again. Nobody may have a file of it open for writing.
    ///
    /// # Panics
    /// When somebody has.
    pub fn set_read_only(&self, is_read_only: bool) {
        let options = if is_read_only { "remount,ro" } else { "remount,rw" };
        let done = Command::new("mount").args(["-o", options]).arg(&self.0).output().expect("the program mount");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a program that was killed may still be on its way out.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
