//! Damaged files: a store opens with everything that it had, or is set aside and filled from its export. In bounded time,
//! without a panic that reaches us, and never with less than it had and no word about it.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use larder::store::damage::Damage;
use larder::store::ledger::Ledger;
use larder::store::sled_store::{Opened, SledStore};
use larder::store::{Batch, Entry, ScanOrder, Store, Tree};

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

/// What a store holds.
type Content = Vec<(Tree, Vec<Entry>)>;

/// A state directory whose store has some segments, removed entries and a snapshot; one as it was before its last third;
/// and what the store holds.
struct Template {
    dir: tempfile::TempDir,
    before: tempfile::TempDir,
    content: Content,
    exported: Content,
}

fn write(store: &SledStore, part: u64) {
    for n in 0..25_u64 {
        let mut batch = Batch::default();
        for each in 0..10_u64 {
            let key = (part * 250 + n * 10 + each).to_be_bytes();
            batch.put(Tree::Runs, key, format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(200)));
            batch.put(Tree::JobRuns, key, []);
        }
        batch.put(Tree::Jobs, "photos/daily", format!("{n}"));
        batch.remove(Tree::Runs, (part * 250 + n).to_be_bytes());
        store.commit(batch).unwrap();
    }
}

fn everything(store: &SledStore) -> Content {
    let scan = |tree| store.scan(tree, &[], None, ScanOrder::Ascending, usize::MAX).unwrap();
    // Why a store was made anew is no content.
    let own = |(key, _): &Entry| key != larder::store::damage::KEY.as_bytes();
    Tree::ALL.into_iter().map(|tree| (tree, scan(tree).into_iter().filter(own).collect())).collect()
}

/// A directory whose files cost no waiting for a disk, where there is one.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn template() -> Template {
    let (dir, before) = (in_memory(), in_memory());
    let mut exported = Vec::new();
    for part in 0..3_u64 {
        let opened = SledStore::open(dir.path()).unwrap();
        write(&opened.store, part);
        let now = jiff::Timestamp::from_second(1_800_000_000 + i64::try_from(part).unwrap()).unwrap();
        if part == 1 {
            larder::store::export::write_export(&opened.store, &opened.state.export(), 3, now).unwrap();
            // What is derived is not in an export, and these runs are no records.
            exported = everything(&opened.store);
            exported.iter_mut().filter(|(tree, _)| *tree == Tree::JobRuns).for_each(|(_, entries)| entries.clear());
            drop(opened);
            copy(dir.path(), before.path());
        }
    }
    let content = everything(&SledStore::open(dir.path()).unwrap().store);
    Template { dir, before, content, exported }
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

/// Opens a damaged store and compares what it holds; `further`: then asks of it what is asked of every store. Answers
/// whether it was set aside.
fn nothing_is_silent(template: &Template, dir: &Path, what: &str, further: bool) -> bool {
    let opened = open_in_time(dir, what);
    let set_aside = opened.set_aside.is_some();
    let expected = if set_aside { &template.exported } else { &template.content };
    let found = everything(&opened.store);
    for ((tree, is), (_, was)) in found.iter().zip(expected) {
        assert!(is == was, "{what}: set aside: {set_aside}; {tree:?} has {} of {} entries", is.len(), was.len());
    }
    if let Some(aside) = &opened.set_aside {
        assert!(aside.is_dir(), "{what}: {}", aside.display());
        let told: Damage = Ledger::new(Arc::new(opened.store)).meta_get(larder::store::damage::KEY).unwrap().unwrap();
        assert_eq!((told.set_aside.as_ref(), &told.restored), (Some(aside), &opened.restored), "{what}");
    } else {
        drop(opened.store);
    }
    if !further {
        return set_aside;
    }
    let opened = open_in_time(dir, what);
    opened.store.verify().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let mut batch = Batch::default();
    batch.put(Tree::Runs, "after", "damage");
    batch.put(Tree::Jobs, "after", "damage");
    opened.store.commit(batch).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    drop(opened);
    let again = open_in_time(dir, what);
    assert_eq!(again.set_aside, None, "{what}");
    assert_eq!(again.store.get(Tree::Runs, b"after").unwrap(), Some(b"damage".to_vec()), "{what}");
    set_aside
}

