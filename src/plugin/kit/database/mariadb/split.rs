//! Takes the dump of many databases apart: each becomes a dump of its own, as if it had been made alone.
//!
//! A dump program writes tables and rows of one database after the other, and then the views of each, so a database has
//! more than one stretch. Statements that set a server's replication are in none of them: a restore changes databases.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::restore::feed::PIECE_BYTES_MAX;
use super::restore::lines::Lines;
use super::scan;

/// Longest head of a dump, in bytes: what stands before its first database.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// What names the tables of users and their rights, and no tables that describe the server.
const OF_USERS: [&str; 7] =
    ["global_priv", "db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv", "roles_mapping"];
const REPLICATION: [&[u8]; 3] =
    [b"SET @@GLOBAL.GTID_PURGED", b"SET @@SESSION.SQL_LOG_BIN", b"SET @MYSQLDUMP_TEMP_LOG_BIN"];
/// The end that tells a whole dump.
pub(super) const END: &[u8] = b"\n-- Dump completed\n";

/// The parts of a dump.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// By the database as it stands between backquotes.
    pub(super) databases: BTreeMap<String, PathBuf>,
    /// The tables of users and rights, as a dump of the database `mysql`.
    pub(super) users: Option<PathBuf>,
    /// What the server's own version is, as the dump says.
    pub(super) server: Option<String>,
}

/// Whether a database is the server's own.
pub(super) fn is_own(name: &str) -> bool {
    ["mysql", "sys", "information_schema", "performance_schema"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// Writes each database of the dump at `path` into a file beside `into`, which its name is a beginning of.
pub(super) fn split(path: &Path, into: &Path, mut on_piece: impl FnMut(u64)) -> io::Result<Parts> {
    let mut from = BufReader::new(File::open(path)?);
    let (mut piece, mut head, mut lines) = (Vec::new(), Vec::new(), Lines::default());
    let (mut parts, mut outs) = (Parts::default(), Outs::new(into));
    let (mut done, mut is_skipped, mut at_users) = (0, false, false);
    loop {
        piece.clear();
        let read = from.by_ref().take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece)?;
        if read == 0 {
            break;
        }
        done += read as u64;
        on_piece(done);
        let begins = lines.is_plain();
        lines.next(&piece);
        if begins {
            is_skipped = REPLICATION.iter().any(|each| piece.starts_with(each));
            if let Some(name) = database(&piece) {
                at_users = false;
                outs.go_to(&name, &head)?;
            } else if let Some(table) = structure_of(&piece) {
                at_users = OF_USERS.contains(&table.as_str());
            } else if piece.starts_with(b"-- Server version") {
                parts.server = version(&piece);
            } else if piece.starts_with(b"-- Dumping events") || piece.starts_with(b"-- Dumping routines") {
                at_users = false;
            }
        }
        if is_skipped {
            continue;
        }
        match outs.now() {
            // Of the server's own only the users.
            Some((name, out)) if is_own(name) => {
                if name == "mysql" && (at_users || database(&piece).is_some_and(|_| begins)) {
                    out.write_all(&piece)?;
                }
            }
            Some((_, out)) => out.write_all(&piece)?,
            None if head.len() + piece.len() > HEAD_BYTES_MAX => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it names no database"));
            }
            None => head.extend_from_slice(&piece),
        }
    }
    for (name, (file, mut out)) in outs.all {
        out.write_all(END)?;
        out.flush()?;
        match name.as_str() {
            "mysql" => parts.users = Some(file),
            name if is_own(name) => {}
            _ => drop(parts.databases.insert(name, file)),
        }
    }
    Ok(parts)
}

/// The files that are written.
struct Outs {
    into: PathBuf,
    all: BTreeMap<String, (PathBuf, BufWriter<File>)>,
    now: Option<String>,
}

impl Outs {
    fn new(into: &Path) -> Self {
        Self { into: into.to_owned(), all: BTreeMap::new(), now: None }
    }

    /// What comes belongs to this database.
    fn go_to(&mut self, name: &str, head: &[u8]) -> io::Result<()> {
        if !self.all.contains_key(name) {
            let mut file = self.into.as_os_str().to_owned();
            file.push(format!("-{:04}.sql", self.all.len()));
            let file = PathBuf::from(file);
            let mut out = BufWriter::new(File::create(&file)?);
            out.write_all(head)?;
            self.all.insert(name.to_owned(), (file, out));
        }
        self.now = Some(name.to_owned());
        Ok(())
    }

    fn now(&mut self) -> Option<(&str, &mut BufWriter<File>)> {
        let name = self.now.as_deref()?;
        self.all.get_mut(name).map(|(_, out)| (name, out))
    }
}

