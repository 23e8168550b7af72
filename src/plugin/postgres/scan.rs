//! What a dump holds, read as SQL from `pg_restore` or `pg_dump`: the rows of each table with a fingerprint, and how many
//! objects there are of each kind.
//!
//! The fingerprint of a table is the sum of its rows' hashes, so their order does not matter: a restored database that
//! is dumped again has the same. Memory does not grow with the dump.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest as _, Sha256};

const CHUNK_BYTES: usize = 1 << 20;
/// Longest start of a line that is looked at.
const HEAD_BYTES_MAX: usize = 4096;
/// A fingerprint is a number that JSON readers keep exactly.
const FINGERPRINT_MASK: u64 = (1 << 53) - 1;
/// How the end of a whole dump begins.
const TRAILER: &[u8] = b"-- PostgreSQL database dump complete";

/// What is in a dump.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::plugin) struct Scan {
    /// By name as SQL has it: `public."odd name"`; and what is no table but has content.
    pub(super) tables: BTreeMap<String, Table>,
    /// How many of each kind: TABLE, INDEX, FUNCTION, …
    pub(super) objects: BTreeMap<String, u64>,
    /// How the database is made, from `WITH` on.
    pub(super) made: Option<String>,
    pub(super) complete: bool,
    /// The major version of the server that it is from.
    pub(super) major: Option<u32>,
}

/// A table's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) rows: u64,
    pub(super) sum: u64,
}

impl Scan {
    /// Of all tables; large objects and sequences are none.
    pub(super) fn rows(&self) -> u64 {
        self.tables
            .iter()
            .filter(|(name, _)| !name.contains(' ') || name.contains('"'))
            .map(|(_, table)| table.rows)
            .sum()
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
    /// The start of the current line, and how long it is.
    head: Vec<u8>,
    length: u64,
    hasher: Sha256,
    /// The table whose rows are being read.
    table: Option<String>,
}

impl Scanner {
    pub(in crate::plugin) fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (piece, others) = rest.split_at(end);
            self.piece(piece);
            self.end_of_line();
            rest = others.get(1..).unwrap_or_default();
        }
        self.piece(rest);
    }

    fn piece(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        let room = HEAD_BYTES_MAX.saturating_sub(self.head.len());
        self.head.extend(piece.iter().take(room));
        self.hasher.update(piece);
    }

    fn end_of_line(&mut self) {
        let hasher = std::mem::take(&mut self.hasher);
        let head = std::mem::take(&mut self.head);
        let length = std::mem::take(&mut self.length);
        match &self.table {
            Some(_) if length == 2 && head == b"\\." => self.table = None,
            Some(name) => {
                let name = name.clone();
                self.row(name, hasher);
            }
            None => self.statement(&head, hasher),
        }
    }

    fn row(&mut self, name: String, hasher: Sha256) {
        let table = self.scan.tables.entry(name).or_default();
        table.rows += 1;
        table.sum = table.sum.wrapping_add(head_of(hasher));
    }

    fn statement(&mut self, head: &[u8], hasher: Sha256) {
        if head.starts_with(b"SELECT pg_catalog.lowrite(") {
            return self.row("large objects".to_owned(), hasher);
        }
        if head.starts_with(b"SELECT pg_catalog.setval(") {
            return self.row("sequence values".to_owned(), hasher);
        }
        let text = String::from_utf8_lossy(head);
        if let Some(name) = text.strip_prefix("COPY ").filter(|rest| rest.ends_with(" FROM stdin;")).map(table_of) {
            self.scan.tables.entry(name.clone()).or_default();
            self.table = Some(name);
        } else if let Some((name, rest)) = text.strip_prefix("-- Name: ").and_then(|rest| rest.split_once("; Type: ")) {
            let kind = rest.split(';').next().unwrap_or_default();
            // What is said of the database itself is told only where the database is made.
            if !kind.starts_with("DATABASE") && !name.starts_with("DATABASE ") {
                *self.scan.objects.entry(kind.to_owned()).or_default() += 1;
            }
        } else if let Some(rest) = text.strip_prefix("CREATE DATABASE ") {
            let made = rest.rfind(" WITH TEMPLATE = ").and_then(|at| rest.get(at + 1..));
            self.scan.made = self.scan.made.take().or(made.map(|made| made.trim_end_matches(';').to_owned()));
        } else if let Some(version) = text.strip_prefix("-- Dumped from database version ") {
            self.scan.major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|major| major.parse().ok());
        } else if head.starts_with(TRAILER) {
            self.scan.complete = true;
        }
    }

    pub(in crate::plugin) fn finish(mut self) -> Scan {
        if self.length > 0 {
            self.end_of_line();
        }
        self.scan.complete &= self.table.is_none();
        self.scan
    }
}

/// The name in front of the columns.
fn table_of(text: &str) -> String {
    let mut quoted = false;
    let end = text.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        *letter == ' ' && !quoted
    });
    text.get(..end.map_or(text.len(), |(at, _)| at)).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "CREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';\n\
        -- Name: note; Type: TABLE; Schema: public; Owner: x\n-- Name: DATABASE app; Type: ACL; Schema: -; Owner: x\n\
        COPY public.\"odd (name\" (id, text) FROM stdin;\n1\tx\n2\t\\.\n\\.\n\nCOPY public.empty (a) FROM stdin;\n\\.\n\
        SELECT pg_catalog.setval('public.s', 7, true);\n--\n-- PostgreSQL database dump complete\n--\n\n";

    #[test]
    fn tables_rows_and_objects_are_read() {
        let scan = read(DUMP.as_bytes()).unwrap();
        let tables: Vec<(&str, u64)> = scan.tables.iter().map(|(name, table)| (name.as_str(), table.rows)).collect();
        assert_eq!(tables, [("public.\"odd (name\"", 2), ("public.empty", 0), ("sequence values", 1)]);
        assert_eq!((scan.rows(), scan.objects["TABLE"], scan.objects.len(), scan.complete), (2, 1, 1, true));
        assert_eq!(scan.made.as_deref(), Some("WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C'"));
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_each_value_does() {
        let content = |from: &str, to: &str| read(DUMP.replace(from, to).as_bytes()).unwrap().content();
        let whole = content("nothing", "");
        assert_eq!(whole, content("1\tx\n2\t\\.\n", "2\t\\.\n1\tx\n"));
        for (from, to) in [("1\tx", "1\ty"), ("1\tx\n", ""), ("7, true", "8, true"), ("odd", "old")] {
            assert_ne!(whole, content(from, to));
        }
    }

    #[test]
    fn no_cut_dump_is_whole() {
        let end = DUMP.find("complete").unwrap();
        assert!((0..end).all(|end| !read(&DUMP.as_bytes()[..end]).unwrap().complete));
    }
}
