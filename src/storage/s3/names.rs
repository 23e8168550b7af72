//! The names of one kind in a bucket, each with all that it has and had, as the list of versions goes.
//!
//! What is kept in memory are the versions of a page, and those of the one name that goes on behind it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{S3, Version};
use crate::storage::StorageError;

/// A call that fails for now is made again after these.
const AGAIN_AFTER: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// What a file of a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Data,
    Index,
    Snapshot,
    Key,
    Config,
}

impl Kind {
    /// In the order in which they come back.
    pub const ALL: [Self; 5] = [Self::Data, Self::Index, Self::Snapshot, Self::Key, Self::Config];

    /// What all their names begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Data => "data/",
            Self::Index => "index/",
            Self::Snapshot => "snapshots/",
            Self::Key => "keys/",
            Self::Config => "config",
        }
    }

    /// For people: `data`, `config`.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.prefix().trim_end_matches('/')
    }

    /// Whether restic gives such a name. Whoever has the keys can put anything there.
    pub(super) fn is_of(self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix()) else { return false };
        let is_id = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (self, rest.split_once('/')) {
            (Self::Config, _) => rest.is_empty(),
            (Self::Data, Some((directory, id))) => is_id(id) && id.get(..2) == Some(directory),
            (_, Some(_)) => false,
            (_, None) => is_id(rest),
        }
    }
}

/// Names with all that each has and had.
type Page = Vec<(String, Vec<Version>)>;

/// A list that is on its way.
pub(super) struct Names<'a> {
    client: &'a S3,
    kind: Kind,
    after: Option<(String, String)>,
    /// All that comes before it is whole.
    border: String,
    open: BTreeMap<String, Vec<Version>>,
    is_over: bool,
}

impl<'a> Names<'a> {
    pub(super) fn of(client: &'a S3, kind: Kind) -> Self {
        Self { client, kind, after: None, border: String::new(), open: BTreeMap::new(), is_over: false }
    }

    /// The names that are whole behind the next page, in order; none: there is no further page. Only what bears a name of
    /// restic's is among them.
    ///
    /// # Errors
    /// As every call.
    pub(super) fn next_page(&mut self) -> Result<Option<Page>, StorageError> {
        if self.is_over {
            return Ok(None);
        }
        let client = self.client;
        let page = patiently(|| client.versions(self.kind.prefix(), self.after.as_ref()))?;
        for version in page.versions {
            if version.name < self.border {
                let detail = format!("{:?} stands behind {:?}", version.name, self.border);
                return Err(client.unexpected("a list of versions", detail));
            }
            if self.kind.is_of(&version.name) {
                self.open.entry(version.name.clone()).or_default().push(version);
            }
        }
        let whole = match &page.next {
            Some((key, _)) => {
                key.strip_prefix(&client.front()).unwrap_or_default().clone_into(&mut self.border);
                let rest = self.open.split_off(&self.border);
                std::mem::replace(&mut self.open, rest)
            }
            None => std::mem::take(&mut self.open),
        };
        self.after = page.next;
        self.is_over = self.after.is_none();
        Ok(Some(whole.into_iter().collect()))
    }
}

/// Makes a call that may be made twice once more where it failed for now.
pub(super) fn patiently<T>(call: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
    for pause in AGAIN_AFTER {
        match call() {
            Err(StorageError::Busy { .. } | StorageError::Web(..) | StorageError::NoAnswer { .. }) => {
                std::thread::sleep(pause);
            }
            done => return done,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_restic_gives_are_looked_at() {
        let id = "ab".repeat(32);
        for (kind, name) in [
            (Kind::Config, "config".to_owned()),
            (Kind::Key, format!("keys/{id}")),
            (Kind::Snapshot, format!("snapshots/{id}")),
            (Kind::Index, format!("index/{id}")),
            (Kind::Data, format!("data/ab/{id}")),
            (Kind::Data, format!("data/{id}")),
        ] {
            let owners: Vec<Kind> = Kind::ALL.into_iter().filter(|each| each.is_of(&name)).collect();
            assert_eq!(owners, [kind], "{name}");
        }
        for name in [
            format!("locks/{id}"),
            "larder-probe-01".to_owned(),
            "config-old".to_owned(),
            "config/x".to_owned(),
            "keys/x".to_owned(),
            format!("keys/{id}/x"),
            format!("data/cd/{id}"),
            format!("data/ab/{id}\n"),
            format!("snapshots/../{id}"),
        ] {
            assert!(!Kind::ALL.iter().any(|kind| kind.is_of(&name)), "{name}");
        }
    }
}
