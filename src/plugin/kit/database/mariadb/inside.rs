//! Puts the dump of a server in a container back by the programs in it, as one part of a larger restore.
//!
//! The dump is taken apart, each database is loaded beside the live one and compared, and all take their places when
//! everything else of the restore is ready ([`super::restore::swap`]). Users and rights that are missing are made; those
//! that are there stay as they are. The server's own databases are never replaced.

use std::path::{Path, PathBuf};

use super::reach::Reach;
use super::restore::feed::{Feed, Part, stream};
use super::restore::names::Names;
use super::restore::plan::Plan;
use super::restore::swap::Swap;
use super::restore::work::Work;
use super::server::{Server, identifier, literal, series, unhex};
use super::{MariadbSettings, dump, explain, split};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::tidy::tidy;
use crate::plugin::protocol::{Verb, Verdict};
use crate::process::Exit;
use crate::types::ByteSize;

pub(in crate::plugin) use super::restore::swap::Place;

/// Tables of users and rights, with the columns that say whose a row is; who exists comes last.
const OF_USERS: [&str; 7] =
    ["db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv", "roles_mapping", "global_priv"];
/// Users in a remark.
const NAMES_MAX: usize = 5;

/// The dump of one server, taken apart.
pub(in crate::plugin) struct Dumped {
    databases: Vec<Kept>,
    users: Option<PathBuf>,
    server: Option<String>,
}

/// A database of a dump.
struct Kept {
    file: PathBuf,
    quoted: String,
    name: String,
    scan: super::scan::Scan,
    bytes: u64,
}

/// A database of a dump and where it goes; what is beside it on the server is a [`Place`].
pub(in crate::plugin) struct Planned(Plan);

impl Dumped {
    /// Reads the whole dump at `artifact`, and writes its parts below `staging`.
    pub(in crate::plugin) fn read(
        artifact: &Path,
        staging: &Path,
        number: usize,
        events: &mut EventWriter<'_>,
    ) -> Result<Self, Failure> {
        let (whole, _) = dump::read_whole(artifact, |done| events.progress(done, 0))?;
        let damaged = |why: &str| {
            Failure::new(codes::DUMP_DAMAGED, format!("{} is not whole: {why}", artifact.display()))
                .hint("nothing was changed; take another snapshot")
        };
        if !whole.complete {
            return Err(damaged("it has no end (`-- Dump completed`)"));
        }
        let into = staging.join(format!(".larder-dump-{number}"));
        let parts = split::split(artifact, &into, |done| events.progress(done, 0)).map_err(|error| {
            Failure::new(codes::UNWRITABLE, format!("{} cannot be taken apart: {error}", artifact.display()))
                .hint("nothing was changed; make room where the artifacts lie")
        })?;
        let mut databases = Vec::new();
        for (quoted, file) in parts.databases {
            let (scan, _) = dump::read_whole(&file, |done| events.progress(done, 0))?;
            if !scan.complete || scan.database.as_ref() != Some(&quoted) {
                return Err(damaged(&format!("the part of `{quoted}` is cut")));
            }
            let bytes = std::fs::metadata(&file).map_or(0, |found| found.len());
            let name = quoted.replace("``", "`");
            databases.push(Kept { file, quoted, name, scan, bytes });
        }
        if databases.iter().map(|each| each.scan.counts.rows).sum::<u64>() > whole.counts.rows {
            return Err(damaged("its parts have more rows than it has"));
        }
        Ok(Self { databases, users: parts.users, server: parts.server })
    }
}

/// A server that is reached by the programs in its container.
pub(in crate::plugin) struct Reached<'a> {
    server: Server<'a>,
    /// None: it is only looked at.
    journal: Option<&'a Journal>,
    staging: &'a Path,
}

/// How the server is called; the way to it logs in by itself.
pub(in crate::plugin) struct Called(MariadbSettings);

impl Called {
    pub(in crate::plugin) fn container(name: &str) -> Self {
        Self(MariadbSettings {
            host: None,
            port: 0,
            socket: Some(PathBuf::from(format!("container {name}"))),
            user: String::new(),
            password: None,
            database: None,
            databases: Vec::new(),
            all: true,
            users: None,
            exclude_tables: Vec::new(),
            ssl_mode: None,
            ssl_ca: None,
            connect_timeout: 0,
            allow_empty: true,
            except: Vec::new(),
            accept: Vec::new(),
            bin_dir: None,
        })
    }
}

impl<'a> Reached<'a> {
    /// Fails while the server does not answer.
    pub(in crate::plugin) fn open(
        called: &'a Called,
        reach: &'a dyn Reach,
        journal: Option<&'a Journal>,
        staging: &'a Path,
    ) -> Result<Self, Failure> {
        Ok(Self { server: Server::reached(&called.0, reach, staging)?, journal, staging })
    }

