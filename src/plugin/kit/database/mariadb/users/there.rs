//! The users and roles that a server has, and how some of them go.

use std::collections::BTreeSet;

use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb::server::{Server, identifier, unhex};

/// Users and roles of the server.
pub(super) fn there(server: &Server<'_>) -> Result<BTreeSet<(String, String)>, Failure> {
    let both = |row: &String| row.split_once('\t').and_then(|(user, host)| Some((unhex(user)?, unhex(host)?)));
    Ok(server.query("mysql", "SELECT HEX(user), HEX(host) FROM mysql.user")?.iter().filter_map(both).collect())
}

/// Drops those of these users and roles that are there.
pub(in crate::plugin::kit::database::mariadb) fn unmake(
    server: &Server<'_>,
    users: &[(String, String)],
) -> Result<(), Failure> {
    let there = there(server)?;
    for (user, host) in users.iter().filter(|who| there.contains(*who)) {
        let kind = if host.is_empty() { "ROLE" } else { "USER" };
        let host = if host.is_empty() { String::new() } else { format!("@{}", identifier(host)) };
        server.query("mysql", &format!("DROP {kind} IF EXISTS {}{host}", identifier(user)))?;
    }
    Ok(())
}
