//! Clips against FFmpeg's own decoding: which frame is shown, how much is read for it, and what damage does.
//!
//! Fixtures are made by the `ffmpeg` program when the tests run; every frame looks different from every other.

mod damage;
mod fixture;
mod reads;
mod shown;
