//! Reads SQL as the client program does: where a statement ends, and what a line `DELIMITER` is.
//!
//! The client reads line by line. A line `DELIMITER x` is for it when no statement, quote or remark is open; everywhere
//! else it is text, such as in the string of a routine. Whoever reads otherwise takes the text of whom may write a
//! routine for statements of the dump. All that reads a dump reads it by this: what is fed, counted and taken apart.
//!
//! It follows `add_line` of the client in binary mode with `--comments`, with what it gets wrong: a remark in a versioned
//! one ends at the second `*/`. The client looks at no more than four letters at once, and never over the end of a line.

/// How far the client looks ahead, but for the delimiter.
const AHEAD: usize = 4;
/// What of a statement is kept to see which modes it sets.
const HEAD_BYTES_MAX: usize = 4 << 10;
/// No line that sets a delimiter is longer.
const COMMAND_BYTES_MAX: usize = 256;
const COMMAND: &[u8] = b"delimiter";
/// The first line of newer dumps, which the client takes for itself.
pub(super) const SANDBOX: &[u8] = b"/*M!999999\\-";

/// Where the client is in a text.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    quote: Option<u8>,
    in_remark: bool,
    /// In a remark that servers of some versions read; the client forgets it at the end of the line.
    in_versioned: bool,
    /// The rest of the line is nothing.
    is_rest_skipped: bool,
    /// A statement has begun.
    is_open: bool,
    delimiter: Vec<u8>,
    /// What `sql_mode` says of backslashes in quotes, and in double ones.
    plain_backslash: bool,
    plain_in_double: bool,
    head: Vec<u8>,
    /// Read, but not looked at: what comes next decides.
    waiting: Vec<u8>,
    /// Nothing of this line was looked at.
    at_start: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            quote: None,
            in_remark: false,
            in_versioned: false,
            is_rest_skipped: false,
            is_open: false,
            delimiter: b";".to_vec(),
            plain_backslash: false,
            plain_in_double: false,
            head: Vec::new(),
            waiting: Vec::new(),
            at_start: true,
        }
    }
}

impl Reading {
    /// Whether no statement is open.
    pub(super) fn is_between(&self) -> bool {
        !self.is_open && self.quote.is_none() && !self.in_remark && self.waiting.is_empty()
    }

    /// Whether statements end by something else than `;`, as those do that make triggers, routines and events.
    pub(super) fn is_delimited(&self) -> bool {
        self.delimiter != b";"
    }

