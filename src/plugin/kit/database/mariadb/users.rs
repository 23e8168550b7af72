//! Users, roles and grants: kept as SQL, and made again where they are missing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::BufRead as _;
use std::path::Path;

use super::dump;
use super::explain::explain;
use super::reading::Reading;
use super::restore::feed::{Feed, Part, stream};
use super::restore::names::Tokens;
use super::restore::swap::{Place, Swap};
use super::server::Server;
use crate::error::{Kind, Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::memory_file::MemoryFile;
use crate::plugin::kit::tool::DEADLINE_OF_WORK;
use crate::plugin::protocol::Verdict;
use crate::process::Exit;

pub(super) mod there;

use there::{there, unmake};

/// What could not be done is told so often.
pub(super) const COMPLAINTS_MAX: usize = 10;
/// The number of their note, which no database has.
const NUMBER: usize = 1_000_000_000;
/// Users in a remark.
const NAMES_MAX: usize = 5;

/// Writes users, roles and grants; on a restore, those that are there stay as they are.
pub(super) fn capture(server: &Server<'_>, file: &Path) -> Result<(), Failure> {
    let mut args = server.dump_args();
    args.extend(["--system=users", "--insert-ignore"].map(OsString::from));
    args.push(format!("--result-file={}", file.display()).into());
    let ran = server.tools.run(&server.client.dump, args, &[], DEADLINE_OF_WORK, |_| {}, || {});
    if ran.exit != Exit::Success {
        let _ = std::fs::remove_file(file);
        let failure = explain("mariadb-dump", &server.settings.place(), "mysql", &ran);
        let told = &failure.trouble.message;
        return Err(if told.contains("unknown option") || told.contains("unknown variable") {
            failure.hint("this mariadb-dump cannot write users (10.2.37 and newer can): say `users: false`")
        } else if failure.trouble.is_of(Kind::Denied) {
            failure.hint("GRANT SELECT ON mysql.* to the user, or say `users: false`")
        } else {
            failure
        });
    }
    let (scan, _) = dump::read_whole(file, |_| {})?;
    if scan.complete {
        return Ok(());
    }
    let _ = std::fs::remove_file(file);
    Err(Failure::new(codes::DUMP_CUT, "the file with the users has no end (`-- Dump completed`)"))
}

/// Makes the users that are missing, and says nothing to those that are there. What the restoring user may not grant is
/// told, and the rest goes on.
///
/// Noted first: a user that is half made looks like one that is there.
pub(super) fn restore(swap: &Swap<'_>, run: &str, file: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let server = swap.server;
    let missing = of_missing(file, &there(server)?).map_err(|error| {
        Failure::new(codes::ARTIFACT_UNREADABLE, format!("{} cannot be read: {error}", file.display()))
    })?;
    let script = MemoryFile::new(&missing.script)
        .map_err(|error| Failure::new(codes::INTERNAL, format!("a script cannot be made: {error}")))?;
    let mut place = Place::new(server, run, NUMBER, "mysql", false, &[])?;
    (place.is_of_users, place.users) = (true, missing.makes.iter().cloned().collect());
    swap.note(&place)?;
    let made = make(swap, &place, script.path(), events);
    if let Err(failure) = made.and_then(|complaints| judge(server, &missing.users, complaints, events)) {
        // Whoever else came meanwhile was made by others.
        unmake(server, &place.users).and_then(|()| swap.done(&place)).map_err(|second| failure.and(second))?;
        return Err(failure);
    }
    swap.done(&place)
}

/// What a file does for those that are missing.
struct Missing {
    script: Vec<u8>,
    /// The users and roles that it makes; the role that is there while it is read is one.
    makes: BTreeSet<(String, String)>,
    /// All users of the file, also those that are there.
    users: BTreeSet<(String, String)>,
}

/// The statements of a file without those about users and roles that are there: a GRANT would give their old passwords
/// back, and rights that were taken from them.
fn of_missing(file: &Path, there: &BTreeSet<(String, String)>) -> std::io::Result<Missing> {
    let (mut makes, mut users) = (BTreeSet::new(), BTreeSet::new());
    let mut from = std::io::BufReader::new(std::fs::File::open(file)?);
    let (mut reading, mut statement, mut out) = (Reading::default(), Vec::new(), Vec::new());
    loop {
        let start = statement.len();
        let is_end = from.read_until(b'\n', &mut statement)? == 0;
        reading.push(statement.get(start..).unwrap_or_default());
        if is_end || reading.is_between() {
            let made = made_by(&statement);
            // A role has no host.
            users.extend(made.clone().filter(|(_, host)| !host.is_empty()));
            if subject(&statement).is_none_or(|who| !there.contains(&who)) {
                makes.extend(made.filter(|who| !there.contains(who)));
                out.append(&mut statement);
            }
            statement.clear();
        }
        if is_end {
            return Ok(Missing { script: out, makes, users });
        }
    }
}

/// The user or role that a statement makes.
fn made_by(statement: &[u8]) -> Option<(String, String)> {
    let mut tokens = Tokens::new(statement);
    let mut next = || tokens.next().and_then(|at| statement.get(at));
    let is = |token: &[u8], word: &str| token.eq_ignore_ascii_case(word.as_bytes());
    if !is(next()?, "CREATE") {
        return None;
    }
    let kind = next()?;
    if !is(kind, "USER") && !is(kind, "ROLE") {
        return None;
    }
    let mut name = next()?;
    if is(name, "IF") {
        next()?;
        next()?;
        name = next()?;
    }
    let host = match next() {
        Some(b"@") => unquoted(next()?),
        _ => String::new(),
    };
    Some((unquoted(name), host))
}

/// The user or role that a statement is about; a role has no host.
fn subject(statement: &[u8]) -> Option<(String, String)> {
    let mut tokens = Tokens::new(statement);
    let mut is_next = false;
    loop {
        let token = statement.get(tokens.next()?)?;
        if is_next && matches!(token.first(), Some(b'`' | b'\'')) {
            let is_host = tokens.next().and_then(|at| statement.get(at)) == Some(b"@");
            let host = if is_host { unquoted(statement.get(tokens.next()?)?) } else { String::new() };
            return Some((unquoted(token), host));
        }
        is_next = ["TO", "FOR", "USER", "EXISTS"].iter().any(|word| token.eq_ignore_ascii_case(word.as_bytes()));
    }
}

fn unquoted(token: &[u8]) -> String {
    let text = String::from_utf8_lossy(token);
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '`' | '\'' | '"')) else {
        return text.into_owned();
    };
    let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    inner.replace(&format!("{quote}{quote}"), &quote.to_string())
}

