//! Bringing a destination back to what it was: an operation that goes by the storage alone until its repository opens.
//!
//! Somebody with all our keys may have deleted everything, `config` included, so nothing here needs the repository before
//! the check at the end.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::object_locks::look_soon;
use super::stop::stopped;
use super::upkeep::{self, Used, checked, note_test, said};
use crate::config::model::{Config, Destination, Site};
use crate::engine::{self, RepositoryAccess};
use crate::error::{Trouble, codes};
use crate::runner::control::{OperationId, RewindRequest};
use crate::runner::operations::Operations;
use crate::runner::route::Route;
use crate::runner::world::World;
use crate::storage::s3::{Kind, RewindAct, Rewound, Tally, Versioning};
use crate::storage::{Place, S3, StorageError};
use crate::types::{ByteSize, Name};

/// The longest that restic's check behind it may take.
const CHECK_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long the storage may say nothing: a copy of gigabytes is one call.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two lines that say how far it is.
const LINE_EVERY: Duration = Duration::from_secs(3);
/// Digits of a snapshot's id that are shown, as restic shows them.
const ID_DIGITS: usize = 8;

/// What to type where the login may not do it.
const RIGHTS: &str = "give the keys the rights to list, read and delete versions (s3:ListBucketVersions, s3:GetObjectVersion, \
                      s3:DeleteObjectVersion) until it is done, then type the same again: it goes on where it was";

