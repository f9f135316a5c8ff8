//! The cache's promises: the newest picture of a key or none, never wrong bytes; nothing left of what was deleted;
//! and the same after reopening, tearing, damage and the loss of the index.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

mod evict;

fn timeline(device: u8) -> Timeline {
    Timeline {
        user: "627d8ca8297a3d00019e2abb".parse().expect("id"),
        device: format!("627d911f7f58e4f344ca72{device:02x}").parse().expect("id"),
    }
}

fn key(device: u8, media: u8, at_ms: i64, width: u16) -> ThumbKey {
    let rendition = Rendition::thumb(width, 240).expect("size");
    ThumbKey { timeline: timeline(device), media: MediaId([media; 12]), at_ms, rendition, version: 1 }
}

fn config(max_bytes: u64, volume_bytes: u64) -> CacheConfig {
    CacheConfig { max_bytes, volume_bytes, index_cache_bytes: 1 << 20, ..CacheConfig::default() }
}

fn open(dir: &Path) -> (DiskCache, OpenReport) {
    DiskCache::open(dir, config(1 << 30, 1 << 22)).expect("cache")
}

fn get(cache: &DiskCache, key: &ThumbKey) -> Option<Vec<u8>> {
    let at_once = cache.get_at_once(key);
    let got = cache.get(key).expect("get");
    // What is remembered of a picture's place never gives what is not there, nor another picture.
    assert!(at_once.is_none() || at_once == got, "{key:?}");
    got.map(|body| body.to_vec())
}

fn volume_files(dir: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(dir.join("volumes")).expect("volumes");
    let mut paths: Vec<_> = listed.map(|item| item.expect("volume").path()).collect();
    paths.sort();
    paths
}

fn count_on_disk(dir: &Path, pattern: &[u8]) -> usize {
    let count = |path: PathBuf| {
        let bytes = fs::read(path).expect("volume");
        bytes.windows(pattern.len()).filter(|window| *window == pattern).count()
    };
    volume_files(dir).into_iter().map(count).sum()
}

fn copy_index(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for item in fs::read_dir(from).expect("index") {
        let item = item.expect("file");
        if item.path().is_file() {
            fs::copy(item.path(), to.join(item.file_name())).expect("copy");
        }
    }
}

/// Puts back the index as it was in `saved`.
fn restore_index(dir: &Path, saved: &Path) {
    fs::remove_dir_all(dir.join("index")).expect("index");
    copy_index(saved, &dir.join("index"));
}

#[derive(Debug, Clone)]
enum Step {
    Put { device: u8, media: u8, at_ms: i64, width: u16, len: usize },
    RemoveMedia(u8, u8),
    RemoveTimeline(u8),
    Sync,
    Reopen,
    LoseIndex,
}

fn any_step() -> impl Strategy<Value = Step> {
    let put = (0u8..2, 0u8..3, -2i64..40, 1u16..3, 0usize..3_000);
    prop_oneof![
        20 => put.prop_map(|(device, media, at, width, len)| Step::Put { device, media, at_ms: at * 7_000, width, len }),
        2 => (0u8..2, 0u8..3).prop_map(|(device, media)| Step::RemoveMedia(device, media)),
        1 => (0u8..2).prop_map(Step::RemoveTimeline),
        1 => Just(Step::Sync),
        2 => Just(Step::Reopen),
        1 => Just(Step::LoseIndex),
    ]
}

