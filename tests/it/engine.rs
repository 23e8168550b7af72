//! The restic engine with real restic, 0.18 and 0.19.

mod locks;
mod machine_key;
mod statistics;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder::config::model::Limits;
use larder::engine::{BackupReport, BackupRequest, EngineError, RepositoryAccess, Restic, job_tags, prove, run_tags};
use larder::process::{Context, Log, Redactor};
use larder::storage::Place as Storage;
use larder::types::site::SiteId;
use larder::types::{JobId, Name, RunId};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::support::disk::SmallDisk;
use crate::support::wait_for;

/// The newest restic of each series that is tested.
fn programs() -> Vec<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    ["restic-0.18.", "restic-0.19."]
        .iter()
        .map(|series| {
            let mut found: Vec<PathBuf> = std::fs::read_dir(&tools)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(series))
                .map(|entry| entry.path().join("restic"))
                .filter(|path| path.is_file())
                .collect();
            found.sort();
            found
                .pop()
                .unwrap_or_else(|| panic!("no {series}x in {}: run deploy/get-restic.sh 0.18 0.19", tools.display()))
        })
        .collect()
}

/// A place with a repository-to-be, a source tree and a log.
struct Place {
    directory: tempfile::TempDir,
    restic: Restic,
    access: RepositoryAccess,
    context: Context,
}

