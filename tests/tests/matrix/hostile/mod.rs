//! Hostile files through scan and render: each is an error that says what is wrong, or a picture; nothing hangs, no
//! program goes down, and memory stays where it was.
//!
//! `STILLS_HOSTILE_FILES` says how many files a round has; the short round of the test suite has [`SHORT_ROUND`].

mod by_hand;
mod mutate;
mod places;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::harness::event::available;
use e2e::harness::procfs::{self, Process};
use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Setup, Stills, wait};
use serde_json::Value;

use crate::coding::{
    AV1, B_FRAMES, FRAGMENTED, FRAGMENTED_INDEXED, H264, HEVC, M2TS, MJPEG, MKV, MKV_LIVE, MP4, MP4_AT_END, MPEG2,
    MPEG4, TS, VP8, VP9, WEBM,
};
use crate::film::Film;
use by_hand::Hostile;
use mutate::{Chance, mutated};

/// Files in the round of the test suite.
const SHORT_ROUND: usize = 300;

/// Recordings that are announced at once.
const BATCH: usize = 50;

/// Each is a minute; they follow one another.
const SPAN_MS: i64 = 60_000;

/// How long one keyframe may take, as configured below.
const DEADLINE: Duration = Duration::from_secs(5);

/// What an answer may take beyond the deadline, on a machine that is busy with other tests.
const LATE_MAX: Duration = Duration::from_secs(5);

/// What the service may grow by in a round, after its first quarter.
const GROWTH_MAX_BYTES: u64 = 64 << 20;

/// What a decoder may hold at most: the address space that it is given.
const DECODER_MAX_BYTES: u64 = 1 << 30;

/// Real files, small, which are made wrong.
pub(super) struct Seeds {
    mp4: Vec<u8>,
    mp4_at_end: Vec<u8>,
    fragmented: Vec<u8>,
    ts: Vec<u8>,
    matroska: Vec<u8>,
    mjpeg_mp4: Vec<u8>,
    mjpeg_mkv: Vec<u8>,
    vp8: Vec<u8>,
    /// All, for mutation, with how their names end.
    all: Vec<Vec<u8>>,
    extensions: Vec<&'static str>,
    /// A good file that playlists point at.
    neighbour: String,
}

impl Seeds {
    fn made(neighbour: &str) -> Self {
        let small = |coding: &str| format!("-frames:v 30 -vf scale=160:120 {coding}");
        let packed = [
            (MP4, H264.to_owned()),
            (MP4_AT_END, format!("{H264} {B_FRAMES}")),
            (FRAGMENTED_INDEXED, H264.to_owned()),
            (TS, H264.to_owned()),
            (MKV, H264.to_owned()),
            (MP4, MJPEG.to_owned()),
            (MKV, MJPEG.to_owned()),
            (WEBM, VP8.to_owned()),
            (MP4, format!("{HEVC} -tag:v hvc1")),
            (FRAGMENTED, AV1.to_owned()),
            (MP4, MPEG4.to_owned()),
            (TS, HEVC.to_owned()),
            (M2TS, H264.to_owned()),
            (TS, MPEG2.to_owned()),
            (MKV_LIVE, HEVC.to_owned()),
            (WEBM, VP9.to_owned()),
            (MKV, AV1.to_owned()),
            (FRAGMENTED, VP9.to_owned()),
        ];
        let film =
            |(packing, coding): &(crate::coding::Packing, String)| -> Film { packing.film("a seed", &small(coding)) };
        let all: Vec<Vec<u8>> =
            packed.iter().map(|packed| std::fs::read(film(packed).file().expect("a seed")).expect("a file")).collect();
        let extensions = packed.iter().map(|(packing, _)| packing.extension).collect();
        let of = |n: usize| all[n].clone();
        Self {
            mp4: of(0),
            mp4_at_end: of(1),
            fragmented: of(2),
            ts: of(3),
            matroska: of(4),
            mjpeg_mp4: of(5),
            mjpeg_mkv: of(6),
            vp8: of(7),
            all,
            extensions,
            neighbour: neighbour.to_owned(),
        }
    }

