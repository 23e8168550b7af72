//! Secrets that lie encrypted in Git: with another implementation in both directions, from the push to the run, and bad input.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::support::larder;
use crate::support::skip::{Lack, skip};
use crate::support::wait_for;

const CANARY: &str = "Canary-4hQ9zR7vKx2mTq8w";

/// A checkout and an identity, without a daemon.
struct Desk {
    dir: tempfile::TempDir,
    recipient: String,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("larder-secret-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        let recipient = identity(&dir.path().join("key.txt"));
        Self { dir, recipient }
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key.txt")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.config().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.config().join(name)).unwrap()
    }

    fn secret(&self, args: &[&str], stdin: &str) -> Output {
        secret(&self.config(), &self.key(), args, stdin)
    }

    fn done(&self, args: &[&str], stdin: &str) -> String {
        let done = self.secret(args, stdin);
        assert!(done.status.success(), "{args:?}: {}", text(&done));
        String::from_utf8(done.stdout).unwrap()
    }

    /// What the other implementation reads: keys, type, text of each value.
    fn other_reads(&self, name: &str) -> Value {
        let read = other(&["decrypt", self.config().join(name).to_str().unwrap(), self.key().to_str().unwrap()]);
        assert!(read.status.success(), "{name}: {}", text(&read));
        serde_json::from_slice(&read.stdout).unwrap()
    }

    fn other_writes(&self, name: &str, plain: &str, args: &[&str]) {
        let from = self.dir.path().join("plain.yaml");
        std::fs::write(&from, plain).unwrap();
        let made = other(&[&["encrypt", from.to_str().unwrap(), "--age", &self.recipient], args].concat());
        assert!(made.status.success(), "{}", text(&made));
        self.write(name, made.stdout);
    }
}

