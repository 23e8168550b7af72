//! The host's side of a call: start the plugin, listen, and look at what it claims before believing it.
//!
//! A run is good only if the plugin ended with code 0, said no `failed`, and left files that are really there, inside
//! the staging directory, and not empty. Everything it says is cleaned of secrets before it is kept.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::config::model::Target;
use crate::error::{Code, Trouble, codes};
use crate::plugin::host::answer::{Captured, PluginFailure, Restored};
use crate::plugin::host::catalogue::{Catalogue, Origin, Plugin};
use crate::plugin::host::secrets::Resolved;
use crate::plugin::host::transcript::{Heard, Transcript};
use crate::plugin::protocol::{
    Action, Capability, CaptureFacts, Request, RestoreOrder, SOURCE_BYTES, Step, Validation, Verb, Verdict,
};
use crate::process::{self, Command, Context, Exit, Finished, Limits, Log, LogStdout, Redactor, Stdin};
use crate::secret::SecretRef;
use crate::types::{Outcome, RunId, show_duration};

pub mod answer;
pub mod catalogue;
pub(in crate::plugin) mod secrets;
mod transcript;

impl Catalogue {
    /// Has the target's plugin make its files in `staging`, and looks at them.
    ///
    /// `on_progress` gets bytes done and in all (0: unknown). What lies in `staging` after a failure is not to be used.
    ///
    /// # Errors
    /// `Deferred` when the plugin says that trying later can help, `Cancelled`, else `Failed`.
    pub async fn capture(
        &self,
        call: &Call<'_>,
        on_progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Captured, PluginFailure> {
        let plugin = self.get(call.target.plugin.as_str()).map_err(PluginFailure::failed)?;
        let resolved = resolved(plugin, call.target).await?;
        let context = guarded(call.context, &resolved);
        let request = Request {
            previous: call.inputs.previous.clone(),
            journal: call.inputs.journal.clone(),
            own: call.inputs.own.clone(),
            ..request(Action::Capture, call.target, call.run, call.staging, resolved)
        };
        let (finished, mut transcript) =
            ask(plugin, &request, Some(call.staging), &context, call.limits, on_progress).await;
        clean(&mut transcript, &context.redact);
        judge(plugin, &finished, &transcript)?;
        let staging = call.staging.to_owned();
        let name = plugin.name.to_string();
        tokio::task::spawn_blocking(move || believe(&name, transcript, &staging))
            .await
            .unwrap_or_else(|error| {
                Err(Trouble::new(codes::INTERNAL, format!("looking at the artifacts stopped: {error}")))
            })
            .map_err(PluginFailure::failed)
    }

    /// Has the target's plugin check what its capture made. The answer is never empty.
    ///
    /// # Errors
    /// When the plugin could not do its check at all: then nothing is known, and nothing may be published.
    pub async fn validate(&self, call: &Call<'_>, captured: &Captured) -> Result<Vec<Validation>, PluginFailure> {
        let plugin = self.get(call.target.plugin.as_str()).map_err(PluginFailure::failed)?;
        let resolved = resolved(plugin, call.target).await?;
        let context = guarded(call.context, &resolved);
        let facts = CaptureFacts {
            artifacts: captured.artifacts.clone(),
            sources: captured.sources.clone(),
            app_version: captured.app_version.clone(),
            figures: captured.figures.clone(),
        };
        let request = Request {
            capture: Some(facts),
            previous: call.inputs.previous.clone(),
            own: call.inputs.own.clone(),
            ..request(Action::Validate, call.target, call.run, call.staging, resolved)
        };
        let (finished, mut transcript) =
            ask(plugin, &request, Some(call.staging), &context, call.limits, |_, _| {}).await;
        clean(&mut transcript, &context.redact);
        judge(plugin, &finished, &transcript)?;
        if transcript.validations.is_empty() {
            transcript.validations.push(Validation {
                name: "validation".to_owned(),
                verdict: Verdict::CouldNotVerify,
                detail: format!("the plugin {} checked nothing", plugin.name),
            });
        }
        Ok(transcript.validations)
    }

    /// Whether the target's plugin can put a backup back into an application.
    ///
    /// # Errors
    /// When it cannot, or there is no such plugin.
    pub(crate) fn can_restore(&self, target: &Target) -> Result<(), Trouble> {
        self.that_restores(target).map(drop)
    }

    fn that_restores(&self, target: &Target) -> Result<&Plugin, Trouble> {
        let plugin = self.get(target.plugin.as_str())?;
        if plugin.can(Capability::Restore) {
            return Ok(plugin);
        }
        Err(Trouble::new(
            codes::NOT_SUPPORTED,
            format!("the plugin {} does not restore into an application", plugin.name),
        )
        .with_hint(format!(
            "use `larder restore {} --to DIR`; `larder plugin describe {}` says how to go on",
            target.name, plugin.name
        )))
    }

    /// Has the target's plugin put the backup that lies in `staging` back into the application that `target` names.
    ///
    /// `on_news` hears of each step, warning and version when the plugin says it, and of its progress. With a journal among
    /// the inputs, what a restore that is killed left half done is undone by `recover`.
    ///
    /// # Errors
    /// When the plugin cannot restore, or did not come to its end: the application may be half restored then.
    pub async fn restore(
        &self,
        call: &Call<'_>,
        facts: CaptureFacts,
        order: RestoreOrder,
        mut on_news: impl FnMut(News) + Send,
    ) -> Result<Restored, PluginFailure> {
        let plugin = self.that_restores(call.target).map_err(PluginFailure::failed)?;
        let resolved = resolved(plugin, call.target).await?;
        let context = guarded(call.context, &resolved);
        let request = Request {
            capture: Some(facts),
            restore: Some(order),
            journal: call.inputs.journal.clone(),
            ..request(Action::Restore, call.target, call.run, call.staging, resolved)
        };
        let heard = listen(plugin, &request, Some(call.staging), &context, call.limits, |note| match note {
            Heard::Progress { done, total } => on_news(News::Progress { done: *done, total: *total }),
            Heard::Step(step) => {
                on_news(News::Step { by_hand: step.verb == Verb::Manual, line: step.to_string() });
            }
            Heard::Warning(warning) => on_news(News::Line(format!("warning: {warning}"))),
            Heard::Notice(notice) => on_news(News::Line(format!("notice: {notice}"))),
            Heard::Version(version) => on_news(News::Version(version.clone())),
            _ => {}
        });
        let (finished, mut transcript) = heard.await;
        clean(&mut transcript, &context.redact);
        judge(plugin, &finished, &transcript)?;
        Ok(Restored {
            steps: transcript.steps,
            steps_omitted: transcript.steps_omitted,
            validations: transcript.validations,
            warnings: transcript.warnings,
            notices: transcript.notices,
            app_version: transcript.app_version,
        })
    }

    /// Has the target's plugin undo what a killed capture left, as the journal says.
    ///
    /// # Errors
    /// When it could not; the journal keeps what is still to be undone.
    pub async fn recover(
        &self,
        target: &Target,
        run: RunId,
        journal: &Path,
        context: &Context,
        limits: Limits,
    ) -> Result<(), PluginFailure> {
        let plugin = self.get(target.plugin.as_str()).map_err(PluginFailure::failed)?;
        let resolved = resolved(plugin, target).await?;
        let context = guarded(context, &resolved);
        let request =
            Request { journal: Some(journal.to_owned()), ..request(Action::Recover, target, run, journal, resolved) };
        let (finished, mut transcript) = ask(plugin, &request, Some(journal), &context, limits, |_, _| {}).await;
        clean(&mut transcript, &context.redact);
        judge(plugin, &finished, &transcript)
    }

    /// Where the target's settings refer to a secret, and by what.
    pub(crate) fn secrets_of(&self, target: &Target) -> Vec<(String, SecretRef)> {
        let plugin = self.get(target.plugin.as_str());
        plugin.map(|plugin| secrets::references(plugin.schema(), &target.settings)).unwrap_or_default()
    }

    /// Whether the plugin of that name keeps a journal.
    pub fn keeps_a_journal(&self, plugin: &str) -> bool {
        self.get(plugin).is_ok_and(|plugin| plugin.can(Capability::Recover))
    }
}

/// What is asked of a plugin, whatever it is to do.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub target: &'a Target,
    /// The run, or the operation.
    pub run: RunId,
    /// Where its files are made, or lie.
    pub staging: &'a Path,
    pub inputs: &'a CaptureInputs,
    pub context: &'a Context,
    pub limits: Limits,
}