    /// `count` files: all that are made by hand, the rest by chance.
    fn round(&self, count: usize) -> Vec<Hostile> {
        let mut files = by_hand::all(self);
        assert!(files.len() >= 60, "{} by hand", files.len());
        let mut chance = Chance::new(0x0057_1115);
        while files.len() < count {
            let n = files.len();
            let bytes = mutated(&self.all, &mut chance);
            let extension = self.extensions[chance.below(self.extensions.len())];
            files.push(Hostile { name: format!("by chance, {n}"), extension, bytes, is_refused: false });
        }
        files
    }
}

/// What came of a round.
#[derive(Debug, Default)]
struct Tally {
    /// Recordings by what became of them, and answers by status and kind.
    outcomes: BTreeMap<String, usize>,
    faults: Vec<String>,
    slowest: Duration,
}

impl Tally {
    fn count(&mut self, outcome: String) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    /// In one line.
    fn summary(&self) -> String {
        let of = |outcome: &str| self.outcomes.get(outcome).copied().unwrap_or(0);
        let (refused, indexed, pictures) = (of("not indexed"), of("indexed"), of("200"));
        let answers: usize = self.outcomes.values().sum::<usize>() - refused - indexed;
        format!(
            "{refused} files refused with a reason, {indexed} indexed; of {answers} thumbs asked for {pictures} are \
             pictures, {} errors that say why; faults {}",
            answers - pictures,
            self.faults.len(),
        )
    }
}

fn span(n: usize) -> (i64, i64) {
    let start = START + i64::try_from(n).unwrap_or(0) * SPAN_MS;
    (start, start + SPAN_MS)
}

#[tokio::test]
async fn hostile_files_are_errors_or_pictures() {
    let count = std::env::var("STILLS_HOSTILE_FILES").ok().and_then(|count| count.parse().ok()).unwrap_or(SHORT_ROUND);
    let setup = Setup::new().set("decoders.deadline", "\"5s\"").set("decoders.scan_deadline", "\"10s\"");
    // Pictures in memory are meant to grow; anything else is not.
    let mut stills = setup.set("cache.hot_bytes", "\"1MiB\"").start().await;
    let origin = stills.origin().id();
    let camera = Camera::first();
    let neighbour = stills.media_path(&camera, "neighbour.ts");
    let seeds = Seeds::made(&neighbour.display().to_string());
    std::fs::write(&neighbour, &seeds.ts).expect("a file");
    let files = seeds.round(count);
    let decoder = decoder_of(origin).expect("a decoder").id;

    let mut tally = Tally::default();
    let (mut settled, mut most) = (0, Most::default());
    most.look(origin);
    let before = most.origin_bytes;
    for (batch_n, batch) in files.chunks(BATCH).enumerate() {
        one_batch(&stills, &camera, batch_n * BATCH, batch, &mut tally).await;
        most.look(origin);
        if batch_n * BATCH <= count / 4 {
            settled = most.origin_bytes;
        }
    }
    let metrics = stills.metrics().await;
    let counted = |name| metrics.sum(name, &[]);
    let after = procfs::tree(origin).first().map_or(0, |process| process.resident_bytes);
    eprintln!(
        "{count} files: {:#?}\n{}\ncrashes {}, deadlines {}, the slowest answer {:?}\n\
         resident MiB: the server {} before, {} after a quarter, {} at most, {} after; a decoder {} at most",
        tally.outcomes,
        tally.summary(),
        counted("stills_decoder_crashes_total"),
        counted("stills_decoder_deadlines_total"),
        tally.slowest,
        before >> 20,
        settled >> 20,
        most.origin_bytes >> 20,
        after >> 20,
        most.decoder_bytes >> 20,
    );
    assert!(tally.faults.is_empty(), "{} faults:\n{}", tally.faults.len(), tally.faults.join("\n"));
    assert!(stills.origin().is_running(), "the server still runs");
    assert_eq!(decoder_of(origin).map(|process| process.id), Some(decoder), "the decoder still runs");
    assert!(most.origin_bytes < settled + GROWTH_MAX_BYTES, "the server grew from {settled} to {}", most.origin_bytes);
    assert!(most.decoder_bytes < DECODER_MAX_BYTES, "a decoder held {}", most.decoder_bytes);
    // Whoever comes after is served as ever.
    let good = seeds.ts.clone();
    let after = [Hostile { name: "a good file".into(), extension: "ts", bytes: good, is_refused: false }];
    let mut tally = Tally::default();
    one_batch(&stills, &camera, count, &after, &mut tally).await;
    assert_eq!(tally.outcomes.get("200"), Some(&2), "{tally:?}");
}

