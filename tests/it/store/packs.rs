//! Old runs are packed: nobody who reads can tell, and a store or an export from before is brought over whole or not at all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::run::RunState;
use larder::store::export::export;
use larder::store::history::RunFilter;
use larder::store::import::{import, import_file};
use larder::store::ledger::Ledger;
use larder::store::memory::MemoryStore;
use larder::store::record::{RunEvent, RunRecord, Shipment, Trigger};
use larder::store::sled_store::SledStore;
use larder::store::{Batch, Entry, ScanOrder, Store, StoreError, Tree};
use larder::types::{JobId, Outcome, RunId};
use proptest::prelude::*;

use super::kills::{CHILD, start_child};
use super::records::{job, name, run};

const DONE: RunState = RunState::Finished(Outcome::Success);

fn log(run: &RunRecord) -> Vec<RunEvent> {
    let event = |state, note: Option<&str>| RunEvent { at: run.queued, state, note: note.map(str::to_owned) };
    vec![event(RunState::Queued, None), event(RunState::Shipping, Some("nas: 3 files")), event(run.state, None)]
}

/// A finished run as a daemon leaves it.
fn finished(job: &str, second: i64) -> RunRecord {
    let mut run = run(job, second, DONE);
    run.bytes = u64::try_from(second).unwrap() * 1000;
    run.shipments.push(Shipment {
        destination: name("nas"),
        outcome: Outcome::Success,
        snapshot: Some(format!("{second:064x}")),
        bytes_added: 1,
        files: 2,
        bytes: 3,
        duration_ms: 4,
        trouble: None,
        forgotten: Some(0),
    });
    if second % 7 == 0 {
        run.trigger = Trigger::FoundAgain;
    }
    run
}

/// Runs a run as the daemon does: queued, advanced, finished.
fn finish(ledger: &Ledger, done: &RunRecord, keep: usize) {
    let mut batch = Batch::default();
    batch.put_run(&RunRecord { state: RunState::Queued, ..done.clone() }).unwrap();
    let log = log(done);
    for (sequence, event) in (0..).zip(&log[..log.len() - 1]) {
        batch.push_event(done.id, sequence, event).unwrap();
    }
    ledger.commit(batch).unwrap();
    let mut batch = Batch::default();
    batch.put_run(done).unwrap();
    ledger.close_log(done.id, log.last().unwrap(), &mut batch).unwrap();
    ledger.tidy_history(&done.job, keep, &mut batch).unwrap();
    ledger.commit(batch).unwrap();
}

