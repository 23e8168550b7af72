//! How the plugin `rsync` undoes a restore: what was kept may be the only copy, and what lies beside is somebody else's.

use std::os::unix::fs::MetadataExt as _;

use super::rsync::{Device, content, lay_out, state, write};
use super::*;

/// Puts a shell before each command of the login: `cases` says which of them is not just run. It has `$aside`, where a
/// restore keeps what gave way.
pub(super) fn between(device: &Device, cases: &str) {
    let text = format!(
        "#!/bin/sh\ncd {} || exit 1\naside=$(ls -d data/.larder-before-* 2>/dev/null | head -n 1)\n\
         case \"$SSH_ORIGINAL_COMMAND\" in\n{cases}\nesac\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
        device.at("").display()
    );
    let path = device.at("between");
    write(&path, &text);
    chmod(&path, 0o755);
    device.allow(&path.display().to_string());
}

/// Does something, then ends the comparison behind a restore; while there is a file `hide`, nobody reads the kept files.
fn meanwhile(device: &Device, something: &str) {
    let cases = format!(
        "*--existing*) ;;\n\
         *--sender*.larder-before-*) [ ! -e hide ] || exit 12 ;;\n\
         *--sender*) ;;\n\
         'rsync --server -n'*) [ -z \"$aside\" ] || {{ {something}\nexit 12; }} ;;"
    );
    between(device, &cases);
}

/// An undo while the disk of the device is not mounted fails, and is tried again: there is no directory, an empty one, or
/// one of another disk.
fn unmounted(device: &Device, bench: &Bench) {
    std::fs::rename(device.at("data"), device.at("disk")).unwrap();
    for there in [None, Some("data"), Some("data/other")] {
        if let Some(there) = there {
            std::fs::create_dir_all(device.at(there)).unwrap();
        }
        let failure = bench.recover_app().unwrap_err();
        assert_eq!(failure.trouble.code, "not_undone", "{there:?}: {failure}\n{}", bench.log());
        assert_ne!(bench.noted(), Vec::<PathBuf>::new(), "{there:?}");
    }
    std::fs::remove_dir_all(device.at("data")).unwrap();
    std::fs::rename(device.at("disk"), device.at("data")).unwrap();
}

/// The rights at a path.
fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

/// A device with nothing in `data`.
pub(super) fn empty_device() -> Device {
    let device = Device::start();
    std::fs::remove_dir_all(device.at("data")).unwrap();
    std::fs::create_dir(device.at("data")).unwrap();
    device
}

/// What a bench backs up: a file of `data`, or all of it as it is now.
fn bench_of(device: &Device, single: bool) -> Bench {
    let mut bench = device.bench();
    if single {
        bench.target.settings["paths"] = json!([device.at("data/app.conf")]);
    }
    bench
}

