//! The roles and tablespaces of a backup, what of them a server lacks, and what came of making it.
//!
//! A role that is there stays as it is: its password, attributes, settings and what it is a member of. Only what is
//! missing is made, by statements of exactly the kinds that `pg_dumpall` writes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::statement::{Backslash, Cursor, Piece, sql, statements};
use crate::error::{Kind, Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::remark::listed;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::Verdict;

/// What could not be done is told so often.
const COMPLAINTS_MAX: usize = 10;
/// The end of a whole file.
const END: &str = "-- PostgreSQL database cluster dump complete";
/// What is read of a file's end, in bytes.
const TAIL_BYTES: u64 = 1024;
/// Has psql set a savepoint before each statement of a transaction, so that one that is refused does not end it.
pub(in crate::plugin) const KEEP_ON: &str = "ON_ERROR_ROLLBACK=on";

/// What a file of roles says.
pub(in crate::plugin) struct Globals {
    statements: Vec<Vec<Piece>>,
}

/// What a server has.
#[derive(Debug, Default)]
pub(in crate::plugin) struct There {
    pub(in crate::plugin) roles: BTreeSet<String>,
    pub(in crate::plugin) tablespaces: BTreeSet<String>,
}

/// What is to be done for what is missing.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::plugin) struct Missing {
    pub(in crate::plugin) sql: String,
    /// Memberships of roles that are there in such as are made: these stay as they are.
    pub(in crate::plugin) left: Vec<String>,
}

