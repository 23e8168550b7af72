//! From what MariaDB's and MySQL's programs write to a code, a sentence and the next step; pure.

use crate::error::{Code, Kind, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database;
use crate::plugin::kit::tool::Ran;
use crate::process::Exit;

/// What an error number means.
struct Meaning {
    numbers: &'static [u32],
    code: Code,
    hint: &'static str,
    retry: bool,
}

const MEANINGS: &[Meaning] = &[
    Meaning {
        numbers: &[1045, 1130, 1251, 1524, 1698, 1820, 1862, 2059, 2061, 4151],
        code: codes::UNAUTHORIZED,
        hint: "check `user`, the secret that `password` names, and from which hosts the user may come",
        retry: false,
    },
    Meaning {
        numbers: &[1044, 1142, 1143, 1227, 1356, 1370, 1410, 1419, 1449],
        code: codes::PERMISSION_DENIED,
        hint: "see the grants in `larder plugin describe mariadb`; a view may also name what is gone: drop it or leave \
               it out with `exclude_tables`",
        retry: false,
    },
    Meaning {
        numbers: &[1049],
        code: codes::DATABASE_MISSING,
        hint: "check the database's name: SHOW DATABASES lists them",
        retry: false,
    },
    Meaning {
        numbers: &[1040, 1053, 1203, 1226, 1927],
        code: codes::SERVER_BUSY,
        hint: "the server takes no connection at the moment; it is tried again",
        retry: true,
    },
    Meaning {
        numbers: &[1133],
        code: codes::USER_UNREADABLE,
        hint: "with skip-name-resolve a user of a named host is none: DROP it, or say `users: false`",
        retry: false,
    },
    Meaning {
        numbers: &[1205, 1213],
        code: codes::TABLE_LOCKED,
        hint: "something holds a lock on a table; it is tried again",
        retry: true,
    },
    Meaning {
        numbers: &[1412],
        code: codes::TABLES_CHANGED,
        hint: "a table was altered while it was dumped; it is tried again",
        retry: true,
    },
    Meaning {
        numbers: &[126, 127, 144, 145, 1034, 1035, 1194, 1195, 1712, 1877],
        code: codes::TABLE_DAMAGED,
        hint: "CHECK TABLE and REPAIR TABLE it; older backups may be sound",
        retry: false,
    },
    Meaning {
        numbers: &[1021, 1114],
        code: codes::DISK_FULL,
        hint: "the server's disk is full: make room there",
        retry: true,
    },
    Meaning { numbers: &[2026], code: codes::TLS, hint: "check `ssl_mode` and `ssl_ca`", retry: false },
    Meaning {
        numbers: &[2002, 2003, 2004, 2005],
        code: codes::UNREACHABLE,
        hint: "check that the server runs and listens there (bind-address), `host` and `port` or `socket`",
        retry: false,
    },
    Meaning {
        numbers: &[2006, 2013, 2055],
        code: codes::CONNECTION_LOST,
        hint: "the server or the network ended the connection half-way; look at the server's log",
        retry: false,
    },
];

/// Numbers by which a client says that it has no answer.
const OF_CLIENT: std::ops::RangeInclusive<u32> = 2000..=2999;

/// What a server answered to a question about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Fine,
    /// This user may not, or the thing uses what is gone.
    Denied,
    /// Not at the moment.
    Later,
    /// It cannot.
    Wrong,
    /// None came: the way there failed, or it says nothing of the thing.
    Nothing,
}

/// Tells what the server itself answered; what a client, a shell or an engine says on the way is no answer.
pub(super) fn answer(ran: &Ran) -> Answer {
    if ran.exit == Exit::Success {
        return Answer::Fine;
    }
    let Some(number) = number(&ran.stderr).filter(|n| matches!(ran.exit, Exit::Code(_)) && !OF_CLIENT.contains(n))
    else {
        return Answer::Nothing;
    };
    let Some(meaning) = MEANINGS.iter().find(|meaning| meaning.numbers.contains(&number)) else { return Answer::Wrong };
    match meaning.code.kind() {
        Kind::Unauthorized | Kind::NotFound => Answer::Nothing,
        Kind::Denied => Answer::Denied,
        _ if meaning.retry => Answer::Later,
        _ => Answer::Wrong,
    }
}

/// Tells why `tool` failed on `database` at `place`.
pub(super) fn explain(tool: &str, place: &str, database: &str, ran: &Ran) -> Failure {
    let about = match database {
        "" => format!("{tool} at {place}"),
        _ => format!("{tool} of {database:?} at {place}"),
    };
    if let Some(failure) = database::ended(&ran.exit, &about, "mariadb-client") {
        return failure;
    }
    let told = telling_line(&ran.stderr);
    let text = ran.stderr.to_lowercase();
    if ["errno 28", "no space left", "errcode: 28", "disk quota exceeded"].iter().any(|words| text.contains(words)) {
        return Failure::new(codes::DISK_FULL, format!("{about}: {told}"))
            .hint("make room where the artifacts lie; nothing half-written is kept");
    }
    if text.contains("insufficient privileges to show create") {
        return Failure::new(codes::PERMISSION_DENIED, format!("{about}: {told}"))
            .hint("GRANT SELECT ON mysql.proc (MariaDB) or SHOW_ROUTINE ON *.* (MySQL) to the user: it sees routines but not what is in them");
    }
    let meaning = number(&ran.stderr).and_then(|n| MEANINGS.iter().find(|meaning| meaning.numbers.contains(&n)));
    match meaning {
        Some(meaning) => {
            let failure = Failure::new(meaning.code, format!("{about}: {told}")).hint(meaning.hint);
            if meaning.retry { failure.later() } else { failure }
        }
        None if told.is_empty() => {
            Failure::new(codes::DUMP_FAILED, format!("{about} failed ({:?}) and said nothing", ran.exit))
        }
        None => {
            Failure::new(codes::DUMP_FAILED, format!("{about}: {told}")).hint("the run's log has all that it wrote")
        }
    }
}

