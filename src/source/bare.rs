//! A Git repository on this host, read in place through gix: refs, commits and trees; never a worktree, never a write.
//!
//! A [`Bare`] is one look: what it read of the repository's own config and packs is not refreshed, and opening anew
//! costs 0.3 ms, so every look opens its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix::bstr::ByteSlice as _;
use tempfile::TempDir;

use super::SourceError;
use super::files::{GitFiles, object_id};
use super::hook::Whereabouts;
use crate::types::Revision;

/// Most branches that are listed to help a person who named a wrong one.
const BRANCHES_SHOWN_MAX: usize = 12;

/// Longest subject or author of a commit that is passed on, in characters.
const TEXT_CHARS_MAX: usize = 120;

/// A repository (bare, or the `.git` of a checkout), opened for one look.
pub struct Bare {
    repository: gix::ThreadSafeRepository,
    path: PathBuf,
    /// Where the repository is a temporary view of pushed objects: removed with the last user.
    scratch: Option<Arc<TempDir>>,
}

/// What a commit says about itself, shortened for one line and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub subject: String,
    pub author: String,
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Bare {
    /// Opens the repository at `path`. The user's and the system's Git config and the environment are ignored.
    ///
    /// # Errors
    /// When nothing is there, when it is no repository, damaged, or of a kind that gix cannot read (reftable, SHA-256).
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        Self::open_view(path, path, None)
    }

    /// Opens `view` as what `path` names in errors; `scratch` lives as long as anything that was read from it.
    pub(super) fn open_view(path: &Path, view: &Path, scratch: Option<Arc<TempDir>>) -> Result<Self, SourceError> {
        let path = path.to_owned();
        match std::fs::metadata(view) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(SourceError::NoSuchPath { path }),
            Err(source) => return Err(SourceError::Unreadable { path, source }),
            Ok(_) => {}
        }
        // The operator named the path, so its owner need not be the daemon's user.
        let options = gix::open::Options::isolated().with(gix::sec::Trust::Full);
        let repository = match gix::ThreadSafeRepository::open_opts(view, options) {
            Ok(repository) => repository,
            Err(error) => return Err(why_not_opened(path, view, error)),
        };
        let local = repository.to_thread_local();
        if local.object_hash() != gix::hash::Kind::Sha1 {
            return Err(SourceError::Sha256 { path });
        }
        let storage = local.config_snapshot().string("extensions.refStorage");
        if storage.is_some_and(|storage| !storage.eq_ignore_ascii_case(b"files")) {
            return Err(SourceError::Reftable { path });
        }
        // gix does not mind, and git takes no push: "not a git repository".
        if scratch.is_none() && is_head_damaged(local.git_dir()) {
            return Err(SourceError::Head { path, git_dir: local.git_dir().to_owned() });
        }
        Ok(Self { repository, path, scratch })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where refs and objects are: the repository itself, or the `.git` of a checkout.
    #[must_use]
    pub fn git_dir(&self) -> PathBuf {
        self.repository.to_thread_local().common_dir().to_owned()
    }

    /// Whether there is no worktree that a push would leave behind.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.repository.to_thread_local().is_bare()
    }

    /// The commit that `branch` points to; none when there is no such branch (yet).
    ///
    /// # Errors
    /// When the name is impossible, the ref is damaged, or it points to something that is no commit or is missing.
    pub fn head(&self, branch: &str) -> Result<Option<Revision>, SourceError> {
        let name = full_name(branch)?;
        let repository = self.repository.to_thread_local();
        let damaged = |source: gix::Error| SourceError::Branch {
            path: self.path.clone(),
            branch: branch.to_owned(),
            source: Box::new(source),
        };
        let Some(mut reference) = repository.try_find_reference(name.as_ref()).map_err(damaged)? else {
            return Ok(None);
        };
        let id = reference.peel_to_id().map_err(damaged)?.detach();
        let kind = repository.find_header(id).map_err(damaged)?.kind();
        if kind != gix::objs::Kind::Commit {
            return Err(SourceError::NotACommit {
                path: self.path.clone(),
                branch: branch.to_owned(),
                kind: kind.to_string(),
            });
        }
        let id = id.to_string();
        Revision::parse(&id).map(Some).map_err(|source| SourceError::Branch {
            path: self.path.clone(),
            branch: branch.to_owned(),
            source: Box::new(source),
        })
    }

    /// The first branches by name, to help a person who named one that is missing.
    #[must_use]
    pub fn branches(&self) -> Vec<String> {
        let repository = self.repository.to_thread_local();
        let Ok(platform) = repository.references() else { return Vec::new() };
        let Ok(branches) = platform.local_branches() else { return Vec::new() };
        branches
            .filter_map(Result::ok)
            .map(|reference| one_line(&reference.name().shorten().to_str_lossy()))
            .take(BRANCHES_SHOWN_MAX)
            .collect()
    }

    /// The config files of `revision` below the directory `root` (`""`: the whole tree).
    ///
    /// # Errors
    /// When the revision or `root` is missing or unreadable, or a limit of [`super::admit`] is passed.
    pub fn files(&self, revision: &Revision, root: &str) -> Result<GitFiles, SourceError> {
        GitFiles::walk(self.repository.to_thread_local(), self.scratch.clone(), &self.path, revision, root)
    }

    /// Subject and author of `revision`.
    ///
    /// # Errors
    /// When the commit is missing or unreadable.
    pub fn commit(&self, revision: &Revision) -> Result<Commit, SourceError> {
        let unreadable = |source: gix::Error| self.unreadable(revision, source);
        let repository = self.repository.to_thread_local();
        let id = object_id(&self.path, revision)?;
        let commit = repository.find_commit(id).map_err(unreadable)?;
        let subject = commit.message().map_err(unreadable)?.summary().to_str_lossy().into_owned();
        let author = commit.author().map_err(unreadable)?.name.to_str_lossy().into_owned();
        Ok(Commit { subject: one_line(&subject), author: one_line(&author) })
    }

    /// Whether `new` is `old` or comes after it: false says that history was rewritten.
    ///
    /// An `old` that is gone (its history was rewritten and collected) is no ancestor.
    ///
    /// # Errors
    /// When the history of `new` cannot be read.
    pub fn descends(&self, new: &Revision, old: &Revision) -> Result<bool, SourceError> {
        if new == old {
            return Ok(true);
        }
        let mut repository = self.repository.to_thread_local();
        repository.object_cache_size_if_unset(4 << 20);
        let (new_id, old_id) = (object_id(&self.path, new)?, object_id(&self.path, old)?);
        if !repository.has_object(old_id) {
            return Ok(false);
        }
        let base = repository.merge_base(new_id, old_id).map_err(|source| self.unreadable(new, source))?;
        Ok(base.is_some_and(|base| base.detach() == old_id))
    }

    /// What `larder init` wrote into the repository's config for the hooks.
    #[must_use]
    pub fn whereabouts(&self) -> Whereabouts {
        let repository = self.repository.to_thread_local();
        let config = repository.config_snapshot();
        let text = |key: &str| {
            config.string(key).map(|value| value.to_str_lossy().into_owned()).filter(|value| !value.is_empty())
        };
        Whereabouts {
            socket: text("larder.socket").map(PathBuf::from),
            branch: text("larder.branch"),
            plugins: text("larder.plugins").map(PathBuf::from),
            root: text("larder.root").unwrap_or_default(),
        }
    }

    fn unreadable(&self, revision: &Revision, source: gix::Error) -> SourceError {
        SourceError::Revision { path: self.path.clone(), revision: revision.to_string(), source: Box::new(source) }
    }
}

