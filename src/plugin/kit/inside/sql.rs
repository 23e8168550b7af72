//! What is read of the files inside: texts that must be there, and whether a dump as SQL is whole.
//!
//! A dump is whole when it has the mark that its program writes last, and no table's rows go on up to it. One that has only the marks holds nothing.

use std::io::{self, Read};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::plugin::kit::database::postgres::Scanner;
use crate::plugin::protocol::Verdict;

const CHUNK_BYTES: usize = 256 << 10;
/// The marks stand within so much of the beginning and the end.
const EDGE_BYTES: usize = 4 << 10;
/// What is kept of one piece for the next, at least: no statement's first words are longer.
const OVERLAP_BYTES: usize = 64;

/// Whose dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Of pg_dump or pg_dumpall, as text.
    Postgres,
    /// Of mysqldump or mariadb-dump.
    Mysql,
}

impl Kind {
    fn begins(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["-- PostgreSQL database dump", "-- PostgreSQL database cluster dump"],
            Self::Mysql => &["-- MySQL dump", "-- MariaDB dump"],
        }
    }

    fn ends(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["-- PostgreSQL database dump complete", "-- PostgreSQL database cluster dump complete"],
            Self::Mysql => &["-- Dump completed"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL or MariaDB",
        }
    }
}

/// What all files together showed.
pub(super) struct Reading {
    pub(super) texts: Vec<(String, bool)>,
    pub(super) bytes: u64,
    kind: Option<Kind>,
    whole: u64,
    cut: u64,
    custom: u64,
    objects: u64,
}

impl Reading {
    pub(super) fn new(texts: Vec<String>, kind: Option<Kind>) -> Self {
        let texts = texts.into_iter().map(|text| (text, false)).collect();
        Self { texts, bytes: 0, kind, whole: 0, cut: 0, custom: 0, objects: 0 }
    }

    /// Reads one file to its end.
    pub(super) fn file(&mut self, source: &mut dyn Read) -> io::Result<()> {
        let longest = self.texts.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let overlap = longest.max(OVERLAP_BYTES);
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        // The first line begins as if one had ended.
        let mut held = vec![b'\n'];
        let mut objects = 0;
        // A mark behind rows that never ended is one of them.
        let mut scanner = (self.kind == Some(Kind::Postgres)).then(Scanner::default);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = source.read(&mut chunk)?;
            let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else { break };
            self.bytes += length as u64;
            if self.texts.is_empty() && self.kind.is_none() {
                continue;
            }
            let seen = held.len();
            held.extend_from_slice(read);
            for (text, found) in &mut self.texts {
                *found = *found || has(&held, text.as_bytes());
            }
            if self.kind.is_some() {
                head.extend(read.iter().take(EDGE_BYTES - head.len().min(EDGE_BYTES)));
                tail.extend_from_slice(read);
                tail.drain(..tail.len().saturating_sub(EDGE_BYTES));
                objects += statements(&held, seen);
                if let Some(scanner) = &mut scanner {
                    scanner.push(read);
                }
            }
            held.drain(..held.len().saturating_sub(overlap));
        }
        if let Some(kind) = self.kind {
            let any = |bytes: &[u8], marks: &[&str]| marks.iter().any(|mark| has(bytes, mark.as_bytes()));
            match () {
                () if kind == Kind::Postgres && head.starts_with(b"PGDMP") => self.custom += 1,
                () if !any(&head, kind.begins()) => {}
                () if scanner.as_ref().is_some_and(Scanner::is_in_rows) => self.cut += 1,
                () if any(&tail, kind.ends()) => {
                    self.whole += 1;
                    self.objects += objects;
                }
                () => self.cut += 1,
            }
        }
        Ok(())
    }

    /// Whether what was read has whole dumps, none that was cut, and something in them.
    pub(super) fn dump(&self) -> Result<String, (Verdict, String)> {
        let name = self.kind.map_or("", Kind::name);
        match () {
            () if self.cut > 0 => Err((
                Verdict::Failed,
                format!("a dump of {name} breaks off: the mark at its end, or that of a table's rows, is missing"),
            )),
            () if self.whole > 0 && self.objects == 0 => {
                Err((Verdict::Failed, format!("the dump of {name} is whole, and nothing is in it")))
            }
            () if self.whole > 0 => {
                Ok(format!("{} of {name}, {} statements that make or fill something", self.whole, self.objects))
            }
            () if self.custom > 0 => Err((
                Verdict::CouldNotVerify,
                "it is a dump in the custom format, of which only a restore tells whether it is whole".to_owned(),
            )),
            () => Err((Verdict::Failed, format!("none of the files inside is a dump of {name} as SQL"))),
        }
    }
}

/// Lines that begin a statement which makes or fills something; those whose beginning was seen before don't count.
fn statements(held: &[u8], seen: usize) -> u64 {
    const BEGINNINGS: [&[u8]; 3] = [b"CREATE ", b"COPY ", b"INSERT INTO"];
    // A beginning that reached into what was held before was not whole then.
    let from = seen.saturating_sub(12);
    let lines = held.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let count = lines.filter(|start| {
        let line = held.get(*start..).unwrap_or_default();
        BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
    });
    count.count() as u64
}

fn has(hay: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || hay.windows(needle.len()).any(|window| window == needle)
}
