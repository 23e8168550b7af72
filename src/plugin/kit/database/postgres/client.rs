//! Which pg_dump to use: the oldest that is not older than the server.
//!
//! A newer pg_dump reads older servers, an older one refuses newer servers. The oldest that fits makes files that
//! restore into the widest range of servers.

use std::path::{Path, PathBuf};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::tool::{DEADLINE_OF_QUESTION, Tools};

/// What a directory needs to hold to be of use.
const NEEDED: [&str; 3] = ["pg_dump", "pg_restore", "psql"];
const DIRECTORIES_MAX: usize = 64;

/// A directory with the PostgreSQL client programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) major: u32,
    pub(super) version: String,
    pub(super) directory: PathBuf,
}

impl Client {
    pub(super) fn tool(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// All clients of this machine, oldest first; only the one in `bin_dir` where that is given.
pub(super) fn find(bin_dir: Option<&Path>, tools: &Tools) -> Result<Vec<Client>, Failure> {
    let directories = match bin_dir {
        Some(directory) => vec![directory.to_owned()],
        None => usual_directories(),
    };
    let mut clients: Vec<Client> = Vec::new();
    for directory in directories.into_iter().take(DIRECTORIES_MAX) {
        if !NEEDED.iter().all(|name| directory.join(name).is_file()) || is_wrapper(&directory.join("pg_dump")) {
            continue;
        }
        let mut said = String::new();
        let program = directory.join("pg_dump");
        tools.run(
            &program,
            vec!["--version".into()],
            &[],
            DEADLINE_OF_QUESTION,
            |line| {
                if said.is_empty() {
                    line.clone_into(&mut said);
                }
            },
            || {},
        );
        if let Some((major, version)) = version_of(&said)
            && !clients.iter().any(|client| client.directory == directory)
        {
            clients.push(Client { major, version, directory });
        }
    }
    clients.sort_by_key(|client| client.major);
    if clients.is_empty() { Err(none(bin_dir)) } else { Ok(clients) }
}

/// The oldest client that is not older than the server.
pub(super) fn choose(clients: &[Client], server_major: u32) -> Option<Client> {
    clients.iter().filter(|client| client.major >= server_major).min_by_key(|client| client.major).cloned()
}

pub(super) fn none(bin_dir: Option<&Path>) -> Failure {
    match bin_dir {
        Some(directory) => Failure::new(
            codes::NO_CLIENT,
            format!("{} does not hold pg_dump, pg_restore and psql that work", directory.display()),
        )
        .hint("correct `bin_dir`, or leave it out to have them found"),
        None => Failure::new(codes::NO_CLIENT, "pg_dump, pg_restore and psql are not installed on this machine")
            .hint("apt install postgresql-client"),
    }
}

pub(super) fn too_old(clients: &[Client], server_major: u32, server: &str, place: &str) -> Failure {
    let newest = clients.last().map_or_else(|| "none".to_owned(), |client| client.version.clone());
    Failure::new(
        codes::SERVER_NEWER_THAN_CLIENT,
        format!("{place} runs PostgreSQL {server}, the newest pg_dump here is {newest}: it refuses newer servers"),
    )
    .hint(format!("apt install postgresql-client-{server_major} (from apt.postgresql.org where the system has none)"))
}

fn usual_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for (root, prefix, tail) in [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin")] {
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path().join(tail))
            .filter(|path| path.join("pg_dump").is_file())
            .collect();
        found.sort();
        directories.extend(found);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    directories.extend(std::env::split_paths(&path).filter(|directory| directory.is_absolute()));
    directories
}

/// Debian's /usr/bin/pg_dump is a script that picks a version by its own rules.
fn is_wrapper(pg_dump: &Path) -> bool {
    pg_dump.canonicalize().is_ok_and(|real| real.file_name().is_some_and(|name| name == "pg_wrapper"))
}

/// Reads `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn version_of(text: &str) -> Option<(u32, String)> {
    let version = text.strip_prefix("pg_dump (PostgreSQL) ")?.split_whitespace().next()?;
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    Some((version.get(..digits)?.parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(major: u32) -> Client {
        Client { major, version: format!("{major}.1"), directory: PathBuf::from(format!("/pg/{major}")) }
    }

    #[test]
    fn the_oldest_client_that_is_new_enough_is_chosen() {
        let clients = [client(13), client(15), client(17)];
        assert_eq!(choose(&clients, 15).map(|found| found.major), Some(15));
        assert_eq!(choose(&clients, 14).map(|found| found.major), Some(15));
        assert_eq!(choose(&clients, 9).map(|found| found.major), Some(13));
        assert_eq!(choose(&clients, 18), None);
        let failure = too_old(&clients, 18, "18.2", "db:5432");
        assert!(failure.trouble.hint.unwrap().contains("postgresql-client-18"));
    }

    #[test]
    fn versions_are_read_as_pg_dump_writes_them() {
        assert_eq!(version_of("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some((15, "15.18".to_owned())));
        assert_eq!(version_of("pg_dump (PostgreSQL) 18beta1"), Some((18, "18beta1".to_owned())));
        assert_eq!(version_of("pg_dump (PostgreSQL) 9.6.24"), Some((9, "9.6.24".to_owned())));
        assert_eq!(version_of("command not found"), None);
    }
}
