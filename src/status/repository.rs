//! What a destination's card says of its repository: who else has a lock on it, and that Git does not pin it.

use jiff::{SignedDuration, Timestamp};

use crate::config::model::Destination;
use crate::runner::live::OthersLock;
use crate::status::{LockView, Problem};
use crate::store::record::DestinationRecord;
use crate::types::Name;

/// For so long no living restic leaves its lock unrefreshed; restic's own bound.
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(30);

/// The lock as it is at `now`.
#[must_use]
pub fn lock(name: &Name, seen: &OthersLock, now: Timestamp) -> LockView {
    let OthersLock { id, holder, exclusive, since } = seen.clone();
    let command = format!("larder destination unlock {name} --lock {id}");
    LockView { id, holder, exclusive, since, stale: now.duration_since(since) > STALE_AFTER, command }
}

impl LockView {
    /// How long it was not refreshed, in seconds; none of what is dated in the future.
    #[must_use]
    pub fn age_s(&self, now: Timestamp) -> u64 {
        u64::try_from(now.duration_since(self.since).as_secs()).unwrap_or(0)
    }
}

/// The line that pins the repository, where it is missing: whatever is lost then, no other one is made in its place.
#[must_use]
pub fn unpinned(desired: Option<&Destination>, record: Option<&DestinationRecord>) -> Option<Problem> {
    let id = record?.repository_id.as_ref().filter(|_| desired.is_some_and(|each| each.repository_id.is_none()))?;
    Some(Problem {
        code: "unpinned".to_owned(),
        what: format!("Not pinned in Git yet: commit `repository_id: \"{id}\"` in its document"),
        why: None,
        hint: Some("then no other repository is ever taken for it, whatever is lost".to_owned()),
        commands: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_not_refreshed_is_stale_and_one_from_the_future_has_no_age() {
        let at = |minutes: i64| Timestamp::from_second(1_700_000_000 + minutes * 60).unwrap();
        let holder = "root@pi (process 4495)".to_owned();
        let seen = OthersLock { id: "0123456789".to_owned(), holder, exclusive: true, since: at(0) };
        let name = Name::parse("nas").unwrap();
        assert!(!lock(&name, &seen, at(29)).stale && lock(&name, &seen, at(31)).stale);
        assert_eq!(lock(&name, &seen, at(0)).command, "larder destination unlock nas --lock 0123456789");
        let shown = lock(&name, &seen, at(0));
        assert_eq!((shown.age_s(at(2)), shown.age_s(at(-2))), (120, 0));
    }
}
