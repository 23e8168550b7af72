//! Holds: why a job's old backups stay for now. Pure decisions over what was recorded and what a run found.
//!
//! A run that finds something that must not push out older backups raises a [`Finding`]; the job's record keeps it as a
//! [`Hold`]. Time never ends one: a later run that looked at the same thing and found it well does, or somebody who
//! accepts it by the value that is shown. While there is one the job is not green, and nothing of it is forgotten.

mod spent;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::types::ByteSize;

pub use spent::{is_spent, spend};

/// Between two reminders of the same hold.
pub const REMIND_EVERY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Holds that a job keeps; a run with more has one cause, and twenty say enough of it.
const HOLDS_MAX: usize = 20;

/// Values that a hold remembers to have shown.
const SHOWN_MAX: usize = 50;

/// Acceptances that a job remembers.
const ACCEPTED_MAX: usize = 20;

/// Somebody was told later than now by more than this: the clock was turned back, and the time says nothing.
const CLOCK_LEEWAY: SignedDuration = SignedDuration::from_hours(1);

/// What is held against. A new kind needs no more than its line here and a call of `judge` in the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// The backup, or a part of it, has far less than usual.
    Shrank,
    /// A file system that was mounted below a source is not there.
    LostMount,
    /// Retention would remove many snapshots that it kept before.
    RetentionCut,
    /// A proof could not be made.
    MissingProof,
    /// The clock jumped, or is wrong.
    JumpedClock,
    /// Snapshots are gone from a repository, the newest among them, and we did not forget them.
    Vanished,
    /// The repository holds snapshots of this site by later runs that the state does not know.
    OlderState,
    /// Snapshots hold something else than their runs put there.
    Altered,
    /// The state store was lost, and with it what else may hold the job.
    LostState,
    /// Something was left out, for another reason that the run names.
    Incomplete,
}

impl HoldKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shrank => "shrank",
            Self::LostMount => "lost_mount",
            Self::RetentionCut => "retention_cut",
            Self::MissingProof => "missing_proof",
            Self::JumpedClock => "jumped_clock",
            Self::Vanished => "vanished",
            Self::OlderState => "older_state",
            Self::Altered => "altered",
            Self::LostState => "lost_state",
            Self::Incomplete => "incomplete",
        }
    }

    /// Its begin and end are told by the mails about incomplete runs.
    #[must_use]
    pub fn is_told_as_incomplete(self) -> bool {
        matches!(self, Self::MissingProof | Self::Incomplete)
    }

    /// It is about the whole daemon, which tells of it once for all jobs.
    #[must_use]
    pub fn is_told_for_all(self) -> bool {
        self == Self::LostState
    }
}

/// What a run found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: HoldKind,
    /// What of the job: a mount point, a destination, a validation; empty: the job as a whole.
    pub subject: String,
    pub trouble: Trouble,
    /// What is typed to accept it; none: it can't be accepted, only mended.
    pub value: Option<String>,
    /// The hold's value stays as it was shown while what is found is no worse than that.
    pub no_worse: bool,
}

impl Finding {
    /// One about the whole job that can only be mended.
    #[must_use]
    pub fn without_value(kind: HoldKind, trouble: Trouble) -> Self {
        Self { kind, subject: String::new(), trouble, value: None, no_worse: true }
    }

    /// Whether exactly this was accepted once.
    #[must_use]
    pub fn is_accepted(&self, accepted: &[Accepted]) -> bool {
        let same = |each: &Accepted| each.kind == self.kind && each.subject == self.subject;
        accepted.iter().any(|each| same(each) && self.value.as_ref() == Some(&each.value))
    }
}

/// Something that keeps a job's old backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub kind: HoldKind,
    #[serde(default)]
    pub subject: String,
    pub since: Timestamp,
    /// As of the newest run that looked.
    pub trouble: Trouble,
    #[serde(default)]
    pub value: Option<String>,
    /// What runs showed since for the same, newest last: whoever read one of them types that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<String>,
    /// When somebody was last told of it.
    pub told: Timestamp,
}

impl Hold {
    /// Whether `is_meant` says so of a value that was shown for it.
    #[must_use]
    pub fn is_accepted_by(&self, is_meant: &dyn Fn(&str) -> bool) -> bool {
        self.value.as_deref().is_some_and(|value| is_meant(value) || self.shown.iter().any(|shown| is_meant(shown)))
    }

    /// What was shown for it so far, with `newest`.
    fn shown_with(&self, newest: Option<&str>) -> Vec<String> {
        let newest = newest.filter(|newest| self.value.as_deref() != Some(*newest)).map(str::to_owned);
        let mut shown: Vec<String> = self.shown.iter().filter(|each| Some(*each) != newest.as_ref()).cloned().collect();
        shown.extend(newest);
        let excess = shown.len().saturating_sub(SHOWN_MAX);
        shown.drain(..excess);
        shown
    }
}

