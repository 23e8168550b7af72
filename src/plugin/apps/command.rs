//! The plugin `command`: a program of the operator, whose output or files are the backup.
//!
//! Who can push config must not be able to run programs that the operator did not put there. So the config names a
//! program, and only what lies in `commands/` below the operator's plugins directory is one. It is started directly,
//! never by a shell, and of its environment the config sets only secrets under names that no loader or interpreter reads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::error::codes;
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::inside::{self, Inside};
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{NoOptions, Planned, RestoreJob, Restorer};
use crate::plugin::kit::settings::{Secret, exactly_one_of};
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends, Ran, Tools};
use crate::plugin::kit::{commands, digest};
use crate::plugin::protocol::{Request, Step, Verb, Verdict};
use crate::process::Exit;
use crate::types::pattern::Pattern;

mod allowed;
mod validate;

use validate::Checks;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "command",
    summary: "What a program of the operator writes",
    guide: GUIDE,
    schema: || schemars::schema_for!(CommandSettings).to_value(),
    capture,
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

/// Files that one run may leave.
const FILES_MAX: usize = 1_000;
/// Directories in its working directory that are looked into.
const DEPTH_MAX: usize = 16;
const FORMAT: &str = "command";

/// Which program, and what of it is kept.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_of(&["stdout", "files"]))]
struct CommandSettings {
    /// The program's file name in the operator's `commands/` directory.
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    command: String,
    /// Its arguments, as they are: there is no shell.
    #[serde(default)]
    args: Vec<String>,
    /// Keep its standard output as a file of this name. Exactly one of `stdout` and `files` is given.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    stdout: Option<String>,
    /// Keep the files in its working directory that one of these patterns matches: `*.sql`, `export/**`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    files: Vec<String>,
    /// Environment variables with secrets.
    #[serde(default)]
    env_secrets: BTreeMap<String, Secret>,
    /// What every file must be.
    #[serde(default)]
    checks: Checks,
    /// What must be true of what is inside of every file, through gzip, xz, zstd, bzip2, tar and zip.
    #[serde(default)]
    inside: Option<Inside>,
    /// What puts the backup back into the application.
    #[serde(default)]
    restore: Option<RestoreCommand>,
}

/// A program that gets what `command` gave.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestoreCommand {
    /// The program's file name in the operator's `commands/` directory.
    #[schemars(regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    command: String,
    /// Its arguments, as they are: there is no shell.
    #[serde(default)]
    args: Vec<String>,
}

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: CommandSettings = builtin::settings(request)?;
    let refuse = |what: String, hint: &str| Err(Failure::new(codes::SETTINGS, what).hint(hint));
    if settings.stdout.is_some() != settings.files.is_empty() {
        return refuse(
            "what to keep is not named in one way".to_owned(),
            "give exactly one of `stdout: NAME` and `files: [..]`",
        );
    }
    if let Some(name) = settings.stdout.as_deref().filter(|name| !allowed::is_file_name(name)) {
        return refuse(
            format!("`stdout: {name}` is no file name"),
            "letters, digits, `_`, `.` and `-`, not first a dot",
        );
    }
    let (program, tools) = ready(&settings, &settings.command, &request.staging)?;
    let kept = run(&settings, &tools, &program, &request.staging, events)?;
    let mut bytes = 0;
    for relative in &kept {
        let path = request.staging.join(relative);
        let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let shown = relative.display();
        if length == 0 {
            return Err(Failure::new(
                codes::OUTPUT_EMPTY,
                format!("{} ended well but {shown} is empty", settings.command),
            )
            .hint("run it by hand as the daemon's user; what it wrote to standard error is in the run's log"));
        }
        let what = format!("{} ended well but {shown}", settings.command);
        inside::refuse_nothing(codes::OUTPUT_EMPTY, &what, &path, &request.staging, events)?;
        bytes += length;
        events.artifact(&relative.to_string_lossy(), FORMAT, digest::sha256(&path, |_| {})?);
    }
    events.figure("files", kept.len() as u64);
    events.figure("bytes", bytes);
    Ok(())
}

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

/// Has a program of the operator put its backup back.
struct PutBack;

type Job<'j> = RestoreJob<'j, CommandSettings, NoOptions>;

/// A program and what it gets.
struct Work {
    command: String,
    args: Vec<OsString>,
    program: PathBuf,
    tools: Tools,
    input: Option<PathBuf>,
}

