//! Which functions find what they name only by a search_path, read from their text.
//!
//! A load runs with none. Nothing of the application is called to find out: its functions may write, and whoever owns
//! one would have it run with the rights of the backup.

use std::collections::{BTreeMap, BTreeSet};

use super::statement::{behind_comment, dollar_tag};

/// Words behind which a table is named.
const BEFORE_TABLES: [&str; 6] = ["from", "join", "update", "only", "table", "insert into"];

/// What is called, and what is in the database.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The text of functions without a search_path of their own, by their name; the same name may stand several times.
    pub(super) bodies: BTreeMap<String, Vec<String>>,
    /// The same of those that have one.
    pub(super) safe: BTreeMap<String, Vec<String>>,
    /// Functions, tables and types that no search_path is needed for are not among them.
    pub(super) routines: BTreeSet<String>,
    pub(super) relations: BTreeSet<String>,
    pub(super) types: BTreeSet<String>,
}

impl Names {
    /// Whether `routine`, or one that it calls, names something of the database without its schema.
    pub(super) fn need_path(&self, routine: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![routine.to_owned()];
        while let Some(name) = next.pop() {
            for body in self.bodies.get(&name).into_iter().flatten() {
                for mention in mentions(body) {
                    let known = match mention.what {
                        What::Routine => &self.routines,
                        What::Relation => &self.relations,
                        What::Type => &self.types,
                    };
                    if !mention.has_schema && known.contains(&mention.name) {
                        return true;
                    }
                    if mention.what == What::Routine && seen.insert(mention.name.clone()) {
                        next.push(mention.name);
                    }
                }
            }
        }
        false
    }
}

impl Names {
    /// Whether `routine`, or one that it calls, reads a table or view of the database.
    pub(super) fn read_tables(&self, routine: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![routine.to_owned()];
        while let Some(name) = next.pop() {
            for mention in [&self.bodies, &self.safe]
                .into_iter()
                .filter_map(|each| each.get(&name))
                .flatten()
                .flat_map(|body| mentions(body))
            {
                if mention.what == What::Relation && self.relations.contains(&mention.name) {
                    return true;
                }
                if mention.what == What::Routine && seen.insert(mention.name.clone()) {
                    next.push(mention.name);
                }
            }
        }
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Routine,
    Relation,
    Type,
}

#[derive(Debug, PartialEq, Eq)]
struct Mention {
    name: String,
    what: What,
    has_schema: bool,
}

/// A piece of SQL: a name as the server reads it, or another character.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Name { text: String, is_quoted: bool },
    Mark(char),
}

fn mentions(body: &str) -> Vec<Mention> {
    let pieces = pieces(body);
    let mark = |at: Option<usize>, wanted: char| {
        at.and_then(|at| pieces.get(at)).is_some_and(|piece| *piece == Piece::Mark(wanted))
    };
    let word = |at: Option<usize>| match at.and_then(|at| pieces.get(at)) {
        Some(Piece::Name { text, is_quoted: false }) => text.as_str(),
        _ => "",
    };
    let mut found = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let Piece::Name { text, .. } = piece else { continue };
        if mark(Some(at + 1), '.') {
            continue;
        }
        let has_schema = mark(at.checked_sub(1), '.');
        // What stands in front of the whole name.
        let first = if has_schema { at.saturating_sub(2) } else { at };
        let before = first.checked_sub(1);
        let is_into = word(before) == "into" && word(first.checked_sub(2)) == "insert";
        let what = if mark(Some(at + 1), '(') && !is_into {
            What::Routine
        } else if mark(before, ':') {
            What::Type
        } else if is_into || BEFORE_TABLES.contains(&word(before)) {
            What::Relation
        } else {
            continue;
        };
        found.push(Mention { name: text.clone(), what, has_schema });
    }
    found
}

/// Reads names and marks; what is quoted as text or commented out is none.
fn pieces(body: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = body;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if rest.starts_with("/*") {
            rest = behind_comment(rest).unwrap_or_default();
        } else if character == '\'' {
            let escapes = matches!(pieces.last(), Some(Piece::Name { text, is_quoted: false }) if text == "e");
            rest = behind_text(after, escapes);
        } else if character == '"' {
            let (text, behind) = quoted(after);
            pieces.push(Piece::Name { text, is_quoted: true });
            rest = behind;
        } else if let Some(tag) = dollar_tag(rest) {
            let inside = &rest[tag.len()..];
            rest = inside.split_once(tag).map_or("", |(_, rest)| rest);
        } else if character.is_alphabetic() || character == '_' {
            let is_inside = |each: char| each.is_alphanumeric() || matches!(each, '_' | '$');
            let end = rest.find(|each| !is_inside(each)).unwrap_or(rest.len());
            pieces.push(Piece::Name { text: rest[..end].to_lowercase(), is_quoted: false });
            rest = &rest[end..];
        } else {
            if !character.is_whitespace() {
                pieces.push(Piece::Mark(character));
            }
            rest = after;
        }
    }
    pieces
}

