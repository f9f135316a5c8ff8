//! Tests of answers: their form, their headers, what may be cached.

use super::*;
use http_body_util::BodyExt;
use std::collections::HashSet;
use stills_indexer::catalog::Missing;

#[test]
fn every_kind_has_a_slug_of_its_own() {
    let slugs: HashSet<_> = Kind::ALL.iter().map(|kind| kind.facts().1).collect();
    assert_eq!(slugs.len(), Kind::ALL.len());
}

#[tokio::test]
async fn a_problem_on_the_wire() {
    let gap = Missing::Gap { covered_before: Some(stills_model::time::Timestamp::from_ms(7)), covered_after: None };
    let response = Problem::from(gap).into_response("/x");
    assert_eq!(response.status().as_u16(), 404);
    let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-accel-expires", "cache-control", "content-type"]);
    let body = response.into_body().collect().await.expect("body").to_bytes();
    let body: Value = serde_json::from_slice(&body).expect("json");
    assert_eq!(body["type"], "/problems/gap");
    assert_eq!((&body["covered_before"], &body["covered_after"]), (&json!(7), &Value::Null));
}

#[test]
fn the_age_for_nginx_comes_first() {
    let reply = Reply::ok("image/jpeg", "x").with(header::CACHE_CONTROL, "private").with(header::ETAG, "\"1\"");
    let response = reply.with(X_ACCEL_EXPIRES, "5").into_response();
    let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names[0], "x-accel-expires");
    assert_eq!(names.len(), 4);
}

#[test]
fn no_server_error_is_ever_cached() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.facts().0.is_server_error()) {
        let response = Problem::new(kind, "x").into_response("/");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store", "{kind:?}");
        assert!(!response.headers().contains_key(X_ACCEL_EXPIRES), "{kind:?}");
    }
}
