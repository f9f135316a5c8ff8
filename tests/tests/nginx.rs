//! The NGINX configuration itself: both sites are accepted by the real NGINX, and gixy names nothing that the README
//! beside the configuration does not explain.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A run directory with one of the sites, as nginx/README.md lays it out.
fn run_dir(site: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let configuration = folder();
    let link = |from: PathBuf, name: &str| std::os::unix::fs::symlink(from, dir.path().join(name)).expect("a link");
    link(configuration.clone(), "stills");
    link(configuration.join("nginx.conf"), "nginx.conf");
    let site = std::fs::read_to_string(configuration.join("sites").join(site)).expect("a site");
    // The placeholders that the site tells its operator to replace.
    let certificate = |name: &str| dir.path().join(name).display().to_string();
    let site = site
        .replace("/etc/stills/tls/PLACE-THE-CERTIFICATE-CHAIN-HERE.pem", &certificate("certificate.pem"))
        .replace("/etc/stills/tls/PLACE-THE-KEY-HERE.pem", &certificate("key.pem"));
    std::fs::write(dir.path().join("site.conf"), site).expect("site.conf");
    std::fs::write(dir.path().join("main.conf"), "").expect("main.conf");
    let key = format!("set $stills_digest_key \"{}\";\n", "5".repeat(64));
    std::fs::write(dir.path().join("digest-key.conf"), key).expect("digest-key.conf");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=stills.example.org", "-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(dir.path())
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../nginx").canonicalize().expect("the folder nginx")
}

fn check(site: &str) {
    let dir = run_dir(site);
    let tested = Command::new("nginx").arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-t"]).output();
    let tested = tested.expect("nginx; scripts/setup installs it");
    assert!(tested.status.success(), "{site}: {}", String::from_utf8_lossy(&tested.stderr));

    let found = Command::new("gixy").args(["-f", "json"]).arg(dir.path().join("nginx.conf")).output();
    let found = found.expect("gixy; PATH=\"$PATH:$(scripts/setup --print-path)\" finds it");
    let findings: serde_json::Value = serde_json::from_slice(&found.stdout).expect("gixy's findings");
    let findings = findings.as_array().expect("a list");
    let readme = std::fs::read_to_string(folder().join("README.md")).expect("nginx/README.md");
    let (_, explained) = readme.split_once("## What gixy says").expect("the section on gixy");
    for finding in findings {
        let plugin = finding["plugin"].as_str().expect("a plugin");
        assert!(explained.contains(&format!("`{plugin}`")), "{site}: {finding:#}");
    }
}

#[test]
fn the_plain_site_is_sound() {
    check("http.conf");
}

#[test]
fn the_tls_site_is_sound() {
    check("tls.conf");
}

/// Without the key that its operator has to make, NGINX does not start: there is no default.
#[test]
fn there_is_no_default_digest_key() {
    let dir = run_dir("http.conf");
    std::fs::remove_file(dir.path().join("digest-key.conf")).expect("removed");
    let tested = Command::new("nginx").arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-t"]).output();
    assert!(!tested.expect("nginx").status.success());
}