#[test]
fn what_lies_beside_is_not_read_and_keeps_what_was_written_while_a_restore_was_undone() {
    for single in [true, false] {
        let device = empty_device();
        write(&device.at("data/app.conf"), "old");
        let bench = bench_of(&device, single);
        let captured = bench.capture_with(None).unwrap();
        lay_out(&bench, &device);
        write(&device.at("data/app.conf"), "live");
        write(&device.at("data/app.log"), "line 1\n");
        write(&device.at("data/queue"), "order 1");
        write(&device.at("data/big.img"), &"big".repeat(1 << 20));
        meanwhile(&device, "echo 'line 2' >> data/app.log; rm data/queue; printf 'order 2, paid' > data/queue");
        write(&device.at("hide"), "");
        let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
        assert_eq!(failure.trouble.code, "not_undone", "{failure}\n{}", bench.log());
        let hint = failure.trouble.hint.as_deref().unwrap_or_default();
        assert!(hint.contains("look at the network") && hint.contains("tries again"), "{hint}");
        let noted = content(&bench.journal());
        assert!(!noted.keys().any(|path| path.ends_with("big.img")), "{:?}", noted.keys());
        std::fs::remove_file(device.at("hide")).unwrap();
        unmounted(&device, &bench);
        bench.recover_app().unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
        let now = |name: &str| std::fs::read_to_string(device.at("data").join(name)).unwrap();
        assert_eq!((now("app.conf"), now("app.log")), ("live".to_owned(), "line 1\nline 2\n".to_owned()), "{single}");
        assert_eq!(now("queue"), "order 2, paid", "{single}");
        assert_eq!(content(&device.at("data")).len(), 4, "{single}");
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_disk_that_is_not_mounted_is_told_also_when_nothing_had_given_way() {
    for single in [true, false] {
        let device = empty_device();
        write(&device.at("data/app.conf"), "old");
        let bench = bench_of(&device, single);
        let captured = bench.capture_with(None).unwrap();
        lay_out(&bench, &device);
        // Only its rights differ, so nothing is kept on the device.
        chmod(&device.at("data/app.conf"), 0o600);
        write(&device.at("data/app.log"), "line 1\n");
        between(
            &device,
            "*--delay-updates*) sh -c \"$SSH_ORIGINAL_COMMAND\"; touch ended; exit 12 ;;\n*) [ ! -e ended ] || exit 12 ;;",
        );
        let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
        assert_eq!(failure.trouble.code, "not_undone", "{failure}\n{}", bench.log());
        std::fs::remove_file(device.at("ended")).unwrap();
        device.allow("");
        unmounted(&device, &bench);
        // What was there and is not any more was removed by somebody.
        std::fs::remove_file(device.at("data/app.log")).unwrap();
        bench.recover_app().unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
        let left = content(&device.at("data")).len();
        assert_eq!((mode(&device.at("data/app.conf")), left), (0o600, 1), "{single}");
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    }
}

#[test]
fn attributes_are_given_back_and_no_content_and_nothing_that_was_removed_is_made_again() {
    let device = empty_device();
    let at = |name: &str| device.at("data").join(name);
    for name in ["changed", "kept", "grown", "same-size", "removed", "replaced", "sub/one"] {
        write(&at(name), "text");
    }
    for name in ["closed", "removed-directory", "replaced-directory"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    write(&at("changed"), "live");
    for name in ["kept", "grown", "same-size", "removed", "replaced"] {
        chmod(&at(name), 0o600);
    }
    for name in ["closed", "sub", "removed-directory", "replaced-directory"] {
        chmod(&at(name), 0o700);
    }
    std::fs::create_dir_all(at("beside/removed")).unwrap();
    meanwhile(
        &device,
        "cd data; printf more >> grown; printf TEXT > same-size; rm removed replaced; ln -s kept replaced\n\
         rmdir removed-directory replaced-directory beside/removed; printf mine > replaced-directory\n\
         chmod 711 beside",
    );
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "cut_short", "{failure}\n{}", bench.log());
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    let told = bench.log();
    assert!(told.contains("were changed while a restore ran") && told.contains("replaced-directory/"), "{told}");
    let now: Vec<(String, String)> = content(&device.at("data"))
        .into_iter()
        .map(|(path, content)| (path.display().to_string(), String::from_utf8(content).unwrap()))
        .collect();
    let wanted = [
        ("changed", "live"),
        ("grown", "textmore"),
        ("kept", "text"),
        ("replaced-directory", "mine"),
        ("same-size", "TEXT"),
        ("sub/one", "text"),
    ];
    assert_eq!(now, wanted.map(|(path, content)| (path.to_owned(), content.to_owned())));
    assert_eq!(std::fs::read_link(at("replaced")).unwrap(), Path::new("kept"));
    assert!(!at("removed-directory").exists() && !at("beside/removed").exists());
    assert_eq!(["kept", "closed", "sub", "beside"].map(|name| mode(&at(name))), [0o600, 0o700, 0o700, 0o711]);
}

#[test]
fn a_file_that_gave_way_comes_back_with_its_other_names() {
    let device = empty_device();
    let at = |name: &str| device.at("data").join(name);
    write(&at("links/a"), "old");
    std::fs::hard_link(at("links/a"), at("links/b")).unwrap();
    let bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    std::fs::remove_file(at("links/b")).unwrap();
    write(&at("links/b"), "live");
    std::fs::hard_link(at("links/b"), at("links/c")).unwrap();
    let (live, file) = (state(&device.at("data")), at("links/b").metadata().unwrap().ino());
    meanwhile(&device, ":");
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "cut_short", "{failure}\n{}", bench.log());
    assert_eq!(state(&device.at("data")), live);
    assert_eq!((at("links/b").metadata().unwrap().ino(), at("links/c").metadata().unwrap().ino()), (file, file));
}

#[test]
fn a_file_beside_that_the_login_may_not_read_refuses_no_restore() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can log in as somebody else");
    }
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    for single in [true, false] {
        let device = empty_device();
        chmod(&device.at(""), 0o755);
        write(&device.at("data/app.conf"), "old");
        write(&device.at("data/secret"), "of root alone");
        chmod(&device.at("data/secret"), 0o600);
        for name in ["data", "data/app.conf"] {
            std::os::unix::fs::chown(device.at(name), Some(nobody), None).unwrap();
        }
        let mut bench = bench_of(&device, single);
        if !single {
            bench.target.settings["exclude"] = json!(["secret"]);
        }
        device.allow("runuser -u nobody -- $SSH_ORIGINAL_COMMAND");
        let captured = bench.capture_with(None).unwrap();
        lay_out(&bench, &device);
        write(&device.at("data/app.conf"), "live");
        let restored = bench.restore_app(&captured, json!({}), false);
        let restored = restored.unwrap_or_else(|failure| panic!("{single}: {failure}\n{}", bench.log()));
        assert_eq!(verdict(&restored.validations), Verdict::Proven, "{single}: {restored:#?}");
        assert_eq!(std::fs::read_to_string(device.at("data/app.conf")).unwrap(), "old");
    }
}

