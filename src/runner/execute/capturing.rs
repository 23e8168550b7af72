//! From an application to a published artifact: captured, shaped, proven, published; what is too old expires.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use super::{PROGRESS_EVERY, RunExecutor, Stop, tell};
use crate::artifact::Published;
use crate::error::{Trouble, codes};
use crate::look::{self, LOOK_MAX};
use crate::plugin::kit::apart::{self, Mounts, Own};
use crate::plugin::{CaptureFacts, Captured, Verdict};
use crate::run::RunState;
use crate::run::hold::{Finding, HoldKind};
use crate::runner::cut::{self, Shape};
use crate::runner::journal;
use crate::store::record::ArtifactSummary;
use crate::types::Outcome;

impl RunExecutor {
    pub(super) async fn capture(&mut self) -> Result<Captured, Stop> {
        let staging = self.stage().await?;
        self.inputs.journal = journal::open(&self.world, self.record.id, &self.target)
            .await
            .map_err(|trouble| Stop { outcome: Outcome::Deferred, trouble })?;
        self.inputs.previous = self.baseline().await;
        let (own, mounts) = self.find_own().await?;
        let mut told = Instant::now();
        let (world, record) = (self.world.clone(), self.record.clone());
        let captured = self
            .world
            .catalogue
            .capture(&self.call(&staging), |done, total| {
                if told.elapsed() >= PROGRESS_EVERY {
                    told = Instant::now();
                    tell(&world, &record, RunState::Capturing, None, done, total);
                }
            })
            .await;
        // However the plugin ended: nothing of ours stays on the application.
        if let Err(trouble) = journal::close(&self.world, self.record.id, self.context.log.clone()).await {
            self.warn(trouble);
        }
        let mut captured = captured.map_err(|failure| Stop { outcome: failure.outcome, trouble: failure.trouble })?;
        self.shape = self.shaped(&captured, own, mounts).await?;
        captured.sources.clone_from(&self.shape.sources);
        captured.notices.extend(self.shape.notices.iter().cloned());
        for warning in &captured.warnings {
            self.warn(warning.clone());
        }
        for notice in &captured.notices {
            self.note(notice.clone());
        }
        Ok(captured)
    }

    /// The run's staging directory, made when it is not there.
    async fn stage(&self) -> Result<PathBuf, Stop> {
        let (shelf, run, root) = (self.shelf.clone(), self.record.id, self.shelf.root().to_owned());
        let staged = self.away("the artifact root", &root, move || shelf.stage(run)).await?;
        staged.map_err(|error| Stop { outcome: Outcome::Deferred, trouble: error.trouble() })
    }

    /// What of the sources is shipped, and what is left out by itself.
    async fn shaped(&self, captured: &Captured, own: Vec<Own>, mounts: Mounts) -> Result<Shape, Stop> {
        let (sources, artifacts) = (captured.sources.clone(), !captured.artifacts.is_empty());
        let first = sources.first().map_or_else(|| self.shelf.root().to_owned(), |source| source.path.clone());
        let looked = self.away("the source", &first, move || cut::shape(&sources, &own, &mounts, artifacts));
        looked.await?.map_err(Stop::failed)
    }

    /// Where Larder's own directories are seen on this machine.
    async fn find_own(&mut self) -> Result<(Vec<Own>, Mounts), Stop> {
        let (own, mut silent) = (self.own.clone(), Vec::new());
        let mut answering = Vec::new();
        for each in own {
            // What hangs is nobody's source now: a destination that is away must not keep the others from their backup.
            let path = each.path.clone();
            match look::at(&each.path, LOOK_MAX, move || look::touch(&path)).await {
                Ok(()) => answering.push(each),
                Err(_) => silent.push(each),
            }
        }
        let root = self.shelf.root().to_owned();
        let found = self.away("what is our own, beside", &root, move || {
            let mounts = Mounts::read();
            (apart::spread(&answering, &mounts), mounts)
        });
        let (mut own, mounts) = found.await?;
        own.extend(silent);
        self.inputs.own = own.iter().map(|each| each.path.clone()).collect();
        Ok((own, mounts))
    }

    /// What the job's captures had when they were whole; not being able to tell is no reason not to back up.
    async fn baseline(&self) -> Option<CaptureFacts> {
        let (shelf, job, accepted) = (self.shelf.clone(), self.record.job.clone(), self.job.accepted.clone());
        let root = shelf.root().to_owned();
        self.away("the artifact root", &root, move || shelf.baseline(&job, &accepted)).await.ok().flatten()
    }

    pub(super) async fn validate(&mut self, captured: &Captured) -> Result<Vec<crate::plugin::Validation>, Stop> {
        let staging = self.stage().await?;
        let validations = self
            .world
            .catalogue
            .validate(&self.call(&staging), captured)
            .await
            .map_err(|failure| Stop { outcome: failure.outcome, trouble: failure.trouble })?;
        let mut unproven = Vec::new();
        for each in &validations {
            self.context.log.line(&format!("validation {}: {:?} {}", each.name, each.verdict, each.detail));
            match each.verdict {
                Verdict::Proven => {}
                Verdict::Failed => {
                    return Err(Stop::failed(
                        Trouble::new(codes::VALIDATION_FAILED, format!("validation {}: {}", each.name, each.detail))
                            .with_hint("nothing was published or shipped; the earlier backups stay as they are"),
                    ));
                }
                Verdict::CouldNotVerify => unproven.push(Finding {
                    kind: HoldKind::MissingProof,
                    subject: each.name.clone(),
                    trouble: Trouble::new(
                        codes::COULD_NOT_VERIFY,
                        format!("validation {}: {}", each.name, each.detail),
                    )
                    .with_hint("the backup was kept, but it is not proven"),
                    value: Some(each.name.clone()),
                    no_worse: true,
                }),
            }
        }
        self.judge_proofs(&validations, unproven);
        Ok(validations)
    }

    pub(super) async fn publish(
        &mut self,
        captured: &Captured,
        validations: Vec<crate::plugin::Validation>,
    ) -> Result<Published, Stop> {
        let request = self.publication(captured, validations);
        let (shelf, cancel, deadline) = (self.shelf.clone(), self.context.cancel.clone(), self.deadline);
        let root = shelf.root().to_owned();
        let published = self.away("the artifact root", &root, move || {
            shelf.publish_watched(&request, &mut |_| {
                let over = cancel.is_cancelled() || Instant::now() > deadline;
                if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        let published = published.await?.map_err(|error| Stop::failed(error.trouble()))?;
        self.record.artifact = Some(ArtifactSummary {
            path: published.relative.clone(),
            files: published.files,
            bytes: published.bytes,
            present: true,
        });
        Ok(published)
    }

    pub(super) async fn expire(&mut self) {
        let (shelf, job, keep) = (self.shelf.clone(), self.record.job.clone(), self.site.artifacts.keep_runs);
        let held = self.held();
        let root = shelf.root().to_owned();
        match self.away("the artifact root", &root, move || shelf.expire(&job, keep, held)).await {
            Ok(Ok(removed)) => {
                for path in removed {
                    self.context.log.line(&format!("expired artifact {path}"));
                }
            }
            Ok(Err(error)) => self.warn(error.trouble()),
            Err(stop) => self.warn(stop.trouble),
        }
    }
}
