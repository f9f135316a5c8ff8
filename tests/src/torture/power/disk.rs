//! A disk as it may be after a power cut: every change up to each file's last sync, of later ones what chance leaves, in
//! blocks of 512 bytes; names of a directory likewise. Built from what a program did ([`super::trace`]); knows no strace.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::Path;

use super::trace::{Op, What};
use crate::harness::dice::Dice;

/// What a disk writes whole or not at all.
const BLOCK: usize = 512;

/// When something happened: the lines of the trace.
#[derive(Debug, Clone, Copy)]
struct When {
    from: usize,
    to: usize,
}

#[derive(Debug)]
enum FileChange {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
    Zero { at: usize, len: usize },
}

/// Names set (to a node) and removed, together or not at all.
type DirChange = Vec<(OsString, Option<usize>)>;

#[derive(Debug)]
enum Content {
    File { changes: Vec<(When, FileChange)>, len: usize },
    Dir { changes: Vec<(When, DirChange)>, live: BTreeMap<OsString, usize> },
}

#[derive(Debug)]
struct Node {
    content: Content,
    syncs: Vec<When>,
}

impl Node {
    fn file() -> Self {
        Self { content: Content::File { changes: Vec::new(), len: 0 }, syncs: Vec::new() }
    }

    fn dir() -> Self {
        Self { content: Content::Dir { changes: Vec::new(), live: BTreeMap::new() }, syncs: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Open {
    node: usize,
    at: usize,
    is_appending: bool,
}

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy)]
pub struct Fate {
    /// How many of a hundred blocks are on the disk.
    pub blocks_percent: i64,
    /// Which names are.
    pub names: Names,
}

/// Which changes to directories that were not synced are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// None of them.
    None,
    /// The first few of each directory, as on a file system that orders them.
    First,
    /// Any.
    Some,
    /// All.
    All,
}

impl Fate {
    /// As chance has it.
    pub fn draw(dice: &mut Dice) -> Self {
        let percents = [0, 10, 50, 90, 100];
        let names = [Names::None, Names::First, Names::Some, Names::All];
        let pick =
            |dice: &mut Dice, n: usize| usize::try_from(dice.roll(0, i64::try_from(n).unwrap_or(1) - 1)).unwrap_or(0);
        Self { blocks_percent: percents[pick(dice, percents.len())], names: names[pick(dice, names.len())] }
    }
}

/// Everything that was done to a directory that was empty at first.
#[derive(Debug)]
pub struct Disk {
    nodes: Vec<Node>,
    open: HashMap<i32, Option<Open>>,
}

impl Disk {
    /// Takes the calls in their order.
    ///
    /// # Errors
    /// One that cannot have been, as far as this knows.
    pub fn of(ops: &[Op]) -> Result<Self, String> {
        let mut disk = Self { nodes: vec![Node::dir()], open: HashMap::new() };
        for op in ops {
            disk.take(op).ok_or_else(|| format!("cannot follow {:.300}", format!("{op:?}")))?;
        }
        Ok(disk)
    }

    fn take(&mut self, op: &Op) -> Option<()> {
        let when = When { from: op.from, to: op.to };
        match &op.what {
            What::Answer { .. } => {}
            What::Open { path, fd, flags } => {
                let open = self.open(when, path, flags)?;
                self.open.insert(*fd, open);
            }
            What::Copy { fd, to } => {
                let open = *self.open.get(fd)?;
                self.open.insert(*to, open);
            }
            What::Seek { fd, at } => {
                if let Some(open) = self.open.get_mut(fd)? {
                    open.at = usize::try_from(*at).ok()?;
                }
            }
            What::Write { fd, at, bytes } => {
                let Some(mut open) = *self.open.get(fd)? else { return Some(()) };
                let Content::File { len, .. } = &self.nodes[open.node].content else { return None };
                let start = match at {
                    Some(at) => usize::try_from(*at).ok()?,
                    None if open.is_appending => *len,
                    None => open.at,
                };
                if at.is_none() {
                    open.at = start + bytes.len();
                    self.open.insert(*fd, Some(open));
                }
                self.change(open.node, when, FileChange::Write { at: start, bytes: bytes.clone() })?;
            }
            What::Truncate { fd, len } => {
                if let Some(open) = *self.open.get(fd)? {
                    self.change(open.node, when, FileChange::SetLen(usize::try_from(*len).ok()?))?;
                }
            }
            What::Allocate { fd, flags, at, len } => {
                let Some(open) = *self.open.get(fd)? else { return Some(()) };
                let (at, len) = (usize::try_from(*at).ok()?, usize::try_from(*len).ok()?);
                let Content::File { len: before, .. } = &self.nodes[open.node].content else { return None };
                if flags.contains("PUNCH_HOLE") {
                    self.change(open.node, when, FileChange::Zero { at, len })?;
                } else if !flags.contains("KEEP_SIZE") {
                    let len = (at + len).max(*before);
                    self.change(open.node, when, FileChange::SetLen(len))?;
                }
            }
            What::Sync { fd } => {
                if let Some(open) = *self.open.get(fd)? {
                    self.nodes[open.node].syncs.push(when);
                }
            }
            What::MakeDir { path } => {
                let node = self.add(Node::dir());
                self.name(when, path.parent()?, vec![(path.file_name()?.to_owned(), Some(node))])?;
            }
            What::Remove { path } => {
                self.name(when, path.parent()?, vec![(path.file_name()?.to_owned(), None)])?;
            }
            What::Rename { from, to } => {
                let node = self.find(from)?;
                // Between two directories it would be two changes.
                (from.parent() == to.parent()).then_some(())?;
                let names = vec![(to.file_name()?.to_owned(), Some(node)), (from.file_name()?.to_owned(), None)];
                self.name(when, from.parent()?, names)?;
            }
        }
        Some(())
    }

