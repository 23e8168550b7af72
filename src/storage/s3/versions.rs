//! Buckets that keep versions, and locks on them: what is there behind a deletion, and until when.

use jiff::Timestamp;
use rusty_s3::Method;

use super::{Asked, S3, XML_BYTES_MAX, checksums, xml};
use crate::config::model::LockMode;
use crate::storage::http::moment;
use crate::storage::{ControlClient as _, StorageError, name};

/// One version of an object, or the mark that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Relative to the repository.
    pub name: String,
    pub id: String,
    pub is_latest: bool,
    pub is_delete_marker: bool,
    pub modified: Option<Timestamp>,
    /// 0 of a mark.
    pub bytes: u64,
    /// The server's word for the content; empty of a mark.
    pub etag: String,
}

/// Whether a bucket keeps what is deleted or overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    Enabled,
    /// It did once: what it has from then stays, and nothing new is kept.
    Suspended,
    Never,
}

/// Some of the versions, and where the next page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionsPage {
    pub versions: Vec<Version>,
    /// The key and the version that the next page stands behind; none: this is the last.
    pub next: Option<(String, String)>,
}

/// Until when an object cannot be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub mode: LockMode,
    pub until: Timestamp,
}

impl Lock {
    /// Whether it lets more happen than `other`, at any time.
    #[must_use]
    pub fn loosens(self, other: Self) -> bool {
        self.until < other.until || self.mode < other.mode
    }
}

/// The word that S3 has for it.
pub(super) fn wire_word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    }
}

impl S3 {
    /// The versions of what begins with `prefix` (empty: all of the repository), behind `after`.
    ///
    /// # Errors
    /// As every call.
    pub fn versions(&self, prefix: &str, after: Option<&(String, String)>) -> Result<VersionsPage, StorageError> {
        if !prefix.is_empty() {
            name::check(prefix.trim_end_matches('/'))?;
        }
        let whole = self.key(prefix);
        let mut query = vec![("max-keys", "1000"), ("prefix", whole.as_str()), ("versions", "")];
        if let Some((key, id)) = after {
            query.push(("key-marker", key));
            if !id.is_empty() {
                query.push(("version-id-marker", id));
            }
        }
        let answer = self.send(&Asked::bucket(query))?;
        if !answer.is_ok() {
            return Err(self.refusal(answer, "list its versions"));
        }
        let root = self.read(&answer.bytes(XML_BYTES_MAX)?, "ListVersionsResult", "a list of versions")?;
        let front = self.front();
        let versions = root.children().iter().filter_map(|each| version(each, &front)).collect();
        let next = (root.text("NextKeyMarker").to_owned(), root.text("NextVersionIdMarker").to_owned());
        let next = Some(next).filter(|_| root.text("IsTruncated") == "true");
        if next.as_ref().is_some_and(|next| next.0.is_empty() || Some(next) == after) {
            return Err(self.unexpected("a list of versions", "it goes on and does not say where".to_owned()));
        }
        Ok(VersionsPage { versions, next })
    }

    /// Removes one version for good, or the mark of a deletion: what stood before it is there again then.
    ///
    /// # Errors
    /// `Denied` also where a lock is on it.
    pub fn delete_version(&self, name: &str, id: &str) -> Result<(), StorageError> {
        name::check(name)?;
        let key = self.key(name);
        let query = vec![("versionId", id)];
        let answer = self.send(&Asked { query, ..Asked::new(Method::Delete, &key) })?;
        if answer.is_ok() { Ok(()) } else { Err(self.refusal(answer, &format!("delete {name}"))) }
    }

    /// Whether the bucket keeps versions.
    ///
    /// # Errors
    /// As every call.
    pub fn is_versioned(&self) -> Result<bool, StorageError> {
        Ok(self.versioning()? == Versioning::Enabled)
    }

