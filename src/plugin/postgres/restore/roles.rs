//! Makes the roles and tablespaces of a backup that are missing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{Failure, Voice};
use crate::plugin::postgres::explain::explain;
use crate::plugin::postgres::globals::{Globals, There, tell_left};
use crate::plugin::postgres::server::Server;
use crate::plugin::tool::DEADLINE_OF_WORK;
use crate::process::Exit;

/// What could not be done is told so often.
const COMPLAINTS_MAX: usize = 10;
/// Roles in a remark.
const NAMES_MAX: usize = 5;
/// The file with the statements that are run, in the staging directory.
const MISSING: &str = ".larder-roles.sql";

/// Makes what is missing. What is there stays as it is; what is refused is told, and the rest goes on.
pub(super) fn restore(
    server: &Server<'_>,
    apart: &str,
    file: &Path,
    staging: &Path,
    voice: &mut Voice<'_>,
) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new("artifact_unreadable", format!("{} cannot be read: {error}", file.display()))
    };
    let globals = Globals::read(file).map_err(unreadable)?;
    let missing = globals.missing(&there(server, apart)?);
    let script = staging.join(MISSING);
    std::fs::write(&script, &missing.sql)
        .map_err(|error| Failure::new("internal", format!("{} cannot be written: {error}", script.display())))?;
    let args: Vec<_> = ["-X", "-q", "-w", "-v", "ON_ERROR_STOP=0", "-f"]
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
    let complaints = ran.stderr.lines().filter(|line| line.contains("ERROR:") || line.contains("error:"));
    for complaint in complaints.filter(|line| !line.contains("already exists")).take(COMPLAINTS_MAX) {
        voice.warning(Trouble::new("role_refused", crate::plugin::transcript::tidy(complaint, 300)));
    }
    tell_left(&missing, voice);
    let there = there(server, apart)?;
    let wanted = globals.roles();
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !there.roles.contains(*name)).collect();
    let (verdict, detail) = if missing.is_empty() {
        (Verdict::Proven, format!("{} roles", wanted.len()))
    } else {
        let shown = missing.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
        (Verdict::Failed, format!("{} are missing: {shown}", missing.len()))
    };
    voice.validation("the roles of the backup are there", verdict, detail);
    Ok(())
}

/// What the server has, asked in hex: a name may have any character.
fn there(server: &Server<'_>, apart: &str) -> Result<There, Failure> {
    let ask = |column: &str, table: &str| -> Result<BTreeSet<String>, Failure> {
        let sql = format!("SELECT encode(convert_to({column}::text, 'UTF8'), 'hex') FROM {table}");
        let rows = server.query(apart, &sql)?;
        let names: Option<BTreeSet<String>> =
            rows.iter().map(|row| String::from_utf8(hex::decode(row).ok()?).ok()).collect();
        names.ok_or_else(|| Failure::new("server_unexpected", "the server's answer is no list of names"))
    };
    Ok(There { roles: ask("rolname", "pg_roles")?, tablespaces: ask("spcname", "pg_tablespace")? })
}
