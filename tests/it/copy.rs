//! Destinations that get copies from others: what arrives, what stays, what is told.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process_clock::ProcessClock;
use crate::site::{RUN_MAX, Site, text};
use crate::support::storages::{self, ACCESS_KEY, SECRET_KEY, Server};
use crate::support::{free_port, restic, wait_for};

/// How long the daemon may take to look at its clock by itself, and to do what is due.
const DUE_MAX: Duration = Duration::from_secs(90);

/// A site that ships to `local`, and a copy of that, `vault`, whose document has `more` in its `copy`.
fn site(more: &str) -> Site {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    let rule = format!("copy: {{from: local, schedule: \"0 5 * * *\"{more}}}\n");
    let vault = site.destination("vault", &format!("type: local, path: {root}/vault"), &rule);
    site.write("secrets/vault", "canary-password-of-the-vault\n");
    let vault = vault.replace("secrets/repository", "secrets/vault");
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{vault}"));
    site
}

fn said(site: &Site, args: &[&str]) -> (i32, String) {
    let done = site.command().args(args).output().unwrap();
    (done.status.code().unwrap(), text(&done))
}

fn copy(site: &Site) -> (i32, String) {
    said(site, &["destination", "copy", "vault"])
}

fn destination(site: &Site, name: &str) -> Value {
    let all = site.call("destination.list", json!({})).unwrap();
    all["items"].as_array().unwrap().iter().find(|each| each["name"] == name).unwrap().clone()
}

fn listed(site: &Site, name: &str) -> Vec<Value> {
    let shown = site.call("snapshot.list", json!({"destination": name})).unwrap();
    shown["items"].as_array().unwrap().clone()
}

