//! Images in boxes: ratios that snap, letterboxes that never crop, defaults, locales, what footage gives, and every fault.

use e2e::footage::{look, read_clock};
use e2e::harness::event::{available, deleted};
use e2e::harness::stills::thumb;
use e2e::harness::{Camera, DEVICE, START, Setup, Stills, USER};
use image::{DynamicImage, Rgba, RgbaImage, imageops};
use reqwest::Method;
use tokio::task::JoinSet;

use crate::fixtures::{first_minute, minute, span};
use crate::image_fixtures::{BLUE, GREEN, Picture, RED, coded, image, png, put};

const POSTER: &str = "Show/4711/Poster";

/// With NGINX, and defaults of this colour for the content type `Show`, in portrait and only if wanted.
async fn with_images(default: Option<(u32, u32)>) -> Stills {
    let mut setup = Setup::new().nginx().set("images.locales", "[\"en\", \"de\"]");
    let directory = tempfile::tempdir().expect("a directory");
    if let Some((width, height)) = default {
        let path = directory.path().join("default.png");
        std::fs::write(&path, png(width, height, BLUE)).expect("a file");
        for content_type in ["Show", "Device", "Recording"] {
            setup = setup.set(&format!("images.defaults.{content_type}"), &format!("{path:?}"));
        }
    }
    // The file is read at the start and not again.
    setup.start().await
}

#[tokio::test]
async fn boxes_snap_to_standard_ratios() {
    let stills = with_images(None).await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    for (query, size) in [
        ("width=160&height=90", (160, 90)),
        ("width=160&aspect=16x9", (160, 90)),
        ("height=90&aspect=16x9", (160, 90)),
        ("width=160&height=7&aspect=16x9", (160, 90)),
        ("width=160&aspect=178x100", (160, 90)),
        ("width=161&height=90", (161, 91)),
        ("width=300&height=100", (300, 169)),
        ("width=300&height=100&dominantDimension=width", (300, 169)),
        ("width=300&height=100&dominantDimension=height", (178, 100)),
        ("width=160&aspect=16x9&dominantDimension=height", (160, 90)),
        ("width=160&height=90&locale=fr&user_id=627d8ca8297a3d00019e2abb&other=x", (160, 90)),
    ] {
        for webp in [false, true] {
            let query = format!("{query}{}", if webp { "&imageFormat=webp" } else { "" });
            let answer = stills.get(&image(POSTER, &query)).await;
            Picture::of(&answer, webp, size, true).is_all(RED);
        }
    }
}

#[tokio::test]
async fn other_shapes_are_letterboxed_and_never_cropped() {
    let stills = with_images(None).await;
    let landscape = image("Show/landscape/Poster", "");
    let portrait = image("Show/portrait/Poster", "");
    put(&stills, &landscape, png(640, 360, RED)).await.expect(201);
    put(&stills, &portrait, png(200, 300, GREEN)).await.expect(201);
    for (id, query, size, colour, frame) in [
        ("landscape", "width=160&aspect=4x3", (160, 120), RED, [0, 14, 160, 104]),
        ("landscape", "width=240&aspect=2x3", (240, 360), RED, [0, 112, 240, 248]),
        ("portrait", "height=180&aspect=16x9", (320, 180), GREEN, [100, 0, 220, 180]),
        ("portrait", "width=120&aspect=3x4", (120, 160), GREEN, [6, 0, 114, 160]),
    ] {
        for webp in [false, true] {
            let query = format!("{query}{}", if webp { "&imageFormat=webp" } else { "" });
            let answer = stills.get(&image(&format!("Show/{id}/Poster"), &query)).await;
            Picture::of(&answer, webp, size, false).is_framed(colour, frame, webp);
        }
    }
}

#[tokio::test]
async fn transparency_is_kept_in_webp_and_black_in_jpeg() {
    let stills = with_images(None).await;
    // The right half of a 16:9 image is transparent white.
    let half = |x| if x < 80 { Rgba([220, 30, 30, 255]) } else { Rgba([255, 255, 255, 0]) };
    let drawn: DynamicImage = RgbaImage::from_fn(160, 90, |x, _| half(x)).into();
    for format in [image::ImageFormat::Png, image::ImageFormat::WebP] {
        put(&stills, &image(POSTER, ""), coded(&drawn, format)).await;
        let webp = stills.get(&image(POSTER, "width=160&height=90&imageFormat=webp")).await;
        let webp = Picture::of(&webp, true, (160, 90), true);
        assert!(webp.is_colour((20, 45), RED) && webp.pixels.get_pixel(140, 45).0[3] == 0);
        let jpeg = stills.get(&image(POSTER, "width=160&height=90")).await;
        let jpeg = Picture::of(&jpeg, false, (160, 90), true);
        assert!(jpeg.is_colour((20, 45), RED) && jpeg.is_colour((140, 45), [0, 0, 0]));
    }
}

