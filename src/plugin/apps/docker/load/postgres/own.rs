//! What a dump says of the database itself: how it is made, its owner, settings and rights; pure.
//!
//! These statements name the database, so they are run when the loaded one has its name. They are read as SQL is, and
//! only those of the kinds that a dump has for it are run (`kit::database::postgres::property`): the text of a function
//! may hold others.

use serde::{Deserialize, Serialize};

use crate::plugin::kit::database::postgres::Content;

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

impl Own {
    /// What a dump says of it, for a database named `live`.
    pub(super) fn of(content: &Content, live: &str) -> Self {
        Self {
            made: content.made().unwrap_or_else(|| "WITH TEMPLATE = template0".to_owned()),
            statements: content.properties().iter().map(|property| property.about(live)).collect(),
            search_path: content.search_path(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::kit::database::postgres::Scanner;

    const SQL: &str = "--\n-- Name: shop; Type: DATABASE; Schema: -; Owner: app\n--\n\n\
        CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';\n\n\
        ALTER DATABASE shop OWNER TO app;\n\n\\connect shop\n\nSET x = 0;\n\
        COMMENT ON DATABASE shop IS 'two\nlines; it''s';\n\
        ALTER DATABASE shop SET search_path TO 'we,ird', 'public';\n\n\\connect shop\n\
        --\n-- Name: t; Type: TABLE; Schema: app; Owner: app\n--\n\nCREATE TABLE app.t (a text);\n\
        CREATE FUNCTION app.f() RETURNS text LANGUAGE sql AS $f$ select '\n\
        -- Name: shop; Type: DATABASE; Schema: -; Owner: app\n\nALTER ROLE app SUPERUSER;\n' $f$;\n\
        COPY app.t (a) FROM stdin;\n-- Name: x; Type: DATABASE; Schema: -; Owner: x\nALTER DATABASE shop OWNER TO evil;\n\\.\n\
        REVOKE ALL ON DATABASE shop FROM PUBLIC;\n";

    #[test]
    fn what_is_said_of_the_database_is_picked_and_no_row_or_text_is() {
        for step in [1, 7, 4096] {
            let mut scanner = Scanner::default();
            SQL.as_bytes().chunks(step).for_each(|piece| scanner.push(piece));
            let own = Own::of(&scanner.finish(), "shop");
            assert_eq!(own.made, "with template = template0 encoding = E'UTF8' locale = E'C'");
            assert_eq!(own.search_path.as_deref(), Some("\"we,ird\", \"public\""));
            let wanted = [
                "alter database \"shop\" owner to app",
                "comment on database \"shop\" is E'two\nlines; it''s'",
                "alter database \"shop\" set search_path to E'we,ird' , E'public'",
                "revoke all on database \"shop\" from public",
            ];
            assert_eq!(own.statements, wanted);
        }
        assert_eq!(Own::of(&Scanner::default().finish(), "x").made, "WITH TEMPLATE = template0");
    }
}
