//! A repository's listing against what the ledger knows: which snapshots are ours, which vanished, which are another
//! site's. Pure.
//!
//! Ours is what bears our site's mark, or what a run in our ledger made: a name of a target says nothing, since two sites
//! may have one of the same name in one repository. What the ledger knows and nobody of us removed must be there.

pub mod altered;
pub mod mark;
pub mod newer;
pub mod places;
pub mod renamed;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::altered::Altered;
use self::newer::Newer;
use self::places::Orders;
use crate::run::retention::{Candidate, is_future};
use crate::types::site::SiteId;
use crate::types::{JobId, Name, RunId};

/// Other sites and targets of theirs that are named. What holds a job has no bound: each is judged.
const NAMED_MAX: usize = 20;

/// A snapshot as a repository lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: String,
    pub time: Timestamp,
    /// None: Larder did not make it.
    pub job: Option<JobId>,
    pub run: Option<RunId>,
    /// None: it was made before sites had an identity.
    pub site: Option<String>,
    pub host: String,
    /// The id that it had before it was written anew.
    pub original: Option<String>,
    /// The machine that made it; none: that was not noted.
    pub on: Option<String>,
    /// The id of what it holds; none: restic does not tell.
    pub tree: Option<String>,
    /// `restic repair` wrote it, with what could still be read.
    pub repaired: bool,
}

/// A snapshot that the ledger knows to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its place in the order of runs, over all jobs.
    pub order: u64,
    pub time: Timestamp,
    #[serde(default)]
    pub run: Option<RunId>,
    /// We are about to forget it, or did: its absence is no loss.
    #[serde(default)]
    pub leaving: bool,
    /// The newest listing was without it.
    #[serde(default)]
    pub missing: bool,
    /// The id that it had first, where somebody wrote it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// What it may hold, by the ids of trees: what its run put there and what somebody accepted since. None: that was not
    /// noted yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trees: BTreeSet<String>,
    /// What it, or what was saved of it, holds instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altered: Option<String>,
}

impl Known {
    /// One that was just seen for the first time.
    #[must_use]
    pub fn new(order: u64, time: Timestamp) -> Self {
        Self {
            order,
            time,
            run: None,
            leaving: false,
            missing: false,
            original: None,
            trees: BTreeSet::new(),
            altered: None,
        }
    }
}

/// By snapshot id.
pub type KnownById = BTreeMap<String, Known>;

/// What is known of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub by_job: BTreeMap<JobId, KnownById>,
    /// The highest order that was given so far.
    pub highest: u64,
}

impl Books {
    /// Whether it is one of the job's.
    #[must_use]
    pub fn knows(&self, job: &JobId, id: &str) -> bool {
        self.by_job.get(job).is_some_and(|known| known.contains_key(id))
    }
}

/// One of ours that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    pub id: String,
    pub order: u64,
    pub time: Timestamp,
    pub is_future: bool,
}

impl From<&Ours> for Candidate {
    fn from(ours: &Ours) -> Self {
        Self { id: ours.id.clone(), order: ours.order, time: ours.time }
    }
}

/// Snapshots of a job that the ledger knows, that we did not forget and that are not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub job: JobId,
    pub snapshots: u64,
    /// The newest of the job was among them when it was noticed.
    pub newest: bool,
    /// When it was noticed.
    pub since: Timestamp,
    /// What the oldest and newest of them were dated.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Which they are, in short.
    #[serde(default)]
    pub mark: String,
}

impl Missing {
    /// What is typed to accept that they are gone.
    #[must_use]
    pub fn value(&self) -> String {
        mark::value("missing", self.snapshots, &self.mark)
    }
}

/// Another site's snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// None: from before sites had an identity, and in no ledger of ours.
    pub site: Option<String>,
    /// What the site calls itself.
    pub host: String,
    pub snapshots: u64,
    pub newest: Timestamp,
    /// Those that we have a target of the same name for.
    pub targets: BTreeSet<Name>,
}

/// What a repository was seen to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    pub at: Timestamp,
    pub snapshots: u64,
    pub ours: u64,
    #[serde(default)]
    pub future: u64,
    #[serde(default)]
    pub foreign: Vec<Foreign>,
    #[serde(default)]
    pub missing: Vec<Missing>,
    /// Missing, too, but of jobs that left the config: said, and no trouble.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_orphaned: Vec<Missing>,
    /// The ledger is older than the repository, a job each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newer: Vec<Newer>,
    /// Snapshots that hold something else than they did, a job each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub altered: Vec<Altered>,
    /// Second snapshots of runs that are known: no retention counts or forgets them.
    #[serde(default)]
    pub copies: u64,
}

