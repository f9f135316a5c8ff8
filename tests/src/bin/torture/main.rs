//! `torture damage|kill|disk|power|io|start [ROUNDS [SEED [RECORDINGS]]]`: long rounds of what the tests play a few of. Started by `scripts/torture`.

#![expect(clippy::print_stdout, reason = "it says how far it is")]

use std::io;
use std::sync::atomic::Ordering;

use e2e::torture::{LONGEST_MS, damage, disk, io as faults, kill, power, start};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize| arguments.get(n).map(|text| text.parse::<u32>().map_err(io::Error::other)).transpose();
    let (count, seed) = (number(1)?, u64::from(number(2)?.unwrap_or(1)));
    let runtime = tokio::runtime::Runtime::new()?;
    let each = |round: u32, what: &str| println!("round {round}: {what}");
    match arguments.first().map(String::as_str) {
        Some("damage") => runtime.block_on(damage::rounds(count.unwrap_or(300), seed, each)),
        Some("kill") => drop(runtime.block_on(kill::rounds(count.unwrap_or(500), seed, each))),
        Some("disk") => runtime.block_on(disk::rounds(count.unwrap_or(50), seed, each)),
        Some("power") => runtime.block_on(power::rounds(count.unwrap_or(200), seed, each)),
        Some("io") => {
            let n_refused = runtime.block_on(faults::rounds(count.unwrap_or(300), seed, each));
            println!("{n_refused} events were refused meanwhile");
        }
        Some("start") => {
            let n_recordings = number(3)?.unwrap_or(1_000_000);
            runtime.block_on(start::rounds(count.unwrap_or(20), seed, n_recordings, each));
        }
        _ => {
            return Err(io::Error::other(
                "usage: torture damage|kill|disk|power|io|start [ROUNDS [SEED [RECORDINGS]]]",
            ));
        }
    }
    let longest_ms = LONGEST_MS.load(Ordering::Relaxed);
    println!("all rounds held; the longest answer to a search or for a picture took {longest_ms} ms");
    Ok(())
}
