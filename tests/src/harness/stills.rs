//! A running server, perhaps with NGINX in front, and the calls that most tests make.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::{Client, Method};
use rustix::process::Signal;
use serde_json::Value;

use super::event::{self, Camera, media_type};
use super::http::{Answer, Ask, client};
use super::metrics::Samples;
use super::nginx::Nginx;
use super::program::Program;
use super::setup::Home;
use super::{PUBLIC_HOST, token, wait};

/// A running server.
#[derive(Debug)]
pub struct Stills {
    // In the order in which they are dropped: whoever asks goes before whoever answers.
    nginx: Option<Nginx>,
    origin: Program,
    address: SocketAddr,
    admin_address: SocketAddr,
    client: Client,
    home: Home,
    owner: String,
}

/// A search that can be listed.
#[derive(Debug, Clone)]
pub struct Search {
    /// Of what.
    pub camera: Camera,
    /// From, in milliseconds.
    pub start: i64,
    /// Until, in milliseconds.
    pub end: i64,
    /// In milliseconds.
    pub interval: i64,
    /// `{w}x{h}`
    pub resolution: String,
    /// Further parameters, `a=b&c=d`.
    pub extra: String,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The URL's path and query.
    pub target: String,
    /// The offset.
    pub timestamp: i64,
}

impl Search {
    /// At 320x240.
    pub fn new(camera: &Camera, (start, end): (i64, i64), interval: i64) -> Self {
        let (resolution, extra) = ("320x240".to_owned(), String::new());
        Self { camera: camera.clone(), start, end, interval, resolution, extra }
    }

    /// The same with further parameters.
    #[must_use]
    pub fn with(mut self, extra: &str) -> Self {
        self.extra = format!("{}&{extra}", self.extra);
        self
    }

    /// Path and query.
    pub fn target(&self) -> String {
        let Self { camera: Camera { user, device }, start, end, interval, resolution, extra } = self;
        format!(
            "/v1/thumbnails/search?user_id={user}&device_id={device}&start_timestamp={start}&end_timestamp={end}\
             &resolution={resolution}&interval={interval}{extra}"
        )
    }
}

/// The path of a thumb at 320x240.
pub fn thumb(camera: &Camera, (start, end): (i64, i64), offset: i64) -> String {
    thumb_sized(camera, (start, end), offset, (320, 240))
}

/// The path of a thumb.
pub fn thumb_sized(camera: &Camera, (start, end): (i64, i64), offset: i64, (width, height): (u32, u32)) -> String {
    let Camera { user, device } = camera;
    format!("/{user}/{device}/{start}/{end}/1/false/thumb-{offset}-w{width}-h{height}.jpg")
}

