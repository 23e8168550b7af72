//! Reading, watching and preparing real repositories, with every Git that is installed here.

mod push;
mod watching;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use larder::source::quarantine::PushEnv;
use larder::source::setup::{Settings, SetupError, init_bare};
use larder::source::{Bare, FileSet as _, GitFiles, SourceError};
use larder::types::Revision;
use tempfile::TempDir;

use crate::support::wait_for;

/// Every `git` on this machine: the one on the `PATH`, and an older or newer one beside it.
pub fn gits() -> Vec<PathBuf> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for candidate in ["git", "/usr/local/bin/git", "/usr/bin/git"] {
        if let Ok(output) = Command::new(candidate).arg("--version").output() {
            found.entry(String::from_utf8_lossy(&output.stdout).into_owned()).or_insert_with(|| candidate.into());
        }
    }
    assert!(!found.is_empty(), "these tests need git");
    found.into_values().collect()
}

/// A directory of its own with a bare repository `site.git` and a clone of it `work`, free of anyone's Git config.
pub struct Sandbox {
    pub dir: TempDir,
    pub git: PathBuf,
}

impl Sandbox {
    /// Only an empty directory.
    pub fn empty(git: &Path) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), git: git.to_owned() }
    }

    /// With a bare repository as Git makes it, and a checkout with one pushed commit.
    pub fn new(git: &Path) -> Self {
        let sandbox = Self::empty(git);
        sandbox.git_in(".", ["init", "-q", "--bare", "-b", "main", "site.git"]);
        sandbox.clone_work();
        sandbox.commit(&[("site.yaml", "kind: Site\nname: home\n")]);
        sandbox.push(&["origin", "HEAD:main"]);
        sandbox
    }

    pub fn clone_work(&self) {
        self.git_in(".", ["init", "-q", "-b", "main", "work"]);
        let bare = self.bare();
        self.git_in("work", [OsStr::new("remote"), "add".as_ref(), "origin".as_ref(), bare.as_os_str()]);
    }

    pub fn bare(&self) -> PathBuf {
        self.dir.path().join("site.git")
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn command(&self, directory: &str) -> Command {
        let mut command = Command::new(&self.git);
        let path = match self.git.parent().filter(|parent| parent.is_absolute()) {
            Some(parent) => format!("{}:{}", parent.display(), std::env::var("PATH").unwrap()),
            None => std::env::var("PATH").unwrap(),
        };
        command
            .current_dir(self.dir.path().join(directory))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("TMPDIR", std::env::temp_dir())
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@home.lan");
        }
        command
    }

    pub fn try_git<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, directory: &str, args: I) -> Output {
        self.command(directory).args(args).output().unwrap()
    }

    pub fn git_in<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, directory: &str, args: I) -> String {
        let output = self.try_git(directory, args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes files into the checkout and commits everything; gives the new commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> Revision {
        for (path, text) in files {
            let path = self.work().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.commit_all("Change the config")
    }

    pub fn commit_all(&self, message: &str) -> Revision {
        self.git_in("work", ["add", "-A"]);
        self.git_in("work", ["commit", "-q", "--allow-empty", "-m", message]);
        Revision::parse(&self.git_in("work", ["rev-parse", "HEAD"])).unwrap()
    }

    pub fn push(&self, args: &[&str]) -> Output {
        let output = self.try_push(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    pub fn try_push(&self, args: &[&str]) -> Output {
        self.try_git("work", ["push"].iter().chain(args))
    }

    pub fn head(&self, branch: &str) -> Option<Revision> {
        Bare::open(&self.bare()).unwrap().head(branch).unwrap()
    }

    fn files(&self, revision: &Revision) -> GitFiles {
        Bare::open(&self.bare()).unwrap().files(revision, "").unwrap()
    }

    fn settings(&self) -> Settings {
        Settings {
            larder: "/opt/it's here/larder".into(),
            socket: Some("/run/larder/larder.sock".into()),
            git: Some(self.git.clone()),
            ..Settings::default()
        }
    }
}

fn paths(files: &GitFiles) -> Vec<&str> {
    files.entries().iter().map(|entry| entry.path.as_str()).collect()
}

fn refused(files: &GitFiles) -> Vec<(&str, &str)> {
    files.refused().iter().map(|(path, why)| (path.as_str(), why.code.as_str())).collect()
}

#[test]
fn a_commit_is_read_in_place_with_every_git() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let first = sandbox.head("main").unwrap();
        let second = sandbox.commit(&[
            ("targets/photos.yaml", "kind: Target\n"),
            ("targets/deep/er/nas.yml", "kind: Target\n"),
            (".gitlab-ci.yml", "hidden: true\n"),
            (".github/workflow.yaml", "hidden: true\n"),
            ("README.md", "words\n"),
        ]);
        sandbox.push(&["origin", "main"]);

        let bare = Bare::open(&sandbox.bare()).unwrap();
        assert_eq!(bare.head("main").unwrap(), Some(second.clone()));
        assert_eq!(bare.head("nowhere").unwrap(), None);
        assert_eq!(bare.branches(), ["main"]);
        let files = bare.files(&second, "").unwrap();
        assert_eq!(paths(&files), ["site.yaml", "targets/deep/er/nas.yml", "targets/photos.yaml"]);
        assert_eq!(files.read(&files.entries()[0]).unwrap(), b"kind: Site\nname: home\n");
        assert_eq!(files.entries()[1].content_id, files.entries()[2].content_id, "same content, same id");

        let below = bare.files(&second, "targets/deep/").unwrap();
        assert_eq!(paths(&below), ["er/nas.yml"], "paths start at the config root");
        assert!(matches!(bare.files(&second, "nothing"), Err(SourceError::NoRoot { .. })));
        assert!(matches!(bare.files(&second, "site.yaml"), Err(SourceError::NoRoot { .. })), "a file is no root");

        let commit = bare.commit(&second).unwrap();
        assert_eq!((commit.subject.as_str(), commit.author.as_str()), ("Change the config", "Ada"));
        assert!(bare.descends(&second, &first).unwrap());
        assert!(bare.descends(&second, &second).unwrap());
        assert!(!bare.descends(&first, &second).unwrap());
    }
}

#[test]
fn a_checkout_can_be_read_by_its_own_path() {
    let sandbox = Sandbox::new(&gits()[0]);
    let bare = Bare::open(&sandbox.work()).unwrap();
    assert!(!bare.is_bare());
    assert_eq!(bare.head("main").unwrap(), sandbox.head("main"));
    assert!(bare.git_dir().ends_with("work/.git"));
}

#[test]
fn an_empty_repository_has_no_head_and_that_is_no_error() {
    for git in gits() {
        let sandbox = Sandbox::empty(&git);
        sandbox.git_in(".", ["init", "-q", "--bare", "-b", "main", "site.git"]);
        assert_eq!(sandbox.head("main"), None);
    }
}

#[test]
fn refs_are_found_after_pack_refs_gc_and_in_nested_names() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let main = sandbox.head("main").unwrap();
        sandbox.push(&["origin", "main:team/config/main"]);
        sandbox.git_in("site.git", ["pack-refs", "--all", "--prune"]);
        assert!(!sandbox.bare().join("refs/heads/main").exists(), "pack-refs removes the loose file");
        assert_eq!(sandbox.head("main"), Some(main.clone()));
        assert_eq!(sandbox.head("team/config/main"), Some(main.clone()));

        let next = sandbox.commit(&[("a.yaml", "kind: Policy\n")]);
        sandbox.push(&["origin", "main"]);
        sandbox.git_in("site.git", ["gc", "--quiet", "--prune=now"]);
        assert_eq!(sandbox.head("main"), Some(next.clone()));
        assert_eq!(paths(&sandbox.files(&next)), ["a.yaml", "site.yaml"], "packed objects are read");
        assert_eq!(sandbox.head("team/config/main"), Some(main));
    }
}

