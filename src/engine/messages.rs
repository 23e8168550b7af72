//! The one file that reads what restic writes: JSON lines of every version since 0.17, and what is no JSON.
//!
//! Nothing here fails: a line that is not understood is `None` or [`Message::Other`]. In progress numbers out of range
//! are clamped; a final figure of a wrong type or sign makes its whole message [`Message::Garbled`].

use jiff::Timestamp;
use serde_json::Value;

/// Longest text that is taken from a message, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// One line of restic.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Status(Progress),
    BackupSummary(Box<BackupSummary>),
    RestoreSummary(RestoreSummary),
    CheckSummary {
        errors: u64,
    },
    /// Something about one item; the work goes on.
    ItemError {
        item: String,
        message: String,
    },
    ExitError {
        code: i64,
        message: String,
    },
    Initialized {
        id: String,
    },
    Node(Entry),
    /// A summary whose figures are no counts: nothing of it is believed.
    Garbled,
    Other,
}

/// How far a backup or restore is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    pub bytes_done: u64,
    /// Zero when unknown.
    pub bytes_total: u64,
    pub files_done: u64,
    pub files_total: u64,
    /// What is being worked on.
    pub current: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct BackupSummary {
    pub(super) snapshot: String,
    pub(super) files_new: u64,
    pub(super) files_changed: u64,
    pub(super) files_unmodified: u64,
    pub(super) bytes_added: u64,
    pub(super) bytes_processed: u64,
    pub(super) files: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RestoreSummary {
    pub(super) items: u64,
    pub(super) items_restored: u64,
    pub(super) bytes: u64,
    pub(super) bytes_restored: u64,
}

/// One snapshot of a repository.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    /// 64 hex digits.
    pub id: String,
    pub time: Timestamp,
    pub host: String,
    pub paths: Vec<String>,
    pub tags: Vec<String>,
    pub parent: Option<String>,
    /// The id that it had before `restic tag` or `rewrite` wrote it anew.
    pub original: Option<String>,
    /// The id of what is in it.
    pub tree: Option<String>,
    /// Bytes and files that the backup looked at; none where an old restic did not write it down.
    pub bytes: Option<u64>,
    pub files: Option<u64>,
}

impl Snapshot {
    /// The value of the tag `kind:value`, such as `target`.
    #[must_use]
    pub fn tag(&self, kind: &str) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(kind)?.strip_prefix(':'))
    }
}

/// One file, directory or link in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    pub path: String,
    /// `file`, `dir`, `symlink`, …
    pub kind: String,
    pub bytes: u64,
    pub modified: Option<Timestamp>,
}

/// A lock as `restic cat lock` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    pub created: Timestamp,
    pub exclusive: bool,
    pub host: String,
    pub user: String,
    pub pid: i64,
}

/// Reads one line of standard output or standard error; none when it is no JSON object.
pub(super) fn parse(line: &str) -> Option<Message> {
    let line = line.trim();
    if !line.starts_with('{') {
        return None;
    }
    let value: Value = serde_json::from_str(line).ok()?;
    let object = value.is_object().then_some(&value)?;
    // 0.17 names the nodes of `ls` by `struct_type` too.
    let kind = object.get("message_type").or_else(|| object.get("struct_type")).and_then(Value::as_str);
    Some(match kind {
        Some("status") => Message::Status(progress(object)),
        Some("summary") => summary(object).unwrap_or(Message::Garbled),
        // What the counting ahead of the backup meets is met again by the backup itself.
        Some("error") if text(object, "during") == "scan" => Message::Other,
        Some("error") => Message::ItemError { item: text(object, "item"), message: error_text(object) },
        Some("exit_error") => Message::ExitError { code: integer(object, "code"), message: text(object, "message") },
        Some("initialized") => Message::Initialized { id: text(object, "id") },
        Some("node") => Message::Node(entry(object)),
        _ => Message::Other,
    })
}

