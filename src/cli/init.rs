//! `larder init`: a config repository that works at once, and where asked a bare repository with Larder's hooks.
//!
//! What it writes passes `larder check`; the password of the first restic repository lies outside Git, readable by
//! the owner only.

mod look;
mod propose;

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::args::{Global, Init};
use crate::cli::init::propose::Proposal;
use crate::cli::output;
use crate::error::{Trouble, codes};
use crate::types::Name;

/// The schema line that editors read.
const SCHEMA_LINE: &str = "# yaml-language-server: $schema=./larder.schema.json";

/// What a new site is made of; every path absolute.
#[derive(Clone, Debug)]
pub(crate) struct SiteSeed {
    pub(crate) dir: PathBuf,
    pub(crate) bare: Option<PathBuf>,
    pub(crate) branch: String,
    pub(crate) state: PathBuf,
    pub(crate) repository: PathBuf,
    pub(crate) artifacts: PathBuf,
    pub(crate) protect: Vec<PathBuf>,
    /// Further targets, as documents.
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) timezone: String,
}

/// Makes the site and says what to type next.
pub(crate) fn run(global: &Global, init: &Init) -> Result<(), Trouble> {
    let state = crate::cli::state_dir(global)?;
    let (seeing, remarks) = look::look(init.docker.as_deref(), &init.service)?;
    let mut seed = SiteSeed {
        dir: absolute(&init.dir)?,
        bare: init.bare.as_deref().map(absolute).transpose()?,
        branch: init.branch.clone(),
        repository: init.repository.as_deref().map_or_else(|| Ok(state.join("restic")), absolute)?,
        artifacts: init.artifacts.as_deref().map_or_else(|| Ok(state.join("backups")), absolute)?,
        protect: init.protect.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?,
        proposals: Vec::new(),
        timezone: local_timezone(),
        state,
    };
    let has = |plugin: &str| crate::plugin::ALL.iter().any(|each| each.name == plugin);
    let taken = file_targets(&seed).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    seed.proposals = propose::propose(&seeing, &seed.state.join("secrets"), &taken, &has);
    make(&seed)?;
    output::line(&format!("made the config repository {}", seed.dir.display()));
    if let Some(bare) = &seed.bare {
        output::line(&format!("made the bare repository {} with Larder's hooks", bare.display()));
    }
    output::line(&format!("the password of the restic repository is in {}", password_file(&seed).display()));
    output::line("  keep a copy of it somewhere else: without it no backup can be read");
    for line in remarks.iter().chain(seed.proposals.iter().flat_map(|proposal| &proposal.told)) {
        output::line(line);
    }
    output::line("\nnext:");
    let state_flag = global.state.as_ref().map(|_| format!(" --state {}", shell(&seed.state))).unwrap_or_default();
    let served = seed.bare.clone().unwrap_or_else(|| seed.dir.join(".git"));
    output::line(&format!("  larder serve --repo {}{state_flag} &", shell(&served)));
    if seed.bare.is_some() {
        output::line(&format!("  git -C {} push", shell(&seed.dir)));
    }
    output::line(&format!("  larder run --all{state_flag}"));
    Ok(())
}

