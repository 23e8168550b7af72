//! Publishing, shipping and expiring on a real directory.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::artifact::ArtifactError;
use crate::config::model::Artifacts;
use crate::error::{Trouble, codes};
use crate::plugin::{Captured, Source, Validation, Verdict};
use crate::run::hold::{Accepted, HoldKind};
use crate::types::{ByteSize, Name, RunId};
use jiff::Timestamp;

const STARTED: &str = "2026-03-29T00:30:00Z";

struct Place {
    directory: tempfile::TempDir,
    shelf: Shelf,
}

fn place_() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backups");
    fs::create_dir(&path).unwrap();
    let shelf = Shelf::new(&Artifacts { path, require_mount: false, min_free: ByteSize(0), keep_runs: 2 });
    Place { directory, shelf }
}

fn request(second: i64) -> PublishRequest {
    let started: Timestamp = STARTED.parse().unwrap();
    let started = started + jiff::SignedDuration::from_secs(second);
    PublishRequest {
        site: None,
        run: RunId::generate(started),
        job: "paperless-db/daily".parse().unwrap(),
        started,
        timezone: "Europe/Berlin".to_owned(),
        revision: None,
        plugin: Name::parse("postgres").unwrap(),
        captured: Captured {
            artifacts: vec![artifact("db.dump", "postgres-custom")],
            app_version: Some("15.4".to_owned()),
            figures: BTreeMap::from([("tables".to_owned(), 42)]),
            ..Captured::default()
        },
        validations: vec![Validation {
            name: "the dump reads to its end".to_owned(),
            verdict: Verdict::Proven,
            detail: "42 tables".to_owned(),
        }],
    }
}

