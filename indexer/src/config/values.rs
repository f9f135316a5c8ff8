//! The getters of a [`Section`], one for each kind of value. None fails: see [`super::settings`].
//!
//! `meaning` is one sentence for the reference; defaults and ranges are written as people write the setting.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::secret::Secret;
use super::settings::Section;
use super::tree::{Kind, Node, Value, read_limited};
use super::unit::{BYTES, DURATION, parse_bytes, parse_duration};

/// The longest list and the largest table of settings: beyond it, something generated went wrong.
const ITEMS_MAX: usize = 10_000;

/// The largest secret: room for an RSA key with all its parts.
const SECRET_LEN_MAX: u64 = 64 * 1024;

/// A file that a setting names, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// As written in the setting.
    pub path: PathBuf,
    /// What it held when the configuration was loaded.
    pub bytes: Vec<u8>,
}

impl<'a> Section<'a> {
    /// A text, never empty unless its default is.
    pub fn text(&self, name: &str, default: &str, meaning: &str) -> String {
        self.describe(name, quoted(default), String::new(), meaning);
        let parse = |text: &str| if default.is_empty() { Ok(text.to_owned()) } else { non_empty(text) };
        self.scalar(name, Kind::Text, "", parse).unwrap_or_else(|| default.to_owned())
    }

    /// A text that may be left out, never empty.
    pub fn optional_text(&self, name: &str, meaning: &str) -> Option<String> {
        self.describe(name, String::new(), String::new(), meaning);
        self.scalar(name, Kind::Text, "", non_empty)
    }

    /// A text of a form of its own; its error says what is allowed.
    pub fn parsed<T: FromStr<Err: Display> + Display>(&self, name: &str, default: T, meaning: &str) -> T {
        self.describe(name, quoted(&default.to_string()), String::new(), meaning);
        self.scalar(name, Kind::Text, "", from_str).unwrap_or(default)
    }

    /// The same, where it may be left out.
    pub fn optional<T: FromStr<Err: Display>>(&self, name: &str, meaning: &str) -> Option<T> {
        self.describe(name, String::new(), String::new(), meaning);
        self.scalar(name, Kind::Text, "", from_str)
    }

    /// The same, where it may not: `None` comes with a fault.
    pub fn required<T: FromStr<Err: Display>>(&self, name: &str, meaning: &str) -> Option<T> {
        self.describe(name, "required".to_owned(), String::new(), meaning);
        let value = self.scalar(name, Kind::Text, "", from_str);
        if !self.is_set(name) {
            self.fault(name, "missing");
        }
        value
    }

    /// An IP address and port.
    pub fn address(&self, name: &str, default: SocketAddr, meaning: &str) -> SocketAddr {
        let allowed = "an IP address and a port, such as \"127.0.0.1:8081\"";
        self.describe(name, quoted(&default.to_string()), String::new(), meaning);
        let parse = |text: &str| text.parse().map_err(|_| format!("must be {allowed}"));
        self.scalar(name, Kind::Text, allowed, parse).unwrap_or(default)
    }

    /// A path as written; a relative one is relative to where the program was started.
    pub fn path(&self, name: &str, default: &str, meaning: &str) -> PathBuf {
        PathBuf::from(self.text(name, default, meaning))
    }

    /// A duration within a range.
    pub fn duration(&self, name: &str, default: &str, range: RangeInclusive<&str>, meaning: &str) -> Duration {
        self.describe(name, quoted(default), allowed_range(&range), meaning);
        self.ranged(name, default, &range, parse_duration, DURATION).unwrap_or_default()
    }

    /// A size in bytes within a range.
    pub fn bytes(&self, name: &str, default: &str, range: RangeInclusive<&str>, meaning: &str) -> u64 {
        self.describe(name, quoted(default), allowed_range(&range), meaning);
        self.ranged(name, default, &range, parse_bytes, BYTES).unwrap_or_default()
    }

    /// A whole number within a range.
    pub fn integer<T>(&self, name: &str, default: T, range: RangeInclusive<T>, meaning: &str) -> T
    where
        T: FromStr + PartialOrd + Display,
    {
        self.describe(name, default.to_string(), allowed_range(&range), meaning);
        self.number(name, &range).unwrap_or(default)
    }