/// Makes config directory, password file and, where wanted, the bare repository; commits, pushes nothing.
///
/// # Errors
/// When the directory is in use, a path to protect is missing, or git fails.
pub(crate) fn make(seed: &SiteSeed) -> Result<(), Trouble> {
    refuse_used(&seed.dir)?;
    for path in &seed.protect {
        if !path.exists() {
            return Err(Trouble::new(codes::PATH_MISSING, format!("{} does not exist", path.display()))
                .with_hint("give --protect a path that is there now"));
        }
    }
    make_password(seed)?;
    for (name, text) in files(seed) {
        write(&seed.dir.join(name), &text)?;
    }
    git(&seed.dir, &["init", "-q", "-b", &seed.branch])?;
    git(&seed.dir, &["add", "-A"])?;
    commit(&seed.dir, "Protect the first things")?;
    if let Some(bare) = &seed.bare {
        let larder = std::env::current_exe()
            .map_err(|error| Trouble::new(codes::NO_PROGRAM, format!("cannot tell where larder itself is: {error}")))?;
        crate::source::setup::init_bare(
            bare,
            &seed.branch,
            &crate::source::setup::Settings {
                larder,
                socket: Some(seed.state.join("larder.sock")),
                git: None,
                plugins: None,
                root: String::new(),
            },
        )
        .map_err(|error| error.trouble())?;
        git(&seed.dir, &["remote", "add", "origin", &bare.display().to_string()])?;
        git(&seed.dir, &["config", &format!("branch.{}.remote", seed.branch), "origin"])?;
        git(&seed.dir, &["config", &format!("branch.{}.merge", seed.branch), &format!("refs/heads/{}", seed.branch)])?;
    }
    Ok(())
}

fn files(seed: &SiteSeed) -> Vec<(String, String)> {
    let repository = plain(&seed.repository);
    let mut files = vec![
        (
            "site.yaml".to_owned(),
            format!(
                "{SCHEMA_LINE}\nkind: Site\nname: home\ntimezone: {}\nartifacts:\n  path: {}\n  min_free: 1GiB\n  keep_runs: 14\n\
                 # Tell somebody when a backup fails:\n# email:\n#   smtp: smtps://mail.example.org:465\n#   username: larder\n\
                 #   password: {{file: /etc/larder/smtp-password}}\n#   from: larder@example.org\n#   to: [me@example.org]\n",
                seed.timezone,
                quote(&seed.artifacts)
            ),
        ),
        (
            "destinations.yaml".to_owned(),
            format!(
                "{SCHEMA_LINE}\n# One restic repository. A second one on another machine makes it a real backup.\nkind: Destination\nname: local\n\
                 repository: {{type: local, path: {}{}}}\npassword: {{file: {}}}\ncheck: {{schedule: \"0 5 * * 0\", read_data: 5%}}\n\
                 prune: {{schedule: \"0 4 * * 0\"}}\n",
                quote(&repository),
                mounted(&repository, "require_mount"),
                quote(&password_file(seed))
            ),
        ),
        (
            "policies.yaml".to_owned(),
            format!(
                "{SCHEMA_LINE}\n# When, how long and where. Targets without `policies` get the default one.\nkind: Policy\nname: daily\ndefault: true\n\
                 schedule: \"0 2 * * *\"\njitter: 10m\nretention: {{daily: 7, weekly: 4, monthly: 6}}\ndestinations: [local]\n\
                 max_age: 26h\ntimeout: 2h\n"
            ),
        ),
        ("larder.schema.json".to_owned(), crate::cli::config_schema_text()),
    ];
    let own = file_targets(seed).into_iter().map(|(name, path)| {
        let path = plain(&path);
        let mounted = mounted(&path, "require_mount");
        format!("kind: Target\nname: {name}\nplugin: files\nwith: {{paths: [{}]{mounted}}}\n", quote(&path))
    });
    let seen = seed.proposals.iter().filter_map(|proposal| proposal.document.clone());
    let documents: Vec<String> = own.chain(seen).collect();
    let targets = format!("{SCHEMA_LINE}\n# One document for each thing to protect.\n{}", documents.join("---\n"));
    files.push(("targets.yaml".to_owned(), targets));
    files
}

/// The config itself and what was named, by the targets' names.
fn file_targets(seed: &SiteSeed) -> Vec<(String, PathBuf)> {
    let mut targets = vec![("larder-config".to_owned(), seed.dir.clone())];
    for path in &seed.protect {
        let taken: Vec<String> = targets.iter().map(|(name, _)| name.clone()).collect();
        targets.push((name_for(path, &taken), path.clone()));
    }
    targets
}

fn password_file(seed: &SiteSeed) -> PathBuf {
    seed.state.join("secrets").join("local-repository")
}

