//! Media as a worker sees it: every byte is asked for over the socket, with one window of read-ahead.
//!
//! Small reads are widened to a window, so that a walk over box headers does not cost a round trip per header.
//! The window doubles while reads go on where the last window ended, and falls back after a jump. Nothing past
//! the file's end is ever asked for.

use std::io::{self, Read, Write};

use stills_model::fault::{Fault, FaultKind};
use stills_model::wire::{MESSAGE_LEN_MAX, READ_LEN_MAX, Reply, Request};

use crate::scan::Media;
use crate::serve::{receive, send};

/// The window after a jump: a few box or cluster headers, and less than one keyframe, so that little is wasted.
const WINDOW_LEN_MIN: u32 = 32 * 1024;

/// The window that sequential reading grows to.
const WINDOW_LEN_MAX: u32 = 1024 * 1024;

/// The same for media of which little is read, and each byte counts.
const WINDOW_LEN_MAX_CAREFUL: u32 = 64 * 1024;

/// And after a jump: nine looks at pictures that are all flagged as keyframes stay below 256 KiB.
const WINDOW_LEN_MIN_CAREFUL: u32 = 16 * 1024;

/// A media file behind the socket.
#[derive(Debug)]
pub struct RemoteMedia<'a, S> {
    socket: &'a mut S,
    len: u64,
    window_offset: u64,
    window: Vec<u8>,
    /// How long the next window is.
    ahead: u32,
    /// How long it is after a jump, and how long it may grow.
    ahead_min: u32,
    ahead_max: u32,
}

impl<'a, S: Read + Write> RemoteMedia<'a, S> {
    /// A file of `len` bytes.
    pub fn new(socket: &'a mut S, len: u64) -> Self {
        Self {
            socket,
            len,
            window_offset: 0,
            window: Vec::new(),
            ahead: WINDOW_LEN_MIN,
            ahead_min: WINDOW_LEN_MIN,
            ahead_max: WINDOW_LEN_MAX,
        }
    }

    /// A file of `len` bytes that is read ahead of by little.
    pub fn careful(socket: &'a mut S, len: u64) -> Self {
        let (ahead_min, ahead_max) = (WINDOW_LEN_MIN_CAREFUL, WINDOW_LEN_MAX_CAREFUL);
        Self { ahead: ahead_min, ahead_min, ahead_max, ..Self::new(socket, len) }
    }

    /// One round trip.
    fn fetch(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
        let broken = |error: io::Error| Fault::new(FaultKind::Internal, format!("the worker's socket: {error}"));
        send(self.socket, &Reply::Read { offset, len }.encode()).map_err(broken)?;
        let message = receive(self.socket).map_err(broken)?;
        match Request::decode(&message) {
            Ok(Request::Bytes(bytes)) if bytes.len() == len as usize => Ok(bytes),
            Ok(Request::ReadFailed(fault)) => Err(fault),
            _ => Err(broken(io::Error::other("an answer that fits no read"))),
        }
    }

    /// The part of the window from `offset` on, at most `len` bytes; empty when `offset` is not in it.
    fn at_hand(&self, offset: u64, len: u32) -> &[u8] {
        let Some(start) = offset.checked_sub(self.window_offset).and_then(|start| usize::try_from(start).ok()) else {
            return &[];
        };
        let rest = self.window.get(start..).unwrap_or_default();
        &rest[..rest.len().min(len as usize)]
    }

    /// Moves the window to `offset`, where at least `len_min` bytes are, and covers those.
    fn move_window(&mut self, offset: u64, len_min: u32) -> Result<(), Fault> {
        let goes_on = !self.window.is_empty() && offset == self.window_offset + self.window.len() as u64;
        self.ahead = if goes_on { (self.ahead * 2).min(self.ahead_max) } else { self.ahead_min };
        let len = u32::try_from(self.len - offset).unwrap_or(u32::MAX).min(self.ahead.max(len_min));
        self.window = self.fetch(offset, len)?;
        self.window_offset = offset;
        Ok(())
    }
}

