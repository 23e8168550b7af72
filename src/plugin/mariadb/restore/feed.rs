//! Has the client read a dump, under another name of its database, and all of it or the code alone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::plugin::builtin::Failure;
use crate::plugin::mariadb::reach::{Input, Program};
use crate::plugin::mariadb::server::Server;
use crate::plugin::tool::{DEADLINE_OF_WORK, Ends, Ran};
use crate::process::Exit;

/// Longest piece of a line that is held at once.
pub(in crate::plugin::mariadb) const PIECE_BYTES_MAX: u64 = 64 << 10;
/// How the line begins that makes an event.
const EVENT: &[u8] = b"/*!50106 CREATE*/";

/// The line that old clients stumble over.
const SANDBOX: &[u8] = b"/*M!999999\\-";

/// What of a dump is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin::mariadb) enum Part {
    All,
    /// All, but no event is due: the database is not in its place.
    Beside,
    /// Triggers, views, routines and events.
    Code,
}

/// What is fed, and how.
pub(in crate::plugin::mariadb) struct Feed<'f> {
    pub(in crate::plugin::mariadb) file: &'f Path,
    pub(in crate::plugin::mariadb) part: Part,
    /// One name of the database in place of another, both as they stand in SQL.
    pub(in crate::plugin::mariadb) names: Option<(String, String)>,
    pub(in crate::plugin::mariadb) args: Vec<OsString>,
}

/// Has the client read a file.
pub(in crate::plugin::mariadb) fn stream(
    server: &Server<'_>,
    feed: Feed<'_>,
    mut on_tick: impl FnMut(u64),
) -> Result<Ran, Failure> {
    let path = feed.file.to_owned();
    let length = match server.reach {
        Some(_) => Some(length(&feed)?),
        None => None,
    };
    let broken =
        move |error: std::io::Error| Failure::new("artifact_unreadable", format!("{}: {error}", path.display()));
    let (reader, writer) = std::io::pipe().map_err(&broken)?;
    let fed = Arc::new(AtomicU64::new(0));
    let (path, names, part, count) = (feed.file.to_owned(), feed.names, feed.part, fed.clone());
    let writing = std::thread::spawn(move || write_to(&path, writer, names.as_ref(), part, &count));
    let from = File::from(OwnedFd::from(reader));
    let mut on_tick = || on_tick(fed.load(Ordering::Relaxed));
    let ran = match (server.reach, length) {
        (Some(reach), Some(bytes)) => {
            let input = Some(Input { from, bytes });
            reach.run(Program::Shell, feed.args, input, &mut |_| {}, &mut on_tick)?
        }
        _ => {
            let ends = Ends { stdin: Some(from), stdout: None };
            server.tools.pipe(&server.client.shell, feed.args, &[], DEADLINE_OF_WORK, ends, on_tick)
        }
    };
    let written = writing.join().unwrap_or_else(|_| Err(std::io::Error::other("reading it stopped")));
    match written {
        // Whoever reads to the end takes a piece for all.
        Err(error) if ran.exit == Exit::Success => Err(broken(error)),
        _ => Ok(ran),
    }
}

/// How long that is which is fed.
fn length(feed: &Feed<'_>) -> Result<u64, Failure> {
    /// Counts what is written to it.
    struct Counted(u64);
    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    write_to(feed.file, &mut counted, feed.names.as_ref(), feed.part, &AtomicU64::new(0)).map_err(|error| {
        Failure::new("artifact_unreadable", format!("{} cannot be read: {error}", feed.file.display()))
    })?;
    Ok(counted.0)
}

