//! How much lies in a repository, by real restic.

use super::*;

/// Two snapshots, of which the second adds one file; with their ids.
async fn two(place: &Place) -> [String; 2] {
    place.write("text", &"a line that is there very often\n".repeat(10_000));
    let first = place.backup().await.unwrap().snapshot;
    place.write("more", &"another line\n".repeat(10_000));
    [first, place.backup().await.unwrap().snapshot]
}

#[tokio::test]
async fn what_some_snapshots_need_is_counted_once_and_what_is_not_there_is_no_zero() {
    for program in programs() {
        let place = Place::opened(&program).await;
        let [first, second] = two(&place).await;
        let (restic, access, context) = (&place.restic, &place.access, &place.context);
        let one = restic.needed(access, &[&first], context).await.unwrap();
        let both = restic.needed(access, &[&first, &second], context).await.unwrap();
        assert_eq!((one.snapshots, both.snapshots), (1, 2));
        assert!((320_000..330_000).contains(&one.uncompressed) && one.stored < 10_000, "{one:?}");
        assert!((450_000..470_000).contains(&both.uncompressed) && both.stored < 20_000, "{both:?}");
        assert_eq!(restic.restore_size(access, &[&first, &second], context).await.unwrap(), 320_000 + 450_000);
        assert_eq!(restic.needed(access, &[], context).await.unwrap(), larder::engine::Needed::default());
        let gone = "ab".repeat(32);
        match restic.needed(access, &[&first, &gone], context).await {
            Err(EngineError::SnapshotMissing { id, .. }) => assert_eq!(id, gone),
            other => panic!("{other:?}"),
        }
        for bad in ["latest", "--password-file", &first[..8]] {
            let refused = restic.needed(access, &[bad], context).await;
            assert!(matches!(refused, Err(EngineError::SnapshotId { .. })), "{bad}: {refused:?}");
        }
        assert_eq!(place.locks(), 0);
    }
}

#[tokio::test]
async fn a_trial_says_what_would_go_and_nothing_goes() {
    for program in programs() {
        let place = Place::opened(&program).await;
        let [_, second] = two(&place).await;
        let (restic, access, context) = (&place.restic, &place.access, &place.context);
        let before = tree(&place.path("repo"));
        let none = restic.would_free(access, &[], context).await.unwrap();
        assert_eq!((none.freed, none.unused), (0, 0));
        let some = restic.would_free(access, std::slice::from_ref(&second), context).await.unwrap();
        assert!(some.freed > 0, "{some:?}");
        assert!(tree(&place.path("repo")) == before, "a trial changed the repository");
        restic.forget(access, &[second], context).await.unwrap();
        let waiting = restic.would_free(access, &[], context).await.unwrap();
        assert_eq!(waiting, some, "it is the same that waits for a prune then");
        restic.prune(access, context).await.unwrap();
        assert_eq!(restic.would_free(access, &[], context).await.unwrap().freed, 0);
    }
}

#[tokio::test]
async fn nobody_elses_lock_is_in_the_way() {
    for program in programs() {
        let place = Place::opened(&program).await;
        let [first, second] = two(&place).await;
        let (restic, access, context) = (&place.restic, &place.access, &place.context);
        let mut holder = halted(&program, &place);
        let needed = restic.needed(access, &[&first, &second], context).await;
        let tried = restic.would_free(access, &[first], context).await;
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(needed.is_ok() && tried.is_ok(), "{needed:?} {tried:?}");
    }
}

/// Somebody's prune that stands still with its exclusive lock.
fn halted(program: &Path, place: &Place) -> std::process::Child {
    for _ in 0..20 {
        let mut holder = std::process::Command::new(program)
            .args(["-r", &place.access.location, "--no-cache", "prune"])
            .env("RESTIC_PASSWORD", "hunter2 with spaces")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the lock, or the end", Duration::from_secs(60), || {
            (place.locks() > 0 || holder.try_wait().unwrap().is_some()).then_some(())
        });
        std::process::Command::new("kill").args(["-STOP", &holder.id().to_string()]).status().unwrap();
        if place.locks() > 0 && holder.try_wait().unwrap().is_none() {
            return holder;
        }
        let _ = holder.kill();
        holder.wait().unwrap();
    }
    panic!("no prune could be halted");
}
