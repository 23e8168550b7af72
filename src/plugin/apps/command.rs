//! The plugin `command`: a program of the operator, whose output or files are the backup.
//!
//! Who can push config must not be able to run programs that the operator did not put there. So the config names a
//! program, and only what lies in `commands/` below the operator's plugins directory is one. It is started directly,
//! never by a shell, and of its environment the config sets only secrets under names that no loader or interpreter reads.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::error::codes;
use crate::plugin::kit::builtin::{Builtin, Failure, Restore};
use crate::plugin::kit::commands;
use crate::plugin::kit::tool::{Ran, Tools};
use crate::process::Exit;

mod allowed;
mod capture;
mod restore;
mod settings;
mod validate;

use restore::PutBack;
use settings::CommandSettings;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "command",
    summary: "What a program of the operator writes",
    guide: GUIDE,
    schema: || schemars::schema_for!(CommandSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: Some(Restore::by::<PutBack>()),
    recover: None,
};

const GUIDE: &str = "
In the backup: what the program writes to standard output (`stdout: NAME`), or the files that it leaves in its working
directory and that `files` matches.

Not in it: everything else; Larder knows nothing of the application. What is proven is what `checks` and `inside` ask for:
`inside: {sql_dump: postgres, min_size: 10KiB}` looks through gzip, xz, zstd, bzip2, tar and zip at what was packed. Nothing in
a wrapper (`pg_dump | gzip` of a dump that failed) is refused without being asked.

Least privilege: the program runs as the daemon's user. It must lie in `commands/` below the operator's plugins directory
(`larder serve --plugins DIR`), belong to root or the daemon's user, and be writable by nobody else. Who can push config
chooses its arguments: it must be safe with any. Secrets reach it by its environment, under names that end with
_PASSWORD, _PASSWD, _PWD, _TOKEN, _SECRET, _KEY, _AUTH or _CREDENTIALS (or PGPASSWORD).

Restore: `restore` names a program of the same directory: `larder restore TARGET --into TARGET` starts it with the kept
standard output as its standard input, or in a directory with the kept files. That it ended well is all that Larder
knows then, so the restore could not be verified. Without it: `larder restore TARGET --to DIR`, and go on by hand.";

/// The program of that name, and what it is started with.
fn ready(settings: &CommandSettings, name: &str, staging: &Path) -> Result<(PathBuf, Tools), Failure> {
    if let Some(name) = settings.env_secrets.keys().find(|name| !allowed::is_secret_name(name)) {
        return Err(Failure::new(codes::SETTINGS, format!("the variable {name} cannot be set")).hint(
            "upper case, and ending with _PASSWORD, _PASSWD, _PWD, _TOKEN, _SECRET, _KEY, _AUTH or _CREDENTIALS",
        ));
    }
    let directory = std::env::var_os(commands::DIRECTORY_VARIABLE).map(PathBuf::from);
    let program = allowed::find(directory.as_deref(), name)?;
    let secrets: Vec<SecretString> = settings.env_secrets.values().map(|secret| secret.0.clone()).collect();
    let env = settings.env_secrets.iter().map(|(name, secret)| (name.clone(), secret.0.clone())).collect();
    Ok((program, Tools::new(env, secrets, staging)?))
}

/// Why a program did not end well.
fn ended(name: &str, ran: &Ran) -> Option<Failure> {
    let last = ran.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let said = crate::plugin::kit::tidy::tidy(last, 300);
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Some(match &ran.exit {
        Exit::Success => return None,
        Exit::Code(code) => Failure::new(codes::COMMAND_FAILED, format!("{name} ended with code {code}{said}")),
        Exit::Signal(signal) => {
            Failure::new(codes::COMMAND_KILLED, format!("{name} was killed by signal {signal}{said}"))
        }
        Exit::NotStarted { detail, .. } => {
            Failure::new(codes::COMMAND_NOT_STARTED, format!("{name} cannot be started: {detail}"))
        }
        other => Failure::new(codes::COMMAND_FAILED, format!("{name} failed: {other:?}{said}")),
    })
}