/// What a statement is about.
enum About<'p> {
    Role(&'p str),
    Tablespace(&'p str),
    Membership { group: &'p str, member: &'p str },
}

impl Globals {
    /// Names are compared with those of a server, and run as statements, so they must be what they were.
    pub(in crate::plugin) fn read(file: &Path) -> Result<Self, Failure> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(file)
            .map_err(|error| Failure::new(codes::ARTIFACT_UNREADABLE, format!("{name} cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).ok().filter(|text| text.is_ascii() || is_utf8(text)).ok_or_else(|| {
            let hint = "nothing was changed; take another snapshot: names are kept in UTF-8 since; one that its server \
                        itself has in no encoding must be renamed first. Or go without the roles, and run the file by hand: \
                        `psql -X -f globals.sql`";
            Failure::new(codes::GLOBALS_NOT_UTF8, format!("{name} is not in UTF-8, so names of roles in it are unknown"))
                .hint(hint)
        })?;
        Self::of(&text).ok_or_else(|| {
            Failure::new(codes::DUMP_DAMAGED, format!("{name} cannot be used: it ends in the middle of a statement"))
                .hint("nothing was changed; take another snapshot")
        })
    }

    /// Whether a file is whole: it has its end, and is made of whole statements.
    ///
    /// None that `pg_dumpall` writes is called cut: it writes a text with a backslash as `E'…'`, whatever the server's
    /// settings say, and with no character by its number.
    pub(in crate::plugin) fn verdict(file: &Path) -> (Verdict, String) {
        match ends_well(file) {
            Ok(true) => match Self::read(file) {
                Ok(_) => (Verdict::Proven, "its last line is there".to_owned()),
                Err(failure) if failure.trouble.is_of(Kind::Unsupported) => {
                    (Verdict::CouldNotVerify, failure.trouble.message)
                }
                Err(failure) => (Verdict::Failed, failure.trouble.message),
            },
            Ok(false) => (Verdict::Failed, format!("it does not end with {END:?}")),
            Err(error) => (Verdict::Failed, format!("it cannot be read: {error}")),
        }
    }

    fn of(text: &str) -> Option<Self> {
        Some(Self { statements: statements(text, Backslash::Plain)? })
    }

    /// The names of the roles in it.
    pub(in crate::plugin) fn roles(&self) -> Vec<&str> {
        self.statements.iter().filter_map(|statement| role_made(statement)).collect()
    }

    pub(in crate::plugin) fn missing(&self, there: &There) -> Missing {
        // Texts are written so that no setting of the server matters; a role may read only by default.
        let mut missing = Missing {
            sql: "SET client_encoding = 'UTF8';\nSET default_transaction_read_only = off;\nSET search_path = '';\n"
                .to_owned(),
            left: Vec::new(),
        };
        // A tablespace can be made in no transaction, and needs its owner.
        let (mut of_roles, mut of_tablespaces) = (String::new(), String::new());
        for statement in &self.statements {
            let about = about(statement);
            let sql_of = if matches!(about, Some(About::Tablespace(_))) { &mut of_tablespaces } else { &mut of_roles };
            let is_missing = match about {
                Some(About::Role(role)) => !there.roles.contains(role),
                Some(About::Tablespace(name)) => !there.tablespaces.contains(name),
                Some(About::Membership { group, member }) => {
                    let is_there = there.roles.contains(member);
                    if is_there && !there.roles.contains(group) {
                        missing.left.push(sql(statement));
                    }
                    !is_there
                }
                None => false,
            };
            if is_missing {
                let _ = writeln!(sql_of, "{};", sql(statement));
            }
        }
        if !of_roles.is_empty() {
            let _ = write!(missing.sql, "BEGIN;\n{of_roles}COMMIT;\n");
        }
        missing.sql.push_str(&of_tablespaces);
        missing
    }

    /// Says what came of it: `there` is what the server has now, `stderr` what psql said.
    pub(in crate::plugin) fn tell(
        &self,
        name: String,
        missing: &Missing,
        there: &There,
        stderr: &str,
        events: &mut EventWriter<'_>,
    ) {
        let complaints = stderr.lines().filter(|line| line.contains("ERROR:") || line.contains("error:"));
        let complaints: Vec<&str> = complaints.filter(|line| !line.contains("already exists")).collect();
        for complaint in complaints.iter().take(COMPLAINTS_MAX) {
            events.warning(Trouble::new(codes::ROLE_REFUSED, crate::plugin::kit::tidy::tidy(complaint, 300)));
        }
        tell_left(missing, events);
        let wanted = self.roles();
        let lacking: Vec<&str> = wanted.iter().copied().filter(|role| !there.roles.contains(*role)).collect();
        let (verdict, detail) = if !lacking.is_empty() {
            (Verdict::Failed, format!("{} are missing: {}", lacking.len(), listed(&lacking)))
        } else if !complaints.is_empty() {
            let refused = complaints.len();
            (Verdict::CouldNotVerify, format!("{} roles; {refused} statements about them were refused", wanted.len()))
        } else {
            (Verdict::Proven, format!("{} roles", wanted.len()))
        };
        events.validation(name, verdict, detail);
    }
}

pub(super) fn ends_well(file: &Path) -> std::io::Result<bool> {
    let mut file = std::fs::File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).contains(END))
}

/// Whether a text of other letters than ASCII's says that they are UTF-8; a server without an encoding has what it got.
fn is_utf8(text: &str) -> bool {
    let said = text.lines().find_map(|line| line.strip_prefix("SET client_encoding = "));
    said.is_none_or(|said| ["'UTF8';", "'SQL_ASCII';"].contains(&said.trim_end()))
}

/// Says which memberships are not given.
fn tell_left(missing: &Missing, events: &mut EventWriter<'_>) {
    for statement in &missing.left {
        let told =
            format!("a role that is there stays as it is, and so is not given what the backup says: {statement}");
        let trouble = Trouble::new(codes::MEMBERSHIP_LEFT, told);
        events.notice(trouble.with_hint("run that statement if the role shall have what it says"));
    }
}

fn role_made(statement: &[Piece]) -> Option<&str> {
    let mut cursor = Cursor(statement);
    cursor.words("create role").then(|| cursor.name()).flatten()
}

