//! What the catalog of a database lists and its dump does not have, and what of it loads only under conditions.
//!
//! Catalogs are open to every role, so they say what there is also where its content is closed.

use std::collections::{BTreeMap, BTreeSet};

use super::bare::Names;
use super::scan::Scan;
use super::server::Server;
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::remark::Remark;

/// What is listed of one kind; where there is more, nothing is said of the rest.
const LISTED_MAX: usize = 5_000;

/// Kinds of objects by what a dump calls them, and how many a database has of them; members of extensions come with these.
const COUNTS: &str = "
    WITH own AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
         loose AS (SELECT classid, objid FROM pg_depend WHERE deptype IN ('e', 'i') AND refclassid IN ('pg_extension'::regclass, 'pg_type'::regclass)),
         class AS (SELECT c.oid, relkind FROM pg_class c JOIN own ON own.oid = relnamespace
                   WHERE NOT EXISTS (SELECT FROM loose WHERE classid = 'pg_class'::regclass AND objid = c.oid))
    SELECT 'TABLE|' || count(*) FROM class WHERE relkind IN ('r', 'p')
    UNION ALL SELECT 'VIEW|' || count(*) FROM class WHERE relkind = 'v'
    UNION ALL SELECT 'MATERIALIZED VIEW|' || count(*) FROM class WHERE relkind = 'm'
    UNION ALL SELECT 'ROUTINE|' || count(*) FROM pg_proc p JOIN own ON own.oid = pronamespace
              WHERE NOT EXISTS (SELECT FROM loose WHERE classid = 'pg_proc'::regclass AND objid = p.oid)";

/// What pg_dump leaves out by design, as `kind|name`.
const LEFT_OUT: &str = "
    SELECT 'foreign|' || c.oid::regclass FROM pg_class c WHERE relkind = 'f'
    UNION ALL
    SELECT 'extension|' || c.oid::regclass FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND relkind = 'r'
    AND NOT c.oid = ANY (coalesce(extconfig, '{}')) AND pg_relation_size(c.oid) > 0
    UNION ALL
    SELECT 'mapping|' || srvname || ' for ' || usename FROM pg_user_mappings
    WHERE umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";

/// The version that brought subscriptions.
const SUBSCRIPTIONS_SINCE: u32 = 10;
const SUBSCRIPTIONS: &str =
    "SELECT 'subscription|' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid
    WHERE datname = current_database() AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";

/// What is computed while a dump is loaded (generated columns, checks, also of domains, partition keys, indexes,
/// materialized views) and the functions of the application that it calls itself: two names a row. In front of the first
/// stands `r` where it is computed while rows are loaded, `l` where that is later, when all rows are there.
const COMPUTED: &str = "
    SELECT time || format('%I.%I', nspname, relname), proname
    FROM (
      SELECT 'r' AS time, adrelid AS rel, refobjid AS called FROM pg_attrdef d
      JOIN pg_attribute a ON attrelid = adrelid AND attnum = adnum AND attgenerated <> ''
      JOIN pg_depend ON refclassid = 'pg_proc'::regclass
        AND ((classid = 'pg_attrdef'::regclass AND objid = d.oid) OR (classid = 'pg_class'::regclass AND objid = adrelid AND objsubid = adnum))
      UNION ALL
      SELECT 'r', conrelid, refobjid FROM pg_constraint o
      JOIN pg_depend ON classid = 'pg_constraint'::regclass AND objid = o.oid AND refclassid = 'pg_proc'::regclass
      WHERE contype = 'c' AND conrelid <> 0
      UNION ALL
      SELECT 'r', partrelid, refobjid FROM pg_partitioned_table
      JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = partrelid AND refclassid = 'pg_proc'::regclass
      UNION ALL
      SELECT 'l', indrelid, refobjid FROM pg_index
      JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = indexrelid AND refclassid = 'pg_proc'::regclass
      UNION ALL
      SELECT 'l', c.oid, refobjid FROM pg_class c JOIN pg_rewrite r ON ev_class = c.oid
      JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = r.oid AND refclassid = 'pg_proc'::regclass
      WHERE relkind = 'm' AND relispopulated
    ) e JOIN pg_class k ON k.oid = rel JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_proc p ON p.oid = called
    WHERE called >= 16384
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = rel AND deptype = 'e')
    UNION
    SELECT 'r' || format('%I.%I', nspname, typname), proname FROM pg_constraint o
    JOIN pg_depend ON classid = 'pg_constraint'::regclass AND objid = o.oid AND refclassid = 'pg_proc'::regclass
    JOIN pg_type t ON t.oid = contypid JOIN pg_namespace n ON n.oid = typnamespace JOIN pg_proc p ON p.oid = refobjid
    WHERE refobjid >= 16384
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = t.oid AND deptype = 'e')";

