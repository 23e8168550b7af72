//! Which repository is this? Opening, making once, and never making again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::control::on_storage;
use super::kept;
use super::making::{self, Making};
use super::messages::{self, Message};
use super::stillborn;
use super::{Call, EngineError, RepositoryAccess, Restic};
use crate::look::{self, LOOK_MAX};
use crate::process::{Context, Exit};
use crate::storage::Place;

/// Largest `config` file of a repository that is looked at, in bytes (restic's have some 155).
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Longest wait for somebody else who makes the repository, and how often it is looked.
const MAKING_MAX: Duration = Duration::from_secs(120);
const MAKING_EVERY: Duration = Duration::from_millis(200);

/// Under which identities are kept.
const IDENTITIES: &str = "identities";

/// A repository's `config` file that was once read by restic, and the id that was in it.
///
/// The file is encrypted with a random nonce and never changes, so the same bytes are the same repository; knowing them
/// saves a call of restic (0.6 s, nearly all key derivation) before every operation.
#[derive(Serialize, Deserialize)]
struct Identity {
    config_sha256: String,
    id: String,
}

impl Restic {
    /// Opens the repository and returns its id; makes one when none is expected and the place is absent or empty.
    ///
    /// # Errors
    /// With an expected id: the repository is missing or another one. Without: the place holds something else, or the
    /// directory above it is missing. And everything that restic can fail with.
    pub async fn open_or_init(&self, access: &RepositoryAccess, context: &Context) -> Result<String, EngineError> {
        self.open_or_init_like(access, None, context).await
    }

    /// As [`Self::open_or_init`]; one that is made cuts files as `like` does, so that the same data is the same in both.
    ///
    /// # Errors
    /// As [`Self::open_or_init`].
    pub async fn open_or_init_like(
        &self,
        access: &RepositoryAccess,
        like: Option<&RepositoryAccess>,
        context: &Context,
    ) -> Result<String, EngineError> {
        match self.open(access, context).await? {
            Some(id) => Ok(id),
            None => self.init(access, like, context).await,
        }
    }

