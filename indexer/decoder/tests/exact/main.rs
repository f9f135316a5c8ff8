//! Exact frames of real files against FFmpeg's own decoding: which frame answers, when it is presented, how it looks.
//!
//! Fixtures are made by the `ffmpeg` program when the tests run. Every frame looks different from every other, so the
//! picture itself says which one it is.

mod containers;
mod fixture;
mod limits;
