//! What a dump holds, read as a stream: its tables, each one's rows and their fingerprint, and whether it is whole.
//!
//! The fingerprint of a table is the sum of its rows' hashes, so the order of the rows, and how many stand in one
//! INSERT, do not matter: a restored database that is dumped again has the same. Memory does not grow with the file.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// Longest start of a line that is looked at: an INSERT may name 4096 columns, a name has 64 characters of at most 4
/// bytes, doubled where it is `` ` ``.
const HEAD_BYTES_MAX: usize = 4 << 20;
/// A fingerprint is a number that JSON readers keep exactly.
const FINGERPRINT_MASK: u64 = (1 << 53) - 1;
/// How the last line of a whole dump begins.
const TRAILER: &[u8] = b"-- Dump completed";
/// What a dump with the history of system-versioned tables sets before their rows.
const HISTORY: &[u8] = b"session.system_versioning_insert_history=1";

/// What is in a dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// By name, as it stands between the backquotes.
    pub(super) tables: BTreeMap<String, Table>,
    pub(super) counts: Counts,
    /// Its last line is the one that mariadb-dump writes when all went well.
    pub(super) complete: bool,
    /// The database, as it stands between the backquotes of the first USE.
    pub(super) database: Option<String>,
    /// It has the history of system-versioned tables.
    pub(super) history: bool,
    /// A fingerprint of all that is no row.
    definitions: u64,
}

/// A table's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) rows: u64,
    pub(super) sum: u64,
}

/// How many there are of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) tables: u64,
    pub(super) rows: u64,
    pub(super) views: u64,
    pub(super) sequences: u64,
    pub(super) triggers: u64,
    pub(super) routines: u64,
    pub(super) events: u64,
    pub(super) statements: u64,
}

impl Counts {
    /// All that is no table and no row, by name.
    pub(super) fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("views", self.views),
            ("sequences", self.sequences),
            ("triggers", self.triggers),
            ("routines", self.routines),
            ("events", self.events),
        ]
    }

    pub(super) fn of(&self, what: &str) -> u64 {
        let named = self.named().into_iter().find(|(name, _)| *name == what);
        named.map_or(self.tables, |(_, count)| count)
    }

    /// All that is no table.
    pub(super) fn objects(&self) -> u64 {
        self.views + self.sequences + self.triggers + self.routines + self.events
    }
}

impl Scan {
    pub(super) fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }

    /// One number for all content.
    pub(super) fn content(&self) -> u64 {
        let mut hasher = Sha256::new();
        for (name, table) in &self.tables {
            hasher.update((name.len() as u64).to_be_bytes());
            hasher.update(name.as_bytes());
            hasher.update(table.rows.to_be_bytes());
            hasher.update(table.sum.to_be_bytes());
        }
        hasher.update(self.definitions.to_be_bytes());
        head_of(hasher) & FINGERPRINT_MASK
    }

    /// Adds the counts of another database.
    pub(super) fn add(&mut self, other: &Self) {
        let (own, more) = (&mut self.counts, &other.counts);
        own.tables += more.tables;
        own.rows += more.rows;
        own.views += more.views;
        own.sequences += more.sequences;
        own.triggers += more.triggers;
        own.routines += more.routines;
        own.events += more.events;
        own.statements += more.statements;
    }
}

fn head_of(hasher: Sha256) -> u64 {
    u64::from_be_bytes(hasher.finalize().first_chunk().copied().unwrap_or_default())
}

/// Reads a dump piece by piece.
#[derive(Default)]
pub(super) struct Scanner {
    scan: Scan,
    place: Place,
    /// The start of the current line.
    head: Vec<u8>,
    /// Between `DELIMITER ;;` and `DELIMITER ;`: the body of something.
    in_body: bool,
    /// There: a statement begins with this line.
    begins: bool,
    row: Sha256,
    table: String,
    definitions: Sha256,
}

/// Where in the text the reader is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Line,
    /// Behind `VALUES`, between two rows.
    BetweenRows,
    /// In a row; how deep in parentheses.
    Row(u32),
    /// In a quoted value of a row, and at what depth.
    Quoted(u32),
    /// Behind a backslash there.
    Escaped(u32),
}

