//! Where our age identity lies: what was named, else what `sops` itself would take. Read anew for each use, so a file that was
//! changed counts at once and no key stays in memory.
//!
//! A file that others may read is refused. One that is encrypted with a passphrase is opened with the one that lies at
//! `LARDER_IDENTITY_PASSPHRASE_FILE` or in the systemd credential of that name.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use age::armor::ArmoredReader;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::keys::{Identities, NoIdentity};
use crate::look::{self, Silent};

/// The systemd credentials with the identity, and with its passphrase.
pub const CREDENTIAL: &str = "larder-identity";
pub const PASSPHRASE_CREDENTIAL: &str = "larder-identity-passphrase";
/// The environment variable with the file of the passphrase.
pub const PASSPHRASE_VARIABLE: &str = "LARDER_IDENTITY_PASSPHRASE_FILE";
/// The environment variables that `sops` reads.
pub const KEY_FILE_VARIABLE: &str = "SOPS_AGE_KEY_FILE";
pub const KEY_VARIABLE: &str = "SOPS_AGE_KEY";

/// Largest identity file, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The largest power of two of work for a passphrase; age itself writes 18, a second's worth.
const WORK_FACTOR_MAX: u8 = 20;

/// Says why there is no identity; never holds one.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("there is no age identity, so nothing that is encrypted in the repository can be opened")]
    Nowhere,
    #[error("the identity file {0} cannot be read")]
    File(PathBuf, #[source] std::io::Error),
    #[error("the identity file {0} may be read by others than its owner (mode {1:03o})")]
    Open(PathBuf, u32),
    #[error("the identity in {0}: {1}")]
    Content(String, NoIdentity),
    #[error("the identity in {0} is not UTF-8 text, or longer than {FILE_BYTES_MAX} bytes")]
    NotText(String),
    #[error("the identity in {0} is protected by a passphrase, which is nowhere")]
    NoPassphrase(String),
    #[error("the passphrase does not open the identity in {0}")]
    Passphrase(String),
    #[error("the identity in {0}")]
    Silent(Silent),
}

impl IdentityError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Nowhere => format!(
                "make one with `larder secret identity FILE` (or `age-keygen -o FILE`) and name it with `--identity FILE` (`larder serve`, `larder secret`), {KEY_FILE_VARIABLE}=FILE, or the systemd credential {CREDENTIAL}"
            ),
            Self::File(path, _) => {
                format!("check that {} exists and that the user of this process may read it", path.display())
            }
            Self::Open(path, _) => format!("chmod 600 {}; whoever read it opens every secret in Git", path.display()),
            Self::Content(..) | Self::NotText(_) => {
                "an identity file holds lines `AGE-SECRET-KEY-1…`, as `age-keygen` writes them".to_owned()
            }
            Self::NoPassphrase(_) => {
                format!(
                    "put it into a file and name that by {PASSPHRASE_VARIABLE}, or into the systemd credential {PASSPHRASE_CREDENTIAL}"
                )
            }
            Self::Silent(silent) => {
                format!("look whether the hardware key is plugged in and waits to be touched; {}", silent.hint())
            }
            Self::Passphrase(_) => "give the passphrase that the identity was encrypted with".to_owned(),
        }
    }
}

/// Where an identity may lie, and no key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// What was named on the command line: then nothing else counts.
    named: Option<PathBuf>,
    files: Vec<PathBuf>,
    credential: Option<PathBuf>,
    /// The key itself is in this variable of the process.
    variable: Option<String>,
    passphrase: Option<PathBuf>,
}

