//! How a part reads its own settings: a [`Section`] has a getter for each kind of value.
//!
//! A getter never fails. It records a fault and gives the default, so that one run finds every fault; what no
//! getter asked for is an unknown setting. [`Settings::finish`] tells. Each getter also says what the setting
//! means, from which the reference is printed: the reference cannot leave out a setting or name one that is gone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use super::fault::{Fault, Faults, Origin};
use super::reference::{self, Entry};
use super::tree::{Node, Sources, Table, Value};

/// All settings, and what was found while they were read.
#[derive(Debug)]
pub struct Settings {
    root: Node,
    findings: RefCell<Findings>,
    is_describing: bool,
}

#[derive(Debug, Default)]
struct Findings {
    faults: Vec<Fault>,
    /// The paths of the values that were asked for.
    asked: BTreeSet<String>,
    /// The paths of the tables that were opened.
    sections: BTreeSet<String>,
    entries: Vec<Entry>,
}

impl Settings {
    /// Gathers the settings of a file (`None`: the default one, which may be missing), of `conf.d` and of the
    /// environment. What is wrong with the files themselves is told by [`Settings::finish`] too.
    pub fn load(path: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let sources = Sources::load(path, environment);
        Self::new(sources.table, sources.faults, false)
    }

    /// Settings without any value, that remember what the getters say of themselves.
    pub(super) fn describing() -> Self {
        Self::new(Table::new(), Vec::new(), true)
    }

    fn new(table: Table, faults: Vec<Fault>, is_describing: bool) -> Self {
        let root = Node { value: Value::Table(table), origin: Origin::Variable("".into()) };
        let findings = RefCell::new(Findings { faults, ..Findings::default() });
        Self { root, findings, is_describing }
    }

    /// The section of that name, empty where nothing is set in it.
    pub fn section(&self, name: &str) -> Section<'_> {
        self.top().table(name)
    }

    /// The table of all sections.
    pub fn top(&self) -> Section<'_> {
        Section { settings: self, path: String::new(), node: Some(&self.root) }
    }

    /// Ends the reading: all faults, those of unknown settings last.
    pub fn finish(self) -> Result<(), Faults> {
        let Findings { mut faults, asked, sections, .. } = self.findings.into_inner();
        if let Value::Table(table) = &self.root.value {
            unknown_settings(table, "", &asked, &sections, &mut faults);
        }
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    /// The settings that were asked for, as Markdown.
    pub(super) fn reference(self) -> String {
        reference::markdown(&self.findings.into_inner().entries)
    }
}

/// Adds a fault for everything that nobody asked for; never its value, which may be a misnamed secret.
fn unknown_settings(
    table: &Table,
    path: &str,
    asked: &BTreeSet<String>,
    sections: &BTreeSet<String>,
    faults: &mut Vec<Fault>,
) {
    for (key, node) in table {
        let child = joined(path, key);
        match &node.value {
            _ if asked.contains(&child) => {}
            Value::Table(inner) if sections.contains(&child) => {
                unknown_settings(inner, &child, asked, sections, faults);
            }
            Value::List(items) if sections.contains(&child) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Table(inner) = &item.value {
                        unknown_settings(inner, &format!("{child}[{index}]"), asked, sections, faults);
                    }
                }
            }
            _ => {
                let siblings = asked.iter().chain(sections).filter_map(|known| child_of(known, path));
                let siblings: BTreeSet<&str> = siblings.collect();
                let known = siblings.into_iter().collect::<Vec<_>>().join(", ");
                let (what, place) = match path {
                    "" => ("section", "there are".to_owned()),
                    _ => ("setting", format!("[{path}] has")),
                };
                let problem = format!("unknown {what}; {place} {known}");
                let origin = Some(node.origin.clone());
                faults.push(Fault { setting: child, value: None, origin, problem });
            }
        }
    }
}

/// The last part of `known` when it lies directly in the table at `path`.
fn child_of<'a>(known: &'a str, path: &str) -> Option<&'a str> {
    let rest = if path.is_empty() { known } else { known.strip_prefix(path)?.strip_prefix('.')? };
    (!rest.contains(['.', '['])).then_some(rest)
}

