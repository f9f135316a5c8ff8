//! Values with a unit: durations (`10s`) and sizes (`20GiB`). Whole numbers, a unit always, no sums.

use std::time::Duration;

/// What a fault says of a text that is no duration.
pub(super) const DURATION: &str = "not a duration; write a number with ms, s, m, h or d, such as \"10s\"";

/// What a fault says of a text that is no size.
pub(super) const BYTES: &str =
    "not a size; write a number with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as \"8MiB\"";

const DURATION_UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A duration of whole milliseconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    with_unit(text, &DURATION_UNITS_MS).map(Duration::from_millis)
}

/// A number of bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    with_unit(text, &SIZE_UNITS)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_len);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_duration(text: &str, ms: Option<u64>) {
        assert_eq!(parse_duration(text), ms.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn durations() {
        check_duration("0s", Some(0));
        check_duration("500ms", Some(500));
        check_duration("10s", Some(10_000));
        check_duration("5m", Some(300_000));
        check_duration("1h", Some(3_600_000));
        check_duration("30d", Some(2_592_000_000));
        for wrong in [
            "",
            "10",
            "s",
            "10x",
            "-1s",
            "+1s",
            "1.5s",
            "10 s",
            "1h30m",
            "10S",
            "99999999999999999999d",
            "213503982335d",
        ] {
            check_duration(wrong, None);
        }
    }

    fn check_bytes(text: &str, bytes: Option<u64>) {
        assert_eq!(parse_bytes(text), bytes, "{text:?}");
    }

    #[test]
    fn sizes() {
        check_bytes("0B", Some(0));
        check_bytes("512B", Some(512));
        check_bytes("8MiB", Some(8 << 20));
        check_bytes("20GiB", Some(20 << 30));
        check_bytes("4KiB", Some(4096));
        check_bytes("1TiB", Some(1 << 40));
        check_bytes("3kB", Some(3000));
        check_bytes("3MB", Some(3_000_000));
        check_bytes("3GB", Some(3_000_000_000));
        for wrong in ["", "10", "GiB", "1.5GiB", "-1B", "8 MiB", "8mib", "8M", "99999999TiB"] {
            check_bytes(wrong, None);
        }
    }
}
