//! The settings as they were given: files and environment variables merged into one tree, each value with its origin.
//!
//! Knows no setting by name but the two documented aliases; what a value means is asked in [`super::settings`].
//!
//! 1. the configuration file; then `conf.d/*.toml` beside it in name order: tables merge, anything else replaces;
//! 2. aliases, then `STILLS_SECTION__KEY`, replace whatever the files say.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Origin};

/// Where the configuration is when nobody says otherwise; it may be missing.
pub const DEFAULT_PATH: &str = "/etc/stills/stills.toml";

/// What the names of all our environment variables begin with.
const VARIABLE_PREFIX: &str = "STILLS_";

/// Variables of other products' habit and the settings that they stand for.
const ALIASES: [(&str, &str); 2] =
    [("VOD_THUMBNAIL_HOST", "public.host"), ("MAX_QUEUE_LENGTH", "jobs.max_queue_length")];

/// The largest configuration file: a thousand times what a full one needs.
const FILE_LEN_MAX: u64 = 4 * 1024 * 1024;

/// The most parts of a variable's name: twice what any setting has.
const DEPTH_MAX: usize = 8;

/// One value and where it was given.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar { text: String, kind: Kind },
    List(Vec<Node>),
    Table(Table),
}

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Flag,
    /// A float, a date, or an integer beyond 64 bits: no setting takes one.
    Other,
    /// The text of an environment variable, which may be meant as any kind.
    Variable,
}

impl Kind {
    /// How a fault names it.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Text | Self::Other | Self::Variable => "a string",
            Self::Integer => "a whole number without quotes",
            Self::Flag => "true or false, without quotes",
        }
    }

    /// Whether a fault shows it in quotes.
    pub(super) fn is_quoted(self) -> bool {
        matches!(self, Self::Text | Self::Variable)
    }
}

pub(super) type Table = BTreeMap<String, Node>;

/// The merged tree and what went wrong on the way.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) table: Table,
    pub(super) faults: Vec<Fault>,
}

impl Sources {
    /// Reads the file (`None`: the default one, if it is there), `conf.d` beside it, and the environment.
    pub(super) fn load(path: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut sources = Self::default();
        let main = path.unwrap_or(Path::new(DEFAULT_PATH));
        if path.is_some() || !is_missing(main) {
            sources.merge_file(main);
        }
        for file in sources.files_in(&main.with_file_name("conf.d")) {
            sources.merge_file(&file);
        }
        sources.merge_environment(environment);
        sources
    }

    /// The `*.toml` files of a directory in name order; none when there is no such directory.
    fn files_in(&mut self, directory: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.fault_of_file(directory, &format!("cannot be read: {error}"));
                return Vec::new();
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
        files.sort();
        files
    }

    fn fault_of_file(&mut self, path: &Path, problem: &str) {
        let problem = format!("{}: {problem}", path.display());
        self.faults.push(Fault { setting: String::new(), value: None, origin: None, problem });
    }

    fn merge_file(&mut self, path: &Path) {
        let text = read_limited(path, FILE_LEN_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()));
        let text = match text {
            Ok(text) => text,
            Err(problem) => return self.fault_of_file(path, &problem),
        };
        let file = File { path: path.display().to_string().into(), text: &text };
        let (document, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let origin = Some(file.origin(error.span().map_or(0, |span| span.start)));
            let problem = error.message().replace('\n', " ");
            self.faults.push(Fault { setting: String::new(), value: None, origin, problem });
        }
        // What a parser makes of a broken file would only add faults that are none.
        if errors.is_empty() {
            merge(&mut self.table, file.table(document.get_ref()));
        }
    }

    fn merge_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        let mut variables: Vec<(String, String)> = environment.into_iter().collect();
        variables.sort();
        for (alias, setting) in ALIASES {
            // An alias that is set but empty is what container tools make of an absent one.
            let given = variables.iter().find(|(name, value)| name == alias && !value.is_empty());
            if let Some((name, value)) = given {
                self.set(name, setting.split('.').map(str::to_owned).collect(), value);
            }
        }
        for (name, value) in &variables {
            let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
            let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
            if (2..=DEPTH_MAX).contains(&path.len()) && path.iter().all(|part| !part.is_empty()) {
                self.set(name, path, value);
            } else if !is_service_link(rest, value) {
                let problem = "unknown variable; a setting's variable is STILLS_SECTION__KEY".to_owned();
                let origin = Some(Origin::Variable(name.as_str().into()));
                self.faults.push(Fault { setting: String::new(), value: None, origin, problem });
            }
        }
    }

    fn set(&mut self, variable: &str, path: Vec<String>, value: &str) {
        let origin = Origin::Variable(variable.into());
        let setting = path.join(".");
        if !insert(&mut self.table, path, value, &origin) {
            let problem = "cannot be set by a variable".to_owned();
            self.faults.push(Fault { setting, value: None, origin: Some(origin), problem });
        }
    }
}

