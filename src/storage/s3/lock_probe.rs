//! Whether a bucket really locks: a small file is put with a lock, and has to stay.
//!
//! What a bucket says of its settings proves nothing, and a login need not be allowed to read them. The lock is the
//! shortest that is of use and stands on this file alone, whatever the bucket's own rule; what it leaves for that time is
//! removed by the next probe. A lock that *our own* keys can lift is none: it is them that an attacker has.

use jiff::{SignedDuration, Timestamp};
use rusty_s3::Method;

use super::bulk::Removal;
use super::versions::{Lock, Versioning, wire_word};
use super::{Asked, S3, XML_BYTES_MAX, checksums};
use crate::config::model::LockMode;
use crate::storage::probe::{LEFT_S, Probe, Question};
use crate::storage::{ControlClient as _, StorageError, name};

/// How long the file of a probe stays locked: longer than a probe takes, with some spare for what the clocks differ by.
const LOCKED_FOR: SignedDuration = SignedDuration::from_secs(20);

/// The file of a probe.
pub(super) struct Tried {
    pub(super) name: String,
    id: Option<String>,
    /// As it was put.
    lock: Lock,
}

impl S3 {
    /// Puts the probe's file with a lock. Where only that fails, it says why and the probe goes on without.
    pub(super) fn put_locked(
        &self,
        probe: &mut Probe,
        mode: LockMode,
    ) -> Result<Option<Tried>, (Question, StorageError)> {
        self.sweep();
        let name = name::of_probe();
        let theirs = Timestamp::now() + SignedDuration::from_secs(self.http.skew_s().unwrap_or(0));
        let until = Timestamp::from_second((theirs + LOCKED_FOR).as_second()).unwrap_or(theirs);
        let mut headers = checksums(name.as_bytes());
        headers.push(("x-amz-object-lock-mode", wire_word(mode).to_owned()));
        headers.push(("x-amz-object-lock-retain-until-date", until.to_string()));
        let key = self.key(&name);
        let asked = Asked { headers, body: Some(name.clone().into_bytes()), ..Asked::new(Method::Put, &key) };
        let answer = self.send(&asked).map_err(|error| (Question::Writable, error))?;
        if answer.is_ok() {
            let id = answer.header("x-amz-version-id").filter(|id| !id.is_empty() && id != "null");
            return Ok(Some(Tried { name, id, lock: Lock { mode, until } }));
        }
        let refused = self.refusal(answer, "lock a file");
        if refused.is_of_the_way() || refused.is_of_the_login() || matches!(refused, StorageError::Full { .. }) {
            return Err((Question::Writable, refused));
        }
        let why = self.why_not().unwrap_or_else(|| refused.to_string());
        let error = match refused {
            StorageError::Denied { .. } => refused,
            _ => StorageError::LockOff { place: self.shown(), why },
        };
        probe.failed(Question::Locked, error);
        Ok(None)
    }

    /// Whether the version of `tried` stays, which was deleted as restic deletes.
    pub(super) fn ask_lock(&self, probe: &mut Probe, tried: &Tried) -> Result<(), StorageError> {
        let off = |why: String| StorageError::LockOff { place: self.shown(), why };
        let Some(id) = tried.id.as_deref() else {
            let why = self.why_not().unwrap_or_else(|| "it gives a file no version".to_owned());
            return Err(off(why));
        };
        let shown = self.lock_on(&tried.name, Some(id))?;
        match shown {
            Some(shown) if !shown.loosens(tried.lock) => {}
            Some(shown) => {
                return Err(off(format!("it took a lock until {} and shows {}", tried.lock.until, shown.until)));
            }
            None => {
                let why =
                    "it took a file with a lock and shows none (or the keys may not see it: s3:GetObjectRetention)";
                return Err(off(self.why_not().unwrap_or_else(|| why.to_owned())));
            }
        }
        // As whoever has our keys would.
        let ways: &[Bypass] = match tried.lock.mode {
            LockMode::Governance => &[Bypass::No, Bypass::Governance],
            LockMode::Compliance => &[Bypass::No],
        };
        for way in ways {
            if self.is_deleted(&tried.name, id, *way)? {
                return Err(StorageError::LockLifted { place: self.shown(), mode: tried.lock.mode });
            }
        }
        probe.facts.keeps_locked = Some(true);
        probe.ok(Question::Locked, "a version with a lock stays, also when it is deleted by its id");
        Ok(())
    }

    fn is_deleted(&self, name: &str, id: &str, bypass: Bypass) -> Result<bool, StorageError> {
        let key = self.key(name);
        let mut asked = Asked { query: vec![("versionId", id)], ..Asked::new(Method::Delete, &key) };
        if bypass == Bypass::Governance {
            asked.headers.push(("x-amz-bypass-governance-retention", "true".to_owned()));
        }
        let answer = self.send(&asked)?;
        // Some servers say that all is well and leave it.
        if answer.is_ok() {
            return match self.lock_on(name, Some(id)) {
                Ok(_) => Ok(false),
                Err(StorageError::NotFound { .. }) => Ok(true),
                // Whether it stays was not seen.
                Err(error) => Err(error),
            };
        }
        match self.refusal(answer, "delete a locked version") {
            error if error.is_of_the_way() || error.is_of_the_login() => Err(error),
            _ => Ok(false),
        }
    }

    /// What the bucket's settings say of why it locks nothing; none where they say nothing.
    fn why_not(&self) -> Option<String> {
        match self.versioning().ok()? {
            Versioning::Never => return Some("it keeps no versions".to_owned()),
            Versioning::Suspended => return Some("somebody suspended its versions".to_owned()),
            Versioning::Enabled => {}
        }
        let answer = self.send(&Asked::bucket(vec![("object-lock", "")])).ok()?;
        let is_off = || "it keeps versions, and Object Lock is off".to_owned();
        match answer.status() {
            404 => Some(is_off()),
            200 => {
                let root = self.read(&answer.bytes(XML_BYTES_MAX).ok()?, "ObjectLockConfiguration", "its lock").ok()?;
                (root.text("ObjectLockEnabled") != "Enabled").then(is_off)
            }
            _ => None,
        }
    }

    /// Removes what probes left, whose locks are over; what stays is tried again next time.
    fn sweep(&self) {
        let Ok(page) = self.versions(name::PROBE_PREFIX, None) else { return };
        let now = Timestamp::now().as_second() + self.http.skew_s().unwrap_or(0);
        let is_old = |at: Timestamp| now - at.as_second() > LEFT_S;
        let left = page.versions.into_iter().filter(|version| version.modified.is_some_and(is_old));
        let left: Vec<Removal> = left.map(|version| Removal { name: version.name, id: version.id }).collect();
        if !left.is_empty() {
            let _ = self.remove_versions(&left);
        }
    }
}

/// With what a locked version is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bypass {
    No,
    /// The right that lifts a lock of the mode governance.
    Governance,
}