/// `path.key`, with the key in quotes where TOML would need them.
fn joined(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let key = if is_bare || key.starts_with('<') { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// One table of settings; see [`super::values`] for its getters.
#[derive(Debug)]
pub struct Section<'a> {
    settings: &'a Settings,
    pub(super) path: String,
    node: Option<&'a Node>,
}

impl<'a> Section<'a> {
    /// A table inside this one, empty where nothing is set in it.
    pub fn table(&self, name: &str) -> Section<'a> {
        let node = self.child(name);
        self.opened(joined(&self.path, name), node)
    }

    /// A section from a node that should be a table; a fault when it is something else.
    pub(super) fn opened(&self, path: String, node: Option<&'a Node>) -> Section<'a> {
        if let Some(node) = node.filter(|node| !matches!(node.value, Value::Table(_))) {
            self.record(&path, Some(node), "must be a table");
            self.settings.findings.borrow_mut().asked.insert(path.clone());
            return Section { settings: self.settings, path, node: None };
        }
        self.settings.findings.borrow_mut().sections.insert(path.clone());
        Section { settings: self.settings, path, node }
    }

    /// Records that a rule between settings, or one of the caller's own, is broken.
    pub fn fault(&self, name: &str, problem: &str) {
        self.record(&joined(&self.path, name), self.child(name), problem);
    }

    /// Records that the section as a whole is wrong.
    pub fn fault_of_section(&self, problem: &str) {
        self.record(&self.path, self.node.filter(|_| !self.path.is_empty()), problem);
    }

    /// Whether a value is given for the key.
    pub fn is_set(&self, name: &str) -> bool {
        self.child(name).is_some()
    }

    /// Whether the getters only tell what there is, as for the reference.
    pub(super) fn is_describing(&self) -> bool {
        self.settings.is_describing
    }

    /// The path of a key, and its value if there is one; marks it as asked for.
    pub(super) fn ask(&self, name: &str) -> (String, Option<&'a Node>) {
        let path = joined(&self.path, name);
        self.settings.findings.borrow_mut().asked.insert(path.clone());
        (path, self.child(name))
    }

    /// The same for a list of tables or a table of tables, whose inside is asked for on its own.
    pub(super) fn ask_tables(&self, name: &str) -> (String, Option<&'a Node>) {
        let path = joined(&self.path, name);
        self.settings.findings.borrow_mut().sections.insert(path.clone());
        (path, self.child(name))
    }

    fn child(&self, name: &str) -> Option<&'a Node> {
        self.given()?.get(name)
    }

    /// What is given in this section.
    pub(super) fn given(&self) -> Option<&'a Table> {
        match &self.node?.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Records a fault of the value at `path`, which is shown.
    pub(super) fn record(&self, path: &str, node: Option<&Node>, problem: &str) {
        let value = node.and_then(|node| match &node.value {
            Value::Scalar { text, kind } => Some(super::fault::shown(text, kind.is_quoted())),
            _ => None,
        });
        self.record_value(path, node, value, problem);
    }

    /// Records a fault of a secret's value, which is not shown.
    pub(super) fn record_secret(&self, path: &str, node: Option<&Node>, problem: &str) {
        self.record_value(path, node, node.map(|_| "***".to_owned()), problem);
    }

    fn record_value(&self, path: &str, node: Option<&Node>, value: Option<String>, problem: &str) {
        // A fault of something that is not there belongs to the table where it is missing.
        let origin = node.or(self.node.filter(|_| !self.path.is_empty())).map(|node| node.origin.clone());
        let fault = Fault { setting: path.to_owned(), value, origin, problem: problem.to_owned() };
        self.settings.findings.borrow_mut().faults.push(fault);
    }

    /// Remembers what a getter says of its setting.
    pub(super) fn describe(&self, name: &str, default: String, allowed: String, meaning: &str) {
        if self.is_describing() {
            let meaning = meaning.to_owned();
            let entry = Entry { section: self.path.clone(), key: name.to_owned(), default, allowed, meaning };
            self.settings.findings.borrow_mut().entries.push(entry);
        }
    }
}
