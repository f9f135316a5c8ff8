//! The configuration as a whole: precedence, faults with their origins, unknown settings, secrets, the reference.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// A configuration directory of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new(main: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("directory"));
        place.write("stills.toml", main);
        place
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(path, text).expect("file");
        self
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("stills.toml")
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, Faults> {
        Config::load(Program::Indexer, Some(&self.main()), owned(variables))
    }

    /// The faults, one a line, with the directory's name left out.
    fn faults(&self, variables: &[(&str, &str)]) -> String {
        let faults = self.load(variables).expect_err("faults").to_string();
        faults.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The sample of the documentation; paths of secrets are put in by the test.
const SAMPLE: &str = r#"
[http]
listen = "127.0.0.1:8081"
admin_listen = "127.0.0.1:8082"
[public]
host = "http://localhost:8080"
prefix = ""
[auth]
hs256_secret_file = "SECRET"
cache_ttl = "10s"
default_scopes = []
claims = { user = "/user_id", device = "/device_id", scope = "/scope" }
[data]
dir = "/var/lib/stills"
[cache]
max_bytes = "20GiB"
hot_bytes = "256MiB"
[prerender]
interval = "10s"
renditions = ["320x240"]
[search]
urls = "request"
snap = "off"
[coverage]
seam_max = "1s"
[media]
roots = ["/srv/recordings/{user_id}"]
allow_urls = ["^s3://footage/{user_id}/"]
allow_networks = []
growing_idle = "10m"
[fetch]
allow_urls = []
allow_networks = []
[credentials.my_s3]
kind = "s3"
url_prefix = "s3://footage/"
endpoint = "http://127.0.0.1:8333"
users = ["627d8ca8297a3d00019e2abb"]
[decoders]
running_max = 2
queued_max = 64
deadline = "5s"
exact_deadline = "30s"
memory_max = "1GiB"
[jobs]
max_queue_length = 0
[[jobs.api_keys]]
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
user_id = "627d8ca8297a3d00019e2abb"
[[kinesis.access_keys]]
id = "AKIDEXAMPLE"
secret_file = "KINESIS"
user_id = "627d8ca8297a3d00019e2abb"
[kinesis.streams]
front-door = "627d911f7f58e4f344ca726c"
"#;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn sample() -> Place {
    let place = Place::new("");
    let path = |name: &str| place.0.path().join(name).display().to_string();
    place.write("secret", &format!("{SECRET}\n")).write("kinesis", "wJalrXUtnFEMI");
    place.write("stills.toml", &SAMPLE.replace("SECRET", &path("secret")).replace("KINESIS", &path("kinesis")));
    place
}

#[test]
fn the_documented_sample_loads() {
    let place = sample();
    let config = Config::load(Program::Origin, Some(&place.main()), Vec::new()).expect("valid");
    assert!(matches!(&config.auth.key, Some(auth::TokenKey::Secret(secret)) if secret.expose() == SECRET.as_bytes()));
    assert_eq!(config.media.roots[0].as_str(), "/srv/recordings/{user_id}");
    assert_eq!(config.credentials["my_s3"].kind, media::StoreKind::S3);
    assert_eq!(config.credentials["my_s3"].users.len(), 1);
    assert_eq!(config.decoders.running_max, 2);
    assert_eq!(config.jobs.api_keys[0].user_id.to_string(), "627d8ca8297a3d00019e2abb");
    assert_eq!(config.kinesis.access_keys[0].secret.expose(), b"wJalrXUtnFEMI");
    assert_eq!(config.kinesis.streams["front-door"].to_string(), "627d911f7f58e4f344ca726c");
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = Place::new("").load(&[]).expect("valid");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.http.admin_listen.to_string(), "127.0.0.1:8082");
    assert_eq!(config.http.body_max, 8 << 20);
    assert_eq!(config.http.drain, Duration::from_secs(15));
    assert_eq!(config.public.host.as_str(), "http://localhost:8080");
    assert_eq!(config.public.prefix.as_str(), "");
    assert_eq!(config.auth.cache_ttl, Duration::from_secs(10));
    assert_eq!(config.auth.claims.user.as_str(), "/user_id");
    assert_eq!(config.auth.signed_max_age, Duration::from_secs(7 * 86_400));
    assert_eq!(config.data.dir, PathBuf::from("/var/lib/stills"));
    assert_eq!(config.cache.max_bytes, 20 << 30);
    assert_eq!(config.prerender.renditions[0].to_string(), "320x240");
    assert_eq!(config.prerender.interval, pictures::PrerenderInterval::Every(Duration::from_secs(10)));
    assert_eq!(config.coverage.seam_max, Duration::from_secs(1));
    assert_eq!(config.decoders.queued_max, 64);
    assert_eq!(config.decoders.exact_frames_max, 600);
    assert!(config.decoders.program_path().expect("path").ends_with("stills-decoder"));
    assert_eq!(config.retention.days, None);
    assert_eq!(config.images.ratios.len(), 4);
    assert_eq!(config.log.level, tracing::Level::INFO);
    assert!(config.media.roots.is_empty() && config.media.allow_urls.is_empty() && config.fetch.allow_urls.is_empty());
}