/// What the real restic says of the copy, which has a password of its own.
fn in_vault(site: &Site, args: &[&str]) -> Value {
    let done = std::process::Command::new(restic())
        .args(["-r", site.path("vault").to_str().unwrap(), "--json", "--no-cache"])
        .args(args)
        .env("RESTIC_PASSWORD_FILE", site.path("secrets/vault"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    serde_json::from_slice(&done.stdout).unwrap_or(Value::Null)
}

fn run(site: &Site, target: &str) {
    let run = site.run(target);
    assert_eq!(run["outcome"], "success", "{run}");
}

#[test]
fn what_is_missing_is_copied_by_one_call_and_comes_back_from_the_copy() {
    let mut site = site("");
    let root = site.root().display().to_string();
    let script = format!(
        "for word in \"$@\"; do [ \"$word\" = copy ] && {{ echo \"$@\" >>'{root}/copies'; env >>'{root}/env'; }}; done\n\
         exec '{}' \"$@\"\n",
        restic().canonicalize().unwrap().display()
    );
    let wrapper = site.program("restic.sh", &script);
    site.serve_with(&["--restic", wrapper.to_str().unwrap()]);
    site.targets(&["files", "more"]);
    site.start_and_push();
    let calls = || std::fs::read_to_string(site.path("copies")).unwrap_or_default().lines().count();
    run(&site, "files");
    site.write("data/a.txt", "round 2\n");
    for name in ["files", "more"] {
        run(&site, name);
    }
    assert_eq!(destination(&site, "vault")["copy"]["missing"], 3);
    let behind = site.job("files")["destinations"][1].clone();
    assert_eq!((&behind["destination"], &behind["outcome"]), (&json!("vault"), &Value::Null), "{behind}");
    // Two that are asked for at once never overlap, and the second one finds nothing to do.
    let asked = [(); 2].map(|()| site.call("destination.copy", json!({"destination": "vault"})).unwrap());
    let ended = asked.map(|each| site.operation(&each));
    let lines: Vec<String> = ended.iter().map(|each| each["lines"].to_string()).collect();
    assert!(lines.iter().any(|each| each.contains("3 snapshots copied from local to vault")), "{ended:?}");
    assert!(lines.iter().any(|each| each.contains("nothing of local is missing in vault")), "{ended:?}");
    assert_eq!((calls(), listed(&site, "vault").len()), (1, 3));
    let (code, shown) = copy(&site);
    assert!(code == 0 && shown.contains("nothing of local is missing in vault"), "{shown}");
    assert_eq!(calls(), 1, "nothing is called for what is there");
    // The same pieces in both, so that what is the same is the same.
    let polynomial = |config: Value| config["chunker_polynomial"].clone();
    assert_eq!(polynomial(site.restic("restic", &["cat", "config"])), polynomial(in_vault(&site, &["cat", "config"])));
    let vault = destination(&site, "vault");
    assert_eq!((&vault["copy"]["missing"], &vault["copy"]["oldest_missing"]), (&json!(0), &Value::Null), "{vault}");
    assert_eq!((&vault["health"], &vault["jobs"]), (&json!("proven"), &json!(2)), "{vault}");
    assert_eq!(site.job("files")["destinations"][1]["outcome"], "success");
    // A new one is missing until the next time.
    run(&site, "files");
    assert_eq!(destination(&site, "vault")["copy"]["missing"], 1);
    let behind = site.job("files")["destinations"][1].clone();
    assert_eq!(
        (&behind["outcome"], &behind["problem"]["code"]),
        (&json!("deferred"), &json!("copy_behind")),
        "{behind}"
    );
    let metrics = site.get("/metrics");
    assert!(metrics.contains("larder_destination_copy_missing_snapshots{destination=\"vault\"} 1\n"), "{metrics}");
    let (_, shown) = copy(&site);
    assert!(shown.contains("1 snapshot copied"), "{shown}");
    for verb in ["test", "check", "prune", "keys", "pin"] {
        let (code, shown) = said(&site, &["destination", verb, "vault"]);
        assert_eq!(code, 0, "{verb}: {shown}");
    }
    let to = site.path("back");
    let back = ["restore", "files", "--destination", "vault", "--to", to.to_str().unwrap()];
    let (code, shown) = said(&site, &back);
    assert_eq!(code, 0, "{shown}");
    let file = to.join(site.path("data/a.txt").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "round 2\n");
    // No secret is an argument, and none is in what Larder writes.
    for canary in ["canary-password-of-the-vault", "a password of the test"] {
        assert!(!std::fs::read_to_string(site.path("copies")).unwrap().contains(canary));
        assert!(!site.log().contains(canary) && !site.get("/status.json").contains(canary));
    }
}

/// Has mails be written, to a server that nobody runs.
fn with_mails(site: &Site) {
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    let email = format!(
        "email: {{smtp: \"smtp+plain://localhost:{}\", from: larder@home.test, to: [me@home.test]}}\n",
        free_port()
    );
    site.write("config/site.yaml", &format!("{config}{email}"));
}

fn mails(site: &Site) -> u64 {
    site.call("system.status", json!({})).unwrap()["mail"]["waiting"].as_u64().unwrap()
}

fn push(site: &Site, message: &str) {
    let pushed = site.push(message);
    assert!(pushed.status.success(), "{}", text(&pushed));
}

/// Puts a repository in the place of the one that is copied to, whose fields are `repository`.
fn vault_lies_at(site: &Site, repository: &str) {
    let root = site.root().display().to_string();
    site.edit("config/destinations.yaml", &format!("type: local, path: {root}/vault"), repository);
}

#[test]
fn only_what_is_named_is_copied_and_what_the_policy_does_not_keep_is_not_copied_again() {
    let mut site = site(", targets: [files], policies: [daily]");
    site.targets(&["files", "more"]);
    site.start_and_push();
    run(&site, "more");
    for round in 0..5 {
        site.write("data/a.txt", &format!("round {round}\n"));
        run(&site, "files");
        let (code, shown) = copy(&site);
        assert!(code == 0 && shown.contains("1 snapshot copied"), "{round}: {shown}");
    }
    site.forgotten();
    wait_for("what the copy gave up is forgotten", RUN_MAX, || (listed(&site, "vault").len() == 3).then_some(()));
    let (code, shown) = copy(&site);
    assert!(code == 0 && shown.contains("nothing of local is missing"), "{shown}");
    let vault = listed(&site, "vault");
    assert!(vault.iter().all(|each| each["target"] == "files"), "{vault:?}");
    assert_eq!(destination(&site, "vault")["missing"], json!([]), "we forgot them ourselves");
    assert_eq!(site.job("more")["destinations"].as_array().unwrap().len(), 1, "more is not said to be there");
    // Nobody ships to a copy, and what is no copy is not copied to.
    let (code, shown) = said(&site, &["destination", "copy", "local"]);
    assert!(code != 0 && shown.contains("no copy of another destination"), "{shown}");
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, vault]");
    let refused = site.push("ship to the copy, too");
    assert!(!refused.status.success() && text(&refused).contains("gets its snapshots by `copy`"), "{}", text(&refused));
}

#[test]
fn a_copy_keeps_what_an_attacker_takes_from_its_source_and_says_so() {
    let mut site = site("");
    with_mails(&site);
    site.start_and_push();
    for round in 0..3 {
        site.write("data/a.txt", &format!("round {round}\n"));
        run(&site, "files");
    }
    assert_eq!(copy(&site).0, 0);
    let before = mails(&site);
    let ids: Vec<String> =
        site.snapshots("restic").iter().map(|each| each["id"].as_str().unwrap().to_owned()).collect();
    let mut forget = vec!["forget", "--prune"];
    forget.extend(ids.iter().map(String::as_str));
    site.restic("restic", &forget);
    for _ in 0..2 {
        let (code, shown) = copy(&site);
        assert!(code == 1 && shown.contains("gone from local") && shown.contains("vault keeps what it has"), "{shown}");
    }
    assert_eq!(mails(&site), before + 1, "told once");
    assert_eq!(listed(&site, "vault").len(), 3);
    // Runs that follow push nothing out of it either.
    for round in 0..4 {
        site.write("data/a.txt", &format!("after {round}\n"));
        let _ = site.run("files");
        let _ = copy(&site);
    }
    let (_, shown) = said(&site, &["destination", "forget", "vault"]);
    assert!(shown.contains("nothing of vault is to be forgotten"), "{shown}");
    let dates = listed(&site, "vault");
    assert!(dates.len() >= 3 + 4, "all of before and after: {dates:?}");
    let to = site.path("back");
    let oldest = dates.last().unwrap()["id"].as_str().unwrap().to_owned();
    let back = ["restore", "files", "--destination", "vault", "--snapshot", &oldest, "--to", to.to_str().unwrap()];
    let (code, shown) = said(&site, &back);
    assert_eq!(code, 0, "{shown}");
    let file = to.join(site.path("data/a.txt").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "round 0\n");
}

#[test]
fn a_source_that_is_away_is_named_and_told_once_and_a_lost_state_loses_no_copy() {
    let mut site = site("");
    with_mails(&site);
    site.start_and_push();
    run(&site, "files");
    std::fs::rename(site.path("restic"), site.path("unplugged")).unwrap();
    for _ in 0..2 {
        let (code, shown) = copy(&site);
        assert!(code == 1 && shown.contains("destination local:"), "{shown}");
        assert!(!site.path("vault").exists(), "nothing is made for nothing");
    }
    let vault = destination(&site, "vault");
    assert_eq!((&vault["health"], &vault["copy"]["upkeep"]["health"]), (&json!("failed"), &json!("failed")), "{vault}");
    let why = vault["copy"]["upkeep"]["problem"]["why"].to_string();
    assert!(why.contains("destination local:"), "{why}");
    assert_eq!(mails(&site), 1, "once for both attempts");
    std::fs::rename(site.path("unplugged"), site.path("restic")).unwrap();
    let (code, shown) = copy(&site);
    assert_eq!(code, 0, "{shown}");
    assert_eq!(mails(&site), 2, "and once that it works again");
    assert_eq!(destination(&site, "vault")["health"], "proven");
    // Where a run has told of it, the copy tells nobody again.
    std::fs::rename(site.path("restic"), site.path("unplugged")).unwrap();
    assert_eq!(site.run("files")["outcome"], "failed");
    assert_eq!((copy(&site).0, mails(&site)), (1, 3));
    assert_eq!(destination(&site, "vault")["copy"]["upkeep"]["health"], "warning");
    std::fs::rename(site.path("unplugged"), site.path("restic")).unwrap();
    run(&site, "files");
    assert_eq!((copy(&site).0, mails(&site)), (0, 4));
    // The state is lost: what is there is known by what is there.
    site.stop();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::create_dir(site.path("state")).unwrap();
    site.start();
    push(&site, "again");
    let (_, shown) = copy(&site);
    assert!(shown.contains("nothing of local is missing in vault"), "{shown}");
    assert_eq!(listed(&site, "vault").len(), 2);
    let to = site.path("back");
    let back = ["restore", "files", "--destination", "vault", "--to", to.to_str().unwrap()];
    let (code, shown) = said(&site, &back);
    assert_eq!(code, 0, "{shown}");
}

#[test]
fn a_copy_that_is_away_is_waited_for_told_when_it_is_overdue_and_caught_up() {
    let Some(mut server) = storages::rclone("restic", &["--user", "larder", "--pass", "rest"], |_| {}) else { return };
    let mut site = site("");
    with_mails(&site);
    site.write("secrets/rest", "rest");
    let root = site.root().display().to_string();
    let url = format!("http://127.0.0.1:{}/home", server.port);
    vault_lies_at(&site, &format!("type: rest, url: \"{url}\", user: larder, password: {{file: {root}/secrets/rest}}"));
    let clock = ProcessClock::of(&mut site, "2026-11-22T04:30:00Z");
    site.start_and_push();
    run(&site, "files");
    server.kill();
    clock.turn_and_look(&site, "2026-11-22T04:59:58Z");
    let copy_of = |site: &Site| destination(site, "vault")["copy"].clone();
    let waits = wait_for("the copy that waits", DUE_MAX, || {
        let copy = copy_of(&site);
        (copy["upkeep"]["health"] == "warning").then_some(copy)
    });
    assert!(waits["upkeep"]["problem"]["why"].to_string().contains("destination vault:"), "{waits}");
    assert_eq!((&waits["due_since"], mails(&site)), (&json!("2026-11-22T05:00:00Z"), 0), "{waits}");
    clock.turn_and_look(&site, "2026-11-22T11:00:10Z");
    let overdue = wait_for("the overdue copy", DUE_MAX, || {
        let copy = copy_of(&site);
        (copy["upkeep"]["problem"]["code"] == "copy_overdue").then_some(copy)
    });
    assert!(overdue["upkeep"]["problem"]["why"].to_string().contains("no whole copy of local since"), "{overdue}");
    assert_eq!((destination(&site, "vault")["health"].clone(), mails(&site)), (json!("failed"), 1));
    assert!(site.get("/metrics").contains("larder_destination_copy_failed{destination=\"vault\"} 1\n"));
    // It is back, and the daemon was down meanwhile.
    site.stop();
    server.start_again();
    clock.write("2026-11-22T12:30:00Z");
    site.start();
    let whole = wait_for("the whole copy", DUE_MAX, || {
        let copy = copy_of(&site);
        (copy["upkeep"]["health"] == "proven").then_some(copy)
    });
    assert_eq!((&whole["missing"], &whole["due_since"]), (&json!(0), &Value::Null), "{whole}");
    assert_eq!((&whole["upkeep"]["next"], mails(&site)), (&json!("2026-11-23T05:00:00Z"), 2), "{whole}");
    assert_eq!(listed(&site, "vault").len(), 1);
}

#[test]
fn a_copy_that_is_killed_goes_on_at_the_next_start() {
    let mut site = site("");
    let root = site.root().display().to_string();
    site.edit("config/destinations.yaml", "copy: {from", "limits: {upload: 256KiB/s}\ncopy: {from");
    let bytes: Vec<u8> =
        (0..3_000_000_u32).flat_map(|each| each.wrapping_mul(2_654_435_761).to_le_bytes()).take(3 << 20).collect();
    std::fs::write(site.path("data/large"), bytes).unwrap();
    let clock = ProcessClock::of(&mut site, "2026-11-22T04:30:00Z");
    let script = format!(
        "for word in \"$@\"; do [ \"$word\" = copy ] && echo copy >>'{root}/copies'; done\nexec '{}' \"$@\"\n",
        restic().canonicalize().unwrap().display()
    );
    let wrapper = site.program("restic.sh", &script);
    site.serve_with(&["--restic", wrapper.to_str().unwrap()]);
    site.start_and_push();
    run(&site, "files");
    clock.turn_and_look(&site, "2026-11-22T04:59:58Z");
    let calls = || std::fs::read_to_string(site.path("copies")).unwrap_or_default().lines().count();
    wait_for("the copy to begin", DUE_MAX, || (calls() == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(listed(&site, "vault").len(), 0, "it is not there yet");
    site.kill();
    clock.write("2026-11-22T05:01:00Z");
    site.start();
    wait_for("the whole copy", DUE_MAX, || {
        (destination(&site, "vault")["copy"]["upkeep"]["health"] == "proven").then_some(())
    });
    assert_eq!(listed(&site, "vault").len(), 1);
    // A lock that the killed one left is in nobody's way, and goes when it is.
    let (code, shown) = said(&site, &["destination", "check", "vault"]);
    assert_eq!(code, 0, "{shown}");
    in_vault(&site, &["check"]);
    assert_eq!(in_vault(&site, &["list", "locks"]), Value::Null, "a lock of ours stayed");
}

#[test]
fn a_copy_keeps_no_run_waiting_and_who_needs_the_source_alone_waits_for_it() {
    let mut site = site("");
    let root = site.root().display().to_string();
    site.edit("config/site.yaml", "keep_runs: 3}\n", "keep_runs: 3}\nconcurrency: {runs: 1, per_destination: 1}\n");
    let script = format!(
        "for word in \"$@\"; do\n  [ \"$word\" = copy ] || continue\n  echo copy >>'{root}/copies'\n  \
         while [ -e '{root}/halt' ]; do sleep 0.05; done\ndone\nexec '{}' \"$@\"\n",
        restic().canonicalize().unwrap().display()
    );
    let wrapper = site.program("restic.sh", &script);
    site.serve_with(&["--restic", wrapper.to_str().unwrap()]);
    site.start_and_push();
    run(&site, "files");
    site.write("halt", "");
    let copying = site.call("destination.copy", json!({"destination": "vault"})).unwrap();
    wait_for("the copy to begin", RUN_MAX, || site.path("copies").exists().then_some(()));
    let waiting = site.call("destination.prune", json!({"destination": "local"})).unwrap();
    for _ in 0..2 {
        let answer = site.call("run.start", json!({"target": "files"})).unwrap();
        let run = site.finished(answer["runs"][0].as_str().unwrap());
        assert_eq!(run["outcome"], "success", "{run}");
    }
    let prune = site.call("operation.get", json!({"operation": waiting["operation"]})).unwrap();
    assert!(prune["finished"].is_null(), "it waits for the copy: {prune}");
    std::fs::remove_file(site.path("halt")).unwrap();
    for started in [copying, waiting] {
        let ended = site.operation(&started);
        assert!(ended["trouble"].is_null(), "{ended}");
    }
}

fn sftp_at(site: &Site, sshd: &Server, key: &str) -> String {
    let text = std::fs::read_to_string(sshd.directory.path().join("login")).unwrap();
    site.write(&format!("secrets/{key}"), &text);
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    format!(
        "type: sftp, host: 127.0.0.1, port: {}, user: {user}, path: {}/restic, known_hosts: [\"{}\"], \
         key: {{file: {}/secrets/{key}}}",
        sshd.port,
        sshd.files().display(),
        storages::public(&sshd.directory.path().join("host")),
        site.root().display()
    )
}

fn holds_none_of(place: &Path, canaries: &[&str]) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            holds_none_of(&entry.path(), canaries);
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            for canary in canaries {
                let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!found, "{} holds a secret", entry.path().display());
            }
        }
    }
}

