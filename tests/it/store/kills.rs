//! Killed at any instant: what was acknowledged is there, nothing is there by half, the store opens without complaint.
//!
//! The test starts itself again as the child that commits; the child says `ack N` once commit N is durable.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use larder::store::sled_store::SledStore;
use larder::store::{Batch, ScanOrder, Store, Tree};
use larder::types::RunId;

/// In the child: the state directory to work on.
pub const CHILD: &str = "LARDER_TEST_STORE_CHILD";

/// Entries of the export that is restored.
const RUNS: usize = 3000;

/// Commits that stay; older ones are removed in the batch that adds one, as history is.
const KEPT: u64 = 300;

pub fn start_child(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Commit `n`: the same number in three trees, and commit `n - KEPT` out of them.
fn numbered(n: u64) -> Batch {
    let mut batch = Batch::default();
    for tree in [Tree::Jobs, Tree::Runs, Tree::Events] {
        let padding = "x".repeat(usize::try_from(n * 37 % 900).unwrap());
        batch.put(tree, n.to_be_bytes(), format!("{n} {padding}"));
        if let Some(old) = n.checked_sub(KEPT) {
            batch.remove(tree, old.to_be_bytes());
        }
    }
    batch
}

/// The numbers in a tree; checks that every value is whole.
fn numbers(store: &dyn Store, tree: Tree) -> Vec<u64> {
    let entries = store.scan(tree, &[], None, ScanOrder::Ascending, usize::MAX).unwrap();
    let number = |(key, value): (Vec<u8>, Vec<u8>)| {
        let n = u64::from_be_bytes(key.try_into().unwrap());
        let expected = numbered(n).writes.into_iter().find_map(|(_, _, value)| value).unwrap();
        assert_eq!(value, expected, "the value of commit {n}");
        n
    };
    entries.into_iter().map(number).collect()
}

fn commit_until_killed(dir: &Path) {
    let store = SledStore::open(dir).unwrap().store;
    let first = numbers(&store, Tree::Jobs).last().map_or(0, |last| last + 1);
    for n in first.. {
        store.commit(numbered(n)).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {n}").unwrap();
        out.flush().unwrap();
    }
}

/// The numbers that the child acknowledges, to the end of its output.
fn acknowledged(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // What runs the test begins its line with the test's name: the first one stands behind that.
    lines.map_while(Result::ok).filter_map(|line| line.rsplit_once("ack ")?.1.parse().ok())
}

#[test]
fn forty_five_kills_lose_no_acknowledged_commit_and_leave_none_by_half() {
    const ROUNDS: u64 = 45;
    if let Some(dir) = std::env::var_os(CHILD) {
        return commit_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut last_said = None;
    for round in 0..ROUNDS {
        let name = "store::kills::forty_five_kills_lose_no_acknowledged_commit_and_leave_none_by_half";
        let mut child = start_child(name, dir.path());
        let mut acks = acknowledged(&mut child);
        // Every fifth is killed while it opens, the others when they have committed for some milliseconds.
        let first = if round % 5 == 0 { None } else { acks.next() };
        std::thread::sleep(Duration::from_millis(round * 37 % 100));
        child.kill().unwrap();
        last_said = acks.last().or(first).or(last_said);
        child.wait().unwrap();

        let opened = SledStore::open(dir.path()).unwrap();
        assert_eq!(opened.set_aside, None, "round {round}");
        let found = numbers(&opened.store, Tree::Jobs);
        assert_eq!(numbers(&opened.store, Tree::Runs), found, "round {round}: a commit is in all its trees or in none");
        assert_eq!(numbers(&opened.store, Tree::Events), found, "round {round}");
        if let Some(said) = last_said {
            let last = *found.last().unwrap();
            // At most the one commit that was on its way is there without having been acknowledged.
            assert!(last == said || last == said + 1, "round {round}: {last} after {said}");
            let expected: Vec<u64> = ((last + 1).saturating_sub(KEPT)..=last).collect();
            assert_eq!(found, expected, "round {round}: no hole");
            last_said = Some(last);
        }
    }
    assert!(last_said.unwrap() > KEPT, "the children did work: {last_said:?}");
}

#[test]
fn a_restore_that_is_killed_is_done_again_whole() {
    if let Some(dir) = std::env::var_os(CHILD) {
        drop(SledStore::open(Path::new(&dir)).unwrap());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let first = SledStore::open(dir.path()).unwrap();
    for chunk in 0..3_u128 {
        let mut batch = Batch::default();
        for n in 0..RUNS as u128 / 3 {
            let id = RunId::from_bytes(((chunk << 64) | n).to_be_bytes());
            batch.put(Tree::Runs, id.to_bytes(), format!("\"{}\"", "y".repeat(200)));
        }
        first.store.commit(batch).unwrap();
    }
    let now = jiff::Timestamp::UNIX_EPOCH;
    larder::store::export::write_export(&first.store, &first.state.export(), 3, now).unwrap();
    let store_dir = first.state.store();
    drop(first);
    let mut unfinished = 0;
    for round in 0..15 {
        std::fs::remove_dir_all(&store_dir).unwrap();
        let mut child = start_child("store::kills::a_restore_that_is_killed_is_done_again_whole", dir.path());
        std::thread::sleep(Duration::from_millis(20 + round * 12));
        child.kill().unwrap();
        child.wait().unwrap();
        let opened = SledStore::open(dir.path()).unwrap();
        assert_eq!(opened.set_aside, None);
        unfinished += usize::from(opened.restored.is_some());
        let runs = opened.store.scan(Tree::Runs, &[], None, ScanOrder::Ascending, usize::MAX).unwrap();
        assert_eq!(runs.len(), RUNS, "round {round}: all or, before that, nothing");
    }
    assert!(unfinished > 0, "at least one kill came before the restore was done");
}