#[test]
fn what_the_device_still_does_behind_a_transfer_that_failed_is_undone_too() {
    let device = empty_device();
    write(&device.at("data/app.conf"), "old");
    let bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    write(&device.at("data/app.conf"), "live");
    between(
        &device,
        "*--delay-updates*)\n\
         kept=data/$(printf %s \"$SSH_ORIGINAL_COMMAND\" | grep -o '\\.larder-before-[0-9a-z]*' | head -n 1)\n\
         (sleep 1; mkdir $kept; mv data/app.conf $kept; printf old > data/app.conf; touch went-on) \
         </dev/null >/dev/null 2>&1 &\n\
         exit 12 ;;",
    );
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    support::wait_for("the device", Duration::from_secs(20), || device.at("went-on").exists().then_some(()));
    assert_eq!(failure.trouble.code, "cut_short", "{failure}\n{}", bench.log());
    let now: Vec<PathBuf> = state(&device.at("data")).into_keys().collect();
    assert_eq!(now, [PathBuf::new(), "app.conf".into()], "{}", bench.log());
    assert_eq!(std::fs::read_to_string(device.at("data/app.conf")).unwrap(), "live");
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

#[test]
fn nothing_is_taken_away_from_a_path_whose_restore_never_began() {
    for is_killed in [false, true] {
        let device = empty_device();
        for name in ["data/one/new", "data/two/new"] {
            write(&device.at(name), "old");
        }
        let mut bench = device.bench();
        bench.target.settings["paths"] = json!([device.at("data/one"), device.at("data/two")]);
        let captured = bench.capture_with(None).unwrap();
        lay_out(&bench, &device);
        for name in ["data/one/new", "data/two/new"] {
            std::fs::remove_file(device.at(name)).unwrap();
        }
        // Between the two, somebody makes what the second would.
        between(
            &device,
            "*--delay-updates*)\n\
             sh -c \"$SSH_ORIGINAL_COMMAND\"; printf 'made since' > data/two/new; touch ended; exit 12 ;;\n\
             *) [ ! -e ended ] || [ ! -e hide ] || exit 12 ;;",
        );
        if is_killed {
            write(&device.at("hide"), "");
        }
        let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
        let code = if is_killed { "not_undone" } else { "cut_short" };
        assert_eq!(failure.trouble.code, code, "{failure}\n{}", bench.log());
        device.allow("");
        bench.recover_app().unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
        let wanted = [("two/new".into(), b"made since".to_vec())];
        assert_eq!(content(&device.at("data")), wanted.into(), "{is_killed}");
        assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_restore_whose_end_may_have_been_noted_and_is_undone_is_undone_whole() {
    let device = empty_device();
    write(&device.at("data/app.conf"), "old");
    let bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    write(&device.at("data/app.conf"), "live");
    // As if the disk had failed when that was flushed; and what is undone then is killed in the middle.
    write(&bench.journal().join("committed.json"), "{\"committed\":true}");
    std::fs::create_dir(bench.in_the_way_of("committed")).unwrap();
    between(&device, "*--existing*) ;;\n*--sender*.larder-before-*) [ ! -e hide ] || exit 12 ;;");
    write(&device.at("hide"), "");
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "not_undone", "{failure}\n{}", bench.log());
    assert!(failure.to_string().contains("committed.json cannot be written"), "{failure}");
    std::fs::remove_dir(bench.in_the_way_of("committed")).unwrap();
    device.allow("");
    bench.recover_app().unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
    assert_eq!(std::fs::read_to_string(device.at("data/app.conf")).unwrap(), "live", "{}", bench.log());
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

#[test]
fn what_a_database_would_read_and_is_there_behind_a_restore_is_no_proof_of_it() {
    for kind in ["whole", "excluded", "single"] {
        let device = empty_device();
        let (database, log) = (device.at("data/app.db"), device.at("data/app.db-wal"));
        rusqlite::Connection::open(&database).unwrap().execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        let mut bench = device.bench();
        if kind == "single" {
            bench.target.settings["paths"] = json!([database]);
        }
        let captured = bench.capture_with(None).unwrap();
        lay_out(&bench, &device);
        let old = std::fs::read(&database).unwrap();
        if kind == "excluded" {
            bench.target.settings["exclude"] = json!(["app.db-*"]);
        }
        write(&database, "live");
        write(&log, "stale");
        let live = content(&device.at("data"));
        let behind = |what: &str| {
            let cases = "*--delay-updates*) sh -c \"$SSH_ORIGINAL_COMMAND\"; code=$?; ";
            between(&device, &format!("{cases}{what}; exit $code ;;"));
        };
        behind("printf again > data/app.db-wal");
        let failure = bench.restore_app(&captured, json!({}), false).unwrap_err();
        assert_eq!(failure.trouble.code, "restore_differs", "{kind}: {failure}\n{}", bench.log());
        assert!(failure.to_string().contains("app.db-wal"), "{kind}: {failure}");
        assert_eq!(content(&device.at("data")), live, "{kind}");

        bench.run = RunId::generate(jiff::Timestamp::now());
        behind("printf new > data/app.db-journal");
        let restored = bench.restore_app(&captured, json!({}), false);
        let restored = restored.unwrap_or_else(|failure| panic!("{kind}: {failure}\n{}", bench.log()));
        assert_eq!(verdict(&restored.validations), Verdict::CouldNotVerify, "{kind}: {restored:#?}");
        assert!(restored.validations[0].detail.contains("app.db-journal"), "{kind}: {restored:#?}");
        assert!(!log.exists() && std::fs::read(&database).unwrap() == old, "{kind}");

        // Also where the database itself is gone.
        bench.run = RunId::generate(jiff::Timestamp::now());
        std::fs::remove_file(&database).unwrap();
        write(&log, "stale");
        device.allow("");
        let restored = bench.restore_app(&captured, json!({}), false);
        let restored = restored.unwrap_or_else(|failure| panic!("{kind}: {failure}\n{}", bench.log()));
        assert_eq!(verdict(&restored.validations), Verdict::Proven, "{kind}: {restored:#?}");
        assert_eq!(content(&device.at("data")).into_keys().collect::<Vec<_>>(), [Path::new("app.db")], "{kind}");
    }
}

#[test]
fn what_a_restore_kept_goes_only_when_all_of_it_was_read() {
    let device = Device::start();
    let mut bench = device.bench();
    for n in 0..60 {
        write(&device.at(&format!("data/many/{n:02}.bin")), &format!("old {n:02}").repeat(5_000));
    }
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    for n in 0..60 {
        write(&device.at(&format!("data/many/{n:02}.bin")), &format!("live {n:02}").repeat(5_000));
    }
    let live = content(&device.at("data"));
    // Ends the comparison, and while there is `hide`, takes the kept files away from under who reads them.
    between(
        &device,
        "*--existing*) ;;\n\
         *--delete*) [ -z \"$aside\" ] || exit 12 ;;\n\
         *--sender*.larder-before-*)\n\
         if [ -e hide ]; then\n\
         (sleep 0.5; mv \"$aside/many\" held) & sh -c \"$SSH_ORIGINAL_COMMAND\"; code=$?\n\
         wait; mv held \"$aside/many\"; exit $code\n\
         fi ;;",
    );
    write(&device.at("hide"), "");
    bench.target.settings["bandwidth_kib"] = json!(500);
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "not_undone", "{failure}\n{}", bench.log());
    let hint = failure.trouble.hint.unwrap_or_default();
    assert!(hint.contains(".larder-before-") && hint.contains("tries again"), "{hint}");
    assert_ne!(bench.noted(), Vec::<PathBuf>::new(), "it is tried again");
    std::fs::remove_file(device.at("hide")).unwrap();
    unmounted(&device, &bench);
    bench.recover_app().unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
    assert!(content(&device.at("data")) == live, "{}", bench.log());
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

#[test]
fn what_cannot_be_seen_on_the_device_is_not_taken_for_new() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can log in as somebody else");
    }
    let device = Device::start();
    let mut bench = device.bench();
    write(&device.at("data/closed/below/one"), "old");
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    write(&device.at("data/closed/below/one"), "live");
    let live = content(&device.at("data"));
    for path in ["", "data", "data/closed"] {
        let mode = if path == "data/closed" { 0o744 } else { 0o755 };
        chmod(&device.at(path), mode);
    }
    device.allow("runuser -u nobody -- $SSH_ORIGINAL_COMMAND");
    for dry_run in [true, false] {
        bench.run = RunId::generate(jiff::Timestamp::now());
        let failure = bench.restore_app(&captured, json!({}), dry_run).unwrap_err();
        assert_eq!(failure.trouble.code, "not_compared", "{failure}\n{}", bench.log());
    }
    assert!(content(&device.at("data")) == live);
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}

#[test]
fn what_is_excluded_since_the_backup_is_neither_sent_nor_touched_nor_left_by_an_undo() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can log in as somebody else");
    }
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    let device = empty_device();
    let at = |name: &str| device.at("data").join(name);
    chmod(&device.at(""), 0o755);
    for name in ["app.conf", "secret", "closed/below/one", "cache/one"] {
        write(&at(name), "old");
    }
    for name in ["", "app.conf"] {
        std::os::unix::fs::chown(at(name), Some(nobody), None).unwrap();
    }
    let mut bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    bench.target.settings["exclude"] = json!(["secret", "closed/", "cache"]);
    for name in ["app.conf", "secret", "closed/below/one"] {
        write(&at(name), "live");
    }
    chmod(&at("secret"), 0o600);
    chmod(&at("closed"), 0o700);
    std::fs::remove_dir_all(at("cache")).unwrap();
    let live = state(&device.at("data"));
    meanwhile(&device, ":");
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "cut_short", "{failure}\n{}", bench.log());
    assert_eq!(state(&device.at("data")), live, "{}", bench.log());
    // Nor does it need to be read or written.
    device.allow("runuser -u nobody -- $SSH_ORIGINAL_COMMAND");
    let restored = bench.restore_app(&captured, json!({}), false);
    let restored = restored.unwrap_or_else(|failure| panic!("{failure}\n{}", bench.log()));
    // Of what the device lacks as well nothing is said to be as in the backup.
    assert_eq!(verdict(&restored.validations), Verdict::CouldNotVerify, "{restored:#?}");
    let warned: Vec<&str> = restored.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert!(warned.len() == 1 && warned[0].ends_with("by now: cache/"), "{restored:#?}");
    let detail = &restored.validations[0].detail;
    assert!(detail.contains("6 of the backup are left alone, as `exclude` names them by now: cache/, closed/, secret"));
    assert!(detail.contains("of 2 of these it cannot be seen whether they are there"), "{detail}");
    assert_eq!(std::fs::read_to_string(at("app.conf")).unwrap(), "old");
    let mut now = state(&device.at("data"));
    let untouched = |all: &mut std::collections::BTreeMap<PathBuf, String>| {
        all.retain(|path, _| ["secret", "closed", "cache"].iter().any(|name| path.starts_with(name)));
        std::mem::take(all)
    };
    assert_eq!(untouched(&mut now), untouched(&mut live.clone()));
}

