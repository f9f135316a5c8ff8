//! Power cuts: a load is recorded once ([`record`]), then the disk is laid out as it may have been at many moments of it
//! ([`disk`]), and the server is started on that. Everything acknowledged before the cut must be there.

pub mod disk;
pub mod record;
pub mod trace;

use reqwest::Method;

use self::disk::Fate;
use self::record::{Demand, Recording, image_path, record};
use super::Acknowledged;
use crate::harness::Stills;
use crate::harness::dice::Dice;

/// Cuts of one recording.
const CUTS: u32 = 50;

/// Plays so many cuts.
///
/// # Panics
/// When something happens that may not.
pub async fn rounds(count: u32, seed: u64, mut each: impl FnMut(u32, &str)) {
    let mut dice = Dice::new(seed);
    let mut round = 0;
    while round < count {
        let (mut stills, recording) = record(&mut dice).await;
        for _ in 0..CUTS.min(count - round) {
            let what = cut(&mut stills, &recording, &mut dice).await;
            each(round, &what);
            round += 1;
        }
    }
}

async fn cut(stills: &mut Stills, recording: &Recording, dice: &mut Dice) -> String {
    let (at, fate) = (recording.moment(dice), Fate::draw(dice));
    let data = stills.home().data();
    std::fs::remove_dir_all(&data).expect("the data");
    recording.disk.cut(at, fate, dice, &data);
    // The machine started again, which the kernel would say.
    let in_use = data.join("in-use");
    if in_use.exists() {
        std::fs::write(in_use, "00000000-0000-4000-8000-000000000000\n").expect("another start of the machine");
    }
    let Demand { there, deleted, images } = recording.demand(at);
    let what = format!("cut at {at} of {}, {fate:?}", recording.end);
    stills.start_again().await;
    let acknowledged = Acknowledged { there, deleted };
    acknowledged.check(stills, 1000 * dice.roll(0, 59), &what).await;
    for name in &images {
        let answer = stills.ask(Method::GET, &image_path(name)).bearer(stills.owner()).send().await;
        assert_eq!(answer.status, 200, "{what}: {name} was put: {answer:?}");
    }
    let (n_there, n_deleted) = (acknowledged.there.len(), acknowledged.deleted.len());
    stills.kill9().await;
    format!("{what}: {n_there} recordings, {n_deleted} deletes, {} images", images.len())
}
