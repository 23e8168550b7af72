//! Artifacts: the files that plugins produced, kept under one root until newer ones replace them.
//!
//! ```text
//! <root>/<target>/<YYYY-MM-DD>/<HHMMSS>-<run>/…  published: complete, with manifest.json, never changed again
//! <root>/.larder/staging/<run>/                  what a plugin is writing (0700)
//! <root>/.larder/ship/<target>/<policy>/         what restic reads: hard links to the newest publication
//! <root>/.larder/trash/<run>/                    on its way out
//! ```
//!
//! Why this is safe at any instant of a kill: everything is prepared in `.larder` on the same file system (hashed,
//! with its manifest, flushed to the disk) and appears by one `rename`; it leaves by one `rename` too. What a dead run
//! left in `.larder` is nobody's, and [`Shelf::sweep`] removes it. No name can clash: a target's name never starts with a dot.
//!
//! All functions block; async callers use `spawn_blocking`. Deliberately absent: what to do about a failure (runner),
//! and retention in repositories (engine).

use std::io;
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use crate::config::model::Artifacts;
use crate::error::{Code, Trouble, codes};
use crate::plugin::{Captured, Validation};
use crate::types::site::SiteId;
use crate::types::{ByteSize, JobId, Name, Revision, RunId};

mod baseline;
pub mod expire;
mod files;
pub mod manifest;
pub mod mount;
pub mod publish;
mod ready;
pub mod ship;
mod sites;
pub mod sweep;
pub mod verify;

use manifest::Manifest;

/// Below the root: everything that is not published.
const PRIVATE: &str = ".larder";

/// The place where artifacts are kept. Cheap to clone; holds no open file.
#[derive(Clone, Debug)]
pub struct Shelf {
    root: PathBuf,
    require_mount: bool,
    min_free: ByteSize,
    /// Whose publications count; none: everybody's.
    site: Option<SiteId>,
}

/// What a publication says of itself, apart from its files.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    pub site: Option<SiteId>,
    pub run: RunId,
    pub job: JobId,
    pub started: Timestamp,
    /// The site's zone: directories are named in civil time.
    pub timezone: String,
    pub revision: Option<Revision>,
    pub plugin: Name,
    pub captured: Captured,
    pub validations: Vec<Validation>,
}

/// Where a run's files appeared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Below the root, with `/`: `<target>/<date>/<HHMMSS>-<run>`.
    pub relative: String,
    /// Absolute.
    pub path: PathBuf,
    /// Without the manifest.
    pub files: u64,
    /// Without the manifest.
    pub bytes: u64,
    pub run: RunId,
}

/// Called with the number of bytes that were just read; `Break` stops the work.
pub type Watch<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

impl Shelf {
    #[must_use]
    pub fn new(artifacts: &Artifacts) -> Self {
        Self {
            root: artifacts.path.clone(),
            require_mount: artifacts.require_mount,
            min_free: artifacts.min_free,
            site: None,
        }
    }