    /// Opens the repository and returns its id; none: none is expected, and there is none yet.
    ///
    /// # Errors
    /// As [`Self::open_or_init`].
    pub async fn open(&self, access: &RepositoryAccess, context: &Context) -> Result<Option<String>, EngineError> {
        if access.expected_id.is_some() {
            self.check_identity(access, context).await?;
            return Ok(access.expected_id.clone());
        }
        // No config file: restic need not be asked (and would try for a quarter of an hour where a file is in the way).
        if config_of(access).await? == Some(None) {
            room(access).await?;
            return Ok(None);
        }
        match self.read_id(access, context).await {
            Err(EngineError::RepositoryMissing { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Makes sure that the repository is the expected one, if one is expected.
    pub(super) async fn check_identity(&self, access: &RepositoryAccess, context: &Context) -> Result<(), EngineError> {
        let Some(expected) = &access.expected_id else { return Ok(()) };
        let location = || access.location.clone();
        let found = match config_of(access).await? {
            Some(None) => return Err(EngineError::RepositoryMissing { location: location() }),
            Some(Some(config)) => match remembered(access, &config) {
                Some(id) => id,
                None => self.read_id(access, context).await?,
            },
            None => self.read_id(access, context).await?,
        };
        if &found == expected {
            Ok(())
        } else {
            Err(EngineError::RepositoryReplaced { location: location(), expected: expected.clone(), found })
        }
    }

    async fn read_id(&self, access: &RepositoryAccess, context: &Context) -> Result<String, EngineError> {
        let call = Call::new("cat", &["config", "--json"]).without_lock();
        let (answer, output) = self.collect(access, context, &call).await?;
        answer.success("cat config", access)?;
        let id = messages::repository_id(&output).ok_or_else(|| garbled("cat config"))?;
        remember(access, &id).await;
        Ok(id)
    }

    async fn init(
        &self,
        access: &RepositoryAccess,
        like: Option<&RepositoryAccess>,
        context: &Context,
    ) -> Result<String, EngineError> {
        let _making = match turn(access).await? {
            Turn::Made => return self.read_id(access, context).await,
            Turn::Ours(making) => making,
        };
        let mut made = None;
        let mut hear = |line: &str| {
            if let Some(Message::Initialized { id }) = messages::parse(line) {
                made = Some(id);
            }
        };
        let mut call = Call::new("init", &["--json"]);
        if let Some(like) = like {
            call = call.arg("--copy-chunker-params").copying_from(like);
        }
        let answer = self.call(access, context, &call, &mut hear).await?;
        if answer.exit != Exit::Success {
            // Somebody else made it between our look and our init: then that one it is.
            if answer.complaints.detail().contains("already") {
                return self.read_id(access, context).await;
            }
            return Err(answer.error("init", access));
        }
        let id = made.filter(|id| messages::is_id(id)).ok_or_else(|| garbled("init"))?;
        context.log.line(&format!("made the repository {} with the id {id}", access.location));
        remember(access, &id).await;
        Ok(id)
    }
}

enum Turn {
    /// Elsewhere there is nothing to keep apart.
    Ours(Option<Making>),
    /// Somebody else made it meanwhile.
    Made,
}

/// Waits until this process may make the repository, with an empty place for it, or somebody else has made it.
async fn turn(access: &RepositoryAccess) -> Result<Turn, EngineError> {
    let Some(path) = local_path(access) else { return Ok(Turn::Ours(None)) };
    room(access).await?;
    let not_writable = |detail: String| EngineError::NotWritable { location: access.location.clone(), detail };
    let begun = std::time::Instant::now();
    loop {
        let place = path.clone();
        let taken = look::at(&path, LOOK_MAX, move || making::begin(&place)).await;
        let taken = taken.map_err(|silent| EngineError::Silent { silent })?;
        let making = taken.map_err(|error| not_writable(error.to_string()))?;
        if config_of(access).await? != Some(None) {
            return Ok(Turn::Made);
        }
        if let Some(making) = making {
            let (place, location) = (path.clone(), access.location.clone());
            let cleared = look::at(&path, LOOK_MAX, move || clear(&place, &location)).await;
            cleared.map_err(|silent| EngineError::Silent { silent })??;
            return Ok(Turn::Ours(Some(making)));
        }
        if begun.elapsed() > MAKING_MAX {
            return Err(not_writable("somebody else is making a repository there".to_owned()));
        }
        tokio::time::sleep(MAKING_EVERY).await;
    }
}

pub(super) async fn room(access: &RepositoryAccess) -> Result<(), EngineError> {
    let Some(path) = local_path(access) else { return Ok(()) };
    let (looked, location) = (path.clone(), access.location.clone());
    look::at(&path, LOOK_MAX, move || room_for_repository(&looked, &location))
        .await
        .map_err(|silent| EngineError::Silent { silent })?
}

/// The path of a repository on this machine.
pub(super) fn local_path(access: &RepositoryAccess) -> Option<PathBuf> {
    match &access.place {
        Place::Local(path) => Some(path.clone()),
        Place::S3(_) | Place::Rest(_) | Place::Sftp(_) => None,
    }
}

/// Whether a repository may be made at `path`: absent below a directory that is there, or an empty directory.
fn room_for_repository(path: &Path, location: &str) -> Result<(), EngineError> {
    match std::fs::read_dir(path) {
        Ok(entries) => {
            let is_free = entries.flatten().all(|entry| making::is_marker(&entry.file_name()));
            // What somebody else has finished meanwhile is no bar either.
            if is_free || stillborn::is(path) || path.join("config").exists() {
                Ok(())
            } else {
                Err(EngineError::NotARepository { location: location.to_owned() })
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if path.parent().is_some_and(Path::is_dir) {
                Ok(())
            } else {
                Err(EngineError::ParentMissing { location: location.to_owned() })
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(EngineError::NotARepository { location: location.to_owned() })
        }
        Err(error) => Err(EngineError::NotWritable { location: location.to_owned(), detail: error.to_string() }),
    }
}

/// Takes away what a killed `init` left.
fn clear(path: &Path, location: &str) -> Result<(), EngineError> {
    if !stillborn::is(path) {
        return Ok(());
    }
    stillborn::clear(path)
        .map_err(|error| EngineError::NotWritable { location: location.to_owned(), detail: error.to_string() })
}

/// The hash of a local repository's `config` file; inner none: there is no such file; outer none: not local, or not
/// readable, so that restic has to tell.
#[expect(clippy::option_option, reason = "absent and unknown are different answers")]
fn local_config(access: &RepositoryAccess) -> Option<Option<String>> {
    use std::io::Read as _;
    let path = local_path(access)?.join("config");
    match look::open_file(&path) {
        Ok(Some(file)) => {
            let mut bytes = Vec::new();
            file.take(CONFIG_BYTES_MAX).read_to_end(&mut bytes).ok()?;
            Some(Some(hex::encode(Sha256::digest(&bytes))))
        }
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Some(None)
        }
        Ok(None) | Err(_) => None,
    }
}

/// Like [`local_config`], of any storage, with an end where it does not answer.
pub(super) async fn config_of(access: &RepositoryAccess) -> Result<Option<Option<String>>, EngineError> {
    let Some(path) = local_path(access) else {
        let config = on_storage(access, |storage| storage.get("config", CONFIG_BYTES_MAX)).await?;
        return Ok(Some(config.map(|bytes| hex::encode(Sha256::digest(&bytes)))));
    };
    let theirs = access.clone();
    look::at(&path, LOOK_MAX, move || local_config(&theirs)).await.map_err(|silent| EngineError::Silent { silent })
}

fn remembered(access: &RepositoryAccess, config_sha256: &str) -> Option<String> {
    let identity: Identity = serde_json::from_slice(&std::fs::read(kept::path(access, IDENTITIES)).ok()?).ok()?;
    (identity.config_sha256 == config_sha256 && messages::is_id(&identity.id)).then_some(identity.id)
}

/// Best effort: what is not remembered is asked again.
async fn remember(access: &RepositoryAccess, id: &str) {
    let Ok(Some(Some(config_sha256))) = config_of(access).await else { return };
    if let Ok(text) = serde_json::to_vec(&Identity { config_sha256, id: id.to_owned() }) {
        let _ = kept::write(&kept::path(access, IDENTITIES), &text);
    }
}

pub(super) fn garbled(operation: &str) -> EngineError {
    EngineError::Garbled { operation: operation.to_owned() }
}