fn check_against(cache: &DiskCache, model: &BTreeMap<ThumbKey, Vec<u8>>) {
    for device in 0..2 {
        for media in 0..3 {
            for width in 1..3 {
                let same = key(device, media, 0, width);
                let stored = cache.stored(&same.timeline, &same.media, &same.rendition, 1).expect("stored");
                let expected = model.keys().filter(|k| ThumbKey { at_ms: 0, ..**k } == same).map(|k| k.at_ms);
                // In the model's key the sign comes last, so sort.
                let mut expected: Vec<_> = expected.collect();
                expected.sort_unstable();
                assert_eq!(stored, expected);
                for at_ms in (-2..40).map(|at| at * 7_000) {
                    let key = ThumbKey { at_ms, ..same };
                    assert_eq!(get(cache, &key).as_ref(), model.get(&key));
                    assert_eq!(cache.contains(&key).expect("contains"), model.contains_key(&key));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_a_map_would(steps in prop::collection::vec(any_step(), 1..80), volume_bytes in 500u64..20_000) {
        let temp = tempfile::tempdir().expect("directory");
        let open = || DiskCache::open(temp.path(), config(1 << 22, volume_bytes)).expect("cache");
        let (mut cache, _) = open();
        let mut model = BTreeMap::new();
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put { device, media, at_ms, width, len } => {
                    let key = key(device, media, at_ms, width);
                    let body: Vec<u8> = (0..len).map(|j| u8::try_from((i + j) % 251).expect("byte")).collect();
                    cache.put(&key, &body).expect("put");
                    model.insert(key, body);
                }
                Step::RemoveMedia(device, media) => {
                    let media = MediaId([media; 12]);
                    let before = model.len();
                    model.retain(|key, _| (key.timeline, key.media) != (timeline(device), media));
                    let removal = cache.remove_media(&timeline(device), &media).expect("remove");
                    let pictures = (before - model.len()) as u64;
                    prop_assert_eq!(removal, Removal { pictures, is_complete: true });
                }
                Step::RemoveTimeline(device) => {
                    model.retain(|key, _| key.timeline != timeline(device));
                    cache.remove_timeline(&timeline(device)).expect("remove");
                }
                Step::Sync => cache.sync().expect("sync"),
                Step::Reopen => {
                    drop(cache);
                    let (opened, report) = open();
                    prop_assert_eq!((report.index, report.needs_rebuild, report.torn_bytes),
                        (IndexState::Opened, false, 0));
                    cache = opened;
                }
                Step::LoseIndex => {
                    drop(cache);
                    fs::remove_dir_all(temp.path().join("index")).expect("index");
                    let (opened, report) = open();
                    prop_assert_eq!((report.index, report.needs_rebuild), (IndexState::New, report.volumes > 0));
                    opened.rebuild(|_| true).expect("rebuild");
                    cache = opened;
                }
            }
        }
        check_against(&cache, &model);
        prop_assert_eq!((cache.stats().damaged, cache.stats().needs_rebuild), (0, false));
    }
}

#[test]
fn a_torn_tail_is_cut_wherever_it_tears() {
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = open(temp.path());
    cache.put(&key(1, 1, 0, 320), b"first").expect("put");
    cache.sync().expect("sync");
    let saved = temp.path().join("saved");
    drop(cache);
    copy_index(&temp.path().join("index"), &saved);
    let path = volume_files(temp.path()).remove(0);
    let first_end = fs::metadata(&path).expect("volume").len();
    let (cache, _) = open(temp.path());
    cache.put(&key(1, 1, 2_000, 320), b"second").expect("put");
    drop(cache);
    let whole = fs::read(&path).expect("volume");
    let first_len = usize::try_from(first_end).expect("length");
    for len in first_len..=whole.len() {
        restore_index(temp.path(), &saved);
        fs::write(&path, &whole[..len]).expect("tear");
        let (cache, report) = open(temp.path());
        let is_whole = len == whole.len();
        let torn = if is_whole { 0 } else { len - first_len };
        assert_eq!((report.recovered, report.torn_bytes), (u64::from(is_whole), torn as u64), "length {len}");
        assert_eq!(get(&cache, &key(1, 1, 0, 320)).as_deref(), Some(&b"first"[..]));
        assert_eq!(get(&cache, &key(1, 1, 2_000, 320)).as_deref(), is_whole.then_some(&b"second"[..]));
        if !is_whole {
            assert_eq!(fs::metadata(&path).expect("volume").len(), first_end);
        }
    }
    // An index that is ahead of its volume: what it promises is not there, and appending begins elsewhere.
    fs::remove_dir_all(temp.path().join("index")).expect("index");
    fs::write(&path, &whole).expect("whole");
    let (cache, _) = open(temp.path());
    cache.rebuild(|_| true).expect("rebuild");
    drop(cache);
    fs::write(&path, &whole[..whole.len() - 1]).expect("tear");
    let (cache, _) = open(temp.path());
    assert_eq!(get(&cache, &key(1, 1, 2_000, 320)), None);
    cache.put(&key(1, 1, 2_000, 320), b"again").expect("put");
    assert_eq!(get(&cache, &key(1, 1, 2_000, 320)).as_deref(), Some(&b"again"[..]));
    assert_eq!((volume_files(temp.path()).len(), cache.stats().damaged), (2, 1));
}

#[test]
fn what_a_crash_kept_from_the_index_is_found_again() {
    let temp = tempfile::tempdir().expect("directory");
    let saved = temp.path().join("saved");
    // The index as it is before the first picture ever, and then after a start that found some: nothing but what
    // opening itself stored may be needed.
    for round in 0..3 {
        let (cache, report) = open(temp.path());
        assert_eq!((report.recovered, report.needs_rebuild), (if round == 0 { 0 } else { 30 }, false));
        drop(cache);
        let _ = fs::remove_dir_all(&saved);
        copy_index(&temp.path().join("index"), &saved);
        let (cache, _) = DiskCache::open(temp.path(), config(1 << 30, 10_000)).expect("cache");
        for at_ms in round * 30..(round + 1) * 30 {
            cache.put(&key(1, 1, at_ms * 2_000, 320), &[7; 1_000]).expect("put");
        }
        // In place of one: only the newer may come back.
        cache.put(&key(1, 1, round * 60_000, 320), b"newer").expect("put");
        drop(cache);
        restore_index(temp.path(), &saved);
    }
    let (cache, report) = open(temp.path());
    assert_eq!((report.recovered, report.torn_bytes), (30, 0));
    for at_ms in 0..90 {
        let expected = if at_ms % 30 == 0 { b"newer".to_vec() } else { vec![7; 1_000] };
        assert_eq!(get(&cache, &key(1, 1, at_ms * 2_000, 320)), Some(expected), "{at_ms}");
    }
    assert_eq!(cache.stats().damaged, 0);
}

#[test]
fn a_flipped_bit_never_gives_wrong_bytes() {
    let temp = tempfile::tempdir().expect("directory");
    let volume = Volume::create(temp.path(), 1, 1 << 20, Timestamp::from_ms(7)).expect("volume");
    let entries = [(key(1, 1, 0, 320), &b"first body"[..]), (key(1, 1, 2_000, 320), b"second body")];
    let slots = entries.map(|(key, body)| volume.append(&key, body).expect("append"));
    let path = Volume::path(temp.path(), 1);
    let whole = fs::read(&path).expect("volume");
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).expect("damage");
        let hit = slots.map(|slot| (slot.offset..slot.offset + u64::from(slot.len)).contains(&(bit as u64 / 8)));
        for (i, (key, body)) in entries.iter().enumerate() {
            let read = volume.read(slots[i], key).expect("read");
            assert_eq!(read.as_deref(), (!hit[i]).then_some(*body), "bit {bit}");
        }
        // A walk finds the entries whose headers are whole, and the second one always where only the first is hit.
        let mut found = Vec::new();
        volume.walk(0, |entry| found.push(entry.slot)).expect("walk");
        assert!(found.iter().all(|slot| slots.contains(slot)), "bit {bit}");
        assert!(hit[1] || found.contains(&slots[1]), "bit {bit}");
    }
    fs::write(&path, &whole).expect("restore");
    assert_eq!(volume.read(slots[0], &entries[1].0).expect("read"), None, "another key's slot");
}

