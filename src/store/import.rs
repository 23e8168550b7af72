//! Reads an export into an empty store: checked whole before anything is written, in bounded memory however long it is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::export::{EXPORT_FORMAT, Header, Line, Trailer};
use super::exports;
use super::refill::{Filler, Row, is_derived, pack_all};
use super::{FORMAT, FORMAT_OF_ROWS, ScanOrder, Store, StoreError, Tree, VALUE_BYTES_MAX, show_key};

/// Longest line that is read: a value in hex, its key, and the words around them.
const LINE_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX + 4096;

/// Fills an empty store from an export and answers how many entries it had; nothing is written before all of it is checked.
///
/// What comes from a pipe is put into a temporary file first, since it is read twice. A process that is killed while it
/// writes leaves a store without a format, of which [`super::sled_store::SledStore::open`] keeps nothing.
///
/// # Errors
/// `NotEmpty` when the store has records; `Import` with the line that is not as it should be.
pub fn import(store: &dyn Store, reader: &mut dyn Read) -> Result<u64, StoreError> {
    let mut copy = tempfile::tempfile().map_err(StoreError::Read)?;
    io::copy(reader, &mut copy).map_err(StoreError::Read)?;
    copy.rewind().map_err(StoreError::Read)?;
    import_file(store, &copy)
}

/// As [`import`], from a file that can be read at any place.
///
/// # Errors
/// As [`import`].
pub fn import_file(store: &dyn Store, file: &File) -> Result<u64, StoreError> {
    for tree in Tree::ALL {
        let found = store.scan(tree, &[], None, ScanOrder::Ascending, 3)?;
        let is_fresh = |key: &[u8]| key == super::FORMAT_KEY.as_bytes() || key == super::damage::KEY.as_bytes();
        if found.iter().any(|(key, _)| tree != Tree::Meta || !is_fresh(key)) {
            return Err(StoreError::NotEmpty { tree: tree.as_str() });
        }
    }
    let checked = check(file)?;
    let mut filler = Filler::new(store);
    let rows = Rows::at(file, 0, 0);
    if checked.format == FORMAT_OF_ROWS {
        let logs = Rows::at(file, checked.logs.0, checked.logs.1);
        let logs = logs.take_while(|row| row.as_ref().map_or(true, |(tree, ..)| *tree == Tree::Events));
        pack_all(rows, logs, &mut filler)?;
    } else {
        for row in rows {
            filler.put(row?)?;
        }
    }
    filler.finish()?;
    Ok(checked.entries)
}

/// Fills an empty store from the newest export in `dir` that can be read; none: there is no such export.
pub(super) fn restore_newest(store: &dyn Store, dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    for path in exports::exports(dir) {
        let read = File::open(&path).map_err(StoreError::Read).and_then(|file| import_file(store, &file));
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

/// What a look through a whole export came to.
struct Checked {
    entries: u64,
    /// The format of the store that it was written from.
    format: u64,
    /// Where the first line of a log is: its offset, and how many lines stand before it.
    logs: (u64, u64),
}

/// Reads a whole export and refuses what is not as it should be.
fn check(file: &File) -> Result<Checked, StoreError> {
    let mut lines = Lines::at(file, 0, 0);
    let mut sha256 = Sha256::new();
    let mut checked = Checked { entries: 0, format: 0, logs: (0, 0) };
    let mut seen_logs = false;
    loop {
        let before = (lines.offset, lines.number);
        let text = lines.next()?;
        let refuse = |detail: String| StoreError::Import { line: before.1 + 1, detail };
        if before.1 == 0 {
            checked.format = header(&text).map_err(refuse)?.store_format;
            checked.logs = (lines.offset, lines.number);
        } else if let Ok(trailer) = serde_json::from_slice::<Trailer>(&text) {
            let (entries, found) = (checked.entries, hex::encode(sha256.finalize()));
            if trailer.entries != entries || trailer.sha256 != found {
                return Err(refuse(format!("{entries} entries with checksum {found} do not match the trailer")));
            }
            return if lines.is_at_end()? {
                Ok(checked)
            } else {
                Err(refuse("something follows the trailer".to_owned()))
            };
        } else {
            let (tree, key, _) = row(&text).map_err(refuse)?;
            if is_derived(tree, &key) {
                return Err(refuse(format!("{} is derived and never exported", show_key(tree, &key))));
            }
            checked.entries += 1;
            if tree == Tree::Events && !seen_logs {
                (checked.logs, seen_logs) = (before, true);
            }
        }
        sha256.update(&text);
        sha256.update(b"\n");
    }
}

fn header(text: &[u8]) -> Result<Header, String> {
    let header: Header = serde_json::from_slice(text).map_err(|error| format!("no header of an export: {error}"))?;
    if header.larder_export == EXPORT_FORMAT && (FORMAT_OF_ROWS..=FORMAT).contains(&header.store_format) {
        return Ok(header);
    }
    Err("it was written by another version of Larder".to_owned())
}

/// The entry of one line.
fn row(text: &[u8]) -> Result<Row, String> {
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
    Ok((tree, key, value))
}

/// The entries of an export that was checked, from some line on to its trailer.
struct Rows<'a> {
    lines: Lines<'a>,
    done: bool,
}

impl<'a> Rows<'a> {
    fn at(file: &'a File, offset: u64, number: u64) -> Self {
        Self { lines: Lines::at(file, offset, number), done: false }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let number = self.lines.number;
            let row = match self.lines.next() {
                Ok(_) if number == 0 => continue,
                Ok(text) if serde_json::from_slice::<Trailer>(&text).is_ok() => None,
                Ok(text) => Some(row(&text).map_err(|detail| StoreError::Import { line: number + 1, detail })),
                Err(error) => Some(Err(error)),
            };
            self.done = !matches!(row, Some(Ok(_)));
            return row;
        }
        None
    }
}

/// The lines of a file, from some place on.
struct Lines<'a> {
    reader: BufReader<At<'a>>,
    /// Where the next line is.
    offset: u64,
    /// How many were read before it.
    number: u64,
}

impl<'a> Lines<'a> {
    fn at(file: &'a File, offset: u64, number: u64) -> Self {
        Self { reader: BufReader::new(At { file, offset }), offset, number }
    }

    /// The next line, without its end.
    fn next(&mut self) -> Result<Vec<u8>, StoreError> {
        let mut text = Vec::new();
        let bound = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        (&mut self.reader).take(bound).read_until(b'\n', &mut text).map_err(StoreError::Read)?;
        self.offset += u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.number += 1;
        if text.pop() != Some(b'\n') {
            let detail = "the file ends without its trailer, or a line is too long".to_owned();
            return Err(StoreError::Import { line: self.number, detail });
        }
        Ok(text)
    }

    fn is_at_end(&mut self) -> Result<bool, StoreError> {
        Ok(self.reader.fill_buf().map_err(StoreError::Read)?.is_empty())
    }
}

/// A file that several read from, each at its own place.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += u64::try_from(read).unwrap_or(u64::MAX);
        Ok(read)
    }
}
