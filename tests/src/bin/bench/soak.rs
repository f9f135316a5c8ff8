//! Very many renders by one process: memory of the server and of the decoders stays level.

use std::io;

use e2e::footage::{Container, Recipe, cached};
use e2e::harness::stills::thumb_sized;
use e2e::harness::{Camera, START, Setup, procfs};

/// Looks at memory in a run.
const LOOKS: usize = 20;

/// What the programs may hold at the end beyond what they held after a quarter, in bytes.
const GROWTH_MAX_BYTES: u64 = 32 << 20;

/// Renders `count` thumbs and prints what the programs hold meanwhile.
pub(crate) async fn run(count: usize) -> io::Result<()> {
    // What is stored goes round too: volumes fill up and leave.
    let setup = Setup::new().set("cache.max_bytes", "\"256MiB\"").set("cache.hot_bytes", "\"16MiB\"");
    let mut stills = setup.start().await;
    let origin = stills.origin().id();
    let containers = [Container::Mp4, Container::MpegTs, Container::Mkv];
    let mut cameras = Vec::new();
    for (n, container) in (1..).zip(containers) {
        let footage = cached(&Recipe { container, ..Recipe::default() })?;
        let camera = Camera::numbered(n);
        stills.record(&camera, "r", (START, START + 60_000), &footage.path).await;
        cameras.push(camera);
    }
    let (mut quarter, mut held) = ((0, 0), (0, 0));
    println!("renders  server MiB  decoders MiB  processes");
    for done in 0..=count {
        if done % (count / LOOKS).max(1) == 0 {
            let tree = procfs::tree(origin);
            let of = |is_server: bool| {
                let those = tree.iter().filter(|process| (process.id == origin) == is_server);
                those.map(|process| process.resident_bytes).sum::<u64>()
            };
            held = (of(true), of(false));
            println!("{done:7}  {:10.1}  {:12.1}  {}", mebibytes(held.0), mebibytes(held.1), tree.len());
            if done <= count / 4 {
                quarter = held;
            }
        }
        // 30 keyframes of each camera, and sizes of which each is a thumb of its own.
        let camera = &cameras[done % cameras.len()];
        let n = done / cameras.len();
        let at_ms = i64::try_from(n % 30).unwrap_or(0) * 2000;
        let size = (u32::try_from(n / 30 % 500).unwrap_or(0) + 100, u32::try_from(n / 15_000 % 300).unwrap_or(0) + 100);
        stills.get(&thumb_sized(camera, (START, START + 60_000), at_ms, size)).await.expect(200);
    }
    let renders = stills.renders().await;
    println!("renders counted: {renders}");
    let has_grown = held.0 > quarter.0 + GROWTH_MAX_BYTES || held.1 > quarter.1 + GROWTH_MAX_BYTES;
    if has_grown || renders < count as f64 {
        return Err(io::Error::other("memory grew, or thumbs were not rendered"));
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
