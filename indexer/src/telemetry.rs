//! Logs: one JSON object a line on stdout, panics too. Never a token, a signature or a secret.
//!
//! Whoever logs a URL or a request's target passes it through [`redact_uri`] first.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use tracing::{Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::fault::without_user_information;

/// The longest URI, in characters, that a log line shows: a signed window is half of it.
const URI_CHARS_MAX: usize = 512;

/// Starts logging of this level and above for the whole program. To be called once, first thing after the
/// configuration is read; a second call changes nothing.
pub fn start(level: Level) {
    if tracing::subscriber::set_global_default(subscriber(level, std::io::stdout)).is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

fn subscriber(level: Level, writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) -> impl Subscriber {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_timer(WallClock)
        .with_max_level(level)
        // A log that cannot be written must not write about it: the reader is gone.
        .log_internal_errors(false)
        .with_writer(writer)
        .finish()
}

/// RFC 3339 with milliseconds, in UTC.
struct WallClock;

impl FormatTime for WallClock {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{:.3}", jiff::Timestamp::now())
    }
}

/// One line for a panic, with a backtrace where `RUST_BACKTRACE` asks for one.
fn log_panic(info: &PanicHookInfo<'_>) {
    let panic = panic_text(info.payload());
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(panic, location, thread, backtrace, "panicked");
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a text")
}

/// A URI as a log may show it: without user information, query (signatures, tokens), fragment and the secret of a
/// job's result, and of bounded length.
pub fn redact_uri(uri: &str) -> String {
    let path_len = uri.find(['?', '#']).unwrap_or(uri.len());
    let mut shown = without_user_information(&uri[..path_len]);
    if let Some(jobs) = shown.find("/v1/jobs/") {
        let id_start = jobs + "/v1/jobs/".len();
        if let Some(id_len) = shown[id_start..].find('/') {
            shown.truncate(id_start + id_len);
            shown.push_str("/***");
        }
    }
    if let Some((cut, _)) = shown.char_indices().nth(URI_CHARS_MAX) {
        shown.truncate(cut);
        shown.push('…');
    }
    if path_len < uri.len() {
        shown.push_str("?***");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::panic::panic_any;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes at a level, a JSON value for each line.
    fn logged(level: Level, log: impl FnOnce()) -> Vec<serde_json::Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(level, move || writer.clone()), log);
        let bytes = lines.0.lock().expect("lock").clone();
        let text = String::from_utf8(bytes).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn one_flat_object_a_line() {
        let lines = logged(Level::INFO, || {
            tracing::info!(recording = "r-1", keyframes = 30, "two\nlines");
            tracing::debug!("too much");
            tracing::warn!("second");
        });
        assert_eq!(lines.len(), 2);
        let line = &lines[0];
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(line["recording"], "r-1");
        assert_eq!(line["keyframes"], 30);
        assert_eq!(line["target"], "stills_indexer::telemetry::tests");
        let timestamp = line["timestamp"].as_str().expect("timestamp");
        assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
        assert_eq!(timestamp.len(), "2026-11-21T10:00:00.000Z".len(), "{timestamp}");
    }

    #[test]
    fn a_panic_is_one_line() {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let lines = logged(Level::ERROR, || {
            for text in ["first", "second"] {
                assert!(std::panic::catch_unwind(|| panic_any(format!("{text}\nand more"))).is_err());
            }
            assert!(std::panic::catch_unwind(|| panic_any("plain")).is_err());
        });
        std::panic::set_hook(before);
        let texts: Vec<_> = lines.iter().map(|line| line["panic"].as_str().expect("text")).collect();
        assert_eq!(texts, ["first\nand more", "second\nand more", "plain"]);
        assert_eq!(lines[0]["message"], "panicked");
        assert!(lines[0]["location"].as_str().expect("location").contains("telemetry.rs:"));
    }

    fn check(uri: &str, expected: &str) {
        assert_eq!(redact_uri(uri), expected, "{uri}");
    }

    #[test]
    fn uris() {
        check("/a/b", "/a/b");
        check("/a/b?expires=1&key=k&signature=s", "/a/b?***");
        check("/a/b#token", "/a/b?***");
        check("/a/b?x=http://c/d", "/a/b?***");
        check("https://me:pass@host/a?b", "https://***@host/a?***");
        check("s3://bucket/key", "s3://bucket/key");
        check("/v1/jobs/12/hush.jpg", "/v1/jobs/12/***");
        check("http://host/prefix/v1/jobs/12/hush.jpg?a", "http://host/prefix/v1/jobs/12/***?***");
        check("/v1/jobs/12", "/v1/jobs/12");
        check("", "");
        check(&"é".repeat(600), &format!("{}…", "é".repeat(URI_CHARS_MAX)));
    }
}