/// The text of functions; in front of their names stands `o` where they have a search_path of their own, else `n`.
const BODIES: &str = "
    SELECT CASE WHEN EXISTS (SELECT FROM unnest(proconfig) each WHERE each LIKE 'search_path=%') THEN 'o' ELSE 'n' END || proname,
           prosrc FROM pg_proc p JOIN pg_language l ON l.oid = prolang
    WHERE p.oid >= 16384 AND lanname IN ('sql', 'plpgsql') AND length(prosrc) < 100000";

/// What only a search_path finds by its bare name, by its kind.
const NAMED: &str = "
    SELECT 'routine', proname::text FROM pg_proc p WHERE p.oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_proc o WHERE o.proname = p.proname AND o.pronamespace = 'pg_catalog'::regnamespace)
    UNION
    SELECT 'relation', relname FROM pg_class c WHERE c.oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f')
    AND relnamespace <> 'pg_catalog'::regnamespace
    UNION
    SELECT 'type', typname FROM pg_type t WHERE t.oid >= 16384 AND typtype IN ('d', 'e', 'r', 'c')
    AND typnamespace <> 'pg_catalog'::regnamespace";

/// How many objects there are of each kind.
pub(super) fn counts(server: &Server<'_>, database: &str) -> Result<BTreeMap<String, u64>, Failure> {
    let read = |row: &String| {
        let (kind, count) = row.split_once('|')?;
        Some((kind.to_owned(), count.parse().ok()?))
    };
    Ok(server.query(database, &format!("SELECT * FROM ({COUNTS}) q"))?.iter().filter_map(read).collect())
}

/// Says which kinds the dump has fewer of than the database had before and after it.
pub(super) fn missing(
    database: &str,
    scan: &Scan,
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for (kind, listed) in before {
        let listed = *listed.min(after.get(kind).unwrap_or(&0));
        let found = match kind.as_str() {
            "ROUTINE" => ["FUNCTION", "PROCEDURE", "AGGREGATE"].iter().map(|kind| scan.count(kind)).sum(),
            kind => scan.count(kind),
        };
        if found < listed {
            remarks.push(Remark {
                code: codes::OBJECTS_MISSING,
                sentence: "the dump has fewer objects than the catalog lists",
                name: format!("{found} of {listed} {kind} of {database}"),
                hint: "look into the run's log for what pg_dump wrote".to_owned(),
                is_missing: true,
            });
        }
    }
    remarks
}

/// What pg_dump leaves out of `database`, and what loads only with the application's search_path.
pub(super) fn look(server: &Server<'_>, database: &str) -> Result<Vec<Remark>, Failure> {
    let mut rows = server.query(database, &format!("SELECT * FROM ({LEFT_OUT}) q"))?;
    if server.major >= SUBSCRIPTIONS_SINCE {
        // Not every server shows it to everybody.
        rows.extend(server.query(database, SUBSCRIPTIONS).unwrap_or_default());
    }
    let mut remarks: Vec<Remark> = rows.iter().filter_map(|row| left_out(server, database, row)).collect();
    let computed = computed(server, database)?;
    for name in computed.by_rows {
        remarks.push(Remark {
            code: codes::READS_TABLES,
            sentence: "what is computed or checked for each row while it is loaded, by functions that use tables: when \
                       the rows of those come later, no restore loads it, whatever the search_path",
            name: format!("{name} of {database}"),
            hint: "try it once: `larder restore TARGET --into TARGET --option into=NAME`; a trigger in place of the check \
                   mends that for good"
                .to_owned(),
            is_missing: false,
        });
    }
    for name in computed.by_path {
        remarks.push(Remark {
            code: codes::NEEDS_SEARCH_PATH,
            sentence: "what loads only with the application's search_path, which a restore by larder sets",
            name: format!("{name} of {database}"),
            hint: "`pg_restore` by hand refuses it: ALTER FUNCTION … SET search_path mends that for good".to_owned(),
            is_missing: false,
        });
    }
    Ok(remarks)
}

