//! Puts other names of databases into the statements of a dump, where a statement names its own database or one that is
//! loaded with it; pure.
//!
//! A dump is loaded under another name first. A statement with the old name in it would reach into the live database, or
//! would lead there when the tables have changed places.

use std::collections::{BTreeMap, BTreeSet};

/// What is called how while a dump is loaded. All names but those of `tables` stand in backquotes, as they do in a dump.
#[derive(Clone, Debug, Default)]
pub(in crate::plugin::kit::database::mariadb) struct Names {
    /// The dump's own database.
    pub(in crate::plugin::kit::database::mariadb) old: String,
    pub(in crate::plugin::kit::database::mariadb) new: String,
    /// The databases that are loaded with it.
    pub(in crate::plugin::kit::database::mariadb) others: BTreeMap<String, String>,
    /// Where tables are that foreign keys name and the dump has not.
    pub(in crate::plugin::kit::database::mariadb) outer: Option<String>,
    /// The tables that the dump has, as they stand between backquotes.
    pub(in crate::plugin::kit::database::mariadb) tables: BTreeSet<String>,
}

impl Names {
    /// The own database alone has another name.
    pub(in crate::plugin::kit::database::mariadb) fn own(old: &str, new: &str) -> Self {
        Self { old: old.to_owned(), new: new.to_owned(), ..Self::default() }
    }

    /// Whether anything is called otherwise.
    pub(super) fn is_any(&self) -> bool {
        self.old != self.new || self.outer.is_some() || self.others.iter().any(|(old, new)| old != new)
    }

    fn of(&self, name: &[u8]) -> Option<&[u8]> {
        if name == self.old.as_bytes() {
            return Some(self.new.as_bytes());
        }
        let (_, new) = self.others.iter().find(|(old, _)| old.as_bytes() == name)?;
        Some(new.as_bytes())
    }

    /// A statement that makes a database, goes to one or gives it another character set.
    ///
    /// None: it names a database that is called so still.
    pub(super) fn in_use(&self, line: &[u8]) -> Option<Vec<u8>> {
        let (head, name, rest) = of_database(line)?;
        Some([head, self.of(name)?, rest].concat())
    }

    /// A statement that makes a table: whatever is qualified in it is so by a database.
    pub(super) fn in_table(&self, statement: &[u8]) -> Vec<u8> {
        rewritten(statement, |out, name, rest| {
            if rest.starts_with(b".") {
                return self.of(name).map(<[u8]>::to_vec);
            }
            let outer = self.outer.as_ref().filter(|_| out.ends_with(b"REFERENCES "))?;
            let is_there = self.tables.iter().any(|table| quoted(table).as_bytes() == name);
            (!is_there).then(|| [outer.as_bytes(), b".", name].concat())
        })
    }

    /// A statement that makes a view: a column may be qualified by a table that is called as the database is.
    pub(super) fn in_view(&self, statement: &[u8]) -> Vec<u8> {
        rewritten(statement, |out, name, rest| {
            let (_, behind) = backquoted(rest.strip_prefix(b".")?)?;
            let before = out.trim_ascii_end();
            let opened = before.iter().rev().take_while(|byte| matches!(byte, b'(' | b' ')).count();
            let word = before.get(..before.len() - opened).unwrap_or_default().to_ascii_lowercase();
            let is_table = [" from", " join", "straight_join"].iter().any(|end| word.ends_with(end.as_bytes()));
            let of_sequence = ["nextval", "lastval", "setval", "value for"].iter();
            let is_sequence = of_sequence.copied().any(|end| word.ends_with(end.as_bytes()));
            let is_database = behind.starts_with(b".") || behind.starts_with(b"(") || is_table || is_sequence;
            self.of(name).filter(|_| is_database).map(<[u8]>::to_vec)
        })
    }

    /// A statement that makes a trigger, which may name its database before its own name and the table's.
    ///
    /// What is in its body stays. None: it is not understood.
    pub(super) fn in_trigger(&self, statement: &[u8]) -> Option<Vec<u8>> {
        let mut tokens = Tokens { text: statement, at: 0 };
        let mut word = |wanted: &[u8]| loop {
            let token = tokens.next()?;
            if statement.get(token.clone())?.eq_ignore_ascii_case(wanted) {
                return Some(tokens.at);
            }
        };
        let mut out = Vec::with_capacity(statement.len());
        let mut copied = 0;
        for wanted in [b"TRIGGER".as_slice(), b"ON"] {
            let behind = word(wanted)?;
            let mut look = Tokens { text: statement, at: behind };
            let mut first = look.next()?;
            if statement.get(first.clone())?.eq_ignore_ascii_case(b"IF") {
                look.next()?;
                look.next()?;
                first = look.next()?;
            }
            if statement.get(look.next()?)? == b"." {
                // What qualifies a trigger and its table is always its own database.
                out.extend_from_slice(statement.get(copied..first.start)?);
                out.extend_from_slice(self.new.as_bytes());
                copied = first.end;
            }
        }
        out.extend_from_slice(statement.get(copied..)?);
        Some(out)
    }
}

