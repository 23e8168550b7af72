//! What a dump says of the database itself (how it is made, its owner, settings and rights), and of roles; pure.
//!
//! These statements name the database, so they are run when the loaded one has its name.

use serde::{Deserialize, Serialize};

/// Longest start of a line that is kept, in bytes; statements of this kind are shorter.
const LINE_BYTES_MAX: usize = 16 << 10;
/// More statements than this about one database are none of a dump.
const STATEMENTS_MAX: usize = 10_000;

/// What is said of a database itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Own {
    /// From `WITH` on.
    pub(super) made: String,
    /// Whole statements.
    pub(super) statements: Vec<String>,
    /// As the database sets it.
    pub(super) search_path: Option<String>,
}

/// Picks them out of what `pg_restore --create` writes.
#[derive(Default)]
pub(super) struct Collector {
    own: Own,
    line: Vec<u8>,
    in_rows: bool,
    of_database: bool,
    /// The beginning of a statement that goes on in the next line.
    open: String,
}

impl Collector {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (piece, others) = rest.split_at(end);
            self.keep(piece);
            let line = std::mem::take(&mut self.line);
            self.line_is(&String::from_utf8_lossy(&line));
            rest = others.get(1..).unwrap_or_default();
        }
        self.keep(rest);
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend(piece.iter().take(room));
    }

    fn line_is(&mut self, line: &str) {
        if self.in_rows {
            self.in_rows = line != "\\.";
        } else if line.starts_with("COPY ") && line.ends_with(" FROM stdin;") {
            self.in_rows = true;
        } else if let Some((name, kind)) = line.strip_prefix("-- Name: ").and_then(|rest| rest.split_once("; Type: ")) {
            let own = kind.starts_with("DATABASE;") || kind.starts_with("DATABASE PROPERTIES;");
            let said_of = ["ACL;", "COMMENT;", "SECURITY LABEL;"].iter().any(|each| kind.starts_with(each));
            self.of_database = own || (said_of && name.starts_with("DATABASE "));
            self.open.clear();
        } else if self.of_database && self.own.statements.len() < STATEMENTS_MAX {
            self.statement(line);
        }
    }

    fn statement(&mut self, line: &str) {
        if self.open.is_empty() && (line.is_empty() || line.starts_with("--") || line.starts_with('\\')) {
            return;
        }
        if !self.open.is_empty() {
            self.open.push('\n');
        }
        self.open.push_str(line);
        if !line.ends_with(';') || self.open.matches('\'').count() % 2 == 1 {
            return;
        }
        let statement = std::mem::take(&mut self.open);
        if statement.starts_with("CREATE DATABASE ") {
            let made = statement.rfind(" WITH TEMPLATE = ").and_then(|at| statement.get(at + 1..));
            made.unwrap_or_default().trim_end_matches(';').clone_into(&mut self.own.made);
        } else if ["ALTER ", "COMMENT ", "GRANT ", "REVOKE ", "SECURITY "]
            .iter()
            .any(|verb| statement.starts_with(verb))
        {
            let path =
                statement.rsplit_once(" SET search_path TO ").filter(|_| statement.starts_with("ALTER DATABASE "));
            if let Some((_, path)) = path {
                // As names in single or double quotes, as SET takes them.
                let path = path
                    .trim_end_matches(';')
                    .split(',')
                    .map(|part| part.trim().trim_matches('\''))
                    .collect::<Vec<_>>();
                self.own.search_path = Some(path.join(", "));
            }
            self.own.statements.push(statement);
        }
    }

    pub(super) fn finish(mut self) -> Own {
        if self.own.made.is_empty() {
            "WITH TEMPLATE = template0".clone_into(&mut self.own.made);
        }
        self.own
    }
}

/// The part of a file of roles that changes none that is there: `there` are their names, quoted as SQL needs it.
pub(super) fn for_missing(sql: &str, there: &[String]) -> String {
    let is_of_one = |line: &str| {
        let rest = line.strip_prefix("CREATE ROLE ").or_else(|| line.strip_prefix("ALTER ROLE "));
        rest.is_some_and(|rest| {
            there.iter().any(|name| {
                rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with(';'))
            })
        })
    };
    sql.lines().filter(|line| !is_of_one(line)).fold(String::with_capacity(sql.len()), |all, line| all + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "--\n-- Name: shop; Type: DATABASE; Schema: -; Owner: app\n--\n\n\
        CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';\n\n\
        ALTER DATABASE shop OWNER TO app;\n\n\\connect shop\n\nSET x = 0;\n\
        --\n-- Name: DATABASE shop; Type: COMMENT; Schema: -; Owner: app\n--\n\n\
        COMMENT ON DATABASE shop IS 'two\nlines; it''s';\n\
        --\n-- Name: shop; Type: DATABASE PROPERTIES; Schema: -; Owner: app\n--\n\n\
        ALTER DATABASE shop SET search_path TO 'app', 'public';\n\n\\connect shop\n\
        --\n-- Name: t; Type: TABLE; Schema: app; Owner: app\n--\n\nCREATE TABLE app.t (a text);\n\
        --\n-- Data for Name: t; Type: TABLE DATA; Schema: app; Owner: app\n--\n\n\
        COPY app.t (a) FROM stdin;\n-- Name: x; Type: DATABASE; Schema: -; Owner: x\nALTER DATABASE shop OWNER TO evil;\n\\.\n\
        --\n-- Name: DATABASE shop; Type: ACL; Schema: -; Owner: app\n--\n\nREVOKE ALL ON DATABASE shop FROM PUBLIC;\n";

    #[test]
    fn what_is_said_of_the_database_is_picked_and_no_row_is() {
        for step in [1, 7, 4096] {
            let mut collector = Collector::default();
            SQL.as_bytes().chunks(step).for_each(|piece| collector.push(piece));
            let own = collector.finish();
            assert_eq!(own.made, "WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C'");
            assert_eq!(own.search_path.as_deref(), Some("app, public"));
            let wanted = [
                "ALTER DATABASE shop OWNER TO app;",
                "COMMENT ON DATABASE shop IS 'two\nlines; it''s';",
                "ALTER DATABASE shop SET search_path TO 'app', 'public';",
                "REVOKE ALL ON DATABASE shop FROM PUBLIC;",
            ];
            assert_eq!(own.statements, wanted);
        }
        assert_eq!(Collector::default().finish().made, "WITH TEMPLATE = template0");
    }

    #[test]
    fn a_role_that_is_there_is_not_changed() {
        let sql = "CREATE ROLE app;\nALTER ROLE app WITH PASSWORD 'old';\nALTER ROLE application WITH LOGIN;\n\
                   CREATE ROLE \"a b\";\nGRANT app TO \"a b\" GRANTED BY postgres;\n";
        let left = for_missing(sql, &["app".to_owned(), "\"a b\"".to_owned()]);
        assert_eq!(left, "ALTER ROLE application WITH LOGIN;\nGRANT app TO \"a b\" GRANTED BY postgres;\n");
    }
}
