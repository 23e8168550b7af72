//! Two mistakes in one document are two findings, whatever the two are: no mistake hides another, or makes one up.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use larder::config::diagnostic::Diagnostic;
use serde_json::{Value, json};

use super::load;

/// A full document of one kind.
struct Sample {
    document: Value,
    /// Fields without which it is no document of its kind.
    required: &'static [&'static [&'static str]],
    /// Values that are wrong in themselves, or in what they refer to.
    bad: Vec<(&'static [&'static str], Value)>,
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn samples() -> Vec<Sample> {
    let site = Sample {
        document: json!({
            "kind": "Site", "name": "home", "timezone": "Europe/Berlin", "url": "https://larder.lan",
            "artifacts": {"path": "/backups", "min_free": "20GiB", "keep_runs": 14},
            "concurrency": {"runs": 4},
            "email": {"smtp": "smtps://mail.lan", "username": "larder", "password": {"env": "SMTP"},
                      "from": "larder@home.lan", "to": ["me@home.lan", "you@home.lan"]},
        }),
        required: &[&["kind"], &["name"], &["email", "smtp"], &["email", "from"], &["email", "to"]],
        bad: vec![
            (&["name"], json!("a/b")),
            (&["timezone"], json!("Europe/Berln")),
            (&["url"], json!("larder.lan")),
            (&["artifacts", "path"], json!("backups")),
            (&["artifacts", "min_free"], json!("20 gallons")),
            (&["artifacts", "keep_runs"], json!(0)),
            (&["concurrency", "runs"], json!("four")),
            (&["email", "smtp"], json!("http://mail.lan")),
            (&["email", "username"], json!("a\nb")),
            (&["email", "username"], json!(5)),
            (&["email", "password"], json!("plain")),
            (&["email", "from"], json!("nobody")),
            (&["email", "to", "1"], json!("nobody")),
            (&["email", "to", "0"], json!(5)),
        ],
    };
    let destination = Sample {
        document: json!({
            "kind": "Destination", "name": "nas", "password": {"env": "NAS"},
            "repository": {"type": "local", "path": "/mnt/nas/restic", "require_mount": "/mnt/nas"},
            "limits": {"upload": "10MiB/s", "download": "10MiB/s"},
            "check": {"schedule": "0 5 * * 0", "read_data": "5%"},
            "prune": {"schedule": "0 4 * * *"},
        }),
        required: &[
            &["kind"],
            &["name"],
            &["password"],
            &["repository"],
            &["repository", "type"],
            &["repository", "path"],
            &["check", "schedule"],
            &["prune", "schedule"],
        ],
        bad: vec![
            (&["name"], json!("a/b")),
            (&["password"], json!("plain")),
            (&["password"], json!({"env": "A", "file": "/b"})),
            (&["repository", "path"], json!("mnt/nas")),
            (&["repository", "require_mount"], json!("~/nas")),
            (&["limits", "upload"], json!("10MiB")),
            (&["limits", "download"], json!(10)),
            (&["check", "schedule"], json!("0 5 * *")),
            (&["check", "read_data"], json!("500%")),
            (&["prune", "schedule"], json!("0 25 * * *")),
        ],
    };
    let policy = Sample {
        document: json!({
            "kind": "Policy", "name": "daily", "default": true, "schedule": "0 2 * * *", "timezone": "Europe/Berlin",
            "jitter": "10m", "retention": {"daily": 7, "weekly": 4}, "destinations": ["nas", "usb"],
            "max_age": "30h", "timeout": "2h", "on_missed": "run",
        }),
        required: &[&["kind"], &["name"], &["schedule"], &["retention"]],
        bad: vec![
            (&["name"], json!("-a")),
            (&["default"], json!("yes")),
            (&["schedule"], json!("0 2 * *")),
            (&["timezone"], json!("Europe/Berln")),
            (&["jitter"], json!("ten minutes")),
            (&["retention", "daily"], json!(0)),
            (&["retention"], json!({})),
            (&["destinations", "1"], json!("nsa")),
            (&["destinations", "1"], json!("nas")),
            (&["destinations", "0"], json!(5)),
            (&["max_age"], json!("26")),
            (&["timeout"], json!("99d")),
            (&["on_missed"], json!("never")),
        ],
    };
    let target = Sample {
        document: json!({
            "kind": "Target", "name": "db", "plugin": "postgres",
            "with": {"host": "db.lan", "port": 5432, "database": "paperless", "user": "backup",
                     "password": {"env": "DB"}, "format": "custom"},
            "policies": ["daily"],
            "hooks": {"before": [{"command": ["systemctl", "stop", "app"], "timeout": "1m"}, ["sync", "now"]],
                      "after": ["systemctl", "start", "app"]},
        }),
        required: &[
            &["kind"],
            &["name"],
            &["plugin"],
            &["with", "host"],
            &["with", "database"],
            &["with", "user"],
            &["hooks", "before", "0", "command"],
        ],
        bad: vec![
            (&["name"], json!("a b")),
            (&["with", "host"], json!(5)),
            (&["with", "port"], json!(0)),
            (&["with", "password"], json!("plain")),
            (&["with", "format"], json!("tar")),
            (&["policies", "0"], json!("dayly")),
            (&["hooks", "before", "0", "timeout"], json!("1")),
            (&["hooks", "before", "0", "command", "1"], json!("a\nb")),
            (&["hooks", "before", "0", "command", "1"], json!(5)),
            (&["hooks", "before", "1", "1"], json!("a\nb")),
            (&["hooks", "before", "1", "0"], json!(5)),
            (&["hooks", "after", "0"], json!("a\nb")),
            (&["hooks", "after", "1"], json!([])),
        ],
    };
    vec![site, destination, policy, target]
}

#[derive(Clone, Copy, Debug)]
enum Slip {
    Misspelt,
    Missing,
    WrongType,
}

/// The value at `path`, which is there.
fn at<'a>(document: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(document, |value, step| match value {
        Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
        other => &mut other[*step],
    })
}

