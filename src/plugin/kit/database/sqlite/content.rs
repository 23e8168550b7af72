//! What is in a database, in numbers: objects, tables, rows, a fingerprint of each table where that is cheap, and one of
//! all of it with what defines it.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement};
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
    pub(super) unread: Vec<Unread>,
    each: Vec<Table>,
    /// Of the definitions of all objects, and of what the header and the sequences say.
    definitions: u64,
}

#[derive(Debug)]
struct Table {
    name: String,
    rows: u64,
    fingerprint: Option<u64>,
}

/// A table that only the application can read.
#[derive(Debug)]
pub(super) struct Unread {
    name: String,
    why: String,
}

impl std::fmt::Display for Unread {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} ({})", self.name, self.why)
    }
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
        read.or_else(|| self.unread.iter().any(|each| each.name == table).then_some(1))
    }

    /// `content` of all, and `rows.<table>` and `content.<table>` for the first tables by name.
    pub(super) fn figures(&self, prefix: &str) -> Vec<(String, u64)> {
        let told = self.each.iter().take(TABLES_TOLD_MAX).flat_map(|table| {
            let rows = (format!("{prefix}rows.{}", table.name), table.rows);
            let content = table.fingerprint.map(|number| (format!("{prefix}content.{}", table.name), number));
            std::iter::once(rows).chain(content)
        });
        std::iter::once((format!("{prefix}content"), self.fingerprint())).chain(told).collect()
    }

    /// A number over all of it, as far as it was read.
    fn fingerprint(&self) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(self.definitions.to_be_bytes());
        for table in &self.each {
            put(&mut hasher, ValueRef::Text(table.name.as_bytes()));
            hasher.update(table.rows.to_be_bytes());
            hasher.update(table.fingerprint.unwrap_or_default().to_be_bytes());
        }
        number(hasher)
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
    let definitions = definitions(connection)?;
    let mut content = Content { objects, tables: names.len() as u64, definitions, ..Content::default() };
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
                content.unread.push(Unread { name, why: chain(&error) });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(content)
}

/// A number over all values in the order of the rows.
fn fingerprint(connection: &Connection, name: &str, quoted: &str) -> rusqlite::Result<(u64, u64)> {
    let statement = match connection.prepare(&format!("SELECT * FROM {quoted}")) {
        // Columns that are computed by a function of the application are nothing that is stored.
        Err(error) if needs_the_application(&chain(&error)) => {
            connection.prepare(&format!("SELECT {} FROM {quoted}", stored_columns(connection, name)?))?
        }
        prepared => prepared?,
    };
    let mut hasher = Sha256::new();
    let count = put_rows(&mut hasher, statement)?;
    Ok((count, number(hasher)))
}

/// A number over what defines the tables, indexes, views and triggers, whatever order they were made in, and over what is
/// in no table: the numbers that an application keeps in the header, and the next ones of its sequences.
fn definitions(connection: &Connection) -> rusqlite::Result<u64> {
    let mut hasher = Sha256::new();
    let mut put = |sql: &str| put_rows(&mut hasher, connection.prepare(sql)?);
    put("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")?;
    put(
        "SELECT user_version, application_id, encoding FROM pragma_user_version, pragma_application_id, pragma_encoding",
    )?;
    if put("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'")? > 0 {
        put("SELECT name, seq FROM sqlite_sequence ORDER BY name")?;
    }
    Ok(number(hasher))
}

/// Adds all rows, and answers how many they are.
fn put_rows(hasher: &mut Sha256, mut statement: Statement<'_>) -> rusqlite::Result<u64> {
    let columns = statement.column_count();
    let mut count = 0;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        count += 1;
        for column in 0..columns {
            put(hasher, row.get_ref(column)?);
        }
    }
    Ok(count)
}

