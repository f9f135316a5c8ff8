//! No spelling, redirect or resolver's answer leads to an address that is not public.
//!
//! A canary listens on every address of this machine; the one server that may be reached is at 127.77.0.1, which the
//! configuration allows.

use std::net::IpAddr;

use http::{HeaderMap, Method};
use stills_indexer::source::client::{Ask, Client};
use stills_model::fault::{Fault, FaultKind};
use url::Url;

use crate::server::{Asked, Ending, Reply, Server};
use crate::sources::{OTHER, Setup, USER, answers, content, range, wanted};
use crate::spellings::{addresses, hosts, hosts_of_this_machine};

const ALLOWED: &str = "127.77.0.1";

fn guarded() -> Setup<'static> {
    Setup { allow_networks: &["127.77.0.0/16"], ..Setup::default() }
}

async fn canary() -> Server {
    // On machines with IPv6 this hears IPv4 too.
    let ip = if std::net::TcpListener::bind("[::]:0").is_ok() { "::" } else { "0.0.0.0" };
    Server::start(ip, |_, _| Reply::status(200)).await
}

fn get(url: Url) -> Ask {
    Ask { method: Method::GET, url, headers: HeaderMap::new(), credentials: None, body: bytes::Bytes::new() }
}

async fn send(client: &Client, url: &str) -> Result<u16, Fault> {
    let url = Url::parse(url).map_err(|error| Fault::new(FaultKind::Forbidden, error.to_string()))?;
    client.send(get(url), Some(&|_| true)).await.map(|response| response.status().as_u16())
}

#[tokio::test]
async fn there_are_enough_spellings_and_the_canary_hears() {
    assert!(hosts().len() >= 150, "{}", hosts().len());
    assert!(addresses().len() >= 100, "{}", addresses().len());
    let canary = canary().await;
    let unguarded = Setup { allow_networks: &["0.0.0.0/0", "::/0"], ..Setup::default() };
    for (n, host) in hosts_of_this_machine().iter().enumerate() {
        let client = unguarded.client();
        let sent = send(&client, &format!("http://{host}:{}/1.mp4", canary.address.port())).await;
        assert_eq!(sent.map_err(|fault| fault.detail), Ok(200), "{host}");
        assert_eq!(canary.connections(), n + 1, "{host}");
    }
}