/// `refs/heads/BRANCH`, checked by Git's rules for ref names.
pub(super) fn full_name(branch: &str) -> Result<gix::refs::FullName, SourceError> {
    let refuse = || SourceError::BranchName { branch: branch.chars().take(80).collect() };
    if branch.is_empty() || branch.starts_with("refs/") || branch.starts_with('-') {
        return Err(refuse());
    }
    gix::refs::FullName::try_from(format!("refs/heads/{branch}")).map_err(|_| refuse())
}

/// Whether HEAD is there and names neither a ref nor a commit.
fn is_head_damaged(git_dir: &Path) -> bool {
    let Ok(head) = std::fs::read(git_dir.join("HEAD")) else { return false };
    let head = head.trim_ascii_end();
    let is_commit = head.len() == 40 && head.iter().all(u8::is_ascii_hexdigit);
    let is_ref = head.strip_prefix(b"ref:").is_some_and(|name| name.trim_ascii().starts_with(b"refs/"));
    !is_commit && !is_ref
}

fn why_not_opened(path: PathBuf, view: &Path, error: gix::Error) -> SourceError {
    let git_dir = if view.join(".git").exists() { view.join(".git") } else { view.to_owned() };
    // gix was built without SHA-256 and reports such a repository as unreadable config.
    let config = std::fs::read_to_string(git_dir.join("config")).unwrap_or_default().to_ascii_lowercase();
    let declares = |key: &str, value: &str| {
        config.lines().any(|line| {
            line.split_once('=').is_some_and(|(k, v)| k.trim() == key && v.trim().trim_matches('"') == value)
        })
    };
    if declares("objectformat", "sha256") {
        SourceError::Sha256 { path }
    } else if declares("refstorage", "reftable") {
        SourceError::Reftable { path }
    } else if git_dir.join("HEAD").exists() || git_dir.join("objects").exists() {
        SourceError::Open { path, source: Box::new(error) }
    } else {
        SourceError::NoRepository { path }
    }
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT_CHARS_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_git_does_not_understand_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let run = std::process::Command::new("git").args(["init", "-q", "--bare"]).arg(dir.path()).status().unwrap();
        assert!(run.success());
        for (head, is_good) in [
            ("ref: refs/heads/main\n", true),
            ("ref:refs/heads/other", true),
            ("0123456789abcdef0123456789abcdef01234567\n", true),
            ("garbage", false),
            ("", false),
            ("ref: nowhere\n", false),
            ("\0\0\0\0", false),
        ] {
            std::fs::write(dir.path().join("HEAD"), head).unwrap();
            assert_eq!(Bare::open(dir.path()).is_ok(), is_good, "{head:?}");
        }
    }

    #[test]
    fn impossible_branch_names_are_refused_before_git_is_asked() {
        for bad in ["", "a..b", "refs/heads/main", "a b", "-x", "a~1", "x.lock", "/x", "x/", "a\nb"] {
            assert!(matches!(full_name(bad), Err(SourceError::BranchName { .. })), "{bad:?}");
        }
        for good in ["main", "feature/x", "release-1.2"] {
            assert_eq!(full_name(good).unwrap().to_string(), format!("refs/heads/{good}"));
        }
    }

    #[test]
    fn text_of_a_commit_cannot_move_the_cursor() {
        assert_eq!(one_line("a\x1b[2Jb\n"), "a [2Jb");
        assert_eq!(one_line(&"x".repeat(500)).len(), TEXT_CHARS_MAX);
    }
}
