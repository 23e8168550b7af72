//! The files of a checkout that hold secrets: found, read, opened, written whole.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{Trouble, chain, codes};
use crate::secret::address::{self, Address};
use crate::secret::creation;
use crate::secret::identity::Sources;
use crate::secret::sops::edit::Creation;
use crate::secret::sops::{Opened, SopsFile};
use crate::source::FileSet as _;
use crate::source::directory::Directory;

/// How far up `.sops.yaml` is looked for; SOPS looks as far.
const PARENTS_MAX: usize = 100;
/// Largest `.sops.yaml`, in bytes.
const RULES_BYTES_MAX: u64 = 256 * 1024;

pub(super) struct Checkout {
    pub(super) root: PathBuf,
    pub(super) sources: Sources,
}

/// A file that was read.
pub(super) struct Sealed {
    /// Below the root.
    pub(super) path: String,
    pub(super) parsed: SopsFile,
}

impl Checkout {
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// The paths of all files with secrets.
    pub(super) fn sealed(&self) -> Result<Vec<String>, Trouble> {
        let directory = Directory::open(&self.root).map_err(|error| error.trouble())?;
        let refused = directory.refused().iter().filter(|(path, _)| address::is_sealed(path));
        let mut all: Vec<String> = directory.sealed().iter().map(|entry| entry.path.clone()).collect();
        all.extend(refused.map(|(path, _)| path.clone()));
        all.sort();
        Ok(all)
    }

    /// Those of these names; all where none is named.
    pub(super) fn files(&self, names: &[String]) -> Result<Vec<Sealed>, Trouble> {
        let paths = if names.is_empty() {
            self.sealed()?
        } else {
            names.iter().map(|name| super::address(name).map(|address| address.file)).collect::<Result<_, _>>()?
        };
        paths.iter().map(|path| self.file(path)).collect()
    }

    pub(super) fn file(&self, path: &str) -> Result<Sealed, Trouble> {
        let at = self.path(path);
        let bytes = read(&at, crate::secret::sops::FILE_BYTES_MAX as u64).map_err(|error| {
            Trouble::new(codes::FILE_UNREADABLE, format!("{} cannot be read: {}", at.display(), chain(&error)))
                .with_hint("`larder secret list` shows what is here; -C DIR names another checkout")
        })?;
        let parsed = SopsFile::read(&bytes).map_err(|error| super::failed(path, &error))?;
        Ok(Sealed { path: path.to_owned(), parsed })
    }

    /// Whether the secret is there already.
    pub(super) fn has(&self, address: &Address) -> Result<bool, Trouble> {
        if !self.path(&address.file).exists() {
            return Ok(false);
        }
        Ok(self.file(&address.file)?.parsed.meant(address.path.as_deref()).is_ok())
    }

    pub(super) fn open(&self, file: &Sealed) -> Result<Opened, Trouble> {
        let identities =
            self.sources.read().map_err(|error| Trouble::of(codes::IDENTITY_MISSING, &error, Some(error.hint())))?;
        file.parsed.open(&identities).map_err(|error| super::failed(&file.path, &error))
    }

    /// Fails before anything is typed where it could not be kept.
    pub(super) fn prepared(&self, address: &Address, recipients: &[String]) -> Result<(), Trouble> {
        if self.path(&address.file).exists() {
            let file = self.file(&address.file)?;
            return self.open(&file).map(drop);
        }
        self.creation(&address.file, recipients).map(drop)
    }

    /// How a new file is encrypted: as asked, as `.sops.yaml` says, else for the identity at hand.
    pub(super) fn creation(&self, file: &str, recipients: &[String]) -> Result<Creation, Trouble> {
        let mut creation = match self.rules(file)? {
            Some(creation) => creation,
            None if recipients.is_empty() => Creation { recipients: self.own(file)?, ..Creation::default() },
            None => Creation::default(),
        };
        if !recipients.is_empty() {
            creation.recipients = recipients.to_vec();
        }
        super::all_are_recipients(&creation.recipients)?;
        Ok(creation)
    }

    /// What the nearest `.sops.yaml` says, from the file's directory upwards.
    fn rules(&self, file: &str) -> Result<Option<Creation>, Trouble> {
        let at = std::path::absolute(self.path(file)).map_err(|error| unreadable(Path::new(file), &error))?;
        for directory in at.ancestors().skip(1).take(PARENTS_MAX) {
            let rules = directory.join(creation::FILE);
            if !rules.is_file() {
                continue;
            }
            let text = read(&rules, RULES_BYTES_MAX).map_err(|error| unreadable(&rules, &error))?;
            let text = String::from_utf8_lossy(&text);
            let below = at.strip_prefix(directory).unwrap_or(&at).to_string_lossy();
            return creation::rule(&text, &below).map(Some).map_err(|error| {
                let message = format!("{}: {error}", rules.display());
                Trouble::new(codes::SECRET_RULE, message)
                    .with_hint(format!("mend it, or make the file once with `sops {below}`"))
            });
        }
        Ok(None)
    }

    fn own(&self, file: &str) -> Result<Vec<String>, Trouble> {
        let hint = format!(
            "name for whom with --recipient age1…, or write {} with `creation_rules: [{{age: age1…}}]`",
            creation::FILE
        );
        let nobody = |why: String| {
            Trouble::new(codes::SECRET_RULE, format!("nothing says for whom {file} is to be encrypted{why}"))
                .with_hint(hint.clone())
        };
        let identities = self.sources.read().map_err(|error| nobody(format!(": {}", chain(&error))))?;
        if identities.has_plugins() { Err(nobody(String::new())) } else { Ok(identities.recipients()) }
    }

    /// Written whole: beside it, synced, renamed.
    pub(super) fn write(&self, file: &str, text: &str) -> Result<(), Trouble> {
        let at = self.path(file);
        let write = || -> std::io::Result<()> {
            let directory = at.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(directory)?;
            let mut out = tempfile::Builder::new().prefix(".larder-secret-").tempfile_in(directory)?;
            out.write_all(text.as_bytes())?;
            let mode = std::fs::metadata(&at).map_or_else(|_| fresh_mode(), |about| about.permissions());
            out.as_file().set_permissions(mode)?;
            out.as_file().sync_all()?;
            out.persist(&at).map_err(|error| error.error)?;
            std::fs::File::open(directory)?.sync_all()
        };
        write().map_err(|error| {
            Trouble::new(codes::CANNOT_WRITE, format!("{} cannot be written: {}", at.display(), chain(&error)))
        })
    }
}

/// Encrypted files are for Git, which keeps no other mode.
fn fresh_mode() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

fn read(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(codes::FILE_UNREADABLE, format!("{} cannot be read: {}", path.display(), chain(error)))
}
