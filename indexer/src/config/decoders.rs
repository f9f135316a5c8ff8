//! `[decoders]`: the processes that touch media, how many, and what each may take.

use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::Settings;

/// `[decoders]`
#[derive(Debug, Clone)]
pub struct Decoders {
    /// The decoder's program; absent: beside the running program, see [`Decoders::program_path`].
    pub program: Option<PathBuf>,
    /// The most decoders at work at once.
    pub running_max: usize,
    /// The most requests that wait for one; further ones are refused at once.
    pub queued_max: usize,
    /// For one keyframe.
    pub deadline: Duration,
    /// For one scan of a recording.
    pub scan_deadline: Duration,
    /// For one exact frame.
    pub exact_deadline: Duration,
    /// The most pictures decoded for one exact frame.
    pub exact_frames_max: u32,
    /// The memory of one decoder in bytes.
    pub memory_max: u64,
}

impl Decoders {
    pub(super) fn read(settings: &Settings) -> Self {
        let decoders = settings.section("decoders");
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let program_doc = "The decoder's program; absent: `stills-decoder` beside the running program.";
        let running_doc = "The most decoders at work at once; absent: one per core.";
        let queued_doc = "The most requests that wait for a decoder; further ones get 503.";
        let frames_doc = "The most pictures decoded for one exact frame.";
        let program = decoders.optional_text("program", program_doc).map(PathBuf::from);
        Self {
            program,
            running_max: decoders.optional_integer("running_max", 1..=1024, running_doc).unwrap_or(cores),
            queued_max: decoders.integer("queued_max", 64, 0..=100_000, queued_doc),
            deadline: decoders.duration("deadline", "5s", "100ms"..="5m", "For one keyframe."),
            scan_deadline: decoders.duration("scan_deadline", "60s", "1s"..="1h", "For one scan of a recording."),
            exact_deadline: decoders.duration("exact_deadline", "30s", "100ms"..="10m", "For one exact frame."),
            exact_frames_max: decoders.integer("exact_frames_max", 600, 1..=100_000, frames_doc),
            memory_max: decoders.bytes("memory_max", "1GiB", "64MiB"..="64GiB", "The memory of one decoder."),
        }
    }

    /// Where the decoder's program is. Fails only where the running program cannot tell its own path.
    pub fn program_path(&self) -> io::Result<PathBuf> {
        match &self.program {
            Some(program) => Ok(program.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("stills-decoder")),
        }
    }
}
