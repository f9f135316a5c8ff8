//! CloudEvents attributes as headers (binary mode of the HTTP and NATS bindings): `ce-id`, `ce-time`, ….

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::envelope::{Envelope, Field};

/// The attributes in the headers, or nothing when there is no `ce-*` header at all. Extensions are skipped.
pub(super) fn attributes<'h>(headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Option<Envelope<'static>> {
    let mut envelope = None;
    for (name, value) in headers {
        let Some(name) = attribute_name(name) else { continue };
        let envelope: &mut Envelope<'static> = envelope.get_or_insert_default();
        let field = match name.to_ascii_lowercase().as_str() {
            "specversion" => &mut envelope.specversion,
            "id" => &mut envelope.id,
            "source" => &mut envelope.source,
            "type" => &mut envelope.kind,
            "time" => &mut envelope.time,
            _ => continue,
        };
        *field = match field {
            Field::Absent => decoded(value),
            _ => Field::Other("a header given twice"),
        };
    }
    envelope
}

fn attribute_name(header: &str) -> Option<&str> {
    let (prefix, name) = header.split_at_checked(3)?;
    prefix.eq_ignore_ascii_case("ce-").then_some(name)
}

/// HTTP binding, 3.1.3.2: first unquoted, then percent-decoded once.
fn decoded(value: &[u8]) -> Field<'static> {
    let unquoted = match value {
        [b'"', inner @ .., b'"'] => Cow::Owned(unescaped(inner)),
        _ => Cow::Borrowed(value),
    };
    match String::from_utf8(percent_decode(&unquoted).collect()) {
        Ok(text) => Field::Text(Cow::Owned(text)),
        Err(_) => Field::Other("bytes that are not UTF-8"),
    }
}

/// A quoted string's content: a backslash stands before the byte that is meant (RFC 9110, 5.6.4).
fn unescaped(inner: &[u8]) -> Vec<u8> {
    let mut bytes = inner.iter();
    let mut plain = Vec::with_capacity(inner.len());
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: &str) {
        let field = decoded(value.as_bytes());
        assert!(matches!(&field, Field::Text(text) if text == expected), "{value:?}: {field:?}");
    }

    #[test]
    fn values_are_unquoted_then_decoded_once() {
        check("plain", "plain");
        check("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀");
        check("%2541", "%41");
        check("100%", "100%");
        check("%zz", "%zz");
        check(r#""a \"b\" \\ %41""#, r#"a "b" \ A"#);
        check(r#"""#, r#"""#);
        check("", "");
    }

    #[test]
    fn bytes_that_are_no_text_are_told() {
        assert!(matches!(decoded(b"%ff"), Field::Other("bytes that are not UTF-8")));
        assert!(matches!(decoded(b"\xff"), Field::Other("bytes that are not UTF-8")));
    }

    #[test]
    fn names_are_found_in_any_case_and_repeats_are_told() {
        assert!(attributes([("content-type", &b"x"[..]), ("ce", b"x"), ("cé-id", b"x")]).is_none());
        let envelope =
            attributes([("CE-Id", &b"1"[..]), ("ce-traceparent", b"x"), ("ce-type", b"a"), ("ce-type", b"b")]);
        let envelope = envelope.expect("attributes");
        assert!(matches!(&envelope.id, Field::Text(id) if id == "1"));
        assert!(matches!(envelope.kind, Field::Other("a header given twice")));
    }
}
