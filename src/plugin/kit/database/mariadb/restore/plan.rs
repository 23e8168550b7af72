//! One dump of a backup and the database that it goes to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::names::Names;
use super::swap::Place;
use crate::plugin::kit::database::mariadb::scan::Scan;
use crate::plugin::kit::database::mariadb::server::identifier;
use crate::plugin::protocol::{Step, Verb};
use crate::types::ByteSize;

/// Names in a sentence.
const NAMES_MAX: usize = 5;

/// One dump and where it goes.
pub(in crate::plugin) struct Plan {
    pub(in crate::plugin::kit::database::mariadb) file: PathBuf,
    /// As it stands between backquotes in the file.
    pub(in crate::plugin::kit::database::mariadb) quoted: String,
    pub(in crate::plugin::kit::database::mariadb) goal: String,
    pub(in crate::plugin::kit::database::mariadb) scan: Scan,
    pub(in crate::plugin::kit::database::mariadb) bytes: u64,
    pub(in crate::plugin::kit::database::mariadb) exists: bool,
    /// It has tables that would be replaced.
    pub(in crate::plugin::kit::database::mariadb) is_full: bool,
    /// Live tables and views that the target leaves out and the dump does not have.
    pub(in crate::plugin::kit::database::mariadb) stays: Vec<String>,
}

impl Plan {
    pub(super) fn step(&self) -> Step {
        let (tables, rows) = (self.scan.counts.tables, self.scan.counts.rows);
        let detail = format!("{tables} tables, {rows} rows, {}", ByteSize(self.bytes));
        let (verb, mut detail) = match (self.is_full, self.exists) {
            (true, _) => (Verb::Replace, format!("{detail}; what is there stays until the new one is whole beside it")),
            (false, true) => (Verb::Replace, format!("{detail}; it has no table now")),
            (false, false) => (Verb::Create, detail),
        };
        if !self.stays.is_empty() {
            let shown: Vec<&str> = self.stays.iter().take(NAMES_MAX).map(String::as_str).collect();
            let more = if self.stays.len() > NAMES_MAX { ", …" } else { "" };
            detail = format!("{detail}; left as it is, as `exclude_tables` says: {}{more}", shown.join(", "));
        }
        Step::new(verb, format!("database {}", self.goal), detail)
    }

    pub(super) fn own(&self) -> String {
        format!("`{}`", self.quoted)
    }

    pub(super) fn names_beside(&self, place: &Place, others: &BTreeMap<String, String>) -> Names {
        // A table that is in no dump of these may be in the database that is there.
        Names { others: others.clone(), outer: Some(identifier(&place.goal)), ..self.names(&place.beside) }
    }

    pub(super) fn names(&self, new: &str) -> Names {
        Names { tables: self.scan.tables.keys().cloned().collect(), ..Names::own(&self.own(), &identifier(new)) }
    }
}
