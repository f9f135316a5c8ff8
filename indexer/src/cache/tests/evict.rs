//! Eviction: the budget, what stays, what goes, and deletes at the same time.

use super::*;

#[test]
fn over_the_budget_the_oldest_volume_goes() {
    let temp = tempfile::tempdir().expect("directory");
    let (max_bytes, count) = (400_000, 200);
    let (cache, _) = DiskCache::open(temp.path(), config(max_bytes, 50_000)).expect("cache");
    let at = |i: i64| key(1, 1, i * 10_000, 320);
    for i in 0..count {
        cache.put(&at(i), &[7; 5_000]).expect("put");
        assert!(cache.stats().bytes <= max_bytes);
    }
    let stats = cache.stats();
    assert!(stats.bytes > max_bytes - 60_000 && stats.evicted_volumes > 0, "{stats:?}");
    let on_disk: u64 = volume_files(temp.path()).iter().map(|p| fs::metadata(p).expect("volume").len()).sum();
    assert_eq!(on_disk, stats.bytes);
    let there: Vec<i64> = (0..count).filter(|&i| get(&cache, &at(i)).is_some()).collect();
    assert_eq!(there, (count - there.len() as i64..count).collect::<Vec<_>>(), "the newest, without a hole");
    let key = at(0);
    let stored = cache.stored(&key.timeline, &key.media, &key.rendition, 1).expect("stored");
    assert_eq!(stored, there.iter().map(|i| i * 10_000).collect::<Vec<_>>());
    assert_eq!(cache.stats().damaged, 0, "the index was cleaned up");
}

#[test]
fn what_was_read_lately_is_copied_forward_and_the_rest_goes() {
    let temp = tempfile::tempdir().expect("directory");
    let clock = Clock::settable(Timestamp::from_ms(1_000));
    let open = || {
        let config = CacheConfig { clock: clock.clone(), ..config(400_000, 50_000) };
        DiskCache::open(temp.path(), config).expect("cache").0
    };
    let cache = open();
    let body = |i: i64| vec![u8::try_from(i % 251).expect("byte"); 2_000];
    let at = |i: i64| key(1, 1, i * 10_000, 320);
    for i in 0..20 {
        cache.put_unasked(&at(i), &body(i)).expect("put");
    }
    assert_eq!(cache.stats().oldest, Some(Timestamp::from_ms(1_000)));
    clock.set(Timestamp::from_ms(2_000));
    let read_always = [3, 7];
    let in_memory = at(9);
    for i in 20..600 {
        cache.put_unasked(&at(i), &body(i)).expect("put");
        cache.evict_ahead(|key| *key == in_memory).expect("evict");
        for hot in read_always {
            assert_eq!(get(&cache, &at(hot)), Some(body(hot)), "after {i}");
        }
    }
    assert_eq!(get(&cache, &in_memory), Some(body(9)));
    assert_eq!(get(&cache, &at(4)), None);
    let stats = cache.stats();
    assert!(stats.bytes <= 400_000 && stats.evicted_volumes > 5, "{stats:?}");
    assert_eq!(stats.oldest, Some(Timestamp::from_ms(2_000)));
    assert_eq!(stats.damaged, 0);
    // Each turn of the cache copies three pictures; all others that went were never looked at.
    assert!(stats.copied_pictures > 3 && stats.copied_pictures <= 3 * stats.evicted_volumes, "{stats:?}");
    assert_eq!(stats.evicted_pictures, stats.evicted_unread);
    // What nobody reads any more goes too.
    for i in 600..1_200 {
        cache.put(&at(i), &body(i)).expect("put");
    }
    assert!(read_always.iter().all(|hot| get(&cache, &at(*hot)).is_none()));
    let stats = cache.stats();
    assert!(stats.evicted_unread < stats.evicted_pictures, "asked for counts as looked at: {stats:?}");
    // And when the cache was begun outlives the run.
    drop(cache);
    assert_eq!(open().stats().oldest, stats.oldest);
}

#[test]
fn no_more_than_a_share_is_copied_forward() {
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = DiskCache::open(temp.path(), config(400_000, 50_000)).expect("cache");
    let at = |i: i64| key(1, 1, i * 10_000, 320);
    for i in 0..1_000 {
        cache.put(&at(i), &[7; 2_000]).expect("put");
        // Everything is read all the time.
        for earlier in (0..=i).rev().take(200) {
            let _ = get(&cache, &at(earlier));
        }
        assert!(cache.stats().bytes <= 400_000);
    }
    let stats = cache.stats();
    let copied_bytes = stats.copied_pictures * 2_071;
    assert!(copied_bytes > 0 && copied_bytes <= stats.evicted_volumes * 50_000 / 4, "{stats:?}");
}

/// A delete that comes while volumes are evicted: no copy of what is deleted stays behind.
#[test]
fn deletes_and_eviction_at_once() {
    const SECRET: &[u8] = b"SECRET-PIXELS";
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = DiskCache::open(temp.path(), config(400_000, 50_000)).expect("cache");
    let secret = SECRET.repeat(100);
    for round in 0u8..20 {
        for at_ms in 0..10 {
            cache.put(&key(1, 1, at_ms * 2_000, 320), &secret).expect("put");
            assert!(get(&cache, &key(1, 1, at_ms * 2_000, 320)).is_some());
        }
        std::thread::scope(|scope| {
            let filler = scope.spawn(|| {
                for at_ms in 0..200 {
                    cache.put(&key(2, round, at_ms * 2_000, 320), &[7; 2_000]).expect("put");
                    cache.evict_ahead(|key| key.media == MediaId([1; 12])).expect("evict");
                }
            });
            cache.remove_media(&timeline(1), &MediaId([1; 12])).expect("remove");
            assert_eq!(count_on_disk_now(temp.path(), SECRET), 0, "round {round}");
            filler.join().expect("filler");
        });
        assert_eq!(count_on_disk(temp.path(), SECRET), 0, "round {round}");
    }
    assert_eq!(cache.stats().damaged, 0);
}

/// As [`count_on_disk`], while files go.
fn count_on_disk_now(dir: &Path, pattern: &[u8]) -> usize {
    let count = |path: PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(pattern.len()).filter(|window| *window == pattern).count()
    };
    volume_files(dir).into_iter().map(count).sum()
}

#[test]
fn a_rendition_that_is_no_longer_made_ages_out() {
    let temp = tempfile::tempdir().expect("directory");
    let (cache, _) = DiskCache::open(temp.path(), config(400_000, 50_000)).expect("cache");
    let stored = |width| {
        let of = key(1, 1, 0, width);
        cache.stored(&of.timeline, &of.media, &of.rendition, 1).expect("stored").len()
    };
    for i in 0..50 {
        cache.put_unasked(&key(1, 1, i * 10_000, 320), &[7; 2_000]).expect("put");
        cache.put_unasked(&key(1, 1, i * 10_000, 640), &[7; 2_000]).expect("put");
    }
    assert_eq!((stored(320), stored(640)), (50, 50));
    // The larger one is taken out of the configuration.
    for i in 50..250 {
        cache.put_unasked(&key(1, 1, i * 10_000, 320), &[7; 2_000]).expect("put");
    }
    assert!(stored(320) > 150 && stored(640) == 0, "{} and {}", stored(320), stored(640));
}
