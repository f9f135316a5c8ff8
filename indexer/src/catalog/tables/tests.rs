//! The tables read like one map, whatever lies in memory and what on disk.

use super::super::generations;
use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Batch(Vec<(u8, Option<u8>)>),
    Flush,
    Freeze,
    Compact,
    CopyBatch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0u8..12, prop::option::of(any::<u8>()));
    let step = prop_oneof![
        4 => prop::collection::vec(change, 1..4).prop_map(Step::Batch),
        1 => Just(Step::Flush),
        1 => Just(Step::Freeze),
        1 => Just(Step::Compact),
        3 => Just(Step::CopyBatch),
    ];
    prop::collection::vec(step, 1..30)
}

fn key(n: u8) -> Vec<u8> {
    // Two timelines, and keys that are prefixes of others.
    [&[n % 2; TIMELINE_LEN][..], &[7][..usize::from(n > 1)], &[n; 2][..usize::from(n % 3)]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn memory_over_disk_reads_like_one_map(steps in steps(), from in 0u8..12, to in 0u8..12) {
        let dir = tempfile::tempdir().expect("dir");
        let (tables, _) = Tables::open(dir.path(), Ladder::AsIs, false).expect("open");
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Batch(changes) => {
                    let mut batch = Batch::default();
                    for (n, value) in changes {
                        match value {
                            Some(value) => {
                                batch.put(&key(n), &[value]);
                                model.insert(key(n), vec![value]);
                            }
                            None => {
                                batch.delete(&key(n));
                                model.remove(&key(n));
                            }
                        }
                    }
                    tables.apply(Table::Timelines, batch).expect("apply");
                }
                Step::Flush => tables.flush().expect("flush"),
                Step::Compact => tables.shared.begin_compaction(2).expect("begin"),
                Step::CopyBatch => drop(tables.shared.copy_batch().expect("copy")),
                Step::Freeze => {
                    let mut layers = tables.shared.layers.write().expect("layers");
                    if layers.frozen.is_none() {
                        layers.frozen = Some(std::mem::take(&mut layers.active));
                    }
                }
            }
            let all: Vec<_> = tables.prefix(Table::Timelines, b"").map(|item| item.expect("item")).collect();
            prop_assert_eq!(&all, &model.clone().into_iter().collect::<Vec<_>>());
            let (from, to) = (key(from), key(to));
            let some = model.iter().filter(|(key, _)| **key >= from && **key <= to);
            let mut some: Vec<_> = some.map(|(key, value)| (key.clone(), value.clone())).collect();
            let range = || tables.range(Table::Timelines, &from, &to).map(|item| item.expect("item"));
            prop_assert_eq!(&range().collect::<Vec<_>>(), &some);
            let mut ends = range();
            let (first, last) = (ends.next(), ends.next_back());
            prop_assert_eq!((first.as_ref(), last.as_ref()), (some.first(), some.get(1..).and_then(<[_]>::last)));
            some.reverse();
            prop_assert_eq!(range().rev().collect::<Vec<_>>(), some);
            for n in 0..12 {
                prop_assert_eq!(tables.get(Table::Timelines, &key(n)).expect("get"), model.get(&key(n)).cloned());
            }
        }
        drop(tables);
        let (tables, _) = Tables::open(dir.path(), Ladder::AsIs, false).expect("open again");
        let all: Vec<_> = tables.prefix(Table::Timelines, b"").map(|item| item.expect("item")).collect();
        prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn readers_see_what_is_handed_down_under_them() {
    let dir = tempfile::tempdir().expect("dir");
    let (tables, _) = Tables::open(dir.path(), Ladder::AsIs, false).expect("open");
    for n in 0..12 {
        tables.put(Table::Timelines, &key(n), &[n]).expect("put");
    }
    let mut keys = tables.prefix(Table::Timelines, b"");
    let first = keys.next().expect("one").expect("key").0;
    tables.flush().expect("flush");
    tables.put(Table::Pending, b"x", b"").expect("put");
    tables.flush().expect("flush");
    assert_eq!(keys.count() + 1, tables.prefix(Table::Timelines, b"").count());
    assert_eq!(first, (0..12).map(key).min().expect("a key"));
}

#[test]
fn prefixes_end_where_they_should() {
    let check = |prefix: &[u8], expected: Bound<Vec<u8>>| assert_eq!(behind(prefix), expected);
    check(b"", Bound::Unbounded);
    check(&[1, 2], Bound::Excluded(vec![1, 3]));
    check(&[1, u8::MAX], Bound::Excluded(vec![2]));
    check(&[u8::MAX, u8::MAX], Bound::Unbounded);
}

#[test]
fn a_store_that_is_compacted_under_its_writers_holds_what_they_wrote() {
    let dir = tempfile::tempdir().expect("dir");
    let (tables, _) = Tables::open(dir.path(), Ladder::AsIs, false).expect("open");
    let key = |n: u32| [&[1; TIMELINE_LEN][..], &n.to_be_bytes()].concat();
    let mut model = BTreeMap::new();
    for n in 0..3000u32 {
        tables.put(Table::Timelines, &key(n), &[0]).expect("put");
        model.insert(key(n), vec![0]);
    }
    tables.flush().expect("flush");
    let before = generations::current(dir.path()).expect("directory");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..30_000u32 {
                let (key, value) = (key(n.wrapping_mul(2_654_435_761) % 3000), n.to_be_bytes());
                if n % 7 == 0 {
                    let mut batch = Batch::default();
                    batch.delete(&key);
                    tables.apply(Table::Timelines, batch).expect("delete");
                    model.remove(&key);
                } else {
                    tables.put(Table::Timelines, &key, &value).expect("put");
                    model.insert(key, value.to_vec());
                }
                if n % 500 == 0 {
                    tables.flush().expect("flush");
                }
            }
        });
        loop {
            tables.shared.begin_compaction(50).expect("begin");
            while tables.shared.copy_batch().expect("copy") {}
            if writer.is_finished() {
                break;
            }
        }
        writer.join().expect("writer");
    });
    let all =
        |tables: &Tables| -> Vec<_> { tables.prefix(Table::Timelines, b"").map(|item| item.expect("item")).collect() };
    let model: Vec<_> = model.into_iter().collect();
    assert_eq!(all(&tables), model);
    // One that was begun and not ended goes with the next start.
    tables.shared.begin_compaction(50).expect("begin");
    assert!(tables.shared.copy_batch().expect("copy"));
    drop(tables);
    assert!(!before.exists());
    let (tables, opened) = Tables::open(dir.path(), Ladder::AsIs, false).expect("open again");
    assert_eq!((opened, all(&tables)), (Opened::AsIs, model));
    let is_tables = |item: &std::fs::DirEntry| item.file_name().to_string_lossy().starts_with("tables-");
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").flatten().filter(is_tables).count(), 1);
}
