//! Programs in Python, for clients that users have and that are not to be imitated. Finds the interpreter that has their
//! libraries; each program reads JSON and writes JSON.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The folder of the programs.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

/// The interpreter on `PATH` that has the libraries which `scripts/setup` installs.
///
/// # Panics
/// When there is none.
fn interpreter() -> &'static PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let has_libraries = |python: &PathBuf| {
            let mut command = Command::new(python);
            command.args(["-c", "import boto3, requests"]).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let all = std::env::split_paths(&path).map(|folder| folder.join("python3"));
        let found = all.filter(|python| python.is_file()).find(has_libraries);
        found.expect("no python3 on PATH has boto3 and requests: scripts/setup installs them")
    })
}

/// Runs a program of the folder with `input`, and gives what it writes.
///
/// # Panics
/// When it fails or writes no JSON.
pub async fn run(program: &str, input: &Value) -> Value {
    let (program, input) = (format!("{FOLDER}/{program}"), input.to_string());
    // It blocks, and what it asks may be answered by this very test.
    let ran = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(interpreter());
        command.arg(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("python3 starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("its input");
        drop(stdin);
        let output = child.wait_with_output().expect("its output");
        assert!(output.status.success(), "{program}: {}", output.status);
        output.stdout
    });
    let stdout = ran.await.expect("a thread");
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stdout)))
}
