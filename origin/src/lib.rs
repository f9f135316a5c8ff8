//! The HTTP origin of Stills: search, pictures, recording events and who may touch which.

pub mod auth;
