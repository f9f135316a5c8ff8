//! Putting images: at once and for good, within bounds, and only by and for those who may.

use std::sync::atomic::{AtomicBool, Ordering};

use e2e::harness::tmpfs::Tmpfs;
use e2e::harness::token::{claims_with, hs256, with_scope};
use e2e::harness::{Camera, DEVICE, OTHER_DEVICE, OTHER_USER, Setup, Stills, USER, wait};
use image::ImageFormat;
use reqwest::Method;
use serde_json::json;

use crate::fixtures::{first_minute, span};
use crate::image_fixtures::{BLUE, GREEN, Picture, RED, coded, image, png, put, put_as};

const POSTER: &str = "Show/4711/Poster";
const BOX: &str = "width=160&height=90";

async fn check_shown(stills: &Stills, path: &str, colour: [u8; 3]) {
    let answer = stills.get(&image(path, BOX)).await;
    Picture::of(&answer, false, (160, 90), true).is_all(colour);
}

fn files(stills: &Stills) -> Vec<String> {
    let listed = std::fs::read_dir(stills.home().data().join("uploads/images")).expect("the images");
    listed.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

#[tokio::test]
async fn what_was_put_is_shown_at_once_and_survives_restart_and_crash() {
    let mut stills = Setup::new().nginx().start().await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    check_shown(&stills, POSTER, RED).await;
    put(&stills, &image(POSTER, ""), png(320, 180, BLUE)).await.expect(204);
    check_shown(&stills, POSTER, BLUE).await;
    stills.origin().stop().await;
    stills.start_again().await;
    check_shown(&stills, POSTER, BLUE).await;
    // No time between the answer and the kill.
    put(&stills, &image(POSTER, ""), png(320, 180, GREEN)).await.expect(204);
    stills.kill9().await;
    // What a put that was cut short leaves behind counts for nothing.
    let name = files(&stills).remove(0);
    let half = stills.home().data().join("uploads/images").join(format!("{name}.new"));
    std::fs::write(&half, b"half an image").expect("a file");
    // Nothing but the images themselves is needed.
    for derived in ["catalog", "cache"] {
        std::fs::remove_dir_all(stills.home().data().join(derived)).expect("derived data");
    }
    stills.start_again().await;
    check_shown(&stills, POSTER, GREEN).await;
    assert_eq!(files(&stills), [name]);
}

/// Readers beside a writer always get one of the images that were put, whole.
#[tokio::test]
async fn replacing_is_atomic() {
    let stills = Setup::new().nginx().start().await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    let is_done = AtomicBool::new(false);
    let read = async {
        let mut n_read = 0;
        while !is_done.load(Ordering::Relaxed) {
            let answer = stills.get(&image(POSTER, BOX)).await;
            let picture = Picture::of(&answer, false, (160, 90), true);
            let colour = [RED, BLUE].into_iter().find(|colour| picture.is_colour((80, 45), *colour));
            picture.is_all(colour.expect("one of the two"));
            n_read += 1;
        }
        n_read
    };
    let write = async {
        for n in 0..20 {
            put(&stills, &image(POSTER, ""), png(320, 180, [BLUE, RED][n % 2])).await.expect(204);
        }
        is_done.store(true, Ordering::Relaxed);
    };
    let (n_read, ()) = tokio::join!(read, write);
    assert!(n_read > 0);
}

#[tokio::test]
async fn every_format_is_taken_whatever_it_is_called() {
    let stills = Setup::new().nginx().start().await;
    for (n, format) in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP].into_iter().enumerate() {
        let drawn = image::load_from_memory(&png(320, 180, RED)).expect("an image");
        let target = image(&format!("Show/{n}/Poster"), "");
        let ask = stills.ask(Method::PUT, &target).bearer(stills.owner()).body("text/plain", coded(&drawn, format));
        ask.send().await.expect(201);
        check_shown(&stills, &format!("Show/{n}/Poster"), RED).await;
    }
    // Names that mean harm are names.
    for path in
        ["Show/..%2F..%2F..%2Fetc%2Fpasswd/Poster", ".%2E%20/..%2F/~", "Show/%F0%9F%8E%A5/a%2Fb", "Show/a%20b/c"]
    {
        put(&stills, &image(path, ""), png(320, 180, BLUE)).await.expect(201);
        check_shown(&stills, path, BLUE).await;
    }
    let long = format!("Show/{}/Poster", "x".repeat(256));
    put(&stills, &image(&long, ""), png(320, 180, BLUE)).await.expect(201);
    check_shown(&stills, &long, BLUE).await;
    put(&stills, &image(&long.replace("xx", "xxx"), ""), png(320, 180, BLUE)).await.problem(400, "bad-request");
    let names = files(&stills);
    assert_eq!(names.len(), 8);
    assert!(names.iter().all(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())), "{names:?}");
}