/// Damages copies of one store in `rounds` ways; answers how many were set aside.
fn rounds(rounds: u64, damage: impl Fn(&mut Dice, &Path, &Template) -> String) -> usize {
    let rounds = std::env::var("LARDER_TEST_DAMAGE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(rounds);
    let template = template();
    let mut set_aside = 0;
    for round in 0..rounds {
        let dir = in_memory();
        copy(template.dir.path(), dir.path());
        let what = format!("round {round}: {}", damage(&mut Dice(round), dir.path(), &template));
        set_aside += usize::from(nothing_is_silent(&template, dir.path(), &what, round % 10 == 0));
    }
    eprintln!("{set_aside} of {rounds} were set aside");
    set_aside
}

/// One of the store's files; every second time the big one.
fn a_file(dice: &mut Dice, dir: &Path) -> PathBuf {
    let files = files(dir);
    files[if dice.below(2) == 0 { 0 } else { usize::try_from(dice.below(files.len() as u64)).unwrap() }].clone()
}

fn open(path: &Path) -> (std::fs::File, u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    (file, length)
}

#[test]
fn a_file_that_was_cut_short_loses_nothing_silently() {
    let set_aside = rounds(200, |dice, dir, _| {
        let path = a_file(dice, dir);
        let (file, length) = open(&path);
        // Every third cut takes only a little of the end.
        let length = if dice.below(3) == 0 { length.saturating_sub(dice.below(600)) } else { dice.below(length) };
        file.set_len(length).unwrap();
        format!("{} cut to {length}", path.display())
    });
    assert!(set_aside > 0, "some of the damage was noticed");
}

#[test]
fn flipped_bits_lose_nothing_silently() {
    let set_aside = rounds(300, |dice, dir, _| {
        let path = a_file(dice, dir);
        let (file, length) = open(&path);
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
fn stretches_of_zeros_or_rubbish_lose_nothing_silently() {
    let set_aside = rounds(200, |dice, dir, _| {
        let path = a_file(dice, dir);
        let (file, length) = open(&path);
        let offset = if dice.below(2) == 0 { dice.below(length) } else { dice.below(length / 512 + 1) * 512 };
        let bytes = (1 << dice.below(17)).min(length.saturating_sub(offset));
        let rubbish = dice.below(2);
        let stretch: Vec<u8> = (0..bytes).map(|_| (dice.below(256) * rubbish).to_le_bytes()[0]).collect();
        file.write_all_at(&stretch, offset).unwrap();
        format!("{bytes} bytes at {offset} of {}, rubbish: {rubbish}", path.display())
    });
    assert!(set_aside > 0, "some of the damage was noticed");
}

#[test]
fn files_that_are_removed_emptied_or_exchanged_lose_nothing_silently() {
    let set_aside = rounds(150, |dice, dir, template| {
        let files = files(dir);
        let path = &files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
        let other = &files[usize::try_from(dice.below(files.len() as u64)).unwrap()];
        let old = template.before.path().join("store").join(path.file_name().unwrap());
        match dice.below(5) {
            0 => std::fs::remove_file(path).unwrap(),
            1 => std::fs::write(path, "").unwrap(),
            2 => {
                std::fs::copy(path, dir.join("x")).unwrap();
                std::fs::rename(other, path).unwrap();
                std::fs::rename(dir.join("x"), other).unwrap();
            }
            3 if old.exists() => drop(std::fs::copy(old, path).unwrap()),
            _ => {
                // The whole store of before, as from another disk; every second time the present second chain stays.
                let chain = dir.join("store/chain");
                std::fs::rename(&chain, dir.join("chain")).unwrap();
                std::fs::remove_dir_all(dir.join("store")).unwrap();
                copy(&template.before.path().join("store"), &dir.join("store"));
                std::fs::rename(dir.join("chain"), &chain).unwrap();
            }
        }
        format!("{} (with {})", path.display(), other.display())
    });
    assert!(set_aside > 0, "some of the damage was noticed");
}

#[test]
fn blocks_that_are_exchanged_within_a_file_lose_nothing_silently() {
    let set_aside = rounds(150, |dice, dir, _| {
        let path = a_file(dice, dir);
        let (file, length) = open(&path);
        let size = (512 << dice.below(4)).min(length / 2).max(1);
        let places = [dice.below(length / size) * size, dice.below(length / size) * size];
        let mut blocks = places.map(|at| {
            let mut block = vec![0; usize::try_from(size).unwrap()];
            file.read_exact_at(&mut block, at).unwrap();
            block
        });
        blocks.reverse();
        for (block, at) in blocks.iter().zip(places) {
            file.write_all_at(block, at).unwrap();
        }
        format!("blocks of {size} at {places:?} of {}", path.display())
    });
    assert!(set_aside > 0, "some of the damage was noticed");
}

#[test]
fn what_was_set_aside_is_replaced_by_the_newest_export_that_can_be_read() {
    let dir = template().dir;
    let opened = SledStore::open(dir.path()).unwrap();
    let time = |second: i64| jiff::Timestamp::from_second(1_900_000_000 + second).unwrap();
    let export = opened.state.export();
    let good = larder::store::export::write_export(&opened.store, &export, 3, time(1)).unwrap();
    let torn = larder::store::export::write_export(&opened.store, &export, 3, time(2)).unwrap();
    let whole = opened.store.scan(Tree::Runs, &[], None, ScanOrder::Ascending, usize::MAX).unwrap();
    drop(opened);
    let length = torn.metadata().unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&torn).unwrap().set_len(length / 2).unwrap();
    std::fs::write(&files(dir.path())[0], "rubbish".repeat(100_000)).unwrap();
    let opened = open_in_time(dir.path(), "rubbish");
    assert!(opened.set_aside.is_some());
    assert_eq!(opened.restored, Some(good));
    assert_eq!(opened.store.scan(Tree::Runs, &[], None, ScanOrder::Ascending, usize::MAX).unwrap(), whole);
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