/// How a statement about a database begins, the name of that, and what is behind it.
fn of_database(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let heads = ["USE ", "CREATE DATABASE /*!32312 IF NOT EXISTS*/ ", "CREATE DATABASE ", "ALTER DATABASE "];
    let length = heads.iter().find(|head| line.starts_with(head.as_bytes()))?.len();
    let (head, behind) = line.split_at_checked(length)?;
    let (name, rest) = backquoted(behind)?;
    Some((head, name, rest))
}

/// The statement that gives a database which is there the character set that one which would make it says.
pub(super) fn altered(create: &[u8]) -> Option<Vec<u8>> {
    const SET: &[u8] = b" /*!40100 DEFAULT CHARACTER SET ";
    let (_, name, rest) = of_database(create)?;
    let set = rest.strip_prefix(SET)?;
    let set = set.get(..set.windows(2).position(|pair| pair == b"*/")?)?;
    Some([b"ALTER DATABASE ", name, b" CHARACTER SET ", set, b";\n"].concat())
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// The name in backquotes that a text begins with, and what is behind it.
fn backquoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 1;
    text.strip_prefix(b"`")?;
    loop {
        match (text.get(at)?, text.get(at + 1)) {
            (b'`', Some(b'`')) => at += 2,
            (b'`', _) => return Some((text.get(..=at)?, text.get(at + 1..)?)),
            _ => at += 1,
        }
    }
}

