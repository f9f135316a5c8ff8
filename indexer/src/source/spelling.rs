//! How a media URL may be written. There are many ways to write one path and parsers disagree on the odd ones,
//! so the odd ones are refused before any parser sees them: what was checked is then what will be read.

use percent_encoding::percent_decode_str;

/// (ours) As the events' own limit.
const URL_LEN_MAX: usize = 4096;

/// The longest file name of the usual file systems, in bytes.
const NAME_LEN_MAX: usize = 255;

/// Characters that some normalisation folds to a dot, a separator or a percent sign.
const LOOKALIKES: [char; 20] = [
    '\u{2024}', '\u{2025}', '\u{2026}', '\u{3002}', '\u{fe19}', '\u{fe30}', '\u{fe52}', '\u{ff0e}',
    '\u{ff61}', // dots
    '\u{2044}', '\u{2215}', '\u{29f8}', '\u{ff0f}', '\u{0338}', // slashes
    '\u{2216}', '\u{29f5}', '\u{fe68}', '\u{ff3c}', // backslashes
    '\u{fe6a}', '\u{ff05}', // percent signs
];

/// Cuts an absolute URL into scheme (as written) and what follows `://`.
pub(super) fn scheme(url: &str) -> Result<(&str, &str), &'static str> {
    if url.is_empty() || url.len() > URL_LEN_MAX {
        return Err("the URL must be 1 to 4096 bytes");
    }
    if url.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("the URL must hold no spaces, control characters or backslashes");
    }
    url.split_once("://").ok_or("the URL must be absolute, such as file:///recordings/1.mp4")
}

/// The authority of a URL that names a host: letters, digits, dots and hyphens (or an IPv6 literal), and a port.
pub(super) fn authority(text: &str) -> Result<(), &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err("the URL must name a host or bucket in plain letters, without user or password");
    }
    Ok(())
}

/// One segment of a path, percent-decoded: an ordinary name that means itself everywhere.
pub(super) fn name(segment: &str) -> Result<String, &'static str> {
    let name = percent_decode_str(segment).decode_utf8().map_err(|_| "the path must be UTF-8")?.into_owned();
    let odd = |c: char| c.is_control() || matches!(c, '/' | '\\') || LOOKALIKES.contains(&c);
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err("each name in the path must be 1 to 255 bytes: no empty ones, no doubled slashes");
    }
    if name.starts_with("..") || name.ends_with('.') || name.starts_with(' ') || name.ends_with(' ') {
        return Err("no name in the path may be . or .., begin with .. or a space, or end with a dot or a space");
    }
    if name.chars().any(odd) {
        return Err("no name in the path may hold a separator, a control character or a look-alike of . / \\ or %");
    }
    if decodes_again(&name) {
        return Err("the path must not be percent-encoded twice");
    }
    Ok(name)
}

/// Whether a percent sign is followed by two hexadecimal digits.
fn decodes_again(name: &str) -> bool {
    let is_escape = |w: &[u8]| w[0] == b'%' && w[1].is_ascii_hexdigit() && w[2].is_ascii_hexdigit();
    name.as_bytes().windows(3).any(is_escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(segment: &str, expected: Option<&str>) {
        assert_eq!(name(segment).ok().as_deref(), expected, "{segment:?}");
    }

    #[test]
    fn names_mean_themselves() {
        check("1757371980000.mp4", Some("1757371980000.mp4"));
        check("cam%201", Some("cam 1"));
        check("caf%C3%A9", Some("café"));
        check("größe", Some("größe"));
        check(".hidden", Some(".hidden"));
        check("a..b", Some("a..b"));
        check("a;b=c,d:e@f+g", Some("a;b=c,d:e@f+g"));
        check("100%", Some("100%"));
        check("100%25", Some("100%"));
        check(&"x".repeat(255), Some(&"x".repeat(255)));
        for refused in [
            "",
            ".",
            "..",
            "...",
            "..;",
            "..a",
            "a.",
            "a%2e",
            "%2e",
            "%2E%2e",
            ".%2e",
            "%20a",
            "a%20",
            "a%2fb",
            "a%5cb",
            "a%00b",
            "%0a",
            "%7f",
            "%c2%85",
            "%252e",
            "%25%32%65",
            "%ff",
            "%c0%ae",
            "\u{ff0e}\u{ff0e}x",
            "%EF%BC%8F",
            "a\u{2215}b",
        ] {
            check(refused, None);
        }
        check(&"x".repeat(256), None);
    }
}
