//! Seeing what is being pushed: during `pre-receive` the new objects are in quarantine, where gix does not look.
//!
//! So a scratch repository is made whose only objects are borrowed (`objects/info/alternates`): from the quarantine
//! and from the real repository. It costs 0.3 ms, holds nothing itself and is removed with its last reader.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SourceError;
use super::bare::Bare;

/// Longest list of alternates that is taken from the environment, in entries.
const ALTERNATES_MAX: usize = 64;

/// What Git tells a hook through the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushEnv {
    pub git_dir: PathBuf,
    /// Where the pushed objects are until they are accepted; none after that, and for a push without objects.
    pub quarantine: Option<PathBuf>,
    pub alternates: Vec<PathBuf>,
}

impl PushEnv {
    /// Reads Git's variables through `get`.
    ///
    /// # Errors
    /// When `GIT_DIR` is not set: then this is no hook.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, SourceError> {
        let git_dir = get("GIT_DIR")
            .filter(|value| !value.is_empty())
            .ok_or_else(|| SourceError::Quarantine { detail: "GIT_DIR is not set".to_owned() })?;
        Ok(Self {
            git_dir: git_dir.into(),
            quarantine: get("GIT_QUARANTINE_PATH").filter(|value| !value.is_empty()).map(PathBuf::from),
            alternates: get("GIT_ALTERNATE_OBJECT_DIRECTORIES").map_or_else(Vec::new, |list| split_list(&list)),
        })
    }
}

impl Bare {
    /// Opens the repository of `env` together with the objects that are being pushed. Refs are not visible in it.
    ///
    /// # Errors
    /// As [`Bare::open`], and when the scratch repository cannot be made.
    pub fn open_quarantined(env: &PushEnv) -> Result<Self, SourceError> {
        let real = Self::open(&env.git_dir)?;
        let Some(quarantine) = &env.quarantine else { return Ok(real) };
        let mut borrowed = vec![canonical(quarantine)?, canonical(&real.git_dir().join("objects"))?];
        // One that is gone holds nothing; Git only warns too.
        borrowed.extend(env.alternates.iter().filter_map(|path| path.canonicalize().ok()));
        borrowed.sort_unstable();
        borrowed.dedup();

        let scratch = tempfile::Builder::new()
            .prefix(&format!("larder-push-{}.0-", std::process::id()))
            .tempdir()
            .map_err(SourceError::Scratch)?;
        lay_out(scratch.path(), &alternates_file(&borrowed)?).map_err(SourceError::Scratch)?;
        let view = scratch.path().to_owned();
        Self::open_view(&env.git_dir, &view, Some(Arc::new(scratch)))
    }
}

fn canonical(path: &Path) -> Result<PathBuf, SourceError> {
    path.canonicalize().map_err(|e| SourceError::Quarantine { detail: format!("{}: {e}", path.display()) })
}

fn lay_out(scratch: &Path, alternates: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(scratch.join("objects/info"))?;
    std::fs::create_dir_all(scratch.join("refs"))?;
    std::fs::write(scratch.join("HEAD"), "ref: refs/heads/none\n")?;
    std::fs::write(scratch.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
    std::fs::write(scratch.join("objects/info/alternates"), alternates)
}

/// One path a line. A line that starts with `"` or `#` would be read as something else, but an absolute path cannot.
fn alternates_file(paths: &[PathBuf]) -> Result<Vec<u8>, SourceError> {
    let mut text = Vec::new();
    for path in paths {
        let bytes = path.as_os_str().as_bytes();
        if bytes.contains(&b'\n') {
            return Err(SourceError::Quarantine { detail: "a path has a line break in its name".to_owned() });
        }
        text.extend_from_slice(bytes);
        text.push(b'\n');
    }
    Ok(text)
}

/// Splits Git's list of directories: separated by `:`, an entry in double quotes is C-quoted.
fn split_list(list: &OsStr) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut bytes = list.as_bytes().iter().copied().peekable();
    while bytes.peek().is_some() && paths.len() < ALTERNATES_MAX {
        let mut entry = Vec::new();
        if bytes.next_if_eq(&b'"').is_some() {
            while let Some(byte) = bytes.next() {
                match byte {
                    b'"' => break,
                    b'\\' => entry.push(unescape(&mut bytes)),
                    other => entry.push(other),
                }
            }
            while bytes.next().is_some_and(|byte| byte != b':') {}
        } else {
            while let Some(byte) = bytes.next().filter(|byte| *byte != b':') {
                entry.push(byte);
            }
        }
        if !entry.is_empty() {
            paths.push(OsString::from_vec(entry).into());
        }
    }
    paths
}

/// What a backslash in a C-quoted string stands for.
fn unescape(bytes: &mut std::iter::Peekable<impl Iterator<Item = u8>>) -> u8 {
    match bytes.next() {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(first @ b'0'..=b'3') => {
            let mut value = first - b'0';
            for _ in 0..2 {
                let Some(digit) = bytes.next_if(|byte| (b'0'..=b'7').contains(byte)) else { break };
                value = value.wrapping_mul(8).wrapping_add(digit - b'0');
            }
            value
        }
        Some(other) => other,
        None => b'\\',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_dir_it_is_no_hook() {
        assert!(matches!(PushEnv::read(|_| None), Err(SourceError::Quarantine { .. })));
    }

    #[test]
    fn the_list_of_alternates_is_read_as_git_writes_it() {
        let read = |list: &str| split_list(OsStr::new(list));
        assert_eq!(read("/a:/b"), [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(read(""), Vec::<PathBuf>::new());
        assert_eq!(read("\"/with:colon\":/b"), [PathBuf::from("/with:colon"), PathBuf::from("/b")]);
        assert_eq!(read(r#""/a\"b\303\274":/c"#), [PathBuf::from("/a\"bü"), PathBuf::from("/c")]);
        assert_eq!(read("::/a:"), [PathBuf::from("/a")]);
        assert_eq!(read("\"/unterminated"), [PathBuf::from("/unterminated")]);
    }

    #[test]
    fn a_path_with_a_line_break_is_refused() {
        assert!(alternates_file(&[PathBuf::from("/a\nb")]).is_err());
        assert_eq!(alternates_file(&[PathBuf::from("/a"), PathBuf::from("/b c")]).unwrap(), b"/a\n/b c\n");
    }
}
