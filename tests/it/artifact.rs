//! Artifacts on real file systems: mounts, a full disk, `kill -9`, and the committed schema.
//!
//! Tests that need a mount run again in a child with mount and user namespaces of its own (`unshare`), so nothing
//! outside sees the mount and no privileges are needed.

use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use larder::artifact::manifest::Manifest;
use larder::artifact::{ArtifactError, PublishRequest, Shelf};
use larder::config::model::Artifacts;
use larder::plugin::Captured;
use larder::types::{ByteSize, Name, RunId};

/// Set in the child that a test started of itself.
const CHILD: &str = "LARDER_TEST_CHILD";

fn shelf(path: &Path, require_mount: bool) -> Shelf {
    Shelf::new(&Artifacts { path: path.to_owned(), require_mount, min_free: ByteSize(0), keep_runs: 3 })
}

fn request(now: jiff::Timestamp) -> PublishRequest {
    PublishRequest {
        site: None,
        run: RunId::generate(now),
        job: "db/daily".parse().unwrap(),
        started: now,
        timezone: "Asia/Singapore".to_owned(),
        revision: None,
        plugin: Name::parse("sqlite").unwrap(),
        captured: Captured::default(),
        validations: Vec::new(),
    }
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn code(shelf: &Shelf) -> Option<String> {
    shelf.ready().err().map(|trouble| trouble.code)
}

/// This very test once more, in a child.
fn again(test: &str, within: &[&str], directory: &Path) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match within {
        [] => Command::new(exe),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(exe);
            command
        }
    };
    command
        .args([&format!("artifact::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, directory)
        .stdin(Stdio::null());
    command
}

/// Runs `body` with a private mount table and asserts that it passed there.
fn in_a_mount_namespace(test: &str, body: fn(&Path)) {
    if let Some(directory) = std::env::var_os(CHILD) {
        body(Path::new(&directory));
        println!("the body ran");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = again(test, &["unshare", "--user", "--map-root-user", "--mount"], directory.path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("the body ran"), "{said}");
}

fn mount(args: &[&str], at: &Path) {
    let output = Command::new("mount").args(args).arg(at).output().unwrap();
    assert!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_mount_is_required_where_it_is_asked_for_and_a_bind_mount_counts() {
    in_a_mount_namespace("a_mount_is_required_where_it_is_asked_for_and_a_bind_mount_counts", |directory| {
        let disk = directory.join("my disk");
        let root = disk.join("backups");
        std::fs::create_dir_all(&root).unwrap();
        let shelf = shelf(&root, true);
        if larder::artifact::mount::holds(directory).unwrap() {
            // The temporary directory itself is a mount here: what is below it counts as mounted.
            assert_eq!(code(&shelf), None);
        } else {
            assert_eq!(code(&shelf).as_deref(), Some("artifacts_unmounted"));
            assert!(matches!(
                shelf.stage(RunId::generate(jiff::Timestamp::UNIX_EPOCH)),
                Err(ArtifactError::Unmounted(_))
            ));
            assert!(std::fs::read_dir(&root).unwrap().next().is_none(), "something was written into the mount point");
        }
        let other = directory.join("other");
        std::fs::create_dir_all(other.join("backups")).unwrap();
        mount(&["--bind", other.to_str().unwrap()], &disk);
        assert_eq!(code(&shelf), None, "a bind mount of the same disk is a mount");
        assert!(other.join("backups/.larder").is_dir());
        shelf.stage(RunId::generate(jiff::Timestamp::UNIX_EPOCH)).unwrap();
    });
}

#[test]
fn a_full_disk_is_said_before_and_during_and_leaves_nothing_visible() {
    in_a_mount_namespace("a_full_disk_is_said_before_and_during_and_leaves_nothing_visible", |root| {
        mount(&["-t", "tmpfs", "-o", "size=256k,nr_inodes=64", "tmpfs"], root);
        let shelf = shelf(root, true);
        assert_eq!(code(&shelf), None);
        let request = request(jiff::Timestamp::now());
        let staging = shelf.stage(request.run).unwrap();
        std::fs::write(staging.join("dump"), vec![7; 64 << 10]).unwrap();
        // A fill that leaves no page for the manifest.
        let filler = root.join("filler");
        assert!(std::fs::write(&filler, vec![0; 1 << 20]).is_err(), "the disk should be full");
        let error = shelf.publish(&request).unwrap_err();
        assert_eq!(error.trouble().code, "disk_full", "{error}");
        assert!(error.trouble().hint.is_some());
        assert!(!root.join("db").exists());
        assert!(!staging.join("manifest.json").exists(), "a partial manifest was left");
        assert_eq!(code(&shelf).as_deref(), Some("disk_full"));
        let careful = Shelf::new(&Artifacts {
            path: root.to_owned(),
            require_mount: true,
            min_free: ByteSize(100 << 10),
            keep_runs: 1,
        });
        assert_eq!(code(&careful).as_deref(), Some("disk_nearly_full"));

        std::fs::remove_file(&filler).unwrap();
        assert_eq!(code(&careful), None);
        shelf.publish(&request).unwrap();

        for count in 0..64 {
            let _ = std::fs::write(root.join(format!("inode-{count}")), b"");
        }
        assert_eq!(code(&shelf).as_deref(), Some("disk_nearly_full"), "no inode is left");
    });
}

#[test]
fn a_read_only_file_system_is_said_to_be_one() {
    in_a_mount_namespace("a_read_only_file_system_is_said_to_be_one", |root| {
        mount(&["-t", "tmpfs", "-o", "ro", "tmpfs"], root);
        assert_eq!(code(&shelf(root, true)).as_deref(), Some("artifacts_read_only"));
    });
}

#[test]
fn killed_at_any_instant_no_partial_artifact_is_visible() {
    const NAME: &str = "killed_at_any_instant_no_partial_artifact_is_visible";
    const FILES: usize = 20;
    if let Some(root) = std::env::var_os(CHILD) {
        // Publishes, ships and expires until it is killed.
        let shelf = shelf(Path::new(&root), false);
        for count in 0..100_000_u32 {
            let request = request(jiff::Timestamp::now());
            let staging = shelf.stage(request.run).unwrap();
            std::fs::create_dir(staging.join("deep")).unwrap();
            for file in 0..FILES {
                std::fs::write(staging.join(format!("deep/{file}")), format!("{count} {file}").repeat(500)).unwrap();
            }
            let published = shelf.publish(&request).unwrap();
            shelf.ship_view(&request.job, &published).unwrap();
            shelf.expire(&request.job, 3, None).unwrap();
            if count == 0 {
                println!("published");
            }
        }
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let shelf = shelf(root, false);
    let job = "db/daily".parse().unwrap();
    let mut seen = 0;
    for round in 0..25_u64 {
        let mut child = again(NAME, &[], root).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // However slowly it starts: from its first publication on, then at another instant each time.
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("published")), "the child came to nothing");
        std::thread::sleep(Duration::from_millis(round * 7 % 60));
        child.kill().unwrap();
        child.wait().unwrap();

        shelf.sweep(&[]).unwrap();
        for private in ["staging", "ship", "trash"] {
            let left = std::fs::read_dir(root.join(".larder").join(private)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{private} is not empty after the sweep");
        }
        for publication in shelf.publications(&job).unwrap() {
            let verified = shelf.verify(&publication.relative, &mut go_on).unwrap();
            assert_eq!((verified.files, verified.faults.as_slice()), (FILES as u64, &[][..]), "round {round}");
            seen += 1;
        }
        assert_eq!(directories(root), shelf.publications(&job).unwrap().len(), "a directory without a manifest");
    }
    assert!(seen > 0, "no publication was ever seen");
}

/// How many publications are visible, whether they can be attributed or not.
fn directories(root: &Path) -> usize {
    let children = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    children(&root.join("db")).iter().map(|day| children(day).len()).sum()
}

#[test]
fn the_committed_manifest_schema_is_the_one_of_the_types() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/manifest.schema.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&Manifest::schema()).unwrap());
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == text, "schema/manifest.schema.json is old: run this test once with LARDER_BLESS=1");
}

#[test]
fn a_real_manifest_is_valid_by_the_schema() {
    let directory = tempfile::tempdir().unwrap();
    let shelf = shelf(directory.path(), false);
    let request = request(jiff::Timestamp::now());
    std::fs::write(shelf_stage(&shelf, &request).join("a"), b"a").unwrap();
    let published = shelf.publish(&request).unwrap();
    let text = std::fs::read(published.path.join("manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let validator = jsonschema::validator_for(&Manifest::schema()).unwrap();
    assert!(validator.is_valid(&manifest), "{:?}", validator.iter_errors(&manifest).next().map(|e| e.to_string()));
    manifest.as_object_mut().unwrap().remove("run");
    assert!(!validator.is_valid(&manifest));
}

fn shelf_stage(shelf: &Shelf, request: &PublishRequest) -> PathBuf {
    shelf.ready().unwrap();
    shelf.stage(request.run).unwrap()
}
