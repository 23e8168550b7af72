//! What the plugin `rsync` keeps when it undoes a restore: what stood where it puts something back, and what the device
//! goes on doing meanwhile.

use super::rsync::{Device, content, lay_out, write};
use super::rsync_undo::{between, empty_device};
use super::*;

/// A device with these files, and a bench that captured them, laid out for a restore; then they are others.
fn changed_since(names: &[&str]) -> (Device, Bench, Captured) {
    let device = empty_device();
    for name in names {
        write(&device.at("data").join(name), "old");
    }
    let bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    for name in names {
        write(&device.at("data").join(name), "live");
    }
    (device, bench, captured)
}

fn undoable(bench: &Bench, captured: &Captured, code: &str) -> PluginFailure {
    let failure = super::database::put_back_noted(bench, captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, code, "{failure}\n{}", bench.log());
    failure
}

/// Where this run keeps what gave way, or what it put there and took back, in `data`.
fn kept(bench: &Bench, what: &str) -> String {
    format!("data/.larder-{what}-{}", bench.run.to_string().to_lowercase())
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_the_application_made_where_a_failed_restore_would_is_kept_beside_and_told() {
    let (device, mut bench, captured) = changed_since(&["app.conf", "new", "made/inside", "link"]);
    std::fs::remove_dir_all(device.at("data/made")).unwrap();
    for name in ["new", "link"] {
        std::fs::remove_file(device.at("data").join(name)).unwrap();
    }
    between(
        &device,
        "*--delay-updates*)\n\
         mkdir data/made; printf 'order 1, paid' > data/new; printf own > data/made/own; ln -s new data/link\n\
         exit 12 ;;",
    );
    undoable(&bench, &captured, "cut_short");
    let place = device.at(&kept(&bench, "undone"));
    assert_eq!(text(&place.join("new")), "order 1, paid", "{}", bench.log());
    assert_eq!(text(&place.join("made/own")), "own", "{}", bench.log());
    assert_eq!(std::fs::read_link(place.join("link")).unwrap(), Path::new("new"));
    assert!(bench.log().contains(&place.display().to_string()), "{}", bench.log());
    assert_eq!(content(&device.at("data")), [("app.conf".into(), b"live".to_vec())].into());
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    // It is no part of the next backup, and no restore moves or sends it.
    device.allow("");
    bench.run = RunId::generate(jiff::Timestamp::now());
    let plan = bench.restore_app(&captured, json!({}), true).unwrap();
    assert!(!plan.steps[0].detail.contains("undone"), "{plan:#?}");
    bench.target.settings["allow_fewer"] = json!(true);
    assert_eq!(bench.capture_with(None).unwrap().figures["source_files"], 1);
}

#[test]
fn what_was_written_into_a_restored_file_before_it_was_undone_is_kept_too() {
    let (device, bench, captured) = changed_since(&["queue", "same"]);
    between(
        &device,
        "*--existing*) ;;\n*--sender*) ;;\n\
         'rsync --server -n'*) [ -z \"$aside\" ] || { printf 'order 2, paid' > data/queue; exit 12; } ;;",
    );
    undoable(&bench, &captured, "cut_short");
    assert_eq!(text(&device.at(&kept(&bench, "undone")).join("queue")), "order 2, paid", "{}", bench.log());
    let live = ["queue", "same"].map(|name| (PathBuf::from(name), b"live".to_vec()));
    assert_eq!(content(&device.at("data")), live.into());
    assert!(!device.at(&kept(&bench, "before")).exists());
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

#[test]
fn what_the_device_goes_on_doing_while_a_restore_is_undone_is_seen_and_undone_later() {
    for goes_on in [
        // All of it, behind the look at what gave way; only to files that lie there half; to another file behind the
        // look.
        "mkdir -p KEPT; mv data/one KEPT/; printf old > data/one",
        "mkdir -p data/.larder-partial; printf half > data/.larder-partial/one",
        "mv data/two KEPT/; printf old > data/two",
    ] {
        let (device, bench, captured) = changed_since(&["one", "two"]);
        let (before, behind) = if goes_on.contains("two") {
            ("mkdir KEPT; mv data/one KEPT/; printf old > data/one;", "*--link-dest*")
        } else {
            ("", "*--existing*")
        };
        let cases = format!(
            "*--delay-updates*) {before} exit 12 ;;\n\
             {behind}) sh -c \"$SSH_ORIGINAL_COMMAND\"; code=$?\n\
             [ -e went-on ] || {{ touch went-on; {goes_on}; }}; exit $code ;;"
        );
        between(&device, &cases.replace("KEPT", &kept(&bench, "before")));
        let failure = undoable(&bench, &captured, "not_undone");
        assert!(device.at("went-on").exists());
        let hint = failure.trouble.hint.as_deref().unwrap_or_default();
        assert!(hint.contains("tries again"), "{failure}");
        assert_ne!(bench.noted(), Vec::<PathBuf>::new(), "{goes_on}");
        bench.recover_app().unwrap_or_else(|failure| panic!("{goes_on}: {failure}\n{}", bench.log()));
        let live = ["one", "two"].map(|name| (PathBuf::from(name), b"live".to_vec()));
        assert_eq!(content(&device.at("data")), live.into(), "{goes_on}\n{}", bench.log());
        assert!(!device.at(&kept(&bench, "before")).exists() && !device.at("data/.larder-partial").exists());
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_device_without_room_for_one_more_name_is_told_as_full() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can mount");
    }
    let device = empty_device();
    let run = |args: &[&str]| {
        std::process::Command::new(args[0]).args(&args[1..]).arg(device.at("data")).status().unwrap().success()
    };
    if !run(&["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=60", "tmpfs"]) {
        return skip(Lack::Mount, "nothing can be mounted here");
    }
    let database = device.at("data/app.db");
    rusqlite::Connection::open(&database).unwrap().execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
    let bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    // It has to leave, into a directory that cannot be made.
    write(&device.at("data/app.db-wal"), "stale");
    let mut others = 0;
    while std::fs::write(device.at(&format!("data/other {others}")), "").is_ok() {
        others += 1;
    }
    let live = content(&device.at("data"));
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None);
    let now = content(&device.at("data"));
    assert!(run(&["umount"]));
    let failure = failure.unwrap_err();
    assert_eq!(failure.trouble.code, "disk_full", "{failure}\n{}", bench.log());
    let shown = failure.to_string();
    assert!(shown.contains("127.0.0.1 has no room") && shown.contains("what was there is as it was"), "{shown}");
    assert!(now == live && others > 0);
}