fn is_missing(path: &Path) -> bool {
    path.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// A cluster puts `STILLS_SERVICE_HOST`, `STILLS_PORT=tcp://…`, `STILLS_PORT_80_TCP_ADDR` and the like into every
/// container beside a service named "stills"; they are not meant for us.
fn is_service_link(rest: &str, value: &str) -> bool {
    let name = format!("_{rest}");
    let is_port = name.ends_with("_PORT") && value.contains("://");
    let is_part = ["_TCP", "_UDP", "_SCTP"].iter().any(|part| name.contains("_PORT_") && name.contains(part));
    is_port || is_part || name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

/// Puts a variable's text at a path; false when something other than tables is on the way.
fn insert(table: &mut Table, mut path: Vec<String>, value: &str, origin: &Origin) -> bool {
    let mut key = path.remove(0);
    // Names of tables may hold capitals, which a variable's name cannot tell.
    if let Some(existing) = table.keys().find(|existing| existing.eq_ignore_ascii_case(&key)) {
        key.clone_from(existing);
    }
    if path.is_empty() {
        let value = Value::Scalar { text: value.to_owned(), kind: Kind::Variable };
        table.insert(key, Node { value, origin: origin.clone() });
        return true;
    }
    let child = table.entry(key);
    let child = child.or_insert_with(|| Node { value: Value::Table(Table::new()), origin: origin.clone() });
    match &mut child.value {
        Value::Table(inner) => insert(inner, path, value, origin),
        _ => false,
    }
}

/// Tables merge key by key; anything else, lists too, is replaced.
fn merge(into: &mut Table, from: Table) {
    for (key, node) in from {
        match (into.get_mut(&key), node) {
            (Some(Node { value: Value::Table(old), .. }), Node { value: Value::Table(new), .. }) => merge(old, new),
            (_, node) => {
                into.insert(key, node);
            }
        }
    }
}

/// One file while its document is turned into nodes.
struct File<'a> {
    path: Arc<str>,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Origin::File { path: self.path.clone(), line: 1 + before.iter().filter(|&&byte| byte == b'\n').count() }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let node = |key: usize, value| Node { value: self.value(value), origin: self.origin(key) };
        table.iter().map(|(k, v)| (k.get_ref().to_string(), node(k.span().start, v.get_ref()))).collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        let scalar = |text: String, kind| Value::Scalar { text, kind };
        match value {
            DeValue::String(text) => scalar(text.to_string(), Kind::Text),
            DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(integer) => scalar(integer.to_string(), Kind::Integer),
                Err(_) => scalar(digits.to_string(), Kind::Other),
            },
            DeValue::Float(digits) => scalar(digits.to_string(), Kind::Other),
            DeValue::Boolean(flag) => scalar(flag.to_string(), Kind::Flag),
            DeValue::Datetime(date) => scalar(date.to_string(), Kind::Other),
            DeValue::Array(items) => {
                let node = |item: &Spanned<DeValue<'_>>| Node {
                    value: self.value(item.get_ref()),
                    origin: self.origin(item.span().start),
                };
                Value::List(items.iter().map(node).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

/// A whole file of at most `len_max` bytes, or a sentence that says why not.
pub(super) fn read_limited(path: &Path, len_max: u64) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(len_max + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error: std::io::Error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > len_max {
        return Err(format!("is larger than {len_max} bytes"));
    }
    Ok(bytes)
}
