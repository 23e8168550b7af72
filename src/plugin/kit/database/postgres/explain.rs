//! From what PostgreSQL's programs write to a code, a sentence and the next step; pure.

use crate::error::{Code, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database;
use crate::plugin::kit::tool::Ran;

/// What a message means: any of the texts, the code, the next step, whether later can help.
struct Meaning {
    any: &'static [&'static str],
    code: Code,
    hint: &'static str,
    retry: bool,
}

/// The first that fits counts, so what is more exact stands above. Texts of PostgreSQL 9.6 to 18.
const MEANINGS: &[Meaning] = &[
    Meaning {
        any: &["no space left on device", "disk quota exceeded", "file too large"],
        code: codes::DISK_FULL,
        hint: "make room where the artifacts lie; nothing half-written is kept",
        retry: true,
    },
    Meaning {
        any: &[
            "the database system is starting up",
            "the database system is shutting down",
            "in recovery mode",
            "too many clients",
            "remaining connection slots",
            "too many connections",
        ],
        code: codes::SERVER_BUSY,
        hint: "the server takes no connection at the moment; it is tried again",
        retry: true,
    },
    Meaning {
        any: &["is not currently accepting connections"],
        code: codes::DATABASE_CLOSED,
        hint: "ALTER DATABASE … ALLOW_CONNECTIONS true opens it; a database that shall stay closed is no target",
        retry: false,
    },
    Meaning {
        any: &["prepared transaction using the database", "prepared transactions using the database"],
        code: codes::DATABASE_IN_USE,
        hint: "no session but a prepared transaction is in it: SELECT gid FROM pg_prepared_xacts, then COMMIT PREPARED or \
               ROLLBACK PREPARED; it was not touched",
        retry: false,
    },
    Meaning {
        any: &["must be member of role", "must be able to set role"],
        code: codes::NOT_MEMBER,
        hint: "say `--option owner=false`, or name a target whose role is a superuser or a member of that role",
        retry: false,
    },
    Meaning {
        any: &["invalid value for parameter \"default_tablespace\""],
        code: codes::TABLESPACE_MISSING,
        hint: "make that tablespace on this server first (CREATE TABLESPACE), or have the backup's ones made: \
               `--option globals=true`",
        retry: false,
    },
    Meaning {
        any: &["is being accessed by other users"],
        code: codes::DATABASE_IN_USE,
        hint: "stop the application that uses it; it was not touched",
        retry: false,
    },
    Meaning {
        any: &["lock timeout", "lock not available"],
        code: codes::TABLE_LOCKED,
        hint: "something holds an exclusive lock on a table; it is tried again",
        retry: true,
    },
    Meaning {
        any: &[
            "password authentication failed",
            "no password supplied",
            "peer authentication failed",
            "ident authentication failed",
            "authentication failed for user",
            "no pg_hba.conf entry",
            "is not permitted to log in",
        ],
        code: codes::UNAUTHORIZED,
        hint: "check `user`, the secret that `password` names, and pg_hba.conf on the server",
        retry: false,
    },
    Meaning {
        any: &[
            "server does not support ssl",
            "certificate verify failed",
            "root certificate file",
            "ssl error",
            "server certificate for",
        ],
        code: codes::TLS,
        hint: "check `sslmode` and `sslrootcert`",
        retry: false,
    },
    Meaning {
        any: &[
            "server closed the connection unexpectedly",
            "terminating connection",
            "connection has been closed unexpectedly",
            "could not receive data from server",
            "connection to server was lost",
            "lost synchronization",
            // Over TLS.
            "ssl syscall error",
            "eof detected",
        ],
        code: codes::CONNECTION_LOST,
        hint: "the server or the network ended the connection half-way; look at the server's log",
        retry: false,
    },
    Meaning {
        any: &[
            "connection refused",
            "timeout expired",
            "timed out",
            "no route to host",
            "network is unreachable",
            "could not translate host name",
            "is the server running",
            "host is down",
        ],
        code: codes::UNREACHABLE,
        hint: "check that PostgreSQL runs there and listens on that address (listen_addresses), `host` and `port`",
        retry: false,
    },
    Meaning {
        any: &["server version mismatch"],
        code: codes::SERVER_NEWER_THAN_CLIENT,
        hint: "install the postgresql-client package of the server's major version",
        retry: false,
    },
    Meaning {
        any: &["row-level security"],
        code: codes::ROW_SECURITY,
        hint: "ALTER ROLE … BYPASSRLS for the role that dumps",
        retry: false,
    },
    Meaning {
        any: &["permission denied for large object"],
        code: codes::PERMISSION_DENIED,
        hint: "pg_read_all_data does not reach large objects: ALTER ROLE … SET lo_compat_privileges = on for the role that \
               dumps (as a superuser), or GRANT SELECT ON LARGE OBJECT … to it",
        retry: false,
    },
    Meaning {
        any: &["permission denied for", "must be owner of", "permission denied to"],
        code: codes::PERMISSION_DENIED,
        hint: "GRANT pg_read_all_data TO the role that dumps (PostgreSQL 14 and newer)",
        retry: false,
    },
    Meaning {
        any: &["out of memory", "out of shared memory"],
        code: codes::SERVER_MEMORY,
        hint: "the server ran out of memory or locks: raise max_locks_per_transaction",
        retry: false,
    },
    Meaning {
        any: &["pqgetcopydata() failed"],
        code: codes::CONNECTION_LOST,
        hint: "the server or the network ended the connection half-way; look at the server's log",
        retry: false,
    },
];

