//! What lies where in the state directory, its lock and its id.
//!
//! `store/` (sled), `lock`, `id`, `logs/`, `pages/`, `export/`, `journal/`, `spared`, `state.corrupt-<time>/` for stores that were
//! set aside, and `state.older-<time>/` for one of an older format.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::StoreError;

/// The name of the file with the daemon's recipients, beside its socket.
pub const RECIPIENTS: &str = "recipients";

/// How long to wait for a lock that another process has.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(300);

/// How many damaged stores are kept for a look; older ones are removed.
const SET_ASIDE_MAX: usize = 3;

/// What the name of a store that was set aside starts with.
const SET_ASIDE_PREFIX: &str = "state.corrupt-";

/// What the name of a store of an older format starts with.
const OLDER_PREFIX: &str = "state.older-";

/// A store that is being made; of no use until it has its next name.
const MAKING: &str = "store.making";

/// A copy of the store that somebody looks at; of no use to a start.
pub(super) const LOOKED_AT: &str = "store.looked-at";

/// A store that is whole and waits for its place.
const MADE: &str = "store.made";

/// Longest id that is believed, in bytes.
const STATE_ID_BYTES_MAX: usize = 64;

/// The state directory of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    #[must_use]
    pub fn id_file(&self) -> PathBuf {
        self.root.join("id")
    }

    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    #[must_use]
    pub fn pages(&self) -> PathBuf {
        self.root.join("pages")
    }

    #[must_use]
    pub fn export(&self) -> PathBuf {
        self.root.join("export")
    }

    /// The log of a run or an operation.
    #[must_use]
    pub fn log_of(&self, id: crate::types::RunId) -> PathBuf {
        self.logs().join(format!("{id}.log"))
    }

    /// What runs changed on applications and have to put back.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Which children of ended hooks live on.
    #[must_use]
    pub fn spared(&self) -> PathBuf {
        self.root.join("spared")
    }

    /// restic's cache; can be thrown away.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Where the command line reaches the daemon.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("larder.sock")
    }

    /// For whom a secret must be encrypted so that this daemon opens it, one recipient a line.
    #[must_use]
    pub fn recipients(&self) -> PathBuf {
        self.root.join(RECIPIENTS)
    }

    /// Makes the directory (mode 0700, its parent must exist) and those inside it that are missing.
    ///
    /// A directory that is already there keeps its mode: an operator may have opened it for a web server.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make(&self) -> Result<(), StoreError> {
        for path in [self.root.clone(), self.logs(), self.pages(), self.export(), self.journal()] {
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(_) if path.is_dir() => {}
                Err(source) => return Err(StoreError::Open { path, source }),
            }
        }
        Ok(())
    }

    /// Takes the directory for this process; it is free again when the file is dropped or the process ends.
    ///
    /// # Errors
    /// `InUse` when another process has it.
    pub fn lock(&self) -> Result<File, StoreError> {
        let path = self.lock_file();
        let open = |source| StoreError::Open { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&path).map_err(open)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                // A process that is being started shares its parent's files until it executes its program.
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT_MAX => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: self.root.clone() }),
                Err(TryLockError::Error(source)) => return Err(open(source)),
            }
        }
    }

    /// The id of this state: it tells this daemon's children from those of another one. None: it has none yet.
    pub(super) fn id(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.id_file()).ok()?;
        Some(text.trim().to_owned()).filter(|id| is_id(id))
    }

    /// Writes the id; only once there is a store, since the id tells that there was one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn put_id(&self, id: &str) -> Result<(), StoreError> {
        let path = self.id_file();
        write_whole(&path, format!("{id}\n").as_bytes()).map_err(|source| StoreError::Open { path, source })
    }

    /// The first thing here that only a daemon with a store leaves; none: this is a first start.
    pub(super) fn trace(&self) -> Option<PathBuf> {
        let id = Some(self.id_file()).filter(|id| std::fs::metadata(id).is_ok_and(|about| about.len() > 0));
        let log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
        let aside =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SET_ASIDE_PREFIX));
        id.or_else(|| super::exports::exports(&self.export()).into_iter().next())
            .or_else(|| entries(&self.logs()).find(log))
            .or_else(|| entries(&self.pages()).next())
            .or_else(|| entries(&self.root).find(aside))
    }

    /// Where a damaged store is moved to.
    #[must_use]
    pub fn aside(&self, now: Timestamp) -> PathBuf {
        self.root.join(format!("{SET_ASIDE_PREFIX}{}", now.strftime("%Y%m%dT%H%M%S%.3fZ")))
    }

    /// An empty directory in which a store is made; one that was never ended is thrown away.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn begin_store(&self) -> Result<PathBuf, StoreError> {
        let path = self.root.join(MAKING);
        let open = |source| StoreError::Open { path: path.clone(), source };
        remove_tree(&path).map_err(open)?;
        DirBuilder::new().mode(0o700).create(&path).map_err(open)?;
        Ok(path)
    }

    /// The store in [`Self::begin_store`] is whole.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(super) fn end_store(&self) -> Result<(), StoreError> {
        let (from, to) = (self.root.join(MAKING), self.root.join(MADE));
        let open = |source| StoreError::Open { path: to.clone(), source };
        remove_tree(&to).map_err(open)?;
        sync_dir(&from).map_err(open)?;
        std::fs::rename(&from, &to).map_err(open)?;
        sync_dir(&self.root).map_err(open)
    }

    /// Puts the store that was made where there is none.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(super) fn put_in_place(&self) -> Result<(), StoreError> {
        let open = |source| StoreError::Open { path: self.store(), source };
        std::fs::rename(self.root.join(MADE), self.store()).map_err(open)?;
        sync_dir(&self.root).map_err(open)
    }

    /// Moves a damaged store to `aside` and puts the one that was made into its place.
    ///
    /// # Errors
    /// When one cannot be renamed.
    pub(super) fn exchange(&self, aside: &Path) -> Result<(), StoreError> {
        let open = |source| StoreError::Open { path: self.store(), source };
        std::fs::rename(self.store(), aside).map_err(open)?;
        self.put_in_place()?;
        self.forget_old_asides(aside);
        Ok(())
    }

    /// Puts the store that was made into the place of one that never was whole.
    ///
    /// # Errors
    /// When that cannot be removed, or the other not renamed.
    pub(super) fn replace_unfinished(&self) -> Result<(), StoreError> {
        remove_tree(&self.store()).map_err(|source| StoreError::Open { path: self.store(), source })?;
        self.put_in_place()
    }

    /// Moves a store of an older format aside and puts the one that was made from it into its place.
    ///
    /// # Errors
    /// When one cannot be renamed.
    pub(super) fn exchange_older(&self, now: Timestamp) -> Result<(), StoreError> {
        let aside = self.root.join(format!("{OLDER_PREFIX}{}", now.strftime("%Y%m%dT%H%M%S%.3fZ")));
        std::fs::rename(self.store(), aside).map_err(|source| StoreError::Open { path: self.store(), source })?;
        self.put_in_place()
    }

    /// Removes what [`Self::exchange_older`] moved aside; what cannot be removed stays.
    pub(super) fn forget_older(&self) {
        let is_older =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(OLDER_PREFIX));
        for old in entries(&self.root).filter(is_older) {
            if let Err(error) = std::fs::remove_dir_all(&old) {
                tracing::warn!(path = %old.display(), %error, "a store of an older format cannot be removed");
            }
        }
    }

    /// Ends what a process that was killed had begun: a store that was to be put into an empty place is put there, any
    /// other is thrown away and made again.
    ///
    /// # Errors
    /// When one can be neither renamed nor removed.
    pub(super) fn finish_exchange(&self) -> Result<(), StoreError> {
        let open = |source| StoreError::Open { path: self.store(), source };
        remove_tree(&self.root.join(MAKING)).map_err(open)?;
        remove_tree(&self.root.join(LOOKED_AT)).map_err(open)?;
        let made = self.root.join(MADE);
        if made.is_dir() && !self.store().try_exists().map_err(open)? {
            return self.put_in_place();
        }
        remove_tree(&made).map_err(open)
    }

    /// Keeps the newest few; what cannot be removed stays.
    fn forget_old_asides(&self, newest: &Path) {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return };
        let mut asides: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(SET_ASIDE_PREFIX))
            .map(|entry| entry.path())
            .collect();
        asides.sort();
        let surplus = asides.len().saturating_sub(SET_ASIDE_MAX);
        for old in asides.into_iter().take(surplus).filter(|old| old != newest) {
            if let Err(error) = std::fs::remove_dir_all(&old) {
                tracing::warn!(path = %old.display(), %error, "a store that was set aside cannot be removed");
            }
        }
    }
}

/// Whether `text` may be the id of a state.
pub(super) fn is_id(text: &str) -> bool {
    (1..=STATE_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Writes a file so that it is there whole or not at all, even after a power cut; mode 0600.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_dir(dir)
}

fn remove_tree(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
