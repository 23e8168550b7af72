//! What a job learns of its size from its snapshots, where its own record may not know it. Pure.
//!
//! A state that was lost, or that is older than the repository, has forgotten what arrived since. Accepting that is not
//! accepting that data shrank: so the first run after it weighs itself against what is there, whether or not somebody accepted
//! the rest by then. Each snapshot is read once; what is accepted behind that is usual.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Load, Weight};
use crate::types::{Name, RunId};

/// Snapshots of one destination that are remembered as read, one by one.
const SNAPSHOTS_MAX: usize = 300;

/// Digits of a snapshot's id that it is remembered by.
const ID_DIGITS: usize = 8;

/// Snapshots that are looked into, one call of restic each.
const LOOKED_INTO_MAX: usize = 60;

/// What a job has read of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// All that was there after the state was lost at this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Timestamp>,
    /// And what is there of unknown runs up to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<RunId>,
    /// And these, by unknown runs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub snapshots: BTreeSet<String>,
}

/// What the snapshots have that were not read before, and what is read now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// The most of the whole and of each part.
    pub load: Load,
    pub read: BTreeMap<Name, Read>,
}

/// A snapshot of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub destination: Name,
    pub id: String,
    pub run: Option<RunId>,
    /// None where restic did not write it down.
    pub total: Option<Weight>,
    /// The sources that it was made of.
    pub sources: Vec<String>,
}

/// Those of `kept`, all that `destination` has of the job, that tell something the record may not know; and what is read
/// with them. `is_unknown`: the state has no such run.
#[must_use]
pub fn unread(
    kept: Vec<Kept>,
    lost: Option<Timestamp>,
    before: &Read,
    is_unknown: impl Fn(RunId) -> bool,
) -> (Vec<Kept>, Read) {
    let is_lost = lost.is_some() && lost != before.lost;
    let unknown = |each: &Kept| {
        // What was made before the loss is read with it.
        let run = each.run.filter(|run| lost.is_none_or(|lost| run.time() > lost))?;
        is_unknown(run).then(|| (run, short(&each.id)))
    };
    let mut of_unknown: Vec<(RunId, String)> = kept.iter().filter_map(unknown).collect();
    let is_read =
        |run: RunId, id: &String| before.up_to.is_some_and(|up_to| run <= up_to) || before.snapshots.contains(id);
    let new: BTreeSet<&str> =
        of_unknown.iter().filter(|(run, id)| !is_read(*run, id)).map(|(_, id)| id.as_str()).collect();
    let told = kept.into_iter().filter(|each| is_lost || new.contains(short(&each.id).as_str())).collect();
    of_unknown.sort();
    let excess = of_unknown.len().saturating_sub(SNAPSHOTS_MAX);
    let up_to = of_unknown.drain(..excess).map(|(run, _)| run).next_back().max(before.up_to);
    let snapshots = of_unknown.into_iter().map(|(_, id)| id).collect();
    (told, Read { lost: lost.or(before.lost), up_to, snapshots })
}

/// Those of `told` that are looked into for what each source has: one of each run and each size, those first that have the
/// most, the newest and the oldest.
#[must_use]
pub fn chosen(told: &[Kept]) -> Vec<&Kept> {
    let mut runs = BTreeSet::new();
    let mut sizes = BTreeSet::new();
    let mut left: Vec<&Kept> = told.iter().collect();
    left.sort_by(|a, b| (b.run, &b.id).cmp(&(a.run, &a.id)));
    left.retain(|each| {
        let size = each.total.map(|total| (total.bytes, total.files, &each.sources));
        each.run.is_none_or(|run| runs.insert(run)) && size.is_none_or(|size| sizes.insert(size))
    });
    let by = |measure: fn(Weight) -> u64| left.iter().max_by_key(|each| each.total.map(measure)).copied();
    let first = [by(|total| total.bytes), by(|total| total.files), left.first().copied(), left.last().copied()];
    let mut chosen: Vec<&Kept> = Vec::new();
    for each in first.into_iter().flatten().chain(left.iter().copied()) {
        if !chosen.iter().any(|other| other.id == each.id) {
            chosen.push(each);
        }
    }
    chosen.truncate(LOOKED_INTO_MAX);
    chosen
}

