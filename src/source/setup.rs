//! `larder init`: makes a bare repository ready for pushes: its config, and two hooks that call this program.
//!
//! The only place that writes to a repository, through the `git` program (gix makes no bare repositories that `git`
//! of every age reads alike). Doing it again changes nothing. Foreign hooks and settings are never overwritten.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::SourceError;
use super::bare::{Bare, full_name};
use super::git::{Git, git_version};

pub(super) mod fault;

pub use fault::SetupError;

/// The first Git whose `init` knows `--ref-format`; older ones only make files.
const GIT_WITH_REF_FORMAT: (u32, u32) = (2, 45);
/// Largest hook of someone else that is looked at.
const HOOK_BYTES_MAX: u64 = 1 << 20;

/// In the second line of every hook that Larder wrote.
const HOOK_MARK: &str = "# larder hook 1:";

/// What a repository is made ready with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The program that the hooks call; absolute.
    pub larder: PathBuf,
    /// The daemon's Unix socket.
    pub socket: Option<PathBuf>,
    /// The operator's own plugins.
    pub plugins: Option<PathBuf>,
    /// The config root inside the repository; empty: the whole tree.
    pub root: String,
    /// The `git` to use; none: the one on the `PATH`.
    pub git: Option<PathBuf>,
}

/// What [`init_bare`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// False: the repository was there already.
    pub created: bool,
    /// What changed, for people; empty when everything was as it should be.
    pub changes: Vec<String>,
}

/// Makes the bare repository at `path` when there is none, and prepares it for pushes to `branch`.
///
/// # Errors
/// When Git is missing or too old, when something else is at `path`, or when a hook there is not Larder's.
pub fn init_bare(path: &Path, branch: &str, settings: &Settings) -> Result<Prepared, SetupError> {
    full_name(branch)?;
    let path = &std::path::absolute(path).map_err(|source| SetupError::Write { path: path.to_owned(), source })?;
    let git = Git { program: settings.git.clone().unwrap_or_else(|| "git".into()) };
    let version = git_version(&git.run(&["--version".as_ref()])?)?;
    let mut changes = Vec::new();
    let created = match Bare::open(path) {
        Ok(bare) if !bare.is_bare() => return Err(SetupError::NotBare { path: path.clone() }),
        Ok(_) => false,
        Err(SourceError::NoSuchPath { .. }) => true,
        Err(SourceError::NoRepository { .. }) if is_empty_directory(path) => true,
        Err(SourceError::NoRepository { .. }) => return Err(SetupError::NotEmpty { path: path.clone() }),
        Err(other) => return Err(other.into()),
    };
    if created {
        make(&git, path, branch, version)?;
        changes.push(format!("made the bare repository {} with the branch {branch}", path.display()));
    }
    // Before anything is changed, so a refusal leaves the repository as it was.
    let hooks = hooks_dir(&git, path)?;
    let planned = [("pre-receive", 1), ("post-receive", 0)]
        .map(|(name, without)| (hooks.join(name), hook_text(name, &settings.larder, without)));
    for (hook, _) in &planned {
        refuse_foreign(hook)?;
    }
    point_head(&git, path, branch, &mut changes)?;
    configure(&git, path, branch, settings, &mut changes)?;
    for (hook, text) in planned {
        if write_hook(&hook, &text)? {
            changes.push(format!("wrote {}", hook.display()));
        }
    }
    Ok(Prepared { created, changes })
}

fn make(git: &Git, path: &Path, branch: &str, version: (u32, u32)) -> Result<(), SetupError> {
    // No template: a user's own could bring hooks and settings along.
    let mut args = vec!["init", "--quiet", "--bare", "--template=", "--object-format=sha1"];
    if version >= GIT_WITH_REF_FORMAT {
        args.push("--ref-format=files");
    }
    let initial = format!("--initial-branch={branch}");
    args.push(&initial);
    let mut args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
    args.push(path.as_os_str());
    git.run(&args).map(drop)
}

/// A clone follows HEAD, so a HEAD that leads nowhere is pointed to the watched branch.
fn point_head(git: &Git, path: &Path, branch: &str, changes: &mut Vec<String>) -> Result<(), SetupError> {
    let wanted = format!("refs/heads/{branch}");
    let head = fs::read_to_string(path.join("HEAD")).unwrap_or_default();
    let Some(current) = head.trim().strip_prefix("ref: refs/heads/") else { return Ok(()) };
    if current == branch || Bare::open(path)?.head(current).is_ok_and(|found| found.is_some()) {
        return Ok(());
    }
    let git_dir = ["--git-dir".as_ref(), path.as_os_str()];
    git.run(&[git_dir.as_slice(), &["symbolic-ref".as_ref(), "HEAD".as_ref(), wanted.as_ref()]].concat())?;
    changes.push(format!("pointed HEAD to {branch}"));
    Ok(())
}

