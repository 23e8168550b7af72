//! The programs around a run: `before`, `after`, `on_failure`; argv lists without a shell, each with a timeout.
//!
//! A hook is over when it ends, whoever still holds its outputs. What it started lives on when it ended well, since that
//! is what an `after` that starts an application is for; it is ended with a hook that failed. See `during` for programs
//! that are to live as long as the run.

pub mod during;

use std::time::Duration;

use secrecy::SecretString;

use crate::config::model::Hook;
use crate::error::{Trouble, codes};
use crate::process::{self, Command, Context, Exit, LeftBehind, Limits, LogStdout, Spared, Stdin};
use crate::store::record::RunRecord;

/// Which hooks, as the programs see it in `LARDER_HOOK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    During,
    After,
    OnFailure,
}

impl Moment {
    fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
            Self::OnFailure => "on_failure",
        }
    }
}

/// Runs `hooks` in order and stops at the first that fails.
///
/// # Errors
/// The failing hook, how it ended, and the end of its standard error.
pub async fn run(
    moment: Moment,
    hooks: &[Hook],
    record: &RunRecord,
    context: &Context,
    spared: &Spared,
    left: Duration,
) -> Result<(), Trouble> {
    for hook in hooks {
        context.log.line(&format!("hook {}: {}", moment.as_str(), hook.command.join(" ")));
        let limits = Limits { deadline: hook.timeout.min(left), left_behind: LeftBehind::Lives, ..Limits::default() };
        let Some(command) = command(moment, hook, record, limits) else { continue };
        let finished = process::run(command, context, |_| {}).await;
        if finished.exit != Exit::Success {
            return Err(failure(moment, hook, &finished));
        }
        let left = &finished.left_alive;
        for alive in &left.processes {
            context.log.line(&format!("hook {}: process {} ({}) lives on", moment.as_str(), alive.pid, alive.program));
        }
        if !left.processes.is_empty()
            && let Err(error) = spared.add(&left.word)
        {
            context.log.line(&format!("hook {}: the next start of the daemon will end it: {error}", moment.as_str()));
        }
    }
    Ok(())
}

/// The hook's program; none without words.
fn command(moment: Moment, hook: &Hook, record: &RunRecord, limits: Limits) -> Option<Command> {
    let (program, args) = hook.command.split_first()?;
    Some(Command {
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        env: environment(moment, record),
        current_dir: None,
        stdin: Stdin::Null,
        limits,
        log_stdout: LogStdout::Yes,
    })
}

fn environment(moment: Moment, record: &RunRecord) -> Vec<(String, SecretString)> {
    let mut env = vec![
        ("LARDER_HOOK", moment.as_str().to_owned()),
        ("LARDER_TARGET", record.job.target.to_string()),
        ("LARDER_POLICY", record.job.policy.to_string()),
        ("LARDER_RUN", record.id.to_string()),
        ("LARDER_STATE", record.state.as_str().to_owned()),
    ];
    if let Some(trouble) = &record.trouble {
        env.push(("LARDER_TROUBLE", trouble.message.clone()));
    }
    env.into_iter().map(|(name, value)| (name.to_owned(), SecretString::from(value))).collect()
}

fn failure(moment: Moment, hook: &Hook, finished: &process::Finished) -> Trouble {
    let program = hook.command.first().map_or("", String::as_str);
    if finished.exit == Exit::Cancelled {
        return Trouble::new(codes::CANCELLED, format!("cancelled during the {} hook {program}", moment.as_str()));
    }
    let why = match &finished.exit {
        Exit::Success => "ended".to_owned(),
        Exit::Code(code) => format!("ended with exit code {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
        Exit::DeadlineExceeded(limit) | Exit::NoProgress(limit) => {
            format!("was ended after its timeout of {}", crate::types::show_duration(*limit))
        }
        Exit::Cancelled => "was cancelled".to_owned(),
        Exit::NotStarted { detail, .. } => format!("could not be started ({detail})"),
    };
    let tail = finished.stderr_tail.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
    Trouble::new(codes::HOOK_FAILED, format!("the {} hook {program} {why}{tail}", moment.as_str()))
        .with_hint("see the run's log with `larder log`; hooks are argv lists without a shell")
}