fn slipped(document: &Value, path: &[&str], slip: Slip) -> Value {
    let mut document = document.clone();
    let (field, above) = path.split_last().unwrap();
    let fields = at(&mut document, above).as_object_mut().unwrap();
    let value = fields.remove(*field).unwrap();
    match slip {
        Slip::Missing => {}
        Slip::Misspelt => {
            // The last two letters change places.
            let mut letters: Vec<char> = field.chars().collect();
            let last = letters.len() - 1;
            letters.swap(last, last - 1);
            fields.insert(letters.into_iter().collect(), value);
        }
        Slip::WrongType => {
            fields.insert((*field).to_owned(), json!(5));
        }
    }
    document
}

/// Errors by code and message.
type Told = BTreeSet<(String, String)>;

/// The errors of what was looked at before.
type Known = RefCell<HashMap<String, Told>>;

/// The errors of a site that is right but for `document`, which is meant to be of `kind`.
fn errors(known: &Known, kind: &Value, document: &Value) -> Told {
    let key = document.to_string();
    if let Some(told) = known.borrow().get(&key) {
        return told.clone();
    }
    let told = errors_of(kind, document);
    known.borrow_mut().insert(key, told.clone());
    told
}

fn errors_of(kind: &Value, document: &Value) -> Told {
    let others = "kind: Destination\nname: usb\nrepository: {type: local, path: /mnt/usb}\npassword: {env: USB}\n---\n\
                  kind: Policy\nname: hourly\nschedule: \"@hourly\"\nretention: {last: 3}\nmax_age: 4h\n";
    let nas = "kind: Destination\nname: nas\nrepository: {type: local, path: /mnt/nas}\npassword: {env: NAS}\n";
    let daily = "kind: Policy\nname: daily\nschedule: \"@daily\"\nretention: {last: 3}\nmax_age: 40h\n";
    let text = serde_json::to_string_pretty(document).unwrap();
    let mut files = vec![("it.yaml", text.as_bytes()), ("others.yaml", others.as_bytes())];
    // Nothing else has the name that the document has, or would have.
    files.extend((kind != "Destination").then_some(("nas.yaml", nas.as_bytes())));
    files.extend((kind != "Policy").then_some(("daily.yaml", daily.as_bytes())));
    let loaded = load(&files);
    let found: Vec<&Diagnostic> = loaded.diagnostics.iter().filter(|found| found.is_error()).collect();
    assert_eq!(loaded.config.is_none(), !found.is_empty());
    let told: BTreeSet<_> = found.iter().map(|found| (found.code.clone(), found.message.clone())).collect();
    assert_eq!(told.len(), found.len(), "something is told twice:\n{}", super::rendered(&loaded.diagnostics));
    told
}

#[test]
fn a_full_document_of_each_kind_has_no_error() {
    for sample in samples() {
        assert_eq!(errors_of(&sample.document["kind"], &sample.document), BTreeSet::new(), "{}", sample.document);
    }
}

/// Whether two mistakes are told as one alone and the other alone; none when they are.
fn fault(
    known: &Known,
    sample: &Sample,
    required: &[&str],
    slip: Slip,
    path: &[&str],
    value: &Value,
) -> Option<String> {
    let mut wrong = sample.document.clone();
    *at(&mut wrong, path) = value.clone();
    let errors = |document: &Value| errors(known, &sample.document["kind"], document);
    let (broken, alone) = (errors(&slipped(&sample.document, required, slip)), errors(&wrong));
    assert!(!broken.is_empty() && !alone.is_empty(), "{required:?} {slip:?}, {path:?}: {value}");
    let both = errors(&slipped(&wrong, required, slip));
    let mut expected: BTreeSet<_> = broken.union(&alone).cloned().collect();
    if matches!(required, ["kind" | "name" | "plugin"]) {
        // A name that can not be told may be any name, and nobody knows what an unknown plugin's settings are.
        let of_others = |code: &str| matches!(code, "unknown_policy" | "unknown_destination");
        expected.retain(|(code, message)| !of_others(code) && !message.contains("`with."));
        return (!both.is_superset(&expected)).then(|| format!("{expected:#?}\nbut got {both:#?}"));
    }
    (both != expected).then(|| format!("{expected:#?}\nbut got {both:#?}"))
}

#[test]
fn no_broken_field_hides_a_wrong_value_or_makes_one_up() {
    let known = Known::default();
    let mut pairs = 0;
    let mut faults = Vec::new();
    for sample in samples() {
        for required in sample.required {
            for slip in [Slip::Misspelt, Slip::Missing, Slip::WrongType] {
                // What is gone can not be wrong as well, and what is below a wrong value is gone with it.
                let apart = |path: &[&str]| !path.starts_with(required) && !required.starts_with(path);
                for (path, value) in sample.bad.iter().filter(|(path, _)| apart(path)) {
                    let fault = fault(&known, &sample, required, slip, path, value);
                    faults.extend(fault.map(|fault| format!("{required:?} {slip:?}, {path:?}: {value}\n{fault}")));
                    pairs += 1;
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {pairs} pairs:\n{}", faults.len(), faults.join("\n\n"));
    assert!(pairs > 500, "{pairs}");
}
