//! Runs films through the real programs: announced as recordings, listed, every listed thumb looked at.
//!
//! 1. Threads make the films and let FFmpeg decode them, a few ahead ([`all`]).
//! 2. Each is a device of its own on one server; its recording is announced and indexed.
//! 3. Every second of it is listed, and asked for between the seconds too: the thumb shows the keyframe that the frame
//!    rule names, to the millisecond, says so in its headers, and looks as FFmpeg shows it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use e2e::footage::rule::shown;
use e2e::footage::{Recorded, read_clock};
use e2e::harness::event::available;
use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Search, Setup, Stills, wait};
use image::{DynamicImage, RgbImage};

use crate::film::{Film, Keys, packets};
use crate::picture::Shown;

/// Films that are ready before they are asked for.
const AHEAD: usize = 2;

/// Longest stretch of a film with gradual refresh in which no whole picture comes about, in milliseconds.
const GRADUAL_MAX_MS: i64 = 2_200;

/// A file that is to be judged.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// How long the recorder says it is, in milliseconds.
    pub(crate) duration_ms: i64,
    /// Milliseconds from the first presented picture to each keyframe; `None` where nobody can say.
    pub(crate) keys_ms: Option<Vec<i64>>,
    pub(crate) shown: Shown,
}

impl Subject {
    /// A film with what FFmpeg shows of it.
    ///
    /// # Errors
    /// What FFmpeg says.
    pub(crate) fn of(film: &Film) -> io::Result<Self> {
        let file = film.file()?;
        let keys_ms = keys(film, &file)?;
        let wanted = |at_ms| keys_ms.as_ref().is_none_or(|keys_ms| keys_ms.contains(&at_ms));
        let shown = Shown::of(&file, wanted)?;
        Ok(Self { name: film.name.clone(), file, duration_ms: film.master.duration_ms(), keys_ms, shown })
    }
}

fn keys(film: &Film, file: &std::path::Path) -> io::Result<Option<Vec<i64>>> {
    Ok(match film.keys {
        Keys::Every(gop) => {
            let frames = film.master.duration_ms() / crate::film::FRAME_MS;
            let gop = usize::try_from(gop).unwrap_or(usize::MAX);
            Some((0..frames).step_by(gop).map(|n| n * crate::film::FRAME_MS).collect())
        }
        Keys::Probed => {
            let packets = packets(file)?;
            let keys = packets.iter().filter(|packet| packet.is_key && !packet.is_trimmed);
            Some(keys.map(|packet| packet.at_ms).collect())
        }
        Keys::Gradual => None,
    })
}

/// Judges all films on one server.
///
/// # Panics
/// With everything that is wrong with any of them.
pub(crate) async fn all(films: Vec<Film>) {
    let names: BTreeSet<&str> = films.iter().map(|film| &*film.name).collect();
    assert_eq!(names.len(), films.len(), "two films of one name");
    let n_films = films.len();
    let stills = Setup::new().start().await;
    let (ready, mut subjects) = tokio::sync::mpsc::channel(AHEAD);
    let todo = Arc::new(Mutex::new(films.into_iter()));
    for _ in 0..AHEAD {
        let (ready, todo) = (ready.clone(), Arc::clone(&todo));
        std::thread::spawn(move || {
            let next = || todo.lock().ok().and_then(|mut todo| todo.next());
            while let Some(film) = next() {
                let subject = Subject::of(&film).map_err(|error| format!("{}: {error}", film.name));
                if ready.blocking_send(subject).is_err() {
                    return;
                }
            }
        });
    }
    drop(ready);
    let (mut faults, mut n_judged) = (Vec::new(), 0);
    while let Some(subject) = subjects.recv().await {
        n_judged += 1;
        let camera = Camera::numbered(n_judged);
        let judged = match subject {
            Ok(subject) => {
                judge(&stills, &camera, &subject).await.map_err(|fault| format!("{}: {fault}", subject.name))
            }
            Err(fault) => Err(fault),
        };
        faults.extend(judged.err());
    }
    assert_eq!(n_judged as usize, n_films, "every film was judged");
    assert!(faults.is_empty(), "{} of {n_films} films:\n{}", faults.len(), faults.join("\n"));
}

/// Announces a subject and looks at its thumbs.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) async fn judge(stills: &Stills, camera: &Camera, subject: &Subject) -> Result<(), String> {
    let span = (START, START + subject.duration_ms);
    announce(stills, camera, "film", span, subject).await?;
    look_at_all(stills, camera, subject).await
}

