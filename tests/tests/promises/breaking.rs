//! A few rounds of what `scripts/torture` plays for long: whatever breaks, no picture is wrong, nothing acknowledged is
//! lost, nothing hangs, and everything comes back by itself.

use e2e::torture::{damage, disk, io, kill, power};

#[tokio::test]
async fn damaged_files() {
    damage::rounds(damage::ROUNDS_OF_ALL, 3, |_, _| {}).await;
}

#[tokio::test]
async fn kills_under_load() {
    let work = kill::rounds(4, 3, |_, _| {}).await;
    assert!(work.evicted > 0.0 && work.rendered > 0.0, "{work:?}");
}

#[tokio::test]
async fn a_disk_that_fills_under_load() {
    disk::rounds(3, 3, |_, _| {}).await;
}

#[tokio::test]
async fn power_cuts() {
    power::rounds(12, 3, |_, _| {}).await;
}

#[tokio::test]
async fn calls_to_the_disk_that_fail() {
    let n_refused = io::rounds(6, 3, |_, _| {}).await;
    assert!(n_refused > 0, "no call failed");
}
