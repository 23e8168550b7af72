//! The main job on real programs: push, run, prove, ship, retain, restore; and what goes wrong on the way.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process_clock::{ProcessClock, at};
use crate::site::{Site, text};
use crate::support::{larder, restic, wait_for};

fn outcome(record: &Value) -> &str {
    record["outcome"].as_str().unwrap_or("unfinished")
}

#[test]
fn the_demo_shows_the_main_job_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let done = std::process::Command::new(larder())
        .args(["demo", "--exit", "--restic"])
        .arg(restic())
        .env("TMPDIR", dir.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let said = text(&done);
    for expected in ["remote:", "applied", "^", "every bit, name, mode and link is the same", "Everything worked."] {
        assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the demo left something in its temporary directory");
}

#[test]
fn a_pushed_target_is_backed_up_proven_and_restored_bit_for_bit() {
    let site = Site::running();
    let record = site.run("files");
    assert_eq!(outcome(&record), "success", "{record}");

    let artifact = site.path("backups").join(record["artifact"]["path"].as_str().unwrap());
    let manifest: Value = serde_json::from_slice(&std::fs::read(artifact.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["target"], "files");
    assert_eq!(manifest["run"], record["id"]);
    assert!(manifest["validations"].as_array().is_some_and(|all| !all.is_empty()), "{manifest}");

    let snapshots = site.snapshots("restic");
    assert_eq!(snapshots.len(), 1);
    let tags: Vec<&str> = snapshots[0]["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
    let run_tag = format!("run:{}", record["id"].as_str().unwrap());
    for tag in ["larder", "target:files", "policy:daily", &run_tag] {
        assert!(tags.contains(&tag), "{tag} is missing in {tags:?}");
    }
    assert!(tags.iter().any(|tag| tag.starts_with("revision:")));

    let to = site.path("restored");
    let restored = site.operation(&site.call("restore.start", json!({"target": "files", "to": to})).unwrap());
    assert_eq!(restored["trouble"], Value::Null, "{restored}");
    let back = to.join(site.path("data").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(back.join("a.txt")).unwrap(), b"the first file\n");
    assert_eq!(std::fs::read(back.join("sub/b.txt")).unwrap(), b"the second file\n");

    let again = site.operation(&site.call("restore.start", json!({"target": "files", "to": to})).unwrap());
    assert!(again["trouble"]["message"].as_str().unwrap().contains("not empty"), "{again}");
}

#[test]
fn a_second_run_has_the_first_as_parent_and_retention_keeps_what_the_policy_says() {
    let site = Site::running();
    for number in 0..5 {
        site.write("data/a.txt", &format!("content {number}\n"));
        let record = site.run("files");
        assert_eq!(outcome(&record), "success", "{record}");
    }
    let snapshots = site.snapshots("restic");
    assert_eq!(snapshots.len(), 3, "retention is `last: 3`");
    assert!(snapshots.iter().all(|each| each["parent"].is_string()), "every later snapshot has a parent");
    let published: Vec<_> =
        walk(&site.path("backups/files")).into_iter().filter(|path| path.ends_with("manifest.json")).collect();
    assert_eq!(published.len(), 3, "keep_runs is 3: {published:?}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn a_broken_push_is_refused_with_a_caret_and_the_config_before_stays_in_force() {
    let site = Site::running();
    let before = site.call("config.status", json!({})).unwrap()["revision"].clone();
    let policy = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap();
    site.write("config/policies.yaml", &policy.replace("retention", "retantion"));
    let pushed = site.push("broken");
    assert!(!pushed.status.success());
    let said = text(&pushed);
    for expected in ["rejected", "policies.yaml:6:1", "retention", "^"] {
        assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
    }
    assert_eq!(site.call("config.status", json!({})).unwrap()["revision"], before);
}

#[test]
fn a_broken_revision_that_bypasses_the_hook_is_rejected_by_the_daemon_itself() {
    let site = Site::running();
    let policy = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap();
    site.write("config/policies.yaml", &policy.replace("daily", "daily\nnonsense: 1"));
    std::fs::remove_file(site.path("larder.git/hooks/pre-receive")).unwrap();
    std::fs::remove_file(site.path("larder.git/hooks/post-receive")).unwrap();
    assert!(site.push("bypass").status.success());
    let rejected = wait_for("the rejection", Duration::from_secs(10), || {
        let status = site.call("config.status", json!({})).unwrap();
        (!status["rejected"].is_null()).then_some(status)
    });
    assert!(rejected["rejected"]["errors"][0].as_str().unwrap().contains("nonsense"), "{rejected}");
    assert_eq!(outcome(&site.run("files")), "success", "the last good config still runs");
}

#[test]
fn a_push_while_the_daemon_is_down_takes_effect_at_its_start() {
    let mut site = Site::running();
    site.stop();
    let root = site.root().display().to_string();
    site.write(
        "config/more.yaml",
        &format!("kind: Target\nname: more\nplugin: files\nwith: {{paths: [{root}/data/sub]}}\n"),
    );
    let pushed = site.push("while down");
    assert!(pushed.status.success(), "{}", text(&pushed));
    site.start();
    wait_for("the new target", Duration::from_secs(10), || site.call("target.get", json!({"target": "more"})).ok());
}

#[test]
fn a_plan_over_push_shows_the_change_and_refuses_the_push() {
    let site = Site::running();
    let root = site.root().display().to_string();
    site.write(
        "config/more.yaml",
        &format!("kind: Target\nname: more\nplugin: files\nwith: {{paths: [{root}/data/sub]}}\n"),
    );
    let pushed = site.push_with("plan", &["-o", "plan"]);
    assert!(!pushed.status.success());
    let said = text(&pushed);
    assert!(said.contains("more") && said.contains("plan"), "{said}");
    assert!(site.call("target.get", json!({"target": "more"})).is_err(), "a plan applies nothing");
}

#[test]
fn an_emptied_config_is_held_until_it_is_confirmed_and_orphans_keep_their_backups() {
    let site = Site::running();
    assert_eq!(outcome(&site.run("files")), "success");
    for name in ["site.yaml", "destinations.yaml", "policies.yaml", "targets.yaml"] {
        std::fs::remove_file(site.path("config").join(name)).unwrap();
    }
    site.write("config/README.md", "nothing here\n");
    let pushed = site.push("empty");
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert!(text(&pushed).contains("held"), "{}", text(&pushed));
    assert_eq!(outcome(&site.run("files")), "success", "what was in force stays");

    let confirmed = site.push_with("empty, and meant", &["-o", "confirm"]);
    assert!(text(&confirmed).contains("applied"), "{}", text(&confirmed));
    assert!(site.call("run.start", json!({"target": "files"})).is_err());
    assert_eq!(site.snapshots("restic").len(), 2, "removing a target deletes no backup");
    let runs = site.call("run.list", json!({"target": "files"})).unwrap();
    assert_eq!(runs["items"].as_array().unwrap().len(), 2, "and no history");
}

#[test]
fn a_scheduled_job_runs_at_its_time_and_only_once() {
    let mut site = Site::new();
    site.base_config("\"* * * * *\"");
    let clock = ProcessClock::of(&mut site, "2026-11-22T12:00:05Z");
    site.start_and_push();
    assert_eq!(site.call("run.list", json!({"target": "files"})).unwrap()["items"], json!([]));
    clock.turn_and_look(&site, "2026-11-22T12:00:57Z");
    let record = wait_for("the scheduled run", Duration::from_secs(30), || {
        let runs = site.call("run.list", json!({"target": "files"})).unwrap();
        runs["items"].as_array().unwrap().first().cloned()
    });
    assert_eq!(record["trigger"], "scheduled");
    assert_eq!(record["slot"], "2026-11-22T12:01:00Z");
    let queued: jiff::Timestamp = record["queued"].as_str().unwrap().parse().unwrap();
    let late = queued.duration_since(at("2026-11-22T12:01:00Z"));
    assert!(late >= jiff::SignedDuration::ZERO && late < jiff::SignedDuration::from_secs(40), "{late:?} late");
    assert_eq!(outcome(&site.finished(record["id"].as_str().unwrap())), "success");
}

#[test]
fn one_failing_destination_makes_the_run_partial_and_the_other_still_gets_its_snapshot() {
    let site = Site::running();
    let root = site.root().display().to_string();
    site.write(
        "config/second.yaml",
        &format!(
            "kind: Destination\nname: second\nrepository: {{type: local, path: {root}/second}}\npassword: {{file: {root}/secrets/absent}}\n"
        ),
    );
    let policy = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap();
    site.write("config/policies.yaml", &policy.replace("[local]", "[local, second]"));
    assert!(site.push("two destinations").status.success());
    let record = site.run("files");
    assert_eq!(outcome(&record), "partial", "{record}");
    assert!(record["trouble"]["message"].as_str().unwrap().contains("secrets/absent"), "{record}");
    assert_eq!(site.snapshots("restic").len(), 1);

    site.write("secrets/absent", "another password\n");
    assert_eq!(outcome(&site.run("files")), "success");
    assert_eq!(site.snapshots("restic").len(), 2);
}

#[test]
fn hooks_run_around_the_backup_and_a_failing_before_hook_fails_the_run() {
    let site = Site::running();
    let root = site.root().display().to_string();
    let target = |before: &str| {
        format!(
            "kind: Target\nname: files\nplugin: files\nwith: {{paths: [{root}/data]}}\nhooks:\n  before: [{{command: {before}, timeout: 5s}}]\n  after: [{{command: [touch, {root}/after]}}]\n  on_failure: [{{command: [touch, {root}/on-failure]}}]\n"
        )
    };
    site.write("config/targets.yaml", &target(&format!("[touch, {root}/before]")));
    let pushed = site.push("hooks");
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!(outcome(&site.run("files")), "success");
    assert!(site.path("before").exists() && site.path("after").exists() && !site.path("on-failure").exists());

    site.write("config/targets.yaml", &target("[sh, -c, \"echo no way >&2; exit 7\"]"));
    assert!(site.push("failing hook").status.success());
    let record = site.run("files");
    assert_eq!(outcome(&record), "failed", "{record}");
    let message = record["trouble"]["message"].as_str().unwrap();
    assert!(message.contains("exit code 7") && message.contains("no way"), "{message}");
    assert!(site.path("on-failure").exists());
    assert_eq!(site.snapshots("restic").len(), 1, "nothing was shipped");

    site.write("config/targets.yaml", &target("[sleep, \"60\"]"));
    assert!(site.push("hanging hook").status.success());
    let record = site.run("files");
    assert!(record["trouble"]["message"].as_str().unwrap().contains("timeout of 5s"), "{record}");
}

#[test]
fn a_source_that_became_empty_fails_the_run_and_one_that_shrank_holds_retention() {
    let site = Site::running();
    site.write("data/large", &"x".repeat(1_000_000));
    for _ in 0..3 {
        assert_eq!(outcome(&site.run("files")), "success");
    }
    std::fs::remove_file(site.path("data/large")).unwrap();
    let record = site.run("files");
    assert_eq!(outcome(&record), "partial", "{record}");
    assert_eq!(record["trouble"]["code"], "shrank");
    assert_eq!(site.snapshots("restic").len(), 4, "`last: 3` was not applied");

    std::fs::remove_dir_all(site.path("data")).unwrap();
    std::fs::create_dir(site.path("data")).unwrap();
    let record = site.run("files");
    assert_eq!(outcome(&record), "failed", "{record}");
    assert_eq!(site.snapshots("restic").len(), 4, "an empty backup is never made");
}

#[test]
fn a_repository_that_was_replaced_by_an_empty_one_is_an_error_and_never_initialized_anew() {
    let site = Site::running();
    assert_eq!(outcome(&site.run("files")), "success");
    std::fs::rename(site.path("restic"), site.path("restic.away")).unwrap();
    std::fs::create_dir(site.path("restic")).unwrap();
    let record = site.run("files");
    assert_eq!(outcome(&record), "failed", "{record}");
    assert!(record["trouble"]["hint"].is_string(), "{record}");
    assert_eq!(std::fs::read_dir(site.path("restic")).unwrap().count(), 0, "nothing was written there");

    std::fs::remove_dir(site.path("restic")).unwrap();
    std::fs::rename(site.path("restic.away"), site.path("restic")).unwrap();
    assert_eq!(outcome(&site.run("files")), "success");
}

#[test]
fn an_unmounted_artifact_root_defers_the_run() {
    let site = Site::running();
    let config = std::fs::read_to_string(site.path("config/site.yaml")).unwrap();
    site.write("config/site.yaml", &config.replace("keep_runs: 3", "keep_runs: 3, require_mount: true"));
    assert!(site.push("require a mount").status.success());
    let record = site.run("files");
    assert_eq!(outcome(&record), "deferred", "{record}");
    let job = site.call("target.get", json!({"target": "files"})).unwrap();
    assert!(job.to_string().contains("artifacts_unmounted"), "{job}");
}

#[test]
fn a_cancelled_run_ends_with_its_children_and_the_next_one_succeeds() {
    let site = Site::running();
    let root = site.root().display().to_string();
    site.write(
        "config/targets.yaml",
        &format!(
            "kind: Target\nname: files\nplugin: files\nwith: {{paths: [{root}/data]}}\nhooks: {{before: [{{command: [sleep, \"61.5\"], timeout: 70s}}]}}\n"
        ),
    );
    assert!(site.push("slow").status.success());
    let started = site.call("run.start", json!({"target": "files"})).unwrap();
    let run = started["runs"][0].as_str().unwrap().to_owned();
    wait_for("the hook", Duration::from_secs(10), || running("sleep 61.5").then_some(()));
    assert_eq!(
        site.call("run.start", json!({"target": "files"})).unwrap()["runs"][0],
        run.as_str(),
        "never two at once"
    );
    site.call("run.cancel", json!({"run": run})).unwrap();
    assert_eq!(outcome(&site.finished(&run)), "cancelled");
    assert!(!running("sleep 61.5"));
    site.base_config("\"0 3 * * *\"");
    assert!(site.push("quick").status.success());
    assert_eq!(outcome(&site.run("files")), "success");
}

/// Whether a process whose command line ends with these words runs anywhere.
fn running(words: &str) -> bool {
    let wanted: Vec<u8> = words.split(' ').flat_map(|word| word.bytes().chain([0])).collect();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.ends_with(&wanted)))
}

#[test]
fn a_suspended_target_is_not_scheduled_and_can_be_resumed() {
    let site = Site::running();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(5);
    site.call("target.suspend", json!({"target": "files", "until": until, "reason": "moving house"})).unwrap();
    let target = site.call("target.get", json!({"target": "files"})).unwrap().to_string();
    assert!(target.contains("suspended") && target.contains("moving house"), "{target}");
    let far = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 40);
    assert!(site.call("target.suspend", json!({"target": "files", "until": far, "reason": ""})).is_err());
    site.call("target.resume", json!({"target": "files"})).unwrap();
    assert!(!site.call("target.get", json!({"target": "files"})).unwrap().to_string().contains("moving house"));
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let site = Site::running();
    let done =
        site.command().args(["serve", "--listen", "none", "--repo"]).arg(site.path("larder.git")).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done).contains("used by another"), "{}", text(&done));
}

