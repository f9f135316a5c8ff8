//! Bits flipped, tails cut, snapshots spoilt, in catalog, cache index, volumes and journal of a server that stands still;
//! then it is started and asked.

use std::path::{Path, PathBuf};

use super::{are_whole, minute, until_whole};
use crate::harness::dice::Dice;
use crate::harness::{Camera, Setup, Stills, event, wait};

const CAMERAS: u32 = 12;

/// The catalog's tables, as a young server has them, and its files of events taken.
const TABLES: &str = "catalog/tables-000001";
const SEEN: &str = "catalog/seen";

/// What is done to which files.
const KINDS: [(&str, &str, Fault); 14] = [
    (TABLES, "db", Fault::Flip),
    ("cache/index", "db", Fault::Flip),
    ("cache/volumes", "", Fault::Flip),
    ("journal", "", Fault::Flip),
    (TABLES, "snap.", Fault::Flip),
    (TABLES, "snap.", Fault::Empty),
    ("cache/index", "snap.", Fault::Cut),
    (TABLES, "db", Fault::Cut),
    ("cache/index", "db", Fault::Cut),
    ("cache/volumes", "", Fault::Cut),
    (TABLES, "snap.", Fault::Generating),
    (TABLES, "db", Fault::Zero),
    (SEEN, "", Fault::Flip),
    (SEEN, "", Fault::Cut),
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// One bit is another.
    Flip,
    /// Its end is missing.
    Cut,
    /// It is empty.
    Empty,
    /// A block is zeros.
    Zero,
    /// A snapshot was begun and never finished.
    Generating,
}

/// How many kinds of damage there are: so many rounds play each once.
pub const ROUNDS_OF_ALL: u32 = 14;

/// Plays so many rounds.
///
/// # Panics
/// When something happens that may not.
pub async fn rounds(count: u32, seed: u64, mut each: impl FnMut(u32, &str)) {
    let mut stills = Setup::new().set("prerender.interval", "\"10s\"").start().await;
    let footage = minute();
    let cameras: Vec<Camera> = (0..CAMERAS).map(Camera::numbered).collect();
    let events: Vec<_> = cameras
        .iter()
        .map(|camera| event::available(camera, "r-1", super::WINDOW, &stills.place(camera, &footage.path, "r-1")))
        .collect();
    stills.send(&events).await.expect(202);
    until_whole(&stills, &cameras, 20_000, "all are indexed").await;
    wait::until("all are rendered", async || stills.renders().await >= f64::from(CAMERAS) * 7.0).await;
    // Twice, so that there are snapshots.
    stills.origin().stop().await;
    stills.start_again().await;
    stills.origin().stop().await;
    let pristine = stills.home().path("pristine");
    copy(&stills.home().data(), &pristine);
    let mut dice = Dice::new(seed);
    for round in 0..count {
        let (folder, prefix, fault) = KINDS[usize::try_from(round).expect("small") % KINDS.len()];
        let what = one(&mut stills, &pristine, (folder, prefix, fault), &mut dice, &cameras).await;
        each(round, &what);
    }
}

async fn one(
    stills: &mut Stills,
    pristine: &Path,
    (folder, prefix, fault): (&str, &str, Fault),
    dice: &mut Dice,
    cameras: &[Camera],
) -> String {
    let data = stills.home().data();
    std::fs::remove_dir_all(&data).expect("the data");
    copy(pristine, &data);
    let what = damage(&data.join(folder), prefix, fault, dice);
    let what = format!("{folder}: {what}");
    stills.start_again().await;
    // Every answer until then is looked at too.
    wait::until(&what, async || are_whole(stills, cameras, 20_000).await).await;
    assert!(are_whole(stills, cameras, 40_000).await, "{what}: not for long");
    let recoveries = stills.metrics().await.sum("stills_recoveries_total", &[]);
    stills.kill9().await;
    format!("{what}; {recoveries} recoveries while running")
}

/// Does it to one file, and says what and where.
fn damage(folder: &Path, prefix: &str, fault: Fault, dice: &mut Dice) -> String {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|f| f.expect("a file").path()).collect();
    let is_meant = |path: &PathBuf| path.is_file() && name(path).starts_with(prefix) && name(path) != "reserve";
    files.retain(is_meant);
    files.sort();
    if let Fault::Generating = fault {
        std::fs::write(folder.join("snap.00000000000000ff.generating"), b"").expect("a file");
        return "a snapshot that was never finished".to_owned();
    }
    let last = i64::try_from(files.len()).expect("few") - 1;
    let path = files.remove(usize::try_from(dice.roll(0, last)).expect("an index"));
    let mut bytes = std::fs::read(&path).expect("a file");
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let at = usize::try_from(dice.roll(0, i64::try_from(used).expect("short"))).expect("an offset");
    match fault {
        Fault::Flip => bytes[at] ^= 1 << dice.roll(0, 7),
        Fault::Cut => bytes.truncate(at),
        Fault::Empty => bytes.clear(),
        Fault::Zero => bytes.iter_mut().skip(at).take(4096).for_each(|byte| *byte = 0),
        Fault::Generating => {}
    }
    std::fs::write(&path, bytes).expect("written");
    format!("{} {fault:?} at {at} of {used}", name(&path))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for item in std::fs::read_dir(from).expect("a directory") {
        let path = item.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}
