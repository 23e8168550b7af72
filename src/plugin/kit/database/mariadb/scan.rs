//! What a dump holds, read as a stream: its tables, each one's rows and their fingerprint, and whether it is whole.
//!
//! The fingerprint of a table is the sum of its rows' hashes, so the order of the rows, and how many stand in one
//! INSERT, do not matter: a restored database that is dumped again has the same. Memory does not grow with the file.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::reading::Reading;

/// Longest line that is no row: nothing that a dump program writes of a definition is longer.
const HEAD_BYTES_MAX: usize = 64 << 20;
/// How a statement begins that makes a view.
const VIEW: &[u8] = b"/*!50001 CREATE ALGORITHM";
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
    /// Its views and sequences, by name as it stands between the backquotes.
    pub(super) others: BTreeSet<String>,
    /// Its events, and whether a server that loads them later than they end does not make them again.
    pub(super) events: BTreeMap<String, bool>,
    /// How long its longest row is.
    pub(super) row_bytes: u64,
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

    /// Whether it has a table, view or sequence of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        let quoted = name.replace('`', "``");
        self.tables.contains_key(&quoted) || self.others.contains(&quoted)
    }

    /// Whether it has triggers, routines, events, or what stands in for views.
    pub(super) fn has_bodies(&self) -> bool {
        self.counts.views + self.counts.triggers + self.counts.routines + self.counts.events > 0
    }

    pub(super) fn has_views(&self) -> bool {
        self.counts.views > 0
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
    /// What the client makes of all but the rows.
    reading: Reading,
    /// What stands in `head` and was read already: lines of a name with line ends in it.
    held_bytes: usize,
    /// A line was longer than any that is looked at.
    is_cut: bool,
    /// The current statement makes a view.
    in_view: bool,
    row: Sha256,
    row_bytes: u64,
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
                    self.is_cut |= self.head.len() >= HEAD_BYTES_MAX;
                    if !self.is_cut {
                        self.head.push(byte);
                        if byte == b'S' && self.begins_rows() {
                            self.place = Place::BetweenRows;
                        }
                    }
                }
                (Place::BetweenRows, b'(') => {
                    (self.row, self.row_bytes) = (Sha256::new(), 0);
                    from = at + 1;
                    self.place = Place::Row(0);
                }
                (Place::BetweenRows, b';') => {
                    self.scan.counts.statements += 1;
                    if self.held_bytes > 0 {
                        self.reading.push(b";");
                    }
                    self.held_bytes = 0;
                    self.head.clear();
                    self.place = Place::Line;
                }
                (Place::Row(depth), b'\'') | (Place::Escaped(depth), _) => self.place = Place::Quoted(depth),
                (Place::Row(depth), b'(') => self.place = Place::Row(depth + 1),
                (Place::Row(0), b')') => {
                    self.row_goes_on(chunk.get(from..at).unwrap_or_default());
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
            self.row_goes_on(chunk.get(from..).unwrap_or_default());
        }
    }

    pub(super) fn finish(mut self) -> Scan {
        if !self.head.is_empty() {
            self.end_of_line();
        }
        if self.place != Place::Line || self.is_cut || !self.reading.is_between() || self.reading.is_delimited() {
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
        let is_plain = self.begins() && !self.reading.is_delimited();
        let Some(rest) = rest.strip_prefix(b"INSERT ").filter(|_| is_plain) else { return false };
        let Some(rest) = rest.strip_prefix(b"INTO ").or_else(|| rest.strip_prefix(b"IGNORE INTO ")) else {
            return false;
        };
        let Some((name, columns)) = backquoted(rest) else { return false };
        // A column may be named `x VALUES`: then its backquote is still open.
        if !columns.is_empty() && !columns.ends_with(b")") {
            return false;
        }
        self.table = name;
        if self.held_bytes > 0 {
            self.reading.push(self.head.get(self.held_bytes..).unwrap_or_default());
        }
        // Which columns the values are of.
        self.definitions.update(columns);
        true
    }

    fn row_goes_on(&mut self, bytes: &[u8]) {
        self.row.update(bytes);
        self.row_bytes += bytes.len() as u64;
    }

    fn end_of_row(&mut self) {
        self.scan.row_bytes = self.scan.row_bytes.max(self.row_bytes);
        let hash = head_of(std::mem::take(&mut self.row));
        let table = self.scan.tables.entry(self.table.clone()).or_default();
        table.rows += 1;
        table.sum = table.sum.wrapping_add(hash);
    }

    /// Whether the current line begins a statement.
    fn begins(&self) -> bool {
        self.held_bytes > 0 || self.reading.is_between()
    }

    fn end_of_line(&mut self) {
        let mut head = std::mem::take(&mut self.head);
        let (begins, in_body) = (self.begins(), self.reading.is_delimited());
        head.push(b'\n');
        self.reading.push(head.get(self.held_bytes..).unwrap_or_default());
        let heads: [&[u8]; 3] = [b"CREATE TABLE `", b"CREATE SEQUENCE `", b"INSERT INTO `"];
        let named = heads.iter().find_map(|start| head.strip_prefix(*start).and_then(|_| head.get(start.len() - 1..)));
        if begins && !in_body && !self.is_cut && named.is_some_and(|name| backquoted(name).is_none()) {
            self.held_bytes = head.len();
            self.head = head;
            return;
        }
        self.held_bytes = 0;
        head.pop();
        if head.is_empty() {
            return;
        }
        let is_plain = begins && !in_body;
        let counts = &mut self.scan.counts;
        self.scan.complete = is_plain && head.starts_with(TRAILER);
        // A remark may hold the time of the dump; in a body it is the author's.
        if !is_plain || !head.starts_with(b"--") {
            self.definitions.update((head.len() as u64).to_be_bytes());
            self.definitions.update(&head);
        }
        if begins {
            self.in_view = !in_body && head.starts_with(VIEW);
        }
        if in_body {
            // In the body of a routine may stand what looks like the beginning of one.
            counts.routines += u64::from(begins && head.starts_with(b"CREATE ") && names_a_routine(&head));
            counts.triggers += u64::from(begins && head.starts_with(b"/*!50003 CREATE*/"));
            if begins && head.starts_with(b"/*!50106 CREATE*/") {
                counts.events += 1;
                self.scan.events.extend(event(&head));
            }
        } else if let Some((name, _)) = head.strip_prefix(b"/*!50001 VIEW ").and_then(backquoted) {
            if begins || self.in_view {
                counts.views += 1;
                self.scan.others.insert(name);
            }
        } else if !begins {
            counts.statements += u64::from(self.reading.is_between());
        } else if let Some((name, _)) = head.strip_prefix(b"CREATE TABLE ").and_then(backquoted) {
            self.scan.tables.entry(name).or_default();
        } else if let Some((name, _)) = head.strip_prefix(b"CREATE SEQUENCE ").and_then(backquoted) {
            counts.sequences += 1;
            self.scan.others.insert(name);
        } else if let Some((name, _)) = head.strip_prefix(b"USE ").and_then(backquoted) {
            self.scan.database.get_or_insert(name);
        } else {
            counts.statements += u64::from(head.ends_with(b";"));
            self.scan.history |= head.windows(HISTORY.len()).any(|part| part == HISTORY);
        }
    }
}

/// The event that a line makes, and whether it is for a time only.
fn event(head: &[u8]) -> Option<(String, bool)> {
    const NAMED: &[u8] = b"EVENT `";
    let at = head.windows(NAMED.len()).position(|part| part == NAMED)? + NAMED.len() - 1;
    let (name, rest) = backquoted(head.get(at..)?)?;
    let rest = String::from_utf8_lossy(rest);
    let (schedule, completion) = rest.split_once(" ON COMPLETION ")?;
    let ends = schedule.starts_with(" ON SCHEDULE AT ") || schedule.contains(" ENDS ");
    Some((name, ends && completion.starts_with("NOT PRESERVE")))
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