fn short(id: &str) -> String {
    id.chars().take(ID_DIGITS).collect()
}

impl Recalled {
    /// Takes in what one snapshot has.
    pub fn take_in(&mut self, load: &Load) {
        self.load.total = self.load.total.most(load.total);
        for (part, weight) in &load.parts {
            let most = self.load.parts.entry(part.clone()).or_default();
            *most = most.most(*weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(second: u64) -> RunId {
        RunId::from_bytes((u128::from(second * 1000) << 80).to_be_bytes())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn kept(number: u64, bytes: u64) -> Kept {
        Kept {
            destination: Name::parse("nas").unwrap(),
            id: format!("{number:08x}{}", "0".repeat(56)),
            run: Some(run(number)),
            total: Some(Weight { bytes, files: 1 }),
            sources: vec!["/a".to_owned()],
        }
    }

    fn numbers(kept: &[Kept]) -> Vec<u64> {
        kept.iter().map(|each| u64::from_str_radix(&each.id[..8], 16).unwrap()).collect()
    }

    #[test]
    fn what_was_there_before_a_loss_is_read_once_and_what_later_runs_made_is_known() {
        let all = |up_to: u64| (1..=up_to).map(|n| kept(n, n)).collect::<Vec<_>>();
        let is_unknown = |id: RunId| id <= run(5);
        let lost = Some(at(5));
        let (told, read) = unread(all(6), lost, &Read::default(), is_unknown);
        assert_eq!(numbers(&told), [1, 2, 3, 4, 5, 6]);
        let (told, read) = unread(all(7), lost, &read, is_unknown);
        assert_eq!((numbers(&told), read.snapshots.len()), (vec![], 0));
        let (told, _) = unread(all(7), Some(at(7)), &read, |_| true);
        assert_eq!(told.len(), 7, "another loss");
    }

    #[test]
    fn what_runs_made_that_the_state_does_not_know_is_read_once_wherever_it_stands() {
        let is_unknown = |id: RunId| [run(3), run(4), run(9)].contains(&id);
        let (told, read) = unread((1..=6).map(|n| kept(n, n)).collect(), None, &Read::default(), is_unknown);
        assert_eq!(numbers(&told), [3, 4]);
        let (told, read) = unread((4..=8).map(|n| kept(n, n)).collect(), None, &read, is_unknown);
        assert_eq!((told, read.snapshots.len()), (vec![], 1));
        let (told, read) = unread((4..=9).map(|n| kept(n, n)).collect(), None, &read, is_unknown);
        assert_eq!(numbers(&told), [9]);
        // A copy beside this one made another in between.
        let beside = || [kept(4, 4), Kept { run: Some(run(3)), ..kept(77, 1) }, kept(9, 9)].to_vec();
        let (told, _) = unread(beside(), None, &read, is_unknown);
        assert_eq!(numbers(&told), [77]);
    }

    #[test]
    fn of_many_unknown_runs_none_is_read_twice_and_the_record_stays_small() {
        let many = || (1..=900).map(|n| kept(n, n)).collect::<Vec<_>>();
        let (told, read) = unread(many(), None, &Read::default(), |_| true);
        assert_eq!((told.len(), read.snapshots.len()), (900, SNAPSHOTS_MAX));
        assert_eq!(unread(many(), None, &read, |_| true), (vec![], read));
    }

    #[test]
    fn one_of_each_run_and_each_size_is_looked_into_and_the_largest_first() {
        let mut many: Vec<Kept> = (1..=200).map(|n| kept(n, if n == 77 { 9999 } else { n })).collect();
        many.push(Kept { destination: Name::parse("other").unwrap(), ..kept(77, 9999) });
        many.push(kept(300, 200));
        let chosen: Vec<Kept> = chosen(&many).into_iter().cloned().collect();
        assert_eq!(chosen.len(), LOOKED_INTO_MAX);
        assert_eq!(numbers(&chosen)[0], 77);
        assert!(numbers(&chosen).contains(&1) && numbers(&chosen).contains(&300) && !numbers(&chosen).contains(&200));
        assert_eq!(numbers(&chosen).iter().filter(|n| **n == 77).count(), 1);
    }
}