#[test]
fn a_rewritten_history_is_noticed_even_when_the_old_commit_is_gone() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let old = sandbox.commit(&[("a.yaml", "one: 1\n")]);
        sandbox.push(&["origin", "main"]);
        sandbox.git_in("work", ["commit", "-q", "--amend", "-m", "Another history"]);
        sandbox.push(&["--force", "origin", "main"]);
        let new = sandbox.head("main").unwrap();
        let bare = Bare::open(&sandbox.bare()).unwrap();
        assert_ne!(new, old);
        assert!(!bare.descends(&new, &old).unwrap());
        sandbox.git_in("site.git", ["gc", "--quiet", "--prune=now"]);
        let bare = Bare::open(&sandbox.bare()).unwrap();
        assert!(!bare.descends(&new, &old).unwrap(), "collected");
        assert!(matches!(bare.files(&old, ""), Err(SourceError::Revision { .. })));
    }
}

#[test]
fn what_is_no_plain_file_is_refused_by_path_and_the_rest_still_read() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let work = sandbox.work();
        std::os::unix::fs::symlink("site.yaml", work.join("link.yaml")).unwrap();
        std::os::unix::fs::symlink("/etc", work.join("outside")).unwrap();
        fs::write(work.join("latin.yaml"), b"name: caf\xe9\n").unwrap();
        fs::write(work.join("large.yaml"), vec![b'#'; 300 * 1024]).unwrap();
        fs::write(work.join("fits.yaml"), vec![b'#'; 256 * 1024]).unwrap();
        fs::write(work.join(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"caf\xe9.yaml")), "a: 1").unwrap();
        fs::write(work.join("line\nbreak.yaml"), "a: 1").unwrap();
        let head = sandbox.git_in("work", ["rev-parse", "HEAD"]);
        sandbox.git_in("work", ["add", "-A"]);
        sandbox.git_in("work", ["update-index", "--add", "--cacheinfo", &format!("160000,{head},module")]);
        sandbox.git_in("work", ["commit", "-q", "-m", "Trouble"]);
        let commit = Revision::parse(&sandbox.git_in("work", ["rev-parse", "HEAD"])).unwrap();
        sandbox.push(&["origin", "main"]);

        let files = sandbox.files(&commit);
        assert_eq!(paths(&files), ["fits.yaml", "latin.yaml", "site.yaml"]);
        assert_eq!(
            refused(&files),
            [
                ("caf\u{fffd}.yaml", "path_not_utf8"),
                ("large.yaml", "file_too_large"),
                ("line\\nbreak.yaml", "path_unprintable"),
                ("link.yaml", "symlink"),
                ("module", "submodule"),
                ("outside", "symlink"),
            ]
        );
        let why = files.read(&files.entries()[1]).unwrap_err();
        assert_eq!((why.code.as_str(), why.message.contains("byte 9")), ("not_utf8", true), "{why}");
    }
}

