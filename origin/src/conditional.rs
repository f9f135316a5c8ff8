//! Conditional requests: whether the client has the picture already.

use http::header;
use http::request::Parts;
use stills_model::thumb::ETag;

/// Whether the client has this picture (RFC 9110 section 13.1.2: weak comparison, or any).
pub(crate) fn is_known(parts: &Parts, etag: ETag) -> bool {
    let etag = format!("\"{etag}\"");
    let lists = parts.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
