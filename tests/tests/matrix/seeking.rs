//! Any instant of a transport stream: FFmpeg's own seek lands behind the wanted keyframe nearly always, the keyframe
//! index never.

use e2e::footage::look;
use e2e::harness::stills::thumb;
use e2e::harness::{Camera, START, Setup};

use crate::coding::{B_FRAMES, H264, M2TS, TS};
use crate::film::{FRAME_MS, Film, Master};
use crate::judge::settled;

const INSTANTS: usize = 100;

/// Distinct random numbers, the same ones every time.
fn random_offsets(mut state: u64, end_ms: i64) -> Vec<i64> {
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(state >> 33).unwrap_or(0) % end_ms
    };
    std::iter::repeat_with(next).take(INSTANTS).collect()
}

async fn check(film: Film, number: u32) {
    let stills = Setup::new().start().await;
    let camera = Camera::numbered(number);
    let span = (START, START + 60_000);
    let url = stills.place(&camera, &film.file().expect("a film"), "film.ts");
    stills.send(&[e2e::harness::event::available(&camera, "film", span, &url)]).await.expect(202);
    assert_eq!(settled(&stills, &camera, "film", span).await, Ok(()));
    let mut right = 0;
    for offset in random_offsets(u64::from(number), 60_000) {
        let answer = stills.get(&thumb(&camera, span, offset)).await.expect(200);
        let clock_ms = look(&answer.body).expect("a JPEG").clock_ms;
        // A keyframe every 13 pictures; of two equally near the later.
        let (distance, last) = (13 * FRAME_MS, 57 * 13 * FRAME_MS);
        let nearest = ((offset + distance / 2).div_euclid(distance) * distance).min(last);
        assert_eq!(clock_ms, Some(START + nearest), "at {offset} ms");
        right += 1;
    }
    assert_eq!(right, INSTANTS);
}

#[tokio::test]
async fn a_hundred_instants_of_a_transport_stream() {
    let sound = "-f lavfi -i sine=frequency=440:sample_rate=16000 -shortest -map 0:v -map 1:a -c:a aac -b:a 64k";
    check(TS.film("a minute", &format!("{sound} {H264} {B_FRAMES}")).of(Master::Minute), 1).await;
}

#[tokio::test]
async fn a_hundred_instants_of_192_byte_packets() {
    check(M2TS.film("a minute", &format!("{H264} -output_ts_offset 95420")).of(Master::Minute), 2).await;
}
