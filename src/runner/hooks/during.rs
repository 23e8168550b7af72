//! Programs that run beside a run: started behind `before`, ended behind shipping, such as a tunnel to a database.
//!
//! Each stays in the foreground and is ended with all that it started (TERM, a grace, KILL). One that is waited for says
//! by a port that it is ready.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Moment, command, failure};
use crate::config::model::Hook;
use crate::error::{Trouble, codes};
use crate::process::{self, Context, Exit, Finished, LeftBehind, Limits};
use crate::store::record::RunRecord;
use crate::types::show_duration;

/// One that fails at once is told before anything is read.
const SETTLE: Duration = Duration::from_millis(300);
/// Between two tries of a port.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for one answer of a port.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The programs beside one run. When dropped, they are killed.
#[derive(Default)]
pub struct During {
    running: Vec<Beside>,
}

struct Beside {
    hook: Hook,
    end: CancellationToken,
    /// None once it ended.
    task: Option<AbortOnDropHandle<Finished>>,
    /// How it ended, until that is told.
    ended: Option<Finished>,
}

impl During {
    /// Starts `hooks` in order, each when the one before is ready. What was started before a failure is in `self`.
    ///
    /// # Errors
    /// One that ended, or was not ready in its time.
    pub async fn start(
        &mut self,
        hooks: &[Hook],
        record: &RunRecord,
        context: &Context,
        left: Duration,
    ) -> Result<(), Trouble> {
        for hook in hooks {
            context.log.line(&format!("hook during: {}", hook.command.join(" ")));
            let end = CancellationToken::new();
            let limits = Limits { deadline: left, left_behind: LeftBehind::Ended, ..Limits::default() };
            let Some(command) = command(Moment::During, hook, record, limits) else { continue };
            let own = Context { cancel: end.clone(), ..context.clone() };
            let task = tokio::spawn(async move { process::run(command, &own, |_| {}).await });
            let task = Some(AbortOnDropHandle::new(task));
            self.running.push(Beside { hook: hook.clone(), end, task, ended: None });
            let Some(started) = self.running.last_mut() else { continue };
            started.ready(context, left).await?;
        }
        Ok(())
    }

    /// Why the run is not what it should be: a program that ended before it was ended; told once.
    pub async fn trouble(&mut self) -> Option<Trouble> {
        for beside in &mut self.running {
            if beside.task.as_ref().is_some_and(AbortOnDropHandle::is_finished) {
                beside.wait().await;
            }
            if let Some(trouble) = beside.ended.take().and_then(|finished| ended_early(&beside.hook, &finished)) {
                return Some(trouble);
            }
        }
        None
    }

    /// Ends what still runs, the last that was started first.
    pub async fn end(&mut self, context: &Context) {
        while let Some(mut beside) = self.running.pop() {
            beside.end.cancel();
            beside.wait().await;
            if beside.ended.is_some_and(|finished| finished.exit == Exit::Cancelled) {
                context.log.line(&format!("hook during: ended {}", beside.hook.command.join(" ")));
            }
        }
    }
}

impl Beside {
    /// Waits until its port answers, or for a moment where it has none.
    async fn ready(&mut self, context: &Context, left: Duration) -> Result<(), Trouble> {
        let Some(port) = self.hook.ready.clone() else {
            let _ = tokio::time::timeout(SETTLE, self.wait()).await;
            let ended = self.ended.take();
            return ended.and_then(|finished| ended_early(&self.hook, &finished)).map_or(Ok(()), Err);
        };
        let bound = self.hook.timeout.min(left);
        let shown = program(&self.hook).to_owned();
        tokio::select! {
            biased;
            () = context.cancel.cancelled() => Err(Trouble::new(codes::CANCELLED, "cancelled while a hook was waited for")),
            () = self.wait() => {
                let ended = self.ended.take();
                let early = ended.and_then(|finished| ended_early(&self.hook, &finished));
                Err(early.unwrap_or_else(|| not_in_foreground(&self.hook)))
            }
            () = answers(&port) => Ok(()),
            () = tokio::time::sleep(bound) => Err(Trouble::new(
                codes::HOOK_FAILED,
                format!("the during hook {shown} was not ready at {port} within {}", show_duration(bound)),
            )
            .with_hint("see the run's log with `larder log`; raise the hook's `timeout`, or look whether `ready` names its port")),
        }
    }

    /// Waits for its end; comes back at once when that was waited for already.
    async fn wait(&mut self) {
        let Some(task) = &mut self.task else { return };
        let finished = task.await;
        self.task = None;
        self.ended = finished.ok();
    }
}

/// An end with success is none of ours: it had nothing more to do.
fn ended_early(hook: &Hook, finished: &Finished) -> Option<Trouble> {
    match finished.exit {
        Exit::Success | Exit::Cancelled => None,
        _ => {
            let trouble = failure(Moment::During, hook, finished);
            Some(Trouble { message: format!("{}, before the run was through", trouble.message), ..trouble })
        }
    }
}

fn not_in_foreground(hook: &Hook) -> Trouble {
    Trouble::new(codes::HOOK_FAILED, format!("the during hook {} ended before it was ready", program(hook)))
        .with_hint("it must stay in the foreground until it is ended: `ssh -N`, not `ssh -f`")
}

fn program(hook: &Hook) -> &str {
    hook.command.first().map_or("", String::as_str)
}

/// Comes back when something takes connections at `port`.
async fn answers(port: &str) {
    loop {
        if let Ok(Ok(_)) = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(port)).await {
            return;
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}
