//! Which directory holds the store: a compaction fills a new one beside it, and the newest that is whole counts. Knows names
//! and directories, no store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The number follows. Names sort as the numbers do.
const PREFIX: &str = "tables-";
/// Lies in a directory whose store is whole.
const WHOLE: &str = "whole";
/// What the store left in the root itself before there were generations.
const EARLIER: [&str; 3] = ["conf", "db", "blobs"];

/// The directory that counts in `root`; a first one is made when there is none. All others go.
///
/// # Errors
/// When it cannot be read, or the first one not be made.
pub(super) fn current(root: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(root)?;
    let mut all = all(root)?;
    all.sort_unstable();
    let mut current = None;
    for (_, dir) in all.iter().rev() {
        // What cannot be looked at is not what is not there.
        if dir.join(WHOLE).try_exists()? {
            current = Some(dir.clone());
            break;
        }
    }
    for (_, dir) in all.into_iter().filter(|(_, dir)| Some(dir) != current.as_ref()) {
        remove(&dir);
    }
    if let Some(current) = current {
        return Ok(current);
    }
    remove_earlier(root);
    let first = next(root)?;
    make_whole(&first)?;
    Ok(first)
}

/// Makes the directory of the next generation, which does not count yet.
///
/// # Errors
/// When it cannot be made.
pub(super) fn next(root: &Path) -> io::Result<PathBuf> {
    let last = all(root)?.into_iter().map(|(number, _)| number).max().unwrap_or(0);
    let dir = root.join(format!("{PREFIX}{:06}", last + 1));
    fs::create_dir(&dir)?;
    File::open(root)?.sync_all()?;
    Ok(dir)
}

/// From now on this directory counts.
///
/// # Errors
/// A full or failing disk: then it does not.
pub(super) fn make_whole(dir: &Path) -> io::Result<()> {
    let mark = || {
        File::create(dir.join(WHOLE))?.sync_all()?;
        File::open(dir)?.sync_all()
    };
    // A mark that may or may not be there must not be.
    mark().inspect_err(|_| drop(fs::remove_file(dir.join(WHOLE))))
}

/// Removes a directory that does not count, as far as it can be.
pub(super) fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(%error, "old tables of the catalog could not be removed");
    }
}

fn all(root: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for item in fs::read_dir(root)? {
        let item = item?;
        let number = item.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        found.extend(number.map(|number| (number, item.path())));
    }
    Ok(found)
}

/// A store of the earlier form is made anew from the journal, as any that is lost.
fn remove_earlier(root: &Path) {
    let Ok(items) = fs::read_dir(root) else { return };
    for item in items.flatten() {
        let name = item.file_name();
        let is_earlier = name.to_str().is_some_and(|name| EARLIER.contains(&name) || name.starts_with("snap."));
        if is_earlier {
            let path = item.path();
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path) -> Vec<String> {
        let name = |item: io::Result<fs::DirEntry>| item.expect("item").file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = fs::read_dir(root).expect("list").map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn the_newest_whole_one_counts() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path().join("catalog");
        let first = current(&root).expect("first");
        assert_eq!(current(&root).expect("again"), first);
        // A crash in the middle of a compaction.
        let cut = next(&root).expect("next");
        fs::write(cut.join("db"), b"half").expect("file");
        assert_eq!(current(&root).expect("current"), first);
        assert_eq!(names(&root), ["tables-000001"]);
        // A crash at its end, before the old one went.
        let second = next(&root).expect("next");
        make_whole(&second).expect("whole");
        assert_eq!(names(&root).len(), 2);
        assert_eq!(current(&root).expect("current"), second);
        assert_eq!(names(&root), ["tables-000002"]);
    }

    #[test]
    fn what_lay_there_before_goes() {
        let dir = tempfile::tempdir().expect("dir");
        for name in ["conf", "db", "snap.0001", "other"] {
            fs::write(dir.path().join(name), b"x").expect("file");
        }
        fs::create_dir(dir.path().join("blobs")).expect("dir");
        current(dir.path()).expect("current");
        assert_eq!(names(dir.path()), ["other", "tables-000001"]);
    }
}