    /// Decides where each database goes; refuses what could not be put in its place.
    pub(in crate::plugin) fn plan(&self, dumped: &Dumped) -> Result<Vec<Planned>, Failure> {
        let mut plans = Vec::new();
        for kept in &dumped.databases {
            let exists = self.server.exists(&kept.name)?;
            let is_full = exists && !self.server.tables(&kept.name)?.is_empty();
            plans.push(Planned(Plan {
                file: kept.file.clone(),
                quoted: kept.quoted.clone(),
                goal: kept.name.clone(),
                scan: kept.scan.clone(),
                bytes: kept.bytes,
                exists,
                is_full,
                stays: Vec::new(),
            }));
        }
        let swap = self.swap();
        self.work(&swap, dumped).check(&of(&plans))?;
        Ok(plans)
    }

    fn swap(&self) -> Swap<'_> {
        Swap::new(&self.server, self.journal, self.staging)
    }

    fn work<'w>(&self, swap: &'w Swap<'w>, dumped: &Dumped) -> Work<'w> {
        let now = self.server.version.shown();
        let then = dumped.server.as_deref().and_then(super::server::shown);
        let same_series = then.as_deref().is_none_or(|then| series(then) == series(&now));
        Work { swap, compare: true, same_series }
    }

    /// Says first when the dump is of another version.
    pub(in crate::plugin) fn tell_version(&self, dumped: &Dumped, events: &mut EventWriter<'_>) {
        let now = self.server.version.shown();
        let then = dumped.server.as_deref().and_then(super::server::shown);
        if let Some(then) = then.filter(|then| series(then) != series(&now)) {
            events.warning(
                Trouble::new(codes::OTHER_VERSION, format!("the dump is of {then}, the server is {now}"))
                    .with_hint("an older server may not know all that is in it; try it on a server beside first"),
            );
        }
    }

    /// Loads the databases beside the live ones and compares them; `container` and `in_restored` go into the note of each.
    pub(in crate::plugin) fn beside(
        &self,
        dumped: &Dumped,
        planned: &[Planned],
        note: (&str, usize, &str, bool),
        places: &mut Vec<Place>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let (run, from, container, in_restored) = note;
        let mut fresh = Vec::new();
        for (number, Planned(plan)) in planned.iter().enumerate() {
            let mut place = Place::new(&self.server, run, from + number, &plan.goal, plan.exists, &plan.stays)?;
            (place.container, place.in_restored) = (Some(container.to_owned()), in_restored);
            fresh.push(place);
        }
        let swap = self.swap();
        self.work(&swap, dumped).beside(&of(planned), fresh, places, events)
    }

    /// Puts what was loaded in its place.
    pub(in crate::plugin) fn put(
        &self,
        dumped: &Dumped,
        planned: &[Planned],
        places: &mut [Place],
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let swap = self.swap();
        self.work(&swap, dumped).put(&of(planned), places, events)
    }

    /// Drops what was there before.
    pub(in crate::plugin) fn finish(&self, place: &mut Place) -> Result<(), Failure> {
        self.swap().finish(place)
    }

    /// Makes the live database what it was.
    pub(in crate::plugin) fn undo(&self, place: &Place, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        self.swap().recover_all(std::slice::from_ref(place), events)
    }

    /// Makes the users of the dump that are missing, with their rights, when its databases are in their places; answers whether the dump has any that could be.
    pub(in crate::plugin) fn users(
        &self,
        dumped: &Dumped,
        note: (&str, usize, &str, bool),
        places: &mut Vec<Place>,
        events: &mut EventWriter<'_>,
    ) -> Result<bool, Failure> {
        let Some(file) = dumped.users.as_ref().filter(|_| self.server.version.is_mariadb) else { return Ok(false) };
        let (scan, _) = dump::read_whole(file, |_| {})?;
        if !scan.tables.contains_key("global_priv") {
            return Ok(false);
        }
        let (run, number, container, in_restored) = note;
        let mut place = Place::new(&self.server, run, number, "mysql", false, &[])?;
        (place.container, place.in_restored) = (Some(container.to_owned()), in_restored);
        let swap = self.swap();
        swap.note(&place)?;
        places.push(place.clone());
        let beside = place.beside().to_owned();
        let names = Some(Names::own("`mysql`", &identifier(&beside)));
        let feed = Feed { file, part: Part::Tables, names, is_beside: true, args: self.server.shell_args() };
        let ran = stream(&self.server, feed, |_| events.progress(0, 0))?;
        if ran.exit != Exit::Success {
            return Err(explain::explain("the load of the users", &self.server.settings.place(), "mysql", &ran));
        }
        let sql = format!(
            "SELECT HEX(t.User), HEX(t.Host) FROM {}.global_priv t WHERE NOT EXISTS \
             (SELECT 1 FROM mysql.global_priv g WHERE g.User = t.User AND g.Host = t.Host)",
            identifier(&beside)
        );
        let both = |row: &String| row.split_once('\t').and_then(|(user, host)| Some((unhex(user)?, unhex(host)?)));
        place.users = self.server.query("mysql", &sql)?.iter().filter_map(both).collect();
        // Noted before they are made: with the rest of the restore they are undone.
        swap.note(&place)?;
        if let Some(last) = places.last_mut() {
            last.clone_from(&place);
        }
        let missing = self.take_users(&beside)?;
        let (verdict, detail) = match missing.first() {
            None => (Verdict::Proven, "every one".to_owned()),
            Some(_) => {
                let shown = missing.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
                (Verdict::Failed, format!("{} are missing: {}", missing.len(), tidy(&shown, 300)))
            }
        };
        events.validation(format!("the users of the dump are at {}", self.server.settings.place()), verdict, detail);
        Ok(true)
    }

    /// Adds what is beside to the server's own tables, for users that it does not have; answers who is still missing.
    fn take_users(&self, beside: &str) -> Result<Vec<String>, Failure> {
        let from = identifier(beside);
        let columns = |database: &str, table: &str| -> Result<Vec<String>, Failure> {
            let sql = format!(
                "SELECT HEX(column_name) FROM information_schema.columns WHERE table_schema = {} AND table_name = {} \
                 ORDER BY ordinal_position",
                literal(database),
                literal(table)
            );
            Ok(self.server.query("mysql", &sql)?.iter().filter_map(|row| unhex(row)).collect())
        };
        for table in OF_USERS {
            let there = columns("mysql", table)?;
            let both: Vec<String> = columns(beside, table)?
                .iter()
                .filter(|name| there.contains(name))
                .map(|name| identifier(name))
                .collect();
            if both.is_empty() {
                continue;
            }
            let (both, table) = (both.join(", "), identifier(table));
            let sql = format!(
                "INSERT IGNORE INTO mysql.{table} ({both}) SELECT {both} FROM {from}.{table} t WHERE NOT EXISTS \
                 (SELECT 1 FROM mysql.global_priv g WHERE g.User = t.User AND g.Host = t.Host)"
            );
            self.server.query("mysql", &sql)?;
        }
        self.server.query("mysql", "FLUSH PRIVILEGES")?;
        let sql = format!(
            "SELECT HEX(CONCAT(t.User, '@', t.Host)) FROM {from}.global_priv t WHERE NOT EXISTS \
             (SELECT 1 FROM mysql.global_priv g WHERE g.User = t.User AND g.Host = t.Host)"
        );
        Ok(self.server.query("mysql", &sql)?.iter().filter_map(|row| unhex(row)).collect())
    }
}

