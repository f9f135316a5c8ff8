//! The library behind both programs: recording events in, keyframe indexes and thumbs out.
//!
//! `main → run → pipeline → thumbs → {cache, catalog, decode, source}`, `run → images → {uploads, decode}`,
//! `run → clips → {source, decode}`: leaves never import each other, only `thumbs`, `images`, `clips` and `pipeline`
//! compose them, and `jobs` on top of `clips`. `recovery` looks after the stores while they run.

pub mod config;
mod recovery;
pub mod run;

pub mod clips;
pub mod images;
pub mod jobs;
pub mod pipeline;
pub mod thumbs;

pub mod events;

pub mod backfill;
pub mod cache;
pub mod catalog;
pub mod data_dir;
pub mod decode;
pub mod disk;
mod durable;
pub mod journal;
pub mod layout;
pub mod live;
pub mod maintain;
mod marker;
mod recent;
pub mod source;
pub mod uploads;

pub mod clock;
pub mod metrics;
pub mod telemetry;
pub mod threads;
mod watched;
