//! The store of images against restarts, damage, bounds, and names that mean harm.

use std::collections::HashSet;

use proptest::prelude::*;
use stills_model::id::UserId;

use super::*;

const MAX: u64 = 1 << 20;

fn key(id: &str) -> UploadKey {
    let owner = Owner::User(UserId::from_bytes([1; 12]));
    UploadKey { owner, content_type: "Show".into(), id: id.into(), image_type: "Poster".into(), locale: None }
}

fn store() -> (tempfile::TempDir, Uploads) {
    let dir = tempfile::tempdir().expect("a directory");
    let uploads = Uploads::open(&dir.path().join("images"), MAX).expect("a store");
    (dir, uploads)
}

fn image(uploads: &Uploads, key: &UploadKey) -> Option<Vec<u8>> {
    uploads.read(key).expect("readable").map(|(_, image)| image.to_vec())
}

#[test]
fn what_was_put_is_there_and_survives_opening_again() {
    let (dir, uploads) = store();
    assert!(uploads.put(&key("a"), (30, 20), b"first").expect("put"));
    assert!(!uploads.put(&key("a"), (3, 2), b"second").expect("put"));
    assert!(uploads.put(&key("b"), (9, 9), b"other").expect("put"));
    let before = uploads.stats();
    drop(uploads);
    let uploads = Uploads::open(&dir.path().join("images"), MAX).expect("a store");
    assert_eq!(uploads.stats(), before);
    assert_eq!(uploads.head(&key("a")).expect("a head"), Some(Head::of((3, 2), b"second")));
    assert_eq!(image(&uploads, &key("a")), Some(b"second".to_vec()));
    assert_eq!(image(&uploads, &key("b")), Some(b"other".to_vec()));
    assert!(uploads.delete(&key("a")).expect("deleted"));
    assert!(!uploads.delete(&key("a")).expect("nothing"));
    assert_eq!((image(&uploads, &key("a")), uploads.stats().count), (None, 1));
}

#[test]
fn no_two_keys_share_an_image_and_none_leaves_the_directory() {
    let (dir, uploads) = store();
    let mut keys = vec![key("a")];
    for id in ["../../../etc/passwd", "a/b", "/", ".", "..", "", "a\0b", "%2e%2e", "A"] {
        keys.push(key(id));
    }
    keys.push(UploadKey { owner: Owner::Everyone, ..key("a") });
    keys.push(UploadKey { owner: Owner::User(UserId::from_bytes([2; 12])), ..key("a") });
    keys.push(UploadKey { locale: Some("de".into()), ..key("a") });
    keys.push(UploadKey { locale: Some("".into()), ..key("a") });
    // The same letters with the boundary elsewhere.
    keys.push(UploadKey { content_type: "ShowP".into(), image_type: "oster".into(), ..key("a") });
    for (n, key) in keys.iter().enumerate() {
        uploads.put(key, (1, 1), n.to_string().as_bytes()).expect("put");
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(image(&uploads, key), Some(n.to_string().into_bytes()), "{key:?}");
    }
    let outside: Vec<_> =
        fs::read_dir(dir.path()).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(outside, ["images"]);
    assert_eq!(uploads.stats().count, keys.len());
}

#[test]
fn keys_are_bounded() {
    let (_dir, uploads) = store();
    let (long, longer) = (key(&"x".repeat(3900)), key(&"x".repeat(4096)));
    uploads.put(&long, (1, 1), b"image").expect("put");
    assert_eq!(image(&uploads, &long), Some(b"image".to_vec()));
    assert!(matches!(uploads.put(&longer, (1, 1), b"image"), Err(UploadError::LongKey)));
    assert_eq!(uploads.stats().count, 1);
}

#[test]
fn an_interrupted_put_leaves_the_image_before_it() {
    let (dir, uploads) = store();
    uploads.put(&key("a"), (1, 1), b"whole").expect("put");
    let path = dir.path().join("images");
    let half = path.join(format!("{}{TEMPORARY}", text_of(&key("a").digest())));
    fs::write(&half, b"STLIMG01 and then the power went").expect("a file");
    drop(uploads);
    let uploads = Uploads::open(&path, MAX).expect("a store");
    assert!(!half.exists());
    assert_eq!(image(&uploads, &key("a")), Some(b"whole".to_vec()));
}