#[tokio::test]
async fn what_is_over_a_bound_or_no_image_changes_nothing() {
    let setup = Setup::new().nginx().set("images.body_max", "\"64KiB\"").set("images.pixels_max", "60000");
    let stills = setup.set("images.max_bytes", "\"1MiB\"").start().await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    let mut noise = 1u32;
    let mut random = |len: usize| -> Vec<u8> {
        let next = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(len).collect()
    };
    let good = png(320, 180, BLUE);
    for (what, file, status, slug) in [
        ("bytes", random(64 * 1024 + 1), 413, "content-too-large"),
        ("pixels", png(301, 200, BLUE), 400, "bad-request"),
        ("nothing", Vec::new(), 400, "bad-request"),
        ("noise", random(5000), 400, "bad-request"),
        ("half an image", good[..good.len() / 2].to_vec(), 400, "bad-request"),
        ("markup", b"<svg xmlns='http://www.w3.org/2000/svg' width='16' height='9'/>".to_vec(), 400, "bad-request"),
        ("a page", b"<!doctype html><script>alert(1)</script>".to_vec(), 400, "bad-request"),
        (
            "a GIF",
            b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;".to_vec(),
            400,
            "bad-request",
        ),
    ] {
        let answer = put(&stills, &image(POSTER, ""), file.clone()).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        answer.problem(status, slug);
        let direct = stills.ask_origin(Method::PUT, &image(POSTER, "")).bearer(stills.owner());
        direct.body("image/png", file).send().await.problem(status, slug);
        check_shown(&stills, POSTER, RED).await;
    }
    let metrics = stills.metrics().await;
    assert_eq!(metrics.sum("stills_images", &[]), 1.0);
    assert!(metrics.sum("stills_images_bytes", &[]) > 100.0);
    // Noise does not compress: some forty images fill the store.
    let file = coded(&image::RgbImage::from_raw(100, 100, random(30_000)).expect("an image").into(), ImageFormat::Png);
    let mut n_put = 0;
    let full = loop {
        let answer = put(&stills, &image(&format!("Show/{n_put}/Poster"), ""), file.clone()).await;
        if answer.status != 201 {
            break answer;
        }
        n_put += 1;
        assert!(n_put < 60, "there is no end");
    };
    full.problem(503, "unavailable");
    assert!(n_put > 20, "{n_put}");
    check_shown(&stills, POSTER, RED).await;
    // What goes makes room.
    let delete = async |path: &str| stills.ask(Method::DELETE, &image(path, "")).bearer(stills.owner()).send().await;
    delete("Show/0/Poster").await.expect(204);
    delete("Show/0/Poster").await.problem(404, "not-found");
    put(&stills, &image(&format!("Show/{n_put}/Poster"), ""), file).await.expect(201);
    stills.get(&image("Show/0/Poster", BOX)).await.problem(500, "no-image");
}

#[tokio::test]
async fn a_full_disk_refuses_and_keeps_what_is_there() {
    let home = Setup::new().lay_out();
    let disk = Tmpfs::mount(&home.data().join("uploads"), 1 << 20);
    let stills = Stills::start(home, true).await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    disk.fill();
    for path in [POSTER, "Show/new/Poster"] {
        put(&stills, &image(path, ""), png(320, 180, BLUE)).await.problem(503, "unavailable");
    }
    check_shown(&stills, POSTER, RED).await;
    stills.get(&image("Show/new/Poster", BOX)).await.problem(500, "no-image");
    assert_eq!(files(&stills).len(), 1, "nothing half-written is left");
    disk.free();
    put(&stills, &image(POSTER, ""), png(320, 180, BLUE)).await.expect(204);
    check_shown(&stills, POSTER, BLUE).await;
}

/// What is kept free for deletes and the journal is not for images.
#[tokio::test]
async fn what_is_kept_free_stays_free() {
    let home = Setup::new().set("data.free_min", "\"16MiB\"").lay_out();
    let disk = Tmpfs::mount(&home.data(), 48 << 20);
    let stills = Stills::start(home, true).await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    disk.fill();
    wait::until("the disk is seen to be full", async || stills.admin("/readyz").await.status == 503).await;
    put(&stills, &image(POSTER, ""), png(320, 180, BLUE)).await.problem(503, "unavailable");
    check_shown(&stills, POSTER, RED).await;
    disk.free();
    wait::until("there is room again", async || stills.admin("/readyz").await.status == 200).await;
    put(&stills, &image(POSTER, ""), png(320, 180, BLUE)).await.expect(204);
    check_shown(&stills, POSTER, BLUE).await;
}

