//! Writes the pages: a new directory beside the old, synced, then one rename of the symlink `current`.
//!
//! A page whose view has not changed is linked from the directory before, and nothing at all is written while the
//! view stays the same and the pages are young: so an idle daemon leaves the disk asleep.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use ulid::Ulid;

use crate::status::View;
use crate::status::render::{RenderError, Renderer};

/// Pages are renewed this often even if nothing changed; far below [`crate::status::STALE_AFTER`].
pub const RENEW_AFTER: Duration = Duration::from_mins(5);
/// While a run makes progress and nothing else changes, pages are rewritten at most this often.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// The symlink that is exchanged; a server serves what it points to.
pub const CURRENT: &str = "current";
/// How many older directories stay for readers that are in the middle of one.
const OLD_KEPT: usize = 1;

type Fingerprint = [u8; 32];

/// Why the pages could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    #[error("writing {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("rendering the pages")]
    Render(#[from] RenderError),
    #[error("writing the view as JSON")]
    Json(#[from] serde_json::Error),
}

/// What one call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing changed and the pages are young.
    Unchanged,
    /// `rendered` pages are new, `linked` ones are the same files as before.
    Swapped { rendered: usize, linked: usize },
}

/// The directory of pages and what was last written there.
#[derive(Debug)]
pub struct Pages {
    directory: PathBuf,
    renderer: Renderer,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    at: Timestamp,
    /// Of everything but instants of generation and progress.
    calm: Fingerprint,
    /// With progress.
    whole: Fingerprint,
    directory: PathBuf,
    targets: BTreeMap<String, Fingerprint>,
    /// When every page was rendered.
    full_at: Timestamp,
}

impl Pages {
    /// Takes `directory` (made when missing); templates in `overrides` win.
    ///
    /// # Errors
    /// When the directory cannot be made or an override is no template.
    pub fn open(directory: &Path, overrides: Option<&Path>) -> Result<Self, PagesError> {
        std::fs::create_dir_all(directory).map_err(|e| write_error(directory, e))?;
        Ok(Self { directory: directory.to_owned(), renderer: Renderer::new(overrides)?, last: None })
    }

    /// Where the newest pages are: a symlink that always points to a complete directory.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.directory.join(CURRENT)
    }

    /// Writes the pages of `view` when something changed or they grow old. Blocking.
    ///
    /// # Errors
    /// When something cannot be written or rendered; the pages before stay as they are.
    pub fn write(&mut self, view: &View) -> Result<Written, PagesError> {
        let (calm, whole) = fingerprints(view)?;
        if let Some(last) = &self.last {
            let age = view.generated.duration_since(last.at);
            let young = |bound: Duration| age < SignedDuration::try_from(bound).unwrap_or(SignedDuration::MAX);
            let same = last.whole == whole && young(RENEW_AFTER) || last.calm == calm && young(PROGRESS_EVERY);
            if same && age >= SignedDuration::ZERO && self.current().exists() {
                return Ok(Written::Unchanged);
            }
        }
        self.swap(view, calm, whole)
    }

    fn swap(&mut self, view: &View, calm: Fingerprint, whole: Fingerprint) -> Result<Written, PagesError> {
        let renew = SignedDuration::try_from(RENEW_AFTER).unwrap_or(SignedDuration::MAX);
        let previous = self.last.take().filter(|last| view.generated.duration_since(last.full_at) < renew);
        let next = self.directory.join(format!("pages-{}", Ulid::new()));
        let targets_dir = next.join("targets");
        // Never with the directories above: one that is gone must not come back empty.
        for made in [&next, &targets_dir] {
            std::fs::create_dir(made).map_err(|e| write_error(made, e))?;
        }
        write_file(&next.join("index.html"), self.renderer.index(view)?.as_bytes())?;
        write_file(&next.join("status.json"), &status_json(view)?)?;
        let (mut rendered, mut linked) = (2, 0);
        let mut targets = BTreeMap::new();
        for target in &view.targets {
            let file = format!("{}.html", target.name);
            let fingerprint: Fingerprint =
                Sha256::digest(serde_json::to_vec(&(target, &view.site, &view.config))?).into();
            let old = previous.as_ref().filter(|last| last.targets.get(&file) == Some(&fingerprint));
            let path = targets_dir.join(&file);
            if old.is_some_and(|old| std::fs::hard_link(old.directory.join("targets").join(&file), &path).is_ok()) {
                linked += 1;
            } else {
                write_file(&path, self.renderer.target(view, target)?.as_bytes())?;
                rendered += 1;
            }
            targets.insert(file, fingerprint);
        }
        sync_directory(&targets_dir)?;
        sync_directory(&next)?;
        self.exchange(&next)?;
        self.sweep(&next);
        let full_at = previous.map_or(view.generated, |last| last.full_at);
        self.last = Some(Last { at: view.generated, calm, whole, directory: next, targets, full_at });
        Ok(Written::Swapped { rendered, linked })
    }

    /// Points `current` to `next` by one rename.
    fn exchange(&self, next: &Path) -> Result<(), PagesError> {
        let name = next.file_name().unwrap_or_default();
        let fresh = self.directory.join(format!(".{CURRENT}-{}", Ulid::new()));
        std::os::unix::fs::symlink(name, &fresh).map_err(|e| write_error(&fresh, e))?;
        std::fs::rename(&fresh, self.current()).map_err(|e| write_error(&self.current(), e))?;
        sync_directory(&self.directory)
    }

    /// Removes old directories and what a crash left; a failure only leaves them for the next time.
    fn sweep(&self, newest: &Path) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        let mut old: Vec<PathBuf> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("pages-") && entry.path() != newest {
                old.push(entry.path());
            } else if name.starts_with(&format!(".{CURRENT}-")) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        old.sort();
        let keep = old.len().saturating_sub(OLD_KEPT);
        for path in old.iter().take(keep) {
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Writes the pages of one view into `directory`, whatever was there.
///
/// # Errors
/// When something cannot be written.
pub fn write_pages(directory: &Path, view: &View) -> Result<Written, PagesError> {
    Pages::open(directory, None)?.write(view)
}

/// The view for machines.
///
/// # Errors
/// When it cannot be written as JSON, which does not happen.
pub fn status_json(view: &View) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = serde_json::to_vec(view)?;
    json.push(b'\n');
    Ok(json)
}

/// Of what does not tick, and of that plus the runs' progress.
fn fingerprints(view: &View) -> Result<(Fingerprint, Fingerprint), serde_json::Error> {
    let mut timeless = view.clone();
    timeless.generated = Timestamp::UNIX_EPOCH;
    let whole = Sha256::digest(serde_json::to_vec(&timeless)?).into();
    let jobs = timeless.targets.iter_mut().flat_map(|target| &mut target.jobs);
    for running in jobs.filter_map(|job| job.running.as_mut()).chain(&mut timeless.running) {
        running.bytes_done = 0;
        running.bytes_total = 0;
        running.detail = None;
    }
    Ok((Sha256::digest(serde_json::to_vec(&timeless)?).into(), whole))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), PagesError> {
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_data()
    };
    write().map_err(|e| write_error(path, e))
}

fn sync_directory(path: &Path) -> Result<(), PagesError> {
    std::fs::File::open(path).and_then(|directory| directory.sync_all()).map_err(|e| write_error(path, e))
}

fn write_error(path: &Path, source: std::io::Error) -> PagesError {
    PagesError::Write { path: path.to_owned(), source }
}