#[test]
fn bytes_are_bounded_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let uploads = Uploads::open(dir.path(), 1000).expect("a store");
    uploads.put(&key("a"), (1, 1), &[1; 600]).expect("room");
    assert!(matches!(uploads.put(&key("b"), (1, 1), &[2; 600]), Err(UploadError::Full { bytes_max: 1000 })));
    assert_eq!(uploads.head(&key("b")).expect("no fault"), None);
    // What it replaces makes room.
    uploads.put(&key("a"), (1, 1), &[3; 700]).expect("room");
    assert!(uploads.put(&key("a"), (1, 1), &[4; 1000]).is_err());
    assert_eq!(image(&uploads, &key("a")), Some(vec![3; 700]));
    uploads.delete(&key("a")).expect("deleted");
    uploads.put(&key("b"), (1, 1), &[2; 600]).expect("room");
    let names: HashSet<_> =
        fs::read_dir(dir.path()).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(names.len(), 1, "nothing temporary is left: {names:?}");
}

#[test]
fn any_changed_byte_is_noticed() {
    let (dir, uploads) = store();
    uploads.put(&key("a"), (40, 30), b"an image of some bytes").expect("put");
    let path = dir.path().join("images").join(text_of(&key("a").digest()));
    let good = fs::read(&path).expect("the file");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).expect("a file");
        assert!(matches!(uploads.read(&key("a")), Err(UploadError::Damaged { .. })), "byte {at}");
        fs::write(&path, &good[..at]).expect("a file");
        assert!(matches!(uploads.read(&key("a")), Err(UploadError::Damaged { .. })), "cut at {at}");
    }
    fs::write(&path, [&good[..], b"x"].concat()).expect("a file");
    assert!(matches!(uploads.read(&key("a")), Err(UploadError::Damaged { .. })));
    // Another image's file in its place.
    uploads.put(&key("b"), (1, 1), b"other").expect("put");
    fs::copy(dir.path().join("images").join(text_of(&key("b").digest())), &path).expect("a copy");
    assert!(matches!(uploads.read(&key("a")), Err(UploadError::Damaged { .. })));
}

/// Readers beside a writer see one of the images that were put, whole.
#[test]
fn replacing_is_atomic() {
    let (_dir, uploads) = store();
    let images: Vec<Vec<u8>> = (1..=40u8).map(|n| vec![n; usize::from(n) * 700]).collect();
    uploads.put(&key("a"), (1, 1), &images[0]).expect("put");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while last < images.len() - 1 {
                let seen = image(&uploads, &key("a")).expect("an image");
                let n = images.iter().position(|image| *image == seen).expect("one that was put");
                assert!(n >= last, "never one that was replaced");
                last = n;
            }
        });
        for image in &images {
            uploads.put(&key("a"), (1, 1), image).expect("put");
        }
        reader.join().expect("no panic");
    });
}

proptest! {
    // Each step waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The store against a map, over any puts, deletes and reopenings.
    #[test]
    fn the_store_is_a_bounded_map(steps in proptest::collection::vec((0usize..4, 0usize..3, 0usize..700), 1..40)) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut uploads = Uploads::open(dir.path(), 1500).expect("a store");
        let mut model: HashMap<usize, Vec<u8>> = HashMap::new();
        for (which, what, len) in steps {
            let key = key(&which.to_string());
            match what {
                0 => {
                    let image = vec![u8::try_from(len % 251).expect("a byte"); len];
                    let result = uploads.put(&key, (1, 1), &image);
                    if let Ok(is_new) = result {
                        prop_assert_eq!(is_new, model.insert(which, image).is_none());
                    } else {
                        let others: usize = model.iter().filter(|(n, _)| **n != which).map(|(_, image)| image.len()).sum();
                        prop_assert!(others + len > 1000, "refused with room");
                    }
                }
                1 => prop_assert_eq!(uploads.delete(&key).expect("deleted"), model.remove(&which).is_some()),
                _ => {
                    drop(uploads);
                    uploads = Uploads::open(dir.path(), 1500).expect("a store");
                }
            }
            prop_assert_eq!(uploads.stats().count, model.len());
            prop_assert!(uploads.stats().bytes <= 1500);
            for n in 0..4 {
                prop_assert_eq!(image(&uploads, &self::key(&n.to_string())), model.get(&n).cloned());
            }
        }
    }
}