    /// Takes the next piece of the text, of any length.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut text = std::mem::take(&mut self.waiting);
        text.extend_from_slice(piece);
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if self.at_start && !self.is_open && self.quote.is_none() && !self.in_remark && !self.is_rest_skipped {
                if end.is_none() && line.len() < COMMAND_BYTES_MAX {
                    break;
                }
                if let Some(delimiter) = delimiter(line) {
                    self.delimiter = delimiter;
                    self.is_rest_skipped = true;
                } else if line.starts_with(SANDBOX) {
                    self.is_rest_skipped = true;
                }
            }
            self.at_start = false;
            let ahead = AHEAD.max(self.delimiter.len());
            let upto = if end.is_some() { line.len() } else { line.len().saturating_sub(ahead) };
            let mut at = 0;
            while at < upto && !self.is_rest_skipped {
                at += self.step(line.get(at..).unwrap_or_default());
            }
            match end {
                Some(end) => {
                    self.end_of_line();
                    rest = rest.get(end + 1..).unwrap_or_default();
                }
                None if self.is_rest_skipped => return,
                None => {
                    rest = rest.get(at..).unwrap_or_default();
                    break;
                }
            }
        }
        self.waiting = rest.to_vec();
    }

    fn end_of_line(&mut self) {
        (self.in_versioned, self.is_rest_skipped, self.at_start) = (false, false, true);
        if self.is_open {
            self.keep(b'\n');
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.head.len() < HEAD_BYTES_MAX {
            self.head.push(byte);
        }
    }

    /// Looks at the first letter of the rest of a line; answers how many letters that took.
    fn step(&mut self, rest: &[u8]) -> usize {
        let at = |index: usize| rest.get(index).copied().unwrap_or(0);
        let first = at(0);
        if let (Some(quote), false) = (self.quote, self.in_remark) {
            let is_plain =
                quote == b'`' || self.plain_backslash || (quote == b'"' && self.plain_in_double) || first != b'\\';
            if !is_plain {
                self.is_rest_skipped |= at(1) == 0;
                return 2;
            }
            if first == quote {
                self.quote = None;
            }
            self.keep(first);
            return 1;
        }
        let is_remark = |first: u8| {
            first == b'#' || (first == b'-' && at(1) == b'-' && (matches!(at(2), 0 | 9..=13 | b' ') || !self.is_open))
        };
        if !self.in_remark && rest.starts_with(&self.delimiter) {
            self.end_of_statement();
            let behind = rest.get(self.delimiter.len()..).unwrap_or_default().trim_ascii_start();
            // A remark behind it is sent along.
            self.is_rest_skipped = behind.is_empty() || behind.starts_with(b"#") || behind.starts_with(b"-- ");
            return self.delimiter.len();
        }
        if !self.in_remark && is_remark(first) {
            self.is_rest_skipped = true;
            return 1;
        }
        if first == b'/' && at(1) == b'*' && at(2) != b'!' && (at(2), at(3)) != (b'M', b'!') {
            (self.in_remark, self.is_open) = (true, true);
            return 2;
        }
        if self.in_remark && !self.in_versioned && first == b'*' && at(1) == b'/' {
            self.in_remark = false;
            return 2;
        }
        if first == b'/' && at(1) == b'*' && at(2) == b'!' {
            self.in_versioned = true;
        } else if self.in_versioned && first == b'*' && at(1) == b'/' {
            self.in_versioned = false;
        }
        if !self.in_remark && matches!(first, b'\'' | b'"' | b'`') {
            self.quote = Some(first);
        }
        self.is_open |= !first.is_ascii_whitespace();
        self.keep(first);
        1
    }

    fn end_of_statement(&mut self) {
        if let Some(mode) = sql_mode(&self.head) {
            let has = |name: &[u8]| mode.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name));
            self.plain_backslash = has(b"NO_BACKSLASH_ESCAPES");
            self.plain_in_double = has(b"ANSI_QUOTES") || has(b"'ORACLE") || has(b"'ANSI");
        }
        self.head.clear();
        self.is_open = false;
    }
}

/// The delimiter that a line sets, if it is one that does.
fn delimiter(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii_start();
    let name = line.get(..COMMAND.len())?;
    let rest = line.get(COMMAND.len()..)?;
    if !name.eq_ignore_ascii_case(COMMAND) || !matches!(rest.first(), Some(b' ' | b'\t')) {
        return None;
    }
    let word: Vec<u8> = rest.trim_ascii().iter().copied().take_while(|byte| !byte.is_ascii_whitespace()).collect();
    (!word.is_empty()).then_some(word)
}

