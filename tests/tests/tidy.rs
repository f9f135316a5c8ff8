//! The rules of the codebase that no compiler checks: what may be named where, how long a file may be, what lies at the top.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// Every tracked or new file that is not ignored, relative to the repository.
fn files() -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().expect("git");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("names in UTF-8");
    let mut names: Vec<String> = listed.lines().map(str::to_owned).filter(|name| root().join(name).is_file()).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 50, "only {} files", names.len());
    names
}

/// Every Rust file and its text.
fn rust() -> Vec<(String, String)> {
    let names = files().into_iter().filter(|name| name.ends_with(".rs"));
    names.map(|name| (name.clone(), std::fs::read_to_string(root().join(name)).expect("a text"))).collect()
}

/// A file's code: without comments, text literals and the tests at its foot.
fn code(text: &str) -> String {
    let body = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let without_comment = |line: &str| {
        let end = line.find("//").unwrap_or(line.len());
        without_texts(&line[..end])
    };
    body.lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

/// A line with what stands between quotes left out. Good enough for lines that were formatted.
fn without_texts(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// Whether `word` stands in `code` as a word of its own.
fn has_word(code: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Names of files whose code has any of the words, but for those allowed.
fn named_outside(words: &[&str], is_looked_at: impl Fn(&str) -> bool, allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in rust().into_iter().filter(|(name, _)| is_looked_at(name) && !allowed.contains(&name.as_str())) {
        let code = code(&text);
        found.extend(words.iter().filter(|word| has_word(&code, word)).map(|word| format!("{word} in {name}")));
    }
    found
}

const NONE: [&str; 0] = [];

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> =
        rust().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(name, _)| name).collect();
    assert_eq!(silent, NONE);
}

#[test]
fn no_file_is_longer_than_two_could_be() {
    let long: Vec<String> = rust()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > 500)
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    assert_eq!(long, NONE);
}

#[test]
fn the_top_is_what_it_was_agreed_to_be() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "SECURITY.md",
        "deny.toml",
        "rustfmt.toml",
    ];
    let folders = ["origin", "indexer", "nginx", "tests", "scripts"];
    let tops: BTreeSet<String> = files()
        .iter()
        .map(|name| match name.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => name.clone(),
        })
        .collect();
    let is_allowed = |top: &String| {
        let name = top.trim_end_matches('/');
        name.starts_with('.') || if top.ends_with('/') { folders.contains(&name) } else { allowed.contains(&name) }
    };
    let others: Vec<&String> = tops.iter().filter(|top| !is_allowed(top)).collect();
    assert_eq!(others, Vec::<&String>::new());
}

#[test]
fn dependencies_point_one_way() {
    let mut edges = BTreeMap::new();
    for (folder, package) in [
        ("origin", "stills-origin"),
        ("indexer", "stills-indexer"),
        ("indexer/model", "stills-model"),
        ("indexer/decoder", "stills-decoder"),
        ("tests", "e2e"),
    ] {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let on: BTreeSet<String> = manifest
            .lines()
            .filter_map(|line| line.split(['.', '=', ' ']).next())
            .filter(|name| name.starts_with("stills-"))
            .map(str::to_owned)
            .collect();
        edges.insert(package, on);
    }
    let on = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    // e2e→model stands in the manifest for the benches' sake; tests do not use it (see below).
    let expected = BTreeMap::from([
        ("stills-origin", on(&["stills-indexer", "stills-model"])),
        ("stills-indexer", on(&["stills-model"])),
        ("stills-model", on(&[])),
        ("stills-decoder", on(&["stills-model"])),
        ("e2e", on(&["stills-model", "stills-origin"])),
    ]);
    assert_eq!(edges, expected);
}