/// Takes away the users that a restore made: they were not there before.
pub(super) fn unmake(server: &Server<'_>, users: &[(String, String)]) -> Result<(), Failure> {
    for (user, host) in users {
        for table in OF_USERS {
            let sql = format!("DELETE FROM mysql.{table} WHERE User = {} AND Host = {}", literal(user), literal(host));
            server.query("mysql", &sql)?;
        }
    }
    server.query("mysql", "FLUSH PRIVILEGES").map(|_| ())
}

fn of(planned: &[Planned]) -> Vec<&Plan> {
    planned.iter().map(|Planned(plan)| plan).collect()
}

impl Planned {
    pub(in crate::plugin) fn is_full(&self) -> bool {
        self.0.is_full
    }

    pub(in crate::plugin) fn name(&self) -> &str {
        &self.0.goal
    }

    pub(in crate::plugin) fn detail(&self) -> String {
        let counts = &self.0.scan.counts;
        format!("{} tables, {} rows, {}", counts.tables, counts.rows, ByteSize(self.0.bytes))
    }

    /// Says what was done.
    pub(in crate::plugin) fn tell_done(&self, container: &str, events: &mut EventWriter<'_>) {
        let verb = if self.0.exists { Verb::Replace } else { Verb::Create };
        let how = "loaded beside by the client in the container, compared, and put in its place";
        events.step(verb, format!("database {} in {container}", self.0.goal), format!("{}; {how}", self.detail()));
    }
}

impl Dumped {
    pub(in crate::plugin) fn names(&self) -> impl Iterator<Item = String> {
        self.databases.iter().map(|kept| kept.name.clone())
    }

    pub(in crate::plugin) fn has_users(&self) -> bool {
        self.users.is_some()
    }
}
