//! `larder hook pre-receive|post-receive`: what Git calls when someone pushes.
//!
//! `pre-receive` checks the config of the pushed commit before the branch moves, with the daemon up or down. Whatever
//! goes wrong in it, the push is refused and says why: nothing unchecked gets in by accident. What gets in on purpose
//! (another way than a push) is checked again by the daemon.
//! `post-receive` comes when the branch has moved, so it only tells, and never fails.

mod words;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use self::words::Checked;
use super::socket::{SocketError, call, garbled};
use crate::config::diagnostic::{Colour, Diagnostic};
use crate::config::load::Loader;
use crate::config::model::Config;
use crate::error::{Trouble, chain, codes};
use crate::plugin::Catalogue;
use crate::runner::control::{PlanText, ReconcileResult, Reconciled};
use crate::secret::identity::Sources;
use crate::secret::keyring::{Keyring, Owner};
use crate::source::FileSet;
use crate::source::bare::Bare;
use crate::source::hook::{
    Decision, INPUT_BYTES_MAX, PushOptions, RefUpdate, Whereabouts, decide, parse_updates, push_options,
};
use crate::source::quarantine::PushEnv;
use crate::store::layout::RECIPIENTS;
use crate::store::record::Applied;
use crate::types::Revision;

/// How long a push waits for the daemon to apply what it brought.
const RECONCILE_WAIT: Duration = Duration::from_secs(10);
/// How long a refused push waits to learn what is active.
const STATUS_WAIT: Duration = Duration::from_millis(500);
/// How long a push waits for a plan.
const PLAN_WAIT: Duration = Duration::from_secs(5);
/// The branch that is watched where `larder init` never said so.
const BRANCH_DEFAULT: &str = "main";

/// Checks a push before it is accepted; the exit code says whether it is.
pub(crate) fn pre_receive() -> ExitCode {
    let refused = catch_unwind(AssertUnwindSafe(|| match Push::read().and_then(|push| judge(&push)) {
        Ok((accepted, lines)) => {
            say(&lines);
            accepted
        }
        Err(trouble) => {
            say(&words::refusal(&trouble));
            Accepted::No
        }
    }))
    .unwrap_or_else(|_| {
        let trouble =
            Trouble::new(codes::HOOK_PANICKED, "Larder failed while checking this push, so nothing was pushed")
                .with_hint("this is a defect of Larder: please report the lines above");
        say(&words::refusal(&trouble));
        Accepted::No
    });
    match refused {
        Accepted::Yes => ExitCode::SUCCESS,
        Accepted::No => ExitCode::FAILURE,
    }
}

/// Tells the daemon of an accepted push and prints what it made of it. Always succeeds.
pub(crate) fn post_receive() -> ExitCode {
    let told = catch_unwind(AssertUnwindSafe(|| match Push::read() {
        Ok(push) => say(&report(&push)),
        Err(trouble) => say(&words::unanswered(&SocketError::Refused(trouble))),
    }));
    // A panic has printed itself; the branch has moved all the same.
    drop(told);
    ExitCode::SUCCESS
}

/// Whether a push goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepted {
    Yes,
    No,
}

/// Everything that Git and the repository say about a push.
struct Push {
    env: PushEnv,
    options: PushOptions,
    whereabouts: Whereabouts,
    branch: String,
    updates: Vec<RefUpdate>,
    decision: Decision,
}

impl Push {
    fn read() -> Result<Self, Trouble> {
        let env = PushEnv::read(|name| std::env::var_os(name)).map_err(|e| e.trouble())?;
        let options = push_options(|name| std::env::var_os(name).map(OsString::into_string)?.ok());
        let input = read_input()?;
        let updates = parse_updates(&input).map_err(|e| {
            Trouble::new(codes::HOOK_INPUT, e.to_string())
                .with_hint("this command is for Git: it calls it when someone pushes")
        })?;
        let whereabouts = Bare::open(&env.git_dir).map_err(|e| e.trouble())?.whereabouts();
        let branch = whereabouts.branch.clone().unwrap_or_else(|| BRANCH_DEFAULT.to_owned());
        let decision = decide(&updates, &branch);
        Ok(Self { env, options, whereabouts, branch, updates, decision })
    }

    fn ask(&self, method: &str, params: &Value, deadline: Duration) -> Result<Value, SocketError> {
        match &self.whereabouts.socket {
            Some(socket) => call(socket, method, params, deadline),
            None => {
                let told = Trouble::new(codes::DAEMON_NOT_RUNNING, "this repository does not know its daemon's socket");
                Err(SocketError::NotRunning(told.with_hint("run `larder init` again")))
            }
        }
    }
}

/// Decides about a push; what it says is for whoever pushes.
fn judge(push: &Push) -> Result<(Accepted, Vec<String>), Trouble> {
    let new = match &push.decision {
        Decision::Check { new, .. } => new,
        Decision::RefuseDelete => {
            let message = format!("the branch {} is what Larder backs up by, so it is not deleted", push.branch);
            let hint = "to stop all backups, push a commit that removes the targets; to watch another branch, run `larder init` again";
            return Err(Trouble::new(codes::BRANCH_DELETED, message).with_hint(hint));
        }
        Decision::Pass if push.options.plan => {
            let line = format!("nothing was pushed: there is no plan, since this push does not move {}", push.branch);
            return Ok((Accepted::No, vec![line]));
        }
        Decision::Pass => return Ok((Accepted::Yes, Vec::new())),
    };
    let files = Bare::open_quarantined(&push.env)
        .and_then(|view| view.files(new, &push.whereabouts.root))
        .map_err(|e| e.trouble())?;
    let checked = check(&push.whereabouts, &files)?;
    let Some(config) = &checked.config else {
        let active = active(push);
        return Ok((Accepted::No, words::rejection(new, &checked, active.as_ref(), &TimeZone::system())));
    };
    let mut lines = words::warnings(&checked);
    if push.options.plan {
        lines.extend(plan(push, new, config));
        lines.push("nothing was pushed: this was a plan".to_owned());
        return Ok((Accepted::No, lines));
    }
    Ok((Accepted::Yes, lines))
}

