//! The encrypted files of the revision in force, and what opens them: one value at a time, in memory, when it is needed.
//!
//! The daemon puts the files of a revision here when it takes effect; a process serves one site, so there is one vault. Only
//! encrypted bytes are kept. Who reads no Git (`larder check`) has its own [`Files`] and opens them with [`open`].

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::SecretString;

use super::address::{Address, NoAddress};
use super::identity::{IdentityError, Sources};
use super::sops::{SopsError, SopsFile};

/// Files with secrets, by their path below the config root.
pub type Files = BTreeMap<String, Vec<u8>>;

static VAULT: RwLock<Option<Arc<Vault>>> = RwLock::new(None);

/// What the daemon opens secrets with.
#[derive(Default)]
struct Vault {
    sources: Sources,
    /// None: no revision's files were read yet.
    revision: Option<String>,
    files: Files,
}

/// Says why a secret in Git cannot be had; never holds it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Address(#[from] NoAddress),
    #[error("the secret {0} lies in the config repository, which only the daemon reads")]
    NoVault(String),
    #[error("the secret {0}: no revision of the config repository was read yet")]
    NotRead(String),
    #[error("the secret {name}: revision {revision} has no file {file}")]
    NoFile { name: String, file: String, revision: String },
    #[error("the secret {name} cannot be opened")]
    Identity {
        name: String,
        #[source]
        source: IdentityError,
    },
    #[error("the secret {name} in {file}")]
    Sops {
        name: String,
        file: String,
        #[source]
        source: SopsError,
    },
}

impl VaultError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Address(_) => "write {secret: NAME} or {secret: \"FILE.sops.yaml#path.to.value\"}".to_owned(),
            Self::NoVault(_) => "use {file: PATH} or {env: NAME} here".to_owned(),
            Self::NotRead(_) => "see whether the daemon can read the config repository: `larder doctor`".to_owned(),
            Self::NoFile { name, .. } => format!("make it with `larder secret set '{name}'` and push"),
            Self::Identity { source, .. } => source.hint(),
            Self::Sops { source, file, .. } => source.hint(file),
        }
    }
}

/// Says which identity opens the files; before anything else of the daemon.
pub fn install(sources: Sources) {
    let mut vault = VAULT.write().unwrap_or_else(PoisonError::into_inner);
    *vault = Some(Arc::new(Vault { sources, ..Vault::default() }));
}

/// Puts the files of a revision in the place of those before.
pub fn put(revision: &str, files: Files) {
    let mut vault = VAULT.write().unwrap_or_else(PoisonError::into_inner);
    let sources = vault.as_ref().map(|vault| vault.sources.clone()).unwrap_or_default();
    *vault = Some(Arc::new(Vault { sources, revision: Some(revision.to_owned()), files }));
}

/// The revision whose files are here.
#[must_use]
pub fn revision() -> Option<String> {
    current().and_then(|vault| vault.revision.clone())
}

/// Where the identity of this process may lie, once a vault was installed.
#[must_use]
pub fn sources() -> Option<Sources> {
    current().map(|vault| vault.sources.clone())
}

fn current() -> Option<Arc<Vault>> {
    VAULT.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Opens the secret that is named `text` in a document. Blocking: reads the identity.
///
/// # Errors
/// When it is not there, or does not open.
pub(super) fn read(text: &str) -> Result<SecretString, VaultError> {
    let address = Address::parse(text)?;
    let vault = current().ok_or_else(|| VaultError::NoVault(text.to_owned()))?;
    let revision = vault.revision.as_deref().ok_or_else(|| VaultError::NotRead(text.to_owned()))?;
    open(&address, &vault.files, &vault.sources, revision)
}

/// Opens the value at `address` in `files`; `revision` is where they come from.
///
/// # Errors
/// As [`read`].
pub fn open(address: &Address, files: &Files, sources: &Sources, revision: &str) -> Result<SecretString, VaultError> {
    let name = address.written();
    let failed = |source| VaultError::Sops { name: address.written(), file: address.file.clone(), source };
    let bytes = files.get(&address.file).ok_or_else(|| VaultError::NoFile {
        name: name.clone(),
        file: address.file.clone(),
        revision: revision.chars().take(7).collect(),
    })?;
    let file = SopsFile::read(bytes).map_err(failed)?;
    let path = file.meant(address.path.as_deref()).map_err(failed)?;
    let identities = sources.read().map_err(|source| VaultError::Identity { name, source })?;
    file.open(&identities).and_then(|opened| opened.text(&path)).map_err(failed)
}