/// What is computed by functions of the application: tables, views and domains.
#[derive(Debug, Default)]
struct Computed {
    /// By functions that name others without their schema.
    by_path: BTreeSet<String>,
    /// Row by row, by functions that read tables.
    by_rows: BTreeSet<String>,
}

fn computed(server: &Server<'_>, database: &str) -> Result<Computed, Failure> {
    let mut computed = Computed::default();
    if server.major < 12 {
        return Ok(computed);
    }
    let called = pairs(server, database, COMPUTED)?;
    if called.is_empty() {
        return Ok(computed);
    }
    let mut names = Names::default();
    for (name, body) in pairs(server, database, BODIES)? {
        if let Some(name) = name.strip_prefix('o') {
            names.safe.entry(name.to_owned()).or_default().push(body);
        } else if let Some(name) = name.strip_prefix('n') {
            names.bodies.entry(name.to_owned()).or_default().push(body);
        }
    }
    for (kind, name) in pairs(server, database, NAMED)? {
        match kind.as_str() {
            "routine" => names.routines.insert(name),
            "relation" => names.relations.insert(name),
            _ => names.types.insert(name),
        };
    }
    for (name, function) in called {
        let (is_row_by_row, name) = match name.strip_prefix('r') {
            Some(name) => (true, name),
            None => (false, name.strip_prefix('l').unwrap_or(&name)),
        };
        if names.need_path(&function) {
            computed.by_path.insert(name.to_owned());
        }
        if is_row_by_row && names.read_tables(&function) {
            computed.by_rows.insert(name.to_owned());
        }
    }
    Ok(computed)
}

/// Two texts a row; they cross the pipe as hex, since a name may have any character.
fn pairs(server: &Server<'_>, database: &str, sql: &str) -> Result<Vec<(String, String)>, Failure> {
    let hex = |column: &str| format!("encode(convert_to({column}::text, 'UTF8'), 'hex')");
    let sql = format!("SELECT {} || '|' || {} FROM ({sql} LIMIT {LISTED_MAX}) q (a, b)", hex("a"), hex("b"));
    let text = |hex: &str| super::names([hex]).ok().map(|names| names.concat());
    let read = |row: &String| row.split_once('|').and_then(|(a, b)| Some((text(a)?, text(b)?)));
    Ok(server.query(database, &sql)?.iter().filter_map(read).collect())
}

fn left_out(server: &Server<'_>, database: &str, row: &str) -> Option<Remark> {
    let (kind, name) = row.split_once('|')?;
    let user = &server.settings.user;
    let accepted = |what: &str| server.settings.accept.iter().any(|each| each.as_str() == what);
    let (code, sentence, hint, is_missing) = match kind {
        "foreign" => (
            codes::FOREIGN_TABLES,
            "the rows of foreign tables are on their own servers and not in this backup",
            "protect these servers with targets of their own".to_owned(),
            false,
        ),
        "extension" => (
            codes::EXTENSION_TABLES,
            "rows in tables that an extension made, and did not mark as configuration, are not in this backup",
            "CREATE EXTENSION makes these tables anew; SELECT pg_extension_config_dump(…) has them dumped".to_owned(),
            false,
        ),
        "mapping" => (
            codes::USER_MAPPINGS,
            "options (passwords) of user mappings that the role may not see may be missing in the dump",
            format!("dump as a superuser, or accept it: `accept: [user_mappings]` ({user} is none)"),
            !accepted("user_mappings"),
        ),
        "subscription" => (
            codes::SUBSCRIPTIONS,
            "subscriptions are dumped for superusers only and are not in this backup",
            format!("ALTER ROLE {user} SUPERUSER, or accept it: `accept: [subscriptions]`"),
            !accepted("subscriptions"),
        ),
        _ => return None,
    };
    Some(Remark { code, sentence, name: format!("{name} of {database}"), hint, is_missing })
}