/// Writes a dump into the client, without the line that old clients stumble over.
fn write_to(
    path: &Path,
    mut writer: impl Write,
    names: Option<&(String, String)>,
    part: Part,
    count: &AtomicU64,
) -> std::io::Result<()> {
    let mut from = BufReader::new(File::open(path)?);
    let mut piece = Vec::new();
    let mut lines = Lines::default();
    loop {
        piece.clear();
        let read = from.by_ref().take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece)?;
        if read == 0 {
            return writer.flush();
        }
        count.fetch_add(read as u64, Ordering::Relaxed);
        let starts = lines.next(&piece);
        let is_kept = match part {
            Part::Code => lines.is_code,
            _ => !piece.starts_with(SANDBOX) || !starts,
        };
        if !is_kept {
            continue;
        }
        let changed = names.filter(|_| starts && !lines.in_body).and_then(|(old, new)| renamed(&piece, old, new));
        let changed = changed.or_else(|| (part == Part::Beside && starts).then(|| not_due(&piece)).flatten());
        writer.write_all(changed.as_ref().unwrap_or(&piece))?;
    }
}

/// Where in a dump a piece of a line stands.
#[derive(Default)]
pub(in crate::plugin::mariadb) struct Lines {
    /// The last piece did not end its line.
    within: bool,
    in_body: bool,
    /// A statement that did not end with its line.
    pub(in crate::plugin::mariadb) goes_on: bool,
    is_code: bool,
    /// The last letter of the line so far.
    last: u8,
}

impl Lines {
    /// Whether the next piece begins a statement.
    pub(in crate::plugin::mariadb) fn is_between(&self) -> bool {
        !self.within && !self.in_body && !self.goes_on
    }

    /// Takes a piece; answers whether a line starts with it.
    pub(in crate::plugin::mariadb) fn next(&mut self, piece: &[u8]) -> bool {
        let starts = !std::mem::replace(&mut self.within, !piece.ends_with(b"\n"));
        let line = piece.trim_ascii_end();
        if starts {
            self.last = 0;
            if self.in_body {
                self.in_body = line != b"DELIMITER ;";
                self.is_code = true;
            } else if line.starts_with(b"DELIMITER ") {
                (self.in_body, self.is_code) = (true, true);
            } else if !self.goes_on {
                // The first line is for the client, and no statement.
                let is_remark = line.is_empty() || line.starts_with(b"--") || line.starts_with(SANDBOX);
                self.is_code = !is_remark && is_code(line);
                self.goes_on = !is_remark;
            }
        }
        self.last = line.last().copied().unwrap_or(self.last);
        if !self.within && (self.last == b';' || self.in_body) {
            self.goes_on = false;
        }
        starts
    }
}

/// Whether a statement is none about a table and its rows.
fn is_code(line: &[u8]) -> bool {
    line.starts_with(b"SET ") || (line.starts_with(b"/*!") && !line.starts_with(b"/*!40000 "))
}

/// How the line begins that makes a view.
const VIEW: &[u8] = b"/*!50001 VIEW ";

/// The line with the new name, if it is one that names the database.
fn renamed(line: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    if line.starts_with(VIEW) {
        return Some(renamed_in_view(line, old.as_bytes(), new.as_bytes()));
    }
    let rest = |head: &str| line.strip_prefix(head.as_bytes())?.strip_prefix(old.as_bytes());
    let heads = ["USE ", "CREATE DATABASE /*!32312 IF NOT EXISTS*/ ", "CREATE DATABASE "];
    let (head, rest) = heads.iter().find_map(|head| Some((head, rest(head)?)))?;
    Some([head.as_bytes(), new.as_bytes(), rest].concat())
}

/// A view with the new name where its columns are named with the database, as those of a definer who is gone are.
fn renamed_in_view(line: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    let mut quote = None;
    while let Some((first, behind)) = rest.split_first() {
        let is_start = quote.is_none() && out.last().is_none_or(|last| !matches!(last, b'.' | b'`'));
        if let Some(after) = rest.strip_prefix(old).filter(|after| is_start && after.first() == Some(&b'.')) {
            out.extend_from_slice(new);
            rest = after;
            continue;
        }
        out.push(*first);
        rest = behind;
        match (quote, *first) {
            (None, b'\'' | b'"' | b'`') => quote = Some(*first),
            (Some(b'\'' | b'"'), b'\\') => {
                if let Some((escaped, behind)) = rest.split_first() {
                    out.push(*escaped);
                    rest = behind;
                }
            }
            (Some(open), last) if open == last => quote = None,
            _ => {}
        }
    }
    out
}

