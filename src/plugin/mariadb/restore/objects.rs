//! What a database has beside its rows: tables, and the code that no renaming takes along.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::plugin::builtin::Failure;
use crate::plugin::mariadb::server::{Server, identifier, literal, unhex};

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
    /// What users may do with single routines, as the ends of GRANTs, with each routine's kind and name.
    #[serde(default)]
    pub(super) rights: Vec<(String, String, String)>,
}

impl Objects {
    pub(super) fn of(server: &Server<'_>, database: &str) -> Result<Self, Failure> {
        let listed = server.tables(database)?;
        let listed = |views: bool| {
            let named = listed.iter().filter(|each| each.is_view() == views);
            sorted(named.map(|each| each.name.clone()).collect())
        };
        let ask = |sql: &str| server.query(database, &format!("{sql} = {}", literal(database)));
        let names = |sql: &str| -> Result<Vec<String>, Failure> {
            Ok(sorted(ask(sql)?.iter().filter_map(|row| unhex(row)).collect()))
        };
        let routine = |row: &String| {
            let (kind, name) = row.split_once('\t')?;
            Some((kind.to_owned(), unhex(name)?))
        };
        let routines =
            ask("SELECT routine_type, HEX(routine_name) FROM information_schema.routines WHERE routine_schema")?;
        // Only who reads the server's own tables sees them; who does not could not give them either.
        let rights = ask(
            "SELECT routine_type, HEX(routine_name), HEX(CONCAT(IF(host = '', QUOTE(user), CONCAT(QUOTE(user), '@', QUOTE(host))), \
             IF(FIND_IN_SET('Grant', proc_priv), ' WITH GRANT OPTION', ''))), HEX(proc_priv) FROM mysql.procs_priv WHERE db",
        );
        let right = |row: &String| {
            let mut columns = row.split('\t');
            let (kind, name) = (columns.next()?.to_owned(), unhex(columns.next()?)?);
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
            triggers: names("SELECT HEX(trigger_name) FROM information_schema.triggers WHERE trigger_schema")?,
            events: names("SELECT HEX(event_name) FROM information_schema.events WHERE event_schema")?,
            routines: sorted(routines.iter().filter_map(routine).collect()),
            rights: sorted(rights.unwrap_or_default().iter().filter_map(right).collect()),
        })
    }

    pub(super) fn has_code(&self) -> bool {
        !(self.triggers.is_empty() && self.views.is_empty() && self.routines.is_empty() && self.events.is_empty())
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
        // The body of a package goes with it.
        self.routines.iter().filter(|(kind, _)| kind != "PACKAGE BODY").for_each(|(kind, name)| put(kind, name));
        self.events.iter().for_each(|name| put("EVENT", name));
        sql
    }

    pub(super) fn trigger_drops(&self, database: &str) -> String {
        Self { triggers: self.triggers.clone(), ..Self::default() }.drops(database)
    }
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}