/// Adds a value with its type and length, so that no two run together.
fn put(hasher: &mut Sha256, value: ValueRef<'_>) {
    let (kind, bytes): (u8, Vec<u8>) = match value {
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

fn number(hasher: Sha256) -> u64 {
    let digest = hasher.finalize();
    let head: [u8; 8] = digest.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(head) & FINGERPRINT_MASK
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
        assert_eq!(
            names,
            ["app/content", "app/rows.empty", "app/content.empty", "app/rows.odd \"name", "app/content.odd \"name"]
        );
    }

    #[test]
    fn a_table_that_only_the_application_reads_is_no_other_one_whose_name_it_begins_with() {
        let unread = vec![Unread { name: "ab".to_owned(), why: "no such collation sequence: APP".to_owned() }];
        let content = Content { unread, ..Content::default() };
        assert_eq!(["ab", "a", "abc", "ab ("].map(|name| content.rows_of(name)), [Some(1), None, None, None]);
    }

    #[test]
    fn one_changed_value_changes_the_fingerprint_of_its_table_alone() {
        let before = sample("");
        let after = sample("UPDATE \"odd \"\"name\" SET b = 'y' WHERE a = 1;");
        assert_eq!(before.each[0].fingerprint, after.each[0].fingerprint);
        assert_ne!(before.each[1].fingerprint, after.each[1].fingerprint);
    }

    #[test]
    fn every_change_of_the_content_changes_its_fingerprint_and_another_order_of_the_objects_does_not() {
        const WHOLE: &str = "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b TEXT DEFAULT 'x', c REAL);
            INSERT INTO t (b, c) VALUES ('one', 1.5), ('two', NULL), ('', 3);
            CREATE TABLE u (a, b); INSERT INTO u VALUES ('ab', 'c'), (x'00', 7);
            CREATE TABLE emptied (a); CREATE INDEX i ON t (b); CREATE VIEW v AS SELECT a FROM t;
            CREATE TRIGGER g AFTER INSERT ON u BEGIN DELETE FROM emptied WHERE a = 1; END;
            PRAGMA user_version = 7; PRAGMA application_id = 11;";
        let prints = |sql: &str| {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(sql).unwrap();
            read(&connection).unwrap().figures("")
        };
        let whole = prints(WHOLE);
        let swapped = WHOLE.replacen(
            "CREATE INDEX i ON t (b); CREATE VIEW v AS SELECT a FROM t;",
            "CREATE VIEW v AS SELECT a FROM t; CREATE INDEX i ON t (b);",
            1,
        );
        assert_eq!((prints(WHOLE), prints(&swapped)), (whole.clone(), whole.clone()));
        let mut seen = std::collections::BTreeMap::from([(whole[0].1, "")]);
        for change in [
            "UPDATE t SET b = 'One' WHERE a = 1",
            "UPDATE t SET b = 'one ' WHERE a = 1",
            "UPDATE t SET b = NULL WHERE b = ''",
            "UPDATE t SET c = 1.25 WHERE a = 1",
            "UPDATE t SET c = 0 WHERE a = 2",
            "UPDATE t SET a = 9 WHERE a = 3",
            "UPDATE t SET b = CASE a WHEN 1 THEN 'two' ELSE 'one' END WHERE a < 3",
            "DELETE FROM t WHERE a = 2",
            "DELETE FROM t",
            "INSERT INTO t (b, c) VALUES ('two', NULL)",
            "INSERT INTO emptied VALUES (NULL)",
            "UPDATE u SET a = 'a', b = 'bc' WHERE b = 'c'",
            "UPDATE u SET b = '7' WHERE b = 7",
            "UPDATE u SET b = 7.0 WHERE b = 7",
            "UPDATE u SET a = x'0000' WHERE b = 7",
            "INSERT INTO u SELECT * FROM u WHERE b = 7",
            "UPDATE sqlite_sequence SET seq = 99 WHERE name = 't'",
            "DROP TABLE emptied",
            "ALTER TABLE emptied RENAME TO empty",
            "ALTER TABLE u RENAME COLUMN b TO d",
            "ALTER TABLE emptied ADD COLUMN b",
            "DROP TABLE emptied; CREATE TABLE emptied (a TEXT)",
            "DROP INDEX i",
            "DROP INDEX i; CREATE INDEX i ON t (c)",
            "DROP INDEX i; CREATE UNIQUE INDEX i ON t (b)",
            "DROP VIEW v; CREATE VIEW v AS SELECT b FROM t",
            "DROP TRIGGER g",
            "DROP TRIGGER g; CREATE TRIGGER g AFTER INSERT ON u BEGIN DELETE FROM emptied WHERE a = 2; END",
            "PRAGMA user_version = 8",
            "PRAGMA application_id = 12",
        ] {
            let print = prints(&format!("{WHOLE} {change};"))[0].1;
            if let Some(other) = seen.insert(print, change) {
                panic!("{change:?} has the fingerprint of {other:?}");
            }
        }
        // Also in a table behind those that have figures of their own.
        let one = |n: i32| format!("CREATE TABLE m{n} (a); INSERT INTO m{n} VALUES (1);");
        let many = (100..180).map(one).collect::<Vec<_>>().concat();
        let (before, after) = (prints(&many), prints(&format!("{many} UPDATE m179 SET a = 2;")));
        let differ: Vec<&str> =
            before.iter().zip(&after).filter(|(a, b)| a != b).map(|((name, _), _)| name.as_str()).collect();
        assert_eq!(differ, ["content"]);
    }
}