/// A statement in which `decide` says what stands in the place of each name in backquotes that none qualifies.
///
/// It gets what was written so far, the name, and what is behind it.
fn rewritten(statement: &[u8], decide: impl Fn(&[u8], &[u8], &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(statement.len());
    let mut rest = statement;
    let mut quote = None;
    while let Some((first, behind)) = rest.split_first() {
        if let (None, Some((name, after))) = (quote, backquoted(rest)) {
            let decided = (out.last() != Some(&b'.')).then(|| decide(&out, name, after)).flatten();
            out.extend_from_slice(decided.as_deref().unwrap_or(name));
            rest = after;
            continue;
        }
        out.push(*first);
        rest = behind;
        match (quote, *first) {
            (None, b'\'' | b'"') => quote = Some(*first),
            (Some(_), b'\\') => {
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

/// The words, names and signs of a statement, without remarks; what only some versions read is read.
pub(in crate::plugin::kit::database::mariadb) struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Tokens<'t> {
    pub(in crate::plugin::kit::database::mariadb) fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(in crate::plugin::kit::database::mariadb) fn next(&mut self) -> Option<std::ops::Range<usize>> {
        loop {
            let rest = self.text.get(self.at..)?;
            let first = *rest.first()?;
            let start = self.at;
            let skipped = if first.is_ascii_whitespace() {
                1
            } else if rest.starts_with(b"/*!") || rest.starts_with(b"/*M!") {
                let mark = if rest.starts_with(b"/*!") { 3 } else { 4 };
                mark + rest.iter().skip(mark).take_while(|byte| byte.is_ascii_digit()).count()
            } else if rest.starts_with(b"*/") {
                2
            } else if rest.starts_with(b"/*") {
                rest.windows(2).position(|pair| pair == b"*/")? + 2
            } else if first == b'#' || rest.starts_with(b"--") {
                rest.iter().position(|byte| *byte == b'\n')? + 1
            } else {
                let length = match first {
                    b'`' | b'"' | b'\'' => quoted_length(rest, first)?,
                    letter if is_letter(letter) => rest.iter().take_while(|byte| is_letter(**byte)).count(),
                    _ => 1,
                };
                self.at += length;
                return Some(start..self.at);
            };
            self.at += skipped;
        }
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'_' | b'$')
}

/// How long the text in quotes is that `text` begins with.
fn quoted_length(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        match (*text.get(at)?, text.get(at + 1)) {
            (byte, Some(next)) if byte == quote && *next == quote => at += 2,
            (byte, _) if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            others: BTreeMap::from([("`o`".to_owned(), "`new_o`".to_owned())]),
            outer: Some("`goal`".to_owned()),
            tables: BTreeSet::from(["t".to_owned()]),
            ..Names::own("`a``b`", "`new`")
        }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_lines_that_name_the_database_get_the_new_name() {
        let line = |line: &str| names().in_use(line.as_bytes()).map(text);
        assert_eq!(line("USE `a``b`;\n").as_deref(), Some("USE `new`;\n"));
        let create = "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `a``b` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;\n";
        assert!(line(create).unwrap().starts_with("CREATE DATABASE /*!32312 IF NOT EXISTS*/ `new` /*!40100"));
        assert_eq!(line("USE `other`;\n"), None);
        assert_eq!(line("USE `a``b```;\n"), None);
        let alter = line("ALTER DATABASE `a``b` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;;\n");
        assert_eq!(alter.as_deref(), Some("ALTER DATABASE `new` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;;\n"));
    }

    #[test]
    fn what_makes_a_database_says_the_character_set_of_one_that_is_there() {
        for (create, wanted) in [
            (
                "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `a /*!40100 ``b` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */ \
                 /*!80016 DEFAULT ENCRYPTION='N' */;\n",
                Some("ALTER DATABASE `a /*!40100 ``b` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ;\n"),
            ),
            ("CREATE DATABASE `a`;\n", None),
            ("USE `a`;\n", None),
        ] {
            assert_eq!(altered(create.as_bytes()).map(text).as_deref(), wanted);
        }
    }

    #[test]
    fn a_view_gets_the_new_name_where_it_is_a_databases() {
        for (line, wanted) in [
            (
                "select `a``b`.`t`.`id` AS `x`,'`a``b`.' AS `y`,`c`.`a``b`.`d`,'\\'`a``b`.`t`.`x`' from `t`",
                "select `new`.`t`.`id` AS `x`,'`a``b`.' AS `y`,`c`.`a``b`.`d`,'\\'`a``b`.`t`.`x`' from `t`",
            ),
            // A table is called as the database is.
            ("select `a``b`.`x` AS `x` from `a``b`", "select `a``b`.`x` AS `x` from `a``b`"),
            (
                "select `a``b`.`f`(1),nextval(`a``b`.`s`) from (`a``b`.`t` join `o`.`u` on(`o`.`u`.`i` = `u`.`i`))",
                "select `new`.`f`(1),nextval(`new`.`s`) from (`new`.`t` join `new_o`.`u` on(`new_o`.`u`.`i` = `u`.`i`))",
            ),
        ] {
            assert_eq!(text(names().in_view(line.as_bytes())), wanted);
        }
    }

    #[test]
    fn a_table_gets_the_new_name_of_what_it_leads_to() {
        let statement = "CREATE TABLE `t` (\n  `id` int DEFAULT nextval(`a``b`.`s`) COMMENT '`a``b`.`t`',\n\
             CONSTRAINT `x` FOREIGN KEY (`id`) REFERENCES `t` (`id`),\n FOREIGN KEY (`id`) REFERENCES `gone` (`id`),\n\
             FOREIGN KEY (`id`) REFERENCES `o`.`p` (`id`),\n FOREIGN KEY (`id`) REFERENCES `z`.`p` (`id`)\n);\n";
        let wanted = "CREATE TABLE `t` (\n  `id` int DEFAULT nextval(`new`.`s`) COMMENT '`a``b`.`t`',\n\
             CONSTRAINT `x` FOREIGN KEY (`id`) REFERENCES `t` (`id`),\n FOREIGN KEY (`id`) REFERENCES `goal`.`gone` (`id`),\n\
             FOREIGN KEY (`id`) REFERENCES `new_o`.`p` (`id`),\n FOREIGN KEY (`id`) REFERENCES `z`.`p` (`id`)\n);\n";
        assert_eq!(text(names().in_table(statement.as_bytes())), wanted);
    }

    #[test]
    fn a_trigger_gets_the_new_name_before_its_own_and_its_tables() {
        let head = "/*!50003 CREATE*/ /*!50017 DEFINER=`trigger`@`on`*/ /*!50003 TRIGGER ";
        for (trigger, wanted) in [
            (
                "tr.b before insert on tr.t for each row set @x = tr.f()",
                "`new`.b before insert on `new`.t for each row set @x = tr.f()",
            ),
            ("b before insert on t for each row set new.s = 1", "b before insert on t for each row set new.s = 1"),
            (
                "`a``b` . `on` /* on a.b */ AFTER UPDATE\n-- on x\nON \"a`b\".t FOR EACH",
                "`new` . `on` /* on a.b */ AFTER UPDATE\n-- on x\nON `new`.t FOR EACH",
            ),
            ("IF NOT EXISTS tr.b BEFORE DELETE ON t FOR", "IF NOT EXISTS `new`.b BEFORE DELETE ON t FOR"),
        ] {
            let done = names().in_trigger(format!("{head}{trigger} */;;\n").as_bytes()).map(text);
            assert_eq!(done, Some(format!("{head}{wanted} */;;\n")));
        }
        assert_eq!(names().in_trigger(b"/*!50003 CREATE*/ /*!50003 TRIGGER x"), None);
    }
}
