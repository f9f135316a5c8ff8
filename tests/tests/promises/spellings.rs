//! NGINX and the server read one request the same way: whatever is done to an address, nobody sees through one what the
//! other would refuse.

use e2e::harness::raw::{self, RawAnswer};
use e2e::harness::stills::thumb;
use e2e::harness::token::{self, claims_with};
use e2e::harness::{Camera, OTHER_USER, Setup, Stills, signed};
use serde_json::json;

use crate::fixtures::{Dice, first_minute, span};

/// What is put into addresses: what separates, encodes, or looks like something else.
const PIECES: [&str; 40] = [
    "/",
    "//",
    "/./",
    "/../",
    "/..",
    ".",
    "%2f",
    "%2F",
    "%2e%2e/",
    "%00",
    "%20",
    "%25",
    "%",
    "%3f",
    "?",
    "??",
    "&",
    "=",
    ";",
    "#",
    "+",
    "-",
    "0",
    "00",
    "1",
    "9",
    "a",
    "A",
    "f",
    "g",
    "\\",
    "~",
    ":",
    "@",
    "!",
    "*",
    "?v=0",
    "&v=1",
    "?expires=1",
    "/x",
];

async fn ask(stills: &Stills, is_direct: bool, target: &str, token: Option<&str>) -> RawAnswer {
    let address = if is_direct { stills.origin_address() } else { stills.address() };
    let credential = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    raw::exchange(address, format!("GET {target} HTTP/1.1\r\nHost: x\r\n{credential}Connection: close\r\n\r\n")).await
}

/// Something put in, taken out or doubled at a place.
fn mutated(target: &str, dice: &mut Dice) -> String {
    let place =
        |dice: &mut Dice, len: usize| usize::try_from(dice.roll(0, i64::try_from(len).expect("short"))).expect("short");
    let at = place(dice, target.len() - 1);
    let piece = PIECES[place(dice, PIECES.len() - 1)];
    let (front, back) = target.split_at(at);
    match dice.roll(0, 7) {
        0 => format!("{front}{}", &back[1..]),
        1 => format!("{front}{piece}{}", &back[1..]),
        2 => format!("{front}%{:02x}{}", back.as_bytes()[0], &back[1..]),
        3 => format!("{target}{piece}"),
        4 | 5 => format!("{target}?{piece}={piece}"),
        6 => target.replacen("thumb-", &format!("thumb-{}", dice.roll(0, 2)), 1),
        _ => format!("{front}{piece}{back}"),
    }
}

#[tokio::test]
async fn whatever_is_done_to_an_address() {
    let stills = Setup::new().nginx().set("auth.cache_ttl", "\"60s\"").start().await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let stranger = token::hs256(&claims_with("thumbnails:read", &json!({"user_id": OTHER_USER})));
    let window = span(&minute);
    let plain = thumb(&camera, window, 20_000);
    let signature = signed::Window::new(&camera.user, &camera.device, window.0, window.1).query();
    let signed = format!("{plain}?{signature}");
    for target in [&plain, &plain] {
        assert_eq!(ask(&stills, false, target, Some(stills.owner())).await.status, 200);
    }
    assert_eq!(ask(&stills, false, &signed, None).await.status, 200);

    let (mut n_served, mut n_refused) = (0, 0);
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let mut target = plain.clone();
        for _ in 0..dice.roll(1, 3) {
            target = mutated(&target, &mut dice);
        }
        // Who may not see the camera sees nothing by any spelling of it.
        for token in [None, Some(stranger.as_str())] {
            for is_direct in [false, true] {
                let answer = ask(&stills, is_direct, &target, token).await;
                assert_ne!(answer.status, 200, "{target}");
                assert!(!answer.text.contains("image/jpeg"), "{target}");
            }
        }
        // Who may sees the same by both ways, unless NGINX does not take it for HTTP.
        let through = ask(&stills, false, &target, Some(stills.owner())).await;
        let direct = ask(&stills, true, &target, Some(stills.owner())).await;
        let own = [400, 401];
        assert!(through.status == direct.status || own.contains(&through.status), "{target}: {through:?}\n{direct:?}");
        if through.status == 200 {
            assert_eq!(through.header("etag"), direct.header("etag"), "{target}");
            n_served += 1;
        } else {
            n_refused += 1;
        }
    }
    assert!(n_served > 10 && n_refused > 10, "{n_served} served, {n_refused} refused");

    for seed in 1000..1100 {
        let mut dice = Dice::new(seed);
        let target = mutated(&signed, &mut dice);
        let through = ask(&stills, false, &target, None).await;
        let direct = ask(&stills, true, &target, None).await;
        // Stricter is allowed to NGINX, more generous is not.
        assert!(through.status != 200 || direct.status == 200, "{target}: {through:?}\n{direct:?}");
    }
}
