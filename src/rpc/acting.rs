//! The methods that change something: each becomes one request to the daemon's task.

use crate::error::Trouble;
use crate::rpc::Rpc;
use crate::rpc::access::Access::{Control, Read};
use crate::rpc::register::Register;
use crate::rpc::wire::{
    AcceptParams, ConfirmParams, DestinationParams, Done, HoldsAccepted, MailTested, NoParams, OperationStarted,
    PlanParams, ReconcileParams, RestoreParams, RewindParams, RunParams, RunStartParams, RunsStarted, SuspendParams,
    TargetParams, UnlockParams, invalid,
};
use crate::runner::control::{DestinationAction, PlanText, Reconciled, Request, RewindRequest};
use crate::storage::s3::RewindAct;

/// Longest reason of a suspension, in characters.
const REASON_CHARS_MAX: usize = 500;

pub(super) fn register(to: &mut impl Register) {
    to.method("target.suspend", Control, "Stop the jobs of a target for a while.", suspend);
    to.method("target.resume", Control, "Let a suspended target run again.", resume);
    to.method("target.accept", Control, "Accept what holds a target, by the value that is shown with it.", accept);
    to.method("run.start", Control, "Run the jobs of a target now; answers at once with the runs' ids.", run_start);
    to.method("run.cancel", Control, "Stop a run that is queued or in progress.", run_cancel);
    to.method("restore.start", Control, "Restore a snapshot into a directory or an application.", restore_start);
    to.method("destination.test", Control, "Open the repository and say whether it can be used.", |rpc, params| {
        destination(rpc, params, DestinationAction::Test)
    });
    to.method("destination.check", Control, "Check the repository now.", |rpc, params| {
        destination(rpc, params, DestinationAction::Check)
    });
    to.method("destination.pin", Control, "Print the line that pins the repository's id in Git.", |rpc, params| {
        destination(rpc, params, DestinationAction::Pin)
    });
    to.method("destination.keys", Control, "List the repository's keys and what each is for.", |rpc, params| {
        destination(rpc, params, DestinationAction::Keys)
    });
    to.method(
        "destination.extend_locks",
        Control,
        "Look at the locks on all objects now, and extend those that end soon.",
        |rpc, params| destination(rpc, params, DestinationAction::ExtendLocks),
    );
    to.method("destination.prune", Control, "Prune the repository now.", |rpc, params| {
        destination(rpc, params, DestinationAction::Prune)
    });
    to.method("destination.gather", Control, "Gather the statistics of the repository now.", |rpc, params| {
        destination(rpc, params, DestinationAction::Gather)
    });
    to.method(
        "destination.copy",
        Control,
        "Copy now what the destination lacks of the one it is a copy of.",
        |rpc, params| destination(rpc, params, DestinationAction::Copy),
    );
    to.method("destination.forget", Control, "Forget now what the runs gave up.", |rpc, params| {
        destination(rpc, params, DestinationAction::Forget)
    });
    to.method(
        "destination.unlock",
        Control,
        "Remove locks that dead processes of ours left, or one that is named by its id.",
        unlock,
    );
    to.method(
        "destination.rewind",
        Control,
        "Bring back what was deleted or overwritten since a time in a bucket that keeps versions; says only what that \
         would be unless `dry_run` is false.",
        rewind,
    );
    to.method("config.plan", Read, "What applying a revision or a config would change; applies nothing.", plan);
    to.method("config.reconcile", Control, "Look at the watched branch again, now.", reconcile);
    to.method("config.confirm", Control, "Apply the revision that is held.", confirm);
    to.method("alert.test", Control, "Send a test mail and say what the server answered.", mail_test);
}

async fn suspend(rpc: Rpc, params: SuspendParams) -> Result<Done, Trouble> {
    let SuspendParams { target, until, reason } = params;
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(invalid("reason", "too long", &format!("at most {REASON_CHARS_MAX} characters")));
    }
    rpc.control.ask(|reply| Request::Suspend { target, until, reason, reply }).await?;
    Ok(Done { done: true })
}

async fn accept(rpc: Rpc, params: AcceptParams) -> Result<HoldsAccepted, Trouble> {
    let AcceptParams { target, value } = params;
    let accepted = rpc.control.ask(|reply| Request::Accept { target, value, reply }).await?;
    Ok(HoldsAccepted { accepted })
}

async fn resume(rpc: Rpc, params: TargetParams) -> Result<Done, Trouble> {
    rpc.control.ask(|reply| Request::Resume { target: params.target, reply }).await?;
    Ok(Done { done: true })
}

async fn run_start(rpc: Rpc, params: RunStartParams) -> Result<RunsStarted, Trouble> {
    let RunStartParams { target, policy } = params;
    let runs = rpc.control.ask(|reply| Request::StartRun { target, policy, reply }).await?;
    Ok(RunsStarted { runs })
}

async fn run_cancel(rpc: Rpc, params: RunParams) -> Result<Done, Trouble> {
    rpc.control.ask(|reply| Request::CancelRun { run: params.run, reply }).await?;
    Ok(Done { done: true })
}

async fn restore_start(rpc: Rpc, params: RestoreParams) -> Result<OperationStarted, Trouble> {
    if let Some(to) = params.to.as_ref().filter(|to| !to.is_absolute()) {
        return Err(invalid("to", to.display(), "an absolute path on the daemon's host"));
    }
    let restore = params.into();
    let operation = rpc.control.ask(|reply| Request::Restore { restore, reply }).await?;
    Ok(OperationStarted { operation })
}

async fn destination(
    rpc: Rpc,
    params: DestinationParams,
    action: DestinationAction,
) -> Result<OperationStarted, Trouble> {
    let DestinationParams { destination } = params;
    let operation = rpc.control.ask(|reply| Request::Destination { destination, action, lock: None, reply }).await?;
    Ok(OperationStarted { operation })
}

async fn unlock(rpc: Rpc, params: UnlockParams) -> Result<OperationStarted, Trouble> {
    let UnlockParams { destination, lock } = params;
    let action = DestinationAction::Unlock;
    let operation = rpc.control.ask(|reply| Request::Destination { destination, action, lock, reply }).await?;
    Ok(OperationStarted { operation })
}

async fn rewind(rpc: Rpc, params: RewindParams) -> Result<OperationStarted, Trouble> {
    let RewindParams { destination, to, dry_run } = params;
    let act = if dry_run { RewindAct::Look } else { RewindAct::BringBack };
    let rewind = RewindRequest { destination, to, act };
    let operation = rpc.control.ask(|reply| Request::Rewind { rewind, reply }).await?;
    Ok(OperationStarted { operation })
}

async fn plan(rpc: Rpc, params: PlanParams) -> Result<PlanText, Trouble> {
    let PlanParams { revision, config } = params;
    rpc.control.ask(|reply| Request::Plan { revision, config, reply }).await
}

async fn reconcile(rpc: Rpc, params: ReconcileParams) -> Result<Reconciled, Trouble> {
    rpc.control.ask(|reply| Request::Reconcile { revision: params.revision, reply }).await
}

async fn confirm(rpc: Rpc, params: ConfirmParams) -> Result<Reconciled, Trouble> {
    rpc.control.ask(|reply| Request::Confirm { revision: params.revision, reply }).await
}

async fn mail_test(rpc: Rpc, _: NoParams) -> Result<MailTested, Trouble> {
    let answer = rpc.control.ask(|reply| Request::TestMail { reply }).await?;
    Ok(MailTested { answer })
}