impl Sources {
    /// What this process was started with; `named` is `--identity`.
    #[must_use]
    pub fn of_process(named: Option<PathBuf>) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let credentials = set("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let there =
            |name: &str| credentials.as_ref().map(|directory| directory.join(name)).filter(|path| path.is_file());
        let home =
            set("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")));
        let usual = home.map(|home| home.join("sops/age/keys.txt")).filter(|path| path.is_file());
        Self {
            named,
            files: set(KEY_FILE_VARIABLE).map(PathBuf::from).into_iter().chain(usual).collect(),
            credential: there(CREDENTIAL),
            variable: set(KEY_VARIABLE).map(|_| KEY_VARIABLE.to_owned()),
            passphrase: set(PASSPHRASE_VARIABLE).map(PathBuf::from).or_else(|| there(PASSPHRASE_CREDENTIAL)),
        }
    }

    /// The path that is looked at first, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.named.as_deref().or(self.credential.as_deref()).or(self.files.first().map(PathBuf::as_path))
    }

    /// Where the identity lies, for a look with an end; the environment of this process where that is no file.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.path().unwrap_or(Path::new("/proc/self/environ"))
    }

    /// Whether there is anywhere to look.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.path().is_some() || self.variable.is_some()
    }

    /// Reads all of them. Blocking.
    ///
    /// # Errors
    /// When there is none, or one that is there cannot be used.
    pub fn read(&self) -> Result<Identities, IdentityError> {
        if let Some(named) = &self.named {
            return self.file(named, Guard::OwnerOnly);
        }
        let mut found = Identities::default();
        if let Some(credential) = &self.credential {
            found.add(self.file(credential, Guard::Systemd)?);
        }
        for file in &self.files {
            found.add(self.file(file, Guard::OwnerOnly)?);
        }
        if let Some(name) = &self.variable {
            let text = Zeroizing::new(std::env::var(name).unwrap_or_default());
            found.add(Identities::parse(&text).map_err(|error| IdentityError::Content(name.clone(), error))?);
        }
        if found.is_empty() { Err(IdentityError::Nowhere) } else { Ok(found) }
    }

    fn file(&self, path: &Path, guard: Guard) -> Result<Identities, IdentityError> {
        let place = path.display().to_string();
        let bytes = read(path, guard)?;
        if let Some(plain) = self.unlocked(&bytes, &place)? {
            return parse(&plain, &place);
        }
        parse(&bytes, &place)
    }

    /// What is in a file that is encrypted with a passphrase; none when it is not.
    fn unlocked(&self, bytes: &[u8], place: &str) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
        if !bytes.starts_with(b"age-encryption.org/") && !bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----") {
            return Ok(None);
        }
        let passphrase = self.passphrase.as_ref().ok_or_else(|| IdentityError::NoPassphrase(place.to_owned()))?;
        let text = read(passphrase, Guard::OwnerOnly)?;
        let text = std::str::from_utf8(&text).map_err(|_| IdentityError::NotText(passphrase.display().to_string()))?;
        let passphrase = SecretString::from(text.trim_end_matches(['\n', '\r']));
        let wrong = |_| IdentityError::Passphrase(place.to_owned());
        let mut identity = age::scrypt::Identity::new(age::secrecy::SecretString::from(passphrase.expose_secret()));
        identity.set_max_work_factor(WORK_FACTOR_MAX);
        let decryptor = age::Decryptor::new(ArmoredReader::new(bytes)).map_err(wrong)?;
        let reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(wrong)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(4096));
        let failed = |_: std::io::Error| IdentityError::Passphrase(place.to_owned());
        reader.take(FILE_BYTES_MAX).read_to_end(&mut plain).map_err(failed)?;
        Ok(Some(plain))
    }
}

/// Who may read a file with an identity.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    OwnerOnly,
    /// systemd sees to that, by means that a mode does not show.
    Systemd,
}

fn parse(bytes: &[u8], place: &str) -> Result<Identities, IdentityError> {
    let text = std::str::from_utf8(bytes).map_err(|_| IdentityError::NotText(place.to_owned()))?;
    Identities::parse(text).map_err(|error| IdentityError::Content(place.to_owned(), error))
}

fn read(path: &Path, guard: Guard) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let failed = |error| IdentityError::File(path.to_owned(), error);
    let file = look::open_file(path).map_err(failed)?.ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if guard == Guard::OwnerOnly && mode & 0o077 != 0 {
        return Err(IdentityError::Open(path.to_owned(), mode));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(IdentityError::NotText(path.display().to_string()));
    }
    Ok(bytes)
}
