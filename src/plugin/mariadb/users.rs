//! Users, roles and grants: kept as SQL, and made again where they are missing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::BufRead as _;
use std::path::Path;

use super::explain::explain;
use super::restore::feed::{Feed, Part, stream};
use super::server::{Server, unhex};
use super::{dump, scan};
use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{Failure, Voice};
use crate::plugin::tool::DEADLINE_OF_WORK;
use crate::process::Exit;

/// What could not be done is told so often.
const COMPLAINTS_MAX: usize = 10;
/// Users in a remark.
const NAMES_MAX: usize = 5;

/// Writes users, roles and grants; on a restore, those that are there stay as they are.
pub(super) fn capture(server: &Server<'_>, file: &Path) -> Result<(), Failure> {
    let mut args = server.dump_args();
    args.extend(["--system=users", "--insert-ignore"].map(OsString::from));
    args.push(format!("--result-file={}", file.display()).into());
    let ran = server.tools.run(&server.client.dump, args, &[], DEADLINE_OF_WORK, |_| {}, || {});
    if ran.exit != Exit::Success {
        let _ = std::fs::remove_file(file);
        let failure = explain("mariadb-dump", &server.settings.place(), "mysql", &ran);
        let told = &failure.trouble.message;
        return Err(if told.contains("unknown option") || told.contains("unknown variable") {
            failure.hint("this mariadb-dump cannot write users (10.2.37 and newer can): say `users: false`")
        } else if failure.trouble.code == "permission_denied" {
            failure.hint("GRANT SELECT ON mysql.* to the user, or say `users: false`")
        } else {
            failure
        });
    }
    let (scan, _) = dump::read_whole(file, |_| {})?;
    if scan.complete {
        return Ok(());
    }
    let _ = std::fs::remove_file(file);
    Err(Failure::new("dump_cut", "the file with the users has no end (`-- Dump completed`)"))
}

/// Makes the users that are missing. What the restoring user may not grant is told, and the rest goes on.
pub(super) fn restore(server: &Server<'_>, file: &Path, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let mut args = server.shell_args();
    args.push("--force".into());
    let feed = Feed { file, part: Part::All, names: None, args };
    let ran = stream(server, feed, |_| {})?;
    let complaints: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("ERROR ")).collect();
    if ran.exit != Exit::Success && complaints.iter().all(|line| !line.contains(" at line ")) {
        return Err(explain("the restore of the users", &server.settings.place(), "", &ran));
    }
    for complaint in complaints.iter().take(COMPLAINTS_MAX) {
        voice.warning(Trouble::new("grant_refused", crate::plugin::transcript::tidy(complaint, 300)));
    }
    let sql = "SELECT HEX(CONCAT('`', user, '`@`', host, '`')) FROM mysql.user";
    let there: BTreeSet<String> = server.query("mysql", sql)?.iter().filter_map(|row| unhex(row)).collect();
    let wanted = names(file)
        .map_err(|error| Failure::new("artifact_unreadable", format!("{} cannot be read: {error}", file.display())))?;
    let missing: Vec<&str> = wanted.iter().filter(|name| !there.contains(*name)).map(String::as_str).collect();
    let (verdict, detail) = if missing.is_empty() {
        (Verdict::Proven, format!("{} users", wanted.len()))
    } else {
        let shown = missing.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
        (Verdict::Failed, format!("{} are missing: {shown}", missing.len()))
    };
    voice.validation("the users of the backup are there", verdict, detail);
    Ok(())
}

/// The users that a file makes, as `` `user`@`host` ``.
fn names(file: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for line in std::io::BufReader::new(std::fs::File::open(file)?).lines() {
        let line = line?;
        let rest = line.strip_prefix("CREATE USER ").map(|rest| rest.strip_prefix("IF NOT EXISTS ").unwrap_or(rest));
        let both = rest.and_then(|rest| {
            let (user, rest) = scan::backquoted(rest.as_bytes())?;
            let (host, _) = scan::backquoted(rest.strip_prefix(b"@")?)?;
            Some(format!("`{}`@`{}`", user.replace("``", "`"), host.replace("``", "`")))
        });
        names.extend(both);
    }
    Ok(names)
}
