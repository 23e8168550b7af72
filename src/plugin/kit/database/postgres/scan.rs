//! What a dump holds, read as SQL from `pg_restore` or `pg_dump`: the rows of each table with a fingerprint, what objects
//! there are of each kind, and a fingerprint of all definitions.
//!
//! The text is read as SQL is: what stands between quotes, such as the body of a function, is no statement, whatever it
//! looks like. The fingerprint of a table is the sum of its rows' hashes, so their order does not matter: a restored
//! database that is dumped again has the same. Memory does not grow with the dump.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::property::{Property, making};
use super::statement::{Backslash, one};

const CHUNK_BYTES: usize = 1 << 20;
/// Longest start of a statement or comment that is looked at; names and a function's arguments fit.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Of the end of a statement, as much as [`COPY_END`] has.
const TAIL_BYTES: usize = COPY_END.len();
/// A fingerprint is a number that JSON readers keep exactly.
const FINGERPRINT_MASK: u64 = (1 << 53) - 1;
/// How the end of a whole dump begins.
const TRAILER: &[u8] = b"-- PostgreSQL database dump complete";
/// How a statement ends behind which rows follow.
const COPY_END: &[u8] = b" FROM stdin;";

/// What is in a dump.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::plugin) struct Scan {
    /// By name as SQL has it: `public."odd name"`; and what is no table but has content.
    pub(super) tables: BTreeMap<String, Table>,
    /// Of each kind: TABLE, INDEX, FUNCTION, …
    pub(super) objects: BTreeMap<String, Named>,
    /// How the database is made, from `WITH` on, as the dump has it.
    made: Option<String>,
    /// The database's name as SQL has it.
    database: Option<String>,
    backslash: Backslash,
    /// The schemas that it makes, as SQL has them.
    pub(super) schemas: Vec<String>,
    /// What may be statements about the database itself: owner, rights, settings.
    own: Vec<String>,
    pub(super) complete: bool,
    /// The major version of the server that it is from.
    pub(super) major: Option<u32>,
    /// A fingerprint of every statement but those about the database itself and the session.
    definitions: u64,
}

/// A table's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) rows: u64,
    pub(super) sum: u64,
}

/// Objects of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) count: u64,
    /// Of the hashes of their names.
    pub(super) sum: u64,
}

impl Scan {
    /// Of all tables; large objects and sequences are none.
    pub(in crate::plugin) fn rows(&self) -> u64 {
        self.tables
            .iter()
            .filter(|(name, _)| !name.contains(' ') || name.contains('"'))
            .map(|(_, table)| table.rows)
            .sum()
    }

    /// How many there are of a kind.
    pub(super) fn count(&self, kind: &str) -> u64 {
        self.objects.get(kind).map_or(0, |named| named.count)
    }

    /// How the database is made, from `WITH` on.
    pub(in crate::plugin) fn made(&self) -> Option<String> {
        making(self.made.as_deref()?, self.backslash)
    }

    /// What is said of the database itself; other statements are none of it, whatever they look like.
    pub(in crate::plugin) fn properties(&self) -> Vec<Property> {
        let Some(name) = self.database.as_ref().and_then(|name| one(&format!("{name};"), self.backslash)) else {
            return Vec::new();
        };
        let [name] = name.as_slice() else { return Vec::new() };
        let Some(name) = name.as_name() else { return Vec::new() };
        self.own.iter().filter_map(|text| Property::of(text, name, self.backslash)).collect()
    }