/// Who owns one item of `ls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) path: String,
    pub(super) user: u32,
    pub(super) group: u32,
}

/// Reads one line of `ls`; none when it is about no item.
pub(super) fn rights(line: &str) -> Option<Rights> {
    let value: Value = serde_json::from_str(line.trim()).ok()?;
    let kind = value.get("message_type").or_else(|| value.get("struct_type")).and_then(Value::as_str);
    if kind != Some("node") {
        return None;
    }
    // Older versions leave a zero out.
    let owner = |name: &str| u32::try_from(value.get(name).map_or(Some(0), Value::as_u64)?).ok();
    Some(Rights { path: value.get("path")?.as_str()?.to_owned(), user: owner("uid")?, group: owner("gid")? })
}

/// The version in `restic 0.18.0 compiled with go1.24.4 on linux/amd64`.
pub(super) fn version(line: &str) -> Option<(u32, u32, u32)> {
    let word = line.strip_prefix("restic ")?.split_ascii_whitespace().next()?;
    let mut parts = word.split(['.', '-', '+']).map(str::parse::<u32>);
    let major = parts.next()?.ok()?;
    let minor = parts.next()?.ok()?;
    Some((major, minor, parts.next().and_then(Result::ok).unwrap_or(0)))
}

/// The id in what `restic cat config` prints.
pub(super) fn repository_id(output: &str) -> Option<String> {
    let id = serde_json::from_str::<Value>(output).ok()?.get("id")?.as_str()?.to_owned();
    is_id(&id).then_some(id)
}

/// The lock in what `restic cat lock` prints.
pub(super) fn lock(output: &str) -> Option<LockInfo> {
    let value: Value = serde_json::from_str(output).ok()?;
    Some(LockInfo {
        created: value.get("time")?.as_str()?.parse().ok()?,
        exclusive: value.get("exclusive").and_then(Value::as_bool).unwrap_or(true),
        host: text(&value, "hostname"),
        user: text(&value, "username"),
        pid: integer(&value, "pid"),
    })
}

/// The snapshots in what `restic snapshots --json` prints; none when it is no such list.
pub(super) fn snapshots(output: &str) -> Option<Vec<Snapshot>> {
    match serde_json::from_str::<Value>(output).ok()? {
        Value::Array(list) => list.iter().map(snapshot).collect(),
        Value::Null => Some(Vec::new()),
        _ => None,
    }
}

/// Whether `text` is a full id of restic: 64 hex digits.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The bytes in a figure of `prune`, such as `12 blobs / 1.432 MiB` or `572 B (0.01% of remaining size)`; none where it is none.
pub(super) fn amount(figure: &str) -> Option<u64> {
    let size = figure.split_once(" / ").map_or(figure, |(_, size)| size);
    let size = size.split_once('(').map_or(size, |(size, _)| size);
    let (number, unit) = size.trim().split_once(' ')?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "000"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() != 3 {
        return None;
    }
    let thousandths = whole.parse::<u128>().ok()?.checked_mul(1000)?.checked_add(part.parse().ok()?)?;
    u64::try_from(thousandths.checked_mul(1 << shift)? / 1000).ok()
}

/// The path in restic's plain remark `PATH does not exist, skipping`.
pub(super) fn skipped(line: &str) -> Option<&str> {
    line.strip_suffix(" does not exist, skipping")
}

fn snapshot(value: &Value) -> Option<Snapshot> {
    // Before 0.17 there was no summary; one that is there has both figures.
    let totals = match value.get("summary") {
        None | Some(Value::Null) => None,
        Some(summary) => Some((figure(summary, "total_bytes_processed")?, figure(summary, "total_files_processed")?)),
    };
    Some(Snapshot {
        id: value.get("id")?.as_str().filter(|id| is_id(id))?.to_owned(),
        time: value.get("time")?.as_str()?.parse().ok()?,
        host: text(value, "hostname"),
        paths: texts(value, "paths"),
        tags: texts(value, "tags"),
        parent: value.get("parent").and_then(Value::as_str).map(str::to_owned),
        original: value.get("original").and_then(Value::as_str).map(str::to_owned),
        tree: value.get("tree").and_then(Value::as_str).map(str::to_owned),
        bytes: totals.map(|(bytes, _)| bytes),
        files: totals.map(|(_, files)| files),
    })
}