    /// A whole number within a range, which may be left out.
    pub fn optional_integer<T>(&self, name: &str, range: RangeInclusive<T>, meaning: &str) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        self.describe(name, String::new(), allowed_range(&range), meaning);
        self.number(name, &range)
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &str, default: bool, meaning: &str) -> bool {
        self.describe(name, default.to_string(), "true, false".to_owned(), meaning);
        let parse = |text: &str| text.parse().map_err(|_| "must be true or false".to_owned());
        self.scalar(name, Kind::Flag, "", parse).unwrap_or(default)
    }

    /// One of a few words, each with what it stands for.
    pub fn choice<T: Clone + PartialEq>(&self, name: &str, words: &[(&str, T)], default: T, meaning: &str) -> T {
        let list = words.iter().map(|(word, _)| quoted(word)).collect::<Vec<_>>().join(", ");
        let default_word = words.iter().find(|(_, value)| *value == default).map_or("", |(word, _)| word);
        self.describe(name, quoted(default_word), list.clone(), meaning);
        let find = |text: &str| words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
        let parse = |text: &str| find(text).ok_or_else(|| format!("must be one of {list}"));
        self.scalar(name, Kind::Text, &format!("one of {list}"), parse).unwrap_or(default)
    }

    /// A list of texts of one form, at most `len_max`; in a variable separated by commas.
    pub fn list<T>(&self, name: &str, default: &[&str], len_max: usize, meaning: &str) -> Vec<T>
    where
        T: FromStr<Err: Display>,
    {
        let shown = default.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ");
        self.describe(name, format!("[{shown}]"), String::new(), meaning);
        let (path, node) = self.ask(name);
        let Some(node) = node else { return default.iter().filter_map(|item| item.parse().ok()).collect() };
        let mut values = Vec::new();
        let mut take = |index: usize, text: &str, item: &Node| match from_str(text) {
            Ok(value) => values.push(value),
            Err(problem) => self.record(&format!("{path}[{index}]"), Some(item), &problem),
        };
        match &node.value {
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    match &item.value {
                        Value::Scalar { text, kind: Kind::Text } => take(index, text, item),
                        _ => self.record(&format!("{path}[{index}]"), Some(item), "must be a string"),
                    }
                }
            }
            Value::Scalar { text, kind: Kind::Variable } => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.enumerate().for_each(|(index, item)| take(index, item, node));
            }
            _ => self.record(&path, Some(node), "must be a list of strings"),
        }
        if values.len() > len_max {
            self.record(&path, Some(node), &format!("at most {len_max} are allowed"));
        }
        values
    }

    /// Names of the user's choice with a text of one form each.
    pub fn map<T: FromStr<Err: Display>>(&self, name: &str, meaning: &str) -> BTreeMap<String, T> {
        self.describe(name, "{}".to_owned(), "a table of strings".to_owned(), meaning);
        let table = self.table(name);
        table.keys().filter_map(|key| Some((key.to_owned(), table.scalar(key, Kind::Text, "", from_str)?))).collect()
    }

    /// Tables under names of the user's choice: `[credentials.my_s3]`. `read` is called for each.
    pub fn named<T>(&self, name: &str, mut read: impl FnMut(&str, &Section<'a>) -> Option<T>) -> BTreeMap<String, T> {
        let table = self.table(name);
        if self.is_describing() {
            read("<name>", &table.table("<name>"));
        }
        let sections = table.keys().map(|key| (key, table.table(key)));
        let given = sections.filter(|(_, section)| section.given().is_some());
        given.filter_map(|(key, section)| Some((key.to_owned(), read(key, &section)?))).collect()
    }

    /// A list of tables: `[[jobs.api_keys]]`. `read` is called for each.
    pub fn tables<T>(&self, name: &str, mut read: impl FnMut(&Section<'a>) -> Option<T>) -> Vec<T> {
        let (path, node) = self.ask_tables(name);
        if self.is_describing() {
            read(&self.opened(format!("{path}[]"), None));
        }
        let items = match node.map(|node| &node.value) {
            None => return Vec::new(),
            Some(Value::List(items)) if items.len() <= ITEMS_MAX => items,
            Some(_) => {
                self.ask(name);
                self.record(&path, node, &format!("must be a list of at most {ITEMS_MAX} tables, [[{path}]]"));
                return Vec::new();
            }
        };
        let sections = items.iter().enumerate().map(|(i, item)| self.opened(format!("{path}[{i}]"), Some(item)));
        sections.filter(|section| section.given().is_some()).filter_map(|section| read(&section)).collect()
    }

    /// A secret of at least `len_min` bytes: the content of the file that `{name}_file` names, or the variable of
    /// `name` itself, which beats the file. Written into a configuration file it is a fault.
    pub fn secret(&self, name: &str, len_min: usize, meaning: &str) -> Option<Secret> {
        let file_key = format!("{name}_file");
        let allowed = if len_min > 1 { format!("a file of at least {len_min} bytes") } else { "a file".to_owned() };
        self.describe(&file_key, String::new(), allowed, &format!("{meaning} Or the variable of `{name}` itself."));
        let (path, node) = self.ask(name);
        let file = self.scalar(&file_key, Kind::Text, "", non_empty);
        let (path, node, secret) = match node.map(|node| &node.value) {
            Some(Value::Scalar { text, kind: Kind::Variable }) => (path, node, Secret::new(text.as_bytes())),
            Some(_) => {
                let problem = format!("a secret must not stand in a configuration file; use {file_key}");
                self.record_secret(&path, node, &problem);
                return None;
            }
            None => {
                let (file_path, file_node) = self.ask(&file_key);
                match read_limited(Path::new(&file?), SECRET_LEN_MAX) {
                    Ok(bytes) => (file_path, file_node, Secret::new(&bytes)),
                    Err(problem) => {
                        self.record(&file_path, file_node, &problem);
                        return None;
                    }
                }
            }
        };
        let len = secret.expose().len();
        if len < len_min.max(1) {
            let problem = format!("the secret has {len} bytes; at least {} are needed", len_min.max(1));
            self.record_secret(&path, node, &problem);
            return None;
        }
        Some(secret)
    }

    /// A file of at most `len_max` bytes, read now.
    pub fn file(&self, name: &str, len_max: u64, meaning: &str) -> Option<NamedFile> {
        self.describe(name, String::new(), "a file".to_owned(), meaning);
        let path = PathBuf::from(self.scalar(name, Kind::Text, "", non_empty)?);
        match read_limited(&path, len_max) {
            Ok(bytes) => Some(NamedFile { path, bytes }),
            Err(problem) => {
                self.fault(name, &problem);
                None
            }
        }
    }

    /// The value of a key through `parse`; `None` where none is given or, with a fault, where it is wrong.
    fn scalar<T>(
        &self,
        name: &str,
        wanted: Kind,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (path, node) = self.ask(name);
        let node = node?;
        let result = match &node.value {
            Value::Scalar { text, kind } if *kind == wanted || *kind == Kind::Variable => parse(text),
            _ if allowed.is_empty() => Err(format!("must be {}", wanted.noun())),
            _ => Err(format!("must be {}: {allowed}", wanted.noun())),
        };
        result.map_err(|problem| self.record(&path, Some(node), &problem)).ok()
    }

    /// A value with a unit; its default and its range are written as the value is.
    fn ranged<T: PartialOrd>(
        &self,
        name: &str,
        default: &str,
        range: &RangeInclusive<&str>,
        parse: impl Fn(&str) -> Option<T>,
        allowed: &str,
    ) -> Option<T> {
        let is_inside = |value: &T| {
            let (min, max) = (parse(range.start()), parse(range.end()));
            min.is_none_or(|min| min <= *value) && max.is_none_or(|max| *value <= max)
        };
        let checked = |text: &str| {
            let value = parse(text).ok_or_else(|| allowed.to_owned())?;
            is_inside(&value).then_some(value).ok_or_else(|| format!("must be {}", allowed_range(range)))
        };
        self.scalar(name, Kind::Text, &allowed_range(range), checked).or_else(|| parse(default))
    }

    fn number<T: FromStr + PartialOrd + Display>(&self, name: &str, range: &RangeInclusive<T>) -> Option<T> {
        let allowed = allowed_range(range);
        let parse = |text: &str| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("must be a whole number {allowed}"))
        };
        self.scalar(name, Kind::Integer, &allowed, parse)
    }

    /// The keys given in this section.
    fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.given().into_iter().flat_map(|table| table.keys().map(String::as_str)).take(ITEMS_MAX)
    }
}

fn allowed_range<T: Display>(range: &RangeInclusive<T>) -> String {
    format!("from {} to {}", range.start(), range.end())
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn from_str<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