    /// The search_path that the backup says of the database.
    pub(in crate::plugin) fn search_path(&self) -> Option<String> {
        self.properties().into_iter().find_map(|property| property.search_path)
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
}

fn head_of(hasher: Sha256) -> u64 {
    u64::from_be_bytes(hasher.finalize().first_chunk().copied().unwrap_or_default())
}

/// Reads a dump as SQL to its end.
pub(super) fn read(mut from: impl Read) -> std::io::Result<Scan> {
    let mut scanner = Scanner::default();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let length = match from.read(&mut chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else { return Ok(scanner.finish()) };
        scanner.push(read);
    }
}

/// Takes a dump as it comes.
#[derive(Default)]
pub(in crate::plugin) struct Scanner {
    scan: Scan,
    place: Place,
    /// The start of the current statement or comment.
    head: Vec<u8>,
    /// The last bytes of the current statement.
    tail: Vec<u8>,
    /// Of the statement, comment or row.
    hasher: Sha256,
    /// How long the current row is, up to 3.
    row_length: usize,
    row_head: [u8; 2],
    /// The table whose rows are being read, or will be behind this line.
    table: Option<String>,
    definitions: Sha256,
    /// The statement that opened the current large object, and how many pieces of it came.
    opened: (Vec<u8>, u64),
}

/// Where in the text the reader is.
#[derive(Default)]
enum Place {
    /// Between two statements.
    #[default]
    Between,
    /// In a statement, outside of quotes.
    Plain,
    /// Behind one dash there.
    Dash,
    Quoted,
    /// In a name between double quotes.
    Name,
    /// Behind a dollar sign: what came of the tag; a longer one than a head is none.
    Tag(Vec<u8>),
    /// Between two tags; how much of the second one came, when its dollar sign did.
    Dollars {
        tag: Vec<u8>,
        came: Option<usize>,
    },
    /// In a comment or a command to psql, up to the end of the line; whether a statement goes on behind it.
    Comment {
        inside: bool,
    },
    /// Behind a statement after which rows follow, up to the end of the line.
    BeforeRows,
    Rows,
}

impl Scanner {
    pub(in crate::plugin) fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            // What goes on as it is, as one piece.
            let length = match &self.place {
                Place::Rows | Place::Comment { .. } | Place::BeforeRows => up_to(rest, |byte| byte == b'\n'),
                Place::Quoted => up_to(rest, |byte| byte == b'\''),
                Place::Name => up_to(rest, |byte| byte == b'"'),
                Place::Plain => up_to(rest, |byte| matches!(byte, b'\'' | b'"' | b'$' | b'-' | b';')),
                Place::Dollars { came: None, .. } => up_to(rest, |byte| byte == b'$'),
                _ => 0,
            };
            let (piece, others) = rest.split_at(length);
            self.piece(piece);
            rest = others;
            if let Some((&byte, others)) = others.split_first() {
                self.byte(byte);
                rest = others;
            }
        }
    }

    /// Bytes that change nothing about where the reader is.
    fn piece(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        match self.place {
            Place::Rows => {
                for (&byte, at) in piece.iter().zip(self.row_length..) {
                    match self.row_head.get_mut(at) {
                        Some(own) => *own = byte,
                        None => break,
                    }
                }
                self.row_length = self.row_length.saturating_add(piece.len());
                self.hasher.update(piece);
            }
            Place::BeforeRows | Place::Comment { inside: true } => {}
            Place::Comment { inside: false } => self.keep_head(piece),
            _ => {
                self.keep_head(piece);
                self.keep_tail(piece);
                self.hasher.update(piece);
            }
        }
    }

    fn keep_head(&mut self, piece: &[u8]) {
        let room = HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend(piece.iter().take(room));
    }

    fn keep_tail(&mut self, piece: &[u8]) {
        self.tail.extend(piece.iter().skip(piece.len().saturating_sub(TAIL_BYTES)));
        let more = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..more);
    }

    /// A byte that may change it.
    fn byte(&mut self, byte: u8) {
        let place = std::mem::take(&mut self.place);
        self.place = match (place, byte) {
            (Place::Rows, b'\n') => return self.end_of_row(),
            (Place::BeforeRows, _) => {
                self.row_length = 0;
                Place::Rows
            }
            (Place::Comment { inside }, _) => {
                if inside {
                    Place::Plain
                } else {
                    self.comment();
                    Place::Between
                }
            }
            (Place::Between, byte) if byte.is_ascii_whitespace() => Place::Between,
            (Place::Between, b'\\') => Place::Comment { inside: false },
            (Place::Dash, b'-') => {
                // The first dash is the head so far when nothing stands before it.
                let inside = self.head != b"-";
                if !inside {
                    self.keep_head(b"-");
                }
                Place::Comment { inside }
            }
            (Place::Plain | Place::Between, b';') => {
                self.piece(b";");
                return self.end_of_statement();
            }
            (Place::Tag(tag), b'$') => {
                self.piece(b"$");
                Place::Dollars { tag, came: None }
            }
            (Place::Tag(mut tag), byte) if is_of_tag(byte, tag.is_empty()) && tag.len() < HEAD_BYTES_MAX => {
                self.piece(&[byte]);
                tag.push(byte);
                Place::Tag(tag)
            }
            (Place::Dollars { tag, came }, byte) => {
                self.piece(&[byte]);
                match came {
                    Some(came) if byte == b'$' && came == tag.len() => Place::Plain,
                    _ if byte == b'$' => Place::Dollars { tag, came: Some(0) },
                    Some(at) if tag.get(at) == Some(&byte) => Place::Dollars { tag, came: Some(at + 1) },
                    _ => Place::Dollars { tag, came: None },
                }
            }
            (Place::Quoted | Place::Name, _) => {
                self.piece(&[byte]);
                Place::Plain
            }
            // Behind a dash or a dollar sign that was none of these.
            (Place::Dash | Place::Tag(_), byte) => {
                self.place = Place::Plain;
                return self.byte(byte);
            }
            (_, byte) => {
                self.place = Place::Plain;
                self.piece(&[byte]);
                match byte {
                    b'\'' => Place::Quoted,
                    b'"' => Place::Name,
                    b'$' => Place::Tag(Vec::new()),
                    b'-' => Place::Dash,
                    _ => Place::Plain,
                }
            }
        };
    }

    fn end_of_row(&mut self) {
        let hasher = std::mem::take(&mut self.hasher);
        let (length, head) = (std::mem::take(&mut self.row_length), self.row_head);
        if length == 2 && &head == b"\\." {
            self.table = None;
            return;
        }
        self.place = Place::Rows;
        if let Some(name) = self.table.clone() {
            self.row(name, hasher);
        }
    }

    fn row(&mut self, name: String, hasher: Sha256) {
        let table = self.scan.tables.entry(name).or_default();
        table.rows += 1;
        table.sum = table.sum.wrapping_add(head_of(hasher));
    }

    /// A line that begins with two dashes, or with a backslash.
    fn comment(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.forget();
        let text = String::from_utf8_lossy(&head);
        if let Some((name, rest)) = text.strip_prefix("-- Name: ").and_then(|rest| rest.split_once("; Type: ")) {
            let mut parts = rest.split(';');
            let kind = parts.next().unwrap_or_default();
            // What is said of the database itself is told only where the database is made.
            if !kind.starts_with("DATABASE") && !name.starts_with("DATABASE ") {
                let named = self.scan.objects.entry(kind.to_owned()).or_default();
                named.count += 1;
                let schema = parts.next().unwrap_or_default();
                let hash = head_of(Sha256::new_with_prefix(format!("{name};{schema}")));
                named.sum = named.sum.wrapping_add(hash);
            }
        } else if let Some(version) = text.strip_prefix("-- Dumped from database version ") {
            self.scan.major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|major| major.parse().ok());
        } else if head.starts_with(TRAILER) {
            self.scan.complete = true;
        }
    }

    fn forget(&mut self) {
        self.head.clear();
        self.tail.clear();
        self.hasher = Sha256::new();
    }

    fn end_of_statement(&mut self) {
        let head = std::mem::take(&mut self.head);
        let hasher = std::mem::take(&mut self.hasher);
        let tail = std::mem::take(&mut self.tail);
        if head.starts_with(b"SELECT pg_catalog.lo_open(") {
            self.opened = (head, 0);
            return;
        }
        if head.starts_with(b"SELECT pg_catalog.lowrite(") {
            // The same piece of another object, or at another place of it, is something else.
            let mut of_object = Sha256::new_with_prefix(&self.opened.0);
            of_object.update(self.opened.1.to_be_bytes());
            of_object.update(hasher.finalize());
            self.opened.1 += 1;
            return self.row("large objects".to_owned(), of_object);
        }
        if head.starts_with(b"SELECT pg_catalog.setval(") {
            return self.row("sequence values".to_owned(), hasher);
        }
        let text = String::from_utf8_lossy(&head);
        if let Some(rest) = text.strip_prefix("CREATE DATABASE ") {
            self.made(rest);
        } else if is_of_database(&text) {
            self.scan.own.push(text.clone().into_owned());
        } else if !is_of_session(&text) {
            self.definitions.update(hasher.finalize());
        } else if text == "SET standard_conforming_strings = off;" {
            self.scan.backslash = Backslash::Escapes;
        }
        if let Some(name) = text.strip_prefix("CREATE SCHEMA ").and_then(|rest| rest.strip_suffix(';')) {
            self.scan.schemas.push(name.to_owned());
        }
        if let Some(name) = text.strip_prefix("COPY ").filter(|_| tail == COPY_END).map(name_at_start) {
            self.scan.tables.entry(name.clone()).or_default();
            self.table = Some(name);
            self.place = Place::BeforeRows;
        }
    }

    fn made(&mut self, rest: &str) {
        if self.scan.made.is_some() {
            return;
        }
        let name = name_at_start(rest);
        let made = rest.get(name.len()..).unwrap_or_default().trim_start();
        self.scan.made = Some(made.trim_end_matches(';').to_owned()).filter(|made| made.starts_with("WITH "));
        self.scan.database = Some(name);
    }

    /// Whether the rows of a table have not ended yet.
    pub(in crate::plugin) fn is_in_rows(&self) -> bool {
        matches!(self.place, Place::Rows | Place::BeforeRows)
    }

    pub(in crate::plugin) fn finish(mut self) -> Scan {
        match self.place {
            Place::Comment { inside: false } => self.comment(),
            Place::Between => {}
            // In the middle of something.
            _ => self.scan.complete = false,
        }
        self.scan.complete &= self.table.is_none();
        self.scan.definitions = head_of(self.definitions);
        self.scan
    }
}

