//! `kill -9` and a start with many recordings: their journal is one recording's, multiplied; the rest the server makes of it.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Sent, WINDOW, announce, is_shown, minute};
use crate::harness::dice::Dice;
use crate::harness::{Camera, Setup, event, wait};

/// How long until the first answer, with programs that are built for speed.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The event's id in the journal that is multiplied; its digits are replaced.
const EVENT_ID: &str = "event-000000000000";

/// Where entries begin, and what stands in front of a payload: the journal's stored form.
const FIRST_ENTRY: usize = 4128;
const ENTRY_HEADER: usize = 17;

/// Plays so many kills and starts with so many recordings.
///
/// # Panics
/// When something happens that may not.
pub async fn rounds(count: u32, seed: u64, n_recordings: u32, mut each: impl FnMut(u32, &str)) {
    let mut stills = Setup::new().start().await;
    let (footage, mut dice, first) = (minute(), Dice::new(seed), Camera::numbered(u32::MAX));
    let media = stills.place(&Camera::first(), &footage.path, "shared");
    let mut announced = event::available(&first, "r-1", WINDOW, &media);
    announced["id"] = EVENT_ID.into();
    stills.send(&[announced]).await.expect(202);
    stills.until_state(&first, "r-1", WINDOW, "indexed").await;
    stills.origin().stop().await;
    multiply(&stills.home().data().join("journal"), &first, n_recordings);
    // As long as it takes: what is measured comes later.
    let mut rebuild = stills.home().command("stills-indexer", &["rebuild"]);
    let rebuilt = tokio::task::spawn_blocking(move || rebuild.output()).await.expect("a thread").expect("a program");
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    stills.start_again().await;
    for round in 0..count {
        let cameras: Vec<Camera> = (0..20).map(|n| Camera::numbered(n_recordings + round * 100 + n)).collect();
        let sent: Vec<Sent> = cameras.iter().map(|camera| announce(&stills, camera, &media)).collect();
        let n_awaited = usize::try_from(dice.roll(0, 20)).expect("few");
        while sent.iter().filter(|sent| sent.task.is_finished()).count() < n_awaited {
            tokio::task::yield_now().await;
        }
        stills.kill9().await;
        let began = Instant::now();
        stills.start_again().await;
        let one = u32::try_from(dice.roll(0, i64::from(n_recordings) - 1)).expect("a number");
        let camera = Camera::numbered(one);
        wait::until("a picture", async || is_shown(&stills, &camera, 20_000).await).await;
        let took = began.elapsed();
        assert!(cfg!(debug_assertions) || took < ANSWERS_WITHIN, "round {round}: {took:?}");
        for Sent { camera, task, .. } in sent {
            if task.await.expect("a task") == Some(202) {
                // Behind so many others it may take its time to be indexed.
                assert!(!stills.recording(&camera, "r-1", WINDOW).await.is_null(), "round {round}: {camera:?} is lost");
            }
        }
        each(round, &format!("{n_recordings} recordings, a picture {took:?} after the start"));
    }
}

/// Replaces the journal by one that has the recording so many times, each of another camera.
fn multiply(journal: &Path, camera: &Camera, n_recordings: u32) {
    let mut payloads = Vec::new();
    let device = device_of(camera);
    for item in std::fs::read_dir(journal).expect("the journal") {
        let path = item.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "journal") {
            let found = entries(&std::fs::read(&path).expect("a file"));
            payloads.extend(found.into_iter().filter(|(_, payload)| find(payload, &device).is_some()));
            std::fs::remove_file(&path).expect("removed");
        }
    }
    assert!(payloads.len() >= 2, "an event and its result");
    // As many files as a real one would have.
    for (file, from) in (0..n_recordings).step_by(20_000).enumerate() {
        let path = journal.join(format!("{:07}-{:08}.journal", WINDOW.0 / 86_400_000, file + 1));
        let mut out = BufWriter::new(std::fs::File::create(path).expect("a file"));
        let marker = u64::from(from).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        let mut bytes = header(marker);
        bytes.resize(4096, 0);
        bytes.extend(header(marker));
        out.write_all(&bytes).expect("written");
        let mut at = FIRST_ENTRY as u64;
        for n in from..n_recordings.min(from + 20_000) {
            for (kind, payload) in &payloads {
                let mut payload = payload.clone();
                replace(&mut payload, &device, &device_of(&Camera::numbered(n)));
                replace(&mut payload, EVENT_ID.as_bytes(), format!("event-{n:012}").as_bytes());
                let entry = entry(marker, at, *kind, &payload);
                at += entry.len() as u64;
                out.write_all(&entry).expect("written");
            }
        }
        out.flush().expect("written");
    }
}

fn device_of(camera: &Camera) -> Vec<u8> {
    let digits = camera.device.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("a byte");
    digits.map(byte).collect()
}

fn header(marker: [u8; 8]) -> Vec<u8> {
    let mut header = b"STILLSJ\n".to_vec();
    header.extend(1u32.to_le_bytes());
    header.extend(marker);
    header.extend([0; 8]);
    let crc = crc32c::crc32c(&header);
    header.extend(crc.to_le_bytes());
    header
}

fn entry(marker: [u8; 8], at: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&at.to_le_bytes()), &len);
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &[kind]), payload);
    [&marker[..], &len, &[kind], &crc.to_le_bytes(), payload].concat()
}

/// Kinds and payloads of a whole file.
fn entries(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut entries, mut at) = (Vec::new(), FIRST_ENTRY);
    while let Some(header) = bytes.get(at..at + ENTRY_HEADER) {
        let len = usize::try_from(u32::from_le_bytes(header[8..12].try_into().expect("four"))).expect("short");
        entries.push((header[12], bytes[at + ENTRY_HEADER..at + ENTRY_HEADER + len].to_vec()));
        at += ENTRY_HEADER + len;
    }
    entries
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn replace(bytes: &mut [u8], what: &[u8], with: &[u8]) {
    if let Some(at) = find(bytes, what) {
        bytes[at..at + with.len()].copy_from_slice(with);
    }
}