#[tokio::test]
async fn a_default_that_cannot_be_shown_is_refused_at_the_start() {
    for (content, expected) in [(Some(b"no image".as_slice()), "no JPEG, PNG or WebP"), (None, "No such file")] {
        let home = Setup::new().lay_out();
        let path = home.path("default.png");
        if let Some(content) = content {
            std::fs::write(&path, content).expect("a file");
        }
        let mut home = home;
        home.set("images.defaults.Show", &format!("{path:?}"));
        let output = home.command("stills-origin", &["serve"]).output().expect("it runs");
        assert!(!output.status.success());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("images.defaults.Show") && said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn private_images_are_one_users() {
    let stills = Setup::new().nginx().start().await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    let scopes = "images:read images:write";
    let other = hs256(&claims_with(scopes, &json!({"user_id": OTHER_USER})));
    let both = hs256(&claims_with(scopes, &json!({"user_id": [USER, OTHER_USER]})));
    let both_as = hs256(&claims_with(scopes, &json!({"user_id": [USER, OTHER_USER], "sub": OTHER_USER})));
    let narrowed = hs256(&claims_with(scopes, &json!({"device_id": DEVICE})));
    let target = image(POSTER, BOX);

    let nobody = stills.ask(Method::GET, &target).send().await;
    nobody.problem(401, "invalid-token");
    assert!(nobody.header("www-authenticate").starts_with("Bearer"));
    stills.get_as(&with_scope("thumbnails:read images:write"), &target).await.problem(403, "insufficient-scope");
    stills.get_as(&with_scope("images:read"), &target).await.expect(200);
    stills.get_as(&narrowed, &target).await.problem(403, "insufficient-scope");
    // Another user has images of their own under the same names, and no way to these.
    stills.get_as(&other, &target).await.problem(500, "no-image");
    let mine = format!("{target}&user_id={USER}");
    stills.get_as(&other, &mine).await.problem(403, "insufficient-scope");
    put_as(&stills, &other, &format!("{}user_id={USER}", image(POSTER, "")), png(320, 180, GREEN))
        .await
        .problem(403, "insufficient-scope");
    put_as(&stills, &other, &image(POSTER, ""), png(320, 180, BLUE)).await.expect(201);
    check_shown(&stills, POSTER, RED).await;
    // A token for several says whose.
    let unsaid = stills.get_as(&both, &target).await.problem(400, "bad-request");
    assert_eq!(unsaid["errors"][0]["parameter"], "user_id");
    for (token, user, colour) in
        [(&both, Some(USER), RED), (&both, Some(OTHER_USER), BLUE), (&both_as, None, BLUE), (&other, None, BLUE)]
    {
        let target = user.map_or(target.clone(), |user| format!("{target}&user_id={user}"));
        Picture::of(&stills.get_as(token, &target).await, false, (160, 90), true).is_all(colour);
    }

    for (method, token, status) in [
        (Method::PUT, None, 401),
        (Method::DELETE, None, 401),
        (Method::PUT, Some(with_scope("images:read recordings:write")), 403),
        (Method::DELETE, Some(with_scope("images:read")), 403),
        (Method::PUT, Some(narrowed.clone()), 403),
        (Method::DELETE, Some(narrowed), 403),
    ] {
        let ask = stills.ask(method, &image(POSTER, "")).body("image/png", png(16, 9, GREEN));
        let ask = if let Some(token) = token { ask.bearer(&token) } else { ask };
        ask.send().await.expect(status);
    }
    check_shown(&stills, POSTER, RED).await;
}

/// What footage gives is never public, and never put.
#[tokio::test]
async fn public_images_are_everyones_and_footage_is_not() {
    let stills = Setup::new().nginx().set("images.public", "true").start().await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    let answer = stills.ask(Method::GET, &image(POSTER, BOX)).send().await;
    Picture::of(&answer, false, (160, 90), true).is_all(RED);
    assert_eq!(answer.header("cache-control"), "public, max-age=60");
    let other = hs256(&claims_with("images:read", &json!({"user_id": OTHER_USER})));
    stills.get_as(&other, &image(POSTER, BOX)).await.expect(200);
    stills.ask(Method::GET, &image("Show/none/Poster", BOX)).send().await.problem(500, "no-image");
    let unsigned = stills.ask(Method::PUT, &image(POSTER, "")).body("image/png", png(16, 9, GREEN)).send().await;
    unsigned.problem(401, "invalid-token");
    put_as(&stills, &other, &image(POSTER, ""), png(16, 9, GREEN)).await.problem(403, "insufficient-scope");

    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    let narrowed = |device: &str| hs256(&claims_with("images:read", &json!({"device_id": device})));
    for path in [format!("Device/{USER}.{DEVICE}/Latest"), format!("Recording/{USER}.{DEVICE}.r-1/Poster")] {
        let target = image(&path, "width=320&aspect=4x3");
        stills.ask(Method::GET, &target).send().await.problem(401, "invalid-token");
        stills.get_as(&other, &target).await.problem(403, "insufficient-scope");
        stills.get_as(&with_scope("thumbnails:read"), &target).await.problem(403, "insufficient-scope");
        stills.get_as(&narrowed(OTHER_DEVICE), &target).await.problem(403, "insufficient-scope");
        let answer = stills.get_as(&narrowed(DEVICE), &target).await.expect(200);
        assert!(answer.header("cache-control").starts_with("private, "), "{answer:?}");
        // Neither is in NGINX afterwards.
        stills.ask(Method::GET, &target).send().await.problem(401, "invalid-token");
        stills.get_as(&other, &target).await.problem(403, "insufficient-scope");
        for method in [Method::PUT, Method::DELETE] {
            let answer =
                stills.ask(method, &target).bearer(stills.owner()).body("image/png", png(16, 9, GREEN)).send().await;
            answer.problem(405, "method-not-allowed");
            assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");
        }
    }
    assert_eq!(stills.nginx().files("cache-pictures").len(), 0);
}