/// A listing, sorted out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sorted {
    /// By job, in the order of runs.
    pub ours: BTreeMap<JobId, Vec<Ours>>,
    /// Ours that the ledger did not know; to be written down.
    pub adopted: Vec<(JobId, String, Known)>,
    /// Forgotten by us and gone; to be taken out of the ledger.
    pub gone: Vec<(JobId, String)>,
    /// Known, not forgotten, not there.
    pub missing: BTreeMap<JobId, Vec<(String, Known)>>,
    /// Known and to be written down as they are now: gone, back, or holding something else.
    pub changed: Vec<(JobId, String, Known)>,
    /// Second snapshots of runs of ours.
    pub copies: BTreeSet<String>,
    /// Those of ours that hold something else than their runs put there.
    pub altered: BTreeSet<String>,
    /// Those of ours from which somebody took our marks.
    pub bare: BTreeMap<String, (JobId, Option<RunId>)>,
    pub holdings: Holdings,
}

/// The snapshots of Larder that bear no mark and that the ledger does not know: their runs have to be looked up.
pub fn unmarked<'a>(listing: &'a [Seen], books: &'a Books) -> impl Iterator<Item = (&'a JobId, &'a str)> {
    listing.iter().filter(|seen| seen.site.is_none()).filter_map(|seen| {
        let job = seen.job.as_ref()?;
        (!books.knows(job, &seen.id)).then_some((job, seen.id.as_str()))
    })
}

/// What is asked of [`sort`] besides the listing.
pub struct Question<'a> {
    /// Where the repository is: a copy of it elsewhere has the same ids.
    pub destination: &'a Name,
    pub site: &'a SiteId,
    /// As they were before the listing: what came into them since can't be missing from it.
    pub then: &'a Books,
    /// As they are now.
    pub books: &'a Books,
    /// Ids of unmarked snapshots that a run in our ledger made.
    pub witnessed: &'a BTreeSet<String>,
    /// Runs of snapshots in the listing that the ledger does not have.
    pub unknown_runs: &'a BTreeSet<RunId>,
    /// The order of runs in other repositories.
    pub elsewhere: &'a Orders,
    /// Runs under way, and the last of each job: what they make is the newest whatever the clock says.
    pub newest_runs: &'a BTreeSet<RunId>,
    /// What this machine calls itself.
    pub machine: Option<&'a str>,
    /// The targets that we have.
    pub targets: &'a BTreeSet<Name>,
    /// What was seen the last time.
    pub before: Option<&'a Holdings>,
    pub now: Timestamp,
}

/// Sorts out a listing.
#[must_use]
pub fn sort(listing: &[Seen], question: &Question<'_>) -> Sorted {
    let mut sorted = Sorted {
        ours: BTreeMap::new(),
        adopted: places::adopted(listing, question),
        gone: Vec::new(),
        missing: BTreeMap::new(),
        changed: Vec::new(),
        copies: BTreeSet::new(),
        altered: BTreeSet::new(),
        bare: BTreeMap::new(),
        holdings: Holdings {
            at: question.now,
            snapshots: listing.len() as u64,
            ours: 0,
            future: 0,
            foreign: Vec::new(),
            missing: Vec::new(),
            missing_orphaned: Vec::new(),
            newer: Vec::new(),
            altered: Vec::new(),
            copies: 0,
        },
    };
    let there: BTreeMap<&str, &Seen> = listing.iter().map(|seen| (seen.id.as_str(), seen)).collect();
    let mut put = |job: &JobId, id: &str, known: &Known| {
        let is_future = is_future(known.time, question.now);
        sorted.holdings.ours += 1;
        sorted.holdings.future += u64::from(is_future);
        let ours = Ours { id: id.to_owned(), order: known.order, time: known.time, is_future };
        sorted.ours.entry(job.clone()).or_default().push(ours);
    };
    for (job, id, known) in &sorted.adopted {
        put(job, id, known);
    }
    for (job, all) in &question.books.by_job {
        for (id, known) in all {
            match (there.contains_key(id.as_str()), known.leaving) {
                (true, _) => put(job, id, known),
                (false, true) => sorted.gone.push((job.clone(), id.clone())),
                (false, false) if !question.then.knows(job, id) => {}
                (false, false) => {
                    sorted.missing.entry(job.clone()).or_default().push((id.clone(), known.clone()));
                }
            }
        }
    }
    for ours in sorted.ours.values_mut() {
        ours.sort_by(|a, b| (a.order, a.time, &a.id).cmp(&(b.order, b.time, &b.id)));
    }
    let copies = altered::copies(listing, question);
    for (_, id, known) in &mut sorted.adopted {
        let Some(seen) = there.get(id.as_str()) else { continue };
        known.original.clone_from(&seen.original);
        *known = altered::noted(known, seen, &[]);
    }
    let after = as_of_now(&there, &copies, &sorted.missing, question);
    let mut altered: BTreeMap<&JobId, Vec<(&String, &Known)>> = BTreeMap::new();
    for (job, id, known) in after.iter().chain(&sorted.adopted).filter(|(_, _, known)| known.altered.is_some()) {
        altered.entry(job).or_default().push((id, known));
    }
    sorted.altered = altered.values().flatten().map(|(id, _)| (*id).clone()).collect();
    sorted.holdings.altered = altered::altered(&altered, &sorted.ours, question);
    let is_new = |job: &JobId, id: &String, known: &Known| {
        question.books.by_job.get(job).and_then(|all| all.get(id)).is_none_or(|before| before != known)
    };
    sorted.changed = after.iter().filter(|(job, id, known)| is_new(job, id, known)).cloned().collect();
    sorted.copies = copies.values().flatten().map(|seen| seen.id.clone()).collect();
    sorted.holdings.copies = sorted.copies.len() as u64;
    sorted.bare = after
        .iter()
        .filter(|(_, id, _)| there.get(id.as_str()).is_some_and(|seen| seen.job.is_none()))
        .map(|(job, id, known)| (id.clone(), (job.clone(), known.run)))
        .collect();
    sorted.holdings.newer = newer::newer(listing, &sorted.adopted, &sorted.missing, question);
    let unexplained = newer::unexplained(&sorted.missing, &sorted.holdings.newer);
    sorted.holdings.missing = missing(&unexplained, question);
    sorted.holdings.foreign = foreign(listing, question);
    sorted
}

