//! Sources for tests: policy, guard, credentials, and a folder of their own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use stills_indexer::config::{Config, Program};
use stills_indexer::source::client::{Client, Lookup, Pace};
use stills_indexer::source::credentials::Credentials;
use stills_indexer::source::guard::Guard;
use stills_indexer::source::policy::{MediaPolicy, PolicyConfig};
use stills_indexer::source::{RemoteConfig, Source, Wanted};
use stills_indexer::threads::Threads;
use stills_model::id::UserId;
use stills_model::keyframe::ByteRange;

pub(crate) const USER: UserId = UserId::from_bytes([0xab; 12]);
pub(crate) const OTHER: UserId = UserId::from_bytes([0xcd; 12]);

/// Quick enough for tests of slow servers, slow enough for a busy machine.
pub(crate) const PACE: Pace = Pace {
    connect_max: Duration::from_secs(3),
    silence_max: Duration::from_secs(2),
    slow_start: Duration::from_secs(1),
    rate_min: 16 * 1024,
};

/// What a test says of its source.
pub(crate) struct Setup<'a> {
    pub(crate) allow_urls: &'a [&'a str],
    pub(crate) allow_networks: &'a [&'a str],
    pub(crate) is_whole: bool,
    pub(crate) whole_bytes_max: u64,
    /// TOML of the `[credentials.*]`; the secret of one called `keyed` is `very-secret`.
    pub(crate) credentials: &'a str,
    pub(crate) lookup: Lookup,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            allow_urls: &["^http://", "^s3://", "^gs://", "^az://"],
            allow_networks: &["127.0.0.0/8"],
            is_whole: false,
            whole_bytes_max: 1 << 30,
            credentials: "",
            lookup: answers(vec![]),
        }
    }
}

/// Credentials as the configuration gives them.
pub(crate) fn credentials(toml: &str) -> Result<Credentials, Vec<String>> {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("stills.toml");
    std::fs::write(&path, toml).expect("file");
    // The secret of `keyed`, where there is one of that name.
    let secret = ("STILLS_CREDENTIALS__KEYED__SECRET".to_owned(), "very-secret".to_owned());
    let environment = Some(secret).filter(|_| toml.contains(".keyed]"));
    let config = Config::load(Program::Indexer, Some(&path), environment);
    let credentials = config.map_or_else(|faults| Err(vec![faults.to_string()]), |config| Ok(config.credentials));
    Credentials::new(&credentials?)
}

impl Setup<'_> {
    pub(crate) fn client(&self) -> Client {
        let networks = self.allow_networks.iter().map(|network| network.parse().expect("network")).collect();
        Client::with(Guard::new(networks), Arc::clone(&self.lookup), PACE).expect("client")
    }

    pub(crate) fn source(&self, dir: &tempfile::TempDir) -> Source {
        let policy =
            PolicyConfig { roots: vec![], allow_urls: self.allow_urls.iter().map(ToString::to_string).collect() };
        let remote = RemoteConfig {
            client: self.client(),
            credentials: credentials(self.credentials).expect("credentials"),
            is_whole: self.is_whole,
            whole_dir: dir.path().join("tmp"),
            whole_bytes_max: self.whole_bytes_max,
        };
        let threads = Arc::new(Threads::start("media", 2, 64).expect("threads"));
        Source::new(Arc::new(MediaPolicy::new(policy).expect("policy")), threads, remote).expect("source")
    }
}

pub(crate) fn wanted(media_url: &str) -> Wanted<'_> {
    Wanted { user: USER, media_url, credentials_key: None, is_growing: false }
}

pub(crate) fn range(offset: u64, len: u32) -> ByteRange {
    ByteRange { offset, len }
}

/// A resolver that gives these lists of addresses in turn for each name, the last one for ever.
pub(crate) fn answers(lists: Vec<(&str, Vec<Vec<&str>>)>) -> Lookup {
    let parse = |list: Vec<&str>| list.iter().map(|text| text.parse::<IpAddr>().expect("address")).collect::<Vec<_>>();
    let lists = lists
        .into_iter()
        .map(|(name, lists)| (name.to_owned(), lists.into_iter().map(parse).rev().collect::<Vec<_>>()));
    let lists: Arc<std::sync::Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>> =
        Arc::new(std::sync::Mutex::new(lists.collect()));
    Arc::new(move |name| {
        let mut lists = lists.lock().expect("lock");
        let list = lists
            .get_mut(&name)
            .map(|list| if list.len() > 1 { list.pop() } else { list.last().cloned() }.unwrap_or_default());
        Box::pin(async move { list.ok_or_else(|| std::io::Error::other("no such name")) })
    })
}

/// Bytes that are different at each place.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}
