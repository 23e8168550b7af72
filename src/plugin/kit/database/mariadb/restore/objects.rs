//! What a database has beside its rows: tables, and the code that no renaming takes along.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::server::{Server, identifier, literal, unhex};

/// What is in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Objects {
    /// And sequences: what can be renamed.
    pub(super) tables: Vec<String>,
    pub(super) triggers: Vec<String>,
    pub(super) views: Vec<String>,
    /// With the word that DROP wants before each.
    pub(super) routines: Vec<(String, String)>,
    pub(super) events: Vec<String>,
    /// Events that end by themselves: a server drops them then, and does not make them later.
    #[serde(default)]
    pub(super) passing: Vec<String>,
    /// What users may do with single routines, as the ends of GRANTs, with each routine's kind and name.
    #[serde(default)]
    pub(super) rights: Vec<(String, String, String)>,
}

impl Objects {
    /// What is in a database, but for the tables and views that are named in `besides`, and their triggers.
    pub(super) fn of(server: &Server<'_>, database: &str, besides: &[String]) -> Result<Self, Failure> {
        let listed = server.tables(database)?;
        let listed = |views: bool| {
            let named = listed.iter().filter(|each| each.is_view() == views && !besides.contains(&each.name));
            sorted(named.map(|each| each.name.clone()).collect())
        };
        let ask = |sql: &str| server.query(database, &format!("{sql} = {}", literal(database)));
        let trigger = |row: &String| {
            let (name, table) = row.split_once('\t')?;
            let (name, table) = (unhex(name)?, unhex(table)?);
            (!besides.contains(&table)).then_some(name)
        };
        let triggers = ask(
            "SELECT HEX(trigger_name), HEX(event_object_table) FROM information_schema.triggers WHERE trigger_schema",
        )?;
        let events = |passing: bool| -> Result<Vec<String>, Failure> {
            let sql = format!(
                "SELECT HEX(event_name) FROM information_schema.events WHERE (on_completion = 'NOT PRESERVE' AND \
                 (execute_at IS NOT NULL OR ends IS NOT NULL)) = {} AND event_schema",
                u8::from(passing)
            );
            Ok(sorted(ask(&sql)?.iter().filter_map(|row| unhex(row)).collect()))
        };
        let routine = |row: &String| {
            let (kind, name) = row.split_once('\t')?;
            Some((kind.to_owned(), unhex(name)?))
        };
        let routines =
            ask("SELECT routine_type, HEX(routine_name) FROM information_schema.routines WHERE routine_schema")?;
        // Only who reads the server's own tables sees them; who does not could not give them either.
        let rights = ask(
            "SELECT routine_type, HEX(routine_name), HEX(CONVERT(routine_name USING latin1)), HEX(CONCAT(IF(host = '', QUOTE(user), CONCAT(QUOTE(user), '@', QUOTE(host))), \
             IF(FIND_IN_SET('Grant', proc_priv), ' WITH GRANT OPTION', ''))), HEX(proc_priv) FROM mysql.procs_priv WHERE db",
        );
        let right = |row: &String| {
            let mut columns = row.split('\t');
            let (kind, name) = (columns.next()?.to_owned(), unhex(columns.next()?)?);
            // A server takes the bytes of a name for letters of latin1 when it writes this table, and only then.
            let name = unhex(columns.next()?).filter(|read| !read.is_ascii()).unwrap_or(name);
            let (user, privileges) = (unhex(columns.next()?)?, unhex(columns.next()?)?);
            let privileges: Vec<String> =
                privileges.split(',').filter(|each| *each != "Grant").map(str::to_uppercase).collect();
            let privileges = if privileges.is_empty() { "USAGE".to_owned() } else { privileges.join(", ") };
            Some((
                kind.clone(),
                name.clone(),
                format!("GRANT {privileges} ON {kind} {}.{} TO {user};", identifier(database), identifier(&name)),
            ))
        };
        Ok(Self {
            tables: listed(false),
            views: listed(true),
            triggers: sorted(triggers.iter().filter_map(trigger).collect()),
            events: events(false)?,
            passing: events(true)?,
            routines: sorted(routines.iter().filter_map(routine).collect()),
            rights: sorted(rights.unwrap_or_default().iter().filter_map(right).collect()),
        })
    }

    pub(super) fn has_code(&self) -> bool {
        let events = self.events.len() + self.passing.len();
        !(self.triggers.is_empty() && self.views.is_empty() && self.routines.is_empty() && events == 0)
    }

    /// What no renaming takes along, but for what goes by itself.
    pub(super) fn code(&self) -> Self {
        Self { tables: Vec::new(), rights: Vec::new(), passing: Vec::new(), ..self.clone() }
    }

    /// How many there are of each kind, for people and to compare.
    pub(super) fn counts(&self) -> [(&'static str, usize); 5] {
        [
            ("tables", self.tables.len()),
            ("triggers", self.triggers.len()),
            ("views", self.views.len()),
            ("routines", self.routines.len()),
            ("events", self.events.len()),
        ]
    }

    /// The statements that drop all code.
    pub(super) fn drops(&self, database: &str) -> String {
        let database = identifier(database);
        let mut sql = String::new();
        let mut put = |kind: &str, name: &str| {
            let _ = writeln!(sql, "DROP {kind} IF EXISTS {database}.{};", identifier(name));
        };
        self.triggers.iter().for_each(|name| put("TRIGGER", name));
        self.views.iter().for_each(|name| put("VIEW", name));
        let is_package = |kind: &str| kind.starts_with("PACKAGE");
        self.routines.iter().filter(|(kind, _)| !is_package(kind)).for_each(|(kind, name)| put(kind, name));
        self.events.iter().chain(&self.passing).for_each(|name| put("EVENT", name));
        // The body of a package goes with it. Only in this mode a server knows what a package is.
        let packages: Vec<&String> =
            self.routines.iter().filter(|(kind, _)| kind == "PACKAGE").map(|(_, name)| name).collect();
        if !packages.is_empty() {
            sql.push_str("SET @larder_mode = @@sql_mode, sql_mode = ORACLE;\n");
            for name in packages {
                let _ = writeln!(sql, "DROP PACKAGE IF EXISTS {database}.{};", identifier(name));
            }
            sql.push_str("SET sql_mode = @larder_mode;\n");
        }
        sql
    }

    pub(super) fn trigger_drops(&self, database: &str) -> String {
        Self { triggers: self.triggers.clone(), ..Self::default() }.drops(database)
    }

    /// A view may have the name that a table is to get.
    pub(super) fn view_drops(&self, database: &str) -> String {
        Self { views: self.views.clone(), ..Self::default() }.drops(database)
    }

    /// The statements that drop the code that is neither a trigger nor a view.
    pub(super) fn body_drops(&self, database: &str) -> String {
        Self { triggers: Vec::new(), views: Vec::new(), ..self.clone() }.drops(database)
    }

    /// All but these views.
    pub(super) fn without(&self, views: &[String]) -> Self {
        let mut kept = self.clone();
        kept.views.retain(|name| !views.contains(name));
        kept
    }
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}
