//! What every store does, run over the one on disk and the one in memory, and compared with a model.

use std::collections::BTreeMap;

use larder::store::memory::MemoryStore;
use larder::store::sled_store::SledStore;
use larder::store::{Batch, Entry, ScanOrder, Store, StoreError, Tree, VALUE_BYTES_MAX};
use proptest::prelude::*;

/// Runs `check` over a fresh store of each kind.
fn on_each_store(check: impl Fn(&dyn Store)) {
    check(&MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    check(&SledStore::open(dir.path()).unwrap().store);
}

fn put(store: &dyn Store, tree: Tree, entries: &[(&str, &str)]) {
    let mut batch = Batch::default();
    for (key, value) in entries {
        batch.put(tree, *key, *value);
    }
    store.commit(batch).unwrap();
}

fn keys(entries: Vec<Entry>) -> Vec<String> {
    entries.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

#[test]
fn what_was_committed_is_read_back_and_what_was_removed_is_gone() {
    on_each_store(|store| {
        put(store, Tree::Jobs, &[("a", "1"), ("b", "2")]);
        assert_eq!(store.get(Tree::Jobs, b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(store.get(Tree::Runs, b"a").unwrap(), None, "trees are apart");
        let mut batch = Batch::default();
        batch.remove(Tree::Jobs, "a");
        batch.put(Tree::Jobs, "b", "3");
        batch.put(Tree::Jobs, "b", "4");
        store.commit(batch).unwrap();
        assert_eq!(store.get(Tree::Jobs, b"a").unwrap(), None);
        assert_eq!(store.get(Tree::Jobs, b"b").unwrap(), Some(b"4".to_vec()), "the later write wins");
    });
}

#[test]
fn a_scan_keeps_to_its_prefix_order_start_and_limit() {
    on_each_store(|store| {
        put(store, Tree::Jobs, &[("a", ""), ("b/1", ""), ("b/2", ""), ("b/3", ""), ("c", "")]);
        let scan = |prefix: &str, after: Option<&str>, order, limit| {
            keys(store.scan(Tree::Jobs, prefix.as_bytes(), after.map(str::as_bytes), order, limit).unwrap())
        };
        assert_eq!(scan("b/", None, ScanOrder::Ascending, 9), ["b/1", "b/2", "b/3"]);
        assert_eq!(scan("b/", None, ScanOrder::Descending, 2), ["b/3", "b/2"]);
        assert_eq!(scan("b/", Some("b/2"), ScanOrder::Ascending, 9), ["b/3"]);
        assert_eq!(scan("b/", Some("b/2"), ScanOrder::Descending, 9), ["b/1"]);
        assert_eq!(scan("b/", Some("c"), ScanOrder::Ascending, 9), Vec::<String>::new());
        assert_eq!(scan("b/", Some("a"), ScanOrder::Ascending, 9).len(), 3);
        assert_eq!(scan("b/", Some("zz"), ScanOrder::Descending, 9).len(), 3);
        assert_eq!(scan("b/", Some("a"), ScanOrder::Descending, 9), Vec::<String>::new());
        assert_eq!(scan("", None, ScanOrder::Ascending, 0), Vec::<String>::new());
    });
}

#[test]
fn a_value_above_the_limit_is_refused_with_all_of_its_batch() {
    on_each_store(|store| {
        let mut batch = Batch::default();
        batch.put(Tree::Jobs, "small", "1");
        batch.put(Tree::Jobs, "large", vec![b'x'; 33 * 1024]);
        let error = store.commit(batch).unwrap_err();
        assert!(
            matches!(&error, StoreError::ValueTooLarge { key, bytes: 33_792 } if key == "jobs \"large\""),
            "{error}"
        );
        assert_eq!(store.get(Tree::Jobs, b"small").unwrap(), None);
        let mut batch = Batch::default();
        batch.put(Tree::Jobs, "largest", vec![b'x'; VALUE_BYTES_MAX]);
        store.commit(batch).unwrap();
    });
}

/// One step of the model test.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(usize, Vec<u8>, Option<Vec<u8>>)>),
    Scan { tree: usize, prefix: Vec<u8>, after: Option<Vec<u8>>, descending: bool, limit: usize },
    Reopen,
}

/// Few byte values, so that keys meet, and the greatest one, where a prefix has no successor.
fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), Just(1), Just(b'/'), Just(b'a'), Just(254), Just(255)], 0..=longest)
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0..Tree::ALL.len(), bytes(4), prop::option::weighted(0.8, bytes(9)));
    let scan = (0..Tree::ALL.len(), bytes(2), prop::option::of(bytes(4)), any::<bool>(), 0..20_usize);
    prop_oneof![
        6 => prop::collection::vec(write, 0..12).prop_map(Step::Commit),
        6 => scan.prop_map(|(tree, prefix, after, descending, limit)| Step::Scan { tree, prefix, after, descending, limit }),
        1 => Just(Step::Reopen),
    ]
}

type Model = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

/// The slow and obvious way to scan.
fn model_scan(
    model: &Model,
    tree: usize,
    prefix: &[u8],
    after: Option<&[u8]>,
    descending: bool,
    limit: usize,
) -> Vec<Entry> {
    let of_tree = model.iter().filter(|((t, key), _)| *t == tree && key.starts_with(prefix));
    let mut found: Vec<Entry> = of_tree.map(|((_, key), value)| (key.clone(), value.clone())).collect();
    if descending {
        found.reverse();
    }
    found.retain(|(key, _)| match after {
        None => true,
        Some(after) if descending => key.as_slice() < after,
        Some(after) => key.as_slice() > after,
    });
    found.truncate(limit);
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_do_what_a_sorted_map_does(steps in prop::collection::vec(step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new();
        let mut disk = SledStore::open(dir.path()).unwrap().store;
        let mut model = Model::new();
        let meta = Tree::ALL.iter().position(|tree| *tree == Tree::Meta).unwrap();
        let format = disk.get(Tree::Meta, b"format").unwrap().unwrap();
        model.insert((meta, b"format".to_vec()), format.clone());
        let mut batch = Batch::default();
        batch.put(Tree::Meta, "format", format);
        memory.commit(batch).unwrap();
        for step in steps {
            match step {
                Step::Commit(writes) => {
                    let mut batch = Batch::default();
                    for (tree, key, value) in writes {
                        if let Some(value) = value {
                            batch.put(Tree::ALL[tree], key.clone(), value.clone());
                            model.insert((tree, key), value);
                        } else {
                            batch.remove(Tree::ALL[tree], key.clone());
                            model.remove(&(tree, key));
                        }
                    }
                    disk.commit(batch.clone()).unwrap();
                    memory.commit(batch).unwrap();
                }
                Step::Scan { tree, prefix, after, descending, limit } => {
                    let order = if descending { ScanOrder::Descending } else { ScanOrder::Ascending };
                    let expected = model_scan(&model, tree, &prefix, after.as_deref(), descending, limit);
                    for store in [&disk as &dyn Store, &memory] {
                        let found = store.scan(Tree::ALL[tree], &prefix, after.as_deref(), order, limit).unwrap();
                        prop_assert_eq!(&found, &expected);
                    }
                }
                Step::Reopen => {
                    drop(disk);
                    let opened = SledStore::open(dir.path()).unwrap();
                    prop_assert_eq!(opened.set_aside, None);
                    disk = opened.store;
                }
            }
        }
    }
}