#[test]
fn what_is_dangerous_is_named_in_few_places() {
    // In the catalog `sled` is also the name of the one module that may know the crate.
    let own_module = |name: &str, code: &str| {
        let code = code.replace("super::sled", "");
        if name == "indexer/src/catalog/mod.rs" {
            code.replace("mod sled;", "").replace("use sled::", "")
        } else {
            code
        }
    };
    let knows_sled: Vec<String> = rust()
        .into_iter()
        .filter(|(name, text)| has_word(&own_module(name, &code(text)), "sled"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(knows_sled, ["indexer/src/cache/index.rs", "indexer/src/catalog/sled.rs"]);
    let outside = |name: &str| !name.starts_with("indexer/decoder/");
    assert_eq!(
        named_outside(&["ffmpeg_next", "ffmpeg::", "turbojpeg", "libwebp_sys"], outside, &[]),
        NONE,
        "the libraries that touch media"
    );
    let manifests = files().into_iter().filter(|name| name.ends_with("/Cargo.toml"));
    let with_ffmpeg: Vec<String> = manifests
        .filter(|name| std::fs::read_to_string(root().join(name)).is_ok_and(|text| text.contains("ffmpeg-next")))
        .collect();
    assert_eq!(with_ffmpeg, ["indexer/decoder/Cargo.toml"]);
}

#[test]
fn a_status_is_chosen_in_one_place() {
    let origin = |name: &str| name.starts_with("origin/");
    // `ops` tells failures from answers, for the log's level; `jwks` reads the answer of another server.
    let readers = ["origin/src/reply.rs", "origin/src/ops.rs", "origin/src/auth/jwks.rs"];
    assert_eq!(named_outside(&["StatusCode"], origin, &readers), NONE);
    let ops = std::fs::read_to_string(root().join("origin/src/ops.rs")).expect("a text");
    assert!(!code(&ops).contains("StatusCode::"), "ops chooses a status");
    let indexer = |name: &str| name.starts_with("indexer/");
    // Both read the answers of servers that media comes from.
    let readers = ["indexer/src/source/answer.rs", "indexer/src/source/client.rs"];
    assert_eq!(named_outside(&["StatusCode"], indexer, &readers), NONE);
}

#[test]
fn unsafe_code_is_where_it_was_allowed() {
    // The example measures FFmpeg itself, beside which our renders are measured.
    let allowed = |name: &str| name.starts_with("indexer/decoder/src/") || name == "indexer/decoder/examples/floor.rs";
    let named = named_outside(&["unsafe"], |name| !allowed(name), &[]);
    assert_eq!(named, NONE);
    for (name, text) in rust().into_iter().filter(|(name, _)| allowed(name)) {
        let n_unsafe = code(&text).matches("unsafe {").count();
        let n_reasons = text.matches("SAFETY:").count();
        assert!(n_reasons >= n_unsafe.min(1), "{name}: {n_unsafe} unsafe blocks, {n_reasons} reasons");
    }
}

#[test]
fn the_model_touches_nothing() {
    let words =
        ["std::fs", "std::net", "std::io", "std::env", "SystemTime", "Instant", "tokio", "serde", "async", "thread"];
    assert_eq!(named_outside(&words, |name| name.starts_with("indexer/model/src/"), &[]), NONE);
    let manifest = std::fs::read_to_string(root().join("indexer/model/Cargo.toml")).expect("a manifest");
    for name in ["tokio", "serde", "sled", "ffmpeg", "reqwest", "hyper"] {
        assert!(!manifest.contains(name), "the model depends on {name}");
    }
}

#[test]
fn nothing_is_silenced_ignored_or_left_open() {
    let mut found = Vec::new();
    for (name, text) in rust() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).map(without_texts);
        for line in code {
            for word in ["#[allow(", "#![allow(", "#[ignore", "todo!(", "unimplemented!(", "dbg!("] {
                if line.contains(word) {
                    found.push(format!("{word} in {name}"));
                }
            }
        }
    }
    assert_eq!(found, NONE);
}

#[test]
fn tests_wait_for_conditions_and_never_for_time() {
    let mut found = Vec::new();
    for (name, text) in rust() {
        let is_test_file = name.contains("/tests/") || name.starts_with("tests/") || name.ends_with("/tests.rs");
        let tests = if is_test_file {
            Some(text.as_str())
        } else {
            text.split_once("\n#[cfg(test)]\nmod tests {").map(|(_, t)| t)
        };
        let code: Vec<String> = tests.unwrap_or_default().lines().map(without_texts).collect();
        let sleeps = ["thread::sleep", "time::sleep", "sleep(", "sleep_until("];
        found.extend(
            sleeps.iter().filter(|s| code.iter().any(|line| line.contains(*s))).map(|s| format!("{s} in {name}")),
        );
    }
    assert_eq!(found, NONE);
}