/// Reads a statement of one of the kinds that are run; none: it is none of these.
fn about(statement: &[Piece]) -> Option<About<'_>> {
    let mut cursor = Cursor(statement);
    if cursor.words("create role") {
        let role = cursor.name()?;
        return cursor.end().map(|()| About::Role(role));
    }
    if cursor.words("alter role") {
        let role = cursor.name()?;
        if cursor.words("set") {
            return cursor.setting().map(|_| About::Role(role));
        }
        cursor.words("with").then_some(())?;
        cursor.plain_until(&[])?;
        return Some(About::Role(role));
    }
    if cursor.words("comment on") {
        return said_of(cursor);
    }
    if cursor.words("security label for") {
        cursor.name()?;
        return cursor.words("on").then(|| said_of(cursor)).flatten();
    }
    if cursor.words("create tablespace") {
        let name = cursor.name()?;
        cursor.words("owner").then(|| cursor.name()).flatten()?;
        cursor.words("location").then(|| cursor.text()).flatten()?;
        return cursor.end().map(|()| About::Tablespace(name));
    }
    if cursor.words("alter tablespace") {
        let name = cursor.name()?;
        let rest = cursor.words("set").then_some(cursor.0)?;
        let is_plain = rest.iter().all(|piece| !matches!(piece, Piece::Mark(mark) if !"(),=.-".contains(*mark)));
        return is_plain.then_some(About::Tablespace(name));
    }
    granted(cursor)
}