/// The line that makes an event, which is then not due.
fn not_due(line: &[u8]) -> Option<Vec<u8>> {
    const DUE: &[u8] = b" PRESERVE ENABLE ";
    let at = line.windows(DUE.len()).position(|part| part == DUE).filter(|_| line.starts_with(EVENT))?;
    let (before, after) = (line.get(..at)?, line.get(at + DUE.len()..)?);
    Some([before, b" PRESERVE DISABLE ".as_slice(), after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_name_the_database_get_the_new_name() {
        let line =
            |text: &str| renamed(text.as_bytes(), "`a``b`", "`new`").map(|line| String::from_utf8(line).unwrap());
        assert_eq!(line("USE `a``b`;\n").as_deref(), Some("USE `new`;\n"));
        let create = "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `a``b` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;\n";
        assert!(line(create).unwrap().starts_with("CREATE DATABASE /*!32312 IF NOT EXISTS*/ `new` /*!40100"));
        assert_eq!(line("USE `other`;\n"), None);
        let view = "/*!50001 VIEW `v` AS select `a``b`.`t`.`id` AS `x`,'`a``b`.' AS `y`,`c`.`a``b`.`d`,'\\'`a``b`.' from `t` */;\n";
        let wanted = "/*!50001 VIEW `v` AS select `new`.`t`.`id` AS `x`,'`a``b`.' AS `y`,`c`.`a``b`.`d`,'\\'`a``b`.' from `t` */;\n";
        assert_eq!(line(view).as_deref(), Some(wanted));
        assert_eq!(line("INSERT INTO `t` VALUES ('USE `a``b`;');\n"), None);
    }

    #[test]
    fn the_code_of_a_dump_is_told_from_its_tables_and_rows() {
        let dump = "/*M!999999\\- enable the sandbox mode */ \n/*!40101 SET NAMES utf8mb4 */;\n-- x\nUSE `a`;\nDROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (\n  `a` int,\n\
            /*!50001 no */\n  `b` int\n);\nLOCK TABLES `t` WRITE;\n/*!40000 ALTER TABLE `t` DISABLE KEYS */;\n\
            INSERT INTO `t` VALUES\n(1,'/*!50001 x'),\n(2,';');\nUNLOCK TABLES;\n\
            /*!50001 CREATE VIEW `v` AS SELECT\n 1 AS `a` */;\nDELIMITER ;;\nCREATE PROCEDURE `p`()\nBEGIN\nINSERT INTO t VALUES (1);\n\
            USE x;\nEND ;;\nDELIMITER ;\nDO SETVAL(`s`, 1, 0);\n/*!50001 DROP VIEW IF EXISTS `v`*/;\n";
        let wanted = "/*!40101 SET NAMES utf8mb4 */;\n/*!50001 CREATE VIEW `v` AS SELECT\n 1 AS `a` */;\nDELIMITER ;;\n\
            CREATE PROCEDURE `p`()\nBEGIN\nINSERT INTO t VALUES (1);\nUSE x;\nEND ;;\nDELIMITER ;\n\
            /*!50001 DROP VIEW IF EXISTS `v`*/;\n";
        for size in [64, 10_000] {
            let mut lines = Lines::default();
            let mut kept = Vec::new();
            for line in dump.split_inclusive('\n') {
                for piece in line.as_bytes().chunks(size) {
                    lines.next(piece);
                    if lines.is_code {
                        kept.extend_from_slice(piece);
                    }
                }
            }
            assert_eq!(String::from_utf8(kept).unwrap(), wanted, "pieces of {size}");
        }
        let event = "/*!50106 CREATE*/ /*!50117 DEFINER=`r`@`%`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY ON COMPLETION NOT PRESERVE ENABLE DO x\n";
        assert_eq!(
            String::from_utf8(not_due(event.as_bytes()).unwrap()).unwrap(),
            event.replace(" ENABLE ", " DISABLE ")
        );
        assert_eq!(not_due(b"-- PRESERVE ENABLE "), None);
    }
}
