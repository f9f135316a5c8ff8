//! A recording id from a path: the same path, the same id; two paths, two ids.
//!
//! A path of plain characters keeps itself, with `~` for `/`, so that people recognise it. Any other (a `~`, a
//! space, a letter beyond ASCII, too long) is `~` and 40 hexadecimal digits of its SHA-256: no path begins with
//! `/`, so the two forms never meet.

use sha2::{Digest, Sha256};
use stills_model::id::RecordingId;

/// Hexadecimal digits of the digest: 160 bits, beyond any chance of meeting.
const DIGITS: usize = 40;

/// The id of a path that is relative and not empty.
pub(super) fn of_path(path: &str) -> RecordingId {
    let is_plain = !path.contains('~') && !path.starts_with('/');
    let plain = if is_plain { path.replace('/', "~").parse().ok() } else { None };
    plain.unwrap_or_else(|| digested(path))
}

fn digested(path: &str) -> RecordingId {
    let digest = Sha256::digest(path.as_bytes());
    let mut text = String::from("~");
    text.extend(digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")));
    text.parse().unwrap_or_else(|_| unreachable!("a tilde and hexadecimal digits are an id"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(path: &str, expected: &str) {
        assert_eq!(of_path(path).as_str(), expected, "{path:?}");
    }

    #[test]
    fn plain_paths_stay_readable() {
        check("1757371980000.mp4", "1757371980000.mp4");
        check("2026-11-21/10/front_door/03.20.mp4", "2026-11-21~10~front_door~03.20.mp4");
        check("a~b.mp4", "~9b9310fc56cc8fc58d84090150acad403e8a0e9c");
        check("Küche/1.mp4", "~1b2779638cb047f54307916c9c2816104b94530c");
    }

    proptest! {
        #[test]
        fn two_paths_have_two_ids(a in "[ab/~ é]{1,6}", b in "[ab/~ é]{1,6}") {
            prop_assert_eq!(of_path(&a) == of_path(&b), a == b);
        }

        #[test]
        fn any_path_has_one(path in "\\PC{1,300}") {
            prop_assert!(of_path(&path).as_str().len() <= RecordingId::LEN_MAX);
        }
    }
}
