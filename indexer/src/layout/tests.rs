//! Layouts as they are configured, and what they make of names.

use std::path::Path;

use super::*;
use crate::config::{Config, Program};

const USER: &str = "627d8ca8297a3d00019e2abb";
const DEVICE: &str = "627d911f7f58e4f344ca726c";

/// Layouts from the text of a configuration file.
fn layouts(text: &str) -> Result<Layouts, String> {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("stills.toml");
    std::fs::write(&path, text).expect("file");
    let config = Config::load(Program::Indexer, Some(Path::new(&path)), []);
    config.map(|config| config.media.layouts).map_err(|faults| faults.to_string())
}

fn layout(settings: &str) -> Layouts {
    let text = format!("[media.layout.yard]\nuser_id = \"{USER}\"\n{settings}\ndevices = {{ front = \"{DEVICE}\" }}\n");
    layouts(&text).expect("layout")
}

fn ms(rfc_3339: &str) -> i64 {
    rfc_3339.parse::<jiff::Timestamp>().expect("time").as_millisecond()
}

/// What a path relative to the place tells: the instants of start and end, or a part of the error.
fn check(layouts: &Layouts, path: &str, written: Option<&str>, expected: Result<(&str, Option<&str>), &str>) {
    let url = format!("file:///srv/{}", spelling::escaped(path.as_bytes()));
    let written = written.map(|text| Timestamp::from_ms(ms(text)));
    match (layouts.read(&url, Some("file:///srv/"), written), expected) {
        (Ok(named), Ok((start, end))) => {
            assert_eq!(named.start.as_ms(), ms(start), "start of {path}");
            assert_eq!(named.end.map(Timestamp::as_ms), end.map(ms), "end of {path}");
            assert_eq!((named.user.to_string(), named.device.to_string()), (USER.into(), DEVICE.into()), "{path}");
        }
        (Err(wrong), Err(part)) => assert!(wrong.to_string().contains(part), "{path}: {wrong}"),
        (found, expected) => panic!("{path}: {found:?} instead of {expected:?}"),
    }
}

#[test]
fn ready_patterns() {
    let frigate = layout("recorder = \"frigate\"");
    check(&frigate, "2026-11-21/10/front/03.20.mp4", None, Ok(("2026-11-21T10:03:20Z", None)));
    let own_folder = format!("{USER}/2026-11-21/10/{DEVICE}/03.20.mp4");
    check(&frigate, &own_folder, None, Ok(("2026-11-21T10:03:20Z", None)));
    check(&frigate, "2026-11-21/10/back/03.20.mp4", None, Err("device \"back\" is neither in `devices`"));
    check(&frigate, "2026-11-21/10/front/03.20.jpg", None, Err("matches no pattern"));
    check(&frigate, "2026-11-31/10/front/03.20.mp4", None, Err("the date or time does not exist"));

    let mediamtx = layout("recorder = \"mediamtx\"\ntime_zone = \"Europe/Berlin\"");
    check(&mediamtx, "front/2026-07-01_10-00-00-250000.mp4", None, Ok(("2026-07-01T08:00:00.25Z", None)));
    check(&mediamtx, "front/2026-12-01_10-00-00-000001.ts", None, Ok(("2026-12-01T09:00:00Z", None)));
    check(&mediamtx, "a/b/2026-12-01_10-00-00-000001.ts", None, Err("device \"a/b\" is neither"));

    let folders = layout("recorder = \"folders\"\ntime_zone = \"+02:00\"");
    check(&folders, "front/2026/01/31/23-59-59.mkv", None, Ok(("2026-01-31T21:59:59Z", None)));
    check(&folders, "front/2026/01/31/235959.mp4", None, Ok(("2026-01-31T21:59:59Z", None)));

    let epoch = layout("recorder = \"epoch\"");
    check(&epoch, "front/1757371980000.mp4", None, Ok(("2025-09-08T22:53:00Z", None)));
}

