//! All regular files beneath a folder in one fixed order, one directory at a time, from any point on.
//!
//! The order is by the names of each directory, upwards or downwards: where names tell time that is oldest or newest
//! first. Memory holds the names of the directories on the way down, never the whole tree. Links are not followed:
//! what they point to is walked where it lies, or lies outside and is not meant.

use std::cmp::Ordering;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// In which order names are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// By falling names.
    Newest,
    /// By rising names.
    Oldest,
}

impl Order {
    fn compare(self, a: &OsStr, b: &OsStr) -> Ordering {
        match self {
            Self::Oldest => a.cmp(b),
            Self::Newest => b.cmp(a),
        }
    }
}

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Relative to the folder that is walked.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, nanoseconds since 1970.
    pub modified_ns: i64,
}

impl Seen {
    /// What the file system says of a file.
    pub fn new(path: PathBuf, metadata: &std::fs::Metadata) -> Self {
        let modified_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { path, size: metadata.len(), modified_ns }
    }
}

/// A place that could not be looked at.
#[derive(Debug)]
pub struct Unreadable {
    /// Relative to the folder that is walked.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// One directory on the way: the names that are still to be visited, the next one last.
struct Level {
    path: PathBuf,
    names: Vec<(OsString, bool)>,
}

/// The walk; see the module's text.
pub struct Walk {
    root: PathBuf,
    order: Order,
    levels: Vec<Level>,
    failed: Option<Unreadable>,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("root", &self.root).field("depth", &self.levels.len()).finish()
    }
}

impl Walk {
    /// Walks `root`; with `after`, only what comes behind that path, which need not exist any more.
    pub fn new(root: &Path, order: Order, after: Option<&Path>) -> Self {
        let mut walk = Self { root: root.to_owned(), order, levels: Vec::new(), failed: None };
        walk.enter(PathBuf::new());
        let Some(after) = after else { return walk };
        let names: Vec<&OsStr> = after.components().filter_map(normal).collect();
        for (depth, name) in names.iter().enumerate() {
            let Some(level) = walk.levels.last_mut() else { break };
            level.names.retain(|(other, _)| order.compare(other, name) != Ordering::Less);
            let is_here = level.names.last().is_some_and(|(next, _)| next == name);
            let Some((name, is_directory)) = (if is_here { level.names.pop() } else { None }) else { break };
            if !is_directory || depth + 1 == names.len() {
                break;
            }
            let path = level.path.join(name);
            walk.enter(path);
        }
        walk
    }

    /// Reads a directory; one that cannot be read is remembered as such.
    fn enter(&mut self, path: PathBuf) {
        match read_names(&self.root.join(&path)) {
            Ok(mut names) => {
                names.sort_unstable_by(|(a, _), (b, _)| self.order.compare(b, a));
                self.levels.push(Level { path, names });
            }
            // A directory that a recorder removed meanwhile has nothing to tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.levels.is_empty() => {}
            Err(error) => self.failed = Some(Unreadable { path, error }),
        }
    }
}

impl Iterator for Walk {
    type Item = Result<Seen, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(failed) = self.failed.take() {
                return Some(Err(failed));
            }
            let level = self.levels.last_mut()?;
            let Some((name, is_directory)) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let path = level.path.join(name);
            if is_directory {
                self.enter(path);
                continue;
            }
            match std::fs::symlink_metadata(self.root.join(&path)) {
                Ok(metadata) if metadata.is_file() => return Some(Ok(Seen::new(path, &metadata))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Some(Err(Unreadable { path, error })),
            }
        }
    }
}

/// The names of regular files and, with `true`, of directories.
fn read_names(directory: &Path) -> io::Result<Vec<(OsString, bool)>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() || kind.is_dir() {
            names.push((entry.file_name(), kind.is_dir()));
        }
    }
    Ok(names)
}

fn normal(component: Component<'_>) -> Option<&OsStr> {
    match component {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}

/// Counts the regular files beneath a folder, telling each step; `false` from `step` ends it. What cannot be read
/// counts as nothing.
pub fn count(root: &Path, mut step: impl FnMut(u64) -> bool) {
    let mut waiting = vec![root.to_owned()];
    let mut total = 0;
    while let Some(directory) = waiting.pop() {
        for (name, is_directory) in read_names(&directory).unwrap_or_default() {
            if is_directory {
                waiting.push(directory.join(name));
            } else {
                total += 1;
            }
        }
        if !step(total) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("dir");
        for path in paths {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("dirs");
            std::fs::write(path, b"x").expect("file");
        }
        root
    }

    fn walked(root: &Path, order: Order, after: Option<&str>) -> Vec<String> {
        let walk = Walk::new(root, order, after.map(Path::new));
        walk.map(|seen| seen.expect("readable").path.to_str().expect("text").to_owned()).collect()
    }

    const PATHS: [&str; 7] = ["a.mp4", "a/1.mp4", "a/2.mp4", "a/b/1.mp4", "b/x/y/z.mp4", "b/x/y.mp4", "c"];

    #[test]
    fn both_orders_from_every_point() {
        let root = tree(&PATHS);
        for order in [Order::Oldest, Order::Newest] {
            let all = walked(root.path(), order, None);
            assert_eq!(all.len(), PATHS.len());
            for (at, path) in all.iter().enumerate() {
                assert_eq!(walked(root.path(), order, Some(path)), all[at + 1..], "{order:?} after {path}");
            }
        }
        assert_eq!(walked(root.path(), Order::Newest, None)[0], "c");
        // What was the last one is gone: on from where it would be.
        assert_eq!(
            walked(root.path(), Order::Oldest, Some("a/1.mp5")),
            walked(root.path(), Order::Oldest, Some("a/1.mp4"))
        );
        assert_eq!(walked(root.path(), Order::Oldest, Some("bb/gone/1")), ["c"]);
        assert_eq!(walked(root.path(), Order::Oldest, Some("d")), [""; 0]);
        let mut n_files = 0;
        count(root.path(), |n| {
            n_files = n;
            true
        });
        assert_eq!(n_files, 7);
    }

    #[test]
    fn links_are_not_followed_and_missing_places_are_told() {
        let root = tree(&["a/1.mp4"]);
        let outside = tree(&["secret.mp4"]);
        std::os::unix::fs::symlink(outside.path(), root.path().join("out")).expect("link");
        std::os::unix::fs::symlink(outside.path().join("secret.mp4"), root.path().join("one.mp4")).expect("link");
        std::os::unix::fs::symlink(root.path(), root.path().join("a/loop")).expect("link");
        assert_eq!(walked(root.path(), Order::Oldest, None), ["a/1.mp4"]);
        let missing = Walk::new(&root.path().join("none"), Order::Oldest, None).next();
        assert_eq!(missing.expect("an item").expect_err("unreadable").error.kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn going_on_is_the_same_as_not_stopping(
            paths in prop::collection::btree_set("[ab]{1,2}(/[ab]{1,2}){0,2}\\.f", 1..20),
            newest: bool,
            cut: prop::sample::Index,
        ) {
            let root = tree(&paths.iter().map(String::as_str).collect::<Vec<_>>());
            let order = if newest { Order::Newest } else { Order::Oldest };
            let all = walked(root.path(), order, None);
            let at = cut.index(all.len());
            prop_assert_eq!(&walked(root.path(), order, Some(&all[at])), &all[at + 1..]);
        }
    }
}
