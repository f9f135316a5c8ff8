//! Results as files, outside of everything that is evicted: whole or absent, gone when their time is over.
//!
//! ```text
//! <data>/jobs/results/<first two digits of the job's id>/<job id>-<SHA-256 of the secret>.jpg
//! ```
//!
//! The secret itself is in no name, so that a listing of the directory opens nothing, and how long a look-up takes tells
//! nothing of it. The file's age is that of its last writing. Calls block.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::record::{JobId, ResultSecret, hex};
use crate::durable;

/// How long a temporary file may be there before it counts as left by a crash.
const TEMPORARY_MAX: Duration = Duration::from_secs(3600);

/// The files.
#[derive(Debug, Clone)]
pub(super) struct Results {
    dir: PathBuf,
}

impl Results {
    /// In `dir`, which is made.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        durable::create_dir(&dir)?;
        Ok(Self { dir })
    }

    fn folder(&self, id: JobId) -> PathBuf {
        self.dir.join(&id.to_string()[..2])
    }

    fn path(&self, id: JobId, secret: ResultSecret) -> PathBuf {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.to_text().as_bytes());
        self.folder(id).join(format!("{id}-{}.jpg", hex(digest.as_ref())))
    }

    /// Stores a result: when this returns it is on the disk, whole.
    pub(super) fn put(&self, id: JobId, secret: ResultSecret, body: &[u8]) -> io::Result<()> {
        let (folder, path) = (self.folder(id), self.path(id, secret));
        durable::create_dir(&folder)?;
        let temporary = folder.join(format!("{id}.tmp"));
        let written = write_synced(&temporary, body).and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        durable::sync_dir(&folder)
    }

    /// A result and how old it is.
    pub(super) fn get(&self, id: JobId, secret: ResultSecret) -> io::Result<Option<(Bytes, Duration)>> {
        let path = self.path(id, secret);
        let age = match fs::metadata(&path) {
            Ok(metadata) => age(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match fs::read(&path) {
            Ok(body) => Ok(Some((body.into(), age))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what is older than `age_max`, and what a crash left half written. How many results went.
    pub(super) fn expire(&self, age_max: Duration) -> io::Result<u64> {
        let mut n_removed = 0;
        for folder in fs::read_dir(&self.dir)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(&folder)? {
                let file = file?;
                // Another round may have been quicker.
                let Ok(metadata) = file.metadata() else { continue };
                let is_result = file.path().extension().is_some_and(|extension| extension == "jpg");
                let limit = if is_result { age_max } else { TEMPORARY_MAX };
                if age(&metadata) > limit && fs::remove_file(file.path()).is_ok() {
                    n_removed += u64::from(is_result);
                }
            }
        }
        Ok(n_removed)
    }
}

fn write_synced(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(body)?;
    file.sync_data()
}

/// None where the clock was set back.
fn age(metadata: &fs::Metadata) -> Duration {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    SystemTime::now().duration_since(modified).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_age(path: &Path, age: Duration) {
        let file = fs::File::options().write(true).open(path).expect("a file");
        file.set_modified(SystemTime::now() - age).expect("its time");
    }

    #[test]
    fn a_result_is_found_by_its_secret_alone_until_its_time() {
        let temp = tempfile::tempdir().expect("a directory");
        let results = Results::open(temp.path().join("results")).expect("open");
        let (id, secret) = (JobId::random().expect("id"), ResultSecret::random().expect("secret"));
        assert!(results.get(id, secret).expect("look").is_none());
        results.put(id, secret, b"first").expect("put");
        results.put(id, secret, b"picture").expect("put again");
        let (body, age) = results.get(id, secret).expect("look").expect("there");
        assert!(body == "picture" && age < Duration::from_secs(60));
        let other = ResultSecret::random().expect("secret");
        assert!(results.get(id, other).expect("look").is_none());
        let name = results.path(id, secret).display().to_string();
        assert!(!name.contains(&secret.to_text()), "{name}");

        let hour = Duration::from_secs(3600);
        assert_eq!(results.expire(hour).expect("look"), 0);
        set_age(&results.path(id, secret), hour + Duration::from_secs(60));
        let temporary = results.folder(id).join("left.tmp");
        fs::write(&temporary, b"half").expect("a file");
        assert_eq!(results.expire(hour).expect("look"), 1);
        assert!(temporary.exists(), "it may be in use");
        set_age(&temporary, TEMPORARY_MAX + Duration::from_secs(60));
        assert_eq!(results.expire(hour).expect("look"), 0);
        assert!(!temporary.exists() && results.get(id, secret).expect("look").is_none());
    }
}
