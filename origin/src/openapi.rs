//! `GET /openapi.json`: the OpenAPI 3.1 document. Its text is data beside this file; only host and version are put in.

use http::header;
use serde_json::{Value, json};

use crate::app::{App, VERSION};
use crate::reply::Reply;

const DOCUMENT: &str = include_str!("openapi.json");

/// The document for this server.
pub(crate) fn document(app: &App) -> Reply {
    let config = app.config();
    let url = config.public.host.as_str().to_owned();
    let prefix = config.public.prefix.as_str();
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    document["info"]["version"] = json!(VERSION);
    document["servers"] = json!([{"url": url, "variables": {}}]);
    if !prefix.is_empty()
        && let Some(paths) = document["paths"].as_object_mut()
    {
        // Only what lies under a user is behind the prefix.
        let under: Vec<String> = paths.keys().filter(|path| path.starts_with("/{user_id}/")).cloned().collect();
        for path in under {
            if let Some(item) = paths.remove(&path) {
                paths.insert(format!("{prefix}{path}"), item);
            }
        }
    }
    Reply::ok("application/json", document.to_string()).with(header::CACHE_CONTROL, "public, max-age=300")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_openapi_3_1_and_names_every_route() {
        let document: Value = serde_json::from_str(DOCUMENT).expect("json");
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().expect("paths");
        for path in [
            "/{user_id}/{device_id}/{start_timestamp}/{end_timestamp}/1/false/{filename}",
            "/v1/thumbnails/search",
            "/v1/recordings/events",
            "/v1/recordings",
            "/v1/devices",
            "/openapi.json",
            "/problems/{slug}",
        ] {
            assert!(paths.contains_key(path), "{path}");
        }
    }
}
