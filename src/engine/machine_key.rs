//! A second key of a repository, which this machine opens it with: 40 ms instead of 0.9 s a call.
//!
//! Nearly all of a small call of restic is scrypt, which makes a password that people remember hard to guess. The machine
//! key's secret is 32 random bytes, so it needs no stretching ([`seal`]). It lies 0600 in the state directory, beside the
//! store and in no export, log or artifact; losing it costs one slow call, after which another one is made.
//!
//! The password stays what counts: the first call of a process, every `check`, and whatever the machine key does not
//! open, go by the password, so that one that is wrong is told as before.

mod seal;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::children::{host_name, user_name};
use super::control::on_storage;
use super::{Call, EngineError, RepositoryAccess, Restic, kept, messages};
use crate::process::Context;
use crate::storage::StorageError;

/// Under which the keys are kept.
const MACHINE_KEYS: &str = "machine-keys";
/// Longest JSON of a master key that is taken, in bytes (restic's have some 200).
const MASTER_BYTES_MAX: usize = 4096;
/// Largest file of ours that is read, in bytes.
const KEPT_BYTES_MAX: u64 = 4096;

/// The passwords that opened a repository in this process, by location.
#[derive(Clone, Debug, Default)]
pub(super) struct Opened(Arc<Mutex<HashMap<String, SecretString>>>);

impl Opened {
    pub(super) fn note(&self, access: &RepositoryAccess) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(access.location.clone(), access.password.clone());
    }

    /// Whether this very password opened it.
    fn has(&self, access: &RepositoryAccess) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&access.location).is_some_and(|known| known.expose_secret() == access.password.expose_secret())
    }
}

/// What opens a repository in place of the password.
#[derive(Clone, Debug)]
pub(super) struct MachineKey {
    /// The name of its file in the repository.
    pub(super) id: String,
    pub(super) secret: SecretString,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The id of the repository.
    repository: String,
    key: String,
    secret: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Restic {
    /// The machine key that `call` may use.
    pub(super) fn machine_key(&self, access: &RepositoryAccess, call: &Call) -> Option<MachineKey> {
        let by_password = self.by_password || ["init", "check"].contains(&call.operation);
        if !access.machine_key || by_password || !self.opened.has(access) {
            return None;
        }
        known(access)
    }

    /// Makes sure that there is a machine key; without one all works as before, slower, and the log says why.
    pub async fn have_machine_key(&self, access: &RepositoryAccess, context: &Context) {
        let Some(repository) = access.expected_id.as_deref() else { return };
        if !access.machine_key || known(access).is_some() {
            return;
        }
        // restic tries for minutes to read what a lost repository has no longer.
        if self.check_identity(access, context).await.is_err() {
            return;
        }
        match self.make_machine_key(access, repository, context).await {
            Ok(key) => context.log.line(&format!("made the machine key {key} of the repository")),
            Err(why) => context.log.line(&format!("there is no machine key, so each call takes longer: {why}")),
        }
    }

    async fn make_machine_key(
        &self,
        access: &RepositoryAccess,
        repository: &str,
        context: &Context,
    ) -> Result<String, String> {
        let master = self.master_key(access, context).await.map_err(|error| error.trouble().message)?;
        let (host, user) = (host_name(), user_name().unwrap_or_default());
        let holder = seal::Holder { user: &format!("{USER_PREFIX}{user}"), host: &host, created: Timestamp::now() };
        let sealed = seal::seal(&master, &holder).map_err(|error| error.to_string())?;
        drop(master);
        // Kept first: a key that nobody can use any more would stay in the repository for ever.
        keep(access, repository, &sealed).map_err(|error| format!("its secret cannot be kept: {error}"))?;
        let (name, file) = (format!("keys/{}", sealed.id), sealed.file);
        let put = on_storage(access, move |storage| match storage.put_new(&name, &file) {
            Err(error @ (StorageError::Exists { .. } | StorageError::Denied { .. })) => Err(error),
            // It may have arrived all the same; then it is there to be used, and not to be left behind.
            Err(error) => {
                if storage.stat(&name)?.is_some() {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            Ok(()) => Ok(()),
        });
        match put.await {
            Ok(()) => Ok(sealed.id),
            Err(error) => {
                forget(access);
                Err(format!("it cannot be put into the repository: {}", error.trouble().message))
            }
        }
    }

    /// The JSON of the repository's master key, which only [`seal`] sees.
    async fn master_key(&self, access: &RepositoryAccess, context: &Context) -> Result<SecretString, EngineError> {
        let call = Call::new("cat", &["masterkey"]).without_lock();
        let mut text = String::with_capacity(MASTER_BYTES_MAX);
        let mut hear = |line: &str| {
            if text.len() + line.len() < MASTER_BYTES_MAX {
                text.push_str(line);
            }
        };
        let answer = self.by_password().call(access, context, &call, &mut hear).await;
        let master = SecretString::from(text);
        answer?.success("cat masterkey", access)?;
        let is_whole = serde_json::from_str::<serde::de::IgnoredAny>(master.expose_secret()).is_ok();
        if is_whole { Ok(master) } else { Err(super::repository::garbled("cat masterkey")) }
    }
}

/// The user that a machine key is of, as `restic key list` shows it.
pub(super) const USER_PREFIX: &str = "larder:";

/// Whether this machine has a key of its own for it.
pub fn has_machine_key(access: &RepositoryAccess) -> bool {
    known(access).is_some()
}

/// The key that is kept for this repository.
pub(super) fn known(access: &RepositoryAccess) -> Option<MachineKey> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(kept::path(access, MACHINE_KEYS)).ok()?;
    file.take(KEPT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let kept = serde_json::from_slice::<Kept>(&bytes);
    bytes.zeroize();
    let kept = kept.ok()?;
    // Another repository at the same place has another key.
    let is_this = access.expected_id.as_ref().is_none_or(|id| *id == kept.repository);
    (is_this && messages::is_id(&kept.key))
        .then(|| MachineKey { id: kept.key.clone(), secret: SecretString::from(kept.secret.clone()) })
}

fn keep(access: &RepositoryAccess, repository: &str, sealed: &seal::Sealed) -> std::io::Result<()> {
    let secret = sealed.secret.expose_secret().to_owned();
    let mut text = serde_json::to_vec(&Kept { repository: repository.to_owned(), key: sealed.id.clone(), secret })?;
    let written = kept::write(&kept::path(access, MACHINE_KEYS), &text);
    text.zeroize();
    written
}

/// It does not open the repository, or is not in it; another one is made.
pub(super) fn forget(access: &RepositoryAccess) {
    let _ = std::fs::remove_file(kept::path(access, MACHINE_KEYS));
}