/// The number of the first error: `Got error: 1045: …`, `ERROR 1045 (28000): …`, `… privilege(s) (1227)`.
fn number(stderr: &str) -> Option<u32> {
    let digits = |text: &str| {
        let end = text.bytes().take_while(u8::is_ascii_digit).count();
        text.get(..end).and_then(|digits| digits.parse::<u32>().ok())
    };
    stderr.lines().find_map(|line| {
        let behind = |mark: &str| line.split(mark).skip(1).find_map(digits);
        behind("Got error: ").or_else(|| behind("ERROR ")).or_else(|| {
            let (_, last) = line.trim_end().rsplit_once('(')?;
            digits(last).filter(|_| last.ends_with(')'))
        })
    })
}

/// The first line with an error, else the last.
fn telling_line(stderr: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| ["error", "Error", "ERROR", "Couldn't", "insufficient"].iter().any(|word| line.contains(word)))
        .or_else(|| lines().next_back())
        .unwrap_or_default();
    crate::plugin::kit::tidy::tidy(line, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_itself_says_that_something_is_wrong() {
        let ran = |exit: Exit, stderr: &str| answer(&Ran { exit, stderr: stderr.to_owned() });
        for (stderr, wanted) in [
            ("ERROR 1033 (HY000) at line 1: Incorrect information in file: './app/t.frm'", Answer::Wrong),
            ("ERROR 1932 (42S02) at line 1: Table 'app.t' doesn't exist in engine", Answer::Wrong),
            ("ERROR 1034 (HY000) at line 1: Index is corrupt", Answer::Wrong),
            ("ERROR 1356 (HY000) at line 1: View 'app.v' references invalid table(s)", Answer::Denied),
            ("ERROR 1142 (42000) at line 1: SHOW command denied to user", Answer::Denied),
            ("ERROR 1040 (08004): Too many connections", Answer::Later),
            ("ERROR 1045 (28000): Access denied for user", Answer::Nothing),
            ("ERROR 2002 (HY000): Can't connect to server on 'db' (115)", Answer::Nothing),
            ("ERROR 2013 (HY000) at line 1: Lost connection to server during query", Answer::Nothing),
            ("ERROR 2026 (HY000): TLS/SSL error", Answer::Nothing),
            ("sh: exec: line 0: mysql: not found", Answer::Nothing),
            ("OCI runtime exec failed: exec failed: unable to start container process", Answer::Nothing),
            ("", Answer::Nothing),
        ] {
            assert_eq!(ran(Exit::Code(1), stderr), wanted, "{stderr}");
            assert_eq!(ran(Exit::Signal(9), stderr), Answer::Nothing, "killed: {stderr}");
            assert_eq!(ran(Exit::Success, stderr), Answer::Fine, "with a warning: {stderr}");
        }
    }

    #[test]
    fn each_message_gets_its_code() {
        for (message, wanted, retry) in [
            (
                "mariadb-dump: Got error: 1045: \"Access denied for user 'x'@'y' (using password: YES)\" when trying to connect",
                "unauthorized",
                false,
            ),
            ("ERROR 1045 (28000): Access denied for user", "unauthorized", false),
            (
                "mysqldump: Couldn't execute 'SELECT ...': Access denied; you need (at least one of) the PROCESS privilege(s) for this operation (1227)",
                "permission_denied",
                false,
            ),
            (
                "mariadb-dump: Got error: 1049: \"Unknown database 'nope'\" when selecting the database",
                "database_missing",
                false,
            ),
            ("ERROR 2002 (HY000): Can't connect to server on '127.0.0.1' (115)", "unreachable", false),
            ("ERROR 1040 (08004): Too many connections", "server_busy", true),
            (
                "mariadb-dump: Error 1412: x\nmariadb-dump: Got error: 1412: \"Table definition has changed\"",
                "tables_changed",
                true,
            ),
            ("mariadb-dump: Got errno 28 on write", "disk_full", true),
            ("ERROR at line 3: Unknown command '\\!'.", "dump_failed", false),
            ("", "dump_failed", false),
        ] {
            let ran = Ran { exit: Exit::Code(2), stderr: message.to_owned() };
            let failure = explain("mariadb-dump", "db:3306", "app", &ran);
            assert_eq!((failure.trouble.code.as_str(), failure.retry), (wanted, retry), "{message}");
        }
        let killed = Ran { exit: Exit::Signal(9), stderr: String::new() };
        assert_eq!(explain("mariadb-dump", "db:3306", "app", &killed).trouble.code, "dump_killed");
    }
}
