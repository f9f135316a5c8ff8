//! `stills-indexer backfill`: tells an origin of footage that is there already. It reads names, never media.
//!
//! 1. [`walk`] goes through the files of each [`place`] in a fixed order, a directory at a time, on a thread of its own;
//! 2. the layouts of `[media.layout]` tell from each name whose recording it is and when it begins;
//! 3. [`announce`] makes its event: the same file in the same state gives the same event, always;
//! 4. [`post`] sends batches, waits where the origin asks for it, and tries again where that helps;
//! 5. after each answer [`state`] remembers how far it came, so that a run that was stopped goes on there;
//! 6. [`progress`] shows it, [`made`] what the origin makes of it; [`run`] composes them.
//!
//! [`watch`] does the same for footage that is being recorded.

pub mod announce;
pub mod arguments;
pub mod made;
pub mod place;
pub mod post;
pub mod progress;
pub mod run;
pub mod state;
pub mod walk;
pub mod watch;