/// What a statement makes of `sql_mode`: the text in quotes, or nothing of it where the one of before is taken again.
fn sql_mode(statement: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"sql_mode";
    let text = statement.trim_ascii_start();
    let text = text.strip_prefix(b"/*!").map_or(text, |rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest.get(digits..).unwrap_or_default().trim_ascii_start()
    });
    if !text.get(..4)?.eq_ignore_ascii_case(b"SET ") {
        return None;
    }
    let at = (1..text.len()).find(|at| {
        let before = text.get(at - 1).copied().unwrap_or(0);
        let name = text.get(*at..at + NAME.len()).unwrap_or_default();
        name.eq_ignore_ascii_case(NAME) && !(before.is_ascii_alphanumeric() || matches!(before, b'_' | b'@'))
    })?;
    let value = text.get(at + NAME.len()..)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let end = value.iter().skip(1).position(|byte| *byte == b'\'').map_or(value.len(), |end| end + 1);
    Some(if value.starts_with(b"'") { value.get(..end).unwrap_or(value) } else { b"" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a text that begin a statement, and whether it is one with another delimiter; whatever the pieces.
    fn begun(text: &str) -> Vec<(String, bool)> {
        let read = |size: usize| {
            let (mut reading, mut begun) = (Reading::default(), Vec::new());
            for line in text.split_inclusive('\n') {
                if reading.is_between() {
                    begun.push((line.trim_end().to_owned(), reading.is_delimited()));
                }
                line.as_bytes().chunks(size).for_each(|chunk| reading.push(chunk));
            }
            (begun, reading.is_between())
        };
        let whole = read(usize::MAX);
        for size in 1..9 {
            assert_eq!(read(size), whole, "pieces of {size}");
        }
        assert!(whole.1, "{text}");
        whole.0
    }

    #[test]
    fn a_line_with_a_delimiter_is_a_command_only_where_nothing_is_open() {
        for body in [
            "/* x\nDELIMITER ;\nUSE `mysql`;\n*/",
            "SET @x = 'x\nDELIMITER ;\nUSE `mysql`;\n';",
            "SET @x = \"it's\nDELIMITER ;\nUSE `mysql`;\n\";",
            "SELECT 1 AS `x\nDELIMITER ;\n`;",
            "SET @x = 'a\\'\nDELIMITER ;\n';",
            "-- it's\n# and \"that\nSET @x = 'a''\nDELIMITER ;\n';",
            "BEGIN\nDELIMITER ;\nEND",
            "SET @x = 1; -- ;;\nSET @y = 'DELIMITER ;\n  delimiter ;\n'",
        ] {
            let text = format!("DELIMITER ;;\nCREATE PROCEDURE `p`()\n{body}\n;;\nDELIMITER ;\nUSE `a`;\n");
            let wanted =
                [("DELIMITER ;;", false), ("CREATE PROCEDURE `p`()", true), ("DELIMITER ;", true), ("USE `a`;", false)];
            assert_eq!(begun(&text), wanted.map(|(line, is)| (line.to_owned(), is)), "{body}");
        }
        let lower = begun("  delimiter $$\nSELECT ';'; SELECT 2 $$\n\tDelimiter ;\nSELECT 1;\n");
        assert_eq!(lower.iter().map(|(_, is)| *is).collect::<Vec<_>>(), [false, true, true, false]);
    }

    #[test]
    fn the_modes_that_a_dump_sets_say_what_a_backslash_is() {
        let mode = |mode: &str, body: &str| {
            let text = format!(
                "/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n\
                 /*!50003 SET sql_mode              = '{mode}' */ ;\nDELIMITER ;;\n{body}\n;;\nDELIMITER ;\n\
                 /*!50003 SET sql_mode              = @saved_sql_mode */ ;\nSELECT 'a\\';', \"\\\";\";\n"
            );
            begun(&text).len()
        };
        assert_eq!(mode("ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "SET @x = '\\'; SET @y = '\nDELIMITER ;\n';"), 7);
        assert_eq!(mode("PIPES_AS_CONCAT,ANSI_QUOTES", "SELECT 1 AS \"\\\"; SET @y = '\nDELIMITER ;\n\\'';"), 7);
        assert_eq!(mode("STRICT_TRANS_TABLES", "SET @x = '\\'; SET @y = \nDELIMITER ;\n';"), 7);
    }

    #[test]
    fn a_remark_in_a_versioned_one_ends_where_the_client_ends_it() {
        let text = "DELIMITER ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER t BEFORE INSERT /* c */ ON t FOR EACH ROW BEGIN END \n*/;;\n\
                    DELIMITER ;\nSELECT 1;\n";
        assert_eq!(begun(text).len(), 4);
    }
}
