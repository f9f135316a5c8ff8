//! A small object store: lists keys page by page as S3 does (`ListObjectsV2`), behind any signature; and backfill of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use crate::origin::{Next, Origin, request, response};
use crate::{DEVICE, Site, USER, stderr, stdout};

/// Keys on a page.
const PAGE: usize = 300;

struct Store {
    endpoint: String,
    /// The queries of all listings.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Store {
    fn start(keys: BTreeSet<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listening = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().expect("stream"));
                while let Some((head, _)) = request(&mut reader) {
                    let target = head.split(' ').nth(1).expect("target");
                    let query = target.strip_prefix("/footage?").expect("a listing of the bucket").to_owned();
                    let body = page(&keys, &query);
                    listening.lock().expect("lock").push(query);
                    if stream.write_all(response(200, "", &body).as_bytes()).is_err() {
                        break;
                    }
                }
            }
        });
        Self { endpoint, asked }
    }
}

/// One page: keys with the prefix, behind the last one of the page before or the one named.
fn page(keys: &BTreeSet<String>, query: &str) -> String {
    let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    assert_eq!(query["list-type"], "2");
    let empty = String::new();
    let after = query.get("continuation-token").or_else(|| query.get("start-after")).unwrap_or(&empty);
    let wanted = keys.iter().filter(|key| *key > after && key.starts_with(&query["prefix"]));
    let listed: Vec<&String> = wanted.take(PAGE + 1).collect();
    let is_truncated = listed.len() > PAGE;
    let contents: String = listed
        .iter()
        .take(PAGE)
        .map(|key| {
            let rest = "<LastModified>2026-10-25T01:45:00.000Z</LastModified><ETag>\"x\"</ETag><Size>7</Size>";
            format!("<Contents><Key>{key}</Key>{rest}<StorageClass>STANDARD</StorageClass></Contents>")
        })
        .collect();
    let next = if is_truncated {
        format!("<NextContinuationToken>{}</NextContinuationToken>", listed[PAGE - 1])
    } else {
        empty
    };
    format!("<ListBucketResult><IsTruncated>{is_truncated}</IsTruncated>{next}{contents}</ListBucketResult>")
}

#[test]
fn a_prefix_of_an_object_store_stopped_and_started_again() {
    let key = |n: u64| format!("cams/front/{}.mp4", 1_757_371_980_000 + n * 60_000);
    let mut keys: BTreeSet<String> = (0..1200).map(key).collect();
    keys.extend(["cams/readme.txt".to_owned(), "camster/1757371980000.mp4".to_owned()]);
    let store = Store::start(keys);
    let site = Site::new();
    let settings = format!(
        "[media]\nallow_networks = [\"127.0.0.0/8\"]\n[media.layout.yard]\nrecorder = \"epoch\"\nuser_id = \"{USER}\"\n\
         url_prefix = \"s3://footage/cams/\"\ndevices = {{ front = \"{DEVICE}\" }}\n[credentials.s3]\nkind = \"s3\"\n\
         url_prefix = \"s3://footage/\"\nendpoint = \"{}\"\n",
        store.endpoint
    );
    std::fs::write(site.dir.path().join("stills.toml"), settings).expect("configuration");
    let origin = Origin::start(&[Next::Take, Next::TakeAndHold]);
    let mut child = site.command_at("backfill", "s3://footage/cams", &origin).spawn().expect("run");
    origin.wait_until("two batches", |taken| taken.events.len() == 1000);
    child.kill().expect("kill");
    child.wait().expect("end");

    store.asked.lock().expect("lock").clear();
    let output = site.command_at("backfill", "s3://footage/cams", &origin).output().expect("run");
    assert!(output.status.success(), "{}", stderr(&output));
    let first = store.asked.lock().expect("lock")[0].clone();
    assert!(first.contains("start-after=cams%2Ffront%2F1757401920000.mp4"), "behind the first 500: {first}");
    origin.look(|taken| {
        let url = |n: u64| format!("s3://footage/{}", key(n));
        let urls: Vec<_> =
            taken.events.iter().map(|e| e["data"]["media_url"].as_str().expect("url").to_owned()).collect();
        assert_eq!(urls, (0..1200).map(url).collect::<Vec<_>>(), "each once, oldest first");
        let event = &taken.events[0];
        assert_eq!(event["data"]["recording_id"], "front~1757371980000.mp4", "as notifications have it");
        assert_eq!((&event["data"]["growing"], &event["time"]), (&false.into(), &"2026-10-25T01:45:00Z".into()));
    });
    let report = stdout(&output);
    for line in ["files       1201", "earlier     500", "duplicates  500", "unmatched   1"] {
        assert!(report.contains(line), "{line}:\n{report}");
    }

    let newest = site.command_at("backfill", "s3://footage/cams", &origin).args(["--order", "newest"]).output();
    assert!(stderr(&newest.expect("run")).contains("oldest first"));
    let other = site.command_at("backfill", "s3://other/", &origin).output().expect("run");
    assert!(stderr(&other).contains("no credentials of the configuration"), "{}", stderr(&other));
    let watched = site.command_at("watch", "s3://footage/cams", &origin).output().expect("run");
    assert!(stderr(&watched).contains("only folders can be watched"), "{}", stderr(&watched));
}
