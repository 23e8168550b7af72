//! Which statements of a dump are tables and rows, bodies, or views, line by line.

use crate::plugin::kit::database::mariadb::reading::{Reading, SANDBOX};

/// How the statement begins that gives a database the character set with which code of it was made, and back.
pub(super) const ALTER: &[u8] = b"ALTER DATABASE ";

/// What a statement is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// A remark, or a line for the client.
    #[default]
    Remark,
    /// A variable of the session.
    Setting,
    /// Tables and rows.
    Table,
    /// A table or view by which others can be made that use a view.
    StandIn,
    /// Triggers, routines and events, with what is set for them.
    Body,
    View,
    /// Locks, which only hold up what is loaded: with them a default value of a sequence can't be written.
    Lock,
}

/// Where in a dump a piece of a line stands.
#[derive(Default)]
pub(in crate::plugin::kit::database::mariadb) struct Lines {
    /// The last piece did not end its line.
    within: bool,
    reading: Reading,
    pub(super) kind: Kind,
    /// The last piece began a statement.
    pub(super) begins: bool,
}

impl Lines {
    /// Whether the next piece begins a statement.
    pub(in crate::plugin::kit::database::mariadb) fn is_between(&self) -> bool {
        !self.within && self.reading.is_between()
    }

    /// Whether the next piece begins a statement of the dump itself, and not one that makes a body.
    pub(in crate::plugin::kit::database::mariadb) fn is_plain(&self) -> bool {
        self.is_between() && !self.reading.is_delimited()
    }

    /// Takes a piece; answers whether a line starts with it.
    pub(in crate::plugin::kit::database::mariadb) fn next(&mut self, piece: &[u8]) -> bool {
        self.begins = self.is_between();
        if self.begins {
            self.kind = if self.reading.is_delimited() { Kind::Body } else { kind(piece.trim_ascii_end()) };
        }
        let starts = !std::mem::replace(&mut self.within, !piece.ends_with(b"\n"));
        self.reading.push(piece);
        starts
    }
}

/// What a statement is about, by its first line.
fn kind(line: &[u8]) -> Kind {
    let is = |heads: &[&[u8]]| heads.iter().any(|head| line.starts_with(head));
    if line.is_empty() || is(&[b"--", SANDBOX]) {
        Kind::Remark
    } else if is(&[b"LOCK TABLES ", b"UNLOCK TABLES;"]) {
        Kind::Lock
    } else if is(&[b"/*!50001 CREATE VIEW ", b"/*!50001 CREATE TABLE "]) {
        Kind::StandIn
    } else if is(&[b"/*!50001 "]) {
        Kind::View
    } else if is(&[b"DELIMITER ", b"/*!50003 ", b"/*!50106 ", ALTER]) {
        Kind::Body
    } else if is(&[b"/*!40000 "]) {
        Kind::Table
    } else if is(&[b"SET ", b"/*!"]) {
        Kind::Setting
    } else {
        Kind::Table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_dump_are_told_from_each_other() {
        let dump = [
            (Kind::Remark, "/*M!999999\\- enable the sandbox mode */ \n"),
            (Kind::Setting, "/*!40101 SET NAMES utf8mb4 */;\n"),
            (Kind::Remark, "-- x\n"),
            (
                Kind::Table,
                "USE `a`;\nDROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (\n  `a` int,\n/*!50001 no */\n  `b` int\n);\n",
            ),
            (Kind::Lock, "LOCK TABLES `t` WRITE;\n"),
            (
                Kind::Table,
                "/*!40000 ALTER TABLE `t` DISABLE KEYS */;\nINSERT INTO `t` VALUES\n(1,'/*!50001 x'),\n(2,';');\n",
            ),
            (Kind::Lock, "UNLOCK TABLES;\n"),
            (Kind::StandIn, "/*!50001 CREATE VIEW `v` AS SELECT\n 1 AS `a` */;\n"),
            (Kind::Setting, "SET character_set_client = @saved_cs_client;\n"),
            (Kind::Body, "ALTER DATABASE `a` CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci ;\n"),
            (
                Kind::Body,
                "/*!50003 SET sql_mode = '' */ ;\nDELIMITER ;;\nCREATE PROCEDURE `p`()\nBEGIN\nINSERT INTO t VALUES (1);\n\
                 SET @x = '\nDELIMITER ;\nUSE x;\n';\nEND ;;\nDELIMITER ;\n",
            ),
            (Kind::Table, "DO SETVAL(`s`, 1, 0);\n"),
            (Kind::View, "/*!50001 DROP VIEW IF EXISTS `v`*/;\n"),
        ];
        for size in [64, 10_000] {
            let mut lines = Lines::default();
            for (kind, text) in dump {
                for line in text.split_inclusive('\n') {
                    for piece in line.as_bytes().chunks(size) {
                        lines.next(piece);
                        assert_eq!(lines.kind, kind, "{line} in pieces of {size}");
                    }
                }
            }
            assert!(lines.is_plain());
        }
    }
}
