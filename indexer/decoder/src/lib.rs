//! What happens inside a decoder worker: scan media to a keyframe index, render one keyframe or
//! the exact frames between two, show an image file.
//!
//! Synchronous, one request at a time; gets bytes, never a path, a URL or a socket other than its own.
//! The only crate that links FFmpeg.

pub mod clip;
pub mod exact;
pub mod image_file;
pub mod packets;
pub mod parent;
pub mod remote;
pub mod render;
pub mod scan;
pub mod serve;

mod av1;
mod bisect;
mod colour;
mod frame;
mod geometry;
mod jpeg;
mod luma;
mod plane;
mod png;
mod webp;
