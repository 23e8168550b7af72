//! The whole store as NDJSON, and back: a header, one line for each entry, a trailer with count and checksum.
//!
//! ```text
//! {"larder_export":1,"store_format":1}
//! {"tree":"jobs","key":"photos/daily","value":{…}}
//! {"tree":"runs","key_hex":"0192…","value":{…}}
//! {"entries":2,"sha256":"…"}
//! ```
//! What can be derived (a job's history index, the list of open runs) is left out and made again at the import, so an
//! export that was taken while runs went on is still consistent in itself. A value that is no JSON is kept as `value_hex`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::batch::OPEN_PREFIX;
use super::exports;
use super::layout::sync_dir;
use super::ledger::parse;
use super::record::RunRecord;
use super::scan::walk;
use super::{Batch, FORMAT, Order, Store, StoreError, Tree, VALUE_BYTES_MAX};

/// Version of the file's shape.
const EXPORT_FORMAT: u64 = 1;

/// Longest line that is read: a value in hex, its key, and the words around them.
const LINE_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX + 4096;

/// Largest export that is read, in entries; all of them are in memory for the one write.
const ENTRIES_MAX: u64 = 2_000_000;

/// Exports that stay whatever day they are of.
const NEWEST_KEPT: usize = 3;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    larder_export: u64,
    store_format: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    tree: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    entries: u64,
    /// Of every byte before this line.
    sha256: String,
}