fn up_to(bytes: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| is_end(*byte)).unwrap_or(bytes.len())
}

/// Whether a byte may stand between the dollar signs of a quote.
fn is_of_tag(byte: u8, is_first: bool) -> bool {
    byte == b'_' || byte >= 0x80 || byte.is_ascii_alphabetic() || (!is_first && byte.is_ascii_digit())
}

/// What is about the session only.
fn is_of_session(text: &str) -> bool {
    ["SET ", "SELECT pg_catalog.set_config(", "SELECT pg_catalog.lo_close(", "BEGIN;", "COMMIT;"]
        .iter()
        .any(|head| text.starts_with(head))
}

/// What is about the database itself, and told only where that is made.
fn is_of_database(text: &str) -> bool {
    let begins = |heads: &[&str]| heads.iter().any(|head| text.starts_with(head));
    begins(&["ALTER DATABASE ", "COMMENT ON DATABASE ", "UPDATE pg_catalog.pg_database "])
        || (begins(&["GRANT ", "REVOKE ", "SECURITY LABEL "]) && text.contains(" ON DATABASE "))
        || (text.starts_with("ALTER ROLE ") && text.contains(" IN DATABASE "))
}

/// A name at the start of a text, with its schema.
fn name_at_start(text: &str) -> String {
    let mut quoted = false;
    let end = text.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        letter.is_ascii_whitespace() && !quoted
    });
    text.get(..end.map_or(text.len(), |(at, _)| at)).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests;