/// Makes an identity; answers with its recipient.
fn identity(path: &Path) -> String {
    let made = Command::new(larder()).args(["secret", "identity"]).arg(path).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn secret(checkout: &Path, key: &Path, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(larder())
        .args(["secret", "-C"])
        .arg(checkout)
        .arg("--identity")
        .arg(key)
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who refuses before it reads closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn python() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/sops/bin/python")
}

fn other(args: &[&str]) -> Output {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/sops.py");
    Command::new(python()).arg(script).args(args).stdin(Stdio::null()).output().unwrap()
}

fn other_is_here() -> bool {
    let here = python().is_file();
    if !here {
        skip(Lack::Sops, "there is no target/tools/sops (tests/setup/sops.sh makes it)");
    }
    here
}

const PLAIN: &str = "# on top\npassword: \"pä\\\"ss: 1\"\nport: 5432\nratio: 1.50\nbig: 1e3\nyes_or: true\nno_or: false\nnothing: null\n\
    empty: \"\"\nnote_unencrypted: readable\nlist:\n    - one\n    - 2\n    - inner: three\n      # inside\n      other: \"two\\nlines\\n\"\n\
    deep:\n    # below\n    a:\n        b: x\n";

#[test]
fn what_another_implementation_writes_is_read_and_what_is_written_it_reads() {
    if !other_is_here() {
        return;
    }
    let desk = Desk::new();
    let second = identity(&desk.dir.path().join("second.txt"));
    let kinds: [(&str, &[&str]); 4] = [
        ("all", &[]),
        ("regex", &["--encrypted-regex", "^(password|b|inner)$"]),
        ("mac", &["--encrypted-regex", "^(password|b)$", "--mac-only-encrypted"]),
        ("suffix", &["--unencrypted-suffix", "_or", "--age", &second]),
    ];
    for (kind, args) in kinds {
        let file = format!("apps/{kind}.sops.yaml");
        desk.other_writes(&file, PLAIN, args);
        for (path, wanted) in [
            ("password", "pä\"ss: 1"),
            ("port", "5432"),
            ("ratio", "1.5"),
            ("big", "1000"),
            ("yes_or", "true"),
            ("no_or", "false"),
            ("empty", ""),
            ("note_unencrypted", "readable"),
            ("list.0", "one"),
            ("list.2.inner", "three"),
            ("list.2.other", "two\nlines\n"),
            ("deep.a.b", "x"),
        ] {
            assert_eq!(desk.done(&["show", &format!("{file}#{path}")], ""), format!("{wanted}\n"), "{kind} {path}");
        }
        let before = desk.other_reads(&file);
        let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
        let written = desk.read(&file);
        desk.done(&["set", &format!("{file}#password")], "new\n");
        desk.done(&["set", &format!("{file}#deep.a.b")], "y");
        assert_eq!(comments(&desk.read(&file)), comments(&written), "{kind}");
        desk.done(&["rotate", &file], "");
        assert_eq!(comments(&desk.read(&file)), comments(&written), "{kind}");
        let after = desk.other_reads(&file);
        let expected: Vec<Value> = before
            .as_array()
            .unwrap()
            .iter()
            .map(|value| match value[0].as_array().unwrap().last().unwrap().as_str().unwrap() {
                "password" => json!([["password"], "str", "new"]),
                "b" => json!([["deep", "a", "b"], "str", "y"]),
                _ => value.clone(),
            })
            .collect();
        assert_eq!(after, Value::Array(expected), "{kind}");
    }
    // Comments that were encrypted are, with the new key.
    assert!(desk.read("apps/all.sops.yaml").starts_with("#ENC["));
    desk.done(&["recipients", "--add", &second], "");
    let second_key = desk.dir.path().join("second.txt");
    let read =
        other(&["decrypt", desk.config().join("apps/regex.sops.yaml").to_str().unwrap(), second_key.to_str().unwrap()]);
    assert!(read.status.success(), "{}", text(&read));
    desk.done(&["recipients", "--remove", &second], "");
    let read =
        other(&["decrypt", desk.config().join("apps/regex.sops.yaml").to_str().unwrap(), second_key.to_str().unwrap()]);
    assert_eq!(read.status.code(), Some(4), "{}", text(&read));

    desk.done(&["set", "nas"], "a password\n");
    assert_eq!(desk.other_reads("secrets/nas.sops.yaml"), json!([[["value"], "str", "a password"]]));
    let shown = desk.done(&["check"], "");
    assert!(shown.contains("5 of 5 files"), "{shown}");
}

#[test]
fn creation_rules_say_for_whom_a_new_file_is_and_what_of_it_is_encrypted() {
    let desk = Desk::new();
    let second = identity(&desk.dir.path().join("second.txt"));
    let rules = format!(
        "creation_rules:\n  - path_regex: ^apps/\n    age: {}, {second}\n    encrypted_regex: ^(password)$\n  - path_regex: ^secrets/\n    age: [{}]\n",
        desk.recipient, desk.recipient
    );
    desk.write(".sops.yaml", rules);
    desk.done(&["set", "apps/db.sops.yaml#password"], CANARY);
    let made = desk.read("apps/db.sops.yaml");
    assert!(made.contains(&second) && made.contains("encrypted_regex") && !made.contains(CANARY), "{made}");
    desk.done(&["generate", "nas"], "");
    assert!(!desk.read("secrets/nas.sops.yaml").contains(&second));
    let refused = desk.secret(&["set", "apps/db.sops.yaml#user"], "x");
    assert!(!refused.status.success() && text(&refused).contains("cannot be added"), "{}", text(&refused));
    let refused = desk.secret(&["set", "elsewhere/x.sops.yaml"], "x");
    assert!(text(&refused).contains("no rule of it fits"), "{}", text(&refused));
    assert!(!desk.config().join("elsewhere").exists());
}

#[test]
fn a_value_is_never_printed_unless_asked_for_and_never_taken_from_an_argument() {
    let desk = Desk::new();
    let mut said = desk.done(&["set", "nas"], CANARY);
    for args in [&["list"][..], &["check"], &["rotate"], &["recipients"], &["list", "--output", "json"]] {
        said.push_str(&desk.done(args, ""));
    }
    assert!(said.contains("nas") && !said.contains(CANARY), "{said}");
    assert_eq!(desk.done(&["show", "nas"], ""), format!("{CANARY}\n"));
    let refused = desk.secret(&["set", "nas", CANARY], "");
    assert_eq!(refused.status.code(), Some(2), "an argument is no way in");
    let refused = desk.secret(&["generate", "nas"], "");
    assert!(text(&refused).contains("--replace"), "{}", text(&refused));
    desk.done(&["generate", "nas", "--replace", "--length", "40"], "");
    assert_eq!(desk.done(&["show", "nas"], "").trim_end().len(), 40);
    let empty = desk.secret(&["set", "nas"], "\n");
    assert!(text(&empty).contains("is empty"), "{}", text(&empty));
}

#[test]
fn an_identity_that_others_may_read_is_missing_or_is_another_one_is_refused_by_name() {
    let desk = Desk::new();
    desk.done(&["set", "nas"], CANARY);
    let told = |key: &Path| {
        let refused = secret(&desk.config(), key, &["show", "nas"], "");
        assert!(!refused.status.success() && !text(&refused).contains(CANARY));
        text(&refused)
    };
    std::fs::set_permissions(desk.key(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = told(&desk.key());
    assert!(said.contains("may be read by others") && said.contains("chmod 600"), "{said}");
    std::fs::set_permissions(desk.key(), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(told(&desk.dir.path().join("nowhere")).contains("cannot be read"));
    let other_recipient = identity(&desk.dir.path().join("other.txt"));
    let said = told(&desk.dir.path().join("other.txt"));
    assert!(said.contains(&desk.recipient) && said.contains(&other_recipient) && said.contains("--add"), "{said}");
    std::fs::write(desk.dir.path().join("other.txt"), "AGE-SECRET-KEY-1BROKEN\n").unwrap();
    assert!(told(&desk.dir.path().join("other.txt")).contains("line 1 is no age identity"));
    // An identity is never written over.
    let again = Command::new(larder()).args(["secret", "identity"]).arg(desk.key()).output().unwrap();
    assert!(!again.status.success(), "{}", text(&again));
}

#[test]
fn what_sops_reads_by_its_environment_is_read() {
    let desk = Desk::new();
    desk.done(&["set", "nas"], CANARY);
    let show = |name: &str, value: &std::ffi::OsStr| {
        let mut command = Command::new(larder());
        command.args(["secret", "-C"]).arg(desk.config()).args(["show", "nas"]).env("HOME", desk.dir.path());
        command.env_remove("XDG_CONFIG_HOME").env(name, value).stdin(Stdio::null()).output().unwrap()
    };
    let key = std::fs::read_to_string(desk.key()).unwrap();
    assert!(text(&show("SOPS_AGE_KEY", key.as_ref())).contains(CANARY));
    assert!(text(&show("SOPS_AGE_KEY_FILE", desk.key().as_os_str())).contains(CANARY));
    let credentials = desk.dir.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("larder-identity"), &key).unwrap();
    assert!(text(&show("CREDENTIALS_DIRECTORY", credentials.as_os_str())).contains(CANARY));
    let nothing = show("LARDER_NOTHING", "".as_ref());
    assert!(text(&nothing).contains("there is no age identity"), "{}", text(&nothing));
    let usual = desk.dir.path().join(".config/sops/age");
    std::fs::create_dir_all(&usual).unwrap();
    std::fs::copy(desk.key(), usual.join("keys.txt")).unwrap();
    assert!(text(&show("LARDER_NOTHING", "".as_ref())).contains(CANARY));
}

/// A site whose repository's password lies in Git, and whose daemon has the identity.
fn site() -> (Site, String) {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let recipient = identity(&site.path("key.txt"));
    let root = site.root().display().to_string();
    site.edit("config/destinations.yaml", &format!("{{file: {root}/secrets/repository}}"), "{secret: repository}");
    set(&site, "repository", CANARY);
    let key = site.path("key.txt");
    site.serve_with(&["--identity", key.to_str().unwrap()]);
    (site, recipient)
}

fn set(site: &Site, name: &str, value: &str) {
    let done = secret(&site.path("config"), &site.path("key.txt"), &["set", name], value);
    assert!(done.status.success(), "{}", text(&done));
}

#[test]
fn a_secret_in_git_opens_a_destination_and_its_change_alone_takes_effect_without_a_restart() {
    let (mut site, _) = site();
    site.start_and_push();
    let record = site.run("files");
    assert_eq!(record["outcome"], "success", "{record}");

    set(&site, "repository", "another password");
    let pushed = site.push("a new password");
    assert!(pushed.status.success() && text(&pushed).contains("applied"), "{}", text(&pushed));
    let record = site.run("files");
    assert_ne!(record["outcome"], "success", "the repository has the old one: {record}");

    set(&site, "repository", CANARY);
    assert!(site.push("the old one").status.success());
    assert_eq!(site.run("files")["outcome"], "success");

    // Also behind a restart, and while the identity is away it is said why.
    site.stop();
    site.start();
    assert_eq!(site.run("files")["outcome"], "success");
    std::fs::rename(site.path("key.txt"), site.path("away.txt")).unwrap();
    let record = site.run("files").to_string();
    assert!(record.contains("key.txt") && record.contains("cannot be read"), "{record}");
    std::fs::rename(site.path("away.txt"), site.path("key.txt")).unwrap();
    assert_eq!(site.run("files")["outcome"], "success");
}

#[test]
fn a_push_is_refused_for_every_secret_that_would_not_open_at_night() {
    let (mut site, recipient) = site();
    site.start_and_push();
    let file = "config/secrets/repository.sops.yaml";
    let good = std::fs::read_to_string(site.path(file)).unwrap();
    let stranger = identity(&site.path("stranger.txt"));
    let other_site = tempfile::tempdir().unwrap();
    let made = secret(other_site.path(), &site.path("stranger.txt"), &["set", "repository"], CANARY);
    assert!(made.status.success(), "{}", text(&made));
    let for_others = std::fs::read(other_site.path().join("secrets/repository.sops.yaml")).unwrap();
    let value = good.lines().find(|line| line.starts_with("value:")).unwrap();
    let merged = good.replace(value, &format!("<<<<<<< HEAD\n{value}\n=======\n{value}\n>>>>>>> b"));
    let mut not_text = good.clone().into_bytes();
    not_text[3] = 0xff;
    let large = format!("# {}\n{good}", "x".repeat(10 << 20));
    let cases: [(&str, Vec<u8>, &[&str]); 7] = [
        ("plain", format!("value: {CANARY}\n").into_bytes(), &["secret_file", "not encrypted", "sops encrypt"]),
        ("others", for_others, &["secret_not_opened", &stranger, &recipient, "recipients --add"]),
        ("merged", merged.into_bytes(), &["secret_file", "conflict marker", "git checkout"]),
        ("MAC", format!("more_unencrypted: 1\n{good}").into_bytes(), &["secret_not_opened", "MAC", "git log"]),
        ("not text", not_text, &["not_utf8", "UTF-8"]),
        ("large", large.into_bytes(), &["file_too_large", "repository.sops.yaml"]),
        ("no value", good.replace("value:", "other:").into_bytes(), &["repository.sops.yaml"]),
    ];
    for (what, content, wanted) in cases {
        std::fs::write(site.path(file), content).unwrap();
        // The daemon's identity is at hand for who pushes on its host.
        refused(&site, what, wanted);
    }
    std::fs::remove_file(site.path(file)).unwrap();
    refused(
        &site,
        "missing",
        &["secret_file_missing", "secrets/repository.sops.yaml", "larder secret set 'repository'"],
    );
    site.write(file, &good);
    assert!(site.push("mended").status.success());
    assert_eq!(site.run("files")["outcome"], "success");
}

/// Pushes what is written, which is refused; the checkout is behind it as it was.
fn refused(site: &Site, what: &str, wanted: &[&str]) {
    assert!(site.git(&["add", "-A"]).status.success());
    assert!(site.git(&["commit", "-q", "-m", what]).status.success());
    let mut push = Command::new("git");
    push.arg("-C").arg(site.path("config")).args(["push", "origin", "main"]).stdin(Stdio::null());
    push.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", site.root());
    let pushed = push.env("SOPS_AGE_KEY_FILE", site.path("key.txt")).output().unwrap();
    let said = text(&pushed);
    assert!(!pushed.status.success(), "{what}: {said}");
    assert!(!said.contains(CANARY), "{what}: {said}");
    for word in wanted {
        assert!(said.contains(word), "{what}: {word:?} is missing in:\n{said}");
    }
    assert!(site.git(&["reset", "-q", "--soft", "HEAD~1"]).status.success());
}

#[test]
fn the_hook_knows_for_whom_to_encrypt_without_any_identity() {
    let (mut site, recipient) = site();
    site.start_and_push();
    let told = std::fs::read_to_string(site.path("state/recipients")).unwrap();
    assert_eq!(told.trim(), recipient);
    identity(&site.path("stranger.txt"));
    std::fs::remove_file(site.path("config/secrets/repository.sops.yaml")).unwrap();
    let made = secret(&site.path("config"), &site.path("stranger.txt"), &["set", "repository"], CANARY);
    assert!(made.status.success(), "{}", text(&made));
    let pushed = site.push("for somebody else");
    assert!(!pushed.status.success() && text(&pushed).contains(&recipient), "{}", text(&pushed));
}

#[test]
fn a_secret_in_git_is_found_nowhere_else_in_any_encoding() {
    let (mut site, _) = site();
    let key = std::fs::read_to_string(site.path("key.txt")).unwrap();
    let key = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap().to_owned();
    site.start_and_push();
    assert_eq!(site.run("files")["outcome"], "success");
    set(&site, "repository", "Canary-wrong-password-9");
    assert!(site.push("wrong").status.success());
    assert_ne!(site.run("files")["outcome"], "success");
    set(&site, "repository", CANARY);
    assert!(site.push("right").status.success());
    assert_eq!(site.run("files")["outcome"], "success");
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for root in ["state", "backups", "larder.git", "config", "daemon.log", "restic"] {
        texts.extend(
            files_below(&site.path(root))
                .into_iter()
                .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap_or_default())),
        );
    }
    for what in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{what}", site.daemon_pid());
        texts.push((path.clone(), std::fs::read(path).unwrap()));
    }
    for page in ["/", "/metrics", "/status.json"] {
        texts.push((page.to_owned(), site.get(page).into_bytes()));
    }
    for method in ["system.status", "system.doctor", "config.status", "destination.list", "target.list"] {
        let answer = site.call(method, json!({}));
        texts.push((method.to_owned(), format!("{answer:?}").into_bytes()));
    }
    texts.push((
        "run.list".to_owned(),
        site.runs("files").iter().map(Value::to_string).collect::<String>().into_bytes(),
    ));
    let doctor = site.command().arg("doctor").output().unwrap();
    texts.push(("doctor".to_owned(), text(&doctor).into_bytes()));
    for secret in [CANARY, "Canary-wrong-password-9", &key] {
        for form in forms(secret) {
            for (place, bytes) in &texts {
                let found = bytes.windows(form.len()).any(|window| window == form);
                assert!(!found, "{place} has a secret as {:?}", String::from_utf8_lossy(&form));
            }
        }
    }
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    below.flat_map(|entry| files_below(&entry.path())).collect()
}