    fn open(&mut self, when: When, path: &Path, flags: &str) -> Option<Option<Open>> {
        let has = |flag: &str| flags.split('|').any(|word| word == flag);
        // A file without a name is gone with the power, whatever was written to it.
        if has("O_TMPFILE") || flags.contains("__O_TMPFILE") {
            return Some(None);
        }
        let node = match self.find(path) {
            Some(node) => {
                if has("O_TRUNC") {
                    self.change(node, when, FileChange::SetLen(0))?;
                }
                node
            }
            None => {
                let node = self.add(Node::file());
                self.name(when, path.parent()?, vec![(path.file_name()?.to_owned(), Some(node))])?;
                node
            }
        };
        Some(Some(Open { node, at: 0, is_appending: has("O_APPEND") }))
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.iter().try_fold(0, |node, name| match &self.nodes[node].content {
            Content::Dir { live, .. } => live.get(name).copied(),
            Content::File { .. } => None,
        })
    }

    fn change(&mut self, node: usize, when: When, change: FileChange) -> Option<()> {
        let Content::File { changes, len } = &mut self.nodes[node].content else { return None };
        match &change {
            FileChange::Write { at, bytes } => *len = (*len).max(at + bytes.len()),
            FileChange::SetLen(new) => *len = *new,
            FileChange::Zero { .. } => {}
        }
        changes.push((when, change));
        Some(())
    }

    fn name(&mut self, when: When, dir: &Path, names: DirChange) -> Option<()> {
        let node = self.find(dir)?;
        let Content::Dir { changes, live } = &mut self.nodes[node].content else { return None };
        for (name, node) in &names {
            match node {
                Some(node) => drop(live.insert(name.clone(), *node)),
                None => drop(live.remove(name)),
            }
        }
        changes.push((when, names));
        Some(())
    }

    /// Lays out in `to` what the disk holds when the power goes at line `at` of the trace.
    ///
    /// # Panics
    /// When it cannot be written there.
    pub fn cut(&self, at: usize, fate: Fate, dice: &mut Dice, to: &Path) {
        self.lay_out(0, at, fate, dice, to);
    }

    fn lay_out(&self, node: usize, at: usize, fate: Fate, dice: &mut Dice, to: &Path) {
        let Node { content, syncs } = &self.nodes[node];
        // What was over before the last sync began that ended in time.
        let synced = syncs.iter().filter(|sync| sync.to < at).map(|sync| sync.from).max();
        let is_safe = |when: &When| synced.is_some_and(|synced| when.to < synced);
        match content {
            Content::File { changes, .. } => {
                let begun = changes.iter().filter(|(when, _)| when.from < at);
                let bytes = bytes_of(begun.map(|(when, change)| (is_safe(when), change)), fate, dice);
                std::fs::write(to, bytes).expect("a file of the disk");
            }
            Content::Dir { changes, .. } => {
                std::fs::create_dir_all(to).expect("a directory of the disk");
                let begun: Vec<_> = changes.iter().filter(|(when, _)| when.from < at).collect();
                let n_unsafe = begun.iter().filter(|(when, _)| !is_safe(when)).count();
                let n_first = dice.roll(0, i64::try_from(n_unsafe).unwrap_or(0));
                let (mut names, mut n) = (BTreeMap::new(), 0);
                for (when, change) in begun {
                    n += i64::from(!is_safe(when));
                    let is_there = is_safe(when)
                        || match fate.names {
                            Names::None => false,
                            Names::First => n <= n_first,
                            Names::Some => dice.roll(0, 1) == 0,
                            Names::All => true,
                        };
                    for (name, node) in change.iter().filter(|_| is_there) {
                        match node {
                            Some(node) => drop(names.insert(name, *node)),
                            None => drop(names.remove(name)),
                        }
                    }
                }
                for (name, node) in names {
                    self.lay_out(node, at, fate, dice, &to.join(name));
                }
            }
        }
    }
}