#[test]
fn damage_is_forgotten_and_can_be_put_again() {
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = open(temp.path());
    let key = key(1, 1, 0, 320);
    cache.put(&key, b"picture").expect("put");
    let path = volume_files(temp.path()).remove(0);
    let mut bytes = fs::read(&path).expect("volume");
    *bytes.last_mut().expect("byte") ^= 1;
    fs::write(&path, bytes).expect("damage");
    assert!(cache.contains(&key).expect("contains"));
    assert_eq!(get(&cache, &key), None);
    assert!(!cache.contains(&key).expect("contains"));
    assert_eq!((cache.stats().damaged, cache.stats().misses), (1, 1));
    assert_eq!(count_on_disk(temp.path(), b"pictur"), 0);
    cache.put(&key, b"picture").expect("put");
    assert_eq!(get(&cache, &key).as_deref(), Some(&b"picture"[..]));
}

#[test]
fn a_delete_leaves_no_byte_of_a_picture() {
    const SECRET: &[u8] = b"SECRET-PIXELS";
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = DiskCache::open(temp.path(), config(1 << 30, 100_000)).expect("cache");
    let secret = SECRET.repeat(700);
    for at_ms in [0, 2_000, 500_000] {
        for width in [320, 640] {
            cache.put(&key(1, 1, at_ms, width), &secret).expect("put");
            cache.put(&key(1, 2, at_ms, width), b"public").expect("put");
        }
        // In place of the first: its bytes must go as well.
        cache.put(&key(1, 1, at_ms, 320), &secret).expect("put");
    }
    let old_version = ThumbKey { version: 0, ..key(1, 1, 0, 320) };
    cache.put(&old_version, &secret).expect("put");
    assert_eq!(count_on_disk(temp.path(), SECRET), 7 * 700);
    let removal = cache.remove_media(&timeline(1), &MediaId([1; 12])).expect("remove");
    assert_eq!(removal, Removal { pictures: 7, is_complete: true });
    assert_eq!(count_on_disk(temp.path(), SECRET), 0);
    assert_eq!(get(&cache, &key(1, 1, 0, 320)), None);
    assert_eq!(get(&cache, &key(1, 2, 500_000, 640)).as_deref(), Some(&b"public"[..]));
    let again = cache.remove_media(&timeline(1), &MediaId([1; 12])).expect("remove");
    assert_eq!(again.pictures, 0);
    // Nor does it come back with a new index.
    drop(cache);
    fs::remove_dir_all(temp.path().join("index")).expect("index");
    let (cache, _) = open(temp.path());
    let report = cache.rebuild(|_| true).expect("rebuild");
    assert_eq!(report, RebuildReport { admitted: 6, rejected: 0 });
    assert_eq!(get(&cache, &key(1, 1, 0, 320)), None);
    assert_eq!(cache.remove_user(&timeline(1).user).expect("remove").pictures, 6);
}

