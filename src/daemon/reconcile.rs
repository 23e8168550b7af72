//! A look at the watched branch: resolve, load, validate, plan, guard, apply. Whatever a hook said is checked again.
//!
//! Failing to look is not absence: an error here never changes what is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::model::Config;
use crate::config::{Diagnostic, Loader};
use crate::daemon::source_watch::{self, News, Watch};
use crate::daemon::{acceptance, lacking, sealed};
use crate::discovery::derive;
use crate::discovery::docker::EngineInventory;
use crate::error::{Kind, Trouble, codes};
use crate::look;
use crate::plan::cuts::{self, Asked, Kept};
use crate::plan::{self, Plan, Recorded};
use crate::run::holdings::Books;
use crate::run::retention::Candidate;
use crate::runner::control::{PlanText, ReconcileResult, Reconciled};
use crate::runner::world::World;
use crate::source::bare::Bare;
use crate::source::{FileSet, SourceError, denied};
use crate::store::record::{Applied, ConfigRecord, Held, JobRecord, Rejected};
use crate::store::{Batch, StoreError};
use crate::types::{JobId, Name, Revision};

/// Errors of a rejected revision that are kept for the pages.
const ERRORS_KEPT_MAX: usize = 50;

/// How long the repository may take to say what its head is; the schedule stands still meanwhile.
const REPOSITORY_MAX: Duration = Duration::from_secs(10);

/// Which repository, branch and directory.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) path: PathBuf,
    pub(crate) branch: String,
    pub(crate) root: String,
}

/// Looks and applies; remembers what it saw so that an unchanged branch costs one ref lookup.
pub(crate) struct Reconciler {
    watched: Watched,
    loader: Loader,
    config: Arc<Config>,
    record: ConfigRecord,
    /// The answer to the newest revision, for who asks right after the watcher saw it.
    last: Option<Reconciled>,
    /// The last error of looking, so that a repeated one is logged once.
    last_trouble: Option<String>,
    /// The source, as far as it can be read.
    watched_over: Watch,
    /// What the container engine has, as of the newest look that it answered.
    inventory: Option<Arc<EngineInventory>>,
}

impl Reconciler {
    pub(crate) fn new(watched: Watched, loader: Loader, config: Arc<Config>, record: ConfigRecord) -> Self {
        Self {
            watched,
            loader,
            config,
            record,
            last: None,
            last_trouble: None,
            watched_over: Watch::default(),
            inventory: None,
        }
    }

    /// The revision in force.
    pub(crate) fn applied(&self) -> Option<Revision> {
        self.record.applied.as_ref().map(|applied| applied.revision.clone())
    }

    /// Looks at the branch and applies what is new; `confirm` lets exactly that held revision pass the guard.
    pub(crate) fn look(
        &mut self,
        world: &World,
        jobs: &mut BTreeMap<JobId, JobRecord>,
        confirm: Option<&Revision>,
        now: Timestamp,
    ) -> (Reconciled, Option<Arc<Config>>) {
        let start = Instant::now();
        match self.attempt(world, jobs, confirm, now, start) {
            Ok(answer) => {
                self.last_trouble = None;
                self.note_source(world, None, now);
                answer
            }
            Err(error) => {
                let trouble = self.told(&error);
                if self.last_trouble.as_ref() != Some(&trouble.message) {
                    match error {
                        LookError::Waiting(_) => {
                            tracing::info!(branch = self.watched.branch, "waiting for the first push");
                        }
                        _ => tracing::error!(%trouble, "cannot look at the config; what is in force stays"),
                    }
                    self.last_trouble = Some(trouble.message.clone());
                }
                match error {
                    LookError::Waiting(_) => self.note_source(world, None, now),
                    LookError::Source(_) => self.note_source(world, Some(&trouble), now),
                    LookError::Other(_) => {}
                }
                let mut lines = vec![trouble.message];
                lines.extend(trouble.hint.map(|hint| format!("hint: {hint}")));
                (self.verdict(None, ReconcileResult::Failed, lines, start), None)
            }
        }
    }

    /// The trouble of a failed look; where the user of the daemon may not read something, that is why.
    fn told(&self, error: &LookError) -> Trouble {
        match error {
            LookError::Source(trouble) => {
                let Watched { path, branch, .. } = self.watched.clone();
                let looked = look::within(&self.watched.path, REPOSITORY_MAX, move || denied::first(&path, &branch));
                let denied = looked.ok().flatten();
                denied.map_or_else(|| trouble.clone(), |denied| denied::trouble(&self.watched.path, &denied))
            }
            LookError::Waiting(trouble) | LookError::Other(trouble) => trouble.clone(),
        }
    }