/// The files and variables, and the public host that results.
fn check_host(files: &[(&str, &str)], variables: &[(&str, &str)], expected: &str) {
    let place = Place::new("");
    for (name, host) in files {
        place.write(name, &format!("[public]\nhost = \"http://{host}\"\n"));
    }
    let config = place.load(variables).expect("valid");
    assert_eq!(config.public.host.as_str(), format!("http://{expected}"), "{files:?} {variables:?}");
}

#[test]
fn later_sources_beat_earlier_ones() {
    let (main, first, second) = (("stills.toml", "main"), ("conf.d/10.toml", "first"), ("conf.d/20.toml", "second"));
    let alias = ("VOD_THUMBNAIL_HOST", "http://alias");
    let variable = ("STILLS_PUBLIC__HOST", "http://variable");
    check_host(&[], &[], "localhost:8080");
    check_host(&[main], &[], "main");
    check_host(&[main, second, first], &[], "second");
    check_host(&[first], &[], "first");
    check_host(&[main, ("conf.d/99.toml.bak", "no"), ("other.toml", "no")], &[], "main");
    check_host(&[main, first], &[alias], "alias");
    check_host(&[main, first], &[alias, variable], "variable");
    check_host(&[main], &[("VOD_THUMBNAIL_HOST", "")], "main");
    check_host(&[main], &[("Stills_PUBLIC__HOST", "http://no"), ("PUBLIC__HOST", "http://no")], "main");
}

#[test]
fn tables_merge_and_lists_are_replaced() {
    let place = Place::new("[prerender]\nrenditions = [\"320x240\", \"160x120\"]\ninterval = \"5s\"\n");
    place.write("conf.d/a.toml", "prerender.renditions = [\"64x48\"]\n");
    let config = place.load(&[]).expect("valid");
    assert_eq!(config.prerender.renditions.len(), 1);
    assert_eq!(config.prerender.interval.to_string(), "5s");
}

#[test]
fn variables_set_every_kind_of_value() {
    let secret = format!("{SECRET}!");
    let config = sample()
        .load(&[
            ("MAX_QUEUE_LENGTH", "7"),
            ("STILLS_HTTP__LISTEN", "[::1]:1"),
            ("STILLS_HTTP__SERVER_TIMING", "true"),
            ("STILLS_AUTH__CLAIMS__USER", "/sub"),
            ("STILLS_AUTH__HS256_SECRET", &secret),
            ("STILLS_CACHE__MAX_BYTES", "1GiB"),
            ("STILLS_SEARCH__SNAP", "anchors"),
            ("STILLS_PRERENDER__RENDITIONS", "64x48, 320x240"),
            ("STILLS_MEDIA__ROOTS", ""),
            ("STILLS_CREDENTIALS__MY_S3__REGION", "eu-1"),
            ("STILLS_KINESIS__STREAMS__FRONT", "627d911f7f58e4f344ca726d"),
            ("STILLS_RETENTION__DAYS", "30"),
        ])
        .expect("valid");
    assert_eq!(config.jobs.max_queue_length, 7);
    assert_eq!(config.http.listen.to_string(), "[::1]:1");
    assert!(config.http.server_timing);
    assert_eq!(config.auth.claims.user.as_str(), "/sub");
    assert!(matches!(&config.auth.key, Some(auth::TokenKey::Secret(key)) if key.expose() == secret.as_bytes()));
    assert_eq!(config.cache.max_bytes, 1 << 30);
    assert_eq!(config.search.snap, pictures::Snap::Anchors);
    assert_eq!(config.prerender.renditions.len(), 2);
    assert!(config.media.roots.is_empty());
    assert_eq!(config.credentials["my_s3"].region.as_deref(), Some("eu-1"));
    assert_eq!(config.kinesis.streams.len(), 2);
    assert_eq!(config.retention.days, Some(30));
}