/// What a capture, validation or restore gets beside its settings.
#[derive(Clone, Debug, Default)]
pub struct CaptureInputs {
    /// What the target's newest publication holds.
    pub previous: Option<CaptureFacts>,
    /// For plugins that keep one.
    pub journal: Option<PathBuf>,
    /// Directories of Larder itself, without links.
    pub own: Vec<PathBuf>,
}

async fn resolved(plugin: &Plugin, target: &Target) -> Result<Resolved, PluginFailure> {
    let (schema, settings) = (plugin.schema().clone(), target.settings.clone());
    tokio::task::spawn_blocking(move || secrets::resolve(&schema, &settings))
        .await
        .unwrap_or_else(|error| Err(Trouble::new(codes::INTERNAL, format!("reading the secrets stopped: {error}"))))
        .map_err(PluginFailure::failed)
}

fn request(action: Action, target: &Target, run: RunId, staging: &Path, resolved: Resolved) -> Request {
    Request {
        target: target.name.to_string(),
        run: run.to_string(),
        staging: staging.to_owned(),
        settings: resolved.settings,
        ..Request::new(action)
    }
}

/// The same context with the plugin's secrets added to what is hidden.
fn guarded(context: &Context, resolved: &Resolved) -> Context {
    Context { redact: context.redact.with(resolved.secrets.clone()), ..context.clone() }
}