impl Stills {
    /// Starts the server, and NGINX where it is wanted, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(home: Home, has_nginx: bool) -> Self {
        let client = client();
        let mut home = home;
        let (origin, address, admin_address) = launch(&home, &client).await;
        // The next start is on the same ports, so that NGINX finds it again.
        home.set("http.listen", &format!("\"{address}\""));
        home.set("http.admin_listen", &format!("\"{admin_address}\""));
        let nginx = if has_nginx { Some(Nginx::start(&home.path("nginx"), address).await) } else { None };
        Self { nginx, origin, address, admin_address, client, home, owner: token::owner() }
    }

    /// Where users come: NGINX where there is one, else the server itself.
    pub fn address(&self) -> SocketAddr {
        self.nginx.as_ref().map_or(self.address, Nginx::address)
    }

    /// Where NGINX comes.
    pub fn origin_address(&self) -> SocketAddr {
        self.address
    }

    /// Its configuration, media and data.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// To change its configuration.
    pub fn home_mut(&mut self) -> &mut Home {
        &mut self.home
    }

    /// NGINX.
    ///
    /// # Panics
    /// When there is none.
    pub fn nginx(&self) -> &Nginx {
        self.nginx.as_ref().expect("a setup with NGINX")
    }

    /// The server's process.
    pub fn origin(&mut self) -> &mut Program {
        &mut self.origin
    }

    /// What the server logged so far.
    pub fn log(&self) -> Vec<String> {
        self.origin.lines()
    }

    /// A token that may do everything with the usual user's footage.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The client, for requests of another kind.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A request without a credential, as a user would send it.
    pub fn ask(&self, method: Method, target: &str) -> Ask {
        Ask::new(&self.client, method, format!("http://{}{target}", self.address()))
    }

    /// A request without a credential, to the server itself.
    pub fn ask_origin(&self, method: Method, target: &str) -> Ask {
        Ask::new(&self.client, method, format!("http://{}{target}", self.address))
    }

    /// `GET` with the owner's token.
    pub async fn get(&self, target: &str) -> Answer {
        self.ask(Method::GET, target).bearer(&self.owner).send().await
    }

    /// `GET` with another token.
    pub async fn get_as(&self, token: &str, target: &str) -> Answer {
        self.ask(Method::GET, target).bearer(token).send().await
    }

    /// `GET` on the admin listener.
    pub async fn admin(&self, target: &str) -> Answer {
        Ask::new(&self.client, Method::GET, format!("http://{}{target}", self.admin_address)).send().await
    }

    /// All metrics.
    ///
    /// # Panics
    /// When they cannot be read.
    pub async fn metrics(&self) -> Samples {
        Samples::parse(&self.admin("/metrics").await.expect(200).text()).expect("metrics")
    }

    /// Renders that ended so far.
    pub async fn renders(&self) -> f64 {
        self.metrics().await.sum("stills_renders_total", &[])
    }

    /// Requests that the server answered on a route so far, such as `thumb` or `auth`.
    pub async fn requests(&self, route: &str) -> f64 {
        self.metrics().await.sum("stills_http_requests_total", &[("route", route)])
    }

    /// Sends events as a batch.
    pub async fn send(&self, events: &[Value]) -> Answer {
        self.send_as(&self.owner, events).await
    }

    /// Sends events as a batch with another token.
    pub async fn send_as(&self, token: &str, events: &[Value]) -> Answer {
        let body = Value::from(events.to_vec()).to_string();
        self.ask(Method::POST, "/v1/recordings/events").bearer(token).body(media_type::BATCH, body).send().await
    }

    /// Copies a file to where a camera's media must lie, and gives the URL of the copy.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn place(&self, camera: &Camera, file: &Path, name: &str) -> String {
        let to = self.media_path(camera, name);
        std::fs::copy(file, &to).expect("a copy");
        self.media_url(camera, name)
    }

    /// Where a placed file lies.
    ///
    /// # Panics
    /// When its directory cannot be made.
    pub fn media_path(&self, camera: &Camera, name: &str) -> PathBuf {
        let directory = self.home.media().join(&camera.user).join(&camera.device);
        std::fs::create_dir_all(&directory).expect("a directory");
        directory.join(name)
    }

    /// The URL of a placed file, or of one that is not there.
    pub fn media_url(&self, camera: &Camera, name: &str) -> String {
        format!("file://{}", self.media_path(camera, name).display())
    }

    /// Announces a file as a recording over `span` and waits until it is indexed. The id names the media file too.
    ///
    /// # Panics
    /// When it is not.
    pub async fn record(&self, camera: &Camera, id: &str, span: (i64, i64), file: &Path) {
        let url = self.place(camera, file, id);
        self.send(&[event::available(camera, id, span, &url)]).await.expect(202);
        self.until_state(camera, id, span, "indexed").await;
    }

    /// The recordings of a window as `GET /v1/recordings` tells them.
    pub async fn recordings(&self, camera: &Camera, (start, end): (i64, i64)) -> Value {
        let Camera { user, device } = camera;
        let target =
            format!("/v1/recordings?user_id={user}&device_id={device}&start_timestamp={start}&end_timestamp={end}");
        self.get(&target).await.expect(200).json()
    }

    /// What is said of one recording in a window; null where it is not there.
    pub async fn recording(&self, camera: &Camera, id: &str, span: (i64, i64)) -> Value {
        let all = self.recordings(camera, span).await;
        let all = all["recordings"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|recording| recording["recording_id"] == id).unwrap_or_default()
    }

    /// Waits until a recording is in a state.
    pub async fn until_state(&self, camera: &Camera, id: &str, span: (i64, i64), state: &str) {
        let what = format!("recording {id} {state}");
        wait::until(&what, async || self.recording(camera, id, span).await["state"] == state).await;
    }

    /// The entries of a search, all on one page.
    ///
    /// # Panics
    /// When it is refused or an entry is malformed.
    pub async fn list(&self, search: &Search) -> Vec<Listed> {
        listed(&self.get(&search.target()).await)
    }

    /// Kills the server as a power cut would; NGINX stays.
    pub async fn kill9(&mut self) {
        self.origin.signal(Signal::KILL);
        self.origin.end().await;
    }

    /// Starts the server again after it ended, and waits until it is ready.
    ///
    /// # Panics
    /// When it still runs or does not become ready.
    pub async fn start_again(&mut self) {
        assert!(!self.origin.is_running(), "the server still runs");
        let (origin, address, admin_address) = launch(&self.home, &self.client).await;
        self.origin = origin;
        assert_eq!((address, admin_address), (self.address, self.admin_address), "the ports of before");
    }
}

/// The entries of an answer to a search.
///
/// # Panics
/// When it is refused or an entry is malformed.
pub fn listed(answer: &Answer) -> Vec<Listed> {
    let entries = answer.clone().expect(200).json();
    let entry = |entry: &Value| {
        let url = entry["url"].as_str().and_then(|url| url.strip_prefix(PUBLIC_HOST));
        let n_members = entry.as_object().map_or(0, serde_json::Map::len);
        let found = url.zip(entry["timestamp"].as_i64()).filter(|_| n_members == 2);
        found.map(|(target, timestamp)| Listed { target: target.to_owned(), timestamp })
    };
    let entries = entries.as_array().expect("a list");
    entries.iter().map(|e| entry(e).unwrap_or_else(|| panic!("a malformed entry: {e}"))).collect()
}

/// Starts the server and waits until it says where it listens and is ready.
async fn launch(home: &Home, client: &Client) -> (Program, SocketAddr, SocketAddr) {
    let mut program = Program::start("stills-origin", &mut home.server());
    let (address, admin_address) = wait::some("the server listens", async || {
        let is_running = program.is_running();
        let found = program.lines().iter().find_map(|line| addresses(line));
        assert!(found.is_some() || is_running, "the server ended");
        found
    })
    .await;
    wait::until("the server is ready", async || {
        assert!(program.is_running(), "the server ended");
        let ready = Ask::new(client, Method::GET, format!("http://{admin_address}/readyz"));
        ready.attempt().await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    (program, address, admin_address)
}

/// Both addresses, from the line in which the server tells them.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |key: &str| line[key].as_str()?.parse().ok();
    (line["message"] == "listening").then(|| address("listen").zip(address("admin_listen"))).flatten()
}
