//! A state store that was lost: what it holds, where else it shows, and how it is taken as it is.
//!
//! What the store knew of holds, sizes and acceptances is gone with it, so every job waits with its retention until somebody
//! has seen it. What the repositories still have says what was usual (`recall.rs`).

use std::time::Duration;

use crate::artifact::Shelf;
use crate::artifact::manifest::{Manifest, ManifestNotice, ManifestVerdict};
use crate::config::model::Artifacts;
use crate::error::Trouble;
use crate::look;
use crate::run::RunState;
use crate::run::hold::{Finding, HoldKind};
use crate::runner::world::World;
use crate::store::damage::Damage;
use crate::store::ledger::Ledger;
use crate::store::record::{ArtifactSummary, RunRecord, Trigger};
use crate::store::{Batch, StoreError};
use crate::types::{Name, Outcome};

/// Runs of one job that are found again, the newest ones: fewer than a full history, so that none looks full by them.
const FOUND_AGAIN_MAX: usize = 500;

/// Runs that are written at once.
const WRITTEN_AT_ONCE: usize = 50;

/// Warnings and notices of a run that are kept.
const TOLD_MAX: usize = 20;

/// The code of a trouble about a state store that was lost.
pub const CODE: &str = "lost_state";

/// What is said of it, with the command for `target`.
#[must_use]
pub fn told(damage: &Damage, target: &str) -> Trouble {
    Trouble::new(CODE, damage.sentence()).with_hint(damage.hint(target))
}

/// What holds the jobs of `target` until the loss is accepted.
#[must_use]
pub fn finding(damage: &Damage, target: &Name) -> Finding {
    Finding {
        kind: HoldKind::LostState,
        subject: String::new(),
        trouble: told(damage, target.as_str()),
        value: Some(damage.value()),
        no_worse: false,
    }
}

/// Notes that what lies elsewhere shows that there was a state before this one, unless that was noted.
///
/// # Errors
/// When the store cannot be read or written.
pub fn note(world: &World, detail: &str) -> Result<(), StoreError> {
    if world.ledger.loss()?.is_some() {
        return Ok(());
    }
    let damage = Damage { at: world.clock.now(), ..Damage::new(None, detail, None) };
    tracing::error!("{}", damage.sentence());
    let mut batch = Batch::default();
    batch.put_loss(&damage)?;
    world.ledger.commit(batch)?;
    world.listed.notify_one();
    Ok(())
}

/// Notes that somebody knows of the loss and takes the state as it is.
///
/// # Errors
/// When the store cannot be read or written.
pub fn accept(world: &World) -> Result<(), StoreError> {
    let Some(damage) = world.ledger.loss()? else { return Ok(()) };
    let mut batch = Batch::default();
    batch.put_loss(&Damage { accepted: Some(world.clock.now()), ..damage })?;
    world.ledger.commit(batch)
}

/// How often it is looked whether the artifacts are there again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Brings back those runs of the desired jobs that only the manifests of their artifacts tell of; once for each loss.
///
/// They are history for people: nothing else counts them as known, since what their destinations got is not.
pub(crate) async fn find_runs_again(world: &World, artifacts: &Artifacts) {
    loop {
        match find_once(world, artifacts).await {
            Ok(Some(0) | None) => return,
            Ok(Some(runs)) => {
                tracing::warn!(runs, "runs that the state lost were found again in their manifests");
                world.listed.notify_one();
                return;
            }
            Err(trouble) => {
                tracing::error!(%trouble, "runs are not brought back from their manifests; it is tried again");
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How many were brought back; none: nothing was lost, or that was done.
async fn find_once(world: &World, artifacts: &Artifacts) -> Result<Option<u64>, Trouble> {
    let loss = world.ledger.newest_loss().map_err(|error| error.trouble())?;
    let Some(loss) = loss.filter(|loss| loss.found_again.is_none()) else { return Ok(None) };
    let site = world.site(artifacts).await?;
    let (ledger, shelf) = (world.ledger.clone(), Shelf::new(artifacts).of_site(site));
    let found = look::work(&artifacts.path, move || bring_back(&ledger, &shelf, &loss)).await;
    found.map_err(|silent| silent.trouble("artifacts_hanging", "the artifact root"))?.map(Some)
}

fn bring_back(ledger: &Ledger, shelf: &Shelf, loss: &Damage) -> Result<u64, Trouble> {
    let of_store = |error: StoreError| error.trouble();
    shelf.mounted()?;
    let mut runs = 0;
    for job in ledger.jobs().map_err(of_store)?.into_iter().filter(|job| job.orphaned_since.is_none()) {
        let mut publications = shelf.publications(&job.id).map_err(|error| error.trouble())?;
        publications.drain(..publications.len().saturating_sub(FOUND_AGAIN_MAX));
        for some in publications.chunks(WRITTEN_AT_ONCE) {
            let mut batch = Batch::default();
            for publication in some {
                if ledger.run(publication.run).map_err(of_store)?.is_some() {
                    continue;
                }
                // It may have been removed meanwhile.
                let Ok(manifest) = shelf.load_manifest(&publication.relative) else { continue };
                batch.put_run(&found_again(&manifest, &publication.relative)).map_err(of_store)?;
                runs += 1;
            }
            ledger.commit(batch).map_err(of_store)?;
        }
    }
    let mut batch = Batch::default();
    batch.put_found_again(loss, runs).and_then(|()| ledger.commit(batch)).map_err(of_store)?;
    Ok(runs)
}

/// The record of a run, as far as its manifest tells it.
fn found_again(manifest: &Manifest, relative: &str) -> RunRecord {
    let told = |notices: &[ManifestNotice]| notices.iter().take(TOLD_MAX).map(Trouble::from).collect();
    let failed = manifest.validations.iter().find(|each| each.verdict == ManifestVerdict::Failed);
    let bytes = manifest.files.iter().map(|file| file.size).sum();
    RunRecord {
        id: manifest.run,
        job: manifest.job(),
        trigger: Trigger::FoundAgain,
        revision: manifest.revision.clone(),
        plugin: manifest.plugin.clone(),
        // What it shipped is not known, so it is no success.
        state: RunState::Finished(if failed.is_some() { Outcome::Failed } else { Outcome::Partial }),
        queued: manifest.started,
        started: Some(manifest.started),
        finished: Some(manifest.started),
        trouble: Some(
            Trouble::new(
                "found_again",
                match failed {
                    Some(failed) => format!(
                        "the state was lost and its manifest alone tells of this run: {} failed ({})",
                        failed.name,
                        failed.detail.as_deref().unwrap_or("no detail")
                    ),
                    None => "the state was lost and its manifest alone tells of this run".to_owned(),
                },
            )
            .with_hint(format!(
                "which destinations have it: `larder snapshots {}`; its artifacts lie in {relative}",
                manifest.target
            )),
        ),
        warnings: told(&manifest.warnings),
        notices: told(&manifest.notices),
        artifact: Some(ArtifactSummary {
            path: relative.to_owned(),
            files: manifest.files.len() as u64,
            bytes,
            present: true,
        }),
        shipments: Vec::new(),
        bytes,
    }
}
