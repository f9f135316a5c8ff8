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
    use std::collections::BTreeSet;

    use stills_indexer::events::EVENTS_MAX;
    use stills_model::time::TIMESTAMP_MAX_MS;

    use super::*;
    use crate::reply::Kind;
    use crate::route::Route;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("json")
    }

    /// Where the document tells of a route. A new route does not compile before it has a place.
    fn place(route: &Route) -> &'static str {
        match route {
            Route::Thumb(_) => "/{user_id}/{device_id}/{start_timestamp}/{end_timestamp}/1/false/{filename}",
            Route::Search => "/v1/thumbnails/search",
            Route::Events => "/v1/recordings/events",
            Route::Recordings => "/v1/recordings",
            Route::Devices => "/v1/devices",
            Route::Job => "/v1/video/thumbnail",
            Route::JobStatus => "/v1/toolkit/job/status",
            Route::JobsStatus => "/v1/toolkit/jobs/status",
            Route::JobResult(..) => "/v1/jobs/{job_id}/{secret}.jpg",
            Route::KinesisEndpoint => "/getDataEndpoint",
            Route::KinesisImages => "/getImages",
            Route::Image => "/image",
            Route::Images(_) => "/images/v1/image/{contentType}/{id}/{imageType}",
            Route::AuthCheck => "/auth",
            Route::OpenApi => "/openapi.json",
            Route::Problem(_) => "/problems/{slug}",
            Route::Unknown => "",
        }
    }

    /// The members of an array of texts.
    fn texts(array: &Value) -> BTreeSet<&str> {
        array.as_array().expect("an array").iter().map(|text| text.as_str().expect("a text")).collect()
    }

    /// Every object in the document, the document itself first.
    fn objects<'d>(node: &'d Value, found: &mut Vec<&'d Value>) {
        match node {
            Value::Object(members) => {
                found.push(node);
                members.values().for_each(|member| objects(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| objects(item, found)),
            _ => {}
        }
    }

    /// A documented path with the examples of its parameters in place.
    fn example_of(path: &str, document: &Value) -> String {
        let mut all = Vec::new();
        objects(document, &mut all);
        let mut example = path.to_owned();
        for parameter in all.into_iter().filter(|object| object["in"] == "path") {
            let name = parameter["name"].as_str().expect("a name");
            let value = &parameter["example"];
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            example = example.replace(&format!("{{{name}}}"), &value);
        }
        example
    }

    #[test]
    fn the_document_is_openapi_3_1_and_names_every_route() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().expect("paths");
        let mut names = BTreeSet::new();
        for (path, item) in paths {
            let route = Route::parse("", &example_of(path, &document));
            assert_eq!(place(&route), path);
            names.insert(route.name());
            for method in ["get", "post", "put", "patch", "delete"] {
                let is_allowed = route.allow().split(", ").any(|allowed| allowed.eq_ignore_ascii_case(method));
                assert_eq!(item.get(method).is_some(), is_allowed, "{method} {path}");
            }
        }
        let all = [
            "auth",
            "devices",
            "events",
            "image",
            "images",
            "job",
            "job-result",
            "job-status",
            "jobs-status",
            "kinesis-endpoint",
            "kinesis-images",
            "openapi",
            "problem",
            "recordings",
            "search",
            "thumb",
        ];
        assert_eq!(names.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn the_document_names_every_problem() {
        let document = document();
        let slugs: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.facts().1).collect();
        assert_eq!(texts(&document["components"]["schemas"]["ProblemSlug"]["enum"]), slugs);
    }

    #[test]
    fn examples_of_problems_are_as_they_are_answered() {
        let document = document();
        let mut all = Vec::new();
        objects(&document, &mut all);
        let mut seen = BTreeSet::new();
        for example in all {
            let Some(slug) = example["type"].as_str().and_then(|text| text.strip_prefix("/problems/")) else {
                continue;
            };
            let kind = Kind::ALL.into_iter().find(|kind| kind.facts().1 == slug).expect("a kind of this slug");
            let (status, _, title) = kind.facts();
            assert_eq!((&example["status"], &example["title"]), (&json!(status.as_u16()), &json!(title)), "{slug}");
            seen.insert(slug);
        }
        assert!(seen.contains("gap") && seen.contains("invalid-events"), "{seen:?}");
    }

    #[test]
    fn limits_are_those_of_the_code() {
        let document = document();
        let body = &document["paths"]["/v1/recordings/events"]["post"]["requestBody"]["content"];
        assert_eq!(body["application/cloudevents-batch+json"]["schema"]["maxItems"], json!(EVENTS_MAX));
        assert_eq!(document["components"]["schemas"]["Timestamp"]["maximum"], json!(TIMESTAMP_MAX_MS));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut all = Vec::new();
        objects(&document, &mut all);
        let references: Vec<&str> = all.iter().filter_map(|object| object["$ref"].as_str()).collect();
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
