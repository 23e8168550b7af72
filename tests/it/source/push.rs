//! Real pushes through the hooks that `larder init` writes, to the program as it is built.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use larder::source::setup::{Settings, init_bare};
use serde_json::{Value, json};

use super::{Sandbox, gits};
use crate::support::larder;

const GOOD: &str = "kind: Site
name: home
---
kind: Destination
name: nas
repository: {type: local, path: /mnt/nas/restic}
password: {file: /etc/larder/nas}
---
kind: Target
name: photos
plugin: files
with: {paths: [/srv/photos]}
";

const BAD: &str = "kind: Policy
name: nightly
schedule: \"0 3 * * *\"
retantion: {daily: 7}
default: true
";

/// A prepared bare repository with a checkout whose first commit was never pushed.
fn prepared(git: &std::path::Path) -> Sandbox {
    let sandbox = Sandbox::empty(git);
    let settings =
        Settings { larder: larder(), socket: Some(socket(&sandbox)), git: Some(git.to_owned()), ..Settings::default() };
    init_bare(&sandbox.bare(), "main", &settings).unwrap();
    sandbox.clone_work();
    sandbox.commit(&[("site.yaml", GOOD)]);
    sandbox
}

fn socket(sandbox: &Sandbox) -> PathBuf {
    sandbox.dir.path().join("larder.sock")
}

/// What the hooks said, without Git's `remote:` and trailing blanks.
fn remote(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("remote: ")).map(|line| line.trim_end().to_owned()).collect()
}

/// Answers each call with what `answer` makes of method and parameters, and keeps the calls.
fn daemon(sandbox: &Sandbox, answer: fn(&str, &Value) -> Value) -> Arc<Mutex<Vec<(String, Value)>>> {
    let listener = UnixListener::bind(socket(sandbox)).unwrap();
    let calls: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let kept = Arc::clone(&calls);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let call: Value = serde_json::from_slice(&body).unwrap();
            let method = call["method"].as_str().unwrap().to_owned();
            let result = answer(&method, &call["params"]);
            kept.lock().unwrap().push((method, call["params"].clone()));
            let body = json!({"jsonrpc": "2.0", "id": call["id"], "result": result}).to_string();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    calls
}

#[test]
fn a_good_push_is_taken_and_a_bad_one_refused_while_the_daemon_is_down() {
    for git in gits() {
        let sandbox = prepared(&git);
        let good = sandbox.push(&["origin", "main"]);
        assert_eq!(remote(&good), ["stored; it takes effect when the daemon starts"]);
        let kept = sandbox.head("main").unwrap();

        let bad = sandbox.commit(&[("policies/nightly.yaml", BAD)]);
        let refused = sandbox.try_push(&["origin", "main"]);
        let said = remote(&refused);
        assert!(!refused.status.success());
        assert_eq!(said[0], format!("✗ rejected {}: 1 error in 1 of 2 files", bad.short()));
        let said = said.join("\n");
        assert!(said.contains("policies/nightly.yaml:4:1"), "{said}");
        assert!(said.contains("retantion") && said.contains("^^^^^^^^^"), "{said}");
        assert!(said.contains("did you mean `retention`?"), "{said}");
        assert_eq!(sandbox.head("main"), Some(kept.clone()), "the branch did not move");

        assert!(sandbox.try_push(&["origin", "main:draft"]).status.success(), "another branch may hold anything");
        sandbox.git_in("work", ["branch", "-f", "draft", "main"]);
        assert!(
            !sandbox.try_push(&["origin", "draft:main"]).status.success(),
            "its objects are there, and yet it is bad"
        );
        assert_eq!(sandbox.head("main"), Some(kept));
        let both = sandbox.try_push(&["origin", "main:other", "main:main"]);
        assert!(!both.status.success(), "one bad branch refuses the whole push");
        assert_eq!(sandbox.head("other"), None);

        let mended = sandbox.commit(&[("policies/nightly.yaml", &BAD.replace("retantion", "retention"))]);
        sandbox.push(&["origin", "main"]);
        assert_eq!(sandbox.head("main"), Some(mended));
    }
}