/// Writes a store as Larders before wrote it: a row for each run, one for each event, an index.
fn rows_of_before(runs: &[RunRecord]) -> Vec<Batch> {
    let mut batches = vec![Batch::default()];
    batches[0].put(Tree::Meta, "format", "1");
    batches[0].put_job(&job("a/daily")).unwrap();
    batches[0].put(Tree::Events, [9; 20], r#"{"at":"2026-01-01T00:00:00Z","state":"queued"}"#);
    batches[0].put(Tree::Runs, "broken", "{\"id\":");
    for some in runs.chunks(300) {
        let mut batch = Batch::default();
        for run in some {
            batch.put_run(run).unwrap();
            let log = if run.state.is_finished() { log(run) } else { log(run)[..1].to_vec() };
            (0..).zip(&log).for_each(|(sequence, event)| batch.push_event(run.id, sequence, event).unwrap());
        }
        batches.push(batch);
    }
    batches
}

fn history(jobs: &[&str], each: i64) -> Vec<RunRecord> {
    let mut runs: Vec<RunRecord> =
        (0..each).flat_map(|second| jobs.iter().map(move |job| finished(job, second * 60))).collect();
    let open = RunRecord { state: RunState::Shipping, ..run(jobs[0], each * 60, DONE) };
    runs.push(open);
    runs
}

/// Everything that can be asked is as it was before.
fn check(ledger: &Ledger, runs: &[RunRecord], what: &str) {
    let mut by_job: BTreeMap<JobId, Vec<RunRecord>> = BTreeMap::new();
    for run in runs {
        by_job.entry(run.job.clone()).or_default().insert(0, run.clone());
    }
    for (job, mut expected) in by_job {
        expected.sort_by_key(|run| std::cmp::Reverse(run.id));
        let (target, policy) = (Some(job.target.clone()), Some(job.policy.clone()));
        let found = ledger.runs(&RunFilter { target, policy, before: None, limit: 1000 }).unwrap();
        assert_eq!(found, expected[..expected.len().min(1000)], "{what}: {job}");
        assert_eq!(ledger.newest_run(&job).unwrap().as_ref(), expected.first(), "{what}");
    }
    for run in runs.iter().step_by(7) {
        assert_eq!(ledger.run(run.id).unwrap().as_ref(), Some(run), "{what}");
        let log = if run.state.is_finished() { log(run) } else { log(run)[..1].to_vec() };
        assert_eq!(ledger.events(run.id).unwrap(), log, "{what}");
        assert!(ledger.has_run(&run.job, run.id).unwrap(), "{what}");
        assert_eq!(ledger.remembers(&run.job, run.id).unwrap(), run.trigger != Trigger::FoundAgain, "{what}");
    }
    assert_eq!(ledger.newest_run_id().unwrap(), runs.iter().map(|run| run.id).max(), "{what}");
    let open: Vec<RunRecord> = runs.iter().filter(|run| !run.state.is_finished()).cloned().collect();
    assert_eq!(ledger.open_runs().unwrap(), open, "{what}");
}

fn rows(store: &dyn Store, tree: Tree) -> usize {
    store.scan(tree, &[], None, ScanOrder::Ascending, usize::MAX).unwrap().len()
}

#[test]
fn a_long_history_is_packed_as_it_grows_and_nobody_who_reads_can_tell() {
    let ledger = Ledger::new(Arc::new(MemoryStore::new()));
    let jobs = ["a/daily", "a/hourly", "b/daily"];
    let mut runs = Vec::new();
    for second in 0..200 {
        for job in jobs.iter().take(if second % 3 == 0 { 3 } else { 2 }) {
            let run = finished(job, second);
            finish(&ledger, &run, 1000);
            runs.push(run);
        }
    }
    check(&ledger, &runs, "grown");
    assert!(rows(ledger.store(), Tree::Runs) < 3 * 64 + runs.len() / 16, "{}", rows(ledger.store(), Tree::Runs));
    assert!(rows(ledger.store(), Tree::Events) < 3 * 64, "one row for each log, and none for what is packed");
    let made = ledger.snapshots_made(&"b/daily".parse().unwrap()).unwrap();
    assert_eq!(made.len(), 67);
    // Page by page.
    let mut paged = Vec::new();
    let mut filter = RunFilter { limit: 17, ..RunFilter::default() };
    loop {
        let page = ledger.runs(&filter).unwrap();
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        paged.extend(page);
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.id));
    assert_eq!(paged, runs);
}

#[test]
fn a_full_history_loses_its_oldest_packs_whole_and_its_bound_is_kept() {
    let ledger = Ledger::new(Arc::new(MemoryStore::new()));
    let id: JobId = "a/daily".parse().unwrap();
    let runs: Vec<RunRecord> = (0..400).map(|second| finished("a/daily", second)).collect();
    for run in &runs {
        finish(&ledger, run, 100);
    }
    let found = ledger.runs(&RunFilter { limit: 1000, ..RunFilter::default() }).unwrap();
    assert!((100..=100 + 32).contains(&found.len()), "{}", found.len());
    assert!(found.iter().rev().eq(&runs[runs.len() - found.len()..]));
    assert!(ledger.run(runs[0].id).unwrap().is_none() && ledger.events(runs[0].id).unwrap().is_empty());
    let mut batch = Batch::default();
    ledger.prune_history(&id, 100, &mut batch).unwrap();
    ledger.commit(batch).unwrap();
    assert!(ledger.runs(&RunFilter { limit: 1000, ..RunFilter::default() }).unwrap().len() >= 100);
}

#[test]
fn a_run_that_turns_up_late_and_one_that_stays_open_keep_their_places() {
    let ledger = Ledger::new(Arc::new(MemoryStore::new()));
    let stuck = run("a/daily", 10, RunState::Shipping);
    let mut batch = Batch::default();
    batch.put_run(&stuck).unwrap();
    ledger.commit(batch).unwrap();
    let mut runs = vec![stuck.clone()];
    for second in (0..300).filter(|second| *second != 10 && *second != 150) {
        let run = finished("a/daily", second);
        finish(&ledger, &run, 1000);
        runs.push(run);
    }
    let late = finished("a/daily", 150);
    finish(&ledger, &late, 1000);
    runs.push(late);
    runs.sort_by_key(|run| std::cmp::Reverse(run.id));
    assert_eq!(ledger.runs(&RunFilter { limit: 1000, ..RunFilter::default() }).unwrap(), runs);
    for (index, run) in runs.iter().enumerate() {
        let filter = RunFilter { target: Some(name("a")), before: Some(run.id), limit: 3, ..RunFilter::default() };
        let next = runs.get(index + 1..).unwrap_or_default();
        assert_eq!(ledger.runs(&filter).unwrap(), next[..next.len().min(3)], "behind {index}");
    }
    assert_eq!(ledger.open_runs().unwrap(), [stuck]);
}