/// What a file holds after these changes, of which those that are not safe may be lost.
fn bytes_of<'a>(changes: impl Iterator<Item = (bool, &'a FileChange)>, fate: Fate, dice: &mut Dice) -> Vec<u8> {
    let (mut bytes, mut len_max) = (Vec::new(), 0);
    let lucky = |dice: &mut Dice| dice.roll(1, 100) <= fate.blocks_percent;
    let put = |bytes: &mut Vec<u8>, at: usize, some: &[u8]| {
        if bytes.len() < at + some.len() {
            bytes.resize(at + some.len(), 0);
        }
        bytes[at..at + some.len()].copy_from_slice(some);
    };
    for (is_safe, change) in changes {
        match change {
            FileChange::Write { at, bytes: some } if is_safe => put(&mut bytes, *at, some),
            FileChange::Write { at, bytes: some } => {
                let mut from = 0;
                while from < some.len() {
                    let to = ((at + from) / BLOCK * BLOCK + BLOCK - at).min(some.len());
                    if lucky(dice) {
                        put(&mut bytes, at + from, &some[from..to]);
                    }
                    from = to;
                }
                len_max = len_max.max(at + some.len());
            }
            FileChange::SetLen(len) if is_safe || lucky(dice) => {
                bytes.resize(*len, 0);
                len_max = 0;
            }
            FileChange::Zero { at, len } if is_safe || lucky(dice) => {
                let end = (at + len).min(bytes.len());
                bytes.iter_mut().take(end).skip(*at).for_each(|byte| *byte = 0);
            }
            FileChange::SetLen(_) | FileChange::Zero { .. } => {}
        }
    }
    // A file may be as long as it was and have nothing in it.
    if bytes.len() < len_max && dice.roll(0, 1) == 0 {
        bytes.resize(len_max, 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const SURE: Fate = Fate { blocks_percent: 0, names: Names::None };
    const ALL: Fate = Fate { blocks_percent: 100, names: Names::All };

    fn disk(whats: Vec<What>) -> Disk {
        let op = |(n, what)| Op { from: n, to: n, what };
        Disk::of(&whats.into_iter().enumerate().map(op).collect::<Vec<_>>()).expect("a disk")
    }

    fn open(path: &str, fd: i32) -> What {
        What::Open { path: PathBuf::from(path), fd, flags: "O_RDWR|O_CREAT".to_owned() }
    }

    fn write(fd: i32, bytes: &[u8]) -> What {
        What::Write { fd, at: None, bytes: bytes.to_vec() }
    }

    /// What stands in `x` after a cut at line `at`; None: it is not there.
    fn after(disk: &Disk, at: usize, fate: Fate) -> Option<Vec<u8>> {
        let temp = tempfile::tempdir().expect("directory");
        disk.cut(at, fate, &mut Dice::new(1), temp.path());
        std::fs::read(temp.path().join("x")).ok()
    }

    #[test]
    fn what_was_synced_is_there_and_nothing_else_is_sure() {
        let moved = What::Rename { from: "y".into(), to: "x".into() };
        let made = vec![
            open("y", 3),
            write(3, b"ab"),
            What::Sync { fd: 3 },
            write(3, b"cd"),
            moved,
            open("", 4),
            What::Sync { fd: 4 },
        ];
        let disk = disk(made);
        assert_eq!(after(&disk, 6, SURE), None, "the directory's sync is not over");
        let synced = after(&disk, 7, SURE).expect("a file");
        assert!([&b"ab"[..], b"ab\0\0"].contains(&&synced[..]), "{synced:?}");
        assert_eq!(after(&disk, 5, ALL).as_deref(), Some(&b"abcd"[..]));
        assert_eq!(after(&disk, 4, ALL), None, "not named yet");
    }

    #[test]
    fn of_the_rest_some_blocks_are_there() {
        let long = vec![7; 64 * BLOCK];
        let disk = disk(vec![open("x", 3), write(3, b"-"), write(3, &long)]);
        let fate = Fate { blocks_percent: 50, names: Names::All };
        let bytes = after(&disk, 9, fate).expect("a file");
        let sevens = bytes.iter().filter(|byte| **byte == 7).count();
        assert!((10 * BLOCK..54 * BLOCK).contains(&sevens), "{sevens}");
        let is_whole = |block: &[u8]| block.iter().skip(1).all(|byte| *byte == block[1]);
        assert!(bytes.chunks(BLOCK).filter(|block| block.len() == BLOCK).all(is_whole));
    }

    #[test]
    fn a_directory_that_was_not_synced_takes_its_files_along() {
        let made = vec![
            What::MakeDir { path: "d".into() },
            open("d/f", 3),
            What::Sync { fd: 3 },
            open("d", 4),
            What::Sync { fd: 4 },
            What::Truncate { fd: 3, len: 3 },
            What::Allocate { fd: 3, flags: "FALLOC_FL_KEEP_SIZE".into(), at: 0, len: 9 },
        ];
        let disk = disk(made);
        for (fate, is_there) in [(SURE, false), (ALL, true)] {
            let temp = tempfile::tempdir().expect("directory");
            disk.cut(9, fate, &mut Dice::new(1), temp.path());
            assert_eq!(std::fs::read(temp.path().join("d/f")).ok(), is_there.then(|| vec![0; 3]));
        }
    }
}