#[test]
fn patterns_of_ones_own() {
    let offset = layout(
        "pattern = '(?P<device_id>\\w+)-(?P<time>.+)\\.ts'\ntime_format = \"%Y%m%dT%H%M%S%z\"\ntime_zone = \"UTC\"",
    );
    check(&offset, "front-20260701T100000+0200.ts", None, Ok(("2026-07-01T08:00:00Z", None)));
    check(&offset, "front-20260701T100000.ts", None, Err("is not written as"));
    let pattern =
        "pattern = '(?P<device_id>\\w+)/(?P<time>[\\d.]+)_(?P<duration>[\\d.x]+)\\.mp4'\ntime_format = \"epoch_s\"";
    let seconds = layout(pattern);
    check(
        &seconds,
        "front/1757371980.5_59.98.mp4",
        None,
        Ok(("2025-09-08T22:53:00.5Z", Some("2025-09-08T22:54:00.48Z"))),
    );
    check(&seconds, "front/1757371980_1x.mp4", None, Err("duration must be seconds"));
    check(&seconds, "front/99999999999999999999_1.mp4", None, Err("is not a number"));
    let both = "pattern = '(?P<device_id>\\w+)/(?P<time>\\d+)-(?P<end>\\d+)\\.mp4'\ntime_format = \"epoch_ms\"";
    check(&layout(both), "front/1000-61000.mp4", None, Ok(("1970-01-01T00:00:01Z", Some("1970-01-01T00:01:01Z"))));
}