#[test]
fn handlers_do_not_know_each_other() {
    let serve = std::fs::read_to_string(root().join("origin/src/serve.rs")).expect("a text");
    let imported = serve.lines().find(|line| line.starts_with("use crate::{")).expect("the handlers");
    let handlers: Vec<&str> = imported
        .trim_start_matches("use crate::{")
        .trim_end_matches("};")
        .split(", ")
        .filter(|name| !["cors"].contains(name))
        .collect();
    assert!(handlers.len() >= 7, "{handlers:?}");
    let mut found = Vec::new();
    for handler in &handlers {
        let text = std::fs::read_to_string(root().join(format!("origin/src/{handler}.rs"))).expect("a handler");
        let others = handlers.iter().filter(|other| *other != handler);
        let code = code(&text);
        found.extend(
            others.filter(|other| code.contains(&format!("crate::{other}::"))).map(|o| format!("{o} in {handler}")),
        );
    }
    assert_eq!(found, NONE);
}

#[test]
fn interfaces_of_others_do_not_know_each_other() {
    let interfaces = ["jobs", "kinesis"];
    let mut found = Vec::new();
    for (name, text) in rust() {
        let Some(path) = name.strip_prefix("origin/src/compat/") else { continue };
        let own = interfaces.iter().find(|own| path.starts_with(**own));
        let others = interfaces.iter().filter(|other| own.is_some() && Some(*other) != own);
        let code = code(&text);
        let knows =
            |other: &&&str| code.contains(&format!("compat::{other}")) || code.contains(&format!("super::{other}"));
        found.extend(others.filter(knows).map(|other| format!("{other} in {name}")));
    }
    assert_eq!(found, NONE);
}

#[test]
fn the_leaves_of_the_indexer_do_not_know_each_other() {
    let leaves = ["cache", "blobs", "decode", "source", "catalog", "uploads"];
    let mut found = Vec::new();
    for (name, text) in rust() {
        let Some(path) = name.strip_prefix("indexer/src/") else { continue };
        let Some(leaf) =
            leaves.iter().find(|leaf| path.starts_with(&format!("{leaf}/")) || path == format!("{leaf}.rs"))
        else {
            continue;
        };
        let code = code(&text);
        let others = leaves.iter().filter(|other| *other != leaf);
        found.extend(
            others.filter(|other| code.contains(&format!("crate::{other}::"))).map(|o| format!("{o} in {name}")),
        );
    }
    assert_eq!(found, NONE);
}

#[test]
fn names_say_what_things_are() {
    let vague =
        ["manager", "service", "helper", "helpers", "util", "utils", "common", "core", "context", "worker", "misc"];
    let found: Vec<String> = files()
        .into_iter()
        .filter(|name| name.split(['/', '.', '_', '-']).any(|part| vague.contains(&part)))
        // systemd's own word for a unit file.
        .filter(|name| !name.ends_with(".service"))
        .collect();
    assert_eq!(found, NONE);
    let mut modules = Vec::new();
    for (name, text) in rust() {
        let names = text.lines().filter_map(|line| {
            let rest = line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            rest.strip_prefix("mod ")
        });
        let names = names.map(|rest| rest.trim_end_matches([';', '{', ' ']).to_owned());
        modules.extend(names.filter(|m| vague.contains(&m.as_str())).map(|m| format!("{m} in {name}")));
    }
    assert_eq!(modules, NONE);
}

#[test]
fn no_machine_is_named() {
    let mut found = Vec::new();
    // Built of parts, so that this file does not name what it looks for.
    let words = [["/home", "/"].concat(), ["/work", "/"].concat(), ["/root", "/"].concat(), ["/tmp", "/w/"].concat()];
    for name in files() {
        let Ok(text) = std::fs::read_to_string(root().join(&name)) else { continue };
        found.extend(words.iter().filter(|word| text.contains(word.as_str())).map(|word| format!("{word} in {name}")));
    }
    assert_eq!(found, NONE);
}