    /// Why the source cannot be read, once that has lasted.
    pub(crate) fn unreadable(&self) -> Option<&Trouble> {
        self.watched_over.incident().or(self.record.unreadable.as_ref().map(|incident| &incident.trouble))
    }

    /// Whether the newest look at the source failed: then the next one is to come soon.
    pub(crate) fn is_troubled(&self) -> bool {
        self.watched_over.is_troubled() || self.record.unreadable.is_some()
    }

    /// Notes that the source can (none) or cannot be read, and who is to be told of the change, in one batch.
    fn note_source(&mut self, world: &World, trouble: Option<&Trouble>, now: Timestamp) {
        self.watched_over.saw(trouble, Instant::now());
        let before = self.record.unreadable.as_ref();
        let (after, mail) = match source_watch::news(before, trouble, self.watched_over.incident().is_some(), now) {
            News::Nothing => return,
            News::Unreadable(incident) => {
                let mail = crate::alert::mail_for_unreadable(&self.config.site, &incident, now);
                (Some(incident), mail.filter(|_| before.is_none()))
            }
            News::Readable => {
                (None, before.and_then(|incident| crate::alert::mail_for_readable(&self.config.site, incident, now)))
            }
        };
        let record = ConfigRecord { unreadable: after, ..self.record.clone() };
        let write = || -> Result<(), Trouble> {
            let mut batch = Batch::default();
            batch.put_config_record(&record).map_err(|error| error.trouble())?;
            if let Some(mail) = &mail {
                batch.enqueue_mail(mail).map_err(|error| error.trouble())?;
            }
            world.ledger.commit(batch).map_err(|error| error.trouble())
        };
        match write() {
            Ok(()) => self.record = record,
            Err(trouble) => tracing::error!(%trouble, "cannot note how the source is; it is tried again"),
        }
    }

    fn attempt(
        &mut self,
        world: &World,
        jobs: &mut BTreeMap<JobId, JobRecord>,
        confirm: Option<&Revision>,
        now: Timestamp,
        start: Instant,
    ) -> Result<(Reconciled, Option<Arc<Config>>), LookError> {
        let (path, branch) = (self.watched.path.clone(), self.watched.branch.clone());
        let looked = move || Bare::open(&path).and_then(|bare| Ok((bare.head(&branch)?, bare)));
        let (head, bare) = look::within(&self.watched.path, REPOSITORY_MAX, looked)??;
        let Some(revision) = head else {
            return Err(self.without_branch(&bare));
        };
        if let Some(confirmed) = confirm
            && *confirmed != revision
        {
            return Err(Trouble::new(
                codes::NOT_HELD,
                format!(
                    "revision {} is not the head of {} any more ({})",
                    confirmed.short(),
                    self.watched.branch,
                    revision.short()
                ),
            )
            .with_hint(format!("confirm {} if that is what you mean", revision.short()))
            .into());
        }
        if let Some(known) = self.known(&revision, confirm.is_some()) {
            // What is in force came from here, and the next push builds upon it.
            let Watched { path, root, .. } = self.watched.clone();
            let deep = || {
                let at = path.clone();
                look::within(&path, REPOSITORY_MAX, move || read_all(&Bare::open(&at)?.files(&revision, &root)?))?
            };
            self.watched_over.look_deeply(deep)?;
            self.keep_sealed(world, &bare);
            return Ok((known, None));
        }
        let files = bare.files(&revision, &self.watched.root)?;
        let loaded = self.loader.load(&files);
        if let Some((path, trouble)) = loaded.unread {
            // The revision may be right: nobody could read it.
            return Err(LookError::Source(Trouble { message: format!("{path}: {}", trouble.message), ..trouble }));
        }
        let Some(desired) = loaded.config else {
            return Ok((self.reject(world, revision, &loaded.diagnostics, loaded.files, now, start)?, None));
        };
        let (desired, discovered) = self.with_discovered(desired);
        let desired = Arc::new(desired);
        let verdict = world.with_destinations(|_| {
            self.apply(world, jobs, &desired, discovered, &revision, confirm.is_some(), now, start)
        })?;
        let config = (verdict.result == ReconcileResult::Applied).then(|| self.config.clone());
        self.keep_sealed(world, &bare);
        Ok((verdict, config))
    }

    /// Has the encrypted files of the revision in force at hand, before anything runs by it.
    fn keep_sealed(&self, world: &World, bare: &Bare) {
        if let Some(revision) = self.applied() {
            sealed::keep(&world.paths, bare, &revision, &self.watched.root);
        }
    }