/// `ROLE name IS 'text'`, or of a tablespace.
fn said_of(mut cursor: Cursor<'_>) -> Option<About<'_>> {
    let about = if cursor.words("role") {
        About::Role(cursor.name()?)
    } else {
        cursor.words("tablespace").then_some(())?;
        About::Tablespace(cursor.name()?)
    };
    cursor.words("is").then(|| cursor.text()).flatten()?;
    cursor.end().map(|()| about)
}

fn granted(mut cursor: Cursor<'_>) -> Option<About<'_>> {
    let is_grant = cursor.words("grant");
    (is_grant || cursor.words("revoke")).then_some(())?;
    let mut membership = cursor;
    if let Some(group) = membership.name().filter(|_| is_grant)
        && membership.words("to")
    {
        let member = membership.name()?;
        if !membership.0.is_empty() {
            membership.plain_until(&[])?;
        }
        return Some(About::Membership { group, member });
    }
    cursor.plain_until(&["on"])?;
    if cursor.words("on tablespace") {
        let name = cursor.name()?;
        cursor.words(if is_grant { "to" } else { "from" }).then_some(())?;
        cursor.plain_until(&[])?;
        return Some(About::Tablespace(name));
    }
    (is_grant && cursor.words("on parameter")).then_some(())?;
    cursor.name()?;
    while cursor.mark('.') {
        cursor.name()?;
    }
    let role = cursor.words("to").then(|| cursor.name()).flatten()?;
    (cursor.0.is_empty() || cursor.words("with grant option")).then_some(())?;
    cursor.end().map(|()| About::Role(role))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "--\n-- Roles\n--\n\\restrict x\nSET client_encoding = 'UTF8';\nCREATE ROLE app;\n\
        ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a' VALID UNTIL '2031-01-01 00:00:00+00';\n\
        ALTER ROLE app SET my.note TO '\nGRANT postgres TO reader;\nALTER ROLE reader WITH SUPERUSER;\n';\n\
        COMMENT ON ROLE app IS 'x\nCREATE ROLE evil;\n';\n\
        CREATE ROLE \"a b\";\nALTER ROLE \"a b\" WITH LOGIN CONNECTION LIMIT -1;\nCREATE ROLE reader;\n\
        ALTER ROLE reader WITH NOLOGIN;\nALTER ROLE reader SET search_path TO 'x', 'y;';\n\
        GRANT app TO \"a b\" WITH ADMIN OPTION GRANTED BY postgres;\nGRANT app TO reader;\nGRANT reader TO app;\n\
        GRANT ALL ON PARAMETER work_mem TO reader;\n\
        CREATE TABLESPACE fast OWNER app LOCATION '/fast';\nALTER TABLESPACE fast SET (seq_page_cost=1.0);\n\
        GRANT ALL ON TABLESPACE fast TO app;\nDROP ROLE app;\nALTER SYSTEM SET x TO 'y';\n";

    fn missing(roles: &[&str], tablespaces: &[&str]) -> Missing {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Globals::of(SQL).unwrap().missing(&There { roles: set(roles), tablespaces: set(tablespaces) })
    }

    #[test]
    fn roles_and_tablespaces_that_are_there_stay_as_they_are() {
        let missing = missing(&["app", "a b"], &["fast"]);
        let lines: Vec<&str> = missing.sql.lines().skip(3).collect();
        let wanted = [
            "BEGIN;",
            "create role reader;",
            "alter role reader with nologin;",
            "alter role reader set search_path to E'x' , E'y;';",
            "grant app to reader;",
            "grant all on parameter work_mem to reader;",
            "COMMIT;",
        ];
        assert_eq!(lines, wanted);
        // Who is there becomes no member of what is made.
        assert_eq!(missing.left, ["grant reader to app"]);
    }

    #[test]
    fn what_is_missing_is_made_and_no_text_becomes_a_statement() {
        let missing = missing(&["postgres"], &[]);
        let all = statements(&missing.sql, Backslash::Plain).unwrap();
        assert_eq!(all.len(), 3 + 2 + 16, "{}", missing.sql);
        assert!(!all.iter().any(|each| sql(each).contains("ROLE evil") && !sql(each).starts_with("comment")));
        // All roles in one transaction, and no tablespace in it.
        let behind = missing.sql.split("COMMIT;").nth(1).unwrap();
        assert!(behind.contains("create tablespace fast") && !behind.contains("role "), "{behind}");
        assert!(!missing.sql.contains("drop role") && !missing.sql.contains("alter system"), "{}", missing.sql);
        assert_eq!(missing.left, Vec::<String>::new());
        assert_eq!(Globals::of(SQL).unwrap().roles(), ["app", "a b", "reader"]);
        assert!(Globals::of("CREATE ROLE x; COMMENT ON ROLE x IS 'cut").is_none());
    }

    #[test]
    fn what_is_not_in_utf8_is_refused_and_no_name_becomes_another() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            Globals::read(file.path()).map(|globals| globals.roles().concat()).map_err(|failure| failure.trouble.code)
        };
        let refused = Err("globals_not_utf8".to_owned());
        assert_eq!(read("SET client_encoding = 'UTF8';\nCREATE ROLE \"josé\";\n".as_bytes()), Ok("josé".to_owned()));
        assert_eq!(read(b"SET client_encoding = 'LATIN1';\nCREATE ROLE jose;\n"), Ok("jose".to_owned()));
        assert_eq!(read(b"SET client_encoding = 'LATIN1';\nCREATE ROLE \"jos\xe9\";\n"), refused);
        assert_eq!(read(b"SET client_encoding = 'LATIN1';\nCREATE ROLE \"jos\xc3\xa9\";\n"), refused);
        assert_eq!(read(b"SET client_encoding = 'UTF8';\nCREATE ROLE \"jos\xe9\";\n"), refused);
        assert_eq!(read(b"CREATE ROLE \"cut"), Err("dump_damaged".to_owned()));
    }

    #[test]
    fn a_file_that_is_damaged_is_not_sound_and_of_one_in_another_encoding_nothing_is_known() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let verdict = |text: &[u8], end: &str| {
            std::fs::write(file.path(), [text, b"\n--\n", end.as_bytes(), b"\n--\n\n"].concat()).unwrap();
            Globals::verdict(file.path()).0
        };
        assert_eq!(verdict(SQL.as_bytes(), END), Verdict::Proven);
        assert_eq!(verdict(SQL.as_bytes(), ""), Verdict::Failed);
        assert_eq!(verdict(b"CREATE ROLE \"cut", END), Verdict::Failed);
        assert_eq!(verdict(b"CREATE ROLE x\nALTER ROLE", END), Verdict::Failed);
        assert_eq!(verdict(b"CREATE ROLE \"jos\xe9\";", END), Verdict::CouldNotVerify);
        // As a server writes it whose `standard_conforming_strings` is off.
        let off = br"SET standard_conforming_strings = off;
            ALTER ROLE app SET a TO E'\\x41\\''\\1';";
        assert_eq!(verdict(off, END), Verdict::Proven);
        assert_eq!(Globals::verdict(Path::new("/nonexistent")).0, Verdict::Failed);
    }
}
