//! Exports and imports: what comes out goes in again whole, or not at all.

use std::path::PathBuf;

use larder::run::RunState;
use larder::store::export::{export, write_export};
use larder::store::exports::exports;
use larder::store::import::import;
use larder::store::memory::MemoryStore;
use larder::store::record::RunEvent;
use larder::store::sled_store::SledStore;
use larder::store::{Batch, Entry, ScanOrder, Store, StoreError, Tree};
use larder::types::Outcome;
use proptest::prelude::*;

use super::records::{at, job, mail, run};

fn everything(store: &dyn Store) -> Vec<(Tree, Vec<Entry>)> {
    Tree::ALL
        .into_iter()
        .map(|tree| (tree, store.scan(tree, &[], None, ScanOrder::Ascending, usize::MAX).unwrap()))
        .collect()
}

fn exported(store: &dyn Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    export(store, &mut bytes).unwrap();
    bytes
}

/// A store with some of everything, as records are really written.
fn filled() -> MemoryStore {
    let store = MemoryStore::new();
    let mut batch = Batch::default();
    batch.put(Tree::Meta, "format", "2");
    batch.put_job(&job("photos/daily")).unwrap();
    for second in 0..5 {
        let state = if second == 4 { RunState::Shipping } else { RunState::Finished(Outcome::Success) };
        let record = run("photos/daily", second, state);
        batch.put_run(&record).unwrap();
        batch
            .push_event(record.id, 0, &RunEvent { at: at(second), state, note: Some("ünï\u{0}\ncode".to_owned()) })
            .unwrap();
    }
    batch.enqueue_mail(&mail(3, "photos failed")).unwrap();
    batch.meta_put("alert/seen", &vec![1, 2]).unwrap();
    batch.put(Tree::Jobs, "broken/daily", "{\"id\":");
    store.commit(batch).unwrap();
    store
}

#[test]
fn an_export_brings_back_records_indexes_the_outbox_and_even_what_is_broken() {
    let store = filled();
    let bytes = exported(&store);
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert_eq!(text.lines().next(), Some(r#"{"larder_export":1,"store_format":2}"#));
    assert!(text.contains(r#"{"tree":"jobs","key":"photos/daily","value":{"#), "readable where it is text:\n{text}");
    assert!(!text.contains("job_runs") && !text.contains("open/"), "what is derived is left out");
    let dir = tempfile::tempdir().unwrap();
    let disk = SledStore::open(dir.path()).unwrap().store;
    let memory = MemoryStore::new();
    for fresh in [&disk as &dyn Store, &memory] {
        let entries = import(fresh, &mut bytes.as_slice()).unwrap();
        assert_eq!(entries, 14);
        assert_eq!(everything(fresh), everything(&store));
    }
}

#[test]
fn an_import_into_a_store_with_records_is_refused() {
    let store = filled();
    let error = import(&store, &mut exported(&store).as_slice()).unwrap_err();
    assert!(matches!(error, StoreError::NotEmpty { tree: "jobs" }), "{error}");
    assert!(error.trouble().hint.unwrap().contains("--state"));
}

#[test]
fn an_export_that_is_torn_changed_or_foreign_is_refused_and_nothing_of_it_is_written() {
    let good = String::from_utf8(exported(&filled())).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let without = |skip: usize| {
        let kept: Vec<&str> =
            good.split_inclusive('\n').enumerate().filter(|(n, _)| *n != skip).map(|(_, line)| line).collect();
        kept.concat()
    };
    let mut bad: Vec<(String, String)> = vec![
        ("empty".to_owned(), String::new()),
        ("no export".to_owned(), "hello\n".to_owned()),
        ("a later version".to_owned(), good.replacen("\"larder_export\":1", "\"larder_export\":2", 1)),
        ("a later store".to_owned(), good.replacen("\"store_format\":2", "\"store_format\":3", 1)),
        ("an unknown tree".to_owned(), good.replacen("\"tree\":\"jobs\"", "\"tree\":\"jebs\"", 1)),
        ("a changed value".to_owned(), good.replacen("photos failed", "photos worked", 1)),
        ("something behind it".to_owned(), format!("{good}x")),
        ("twice".to_owned(), format!("{good}{good}")),
        ("a line without end".to_owned(), format!("{}\n{}", lines[0], "x".repeat(1 << 20))),
    ];
    bad.extend((0..lines.len()).map(|n| (format!("without line {n}"), without(n))));
    bad.extend((1..good.len()).step_by(97).filter_map(|n| Some((format!("cut at {n}"), good.get(..n)?.to_owned()))));
    for (what, text) in bad {
        let store = MemoryStore::new();
        let answer = import(&store, &mut text.as_bytes());
        assert!(matches!(answer, Err(StoreError::Import { .. })), "{what}: {answer:?}");
        assert!(everything(&store).iter().all(|(_, entries)| entries.is_empty()), "{what}");
    }
}

#[test]
fn scheduled_exports_are_whole_files_and_only_the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let written: Vec<PathBuf> = (0..5).map(|n| write_export(&filled(), dir.path(), 3, at(n)).unwrap()).collect();
    assert_eq!(exports(dir.path()), [written[4].clone(), written[3].clone(), written[2].clone()]);
    assert!(written[4].ends_with("state-20270115T080004.000Z.ndjson"), "{}", written[4].display());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "nothing half, and the user's file stays");
    import(&MemoryStore::new(), &mut std::fs::File::open(&written[4]).unwrap()).unwrap();
    let error = write_export(&filled(), &dir.path().join("missing"), 3, at(9)).unwrap_err();
    assert!(matches!(error, StoreError::Export { .. }), "{error}");
}

/// Keys and values of every kind: text, JSON, JSON with white space, bytes, nothing.
fn entry() -> impl Strategy<Value = (usize, Vec<u8>, Vec<u8>)> {
    let key = prop_oneof!["[a-z/\\PC]{0,12}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..20)];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            "",
            "null",
            "{}",
            " {}",
            "{}\n",
            "{\n}",
            "\"\\u0000\"",
            "1e999",
            "[1, 2]",
            "{\"a\":1,\"a\":2}",
            "nul"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        "\\PC{0,30}".prop_map(|text| serde_json::to_vec(&text).unwrap()),
    ];
    (0..Tree::ALL.len(), key, value)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_store_holds_comes_back_byte_for_byte(entries in prop::collection::vec(entry(), 0..40)) {
        let store = MemoryStore::new();
        let mut batch = Batch::default();
        batch.put(Tree::Meta, "format", "2");
        for (tree, key, value) in entries {
            // Indexes are made from the runs, and so are not free to hold anything.
            if Tree::ALL[tree] != Tree::JobRuns && !key.starts_with(b"open/") && key != b"format" {
                batch.put(Tree::ALL[tree], key, value);
            }
        }
        store.commit(batch).unwrap();
        let copy = MemoryStore::new();
        import(&copy, &mut exported(&store).as_slice()).unwrap();
        prop_assert_eq!(everything(&copy), everything(&store));
    }
}
