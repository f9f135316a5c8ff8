//! Images that users put: ground state, one file each, never evicted. Knows no HTTP and decodes nothing.
//!
//! 1. A put writes a temporary file, syncs it, renames it over the one before, and syncs the directory: whoever reads sees
//!    the old image or the new one, whole, also after a power cut.
//! 2. Files are named by a digest of whose image it is and of what, so no name that a caller chose is ever part of a path.
//! 3. The bytes of all files together are bounded; a put over the bound changes nothing.
//! 4. A read checks the head's check sum and the image's digest before it gives a byte.
//!
//! Every call blocks: callers run it on their own threads ([`crate::threads`]).

mod form;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use stills_model::codec::Malformed;
use thiserror::Error;

use form::{HEAD_LEN_MAX, PREFIX_LEN};
pub use form::{Head, Owner, UploadKey};

use crate::durable;

/// What temporary files end with; those of a run that was killed are removed at the next start.
const TEMPORARY: &str = ".new";

/// The most images, whatever their size: a directory and a table in memory have to hold them.
const IMAGES_MAX: usize = 1_000_000;

/// An image could not be stored or read.
#[derive(Debug, Error)]
pub enum UploadError {
    /// No room for more; nothing was changed.
    #[error("the images together may take {bytes_max} bytes (images.max_bytes) and be {IMAGES_MAX} in number")]
    Full {
        /// The bound.
        bytes_max: u64,
    },
    /// The key's texts are too long; nothing was changed.
    #[error("the texts that name an image may together take some {HEAD_LEN_MAX} bytes")]
    LongKey,
    /// A file is not what was written.
    #[error("the image {name} is damaged: {what}")]
    Damaged {
        /// The file's name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file system fails.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

type Name = [u8; 32];

#[derive(Debug, Default)]
struct Index {
    /// Bytes of each file.
    files: HashMap<Name, u64>,
    bytes: u64,
}

impl Index {
    fn set(&mut self, name: Name, len: u64) -> bool {
        let before = self.files.insert(name, len);
        self.bytes = self.bytes.saturating_sub(before.unwrap_or(0)).saturating_add(len);
        before.is_none()
    }

    fn remove(&mut self, name: &Name) {
        self.bytes = self.bytes.saturating_sub(self.files.remove(name).unwrap_or(0));
    }
}

/// The store of images.
#[derive(Debug)]
pub struct Uploads {
    dir: PathBuf,
    bytes_max: u64,
    index: Mutex<Index>,
    /// Puts and deletes take turns: they are rare, and each waits for the disk.
    writing: Mutex<()>,
}

/// How many images there are, and their bytes with what is stored beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadStats {
    /// Images.
    pub count: usize,
    /// Bytes.
    pub bytes: u64,
}

impl Uploads {
    /// Opens the store in `dir`, which is made where it is missing, and removes what an interrupted put left.
    ///
    /// # Errors
    /// [`UploadError::Io`].
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, UploadError> {
        durable::create_dir(dir).map_err(failed("create", dir))?;
        let mut index = Index::default();
        for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
            let entry = entry.map_err(failed("list", dir))?;
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_str().unwrap_or_default();
            if name.ends_with(TEMPORARY) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            } else if let Some(digest) = parse_name(name) {
                index.set(digest, entry.metadata().map_err(failed("look at", &path))?.len());
            } else {
                tracing::warn!(name, "a file among the images is none of theirs; it is left alone");
            }
        }
        Ok(Self { dir: dir.to_owned(), bytes_max, index: Mutex::new(index), writing: Mutex::default() })
    }

    /// How much there is.
    pub fn stats(&self) -> UploadStats {
        let index = self.index();
        UploadStats { count: index.files.len(), bytes: index.bytes }
    }

    /// Stores an image of `size` pixels in place of the one before, durably. Says whether there was none.
    ///
    /// # Errors
    /// [`UploadError::Full`] and [`UploadError::LongKey`] change nothing. After [`UploadError::Io`] either of the two is there, whole.
    pub fn put(&self, key: &UploadKey, size: (u32, u32), image: &[u8]) -> Result<bool, UploadError> {
        let name = key.digest();
        let head = form::encode(key, &Head::of(size, image));
        if head.len() > PREFIX_LEN + HEAD_LEN_MAX {
            return Err(UploadError::LongKey);
        }
        let len = (head.len() as u64).saturating_add(image.len() as u64);
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_room(&name, len)?;
        let path = self.path(&name);
        let temporary = self.dir.join(format!("{}{TEMPORARY}", text_of(&name)));
        let written = write(&temporary, &head, image)
            .and_then(|()| fs::rename(&temporary, &path).map_err(failed("rename", &temporary)));
        if let Err(error) = written {
            // Whatever is left of it counts for nothing, and goes at the next start at the latest.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        let is_new = self.index().set(name, len);
        durable::sync_dir(&self.dir).map_err(failed("sync", &self.dir))?;
        Ok(is_new)
    }

    /// Removes an image, durably. Says whether there was one.
    ///
    /// # Errors
    /// [`UploadError::Io`].
    pub fn delete(&self, key: &UploadKey) -> Result<bool, UploadError> {
        let name = key.digest();
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(&name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.index().remove(&name);
                return Ok(false);
            }
            Err(error) => return Err(failed("remove", &path)(error)),
        }
        self.index().remove(&name);
        durable::sync_dir(&self.dir).map_err(failed("sync", &self.dir))?;
        Ok(true)
    }

    /// What is known of an image without reading it; nothing where there is none.
    ///
    /// # Errors
    /// [`UploadError::Damaged`] and [`UploadError::Io`].
    pub fn head(&self, key: &UploadKey) -> Result<Option<Head>, UploadError> {
        Ok(self.open_head(key)?.map(|(head, _)| head))
    }

    /// An image, whole; nothing where there is none.
    ///
    /// # Errors
    /// [`UploadError::Damaged`] and [`UploadError::Io`].
    pub fn read(&self, key: &UploadKey) -> Result<Option<(Head, Bytes)>, UploadError> {
        let Some((head, file)) = self.open_head(key)? else { return Ok(None) };
        let name = key.digest();
        let mut image = Vec::with_capacity(usize::try_from(head.len.min(self.bytes_max)).unwrap_or(0));
        // One byte more than there should be tells of more.
        file.take(head.len.saturating_add(1)).read_to_end(&mut image).map_err(failed("read", &self.path(&name)))?;
        let content: [u8; 32] = Sha256::digest(&image).into();
        if image.len() as u64 != head.len || content != head.content {
            return Err(damaged(&name, "its digest is another"));
        }
        Ok(Some((head, Bytes::from(image))))
    }

    fn open_head(&self, key: &UploadKey) -> Result<Option<(Head, File)>, UploadError> {
        let name = key.digest();
        if !self.index().files.contains_key(&name) {
            return Ok(None);
        }
        let path = self.path(&name);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let cut = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&name, "it ends early"),
            _ => failed("read", &path)(error),
        };
        let malformed = |Malformed(what)| damaged(&name, what);
        let mut prefix = [0; PREFIX_LEN];
        file.read_exact(&mut prefix).map_err(cut)?;
        let mut head = vec![0; form::head_len(&prefix).map_err(malformed)?];
        file.read_exact(&mut head).map_err(cut)?;
        Ok(Some((form::decode(&prefix, &head, key).map_err(malformed)?, file)))
    }

    fn check_room(&self, name: &Name, len: u64) -> Result<(), UploadError> {
        let index = self.index();
        let before = index.files.get(name);
        let others = index.bytes.saturating_sub(before.copied().unwrap_or(0));
        let is_too_many = before.is_none() && index.files.len() >= IMAGES_MAX;
        if is_too_many || others.saturating_add(len) > self.bytes_max {
            return Err(UploadError::Full { bytes_max: self.bytes_max });
        }
        Ok(())
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(text_of(name))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(path: &Path, head: &[u8], image: &[u8]) -> Result<(), UploadError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = opened.map_err(failed("create", path))?;
    file.write_all(head).and_then(|()| file.write_all(image)).map_err(failed("write", path))?;
    file.sync_data().map_err(failed("sync", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UploadError {
    let path = path.to_owned();
    move |source| UploadError::Io { action, path, source }
}

fn damaged(name: &Name, what: &'static str) -> UploadError {
    UploadError::Damaged { name: text_of(name), what }
}

fn text_of(name: &Name) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_name(text: &str) -> Option<Name> {
    let mut name = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (n, byte) in name.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(name)
}

#[cfg(test)]
mod tests;