impl Scanner {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        // The bytes of a row are hashed by pieces: from `from` on they are not yet.
        let mut from = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            match (self.place, byte) {
                (Place::Line, b'\n') => self.end_of_line(),
                (Place::Line, _) => {
                    if self.head.len() < HEAD_BYTES_MAX {
                        self.head.push(byte);
                        if byte == b'S' && self.begins_rows() {
                            self.place = Place::BetweenRows;
                        }
                    }
                }
                (Place::BetweenRows, b'(') => {
                    self.row = Sha256::new();
                    from = at + 1;
                    self.place = Place::Row(0);
                }
                (Place::BetweenRows, b';') => {
                    self.scan.counts.statements += 1;
                    self.head.clear();
                    self.place = Place::Line;
                }
                (Place::Row(depth), b'\'') | (Place::Escaped(depth), _) => self.place = Place::Quoted(depth),
                (Place::Row(depth), b'(') => self.place = Place::Row(depth + 1),
                (Place::Row(0), b')') => {
                    self.row.update(chunk.get(from..at).unwrap_or_default());
                    self.end_of_row();
                    self.place = Place::BetweenRows;
                }
                (Place::Row(depth), b')') => self.place = Place::Row(depth - 1),
                (Place::Quoted(depth), b'\\') => self.place = Place::Escaped(depth),
                (Place::Quoted(depth), b'\'') => self.place = Place::Row(depth),
                (Place::BetweenRows | Place::Row(_) | Place::Quoted(_), _) => {}
            }
        }
        if matches!(self.place, Place::Row(_) | Place::Quoted(_) | Place::Escaped(_)) {
            self.row.update(chunk.get(from..).unwrap_or_default());
        }
    }

    pub(super) fn finish(mut self) -> Scan {
        if !self.head.is_empty() {
            self.end_of_line();
        }
        if self.place != Place::Line || self.in_body {
            self.scan.complete = false;
        }
        self.scan.counts.tables = self.scan.tables.len() as u64;
        self.scan.counts.rows = self.scan.rows();
        self.scan.definitions = head_of(self.definitions);
        self.scan
    }

    /// Whether the line so far is ``INSERT INTO `t` VALUES``, with or without column names; keeps the table's name.
    fn begins_rows(&mut self) -> bool {
        let Some(rest) = self.head.strip_suffix(b" VALUES") else { return false };
        let Some(rest) = rest.strip_prefix(b"INSERT ").filter(|_| !self.in_body) else { return false };
        let Some(rest) = rest.strip_prefix(b"INTO ").or_else(|| rest.strip_prefix(b"IGNORE INTO ")) else {
            return false;
        };
        let Some((name, columns)) = backquoted(rest) else { return false };
        // A column may be named `x VALUES`: then its backquote is still open.
        if !columns.is_empty() && !columns.ends_with(b")") {
            return false;
        }
        self.table = name;
        // Which columns the values are of.
        self.definitions.update(columns);
        true
    }

    fn end_of_row(&mut self) {
        let hash = head_of(std::mem::take(&mut self.row));
        let table = self.scan.tables.entry(self.table.clone()).or_default();
        table.rows += 1;
        table.sum = table.sum.wrapping_add(hash);
    }

    fn end_of_line(&mut self) {
        let head = std::mem::take(&mut self.head);
        if head.is_empty() {
            return;
        }
        let counts = &mut self.scan.counts;
        self.scan.complete = head.starts_with(TRAILER);
        // A remark may hold the time of the dump; in a body it is the author's.
        if self.in_body || !head.starts_with(b"--") {
            self.definitions.update((head.len() as u64).to_be_bytes());
            self.definitions.update(&head);
        }
        if head == b"DELIMITER ;" {
            self.in_body = false;
        } else if head.starts_with(b"DELIMITER ") {
            (self.in_body, self.begins) = (true, true);
        } else if self.in_body {
            // In the body of a routine may stand what looks like the beginning of one.
            let begins = std::mem::replace(&mut self.begins, head.trim_ascii_end().ends_with(b";;"));
            counts.routines += u64::from(begins && head.starts_with(b"CREATE ") && names_a_routine(&head));
            counts.triggers += u64::from(begins && head.starts_with(b"/*!50003 CREATE*/"));
            counts.events += u64::from(begins && head.starts_with(b"/*!50106 CREATE*/"));
        } else if let Some((name, _)) = head.strip_prefix(b"CREATE TABLE ").and_then(backquoted) {
            self.scan.tables.entry(name).or_default();
        } else if let Some((name, _)) = head.strip_prefix(b"USE ").and_then(backquoted) {
            self.scan.database.get_or_insert(name);
        } else {
            counts.views += u64::from(head.starts_with(b"/*!50001 VIEW "));
            counts.sequences += u64::from(head.starts_with(b"CREATE SEQUENCE "));
            counts.statements += u64::from(head.ends_with(b";"));
            self.scan.history |= head.windows(HISTORY.len()).any(|part| part == HISTORY);
        }
    }
}

/// Whether a line that begins with CREATE makes a routine, and not something in the body of one.
fn names_a_routine(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    [" PROCEDURE ", " FUNCTION ", " PACKAGE "].iter().any(|word| text.contains(word))
}

/// Splits `` `name`rest ``; a backquote in the name is doubled and stays so.
pub(super) fn backquoted(text: &[u8]) -> Option<(String, &[u8])> {
    let text = text.strip_prefix(b"`")?;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b'`', Some(b'`')) => at += 2,
            (b'`', _) => {
                let name = String::from_utf8_lossy(text.get(..at)?).into_owned();
                return Some((name, text.get(at + 1..)?));
            }
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests;