/// A store in which somebody else writes just before one of its reads.
struct Written {
    store: MemoryStore,
    reads: AtomicUsize,
    /// Before which read, and what.
    pending: Mutex<Option<(usize, Batch)>>,
}

impl Written {
    fn read(&self) -> &MemoryStore {
        let read = self.reads.fetch_add(1, Ordering::Relaxed);
        let mut pending = self.pending.lock().unwrap();
        if let Some((_, batch)) = pending.take_if(|(before, _)| *before == read) {
            self.store.commit(batch).unwrap();
        }
        &self.store
    }
}

impl Store for Written {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read().get(tree, key)
    }

    fn scan(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        order: ScanOrder,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read().scan(tree, prefix, after, order, limit)
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.store.commit(batch)
    }
}

#[test]
fn a_run_that_is_packed_while_somebody_reads_is_listed_once() {
    let id: JobId = "a/daily".parse().unwrap();
    let runs: Vec<RunRecord> = (0..64).rev().map(|second| finished("a/daily", second)).collect();
    let filled = || {
        let store = MemoryStore::new();
        let mut batch = Batch::default();
        for run in &runs {
            batch.put_run(run).unwrap();
        }
        store.commit(batch).unwrap();
        store
    };
    let mut packing = Batch::default();
    Ledger::new(Arc::new(filled())).tidy_history(&id, 1000, &mut packing).unwrap();
    assert!(!packing.is_empty());
    for target in [None, Some(name("a"))] {
        let filter = RunFilter { target, limit: 64, ..RunFilter::default() };
        for before in 0..70 {
            let pending = Mutex::new(Some((before, packing.clone())));
            let store = Arc::new(Written { store: filled(), reads: AtomicUsize::new(0), pending });
            let ledger = Ledger::new(store.clone());
            assert_eq!(ledger.runs(&filter).unwrap(), runs, "packed before read {before}");
            let one = &runs[50];
            store.reads.store(before.saturating_sub(2), Ordering::Relaxed);
            assert_eq!(ledger.run(one.id).unwrap().as_ref(), Some(one), "packed before read {before}");
        }
    }
}

#[test]
fn a_store_from_before_is_brought_over_once_and_stays_beside_until_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let runs = history(&["a/daily", "b/daily"], 500);
    let id = write_old(dir.path(), &runs);
    let olds = || {
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let entries = std::fs::read_dir(dir.path()).unwrap().map(name);
        entries.filter(|name| name.starts_with("state.older-")).count()
    };
    for round in 0..3 {
        let opened = SledStore::open(dir.path()).unwrap();
        assert_eq!((opened.set_aside, opened.restored, opened.state_id), (None, None, id.clone()));
        assert_eq!(olds(), usize::from(round == 0));
        opened.store.verify().unwrap();
        let ledger = Ledger::new(Arc::new(opened.store));
        check(&ledger, &runs, "brought over");
        assert_eq!(ledger.loss().unwrap(), None);
        let entries = |tree| ledger.store().scan(tree, &[], None, ScanOrder::Ascending, usize::MAX).unwrap();
        assert_eq!(ledger.store().get(Tree::Meta, b"format").unwrap().as_deref(), Some(&b"2"[..]));
        assert!(entries(Tree::Events).iter().any(|(key, _)| *key == [9; 20]), "an event of no run stays");
        assert!(entries(Tree::Runs).iter().any(|(key, _)| key == b"broken"), "and what nobody understands");
        assert!(entries(Tree::Runs).len() < 160, "{}", entries(Tree::Runs).len());
    }
}