/// Portrait asked of a landscape picture, or the other way: the default, else a letterbox.
#[tokio::test]
async fn a_default_stands_in_for_what_lies_the_other_way() {
    let stills = with_images(Some((200, 300))).await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    put(&stills, &image("Film/1/Poster", ""), png(320, 180, RED)).await.expect(201);
    let get = async |path: &str, query: &str| stills.get(&image(path, query)).await;
    // The default has the ratio asked for, or another portrait one.
    Picture::of(&get(POSTER, "width=80&aspect=2x3").await, false, (80, 120), true).is_all(BLUE);
    Picture::of(&get(POSTER, "width=120&aspect=3x4").await, false, (120, 160), false).is_framed(
        BLUE,
        [6, 0, 114, 160],
        false,
    );
    // Landscape of another ratio is no reason for it.
    Picture::of(&get(POSTER, "width=160&aspect=4x3").await, false, (160, 120), false).is_framed(
        RED,
        [0, 14, 160, 104],
        false,
    );
    // A content type without one.
    Picture::of(&get("Film/1/Poster", "width=240&aspect=2x3").await, false, (240, 360), false).is_framed(
        RED,
        [0, 112, 240, 248],
        false,
    );
    // Landscape asked of a portrait picture: the default lies wrongly too, and is the default.
    put(&stills, &image("Show/tall/Poster", ""), png(300, 400, GREEN)).await.expect(201);
    Picture::of(&get("Show/tall/Poster", "height=180&aspect=16x9").await, false, (320, 180), false).is_framed(
        BLUE,
        [100, 0, 220, 180],
        false,
    );
    // A square lies neither way.
    put(&stills, &image("Show/square/Poster", ""), png(300, 300, GREEN)).await.expect(201);
    Picture::of(&get("Show/square/Poster", "width=80&aspect=2x3").await, false, (80, 120), false).is_framed(
        GREEN,
        [0, 20, 80, 100],
        false,
    );
}

