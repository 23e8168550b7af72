//! What of one repository is missing in the one that is to have copies of it. Pure.
//!
//! A copied snapshot has another id, but the run that made it is the same, and restic writes down what it was copied from. What
//! the policy would not keep there is not missing: it would be forgotten, and copied again. What somebody wrote anew at the
//! source is no copy of what its run made, and what somebody wrote anew in the copy does not count as there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::holdings::{Books, Known};
use super::retention::{Candidate, superfluous};
use crate::config::model::Retention;
use crate::types::JobId;

/// By what rules a job's snapshots are kept in the copy; none: all are.
pub type RulesOf<'a> = dyn Fn(&JobId) -> Option<(Retention, TimeZone)> + 'a;

/// A snapshot that is to be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub job: JobId,
    /// At the source.
    pub id: String,
    pub order: u64,
    pub time: Timestamp,
}

/// What is in a copy, against where it is copied from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The newest run first: who has little time has that.
    pub wanted: Vec<Wanted>,
    /// Those at the source that hold something else than their runs put there; they are not copied.
    pub altered: u64,
    /// The newest that each job has in the copy, by id and time.
    pub newest: BTreeMap<JobId, (String, Timestamp)>,
}

impl Standing {
    /// When the oldest one that is missing was made; none: all are there.
    #[must_use]
    pub fn oldest_missing(&self) -> Option<Timestamp> {
        self.wanted.iter().map(|each| each.time).min()
    }

    /// How many of a job are missing, and when the oldest of them was made.
    #[must_use]
    pub fn missing_of(&self, job: &JobId) -> Option<(u64, Timestamp)> {
        let times = || self.wanted.iter().filter(|each| each.job == *job).map(|each| each.time);
        Some((times().count() as u64, times().min()?))
    }
}

/// What `to` lacks of those jobs in `from` that it `takes`.
#[must_use]
pub fn standing(
    from: &Books,
    to: &Books,
    takes: &dyn Fn(&JobId) -> bool,
    rules: &RulesOf<'_>,
    now: Timestamp,
) -> Standing {
    let mut standing = Standing::default();
    let none = BTreeMap::new();
    for (job, all) in &to.by_job {
        let newest = all.iter().filter(|(_, known)| is_whole(known)).max_by_key(|(_, known)| (known.order, known.time));
        standing.newest.extend(newest.map(|(id, known)| (job.clone(), (id.clone(), known.time))));
    }
    for (job, all) in from.by_job.iter().filter(|(job, _)| takes(job)) {
        let there = to.by_job.get(job).unwrap_or(&none);
        let is_there =
            |id: &str, known: &Known| there.iter().any(|(of, copy)| is_whole(copy) && is_copy(of, copy, id, known));
        standing.altered += all.values().filter(|known| known.altered.is_some()).count() as u64;
        // What is given up goes soon.
        let lacks = all.iter().filter(|(id, known)| is_whole(known) && !known.leaving && !is_there(id, known));
        let lacks: Vec<Candidate> = lacks.map(|(id, known)| candidate(id, known)).collect();
        let gone: BTreeSet<String> = match rules(job).filter(|_| !lacks.is_empty()) {
            Some((rules, zone)) => {
                let kept = there.iter().filter(|(_, known)| !known.missing).map(|(id, known)| candidate(id, known));
                let all: Vec<Candidate> = kept.chain(lacks.iter().cloned()).collect();
                superfluous(&all, &rules, &zone, now).into_iter().collect()
            }
            None => BTreeSet::new(),
        };
        let wanted = lacks.into_iter().filter(|each| !gone.contains(&each.id));
        standing.wanted.extend(wanted.map(|Candidate { id, order, time }| Wanted {
            job: job.clone(),
            id,
            order,
            time,
        }));
    }
    standing.wanted.sort_by(|a, b| (b.order, b.time, &b.id).cmp(&(a.order, a.time, &a.id)));
    standing
}

/// Whether it is there with what its run put there.
fn is_whole(known: &Known) -> bool {
    !known.missing && known.altered.is_none()
}

fn is_copy(of: &str, copy: &Known, id: &str, known: &Known) -> bool {
    let by_run = known.run.is_some() && copy.run == known.run;
    let by_original =
        copy.original.as_deref().is_some_and(|original| original == id || known.original.as_deref() == Some(original));
    by_run || by_original || of == id
}