/// Writes every entry of `store` and answers how many.
///
/// # Errors
/// When the store cannot be read or `writer` fails.
pub fn export(store: &dyn Store, writer: &mut dyn Write) -> Result<u64, StoreError> {
    let mut lines = Lines { writer, sha256: Sha256::new() };
    lines.push(&Header { larder_export: EXPORT_FORMAT, store_format: FORMAT })?;
    let mut entries = 0;
    for tree in Tree::ALL {
        walk(store, tree, &[], None, Order::Ascending, |key, value| {
            if !is_derived(tree, &key) {
                lines.push(&line(tree, &key, &value))?;
                entries += 1;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    let sha256 = hex::encode(lines.sha256.clone().finalize());
    lines.push(&Trailer { entries, sha256 })?;
    lines.writer.flush().map_err(StoreError::Write)?;
    Ok(entries)
}

/// Fills an empty store from an export and answers how many entries it had; nothing is written before all of it is checked,
/// and then everything in one batch.
///
/// # Errors
/// `NotEmpty` when the store has records; `Import` with the line that is not as it should be.
pub fn import(store: &dyn Store, reader: &mut dyn Read) -> Result<u64, StoreError> {
    for tree in Tree::ALL {
        let found = store.scan(tree, &[], None, Order::Ascending, 3)?;
        let is_fresh = |key: &[u8]| key == super::FORMAT_KEY.as_bytes() || key == super::damage::KEY.as_bytes();
        if found.iter().any(|(key, _)| tree != Tree::Meta || !is_fresh(key)) {
            return Err(StoreError::NotEmpty { tree: tree.as_str() });
        }
    }
    let (mut batch, entries) = read(reader)?;
    batch.put(Tree::Meta, super::FORMAT_KEY, FORMAT.to_string());
    store.commit(batch)?;
    Ok(entries)
}

/// Writes `state-<time>.ndjson` into `dir`, whole or not at all, and keeps the newest `keep` of them, and the newest of each
/// of the newest `keep` days: many of one day must not push out those of before.
///
/// # Errors
/// When the store cannot be read or the file cannot be written.
pub fn write_export(store: &dyn Store, dir: &Path, keep: usize, now: Timestamp) -> Result<PathBuf, StoreError> {
    let path = dir.join(exports::name(now));
    let refuse = |source| StoreError::Export { path: path.clone(), source };
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(dir).map_err(refuse)?);
    export(store, &mut file).map_err(|error| match error {
        StoreError::Write(source) => refuse(source),
        other => other,
    })?;
    let file = file.into_inner().map_err(|error| refuse(error.into_error()))?;
    file.as_file().sync_all().map_err(refuse)?;
    file.persist(&path).map_err(|error| refuse(error.error))?;
    sync_dir(dir).map_err(refuse)?;
    for old in superfluous(exports::exports(dir), keep.max(1)) {
        if let Err(error) = std::fs::remove_file(&old) {
            tracing::warn!(path = %old.display(), %error, "an old export cannot be removed");
        }
    }
    Ok(path)
}

/// Those of `all` (newest first) that may go.
fn superfluous(all: Vec<PathBuf>, keep: usize) -> Vec<PathBuf> {
    let mut days: BTreeSet<String> = BTreeSet::new();
    let mut gone = Vec::new();
    for (index, path) in all.into_iter().enumerate() {
        let day: String = exports::stamp(&path).unwrap_or_default().chars().take(8).collect();
        let is_new_day = days.len() < keep && days.insert(day);
        if index >= NEWEST_KEPT.min(keep) && !is_new_day {
            gone.push(path);
        }
    }
    gone
}

/// Fills an empty store from the newest export in `dir` that can be read; none: there is no such export.
pub(super) fn restore_newest(store: &dyn Store, dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    for path in exports::exports(dir) {
        let read = std::fs::File::open(&path).map_err(StoreError::Read).and_then(|mut file| import(store, &mut file));
        match read {
            Ok(entries) => {
                tracing::warn!(path = %path.display(), entries, "the state was restored from an export");
                return Ok(Some(path));
            }
            Err(error @ (StoreError::Import { .. } | StoreError::Read(_))) => {
                tracing::warn!(path = %path.display(), %error, "an export cannot be read, an older one is tried");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What the import makes again from the runs, and what every store has.
fn is_derived(tree: Tree, key: &[u8]) -> bool {
    match tree {
        Tree::JobRuns => true,
        Tree::Meta => key.starts_with(OPEN_PREFIX.as_bytes()) || key == super::FORMAT_KEY.as_bytes(),
        _ => false,
    }
}

fn line<'a>(tree: Tree, key: &[u8], value: &'a [u8]) -> Line<'a> {
    let text = std::str::from_utf8(key).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
    // Kept byte for byte; what is no JSON on one line goes as hex.
    let json = serde_json::from_slice::<&RawValue>(value).ok();
    let json = json.filter(|json| json.get().as_bytes() == value && !value.contains(&b'\n') && *value != *b"null");
    Line {
        tree: tree.as_str(),
        key: text.map(str::to_owned),
        key_hex: text.is_none().then(|| hex::encode(key)),
        value: json,
        value_hex: json.is_none().then(|| hex::encode(value)),
    }
}

/// Reads and checks a whole export.
fn read(reader: &mut dyn Read) -> Result<(Batch, u64), StoreError> {
    let mut reader = BufReader::new(reader);
    let mut sha256 = Sha256::new();
    let mut number = 0;
    let mut entries = 0;
    let mut batch = Batch::default();
    loop {
        number += 1;
        let refuse = |detail: String| StoreError::Import { line: number, detail };
        let mut text = Vec::new();
        let bound = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        (&mut reader).take(bound).read_until(b'\n', &mut text).map_err(StoreError::Read)?;
        if text.pop() != Some(b'\n') {
            return Err(refuse("the file ends without its trailer, or a line is too long".to_owned()));
        }
        if number == 1 {
            let header: Header =
                serde_json::from_slice(&text).map_err(|error| refuse(format!("no header of an export: {error}")))?;
            if header.larder_export != EXPORT_FORMAT || header.store_format > FORMAT {
                return Err(refuse("it was written by another version of Larder".to_owned()));
            }
        } else if let Ok(trailer) = serde_json::from_slice::<Trailer>(&text) {
            let found = hex::encode(sha256.finalize());
            if trailer.entries != entries || trailer.sha256 != found {
                return Err(refuse(format!("{entries} entries with checksum {found} do not match the trailer")));
            }
            let mut rest = [0];
            return match reader.read(&mut rest).map_err(StoreError::Read)? {
                0 => Ok((batch, entries)),
                _ => Err(refuse("something follows the trailer".to_owned())),
            };
        } else {
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(refuse(format!("more than {ENTRIES_MAX} entries")));
            }
            push_entry(&mut batch, &text).map_err(refuse)?;
        }
        sha256.update(&text);
        sha256.update(b"\n");
    }
}

/// Adds the entry of one line to `batch`, with what is derived from it.
fn push_entry(batch: &mut Batch, text: &[u8]) -> Result<(), String> {
    let line: Line<'_> = serde_json::from_slice(text).map_err(|error| format!("no entry: {error}"))?;
    let tree = Tree::from_name(line.tree).ok_or_else(|| format!("unknown tree {:?}", line.tree))?;
    let key = match (line.key, line.key_hex) {
        (Some(key), None) => key.into_bytes(),
        (None, Some(key)) => hex::decode(key).map_err(|error| format!("key_hex: {error}"))?,
        _ => return Err("an entry has either key or key_hex".to_owned()),
    };
    let value = match (line.value, line.value_hex) {
        (Some(value), None) => value.get().as_bytes().to_vec(),
        (None, Some(value)) => hex::decode(value).map_err(|error| format!("value_hex: {error}"))?,
        _ => return Err("an entry has either value or value_hex".to_owned()),
    };
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("a value of {} bytes is above the limit of {VALUE_BYTES_MAX}", value.len()));
    }
    if is_derived(tree, &key) {
        return Err(format!("{} is derived and never exported", super::show_key(tree, &key)));
    }
    if tree == Tree::Runs
        && let Some(run) = parse::<RunRecord>(tree, &key, &value)
        && run.id.to_bytes() == *key
    {
        batch.index_run(&run);
    }
    batch.put(tree, key, value);
    Ok(())
}

/// Lines that are counted into the checksum as they are written.
struct Lines<'a> {
    writer: &'a mut dyn Write,
    sha256: Sha256,
}

impl Lines<'_> {
    fn push(&mut self, line: &impl Serialize) -> Result<(), StoreError> {
        let mut text = serde_json::to_vec(line).map_err(|error| StoreError::Write(error.into()))?;
        text.push(b'\n');
        self.sha256.update(&text);
        self.writer.write_all(&text).map_err(StoreError::Write)
    }
}