#[tokio::test]
async fn no_spelling_is_reached_directly() {
    let (canary, dir) = (canary().await, tempfile::tempdir().expect("dir"));
    let (setup, port) = (guarded(), canary.address.port());
    let (client, source) = (setup.client(), setup.source(&dir));
    for host in hosts().into_iter().chain(["localhost".to_owned(), "user@127.77.0.1".to_owned()]) {
        let url = format!("http://{host}:{port}/1.mp4");
        if host != "localhost" {
            let fault = send(&client, &url).await.expect_err(&host);
            assert_eq!(fault.kind, FaultKind::Forbidden, "{host}: {fault}");
        }
        source.open(wanted(&url)).await.expect_err(&host);
        let media = source.open_indexed(wanted(&url), 100).await;
        if let Ok(media) = media {
            media.read(range(0, 10)).await.expect_err(&host);
        }
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn no_spelling_is_reached_by_a_redirect() {
    let (canary, dir) = (canary().await, tempfile::tempdir().expect("dir"));
    let port = canary.address.port();
    let front = Server::start(ALLOWED, move |asked: &Asked, _| {
        let n: usize = asked.path.trim_start_matches("/hop/").parse().expect("a number");
        Reply::redirect(format!("http://{}:{port}/1.mp4", hosts()[n]))
    });
    let (front, source) = (front.await, guarded().source(&dir));
    for (n, host) in hosts().iter().enumerate() {
        let fault = source.open(wanted(&front.url(&format!("/hop/{n}")))).await.expect_err(host);
        let is_sayable = host.is_ascii();
        assert!(fault.kind == FaultKind::Forbidden || !is_sayable, "{host}: {fault}");
    }
    assert_eq!(front.asked().len(), hosts().len());
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn no_name_leads_there() {
    let canary = canary().await;
    let front = Server::start(ALLOWED, |_, _| Reply { ending: Ending::Close, ..Reply::status(200) }).await;
    let all: Vec<String> = addresses().iter().map(IpAddr::to_string).collect();
    let names: Vec<String> = (0..all.len()).map(|n| format!("n{n}.test")).collect();
    let setup = |lists: &dyn Fn(&'static str) -> Vec<Vec<&'static str>>| {
        let of = |(name, address): (&String, &String)| (name.clone(), lists(address.clone().leak()));
        let lists: Vec<(String, _)> = names.iter().zip(&all).map(of).collect();
        let lists = lists.iter().map(|(name, lists)| (name.as_str(), lists.clone())).collect();
        Setup { lookup: answers(lists), ..guarded() }.client()
    };
    // What an alias ends at.
    let alone = setup(&|address| vec![vec![address]]);
    // Among others: only those are dialled.
    let mixed = setup(&|address| vec![vec![address, ALLOWED, address]]);
    // The first answer is harmless, the second is not.
    let rebinding = setup(&|address| vec![vec![ALLOWED], vec![address]]);
    let (forbidden, allowed) = (canary.address.port(), front.address.port());
    for (name, address) in names.iter().zip(&all) {
        let kind = |sent: Result<u16, Fault>| sent.map_err(|fault| fault.kind);
        let (there, here) = (format!("http://{name}:{forbidden}/"), format!("http://{name}:{allowed}/"));
        assert_eq!(kind(send(&alone, &there).await), Err(FaultKind::Forbidden), "{address}");
        assert_eq!(kind(send(&mixed, &here).await), Ok(200), "{address}");
        assert_eq!(kind(send(&rebinding, &here).await), Ok(200), "{address}");
        assert_eq!(kind(send(&rebinding, &there).await), Err(FaultKind::Forbidden), "{address}");
    }
    assert_eq!(front.asked().len(), 2 * all.len());
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_name_that_is_rebound_between_two_reads_is_refused() {
    let (canary, dir) = (canary().await, tempfile::tempdir().expect("dir"));
    let body = content(200_000);
    let front = Server::start(ALLOWED, move |asked: &Asked, _| Reply {
        ending: Ending::Close,
        ..Reply::object(asked, &body, "\"a\"")
    });
    let front = front.await;
    let lookup = answers(vec![("media.test", vec![vec![ALLOWED], vec!["127.0.0.1"]])]);
    let source = Setup { lookup, ..guarded() }.source(&dir);
    let url = format!("http://media.test:{}/1.mp4", front.address.port());
    let media = source.open(wanted(&url)).await.expect("open");
    let fault = media.read(range(100_000, 10)).await.expect_err("rebound");
    assert_eq!(fault.kind, FaultKind::Forbidden, "{fault}");
    assert_eq!((front.asked().len(), canary.connections()), (1, 0));
}

#[tokio::test]
async fn other_schemes_users_and_downgrades_are_refused() {
    let client = guarded().client();
    for url in ["ftp://127.77.0.1/", "file:///etc/passwd", "http://u:p@127.77.0.1/", "http://u@127.77.0.1/"] {
        let fault = send(&client, url).await.expect_err(url);
        assert_eq!(fault.kind, FaultKind::Forbidden, "{url}: {fault}");
    }
}

#[tokio::test]
async fn hops_are_counted_and_checked_and_lose_the_credentials() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(1000);
    let elsewhere = Server::start("127.77.0.2", move |asked: &Asked, _| Reply::object(asked, &body, "\"a\"")).await;
    let there = elsewhere.url("/there.mp4");
    let behaviour = move |asked: &Asked, _: usize| match asked.path.as_str() {
        "/away.mp4" => Reply::redirect(there.clone()),
        "/here.mp4" => Reply::redirect("/away.mp4"),
        "/loop.mp4" => Reply::redirect("/loop.mp4"),
        _ => Reply::redirect("http://127.77.0.1:1/forbidden/1.mp4"),
    };
    let front = Server::start(ALLOWED, behaviour).await;
    let prefix = format!("http://{}/", front.address);
    let toml = format!("[credentials.keyed]\nkind = \"http\"\nurl_prefix = \"{prefix}\"\n");
    let allow_urls = &["^http://[0-9.:]+/[a-z]+\\.mp4$"];
    let source = Setup { allow_urls, credentials: &toml, ..guarded() }.source(&dir);
    let media = source.open(wanted(&front.url("/here.mp4"))).await.expect("two hops");
    assert_eq!(media.len(), 1000);
    let credentials = |asked: Vec<Asked>| asked.into_iter().map(|asked| asked.authorization).collect::<Vec<_>>();
    let keyed = Some("Bearer very-secret".to_owned());
    assert_eq!(credentials(front.asked()), [keyed.clone(), keyed], "the same scheme, host and port");
    assert_eq!(credentials(elsewhere.asked()), [None], "another host");
    let before = front.asked().len();
    let fault = source.open(wanted(&front.url("/loop.mp4"))).await.expect_err("a loop");
    assert!(fault.detail.contains("3 times"), "{fault}");
    assert_eq!(front.asked().len() - before, 4);
    let fault = source.open(wanted(&front.url("/other.mp4"))).await.expect_err("not allowed");
    assert_eq!((fault.kind, fault.detail.contains("redirects")), (FaultKind::Forbidden, true), "{fault}");
}

#[tokio::test]
async fn one_user_does_not_reach_anothers_footage() {
    let dir = tempfile::tempdir().expect("dir");
    let body = content(1000);
    let own = format!("/{USER}/redirect.mp4");
    let behaviour = move |asked: &Asked, _: usize| {
        if asked.path == own {
            Reply::redirect(format!("/{OTHER}/1.mp4"))
        } else {
            Reply::object(asked, &body, "\"a\"")
        }
    };
    let server = Server::start(ALLOWED, behaviour).await;
    let pattern = format!("^http://{}/{{user_id}}/", server.address);
    let setup = Setup { allow_urls: &[&pattern], is_whole: true, ..guarded() };
    let source = setup.source(&dir);
    let theirs = server.url(&format!("/{OTHER}/1.mp4"));
    // Theirs is read, and held whole.
    let held = source.open(stills_indexer::source::Wanted { user: OTHER, ..wanted(&theirs) }).await.expect("theirs");
    assert!(held.is_whole());
    for path in [
        format!("/{OTHER}/1.mp4"),
        format!("/{USER}/../{OTHER}/1.mp4"),
        format!("/{USER}/%2e%2e/{OTHER}/1.mp4"),
        format!("/{USER}%2f..%2f{OTHER}/1.mp4"),
        format!("//{USER}/../{OTHER}/1.mp4"),
    ] {
        let url = server.url(&path);
        let open = source.open(wanted(&url)).await.map(|_| ()).expect_err(&path);
        let indexed = source.open_indexed(wanted(&url), 1000).await.map(|_| ()).expect_err(&path);
        assert_eq!((open.kind, indexed.kind), (FaultKind::Forbidden, FaultKind::Forbidden), "{path}");
    }
    assert_eq!(server.asked().len(), 1);
    let redirected = server.url(&format!("/{USER}/redirect.mp4"));
    let fault = source.open(wanted(&redirected)).await.expect_err("a redirect to theirs");
    assert_eq!(fault.kind, FaultKind::Forbidden, "{fault}");
    assert_eq!(server.asked().len(), 2, "asked for the redirect alone");
}