/// The database that a statement makes or goes to.
fn database(line: &[u8]) -> Option<String> {
    let heads: [&[u8]; 3] = [b"USE ", b"CREATE DATABASE /*!32312 IF NOT EXISTS*/ ", b"CREATE DATABASE "];
    let rest = heads.iter().find_map(|head| line.strip_prefix(*head))?;
    scan::backquoted(rest).map(|(name, _)| name)
}

/// The table whose definition and rows come behind a remark.
fn structure_of(line: &[u8]) -> Option<String> {
    let heads: [&[u8]; 4] = [
        b"-- Table structure for table ",
        b"-- Dumping data for table ",
        b"-- Temporary table structure for view ",
        b"-- Final view structure for view ",
    ];
    let is_view = heads.iter().skip(2).any(|head| line.starts_with(head));
    let rest = heads.iter().find_map(|head| line.strip_prefix(*head))?;
    scan::backquoted(rest).map(|(name, _)| if is_view { String::new() } else { name })
}

/// `-- Server version⇥10.11.6-MariaDB`.
fn version(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    text.split('\t').nth(1).map(|version| version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "/*M!999999\\- enable the sandbox mode */ \n-- Server version\t10.11.6-MariaDB\n/*!40101 SET NAMES utf8mb4 */;\n\
        SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'a:1-5,\nb:1-3';\nSET @@SESSION.SQL_LOG_BIN= 0;\n\
        --\n-- Current Database: `a``b`\n--\n\nCREATE DATABASE /*!32312 IF NOT EXISTS*/ `a``b` /*!40100 x */;\n\nUSE `a``b`;\n\
        CREATE TABLE `t` (\n  `x` int\n);\nINSERT INTO `t` VALUES\n(1),\n(2);\n\
        DELIMITER ;;\nCREATE PROCEDURE `p`()\nBEGIN\nUSE `mysql`;\nEND ;;\nDELIMITER ;\n\
        --\n-- Current Database: `mysql`\n--\n\nCREATE DATABASE /*!32312 IF NOT EXISTS*/ `mysql` /*!40100 x */;\nUSE `mysql`;\n\
        --\n-- Table structure for table `column_stats`\n--\nCREATE TABLE `column_stats` (\n  `x` int\n);\n\
        --\n-- Table structure for table `db`\n--\nCREATE TABLE `db` (\n  `x` int\n);\n\
        --\n-- Dumping data for table `db`\n--\nINSERT INTO `db` VALUES\n('%','shop');\n\
        --\n-- Temporary table structure for view `user`\n--\nSET @x = 1;\n\
        --\n-- Current Database: `a``b`\n--\n\nUSE `a``b`;\n/*!50001 VIEW `v` AS select 1 */;\n\
        --\n-- Current Database: `mysql`\n--\n\nUSE `mysql`;\n--\n-- Final view structure for view `user`\n--\n/*!50001 VIEW `user` AS select 1 */;\n\
        -- Dump completed on 2026-01-01\n";

    #[test]
    fn each_database_gets_all_of_its_stretches_and_the_servers_own_its_users_alone() {
        let home = tempfile::tempdir().unwrap();
        let dump = home.path().join("dump.sql");
        std::fs::write(&dump, DUMP).unwrap();
        let parts = split(&dump, &home.path().join("part"), |_| {}).unwrap();
        assert_eq!(parts.server.as_deref(), Some("10.11.6-MariaDB"));
        assert_eq!(parts.databases.keys().collect::<Vec<_>>(), ["a``b"]);
        let text = std::fs::read_to_string(&parts.databases["a``b"]).unwrap();
        for wanted in ["SET NAMES", "(1),\n(2);", "USE `mysql`;\nEND ;;", "VIEW `v`", "\n-- Dump completed\n"] {
            assert!(text.contains(wanted), "{wanted:?} is not in {text}");
        }
        assert!(
            !text.contains("GTID") && !text.contains("b:1-3") && !text.contains("LOG_BIN") && !text.contains("`db`")
        );
        let users = std::fs::read_to_string(parts.users.unwrap()).unwrap();
        assert!(users.contains("USE `mysql`;") && users.contains("CREATE TABLE `db`") && users.contains("'shop'"));
        assert!(!users.contains("column_stats` (") && !users.contains("VIEW") && !users.contains("@x"), "{users}");
    }

    #[test]
    fn what_names_no_database_is_no_dump() {
        let home = tempfile::tempdir().unwrap();
        let dump = home.path().join("dump.sql");
        std::fs::write(&dump, "-- nothing\n".repeat(100_000)).unwrap();
        split(&dump, &home.path().join("part"), |_| {}).unwrap_err();
    }
}