    fn without_branch(&self, bare: &Bare) -> LookError {
        let Watched { path, branch, .. } = &self.watched;
        let others = bare.branches();
        let push = format!("git push {} HEAD:{branch}", path.display());
        if others.is_empty() && self.record.applied.is_none() {
            let trouble = Trouble::new(codes::BRANCH_MISSING, format!("{} has no branch {branch} yet", path.display()));
            return LookError::Waiting(trouble.with_hint(push));
        }
        let there =
            if others.is_empty() { "it has none at all".to_owned() } else { format!("it has {}", others.join(", ")) };
        let message = format!("{} has no branch {branch}, which is watched; {there}", path.display());
        let hint = match others.first() {
            Some(other) => format!("push to it: `{push}`, or watch another one: `larder serve --branch {other}`"),
            None => format!("push it again: `{push}`"),
        };
        LookError::Source(Trouble::new(codes::BRANCH_MISSING, message).with_hint(hint))
    }

    /// The answer when the head is a revision that was judged already.
    fn known(&self, revision: &Revision, confirmed: bool) -> Option<Reconciled> {
        if let Some(last) = &self.last
            && last.revision.as_ref() == Some(revision)
            && !(confirmed && last.result == ReconcileResult::Held)
        {
            return Some(last.clone());
        }
        let applied = self.record.applied.as_ref()?;
        (applied.revision == *revision && self.record.rejected.is_none() && self.record.held.is_none()).then(|| {
            Reconciled {
                revision: Some(revision.clone()),
                result: ReconcileResult::Unchanged,
                lines: vec![format!("{} is in force already", revision.short())],
                took_us: 0,
            }
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one revision, from what it was read to what was said of it")]
    fn apply(
        &mut self,
        world: &World,
        jobs: &mut BTreeMap<JobId, JobRecord>,
        desired: &Arc<Config>,
        discovered: BTreeSet<Name>,
        revision: &Revision,
        confirmed: bool,
        now: Timestamp,
        start: Instant,
    ) -> Result<Reconciled, Trouble> {
        let plan = self.plan(world, jobs, desired, &discovered, Some(revision), now)?;
        if let Some(guard) = &plan.guard
            && !confirmed
        {
            return self.hold(world, revision, &guard.reason, &plan, now, start);
        }
        let plan = plan.confirmed(jobs, now);
        let mut batch = plan.batch().map_err(|error| error.trouble())?;
        let mut record = self.record.clone();
        record.applied = Some(Applied { revision: revision.clone(), at: now, took_us: micros(start) });
        record.rejected = None;
        record.held = None;
        record.discovered = discovered;
        batch.put_config_record(&record).map_err(|error| error.trouble())?;
        world.ledger.commit(batch).map_err(|error| error.trouble())?;
        for job in plan.job_records() {
            jobs.insert(job.id.clone(), job.clone());
        }
        self.record = record;
        let mut lines = plan.lines(now);
        lines.extend(acceptance::accepted_for_nothing(&self.config, desired, jobs, &world.ledger));
        lines.extend(lacking::told(&self.config, desired, &world.catalogue));
        self.config = desired.clone();
        tracing::info!(revision = %revision.short(), steps = plan.steps.len(), took_us = micros(start), "config applied");
        Ok(self.verdict(Some(revision), ReconcileResult::Applied, lines, start))
    }

    /// Takes in what the container engine has. Nothing that it says needs a confirmation: it removes no backup.
    pub(crate) fn see(
        &mut self,
        world: &World,
        jobs: &mut BTreeMap<JobId, JobRecord>,
        inventory: Arc<EngineInventory>,
        now: Timestamp,
    ) -> Option<Arc<Config>> {
        self.inventory = Some(inventory);
        let revision = self.applied()?;
        let (desired, discovered) = self.with_discovered(documents(&self.config, &self.record.discovered));
        if desired == *self.config && discovered == self.record.discovered {
            return None;
        }
        let put = |_: &_| -> Result<(Plan, ConfigRecord), Trouble> {
            let plan = self.plan(world, jobs, &desired, &discovered, Some(&revision), now)?;
            let record = ConfigRecord { discovered, ..self.record.clone() };
            let mut batch = plan.batch().map_err(|error| error.trouble())?;
            batch.put_config_record(&record).map_err(|error| error.trouble())?;
            world.ledger.commit(batch).map_err(|error| error.trouble())?;
            Ok((plan, record))
        };
        match world.with_destinations(put) {
            Ok((plan, record)) => {
                for job in plan.job_records() {
                    jobs.insert(job.id.clone(), job.clone());
                }
                tracing::info!(
                    targets = record.discovered.len(),
                    steps = plan.steps.len(),
                    "discovered targets changed"
                );
                self.record = record;
                self.config = Arc::new(desired);
                Some(self.config.clone())
            }
            Err(trouble) => {
                tracing::error!(%trouble, "cannot apply what was discovered; it is tried again at the next look");
                None
            }
        }
    }

    /// The documents' config with the targets that it gets for what was discovered, and their names.
    fn with_discovered(&self, mut config: Config) -> (Config, BTreeSet<Name>) {
        let before = self.record.discovered.iter().filter_map(|name| self.config.targets.get(name));
        let targets = derive::derived(&config, self.inventory.as_deref(), before);
        let names = targets.iter().map(|target| target.name.clone()).collect();
        config.targets.extend(targets.into_iter().map(|target| (target.name.clone(), target)));
        (config, names)
    }

    fn hold(
        &mut self,
        world: &World,
        revision: &Revision,
        reason: &str,
        plan: &Plan,
        now: Timestamp,
        start: Instant,
    ) -> Result<Reconciled, Trouble> {
        let known = self.record.held.as_ref().is_some_and(|held| held.revision == *revision);
        let mut record = self.record.clone();
        record.held = Some(Held { revision: revision.clone(), at: now, reason: reason.to_owned() });
        let mut batch = Batch::default();
        batch.put_config_record(&record).map_err(|error| error.trouble())?;
        for mail in crate::alert::mail_for_held(&self.config.site, revision, reason, now).into_iter().filter(|_| !known)
        {
            batch.enqueue_mail(&mail).map_err(|error| error.trouble())?;
        }
        world.ledger.commit(batch).map_err(|error| error.trouble())?;
        self.record = record;
        tracing::warn!(revision = %revision.short(), reason, "config held until it is confirmed");
        Ok(self.verdict(Some(revision), ReconcileResult::Held, plan.lines(now), start))
    }

    fn reject(
        &mut self,
        world: &World,
        revision: Revision,
        diagnostics: &[Diagnostic],
        files: usize,
        now: Timestamp,
        start: Instant,
    ) -> Result<Reconciled, Trouble> {
        let errors: Vec<String> =
            diagnostics.iter().filter(|each| each.is_error()).map(Diagnostic::one_line).take(ERRORS_KEPT_MAX).collect();
        // After a restart the same revision is judged again (the rules may be newer), but told only once.
        let known = self.record.rejected.as_ref().is_some_and(|rejected| rejected.revision == revision);
        let mut record = self.record.clone();
        record.rejected = Some(Rejected { revision: revision.clone(), at: now, errors: errors.clone() });
        record.rejected_total += u64::from(!known);
        record.held = None;
        let mut batch = Batch::default();
        batch.put_config_record(&record).map_err(|error| error.trouble())?;
        for mail in
            crate::alert::mail_for_rejected(&self.config.site, &revision, &errors, now).into_iter().filter(|_| !known)
        {
            batch.enqueue_mail(&mail).map_err(|error| error.trouble())?;
        }
        world.ledger.commit(batch).map_err(|error| error.trouble())?;
        self.record = record;
        tracing::error!(revision = %revision.short(), errors = errors.len(), "config rejected; what is in force stays");
        let mut lines = vec![format!("{} errors in {files} files", errors.len())];
        lines.extend(errors);
        Ok(self.verdict(Some(&revision), ReconcileResult::Rejected, lines, start))
    }

    fn plan(
        &self,
        world: &World,
        jobs: &BTreeMap<JobId, JobRecord>,
        desired: &Config,
        discovered: &BTreeSet<Name>,
        revision: Option<&Revision>,
        now: Timestamp,
    ) -> Result<Plan, Trouble> {
        let destinations = world.ledger.destinations().map_err(|error| error.trouble())?;
        let kept = self.kept(world, jobs, desired).map_err(|error| error.trouble())?;
        let recorded =
            Recorded { base: self.applied(), config: &self.config, jobs, destinations: &destinations, kept: &kept };
        let mut plan = plan::plan(desired, revision, &recorded, now);
        if !discovered.is_empty() || !self.record.discovered.is_empty() {
            // What was discovered must not outweigh what a push takes away.
            let before = documents(&self.config, &self.record.discovered);
            let after = documents(desired, discovered);
            let recorded = Recorded { config: &before, ..recorded };
            plan.guard = plan::plan(&after, revision, &recorded, now).guard;
        }
        Ok(plan)
    }

    /// The snapshots that `desired` keeps by other rules than are in force.
    fn kept(
        &self,
        world: &World,
        jobs: &BTreeMap<JobId, JobRecord>,
        desired: &Config,
    ) -> Result<Vec<Kept>, StoreError> {
        let mut books: BTreeMap<Name, Books> = BTreeMap::new();
        let mut kept = Vec::new();
        for Asked { job, destination, .. } in cuts::asked(desired, &self.config, jobs) {
            if !books.contains_key(destination) {
                books.insert(destination.clone(), world.ledger.books(destination)?);
            }
            let known = books.get(destination).and_then(|books| books.by_job.get(&job)).into_iter().flatten();
            let snapshots = known.filter(|(_, known)| !known.leaving && !known.missing);
            let snapshots = snapshots
                .map(|(id, known)| Candidate { id: id.clone(), order: known.order, time: known.time })
                .collect();
            kept.push(Kept { job, destination: destination.clone(), snapshots });
        }
        Ok(kept)
    }

    /// What applying `config` or `revision` (or the branch's head) would change; applies nothing.
    pub(crate) fn plan_only(
        &mut self,
        world: &World,
        jobs: &BTreeMap<JobId, JobRecord>,
        revision: Option<&Revision>,
        config: Option<&Config>,
        now: Timestamp,
    ) -> Result<PlanText, Trouble> {
        let plan = if let Some(config) = config {
            let (desired, discovered) = self.with_discovered(config.clone());
            self.plan(world, jobs, &desired, &discovered, revision, now)?
        } else {
            let (path, branch) = (self.watched.path.clone(), self.watched.branch.clone());
            let looked = move || Bare::open(&path).and_then(|bare| Ok((bare.head(&branch)?, bare)));
            let (newest, bare) = look::within(&self.watched.path, REPOSITORY_MAX, looked)
                .map_err(|silent| silent.trouble(codes::REPOSITORY_HANGING, "the config repository"))?
                .map_err(|error| error.trouble())?;
            let head = revision.cloned().or(newest);
            let head =
                head.ok_or_else(|| Trouble::new(codes::BRANCH_MISSING, format!("no branch {}", self.watched.branch)))?;
            let files = bare.files(&head, &self.watched.root).map_err(|error| error.trouble())?;
            let loaded = self.loader.load(&files);
            let Some(desired) = loaded.config else {
                let first = loaded.diagnostics.iter().find(|each| each.is_error()).map(Diagnostic::one_line);
                return Err(Trouble::new(
                    codes::INVALID_CONFIG,
                    first.unwrap_or_else(|| "the config is invalid".to_owned()),
                )
                .with_hint("see `larder check`"));
            };
            let (desired, discovered) = self.with_discovered(desired);
            self.plan(world, jobs, &desired, &discovered, Some(&head), now)?
        };
        let value = serde_json::to_value(&plan).map_err(|error| Trouble::new(codes::INTERNAL, error.to_string()))?;
        Ok(PlanText { lines: plan.lines(now), plan: value })
    }

    fn verdict(
        &mut self,
        revision: Option<&Revision>,
        result: ReconcileResult,
        lines: Vec<String>,
        start: Instant,
    ) -> Reconciled {
        let verdict = Reconciled { revision: revision.cloned(), result, lines, took_us: micros(start) };
        if revision.is_some() {
            self.last = Some(verdict.clone());
        }
        verdict
    }
}

/// The config without the targets that no document names.
fn documents(config: &Config, discovered: &BTreeSet<Name>) -> Config {
    let mut config = config.clone();
    config.targets.retain(|name, _| !discovered.contains(name));
    config
}

fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Why a look came to nothing.
enum LookError {
    /// Nothing was pushed yet.
    Waiting(Trouble),
    /// The source cannot be read.
    Source(Trouble),
    Other(Trouble),
}

impl From<look::Silent> for LookError {
    fn from(silent: look::Silent) -> Self {
        Self::Source(silent.trouble(codes::REPOSITORY_HANGING, "the config repository"))
    }
}

impl From<SourceError> for LookError {
    fn from(error: SourceError) -> Self {
        Self::Source(error.trouble())
    }
}

impl From<Trouble> for LookError {
    fn from(trouble: Trouble) -> Self {
        Self::Other(trouble)
    }
}

/// Reads every config file of a revision, for the sake of what cannot be read.
fn read_all(files: &dyn FileSet) -> Result<(), LookError> {
    for entry in files.entries() {
        if let Err(trouble) = files.read(entry)
            && trouble.is_of(Kind::Io)
        {
            return Err(LookError::Source(Trouble {
                message: format!("{}: {}", entry.path, trouble.message),
                ..trouble
            }));
        }
    }
    Ok(())
}