/// Answers how many statements were refused.
fn make(swap: &Swap<'_>, place: &Place, file: &Path, events: &mut EventWriter<'_>) -> Result<usize, Failure> {
    let server = swap.server;
    let mut args = server.shell_args();
    args.extend([format!("--init-command={}", swap.first(place)).into(), "--force".into()]);
    let feed = Feed { file, part: Part::All, names: None, is_beside: false, args };
    let ran = stream(server, feed, |_| {})?;
    let complaints: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("ERROR ")).collect();
    let is_read = matches!(ran.exit, Exit::Success) || complaints.iter().any(|line| line.contains(" at line "));
    if !is_read || !matches!(ran.exit, Exit::Success | Exit::Code(_)) {
        return Err(explain("the restore of the users", &server.settings.place(), "", &ran));
    }
    for complaint in complaints.iter().take(COMPLAINTS_MAX) {
        events.warning(Trouble::new(codes::GRANT_REFUSED, crate::plugin::kit::tidy::tidy(complaint, 300)));
    }
    Ok(complaints.len())
}

/// Looks whether all users of the backup are there, and whether all was said of those that were made.
fn judge(
    server: &Server<'_>,
    wanted: &BTreeSet<(String, String)>,
    complaints: usize,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let there = there(server)?;
    let missing: Vec<String> = wanted.difference(&there).map(|(user, host)| format!("`{user}`@`{host}`")).collect();
    let (verdict, detail) = if !missing.is_empty() {
        let shown = missing.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
        (Verdict::Failed, format!("{} are missing: {shown}", missing.len()))
    } else if complaints > 0 {
        let detail = format!("{} users; {complaints} statements about them were refused", wanted.len());
        (Verdict::CouldNotVerify, detail)
    } else {
        (Verdict::Proven, format!("{} users", wanted.len()))
    };
    events.validation("the users of the backup are there", verdict, detail);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_is_about_one_user_or_role_or_about_none() {
        for (statement, who) in [
            ("CREATE USER IF NOT EXISTS `r``t`@`%` IDENTIFIED BY PASSWORD '*9B TO `x`@`y`';", Some(("r`t", "%"))),
            ("/*M!100005 CREATE ROLE IF NOT EXISTS 'rl' WITH ADMIN mariadb_dump_import_role */;", Some(("rl", ""))),
            ("CREATE ROLE IF NOT EXISTS mariadb_dump_import_role;", None),
            ("GRANT mariadb_dump_import_role TO CURRENT_USER();", None),
            ("GRANT SELECT ON `a TO b`.* TO `rot`@`%` IDENTIFIED BY PASSWORD '*9B';", Some(("rot", "%"))),
            ("GRANT PROXY ON ``@`%` TO `root`@`localhost` WITH GRANT OPTION;", Some(("root", "localhost"))),
            ("/*M!100005 SET DEFAULT ROLE 'rl' FOR 'rot'@'%' */;", Some(("rot", "%"))),
            ("/*!80001 ALTER USER 'rot'@'%' DEFAULT ROLE 'rl' */;", Some(("rot", "%"))),
            ("GRANT USAGE ON *.* TO `rl`;", Some(("rl", ""))),
            ("/*!40101 SET NAMES utf8mb4 */;", None),
        ] {
            let found = subject(statement.as_bytes());
            assert_eq!(found, who.map(|(user, host)| (user.to_owned(), host.to_owned())), "{statement}");
        }
    }

    #[test]
    fn users_of_a_file_are_all_that_it_makes_and_roles_are_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "-- CREATE USER `x`@`y`\nCREATE ROLE IF NOT EXISTS mariadb_dump_import_role;\n\
                    CREATE USER IF NOT EXISTS `josé``t`@`%` IDENTIFIED BY PASSWORD '*9B';\n\
                    CREATE USER IF NOT EXISTS `kept`@`localhost` IDENTIFIED VIA x USING 'a\nCREATE USER `no`@`%`';\n\
                    GRANT USAGE ON *.* TO `kept`@`localhost`;\nGRANT USAGE ON *.* TO `josé``t`@`%`;\n";
        std::fs::write(file.path(), text).unwrap();
        let both = |user: &str, host: &str| (user.to_owned(), host.to_owned());
        let found = of_missing(file.path(), &BTreeSet::from([both("kept", "localhost")])).unwrap();
        assert_eq!(found.users, BTreeSet::from([both("josé`t", "%"), both("kept", "localhost")]));
        assert_eq!(found.makes, BTreeSet::from([both("josé`t", "%"), both("mariadb_dump_import_role", "")]));
        let script = String::from_utf8(found.script).unwrap();
        assert!(!script.contains("kept") && script.contains("GRANT USAGE ON *.* TO `josé``t`"), "{script}");
    }

    #[test]
    fn what_makes_a_user_or_a_role_says_whom() {
        for (statement, who) in [
            ("CREATE USER IF NOT EXISTS `r``t`@`%` IDENTIFIED BY PASSWORD '*9B TO `x`@`y`';", Some(("r`t", "%"))),
            ("CREATE USER `rot`@`localhost`;", Some(("rot", "localhost"))),
            ("/*M!100005 CREATE ROLE IF NOT EXISTS 'rl' WITH ADMIN mariadb_dump_import_role */;", Some(("rl", ""))),
            ("CREATE ROLE IF NOT EXISTS mariadb_dump_import_role;", Some(("mariadb_dump_import_role", ""))),
            ("GRANT mariadb_dump_import_role TO CURRENT_USER();", None),
            ("GRANT USAGE ON *.* TO `rl`;", None),
            ("DROP ROLE mariadb_dump_import_role;", None),
            ("-- CREATE USER `x`@`y`\n", None),
            ("", None),
        ] {
            let found = made_by(statement.as_bytes());
            assert_eq!(found, who.map(|(user, host)| (user.to_owned(), host.to_owned())), "{statement}");
        }
    }
}