fn is_ours(seen: &Seen, question: &Question<'_>) -> bool {
    match &seen.site {
        Some(site) => site == question.site.as_str(),
        None => question.witnessed.contains(&seen.id),
    }
}

/// The known ones as the listing shows them, without those that came since or are gone by us.
fn as_of_now(
    there: &BTreeMap<&str, &Seen>,
    copies: &altered::Copies<'_>,
    missing: &BTreeMap<JobId, Vec<(String, Known)>>,
    question: &Question<'_>,
) -> Vec<(JobId, String, Known)> {
    let gone: BTreeSet<&String> = missing.values().flatten().map(|(id, _)| id).collect();
    let mut after = Vec::new();
    for (job, all) in &question.books.by_job {
        for (id, known) in all {
            let now = match there.get(id.as_str()) {
                Some(seen) => {
                    let copies = copies.get(&(job, id)).map(Vec::as_slice).unwrap_or_default();
                    Known { missing: false, ..altered::noted(known, seen, copies) }
                }
                None if gone.contains(id) => Known { missing: true, altered: None, ..known.clone() },
                None => continue,
            };
            after.push((job.clone(), id.clone(), now));
        }
    }
    after
}

fn missing(missing: &BTreeMap<JobId, Vec<(String, Known)>>, question: &Question<'_>) -> Vec<Missing> {
    let summary = |(job, gone): (&JobId, &Vec<(String, Known)>)| {
        let before = question
            .before
            .and_then(|before| before.missing.iter().chain(&before.missing_orphaned).find(|each| each.job == *job));
        let place = |known: &Known| (known.order, known.time);
        let newest_known = question.books.by_job.get(job)?.values().map(place).max();
        let newest = gone.iter().map(|(_, known)| place(known)).max() == newest_known;
        Some(Missing {
            job: job.clone(),
            snapshots: gone.len() as u64,
            newest: newest || before.is_some_and(|before| before.newest),
            since: before.map_or(question.now, |before| before.since),
            from: gone.iter().map(|(_, known)| known.time).min()?,
            to: gone.iter().map(|(_, known)| known.time).max()?,
            mark: mark::of(question.destination, gone.iter().map(|(id, _)| id.as_str())),
        })
    };
    missing.iter().filter_map(summary).collect()
}

fn foreign(listing: &[Seen], question: &Question<'_>) -> Vec<Foreign> {
    let mut found: BTreeMap<Option<&str>, Foreign> = BTreeMap::new();
    for seen in listing {
        let Some(job) = &seen.job else { continue };
        if is_ours(seen, question) || question.books.knows(job, &seen.id) {
            continue;
        }
        let each = found.entry(seen.site.as_deref()).or_insert_with(|| Foreign {
            site: seen.site.clone(),
            host: seen.host.clone(),
            snapshots: 0,
            newest: seen.time,
            targets: BTreeSet::new(),
        });
        each.snapshots += 1;
        if seen.time >= each.newest {
            each.newest = seen.time;
            each.host.clone_from(&seen.host);
        }
        if question.targets.contains(&job.target) && each.targets.len() < NAMED_MAX {
            each.targets.insert(job.target.clone());
        }
    }
    found.into_values().take(NAMED_MAX).collect()
}

#[cfg(test)]
mod tests;
