//! Exact frames of clips, through the engine, a server that counts, and real decoders: which frame is shown, by whom it
//! may be asked for, and what is read when it is asked for again.

#[expect(dead_code, reason = "a server for other tests too")]
#[path = "../source/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;

use stills_indexer::clips::{ClipError, ClipWanted};
use stills_indexer::clock::Clock;
use stills_indexer::config::{Config, Program};
use stills_indexer::decode::Class;
use stills_indexer::run::Engine;
use stills_model::clip::Percent;
use stills_model::id::UserId;
use stills_model::rendition::Rendition;

use server::{Reply, Server};

const USER: UserId = UserId::from_bytes([0xab; 12]);
const OTHER: UserId = UserId::from_bytes([0xcd; 12]);

/// The decoder program that the workspace's build made.
fn decoder() -> PathBuf {
    let tests = std::env::current_exe().expect("this test's path");
    let program = tests.parent().and_then(Path::parent).expect("target directory").join("stills-decoder");
    assert!(program.exists(), "{} is missing: build the workspace first", program.display());
    program
}

async fn engine(dir: &Path) -> Engine {
    let (path, program) = (dir.join("stills.toml"), decoder());
    let toml = format!(
        "[data]\ndir = {:?}\n[decoders]\nprogram = {program:?}\ndeadline = \"30s\"\n[fetch]\n\
         allow_urls = [\"^http://127[.]0[.]0[.]1:[0-9]+/{{user_id}}/\"]\nallow_networks = [\"127.0.0.0/8\"]\n",
        dir.join("data")
    );
    std::fs::write(&path, toml).expect("file");
    let config = Config::load(Program::Indexer, Some(&path), []).expect("configuration");
    Engine::start(&config, Clock::system(), "test").await.expect("engine")
}

/// Four seconds whose frame `n` has the brightness `20 + 2 * n`.
fn clip(dir: &Path, name: &str) -> Vec<u8> {
    let path = dir.join(name);
    let pictures = "color=black:size=160x120:rate=25:duration=4,geq=lum='20+2*N':cb=128:cr=128";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", pictures])
        .args("-c:v libx264 -preset veryfast -qp 4 -pix_fmt yuv420p -g 25 -bf 2 -x264-params scenecut=0".split(' '))
        .arg(&path)
        .output()
        .expect("ffmpeg");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(path).expect("the clip")
}

/// Which frame a picture is of.
fn frame(jpeg: &[u8]) -> i64 {
    let luma = image::load_from_memory(jpeg).expect("a JPEG").into_luma8();
    let sum: i64 = luma.iter().map(|value| i64::from(*value)).sum();
    let mean = f64::from(i32::try_from(sum).expect("small")) / f64::from(160 * 120);
    // Full range, as JPEG has it.
    let limited = mean * 219.0 / 255.0 + 16.0;
    #[expect(clippy::cast_possible_truncation, reason = "a small number")]
    let number = ((limited - 20.0) / 2.0).round() as i64;
    number
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frame_nearest_to_a_second() {
    let dir = tempfile::tempdir().expect("dir");
    let engine = engine(dir.path()).await;
    let rendition = Rendition::thumb(160, 120).expect("size");
    for name in ["a.mp4", "a.ts", "a.mkv", "a.flv"] {
        let bytes = clip(dir.path(), name);
        let server = Server::start("127.0.0.1", move |asked, _| Reply::object(asked, &bytes, "\"1\"")).await;
        let url = server.url(&format!("/{USER}/{name}"));
        let wanted = ClipWanted { user: USER, url: &url, credentials_key: None };
        for (second, expected) in [
            (0.0, 0),
            (0.019, 0),
            (0.021, 1),
            (1.0, 25),
            (1.53, 38),
            (3.96, 99),
            (4.0, 99),
            (1e12, 99),
            (-1.0, 0),
            (f64::NAN, 0),
        ] {
            let shown = engine.clips.exact(wanted, second, rendition, Class::Interactive).await;
            let shown = shown.unwrap_or_else(|error| unreachable!("{name} at {second} s: {error}"));
            assert_eq!(frame(&shown.body), expected, "{name} at {second} s: said to be at {} ms", shown.at_ms);
            assert!(shown.at_ms.abs_diff(expected * 40) <= 1, "{name} at {second} s: {} ms", shown.at_ms);
        }
        // What is found for a point is of use for a second and the other way round, where the container lists keyframes.
        let shown = engine.clips.picture(wanted, Percent::whole(60), rendition).await.expect("a picture");
        assert_eq!((frame(&shown.body), shown.at_ms), (50, 2000), "{name}");
        let before = server.asked().len();
        let shown = engine.clips.picture(wanted, Percent::whole(60), rendition).await.expect("a picture");
        assert_eq!((frame(&shown.body), server.asked().len() - before), (50, 1), "{name}");
        assert_eq!(server.asked().last().and_then(|asked| asked.if_match.clone()).as_deref(), Some("\"1\""), "{name}");
        // Another user may not name it, and nothing is asked to find out.
        let before = server.asked().len();
        assert!(engine.clips.check(USER, &url).is_ok() && engine.clips.check(OTHER, &url).is_err());
        let theirs = ClipWanted { user: OTHER, ..wanted };
        let refused = engine.clips.exact(theirs, 1.0, rendition, Class::Interactive).await;
        assert!(matches!(refused, Err(ClipError::Refused(_))), "{name}: {refused:?}");
        assert_eq!(server.asked().len(), before, "{name}");
    }
    engine.stop().await;
}
