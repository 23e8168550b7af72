//! A statement of SQL by its pieces, read and written as the server does.
//!
//! What an application says about itself (a comment, a setting, the body of a function) stands between quotes and may
//! look like anything. So no statement of a dump is found by its lines, none is run as it stands, and what is run is
//! written anew from its pieces: a text is a text then, whatever the server's settings say.

use super::server::{identifier, literal};

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A name or a word of the language without quotes, in lower case as the server reads it.
    Word(String),
    /// A name between double quotes.
    Name(String),
    Text(String),
    Number(String),
    Mark(char),
}

impl Piece {
    /// A name, with quotes or without.
    pub(super) fn as_name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Name(name) => Some(name),
            _ => None,
        }
    }

    fn sql(&self) -> String {
        match self {
            Self::Word(text) | Self::Number(text) => text.clone(),
            Self::Name(name) => identifier(name),
            Self::Text(text) => literal(text),
            Self::Mark(mark) => mark.to_string(),
        }
    }
}

/// Statements as SQL, with one piece in place of another.
pub(super) fn sql(pieces: &[Piece]) -> String {
    pieces.iter().map(Piece::sql).collect::<Vec<_>>().join(" ")
}

/// What a backslash between plain quotes is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Backslash {
    /// A character like others: `standard_conforming_strings` is on.
    #[default]
    Plain,
    Escapes,
}

/// The one statement that `text` is, without the semicolon at its end; none: it is something else.
pub(super) fn one(text: &str, backslash: Backslash) -> Option<Vec<Piece>> {
    let mut all = statements(text, backslash)?.into_iter();
    all.next().filter(|_| all.next().is_none())
}

/// All statements of `text`; none: it ends in the middle of one.
pub(super) fn statements(text: &str, backslash: Backslash) -> Option<Vec<Vec<Piece>>> {
    let (mut all, mut pieces, mut rest) = (Vec::new(), Vec::new(), text);
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..)?;
        if rest.starts_with("--") || (character == '\\' && pieces.is_empty()) {
            // A comment, or a command to psql.
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if rest.starts_with("/*") {
            rest = behind_comment(rest)?;
        } else if character == '\'' {
            let escapes = backslash == Backslash::Escapes || is_before_escapes(&pieces, text, rest);
            if escapes && pieces.last() == Some(&Piece::Word("e".to_owned())) {
                pieces.pop();
            }
            let (own, behind) = quoted(after, '\'', escapes)?;
            pieces.push(Piece::Text(own));
            rest = behind;
        } else if character == '"' {
            let (own, behind) = quoted(after, '"', false)?;
            pieces.push(Piece::Name(own));
            rest = behind;
        } else if let Some(tag) = dollar_tag(rest) {
            let (own, behind) = rest.get(tag.len()..)?.split_once(tag)?;
            pieces.push(Piece::Text(own.to_owned()));
            rest = behind;
        } else if character.is_ascii_alphabetic() || character == '_' {
            let (word, behind) = split_while(rest, |each| each.is_ascii_alphanumeric() || matches!(each, '_' | '$'));
            pieces.push(Piece::Word(word.to_ascii_lowercase()));
            rest = behind;
        } else if character.is_ascii_digit() {
            let (number, behind) = split_while(rest, |each| each.is_ascii_digit() || each == '.');
            pieces.push(Piece::Number(number.to_owned()));
            rest = behind;
        } else {
            match character {
                ';' => all.push(std::mem::take(&mut pieces)),
                _ if character.is_whitespace() => {}
                _ => pieces.push(Piece::Mark(character)),
            }
            rest = after;
        }
    }
    all.retain(|statement| !statement.is_empty());
    pieces.is_empty().then_some(all)
}

/// Whether an `E` stands right before the quote with which `rest` begins.
fn is_before_escapes(pieces: &[Piece], text: &str, rest: &str) -> bool {
    let before = text.get(..text.len() - rest.len()).unwrap_or_default();
    pieces.last() == Some(&Piece::Word("e".to_owned())) && before.ends_with(['E', 'e'])
}

fn split_while(text: &str, is_of_it: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|each| !is_of_it(each)).unwrap_or(text.len()))
}

/// What stands between quotes, and what comes behind.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<(String, &str)> {
    let (mut own, mut characters) = (String::new(), text.chars());
    loop {
        match characters.next()? {
            '\\' if escapes => own.push(match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                // By number; no program of PostgreSQL writes these.
                'x' | 'u' | 'U' | '0'..='7' => return None,
                other => other,
            }),
            each if each == quote => match characters.as_str().strip_prefix(quote) {
                Some(behind) => {
                    own.push(quote);
                    characters = behind.chars();
                }
                None => return Some((own, characters.as_str())),
            },
            each => own.push(each),
        }
    }
}