#[tokio::test]
async fn a_default_stands_in_for_what_is_not_there() {
    let stills = with_images(Some((200, 300))).await;
    let nobody = format!("Device/{USER}.{}/Latest", "0".repeat(24));
    let nothing = format!("Recording/{USER}.{DEVICE}.none/Poster");
    for path in ["Show/nothing/Poster", "Show/4711/Other", &nobody, &nothing] {
        let answer = stills.get(&image(path, "width=80&aspect=2x3")).await;
        Picture::of(&answer, false, (80, 120), true).is_all(BLUE);
    }
    stills.get(&image("Film/nothing/Poster", "width=80&aspect=2x3")).await.problem(500, "no-image");
    let stills = with_images(None).await;
    for path in ["Show/nothing/Poster", &nobody, &nothing] {
        let answer = stills.get(&image(path, "width=80&aspect=2x3")).await;
        answer.problem(500, "no-image");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn locales_fall_back_in_the_configured_order() {
    let stills = with_images(None).await;
    let shown = async |query: &str| {
        let answer = stills.get(&image(POSTER, &format!("width=160&height=90{query}"))).await;
        let picture = Picture::of(&answer, false, (160, 90), true);
        ["red", "blue", "green"]
            .into_iter()
            .zip([RED, BLUE, GREEN])
            .find(|(_, colour)| picture.is_colour((80, 45), *colour))
    };
    let name = |shown: Option<(&'static str, [u8; 3])>| shown.map_or("neither", |(name, _)| name);
    put(&stills, &image(POSTER, "locale=de"), png(160, 90, RED)).await.expect(201);
    // Only German is there: better than nothing for everyone.
    for query in ["&locale=de", "&locale=DE", "&locale=en", "&locale=fr", ""] {
        assert_eq!(name(shown(query).await), "red", "{query}");
    }
    put(&stills, &image(POSTER, ""), png(160, 90, GREEN)).await.expect(201);
    for (query, expected) in [("&locale=de", "red"), ("&locale=fr", "red"), ("", "green")] {
        assert_eq!(name(shown(query).await), expected, "{query}");
    }
    put(&stills, &image(POSTER, "locale=EN"), png(160, 90, BLUE)).await.expect(201);
    for (query, expected) in [("&locale=de", "red"), ("&locale=fr", "blue"), ("&locale=en", "blue"), ("", "green")] {
        assert_eq!(name(shown(query).await), expected, "{query}");
    }
}

#[tokio::test]
async fn a_device_has_its_latest_picture_and_a_recording_its_poster() {
    let stills = with_images(None).await;
    let (camera, first) = (Camera::first(), first_minute());
    stills.record(&camera, "r.1", span(&first), &first.path).await;
    let latest = |query: &str| image(&format!("Device/{}.{}/Latest", camera.user, camera.device), query);
    let poster = |query: &str| image(&format!("Recording/{}.{}.r.1/Poster", camera.user, camera.device), query);

    // A keyframe every two seconds: the last one is two seconds before the end.
    for (target, expected, age) in [
        (latest("width=320&aspect=4x3"), START + 58_000, "private, max-age=5"),
        (poster("width=320&aspect=4x3"), START, "private, max-age=300"),
    ] {
        let answer = stills.get(&target).await;
        Picture::of(&answer, false, (320, 240), true);
        assert_eq!(look(&answer.body).expect("a JPEG").clock_ms, Some(expected), "{target}");
        assert_eq!(answer.number("stills-frame-timestamp"), expected);
        assert_eq!(answer.header("cache-control"), age);
        let webp = stills.get(&format!("{target}&imageFormat=webp")).await;
        let webp = Picture::of(&webp, true, (320, 240), true);
        assert_eq!(read_clock(&DynamicImage::from(webp.pixels).to_luma8()), Some(expected), "{target}");
        // Whole, in the middle of a wider box.
        let boxed = stills.get(&target.replace("width=320&aspect=4x3", "height=240&aspect=16x9")).await;
        let boxed = Picture::of(&boxed, false, (427, 240), false);
        let inside = imageops::crop_imm(&boxed.pixels, 52, 0, 320, 240).to_image();
        assert_eq!(read_clock(&DynamicImage::from(inside).to_luma8()), Some(expected), "{target}");
        for x in [10, 410] {
            assert!(boxed.is_colour((x, 120), [0, 0, 0]), "{:?}", boxed.pixels.get_pixel(x, 120));
        }
    }

    // What is newest changes, what stands for the recording does not.
    let second = minute(START + 120_000);
    stills.record(&camera, "r.2", span(&second), &second.path).await;
    let answer = stills.get(&latest("width=320&aspect=4x3")).await.expect(200);
    assert_eq!(look(&answer.body).expect("a JPEG").clock_ms, Some(START + 178_000));
    let answer = stills.get(&poster("width=320&aspect=4x3")).await.expect(200);
    assert_eq!(answer.number("stills-frame-timestamp"), START);

    // What is deleted is not shown, by either name.
    stills.send(&[deleted(&camera, "r.2")]).await.expect(202);
    let answer = stills.get(&latest("width=320&aspect=4x3")).await.expect(200);
    assert_eq!(look(&answer.body).expect("a JPEG").clock_ms, Some(START + 58_000));
    let gone = image(&format!("Recording/{}.{}.r.2/Poster", camera.user, camera.device), "width=320&aspect=4x3");
    stills.get(&gone).await.problem(500, "no-image");
    stills.send(&[deleted(&camera, "r.1")]).await.expect(202);
    for target in [latest("width=320&aspect=4x3"), poster("width=320&aspect=4x3")] {
        stills.get(&target).await.problem(500, "no-image");
    }
}

/// What cannot be shown is not shown: neither an announced recording nor media that is none.
#[tokio::test]
async fn footage_that_cannot_be_shown_has_no_picture() {
    let stills = with_images(None).await;
    let camera = Camera::first();
    let url = stills.media_url(&camera, "broken");
    std::fs::write(stills.media_path(&camera, "broken"), b"no media at all").expect("a file");
    stills.send(&[available(&camera, "broken", (START, START + 60_000), &url)]).await.expect(202);
    let target = image(&format!("Recording/{USER}.{DEVICE}.broken/Poster"), "width=320&aspect=4x3");
    stills.get(&target).await.problem(500, "no-image");
    let target = image(&format!("Device/{USER}.{DEVICE}/Latest"), "width=320&aspect=4x3");
    stills.get(&target).await.problem(500, "no-image");
}

/// A page of pictures asked for at once, each in another size: all come, and thumbs of footage beside them.
#[tokio::test]
async fn many_at_once_wait_for_their_turn() {
    let stills = with_images(None).await;
    let (camera, minute) = (Camera::first(), first_minute());
    stills.record(&camera, "r-1", span(&minute), &minute.path).await;
    put(&stills, &image(POSTER, ""), png(160, 90, RED)).await.expect(201);
    let mut images = JoinSet::new();
    for n in 2..22u32 {
        let size = (16 * n, 9 * n);
        let target = image(POSTER, &format!("width={}&height={}", size.0, size.1));
        let ask = stills.ask(Method::GET, &target).bearer(stills.owner());
        images.spawn(async move { (size, ask.send().await) });
    }
    let mut thumbs = JoinSet::new();
    for n in 0..10 {
        let ask = stills.ask(Method::GET, &thumb(&camera, span(&minute), n * 6000)).bearer(stills.owner());
        thumbs.spawn(ask.send());
    }
    for (size, answer) in images.join_all().await {
        Picture::of(&answer, false, size, true).is_all(RED);
    }
    for answer in thumbs.join_all().await {
        answer.expect(200);
    }
}

#[tokio::test]
async fn every_fault_of_a_request_is_a_400() {
    let stills = with_images(None).await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    let check = async |target: &str, parameters: &[&str]| {
        for answer in
            [stills.get(target).await, stills.ask_origin(Method::GET, target).bearer(stills.owner()).send().await]
        {
            let problem = answer.problem(400, "bad-request");
            let errors = problem["errors"].as_array().cloned().unwrap_or_default();
            let names: Vec<&str> = errors.iter().filter_map(|error| error["parameter"].as_str()).collect();
            assert_eq!(names, parameters, "{target}: {problem}");
        }
    };
    for (query, parameters) in [
        ("", &["width"][..]),
        ("width=160", &["aspect"]),
        ("height=90", &["aspect"]),
        ("aspect=16x9", &["width"]),
        ("width=0&height=90", &["width"]),
        ("width=160&height=4097", &["height"]),
        ("width=160&aspect=16:9", &["aspect"]),
        ("width=160&aspect=16x9&aspect=16x9", &["aspect"]),
        ("width=4096&aspect=2x3", &["width"]),
        ("width=160&height=90&imageFormat=png", &["imageFormat"]),
        ("width=160&height=90&dominantDimension=", &["dominantDimension"]),
        ("width=160&height=90&locale=a%20b", &["locale"]),
        ("width=160&height=90&user_id=me", &["user_id"]),
        ("width=x&height=x&imageFormat=x&locale=", &["imageFormat", "locale", "width", "height"]),
    ] {
        check(&image(POSTER, query), parameters).await;
    }
    for path in ["Show//Poster", "Show/%01/Poster", "Show/%ff/Poster", "Device/x/Latest", "Recording/x/Poster"] {
        check(&image(path, "width=160&height=90"), &["path"]).await;
    }
    for path in [
        "/images/v1/image/Show/4711",
        "/images/v1/image/Show/4711/Poster/x",
        "/images/v1/image",
        "/images/v2/image/a/b/c",
    ] {
        stills.get(path).await.problem(404, "not-found");
    }
    let wrong = stills.ask(Method::POST, &image(POSTER, "")).bearer(stills.owner()).send().await;
    wrong.problem(405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), "GET, HEAD, PUT, DELETE, OPTIONS");
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let stills = with_images(None).await;
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(201);
    let target = image(POSTER, "width=160&height=90");
    let answer = stills.get(&target).await.expect(200);
    let etag = answer.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.len() == 26, "{etag}");
    assert_eq!(answer.header("cache-control"), "private, max-age=60");
    let head = stills.ask(Method::HEAD, &target).bearer(stills.owner()).send().await.expect(200);
    assert_eq!((head.header("etag"), head.body.len()), (etag.as_str(), 0));
    let ask = async |target: &str, tags: &str| {
        stills.ask(Method::GET, target).bearer(stills.owner()).header("if-none-match", tags).send().await
    };
    for tags in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let answer = ask(&target, &tags).await.expect(304);
        assert_eq!(
            (answer.header("etag"), answer.header("aspectMatch"), answer.body.len()),
            (etag.as_str(), "true", 0)
        );
    }
    // Another rendition and another image are other pictures; the same image again is the same.
    for other in ["width=161&height=90", "width=160&height=90&imageFormat=webp", "width=160&aspect=4x3"] {
        ask(&image(POSTER, other), &etag).await.expect(200);
    }
    put(&stills, &image(POSTER, ""), png(320, 180, BLUE)).await.expect(204);
    let answer = ask(&target, &etag).await;
    Picture::of(&answer, false, (160, 90), true).is_all(BLUE);
    put(&stills, &image(POSTER, ""), png(320, 180, RED)).await.expect(204);
    ask(&target, &etag).await.expect(304);
}
