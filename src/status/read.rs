//! Fetches from the ledger and the live board what the view is built from; judges nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::model::Config;
use crate::error::Trouble;
use crate::run::copying::Standing;
use crate::run::holdings::Holdings;
use crate::run::statistics::{Statistics, TargetStatistics};
use crate::runner::copy;
use crate::runner::live::{Discovery, Live, Locks, RunUpdate};
use crate::status::{RunCell, STRIP_RUNS_MAX};
use crate::store::StoreError;
use crate::store::damage::Damage;
use crate::store::history::RunFilter;
use crate::store::ledger::Ledger;
use crate::store::record::{
    ArtifactSummary, ConfigRecord, DestinationRecord, Incident, JobRecord, RunRecord, Shipment,
};
use crate::store::unfinished::Unfinished;
use crate::types::{JobId, Name, Outcome, RunId};

/// How many waiting mails are looked at for the newest error.
const MAILS_MAX: usize = 100;
/// How many runs are looked through for the newest remarks where no strip is wanted.
const REMARK_RUNS_MAX: usize = 3;
/// A cell's trouble is cut to this, in characters.
const CELL_TROUBLE_CHARS_MAX: usize = 200;

/// How much history is wanted: a scrape needs none, a list what the newest runs remarked, a page the strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Jobs,
    Remarks,
    Strips,
}

/// Values as they were at one instant.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub desired: Config,
    pub config: ConfigRecord,
    pub jobs: Vec<JobRecord>,
    pub history: BTreeMap<JobId, History>,
    pub destinations: Vec<DestinationRecord>,
    /// What each repository was seen to hold the last time.
    pub holdings: Vec<(Name, Holdings)>,
    pub statistics: BTreeMap<Name, Statistics>,
    /// By destination and target.
    pub target_statistics: BTreeMap<Name, BTreeMap<Name, TargetStatistics>>,
    /// What each copy of the config lacks, by what the repositories were seen to hold.
    pub copies: BTreeMap<Name, Standing>,
    /// As last seen.
    pub locks: Locks,
    pub live: Vec<RunUpdate>,
    pub mails_waiting: u64,
    pub mail_error: Option<String>,
    pub discovery: Discovery,
    /// What is wrong with the state directory.
    pub state: Option<Incident>,
    /// A loss of the store that nobody accepted yet.
    pub loss: Option<Damage>,
    /// What runs and restores changed on applications and could not put back.
    pub unfinished: Vec<Unfinished>,
}

/// What the last runs of one job leave on a page; the records themselves are dropped at once.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Oldest first.
    pub cells: Vec<RunCell>,
    pub shipped: BTreeMap<Name, Shipped>,
    pub artifact: Option<(RunId, ArtifactSummary)>,
    /// Of the newest finished run.
    pub warnings: Vec<Trouble>,
    /// Of the newest run that made a backup.
    pub notices: Vec<Trouble>,
}

/// The newest shipment to one destination.
#[derive(Clone, Debug)]
pub struct Shipped {
    pub newest: Shipment,
    pub at: Timestamp,
    pub last_success: Option<Timestamp>,
}

impl Reading {
    /// Reads everything. Blocking: call it where blocking is allowed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn take(ledger: &Ledger, live: &Live, depth: Depth, now: Timestamp) -> Result<Self, StoreError> {
        let desired = ledger.desired()?;
        let jobs = ledger.jobs()?;
        let mut history = BTreeMap::new();
        if depth != Depth::Jobs {
            for job in &jobs {
                let runs = ledger.runs(&RunFilter {
                    target: Some(job.id.target.clone()),
                    policy: Some(job.id.policy.clone()),
                    before: None,
                    limit: if depth == Depth::Strips { STRIP_RUNS_MAX } else { REMARK_RUNS_MAX },
                })?;
                let whole = History::of(&runs);
                let kept = match depth {
                    Depth::Strips => whole,
                    _ => History { warnings: whole.warnings, notices: whole.notices, ..History::default() },
                };
                history.insert(job.id.clone(), kept);
            }
        }
        let statistics = ledger.all_statistics()?;
        let mut target_statistics = BTreeMap::new();
        for name in statistics.keys() {
            target_statistics.insert(name.clone(), ledger.target_statistics(name)?);
        }
        let mails = ledger.outbox_due(Timestamp::MAX, MAILS_MAX)?;
        Ok(Self {
            copies: copy::standings(ledger, &desired, now)?,
            desired,
            config: ledger.config_record()?,
            jobs,
            history,
            destinations: ledger.destinations()?,
            holdings: ledger.all_holdings()?,
            statistics,
            target_statistics,
            locks: live.locks(),
            live: live.current(),
            mails_waiting: ledger.outbox_len()?,
            mail_error: mails.into_iter().rev().find_map(|(_, mail)| mail.last_error),
            discovery: live.discovery(),
            state: live.state(),
            loss: ledger.loss()?,
            unfinished: ledger.unfinished()?.into_iter().filter(|each| !each.ended).collect(),
        })
    }

    /// The site's zone; UTC when the name is not known (it was checked when the config was loaded).
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        TimeZone::get(&self.desired.site.timezone).unwrap_or(TimeZone::UTC)
    }
}

impl History {
    /// Keeps of `runs` (newest first) what a page shows.
    #[must_use]
    pub fn of(runs: &[RunRecord]) -> Self {
        let mut history = Self::default();
        let finished = || runs.iter().filter_map(|run| run.finished.map(|at| (run, at)));
        for (run, at) in finished() {
            for shipment in &run.shipments {
                let shipped = history.shipped.entry(shipment.destination.clone()).or_insert_with(|| Shipped {
                    newest: shipment.clone(),
                    at,
                    last_success: None,
                });
                if shipment.outcome == Outcome::Success && shipped.last_success.is_none() {
                    shipped.last_success = Some(at);
                }
            }
            if history.artifact.is_none() {
                history.artifact = run.artifact.clone().map(|artifact| (run.id, artifact));
            }
        }
        if let Some((newest, _)) = finished().next() {
            history.warnings.clone_from(&newest.warnings);
        }
        // A run that came to nothing says nothing of what the backups leave out.
        if let Some((newest, _)) = finished().find(|(run, _)| run.artifact.is_some()) {
            history.notices.clone_from(&newest.notices);
        }
        history.cells = finished().filter_map(|(run, at)| cell(run, at)).collect();
        history.cells.reverse();
        history
    }
}

fn cell(run: &RunRecord, at: Timestamp) -> Option<RunCell> {
    let crate::run::RunState::Finished(outcome) = run.state else { return None };
    let took = at.duration_since(run.started.unwrap_or(run.queued));
    Some(RunCell {
        id: run.id,
        outcome,
        at,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(0),
        bytes: run.bytes,
        trouble: run.trouble.as_ref().map(|t| t.message.chars().take(CELL_TROUBLE_CHARS_MAX).collect()),
    })
}
