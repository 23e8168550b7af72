//! After a start: what dead runs left behind in `.larder` goes.

use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::{self, Manifest};
use super::{ArtifactError, Shelf, files};
use crate::types::RunId;

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Below the root.
    pub removed: Vec<PathBuf>,
    /// What could not be removed, and why; the next sweep tries again.
    pub kept: Vec<(PathBuf, String)>,
}

impl Shelf {
    /// Removes staging directories, ship views and trash that belong to none of `live`. Published files are never touched.
    ///
    /// # Errors
    /// When `.larder` cannot be read. A single thing that can't be removed is told in [`Swept::kept`].
    pub fn sweep(&self, live: &[RunId]) -> Result<Swept, ArtifactError> {
        let mut swept = Swept::default();
        let is_live = |name: &str| live.iter().any(|run| name.ends_with(&run.to_string()));
        for path in children(&self.private().join("staging"))?.into_iter().chain(children(&self.trash())?) {
            if !is_live(&name(&path)) {
                self.take_away(&path, &mut swept);
            }
        }
        for target in children(&self.ship())? {
            for view in children(&target)? {
                let owner = Manifest::load(&view.join(manifest::FILE_NAME)).ok().map(|manifest| manifest.run);
                let kept = if name(&view).starts_with('.') {
                    is_live(&name(&view))
                } else {
                    owner.is_some_and(|run| live.contains(&run))
                };
                if !kept {
                    self.take_away(&view, &mut swept);
                }
            }
            // Stays while a live run's view is in it.
            let _ = fs::remove_dir(&target);
        }
        for probe in children(&self.private())?.into_iter().filter(|path| name(path).starts_with("probe-")) {
            self.take_away(&probe, &mut swept);
        }
        Ok(swept)
    }

    fn take_away(&self, path: &Path, swept: &mut Swept) {
        let relative = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        match files::remove_tree(path) {
            Ok(()) => swept.removed.push(relative),
            Err(error) => swept.kept.push((relative, crate::error::chain(&error))),
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn children(path: &Path) -> Result<Vec<PathBuf>, ArtifactError> {
    match fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path()).map_err(|e| ArtifactError::read(path, e))).collect(),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(ArtifactError::read(path, error)),
    }
}