fn configure(
    git: &Git,
    path: &Path,
    branch: &str,
    settings: &Settings,
    changes: &mut Vec<String>,
) -> Result<(), SetupError> {
    let text = |path: &Option<PathBuf>| path.as_deref().map(|path| path.as_os_str().to_owned());
    let fixed = [
        // A force-push is allowed: the daemon re-reads and says that history was rewritten.
        ("receive.denyDeletes", "true"),
        ("receive.fsckObjects", "true"),
        ("receive.maxInputSize", "16m"),
        ("receive.advertisePushOptions", "true"),
        ("core.logAllRefUpdates", "true"),
        // Else a hooksPath in the user's own Git config would turn the check off.
        ("core.hooksPath", "hooks"),
        ("larder.branch", branch),
    ];
    let mut wanted: Vec<(&str, Option<std::ffi::OsString>)> =
        fixed.iter().map(|(key, value)| (*key, Some(OsStr::new(value).to_owned()))).collect();
    wanted.push(("larder.socket", text(&settings.socket)));
    wanted.push(("larder.plugins", text(&settings.plugins)));
    wanted
        .push(("larder.root", Some(settings.root.clone().into()).filter(|root: &std::ffi::OsString| !root.is_empty())));
    for (key, value) in wanted {
        let current = git.config_value(path, key)?;
        match value {
            Some(value) if current.as_deref() != Some(value.as_bytes()) => {
                git.config(path, &[key.as_ref(), &value])?;
                changes.push(format!("set {key} = {}", value.to_string_lossy()));
            }
            None if current.is_some() => {
                git.config(path, &["--unset-all".as_ref(), key.as_ref()])?;
                changes.push(format!("removed {key}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where Git will look for hooks; a `core.hooksPath` of the repository that leads elsewhere is refused.
fn hooks_dir(git: &Git, path: &Path) -> Result<PathBuf, SetupError> {
    let hooks = path.join("hooks");
    match git.config_value(path, "core.hooksPath")? {
        Some(value) if value != b"hooks" && Path::new(OsStr::from_bytes(&value)) != hooks => {
            Err(SetupError::HooksPath { value: String::from_utf8_lossy(&value).into_owned(), hooks })
        }
        _ => Ok(hooks),
    }
}

/// The hook as a shell script; `without` is its exit code when the program is gone.
fn hook_text(name: &str, larder: &Path, without: u8) -> Vec<u8> {
    let head = format!(
        "#!/bin/sh\n{HOOK_MARK} written by `larder init`, and written anew by it. Your own hook goes to {name}.local\nlarder="
    );
    let mut text = head.into_bytes();
    text.extend_from_slice(&shell_quote(larder.as_os_str().as_bytes()));
    text.extend_from_slice(
        format!(
            r#"
if [ ! -x "$larder" ]; then
  echo "larder: $larder is gone, so this push {verdict}; hint: run \`larder init\` again" >&2
  exit {without}
fi
if [ -x "$0.local" ]; then
  updates=$(cat)
  printf '%s\n' "$updates" | "$0.local" || exit
  printf '%s\n' "$updates" | "$larder" hook {name}
  exit
fi
exec "$larder" hook {name}
"#,
            verdict = if without == 0 { "is stored and nothing more" } else { "cannot be checked" },
        )
        .as_bytes(),
    );
    text
}

fn refuse_foreign(hook: &Path) -> Result<(), SetupError> {
    let unreadable = |source| SourceError::Unreadable { path: hook.to_owned(), source };
    let mut text = Vec::new();
    match fs::File::open(hook) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(unreadable(e).into()),
        Ok(file) => file.take(HOOK_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?,
    };
    let ours = String::from_utf8_lossy(&text).lines().nth(1).is_some_and(|line| line.starts_with(HOOK_MARK));
    if ours { Ok(()) } else { Err(SetupError::ForeignHook { path: hook.to_owned() }) }
}

/// Writes a hook whole; false when it is there already.
fn write_hook(hook: &Path, text: &[u8]) -> Result<bool, SetupError> {
    let failed = |source| SetupError::Write { path: hook.to_owned(), source };
    let executable = fs::metadata(hook).is_ok_and(|about| about.permissions().mode() & 0o777 == 0o755);
    if executable && fs::read(hook).is_ok_and(|current| current == text) {
        return Ok(false);
    }
    let directory = hook.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed)?;
    let mut file = tempfile::Builder::new().prefix(".larder-hook-").tempfile_in(directory).map_err(failed)?;
    file.write_all(text).map_err(failed)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o755)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(hook).map_err(|e| failed(e.error))?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    Ok(true)
}

fn is_empty_directory(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut listing| listing.next().is_none())
}

/// A word in single quotes, as every shell reads it.
fn shell_quote(text: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in text {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_quotes_stays_one_word_in_the_shell() {
        assert_eq!(shell_quote(b"/opt/o'brien dir/larder"), br"'/opt/o'\''brien dir/larder'");
    }

    #[test]
    fn a_hook_is_known_by_its_mark() {
        let dir = tempfile::tempdir().unwrap();
        let hook = dir.path().join("pre-receive");
        refuse_foreign(&hook).unwrap();
        fs::write(&hook, "#!/bin/sh\nexec my-own-check\n").unwrap();
        assert!(matches!(refuse_foreign(&hook), Err(SetupError::ForeignHook { .. })));
        fs::write(&hook, hook_text("pre-receive", Path::new("/usr/bin/larder"), 1)).unwrap();
        refuse_foreign(&hook).unwrap();
    }
}
