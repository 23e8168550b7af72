//! Has the client read a dump, under another name of its database, and all of it or a part.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lines::{ALTER, Kind, Lines};
use super::names::{Names, altered};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::reach::{Input, Program};
use crate::plugin::kit::database::mariadb::reading::SANDBOX;
use crate::plugin::kit::database::mariadb::scan::Scan;
use crate::plugin::kit::database::mariadb::server::Server;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends, Ran};
use crate::process::Exit;

/// Longest piece of a line that is held at once.
pub(in crate::plugin::kit::database::mariadb) const PIECE_BYTES_MAX: u64 = 64 << 10;
/// Longest statement that is held to put other names into it.
const STATEMENT_BYTES_MAX: usize = 64 << 20;
/// How the line begins that makes an event, and that which makes a trigger.
const EVENT: &[u8] = b"/*!50106 CREATE*/";
const TRIGGER: &[u8] = b"/*!50003 CREATE*/";
const TABLE: &[u8] = b"CREATE TABLE ";
const VIEW: &[u8] = b"/*!50001 CREATE ALGORITHM";
const DATABASE: &[u8] = b"CREATE DATABASE ";

/// What of a dump is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin::kit::database::mariadb) enum Part {
    All,
    /// Tables and rows.
    Tables,
    /// Triggers, routines and events, and stand-ins for views.
    Bodies,
    /// Views, which may use tables and routines of other databases.
    Views,
}

impl Part {
    /// Whether a dump has any of it.
    pub(super) fn is_in(self, scan: &Scan) -> bool {
        match self {
            Self::All | Self::Tables => true,
            Self::Bodies => scan.has_bodies(),
            Self::Views => scan.has_views(),
        }
    }

    fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Lock => false,
            Kind::Remark => matches!(self, Self::All),
            Kind::Setting => true,
            Kind::Table => matches!(self, Self::All | Self::Tables),
            Kind::StandIn => !matches!(self, Self::Tables),
            Kind::Body => matches!(self, Self::All | Self::Bodies),
            Kind::View => matches!(self, Self::All | Self::Views),
        }
    }
}

/// What is fed, and how.
pub(in crate::plugin::kit::database::mariadb) struct Feed<'f> {
    pub(in crate::plugin::kit::database::mariadb) file: &'f Path,
    pub(in crate::plugin::kit::database::mariadb) part: Part,
    pub(in crate::plugin::kit::database::mariadb) names: Option<Names>,
    /// No event is due there: the database is not in its place.
    pub(in crate::plugin::kit::database::mariadb) is_beside: bool,
    pub(in crate::plugin::kit::database::mariadb) args: Vec<OsString>,
}

/// Has the client read a file.
pub(in crate::plugin::kit::database::mariadb) fn stream(
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
        move |error: std::io::Error| Failure::new(codes::ARTIFACT_UNREADABLE, format!("{}: {error}", path.display()));
    let (reader, writer) = std::io::pipe().map_err(&broken)?;
    let fed = Arc::new(AtomicU64::new(0));
    let (path, count) = (feed.file.to_owned(), fed.clone());
    let written = Written { names: feed.names, part: feed.part, is_beside: feed.is_beside };
    let writing = std::thread::spawn(move || written.write(&path, writer, &count));
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
    let written = Written { names: feed.names.clone(), part: feed.part, is_beside: feed.is_beside };
    written.write(feed.file, &mut counted, &AtomicU64::new(0)).map_err(|error| {
        Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be read: {error}", feed.file.display()))
    })?;
    Ok(counted.0)
}

/// What is written of a dump into the client.
struct Written {
    names: Option<Names>,
    part: Part,
    is_beside: bool,
}

impl Written {
    fn write(&self, path: &Path, mut writer: impl Write, count: &AtomicU64) -> std::io::Result<()> {
        let mut from = BufReader::new(File::open(path)?);
        let (mut piece, mut lines) = (Vec::new(), Lines::default());
        // A statement that is held until it is whole.
        let mut held: Option<Vec<u8>> = None;
        loop {
            piece.clear();
            let read = from.by_ref().take(PIECE_BYTES_MAX).read_until(b'\n', &mut piece)?;
            if read == 0 {
                return writer.flush();
            }
            count.fetch_add(read as u64, Ordering::Relaxed);
            let starts = lines.next(&piece);
            // Old clients stumble over the first line.
            if !self.part.has(lines.kind) || (starts && piece.starts_with(SANDBOX)) {
                continue;
            }
            if lines.begins && self.is_changed(&piece) {
                held = Some(Vec::new());
            }
            let Some(statement) = &mut held else {
                writer.write_all(&piece)?;
                continue;
            };
            statement.extend_from_slice(&piece);
            if statement.len() > STATEMENT_BYTES_MAX {
                return Err(broken("a statement in it is longer than any that a dump program writes"));
            }
            if lines.is_between() {
                writer.write_all(&self.changed(statement)?)?;
                held = None;
            }
        }
    }

    /// Whether a statement that begins so may be written otherwise.
    fn is_changed(&self, line: &[u8]) -> bool {
        let heads: [&[u8]; 7] = [TABLE, VIEW, TRIGGER, EVENT, DATABASE, ALTER, b"USE "];
        (self.names.is_some() || self.is_beside) && heads.iter().any(|head| line.starts_with(head))
    }

