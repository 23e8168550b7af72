//! What the plugins of database servers have in common: which databases are meant, under what names their figures go,
//! what a choice for a restore may be, and what the end of a client program means.

use std::path::Path;

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::settings::Secret;
use crate::process::Exit;
use crate::types::show_duration;

pub(crate) mod mariadb;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod remark;
pub(crate) mod since;
pub(crate) mod sqlite;

/// Which databases are kept.
pub(crate) enum Chosen {
    Named(Vec<String>),
    All,
}

/// Reads the settings `database`, `databases` and `all`, of which exactly one is given.
pub(crate) fn chosen(database: Option<&String>, databases: &[String], all: bool) -> Result<Chosen, Failure> {
    let refuse = |what: &str| {
        Err(Failure::new(codes::SETTINGS, what)
            .hint("give exactly one of `database: NAME`, `databases: [..]`, `all: true`"))
    };
    let names: Vec<String> = database.into_iter().chain(databases).cloned().collect();
    match (database.is_some(), !databases.is_empty(), all) {
        (false, false, false) => refuse("no database is named"),
        (true, false, false) | (false, true, false) if names.iter().all(|name| !name.is_empty()) => {
            Ok(Chosen::Named(names))
        }
        (true, false, false) | (false, true, false) => refuse("a database's name is empty"),
        (false, false, true) => Ok(Chosen::All),
        _ => refuse("more than one of `database`, `databases` and `all` is given"),
    }
}

/// The name of a database's figures: that of its file, or a number where the password is in it (as when both are the
/// application's name), since figures have no secrets in them.
pub(crate) fn figure_key(file: &Path, number: usize, password: Option<&Secret>) -> String {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if password.is_some_and(|password| password.is_in(&name)) { format!("database-{}", number + 1) } else { name }
}

/// What an operator chose for a restore.
pub(crate) struct Choice<'o> {
    /// Empty: all of the backup.
    pub(crate) databases: &'o [String],
    pub(crate) into: Option<&'o str>,
    pub(crate) overwrite: bool,
}

/// Where a dump would go.
pub(crate) struct Goal<'p> {
    pub(crate) database: &'p str,
    /// Something is in it.
    pub(crate) is_full: bool,
}

impl Choice<'_> {
    /// Whether the database of the backup is to be put back.
    pub(crate) fn has(&self, database: &String) -> bool {
        self.databases.is_empty() || self.databases.contains(database)
    }

    /// Refuses what must not be done, before anything is: `known` are the databases of the backup, `place` the server,
    /// `content` what a full database has.
    pub(crate) fn check(
        &self,
        known: &[String],
        goals: &[Goal<'_>],
        place: &str,
        content: &str,
    ) -> Result<(), Failure> {
        if let Some(missing) = self.databases.iter().find(|name| !known.contains(name)) {
            return Err(Failure::new(codes::NOT_IN_BACKUP, format!("the backup holds no database {missing:?}"))
                .hint(format!("it holds {}", known.join(", "))));
        }
        if self.into.is_some() && goals.len() != 1 {
            return Err(Failure::new(
                codes::RESTORE_OPTIONS,
                format!("`into` names one database, but {} are chosen", goals.len()),
            )
            .hint("choose one with `--option databases='[\"NAME\"]'`"));
        }
        match goals.iter().find(|goal| goal.is_full && !self.overwrite) {
            Some(goal) => Err(Failure::new(
                codes::DATABASE_NOT_EMPTY,
                format!("the database {:?} at {place} has {content}", goal.database),
            )
            .hint(
                "nothing was changed; `--option overwrite=true` replaces it, `--option into=NAME` takes another name",
            )),
            None => Ok(()),
        }
    }
}

/// What the end of a client program means, when it does not speak for itself by what it wrote.
pub(crate) fn ended(exit: &Exit, about: &str, package: &str) -> Option<Failure> {
    match exit {
        Exit::Signal(signal) => Some(
            Failure::new(codes::DUMP_KILLED, format!("{about} was killed by signal {signal}"))
                .hint("if nobody killed it, look for the kernel's out-of-memory killer: `journalctl -k`"),
        ),
        Exit::NotStarted { program, detail, .. } => Some(
            Failure::new(codes::NO_CLIENT, format!("{} cannot be started: {detail}", program.display()))
                .hint(format!("apt install {package}, or correct `bin_dir`")),
        ),
        Exit::DeadlineExceeded(after) => Some(
            Failure::new(codes::UNREACHABLE, format!("{about} was not done after {}", show_duration(*after)))
                .hint("check the network between here and the server"),
        ),
        _ => None,
    }
}
