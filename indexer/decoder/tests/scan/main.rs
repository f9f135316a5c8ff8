//! Scans of real files against what FFmpeg's own demuxers say of them: every keyframe's instant, every packet's bytes.
//!
//! Fixtures are made by the `ffmpeg` program when the tests run; nothing is downloaded and nothing binary is kept.

mod fixture;
mod mkv;
mod mp4;
mod reference;
mod ts;
