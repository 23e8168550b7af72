//! What `destination test` asks of a storage before restic does: a line each, with an end where nothing answers.

use super::object_locks::RIGHTS;
use crate::engine::{self, RepositoryAccess};
use crate::error::{Trouble, codes};
use crate::runner::control::OperationId;
use crate::runner::route::Route;
use crate::storage::{Probe, Question, Step, StorageError};
use crate::types::Name;

/// Clocks that differ by more make backups look older or newer than they are; S3 refuses at 15 minutes.
const SKEW_S_MAX: i64 = 300;

/// Asks the storage, and puts each answer on the board.
///
/// # Errors
/// The first thing that keeps backups from it.
pub(super) async fn probed(route: &Route, id: OperationId, is_used: bool) -> Result<(), Trouble> {
    let destination = &route.destination;
    crate::runner::route::mounted(destination).await?;
    let access = route.world.access(destination).await?;
    let probe = engine::probe(&access).await.map_err(|error| error.trouble())?;
    for (question, step) in probe.steps() {
        route.world.operations.line(id, &line(&access, question, step));
    }
    let trouble = if destination.repository.local().is_some() {
        // A directory of this host is looked at more closely behind this, by what restic needs of it.
        (destination.append_only && probe.facts.is_deletable == Some(true)).then(|| deletes_allowed(&destination.name))
    } else {
        judged(&destination.name, destination.append_only, is_used, &probe)
    };
    match trouble {
        Some(trouble) => Err(engine::clean(&access, trouble)),
        None => Ok(()),
    }
}

fn line(access: &RepositoryAccess, question: Question, step: &Step) -> String {
    let word = question.word();
    match step {
        Step::Ok(detail) => format!("{word:<11} ok: {detail}"),
        Step::Failed(error) => format!("{word:<11} FAILED: {}", engine::clean(access, error.trouble()).message),
        Step::NotTried(why) => format!("{word:<11} not tried: {why}"),
    }
}

fn judged(name: &Name, append_only: bool, is_used: bool, probe: &Probe) -> Option<Trouble> {
    match probe.trouble() {
        // What nothing is backed up to need not be written.
        Some((Question::Writable, _)) if !is_used => return None,
        Some((Question::Writable, error)) => {
            let trouble = error.trouble();
            return Some(Trouble { message: format!("backups to {name} will fail: {}", trouble.message), ..trouble });
        }
        Some((question, error)) => {
            let mut trouble = error.trouble();
            if question == Question::Locked && matches!(error, StorageError::Denied { .. }) {
                trouble.hint = Some(RIGHTS.replace("NAME", name.as_str()));
            }
            return Some(Trouble { message: format!("destination {name}: {}", trouble.message), ..trouble });
        }
        None => {}
    }
    match (append_only, probe.facts.is_deletable) {
        // What is deleted there stays as a version that nobody can remove.
        (true, Some(true)) if probe.facts.keeps_locked == Some(true) => {}
        (true, Some(true)) => return Some(deletes_allowed(name)),
        (false, Some(false)) => {
            return Some(
                Trouble::new(codes::DELETES_REFUSED, format!("the storage of destination {name} refuses to delete"))
                    .with_hint("give the login the right to delete, or write `append_only: true`: then nothing is forgotten from here"),
            );
        }
        _ => {}
    }
    let skew_s = probe.facts.skew_s.filter(|skew| skew.abs() > SKEW_S_MAX)?;
    let by = crate::types::show_duration(std::time::Duration::from_secs(skew_s.unsigned_abs()));
    let where_to = if skew_s < 0 { "behind" } else { "ahead of" };
    Some(
        Trouble::new(codes::CLOCKS_DIFFER, format!("the clock of destination {name} is {by} {where_to} this host's"))
            .with_hint("set both clocks, such as with `timedatectl set-ntp true`"),
    )
}

fn deletes_allowed(name: &Name) -> Trouble {
    Trouble::new(
        codes::DELETES_ALLOWED,
        format!("destination {name} is declared append-only, but its storage lets us delete"),
    )
    .with_hint("take the right to delete from this login (rest-server: `--append-only`), or delete `append_only: true`")
}

/// Why something is not done on a destination that is only appended to.
pub(super) fn only_appended_to(name: &Name, what: &str) -> Trouble {
    Trouble::new(codes::APPEND_ONLY, format!("destination {name} is append-only: {what} from here"))
        .with_hint("prune it on the storage's own host, with a login that may delete")
}