/// Loads the config as the daemon would, with the same plugins.
fn check(whereabouts: &Whereabouts, files: &dyn FileSet) -> Result<Checked, Trouble> {
    let larder = std::env::current_exe()
        .map_err(|e| Trouble::new(codes::NO_PROGRAM, format!("cannot tell where larder itself is: {e}")))?;
    let catalogue = Catalogue::discover(crate::plugin::ALL, whereabouts.plugins.as_deref(), &larder)?;
    let loaded = Loader::new(Arc::new(catalogue)).with_keyring(keyring(whereabouts)).load(files);
    let (errors, warnings): (Vec<_>, Vec<_>) = loaded.diagnostics.iter().partition(|found| found.is_error());
    let files_with_errors = errors.iter().map(|found| found.path.as_str()).collect::<BTreeSet<_>>().len();
    let render = |found: &&Diagnostic| found.render(Colour::Never);
    Ok(Checked {
        config: loaded.config,
        errors: errors.iter().map(render).collect(),
        warnings: warnings.iter().map(render).collect(),
        // A refused file is one of the revision too.
        files: loaded.files + files.refused().len(),
        files_with_errors,
    })
}

/// What is known of the daemon's identity: its recipients lie beside its socket. Who pushes may have an identity, too.
fn keyring(whereabouts: &Whereabouts) -> Keyring {
    let beside = whereabouts.socket.as_deref().and_then(Path::parent).map(|state| state.join(RECIPIENTS));
    let text = beside.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let recipients = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    Keyring { sources: Sources::of_process(None), owner: Owner::Somebody, recipients }
}

/// What the pushed config would change, by the daemon's records; without them, what it contains.
fn plan(push: &Push, revision: &Revision, config: &Config) -> Vec<String> {
    let answer = push.ask("config.plan", &json!({"config": config, "revision": revision}), PLAN_WAIT);
    let planned = answer
        .map_err(SocketError::into_trouble)
        .and_then(|value| serde_json::from_value::<PlanText>(value).map_err(|e| garbled(&e.to_string())));
    match planned {
        Ok(planned) if planned.lines.is_empty() => vec![format!("{} changes nothing", revision.short())],
        Ok(planned) => planned.lines,
        Err(trouble) => {
            let mut lines = vec![format!("no plan: {}", trouble.message)];
            lines.extend(trouble.hint.iter().map(|hint| format!("  hint: {hint}")));
            lines.extend(words::contents(config));
            lines
        }
    }
}

/// What is in force; none when the daemon does not say.
fn active(push: &Push) -> Option<Applied> {
    let mut status = push.ask("config.status", &json!({}), STATUS_WAIT).ok()?;
    serde_json::from_value(status.get_mut("applied")?.take()).ok()
}

/// What came of an accepted push.
fn report(push: &Push) -> Vec<String> {
    let Decision::Check { new, .. } = &push.decision else { return unwatched(push) };
    let reconciled = ask_verdict(push, "config.reconcile", &json!({"revision": new}));
    let verdict = match reconciled {
        Ok(verdict) if verdict.result == ReconcileResult::Held && push.options.confirms(new) => {
            ask_verdict(push, "config.confirm", &json!({"revision": new}))
        }
        other => other,
    };
    match verdict {
        Ok(verdict) => match verdict.revision.as_ref().filter(|seen| !holds(push, seen, new)) {
            Some(seen) => words::elsewhere(new, seen),
            None => words::verdict(new, &verdict),
        },
        Err(error) => words::unanswered(&error),
    }
}

/// Whether the daemon, which sees `seen`, has the pushed revision before it; a later push may be there already.
fn holds(push: &Push, seen: &Revision, pushed: &Revision) -> bool {
    seen == pushed || Bare::open(&push.env.git_dir).and_then(|bare| bare.descends(seen, pushed)).unwrap_or(false)
}

/// What is said of a push that moved branches, and not the watched one.
fn unwatched(push: &Push) -> Vec<String> {
    let moved = push.updates.iter().filter(|update| update.new.is_some());
    let branches: Vec<&str> = moved.filter_map(|update| update.name.strip_prefix("refs/heads/")).collect();
    if branches.is_empty() || push.decision != Decision::Pass {
        return Vec::new();
    }
    let there = Bare::open(&push.env.git_dir).and_then(|bare| bare.head(&push.branch));
    words::unwatched(&branches, &push.branch, there.is_ok_and(|head| head.is_some()))
}

fn ask_verdict(push: &Push, method: &str, params: &Value) -> Result<Reconciled, SocketError> {
    let value = push.ask(method, params, RECONCILE_WAIT + Duration::from_secs(1))?;
    serde_json::from_value(value).map_err(|e| SocketError::NotReachable(garbled(&e.to_string())))
}

fn read_input() -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    let failed = |what: &str| Trouble::new(codes::HOOK_INPUT, format!("the list of pushed refs {what}"));
    io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(&format!("cannot be read: {}", chain(&e))))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(failed(&format!("is longer than {INPUT_BYTES_MAX} bytes")).with_hint("push fewer refs at once"));
    }
    // A ref of another branch may have any name; ours is plain text, and text survives this.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes lines to standard error, which Git passes on; a reader that went away is no reason to fail.
fn say(lines: &[String]) {
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