/// A password of 256 random bits; an existing one is kept, since backups may depend on it.
fn make_password(seed: &SiteSeed) -> Result<(), Trouble> {
    let path = password_file(seed);
    if path.exists() {
        return Ok(());
    }
    let fail = |error: std::io::Error| cannot_write(&path, &error);
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(fail)?;
    }
    let mut random = [0_u8; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))
        .map_err(fail)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(fail)?;
    file.write_all(hex::encode(random).as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
}

fn refuse_used(dir: &Path) -> Result<(), Trouble> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Trouble::new(codes::DIRECTORY_IN_USE, format!("{} is not empty", dir.display()))
                .with_hint("name a new directory; to add hooks to a repository you have, see `larder init --help`")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).map_err(|error| cannot_write(dir, &error))
        }
        Err(error) => Err(cannot_write(dir, &error)),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(codes::CANNOT_WRITE, format!("cannot write {}: {error}", path.display()))
        .with_hint("check that the directory exists and that you may write there")
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    std::fs::write(path, text).map_err(|error| cannot_write(path, &error))
}

/// A target's name from the last part of its path.
fn name_for(path: &Path, taken: &[String]) -> String {
    let last = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut base: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).collect();
    base = base.trim_matches(['-', '_']).chars().take(40).collect();
    if Name::parse(&base).is_err() {
        "files".clone_into(&mut base);
    }
    let mut name = base.clone();
    let mut number = 2;
    while taken.iter().any(|each| each.eq_ignore_ascii_case(&name)) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}

/// A path as a YAML double-quoted scalar.
fn quote(path: &Path) -> String {
    serde_json::Value::String(path.display().to_string()).to_string()
}

/// A path below the mount that it lies on: where a link leads there, without the link. With the disk away the link would
/// lead into the empty mount point, and a mount that is not above the path cannot be required.
fn plain(path: &Path) -> PathBuf {
    match crate::artifact::mount::point_of(path) {
        Some(point) if !path.starts_with(&point) => resolved(path),
        _ => path.to_owned(),
    }
}

/// Without links as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(found), ..) => found,
        (Err(_), Some(parent), Some(name)) => resolved(parent).join(name),
        (Err(_), ..) => path.to_owned(),
    }
}

/// Where a path lies on a mounted disk or share: that nothing is done without it.
fn mounted(path: &Path, field: &str) -> String {
    match crate::artifact::mount::point_of(path) {
        Some(point) if path.starts_with(&point) => format!(", {field}: {}", quote(&point)),
        _ => String::new(),
    }
}

/// A path as a shell reads it back.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-~+".contains(c)) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Trouble> {
    std::path::absolute(path)
        .map_err(|error| Trouble::new(codes::BAD_PATH, format!("{} is no usable path: {error}", path.display())))
}

fn local_timezone() -> String {
    let zone = jiff::tz::TimeZone::system();
    zone.iana_name().filter(|name| *name != "Etc/Unknown").unwrap_or("UTC").to_owned()
}

/// Commits everything that is staged, with a neutral identity where the user has none.
pub(crate) fn commit(dir: &Path, message: &str) -> Result<(), Trouble> {
    let has_identity = git(dir, &["config", "user.email"]).is_ok();
    let mut args = vec!["-c", "commit.gpgsign=false"];
    if !has_identity {
        args.extend(["-c", "user.name=Larder", "-c", "user.email=larder@localhost"]);
    }
    args.extend(["commit", "-q", "-m", message]);
    git(dir, &args)
}

/// Runs git in `dir`; what it says on failure is in the error.
pub(crate) fn git(dir: &Path, args: &[&str]) -> Result<(), Trouble> {
    let result = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Trouble::new(codes::GIT_MISSING, format!("cannot start git: {error}")).with_hint("install the package git")
        })?;
    if result.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&result.stderr);
    Err(Trouble::new(codes::GIT_FAILED, format!("git {}: {}", args.join(" "), said.trim())))
}
