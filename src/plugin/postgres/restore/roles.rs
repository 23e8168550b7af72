//! Makes the roles and tablespaces of a backup that are missing.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::path::Path;

use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{Failure, Voice};
use crate::plugin::postgres::explain::explain;
use crate::plugin::postgres::server::Server;
use crate::plugin::tool::DEADLINE_OF_WORK;
use crate::process::Exit;

/// What could not be done is told so often.
const COMPLAINTS_MAX: usize = 10;
/// Roles in a remark.
const NAMES_MAX: usize = 5;

/// Runs the file. What is there already is no trouble; what else is refused is told, and the rest goes on.
pub(super) fn restore(server: &Server<'_>, file: &Path, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let args =
        ["-X", "-q", "-w", "-v", "ON_ERROR_STOP=0", "-f"].map(Into::into).into_iter().chain([file.into()]).collect();
    let env = [("PGDATABASE", "postgres")];
    let ran = server.tools.run(&server.client.tool("psql"), args, &env, DEADLINE_OF_WORK, |_| {}, || {});
    if ran.exit != Exit::Success {
        return Err(explain("psql with the roles", &server.settings.place(), "postgres", &ran));
    }
    let complaints = ran.stderr.lines().filter(|line| line.contains("ERROR:") || line.contains("error:"));
    for complaint in complaints.filter(|line| !line.contains("already exists")).take(COMPLAINTS_MAX) {
        voice.warning(Trouble::new("role_refused", crate::plugin::transcript::tidy(complaint, 300)));
    }
    let there: BTreeSet<String> =
        server.query("postgres", "SELECT quote_ident(rolname) FROM pg_roles")?.into_iter().collect();
    let wanted = names(file)
        .map_err(|error| Failure::new("artifact_unreadable", format!("{} cannot be read: {error}", file.display())))?;
    let missing: Vec<&str> = wanted.iter().filter(|name| !there.contains(*name)).map(String::as_str).collect();
    let (verdict, detail) = if missing.is_empty() {
        (Verdict::Proven, format!("{} roles", wanted.len()))
    } else {
        let shown = missing.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
        (Verdict::Failed, format!("{} are missing: {shown}", missing.len()))
    };
    voice.validation("the roles of the backup are there", verdict, detail);
    Ok(())
}

/// The roles that a file makes, quoted as SQL needs it.
pub(in crate::plugin) fn names(file: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for line in std::io::BufReader::new(std::fs::File::open(file)?).lines() {
        let line = line?;
        names.extend(line.strip_prefix("CREATE ROLE ").and_then(|rest| rest.strip_suffix(';')).map(str::to_owned));
    }
    Ok(names)
}
