//! What a dump lacks: what the user may not see, what the catalog lists and the dump does not have, and what the tool
//! leaves out or rounds.

use super::Accepted;
use super::grants::Grants;
use super::scan::Counts;
use super::server::{Listed, Server, identifier, literal, unhex};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::remark::Remark;
use crate::plugin::kit::tool::DEADLINE_OF_QUESTION;
use crate::types::ByteSize;

/// Engines whose rows lie elsewhere; mariadb-dump keeps the table alone.
const ELSEWHERE: [&str; 7] = ["federated", "mrg_myisam", "merge", "mrg_isam", "connect", "spider", "s3"];
const UNSEEN: &str = "what the user has no right to see is not in this backup, or may not be";

/// The user and what it may do.
pub(super) struct Visibility {
    /// As SQL has it: `'u'@'%'`.
    user: String,
    grants: Grants,
}

impl Visibility {
    pub(super) fn of(server: &Server<'_>) -> Result<Self, Failure> {
        let told = server.query("", "SELECT CURRENT_USER()")?.concat();
        let (user, host) = told.rsplit_once('@').unwrap_or((told.as_str(), "%"));
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let mut sql = "SHOW GRANTS".to_owned();
        if !server.version.is_mariadb {
            // MySQL shows those of roles only when they are named.
            let roles = server.query("", "SELECT CURRENT_ROLE()").map(|rows| rows.concat()).unwrap_or_default();
            if !["", "NONE", "NULL"].contains(&roles.as_str()) {
                sql = format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}");
            }
        }
        // The client doubles backslashes, of which there is one before each `_` that is a letter.
        let lines: Vec<String> = server.query("", &sql)?.iter().map(|line| line.replace("\\\\", "\\")).collect();
        let grants = Grants::read(&lines);
        Ok(Self { user: format!("{}@{}", quoted(user), quoted(host)), grants })
    }

    /// What of `database` may be hidden, with the grant that shows it.
    pub(super) fn hidden(&self, server: &Server<'_>, database: &str) -> Vec<(&'static str, String)> {
        let (grants, user, name) = (&self.grants, &self.user, identifier(database));
        let mut hidden = Vec::new();
        let mut need = |what, privilege: &str| {
            if !grants.on_database(privilege, database) {
                hidden.push((what, format!("GRANT {privilege} ON {name}.* TO {user}")));
            }
        };
        need("tables", "SELECT");
        need("views", "SHOW VIEW");
        need("triggers", "TRIGGER");
        need("events", "EVENT");
        let reads_routines = grants.on_table("SELECT", "mysql", "proc")
            || grants.everywhere("SHOW_ROUTINE")
            || grants.on_database("SHOW CREATE ROUTINE", database)
            || (!server.version.is_mariadb && grants.everywhere("SELECT"))
            // With these all are listed, and one whose body is hidden makes the dump fail.
            || ["EXECUTE", "CREATE ROUTINE", "ALTER ROUTINE"].iter().any(|each| grants.on_database(each, database));
        if !reads_routines {
            let grant = if server.version.is_mariadb {
                format!("GRANT SELECT ON mysql.proc TO {user}")
            } else {
                format!("GRANT SHOW_ROUTINE ON *.* TO {user}")
            };
            hidden.push(("routines", grant));
        }
        hidden
    }

    pub(super) fn has_everywhere(&self, privilege: &str) -> bool {
        self.grants.everywhere(privilege)
    }

    /// Whether the user may make a database of this name, and fill it.
    pub(super) fn may_make(&self, database: &str) -> bool {
        ["CREATE", "DROP", "INSERT"].iter().all(|privilege| self.grants.on_database(privilege, database))
    }

    /// Whether whole databases may be hidden.
    pub(super) fn hides_databases(&self) -> Option<String> {
        let sees_all = self.grants.everywhere("SELECT") || self.grants.everywhere("SHOW DATABASES");
        (!sees_all).then(|| format!("GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, SHOW DATABASES ON *.* TO {}", self.user))
    }
}

/// How many of each kind there were at the last capture.
pub(super) type Before<'b> = &'b dyn Fn(&str) -> Option<u64>;

/// Says what is hidden in `database`.
pub(super) fn unseen(
    server: &Server<'_>,
    visibility: &Visibility,
    database: &str,
    now: &Counts,
    before: Before<'_>,
) -> Vec<Remark> {
    let told = |(what, grant): (&'static str, String)| {
        let had = before(what).filter(|had| *had > now.of(what));
        let had = had.map(|had| format!(" ({} now, {had} in the last backup)", now.of(what))).unwrap_or_default();
        Remark {
            code: codes::UNSEEN,
            sentence: UNSEEN,
            name: format!("{what} of {database}{had}"),
            hint: grant,
            is_missing: !server.settings.accepts(Accepted::Unseen),
        }
    };
    visibility.hidden(server, database).into_iter().map(told).collect()
}

