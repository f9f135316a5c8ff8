//! Interfaces of other products, answered from the same footage. They import nothing of each other.

pub(crate) mod jobs;
pub(crate) mod kinesis;
mod sigv4;