/// A hold that somebody accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub kind: HoldKind,
    #[serde(default)]
    pub subject: String,
    pub value: String,
    pub at: Timestamp,
}

/// What one run looked at, and what it found there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    kinds: Vec<HoldKind>,
    /// What of these kinds could not be looked at.
    unseen: Vec<(HoldKind, String)>,
    found: Vec<Finding>,
    /// What is well again, of all that was accepted as it was.
    mended: Vec<(HoldKind, String)>,
}

impl Judged {
    /// Notes that `kind` was looked at and `found` is all of it. A kind that no run looks at keeps its holds.
    pub fn add(&mut self, kind: HoldKind, found: impl IntoIterator<Item = Finding>) {
        self.kinds.push(kind);
        self.found.extend(found);
    }

    /// As [`Judged::add`], where the subjects `unseen` could not be looked at: what was found at others counts, and only
    /// the holds of the unseen go on as they are.
    pub fn add_but(
        &mut self,
        kind: HoldKind,
        unseen: impl IntoIterator<Item = String>,
        found: impl IntoIterator<Item = Finding>,
    ) {
        self.unseen.extend(unseen.into_iter().map(|subject| (kind, subject)));
        self.add(kind, found);
    }

    /// Notes that `subject` is well: what was accepted of it is over, and the same again is another.
    pub fn mend(&mut self, kind: HoldKind, subject: &str) {
        self.mended.push((kind, subject.to_owned()));
    }

    /// Whether what was accepted is well again.
    #[must_use]
    pub fn is_mended(&self, accepted: &Accepted) -> bool {
        self.mended.iter().any(|(kind, subject)| *kind == accepted.kind && *subject == accepted.subject)
    }

    /// Those of `before` that nobody looked at.
    #[must_use]
    pub fn untouched(&self, before: &[Hold]) -> Vec<Hold> {
        let is_unseen =
            |hold: &Hold| self.unseen.iter().any(|(kind, subject)| *kind == hold.kind && *subject == hold.subject);
        before.iter().filter(|hold| !self.kinds.contains(&hold.kind) || is_unseen(hold)).cloned().collect()
    }

    /// The holds of a job after the run, from those `before` it.
    ///
    /// What was looked at and not found ends; what was found begins, or goes on since when it began. What somebody
    /// accepted while the run was under way (after `started`) does not come back through it.
    #[must_use]
    pub fn holds(&self, before: &[Hold], accepted: &[Accepted], started: Timestamp) -> Vec<Hold> {
        let mut after = self.untouched(before);
        for finding in &self.found {
            let same = |kind: HoldKind, subject: &str| kind == finding.kind && subject == finding.subject;
            if accepted.iter().any(|each| each.at >= started && same(each.kind, &each.subject))
                || after.iter().any(|hold| same(hold.kind, &hold.subject))
            {
                continue;
            }
            let known = before.iter().find(|hold| same(hold.kind, &hold.subject));
            // What is worse is not what was shown before.
            let going_on = known.filter(|hold| finding.no_worse && hold.value.is_some());
            after.push(Hold {
                kind: finding.kind,
                subject: finding.subject.clone(),
                since: known.map_or(started, |hold| hold.since),
                trouble: finding.trouble.clone(),
                value: going_on.map_or_else(|| finding.value.clone(), |hold| hold.value.clone()),
                shown: going_on.map(|hold| hold.shown_with(finding.value.as_deref())).unwrap_or_default(),
                told: known.map_or(started, |hold| hold.told),
            });
        }
        after.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        bound(&mut after);
        after
    }
}

/// Many of one kind push none of another out.
fn bound(holds: &mut Vec<Hold>) {
    let mut kept: BTreeMap<HoldKind, usize> = BTreeMap::new();
    for hold in holds.iter() {
        *kept.entry(hold.kind).or_default() += 1;
    }
    for _ in HOLDS_MAX..holds.len() {
        if let Some(most) = kept.values_mut().max() {
            *most = most.saturating_sub(1);
        }
    }
    holds.retain(|hold| {
        let left = kept.get_mut(&hold.kind).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    });
}

/// Those of `holds` that are not in `others`.
#[must_use]
pub fn beyond<'a>(holds: &'a [Hold], others: &[Hold]) -> Vec<&'a Hold> {
    let known = |hold: &Hold| others.iter().any(|other| other.kind == hold.kind && other.subject == hold.subject);
    holds.iter().filter(|hold| !known(hold)).collect()
}

/// Whether somebody must be reminded of `holds` now.
#[must_use]
pub fn reminder_is_due(holds: &[Hold], now: Timestamp) -> bool {
    let Some(told) = holds.iter().map(|hold| hold.told).max() else { return false };
    let ago = now.duration_since(told);
    ago >= REMIND_EVERY || ago < -CLOCK_LEEWAY
}

