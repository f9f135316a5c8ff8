//! Media over the network, against real servers on this machine: one of the tests' own, which does what servers should
//! not, and an S3-compatible store.

mod engine;
mod guard;
mod http;
mod s3;
mod server;
mod sources;
mod spellings;