/// Looks at the thumbs of a subject that is indexed.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) async fn look_at_all(stills: &Stills, camera: &Camera, subject: &Subject) -> Result<(), String> {
    let span = (START, START + subject.duration_ms);
    let mut judged = Judged { stills, subject, span, compared: BTreeSet::new() };
    let listed = stills.list(&Search::new(camera, span, 1000)).await;
    let offsets: Vec<i64> = listed.iter().map(|entry| entry.timestamp).collect();
    let expected: Vec<i64> = (0..=subject.duration_ms / 1000).map(|k| k * 1000).collect();
    if offsets != expected {
        return Err(format!("listed are {offsets:?}"));
    }
    for entry in &listed {
        judged.look(&entry.target, entry.timestamp).await?;
    }
    // Between the listed ones: every keyframe is the nearest of some instant.
    for offset in (130..subject.duration_ms).step_by(390) {
        judged.look(&thumb(camera, span, offset), offset).await?;
    }
    match &subject.keys_ms {
        Some(keys_ms) if keys_ms.len() <= 8 && judged.compared.len() < keys_ms.len() => {
            Err(format!("{} of {} keyframes were shown", judged.compared.len(), keys_ms.len()))
        }
        _ => Ok(()),
    }
}

/// Announces a subject as a recording and waits until it is indexed.
///
/// # Errors
/// Why it is not.
pub(crate) async fn announce(
    stills: &Stills,
    camera: &Camera,
    id: &str,
    span: (i64, i64),
    subject: &Subject,
) -> Result<(), String> {
    let extension = subject.file.extension().unwrap_or_default().to_string_lossy();
    let url = stills.place(camera, &subject.file, &format!("{id}.{extension}"));
    stills.send(&[available(camera, id, span, &url)]).await.expect(202);
    settled(stills, camera, id, span).await
}

/// Waits until a recording is indexed.
///
/// # Errors
/// Why it is not.
pub(crate) async fn settled(stills: &Stills, camera: &Camera, id: &str, span: (i64, i64)) -> Result<(), String> {
    wait::some(&format!("a scan of {}", camera.device), async || {
        let recording = stills.recording(camera, id, span).await;
        let reason = recording["reason"].as_str().map(str::to_owned);
        match (recording["state"].as_str(), reason) {
            (Some("indexed"), _) => Some(Ok(())),
            (_, Some(reason)) => Some(Err(format!("not indexed: {reason}"))),
            _ => None,
        }
    })
    .await
}

struct Judged<'a> {
    stills: &'a Stills,
    subject: &'a Subject,
    span: (i64, i64),
    /// The instants whose pictures were compared.
    compared: BTreeSet<i64>,
}

impl Judged<'_> {
    async fn look(&mut self, target: &str, offset: i64) -> Result<(), String> {
        let answer = self.stills.get(target).await;
        if answer.status != 200 {
            return Err(format!("at {offset} ms: {} {}", answer.status, answer.text()));
        }
        let thumb = image::load_from_memory_with_format(&answer.body, image::ImageFormat::Jpeg);
        let thumb: RgbImage = thumb.map_err(|error| format!("at {offset} ms: {error}"))?.into_rgb8();
        if thumb.dimensions() != crate::picture::SIZE {
            return Err(format!("at {offset} ms: a thumb of {:?}", thumb.dimensions()));
        }
        let clock = read_clock(&DynamicImage::ImageRgb8(thumb.clone()).into_luma8());
        let clock_ms = clock.ok_or_else(|| format!("at {offset} ms: no clock can be read"))?;
        let at_ms = clock_ms - self.subject.shown.first_ms();
        self.check_time(&answer, offset, at_ms).map_err(|fault| format!("at {offset} ms: {fault}"))?;
        if self.compared.insert(clock_ms) {
            let compared = self.subject.shown.compare(clock_ms, &thumb);
            compared.map_err(|fault| format!("at {offset} ms, the picture of {at_ms} ms: {fault}"))?;
        }
        Ok(())
    }

    /// The picture, the headers and the frame rule name one instant.
    fn check_time(&self, answer: &e2e::harness::Answer, offset: i64, at_ms: i64) -> Result<(), String> {
        let told_ms = answer.number("stills-frame-timestamp") - self.span.0;
        let distance_ms = answer.number("stills-frame-distance");
        if told_ms != at_ms || distance_ms != at_ms - offset {
            return Err(format!("the picture is of {at_ms} ms, told are {told_ms} ms and {distance_ms} ms from there"));
        }
        let Some(keys_ms) = &self.subject.keys_ms else {
            let is_near = (offset - at_ms).abs() <= GRADUAL_MAX_MS;
            return if is_near { Ok(()) } else { Err(format!("the nearest whole picture is of {at_ms} ms")) };
        };
        let (start_ms, end_ms) = self.span;
        let keyframes_ms = keys_ms.iter().map(|at_ms| start_ms + at_ms).collect();
        let recorded = [Recorded { id: "film".to_owned(), start_ms, end_ms, keyframes_ms }];
        let expected = shown(&recorded, 1000, start_ms + offset).map(|shown| shown.keyframe_ms - start_ms);
        if expected == Some(at_ms) { Ok(()) } else { Err(format!("the picture of {at_ms} ms, not of {expected:?}")) }
    }
}
