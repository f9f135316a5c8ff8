//! The domain of Stills: what a recording, a keyframe, coverage and a thumb are, and the rules between them.
//!
//! No IO, no clock, no async and no serde: the service and the sandboxed decoder share these types without
//! sharing anything else. Wire shapes (JSON, HTTP) live at the edge that speaks them; the only formats here
//! are the compact binary ones of [`codec`], which the journal, the catalog and the decoder's socket use.
//!
//! Reading order: ids and time, events, recordings and coverage, keyframes and the frame rule, thumbs, wire.

pub mod codec;
pub mod column;
mod hex;
pub mod id;
pub mod time;

pub mod event;

pub mod coverage;
pub mod grid;

pub mod keyframe;
pub mod keyframe_index;
mod keyframe_page;
pub mod leap;

pub mod rendition;
pub mod thumb;

pub mod clip;
pub mod exact;
pub mod fault;
pub mod wire;