/// The warm parent of the decoders.
fn decoder_of(origin: u32) -> Option<Process> {
    procfs::tree(origin).into_iter().find(|process| process.parent == origin)
}

/// What programs held at most.
#[derive(Debug, Default)]
struct Most {
    origin_bytes: u64,
    decoder_bytes: u64,
}

impl Most {
    fn look(&mut self, origin: u32) {
        for process in procfs::tree(origin) {
            if process.id == origin {
                self.origin_bytes = self.origin_bytes.max(process.resident_bytes);
            } else {
                self.decoder_bytes = self.decoder_bytes.max(process.resident_max_bytes);
            }
        }
    }
}

/// Announces files, waits until each is indexed or has a reason, and asks for two pictures of those that are indexed.
async fn one_batch(stills: &Stills, camera: &Camera, first: usize, batch: &[Hostile], tally: &mut Tally) {
    let events: Vec<Value> = (first..)
        .zip(batch)
        .map(|(n, file)| {
            let name = format!("hostile-{n}.{}", file.extension);
            std::fs::write(stills.media_path(camera, &name), &file.bytes).expect("a file");
            available(camera, &format!("h-{n}"), span(n), &stills.media_url(camera, &name))
        })
        .collect();
    stills.send(&events).await.expect(202);
    let window = (span(first).0, span(first + batch.len() - 1).1);
    let recordings = wait::some(&format!("the files from {first} on"), async || {
        let all = stills.recordings(camera, window).await;
        let all: Vec<Value> = all["recordings"].as_array().cloned().unwrap_or_default();
        let is_settled = |recording: &Value| recording["state"] == "indexed" || recording["reason"].is_string();
        let own: Vec<Value> = (first..first + batch.len())
            .filter_map(|n| all.iter().find(|recording| recording["recording_id"] == format!("h-{n}")).cloned())
            .collect();
        (own.len() == batch.len() && own.iter().all(is_settled)).then_some(own)
    })
    .await;
    for ((n, file), recording) in (first..).zip(batch).zip(recordings) {
        let reason = recording["reason"].as_str().unwrap_or_default().to_owned();
        if recording["state"] != "indexed" {
            tally.count("not indexed".to_owned());
            check_text(file, &reason, tally);
            continue;
        }
        tally.count("indexed".to_owned());
        if file.is_refused {
            tally.faults.push(format!("{}: it was indexed", file.name));
        }
        for offset in [0, SPAN_MS / 2] {
            ask(stills, camera, (n, file), offset, tally).await;
        }
    }
}

async fn ask(stills: &Stills, camera: &Camera, (n, file): (usize, &Hostile), offset: i64, tally: &mut Tally) {
    let began = Instant::now();
    let answer = stills.get(&thumb(camera, span(n), offset)).await;
    let took = began.elapsed();
    tally.slowest = tally.slowest.max(took);
    if took > DEADLINE + LATE_MAX {
        tally.faults.push(format!("{}: the answer took {took:?}", file.name));
    }
    if answer.status == 200 {
        tally.count("200".to_owned());
        let picture = image::load_from_memory_with_format(&answer.body, image::ImageFormat::Jpeg);
        if !picture.is_ok_and(|picture| (picture.width(), picture.height()) == (320, 240)) {
            tally.faults.push(format!("{}: 200 without a picture", file.name));
        }
        return;
    }
    let problem = answer.json();
    let kind = problem["type"].as_str().unwrap_or_default().to_owned();
    tally.count(format!("{} {kind}", answer.status));
    if answer.header("content-type") != "application/problem+json"
        || !matches!(answer.status, 404 | 415 | 502 | 503 | 504)
    {
        tally.faults.push(format!("{}: {} {problem}", file.name, answer.status));
    }
    check_text(file, problem["detail"].as_str().unwrap_or_default(), tally);
}

/// An error names the fault, not the inside of the machine.
fn check_text(file: &Hostile, text: &str, tally: &mut Tally) {
    let inside = ["panick", "socket", "out of step", "/tmp", "/proc", "internal", "os error"];
    if text.len() < 10 || inside.iter().any(|word| text.to_lowercase().contains(word)) {
        tally.faults.push(format!("{}: the text {text:?}", file.name));
    }
}
