//! What of a repository this user may not read: Git's own errors speak of missing objects then.
//!
//! Whoever pushes as root with a tight umask leaves files that only root can read. Looked for only after a failure.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::bare::Bare;
use crate::error::{Trouble, codes};

/// How many entries are looked at.
const ENTRIES_MAX: usize = 20_000;

/// The first file or directory of the repository at `path` that may not be read.
#[must_use]
pub fn first(path: &Path, branch: &str) -> Option<PathBuf> {
    let inside = path.join(".git");
    let git_dir =
        Bare::open(path).map_or_else(|_| if inside.is_dir() { inside } else { path.to_owned() }, |bare| bare.git_dir());
    let mut left = ENTRIES_MAX;
    let fixed = [path.to_owned(), git_dir.clone()];
    let files = ["HEAD", "config", "packed-refs"].map(|name| git_dir.join(name));
    let branch = git_dir.join("refs/heads").join(branch);
    let way = branch.ancestors().take_while(|at| at.starts_with(&git_dir)).map(Path::to_owned).collect::<Vec<_>>();
    fixed
        .into_iter()
        .chain(way.into_iter().rev())
        .chain(files)
        .find(|at| is_denied(at))
        .or_else(|| below(&git_dir.join("objects"), 2, &mut left))
}

/// What to say of it.
#[must_use]
pub fn trouble(repository: &Path, denied: &Path) -> Trouble {
    let user = nix::unistd::geteuid();
    Trouble::new(
        codes::SOURCE_UNREADABLE,
        format!("{} may not be read by the user that Larder runs as (uid {user})", denied.display()),
    )
    .with_hint(format!(
        "somebody pushed as another user with a tight umask: give it back, such as `chown -R --reference={0} {0}` or \
         `chmod -R a+rX {0}`, and set `git -C {0} config core.sharedRepository group` for the next time",
        repository.display()
    ))
}

fn is_denied(path: &Path) -> bool {
    let denied = |error: &std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    match std::fs::symlink_metadata(path) {
        Err(error) => denied(&error),
        // One that may be listed and not entered answers nothing either.
        Ok(about) if about.is_dir() => std::fs::read_dir(path)
            .and_then(|_| std::fs::symlink_metadata(path.join(".")))
            .is_err_and(|error| denied(&error)),
        Ok(about) if about.is_file() => std::fs::File::open(path).is_err_and(|error| denied(&error)),
        Ok(_) => false,
    }
}

fn below(directory: &Path, depth: usize, left: &mut usize) -> Option<PathBuf> {
    if is_denied(directory) {
        return Some(directory.to_owned());
    }
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(directory).ok()?.take(*left).flatten().map(|entry| entry.path()).collect();
    *left = left.saturating_sub(entries.len());
    entries.sort();
    entries.iter().find_map(|path| {
        if depth > 0 && path.is_dir() { below(path, depth - 1, left) } else { is_denied(path).then(|| path.clone()) }
    })
}