/// What is typed to accept `value` of `target`, fit for a shell.
#[must_use]
pub fn accept_command(target: impl std::fmt::Display, value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return format!("larder accept {target} {value}");
    }
    format!("larder accept {target} '{}'", value.replace('\'', "'\\''"))
}

/// Whether what was typed is the value that is shown: white space and case make no difference but in a path, and a number
/// of bytes may be written in any unit that gives the same number, or as it is shown for people.
#[must_use]
pub fn is_value(shown: &str, typed: &str) -> bool {
    if shown.starts_with('/') {
        return shown == typed || shown == typed.trim();
    }
    let plain = |text: &str| text.split_whitespace().collect::<String>().to_lowercase();
    let (shown, typed) = (plain(shown), plain(typed));
    if shown == typed {
        return true;
    }
    match shown.parse::<u64>() {
        Ok(bytes) => same_size(bytes, &typed) || plain(&ByteSize(bytes).to_string()) == typed,
        Err(_) => false,
    }
}

/// `typed` is without white space, and in lower case as `ByteSize` never reads it.
fn same_size(bytes: u64, typed: &str) -> bool {
    let unit = typed.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let unit = match unit {
        "" => "",
        "b" => "B",
        "kb" => "kB",
        "kib" => "KiB",
        "mb" => "MB",
        "mib" => "MiB",
        "gb" => "GB",
        "gib" => "GiB",
        "tb" => "TB",
        "tib" => "TiB",
        _ => return false,
    };
    let number = typed.get(..typed.len() - unit.len()).unwrap_or_default();
    format!("{number}{unit}").parse::<ByteSize>().is_ok_and(|size| size.0 == bytes)
}

/// Notes that `hold` was accepted.
pub fn remember(accepted: &mut Vec<Accepted>, hold: &Hold, now: Timestamp) {
    let Some(value) = hold.value.clone() else { return };
    remember_accepted(accepted, Accepted { kind: hold.kind, subject: hold.subject.clone(), value, at: now });
}