/// Tells why `tool` failed on `database` at `place`.
pub(super) fn explain(tool: &str, place: &str, database: &str, ran: &Ran) -> Failure {
    let told = telling_line(&ran.stderr);
    let about = format!("{tool} of {database:?} at {place}");
    if let Some(failure) = database::ended(&ran.exit, &about, "postgresql-client") {
        return failure;
    }
    let text = ran.stderr.to_lowercase();
    if text.contains("fatal:  database \"") && text.contains("does not exist") || missing_database(&text) {
        return Failure::new(codes::DATABASE_MISSING, format!("{about}: {told}"))
            .hint("check the database's name: `psql -l` lists them");
    }
    if text.contains("role \"") && text.contains("does not exist") && text.contains("fatal:") {
        return Failure::new(codes::UNAUTHORIZED, format!("{about}: {told}")).hint("check `user`: CREATE ROLE … LOGIN");
    }
    match MEANINGS.iter().find(|meaning| meaning.any.iter().any(|words| text.contains(words))) {
        Some(meaning) => {
            let failure = Failure::new(meaning.code, format!("{about}: {told}")).hint(meaning.hint);
            if meaning.retry { failure.later() } else { failure }
        }
        None if told.is_empty() => Failure::new(codes::PG_FAILED, format!("{about} failed and said nothing")),
        None => Failure::new(codes::PG_FAILED, format!("{about}: {told}")).hint("the run's log has all that it wrote"),
    }
}

fn missing_database(text: &str) -> bool {
    text.lines().any(|line| line.contains("fatal:") && line.contains("database \"") && line.contains("does not exist"))
}

/// The line that says most: the first with FATAL or ERROR, else the first with `error:`, else the last.
fn telling_line(stderr: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .find(|line| line.contains("FATAL:") || line.contains("ERROR:"))
        .or_else(|| lines().find(|line| line.contains("error:")))
        .or_else(|| lines().next_back())
        .unwrap_or_default();
    let line = line.split_once("error: ").map_or(line, |(_, rest)| rest);
    crate::plugin::kit::tidy::tidy(line, 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Exit;

    fn code(stderr: &str) -> (String, bool) {
        let ran = Ran { exit: Exit::Code(1), stderr: stderr.to_owned() };
        let failure = explain("pg_dump", "db:5432", "app", &ran);
        (failure.trouble.code, failure.retry)
    }

    #[test]
    fn each_message_gets_its_code() {
        let at = "pg_dump: error: connection to server at \"db\" (10.0.0.2), port 5432 failed: ";
        for (message, wanted) in [
            (format!("{at}Connection refused\n\tIs the server running on that host"), "unreachable"),
            (format!("{at}FATAL:  password authentication failed for user \"b\""), "unauthorized"),
            (format!("{at}fe_sendauth: no password supplied"), "unauthorized"),
            (format!("{at}FATAL:  database \"x\" does not exist"), "database_missing"),
            (format!("{at}FATAL:  role \"b\" does not exist"), "unauthorized"),
            (format!("{at}FATAL:  the database system is starting up"), "server_busy"),
            (
                "pg_dump: error: query failed: ERROR:  permission denied for table t\npg_dump: detail: Query was: LOCK TABLE"
                    .to_owned(),
                "permission_denied",
            ),
            (
                "pg_dump: error: aborting because of server version mismatch\npg_dump: detail: server version: 17.1".to_owned(),
                "server_newer_than_client",
            ),
            ("pg_dump: error: could not write to output file: No space left on device".to_owned(), "disk_full"),
            (
                "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetResult() failed.\npg_dump: detail: \
                 Error message from server: server closed the connection unexpectedly"
                    .to_owned(),
                "connection_lost",
            ),
            ("pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout".to_owned(), "table_locked"),
            ("pg_restore: error: could not execute query: ERROR:  must be member of role \"keeper\"".to_owned(), "not_member"),
            (
                "ERROR:  invalid value for parameter \"default_tablespace\": \"small\"\nDETAIL:  Tablespace \"small\" does not exist."
                    .to_owned(),
                "tablespace_missing",
            ),
            (
                "ERROR:  database \"a\" is being accessed by other users\nDETAIL:  There is 1 prepared transaction using the database."
                    .to_owned(),
                "database_in_use",
            ),
            ("something else".to_owned(), "pg_failed"),
        ] {
            assert_eq!(code(&message).0, wanted, "{message}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        assert!(code("could not write to file: No space left on device").1);
        assert!(code("FATAL:  sorry, too many clients already").1);
        assert!(!code("FATAL:  password authentication failed for user \"b\"").1);
    }

    #[test]
    fn the_message_names_the_place_and_what_was_said() {
        let ran = Ran {
            exit: Exit::Code(1),
            stderr:
                "pg_dump: error: query failed: ERROR:  permission denied for table t\npg_dump: detail: Query was: x"
                    .to_owned(),
        };
        let failure = explain("pg_dump", "db:5432", "app", &ran);
        assert_eq!(
            failure.trouble.message,
            "pg_dump of \"app\" at db:5432: query failed: ERROR:  permission denied for table t"
        );
        let killed = Ran { exit: Exit::Signal(9), stderr: String::new() };
        assert_eq!(explain("pg_dump", "db:5432", "app", &killed).trouble.code, "dump_killed");
    }
}