/// A secret as itself, reversed, in hexadecimal digits, in base64 wherever it starts, and as a URL has it.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![
        secret.as_bytes().to_vec(),
        secret.bytes().rev().collect(),
        secret.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
        secret.bytes().flat_map(|byte| format!("{byte:02X}").into_bytes()).collect(),
        secret.replace('-', "%2D").into_bytes(),
        secret.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ];
    for shift in 0..3 {
        // What does not depend on what stands before and behind it.
        let text = data_encoding::BASE64.encode(&[&vec![b' '; shift], secret.as_bytes()].concat());
        forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    forms
}

#[test]
fn an_identity_with_a_passphrase_is_opened_by_the_one_that_lies_on_the_host() {
    if !other_is_here() {
        return;
    }
    let desk = Desk::new();
    desk.done(&["set", "nas"], CANARY);
    let script = "import pyrage,sys\nplain = open(sys.argv[1],'rb').read()\nopen(sys.argv[2],'wb').write(pyrage.passphrase.encrypt(plain, 'correct horse'))";
    let locked = desk.dir.path().join("locked.age");
    let made = Command::new(python()).args(["-c", script]).arg(desk.key()).arg(&locked).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let passphrase = desk.dir.path().join("passphrase");
    let show = |mode: u32, content: &str| {
        for (path, content) in [(&locked, None), (&passphrase, Some(content))] {
            if let Some(content) = content {
                std::fs::write(path, content).unwrap();
            }
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new(larder());
        command.args(["secret", "-C"]).arg(desk.config()).arg("--identity").arg(&locked).args(["show", "nas"]);
        if !content.is_empty() {
            command.env("LARDER_IDENTITY_PASSPHRASE_FILE", &passphrase);
        }
        text(&command.stdin(Stdio::null()).output().unwrap())
    };
    assert_eq!(show(0o600, "correct horse\n"), format!("{CANARY}\n"));
    assert!(show(0o600, "wrong\n").contains("does not open the identity"));
    assert!(show(0o644, "correct horse\n").contains("may be read by others"));
    assert!(show(0o600, "").contains("LARDER_IDENTITY_PASSPHRASE_FILE"));
}

#[test]
fn a_hardware_key_opens_what_was_encrypted_for_it_through_its_plugin() {
    let desk = Desk::new();
    let support = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support");
    let made = Command::new(support.join("age-plugin-larderdesk")).arg("--keygen").output().unwrap();
    let lines = String::from_utf8(made.stdout).unwrap();
    let (recipient, identity) = lines.trim().split_once('\n').unwrap();
    std::fs::write(desk.key(), identity).unwrap();
    std::fs::write(desk.dir.path().join("hardware"), "a key in hardware").unwrap();
    let run = |path: &str, args: &[&str], stdin: &str| {
        let mut child = Command::new(larder())
            .args(["secret", "-C"])
            .arg(desk.config())
            .arg("--identity")
            .arg(desk.key())
            .args(args)
            .env("PATH", path)
            .env("LARDER_DESK_KEY", desk.dir.path().join("hardware"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        text(&child.wait_with_output().unwrap())
    };
    let usual = std::env::var("PATH").unwrap();
    let with_plugin = format!("{}:{usual}", support.display());
    let said = run(&with_plugin, &["set", "nas", "--recipient", recipient], CANARY);
    assert!(said.contains("made secrets/nas.sops.yaml"), "{said}");
    assert_eq!(run(&with_plugin, &["show", "nas"], ""), format!("{CANARY}\n"));
    let without = run(&usual, &["show", "nas"], "");
    assert!(without.contains("age-plugin-") && !without.contains(CANARY), "{without}");
    std::fs::write(desk.dir.path().join("hardware"), "another key").unwrap();
    assert!(!run(&with_plugin, &["show", "nas"], "").contains(CANARY));
}

#[test]
fn a_hardware_key_that_nobody_touches_keeps_neither_the_push_nor_the_daemon() {
    let (mut site, _) = site();
    let support = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support");
    let made = Command::new(support.join("age-plugin-larderdesk")).arg("--keygen").output().unwrap();
    let lines = String::from_utf8(made.stdout).unwrap();
    let (recipient, identity) = lines.trim().split_once('\n').unwrap();
    site.write("key.txt", identity);
    site.write("hardware", "a key in hardware");
    let path = format!("{}:{}", support.display(), std::env::var("PATH").unwrap());
    let hardware = site.path("hardware");
    site.daemon_env("PATH", path.as_str());
    site.daemon_env("LARDER_DESK_KEY", hardware.as_os_str());
    std::fs::remove_file(site.path("config/secrets/repository.sops.yaml")).unwrap();
    let made = Command::new(larder())
        .args(["secret", "-C", site.path("config").to_str().unwrap()])
        .args(["generate", "repository", "--recipient", recipient])
        .env("PATH", &path)
        .env("LARDER_DESK_KEY", &hardware)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
    site.start_and_push();
    let record = site.run("files");
    assert_eq!(record["outcome"], "success", "{record}");

    site.write("hardware.untouched", "");
    site.edit("config/policies.yaml", "retention: {last: 3}", "retention: {last: 4}");
    let pushed = site.push("nobody touches it");
    assert!(pushed.status.success(), "{}", text(&pushed));
    let head = String::from_utf8(site.git(&["rev-parse", "HEAD"]).stdout).unwrap();
    wait_for("the revision to be in force", std::time::Duration::from_secs(60), || {
        let status = site.call("system.status", json!({})).ok()?;
        (status["config"]["revision"] == head.trim()).then_some(())
    });
    let record = site.run("files").to_string();
    assert!(record.contains("has not answered") && record.contains("key.txt"), "{record}");

    std::fs::remove_file(site.path("hardware.untouched")).unwrap();
    wait_for("the key to be touched", std::time::Duration::from_secs(60), || {
        (site.run("files")["outcome"] == "success").then_some(())
    });
}

#[test]
fn a_file_or_variable_that_this_host_lacks_is_told_at_the_push_and_by_doctor() {
    let (mut site, _) = site();
    site.start_and_push();
    let root = site.root().display().to_string();
    let more = format!(
        "---\nkind: Target\nname: db\nplugin: postgres\nenabled: false\nwith: {{host: db.lan, database: x, user: y, password: {{file: {root}/nowhere}}}}\n\
         ---\nkind: Target\nname: other\nplugin: postgres\nenabled: false\nwith: {{host: db.lan, database: x, user: y, password: {{env: LARDER_NO_SUCH_VARIABLE}}}}\n"
    );
    let targets = std::fs::read_to_string(site.path("config/targets.yaml")).unwrap();
    site.write("config/targets.yaml", &format!("{targets}{more}"));
    let pushed = site.push("two more");
    assert!(pushed.status.success(), "{}", text(&pushed));
    let doctor = text(&site.command().arg("doctor").output().unwrap());
    for said in [text(&pushed), doctor] {
        for word in ["`with.password` of target db", "nowhere", "target other", "LARDER_NO_SUCH_VARIABLE is not set"] {
            assert!(said.contains(word), "{word:?} is missing in:\n{said}");
        }
    }
}
