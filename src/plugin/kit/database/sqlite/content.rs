//! What is in a database, in numbers: objects, tables, rows, and a fingerprint of each table where that is cheap.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};

use super::check::needs_the_application;
use crate::error::chain;

/// Databases up to this size get fingerprints.
const FINGERPRINT_BYTES_MAX: u64 = 64 << 20;
/// Tables that get figures of their own.
const TABLES_TOLD_MAX: usize = 50;
/// A fingerprint is a number that JSON readers keep exactly.
const FINGERPRINT_MASK: u64 = (1 << 53) - 1;

/// One database.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) objects: u64,
    pub(super) tables: u64,
    pub(super) rows: u64,
    /// Tables that only the application can read, and why; they have no figures.
    pub(super) unread: Vec<String>,
    each: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    name: String,
    rows: u64,
    fingerprint: Option<u64>,
}

/// Several databases.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) objects: u64,
    pub(super) tables: u64,
    pub(super) rows: u64,
}

impl Totals {
    pub(super) fn add(&mut self, content: &Content) {
        self.objects += content.objects;
        self.tables += content.tables;
        self.rows += content.rows;
    }
}

impl Content {
    /// How many rows a table has; none: it is not there. One that only the application can read may have any.
    pub(super) fn rows_of(&self, table: &str) -> Option<u64> {
        let read = self.each.iter().find(|each| each.name == table).map(|each| each.rows);
        read.or_else(|| self.unread.iter().any(|each| each.starts_with(table)).then_some(1))
    }

    /// `rows.<table>` and `content.<table>` for the first tables by name.
    pub(super) fn figures(&self, prefix: &str) -> Vec<(String, u64)> {
        let told = self.each.iter().take(TABLES_TOLD_MAX);
        told.flat_map(|table| {
            let rows = (format!("{prefix}rows.{}", table.name), table.rows);
            let content = table.fingerprint.map(|number| (format!("{prefix}content.{}", table.name), number));
            std::iter::once(rows).chain(content)
        })
        .collect()
    }
}

/// Reads all tables but virtual ones, whose rows are in their shadow tables.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Content> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let bytes = count("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")?;
    let objects = count("SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?;
    let mut statement = connection.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND coalesce(sql, '') NOT LIKE 'CREATE VIRTUAL%' ORDER BY name",
    )?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut content = Content { objects, tables: names.len() as u64, ..Content::default() };
    for name in names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let read = if bytes <= FINGERPRINT_BYTES_MAX {
            fingerprint(connection, &name, &quoted).map(|(rows, number)| (rows, Some(number)))
        } else {
            count(&format!("SELECT count(*) FROM {quoted}")).map(|rows| (rows, None))
        };
        match read {
            Ok((rows, fingerprint)) => {
                content.rows += rows;
                content.each.push(Table { name, rows, fingerprint });
            }
            Err(error) if needs_the_application(&chain(&error)) => {
                content.unread.push(format!("{name} ({})", chain(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(content)
}

/// A number over all values in the order of the rows, with their types and lengths so that no two run together.
fn fingerprint(connection: &Connection, name: &str, quoted: &str) -> rusqlite::Result<(u64, u64)> {
    let mut statement = match connection.prepare(&format!("SELECT * FROM {quoted}")) {
        // Columns that are computed by a function of the application are nothing that is stored.
        Err(error) if needs_the_application(&chain(&error)) => {
            connection.prepare(&format!("SELECT {} FROM {quoted}", stored_columns(connection, name)?))?
        }
        prepared => prepared?,
    };
    let columns = statement.column_count();
    let mut hasher = Sha256::new();
    let mut count = 0;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        count += 1;
        for column in 0..columns {
            let (kind, bytes): (u8, Vec<u8>) = match row.get_ref(column)? {
                ValueRef::Null => (0, Vec::new()),
                ValueRef::Integer(number) => (1, number.to_be_bytes().to_vec()),
                ValueRef::Real(number) => (2, number.to_bits().to_be_bytes().to_vec()),
                ValueRef::Text(text) => (3, text.to_vec()),
                ValueRef::Blob(blob) => (4, blob.to_vec()),
            };
            hasher.update([kind]);
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(&bytes);
        }
    }
    let digest = hasher.finalize();
    let head: [u8; 8] = digest.first_chunk().copied().unwrap_or_default();
    Ok((count, u64::from_be_bytes(head) & FINGERPRINT_MASK))
}

fn stored_columns(connection: &Connection, name: &str) -> rusqlite::Result<String> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")?;
    let names: Vec<String> = statement.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let quoted = names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    Ok(quoted.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(extra: &str) -> Content {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!(
                "CREATE TABLE \"odd \"\"name\" (a, b); INSERT INTO \"odd \"\"name\" VALUES (1, 'x'), (NULL, x'00');
                 CREATE TABLE empty (a); CREATE INDEX i ON empty (a); {extra}"
            ))
            .unwrap();
        read(&connection).unwrap()
    }

    #[test]
    fn tables_rows_and_objects_are_counted() {
        let content = sample("");
        assert_eq!((content.objects, content.tables, content.rows), (3, 2, 2));
        let names: Vec<String> = content.figures("app/").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["app/rows.empty", "app/content.empty", "app/rows.odd \"name", "app/content.odd \"name"]);
    }

    #[test]
    fn one_changed_value_changes_the_fingerprint_of_its_table_alone() {
        let before = sample("");
        let after = sample("UPDATE \"odd \"\"name\" SET b = 'y' WHERE a = 1;");
        assert_eq!(before.each[0].fingerprint, after.each[0].fingerprint);
        assert_ne!(before.each[1].fingerprint, after.each[1].fingerprint);
    }
}