/// Notes `new`, in the place of what was accepted of the same before.
pub fn remember_accepted(accepted: &mut Vec<Accepted>, new: Accepted) {
    accepted.retain(|each| each.kind != new.kind || each.subject != new.subject);
    accepted.push(new);
    let excess = accepted.len().saturating_sub(ACCEPTED_MAX);
    accepted.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;
    use crate::types::Name;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * 3600).unwrap()
    }

    fn finding(kind: HoldKind, subject: &str, value: &str) -> Finding {
        Finding {
            kind,
            subject: subject.to_owned(),
            trouble: Trouble::new(codes::SHRANK, "something is missing"),
            value: Some(value.to_owned()),
            no_worse: false,
        }
    }

    fn judged(kind: HoldKind, found: Vec<Finding>) -> Judged {
        let mut judged = Judged::default();
        judged.add(kind, found);
        judged
    }

    #[test]
    fn a_hold_keeps_its_begin_however_often_it_is_found_and_ends_when_it_is_not() {
        let found = judged(HoldKind::Shrank, vec![finding(HoldKind::Shrank, "", "10")]);
        let mut holds = found.holds(&[], &[], at(0));
        for run in 1..100 {
            holds = found.holds(&holds, &[], at(run * 24));
            assert_eq!((holds.len(), holds[0].since), (1, at(0)));
        }
        let well = judged(HoldKind::Shrank, Vec::new());
        assert_eq!(well.holds(&holds, &[], at(9000)), []);
    }

    #[test]
    fn a_run_that_did_not_look_ends_nothing() {
        let holds = judged(HoldKind::LostMount, vec![finding(HoldKind::LostMount, "/t/docs", "/t/docs")]).holds(
            &[],
            &[],
            at(0),
        );
        assert_eq!(Judged::default().holds(&holds, &[], at(2)), holds);
        assert_eq!(judged(HoldKind::Shrank, Vec::new()).holds(&holds, &[], at(2)), holds);
    }

    #[test]
    fn what_is_found_at_one_subject_holds_while_another_could_not_be_looked_at() {
        let kind = HoldKind::OlderState;
        let away = judged(kind, vec![finding(kind, "away", "newer:1"), finding(kind, "gone", "newer:1")]);
        let before = away.holds(&[], &[], at(0));
        let mut judged = Judged::default();
        judged.add_but(kind, ["away".to_owned()], [finding(kind, "there", "newer:2")]);
        let holds = judged.holds(&before, &[], at(2));
        let of: Vec<(&str, Timestamp)> = holds.iter().map(|hold| (hold.subject.as_str(), hold.since)).collect();
        assert_eq!(of, [("away", at(0)), ("there", at(2))]);
        assert_eq!(judged.untouched(&before), before[..1]);
    }

    #[test]
    fn what_was_accepted_while_a_run_was_under_way_does_not_come_back_through_it() {
        let found = judged(HoldKind::Shrank, vec![finding(HoldKind::Shrank, "", "10")]);
        let mut accepted = Vec::new();
        remember(&mut accepted, &found.holds(&[], &[], at(0))[0], at(5));
        assert_eq!(found.holds(&[], &accepted, at(4)), []);
        assert_eq!(found.holds(&[], &accepted, at(7)).len(), 1, "a later run judges anew");
    }

    #[test]
    fn the_value_that_was_shown_stays_while_nothing_is_worse() {
        let first = judged(HoldKind::Shrank, vec![finding(HoldKind::Shrank, "", "1000")]).holds(&[], &[], at(0));
        let mut next = finding(HoldKind::Shrank, "", "999");
        next.no_worse = true;
        let holds = judged(HoldKind::Shrank, vec![next.clone()]).holds(&first, &[], at(2));
        assert_eq!(holds[0].value.as_deref(), Some("1000"));
        next.no_worse = false;
        let holds = judged(HoldKind::Shrank, vec![next]).holds(&first, &[], at(2));
        assert_eq!(holds[0].value.as_deref(), Some("999"));
    }

    #[test]
    fn every_value_that_was_shown_since_it_was_as_bad_accepts_and_none_of_before() {
        let mut holds = judged(HoldKind::Shrank, vec![finding(HoldKind::Shrank, "", "2000")]).holds(&[], &[], at(0));
        let mut later = |value: &str, no_worse: bool| {
            let next = Finding { no_worse, ..finding(HoldKind::Shrank, "", value) };
            holds = judged(HoldKind::Shrank, vec![next]).holds(&holds, &[], at(2));
            holds[0].clone()
        };
        later("1999", true);
        let hold = later("2001", true);
        let accepts = |hold: &Hold, typed: &str| hold.is_accepted_by(&|shown| is_value(shown, typed));
        assert!(["2000", "1999", "2001"].iter().all(|value| accepts(&hold, value)), "{hold:?}");
        assert!(!accepts(&hold, "2002"));
        let hold = later("500", false);
        assert!(accepts(&hold, "500") && !accepts(&hold, "2000") && !accepts(&hold, "2001"), "{hold:?}");
        (0..200).for_each(|n| drop(later(&(500 + n).to_string(), true)));
        let hold = later("700", true);
        assert!(accepts(&hold, "500") && accepts(&hold, "699") && hold.shown.len() <= SHOWN_MAX, "{hold:?}");
    }

    #[test]
    fn many_lost_mounts_push_no_other_hold_out() {
        let mut judged = Judged::default();
        let mounts = (100..160).map(|n| finding(HoldKind::LostMount, &format!("/t/{n}"), &n.to_string()));
        judged.add(HoldKind::LostMount, mounts);
        judged.add(HoldKind::LostState, [finding(HoldKind::LostState, "", "lost:1")]);
        let holds = judged.holds(&[], &[], at(0));
        assert_eq!((holds.len(), holds[0].subject.as_str()), (HOLDS_MAX, "/t/100"));
        assert_eq!(holds[HOLDS_MAX - 1].kind, HoldKind::LostState);
    }

    #[test]
    fn what_is_typed_is_fit_for_a_shell() {
        let target = Name::parse("docs").unwrap();
        assert_eq!(accept_command(&target, "20971520"), "larder accept docs 20971520");
        assert_eq!(accept_command(&target, "/srv/my docs"), "larder accept docs '/srv/my docs'");
        assert_eq!(accept_command(&target, "/srv/Tom's"), "larder accept docs '/srv/Tom'\\''s'");
    }

    #[test]
    fn only_the_value_that_is_shown_accepts() {
        for typed in ["20971520", "20MiB", "20.0 MiB", "20.0mib", " 20971520 "] {
            assert!(is_value("20971520", typed), "{typed}");
        }
        for typed in ["", "20", "20MB", "20971521", "19MiB", "yes"] {
            assert!(!is_value("20971520", typed), "{typed}");
        }
        assert!(is_value("/tank/docs", "/tank/docs") && !is_value("/tank/docs", "/tank"));
    }

    #[test]
    fn a_reminder_is_due_once_a_week_and_when_the_clock_was_turned_back() {
        let mut holds = judged(HoldKind::Shrank, vec![finding(HoldKind::Shrank, "", "1")]).holds(&[], &[], at(0));
        assert!(!reminder_is_due(&holds, at(167)) && reminder_is_due(&holds, at(168)));
        holds[0].told = at(168);
        assert!(!reminder_is_due(&holds, at(335)) && reminder_is_due(&holds, at(336)));
        assert!(reminder_is_due(&holds, at(1)), "told in the future");
        assert!(!reminder_is_due(&[], at(9999)));
    }
}