fn artifact(path: &str, format: &str) -> ArtifactFile {
    ArtifactFile { path: path.into(), format: format.to_owned(), sha256: None }
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

impl Place {
    fn staged(&self, request: &PublishRequest) -> PathBuf {
        let staging = self.shelf.stage(request.run).unwrap();
        fs::write(staging.join("db.dump"), b"content").unwrap();
        staging
    }

    fn visible(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.shelf.root().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() && entry.file_name() != ".larder" {
                    open.push(entry.path());
                } else if entry.file_name() != ".larder" {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}

#[test]
fn what_was_staged_appears_complete_with_a_manifest_in_the_sites_civil_time() {
    let place = place_();
    let request = request(0);
    place.staged(&request);
    let mut read = 0;
    let published = place
        .shelf
        .publish_watched(&request, &mut |bytes| {
            read += bytes;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(published.relative, format!("paperless-db/2026-03-29/013000-{}", request.run));
    assert_eq!((published.files, published.bytes, read), (1, 7, 7));
    let manifest = place.shelf.load_manifest(&published.relative).unwrap();
    assert_eq!(manifest.validations[0].verdict, manifest::ManifestVerdict::Proven);
    assert_eq!((manifest.app_version.as_deref(), manifest.figures["tables"]), (Some("15.4"), 42));
    let [file] = manifest.files.as_slice() else { panic!("one file expected, found {:?}", manifest.files) };
    assert_eq!(file.format.as_deref(), Some("postgres-custom"));
    assert_eq!(file.sha256, "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73");
    assert!(place.shelf.verify(&published.relative, &mut go_on).unwrap().faults.is_empty());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&published.path), 0o750);
    assert_eq!(mode(published.path.parent().unwrap()), 0o750);
    assert_eq!(mode(&published.path.join("db.dump")), 0o640);
    assert_eq!(mode(&published.path.join("manifest.json")), 0o640);
    assert_eq!(mode(&place.shelf.private()), 0o700);
}

#[test]
fn a_kill_after_any_step_leaves_nothing_half_visible_and_the_sweep_cleans_up() {
    for steps in 0..4 {
        let place = place_();
        let request = request(0);
        let staging = place.staged(&request);
        let relative = super::place(&request).unwrap();
        let mut sealed = None;
        if steps > 0 {
            sealed = Some(seal(&staging, &request.captured.artifacts, &mut go_on).unwrap());
        }
        if let Some(sealed) = sealed.filter(|_| steps > 1) {
            describe(&staging, &manifest(&request, sealed)).unwrap();
        }
        if steps > 2 {
            make_place(place.shelf.root(), &relative).unwrap();
        }
        assert!(place.visible().is_empty(), "something is visible after {steps} steps");
        assert_eq!(place.shelf.sweep(&[request.run]).unwrap().removed, Vec::<PathBuf>::new(), "a live run was touched");
        assert_eq!(place.shelf.sweep(&[]).unwrap().removed.len(), 1);
        assert!(!staging.exists());
        // And the run can be done again.
        place.staged(&request);
        place.shelf.publish(&request).unwrap();
        assert_eq!(place.visible().len(), 2);
    }
}

#[test]
fn links_pipes_and_foreign_files_are_refused_and_nothing_is_visible() {
    type Make = fn(&Path, &Path);
    let outside = "outside";
    let cases: [(&str, Make); 5] = [
        ("a symbolic link", |staging, _| std::os::unix::fs::symlink("/etc/passwd", staging.join("x")).unwrap()),
        ("a symbolic link", |staging, outside| std::os::unix::fs::symlink(outside, staging.join("dir")).unwrap()),
        ("a pipe, socket or device", |staging, _| {
            nix::unistd::mkfifo(&staging.join("x"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("a hard link to a file elsewhere", |staging, outside| fs::hard_link(outside, staging.join("x")).unwrap()),
        ("in the place of the manifest", |staging, _| fs::write(staging.join("manifest.json"), b"{}").unwrap()),
    ];
    for (expected, make) in cases {
        let place = place_();
        let request = request(0);
        let staging = place.staged(&request);
        let foreign = place.directory.path().join(outside);
        fs::write(&foreign, b"theirs").unwrap();
        fs::set_permissions(&foreign, fs::Permissions::from_mode(0o600)).unwrap();
        make(&staging, &foreign);
        let error = place.shelf.publish(&request).unwrap_err();
        assert!(matches!(error, ArtifactError::Refused { what, .. } if what == expected), "{error}");
        assert_eq!(error.trouble().code, "artifact_refused");
        assert!(place.visible().is_empty());
        assert_eq!(fs::metadata(&foreign).unwrap().permissions().mode() & 0o777, 0o600, "a foreign file was touched");
        assert!(fs::metadata("/etc/passwd").unwrap().permissions().mode() & 0o004 != 0);
        place.shelf.clear(request.run, &request.job).unwrap();
        assert_eq!(fs::read(&foreign).unwrap(), b"theirs");
    }
}

#[test]
fn an_announced_artifact_that_is_not_there_fails_the_publication() {
    for path in ["missing.dump", "db.dump/x", "../db.dump", "/etc/passwd", "empty"] {
        let place = place_();
        let mut request = request(0);
        let staging = place.staged(&request);
        fs::create_dir(staging.join("empty")).unwrap();
        request.captured.artifacts.push(artifact(path, "x"));
        let error = place.shelf.publish(&request).unwrap_err();
        assert_eq!(error.code(), codes::ARTIFACT_MISSING, "{path}");
    }
}

#[test]
fn the_format_of_a_directory_holds_for_its_files_and_paths_need_not_be_in_plain_form() {
    let place = place_();
    let mut request = request(0);
    let staging = place.staged(&request);
    fs::create_dir_all(staging.join("dump/deep")).unwrap();
    fs::write(staging.join("dump/toc.dat"), b"1").unwrap();
    fs::write(staging.join("dump/deep/2.dat"), b"2").unwrap();
    fs::write(staging.join("dump.log"), b"3").unwrap();
    request.captured.artifacts.push(artifact("./dump/", "postgres-directory"));
    let published = place.shelf.publish(&request).unwrap();
    let manifest = place.shelf.load_manifest(&published.relative).unwrap();
    let formats: Vec<_> =
        manifest.files.iter().map(|file| (file.path.as_str(), file.format.as_deref().unwrap_or("-"))).collect();
    assert_eq!(
        formats,
        [
            ("db.dump", "postgres-custom"),
            ("dump/deep/2.dat", "postgres-directory"),
            ("dump/toc.dat", "postgres-directory"),
            ("dump.log", "-")
        ]
    );
}

#[test]
fn names_with_odd_bytes_are_kept_and_verified() {
    let place = place_();
    let request = request(0);
    let staging = place.staged(&request);
    let odd: [&[u8]; 5] =
        [b"new\nline", b"\xff\xfe latin \xe4", "päckchen 📦".as_bytes(), b"-rf", b"quote\"back\\slash"];
    for name in odd {
        fs::write(staging.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let published = place.shelf.publish(&request).unwrap();
    let verified = place.shelf.verify(&published.relative, &mut go_on).unwrap();
    assert_eq!((verified.files, verified.faults), (6, Vec::new()));
    let view = place.shelf.ship_view(&request.job, &published).unwrap();
    for name in odd {
        assert_eq!(fs::read(view.join(std::ffi::OsStr::from_bytes(name))).unwrap(), name);
    }
}

#[test]
fn a_run_without_files_publishes_what_it_shipped_in_place() {
    let place = place_();
    let mut request = request(0);
    request.captured.artifacts.clear();
    request.captured.sources = vec![Source { path: "/srv/photos".into(), exclude: vec!["*.tmp".to_owned()] }];
    place.shelf.stage(request.run).unwrap();
    let published = place.shelf.publish(&request).unwrap();
    assert_eq!((published.files, published.bytes), (0, 0));
    let expected = [ManifestSource { path: "/srv/photos".to_owned(), exclude: vec!["*.tmp".to_owned()] }];
    assert_eq!(place.shelf.load_manifest(&published.relative).unwrap().sources, expected);
}

#[test]
fn a_bad_zone_a_stop_and_a_second_publication_of_one_run_are_errors() {
    let place = place_();
    let mut request = request(0);
    place.staged(&request);
    request.timezone = "Mars/Olympus".to_owned();
    assert_eq!(place.shelf.publish(&request).unwrap_err().code(), codes::BAD_TIME_ZONE);
    request.timezone = "UTC".to_owned();
    assert!(matches!(
        place.shelf.publish_watched(&request, &mut |_| ControlFlow::Break(())),
        Err(ArtifactError::Stopped)
    ));
    assert_eq!(place.shelf.stage(request.run).unwrap(), place.shelf.staging(request.run), "a run stages in one place");
    place.shelf.publish(&request).unwrap();
    place.staged(&request);
    assert_eq!(place.shelf.publish(&request).unwrap_err().code(), codes::ARTIFACTS_IO);
    assert_eq!(place.visible().len(), 2);
}

#[test]
fn a_file_that_still_changes_is_not_published() {
    let place = place_();
    let request = request(0);
    let dump = place.staged(&request).join("db.dump");
    let result = place.shelf.publish_watched(&request, &mut |_| {
        fs::write(&dump, b"content and more").unwrap();
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(ArtifactError::Changing(_))), "{result:?}");
}

#[test]
fn a_hash_that_the_plugin_announced_must_be_the_one_that_is_read() {
    let place = place_();
    let mut request = request(0);
    place.staged(&request);
    request.captured.artifacts[0].sha256 = Some("0".repeat(64));
    assert!(matches!(place.shelf.publish(&request), Err(ArtifactError::Differs(_))));
    assert!(place.visible().is_empty());
    request.captured.artifacts[0].sha256 =
        Some("ED7002B439E9AC845F22357D822BAC1444730FBDB6016D3EC9432297B9EC9F73".to_owned());
    place.shelf.publish(&request).unwrap();
}

#[test]
fn too_deep_a_tree_is_refused() {
    let place = place_();
    let request = request(0);
    let staging = place.staged(&request);
    let deep: PathBuf = (0..=files::DEPTH_MAX).map(|_| "d").collect();
    fs::create_dir_all(staging.join(deep)).unwrap();
    assert_eq!(place.shelf.publish(&request).unwrap_err().code(), codes::ARTIFACT_REFUSED);
    place.shelf.clear(request.run, &request.job).unwrap();
    place.shelf.clear(request.run, &request.job).unwrap();
}

#[test]
fn the_ship_view_is_the_same_path_with_the_newest_content() {
    let place = place_();
    let mut paths = Vec::new();
    for (second, content) in [(0, "first"), (1, "second")] {
        let request = request(second);
        let staging = place.staged(&request);
        fs::write(staging.join("db.dump"), content).unwrap();
        fs::write(staging.join(content), content).unwrap();
        let published = place.shelf.publish(&request).unwrap();
        let view = place.shelf.ship_view(&request.job, &published).unwrap();
        assert_eq!(fs::read_to_string(view.join("db.dump")).unwrap(), content);
        assert_eq!(fs::read_dir(&view).unwrap().count(), 3, "what an older run left is in the view");
        for name in ["db.dump", "manifest.json"] {
            let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
            assert_eq!(inode(view.join(name)), inode(published.path.join(name)), "{name} is a copy");
        }
        paths.push(view);
        assert!(place.shelf.sweep(&[request.run]).unwrap().removed.is_empty(), "a live run's view was swept");
    }
    assert_eq!(paths[0], paths[1]);
    assert!(paths[0].ends_with(".larder/ship/paperless-db/daily"));
    let mut other = request(0).job;
    other.policy = Name::parse("weekly").unwrap();
    assert_ne!(place.shelf.ship_of(&other), paths[0]);
    place.shelf.clear(request(0).run, &request(0).job).unwrap();
    assert!(!paths[0].exists());
}

#[test]
fn a_view_that_a_kill_left_half_built_is_swept() {
    let place = place_();
    let request = request(0);
    place.staged(&request);
    let published = place.shelf.publish(&request).unwrap();
    let view = place.shelf.ship_view(&request.job, &published).unwrap();
    let half = view.with_file_name(format!(".daily-{}", request.run));
    fs::create_dir(&half).unwrap();
    fs::write(half.join("db.dump"), b"con").unwrap();
    assert!(place.shelf.sweep(&[request.run]).unwrap().removed.is_empty());
    assert_eq!(place.shelf.sweep(&[]).unwrap().removed.len(), 2);
    assert!(!half.exists() && !view.exists());
    assert!(place.shelf.verify(&published.relative, &mut go_on).unwrap().faults.is_empty());
}

#[test]
fn expiry_removes_the_oldest_of_the_job_and_only_what_it_can_attribute() {
    let place = place_();
    let mut published = Vec::new();
    for day in 0..4 {
        let request = request(day * 86_400);
        place.staged(&request);
        published.push(place.shelf.publish(&request).unwrap());
    }
    let mut other = request(5);
    other.job.policy = Name::parse("weekly").unwrap();
    place.staged(&other);
    let other = place.shelf.publish(&other).unwrap();
    let day = place.shelf.root().join("paperless-db/2026-03-29");
    // What a person put there: no manifest, a damaged one, a copy under another name, a link.
    fs::create_dir(day.join("mine")).unwrap();
    fs::create_dir(day.join("damaged")).unwrap();
    fs::write(day.join("damaged/manifest.json"), b"{").unwrap();
    fs::create_dir(day.join("copy")).unwrap();
    fs::copy(published[0].path.join("manifest.json"), day.join("copy/manifest.json")).unwrap();
    std::os::unix::fs::symlink(&published[1].path, day.join(format!("x-{}", published[1].run))).unwrap();

    let job = request(0).job;
    let gone = place.shelf.expire(&job, 2, None).unwrap();
    assert_eq!(gone, [published[0].relative.clone(), published[1].relative.clone()]);
    assert!(!published[0].path.exists() && !published[1].path.exists());
    assert!(!published[1].path.parent().unwrap().exists(), "an empty day stays");
    for stays in [&published[2].path, &published[3].path, &other.path, &day.join("mine"), &day.join("copy")] {
        assert!(stays.exists(), "{} is gone", stays.display());
    }
    assert!(fs::read_dir(place.shelf.trash()).unwrap().next().is_none());
    assert!(place.shelf.expire(&job, 2, None).unwrap().is_empty());
}

#[test]
fn a_capture_is_compared_with_the_last_whole_one_until_another_is_whole_or_its_loss_is_accepted() {
    let place = place_();
    let mut day = 0;
    let mut publish = |rows: u64, dumps: &[&str], missing: Option<&str>, verdict: Verdict| {
        day += 1;
        let mut request = request(day * 86_400);
        request.captured.artifacts = dumps.iter().map(|name| artifact(name, "db")).collect();
        request.captured.figures = BTreeMap::from([("rows.a".to_owned(), rows)]);
        request.captured.warnings =
            missing.map(|code| Trouble::told(code, "something is missing")).into_iter().collect();
        request.validations[0].verdict = verdict;
        let staging = place.shelf.stage(request.run).unwrap();
        for name in dumps {
            fs::write(staging.join(name), name).unwrap();
        }
        place.shelf.publish(&request).unwrap();
        request.started
    };
    let job = request(0).job;
    let told = |accepted: &[Accepted]| {
        let facts = place.shelf.baseline(&job, accepted).unwrap();
        let names = facts.artifacts.iter().map(|each| each.path.display().to_string()).collect::<Vec<_>>();
        (facts.figures["rows.a"], names.join(" "))
    };
    assert_eq!(place.shelf.baseline(&job, &[]), None);
    publish(20_000, &["a", "b"], None, Verdict::Proven);
    assert_eq!(told(&[]), (20_000, "a b".to_owned()));
    publish(0, &["a"], Some("database_emptied"), Verdict::Proven);
    publish(0, &["a", "c"], Some("not_granted"), Verdict::Proven);
    assert_eq!(told(&[]), (20_000, "a c b".to_owned()), "a loss that was told does not become the usual");
    publish(5, &["a"], None, Verdict::Proven);
    assert_eq!(told(&[]), (5, "a".to_owned()), "what is whole again counts alone");
    let at = publish(2, &["a"], None, Verdict::CouldNotVerify);
    assert_eq!(told(&[]), (5, "a".to_owned()));
    let accept = |subject: &str, at| Accepted {
        kind: HoldKind::MissingProof,
        subject: subject.to_owned(),
        value: subject.to_owned(),
        at,
    };
    let hour = jiff::SignedDuration::from_hours(1);
    let proof = "the dump reads to its end";
    assert_eq!(told(&[accept(proof, at - hour), accept("another", at + hour)]), (5, "a".to_owned()));
    assert_eq!(told(&[accept(proof, at + hour)]), (2, "a".to_owned()));
    publish(9, &["a", "z"], None, Verdict::Proven);
    for _ in 0..101 {
        publish(1, &["a"], Some("database_gone"), Verdict::Proven);
    }
    assert_eq!(told(&[]), (9, "a z".to_owned()), "no number of nights makes a loss the usual");
}

#[test]
fn what_was_on_its_way_out_when_killed_is_swept() {
    let place = place_();
    let request = request(0);
    place.staged(&request);
    let published = place.shelf.publish(&request).unwrap();
    fs::create_dir(place.shelf.trash()).unwrap();
    fs::rename(&published.path, place.shelf.trash().join(request.run.to_string())).unwrap();
    assert!(place.visible().is_empty());
    assert_eq!(place.shelf.sweep(&[]).unwrap().removed.len(), 1);
}

#[test]
fn verification_tells_missing_changed_and_extra_files_apart() {
    use crate::artifact::verify::Fault;
    let place = place_();
    let request = request(0);
    let staging = place.staged(&request);
    for name in ["gone", "shorter", "flipped"] {
        fs::write(staging.join(name), b"content").unwrap();
    }
    let published = place.shelf.publish(&request).unwrap();
    fs::remove_file(published.path.join("gone")).unwrap();
    fs::write(published.path.join("shorter"), b"c").unwrap();
    fs::write(published.path.join("flipped"), b"c0ntent").unwrap();
    fs::write(published.path.join("extra"), b"").unwrap();
    let verified = place.shelf.verify(&published.relative, &mut go_on).unwrap();
    assert_eq!((verified.files, verified.bytes), (1, 7));
    assert_eq!(
        verified.faults,
        [
            Fault::Changed("flipped".to_owned()),
            Fault::Missing("gone".to_owned()),
            Fault::Changed("shorter".to_owned()),
            Fault::Extra("extra".to_owned())
        ]
    );
    assert!(matches!(
        place.shelf.verify(&published.relative, &mut |_| ControlFlow::Break(())),
        Err(ArtifactError::Stopped)
    ));
}

#[test]
fn a_path_that_points_elsewhere_is_no_publication() {
    let place = place_();
    for bad in ["", "a", "a/b", "../a/b", "/a/b/c", "a/../c", "a/b/c/d", ".larder/staging/x", "a/./b"] {
        assert_eq!(place.shelf.load_manifest(bad).unwrap_err().code(), codes::BAD_ARTIFACT_PATH, "{bad}");
    }
}

#[test]
fn a_manifest_of_a_newer_version_or_damaged_is_said_to_be_so() {
    let place = place_();
    let request = request(0);
    place.staged(&request);
    let published = place.shelf.publish(&request).unwrap();
    let file = published.path.join("manifest.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
    assert_eq!(place.shelf.load_manifest(&published.relative).unwrap_err().code(), codes::MANIFEST_NEWER);
    fs::write(&file, text.get(..40).unwrap()).unwrap();
    let trouble = place.shelf.load_manifest(&published.relative).unwrap_err().trouble();
    assert_eq!(trouble.code, "manifest_damaged");
    assert!(trouble.hint.is_some_and(|hint| hint.contains("snapshot")));
}

#[test]
fn the_root_is_made_only_when_just_it_is_missing() {
    let place = place_();
    let shelf = |path: PathBuf, require_mount| {
        Shelf::new(&Artifacts { path, require_mount, min_free: ByteSize(0), keep_runs: 1 })
    };
    let code = |shelf: &Shelf| shelf.ready().err().map(|trouble| trouble.code);
    let new = place.directory.path().join("new");
    assert_eq!(code(&shelf(new.join("deep"), false)).as_deref(), Some("artifacts_missing"));
    assert_eq!(code(&shelf(new.clone(), true)).as_deref(), Some("artifacts_unmounted"));
    assert!(!new.exists(), "something was made where a mount was asked for");
    assert_eq!(code(&shelf(new.clone(), false)), None);
    assert!(new.is_dir());
    let file = place.directory.path().join("file");
    fs::write(&file, b"").unwrap();
    assert_eq!(code(&shelf(file, false)).as_deref(), Some("artifacts_not_a_directory"));
    let greedy = Shelf::new(&Artifacts { path: new, require_mount: false, min_free: ByteSize(u64::MAX), keep_runs: 1 });
    assert_eq!(code(&greedy).as_deref(), Some("disk_nearly_full"));
}

#[test]
fn a_link_in_the_place_of_our_own_directories_is_refused() {
    let place = place_();
    let elsewhere = place.directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let request = request(0);
    place.staged(&request);
    std::os::unix::fs::symlink(&elsewhere, place.shelf.root().join("paperless-db")).unwrap();
    assert!(place.shelf.publish(&request).is_err());
    assert!(fs::read_dir(&elsewhere).unwrap().next().is_none());
}