#[test]
fn a_rebuild_takes_off_the_disk_what_is_not_admitted() {
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = open(temp.path());
    for at_ms in 0..40 {
        cache.put(&key(1, 1, at_ms * 9_000, 320), b"DELETED").expect("put");
        cache.put(&key(1, 2, at_ms * 9_000, 320), b"kept").expect("put");
    }
    drop(cache);
    fs::remove_dir_all(temp.path().join("index")).expect("index");
    let (cache, report) = open(temp.path());
    assert_eq!((report.index, report.needs_rebuild), (IndexState::New, true));
    // Meanwhile it works with what it has; a delete says that it may not have seen everything.
    assert_eq!(get(&cache, &key(1, 2, 0, 320)), None);
    cache.put(&key(1, 2, 0, 320), b"newer").expect("put");
    assert!(!cache.remove_media(&timeline(1), &MediaId([1; 12])).expect("remove").is_complete);
    // A start before the rebuild does not forget that it is due.
    drop(cache);
    let (cache, report) = open(temp.path());
    assert_eq!((report.index, report.needs_rebuild), (IndexState::Opened, true));
    let report = cache.rebuild(|key| key.media != MediaId([1; 12])).expect("rebuild");
    assert_eq!(report, RebuildReport { admitted: 39, rejected: 41 });
    assert_eq!(count_on_disk(temp.path(), b"DELETED"), 0);
    assert_eq!(get(&cache, &key(1, 2, 0, 320)).as_deref(), Some(&b"newer"[..]));
    assert_eq!(get(&cache, &key(1, 2, 9_000, 320)).as_deref(), Some(&b"kept"[..]));
    assert!(!cache.stats().needs_rebuild);
    let again = cache.rebuild(|key| key.media != MediaId([1; 12])).expect("rebuild");
    assert_eq!(again, RebuildReport::default());
}

#[test]
fn a_snapshot_that_is_damaged_is_done_without() {
    let temp = tempfile::tempdir().expect("directory");
    for round in 0..2 {
        let (cache, _) = open(temp.path());
        cache.put(&key(1, 1, round, 320), b"picture").expect("put");
        cache.sync().expect("sync");
    }
    let listed = fs::read_dir(temp.path().join("index")).expect("index").map(|item| item.expect("file").path());
    let is_snapshot = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("snap."));
    let snapshots: Vec<_> = listed.filter(is_snapshot).collect();
    assert!(!snapshots.is_empty());
    for path in snapshots {
        fs::write(path, b"half a snap").expect("damage");
    }
    let (cache, report) = open(temp.path());
    assert_eq!((report.index, report.needs_rebuild), (IndexState::Repaired, false));
    assert!((0..2).all(|round| get(&cache, &key(1, 1, round, 320)).is_some()));
}

