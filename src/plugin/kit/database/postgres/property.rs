//! What a dump says of the database itself: its owner, comment, rights and settings.
//!
//! Only statements of exactly these kinds, about exactly this database, are ever run; what else a dump says is loaded by
//! `pg_restore` alone.

use super::server::identifier;
use super::statement::{Backslash, Cursor, Piece, one, sql};

/// One statement about the database itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plugin) struct Property {
    pieces: Vec<Piece>,
    /// Where in them the database's name stands.
    at: usize,
    /// It says who owns it, or who may do what with it.
    pub(super) is_right: bool,
    /// The search_path that it sets for everybody, as the setting's value.
    pub(super) search_path: Option<String>,
}

impl Property {
    /// Reads one statement about `database`; none: it is of another kind, or about something else.
    pub(super) fn of(text: &str, database: &str, backslash: Backslash) -> Option<Self> {
        let pieces = one(text, backslash)?;
        let (left, is_right, setting) = read(&pieces, database)?;
        let at = pieces.len().checked_sub(left)?.checked_sub(1)?;
        let is_path = |(name, values): (String, Vec<String>)| {
            (name == "search_path").then(|| values.iter().map(|value| identifier(value)).collect::<Vec<_>>().join(", "))
        };
        Some(Self { at, is_right, search_path: setting.and_then(is_path), pieces })
    }

    /// The statement, about a database of this name.
    pub(in crate::plugin) fn about(&self, database: &str) -> String {
        let mut pieces = self.pieces.clone();
        if let Some(name) = pieces.get_mut(self.at) {
            *name = Piece::Name(database.to_owned());
        }
        sql(&pieces)
    }
}

type Setting = Option<(String, Vec<String>)>;

/// How many pieces stand behind the database's name, whether it is about rights, and what it sets for everybody.
fn read(pieces: &[Piece], database: &str) -> Option<(usize, bool, Setting)> {
    let mut cursor = Cursor(pieces);
    let is_it = |cursor: &mut Cursor<'_>| (cursor.name()? == database).then_some(cursor.0.len());
    if cursor.words("alter database") {
        let left = is_it(&mut cursor)?;
        if cursor.words("owner to") {
            cursor.name()?;
            cursor.end()?;
            return Some((left, true, None));
        }
        if cursor.words("set") {
            return Some((left, false, Some(cursor.setting()?)));
        }
        let is_known = cursor.words("connection limit") || cursor.words("is_template");
        cursor.plain_until(&[])?;
        return is_known.then_some((left, false, None));
    }
    if cursor.words("alter role") {
        cursor.name()?;
        if !cursor.words("in database") {
            return None;
        }
        let left = is_it(&mut cursor)?;
        cursor.words("set").then(|| cursor.setting()).flatten()?;
        return Some((left, false, None));
    }
    if cursor.words("comment on database") || label(&mut cursor) {
        let left = is_it(&mut cursor)?;
        if !cursor.words("is") || (!cursor.words("null") && cursor.text().is_none()) {
            return None;
        }
        cursor.end()?;
        return Some((left, true, None));
    }
    let is_grant = cursor.words("grant");
    if !is_grant && !cursor.words("revoke") {
        return None;
    }
    cursor.plain_until(&["on"])?;
    if !cursor.words("on database") {
        return None;
    }
    let left = is_it(&mut cursor)?;
    if !cursor.words(if is_grant { "to" } else { "from" }) {
        return None;
    }
    cursor.plain_until(&[])?;
    cursor.end()?;
    Some((left, true, None))
}

fn label(cursor: &mut Cursor<'_>) -> bool {
    let mut ahead = *cursor;
    let is_one = ahead.words("security label for") && ahead.name().is_some() && ahead.words("on database");
    if is_one {
        *cursor = ahead;
    }
    is_one
}

/// How the database is made, from `WITH` on; none: that is something else.
pub(super) fn making(text: &str, backslash: Backslash) -> Option<String> {
    let pieces = one(&format!("{text};"), backslash)?;
    let mut cursor = Cursor(&pieces);
    (cursor.words("with") && cursor.plain_until(&[]).is_some() && cursor.end().is_some()).then(|| sql(&pieces))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_about_the_database_is_read_and_named_anew() {
        for (text, wanted) in [
            ("ALTER DATABASE shop OWNER TO \"the App\";", "alter database \"x\" owner to \"the App\""),
            ("ALTER DATABASE shop SET app.note TO 'a; b''c';", "alter database \"x\" set app . note to E'a; b''c'"),
            ("ALTER DATABASE shop CONNECTION LIMIT = -1;", "alter database \"x\" connection limit = - 1"),
            ("ALTER DATABASE shop IS_TEMPLATE = true;", "alter database \"x\" is_template = true"),
            (
                "ALTER ROLE app IN DATABASE shop SET work_mem TO '1MB';",
                "alter role app in database \"x\" set work_mem to E'1MB'",
            ),
            (
                "COMMENT ON DATABASE shop IS '\nALTER ROLE app SUPERUSER;\n';",
                "comment on database \"x\" is E'\nALTER ROLE app SUPERUSER;\n'",
            ),
            (
                "GRANT CONNECT,TEMPORARY ON DATABASE shop TO PUBLIC;",
                "grant connect , temporary on database \"x\" to public",
            ),
            ("REVOKE ALL ON DATABASE shop FROM app;", "revoke all on database \"x\" from app"),
            ("SECURITY LABEL FOR p ON DATABASE shop IS 'l';", "security label for p on database \"x\" is E'l'"),
        ] {
            let property = Property::of(text, "shop", Backslash::Plain);
            assert_eq!(property.map(|property| property.about("x")).as_deref(), Some(wanted), "{text}");
        }
        let of = |text: &str| Property::of(text, "shop", Backslash::Plain).unwrap();
        let path = of("ALTER DATABASE shop SET search_path TO 'we,ird', 'app', '$user';").search_path;
        assert_eq!(path.as_deref(), Some("\"we,ird\", \"app\", \"$user\""));
        assert_eq!(of("ALTER ROLE app IN DATABASE shop SET search_path TO 'x';").search_path, None);
    }

    #[test]
    fn no_other_statement_is_one_about_the_database() {
        for text in [
            "ALTER ROLE app SUPERUSER;",
            "ALTER ROLE app IN DATABASE other SET work_mem TO '1MB';",
            "ALTER DATABASE other OWNER TO app;",
            "ALTER DATABASE shop OWNER TO app; ALTER ROLE app SUPERUSER;",
            "ALTER DATABASE shop RENAME TO other;",
            "ALTER DATABASE shop SET TABLESPACE fast;",
            "COMMENT ON ROLE app IS 'ON DATABASE shop ';",
            "GRANT postgres TO app;",
            "GRANT SELECT ON TABLE t TO \" ON DATABASE shop \";",
            "REVOKE ALL ON DATABASE shop TO app;",
            "UPDATE pg_catalog.pg_database SET datacl = NULL WHERE datname = 'shop';",
            "DROP DATABASE shop;",
        ] {
            assert_eq!(Property::of(text, "shop", Backslash::Plain), None, "{text}");
        }
    }

    #[test]
    fn a_database_is_made_as_the_dump_says_and_nothing_else_is() {
        let made = |text: &str| making(text, Backslash::Plain);
        assert_eq!(
            made("WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C'").as_deref(),
            Some("with template = template0 encoding = E'UTF8' locale = E'C'")
        );
        for text in ["WITH x = (SELECT 1)", "OWNER app", "WITH a = 'b'; DROP DATABASE x", ""] {
            assert_eq!(made(text), None, "{text}");
        }
    }
}
