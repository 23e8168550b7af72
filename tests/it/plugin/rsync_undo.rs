//! What the plugin `rsync` does when it cannot read what a restore kept: that may be the only copy.

use std::os::unix::fs::PermissionsExt as _;

use super::rsync::{Device, content, lay_out, write};
use super::*;

/// Ends the comparison behind a restore, and while there is a file `hide`, takes the kept files away from under who reads them.
fn script(device: &Device) -> PathBuf {
    let directory = device.at("");
    let text = format!(
        "#!/bin/sh\ncd {} || exit 1\naside=$(ls -d data/.larder-before-* 2>/dev/null | head -n 1)\n\
         case \"$SSH_ORIGINAL_COMMAND\" in\n\
         *--existing*) ;;\n\
         *--delete*) [ -z \"$aside\" ] || exit 12 ;;\n\
         *--sender*.larder-before-*)\n\
         if [ -e hide ]; then\n\
         (sleep 0.5; mv \"$aside/many\" held) & sh -c \"$SSH_ORIGINAL_COMMAND\"; code=$?\n\
         wait; mv held \"$aside/many\"; exit $code\n\
         fi ;;\n\
         esac\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
        directory.display()
    );
    let path = device.at("script");
    write(&path, &text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn what_a_restore_kept_goes_only_when_all_of_it_was_read() {
    let device = Device::start();
    let mut bench = device.bench();
    for n in 0..60 {
        write(&device.at(&format!("data/many/{n:02}.bin")), &format!("old {n:02}").repeat(5_000));
    }
    let captured = bench.capture_beside(None).unwrap();
    lay_out(&bench, &device);
    for n in 0..60 {
        write(&device.at(&format!("data/many/{n:02}.bin")), &format!("live {n:02}").repeat(5_000));
    }
    let live = content(&device.at("data"));
    device.allow(&script(&device).display().to_string());
    std::fs::write(device.at("hide"), "").unwrap();
    bench.target.settings["bandwidth_kib"] = json!(500);
    let failure = super::database::put_back_noted(&bench, &captured, json!({}), None).unwrap_err();
    assert_eq!(failure.trouble.code, "not_undone", "{failure}\n{}", bench.log());
    assert_ne!(bench.noted(), Vec::<PathBuf>::new(), "it is tried again");
    std::fs::remove_file(device.at("hide")).unwrap();
    // Its disk is not mounted, in either way that this looks.
    std::fs::rename(device.at("data"), device.at("disk")).unwrap();
    for there in [false, true] {
        if there {
            std::fs::create_dir(device.at("data")).unwrap();
        }
        let failure = bench.recover_app().unwrap_err();
        assert_eq!(failure.trouble.code, "not_undone", "{failure}\n{}", bench.log());
        assert_ne!(bench.noted(), Vec::<PathBuf>::new(), "{there}");
    }
    std::fs::remove_dir(device.at("data")).unwrap();
    std::fs::rename(device.at("disk"), device.at("data")).unwrap();
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
    let captured = bench.capture_beside(None).unwrap();
    lay_out(&bench, &device);
    write(&device.at("data/closed/below/one"), "live");
    let live = content(&device.at("data"));
    for path in ["", "data", "data/closed"] {
        let mode = if path == "data/closed" { 0o744 } else { 0o755 };
        std::fs::set_permissions(device.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
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