/// A context for a call that leaves no log.
pub(crate) fn silent() -> Context {
    Context {
        cancel: CancellationToken::new(),
        log: Log::discard(),
        redact: Redactor::default(),
        mark: "describe:describe".to_owned(),
    }
}

/// What is heard of a restore while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// In bytes; a total of 0 is an unknown one.
    Progress { done: u64, total: u64 },
    /// Something that is done, would be done, or is left to be done by hand.
    Step { by_hand: bool, line: String },
    /// A warning or a notice, for a person.
    Line(String),
    /// The application's version.
    Version(String),
}

/// As [`listen`], for who wants to know how far it is only.
pub(crate) async fn ask(
    plugin: &Plugin,
    request: &Request,
    staging: Option<&Path>,
    context: &Context,
    limits: Limits,
    mut on_progress: impl FnMut(u64, u64) + Send,
) -> (Finished, Transcript) {
    let heard = listen(plugin, request, staging, context, limits, |note| {
        if let Heard::Progress { done, total } = note {
            on_progress(*done, *total);
        }
    });
    heard.await
}

/// Runs the plugin once and listens to the end. `staging` becomes its working directory.
async fn listen(
    plugin: &Plugin,
    request: &Request,
    staging: Option<&Path>,
    context: &Context,
    limits: Limits,
    mut on_note: impl FnMut(&Heard) + Send,
) -> (Finished, Transcript) {
    let mut args = plugin.args.clone();
    if plugin.origin == Origin::External {
        args.push(request.action.as_str().into());
    }
    let mut line = match serde_json::to_string(request) {
        Ok(line) => line,
        Err(error) => return not_asked(plugin, &error),
    };
    line.push('\n');
    let command = Command {
        program: plugin.program.clone(),
        args,
        env: plugin.env.clone(),
        current_dir: staging.map(Path::to_owned),
        stdin: Stdin::Bytes(SecretString::from(line)),
        limits,
        log_stdout: LogStdout::No,
    };
    // Its own token: a plugin that floods is ended alone.
    let context = Context { cancel: context.cancel.child_token(), ..context.clone() };
    let mut transcript = Transcript::default();
    let log = |text: &str| context.log.line(text);
    let finished = process::run(command, &context, |line| {
        // Each part of it may have been cut, so it is cleaned before it is put together with others.
        let note = cleaned(transcript.read(line), &context.redact);
        match &note {
            Heard::Nothing | Heard::Progress { .. } | Heard::Version(_) => {}
            Heard::Log(text) => log(text),
            Heard::Step(step) => log(&step.to_string()),
            Heard::Warning(warning) => log(&format!("warning: {}", warning.message)),
            Heard::Notice(notice) => log(&format!("notice: {}", notice.message)),
            Heard::EndIt => context.cancel.cancel(),
        }
        on_note(&note);
    })
    .await;
    if transcript.strange_lines > 0 {
        context.log.line(&format!("the plugin wrote {} lines that are no events", transcript.strange_lines));
    }
    (finished, transcript)
}