#[test]
fn repositories_of_a_kind_that_cannot_be_read_say_so_and_how_to_mend_it() {
    let new = gits().into_iter().find(|git| {
        let help = Command::new(git).args(["init", "-h"]).output().unwrap();
        String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("--ref-format")
    });
    if let Some(new) = new {
        let sandbox = Sandbox::empty(&new);
        sandbox.git_in(".", ["init", "-q", "--bare", "--ref-format=reftable", "site.git"]);
        let error = Bare::open(&sandbox.bare()).unwrap_err();
        assert!(matches!(error, SourceError::Reftable { .. }), "{error:?}");
        assert!(error.hint().contains("git -C") && error.hint().contains("refs migrate --ref-format=files"));
        assert!(matches!(
            init_bare(&sandbox.bare(), "main", &sandbox.settings()),
            Err(SetupError::Source(SourceError::Reftable { .. }))
        ));
    }
    for git in gits() {
        let sandbox = Sandbox::empty(&git);
        sandbox.git_in(".", ["init", "-q", "--bare", "--object-format=sha256", "site.git"]);
        let error = Bare::open(&sandbox.bare()).unwrap_err();
        assert!(matches!(error, SourceError::Sha256 { .. }), "{error:?}");
        assert_eq!(error.trouble().code, "sha256_repository");
    }
    let sandbox = Sandbox::empty(&gits()[0]);
    assert!(matches!(Bare::open(&sandbox.bare()), Err(SourceError::NoSuchPath { .. })));
    assert!(matches!(Bare::open(sandbox.dir.path()), Err(SourceError::NoRepository { .. })));
}

#[test]
fn a_damaged_repository_is_an_error_and_never_an_absent_branch() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let main = sandbox.head("main").unwrap();
        let loose = sandbox.bare().join("refs/heads/main");

        fs::write(&loose, "").unwrap();
        let error = Bare::open(&sandbox.bare()).unwrap().head("main").unwrap_err();
        assert!(matches!(error, SourceError::Branch { .. }), "a ref of zero length: {error:?}");

        fs::write(&loose, "1111111111111111111111111111111111111111\n").unwrap();
        let error = Bare::open(&sandbox.bare()).unwrap().head("main").unwrap_err();
        assert!(matches!(error, SourceError::Branch { .. }), "a ref to nothing: {error:?}");

        let tree = sandbox.git_in("work", ["rev-parse", "HEAD^{tree}"]);
        fs::write(&loose, format!("{tree}\n")).unwrap();
        let error = Bare::open(&sandbox.bare()).unwrap().head("main").unwrap_err();
        assert!(matches!(error, SourceError::NotACommit { .. }), "a ref to a tree: {error:?}");

        fs::write(&loose, format!("{main}\n")).unwrap();
        assert_eq!(sandbox.head("main"), Some(main.clone()), "mended");
        fs::remove_file(sandbox.bare().join("objects").join(&tree[..2]).join(&tree[2..])).unwrap();
        let error = Bare::open(&sandbox.bare()).unwrap().files(&main, "").unwrap_err();
        assert!(matches!(error, SourceError::Revision { .. }), "a missing tree: {error:?}");
        assert!(error.hint().contains("fsck"));

        fs::write(sandbox.bare().join("config"), "[core\n").unwrap();
        assert!(matches!(Bare::open(&sandbox.bare()), Err(SourceError::Open { .. })));
    }
}