/// Says which kinds the catalog lists more of than the dump has.
pub(super) fn missing(
    server: &Server<'_>,
    database: &str,
    listed: &[Listed],
    now: &Counts,
) -> Result<Vec<Remark>, Failure> {
    let excluded = server.settings.excluded(database);
    let ask = |sql: &str| server.query(database, &format!("{sql} = {}", literal(database)));
    let kept = |rows: Vec<String>| {
        rows.iter().filter_map(|row| unhex(row)).filter(|name| !excluded.contains(&name.as_str())).count() as u64
    };
    let named = |is: fn(&Listed) -> bool| {
        listed.iter().filter(|each| is(each) && !excluded.contains(&each.name.as_str())).count() as u64
    };
    let of_table = "SELECT HEX(event_object_table) FROM information_schema.triggers WHERE trigger_schema";
    let wanted = [
        ("views", named(Listed::is_view)),
        ("sequences", named(Listed::is_sequence)),
        ("triggers", kept(ask(of_table)?)),
        ("routines", ask("SELECT 1 FROM information_schema.routines WHERE routine_schema")?.len() as u64),
        ("events", ask("SELECT 1 FROM information_schema.events WHERE event_schema")?.len() as u64),
    ];
    let fewer = wanted.into_iter().filter(|(what, wanted)| now.of(what) < *wanted);
    let told = fewer.map(|(what, wanted)| Remark {
        code: codes::OBJECTS_MISSING,
        sentence: "the dump has fewer objects than the catalog lists",
        name: format!("{} of {wanted} {what} of {database}", now.of(what)),
        hint: "look into the run's log for what the dump program wrote".to_owned(),
        is_missing: true,
    });
    Ok(told.collect())
}

/// Says what the tool leaves out of the kept tables by design, or writes with fewer digits than there are.
pub(super) fn by_design(server: &Server<'_>, database: &str, kept: &[&Listed]) -> Result<Vec<Remark>, Failure> {
    let mut remarks = Vec::new();
    for table in kept.iter().filter(|table| ELSEWHERE.contains(&table.engine().as_str())) {
        remarks.push(Remark {
            code: codes::ROWS_ELSEWHERE,
            sentence: "tables whose rows lie elsewhere are in this backup without these",
            name: format!("{}.{} ({})", database, table.name, table.engine()),
            hint: "protect what they lead to with a target of its own".to_owned(),
            is_missing: false,
        });
    }
    for (table, columns) in floats(server, database, kept)? {
        let name = format!("{}.{}", identifier(database), identifier(&table));
        let lossy: Vec<String> = columns
            .iter()
            .map(|column| identifier(column))
            .map(|column| format!("NOT ({column} <=> CAST(CONCAT({column}) AS FLOAT))"))
            .collect();
        let sql = format!("SELECT 1 FROM {name} WHERE {} LIMIT 1", lossy.join(" OR "));
        // A server that does not know this cast is not known to be exact.
        if server.query(database, &sql).is_ok_and(|rows| rows.is_empty()) {
            continue;
        }
        remarks.push(Remark {
            code: codes::FLOATS_ROUNDED,
            sentence: "FLOAT columns hold values that no dump program writes with all their digits (6 are kept)",
            name: format!("{database}.{table} ({})", columns.join(", ")),
            hint: "ALTER TABLE … MODIFY … DOUBLE keeps them all".to_owned(),
            is_missing: false,
        });
    }
    Ok(remarks)
}

/// Says which views use what is left out: they can be made only where that is.
pub(super) fn of_excluded(server: &Server<'_>, database: &str) -> Result<Vec<Remark>, Failure> {
    let excluded = server.settings.excluded(database);
    if excluded.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT HEX(table_name), HEX(view_definition) FROM information_schema.views WHERE table_schema = {}",
        literal(database)
    );
    let both = |row: &String| row.split_once('\t').and_then(|(name, text)| Some((unhex(name)?, unhex(text)?)));
    let views: Vec<(String, String)> = server.query(database, &sql)?.iter().filter_map(both).collect();
    let used = |text: &str| {
        let named = |table: &&str| text.contains(&format!("{}.{}", identifier(database), identifier(table)));
        excluded.iter().copied().find(named)
    };
    let kept = views.iter().filter(|(name, _)| !excluded.contains(&name.as_str()));
    let told = kept.filter_map(|(name, text)| Some((name, used(text)?)));
    let remark = |(name, table): (&String, &str)| Remark {
        code: codes::VIEW_OF_EXCLUDED,
        sentence: "views use tables that `exclude_tables` leaves out, so a server that lacks these cannot load this backup",
        name: format!("{database}.{name} ({table})"),
        hint: "name the view in `exclude_tables` too, or keep the table".to_owned(),
        is_missing: true,
    };
    Ok(told.map(remark).collect())
}