impl Place {
    async fn with(program: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("src")).unwrap();
        let restic = Restic::probe(Some(program)).await.unwrap().with_lock_wait(Duration::from_secs(1));
        let access = RepositoryAccess {
            destination: Name::parse("nas").unwrap(),
            location: root.join("repo").display().to_string(),
            place: Storage::Local(root.join("repo")),
            password: SecretString::from("hunter2 with spaces".to_owned()),
            expected_id: None,
            limits: Limits::default(),
            machine_key: true,
            restic_cache: larder::config::model::Cache::Own,
            cache: root.join("cache"),
        };
        let context = Context {
            cancel: CancellationToken::new(),
            log: Log::create(&root.join("log"), 1 << 20).unwrap(),
            redact: Redactor::default(),
            mark: format!("{}:run", ulid::Ulid::new()),
        };
        Self { directory, restic, access, context }
    }

    /// From now on the repository lies at `path`.
    fn lies_at(&mut self, path: PathBuf) {
        self.access.location = path.display().to_string();
        self.access.place = Storage::Local(path);
    }

    /// With a repository that is made and pinned.
    async fn opened(program: &Path) -> Self {
        let mut place = Self::with(program).await;
        place.pin().await;
        place
    }

    async fn pin(&mut self) {
        let id = self.restic.open_or_init(&self.access, &self.context).await.unwrap();
        self.access.expected_id = Some(id);
        self.restic.have_machine_key(&self.access, &self.context).await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path("src").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn request(&self) -> BackupRequest {
        BackupRequest {
            paths: vec![self.path("src")],
            tags: run_tags(&site(), &job(), RunId::generate(jiff::Timestamp::now()), None),
            host: "vault".to_owned(),
            ..BackupRequest::default()
        }
    }

    async fn backup(&self) -> Result<BackupReport, EngineError> {
        self.restic.backup(&self.access, &self.request(), &self.context, |_| {}).await
    }

    fn locks(&self) -> usize {
        std::fs::read_dir(self.path("repo/locks")).unwrap().count()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// The pids of restic processes that this place's engine runs.
    fn restics(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if String::from_utf8_lossy(&environment).contains(&self.context.mark) {
                found.extend(entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
            }
        }
        found
    }
}

fn site() -> SiteId {
    SiteId::parse("0123456789abcdef0123").unwrap()
}

fn job() -> JobId {
    "photos/daily".parse().unwrap()
}

fn kill(pid: i32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// What lies below `root`: path → kind and content, so that two trees can be compared bit for bit.
fn tree(root: &Path) -> Vec<(Vec<u8>, String, Vec<u8>)> {
    fn walk(root: &Path, at: &Path, found: &mut Vec<(Vec<u8>, String, Vec<u8>)>) {
        for entry in std::fs::read_dir(at).unwrap().flatten() {
            let path = entry.path();
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let kind = format!("{:?} {:o}", metadata.file_type(), metadata.permissions().mode());
            if metadata.is_symlink() {
                found.push((name, kind, std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()));
            } else if metadata.is_dir() {
                found.push((name, kind, vec![]));
                walk(root, &path, found);
            } else {
                found.push((name, kind, std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// Bytes that don't compress.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

#[tokio::test]
async fn a_program_that_is_missing_or_no_restic_or_too_old_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let fake = |name: &str, answer: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{answer}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let missing = Restic::probe(Some(Path::new("/no/such/restic"))).await.unwrap_err();
    assert_eq!(missing.code(), "restic_missing");
    assert!(missing.hint().unwrap().contains("deploy/get-restic.sh"));
    let old = fake("old", "echo 'restic 0.16.5 compiled with go1.21 on linux/amd64'");
    let error = Restic::probe(Some(&old)).await.unwrap_err();
    assert!(error.to_string().contains("0.16.5") && error.to_string().contains("0.17.0"), "{error}");
    assert_eq!(error.code(), "restic_too_old");
    assert!(error.to_string().contains(old.to_str().unwrap()), "{error}");
    assert!(error.hint().unwrap().contains("deploy/get-restic.sh"), "{error:?}");
    for answer in ["echo hello", "exit 1", "echo 'restic 0.19.0'; exit 3", "true"] {
        assert_eq!(Restic::probe(Some(&fake("other", answer))).await.unwrap_err().code(), "not_restic", "{answer}");
    }
    for program in programs() {
        let found = Restic::probe(Some(&program)).await.unwrap();
        assert!(found.version().starts_with("0.1"), "{}", found.version());
    }
}

#[tokio::test]
async fn a_whole_cycle_from_nothing_to_a_verified_restore() {
    for program in programs() {
        let place = Place::opened(&program).await;
        place.write("a file with spaces", "one");
        place.write("deep/er/ünï→\u{1f980}", "two");
        place.write("new\nline\ttab", "three");
        place.write("$HOME #quoted 'x' \"y\" [z] *?", "four");
        std::fs::write(place.path("src").join(OsStr::from_bytes(b"not-\xff-utf8")), "five").unwrap();
        std::fs::write(place.path("src/big"), noise(3_000_000, 7)).unwrap();
        std::fs::create_dir(place.path("src/empty")).unwrap();
        std::os::unix::fs::symlink("deep/er", place.path("src/link")).unwrap();
        std::os::unix::fs::symlink("/nowhere at all", place.path("src/dangling")).unwrap();
        std::fs::set_permissions(place.path("src/big"), std::fs::Permissions::from_mode(0o640)).unwrap();
        place.write("junk/x.tmp", "left out");
        place.write("#left out", "by its name");

        let mut request = place.request();
        request.excludes = vec!["*.tmp".to_owned(), "#left*".to_owned()];
        let first = place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap();
        assert!(!first.partial && first.unreadable.is_empty(), "{first:?}");
        assert_eq!((first.files_new, first.files), (6, 6));
        assert!(first.bytes_added > 2_900_000 && first.bytes_processed > 3_000_000, "{first:?}");

        request.parent = Some(first.snapshot.clone());
        let second = place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap();
        assert_eq!((second.files_new, second.files_changed, second.files_unmodified), (0, 0, 6));
        assert!(second.bytes_added < 10_000, "{second:?}");

        let snapshots = place.restic.snapshots(&place.access, &job_tags(&job()), &place.context).await.unwrap();
        assert_eq!(snapshots.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), [&first.snapshot, &second.snapshot]);
        assert_eq!((snapshots[1].host.as_str(), snapshots[1].tag("target")), ("vault", Some("photos")));
        assert_eq!(snapshots[1].parent.as_ref(), Some(&first.snapshot));

        std::fs::remove_file(place.path("src/junk/x.tmp")).unwrap();
        std::fs::remove_file(place.path("src/#left out")).unwrap();
        let to = place.path("restored/new");
        let report =
            place.restic.restore(&place.access, &second.snapshot, &to, &[], &place.context, |_| {}).await.unwrap();
        let restored = to.join(place.path("src").strip_prefix("/").unwrap());
        assert_eq!(tree(&restored), tree(&place.path("src")), "{}", program.display());
        assert!(report.bytes > 3_000_000 && report.items > 10, "{report:?}");

        let list = place.restic.list_files(&place.access, &second.snapshot, 1000, &place.context).await.unwrap();
        assert!(!list.truncated);
        let big = list.entries.iter().find(|entry| entry.path.ends_with("src/big")).unwrap();
        assert_eq!((big.bytes, big.kind.as_str()), (3_000_000, "file"));
        assert!(!place.log().contains("hunter2"), "{}", place.log());
    }
}

#[tokio::test]
async fn a_part_of_a_snapshot_comes_back_and_nothing_at_all_is_an_error() {
    for program in programs() {
        let place = Place::opened(&program).await;
        place.write("keep/one", "1");
        place.write("keep/two words", "2");
        place.write("other/three", "3");
        let snapshot = place.backup().await.unwrap().snapshot;
        let keep = place.path("src/keep").display().to_string();
        let to = place.path("part");
        place.restic.restore(&place.access, &snapshot, &to, &[keep], &place.context, |_| {}).await.unwrap();
        let restored = to.join(place.path("src").strip_prefix("/").unwrap());
        assert_eq!(tree(&restored.join("keep")), tree(&place.path("src/keep")));
        assert!(!restored.join("other").exists());

        let error = |to: &str, id: &str, include: &str| {
            let (to, id, include) = (place.path(to), id.to_owned(), vec![include.to_owned()]);
            let place = &place;
            async move {
                let done = place.restic.restore(&place.access, &id, &to, &include, &place.context, |_| {}).await;
                done.unwrap_err().code()
            }
        };
        assert_eq!(error("none", &snapshot, "/no/such/thing").await, "nothing_matches");
        assert_eq!(error("part", &snapshot, "*").await, "destination_not_empty");
        assert_eq!(error("gone", "0123456789abcdef", "*").await, "snapshot_missing");
        assert_eq!(error("gone", &"d".repeat(64), "*").await, "snapshot_missing");
        assert_eq!(error("gone2", "latest --target /", "*").await, "bad_snapshot_id");
        let gone = place.restic.list_files(&place.access, "0123456789abcdef", 10, &place.context).await;
        assert_eq!(gone.unwrap_err().code(), "snapshot_missing");
        let list = place.restic.list_files(&place.access, &snapshot, 2, &place.context).await.unwrap();
        assert_eq!((list.entries.len(), list.truncated), (2, true));
    }
}

#[tokio::test]
async fn exactly_the_named_snapshots_are_forgotten() {
    for program in programs() {
        let place = Place::opened(&program).await;
        place.write("a", "1");
        let mut made = Vec::new();
        for day in 1..=4 {
            let mut request = place.request();
            request.time = Some(format!("2026-01-0{day}T02:00:00Z").parse().unwrap());
            // The path may change over time; the job stays the same.
            if day > 2 {
                request.paths = vec![place.path("src/a")];
            }
            made.push(place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap().snapshot);
        }
        let mut others = Vec::new();
        for tags in [vec!["larder".into(), "target:photos".into()], vec!["policy:daily".to_owned()], vec![]] {
            let request = BackupRequest { tags, ..place.request() };
            others.push(place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap().snapshot);
        }
        for bad in ["latest", "--keep-last=1", &made[0][..8]] {
            let refused = place.restic.forget(&place.access, &[bad.to_owned()], &place.context).await;
            assert_eq!(refused.unwrap_err().code(), "bad_snapshot_id", "{bad}");
        }
        place.restic.forget(&place.access, &[], &place.context).await.unwrap();
        place.restic.forget(&place.access, &made[..2], &place.context).await.unwrap();
        // Again, as after a kill in between: what is gone is gone.
        place.restic.forget(&place.access, &made[..2], &place.context).await.unwrap();
        let left = place.restic.snapshots(&place.access, &[], &place.context).await.unwrap();
        let left: Vec<&String> = left.iter().map(|snapshot| &snapshot.id).collect();
        assert_eq!(left.len(), 5);
        assert!(others.iter().chain(&made[2..]).all(|id| left.contains(&id)));
        // Exact instants, in UTC, whatever the machine's zone.
        let ours = place.restic.snapshots(&place.access, &job_tags(&job()), &place.context).await.unwrap();
        assert_eq!(ours[0].time, "2026-01-03T02:00:00Z".parse().unwrap());

        let prune = place.restic.prune(&place.access, &place.context).await.unwrap();
        assert!(prune.lines.iter().any(|line| line.starts_with("total prune:")), "{prune:?}");
        place.restic.check(&place.access, Some("100%"), &place.context).await.unwrap();
        assert_eq!(place.locks(), 0);
    }
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_wrong() {
    for program in programs() {
        let mut place = Place::opened(&program).await;
        place.write("a", "1");
        place.access.password = SecretString::from("not it".to_owned());
        assert_eq!(place.backup().await.unwrap_err().code(), "wrong_password");
        let error = place.restic.snapshots(&place.access, &[], &place.context).await.unwrap_err();
        assert_eq!(error.code(), "wrong_password");
        assert!(!format!("{error} {error:?}").contains("not it"));
        place.access.expected_id = None;
        let error = place.restic.open_or_init(&place.access, &place.context).await.unwrap_err();
        assert_eq!(error.code(), "wrong_password");
    }
}

#[tokio::test]
async fn a_repository_that_vanished_or_was_swapped_is_never_made_anew() {
    for program in programs() {
        let mut place = Place::opened(&program).await;
        place.write("a", "1");
        place.backup().await.unwrap();
        let expected = place.access.expected_id.clone().unwrap();
        assert_eq!(place.restic.open_or_init(&place.access, &place.context).await.unwrap(), expected);

        // Absent, then an empty directory (an unmounted disk), then another repository.
        std::fs::rename(place.path("repo"), place.path("away")).unwrap();
        for _ in 0..2 {
            for error in [
                place.restic.open_or_init(&place.access, &place.context).await.unwrap_err(),
                place.backup().await.unwrap_err(),
                place.restic.prune(&place.access, &place.context).await.unwrap_err(),
                place.restic.snapshots(&place.access, &[], &place.context).await.unwrap_err(),
            ] {
                assert_eq!(error.code(), "repository_missing", "{error}");
                assert!(error.hint().unwrap().contains("mounted"));
            }
            let _ = std::fs::create_dir(place.path("repo"));
            assert_eq!(std::fs::read_dir(place.path("repo")).unwrap().count(), 0, "nothing may be made there");
        }
        place.access.expected_id = None;
        let other = place.restic.open_or_init(&place.access, &place.context).await.unwrap();
        assert_ne!(other, expected);
        place.access.expected_id = Some(expected.clone());
        for error in [
            place.restic.open_or_init(&place.access, &place.context).await.unwrap_err(),
            place.backup().await.unwrap_err(),
            place.restic.forget(&place.access, &["d".repeat(64)], &place.context).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), "repository_replaced");
            assert!(error.to_string().contains(&expected) && error.to_string().contains(&other), "{error}");
        }
        // And back.
        std::fs::remove_dir_all(place.path("repo")).unwrap();
        std::fs::rename(place.path("away"), place.path("repo")).unwrap();
        place.backup().await.unwrap();
    }
}

#[tokio::test]
async fn a_repository_is_made_only_where_there_is_room_for_one() {
    let program = programs().remove(1);
    let mut place = Place::with(&program).await;
    place.lies_at(place.path("not/there"));
    let error = place.restic.open_or_init(&place.access, &place.context).await.unwrap_err();
    assert_eq!(error.code(), "repository_parent_missing");
    assert!(error.hint().unwrap().contains("mounted") && !place.path("not").exists());
    place.write("a", "somebody's file");
    for taken in ["src", "src/a"] {
        place.lies_at(place.path(taken));
        let error = place.restic.open_or_init(&place.access, &place.context).await.unwrap_err();
        assert_eq!(error.code(), "not_a_repository", "{error}");
    }
    std::fs::create_dir(place.path("empty")).unwrap();
    place.lies_at(place.path("empty"));
    let made = place.restic.open_or_init(&place.access, &place.context).await.unwrap();
    // The second time it is found, not made; two at once agree.
    let (one, two) = tokio::join!(
        place.restic.open_or_init(&place.access, &place.context),
        place.restic.open_or_init(&place.access, &place.context)
    );
    assert_eq!((one.unwrap(), two.unwrap()), (made.clone(), made));
}

#[tokio::test]
async fn several_that_make_one_repository_at_once_agree_on_it() {
    for program in programs() {
        let place = Place::with(&program).await;
        for round in 0..3 {
            let shared = place.path(&format!("shared-{round}"));
            let location = shared.display().to_string();
            let each = |number: u32| RepositoryAccess {
                location: location.clone(),
                place: Storage::Local(shared.clone()),
                cache: place.path(&format!("cache-{round}-{number}")),
                ..place.access.clone()
            };
            let (one, two, three) = (each(1), each(2), each(3));
            let (one, two, three) = tokio::join!(
                place.restic.open_or_init(&one, &place.context),
                place.restic.open_or_init(&two, &place.context),
                place.restic.open_or_init(&three, &place.context)
            );
            let ids = [one.unwrap(), two.unwrap(), three.unwrap()];
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
            let access = RepositoryAccess { expected_id: Some(ids[0].clone()), ..each(4) };
            assert_eq!(place.restic.snapshots(&access, &[], &place.context).await.unwrap().len(), 0);
            let left = std::fs::read_dir(&location).unwrap().flatten().map(|entry| entry.file_name());
            assert!(
                left.filter(|name| name.to_string_lossy().contains("larder")).count() == 0,
                "nothing of ours stays"
            );
        }
    }
}

#[tokio::test]
async fn a_restore_that_restic_only_tells_of_is_not_believed() {
    for program in programs() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::opened(&liar(&program, directory.path())).await;
        place.write("a", "something");
        let snapshot = place.backup().await.unwrap().snapshot;
        let summary =
            r#"{"message_type":"summary","total_files":3,"files_restored":3,"total_bytes":9,"bytes_restored":9}"#;
        std::fs::write(directory.path().join("answer"), summary).unwrap();
        std::fs::write(directory.path().join("garble"), "restore").unwrap();
        let to = place.path("to");
        let told = place.restic.restore(&place.access, &snapshot, &to, &[], &place.context, |_| {}).await;
        assert_eq!(told.unwrap_err().code(), "restore_incomplete");
    }
}

#[tokio::test]
async fn what_cannot_be_read_makes_a_backup_partial_and_is_named() {
    for program in programs() {
        let place = Place::opened(&program).await;
        place.write("good", "1");
        let mut request = place.request();
        // Reading a process's memory at address 0 fails, also for root.
        let memory = PathBuf::from(format!("/proc/{}/mem", std::process::id()));
        request.paths.extend([memory.clone(), place.path("gone")]);
        let report = place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap();
        assert!(report.partial, "{report:?}");
        assert_eq!(report.unreadable_total, 2, "{report:?}");
        assert!(report.unreadable[0].starts_with(&format!("{}: is not there", place.path("gone").display())));
        assert!(report.unreadable[1].starts_with(memory.to_str().unwrap()), "{report:?}");
        assert_eq!(report.snapshot.len(), 64);

        request.paths = vec![place.path("gone"), place.path("gone too")];
        let error = place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap_err();
        assert_eq!(error.code(), "source_missing");
        request.paths = vec!["relative".into()];
        let error = place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap_err();
        assert_eq!(error.code(), "relative_path");
    }
}

#[tokio::test]
async fn a_parent_that_is_gone_is_left_out() {
    for program in programs() {
        let place = Place::opened(&program).await;
        place.write("a", "1");
        let mut request = place.request();
        request.parent = Some("d".repeat(64));
        let report = place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap();
        assert!(!report.partial && place.log().contains("going on without"), "{report:?}");
        request.parent = Some("--force".to_owned());
        let error = place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap_err();
        assert_eq!(error.code(), "bad_snapshot_id");
    }
}

/// A restic that holds a lock, since it reads from a pipe that nobody closes; started by hand, not by the engine.
struct Holder {
    child: std::process::Child,
}

impl Holder {
    fn start(program: &Path, place: &Place) -> Self {
        let file = place.path("password");
        std::fs::write(&file, "hunter2 with spaces").unwrap();
        let mut command = std::process::Command::new(program);
        command
            .args(["backup", "--stdin", "--cache-dir"])
            .arg(place.path("cache2"))
            .stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.env("RESTIC_PASSWORD_FILE", file).env("RESTIC_REPOSITORY", place.path("repo"));
        let holder = Self { child: command.spawn().unwrap() };
        wait_for("the lock", Duration::from_secs(30), || (place.locks() == 1).then_some(()));
        // The lock's file appears before restic is sure of it.
        std::thread::sleep(Duration::from_millis(300));
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_live_lock_is_respected_and_named() {
    for program in programs() {
        let place = Place::opened(&program).await;
        let mut holder = Holder::start(&program, &place);
        let error = place.restic.prune(&place.access, &place.context).await.unwrap_err();
        assert_eq!(error.code(), "repository_locked");
        assert!(error.to_string().contains(&format!("PID {}", holder.child.id())), "{error}");
        let unlocked = place.restic.unlock_own_dead(&place.access, &place.context).await.unwrap();
        assert_eq!((unlocked.removed.len(), unlocked.left.len(), place.locks()), (0, 1, 1));
        // Backups share.
        place.write("a", "1");
        place.backup().await.unwrap();
        // One that dies without us knowing it as ours is not proven to be ours: it stays.
        holder.child.kill().unwrap();
        holder.child.wait().unwrap();
        let unlocked = place.restic.unlock_own_dead(&place.access, &place.context).await.unwrap();
        assert_eq!((unlocked.removed.len(), place.locks()), (0, 1));
    }
}

#[tokio::test]
async fn a_lock_is_waited_for() {
    let program = programs().remove(1);
    let place = Place::opened(&program).await;
    let mut holder = Holder::start(&program, &place);
    let patient = place.restic.with_lock_wait(Duration::from_mins(1));
    let release = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(holder.child.stdin.take());
        holder.child.wait().unwrap();
    };
    let (pruned, ()) = tokio::join!(patient.prune(&place.access, &place.context), release);
    pruned.unwrap();
}

/// Starts a backup that never ends by itself (it reads a pipe), and calls `then` once restic holds its lock.
async fn interrupted_backup(place: &Arc<Place>, then: impl FnOnce(&Place)) -> Result<BackupReport, EngineError> {
    std::fs::write(place.path("src/big"), noise(64 << 20, 3)).unwrap();
    let running = Arc::clone(place);
    // Slow enough that it can't be over before it is interrupted.
    let slow = Limits { upload: Some("256KiB".parse().unwrap()), ..Limits::default() };
    let access = RepositoryAccess { limits: slow, ..place.access.clone() };
    let run =
        tokio::spawn(async move { running.restic.backup(&access, &running.request(), &running.context, |_| {}).await });
    let data = place.path("repo/data");
    tokio::task::block_in_place(|| {
        wait_for("the lock", Duration::from_mins(1), || (place.locks() > 0 && data.exists()).then_some(()));
        std::thread::sleep(Duration::from_millis(500));
        then(place);
    });
    let result = run.await.unwrap();
    std::fs::remove_file(place.path("src/big")).unwrap();
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_backup_leaves_no_child_and_no_lock() {
    for program in programs() {
        let mut place = Place::opened(&program).await;
        place.write("a", "1");
        let cancelled = Arc::new(place);
        let error = interrupted_backup(&cancelled, |place| place.context.cancel.cancel()).await.unwrap_err();
        assert_eq!(error.code(), "cancelled");
        assert_eq!((cancelled.restics(), cancelled.locks()), (vec![], 0));
        place = Arc::into_inner(cancelled).unwrap();
        place.context.cancel = CancellationToken::new();
        place.backup().await.unwrap();
        place.restic.prune(&place.access, &place.context).await.unwrap();
        place.restic.check(&place.access, Some("100%"), &place.context).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_killed_backup_the_next_one_succeeds_and_its_lock_is_removed() {
    for program in programs() {
        let place = Place::opened(&program).await;
        place.write("a", "1");
        let place = Arc::new(place);
        let error = interrupted_backup(&place, |place| place.restics().into_iter().for_each(kill)).await.unwrap_err();
        assert!(error.to_string().contains("signal 9"), "{error}");
        assert_eq!((place.restics(), place.locks()), (vec![], 1), "a killed restic leaves its lock");
        place.backup().await.unwrap();
        // Needs the repository for itself: the dead lock is found, proven ours, and removed.
        place.restic.prune(&place.access, &place.context).await.unwrap();
        assert!(place.log().contains("removed the lock of our dead process"), "{}", place.log());
        assert_eq!(place.locks(), 0);
        place.restic.check(&place.access, None, &place.context).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_has_a_deadline() {
    let program = programs().remove(1);
    let place = Place::opened(&program).await;
    let place = Place { restic: place.restic.with_deadline(Duration::from_secs(4)), ..place };
    let place = Arc::new(place);
    let error = interrupted_backup(&place, |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "deadline_exceeded", "{error}");
    assert_eq!((place.restics(), place.locks()), (vec![], 0));
}

#[tokio::test]
async fn a_backup_whose_figures_stand_still_is_ended() {
    let program = programs().remove(1);
    let place = Place::opened(&program).await;
    // A stopped restic says nothing any more, as one whose disk hangs.
    std::fs::write(place.path("src/big"), noise(32 << 20, 3)).unwrap();
    let impatient = place.restic.with_stall(Duration::from_secs(8));
    let request = place.request();
    let stop = async {
        let pid = loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let (Some(pid), true) = (place.restics().first().copied(), place.locks() > 0) {
                break pid;
            }
        };
        assert!(std::process::Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap().success());
    };
    let slow = Limits { upload: Some("64KiB".parse().unwrap()), ..Limits::default() };
    let access = RepositoryAccess { limits: slow, ..place.access.clone() };
    let stop = tokio::time::timeout(Duration::from_mins(2), stop);
    let (result, stopped) = tokio::join!(impatient.backup(&access, &request, &place.context, |_| {}), stop);
    stopped.expect("restic was never seen with its lock");
    assert_eq!(result.unwrap_err().code(), "no_progress");
    assert_eq!(place.restics(), [0; 0]);
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full() {
    for program in programs() {
        let mut place = Place::with(&program).await;
        let disk = SmallDisk::mount(place.path("disk"), "3m");
        place.lies_at(place.path("disk/repo"));
        place.pin().await;
        place.write("a", "1");
        place.backup().await.unwrap();
        std::fs::write(place.path("src/big"), noise(24 << 20, 5)).unwrap();
        let error = place.backup().await.unwrap_err();
        assert_eq!(error.code(), "disk_full", "{error}");
        assert!(error.hint().unwrap().contains("prune"), "{error}");
        std::fs::remove_file(place.path("src/big")).unwrap();
        drop(disk);
        let error = place.backup().await.unwrap_err();
        assert_eq!(error.code(), "repository_missing", "the unmounted disk is not filled");
    }
}

#[tokio::test]
async fn a_restore_onto_a_full_disk_says_so() {
    for program in programs() {
        let place = Place::opened(&program).await;
        std::fs::write(place.path("src/big"), noise(6 << 20, 5)).unwrap();
        let snapshot = place.backup().await.unwrap().snapshot;
        let disk = SmallDisk::mount(place.path("disk"), "2m");
        let to = place.path("disk/to");
        let error = place.restic.restore(&place.access, &snapshot, &to, &[], &place.context, |_| {}).await.unwrap_err();
        assert_eq!(error.code(), "disk_full", "{error}");
        assert!(error.to_string().contains(&to.display().to_string()), "{error}");
        let hint = error.hint().unwrap();
        assert!(!hint.contains("prune") && hint.contains("another disk"), "it is not the repository's disk: {hint}");
        drop(disk);
    }
}

/// A place whose repository has one snapshot and lies on a disk that is read-only by now.
async fn on_a_read_only_disk(program: &Path) -> (Place, SmallDisk, String) {
    let mut place = Place::with(program).await;
    let disk = SmallDisk::mount(place.path("disk"), "8m");
    place.lies_at(place.path("disk/repo"));
    place.pin().await;
    place.write("a", "1");
    let snapshot = place.backup().await.unwrap().snapshot;
    disk.read_only();
    (place, disk, snapshot)
}

#[tokio::test]
async fn a_read_only_repository_can_be_read_and_refuses_a_backup_with_the_reason() {
    for program in programs() {
        let (place, disk, snapshot) = on_a_read_only_disk(&program).await;
        let error = place.backup().await.unwrap_err();
        assert_eq!(error.code(), "not_writable", "{error}");
        assert_eq!(place.restic.snapshots(&place.access, &[], &place.context).await.unwrap().len(), 1);
        let to = place.path("back");
        place.restic.restore(&place.access, &snapshot, &to, &[], &place.context, |_| {}).await.unwrap();
        drop(disk);
    }
}

#[tokio::test]
async fn damage_is_found_by_check_and_by_restore() {
    for program in programs() {
        let place = Place::opened(&program).await;
        std::fs::write(place.path("src/big"), noise(2 << 20, 9)).unwrap();
        let snapshot = place.backup().await.unwrap().snapshot;
        // One bit of the largest pack.
        let mut packs = Vec::new();
        for directory in std::fs::read_dir(place.path("repo/data")).unwrap().flatten() {
            packs.extend(std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.path()));
        }
        let pack = packs.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let mut bytes = std::fs::read(&pack).unwrap();
        bytes[1000] ^= 1;
        std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(&pack, bytes).unwrap();
        let error = place.restic.check(&place.access, Some("100%"), &place.context).await.unwrap_err();
        assert_eq!(error.code(), "repository_damaged", "{error}");
        let to = place.path("to");
        let error = place.restic.restore(&place.access, &snapshot, &to, &[], &place.context, |_| {}).await.unwrap_err();
        assert!(["restore_incomplete", "repository_damaged"].contains(&error.code().name()), "{error}");
    }
}

#[tokio::test]
async fn progress_is_reported_and_figures_are_sane() {
    let program = programs().remove(1);
    let place = Place::opened(&program).await;
    std::fs::write(place.path("src/big"), noise(4 << 20, 11)).unwrap();
    let slow = Limits { upload: Some("1MiB".parse().unwrap()), ..Limits::default() };
    let access = RepositoryAccess { limits: slow, ..place.access.clone() };
    let mut seen = Vec::new();
    place.restic.backup(&access, &place.request(), &place.context, |progress| seen.push(progress)).await.unwrap();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|progress| (0.0..=1.0).contains(&progress.fraction)));
    assert!(seen.iter().any(|progress| progress.bytes_total == 4 << 20), "{seen:?}");
}

/// A restic that answers one operation with what the file `answer` holds and says that all went well; any other is done
/// by the real one. Which operation it is stands in the file `garble`.
fn liar(program: &Path, directory: &Path) -> PathBuf {
    let path = directory.join("restic");
    let root = directory.display();
    let script = format!(
        "#!/bin/sh\noperation=$(cat '{root}/garble')\nfor word in \"$@\"; do\n  if [ \"$word\" = \"$operation\" ]; then cat >/dev/null; exec cat '{root}/answer'; fi\ndone\nexec '{}' \"$@\"\n",
        program.canonicalize().unwrap().display()
    );
    std::fs::write(directory.join("garble"), "nothing").unwrap();
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_no_success_whatever_the_exit_code_says() {
    for program in programs() {
        let directory = tempfile::tempdir().unwrap();
        let program = liar(&program, directory.path());
        let mut place = Place::with(&program).await;
        place.write("a", "1");
        for answer in ["", "Killed by the watchdog\n", "[1, {\"id\": 2}]\n", "{\"message_type\": \"new\"}\n"] {
            std::fs::write(directory.path().join("answer"), answer).unwrap();
            let garble = |operation: &str| std::fs::write(directory.path().join("garble"), operation).unwrap();
            let mut garbled: Vec<(&str, EngineError)> = Vec::new();

            garble("init");
            let _ = std::fs::remove_dir_all(place.path("repo"));
            let _ = std::fs::remove_dir_all(place.path("cache"));
            place.access.expected_id = None;
            garbled.push(("init", place.restic.open_or_init(&place.access, &place.context).await.unwrap_err()));
            garble("nothing");
            place.pin().await;
            let snapshot = place.backup().await.unwrap().snapshot;

            garble("cat");
            let unpinned = RepositoryAccess { expected_id: None, ..place.access.clone() };
            garbled.push(("cat config", place.restic.open_or_init(&unpinned, &place.context).await.unwrap_err()));
            garble("backup");
            garbled.push(("backup", place.backup().await.unwrap_err()));
            garble("snapshots");
            garbled.push(("snapshots", place.restic.snapshots(&place.access, &[], &place.context).await.unwrap_err()));
            garble("ls");
            let listed = place.restic.list_files(&place.access, &snapshot, 10, &place.context).await;
            if !answer.contains("message_type") {
                garbled.push(("ls", listed.unwrap_err()));
            }
            garble("find");
            garbled.push(("find", place.restic.find(&place.access, "a", &[], 10, &place.context).await.unwrap_err()));
            garble("check");
            garbled.push(("check", place.restic.check(&place.access, None, &place.context).await.unwrap_err()));
            garble("restore");
            let to = place.path("to");
            let restored = place.restic.restore(&place.access, &snapshot, &to, &[], &place.context, |_| {}).await;
            garbled.push(("restore", restored.unwrap_err()));
            garble("forget");
            // It says nothing also when all is well; the repository itself does.
            let forgotten = place.restic.forget(&place.access, std::slice::from_ref(&snapshot), &place.context).await;
            assert_eq!(forgotten.unwrap_err().code(), "snapshots_still_there");
            for (operation, error) in garbled {
                assert_eq!(error.code(), "restic_garbled", "{operation} with {answer:?}: {error}");
                assert!(error.to_string().contains(operation), "{operation}: {error}");
                assert!(error.hint().unwrap().contains("log"), "{error:?}");
            }
            std::fs::remove_dir_all(place.path("to")).unwrap();
        }
    }
}

/// What an answer of `backup` is, with one of its figures or words changed.
fn answered(change: impl Fn(&mut serde_json::Value)) -> String {
    let mut summary = serde_json::json!({
        "message_type": "summary", "files_new": 1, "files_changed": 0, "files_unmodified": 0, "data_added": 9,
        "data_added_packed": 9, "total_files_processed": 1, "total_bytes_processed": 1, "snapshot_id": "e".repeat(64),
    });
    change(&mut summary);
    format!("{summary}\n")
}

#[tokio::test]
async fn figures_that_are_none_and_complaints_before_an_exit_code_of_0_are_no_success() {
    let program = programs().remove(1);
    let directory = tempfile::tempdir().unwrap();
    let place = Place::opened(&liar(&program, directory.path())).await;
    place.write("a", "1");
    let snapshot = place.backup().await.unwrap().snapshot;
    let say = |operation: &str, answer: &str| {
        std::fs::write(directory.path().join("answer"), answer).unwrap();
        std::fs::write(directory.path().join("garble"), operation).unwrap();
    };
    for (field, value) in [
        ("files_new", serde_json::json!(-1)),
        ("total_files_processed", serde_json::json!("1")),
        ("total_bytes_processed", serde_json::json!(1.5)),
        ("data_added_packed", serde_json::json!(null)),
        ("snapshot_id", serde_json::json!(7)),
        ("snapshot_id", serde_json::json!("e".repeat(63))),
        ("total_files_processed", serde_json::json!(5)),
    ] {
        say("backup", &answered(|summary| summary[field] = value.clone()));
        assert_eq!(place.backup().await.unwrap_err().code(), "restic_garbled", "{field}: {value}");
    }
    let complaints = [
        r#"{"message_type":"exit_error","code":1,"message":"Fatal: unable to save snapshot"}"#,
        r#"{"message_type":"exit_error","code":0,"message":"nothing was done"}"#,
    ];
    for complaint in complaints {
        for (operation, answer) in [
            ("backup", answered(|_| {})),
            ("snapshots", "[]\n".to_owned()),
            ("forget", String::new()),
            ("check", "{\"message_type\":\"summary\",\"num_errors\":0}\n".to_owned()),
            ("restore", "{\"message_type\":\"summary\",\"total_files\":1,\"files_restored\":1}\n".to_owned()),
            ("prune", String::new()),
        ] {
            say(operation, &format!("{answer}{complaint}\n"));
            let to = place.path(&format!("to-{operation}"));
            let (restic, access, context) = (&place.restic, &place.access, &place.context);
            let failed = match operation {
                "backup" => place.backup().await.err(),
                "snapshots" => restic.snapshots(access, &[], context).await.err(),
                "forget" => restic.forget(access, &["e".repeat(64)], context).await.err(),
                "check" => restic.check(access, None, context).await.err(),
                "restore" => restic.restore(access, &snapshot, &to, &[], context, |_| {}).await.err(),
                _ => restic.prune(access, context).await.err(),
            };
            let error = failed.unwrap_or_else(|| panic!("{operation} is a success with {complaint}"));
            assert!(["restic_failed", "repository_damaged"].contains(&error.code().name()), "{operation}: {error}");
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_proven_by_what_the_repository_lists() {
    for program in programs() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::opened(&liar(&program, directory.path())).await;
        place.write("deep/a", "1");
        let mut request = place.request();
        request.paths = vec![place.path("src/./deep/../deep"), place.path("gone")];
        request.time = Some("2026-01-02T03:04:05.6Z".parse().unwrap());
        let report = place.restic.backup(&place.access, &request, &place.context, |_| {}).await.unwrap();
        let listing = place.restic.snapshots(&place.access, &[], &place.context).await.unwrap();
        prove(&place.access, &request, &report, &listing).unwrap();
        let other = BackupReport { snapshot: "e".repeat(64), ..report.clone() };
        assert_eq!(prove(&place.access, &request, &other, &listing).unwrap_err().code(), "snapshot_unseen");
        let more = BackupReport { files: 2, ..report };
        assert_eq!(prove(&place.access, &request, &more, &listing).unwrap_err().code(), "snapshot_differs");
    }
}

#[tokio::test]
async fn a_restore_that_left_something_out_is_incomplete_though_restic_was_content() {
    let program = programs().remove(1);
    let directory = tempfile::tempdir().unwrap();
    let place = Place::opened(&liar(&program, directory.path())).await;
    place.write("a", "1");
    let snapshot = place.backup().await.unwrap().snapshot;
    let answer = "{\"message_type\":\"summary\",\"total_files\":7,\"files_restored\":5,\"total_bytes\":90,\"bytes_restored\":40}\n";
    std::fs::write(directory.path().join("answer"), answer).unwrap();
    std::fs::write(directory.path().join("garble"), "restore").unwrap();
    let to = place.path("to");
    let error = place.restic.restore(&place.access, &snapshot, &to, &[], &place.context, |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "restore_incomplete");
    assert_eq!(error.to_string(), "2 of the restored items failed: 40 of 90 bytes");
}

#[tokio::test]
async fn a_place_of_our_own_that_cannot_be_made_is_named() {
    let program = programs().remove(1);
    let mut place = Place::opened(&program).await;
    place.write("a", "1");
    let snapshot = place.backup().await.unwrap().snapshot;
    // A file stands where a directory is wanted; that stops root too.
    let to = place.path("src/a/to");
    let error = place.restic.restore(&place.access, &snapshot, &to, &[], &place.context, |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "files");
    assert!(error.to_string().contains(to.to_str().unwrap()) && error.hint().is_some(), "{error}");
    place.access.cache = place.path("src/a/cache");
    let error = place.backup().await.unwrap_err();
    assert_eq!(error.code(), "files", "{error}");
    assert!(error.to_string().contains("src/a/cache"), "{error}");
}
