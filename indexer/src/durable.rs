//! Names that are still there after a power cut: a file is not durable before the directory that names it is. Writes no
//! file's content.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a directory where it is missing, with those above it, readable by the owner alone. All their names are on the
/// disk when this returns: also that of one which an earlier run made and did not come to sync.
///
/// # Errors
/// It cannot be made, or the directory above it cannot be synced.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    let n_missing = dir.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in dir.ancestors().take(n_missing.max(1)) {
        let above = made.parent().filter(|above| !above.as_os_str().is_empty());
        sync_dir(above.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Puts the names in a directory on the disk.
///
/// # Errors
/// The disk fails.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Puts everything below a directory on the disk: what was written there by somebody who does not sync.
///
/// # Errors
/// The disk fails.
pub(crate) fn sync_tree(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            sync_tree(&item.path())?;
        } else {
            File::open(item.path())?.sync_all()?;
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn directories_are_made_and_may_be_there() {
        let temp = tempfile::tempdir().expect("directory");
        let dir = temp.path().join("a/b/c");
        for _ in 0..2 {
            create_dir(&dir).expect("made");
        }
        assert_eq!(fs::metadata(&dir).expect("a directory").permissions().mode() & 0o777, 0o700);
        fs::write(dir.join("file"), b"x").expect("a file");
        sync_tree(temp.path()).expect("synced");
        assert!(create_dir(&dir.join("file")).is_err(), "a file is in the way");
        assert!(sync_tree(&dir.join("nowhere")).is_err());
    }
}
