//! The whole store as NDJSON: a header, one line for each entry, a trailer with count and checksum.
//!
//! ```text
//! {"larder_export":1,"store_format":2}
//! {"tree":"jobs","key":"photos/daily","value":{…}}
//! {"tree":"runs","key_hex":"0192…","value":{…}}
//! {"entries":2,"sha256":"…"}
//! ```
//! What can be derived (a job's history index, the list of open runs) is left out and made again at the import, so an
//! export that was taken while runs went on is still consistent in itself. A value that is no JSON is kept as `value_hex`.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::exports;
use super::layout::sync_dir;
use super::refill::is_derived;
use super::scan::walk;
use super::{FORMAT, ScanOrder, Store, StoreError, Tree};

/// Version of the file's shape.
pub(super) const EXPORT_FORMAT: u64 = 1;

/// Exports that stay whatever day they are of.
const NEWEST_KEPT: usize = 3;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) larder_export: u64,
    pub(super) store_format: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    pub(super) tree: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_hex: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value_hex: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trailer {
    pub(super) entries: u64,
    /// Of every byte before this line.
    pub(super) sha256: String,
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
        walk(store, tree, &[], None, ScanOrder::Ascending, |key, value| {
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