#[test]
fn pushed_objects_are_seen_in_quarantine_and_nowhere_else() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let hook = sandbox.bare().join("hooks/pre-receive");
        let told = sandbox.dir.path().join("told");
        let go = sandbox.dir.path().join("go");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        let script = format!(
            "#!/bin/sh\nenv > '{told}.part'; echo PWD=$PWD >> '{told}.part'; mv '{told}.part' '{told}'\n\
             for i in $(seq 500); do [ -e '{go}' ] && exit 0; sleep 0.02; done; exit 1\n",
            told = told.display(),
            go = go.display()
        );
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        let before = sandbox.head("main").unwrap();
        let pushed = sandbox.commit(&[("new.yaml", "kind: Target\n")]);
        let push = sandbox.command("work").args(["push", "origin", "main"]).spawn().unwrap();

        let told = wait_for("the hook's word", Duration::from_secs(10), || fs::read_to_string(&told).ok());
        let environment: BTreeMap<&str, &str> = told.lines().filter_map(|line| line.split_once('=')).collect();
        let mut env = PushEnv::read(|name| environment.get(name).map(Into::into)).unwrap();
        let directory = Path::new(environment["PWD"]);
        env.git_dir = directory.join(&env.git_dir);
        env.quarantine = env.quarantine.map(|path| directory.join(path));
        assert!(env.quarantine.is_some());

        let plain = Bare::open(&sandbox.bare()).unwrap();
        assert!(plain.files(&pushed, "").is_err(), "not accepted yet");
        let files = {
            let view = Bare::open_quarantined(&env).unwrap();
            assert!(view.descends(&pushed, &before).unwrap(), "old and new objects are seen together");
            view.files(&pushed, "").unwrap()
        };
        assert_eq!(paths(&files), ["new.yaml", "site.yaml"]);
        assert_eq!(files.read(&files.entries()[0]).unwrap(), b"kind: Target\n", "the view lives as long as its files");
        drop(files);

        fs::write(&go, "").unwrap();
        assert!(push.wait_with_output().unwrap().status.success());
        assert_eq!(sandbox.head("main"), Some(pushed));
    }
}

#[test]
fn init_makes_a_repository_that_a_push_reaches_and_doing_it_again_changes_nothing() {
    for git in gits() {
        let sandbox = Sandbox::empty(&git);
        let settings = sandbox.settings();
        let prepared = init_bare(&sandbox.bare(), "trunk", &settings).unwrap();
        assert!(prepared.created);
        assert!(!prepared.changes.is_empty());
        let again = init_bare(&sandbox.bare(), "trunk", &settings).unwrap();
        assert_eq!((again.created, again.changes), (false, Vec::new()));

        let get = |key: &str| sandbox.git_in("site.git", ["config", "--get", key]);
        assert_eq!(get("receive.denyDeletes"), "true");
        assert_eq!(get("receive.fsckObjects"), "true");
        assert_eq!(get("receive.maxInputSize"), "16m");
        assert_eq!(get("receive.advertisePushOptions"), "true");
        assert_eq!(get("core.logAllRefUpdates"), "true");
        assert_eq!(sandbox.git_in("site.git", ["symbolic-ref", "HEAD"]), "refs/heads/trunk");
        let whereabouts = Bare::open(&sandbox.bare()).unwrap().whereabouts();
        assert_eq!(whereabouts.branch.as_deref(), Some("trunk"));
        assert_eq!(whereabouts.socket, settings.socket);
        assert_eq!((whereabouts.plugins, whereabouts.root.as_str()), (None, ""));

        for (hook, accepted) in [("pre-receive", false), ("post-receive", true)] {
            let path = sandbox.bare().join("hooks").join(hook);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
            let run = Command::new("sh").arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&run.stderr).into_owned();
            assert!(said.contains("/opt/it's here/larder is gone"), "{said}");
            assert_eq!(run.status.success(), accepted, "a push is refused when nobody can check it");
        }

        // A program in place of Larder, in a directory whose name needs quoting, says how it was called.
        let program = sandbox.dir.path().join("it's a $HOME/larder");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "#!/bin/sh\necho \"called: $*\" >&2\nexec cat >&2\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let settings = Settings { larder: program, ..settings };
        assert_eq!(init_bare(&sandbox.bare(), "trunk", &settings).unwrap().changes.len(), 2, "both hooks anew");
        sandbox.clone_work();
        let commit = sandbox.commit(&[("site.yaml", "kind: Site\n")]);
        let said = String::from_utf8(sandbox.push(&["origin", "HEAD:trunk"]).stderr).unwrap();
        assert!(said.contains("remote: called: hook pre-receive"), "{said}");
        assert!(said.contains("remote: called: hook post-receive"), "{said}");
        assert!(said.contains(&format!("{commit} refs/heads/trunk")), "{said}");
        assert_eq!(sandbox.head("trunk"), Some(commit));
    }
}