#[test]
fn every_kind_of_refused_file_is_named_at_the_push() {
    for git in gits() {
        let sandbox = prepared(&git);
        std::os::unix::fs::symlink("/etc/passwd", sandbox.work().join("link.yaml")).unwrap();
        fs::write(sandbox.work().join("large.yaml"), vec![b'#'; 300 * 1024]).unwrap();
        fs::write(sandbox.work().join("latin.yaml"), b"name: caf\xe9\n").unwrap();
        let commit = sandbox.commit_all("Trouble");
        let refused = sandbox.try_push(&["origin", "main"]);
        let said = remote(&refused);
        assert!(!refused.status.success());
        assert_eq!(said[0], format!("✗ rejected {}: 3 errors in 3 of 4 files", commit.short()));
        let said = said.join("\n");
        for path in ["link.yaml:1:1", "large.yaml:1:1", "latin.yaml:1"] {
            assert!(said.contains(path), "{path} in {said}");
        }
    }
}

#[test]
fn a_force_push_is_taken_and_the_deletion_of_the_watched_branch_is_not() {
    for git in gits() {
        let sandbox = prepared(&git);
        sandbox.push(&["origin", "main", "main:other"]);
        sandbox.git_in("work", ["commit", "-q", "--amend", "-m", "Another history"]);
        sandbox.push(&["--force", "origin", "main"]);
        let head = sandbox.head("main").unwrap();
        assert_eq!(sandbox.git_in("work", ["rev-parse", "HEAD"]), head.to_string());

        let refused = sandbox.try_push(&["origin", ":main"]);
        assert!(!refused.status.success());
        assert_eq!(sandbox.head("main"), Some(head));
        // Without Git's own rule the hook still refuses, and says why.
        sandbox.git_in("site.git", ["config", "receive.denyDeletes", "false"]);
        let refused = sandbox.try_push(&["origin", ":main"]);
        assert!(!refused.status.success());
        assert!(remote(&refused)[0].starts_with("✗ refused: the branch main is what Larder backs up by"));
        assert!(sandbox.try_push(&["origin", ":other"]).status.success(), "any other branch may go");
    }
}

#[test]
fn a_plan_is_shown_and_nothing_is_pushed() {
    for git in gits() {
        let sandbox = prepared(&git);
        let planned = sandbox.try_push(&["-o", "plan", "origin", "main"]);
        assert!(!planned.status.success());
        let said = remote(&planned);
        assert!(said[0].starts_with("no plan: no daemon answers at"), "{said:?}");
        assert!(said.contains(&"  1 target: photos".to_owned()), "{said:?}");
        assert_eq!(said.last().unwrap(), "nothing was pushed: this was a plan");
        assert_eq!(sandbox.head("main"), None);

        let calls = daemon(&sandbox, |_, _| json!({"lines": ["+ target photos", "+ job photos/daily"], "plan": {}}));
        let planned = sandbox.try_push(&["-o", "plan", "origin", "main"]);
        assert!(!planned.status.success());
        assert_eq!(remote(&planned), ["+ target photos", "+ job photos/daily", "nothing was pushed: this was a plan"]);
        let calls = calls.lock().unwrap();
        assert_eq!(calls[0].0, "config.plan");
        assert_eq!(
            calls[0].1["config"]["targets"]["photos"]["plugin"], "files",
            "the daemon cannot see the objects yet"
        );
        assert_eq!(sandbox.head("main"), None);
    }
}