/// Comments stand in comments.
pub(super) fn behind_comment(mut rest: &str) -> Option<&str> {
    let mut depth = 0_usize;
    loop {
        if let Some(inner) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, inner);
        } else if let Some(outer) = rest.strip_prefix("*/") {
            (depth, rest) = (depth.saturating_sub(1), outer);
            if depth == 0 {
                return Some(rest);
            }
        } else {
            let mut characters = rest.chars();
            characters.next()?;
            rest = characters.as_str();
        }
    }
}

pub(super) fn dollar_tag(rest: &str) -> Option<&str> {
    let end = rest.strip_prefix('$')?.find('$')? + 1;
    let tag = rest.get(1..end)?;
    let is_tag = tag.chars().all(|each| each.is_alphanumeric() || each == '_')
        && !tag.starts_with(|each: char| each.is_ascii_digit());
    is_tag.then(|| rest.get(..=end)).flatten()
}

/// Takes the pieces of a statement one by one.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'p>(pub(super) &'p [Piece]);

impl<'p> Cursor<'p> {
    fn next(&mut self) -> Option<&'p Piece> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Takes these words when they are the next ones.
    pub(super) fn words(&mut self, words: &str) -> bool {
        let mut ahead = *self;
        let are_next = words.split(' ').all(|word| matches!(ahead.next(), Some(Piece::Word(own)) if own == word));
        if are_next {
            *self = ahead;
        }
        are_next
    }

    pub(super) fn name(&mut self) -> Option<&'p str> {
        self.next()?.as_name()
    }

    pub(super) fn text(&mut self) -> Option<&'p str> {
        match self.next()? {
            Piece::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn mark(&mut self, mark: char) -> bool {
        let is_next = self.0.first() == Some(&Piece::Mark(mark));
        if is_next {
            self.next();
        }
        is_next
    }

    /// Nothing comes behind.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// Only words, numbers and texts come, with commas and signs between them, up to one of these words.
    pub(super) fn plain_until(&mut self, words: &[&str]) -> Option<()> {
        let mut some = false;
        while let Some(piece) = self.0.first() {
            match piece {
                Piece::Word(word) if words.contains(&word.as_str()) => break,
                Piece::Mark(mark) if !matches!(mark, ',' | '=' | '-') => return None,
                _ => {}
            }
            some = true;
            self.next();
        }
        some.then_some(())
    }

    /// `parameter TO value, value`, up to the end.
    pub(super) fn setting(&mut self) -> Option<(String, Vec<String>)> {
        let mut name = self.name()?.to_owned();
        while self.mark('.') {
            name = format!("{name}.{}", self.name()?);
        }
        if !self.words("to") && !self.mark('=') {
            return None;
        }
        let mut values = Vec::new();
        loop {
            let sign = if self.mark('-') { "-" } else { "" };
            match self.next()? {
                Piece::Word(value) | Piece::Name(value) | Piece::Text(value) => values.push(value.clone()),
                Piece::Number(value) => values.push(format!("{sign}{value}")),
                Piece::Mark(_) => return None,
            }
            if !self.mark(',') {
                return self.end().map(|()| (name, values));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> Option<String> {
        one(text, Backslash::Plain).map(|pieces| sql(&pieces))
    }

    #[test]
    fn a_statement_is_written_as_it_was_read_whatever_stands_in_its_texts() {
        for (text, wanted) in [
            (
                "COMMENT ON ROLE app IS 'a;\nALTER ROLE app SUPERUSER;\n''x';",
                "comment on role app is E'a;\nALTER ROLE app SUPERUSER;\n''x'",
            ),
            ("COMMENT ON ROLE app IS 'a\\'; -- 'x\n", "comment on role app is E'a\\\\'"),
            ("COMMENT ON ROLE \"A b\"\"c\" IS E'a\\'b\\\\\\n';", "comment on role \"A b\"\"c\" is E'a''b\\\\\n'"),
            ("-- a\n\\connect x\nSET a TO $x$b$y$;$x$ /* ; /* ' */ \" */;", "set a to E'b$y$;'"),
            ("ALTER ROLE a CONNECTION LIMIT -1;", "alter role a connection limit - 1"),
        ] {
            assert_eq!(again(text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_whole_statement_or_more_than_one_is_none() {
        for text in [
            "",
            "SET a TO 'b",
            "SET a TO 'b'",
            "SET a TO $$;",
            "SET a; SET b;",
            "SET \"a;",
            "SET a /* ;",
            "SET a TO E'\\x41';",
        ] {
            assert_eq!(again(text), None, "{text}");
        }
        // Where a backslash escapes, the text goes on.
        let text = |backslash| one("SET a TO 'b\\'; --';", backslash).and_then(|all| all.last().cloned());
        assert_eq!(text(Backslash::Plain), Some(Piece::Text("b\\".to_owned())));
        assert_eq!(text(Backslash::Escapes), Some(Piece::Text("b'; --".to_owned())));
    }
}