/// Starts it; answers at once.
///
/// # Errors
/// There is no such destination, its storage keeps no versions, or the time is ahead.
pub(super) fn start(
    world: &Arc<World>,
    config: &Config,
    order: RewindRequest,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> Result<OperationId, Trouble> {
    let name = &order.destination;
    let destination = &world.destination(config, name)?;
    let now = world.clock.now();
    let kind = destination.repository.kind();
    if kind != "S3" {
        let message =
            format!("destination {name} is of the kind {kind}, and only a bucket (`type: s3`) keeps versions");
        return Err(Trouble::new(codes::NO_VERSIONS, message)
            .with_hint("take what is lost from another destination: `larder snapshots` says where it is"));
    }
    if order.to > now {
        return Err(Trouble::new(codes::BAD_TIME, format!("{} is ahead: it is {} now", shown(order.to), shown(now)))
            .with_hint("name a time before the loss; `larder runs` shows when the last good run was"));
    }
    let only_looked = if order.act == RewindAct::Look { " (dry run)" } else { "" };
    let id = world.operations.start(format!("rewind {name}{only_looked}"), now);
    let route = upkeep::route(world, config, destination, id, cancel, CHECK_MAX);
    let (site, used) = (config.site.clone(), Used::of(config, name));
    tasks.spawn(async move {
        let result = rewound(&route, id, &site, &order, used).await;
        if let Err(trouble) = &result {
            tracing::error!(destination = %order.destination, %trouble, "the rewind failed");
        }
        route.world.operations.finish(id, route.world.clock.now(), said(&route.world, id, result));
    });
    Ok(id)
}

async fn rewound(
    route: &Route,
    id: OperationId,
    site: &Site,
    order: &RewindRequest,
    used: Used,
) -> Result<Vec<String>, Trouble> {
    // What only looks keeps nobody waiting. What changes takes every slot, so that nothing is shipped meanwhile.
    let _slots = match order.act {
        RewindAct::Look => None,
        RewindAct::BringBack => {
            let alone = route.world.quiet.alone(&route.destination.name, &route.context.cancel).await?;
            Some((alone, upkeep::every_slot(route).await?))
        }
    };
    let access = route.world.access(&route.destination).await?;
    let found = on_bucket(route, &access, id, order).await.map_err(|trouble| engine::clean(&access, trouble))?;
    if found.is_stopped {
        let trouble = stopped();
        return Err(trouble.with_hint("type the same again when it is back: it goes on where it was"));
    }
    let say = |line: String| route.world.operations.line(id, &line);
    summary(&found, order).into_iter().for_each(say);
    if order.act == RewindAct::Look {
        return Ok(Vec::new());
    }
    if found.failed > 0 {
        return Err(engine::clean(&access, not_all_back(&order.destination, &found)));
    }
    if found.sum(|tally| tally.unchanged + tally.lost()) == 0 {
        return Ok(Vec::new());
    }
    say("checking the repository".to_owned());
    let lines = checked(route, site, used).await?;
    // What was said of it while it was gone is over.
    note_test(route, None);
    let now = route.world.clock.now();
    if let Err(error) = route.world.note_destination(&route.destination, |record| look_soon(record, now)) {
        tracing::error!(error = %crate::error::chain(&error), "cannot plan the look at the locks");
    }
    Ok(lines)
}

/// Does the work at the storage, off the runtime's threads.
async fn on_bucket(
    route: &Route,
    access: &RepositoryAccess,
    id: OperationId,
    order: &RewindRequest,
) -> Result<Rewound, Trouble> {
    let destination: &Destination = &route.destination;
    let Place::S3(place) = access.place.clone() else {
        return Err(Trouble::new(codes::NO_VERSIONS, format!("destination {} is no bucket", destination.name)));
    };
    let (operations, cancel) = (route.world.operations.clone(), route.context.cancel.clone());
    let (name, order) = (destination.name.clone(), order.clone());
    let work = tokio::task::spawn_blocking(move || {
        let told = |error: &StorageError| {
            let trouble = error.trouble();
            let hint =
                if matches!(error, StorageError::Denied { .. }) { Some(RIGHTS.to_owned()) } else { trouble.hint };
            Trouble { message: format!("destination {name}: {}", trouble.message), hint, ..trouble }
        };
        let client = S3::open(&place, PATIENCE).map_err(|error| told(&error))?;
        versioned(&name, &place.bucket, client.versioning().map_err(|error| told(&error))?)?;
        let mut told_at = Instant::now();
        let mut tell = |found: &Rewound| {
            if told_at.elapsed() >= LINE_EVERY {
                told_at = Instant::now();
                progress(&operations, id, found);
            }
            if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        client.rewind(order.to, order.act, &mut tell).map_err(|error| told(&error))
    });
    tokio::select! {
        done = work => done.map_err(|_| stopped())?,
        // It ends by itself behind the call that it is in.
        () = route.context.cancel.cancelled() => Err(stopped()),
    }
}

fn versioned(name: &Name, bucket: &str, versioning: Versioning) -> Result<(), Trouble> {
    let enable = format!(
        "aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled (with the storage's \
         --endpoint-url)"
    );
    let (message, hint) = match versioning {
        Versioning::Enabled => return Ok(()),
        Versioning::Suspended => (
            format!("the bucket {bucket} of destination {name} keeps no versions any more: somebody suspended that"),
            format!("switch it on again, which loses nothing, then type the same: {enable}"),
        ),
        Versioning::Never => (
            format!("the bucket {bucket} of destination {name} keeps no versions, so what was deleted is gone"),
            format!("for the next time, make it keep them: {enable}"),
        ),
    };
    Err(Trouble::new(codes::NO_VERSIONS, message).with_hint(hint))
}

fn progress(operations: &Operations, id: OperationId, found: &Rewound) {
    let (lost, back) = (found.sum(Tally::lost), found.sum(|tally| tally.back));
    let kind = found.tallies.keys().next_back().map_or("", |kind| kind.word());
    operations.line(id, &format!("{kind}: {} versions looked at, {lost} files lost, {back} back", found.looked_at));
}

fn shown(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// What was found, for people.
fn summary(found: &Rewound, order: &RewindRequest) -> Vec<String> {
    let (name, to) = (&order.destination, order.to);
    let lost = found.sum(Tally::lost);
    let mut lines = Vec::new();
    if lost == 0 {
        lines.push(match found.oldest {
            Some(oldest) if found.sum(|tally| tally.unchanged) == 0 => {
                format!("at {to} nothing of a repository was in {name}: the oldest that it has is of {}", shown(oldest))
            }
            None => format!("nothing of a repository is in {name}, and nothing ever was"),
            Some(_) => format!("nothing that was in {name} at {to} was deleted or overwritten since"),
        });
    } else {
        lines.push(format!("deleted or overwritten in {name} since {to}:"));
        // As a person asks: whether it opens, what is there, and what that needs.
        for kind in [Kind::Config, Kind::Key, Kind::Snapshot, Kind::Index, Kind::Data] {
            lines.extend(found.tallies.get(&kind).map(|tally| of_kind(kind, tally)));
        }
    }
    lines.extend(stays(found));
    let gone = found.sum(|tally| tally.later_deleted);
    if gone > 0 {
        let files = if gone == 1 { "file that is gone" } else { "files that are gone" };
        lines.push(format!("{gone} {files} came later than {to}: a later time brings back those, too"));
    }
    if order.act == RewindAct::BringBack && lost > 0 {
        lines.push(format!("{} of {lost} files are back", found.sum(|tally| tally.back)));
    } else if lost > 0 {
        lines
            .push(format!("nothing was changed; to bring them back: larder destination rewind {name} --to {to} --yes"));
    }
    lines
}

/// `snapshots   5 deleted, 1.2 KiB: 0a1b2c3d, …`
fn of_kind(kind: Kind, tally: &Tally) -> String {
    let mut parts = vec![format!("{} deleted", tally.deleted)];
    if tally.overwritten > 0 {
        parts.push(format!("{} overwritten", tally.overwritten));
    }
    let mut line = format!("{:<10} {}, {}", kind.word(), parts.join(", "), ByteSize(tally.bytes));
    if kind == Kind::Snapshot && !tally.names.is_empty() {
        let id =
            |name: &String| name.rsplit('/').next().and_then(|id| id.get(..ID_DIGITS)).unwrap_or_default().to_owned();
        let more = if tally.lost() > tally.names.len() as u64 { ", …" } else { "" };
        let names: Vec<String> = tally.names.iter().map(id).collect();
        line.push_str(&format!(": {}{more}", names.join(", ")));
    }
    line
}

fn stays(found: &Rewound) -> Vec<String> {
    let later = |kind: Kind| found.tallies.get(&kind).map_or(0, |tally| tally.later);
    let parts: Vec<String> = Kind::ALL
        .into_iter()
        .filter(|kind| later(*kind) > 0)
        .map(|kind| format!("{} {}", kind.word(), later(kind)))
        .collect();
    if parts.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("came later, and stays: {}", parts.join(", "))];
    if later(Kind::Key) > 0 {
        lines.push(
            "notice: a key that came later opens the repository, too: `larder destination keys` lists them".to_owned(),
        );
    }
    lines
}

fn not_all_back(name: &Name, found: &Rewound) -> Trouble {
    let first: Vec<String> = found.failures.iter().map(|each| format!("{}: {}", each.name, each.why)).collect();
    let (failed, lost) = (found.failed, found.sum(Tally::lost));
    let message = format!("{failed} of {lost} files of {name} did not come back: {}", first.join("; "));
    Trouble::new(codes::NOT_ALL_BACK, message).with_hint(RIGHTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(act: RewindAct) -> RewindRequest {
        let to = "2026-11-30T10:00:00Z".parse().unwrap();
        RewindRequest { destination: Name::parse("vault").unwrap(), to, act }
    }

    #[test]
    fn a_dry_run_says_what_would_come_back_and_what_to_type() {
        let mut found = Rewound { oldest: "2026-11-01T00:00:00Z".parse().ok(), ..Rewound::default() };
        let names = (0..5).map(|n| format!("snapshots/{}", n.to_string().repeat(64))).collect();
        let lost = Tally { deleted: 6, bytes: 2048, names, ..Tally::default() };
        found.tallies.insert(Kind::Snapshot, lost);
        found.tallies.insert(Kind::Data, Tally { overwritten: 1, deleted: 2, later: 3, bytes: 5, ..Tally::default() });
        found.tallies.insert(Kind::Key, Tally { later: 1, later_deleted: 1, ..Tally::default() });
        let lines = summary(&found, &order(RewindAct::Look)).join("\n");
        for part in [
            "snapshots  6 deleted, 2.0 KiB: 00000000, 11111111, 22222222, 33333333, 44444444, …",
            "data       2 deleted, 1 overwritten",
            "came later, and stays: data 3, keys 1",
            "1 file that is gone came later",
            "notice: a key that came later",
            "nothing was changed; to bring them back: larder destination rewind vault --to 2026-11-30T10:00:00Z --yes",
        ] {
            assert!(lines.contains(part), "{part}: {lines}");
        }
        assert!(summary(&found, &order(RewindAct::BringBack)).join("\n").contains("0 of 9 files are back"));
    }

    #[test]
    fn a_time_before_the_repository_and_one_behind_which_nothing_was_lost_are_told_apart() {
        let mut found = Rewound { oldest: "2026-11-30T11:00:00.5Z".parse().ok(), ..Rewound::default() };
        found.tallies.insert(Kind::Config, Tally { later: 1, ..Tally::default() });
        let lines = summary(&found, &order(RewindAct::Look)).join("\n");
        assert!(lines.contains("the oldest that it has is of 2026-11-30T11:00:00Z"), "{lines}");
        found.tallies.insert(Kind::Config, Tally { unchanged: 1, ..Tally::default() });
        let lines = summary(&found, &order(RewindAct::Look)).join("\n");
        assert!(lines.contains("was deleted or overwritten since") && !lines.contains("--yes"), "{lines}");
        let lines = summary(&Rewound::default(), &order(RewindAct::BringBack)).join("\n");
        assert!(lines.contains("nothing ever was"), "{lines}");
    }
}