#[test]
fn what_the_daemon_made_of_a_push_is_told_and_a_held_one_can_be_confirmed() {
    for git in gits() {
        let sandbox = prepared(&git);
        let calls = daemon(&sandbox, |method, params| match method {
            "config.reconcile" => {
                json!({"revision": params["revision"], "result": "held", "lines": ["it removes every target"], "took_us": 900})
            }
            "config.confirm" => {
                json!({"revision": params["revision"], "result": "applied", "lines": ["- photos"], "took_us": 8200})
            }
            _ => json!({"applied": {"revision": "b".repeat(40), "at": "2026-11-20T03:02:00Z", "took_us": 1}}),
        });
        let first = sandbox.push(&["origin", "main"]);
        let commit = sandbox.head("main").unwrap();
        let said = remote(&first);
        assert_eq!(
            said[0],
            format!("! {} is held until it is confirmed; the config before it stays active", commit.short())
        );
        assert_eq!(said[1], "  it removes every target");

        sandbox.git_in("work", ["commit", "-q", "--allow-empty", "-m", "Confirm"]);
        let confirmed = sandbox.push(&["-o", "confirm", "origin", "main"]);
        let commit = sandbox.head("main").unwrap();
        assert_eq!(remote(&confirmed), [format!("✓ {} applied in 9ms: - photos", commit.short())]);

        sandbox.commit(&[("bad.yaml", BAD)]);
        let refused = sandbox.try_push(&["origin", "main"]);
        let last = remote(&refused).pop().unwrap();
        assert!(last.starts_with("  still active: bbbbbbb (applied 2026-11-20 "), "{last}");
        assert!(last.ends_with("), backups are unaffected"), "{last}");

        let calls = calls.lock().unwrap();
        let methods: Vec<&str> = calls.iter().map(|(method, _)| method.as_str()).collect();
        assert_eq!(methods, ["config.reconcile", "config.reconcile", "config.confirm", "config.status"]);
        assert_eq!(calls[2].1["revision"], commit.as_str());
    }
}

#[test]
fn a_push_that_cannot_be_checked_is_refused_and_says_why() {
    let sandbox = prepared(&gits()[0]);
    let hook = |git_dir: Option<&str>, input: &[u8]| {
        let mut command = Command::new(larder());
        command.args(["hook", "pre-receive"]).current_dir(sandbox.bare()).env_remove("GIT_DIR");
        if let Some(git_dir) = git_dir {
            command.env("GIT_DIR", git_dir);
        }
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (accepted, said) = hook(None, b"");
    assert!(!accepted && said.contains("GIT_DIR is not set"), "{said}");
    let (accepted, said) = hook(Some("."), b"nonsense\n");
    assert!(!accepted && said.contains("not `old new ref`"), "{said}");
    let (accepted, said) = hook(Some("/nonexistent.git"), b"");
    assert!(!accepted && said.contains("there is nothing at /nonexistent.git"), "{said}");
    let missing = format!("{} {} refs/heads/main\n", "0".repeat(40), "1".repeat(40));
    let (accepted, said) = hook(Some("."), missing.as_bytes());
    assert!(!accepted && said.contains("cannot be read") && said.contains("hint:"), "{said}");
    let (accepted, said) = hook(Some("."), b"");
    assert!(accepted, "an empty push is nobody's business: {said}");

    let mut post = Command::new(larder());
    post.args(["hook", "post-receive"]).env("GIT_DIR", "/nonexistent.git").stdin(Stdio::null());
    assert!(post.output().unwrap().status.success(), "the branch has moved: nothing can fail any more");
}

#[test]
fn only_the_config_root_is_checked_when_there_is_one() {
    let sandbox = prepared(&gits()[0]);
    let settings =
        Settings { larder: larder(), root: "backup".to_owned(), git: Some(sandbox.git.clone()), ..Settings::default() };
    init_bare(&sandbox.bare(), "main", &settings).unwrap();
    let refused = sandbox.try_push(&["origin", "main"]);
    assert!(remote(&refused)[0].contains("has no directory \"backup\""), "{:?}", remote(&refused));
    sandbox.commit(&[("backup/site.yaml", GOOD), ("compose.yaml", "services: {}\n")]);
    sandbox.push(&["origin", "main"]);
}