#[test]
fn init_keeps_what_others_wrote() {
    for git in gits() {
        let sandbox = Sandbox::new(&git);
        let hook = sandbox.bare().join("hooks/pre-receive");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, "#!/bin/sh\nread line; echo \"mine: $line\" >&2\n").unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        let config = fs::read(sandbox.bare().join("config")).unwrap();
        let error = init_bare(&sandbox.bare(), "main", &sandbox.settings()).unwrap_err();
        assert!(matches!(error, SetupError::ForeignHook { .. }), "{error:?}");
        assert!(error.trouble().hint.unwrap().contains("pre-receive.local"));
        assert_eq!(fs::read(sandbox.bare().join("config")).unwrap(), config, "nothing was changed");

        // As the hint says: the own hook beside Larder's gets the same input and may refuse.
        fs::rename(&hook, hook.with_extension("local")).unwrap();
        let settings = Settings { larder: "/bin/true".into(), ..sandbox.settings() };
        let prepared = init_bare(&sandbox.bare(), "main", &settings).unwrap();
        assert!(!prepared.created);
        let commit = sandbox.commit(&[("a.yaml", "a: 1\n")]);
        let said = String::from_utf8(sandbox.push(&["origin", "main"]).stderr).unwrap();
        assert!(said.contains(&format!("{commit} refs/heads/main")), "{said}");
        fs::write(hook.with_extension("local"), "#!/bin/sh\nexit 3\n").unwrap();
        let refused = sandbox.commit(&[("a.yaml", "a: 2\n")]);
        assert!(!sandbox.try_push(&["origin", "main"]).status.success());
        assert_ne!(sandbox.head("main"), Some(refused));

        sandbox.git_in("site.git", ["config", "core.hooksPath", "/srv/hooks"]);
        let error = init_bare(&sandbox.bare(), "main", &settings).unwrap_err();
        assert!(matches!(error, SetupError::HooksPath { .. }), "{error:?}");
        let error = init_bare(&sandbox.work(), "main", &settings).unwrap_err();
        assert!(matches!(error, SetupError::NotBare { .. }), "{error:?}");
        let error = init_bare(sandbox.dir.path(), "main", &settings).unwrap_err();
        assert!(matches!(error, SetupError::NotEmpty { .. }), "{error:?}");
        let missing = Settings { git: Some("/nonexistent/git".into()), ..settings };
        let error = init_bare(&sandbox.dir.path().join("new.git"), "main", &missing).unwrap_err();
        assert!(matches!(error, SetupError::NoGit(_)), "{error:?}");
    }
}

#[test]
fn a_hooks_path_in_the_users_config_does_not_turn_the_check_off() {
    for git in gits() {
        let sandbox = Sandbox::empty(&git);
        let elsewhere = sandbox.dir.path().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        fs::write(sandbox.dir.path().join(".gitconfig"), format!("[core]\n\thooksPath = {}\n", elsewhere.display()))
            .unwrap();
        let settings = Settings { larder: "/bin/false".into(), ..sandbox.settings() };
        init_bare(&sandbox.bare(), "main", &settings).unwrap();
        sandbox.clone_work();
        sandbox.commit(&[("site.yaml", "kind: Site\n")]);
        assert!(!sandbox.try_push(&["origin", "main"]).status.success(), "the hook of the repository must run");
    }
}