/// Two of one kind are reached by one process: two hosts with a key each, two servers with a login each, two buckets.
#[test]
fn copies_go_between_two_storages_of_one_kind_and_between_all_kinds() {
    const LOGINS: [(&str, &str); 2] = [("one", "canary of the first: /@%"), ("other", "canary-of-the-second")];
    let login = format!("{ACCESS_KEY},{SECRET_KEY}");
    let buckets = [(); 2].map(|()| {
        storages::rclone("s3", &["--auth-key", &login], |files| std::fs::create_dir(files.join("backups")).unwrap())
    });
    let [Some(bucket), Some(other_bucket)] = buckets else { return };
    let rests =
        LOGINS.map(|(user, password)| storages::rclone("restic", &["--user", user, "--pass", password], |_| {}));
    let [Some(rest), Some(other_rest)] = rests else { return };
    let (host, other_host) = (storages::sshd(), storages::sshd());
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    let rest_at = |server: &Server, (user, password): (&str, &str)| {
        site.write(&format!("secrets/rest-{user}"), password);
        format!(
            "type: rest, url: \"http://127.0.0.1:{}/home\", user: {user}, password: {{file: {root}/secrets/rest-{user}}}",
            server.port
        )
    };
    let rule = |from: &str| format!("copy: {{from: {from}, schedule: \"0 5 * * *\"}}\n");
    let documents = [
        site.destination("bucket", &site.s3_repository(bucket.port, "backups"), ""),
        site.destination("bucket-copy", &site.s3_repository(other_bucket.port, "backups"), &rule("bucket")),
        site.destination("host", &sftp_at(&site, &host, "key"), ""),
        site.destination("host-copy", &sftp_at(&site, &other_host, "other-key"), &rule("host")),
        site.destination("rest", &rest_at(&rest, LOGINS[0]), ""),
        site.destination("rest-copy", &rest_at(&other_rest, LOGINS[1]), &rule("rest")),
        site.destination("disk-copy", &format!("type: local, path: {root}/disk"), &rule("rest")),
    ];
    let local = std::fs::read_to_string(site.path("config/destinations.yaml")).unwrap();
    site.write("config/destinations.yaml", &format!("{local}{}", documents.concat()));
    site.edit("config/policies.yaml", "destinations: [local]", "destinations: [local, bucket, host, rest]");
    site.start_and_push();
    run(&site, "files");
    for name in ["bucket-copy", "host-copy", "rest-copy", "disk-copy"] {
        let (code, shown) = said(&site, &["destination", "copy", name]);
        assert!(code == 0 && shown.contains("1 snapshot copied"), "{name}: {shown}");
    }
    site.write("data/a.txt", "round 2\n");
    run(&site, "files");
    for name in ["bucket-copy", "host-copy", "rest-copy", "disk-copy"] {
        // By the machine keys of both by now.
        let (code, shown) = said(&site, &["destination", "copy", name]);
        assert!(code == 0 && shown.contains("1 snapshot copied"), "{name}: {shown}");
        let to = site.path(&format!("back-{name}"));
        let (code, shown) = said(&site, &["restore", "files", "--destination", name, "--to", to.to_str().unwrap()]);
        assert_eq!(code, 0, "{name}: {shown}");
        let back = to.join(site.path("data/a.txt").strip_prefix("/").unwrap());
        assert_eq!(std::fs::read_to_string(back).unwrap(), "round 2\n", "{name}");
    }
    let canaries = [SECRET_KEY, LOGINS[0].1, LOGINS[1].1, "canary%20of%20the%20first"];
    for place in ["state", "backups", "larder.git", "config"] {
        holds_none_of(&site.path(place), &canaries);
    }
    assert!(canaries.iter().all(|canary| !site.log().contains(canary)), "a secret is in the daemon's log");
}
