//! What the machine refuses: a second opener, a missing parent, no permission, a read-only or full disk. Each is told
//! clearly, and what was acknowledged before is still there.
//!
//! The disks are real: a tmpfs in a mount namespace of the test's own (`unshare`), gone with the process.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use larder::store::ledger::Ledger;
use larder::store::sled_store::SledStore;
use larder::store::{Batch, Store, StoreError, Tree};
use nix::mount::{MsFlags, mount};

use crate::support::wait_for;

/// In the child: the directory to mount on.
const CHILD: &str = "LARDER_TEST_STORE_DISK";

fn hint(error: &StoreError) -> String {
    error.trouble().hint.unwrap()
}

fn put(store: &dyn Store, key: u64, value: &str) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for tree in [Tree::Runs, Tree::Events] {
        batch.put(tree, key.to_be_bytes(), value);
    }
    store.commit(batch)
}

/// Runs `test` again, as a child that may mount; answers the directory in the child, none in the parent once the child is done.
fn on_a_disk_of_its_own(test: &str) -> Option<std::path::PathBuf> {
    if let Some(dir) = std::env::var_os(CHILD) {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let namespaces = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let child = Command::new("unshare")
        .arg(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args([&format!("store::refusals::{test}"), "--exact", "--nocapture"])
        .env(CHILD, dir.path())
        .output()
        .expect("unshare (util-linux) starts");
    let said = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"), "in a mount namespace of its own:\n{said}");
    None
}

fn tmpfs(dir: &Path, flags: MsFlags, options: &str) {
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options)).unwrap();
}

#[test]
fn a_second_daemon_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = SledStore::open(dir.path()).unwrap();
    let error = SledStore::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { path } if path == dir.path()), "{error}");
    assert!(hint(&error).contains("--state"), "{}", hint(&error));
    put(&first.store, 1, "still works").unwrap();
    let id = first.state_id;
    drop(first.store);
    let second = SledStore::open(dir.path()).unwrap();
    assert_eq!(second.state_id, id, "the state keeps its id");
    assert_eq!(second.store.get(Tree::Runs, &1_u64.to_be_bytes()).unwrap(), Some(b"still works".to_vec()));
}

#[test]
fn a_fresh_state_directory_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let opened = SledStore::open(&dir.path().join("state")).unwrap();
    let state = &opened.state;
    for path in [state.root().to_owned(), state.store(), state.logs(), state.pages(), state.export()] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
    for path in [state.lock_file(), state.id_file()] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!((opened.set_aside, opened.restored), (None, None));
}

#[test]
fn a_missing_parent_a_file_in_the_way_and_a_newer_format_are_told_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let error = SledStore::open(&dir.path().join("no/state")).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(hint(&error).contains(&format!("mkdir -p {}", dir.path().join("no").display())), "{}", hint(&error));

    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = SledStore::open(&file).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(hint(&error).contains("no directory"), "{}", hint(&error));

    let state = dir.path().join("state");
    let store = SledStore::open(&state).unwrap().store;
    let mut batch = Batch::default();
    batch.put(Tree::Meta, "format", "99");
    store.commit(batch).unwrap();
    drop(store);
    let error = SledStore::open(&state).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(hint(&error).contains("newer Larder"), "{}", hint(&error));
    assert!(state.join("store").is_dir(), "it was not set aside");
}

#[test]
fn a_read_only_disk_is_named_and_nothing_on_it_is_set_aside() {
    let Some(dir) = on_a_disk_of_its_own("a_read_only_disk_is_named_and_nothing_on_it_is_set_aside") else { return };
    tmpfs(&dir, MsFlags::empty(), "size=32m");
    let state = dir.join("state");
    put(&SledStore::open(&state).unwrap().store, 1, "before").unwrap();
    // sled's threads hold their files for some milliseconds longer.
    wait_for("the remount", Duration::from_secs(20), || {
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>).ok()
    });
    let error = SledStore::open(&state).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    assert!(hint(&error).contains("read-only"), "{}", hint(&error));
    let fresh = SledStore::open(&dir.join("fresh")).unwrap_err();
    assert!(hint(&fresh).contains("read-only"), "{}", hint(&fresh));
    tmpfs(&dir, MsFlags::MS_REMOUNT, "size=32m");
    let opened = SledStore::open(&state).unwrap();
    assert_eq!(opened.set_aside, None);
    assert_eq!(opened.store.get(Tree::Runs, &1_u64.to_be_bytes()).unwrap(), Some(b"before".to_vec()));
}

#[test]
fn a_directory_of_another_user_is_named_with_what_to_do() {
    let Some(dir) = on_a_disk_of_its_own("a_directory_of_another_user_is_named_with_what_to_do") else { return };
    // Root may write everywhere, so the child steps down; in a user namespace it has nobody to step down to and takes
    // away its own right instead.
    let state = dir.join("state");
    drop(SledStore::open(&state).unwrap());
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o555)).unwrap();
    if nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).is_err() {
        nix::unistd::setuid(nix::unistd::getuid()).unwrap();
    }
    let error = SledStore::open(&state).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    assert!(hint(&error).contains("let the daemon's user write"), "{}", hint(&error));
}

#[test]
fn a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_space_again() {
    let Some(dir) = on_a_disk_of_its_own("a_full_disk_loses_nothing_and_the_store_goes_on_when_there_is_space_again")
    else {
        return;
    };
    tmpfs(&dir, MsFlags::empty(), "size=8m");
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![0; 3 << 20]).unwrap();
    let state = dir.join("state");
    let opened = SledStore::open(&state).unwrap();
    let value = |n: u64| format!("{n} {}", "x".repeat(8000));
    let begun = Instant::now();
    let mut acknowledged = 0;
    let error = loop {
        match put(&opened.store, acknowledged, &value(acknowledged)) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 2000, "the disk never fills");
    };
    assert!(matches!(error, StoreError::Write(_)), "{error:?}");
    assert!(hint(&error).contains("full"), "{}", hint(&error));
    assert_eq!(error.trouble().code, "state_not_written");
    // It stays refused, in bounded time, for as long as the disk is full.
    for _ in 0..3 {
        let again = put(&opened.store, 1_000_000, &"y".repeat(30_000)).unwrap_err();
        assert!(hint(&again).contains("full"), "{again:?}");
    }
    std::fs::remove_file(&ballast).unwrap();
    put(&opened.store, 2_000_000, "after").unwrap();
    let check = |store: &dyn Store| {
        for n in 0..acknowledged {
            for tree in [Tree::Runs, Tree::Events] {
                assert_eq!(store.get(tree, &n.to_be_bytes()).unwrap(), Some(value(n).into_bytes()), "commit {n}");
            }
        }
        // The commits in doubt are there whole or not at all.
        for n in [acknowledged, 1_000_000] {
            let both = [Tree::Runs, Tree::Events].map(|tree| store.get(tree, &n.to_be_bytes()).unwrap().is_some());
            assert_eq!(both[0], both[1], "commit {n}");
        }
        assert_eq!(store.get(Tree::Runs, &2_000_000_u64.to_be_bytes()).unwrap(), Some(b"after".to_vec()));
    };
    check(&opened.store);
    drop(opened);
    let opened = SledStore::open(&state).unwrap();
    assert_eq!(opened.set_aside, None, "a full disk is no damage");
    check(&opened.store);
    assert!(acknowledged > 50, "{acknowledged} commits fitted");
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert_eq!(Ledger::new(std::sync::Arc::new(opened.store)).outbox_len().unwrap(), 0);
}
