//! Makes the roles and tablespaces of a backup that are missing.

use std::path::Path;

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::postgres::explain::explain;
use crate::plugin::kit::database::postgres::globals::{Globals, KEEP_ON, There};
use crate::plugin::kit::database::postgres::server::Server;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::DEADLINE_OF_WORK;
use crate::process::Exit;

/// The file with the statements that are run, in the staging directory.
const MISSING: &str = ".larder-roles.sql";

/// Makes what is missing. What is there stays as it is; what is refused is told, and the rest goes on.
///
/// Roles are made in one transaction: a role that is half made, after a kill, would look like one that was there.
pub(super) fn restore(
    server: &Server<'_>,
    apart: &str,
    globals: &Globals,
    staging: &Path,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let missing = globals.missing(&there(server, apart)?);
    let script = staging.join(MISSING);
    std::fs::write(&script, &missing.sql)
        .map_err(|error| Failure::new(codes::INTERNAL, format!("{} cannot be written: {error}", script.display())))?;
    let args: Vec<_> = ["-X", "-q", "-w", "-v", "ON_ERROR_STOP=0", "-v", KEEP_ON, "-f"]
        .map(Into::into)
        .into_iter()
        .chain([script.clone().into_os_string()])
        .collect();
    let ran =
        server.tools.run(&server.client.tool("psql"), args, &[("PGDATABASE", apart)], DEADLINE_OF_WORK, |_| {}, || {});
    let _ = std::fs::remove_file(&script);
    if ran.exit != Exit::Success {
        return Err(explain("psql with the roles", &server.settings.place(), apart, &ran));
    }
    let name = "the roles of the backup are there".to_owned();
    globals.tell(name, &missing, &there(server, apart)?, &ran.stderr, events);
    Ok(())
}

/// The roles and tablespaces of the server.
fn there(server: &Server<'_>, apart: &str) -> Result<There, Failure> {
    let ask = |sql| server.names(apart, sql).map(|names| names.into_iter().collect());
    Ok(There { roles: ask("SELECT rolname FROM pg_roles")?, tablespaces: ask("SELECT spcname FROM pg_tablespace")? })
}