impl<S: Read + Write> Media for RemoteMedia<'_, S> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&mut self, offset: u64, len: u32) -> Result<Vec<u8>, Fault> {
        if offset.checked_add(len.into()).is_none_or(|end| end > self.len) {
            let detail = format!("{len} bytes at {offset} leave the file, which has {}", self.len);
            return Err(Fault::new(FaultKind::Damaged, detail));
        }
        if len as usize > MESSAGE_LEN_MAX {
            let detail = format!("a structure of {len} bytes; {MESSAGE_LEN_MAX} are allowed");
            return Err(Fault::new(FaultKind::TooLarge, detail));
        }
        let mut bytes = self.at_hand(offset, len).to_vec();
        loop {
            let at = offset + bytes.len() as u64;
            let missing = len - u32::try_from(bytes.len()).unwrap_or(len);
            if missing == 0 {
                return Ok(bytes);
            }
            if missing < self.ahead_max {
                self.move_window(at, missing)?;
                bytes.extend_from_slice(self.at_hand(at, missing));
            } else {
                // Long reads would only push useful bytes out of the window.
                bytes.extend(self.fetch(at, missing.min(READ_LEN_MAX))?);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::net::UnixStream;

    /// Reads what `reads` asks for from a file of `len` bytes; gives the bytes and counts the round trips.
    fn read_all(len: u32, reads: &[(u64, u32)]) -> (Vec<Result<Vec<u8>, Fault>>, usize) {
        let (mut ours, mut theirs) = UnixStream::pair().expect("socketpair");
        let file = file(len);
        let thread = std::thread::spawn(move || {
            let mut trips = 0;
            while let Ok(message) = receive(&mut theirs) {
                let Ok(Reply::Read { offset, len }) = Reply::decode(&message) else { unreachable!("not a read") };
                assert!(len > 0 && len <= READ_LEN_MAX);
                let start = usize::try_from(offset).expect("small");
                let answer = Request::Bytes(file[start..start + len as usize].to_vec());
                send(&mut theirs, &answer.encode()).expect("answer");
                trips += 1;
            }
            trips
        });
        let mut media = RemoteMedia::new(&mut ours, len.into());
        let results = reads.iter().map(|&(offset, len)| media.read(offset, len)).collect();
        drop(ours);
        (results, thread.join().expect("reads stay inside the file"))
    }

    fn file(len: u32) -> Vec<u8> {
        (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn reads_give_the_files_bytes(
            len in 0u32..3_000_000,
            reads in prop::collection::vec((0u64..3_100_000, prop_oneof![0u32..64, 0u32..200_000, 0u32..3_000_000]), 1..12),
        ) {
            let file = file(len);
            let (results, _) = read_all(len, &reads);
            for (result, (offset, n)) in results.into_iter().zip(reads) {
                let start = usize::try_from(offset).expect("small");
                match file.get(start..start + n as usize) {
                    Some(expected) => prop_assert!(result.is_ok_and(|bytes| bytes == expected)),
                    None => prop_assert!(result.is_err_and(|fault| fault.kind == FaultKind::Damaged)),
                }
            }
        }
    }

    #[test]
    fn small_reads_share_round_trips() {
        let check = |len: u32, reads: &[(u64, u32)], trips: usize| {
            let (results, counted) = read_all(len, reads);
            assert!(results.iter().all(Result::is_ok));
            assert_eq!(counted, trips, "{reads:?}");
        };
        check(100, &[(0, 8), (8, 8), (92, 8)], 1);
        check(1 << 20, &[(0, 0)], 0);
        // A header here, a header far away, and back.
        check(1 << 20, &[(0, 16), (900_000, 16), (900_016, 4), (0, 16)], 3);
        // A megabyte in small steps: 32, 64, 128, 256, 512 KiB and the rest.
        let steps: Vec<(u64, u32)> = (0..1024).map(|n| (n * 1024, 1024)).collect();
        check(1 << 20, &steps, 6);
        // A middling read takes one, and what follows is in the window only as far as that goes.
        check(1 << 20, &[(0, 500_000)], 1);
        check(1 << 20, &[(0, 30_000), (30_000, 2_000), (32_000, 768)], 1);
        // One long read goes through at once, a very long one in pieces.
        check(9 << 20, &[(0, 4 << 20)], 1);
        check(9 << 20, &[(0, 9 << 20)], 3);
    }
}
