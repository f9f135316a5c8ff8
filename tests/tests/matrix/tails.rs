//! Files without their end: cut off by a crash, or still being written.

use std::io;
use std::path::PathBuf;

use e2e::harness::event::{available, event};
use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Setup, Stills, wait};
use serde_json::json;

use crate::coding::{B_FRAMES, FRAGMENTED, H264, HEVC, MKV, MKV_LIVE, MP4, MPEG2, Packing, TS, VP9};
use crate::film::{Film, kept, packets};
use crate::judge::{Subject, judge};
use crate::picture::Shown;

/// A film cut in the middle of a picture that is none of its keyframes; what is left of it shows the keyframes before.
fn cut(film: &Film) -> io::Result<Subject> {
    let whole = film.file()?;
    let packets = packets(&whole)?;
    let at = packets.iter().filter(|packet| packet.at_ms > 3_300 && !packet.is_key).min_by_key(|packet| packet.offset);
    let at = at.ok_or_else(|| io::Error::other("no packet to cut in"))?;
    let len = at.offset + at.len / 2;
    let file = kept(&format!("{} cut at {len}", film.name), extension(&whole), |to| {
        std::fs::write(to, &std::fs::read(&whole)?[..usize::try_from(len).unwrap_or(usize::MAX)])
    })?;
    let keys = packets.iter().filter(|packet| packet.is_key && packet.offset + packet.len < len);
    let keys_ms: Vec<i64> = keys.map(|packet| packet.at_ms).collect();
    let shown = Shown::of(&file, |at_ms| keys_ms.contains(&at_ms))?;
    Ok(Subject { name: film.name.clone(), file, duration_ms: 6_000, keys_ms: Some(keys_ms), shown })
}

fn extension(file: &std::path::Path) -> &str {
    file.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

#[tokio::test]
async fn what_is_cut_off_costs_what_was_there() {
    let h264 = format!("{H264} {B_FRAMES}");
    let mut films: Vec<Film> =
        [MP4, FRAGMENTED, TS, MKV, MKV_LIVE].map(|packing| packing.film("to be cut", &h264)).into();
    films.push(TS.film("HEVC to be cut", HEVC));
    films.push(TS.film("MPEG-2 to be cut", MPEG2));
    films.push(MKV.film("VP9 to be cut", VP9));
    let stills = Setup::new().start().await;
    let mut faults = Vec::new();
    for (number, film) in (1..).zip(&films) {
        let subject = cut(film).expect("a film");
        assert!(subject.keys_ms.as_ref().is_some_and(|keys_ms| keys_ms.len() >= 3), "{}", film.name);
        let judged = judge(&stills, &Camera::numbered(number), &subject).await;
        faults.extend(judged.err().map(|fault| format!("{}: {fault}", film.name)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Announces that the recording has grown, or is complete.
async fn grown(stills: &Stills, camera: &Camera, url: &str, growing: bool) {
    let mut announced = available(camera, "film", (START, START + 6_000), url);
    announced["data"]["growing"] = json!(growing);
    if growing {
        // The scan says how far it goes.
        let data = announced["data"].as_object_mut().expect("data");
        data.remove("end_timestamp");
    }
    stills.send(&[event("recording.available", &announced["data"])]).await.expect(202);
}

async fn check_growing(stills: &Stills, camera: &Camera, packing: Packing) -> io::Result<Subject> {
    let film = packing.film("growing", H264);
    let whole = film.file()?;
    let subject = Subject::of(&film)?;
    let bytes = std::fs::read(&whole)?;
    let packets = packets(&whole)?;
    let file: PathBuf = stills.media_path(camera, &format!("growing.{}", extension(&whole)));
    let url = format!("file://{}", file.display());
    for until_ms in [2_500, 4_500] {
        let at = packets.iter().find(|packet| packet.at_ms >= until_ms).map_or(0, |packet| packet.offset);
        std::fs::write(&file, &bytes[..usize::try_from(at).unwrap_or(0)])?;
        grown(stills, camera, &url, true).await;
        // The last keyframe that is whole by now, one GOP or a fragment behind.
        let span = (START, START + 6_000);
        let target = thumb(camera, span, until_ms - 1_500);
        let what = format!("{}: {until_ms} ms of it", film.name);
        wait::until(&what, async || {
            let answer = stills.get(&target).await;
            answer.status == 200 && answer.number("stills-frame-distance").abs() <= 13 * 40
        })
        .await;
    }
    std::fs::write(&file, &bytes)?;
    grown(stills, camera, &url, false).await;
    wait::until("the complete recording", async || {
        let recording = stills.recording(camera, "film", (START, START + 6_000)).await;
        recording["state"] == "indexed"
    })
    .await;
    Ok(subject)
}

#[tokio::test]
async fn growing_files_are_shown_as_far_as_they_go() {
    let stills = Setup::new().start().await;
    for (number, packing) in (1..).zip([TS, FRAGMENTED, MKV_LIVE]) {
        let camera = Camera::numbered(number);
        let subject = check_growing(&stills, &camera, packing).await.expect("a film");
        // What is complete is judged as any other film, scanned on from where the growing one ended.
        let judged = crate::judge::look_at_all(&stills, &camera, &subject).await;
        assert_eq!(judged, Ok(()), "{}", subject.name);
    }
}
