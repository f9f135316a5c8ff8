//! What was told of which file, kept over restarts: a log of one JSON object a line, appended after each acknowledged
//! batch and written anew when it holds more past than present. A line that a crash cut off is dropped: what it said
//! is told again, as a duplicate.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::super::announce::Phase;
use super::super::state;
use super::super::walk::Seen;
use super::tracker::Told;
use crate::layout::spelling;

/// Lines beyond the files that are known before the log is written anew.
const SPARE_LINES_MAX: usize = 10_000;

/// One line; the version is in the first.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    path: String,
    size: u64,
    modified_ns: i64,
    phase: u8,
    time_ns: i64,
}

/// The first line: what the log is about.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    version: u32,
    place: String,
}

/// The open log, locked.
#[derive(Debug)]
pub struct ToldLog {
    path: PathBuf,
    place: String,
    file: File,
    n_lines: usize,
    _lock: File,
}

impl ToldLog {
    /// Opens or begins the log of a place; also what it holds, the last word on each file.
    ///
    /// # Errors
    /// In words: in use, not to be read or written, or of another place or version.
    pub fn open(path: &Path, place: &str) -> Result<(Self, Vec<Told>), String> {
        let lock = state::lock(path)?;
        let told = match File::open(path) {
            Ok(file) => read(file, place)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        let place = place.to_owned();
        let file = write(path, &place, &told).map_err(|error| error.to_string())?;
        Ok((Self { path: path.to_owned(), place, file, n_lines: told.len(), _lock: lock }, told))
    }

    /// Adds what was told; durable on return.
    ///
    /// # Errors
    /// The disk's.
    pub fn add(&mut self, told: &[Told]) -> io::Result<()> {
        let lines: String = told.iter().map(line).collect();
        self.file.write_all(lines.as_bytes())?;
        self.n_lines += told.len();
        self.file.sync_data()
    }

    /// Whether it is worth writing anew for so many known files.
    pub fn is_long(&self, n_known: usize) -> bool {
        self.n_lines > 2 * n_known + SPARE_LINES_MAX
    }

    /// Writes it anew from its own last words.
    ///
    /// # Errors
    /// In words.
    pub fn shorten(&mut self) -> Result<(), String> {
        let told = read(File::open(&self.path).map_err(|error| error.to_string())?, &self.place)?;
        self.file = write(&self.path, &self.place, &told).map_err(|error| error.to_string())?;
        self.n_lines = told.len();
        Ok(())
    }
}

fn read(file: File, place: &str) -> Result<Vec<Told>, String> {
    let mut lines = BufReader::new(file).lines();
    let first = lines.next().transpose().map_err(|error| error.to_string())?.unwrap_or_default();
    let header: Header =
        serde_json::from_str(&first).map_err(|_| "is not a state file of watch; remove it to start over".to_owned())?;
    if header != (Header { version: 1, place: place.to_owned() }) {
        return Err(format!(
            "is of version {} and about {}; this is version 1 and {place}",
            header.version, header.place
        ));
    }
    let mut last = BTreeMap::new();
    for line in lines {
        let line = line.map_err(|error| error.to_string())?;
        let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
        let phase = match line.phase {
            0 => Phase::Growing,
            1 => Phase::Whole,
            _ => Phase::Deleted,
        };
        let path = PathBuf::from(OsString::from_vec(percent_decode_str(&line.path).collect()));
        let seen = Seen { path: path.clone(), size: line.size, modified_ns: line.modified_ns };
        last.insert(path, Told { seen, phase, time_ns: line.time_ns });
    }
    Ok(last.into_values().collect())
}

fn write(path: &Path, place: &str, told: &[Told]) -> io::Result<File> {
    let header = Header { version: 1, place: place.to_owned() };
    let mut text = serde_json::to_string(&header).unwrap_or_default() + "\n";
    text.extend(told.iter().map(line));
    state::write_whole(path, text.as_bytes())?;
    OpenOptions::new().append(true).open(path)
}

fn line(told: &Told) -> String {
    let Told { seen, phase, time_ns } = told;
    let path = spelling::escaped(seen.path.as_os_str().as_bytes());
    let line = Line { path, size: seen.size, modified_ns: seen.modified_ns, phase: *phase as u8, time_ns: *time_ns };
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, phase: Phase) -> Told {
        let path = PathBuf::from(OsString::from_vec(path.as_bytes().to_vec()));
        Told { seen: Seen { path, size: 7, modified_ns: 8 }, phase, time_ns: 9 }
    }

    #[test]
    fn the_last_word_on_each_file_is_kept_and_a_torn_line_dropped() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("watch.log");
        let (mut log, before) = ToldLog::open(&path, "file:///a/").expect("open");
        assert_eq!(before, []);
        log.add(&[told("a b\n.mp4", Phase::Growing), told("c.mp4", Phase::Whole)]).expect("added");
        log.add(&[told("a b\n.mp4", Phase::Deleted)]).expect("added");
        assert!(ToldLog::open(&path, "file:///a/").expect_err("locked").contains("another run"));
        log.file.write_all(b"{\"path\":\"d.m").expect("torn");
        let expected = [told("a b\n.mp4", Phase::Deleted), told("c.mp4", Phase::Whole)];
        log.shorten().expect("shortened");
        log.add(&[told("c.mp4", Phase::Whole)]).expect("added");
        drop(log);
        let (log, after) = ToldLog::open(&path, "file:///a/").expect("open");
        assert_eq!(after, expected);
        assert!(!log.is_long(0));
        drop(log);
        assert!(ToldLog::open(&path, "file:///b/").expect_err("another place").contains("file:///a/"));
    }
}