    /// Whether the bucket keeps versions, or did.
    ///
    /// # Errors
    /// As every call.
    pub fn versioning(&self) -> Result<Versioning, StorageError> {
        let answer = self.send(&Asked::bucket(vec![("versioning", "")]))?;
        if answer.status() == 501 {
            return Ok(Versioning::Never);
        }
        if !answer.is_ok() {
            return Err(self.refusal(answer, "tell whether it keeps versions"));
        }
        // Its root has several names.
        let root = xml::read(&answer.bytes(XML_BYTES_MAX)?);
        let root = root.map_err(|why| self.unexpected("whether it keeps versions", why))?;
        Ok(match root.text("Status") {
            "Enabled" => Versioning::Enabled,
            "Suspended" => Versioning::Suspended,
            _ => Versioning::Never,
        })
    }

    /// The lock on the newest version; none: there is none, or the login may not see it.
    ///
    /// # Errors
    /// `NotFound`, and as every call.
    pub fn lock_of(&self, name: &str) -> Result<Option<Lock>, StorageError> {
        self.lock_on(&name::laid_out(name)?, None)
    }

    /// The lock on the version `id`; none: on the newest.
    pub(super) fn lock_on(&self, name: &str, id: Option<&str>) -> Result<Option<Lock>, StorageError> {
        let Some(answer) = self.head(name, id.map(|id| ("versionId", id)).into_iter().collect())? else {
            return Err(StorageError::NotFound { place: self.shown(), name: name.to_owned() });
        };
        let mode = match answer.header("x-amz-object-lock-mode").as_deref() {
            Some("GOVERNANCE") => LockMode::Governance,
            Some("COMPLIANCE") => LockMode::Compliance,
            Some(other) => return Err(self.unexpected(name, format!("the lock mode {other:?} is not known"))),
            None => return Ok(None),
        };
        let until = answer.header("x-amz-object-lock-retain-until-date").unwrap_or_default();
        let until = until.parse().ok().or_else(|| moment(&until));
        let Some(until) = until else {
            return Err(self.unexpected(name, "it is locked, and the date is unreadable".to_owned()));
        };
        Ok(Some(Lock { mode, until }))
    }

    /// Locks the newest version until then, or longer. What is locked longer, or harder, stays so: not every server
    /// refuses to loosen a lock, so that is refused here.
    ///
    /// # Errors
    /// `Locked` where it would be loosened; as every call.
    pub fn extend_lock(&self, name: &str, lock: Lock) -> Result<(), StorageError> {
        let name = name::laid_out(name)?;
        let now = self.lock_on(&name, None)?;
        self.put_lock(&name, None, now, lock)
    }

    /// Puts a lock on the version `id` (none: the newest), which has `now`.
    pub(super) fn put_lock(
        &self,
        name: &str,
        id: Option<&str>,
        now: Option<Lock>,
        lock: Lock,
    ) -> Result<(), StorageError> {
        if let Some(now) = now.filter(|now| lock.loosens(*now)) {
            return Err(StorageError::Locked { place: self.shown(), name: name.to_owned(), until: now.until });
        }
        // Whole seconds: some servers read no others.
        let until = Timestamp::from_second(lock.until.as_second()).unwrap_or(lock.until);
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>",
            wire_word(lock.mode)
        );
        let (mut query, headers) = (vec![("retention", "")], checksums(body.as_bytes()));
        query.extend(id.map(|id| ("versionId", id)));
        let key = self.key(name);
        let asked = Asked { query, headers, body: Some(body.into_bytes()), ..Asked::new(Method::Put, &key) };
        let answer = self.send(&asked)?;
        if answer.is_ok() { Ok(()) } else { Err(self.refusal(answer, &format!("lock {name}"))) }
    }
}

/// One entry of the list; none where it is something else, or not of the repository.
fn version(node: &xml::Node, front: &str) -> Option<Version> {
    let is_delete_marker = match node.name.as_str() {
        "Version" => false,
        "DeleteMarker" => true,
        _ => return None,
    };
    Some(Version {
        name: node.text("Key").strip_prefix(front).filter(|name| !name.is_empty())?.to_owned(),
        id: node.text("VersionId").to_owned(),
        is_latest: node.text("IsLatest") == "true",
        is_delete_marker,
        modified: node.text("LastModified").parse().ok(),
        bytes: node.text("Size").parse().unwrap_or(0),
        etag: node.text("ETag").trim_matches('"').to_owned(),
    })
}
