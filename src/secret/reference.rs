//! References to secrets, and the one place where a reference becomes the secret.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::vault::{self, VaultError};
use crate::look::{self, Silent};

/// How long a file with a secret may take to answer.
pub const SECRET_WAIT_MAX: Duration = Duration::from_secs(10);

/// Largest secret that is read, in bytes.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is kept. In YAML: `{env: NAME}`, `{file: PATH}`, `{credential: NAME}` or `{secret: NAME}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(extend("x-larder-secret" = true))]
pub enum SecretRef {
    /// An environment variable of the daemon.
    Env(String),
    /// A file that only the daemon's user should be able to read; one trailing newline is dropped.
    File(PathBuf),
    /// A systemd credential (`LoadCredential=`).
    Credential(String),
    /// A value in a file of the config repository that SOPS encrypted: `NAME`, or `FILE.sops.yaml#path.to.value`.
    Secret(String),
}

/// Says why a secret could not be had; never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the environment variable {0} is not set for the daemon")]
    EnvMissing(String),
    #[error("the secret file {0} cannot be read")]
    File(PathBuf, #[source] std::io::Error),
    #[error("the secret file {0} is no regular file")]
    NotAFile(PathBuf),
    #[error("the secret file {0}")]
    Silent(#[from] Silent),
    #[error("the secret file {0} is larger than {SECRET_BYTES_MAX} bytes")]
    TooLarge(PathBuf),
    #[error("the secret {0} is empty")]
    Empty(String),
    #[error("the secret {0} is not UTF-8 text")]
    NotText(String),
    #[error("the daemon was started without systemd credentials (no CREDENTIALS_DIRECTORY), so {0:?} cannot be read")]
    NoCredentials(String),
    #[error("{0:?} is no credential name")]
    CredentialName(String),
    #[error(transparent)]
    Sealed(#[from] Box<VaultError>),
}

impl SecretError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::EnvMissing(name) => {
                format!("set {name} in the environment (or .env file) that `larder serve` starts with")
            }
            Self::File(path, _) => {
                format!("check that {} exists and that the daemon's user may read it", path.display())
            }
            Self::NotAFile(path) => {
                format!("put the secret into a plain file: a pipe or device at {} is not read", path.display())
            }
            Self::Silent(silent) => silent.hint(),
            Self::TooLarge(_) => "a secret file holds one password, nothing else".to_owned(),
            Self::Empty(name) => format!("put the password into {name}"),
            Self::NotText(_) => "use a password of printable characters".to_owned(),
            Self::NoCredentials(name) => format!("add `LoadCredential={name}:/path` to the systemd unit"),
            Self::CredentialName(_) => "use letters, digits, '.', '_' and '-'".to_owned(),
            Self::Sealed(error) => error.hint(),
        }
    }
}

impl SecretRef {
    /// Reads the secret; a file that does not answer is waited for at most [`SECRET_WAIT_MAX`]. Blocking.
    ///
    /// # Errors
    /// When it is missing, unreadable, silent, empty, too large or of a kind that is not supported.
    pub fn resolve(&self) -> Result<SecretString, SecretError> {
        self.resolve_within(SECRET_WAIT_MAX)
    }

    /// Like [`Self::resolve`], waiting no longer than `patience`. Blocking.
    ///
    /// # Errors
    /// As `resolve`.
    pub fn resolve_within(&self, patience: Duration) -> Result<SecretString, SecretError> {
        let reference = self.clone();
        match self.path()? {
            Some(path) => look::within(&path, patience, move || reference.read())?,
            None => self.read(),
        }
    }

    /// Like [`Self::resolve`], for async callers.
    ///
    /// # Errors
    /// As `resolve`.
    pub async fn resolved(&self) -> Result<SecretString, SecretError> {
        let reference = self.clone();
        match self.path()? {
            Some(path) => look::at(&path, SECRET_WAIT_MAX, move || reference.read()).await?,
            None => self.read(),
        }
    }

    /// The file that holds it, if it is in a file.
    fn path(&self) -> Result<Option<PathBuf>, SecretError> {
        match self {
            Self::File(path) => Ok(Some(path.clone())),
            Self::Credential(name) => credential(name).map(Some),
            // The identity is the file that may hang.
            Self::Secret(_) => Ok(vault::sources().map(|sources| sources.place().to_owned())),
            Self::Env(_) => Ok(None),
        }
    }

    fn read(&self) -> Result<SecretString, SecretError> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::EnvMissing(name.clone()))?,
            Self::File(path) => read_file(path)?,
            Self::Credential(name) => read_file(&credential(name)?)?,
            Self::Secret(name) => return self.filled(vault::read(name).map_err(Box::new)?),
        };
        self.filled(SecretString::from(text))
    }

    fn filled(&self, secret: SecretString) -> Result<SecretString, SecretError> {
        if secret.expose_secret().is_empty() { Err(SecretError::Empty(self.place())) } else { Ok(secret) }
    }

    /// Where the secret is kept, for people; not the secret.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Env(name) => format!("env {name}"),
            Self::File(path) => format!("file {}", path.display()),
            Self::Credential(name) => format!("credential {name}"),
            Self::Secret(name) => format!("secret {name}"),
        }
    }
}

fn credential(name: &str) -> Result<PathBuf, SecretError> {
    if name.is_empty() || name.contains('/') || name.contains("..") {
        return Err(SecretError::CredentialName(name.to_owned()));
    }
    let directory =
        std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| SecretError::NoCredentials(name.to_owned()))?;
    Ok(Path::new(&directory).join(name))
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    use std::io::Read as _;
    let file = look::open_file(path).map_err(|e| SecretError::File(path.to_owned(), e))?;
    let file = file.ok_or_else(|| SecretError::NotAFile(path.to_owned()))?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| SecretError::File(path.to_owned(), e))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::TooLarge(path.to_owned()));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| SecretError::NotText(path.display().to_string()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
