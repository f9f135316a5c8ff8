//! Media URLs that name no ordinary file: a pipe that nobody writes to, a directory, links out of the root, a file larger
//! than any disk.

use std::os::unix::fs::symlink;

use e2e::harness::event::available;
use e2e::harness::{Camera, START, Setup, wait};
use rustix::fs::{CWD, FileType, Mode, mknodat};

#[tokio::test]
async fn what_is_no_file_is_refused_at_once() {
    let stills = Setup::new().start().await;
    let camera = Camera::first();
    let place = |name: &str| stills.media_path(&camera, name);
    mknodat(CWD, place("pipe.mp4"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    std::fs::create_dir(place("directory.mp4")).expect("a directory");
    symlink("/etc/passwd", place("link.mp4")).expect("a link");
    symlink("/dev/zero", place("device.mp4")).expect("a link");
    symlink(place("circle.mp4"), place("circle.mp4")).expect("a link");
    let sparse = std::fs::File::create(place("sparse.mp4")).expect("a file");
    // As large as the file system lets it be.
    let is_large = [1u64 << 42, 1 << 40, 1 << 36].into_iter().any(|len| sparse.set_len(len).is_ok());
    assert!(is_large, "a sparse file");
    let names = ["pipe.mp4", "directory.mp4", "link.mp4", "device.mp4", "circle.mp4", "sparse.mp4", "absent.mp4"];
    for (n, name) in (0i64..).zip(names) {
        let span = (START + n * 60_000, START + n * 60_000 + 50_000);
        let url = stills.media_url(&camera, name);
        stills.send(&[available(&camera, name, span, &url)]).await.expect(202);
        let reason = wait::some(&format!("a verdict on {name}"), async || {
            let recording = stills.recording(&camera, name, span).await;
            assert_ne!(recording["state"], "indexed", "{name}");
            recording["reason"].as_str().map(str::to_owned)
        })
        .await;
        assert!(reason.len() > 10 && !reason.contains("/tmp"), "{name}: {reason}");
    }
}