#[test]
fn an_index_that_is_garbage_is_set_aside() {
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = open(temp.path());
    cache.put(&key(1, 1, 0, 320), b"picture").expect("put");
    drop(cache);
    for name in ["conf", "db"] {
        fs::write(temp.path().join("index").join(name), b"garbage ".repeat(1_000)).expect("damage");
    }
    let (cache, report) = open(temp.path());
    assert_eq!((report.index, report.needs_rebuild), (IndexState::New, true));
    assert!(temp.path().join("index.aside").is_dir());
    assert_eq!(cache.rebuild(|_| true).expect("rebuild").admitted, 1);
    assert_eq!(get(&cache, &key(1, 1, 0, 320)).as_deref(), Some(&b"picture"[..]));
}

#[test]
fn a_condemned_index_answers_nothing_and_is_set_aside_at_the_next_start() {
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = open(temp.path());
    cache.put(&key(1, 1, 0, 320), b"picture").expect("put");
    cache.condemn_index();
    cache.get(&key(1, 1, 0, 320)).expect_err("condemned");
    cache.put(&key(1, 1, 0, 320), b"picture").expect_err("condemned");
    assert!(cache.stats().is_condemned);
    drop(cache);
    let (cache, report) = open(temp.path());
    assert_eq!((report.index, report.needs_rebuild), (IndexState::New, true));
    cache.rebuild(|_| true).expect("rebuild");
    assert!(get(&cache, &key(1, 1, 0, 320)).is_some());
    drop(cache);
    assert_eq!(open(temp.path()).1.index, IndexState::Opened);
}

#[test]
fn readers_writers_and_deletes_at_once() {
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = DiskCache::open(temp.path(), config(1 << 30, 100_000)).expect("cache");
    // A body says whose it is and is long enough to be read half.
    let body = |key: &ThumbKey| key.encode().repeat(100);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u8)
            .map(|media| {
                let cache = &cache;
                scope.spawn(move || {
                    for at_ms in (0..150).chain(0..150) {
                        // Two of the writers share pages; all share the volume.
                        let key = key(1, media.min(1), at_ms * 900 + i64::from(media), 320);
                        cache.put(&key, &body(&key)).expect("put");
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    for (media, shift) in [(0, 0), (1, 1), (1, 2)] {
                        for at_ms in 0..150 {
                            let key = key(1, media, at_ms * 900 + shift, 320);
                            for got in [cache.get_at_once(&key), cache.get(&key).expect("get")] {
                                assert!(got.is_none_or(|got| got == body(&key)));
                            }
                        }
                    }
                }
            });
        }
        for writer in writers {
            cache.remove_media(&timeline(1), &MediaId([0; 12])).expect("remove");
            writer.join().expect("writer");
        }
        cache.remove_media(&timeline(1), &MediaId([0; 12])).expect("remove");
        is_done.store(true, Ordering::Relaxed);
    });
    let rendition = key(0, 0, 0, 320).rendition;
    let stored = |media| cache.stored(&timeline(1), &MediaId([media; 12]), &rendition, 1).expect("stored").len();
    assert_eq!((stored(0), stored(1)), (0, 300));
    for (at_ms, shift) in (0..150).flat_map(|at_ms| [(at_ms, 1), (at_ms, 2)]) {
        let key = key(1, 1, at_ms * 900 + shift, 320);
        assert_eq!(get(&cache, &key), Some(body(&key)));
    }
    assert!(!cache.stats().needs_rebuild);
}

#[test]
fn limits_are_answered() {
    let temp = tempfile::tempdir().expect("directory");
    let config = CacheConfig { body_bytes_max: 10, ..config(1 << 20, 1 << 20) };
    let (cache, _) = DiskCache::open(temp.path(), config).expect("cache");
    let error = cache.put(&key(1, 1, 0, 320), &[0; 11]).expect_err("too large");
    assert_eq!(error.to_string(), "a picture of 11 bytes; the cache keeps at most 10");
    cache.put(&key(1, 1, 0, 320), &[0; 10]).expect("put");
    cache.put(&key(1, 1, 1, 320), &[]).expect("an empty body is a body");
    assert_eq!(get(&cache, &key(1, 1, 1, 320)), Some(vec![]));
    let check = |max_bytes, volume_bytes, expected| {
        let config = CacheConfig { max_bytes, volume_bytes, ..CacheConfig::default() };
        assert_eq!(config.volume_len_max(), expected);
    };
    check(20 << 30, 256 << 20, 256 << 20);
    check(4 << 40, 256 << 20, 8 << 30);
    check(100 << 20, 256 << 20, 25 << 20);
}