/// One wrong setting, and its one fault.
fn check_fault(toml: &str, expected: &str) {
    assert_eq!(Place::new(toml).faults(&[]), expected, "{toml}");
}

#[test]
fn each_kind_of_value_has_its_fault() {
    let seconds = "write a number with ms, s, m, h or d, such as \"10s\"";
    check_fault(
        "[auth]\ncache_ttl = \"10x\"",
        &format!("[auth] cache_ttl = \"10x\" (stills.toml:2): not a duration; {seconds}"),
    );
    check_fault("auth.cache_ttl = \"61s\"", "[auth] cache_ttl = \"61s\" (stills.toml:1): must be from 0s to 60s");
    check_fault("auth.cache_ttl = 10", "[auth] cache_ttl = 10 (stills.toml:1): must be a string: from 0s to 60s");
    check_fault(
        "cache.max_bytes = \"20G\"",
        "[cache] max_bytes = \"20G\" (stills.toml:1): not a size; write a number with B, kB, MB, GB, TB, KiB, MiB, GiB or \
         TiB, such as \"8MiB\"",
    );
    check_fault(
        "http.listen = \"localhost:1\"",
        "[http] listen = \"localhost:1\" (stills.toml:1): must be an IP address and a port, such as \"127.0.0.1:8081\"",
    );
    check_fault(
        "decoders.queued_max = -1",
        "[decoders] queued_max = -1 (stills.toml:1): must be a whole number from 0 to 100000",
    );
    check_fault(
        "decoders.queued_max = \"64\"",
        "[decoders] queued_max = \"64\" (stills.toml:1): must be a whole number without quotes: from 0 to 100000",
    );
    check_fault(
        "http.cache_tags = \"true\"",
        "[http] cache_tags = \"true\" (stills.toml:1): must be true or false, without quotes",
    );
    check_fault(
        "search.urls = \"Shared\"",
        "[search] urls = \"Shared\" (stills.toml:1): must be one of \"request\", \"shared\"",
    );
    check_fault("data.dir = \"\"", "[data] dir = \"\" (stills.toml:1): must not be empty");
    check_fault(
        "retention.days = 1.5",
        "[retention] days = 1.5 (stills.toml:1): must be a whole number without quotes: from 1 to 36500",
    );
    check_fault("http = 1", "[http] = 1 (stills.toml:1): must be a table");
    check_fault(
        "[media]\nallow_networks = [\n\"10.0.0.0/8\",\n\"x\",\n]",
        "[media] allow_networks[1] = \"x\" (stills.toml:4): must be a network such as \"127.0.0.0/8\" or \"fd00::/8\"",
    );
    check_fault("media.roots = \"/srv\"", "[media] roots = \"/srv\" (stills.toml:1): must be a list of strings");
    check_fault("media.roots = [1]", "[media] roots[0] = 1 (stills.toml:1): must be a string");
    check_fault(
        "[kinesis.streams]\na = \"1\"",
        "[kinesis.streams] a = \"1\" (stills.toml:2): must be 24 hexadecimal digits",
    );
    check_fault(
        "jobs.api_keys = \"x\"",
        "[jobs] api_keys = \"x\" (stills.toml:1): must be a list of at most 10000 tables, [[jobs.api_keys]]",
    );
    check_fault("jobs.api_keys = [1]", "[jobs] api_keys[0] = 1 (stills.toml:1): must be a table");
    check_fault("credentials.a = 1", "[credentials] a = 1 (stills.toml:1): must be a table");
    check_fault("[credentials.a]\nauth = \"instance\"", "[credentials.a] kind (stills.toml:1): missing");
}

#[test]
fn rules_between_settings() {
    check_fault(
        "http.admin_listen = \"127.0.0.1:8081\"",
        "[http] admin_listen = \"127.0.0.1:8081\" (stills.toml:1): must differ from listen",
    );
    check_fault(
        "cache.max_bytes = \"128MiB\"",
        "[cache] volume_bytes (stills.toml:1): must be at most half of max_bytes",
    );
    check_fault("images.ratios = []", "[images] ratios (stills.toml:1): must have at least one");
    check_fault(
        "[credentials.a]\nkind = \"s3\"\naccess_key_id = \"x\"",
        "[credentials.a] access_key_id = \"x\" (stills.toml:3): needs secret_file beside it",
    );
    check_fault(
        "[auth]\njwks_url = \"https://a/b\"\njwks_file = \"/dev/null\"",
        "[auth] (stills.toml:1): only one of hs256_secret_file, public_key_file, jwks_file, jwks_url may be set; there are \
         jwks_file, jwks_url",
    );
    let key = format!("[[jobs.api_keys]]\nsha256 = \"{}\"\nuser_id = \"{}\"\n", "0".repeat(64), "0".repeat(24));
    let twice = format!("the key with sha256 {} stands there twice", "0".repeat(64));
    check_fault(&key.repeat(2), &format!("[jobs] api_keys (stills.toml:1): {twice}"));
}

