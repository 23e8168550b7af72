//! Runs that only the manifests of their artifacts tell of, after the state was lost.
//!
//! They are history for people: nothing else counts them as known ([`Ledger::remembers`]), since what their destinations got
//! is not.

use std::time::Duration;

use crate::artifact::Shelf;
use crate::artifact::manifest::{Manifest, ManifestNotice, ManifestValidation, ManifestVerdict};
use crate::config::model::Artifacts;
use crate::error::{Trouble, codes};
use crate::look;
use crate::run::RunState;
use crate::runner::world::World;
use crate::store::damage::Damage;
use crate::store::ledger::Ledger;
use crate::store::record::{ArtifactSummary, REMARKS_MAX, RunRecord, Trigger};
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Outcome};

/// Runs of one job that are brought back, the newest ones: fewer than a full history, so that none looks full by them.
const RUNS_MAX: usize = 500;

/// Runs that are written at once.
const WRITTEN_AT_ONCE: usize = 50;

/// How often it is looked whether the artifacts are there again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Brings back the runs of the desired jobs; once for each loss, as soon as the artifacts are there.
pub(crate) async fn find(world: &World, artifacts: &Artifacts) {
    let mut told = None;
    loop {
        match find_once(world, artifacts).await {
            Ok(Some(0) | None) => return,
            Ok(Some(runs)) => {
                tracing::warn!(runs, "runs that the state lost were found again in their manifests");
                world.listed.notify_one();
                return;
            }
            Err(trouble) if told.as_ref() == Some(&trouble) => {}
            Err(trouble) => {
                tracing::error!(%trouble, "runs are not brought back from their manifests; it is tried again");
                told = Some(trouble);
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
    found.map_err(|silent| silent.trouble(codes::ARTIFACTS_HANGING, "the artifact root"))?.map(Some)
}

fn bring_back(ledger: &Ledger, shelf: &Shelf, loss: &Damage) -> Result<u64, Trouble> {
    let of_store = |error: StoreError| error.trouble();
    shelf.mounted()?;
    let mut runs = 0;
    for job in ledger.jobs().map_err(of_store)?.into_iter().filter(|job| job.orphaned_since.is_none()) {
        runs += bring_back_job(ledger, shelf, &job.id)?;
    }
    let mut batch = Batch::default();
    batch.put_found_again(loss, runs).and_then(|()| ledger.commit(batch)).map_err(of_store)?;
    Ok(runs)
}

fn bring_back_job(ledger: &Ledger, shelf: &Shelf, job: &JobId) -> Result<u64, Trouble> {
    let of_store = |error: StoreError| error.trouble();
    let mut publications = shelf.publications(job).map_err(|error| error.trouble())?;
    publications.drain(..publications.len().saturating_sub(RUNS_MAX));
    let mut runs = 0;
    for some in publications.chunks(WRITTEN_AT_ONCE) {
        let mut batch = Batch::default();
        for publication in some {
            if ledger.has_run(job, publication.run).map_err(of_store)? {
                continue;
            }
            // It may have been removed meanwhile.
            let Ok(manifest) = shelf.load_manifest(&publication.relative) else { continue };
            batch.put_run(&record(&manifest, &publication.relative)).map_err(of_store)?;
            runs += 1;
        }
        ledger.commit(batch).map_err(of_store)?;
    }
    Ok(runs)
}

/// The record of a run, as far as its manifest tells it.
fn record(manifest: &Manifest, relative: &str) -> RunRecord {
    let told = |notices: &[ManifestNotice]| notices.iter().take(REMARKS_MAX).map(Trouble::from).collect();
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
        trouble: Some(trouble(manifest, failed, relative)),
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

fn trouble(manifest: &Manifest, failed: Option<&ManifestValidation>, relative: &str) -> Trouble {
    let why = failed.map_or_else(String::new, |failed| {
        format!(": {} failed ({})", failed.name, failed.detail.as_deref().unwrap_or("no detail"))
    });
    Trouble::new(codes::FOUND_AGAIN, format!("the state was lost and its manifest alone tells of this run{why}"))
        .with_hint(format!(
            "which destinations have it: `larder snapshots {}`; its artifacts lie in {relative}",
            manifest.target
        ))
}
