//! The reference of all settings as Markdown, made from what the getters say; `REFERENCE.md` beside this file is
//! its printed form, and a test keeps the two alike.

use std::fmt::Write;

/// One setting.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its table, `http`.
    pub(super) section: String,
    /// Its name in the table.
    pub(super) key: String,
    /// As written; empty where there is none.
    pub(super) default: String,
    /// A range or a choice; empty where the meaning says it all.
    pub(super) allowed: String,
    /// One sentence.
    pub(super) meaning: String,
}

const INTRODUCTION: &str = "\
# Settings

One TOML file (`--config`, default `/etc/stills/stills.toml`), then `conf.d/*.toml` beside it in name order: tables
merge, anything else (lists too) is replaced by the later file. Every single value is also an environment variable
`STILLS_SECTION__KEY` (`STILLS_AUTH__CACHE_TTL`, `STILLS_CREDENTIALS__MY_S3__REGION`), which beats the files; lists of
texts are separated by commas there. `VOD_THUMBNAIL_HOST` is `public.host` and `MAX_QUEUE_LENGTH` is
`jobs.max_queue_length`. Durations are whole numbers with `ms`, `s`, `m`, `h` or `d`; sizes with `B`, `kB`, `MB`, `GB`,
`TB`, `KiB`, `MiB`, `GiB` or `TiB`. An unknown setting is an error. Secrets stand in files of their own, or in the
variable of the setting without `_file`; one line break at the end of a secret's file is not part of it.

This page is generated; `UPDATE_REFERENCE=1 cargo test -p stills-indexer reference` writes it again.
";

/// The page. Sections come in the order in which they were read.
pub(super) fn markdown(entries: &[Entry]) -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut sections: Vec<&str> = Vec::new();
    for entry in entries {
        if !sections.contains(&entry.section.as_str()) {
            sections.push(&entry.section);
        }
    }
    for section in sections {
        let heading = match section.strip_suffix("[]") {
            Some(list) => format!("[[{list}]]"),
            None => format!("[{section}]"),
        };
        let _ = write!(page, "\n## `{heading}`\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n");
        for Entry { key, default, allowed, meaning, .. } in entries.iter().filter(|entry| entry.section == section) {
            let default =
                if default.is_empty() || default == "required" { default.clone() } else { format!("`{default}`") };
            let allowed = allowed.replace('|', "\\|");
            let _ = writeln!(page, "| `{key}` | {default} | {allowed} | {} |", meaning.replace('|', "\\|"));
        }
    }
    page
}