#[test]
fn summer_time() {
    // Berlin, 2026: 02:00 to 03:00 is skipped on 29 March and repeated on 25 October.
    let berlin = |more: &str| layout(&format!("recorder = \"folders\"\ntime_zone = \"Europe/Berlin\"\n{more}"));
    let written = berlin("");
    check(&written, "front/2026/03/29/01-59-59.mp4", None, Ok(("2026-03-29T00:59:59Z", None)));
    check(&written, "front/2026/03/29/02-30-00.mp4", None, Err("does not exist in Europe/Berlin"));
    check(&written, "front/2026/03/29/03-00-00.mp4", None, Ok(("2026-03-29T01:00:00Z", None)));

    let (name, first, second) = ("front/2026/10/25/02-30-00.mp4", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    check(&written, name, None, Ok((first, None)));
    check(&written, name, Some("2026-10-25T00:45:00Z"), Ok((first, None)));
    check(&written, name, Some("2026-10-25T01:29:59Z"), Ok((first, None)));
    check(&written, name, Some("2026-10-25T01:45:00Z"), Ok((second, None)));
    check(&written, name, Some("2027-01-01T00:00:00Z"), Ok((first, None)));
    check(&berlin("repeated_hour = \"earlier\""), name, Some("2026-10-25T01:45:00Z"), Ok((first, None)));
    check(&berlin("repeated_hour = \"later\""), name, Some("2026-10-25T00:45:00Z"), Ok((second, None)));
    check(&written, "front/2026/10/25/03-00-00.mp4", None, Ok(("2026-10-25T02:00:00Z", None)));

    // A fixed offset knows neither hour.
    let fixed = layout("recorder = \"folders\"\ntime_zone = \"+01:00\"");
    check(&fixed, "front/2026/03/29/02-30-00.mp4", None, Ok(("2026-03-29T01:30:00Z", None)));
    check(&fixed, name, Some("2026-10-25T00:45:00Z"), Ok((second, None)));

    // From 02:50 (first) to 02:10 (second) on the recorder's clock: twenty minutes.
    let pattern = "(?P<device_id>\\w+)/(?P<time>\\S+)_(?P<end>\\S+)\\.mp4";
    let spans = layout(&format!("pattern = '{pattern}'\ntime_format = \"%Y%m%dT%H%M\"\ntime_zone = \"Europe/Berlin\""));
    let expected = ("2026-10-25T00:50:00Z", Some("2026-10-25T01:10:00Z"));
    check(&spans, "front/20261025T0250_20261025T0210.mp4", None, Ok(expected));
}

#[test]
fn prefixes_decide_who_is_in_charge() {
    let text = format!(
        "[media.layout.a]\nrecorder = \"epoch\"\nuser_id = \"{USER}\"\nurl_prefix = \"s3://footage/raw/\"\n\
         [media.layout.b]\nrecorder = \"epoch\"\nuser_id = \"{USER}\"\nurl_prefix = \"file:///srv/cams/\"\n"
    );
    let layouts = layouts(&text).expect("layouts");
    let id =
        |url: &str, place: Option<&str>| layouts.read(url, place, None).map(|named| named.recording.to_string()).ok();
    let name = format!("{DEVICE}/1757371980000.mp4");
    let expected = Some(name.replace('/', "~"));
    assert_eq!(id(&format!("s3://footage/raw/{name}"), None), expected);
    // Whatever folder is walked, what the name tells is relative to the prefix.
    assert_eq!(id(&format!("file:///srv/cams/{name}"), Some("file:///srv/")), expected);
    assert_eq!(id(&format!("file:///srv/cams/{name}"), Some(&format!("file:///srv/cams/{DEVICE}/"))), expected);
    assert_eq!(id(&format!("s3://footage/{name}"), None), None);
    assert_eq!(id(&format!("file:///srv/{name}"), Some("file:///srv/")), None);
    assert!(layouts.covers("s3://footage/raw/x.mp4") && !layouts.covers("s3://footage/x.mp4"));
    assert!(layouts.only("a").is_some() && layouts.only("c").is_none());
}

fn check_refused(settings: &str, expected: &str) {
    match layouts(&format!("[media.layout.yard]\n{settings}\n")) {
        Ok(_) => panic!("taken: {settings}"),
        Err(faults) => assert!(faults.contains(expected), "{settings}:\n{faults}"),
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let user = format!("user_id = \"{USER}\"\n");
    check_refused(&user, "recorder or pattern is missing");
    check_refused("recorder = \"nvr\"", "must be one of \"frigate\", \"mediamtx\", \"folders\", \"epoch\"");
    check_refused(&format!("{user}recorder = \"folders\""), "missing: names with local times");
    check_refused(&format!("{user}recorder = \"folders\"\ntime_zone = \"Mars/Base\""), "must be a time zone");
    check_refused(&format!("{user}recorder = \"epoch\"\npattern = \"x\""), "either recorder or pattern");
    check_refused(&format!("{user}pattern = \"(\""), "not a regular expression");
    check_refused(&format!("{user}pattern = \"(?P<device_id>.)(?P<camera>.)\""), "unknown group camera");
    check_refused(&format!("{user}pattern = \"(?P<device_id>.)(?P<time>.)\""), "says how the group `time` is written");
    check_refused(&format!("{user}pattern = \"(?P<device_id>.)(?P<year>.)\""), "needs either the group `time`");
    check_refused(
        "pattern = \"(?P<device_id>.)(?P<time>.)\"\ntime_format = \"epoch_ms\"",
        "missing: neither this setting",
    );
    check_refused(
        "pattern = \"(?P<user_id>.)(?P<time>.)\"\ntime_format = \"epoch_ms\"",
        "missing: neither this setting",
    );
    check_refused(&format!("{user}recorder = \"epoch\"\ntime_format = \"noon\""), "must be \"epoch_ms\"");
    check_refused(&format!("{user}recorder = \"epoch\"\ntime_format = \"%H:%M\""), "cannot be read back");
    check_refused(&format!("{user}recorder = \"epoch\"\nurl_prefix = \"s3://footage\""), "end with a slash");
    check_refused(&format!("{user}recorder = \"epoch\"\ncolour = \"red\""), "unknown setting");
}