fn behind_text(rest: &str, escapes: bool) -> &str {
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if escapes => {
                characters.next();
            }
            '\'' => match characters.as_str().strip_prefix('\'') {
                Some(behind) => characters = behind.chars(),
                None => return characters.as_str(),
            },
            _ => {}
        }
    }
    ""
}

fn quoted(rest: &str) -> (String, &str) {
    let mut text = String::new();
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        if character != '"' {
            text.push(character);
            continue;
        }
        match characters.as_str().strip_prefix('"') {
            Some(behind) => {
                text.push('"');
                characters = behind.chars();
            }
            None => return (text, characters.as_str()),
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bodies: &[(&str, &str)]) -> Names {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut names = Names {
            routines: set(&["norm", "slug", "in ner"]),
            relations: set(&["word", "Word"]),
            types: set(&["mood"]),
            ..Names::default()
        };
        for (name, body) in bodies {
            names.bodies.entry((*name).to_owned()).or_default().push((*body).to_owned());
        }
        names
    }

    #[test]
    fn what_is_named_without_its_schema_needs_a_path() {
        for body in [
            "SELECT norm(t)",
            "SELECT Norm (t)",
            "BEGIN RETURN \"in ner\"(t); END",
            "SELECT count(*) FROM word",
            "SELECT 1 FROM a.b JOIN \"Word\" w ON true",
            "SELECT t::mood",
            "INSERT INTO word (a) VALUES (1)",
            "SELECT 'it''s' || norm(t)",
            "SELECT E'\\'' || norm(t)",
            "/* a /* b */ c */ SELECT norm(t)",
        ] {
            assert!(names(&[("f", body)]).need_path("f"), "{body}");
        }
    }

    #[test]
    fn what_is_named_with_it_or_not_at_all_needs_none() {
        for body in [
            "SELECT lower(t)",
            "SELECT app.norm(t)",
            "SELECT app . norm (t)",
            "SELECT \"app\".\"in ner\"(t)",
            "SELECT 'norm(t)'",
            "SELECT $x$ norm(t) $x$ || $1",
            "-- norm(t)\nSELECT 1",
            "/* a /* b */ norm(t) */ SELECT 1",
            "SELECT word FROM app.word",
            "SELECT \"word\".x, norm FROM app.word",
            "SELECT \"NORM\"(t)",
            "SELECT 'x'::text, t::app.mood",
            "",
            "SELECT 'never ended",
        ] {
            assert!(!names(&[("f", body)]).need_path("f"), "{body}");
        }
        assert!(!names(&[]).need_path("f"), "of a function in C there is no text");
    }

    #[test]
    fn tables_that_are_read_are_seen_with_and_without_their_schema() {
        for body in
            ["SELECT exists(SELECT FROM word)", "SELECT 1 FROM app.word", "SELECT 1 FROM x JOIN \"Word\" ON true"]
        {
            assert!(names(&[("f", body)]).read_tables("f"), "{body}");
        }
        for body in
            ["SELECT lower(t)", "SELECT 'FROM word'", "SELECT 1 FROM generate_series(1, 2)", "SELECT 1 FROM pg_class"]
        {
            assert!(!names(&[("f", body)]).read_tables("f"), "{body}");
        }
        let mut of_its_own = names(&[("f", "SELECT app.g(t)")]);
        of_its_own.safe.insert("g".to_owned(), vec!["SELECT 1 FROM word".to_owned()]);
        assert!(of_its_own.read_tables("f") && !of_its_own.need_path("f"));
    }

    #[test]
    fn what_is_called_is_followed() {
        let bodies = [("f", "SELECT app.g(t)"), ("g", "SELECT app.f(t), app.h(t)"), ("h", "SELECT norm(t)")];
        assert!(names(&bodies).need_path("f"));
        let bodies = [("f", "SELECT app.g(t)"), ("g", "SELECT app.f(t)"), ("h", "SELECT norm(t)")];
        assert!(!names(&bodies).need_path("f"));
    }
}
