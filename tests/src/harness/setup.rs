//! What a test wants to be different: settings, keys, whether NGINX stands in front.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::stills::Stills;
use super::{PUBLIC_HOST, signed, token};

/// The configuration of a run that is to be started.
#[derive(Debug, Clone)]
pub struct Setup {
    settings: BTreeMap<String, String>,
    has_nginx: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The usual one: free ports, known secrets, no rendering ahead, so that renders can be counted.
    pub fn new() -> Self {
        let usual = [
            ("http.listen", "\"127.0.0.1:0\""),
            ("http.admin_listen", "\"127.0.0.1:0\""),
            ("http.drain", "\"3s\""),
            ("auth.cache_ttl", "\"2s\""),
            ("prerender.interval", "\"off\""),
            ("decoders.running_max", "2"),
        ];
        let mut settings: BTreeMap<String, String> =
            usual.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        settings.insert("public.host".into(), format!("\"{PUBLIC_HOST}\""));
        Self { settings, has_nginx: false }
    }

    /// NGINX in front; [`Stills::get`] and its like then go through it.
    #[must_use]
    pub fn nginx(mut self) -> Self {
        self.has_nginx = true;
        self
    }

    /// Sets `section.key` to a TOML value.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Starts everything and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(self) -> Stills {
        let has_nginx = self.has_nginx;
        let home = self.lay_out();
        Stills::start(home, has_nginx).await
    }

    /// Writes configuration and secrets without starting anything.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn lay_out(self) -> Home {
        let dir = tempfile::Builder::new().prefix("stills-e2e-").tempdir().expect("a directory");
        let mut home = Home { dir, settings: self.settings, under: Vec::new() };
        std::fs::create_dir(home.media()).expect("a directory");
        home.write("token-secret", token::SECRET);
        home.write("signing-secret", signed::SECRET);
        let roots = format!("[\"{}/{{user_id}}\"]", home.media().display());
        let data = format!("\"{}\"", home.data().display());
        let file = |name: &str| format!("\"{}\"", home.path(name).display());
        let (token_secret, signing_secret) = (file("token-secret"), file("signing-secret"));
        let signing_key = format!("auth.signing_keys.{}.secret_file", signed::KEY_ID);
        let has_other_keys = ["auth.public_key_file", "auth.jwks_file", "auth.jwks_url"];
        let has_other_keys = has_other_keys.iter().any(|key| home.settings.contains_key(*key));
        let token_key = "auth.hs256_secret_file";
        for (key, value) in [("media.roots", roots), ("data.dir", data), (&signing_key, signing_secret)] {
            home.settings.entry(key.to_owned()).or_insert(value);
        }
        if !has_other_keys {
            home.settings.entry(token_key.to_owned()).or_insert(token_secret);
        }
        home.write_config();
        home
    }
}

/// The directory of one run: configuration, secrets, media, data. Gone when it is dropped.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
    settings: BTreeMap<String, String>,
    /// The command that the server is started under.
    under: Vec<String>,
}

impl Home {
    /// A file or directory in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where media must lie, in a directory for each user.
    pub fn media(&self) -> PathBuf {
        self.path("media")
    }

    /// The server's data directory.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("stills.toml")
    }

    /// Writes a file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// Changes a setting in the configuration file; a running server does not know yet.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.insert(key.to_owned(), value.to_owned());
        self.write_config();
    }

    /// The program `name` with this configuration: `name`, `arguments`, `--config FILE`. No variable reaches it.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command.args(arguments).arg("--config").arg(self.config()).env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// Has the server started under another program from now on, which leaves it the process that was started: a
    /// command that the server's own is appended to; empty: none.
    pub fn set_under(&mut self, command: Vec<String>) {
        self.under = command;
    }

    /// What starts the server.
    pub fn server(&self) -> Command {
        let server = self.command("stills-origin", &["serve"]);
        let Some((first, rest)) = self.under.split_first() else { return server };
        let mut command = Command::new(first);
        command.args(rest).arg(server.get_program()).args(server.get_args()).env_clear();
        command.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    fn write_config(&self) {
        let lines: Vec<String> = self.settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        self.write("stills.toml", lines.concat());
    }
}

/// A program of the workspace, which lies where this one was built.
///
/// # Panics
/// When it was not built.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the running program");
    let found = this.ancestors().skip(1).map(|directory: &Path| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace comes first"))
}
