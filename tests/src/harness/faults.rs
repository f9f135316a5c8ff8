//! Calls to the disk that fail in a running server, by libfiu under it.

use std::path::PathBuf;
use std::process::Command;

use super::setup::Home;

/// How it is told to a server which calls fail.
#[derive(Debug)]
pub struct Faults {
    control: PathBuf,
}

impl Faults {
    /// Has the server of `home` started under libfiu from now on; no call fails yet.
    pub fn under(home: &mut Home) -> Self {
        let control = home.path("fiu");
        let command = ["fiu-run", "-x", "-f", &control.display().to_string()].map(str::to_owned);
        home.set_under(command.to_vec());
        Self { control }
    }

    /// Has calls of the process `id` fail: each is a point of failure such as `posix/io/rw/pwrite`, how often of a
    /// hundred, and the error's number.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn begin(&self, id: u32, faults: &[(&str, u32, i32)]) {
        let order = |(point, percent, error): &(&str, u32, i32)| {
            let probability = f64::from(*percent) / 100.0;
            format!("enable_random name={point},probability={probability:.2},failinfo={error}")
        };
        self.order(id, faults.iter().map(order).collect());
    }

    /// Has them succeed again.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn end(&self, id: u32, points: &[&str]) {
        self.order(id, points.iter().map(|point| format!("disable name={point}")).collect());
    }

    fn order(&self, id: u32, orders: Vec<String>) {
        let mut command = Command::new("fiu-ctrl");
        command.arg("-f").arg(&self.control);
        for order in orders {
            command.args(["-c", &order]);
        }
        let done = command.arg(id.to_string()).output().expect("fiu-ctrl, which scripts/setup installs");
        assert!(done.status.success(), "{done:?}");
    }
}
