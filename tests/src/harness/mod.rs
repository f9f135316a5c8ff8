//! Starts the real programs on ports and directories of their own, and talks to them as the outside does.
//!
//! 1. A [`Setup`] says what differs from the usual configuration; [`Setup::start`] gives a running [`Stills`].
//! 2. [`token`] and [`signed`] make credentials by the published recipes, without the code under test.
//! 3. [`event`] words recording events; [`Stills::record`] announces footage and waits until it is indexed.
//! 4. [`Stills::get`] and its like ask over HTTP and give an [`Answer`]; [`raw`] sends what no client would.
//! 5. What was started is stopped when it is dropped, by its process id; its logs are printed where a test fails.
//!
//! Nothing here sleeps: [`wait::until`] waits for conditions, with a deadline.

#![expect(clippy::panic, reason = "a test that cannot go on has failed, and says why")]

pub mod bucket;
pub mod dice;
pub mod event;
pub mod faults;
pub mod http;
pub mod media_server;
pub mod metrics;
pub mod nginx;
pub mod procfs;
pub mod program;
pub mod python;
pub mod raw;
pub mod receiver;
pub mod setup;
pub mod signed;
pub mod site;
pub mod stills;
pub mod tmpfs;
pub mod token;
pub mod wait;

pub use event::Camera;
pub use http::{Answer, Ask};
pub use media_server::MediaServer;
pub use metrics::Samples;
pub use setup::Setup;
pub use site::Site;
pub use stills::{Search, Stills};

/// The user of most tests.
pub const USER: &str = "627d8ca8297a3d00019e2abb";

/// Another user.
pub const OTHER_USER: &str = "627d8ca8297a3d00019e2abc";

/// A device of [`USER`] in most tests.
pub const DEVICE: &str = "627d911f7f58e4f344ca726c";

/// Another device of [`USER`].
pub const OTHER_DEVICE: &str = "627d911f7f58e4f344ca726d";

/// A start on a grid of 10 s: 2025-09-08 22:53:00 UTC.
pub const START: i64 = 1_757_371_980_000;

/// What listed URLs begin with: no test depends on resolving it.
pub const PUBLIC_HOST: &str = "http://stills.test";
