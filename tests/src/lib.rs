//! What the end-to-end tests and the demo share: footage whose pictures say when they were taken, the rules of the
//! contract as plain models to compare against, a harness that starts the real programs,
//! and rounds in which something breaks.

pub mod footage;
pub mod harness;
pub mod torture;
