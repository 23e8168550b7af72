//! Locks of the dead, and repositories that can only be read.

use super::*;

/// A restic that sees itself on another machine: a container that is made anew has another name.
fn elsewhere(program: &Path, place: &Path, host: &str) -> PathBuf {
    script(
        place,
        host,
        &format!("exec unshare -u sh -c 'hostname {host}; exec \"$0\" \"$@\"' {} \"$@\"", program.display()),
    )
}

/// A restic that tells every lock as one that was made ninety minutes ago.
fn late(program: &Path, place: &Path) -> PathBuf {
    let time = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(90);
    let program = program.display();
    let aged = format!(
        "case \" $* \" in *\" cat lock \"*) {program} \"$@\" | sed 's/\"time\": \"[^\"]*\"/\"time\": \"{time}\"/' ;; *) exec {program} \"$@\" ;; esac"
    );
    script(place, "late", &aged)
}

fn script(place: &Path, name: &str, text: &str) -> PathBuf {
    let path = place.join(format!("restic-{name}"));
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Leaves the lock of a killed restic that ran under the name `host`; an exclusive one by renaming what is written of it.
async fn dead_lock(program: &Path, host: &str) -> Arc<Place> {
    let mut place = Place::opened(program).await;
    place.write("a", "1");
    let plain = place.restic.clone();
    place.backup().await.unwrap();
    place.restic = Restic::probe(Some(&elsewhere(program, place.directory.path(), host))).await.unwrap();
    let place = Arc::new(place);
    interrupted_backup(&place, |place| place.restics().into_iter().for_each(kill)).await.unwrap_err();
    assert_eq!((place.restics(), place.locks()), (vec![], 1), "a killed restic leaves its lock");
    let mut place = Arc::into_inner(place).unwrap();
    place.restic = plain.with_lock_wait(Duration::from_secs(1));
    Arc::new(place)
}

/// Rewrites what is remembered of our children, as a container of then would have written it.
fn remembered(place: &Place, change: impl Fn(&mut serde_json::Value)) {
    for entry in std::fs::read_dir(place.path("cache/children")).unwrap().flatten() {
        let mut child = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
        change(&mut child);
        std::fs::write(entry.path(), child.to_string()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_lock_of_ours_under_another_name_is_removed_by_itself() {
    for program in programs() {
        let place = dead_lock(&program, "5f0c2b9d77aa").await;
        // Nobody knows it as ours: it stays, and is named with what removes it.
        let error = place.restic.prune(&place.access, &place.context).await.unwrap_err();
        assert_eq!((error.code().name(), place.locks()), ("repository_locked", 1), "{error}");
        remembered(&place, |child| {
            child["host"] = "5f0c2b9d77aa".into();
            child["habitat"]["namespace"] = "pid:[1]".into();
        });
        let start = std::time::Instant::now();
        place.restic.prune(&place.access, &place.context).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(place.locks(), 0, "{}", place.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_lock_that_nobody_refreshes_is_named_with_the_command_that_removes_it() {
    for program in programs() {
        let mut place = Arc::into_inner(dead_lock(&program, "otherhost").await).unwrap();
        let id = std::fs::read_dir(place.path("repo/locks")).unwrap().flatten().next().unwrap().file_name();
        let id = id.to_str().unwrap()[..10].to_owned();
        // Young: it may be alive.
        let young = place.restic.prune(&place.access, &place.context).await.unwrap_err().trouble();
        let command = format!("larder destination unlock nas --lock {id}");
        assert!(young.hint.as_ref().unwrap().contains(&command), "{young}");
        assert!(young.hint.as_ref().unwrap().contains("wait for it to end"), "{young}");

        let aged = Restic::probe(Some(&late(&program, place.directory.path()))).await.unwrap();
        place.restic = aged.with_lock_wait(Duration::from_mins(1));
        let start = std::time::Instant::now();
        let trouble = place.restic.prune(&place.access, &place.context).await.unwrap_err().trouble();
        assert!(start.elapsed() < Duration::from_secs(30), "a stale lock is not waited for: {:?}", start.elapsed());
        assert_eq!(trouble.code, "repository_locked");
        for part in [&id[..], "root@otherhost", "shared", "refreshed 1h 30m ago", "process "] {
            assert!(trouble.message.contains(part), "{part}: {trouble}");
        }
        assert!(trouble.hint.unwrap().contains(&command));

        // By value only.
        let unlocked = place.restic.unlock_own_dead(&place.access, &place.context).await.unwrap();
        assert_eq!((unlocked.removed.len(), unlocked.left.len()), (0, 1));
        let unlock = async |id: &str| place.restic.unlock_named(&place.access, id, &place.context, |_| {}).await;
        assert_eq!(unlock("0123").await.unwrap_err().code(), "bad_lock_id");
        assert_eq!(unlock("../../config").await.unwrap_err().code(), "bad_lock_id");
        let missing = unlock("0123456789ab").await.unwrap_err().trouble();
        assert_eq!(missing.code, "lock_missing");
        assert!(missing.hint.unwrap().contains(&id));
        assert_eq!(unlock(&id).await.unwrap().info.host, "otherhost");
        assert_eq!(place.locks(), 0);
        place.restic.prune(&place.access, &place.context).await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_whose_process_runs_here_is_not_removed_whatever_its_machine_is_called() {
    let program = programs().remove(1);
    let place = Place::opened(&program).await;
    let other = elsewhere(&program, place.directory.path(), "otherhost");
    let _holder = Holder::start(&other, &place);
    let locks = place.restic.locks(&place.access, &place.context).await.unwrap();
    assert_eq!(locks[0].info.host, "otherhost");
    let named = place.restic.unlock_named(&place.access, locks[0].short(), &place.context, |_| {}).await;
    assert_eq!((named.unwrap_err().code().name(), place.locks()), ("lock_alive", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_lock_does_not_keep_a_restore_from_what_it_reads() {
    let program = programs().remove(1);
    let mut place = Arc::into_inner(dead_lock(&program, "otherhost").await).unwrap();
    let snapshot = place.restic.snapshots(&place.access, &[], &place.context).await.unwrap()[0].id.clone();
    // An exclusive lock is one that a shared one can't be made beside; restic itself is told so here.
    let real = program.display();
    let strict = script(
        place.directory.path(),
        "strict",
        &format!(
            "case \" $* \" in *\" restore \"*--no-lock*) exec {real} \"$@\" ;; *\" restore \"*) echo 'unable to create lock in backend: repository is already locked exclusively by PID 9 on otherhost by root' >&2; exit 11 ;; *) exec {} \"$@\" ;; esac",
            late(&program, place.directory.path()).display()
        ),
    );
    place.restic = Restic::probe(Some(&strict)).await.unwrap().with_lock_wait(Duration::from_secs(1));
    let to = place.path("back");
    place.restic.restore(&place.access, &snapshot, &to, &[], &place.context, |_| {}).await.unwrap();
    assert_eq!(place.locks(), 1, "nothing was removed for it");
}

/// What every call comes to where no lock can be made; each within seconds.
async fn read_only(place: &Place, snapshot: &str) {
    let (restic, access, context) = (&place.restic, &place.access, &place.context);
    let start = std::time::Instant::now();
    restic.check(access, None, context).await.unwrap();
    restic.check(access, Some("100%"), context).await.unwrap();
    assert_eq!(restic.snapshots(access, &[], context).await.unwrap().len(), 1);
    restic.restore(access, snapshot, &place.path("back"), &[], context, |_| {}).await.unwrap();
    restic.list_files(access, snapshot, 10, context).await.unwrap();
    restic.unlock_own_dead(access, context).await.unwrap();
    for error in [
        restic.prune(access, context).await.unwrap_err(),
        restic.forget(access, &["d".repeat(64)], context).await.unwrap_err(),
        place.backup().await.unwrap_err(),
    ] {
        assert_eq!(error.code(), "not_writable", "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[tokio::test]
async fn every_call_on_a_read_only_repository_ends_at_once() {
    for program in programs() {
        let (place, disk, snapshot) = on_a_read_only_disk(&program).await;
        read_only(&place, &snapshot).await;
        drop(disk);
    }
}

#[tokio::test]
async fn every_call_on_a_repository_of_somebody_else_ends_at_once() {
    for program in programs() {
        let mut place = Place::opened(&program).await;
        place.write("a", "1");
        let snapshot = place.backup().await.unwrap().snapshot;
        // Root may write anywhere, so restic runs as nobody, who may only read.
        let root = place.directory.path().to_owned();
        let sh = |text: &str| assert!(std::process::Command::new("sh").args(["-c", text]).status().unwrap().success());
        sh(&format!(
            "cd {0} && chmod 755 . && chmod -R a+rX,a-w repo && mkdir back && chown -R nobody cache back src",
            root.display()
        ));
        let nobody = script(
            &root,
            "nobody",
            // A pipe of its own, since /dev/stdin opens root's only for root.
            &format!(
                "exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'cat | {} \"$@\"' sh \"$@\"",
                program.display()
            ),
        );
        place.restic = Restic::probe(Some(&nobody)).await.unwrap();
        read_only(&place, &snapshot).await;
    }
}