/// Says that the server takes no statement as long as the longest row, which is written with two digits a byte.
pub(super) fn too_long(server: &Server<'_>, database: &str, row_bytes: u64) -> Result<Option<Remark>, Failure> {
    let limit = packet_max(server)?;
    Ok((row_bytes + AROUND_ROW_BYTES >= limit).then(|| Remark {
        code: codes::ROW_TOO_LONG,
        sentence: "rows are so long that a server with this max_allowed_packet cannot load them again",
        name: format!("{database} ({}, the limit is {})", ByteSize(row_bytes), ByteSize(limit)),
        hint: "SET GLOBAL max_allowed_packet to more than two times the longest value (up to 1 GiB), here and where it is \
               put back"
            .to_owned(),
        is_missing: true,
    }))
}

/// What stands around a row in its statement, at most.
pub(super) const AROUND_ROW_BYTES: u64 = 1 << 10;

/// The longest statement that the server takes.
pub(super) fn packet_max(server: &Server<'_>) -> Result<u64, Failure> {
    let told = server.query("", "SELECT @@global.max_allowed_packet")?.concat();
    Ok(told.parse().unwrap_or(u64::MAX))
}

/// The FLOAT columns of the kept tables.
fn floats(server: &Server<'_>, database: &str, kept: &[&Listed]) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let sql = format!(
        "SELECT HEX(table_name), HEX(column_name) FROM information_schema.columns \
         WHERE data_type = 'float' AND table_schema = {} ORDER BY table_name, ordinal_position",
        literal(database)
    );
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for row in server.query(database, &sql)? {
        let both = row.split_once('\t').and_then(|(table, column)| Some((unhex(table)?, unhex(column)?)));
        let Some((table, column)) = both.filter(|(table, _)| kept.iter().any(|each| each.name == *table)) else {
            continue;
        };
        match all.last_mut().filter(|(last, _)| *last == table) {
            Some((_, columns)) => columns.push(column),
            None => all.push((table, vec![column])),
        }
    }
    Ok(all)
}

/// Whether the history of system-versioned tables is dumped, and what is to be said of it.
pub(super) fn history(server: &Server<'_>, database: &str, kept: &[&Listed]) -> Result<(bool, Vec<Remark>), Failure> {
    let versioned: Vec<&str> = kept.iter().filter(|each| each.is_versioned()).map(|each| each.name.as_str()).collect();
    if versioned.is_empty() {
        return Ok((false, Vec::new()));
    }
    // By transactions instead of times: the tool refuses to write their history.
    let sql = format!(
        "SELECT HEX(table_name) FROM information_schema.columns WHERE table_schema = {} AND column_type LIKE 'bigint%' \
         AND extra LIKE '%STORED GENERATED%' AND generation_expression = 'ROW START'",
        literal(database)
    );
    let by_transaction: Vec<String> = server.query(database, &sql)?.iter().filter_map(|row| unhex(row)).collect();
    let is_possible = knows_history(server) && by_transaction.is_empty();
    if is_possible {
        return Ok((true, Vec::new()));
    }
    let remark = |table: &str| Remark {
        code: codes::HISTORY,
        sentence: "the history of system-versioned tables is not in this backup",
        name: format!("{database}.{table}"),
        hint: "mariadb-dump 10.11 and newer writes it (of tables that are versioned by time); or accept it: \
               `accept: [history]`"
            .to_owned(),
        is_missing: !server.settings.accepts(Accepted::History),
    };
    Ok((false, versioned.into_iter().map(remark).collect()))
}

/// Whether the dump program writes the history of system-versioned tables.
fn knows_history(server: &Server<'_>) -> bool {
    let mut knows = false;
    let hear = |line: &str| knows |= line.contains("--dump-history");
    server.tools.run(&server.client.dump, vec!["--help".into()], &[], DEADLINE_OF_QUESTION, hear, || {});
    knows && server.is_of_one_kind()
}