    fn changed(&self, statement: &[u8]) -> std::io::Result<Vec<u8>> {
        if statement.starts_with(EVENT) {
            let changed = if self.is_beside { not_due(statement) } else { None };
            return Ok(changed.unwrap_or_else(|| statement.to_vec()));
        }
        let Some(names) = &self.names else { return Ok(statement.to_vec()) };
        if !names.is_any() {
            return Ok(self.in_place(statement.to_vec()));
        }
        if statement.starts_with(TABLE) {
            Ok(names.in_table(statement))
        } else if statement.starts_with(VIEW) {
            Ok(names.in_view(statement))
        } else if statement.starts_with(TRIGGER) {
            names.in_trigger(statement).ok_or_else(|| broken("a trigger in it is not understood"))
        } else if statement.starts_with(ALTER) {
            names.in_use(statement).ok_or_else(|| broken("it changes a database that is not its own"))
        } else {
            Ok(self.in_place(names.in_use(statement).unwrap_or_else(|| statement.to_vec())))
        }
    }

    /// A database that is filled where it stands gets its character set too: code is made with that.
    fn in_place(&self, mut statement: Vec<u8>) -> Vec<u8> {
        if statement.starts_with(DATABASE) && !self.is_beside {
            statement.extend(altered(&statement).unwrap_or_default());
        }
        statement
    }
}

fn broken(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
}

/// The statement that makes an event, which is then not due.
fn not_due(statement: &[u8]) -> Option<Vec<u8>> {
    const DUE: &[u8] = b" PRESERVE ENABLE ";
    let mut is_quoted = false;
    // The event's name stands before it, in backquotes.
    let at = (0..statement.len()).find(|at| {
        is_quoted ^= statement.get(*at) == Some(&b'`');
        !is_quoted && statement.get(*at..).is_some_and(|rest| rest.starts_with(DUE))
    })?;
    let (before, after) = (statement.get(..at)?, statement.get(at + DUE.len()..)?);
    Some([before, b" PRESERVE DISABLE ".as_slice(), after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_beside_is_not_due_whatever_its_name_is() {
        let event = "/*!50106 CREATE*/ /*!50117 DEFINER=`r`@`%`*/ /*!50106 EVENT `e PRESERVE ENABLE ` ON SCHEDULE EVERY 1 DAY ON COMPLETION NOT PRESERVE ENABLE DO x\n";
        let wanted = event.replace(" ENABLE DO", " DISABLE DO");
        assert_eq!(String::from_utf8(not_due(event.as_bytes()).unwrap()).unwrap(), wanted);
        assert_eq!(not_due(b"/*!50106 CREATE*/ x"), None);
    }

    #[test]
    fn a_dump_is_fed_part_by_part_under_its_new_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.sql");
        let dump = "/*M!999999\\- enable the sandbox mode */ \n/*!40101 SET NAMES utf8mb4 */;\nUSE `a`;\nCREATE TABLE `t` (\n  `x` int DEFAULT nextval(`a`.`s`)\n);\n\
            LOCK TABLES `t` WRITE;\nINSERT INTO `t` VALUES\n(1);\nUNLOCK TABLES;\n/*!50001 CREATE VIEW `v` AS SELECT\n 1 AS `x` */;\n\
            ALTER DATABASE `a` CHARACTER SET utf8mb4 ;\n\
            DELIMITER ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER a.b BEFORE INSERT ON a.t FOR EACH ROW SET @x = '\nDELIMITER ;\nUSE `a`;\n' */;;\n\
            ALTER DATABASE `a` CHARACTER SET latin1 ;;\nDELIMITER ;\n\
            /*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50001 VIEW `v` AS select `a`.`t`.`x` from `a`.`t` */;\n-- Dump completed\n";
        std::fs::write(&file, dump).unwrap();
        let fed = |part| {
            let written = Written { names: Some(Names::own("`a`", "`n`")), part, is_beside: true };
            let mut out = Vec::new();
            written.write(&file, &mut out, &AtomicU64::new(0)).unwrap();
            String::from_utf8(out).unwrap()
        };
        let head = "/*!40101 SET NAMES utf8mb4 */;\n";
        assert_eq!(
            fed(Part::Tables),
            format!(
                "{head}USE `n`;\nCREATE TABLE `t` (\n  `x` int DEFAULT nextval(`n`.`s`)\n);\nINSERT INTO `t` VALUES\n(1);\n"
            )
        );
        assert_eq!(
            fed(Part::Bodies),
            format!(
                "{head}/*!50001 CREATE VIEW `v` AS SELECT\n 1 AS `x` */;\nALTER DATABASE `n` CHARACTER SET utf8mb4 ;\nDELIMITER ;;\n\
                 /*!50003 CREATE*/ /*!50003 TRIGGER `n`.b BEFORE INSERT ON `n`.t FOR EACH ROW SET @x = '\nDELIMITER ;\nUSE `a`;\n' */;;\n\
                 ALTER DATABASE `n` CHARACTER SET latin1 ;;\nDELIMITER ;\n"
            )
        );
        assert!(fed(Part::Views).ends_with("VIEW `v` AS select `n`.`t`.`x` from `n`.`t` */;\n"));
    }
}
