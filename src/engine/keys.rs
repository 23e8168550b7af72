//! The keys of a repository, and what each is for.

use serde::Deserialize;

use super::machine_key::{self, USER_PREFIX};
use super::repository::garbled;
use super::{Call, EngineError, RepositoryAccess, Restic};
use crate::process::Context;

/// One key of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// As restic tells it: 64 hexadecimal digits, or the beginning of them.
    pub id: String,
    /// `user@host`.
    pub holder: String,
    /// As restic shows it, in UTC.
    pub created: String,
    pub used_for: KeyUse,
}

/// Who opens a repository with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Whoever has the destination's password.
    Password,
    /// This Larder, each day.
    ThisMachine,
    /// A Larder on another machine, or one whose state was lost.
    AnotherMachine,
    /// Somebody who added it with `restic key add`.
    Other,
}

/// One of `restic key list --json`.
#[derive(Deserialize)]
struct Listed {
    current: bool,
    id: String,
    #[serde(rename = "userName")]
    user: String,
    #[serde(rename = "hostName")]
    host: String,
    created: String,
}

impl Restic {
    /// All keys of the repository, which is opened by its password.
    ///
    /// # Errors
    /// Everything that restic can fail with.
    pub async fn keys(&self, access: &RepositoryAccess, context: &Context) -> Result<Vec<Key>, EngineError> {
        self.check_identity(access, context).await?;
        let call = Call::new("key", &["list", "--json"]).without_lock();
        let (answer, output) = self.by_password().collect(access, context, &call).await?;
        answer.success("key list", access)?;
        let listed: Vec<Listed> = serde_json::from_str(&output).map_err(|_| garbled("key list"))?;
        let ours = machine_key::known(access).map(|key| key.id);
        let of = |each: Listed| {
            let is_ours = ours.as_ref().is_some_and(|id| !each.id.is_empty() && id.starts_with(&each.id));
            let used_for = match () {
                () if is_ours => KeyUse::ThisMachine,
                () if each.current => KeyUse::Password,
                () if each.user.starts_with(USER_PREFIX) => KeyUse::AnotherMachine,
                () => KeyUse::Other,
            };
            Key { id: each.id, holder: format!("{}@{}", each.user, each.host), created: each.created, used_for }
        };
        Ok(listed.into_iter().map(of).collect())
    }
}

impl Key {
    /// One line for a person; `destination` is by its name.
    #[must_use]
    pub fn line(&self, destination: &str) -> String {
        let what = match self.used_for {
            KeyUse::Password => format!("opened by the password of {destination}"),
            KeyUse::ThisMachine => "the machine key of this Larder".to_owned(),
            KeyUse::AnotherMachine => {
                "a machine key of another Larder, or of one whose state was lost; `restic key remove` removes it"
                    .to_owned()
            }
            KeyUse::Other => "opened by another password".to_owned(),
        };
        let id = self.id.get(..10).unwrap_or(&self.id);
        format!("key {id} of {}, made {} UTC: {what}", self.holder, self.created)
    }
}
