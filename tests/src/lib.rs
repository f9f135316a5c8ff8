//! What the end-to-end tests and the demo share: footage whose pictures say when they were taken, and the rules of
//! the contract as plain models to compare against.

pub mod footage;