#[test]
fn a_taken_port_is_a_clear_error() {
    let mut site = Site::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    site.base_config("\"0 3 * * *\"");
    let done =
        site.command().args(["serve", "--listen", &address, "--repo"]).arg(site.path("larder.git")).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = text(&done);
    assert!(said.contains(&address) && said.contains("hint:"), "{said}");
    site.serve_with(&[]);
}

#[test]
fn no_secret_is_found_in_logs_store_pages_or_artifacts() {
    let site = Site::running();
    assert_eq!(outcome(&site.run("files")), "success");
    std::thread::sleep(Duration::from_secs(2));
    for root in ["state", "backups", "larder.git", "daemon.log"] {
        let path = site.path(root);
        let files = if path.is_dir() { walk(&path) } else { vec![path] };
        for file in files {
            let bytes = std::fs::read(&file).unwrap_or_default();
            let found =
                bytes.windows(b"a password of the test".len()).any(|window| window == b"a password of the test");
            assert!(!found, "{} holds the password", file.display());
        }
    }
}

#[test]
fn a_name_that_is_there_is_restored_and_no_other_and_every_pattern_must_match() {
    let site = Site::running();
    for name in
        ["[ab].txt", "b.txt", "a\\b.txt", "ab.txt", "*", "!keep", "what?.txt", "whatx.txt", "[x]/a.txt", "x/a.txt"]
    {
        site.write(&format!("data/{name}"), &format!("of {name}\n"));
    }
    assert_eq!(outcome(&site.run("files")), "success");
    let data = site.path("data");
    let restored = |to: &str, includes: &[&str]| {
        let mut command = site.command();
        command.args(["restore", "files", "--to"]).arg(site.path(to));
        command.args(includes.iter().flat_map(|include| ["--include", include]));
        let done = command.output().unwrap();
        let back = site.path(to).join(data.strip_prefix("/").unwrap());
        let mut names: Vec<String> =
            walk(&back).iter().map(|path| path.strip_prefix(&back).unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        for name in &names {
            let is = std::fs::read_to_string(back.join(name)).unwrap();
            assert_eq!(is, std::fs::read_to_string(data.join(name)).unwrap(), "{name}");
        }
        (done.status.code().unwrap(), names, text(&done))
    };
    // Only a name that is not there is a pattern.
    let root = data.display().to_string();
    for (number, (include, expected)) in [
        (format!("{root}/[ab].txt"), &["[ab].txt"][..]),
        ("[ab].txt".to_owned(), &["[ab].txt"]),
        ("a\\b.txt".to_owned(), &["a\\b.txt"]),
        (format!("{root}/a\\b.txt"), &["a\\b.txt"]),
        ("*".to_owned(), &["*"]),
        (format!("{root}/*"), &["*"]),
        ("!keep".to_owned(), &["!keep"]),
        (format!("{root}/what?.txt"), &["what?.txt"]),
        (format!("{root}/[x]"), &["[x]/a.txt"]),
        ("[x]/a.txt".to_owned(), &["[x]/a.txt"]),
        (format!("{root}/[a].txt"), &["a.txt"]),
        ("[b].txt".to_owned(), &["b.txt", "sub/b.txt"]),
    ]
    .into_iter()
    .enumerate()
    {
        let (code, names, shown) = restored(&format!("to{number}"), &[&include]);
        assert_eq!(
            (code, names.iter().map(String::as_str).collect::<Vec<_>>()),
            (0, expected.to_vec()),
            "{include}: {shown}"
        );
    }
    // All three, and what does not match is named, whatever else does.
    let (code, names, shown) =
        restored("three", &[&format!("{root}/a.txt"), "nowhere.txt", &format!("{root}/[qr].txt")]);
    assert!(code == 1 && names.is_empty(), "{code} {names:?} {shown}");
    assert!(shown.contains("nowhere.txt") && shown.contains("/data/[qr].txt"), "{shown}");
    let (code, names, shown) = restored("both", &[&format!("{root}/[ab].txt"), "ab.txt"]);
    assert_eq!((code, names), (0, vec!["[ab].txt".to_owned(), "ab.txt".to_owned()]), "{shown}");
}

/// Writes its secret as servers and programs do, in every place that a plugin has words for, also in two writes and where
/// a text is cut.
const ECHO: &str = r#"#!/usr/bin/env python3
import base64, json, os, sys, time, urllib.parse
def say(**event): os.write(1, (json.dumps(event) + "\n").encode())
if sys.argv[1] == "describe":
    say(event="description", summary="x", settings={"type": "object", "properties": {"token": {"x-larder-secret": True}}, "additionalProperties": False})
    sys.exit()
token = json.loads(sys.stdin.readline())["settings"]["token"]
b64 = lambda text: base64.b64encode(text.encode()).decode()
forms = [token, json.dumps(token), urllib.parse.quote(token, safe=""), urllib.parse.quote_plus(token),
         token.encode().hex(), token.encode().hex(":").upper(), "".join("\\u%04x" % ord(c) for c in token)]
forms += ["Basic " + b64(user + ":" + token) for user in ("", "u", "us", "user")]
forms += ["AUTH PLAIN " + b64("\0" + user + "\0" + token) for user in ("u", "us", "usr")]
said = [f"535 the server was told <{form}>" for form in forms]
if sys.argv[1] == "capture":
    with open("kept.txt", "w") as kept: kept.write("kept\n")
    say(event="artifact", path="kept.txt")
    say(event="version", app=said[0])
    for text in said:
        for where in (1, 2):
            half = len(text) - len(token) // 2
            os.write(where, text[:half].encode())
            time.sleep(0.02)
            os.write(where, (text[half:] + "\n").encode())
        say(event="log", message=text)
    for text, length in [(token, 990), (b64("u:" + token), 990), (token, 996)]:
        say(event="log", message="x" * length + text)
    for text in (token, "AUTH PLAIN " + b64("\0user\0" + token)):
        os.write(1, ("y" * 180 + text + "\n").encode())
    for text in said[-3:]: say(event="warning", code="echo", message=text, hint="z" * 985 + token)
    say(event="notice", code="echo", message="z" * 990 + token, hint="look at it")
    for text in said: say(event="figure", name=text, value=1)
else:
    for text in said: say(event="validation", name=text, verdict="could_not_verify", detail=text)
    say(event="validation", name="v" * 190 + token, verdict="could_not_verify", detail="w" * 990 + token)
"#;

#[test]
fn whatever_form_a_program_gives_a_secret_it_reaches_no_log_store_page_or_answer() {
    const SECRET: &str = "Qz7\"k &W/9+v~Bramble%Xy";
    let mut site = crate::notice::with_plugin("echo", ECHO);
    std::fs::create_dir(site.path("plugins/commands")).unwrap();
    let program = "plugins/commands/login";
    let script = "#!/bin/sh\necho kept\nprintf 'u:%s' \"$APP_TOKEN\" | base64 -w0 | sed 's/^/Authorization: Basic /' >&2\n\
                  printf '%s' \"$APP_TOKEN\" | od -An -tx1 >&2\nprintf '\\0me\\0%s' \"$APP_TOKEN\" | base64 >&2; exit 3\n";
    site.write(program, script);
    std::fs::set_permissions(site.path(program), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    site.write("secrets/token", SECRET);
    let secret = site.path("secrets/token").display().to_string();
    site.write(
        "config/targets.yaml",
        &format!(
            "kind: Target\nname: files\nplugin: echo\nwith: {{token: {{file: {secret}}}}}\n---\n\
             kind: Target\nname: login\nplugin: command\nwith: {{command: login, stdout: out, env_secrets: {{APP_TOKEN: {{file: {secret}}}}}}}\n"
        ),
    );
    // Mails that nobody takes wait in the store.
    site.edit(
        "config/site.yaml",
        "keep_runs: 3}\n",
        "keep_runs: 3}\nemail: {smtp: \"smtp+plain://127.0.0.1:9\", from: l@t.lan, to: [me@t.lan]}\n",
    );
    site.start_and_push();
    let echoed = site.run("files");
    assert_eq!(outcome(&echoed), "partial", "{echoed}");
    let failed = site.run("login");
    assert_eq!((outcome(&failed), &failed["trouble"]["code"]), ("failed", &json!("command_failed")), "{failed}");

    // What depends on the secret alone: it in clear, and the digits of every other form, without the ends that it shares.
    let digits = |before: &str| {
        let text = data_encoding::BASE64.encode(format!("{before}{SECRET}").as_bytes());
        text[4..text.len() - 4].to_owned()
    };
    let hex = data_encoding::HEXLOWER.encode(SECRET.as_bytes());
    let mut forms = vec![SECRET.to_owned(), hex[4..hex.len() - 4].to_owned()];
    forms.extend(["", "x", "xx"].map(|before| digits(before)[..16].to_owned()));
    // Of a cut one its beginning, and of one that is escaped the longest stretch without anything to escape.
    forms.extend(["Qz7\"", "Bramble", "%Xy", "Qz7%22", "Qz7\\\"", "\\u0051\\u007a", "51:7A:37"].map(str::to_owned));
    let found = |what: &str, text: &str| {
        let unescaped = text.replace("\\\\", "\\").replace("\\\"", "\"").replace("&quot;", "\"");
        for form in &forms {
            if let Some(at) = unescaped.find(form.as_str()) {
                let before = unescaped[..at].chars().count();
                let around: String = unescaped.chars().skip(before.saturating_sub(60)).take(140).collect();
                panic!("{what} has {form:?}: {around:?}");
            }
        }
    };
    let mut logs = String::new();
    for record in [&echoed, &failed] {
        let run = record["id"].as_str().unwrap();
        found("the answer", &site.call("run.get", json!({"run": run})).unwrap().to_string());
        let log = text(&site.command().args(["log", run]).output().unwrap());
        found("the log of the run", &log);
        logs.push_str(&log);
        let name = record["job"]["target"].as_str().unwrap_or("files");
        found("the page", &site.get(&format!("/targets/{name}.html")));
    }
    assert!(logs.matches("[redacted]").count() > 40 && logs.contains("535 the server was told <[redacted]>"), "{logs}");
    assert!(logs.contains("Authorization: Basic") && logs.contains("AUTH PLAIN"), "{logs}");
    for path in ["/", "/status.json", "/metrics"] {
        found(path, &site.get(path));
    }
    found("status", &text(&site.command().arg("status").output().unwrap()));
    site.stop();
    found("the export", &text(&site.command().args(["export", "-"]).output().unwrap()));
    for root in ["state", "backups", "daemon.log"] {
        let path = site.path(root);
        for file in if path.is_dir() { walk(&path) } else { vec![path] } {
            found(&file.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()));
        }
    }
}