fn pack_files(state: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(state.join("store/packs")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_pack_that_is_gone_or_changed_is_damage_and_what_nobody_names_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    write_old(dir.path(), &history(&["a/daily"], 300));
    drop(SledStore::open(dir.path()).unwrap());
    let packs = pack_files(dir.path());
    assert!(packs.len() > 5, "{packs:?}");
    std::fs::write(dir.path().join("store/packs/ff00-0000000000000000"), "left by a kill").unwrap();
    drop(SledStore::open(dir.path()).unwrap());
    assert_eq!(pack_files(dir.path()).len(), packs.len());
    let whole = std::fs::read(&packs[0]).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let damages: [(&str, Option<&[u8]>); 4] =
        [("flipped", Some(&flipped)), ("cut", Some(&whole[..whole.len() - 1])), ("empty", Some(b"")), ("gone", None)];
    for (what, damage) in damages {
        let copy = copy_of(dir.path());
        let pack = copy.path().join(packs[0].strip_prefix(dir.path()).unwrap());
        match damage {
            Some(bytes) => std::fs::write(&pack, bytes).unwrap(),
            None => std::fs::remove_file(&pack).unwrap(),
        }
        let opened = SledStore::open(copy.path()).unwrap();
        let aside = opened.set_aside.unwrap_or_else(|| panic!("{what} is believed"));
        assert!(aside.join("packs").is_dir(), "{what}: the others stay beside");
        let loss = Ledger::new(Arc::new(opened.store)).loss().unwrap().unwrap();
        assert!(loss.sentence().contains("runs ff"), "{what}: {}", loss.sentence());
    }
}

#[test]
fn packs_that_are_dropped_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(Arc::new(SledStore::open(dir.path()).unwrap().store));
    for second in 0..230 {
        finish(&ledger, &finished("a/daily", second), 100);
    }
    let named = ledger.store().scan(Tree::Runs, &[0xff], None, ScanOrder::Ascending, 99).unwrap().len();
    assert_eq!(pack_files(dir.path()).len(), named);
    assert!((2..=4).contains(&named), "{named}");
}

/// How often a child is begun: killed a little later each time, and the last one not at all.
const ROUNDS: u32 = 16;

/// How long the child of a test works when nobody kills it.
fn time_of(test: &str, dir: &Path) -> Duration {
    let begun = std::time::Instant::now();
    assert!(start_child(test, dir).wait().unwrap().success());
    begun.elapsed()
}

fn kill_in_round(round: u32, whole: Duration, test: &str, dir: &Path) {
    let mut child = start_child(test, dir);
    if round + 1 < ROUNDS {
        std::thread::sleep(whole * round / (ROUNDS - 2));
        child.kill().unwrap();
    }
    child.wait().unwrap();
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", dir.display());
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(copy.path()).status().unwrap().success());
    copy
}

/// Answers with the id of its state.
fn write_old(dir: &Path, runs: &[RunRecord]) -> String {
    let opened = SledStore::open(dir).unwrap();
    for batch in rows_of_before(runs) {
        opened.store.commit(batch).unwrap();
    }
    opened.state_id
}

#[test]
fn killed_at_any_instant_of_bringing_a_store_over_nothing_is_lost() {
    if let Some(dir) = std::env::var_os(CHILD) {
        drop(SledStore::open(Path::new(&dir)).unwrap());
        return;
    }
    let runs = history(&["a/daily", "b/daily", "c/daily"], 400);
    let old = tempfile::tempdir().unwrap();
    write_old(old.path(), &runs);
    let test = "store::packs::killed_at_any_instant_of_bringing_a_store_over_nothing_is_lost";
    let whole = time_of(test, copy_of(old.path()).path());
    let (mut before, mut after) = (0, 0);
    for round in 0..ROUNDS {
        let dir = copy_of(old.path());
        kill_in_round(round, whole, test, dir.path());
        if round % 3 == 1 {
            kill_in_round(round / 2, whole, test, dir.path());
        }
        let moved = std::fs::read_dir(dir.path()).unwrap();
        let moved = moved.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("state.older-"));
        *(if moved { &mut after } else { &mut before }) += 1;
        let opened = SledStore::open(dir.path()).unwrap();
        assert_eq!((&opened.set_aside, &opened.restored), (&None, &None), "round {round}");
        check(&Ledger::new(Arc::new(opened.store)), &runs, &format!("round {round}"));
    }
    assert!(before > 0 && after > 0, "kills came before the exchange and behind it: {before}, {after}");
}