    /// The same shelf, where another site's publications don't count.
    #[must_use]
    pub fn of_site(self, site: SiteId) -> Self {
        Self { site: Some(site), ..self }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Says whether a run may write here now: the root is there, on its own mount when that is asked for, writable,
    /// and has `min_free` bytes left. Makes the root when only it is missing and no mount is required.
    ///
    /// Answers within [`ready::WAIT_MAX`], also when the file system hangs.
    ///
    /// # Errors
    /// A [`Trouble`] that a later attempt may not meet any more (so a run is deferred, not failed):
    /// `artifacts_unmounted`, `artifacts_missing`, `artifacts_not_a_directory`, `artifacts_read_only`,
    /// `artifacts_not_writable`, `disk_nearly_full`, `artifacts_hanging`, `artifacts_unreadable`.
    pub fn ready(&self) -> Result<(), Trouble> {
        ready::within(self.clone(), ready::WAIT_MAX)
    }

    /// Says whether what lies below the root can be ours: it is on its own mount, where that is required. Changes nothing.
    ///
    /// # Errors
    /// `artifacts_unmounted` or `artifacts_unreadable`.
    pub fn mounted(&self) -> Result<(), Trouble> {
        ready::mounted(self)
    }

    /// Makes the directory that the plugin of `run` writes into, or finds it: 0700, on the same file system as what is
    /// published.
    ///
    /// # Errors
    /// When the root's mount went away since [`Shelf::ready`], or the directory cannot be made.
    pub fn stage(&self, run: RunId) -> Result<PathBuf, ArtifactError> {
        if self.require_mount && !mount::holds(&self.root).map_err(|e| ArtifactError::read(&self.root, e))? {
            return Err(ArtifactError::Unmounted(self.root.clone()));
        }
        files::make_private(&self.private())?;
        let parent = self.private().join("staging");
        files::make_private(&parent)?;
        let path = self.staging(run);
        files::make_private(&path)?;
        Ok(path)
    }

    /// Removes what `run` staged and the job's view, once the run is over; nothing there is fine.
    ///
    /// # Errors
    /// When something there cannot be removed; [`Shelf::sweep`] tries again at the next start.
    pub fn clear(&self, run: RunId, job: &JobId) -> Result<(), ArtifactError> {
        let staged = files::remove_tree(&self.staging(run));
        files::remove_tree(&self.ship_of(job))?;
        staged
    }

    /// Removes what was staged under `run` alone; nothing there is fine.
    ///
    /// # Errors
    /// As [`Shelf::clear`].
    pub fn unstage(&self, run: RunId) -> Result<(), ArtifactError> {
        files::remove_tree(&self.staging(run))
    }

    /// The absolute path of a publication.
    ///
    /// # Errors
    /// When `relative` is not `<target>/<date>/<directory>`, so it could point elsewhere.
    pub fn path_of(&self, relative: &str) -> Result<PathBuf, ArtifactError> {
        let parts: Vec<_> = Path::new(relative).components().collect();
        let plain = parts.iter().all(|part| matches!(part, Component::Normal(_)));
        if parts.len() != 3 || !plain || relative.starts_with('.') {
            return Err(ArtifactError::Relative(relative.to_owned()));
        }
        Ok(self.root.join(relative))
    }

    /// Reads a publication's manifest.
    ///
    /// # Errors
    /// When it is missing, too large, damaged or of a newer version.
    pub fn load_manifest(&self, relative: &str) -> Result<Manifest, ArtifactError> {
        Manifest::load(&self.path_of(relative)?.join(manifest::FILE_NAME))
    }

    fn private(&self) -> PathBuf {
        self.root.join(PRIVATE)
    }

    fn staging(&self, run: RunId) -> PathBuf {
        self.private().join("staging").join(run.to_string())
    }

    fn ship(&self) -> PathBuf {
        self.private().join("ship")
    }

    fn ship_of(&self, job: &JobId) -> PathBuf {
        self.ship().join(job.target.as_str()).join(job.policy.as_str())
    }

    fn trash(&self) -> PathBuf {
        self.private().join("trash")
    }
}

/// Why artifacts could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("the artifact root {} is not mounted any more", .0.display())]
    Unmounted(PathBuf),
    #[error("{} cannot be made", .path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("{} cannot be read", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be written", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} cannot be moved to {}", .from.display(), .to.display())]
    Move { from: PathBuf, to: PathBuf, source: io::Error },
    #[error("{} cannot be removed", .path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("the staged {} is {what}, and only plain files and directories are kept", .path.display())]
    Refused { path: PathBuf, what: &'static str },
    #[error("the plugin announced the artifact {}, but it is not in the staging directory", .0.display())]
    Announced(PathBuf),
    #[error("the staged {} has another hash than the plugin announced", .0.display())]
    Differs(PathBuf),
    #[error("the staged {} changed while it was read: a process still writes to it", .0.display())]
    Changing(PathBuf),
    #[error("the run staged more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("{0:?} is no time zone")]
    Zone(String),
    #[error("the manifest of this run would be larger than {} bytes", manifest::BYTES_MAX)]
    ManifestTooLarge,
    #[error("the manifest cannot be composed")]
    Compose(#[source] serde_json::Error),
    #[error("the manifest {} cannot be understood", .path.display())]
    Manifest { path: PathBuf, source: serde_json::Error },
    #[error(
        "the manifest {} has version {version}, and this program knows up to {}",
        .path.display(),
        manifest::VERSION
    )]
    Newer { path: PathBuf, version: u32 },
    #[error("{0:?} is no artifact path (<target>/<date>/<directory>)")]
    Relative(String),
    #[error("stopped on request")]
    Stopped,
}

impl ArtifactError {
    fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    /// Stable codes for people and machines.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unmounted(_) => codes::ARTIFACTS_UNMOUNTED,
            Self::Make { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Move { source, .. }
            | Self::Remove { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => codes::DISK_FULL,
                io::ErrorKind::ReadOnlyFilesystem => codes::ARTIFACTS_READ_ONLY,
                io::ErrorKind::PermissionDenied => codes::ARTIFACTS_NOT_WRITABLE,
                _ => codes::ARTIFACTS_IO,
            },
            Self::Refused { .. } | Self::TooMany { .. } | Self::ManifestTooLarge => codes::ARTIFACT_REFUSED,
            Self::Announced(_) => codes::ARTIFACT_MISSING,
            Self::Changing(_) | Self::Differs(_) => codes::ARTIFACT_CHANGING,
            Self::Zone(_) => codes::BAD_TIME_ZONE,
            Self::Compose(_) | Self::Manifest { .. } => codes::MANIFEST_DAMAGED,
            Self::Newer { .. } => codes::MANIFEST_NEWER,
            Self::Relative(_) => codes::BAD_ARTIFACT_PATH,
            Self::Stopped => codes::CANCELLED,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unmounted(_) => "mount it, or set `require_mount: false` for artifacts in the Site",
            Self::Make { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Move { source, .. }
            | Self::Remove { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room there, lower `keep_runs`, or point `artifacts.path` at a larger disk"
                }
                io::ErrorKind::ReadOnlyFilesystem => "a file system turns read-only after disk errors: see `dmesg`",
                io::ErrorKind::PermissionDenied => "give the daemon's user the right to write there",
                _ => return None,
            },
            Self::TooMany { .. } | Self::ManifestTooLarge => {
                "let the plugin pack many small files into one, or ship them in place as a source"
            }
            Self::Refused { .. } => "the plugin has to copy the content, not to link to it",
            Self::Announced(_) | Self::Changing(_) | Self::Differs(_) => {
                "see the run's log; this is a fault of the plugin"
            }
            Self::Newer { .. } => "update larder",
            Self::Compose(_) | Self::Manifest { .. } => {
                "the copy in the destinations is not affected: restore it from a snapshot"
            }
            Self::Zone(_) | Self::Relative(_) | Self::Stopped => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether the file system takes nothing to be written.
    fn is_read_only(&self) -> bool {
        match self {
            Self::Make { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Move { source, .. }
            | Self::Remove { source, .. } => source.kind() == io::ErrorKind::ReadOnlyFilesystem,
            _ => false,
        }
    }

    /// The error as it is told to a person.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        Trouble::of(self.code(), self, self.hint())
    }
}

impl From<ArtifactError> for Trouble {
    fn from(error: ArtifactError) -> Self {
        error.trouble()
    }
}