#[test]
fn the_server_needs_a_key_and_the_indexer_does_not() {
    let place = Place::new("");
    let faults = Config::load(Program::Origin, Some(&place.main()), Vec::new()).expect_err("faults").to_string();
    let kinds = "hs256_secret_file, public_key_file, jwks_file, jwks_url";
    assert_eq!(faults, format!("[auth]: one of {kinds} must be set, or no token could be verified"));
    assert!(place.load(&[]).is_ok());
}

#[test]
fn all_faults_are_told_at_once_each_with_its_origin() {
    let place = Place::new("[http]\nlisten = \"x\"\nlisten_backlog = 5\n\n[auth]\ncache_ttl = \"2m\"\n[htpp]\na = 1\n");
    place.write("conf.d/jobs.toml", "\n[[jobs.api_keys]]\nuser_id = \"1\"\nname = \"a\"\n");
    let faults = place.faults(&[
        ("STILLS_SEARCH__SNAP", "of"),
        ("STILLS_SEARCH__SNIP", "off"),
        ("STILLS_LISTEN", "x"),
        ("STILLS_HTTP_PORT", "80"),
        ("STILLS_PORT", "tcp://10.0.0.1:8081"),
        ("STILLS_PORT_8081_TCP_ADDR", "10.0.0.1"),
        ("STILLS_ORIGIN_SERVICE_HOST", "10.0.0.1"),
        ("STILLS_JOBS__API_KEYS__0__NAME", "x"),
        ("VOD_THUMBNAIL_HOST", "thumbs.example.com"),
    ]);
    let expected = "\
STILLS_HTTP_PORT: unknown variable; a setting's variable is STILLS_SECTION__KEY
[jobs.api_keys.0] name (STILLS_JOBS__API_KEYS__0__NAME): cannot be set by a variable
STILLS_LISTEN: unknown variable; a setting's variable is STILLS_SECTION__KEY
[http] listen = \"x\" (stills.toml:2): must be an IP address and a port, such as \"127.0.0.1:8081\"
[public] host = \"thumbs.example.com\" (VOD_THUMBNAIL_HOST): must be http:// or https://, a host and perhaps a port, \
without path, query or user
[auth] cache_ttl = \"2m\" (stills.toml:6): must be from 0s to 60s
[search] snap = \"of\" (STILLS_SEARCH__SNAP): must be one of \"off\", \"anchors\"
[jobs.api_keys[0]] sha256 (conf.d/jobs.toml:2): missing
[jobs.api_keys[0]] user_id = \"1\" (conf.d/jobs.toml:3): must be 24 hexadecimal digits
[htpp] (stills.toml:7): unknown section; there are auth, cache, cors, coverage, credentials, data, decoders, fetch, \
http, images, jobs, kinesis, log, media, prerender, public, retention, search
[http] listen_backlog (stills.toml:3): unknown setting; [http] has admin_listen, body_max, cache_tags, connections_max, \
drain, header_bytes_max, header_timeout, listen, server_timing
[jobs.api_keys[0]] name (conf.d/jobs.toml:4): unknown setting; [jobs.api_keys[0]] has sha256, user_id
[search] snip (STILLS_SEARCH__SNIP): unknown setting; [search] has snap, urls";
    assert_eq!(faults, expected);
}

#[test]
fn files_that_cannot_be_read() {
    let place = Place::new("");
    let absent = place.0.path().join("absent.toml");
    let faults = Config::load(Program::Indexer, Some(&absent), Vec::new()).expect_err("faults").to_string();
    assert!(faults.contains("absent.toml: cannot be read: No such file"), "{faults}");
    check_fault("a = 1\n[http\n", "stills.toml:2: unclosed table, expected `]`");
    check_fault("[http]\n[http]\n", "stills.toml:2: duplicate key");
    place.write("conf.d/a.toml", "[http]\nlisten = \"x\nadmin_listen = 1\n");
    assert!(place.faults(&[]).starts_with("conf.d/a.toml:2: "), "{}", place.faults(&[]));
    std::fs::write(place.main(), b"a = \"\xff\"").expect("file");
    assert!(place.faults(&[]).starts_with("stills.toml: is not UTF-8\n"), "{}", place.faults(&[]));
}