#[test]
fn an_export_from_before_is_packed_as_it_is_read() {
    let runs = history(&["a/daily", "b/daily"], 300);
    let old = MemoryStore::new();
    for batch in rows_of_before(&runs) {
        old.commit(batch).unwrap();
    }
    let mut text = Vec::new();
    export(&old, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap().replacen("\"store_format\":2", "\"store_format\":1", 1);
    let text = with_checksum(&text);
    let dir = tempfile::tempdir().unwrap();
    let disk = SledStore::open(dir.path()).unwrap().store;
    import(&disk, &mut text.as_bytes()).unwrap();
    assert!(rows(&disk, Tree::Runs) < 160, "{}", rows(&disk, Tree::Runs));
    // And what is packed goes out and in again.
    let mut packed = Vec::new();
    export(&disk, &mut packed).unwrap();
    assert!(packed.len() * 2 < text.len(), "{} of {}", packed.len(), text.len());
    check(&Ledger::new(Arc::new(disk)), &runs, "from an export of before");
    let again = Arc::new(MemoryStore::new());
    import(&*again, &mut packed.as_slice()).unwrap();
    check(&Ledger::new(again), &runs, "from an export of packs");
}

/// The export with the checksum that its lines have.
fn with_checksum(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let (lines, trailer) = text.trim_end().rsplit_once('\n').unwrap();
    let body = format!("{lines}\n");
    let mut trailer: serde_json::Value = serde_json::from_str(trailer).unwrap();
    trailer["sha256"] = hex::encode(Sha256::digest(&body)).into();
    // The trailer's fields have an order.
    format!("{body}{{\"entries\":{},\"sha256\":{}}}\n", trailer["entries"], trailer["sha256"])
}

#[test]
fn an_import_that_is_killed_leaves_nothing_that_looks_whole() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let dir = Path::new(&dir);
        let file = std::fs::File::open(dir.join("export.ndjson")).unwrap();
        import_file(&SledStore::open(&dir.join("state")).unwrap().store, &file).unwrap();
        return;
    }
    let runs = history(&["a/daily", "b/daily"], 1000);
    let old = MemoryStore::new();
    for batch in rows_of_before(&runs) {
        old.commit(batch).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut text = Vec::new();
    export(&old, &mut text).unwrap();
    std::fs::write(dir.path().join("export.ndjson"), &text).unwrap();
    let state = dir.path().join("state");
    let test = "store::packs::an_import_that_is_killed_leaves_nothing_that_looks_whole";
    let took = time_of(test, dir.path());
    let (mut empty, mut whole) = (0, 0);
    for round in 0..ROUNDS {
        std::fs::remove_dir_all(&state).unwrap();
        kill_in_round(round, took, test, dir.path());
        let opened = SledStore::open(&state).unwrap();
        assert_eq!(opened.set_aside, None, "round {round}");
        match rows(&opened.store, Tree::Runs) {
            0 => empty += 1,
            _ => {
                whole += 1;
                check(&Ledger::new(Arc::new(opened.store)), &runs, &format!("round {round}"));
            }
        }
    }
    assert!(empty > 0 && whole > 0, "kills came before the end and behind it: {empty}, {whole}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lists_of_a_packed_history_are_what_sorting_all_of_it_gives(
        made in prop::collection::vec((0..3_usize, 0..2_usize), 100..500),
        asked in prop::collection::vec((prop::option::of(0..3_usize), prop::option::of(any::<prop::sample::Index>()), 0..90_usize), 8),
    ) {
        let ledger = Ledger::new(Arc::new(MemoryStore::new()));
        let (targets, policies) = (["a", "a-", "z"], ["daily", "d"]);
        let mut runs: Vec<RunRecord> = Vec::new();
        for (second, (target, policy)) in (0..).zip(made) {
            // Some two of one second, so that ids alone decide.
            let run = finished(&format!("{}/{}", targets[target], policies[policy]), second / 2);
            finish(&ledger, &run, 1000);
            runs.push(run);
        }
        runs.sort_by_key(|run| std::cmp::Reverse(run.id));
        for (target, before, limit) in asked {
            let target = target.map(|target| name(targets[target]));
            let before: Option<RunId> = before.map(|before| runs[before.index(runs.len())].id);
            let expected: Vec<&RunRecord> = runs
                .iter()
                .filter(|run| target.as_ref().is_none_or(|target| run.job.target == *target))
                .filter(|run| before.is_none_or(|before| run.id < before))
                .take(limit)
                .collect();
            let filter = RunFilter { target, policy: None, before, limit };
            let found = ledger.runs(&filter).unwrap();
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        }
    }
}