/// What came of a request that has no form as JSON, such as one with a path that is no UTF-8: the plugin is not started.
fn not_asked(plugin: &Plugin, error: &serde_json::Error) -> (Finished, Transcript) {
    let detail = format!("the request for the plugin {} cannot be written: {error}", plugin.name);
    let trouble = Trouble::new(codes::REQUEST_UNWRITABLE, detail.clone())
        .with_hint("paths that are given to plugins are UTF-8: rename what is not, or leave it out");
    let exit = Exit::NotStarted { program: plugin.program.clone(), kind: std::io::ErrorKind::InvalidData, detail };
    let finished =
        Finished { exit, wall: Duration::ZERO, stderr_tail: String::new(), left_alive: process::LeftAlive::default() };
    let mut transcript = Transcript::default();
    transcript.failed = Some((trouble, false));
    (finished, transcript)
}

/// Says whether the plugin did what it was asked to, by how it ended and what it said.
pub(crate) fn judge(plugin: &Plugin, finished: &Finished, transcript: &Transcript) -> Result<(), PluginFailure> {
    let name = &plugin.name;
    let fail = |trouble| Err(PluginFailure::failed(trouble));
    if let Some(what) = transcript.overflow {
        return fail(
            Trouble::new(codes::PLUGIN_FLOODS, format!("the plugin {name} sent too many {what} and was ended"))
                .with_hint("look at the run's log for what it wrote"),
        );
    }
    if finished.exit == Exit::Cancelled {
        return Err(PluginFailure {
            outcome: Outcome::Cancelled,
            trouble: Trouble::new(codes::CANCELLED, format!("the plugin {name} was stopped")),
        });
    }
    if let Some((told, retry)) = &transcript.failed {
        let outcome = if *retry { Outcome::Deferred } else { Outcome::Failed };
        return Err(PluginFailure { outcome, trouble: told.clone() });
    }
    match &finished.exit {
        Exit::Success | Exit::Cancelled => Ok(()),
        Exit::Code(code) => fail(
            Trouble::new(codes::PLUGIN_FAILED, format!("the plugin {name} ended with code {code}{}", said(finished)))
                .with_hint("the run's log has all that it wrote"),
        ),
        Exit::Signal(signal) => fail(
            Trouble::new(
                codes::PLUGIN_KILLED,
                format!("the plugin {name} was killed by signal {signal}{}", said(finished)),
            )
            .with_hint("if nobody killed it, look for the kernel's out-of-memory killer: `journalctl -k`"),
        ),
        Exit::DeadlineExceeded(after) => fail(
            Trouble::new(codes::DEADLINE, format!("the plugin {name} was not done after {}", show_duration(*after)))
                .with_hint("raise the policy's `timeout`, or look in the run's log for what it waits for"),
        ),
        Exit::NoProgress(after) => fail(
            Trouble::new(codes::NO_PROGRESS, format!("the plugin {name} said nothing for {}", show_duration(*after)))
                .with_hint("look in the run's log for what it waits for"),
        ),
        Exit::NotStarted { program, detail, .. } => fail(
            Trouble::new(codes::PLUGIN_NOT_STARTED, format!("{} cannot be started: {detail}", program.display()))
                .with_hint("check that the file is there, executable, and begins with `#!` if it is a script"),
        ),
    }
}

fn said(finished: &Finished) -> String {
    match finished.stderr_tail.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(last) => format!(" and said: {}", crate::plugin::kit::tidy::tidy(last, 400)),
        None => String::new(),
    }
}

/// What is told at once, without secrets.
fn cleaned(note: Heard, redact: &Redactor) -> Heard {
    let mut note = note;
    match &mut note {
        Heard::Log(text) | Heard::Version(text) => *text = redact.redact_cut(text).into_owned(),
        Heard::Step(step) => clean_step(step, redact),
        Heard::Warning(trouble) | Heard::Notice(trouble) => clean_trouble(trouble, redact),
        Heard::Nothing | Heard::Progress { .. } | Heard::EndIt => {}
    }
    note
}

fn clean_trouble(trouble: &mut Trouble, redact: &Redactor) {
    *trouble = redact.trouble(trouble.clone());
}

fn clean_step(step: &mut Step, redact: &Redactor) {
    step.thing = redact.redact_cut(&step.thing).into_owned();
    step.detail = redact.redact_cut(&step.detail).into_owned();
}