#[test]
fn secrets_come_from_files_and_variables_and_are_never_shown() {
    let place = sample();
    let marked = format!("hush-hush-{SECRET}");
    let id = ("STILLS_CREDENTIALS__MY_S3__ACCESS_KEY_ID", "id");
    let secret = ("STILLS_CREDENTIALS__MY_S3__SECRET", marked.as_str());
    let config = place.load(&[("STILLS_AUTH__HS256_SECRET", &marked), id, secret]).expect("valid");
    assert_eq!(config.credentials["my_s3"].secret.as_ref().map(Secret::expose), Some(marked.as_bytes()));
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains("hush") && !shown.contains("wJalr") && shown.contains("***"), "{shown}");

    let short = place.faults(&[("STILLS_AUTH__HS256_SECRET", "hush")]);
    let problem = "the secret has 4 bytes; at least 32 are needed";
    assert_eq!(short, format!("[auth] hs256_secret = *** (STILLS_AUTH__HS256_SECRET): {problem}"));
    let place = Place::new("[auth]\nhs256_secret = \"hush\"\nhs265_secret = \"hush\"\njwks_urk = \"hush\"\n");
    let faults = place.faults(&[("STILLS_CREDENTIALS__A__SECERT", "hush")]);
    assert!(
        faults.contains("[auth] hs256_secret = *** (stills.toml:2): a secret must not stand in a configuration file")
    );
    assert!(faults.contains("[auth] hs265_secret (stills.toml:3): unknown setting"), "{faults}");
    assert!(!faults.contains("hush"), "{faults}");
    let faults = Place::new("[auth]\nhs256_secret = hush\n").faults(&[]);
    assert!(faults.contains("stills.toml:2: ") && !faults.contains("hush"), "{faults}");
    let faults = Place::new("auth.jwks_url = \"https://me:hush@a/\"").faults(&[]);
    assert!(faults.contains("https://***@a/") && !faults.contains("hush"), "{faults}");
}

#[test]
fn a_secret_file_must_hold_enough() {
    let place = Place::new("");
    let path = place.0.path().join("secret");
    let variable = [("STILLS_AUTH__HS256_SECRET_FILE", path.to_str().expect("path"))];
    assert!(place.faults(&variable).contains("cannot be read: No such file"), "{}", place.faults(&variable));
    place.write("secret", "short\n");
    assert!(place.faults(&variable).contains("the secret has 5 bytes; at least 32 are needed"));
    place.write("secret", &"x".repeat(32));
    assert!(place.load(&variable).is_ok());
    place.write("secret", &"x".repeat(65 * 1024));
    assert!(place.faults(&variable).contains("is larger than 65536 bytes"));
}

#[test]
fn check_writes_faults_and_gives_the_exit_code() {
    let place = Place::new("http.listen = 1");
    let run = |place: &Place| {
        let mut out = Vec::new();
        let code = check(Program::Indexer, Some(&place.main()), Vec::new(), &mut out).expect("written");
        (code, String::from_utf8(out).expect("text"))
    };
    let (code, out) = run(&place);
    assert_eq!((code, out.lines().count()), (78, 1), "{out}");
    place.write("stills.toml", "");
    assert_eq!(run(&place), (0, "the configuration is valid\n".to_owned()));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever stands in the file and in the variables, the answer is a configuration or faults of one line each.
    #[test]
    fn nonsense_gives_faults(main: String, name in "(auth|http|jobs|[a-z_]{0,9})(__[a-z_]{0,9}){0,12}", value: String) {
        let place = Place::new(&main);
        let variable = format!("STILLS_{}", name.to_uppercase());
        let pair = format!("{name} = {value:?}\n[{name}]\na = [[{value:?}]]");
        place.write("conf.d/a.toml", &pair.replace("__", "."));
        if let Err(faults) = place.load(&[(&variable, &value)]) {
            proptest::prop_assert!(!faults.0.is_empty());
            proptest::prop_assert_eq!(faults.to_string().lines().count(), faults.0.len());
        }
    }
}

#[test]
fn configuration_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/REFERENCE.md");
    let reference = Config::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &reference).expect("reference");
    }
    let printed = std::fs::read_to_string(&path).expect("reference");
    assert!(printed == reference, "run UPDATE_REFERENCE=1 cargo test -p stills-indexer reference");
}