fn progress(object: &Value) -> Progress {
    let fraction = object.get("percent_done").and_then(Value::as_f64).unwrap_or(0.0);
    let either = |one: &str, other: &str| object.get(one).or_else(|| object.get(other)).map_or(0, clamped);
    Progress {
        fraction: if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 },
        bytes_done: either("bytes_done", "bytes_restored"),
        bytes_total: number(object, "total_bytes"),
        files_done: either("files_done", "files_restored"),
        files_total: number(object, "total_files"),
        current: texts(object, "current_files").into_iter().next(),
    }
}

/// Backup, restore and check all end with a "summary"; their fields tell them apart. None: a figure is no count, or one
/// that must be there is not.
fn summary(object: &Value) -> Option<Message> {
    if object.get("files_new").is_some() || object.get("snapshot_id").is_some() {
        let summary = BackupSummary {
            snapshot: text(object, "snapshot_id"),
            files_new: figure(object, "files_new")?,
            files_changed: figure(object, "files_changed")?,
            files_unmodified: figure(object, "files_unmodified")?,
            bytes_added: match object.get("data_added_packed") {
                Some(packed) => packed.as_u64()?,
                None => figure(object, "data_added")?,
            },
            bytes_processed: figure(object, "total_bytes_processed")?,
            files: figure(object, "total_files_processed")?,
        };
        let counted = summary.files_new.checked_add(summary.files_changed)?.checked_add(summary.files_unmodified)?;
        return (counted == summary.files).then(|| Message::BackupSummary(Box::new(summary)));
    }
    if object.get("num_errors").is_some() {
        return Some(Message::CheckSummary { errors: figure(object, "num_errors")? });
    }
    // A restore's summary leaves out what is zero, so that of an empty one has no field at all.
    let or_zero = |name: &str| if object.get(name).is_some() { figure(object, name) } else { Some(0) };
    Some(Message::RestoreSummary(RestoreSummary {
        items: or_zero("total_files")?,
        items_restored: or_zero("files_restored")?,
        bytes: or_zero("total_bytes")?,
        bytes_restored: or_zero("bytes_restored")?,
    }))
}

fn entry(object: &Value) -> Entry {
    Entry {
        path: text(object, "path"),
        kind: text(object, "type"),
        bytes: number(object, "size"),
        modified: object.get("mtime").and_then(Value::as_str).and_then(|time| time.parse().ok()),
    }
}

/// An item's error: an object with a `message` since 0.18, Go's error with `Op` before, or plain text in `check`.
fn error_text(object: &Value) -> String {
    let error = object.get("error").unwrap_or(object);
    if let Some(message) = error.as_str().or_else(|| error.get("message")?.as_str()) {
        return shortened(message);
    }
    // 0.17 writes Go's error as it is: the system's number for it.
    let known = match error.get("Err").and_then(Value::as_i64) {
        Some(2) => Some("no such file or directory"),
        Some(5) => Some("input/output error"),
        Some(13) => Some("permission denied"),
        _ => None,
    };
    if let Some(known) = known {
        return format!("{}: {known}", text(error, "Op"));
    }
    let operation = text(error, "Op");
    if operation.is_empty() { "unknown error".to_owned() } else { format!("{operation} failed") }
}

fn text(object: &Value, name: &str) -> String {
    object.get(name).and_then(Value::as_str).map(shortened).unwrap_or_default()
}