#[test]
fn a_restore_that_cannot_note_all_of_its_work_leaves_no_note() {
    let device = empty_device();
    for name in ["data/one/new", "data/two/new"] {
        write(&device.at(name), "old");
    }
    let mut bench = device.bench();
    bench.target.settings["paths"] = json!([device.at("data/one"), device.at("data/two")]);
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    std::fs::remove_file(device.at("data/one/new")).unwrap();
    // In the way of the second note; and of what clears the first one.
    std::fs::create_dir(bench.in_the_way_of("00001")).unwrap();
    write(&bench.journal().join("broken.json"), "no note");
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    let said = failure.to_string();
    assert!(said.contains("cannot be written") && said.contains("broken.json cannot be read"), "{said}");
    for left in ["broken.json", "00000.json"] {
        std::fs::remove_file(bench.journal().join(left)).unwrap();
    }
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "journal_unwritable", "{failure}\n{}", bench.log());
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
    write(&device.at("data/one/new"), "made since");
    bench.put_right();
    assert_eq!(std::fs::read_to_string(device.at("data/one/new")).unwrap(), "made since");
}

#[test]
fn directories_that_stayed_get_their_attributes_before_their_files_also_when_one_that_left_lacks_its_own() {
    let device = empty_device();
    let at = |name: &str| device.at("data").join(name);
    for name in ["changed", "was-file"] {
        write(&at(name), "old");
    }
    std::fs::create_dir(at("closed")).unwrap();
    let bench = device.bench();
    let captured = bench.capture_with(None).unwrap();
    lay_out(&bench, &device);
    write(&at("changed"), "live");
    chmod(&at("closed"), 0o700);
    std::fs::remove_file(at("was-file")).unwrap();
    write(&at("was-file/inside"), "live");
    let live = state(&device.at("data"));
    // Ends the comparison, and what makes directories again that left tells that it could not do all.
    between(
        &device,
        "*--existing* | *--sender* | *--delay-updates*) ;;\n\
         *--link-dest*) stat -c %a data/closed > closed-then ;;\n\
         'rsync --server -n'*) [ -z \"$aside\" ] || exit 12 ;;\n\
         *) touch made; sh -c \"$SSH_ORIGINAL_COMMAND\"; exit 23 ;;",
    );
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "cut_short", "{failure}\n{}", bench.log());
    assert_eq!(state(&device.at("data")), live, "{}", bench.log());
    assert_eq!(std::fs::read_to_string(device.at("closed-then")).unwrap(), "700\n", "{}", bench.log());
    assert!(
        device.at("made").exists() && bench.log().contains("but not all times, rights and owners"),
        "{}",
        bench.log()
    );
    assert_eq!(bench.noted(), Vec::<PathBuf>::new());
}
