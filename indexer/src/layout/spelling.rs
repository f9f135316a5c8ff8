//! How paths and keys are written as media URLs, the same by everyone who announces them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// RFC 3986: unreserved characters and the separator stay as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path or key, escaped for a URL.
pub fn escaped(path: &[u8]) -> String {
    percent_encode(path, ESCAPED).to_string()
}

/// `file:///…` of an absolute path.
pub fn file_url(path: &Path) -> String {
    format!("file://{}", escaped(path.as_os_str().as_bytes()))
}

/// `s3://{bucket}/{key}`.
pub fn s3_url(bucket: &str, key: &str) -> String {
    format!("s3://{bucket}/{}", escaped(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_is_escaped() {
        assert_eq!(file_url(Path::new("/srv/cam 1/ü~a-b_c.mp4")), "file:///srv/cam%201/%C3%BC~a-b_c.mp4");
        assert_eq!(s3_url("footage", "a/b+c=d:1.mp4"), "s3://footage/a/b%2Bc%3Dd%3A1.mp4");
    }
}