/// Takes the secrets out of everything that is kept; a plugin may have cut what an application said.
fn clean(transcript: &mut Transcript, redact: &Redactor) {
    let remarks = transcript.warnings.iter_mut().chain(&mut transcript.notices);
    let troubles = remarks.chain(transcript.failed.as_mut().map(|(told, _)| told));
    troubles.for_each(|trouble| clean_trouble(trouble, redact));
    transcript.steps.iter_mut().for_each(|step| clean_step(step, redact));
    for validation in &mut transcript.validations {
        validation.name = redact.redact_cut(&validation.name).into_owned();
        validation.detail = redact.redact_cut(&validation.detail).into_owned();
    }
    transcript.app_version = transcript.app_version.as_deref().map(|version| redact.redact_cut(version).into_owned());
    transcript.figures = std::mem::take(&mut transcript.figures)
        .into_iter()
        .map(|(name, n)| (redact.redact_cut(&name).into_owned(), n))
        .collect();
}

/// Looks at each file and path that the plugin named.
fn believe(plugin: &str, transcript: Transcript, staging: &Path) -> Result<Captured, Trouble> {
    if transcript.artifacts.is_empty() && transcript.sources.is_empty() {
        return Err(Trouble::new(
            codes::NOTHING_CAPTURED,
            format!("the plugin {plugin} ended well but named no artifact and no source"),
        )
        .with_hint("a capture must print at least one `artifact` or `source` event"));
    }
    let mut seen = BTreeSet::new();
    let mut bytes: u64 = 0;
    for artifact in &transcript.artifacts {
        if !seen.insert(&artifact.path) {
            return Err(Trouble::new(
                codes::ARTIFACT_TWICE,
                format!("the plugin {plugin} named the artifact {} twice", artifact.path.display()),
            ));
        }
        bytes = bytes.saturating_add(artifact_bytes(plugin, staging, &artifact.path)?);
    }
    for source in &transcript.sources {
        check_source(plugin, &source.path)?;
    }
    bytes = bytes.saturating_add(transcript.figures.get(SOURCE_BYTES).copied().unwrap_or(0));
    Ok(Captured {
        artifacts: transcript.artifacts,
        sources: transcript.sources,
        app_version: transcript.app_version,
        figures: transcript.figures,
        warnings: transcript.warnings,
        notices: transcript.notices,
        bytes,
    })
}

/// The size of an artifact that is a plain file inside the staging directory and has content.
fn artifact_bytes(plugin: &str, staging: &Path, relative: &Path) -> Result<u64, Trouble> {
    let refuse = |code: Code, why: String| {
        Err(Trouble::new(code, format!("the plugin {plugin} named the artifact {}, {why}", relative.display()))
            .with_hint("an artifact is a regular file below the staging directory, named relative to it"))
    };
    if relative.as_os_str().is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return refuse(codes::ARTIFACT_OUTSIDE, "which is not inside the staging directory".to_owned());
    }
    // Each step is looked at without following: a link on the way would lead outside.
    let mut path = PathBuf::from(staging);
    let mut metadata = None;
    for part in relative.components() {
        path.push(part);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                return refuse(codes::ARTIFACT_OUTSIDE, format!("but {} is a symbolic link", path.display()));
            }
            Ok(found) => metadata = Some(found),
            Err(error) => return refuse(codes::ARTIFACT_MISSING, format!("but it cannot be read: {error}")),
        }
    }
    match metadata {
        Some(found) if !found.is_file() => refuse(codes::ARTIFACT_KIND, "which is no regular file".to_owned()),
        Some(found) if found.len() == 0 => refuse(codes::ARTIFACT_EMPTY, "which is empty".to_owned()),
        Some(found) => Ok(found.len()),
        None => refuse(codes::ARTIFACT_MISSING, "which has no name".to_owned()),
    }
}

fn check_source(plugin: &str, path: &Path) -> Result<(), Trouble> {
    let refuse = |code: Code, why: String| {
        Err(Trouble::new(code, format!("the plugin {plugin} named the source {}, {why}", path.display())))
    };
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return refuse(codes::SOURCE_PATH, "which is not an absolute path without `..`".to_owned());
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() || found.is_file() => Ok(()),
        Ok(_) => refuse(codes::SOURCE_KIND, "which is neither a directory nor a regular file".to_owned()),
        Err(error) => refuse(codes::SOURCE_MISSING, format!("which cannot be read: {error}")),
    }
}
