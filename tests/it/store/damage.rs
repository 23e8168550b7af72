//! Damaged files: the store opens or is set aside, in bounded time, without a panic that reaches us; then it works.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use larder::store::sled_store::{Opened, SledStore};
use larder::store::{Batch, Order, Store, Tree};

/// Longest time that opening may take, even on a busy machine.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// Numbers that look random and are the same in every run of the test (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// A state directory whose store has some segments, removed entries and a snapshot.
fn template() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in 0..3_u64 {
        let store = SledStore::open(dir.path()).unwrap().store;
        for n in 0..60_u64 {
            let mut batch = Batch::default();
            for each in 0..20_u64 {
                let key = (part * 1200 + n * 20 + each).to_be_bytes();
                batch.put(Tree::Runs, key, format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(200)));
                batch.put(Tree::JobRuns, key, []);
            }
            batch.put(Tree::Jobs, "photos/daily", format!("{n}"));
            batch.remove(Tree::Runs, (part * 1200 + n).to_be_bytes());
            store.commit(batch).unwrap();
        }
    }
    dir
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// sled's files, the big one first.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("store"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    files
}

/// Opens in a thread of its own, so that a store that hangs fails the test instead of stopping it.
fn open_in_time(dir: &Path, what: &str) -> Opened {
    let (say, hear) = mpsc::channel();
    let path = dir.to_owned();
    std::thread::spawn(move || say.send(SledStore::open(&path)).is_ok());
    let answer = hear.recv_timeout(OPEN_MAX).unwrap_or_else(|error| panic!("{what}: opening {error}"));
    answer.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

/// Opens a damaged store, then asks of it what is asked of every store; answers whether it was set aside.
fn opens_and_works(dir: &Path, what: &str) -> bool {
    let opened = open_in_time(dir, what);
    if let Some(aside) = &opened.set_aside {
        assert!(aside.is_dir(), "{what}: {}", aside.display());
    }
    for tree in Tree::ALL {
        let read = opened.store.scan(tree, &[], None, Order::Ascending, usize::MAX);
        read.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
    let mut batch = Batch::default();
    batch.put(Tree::Runs, "after", "damage");
    batch.put(Tree::Jobs, "after", "damage");
    opened.store.commit(batch).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let set_aside = opened.set_aside.is_some();
    drop(opened);
    let again = open_in_time(dir, what);
    assert_eq!(again.set_aside, None, "{what}");
    assert_eq!(again.store.get(Tree::Runs, b"after").unwrap(), Some(b"damage".to_vec()), "{what}");
    set_aside
}

/// Damages copies of one store in `rounds` ways; answers how many were set aside.
fn rounds(rounds: u64, damage: impl Fn(&mut Dice, &Path) -> String) -> usize {
    let rounds = std::env::var("LARDER_TEST_DAMAGE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(rounds);
    let template = template();
    let mut set_aside = 0;
    for round in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        let what = format!("round {round}: {}", damage(&mut Dice(round), dir.path()));
        set_aside += usize::from(opens_and_works(dir.path(), &what));
    }
    set_aside
}

#[test]
fn a_file_that_was_cut_short_is_survived() {
    rounds(20, |dice, dir| {
        let files = files(dir);
        let path = &files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
        let length = dice.below(path.metadata().unwrap().len());
        std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
        format!("{} cut to {length}", path.display())
    });
}

#[test]
fn flipped_bits_are_survived() {
    let set_aside = rounds(40, |dice, dir| {
        let files = files(dir);
        let path =
            &files[if dice.below(4) == 0 { usize::try_from(dice.below(files.len() as u64)).unwrap() } else { 0 }];
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        let flips = 1 + dice.below(24);
        for _ in 0..flips {
            let offset = dice.below(length);
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            byte[0] ^= 1 << dice.below(8);
            file.write_all_at(&byte, offset).unwrap();
        }
        format!("{flips} bits of {}", path.display())
    });
    assert!(set_aside > 0, "some of the damage was noticed");
}

#[test]
fn pages_of_zeros_or_rubbish_are_survived() {
    rounds(20, |dice, dir| {
        let path = &files(dir)[0];
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        let offset = dice.below(length / 4096) * 4096;
        let rubbish = dice.below(2);
        let page: Vec<u8> = (0..512).flat_map(|_| (dice.below(u64::MAX) * rubbish).to_le_bytes()).collect();
        file.write_all_at(&page, offset).unwrap();
        format!("a page at {offset}, rubbish: {rubbish}")
    });
}

#[test]
fn an_empty_or_missing_file_is_survived() {
    let template = template();
    for path in files(template.path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        for remove in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            copy(template.path(), dir.path());
            let path = dir.path().join("store").join(&name);
            if remove {
                std::fs::remove_file(&path).unwrap();
            } else {
                std::fs::write(&path, "").unwrap();
            }
            opens_and_works(dir.path(), &format!("{name}, removed: {remove}"));
        }
    }
}

#[test]
fn what_was_set_aside_is_replaced_by_the_newest_export_that_can_be_read() {
    let dir = template();
    let opened = SledStore::open(dir.path()).unwrap();
    let time = |second| jiff::Timestamp::from_second(second).unwrap();
    let export = opened.state.export();
    let good = larder::store::export::write_export(&opened.store, &export, 3, time(1)).unwrap();
    let torn = larder::store::export::write_export(&opened.store, &export, 3, time(2)).unwrap();
    let whole = opened.store.scan(Tree::Runs, &[], None, Order::Ascending, usize::MAX).unwrap();
    drop(opened);
    let length = torn.metadata().unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&torn).unwrap().set_len(length / 2).unwrap();
    std::fs::write(&files(dir.path())[0], "rubbish".repeat(100_000)).unwrap();
    let opened = open_in_time(dir.path(), "rubbish");
    assert!(opened.set_aside.is_some());
    assert_eq!(opened.restored, Some(good));
    assert_eq!(opened.store.scan(Tree::Runs, &[], None, Order::Ascending, usize::MAX).unwrap(), whole);
}

#[test]
fn only_the_newest_few_damaged_stores_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut newest = None;
    for _ in 0..6 {
        drop(SledStore::open(dir.path()).unwrap());
        std::fs::write(dir.path().join("store/conf"), "rubbish").unwrap();
        std::fs::write(dir.path().join("store/db"), "rubbish").unwrap();
        newest = SledStore::open(dir.path()).unwrap().set_aside;
    }
    let names = std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.path());
    let asides: Vec<PathBuf> = names.filter(|path| path.display().to_string().contains("state.corrupt-")).collect();
    assert_eq!(asides.len(), 3, "{asides:?}");
    assert!(asides.contains(&newest.unwrap()));
}