fn texts(object: &Value, name: &str) -> Vec<String> {
    let list = object.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(shortened).collect()
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// A final figure: a count, or none.
fn figure(object: &Value, name: &str) -> Option<u64> {
    object.get(name)?.as_u64()
}

fn number(object: &Value, name: &str) -> u64 {
    object.get(name).map_or(0, clamped)
}

fn integer(object: &Value, name: &str) -> i64 {
    object.get(name).and_then(Value::as_i64).unwrap_or(-1)
}

/// A count: negative, missing or no number at all is 0; too large is the largest.
fn clamped(value: &Value) -> u64 {
    if let Some(whole) = value.as_u64() {
        return whole;
    }
    match value.as_f64() {
        // A cast from a float saturates and makes NaN zero.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is what is meant")]
        Some(number) => number as u64,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_every_version_are_read() {
        // As restic 0.17 writes it (Go's error), then 0.18 and later.
        let old =
            r#"{"message_type":"error","error":{"Op":"open","Path":"/x","Err":13},"during":"archival","item":"/x"}"#;
        assert_eq!(
            parse(old),
            Some(Message::ItemError { item: "/x".to_owned(), message: "open: permission denied".to_owned() })
        );
        let new = r#"{"message_type":"error","error":{"message":"open /x: denied"},"during":"archival","item":"/x"}"#;
        let expected = Message::ItemError { item: "/x".to_owned(), message: "open /x: denied".to_owned() };
        assert_eq!(parse(new), Some(expected));
        let check = r#"{"message_type":"error","message":"pack x is damaged"}"#;
        let expected = Message::ItemError { item: String::new(), message: "pack x is damaged".to_owned() };
        assert_eq!(parse(check), Some(expected));
        assert_eq!(version("restic 0.19.1-dev (compiled manually) compiled with go1.26"), Some((0, 19, 1)));
        assert_eq!(version("restic 0.17 x"), Some((0, 17, 0)));
        assert_eq!(version("bash: restic: command not found"), None);
    }

    #[test]
    fn a_line_that_is_no_json_is_none() {
        for line in ["", "repository opened", "{", "[1]", "null", "{\"a\":", "\u{0}", &"{".repeat(100_000)] {
            assert_eq!(parse(line), None, "{line:.20}");
        }
        assert_eq!(parse("{}"), Some(Message::Other));
        assert_eq!(parse(r#"{"message_type":"from_the_future","x":[]}"#), Some(Message::Other));
        assert_eq!(parse(r#"{"message_type":17}"#), Some(Message::Other));
    }

    #[test]
    fn a_figure_of_prune_is_read_to_the_byte_that_it_names() {
        for (figure, bytes) in [
            ("             2 blobs / 572 B", Some(572)),
            ("     0 blobs / 0 B", Some(0)),
            (" 8 blobs / 1.432 MiB", Some(1_501_560)),
            (" 8 blobs / 1.000 KiB", Some(1024)),
            (" 8 blobs / 1023.999 GiB", Some(1_099_510_554_034)),
            (" 8 blobs / 2.500 TiB", Some(2_748_779_069_440)),
            (" 1.500 KiB (5.00% of remaining size)", Some(1536)),
            (" 0 B", Some(0)),
            (" 8 blobs", None),
            (" 8", None),
            ("", None),
            (" 8 blobs / 1.432 MB", None),
            (" 8 blobs / -1 B", None),
            (" 8 blobs / 1.43 MiB", None),
            (" 8 blobs / .500 MiB", None),
            (" 8 blobs / 99999999999999999999999999999999999999.000 TiB", None),
        ] {
            assert_eq!(amount(figure), bytes, "{figure}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_clamped() {
        let line =
            r#"{"message_type":"status","percent_done":1e300,"bytes_done":1e40,"total_bytes":-5,"files_done":"x"}"#;
        let Some(Message::Status(progress)) = parse(line) else { panic!("a status") };
        assert!((progress.fraction - 1.0).abs() < f64::EPSILON);
        assert_eq!((progress.bytes_done, progress.bytes_total, progress.files_done), (u64::MAX, 0, 0));
    }

    #[test]
    fn an_id_that_is_no_id_is_refused() {
        assert_eq!(repository_id(r#"{"id":"../../etc"}"#), None);
        assert_eq!(snapshots(r#"[{"id":"--help","time":"2026-01-01T00:00:00Z"}]"#), None);
        assert_eq!(snapshots("null"), Some(vec![]));
        assert_eq!(snapshots("no json"), None);
    }

    #[test]
    fn a_final_figure_that_is_no_count_makes_the_whole_message_garbled() {
        let backup = |field: &str, value: &str| {
            let good = r#"{"message_type":"summary","files_new":1,"files_changed":2,"files_unmodified":3,"data_added":7,"data_added_packed":5,"total_files_processed":6,"total_bytes_processed":9,"snapshot_id":"x"}"#;
            let mut line: Value = serde_json::from_str(good).unwrap();
            line[field] = serde_json::from_str(value).unwrap();
            parse(&line.to_string())
        };
        assert!(matches!(backup("data_added", "8"), Some(Message::BackupSummary(_))));
        for field in [
            "files_new",
            "files_changed",
            "files_unmodified",
            "data_added_packed",
            "total_files_processed",
            "total_bytes_processed",
        ] {
            for value in ["-1", "\"6\"", "1.5", "1e300", "null", "[6]", "true"] {
                assert_eq!(backup(field, value), Some(Message::Garbled), "{field}: {value}");
            }
        }
        assert_eq!(backup("files_new", "2"), Some(Message::Garbled), "the parts are not the whole");
        for line in [
            r#"{"message_type":"summary","num_errors":-1}"#,
            r#"{"message_type":"summary","num_errors":"0"}"#,
            r#"{"message_type":"summary","total_files":"5"}"#,
            r#"{"message_type":"summary","total_files":5,"bytes_restored":-5}"#,
            r#"{"message_type":"summary","files_new":0,"snapshot_id":"x"}"#,
        ] {
            assert_eq!(parse(line), Some(Message::Garbled), "{line}");
        }
        let id = "a".repeat(64);
        let listed = |summary: &str| {
            snapshots(&format!(r#"[{{"id":"{id}","time":"2026-01-01T00:00:00Z","summary":{summary}}}]"#))
        };
        assert!(listed(r#"{"total_bytes_processed":1,"total_files_processed":1}"#).is_some());
        assert_eq!(listed(r#"{"total_bytes_processed":-1,"total_files_processed":1}"#), None);
        assert_eq!(listed(r#"{"total_bytes_processed":1}"#), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            let name = prop::sample::select(vec![
                "message_type",
                "struct_type",
                "percent_done",
                "bytes_done",
                "total_bytes",
                "current_files",
                "error",
                "message",
                "item",
                "files_new",
                "snapshot_id",
                "num_errors",
                "id",
                "time",
                "tags",
                "summary",
                "code",
                "mtime",
                "size",
                "remove",
                "Op",
                "pid",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..8).prop_map(|fields| {
                    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,200}") {
            let _ = (parse(&line), version(&line), repository_id(&line), lock(&line), snapshots(&line));
        }

        #[test]
        fn no_json_panics(
            mut value in json(),
            kind in prop::sample::select(vec!["status", "summary", "error", "exit_error", "initialized", "node", "x"]),
        ) {
            if let Some(object) = value.as_object_mut() {
                object.insert("message_type".to_owned(), kind.into());
            }
            let line = value.to_string();
            if let Some(Message::Status(progress)) = parse(&line) {
                prop_assert!((0.0..=1.0).contains(&progress.fraction));
            }
            let list = format!("[{line}]");
            let _ = (lock(&line), repository_id(&line), snapshots(&list));
        }
    }
}
