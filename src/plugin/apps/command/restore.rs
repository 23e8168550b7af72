//! Has a program of the operator put its backup back.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

use super::settings::{CommandSettings, RestoreCommand};
use super::{ended, ready};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{NoOptions, Planned, RestoreJob, Restorer};
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends, Tools};
use crate::plugin::protocol::{Step, Verb, Verdict};

/// Has a program of the operator put its backup back.
pub(super) struct PutBack;

type Job<'j> = RestoreJob<'j, CommandSettings, NoOptions>;

/// A program and what it gets.
pub(super) struct Work {
    pub(super) command: String,
    pub(super) args: Vec<OsString>,
    pub(super) program: PathBuf,
    pub(super) tools: Tools,
    pub(super) input: Option<PathBuf>,
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