impl Restorer for PutBack {
    type Settings = CommandSettings;
    type Options = NoOptions;
    type Work = Work;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        let RestoreJob { settings, facts, staging, .. } = job;
        let Some(RestoreCommand { command, args }) = &settings.restore else {
            return Err(Failure::new(codes::NOT_SUPPORTED, "the target names no program that puts it back")
                .hint("set `restore: {command: NAME}`, or `larder restore TARGET --to DIR` and go on by hand"));
        };
        let (program, tools) = ready(settings, command, staging)?;
        for artifact in &facts.artifacts {
            let found = digest::sha256(&staging.join(&artifact.path), |done| events.progress(done, 0))?;
            if artifact.sha256.as_ref().is_some_and(|wanted| *wanted != found) {
                return Err(Failure::new(
                    codes::ARTIFACT_CHANGED,
                    format!("{} is not what was kept", artifact.path.display()),
                )
                .hint("choose another snapshot: `larder snapshots TARGET`"));
            }
        }
        let gets = match &settings.stdout {
            Some(name) => format!("with {name} as its standard input"),
            None => format!("in a directory with {} files", facts.artifacts.len()),
        };
        let gets =
            format!("{gets}; what becomes of the application when it fails or is killed half-way is its own matter");
        let step = Step::new(Verb::Run, format!("the program {command}"), gets);
        let input = settings.stdout.as_ref().map(|name| staging.join(name));
        let (command, args) = (command.clone(), args.iter().map(OsString::from).collect());
        Ok(Planned::of(vec![step], Work { command, args, program, tools, input }))
    }

    fn execute(_: &Job<'_>, work: Work, _: Option<&Journal>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let Work { command, args, program, tools, input } = work;
        let stdin = input.as_ref().map(File::open).transpose().map_err(|error| {
            Failure::new(codes::ARTIFACT_UNREADABLE, format!("the kept standard output cannot be read: {error}"))
        })?;
        let ends = Ends { stdin, stdout: None };
        // It may be silent for as long as it works; the restore's own time is its bound.
        let ran = tools.pipe(&program, args, &[], DEADLINE_OF_WORK, ends, || events.progress(0, 0));
        for line in ran.stderr.lines().filter(|line| !line.trim().is_empty()) {
            events.log(line);
        }
        if let Some(failure) = ended(&command, &ran) {
            return Err(
                failure.hint("the application may be half restored; what the program wrote to standard error is above")
            );
        }
        let detail = format!("{command} ended with code 0, which is all that is known: look at the application");
        events.validation("the application holds what the backup holds", Verdict::CouldNotVerify, detail);
        Ok(())
    }
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

/// Runs the program to its end; answers what is kept, relative to its working directory.
fn run(
    settings: &CommandSettings,
    tools: &Tools,
    program: &Path,
    staging: &Path,
    events: &mut EventWriter<'_>,
) -> Result<Vec<PathBuf>, Failure> {
    let output = settings.stdout.as_ref().map(|name| staging.join(name));
    let stdout = output.as_ref().map(File::create_new).transpose().map_err(|error| {
        Failure::new(codes::OUTPUT_UNWRITABLE, format!("standard output cannot be written to a file: {error}"))
    })?;
    let args = settings.args.iter().map(Into::into).collect();
    let mut told = u64::MAX;
    let ran = tools.pipe(program, args, &[], DEADLINE_OF_WORK, Ends { stdin: None, stdout }, || {
        let written = output.as_ref().map_or(0, |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
        // Only what grew is progress: one that hangs is noticed.
        if written != told {
            told = written;
            events.progress(written, 0);
        }
    });
    for line in ran.stderr.lines().filter(|line| !line.trim().is_empty()) {
        events.log(line);
    }
    if let Some(failure) = ended(&settings.command, &ran) {
        if let Some(path) = &output {
            let _ = std::fs::remove_file(path);
        }
        return Err(failure.hint("the run's log has the end of what it wrote to standard error"));
    }
    match &settings.stdout {
        Some(name) => Ok(vec![name.into()]),
        None => matching(settings, staging),
    }
}

/// The regular files that a pattern matches, in order.
fn matching(settings: &CommandSettings, staging: &Path) -> Result<Vec<PathBuf>, Failure> {
    let patterns: Vec<Pattern> = settings
        .files
        .iter()
        .filter_map(|text| Pattern::parse(&format!("/{}", text.trim_start_matches('/'))).ok())
        .collect();
    let mut found = Vec::new();
    let mut directories = vec![(PathBuf::new(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        for entry in std::fs::read_dir(staging.join(&directory)).into_iter().flatten().flatten() {
            let relative = directory.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH_MAX => directories.push((relative, depth + 1)),
                // A link could lead anywhere: only what is really there is kept.
                Ok(kind) if kind.is_file() && patterns.iter().any(|pattern| pattern.matches(&relative)) => {
                    found.push(relative);
                }
                _ => {}
            }
        }
    }
    found.sort();
    match found.len() {
        0 => {
            Err(Failure::new(codes::NOTHING_WRITTEN, format!("{} left no file that `files` matches", settings.command))
                .hint("it must write into its working directory; patterns are relative to that"))
        }
        count if count > FILES_MAX => {
            Err(Failure::new(codes::TOO_MANY_FILES, format!("{} left {count} files", settings.command))
                .hint(format!("at most {FILES_MAX} are kept; have it pack them into one")))
        }
        _ => Ok(found),
    }
}
