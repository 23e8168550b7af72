//! Restores: a snapshot into a directory, or through a plugin into the application of a target.
//!
//! Into an application only what Git names is written to: the target that is restored into is one of the config, so a
//! caller of the RPC can send secrets nowhere else. While it goes on, no run of that target starts.

mod choose;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::artifact::Shelf;
use crate::artifact::manifest::{self, Manifest};
use crate::config::model::{Artifacts, Config, Destination, Target};
use crate::daemon::restore::choose::Chosen;
use crate::daemon::upkeep::{route, said, short};
use crate::engine::{Snapshot, Unkept, check_wanted};
use crate::error::{Code, Trouble, chain, codes};
use crate::look;
use crate::plugin::{Call, CaptureInputs, News, RestoreOrder, Restored, Verdict};
use crate::process::Limits;
use crate::runner::control::{OperationId, RestoreRequest};
use crate::runner::cut;
use crate::runner::journal;
use crate::runner::route::Route;
use crate::runner::world::World;
use crate::types::{ByteSize, Name};

/// The longest that a restore may take.
const RESTORE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Checked before anything is read from a repository.
enum Goal {
    Directory(PathBuf),
    Application(Box<Target>),
}

/// Starts a restore; answers at once with the operation's id.
///
/// # Errors
/// When the directory is no absolute path, the config has no such destination or target, or its plugin restores into no
/// application.
pub(crate) fn start(
    world: &Arc<World>,
    config: &Config,
    request: RestoreRequest,
    running: &BTreeSet<Name>,
    tasks: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> Result<OperationId, Trouble> {
    let goal = goal(world, config, &request, running)?;
    let destinations: Vec<Destination> = match &request.destination {
        Some(name) => vec![world.destination(config, name)?],
        None => config.destinations.values().cloned().collect(),
    };
    if destinations.is_empty() {
        return Err(Trouble::new(codes::NO_DESTINATION, "no destination is configured")
            .with_hint("push a config with a Destination"));
    }
    let held = match &goal {
        Goal::Application(target) if !request.dry_run => Some(Held::hold(world, &target.name)?),
        _ => None,
    };
    let id = world.operations.start(title(&request, &goal), world.clock.now());
    let routes: Vec<Route> =
        destinations.iter().map(|destination| route(world, config, destination, id, cancel, RESTORE_MAX)).collect();
    let place = Place { shelf: Shelf::new(&config.site.artifacts), artifacts: config.site.artifacts.clone() };
    let world = world.clone();
    tasks.spawn(async move {
        let result = restore(&routes, &request, &goal, &place, id).await;
        let result = said(&world, id, result);
        drop(held);
        world.operations.finish(id, world.clock.now(), result);
    });
    Ok(id)
}

fn title(request: &RestoreRequest, goal: &Goal) -> String {
    match goal {
        Goal::Directory(to) => format!("restore {} to {}", request.target, to.display()),
        Goal::Application(into) if request.dry_run => {
            format!("restore {} into the application of {} (dry run)", request.target, into.name)
        }
        Goal::Application(into) => format!("restore {} into the application of {}", request.target, into.name),
    }
}

fn goal(world: &World, config: &Config, request: &RestoreRequest, running: &BTreeSet<Name>) -> Result<Goal, Trouble> {
    let refuse = |code: Code, message: String, hint: &str| Err(Trouble::new(code, message).with_hint(hint));
    check_wanted(&request.include).map_err(|error| error.trouble())?;
    match (&request.to, &request.into) {
        (Some(to), None) if !to.is_absolute() => refuse(
            codes::RELATIVE_PATH,
            format!("{} is not an absolute path", to.display()),
            "the daemon restores on its own host: give the whole path",
        ),
        (Some(_), None) if request.dry_run || !request.options.is_null() => refuse(
            codes::BAD_RESTORE,
            "a dry run and options are for a restore into an application".to_owned(),
            "give `into` with a target instead of `to` with a directory",
        ),
        (Some(to), None) => {
            // By their names only: a look at them may hang.
            let own = cut::own_of(config, world.paths.root());
            match own.iter().find(|own| to.starts_with(&own.path)) {
                Some(owner) => refuse(
                    codes::OWN_DIRECTORY,
                    format!("{} lies in {}, which is Larder's own", to.display(), owner.path.display()),
                    "give a directory outside of the repositories, the artifacts and the state",
                ),
                None => Ok(Goal::Directory(to.clone())),
            }
        }
        (None, Some(_)) if !request.include.is_empty() => refuse(
            codes::BAD_RESTORE,
            "`include` is for a restore into a directory".to_owned(),
            "`larder plugin describe NAME` says what of an application can be chosen",
        ),
        (None, Some(into)) => {
            let Some(target) = config.targets.get(into) else {
                return refuse(
                    codes::UNKNOWN_TARGET,
                    format!("there is no target {into}"),
                    "the application that is restored into must be a target in Git (`enabled: false` is enough)",
                );
            };
            if running.contains(into) && !request.dry_run {
                return refuse(
                    codes::TARGET_BUSY,
                    format!("a run of {into} is in progress"),
                    "wait for its end (`larder status`), or cancel it",
                );
            }
            world.catalogue.can_restore(target)?;
            Ok(Goal::Application(Box::new(target.clone())))
        }
        _ => refuse(
            codes::BAD_RESTORE,
            "a restore needs either `to` (a directory) or `into` (a target)".to_owned(),
            "give one of the two",
        ),
    }
}

/// Keeps runs of a target from starting while its application is restored into.
struct Held {
    world: Arc<World>,
    target: Name,
}

impl Held {
    fn hold(world: &Arc<World>, target: &Name) -> Result<Self, Trouble> {
        if !being_restored(world).insert(target.clone()) {
            return Err(Trouble::new(codes::TARGET_BUSY, format!("{target} is being restored into already"))
                .with_hint("wait for the end of that restore"));
        }
        Ok(Self { world: world.clone(), target: target.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        being_restored(&self.world).remove(&self.target);
    }
}

/// The targets whose applications are being restored into.
pub(super) fn being_restored(world: &World) -> MutexGuard<'_, BTreeSet<Name>> {
    world.restoring.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the site's artifacts lie: staged ones of a restore, too.
struct Place {
    shelf: Shelf,
    artifacts: Artifacts,
}

async fn restore(
    routes: &[Route],
    request: &RestoreRequest,
    goal: &Goal,
    place: &Place,
    id: OperationId,
) -> Result<Vec<String>, Trouble> {
    let Chosen { route, snapshot, of_another_site } = choose::choose(routes, request, &place.artifacts, id).await?;
    if let Some(whose) = of_another_site {
        route.world.operations.line(id, &format!("note: the snapshot {} is {whose}", short(&snapshot.id)));
    }
    match goal {
        Goal::Directory(to) => {
            let mut lines = into_directory(route, &snapshot, to, &request.include, id).await?;
            lines.extend(unkept(route, &snapshot, to).await);
            Ok(lines)
        }
        Goal::Application(target) => into_application(route, &snapshot, target, request, &place.shelf, id).await,
    }
}

async fn into_directory(
    route: &Route,
    snapshot: &Snapshot,
    to: &Path,
    include: &[String],
    id: OperationId,
) -> Result<Vec<String>, Trouble> {
    let (restic, access) = route.open().await?;
    let operations = route.world.operations.clone();
    let report = restic
        .restore(&access, &snapshot.id, to, include, &route.context, |progress| {
            operations.progress(id, percent(progress.bytes_done, progress.bytes_total));
        })
        .await
        .map_err(|error| error.trouble())?;
    Ok(vec![
        format!(
            "restored and verified {} items ({}) from snapshot {} in {}",
            report.items,
            ByteSize(report.bytes),
            short(&snapshot.id),
            route.destination.name
        ),
        format!("into {}", to.display()),
    ])
}

/// Says what only root could have given back.
async fn unkept(route: &Route, snapshot: &Snapshot, to: &Path) -> Option<String> {
    let found = match route.open().await {
        Ok((restic, access)) => {
            restic.unkept(&access, &snapshot.id, to, &route.context).await.map_err(|error| error.trouble())
        }
        Err(trouble) => Err(trouble),
    };
    match found {
        Ok(found) => found.and_then(|found| told_of(found, nix::unistd::geteuid().as_raw())),
        Err(trouble) => Some(format!(
            "note: whether owners were kept is not known ({}); only root can give files to others",
            trouble.message
        )),
    }
}

fn told_of(unkept: Unkept, user: u32) -> Option<String> {
    if unkept.owners == 0 {
        return None;
    }
    let plural = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let set_id = match unkept.set_id {
        0 => String::new(),
        count => format!(
            "{} with the set-uid or set-gid bit that now run with the rights of uid {user}, ",
            plural(count, "file", "files")
        ),
    };
    Some(format!(
        "note: not kept: the owners of {}, {set_id}and capabilities of files that had any; only root can give them \
         (the daemon runs as uid {user})",
        plural(unkept.owners, "item", "items")
    ))
}

async fn into_application(
    route: &Route,
    snapshot: &Snapshot,
    target: &Target,
    request: &RestoreRequest,
    shelf: &Shelf,
    id: OperationId,
) -> Result<Vec<String>, Trouble> {
    let (theirs, root) = (shelf.clone(), shelf.root().to_owned());
    let staging = look::at(&root, look::LOOK_MAX, move || theirs.stage(id))
        .await
        .map_err(|silent| silent.trouble(codes::PATH_HANGING, "the artifact root"))?
        .map_err(|error| error.trouble())?;
    let result = through_plugin(route, snapshot, target, request, &staging, id).await;
    if journal::is_left(&route.world, id) {
        // What is still to be put back may lie there.
        return result;
    }
    let (shelf, cleared) = (shelf.clone(), staging.clone());
    let swept = tokio::task::spawn_blocking(move || shelf.unstage(id)).await;
    if let Ok(Err(error)) = swept {
        tracing::warn!(path = %cleared.display(), error = %chain(&error), "cannot clear what a restore staged");
    }
    result
}

async fn through_plugin(
    route: &Route,
    snapshot: &Snapshot,
    target: &Target,
    request: &RestoreRequest,
    staging: &Path,
    id: OperationId,
) -> Result<Vec<String>, Trouble> {
    let tree = staging.join("tree");
    // What was restored beside the artifacts is told; where, is nobody's business.
    for line in into_directory(route, snapshot, &tree, &[], id).await?.into_iter().take(1) {
        route.world.operations.line(id, &line);
    }
    let (looked, of) = (tree.clone(), snapshot.clone());
    let (artifacts, manifest) = look::at(&tree, look::LOOK_MAX, move || artifacts(&of, &looked))
        .await
        .map_err(|silent| silent.trouble(codes::PATH_HANGING, "the artifact root"))??;
    if manifest.plugin != target.plugin {
        return Err(Trouble::new(
            codes::OTHER_PLUGIN,
            format!(
                "the snapshot was made by the plugin {}, but {} is backed up by {}",
                manifest.plugin, target.name, target.plugin
            ),
        )
        .with_hint("restore into a target of the same plugin"));
    }
    let order = RestoreOrder { dry_run: request.dry_run, tree, options: request.options.clone() };
    let limits = Limits { deadline: RESTORE_MAX, ..Limits::default() };
    let (world, then) = (&route.world, manifest.app_version.clone());
    // A dry run changes nothing, so there is nothing to undo.
    let noted = if request.dry_run { None } else { journal::open_for_restore(world, id, target, staging).await? };
    let inputs = CaptureInputs { journal: noted, ..CaptureInputs::default() };
    let facts = manifest.facts();
    let restored = world
        .catalogue
        .restore(
            &Call { target, run: id, staging: &artifacts, inputs: &inputs, context: &route.context, limits },
            facts,
            order,
            |news| match news {
                News::Progress { done, total } => world.operations.progress(id, percent(done, total)),
                News::Step { by_hand: false, line } if request.dry_run => {
                    world.operations.line(id, &format!("would {line}"));
                }
                News::Step { line, .. } | News::Line(line) => world.operations.line(id, &line),
                News::Version(now) if then.as_ref().is_some_and(|then| *then != now) => {
                    let then = then.as_deref().unwrap_or_default();
                    world
                        .operations
                        .line(id, &format!("note: the backup is of version {then}, the application is version {now}"));
                }
                News::Version(_) => {}
            },
        )
        .await
        .map_err(|failure| failure.trouble);
    if inputs.journal.is_some()
        && let Err(trouble) = journal::close(world, id, route.context.log.clone()).await
    {
        world.operations.line(id, &format!("warning: {trouble}"));
    }
    let restored = restored?;
    let lines = told(&restored, request.dry_run);
    let failed = restored.validations.iter().find(|each| each.verdict == Verdict::Failed);
    match failed {
        Some(validation) => {
            for line in &lines {
                world.operations.line(id, line);
            }
            Err(Trouble::new(codes::VALIDATION_FAILED, format!("{}: {}", validation.name, validation.detail))
                .with_hint("the application is not as the backup has it: look at it before it is used"))
        }
        None => Ok(lines),
    }
}

/// The directory with the artifacts in a restored tree, and the manifest that lies there.
fn artifacts(snapshot: &Snapshot, tree: &Path) -> Result<(PathBuf, Manifest), Trouble> {
    let found = snapshot.paths.iter().find_map(|path| {
        let directory = tree.join(Path::new(path).strip_prefix("/").ok()?);
        let manifest = Manifest::load(&directory.join(manifest::FILE_NAME));
        directory.join(manifest::FILE_NAME).exists().then_some((directory, manifest))
    });
    match found {
        Some((directory, Ok(manifest))) => Ok((directory, manifest)),
        Some((_, Err(error))) => Err(error.trouble()),
        None => {
            Err(Trouble::new(codes::NO_MANIFEST, format!("the snapshot {} holds no manifest", short(&snapshot.id)))
                .with_hint("restore it into a directory with `--to DIR`, and go on by hand"))
        }
    }
}

/// What is left to say of a restore when it is over; its steps were told as they came.
fn told(restored: &Restored, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(restored.validations.iter().map(|each| match each.verdict {
        Verdict::Proven => format!("proven: {} ({})", each.name, each.detail),
        Verdict::Failed => format!("FAILED: {} ({})", each.name, each.detail),
        Verdict::CouldNotVerify => format!("could not verify: {} ({})", each.name, each.detail),
    }));
    if dry_run {
        lines.push("dry run: nothing was changed".to_owned());
    }
    lines
}

fn percent(done: u64, total: u64) -> u8 {
    u8::try_from(done.saturating_mul(100) / total.max(1)).unwrap_or(100).min(99)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_root_can_give_is_said_and_nothing_where_nothing_is_lost() {
        assert_eq!(told_of(Unkept::default(), 1000), None);
        let told = told_of(Unkept { owners: 3, set_id: 1 }, 65534).unwrap();
        for part in ["owners of 3 items", "1 file with the set-uid", "capabilities", "uid 65534", "only root"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told_of(Unkept { owners: 1, set_id: 0 }, 1000).unwrap().contains("set-uid"));
    }
}