fn candidate(id: &str, known: &Known) -> Candidate {
    Candidate { id: id.to_owned(), order: known.order, time: known.time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RunId;

    fn at(day: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + i64::try_from(day).unwrap() * 86_400).unwrap()
    }

    fn job(name: &str) -> JobId {
        format!("{name}/daily").parse().unwrap()
    }

    fn run(day: u64) -> RunId {
        let mut bytes = [0; 16];
        bytes[15] = u8::try_from(day).unwrap();
        RunId::from_bytes(bytes)
    }

    /// Snapshots of `job` by the runs of these days; their ids begin with `mark`.
    fn books(job: &JobId, mark: &str, days: &[u64]) -> Books {
        let mut books = Books::default();
        for day in days {
            let known = Known { run: Some(run(*day)), ..Known::new(*day, at(*day)) };
            books.by_job.entry(job.clone()).or_default().insert(format!("{mark}{day}"), known);
        }
        books
    }

    fn edit(books: &mut Books, job: &JobId, id: &str, change: impl FnOnce(&mut Known)) {
        change(books.by_job.get_mut(job).unwrap().get_mut(id).unwrap());
    }

    fn all(from: &Books, to: &Books) -> Standing {
        standing(from, to, &|_| true, &|_| None, at(99))
    }

    fn ids(standing: &Standing) -> Vec<&str> {
        standing.wanted.iter().map(|each| each.id.as_str()).collect()
    }

    #[test]
    fn what_no_run_of_is_there_is_missing_and_the_newest_comes_first() {
        let job = job("a");
        let (from, to) = (books(&job, "s", &[1, 2, 3, 4]), books(&job, "c", &[2, 0]));
        let seen = all(&from, &to);
        assert_eq!(ids(&seen), ["s4", "s3", "s1"]);
        assert_eq!((seen.oldest_missing(), seen.missing_of(&job)), (Some(at(1)), Some((3, at(1)))));
        assert_eq!(seen.newest[&job], ("c2".to_owned(), at(2)));
        assert_eq!(ids(&standing(&from, &to, &|_| false, &|_| None, at(99))), Vec::<&str>::new());
        assert_eq!(all(&to, &to).oldest_missing(), None);
    }

    #[test]
    fn one_without_a_run_is_known_by_what_it_was_copied_from() {
        let job = job("a");
        let (mut from, mut to) = (books(&job, "s", &[1, 2]), books(&job, "c", &[1, 2]));
        for id in ["s1", "s2"] {
            edit(&mut from, &job, id, |known| known.run = None);
        }
        edit(&mut to, &job, "c1", |known| known.original = Some("s1".to_owned()));
        assert_eq!(ids(&all(&from, &to)), ["s2"]);
        // Somebody wrote it anew at the source since: both come from one.
        edit(&mut from, &job, "s2", |known| known.original = Some("first".to_owned()));
        edit(&mut to, &job, "c2", |known| known.original = Some("first".to_owned()));
        assert_eq!(ids(&all(&from, &to)), Vec::<&str>::new());
    }

    #[test]
    fn what_is_not_what_its_run_made_is_neither_copied_nor_counted_as_a_copy() {
        let job = job("a");
        let (mut from, mut to) = (books(&job, "s", &[1, 2, 3, 4]), books(&job, "c", &[3, 4]));
        edit(&mut from, &job, "s1", |known| known.altered = Some("less".to_owned()));
        edit(&mut from, &job, "s2", |known| known.missing = true);
        edit(&mut to, &job, "c3", |known| known.altered = Some("less".to_owned()));
        edit(&mut to, &job, "c4", |known| known.missing = true);
        let seen = all(&from, &to);
        assert_eq!((ids(&seen), seen.altered), (vec!["s4", "s3"], 1));
        assert_eq!(seen.newest.get(&job), None);
    }

    #[test]
    fn what_the_policy_would_not_keep_there_is_not_copied_again_and_again() {
        let job = job("a");
        let rules = Retention { last: Some(2), ..Retention::default() };
        let of = |_: &JobId| Some((rules.clone(), TimeZone::UTC));
        let (from, to) = (books(&job, "s", &[1, 2, 3, 4]), books(&job, "c", &[3]));
        assert_eq!(ids(&standing(&from, &to, &|_| true, &of, at(99))), ["s4"]);
        let (from, to) = (books(&job, "s", &[1, 2, 3, 4]), books(&job, "c", &[8, 9]));
        assert_eq!(ids(&standing(&from, &to, &|_| true, &of, at(99))), Vec::<&str>::new());
        // A job that is held gives nothing up anywhere.
        assert_eq!(ids(&all(&from, &to)), ["s4", "s3", "s2", "s1"]);
    }

    #[test]
    fn what_is_gone_from_the_source_is_nothing_of_the_copy_s() {
        let job = job("a");
        let (from, to) = (Books::default(), books(&job, "c", &[1, 2]));
        let seen = all(&from, &to);
        assert_eq!((ids(&seen).len(), seen.newest.len()), (0, 1));
    }
}
