//! Media for the tests, and how the scanner is given it.

use std::path::{Path, PathBuf};
use std::process::Command;

use stills_decoder::scan::{Media, scan};
use stills_model::fault::{Fault, FaultKind};
use stills_model::keyframe_index::KeyframeIndex;
use stills_model::wire::READ_LEN_MAX;
use tempfile::TempDir;

/// Makes a file by `ffmpeg`; `args` are split at spaces and stand between the program and the file's name.
pub(crate) fn make(dir: &TempDir, name: &str, args: &str) -> PathBuf {
    let path = dir.path().join(name);
    let args = args.split_whitespace().filter(|arg| !arg.is_empty());
    let status = Command::new("ffmpeg").args(["-v", "error", "-y", "-nostdin"]).args(args).arg(&path).status();
    assert!(status.expect("ffmpeg runs").success(), "ffmpeg makes {name}");
    path
}

/// A moving picture with sound, `seconds` long.
pub(crate) fn source(seconds: u32) -> String {
    format!(
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration={seconds} \
         -f lavfi -i sine=frequency=440:sample_rate=48000:duration={seconds} -c:a aac"
    )
}

/// A file in memory that counts what is read of it.
pub(crate) struct Counted {
    pub(crate) bytes: Vec<u8>,
    pub(crate) read: u64,
    pub(crate) reads: u32,
}

impl Counted {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: 0, reads: 0 }
    }

    pub(crate) fn open(path: &Path) -> Self {
        Self::new(std::fs::read(path).expect("the fixture is there"))
    }
}

impl Media for Counted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
        assert!(len > 0 && len <= READ_LEN_MAX, "a read of {len} bytes");
        let from = usize::try_from(offset).expect("offset");
        let bytes = self.bytes.get(from..from + len as usize);
        let bytes = bytes.ok_or_else(|| Fault::new(FaultKind::Internal, "a read past the end"))?;
        self.read += u64::from(len);
        self.reads += 1;
        Ok(bytes.to_vec())
    }
}

/// A whole file's index.
pub(crate) fn index(bytes: &[u8]) -> Result<KeyframeIndex, Fault> {
    let found = scan(&mut Counted::new(bytes.to_vec()), false, &[]);
    if let Err(fault) = &found {
        assert_ne!(fault.kind, FaultKind::Internal, "{fault}");
    }
    found
}

/// Scans a file that grows by the given lengths, each scan going on from the one before.
pub(crate) fn grow(bytes: &[u8], lens: &[usize]) -> KeyframeIndex {
    let mut resume = Vec::new();
    for &len in lens {
        if let Ok(index) = scan(&mut Counted::new(bytes[..len].to_vec()), true, &resume) {
            resume = index.resume;
        }
    }
    scan(&mut Counted::new(bytes.to_vec()), false, &resume).expect("the whole file")
}

/// Cuts and flips bits all over a file: scans may fail, but neither panic nor run on.
pub(crate) fn torture(bytes: &[u8]) {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).expect("below")
    };
    for round in 0..60 {
        let cut = if round < 30 { round * 40 } else { random(bytes.len()) };
        let cut = &bytes[..cut.min(bytes.len())];
        let _ = index(cut);
        let whole = scan(&mut Counted::new(cut.to_vec()), true, &[]);
        let resume = whole.map(|index| index.resume).unwrap_or_default();
        scan(&mut Counted::new(bytes.to_vec()), false, &resume).expect("what was cut is whole again");
    }
    for round in 0..300 {
        let mut broken = bytes.to_vec();
        for _ in 0..=round % 8 {
            // Headers stand at the front and at the back of most files.
            let place = match round % 3 {
                0 => random(broken.len()),
                1 => random(broken.len().min(3000)),
                _ => broken.len() - 1 - random(broken.len().min(3000)),
            };
            broken[place] ^= 1 << random(8);
            if round % 5 == 0 {
                broken[place] = 0xff;
            }
        }
        let _ = index(&broken);
    }
}
