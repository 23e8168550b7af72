//! The other side: rsync over ssh with exactly one key and one known host.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use tempfile::TempDir;

use super::changes::{Changes, Name, escaped, pattern};
use super::ends::{Onto, Outcome, heard, judge};
use super::settings::{RsyncSettings, below};
use super::stats::Stats;
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::memory_file::MemoryFile;
use crate::plugin::kit::tidy::tidy;
use crate::plugin::kit::tool::{DEADLINE_OF_QUESTION, DEADLINE_OF_WORK, Tools};
use crate::process;

/// How the directory begins where a restore keeps what gave way.
pub(super) const ASIDE: &str = ".larder-before-";
/// How the directory begins where what stood in the way of an undo is kept.
pub(super) const UNDONE: &str = ".larder-undone-";
/// Where files lie, in the directory that they go to, until all of them are there.
pub(super) const PARTIAL: &str = ".larder-partial";
/// How a line begins that tells of a change.
const LISTED: &str = "=larder= ";
/// How long both sides may say nothing while they read their files whole, in seconds; ssh tells a dead device sooner.
const READING_SECONDS_MAX: u32 = 6 * 60 * 60;
/// Names that one command line gets.
const ENTRIES_MAX: usize = 500;

/// What rules are made of, below the directory that they get.
const SKELETON: &str = "skeleton";
const RULES: &str = "rules";

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apply {
    Yes,
    No,
}

pub(super) struct Remote<'s> {
    settings: &'s RsyncSettings,
    /// Where directories for one call are made.
    staging: &'s Path,
    tools: Tools,
    program: PathBuf,
    /// The key is there as long as this.
    _key: MemoryFile,
    shell: String,
}

impl<'s> Remote<'s> {
    pub(super) fn open(settings: &'s RsyncSettings, staging: &'s Path) -> Result<Self, Failure> {
        let program = |name: &str| {
            process::find_program(Path::new(name)).map_err(|error| {
                Failure::new(codes::PROGRAM_MISSING, format!("{name} cannot be used: {error}"))
                    .hint(format!("install it: `apt install {}`", if name == "ssh" { "openssh-client" } else { name }))
            })
        };
        let (rsync, ssh) = (program("rsync")?, program("ssh")?);
        if !settings.known_hosts.is_file() {
            return Err(Failure::new(
                codes::KNOWN_HOSTS_MISSING,
                format!("{} is not there", settings.known_hosts.display()),
            )
            .hint(format!(
                "`ssh-keyscan -p {} {} > FILE`, then compare it with the device's own key",
                settings.port, settings.host
            )));
        }
        // It has to end with a line's end.
        let text = SecretString::from(format!("{}\n", settings.key.0.expose_secret().trim_end()));
        let key = MemoryFile::new(text.expose_secret().as_bytes())
            .map_err(|error| Failure::new(codes::UNWRITABLE, format!("the key cannot be given to ssh: {error}")))?;
        let option = |name: &str, path: &Path| format!("-o {name}={}", quoted(&path.display().to_string()));
        let shell = [
            quoted(&ssh.display().to_string()),
            format!("-p {}", settings.port),
            "-F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes".to_owned(),
            "-o GlobalKnownHostsFile=/dev/null -o PasswordAuthentication=no -o UpdateHostKeys=no".to_owned(),
            "-o ControlMaster=no -o ControlPath=none -o ForwardAgent=no -o LogLevel=ERROR".to_owned(),
            format!(
                "-o ConnectTimeout={0} -o ServerAliveInterval={0} -o ServerAliveCountMax=2",
                settings.silence.0.as_secs().max(1)
            ),
            option("UserKnownHostsFile", &settings.known_hosts),
            option("IdentityFile", key.path()),
        ]
        .join(" ");
        let tools = Tools::new(Vec::new(), vec![settings.key.0.clone()], staging)?;
        Ok(Self { settings, staging, tools, program: rsync, _key: key, shell })
    }

    /// Of rsync on this side.
    pub(super) fn version(&self) -> Option<String> {
        let mut first = None;
        let on_line = |line: &str| {
            first.get_or_insert_with(|| line.to_owned());
        };
        self.tools.run(&self.program, vec!["--version".into()], &[], DEADLINE_OF_QUESTION, on_line, || {});
        first?.split_whitespace().nth(2).map(|version| tidy(version, 40))
    }

    /// Brings the paths into `tree`; what is not on the device any more is deleted there, and nowhere else.
    pub(super) fn fetch(
        &self,
        tree: &Path,
        apply: Apply,
        events: &mut EventWriter<'_>,
    ) -> Result<(Stats, Outcome), Failure> {
        let mut args = self.common(apply);
        args.push("--delete".into());
        args.push("--delete-excluded".into());
        // Each path is kept at its whole name below the tree.
        args.push("--relative".into());
        args.extend(self.settings.exclude.iter().map(|pattern| format!("--exclude={pattern}").into()));
        args.extend(not_kept());
        args.push("--".into());
        for path in &self.settings.paths {
            args.push(format!("{}:{}", self.login(), path.trim_end_matches('/')).into());
        }
        args.push(within(tree));
        self.run(args, events)
    }

    /// What a transfer of `from`, but for the names in `left`, to its path on the device would change, and what lies there
    /// that `from` has not.
    pub(super) fn look(
        &self,
        from: &Path,
        path: &str,
        left: &[Name],
        events: &mut EventWriter<'_>,
    ) -> Result<(Changes, Outcome), Failure> {
        let mut args = self.common(Apply::No);
        args.push("--mkpath".into());
        args.extend(by_content());
        if from.is_dir() {
            args.push("--delete".into());
            args.extend(self.excluded(left));
        }
        self.add_ends(&mut args, from, path);
        self.listed(args, events)
    }

    /// Sends what lies at `from` back to its path on the device, but for what [`Self::look`] does not see either. All of
    /// it is there under other names before the first old file gives way; what gives way is kept in `aside`, a directory
    /// there. Deletes nothing.
    pub(super) fn send(
        &self,
        from: &Path,
        path: &str,
        left: &[Name],
        aside: Option<&str>,
        events: &mut EventWriter<'_>,
    ) -> Result<Outcome, Failure> {
        let mut args = self.common(Apply::Yes);
        args.extend(["--mkpath", "--delay-updates"].map(OsString::from));
        args.extend(by_content());
        args.extend(kept_in(aside));
        if from.is_dir() {
            args.extend(self.excluded(left));
        }
        self.add_ends(&mut args, from, path);
        self.run(args, events).map(|(_, outcome)| outcome)
    }

    /// Sends what is in `from` to the directory `path` of the device, whose own attributes stay as they are.
    ///
    /// What lies there in `aside` and is the same takes its place itself, so other names that it has stay its names.
    pub(super) fn send_entries(
        &self,
        from: &Path,
        path: &str,
        aside: Option<&str>,
        events: &mut EventWriter<'_>,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::Whole;
        for some in entries_in(from)?.chunks(ENTRIES_MAX) {
            let mut args = self.common(Apply::Yes);
            args.extend(by_content());
            args.extend(with_owners());
            args.extend(aside.map(|aside| format!("--link-dest={aside}").into()));
            args.push("--".into());
            args.extend(some.iter().cloned());
            args.push(self.directory(path));
            let (_, sent) = self.run(args, events)?;
            outcome = outcome.worse(sent);
        }
        Ok(outcome)
    }

    /// Which files in the directory `path` of the device are newer than the other ones that `from` has for them.
    pub(super) fn newer_there(
        &self,
        from: &Path,
        path: &str,
        events: &mut EventWriter<'_>,
    ) -> Result<Vec<Name>, Failure> {
        let mut others = |more: Option<&str>| {
            let mut args = self.common(Apply::No);
            args.extend(with_owners());
            args.push("--existing".into());
            args.extend(more.map(OsString::from));
            args.extend(["--".into(), within(from), self.directory(path)]);
            self.listed(args, events).map(|(changes, _)| changes.replaced)
        };
        let older: BTreeSet<Name> = others(Some("--update"))?.into_iter().collect();
        Ok(others(None)?.into_iter().filter(|name| !older.contains(name)).collect())
    }

    /// Brings a directory of the device to `into`; none: it has no such directory.
    pub(super) fn bring(
        &self,
        path: &str,
        into: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<Option<Outcome>, Failure> {
        let mut args = self.common(Apply::Yes);
        args.extend(with_owners());
        args.extend(["--".into(), self.directory(path), within(into)]);
        self.brought(args, events)
    }

    /// What a directory of the device has by now that [`Self::bring`] did not bring.
    pub(super) fn not_brought(
        &self,
        path: &str,
        into: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<(Vec<Name>, Outcome), Failure> {
        let mut args = self.common(Apply::No);
        args.extend(with_owners());
        args.extend(["--".into(), self.directory(path), within(into)]);
        self.listed(args, events).map(|(changes, outcome)| (changes.created, outcome))
    }

    /// Takes exactly `names` away from the directory `path` of the device (files, or directories with all that is in
    /// them), into `aside` where that is given. Everything else stays, with its attributes. Tells what went.
    pub(super) fn take_away(
        &self,
        path: &str,
        names: &[Name],
        aside: Option<&str>,
        events: &mut EventWriter<'_>,
    ) -> Result<(Vec<Name>, Outcome), Failure> {
        let rules = self.rules(names)?;
        let mut args = self.base(Apply::Yes);
        args.extend(["-r", "--delete", "--existing", "--ignore-existing", "--from0"].map(OsString::from));
        args.push(format!("--filter=merge {}", rules.path().join(RULES).display()).into());
        args.extend(kept_in(aside));
        args.extend(["--".into(), within(&rules.path().join(SKELETON)), self.directory(path)]);
        self.listed(args, events).map(|(changes, outcome)| (changes.extra, outcome))
    }

    /// Why nothing is decided: what is not seen is neither new nor missing. None: all was seen.
    pub(super) fn unread(&self, path: &str, outcome: &Outcome) -> Option<Failure> {
        let said = outcome.lacks()?;
        let next = match outcome {
            Outcome::Vanished => "restore again: the copy here changed while it was read",
            _ => "give the login the right to read there, or leave that out by `exclude`",
        };
        let told = format!("not all of {path} on {} can be compared with the backup: {said}", self.settings.host);
        Some(Failure::new(codes::NOT_COMPARED, told).hint(format!("nothing was changed; {next}")))
    }

    /// A directory of this host for one call alone, gone with the call. What is in it would count as being on the device, so
    /// none of a call that was killed is taken again.
    pub(super) fn scratch(&self) -> Result<TempDir, Failure> {
        tempfile::Builder::new().prefix(".larder-scratch-").tempdir_in(self.staging).map_err(|error| {
            Failure::new(codes::UNWRITABLE, format!("{} cannot be written: {error}", self.staging.display()))
        })
    }

    /// Rules by which rsync deletes what has one of `names` and nothing else. It looks only into directories that it is
    /// sent, so those are made beside the rules.
    fn rules(&self, names: &[Name]) -> Result<TempDir, Failure> {
        let scratch = self.scratch()?;
        let broken =
            |error: std::io::Error| Failure::new(codes::UNWRITABLE, format!("{}: {error}", scratch.path().display()));
        let skeleton = scratch.path().join(SKELETON);
        let mut rules = Vec::new();
        std::fs::create_dir(&skeleton).map_err(broken)?;
        for name in names {
            let parent = name.as_path().parent().unwrap_or(Path::new(""));
            std::fs::create_dir_all(skeleton.join(parent)).map_err(broken)?;
            let name = name.plain();
            rules.extend([b"R /", pattern(name).as_slice(), b"\0R /", &escaped(name), b"/**\0"].concat());
        }
        rules.extend(b"P *\0");
        std::fs::write(scratch.path().join(RULES), rules).map_err(broken)?;
        Ok(scratch)
    }

    /// Runs with a line for each change.
    pub(super) fn listed(
        &self,
        mut args: Vec<OsString>,
        events: &mut EventWriter<'_>,
    ) -> Result<(Changes, Outcome), Failure> {
        args.insert(0, format!("--out-format={LISTED}%i %n").into());
        let mut changes = Changes::default();
        let (stats, outcome) = self.hear(args, |change| changes.hear(change), events)?;
        Ok((Changes { stats, ..changes }, outcome))
    }

    pub(super) fn run(&self, args: Vec<OsString>, events: &mut EventWriter<'_>) -> Result<(Stats, Outcome), Failure> {
        self.hear(args, |_| {}, events)
    }

    fn hear(
        &self,
        args: Vec<OsString>,
        mut on_change: impl FnMut(&str) + Send,
        events: &mut EventWriter<'_>,
    ) -> Result<(Stats, Outcome), Failure> {
        let mut stats = Stats::default();
        let onto = self.onto(&args);
        let on_line = |line: &str| match line.strip_prefix(LISTED) {
            Some(change) => on_change(change),
            None => stats.read(line),
        };
        let ran = self
            .tools
            .run(&self.program, args, &[("LC_ALL", "C")], DEADLINE_OF_WORK, on_line, || events.progress(0, 0));
        let outcome = heard(judge(self.settings, onto, &ran)?, &stats)?;
        Ok((stats, outcome))
    }

    /// By where it ends.
    fn onto(&self, args: &[OsString]) -> Onto {
        let to = args.last().map_or(Path::new(""), Path::new);
        let login = format!("{}:", self.login());
        match to {
            to if to.as_os_str().as_bytes().starts_with(login.as_bytes()) => Onto::Device,
            to if to.starts_with(&self.settings.copy) => Onto::Copy,
            _ => Onto::Here,
        }
    }

    /// What the settings leave out, and exactly the names in `left`.
    pub(super) fn excluded(&self, left: &[Name]) -> impl Iterator<Item = OsString> {
        let left =
            left.iter().map(|name| OsString::from_vec([b"--exclude=/", pattern(name.plain()).as_slice()].concat()));
        let free = self.free().map(|pattern| format!("--exclude={pattern}").into());
        left.chain(free).chain(not_kept())
    }

    /// Whether the settings may leave out anything of a directory.
    pub(super) fn excludes(&self) -> bool {
        self.free().next().is_some()
    }

    /// Patterns that are bound to the root mean that of the device.
    fn free(&self) -> impl Iterator<Item = &String> {
        self.settings.exclude.iter().filter(|pattern| !pattern.starts_with('/'))
    }

    fn add_ends(&self, args: &mut Vec<OsString>, from: &Path, path: &str) {
        args.push("--".into());
        if from.is_dir() {
            args.extend([within(from), self.directory(path)]);
        } else {
            args.extend([from.into(), format!("{}:{}", self.login(), path.trim_end_matches('/')).into()]);
        }
    }

    pub(super) fn directory(&self, path: &str) -> OsString {
        format!("{}:{}/", self.login(), path.trim_end_matches('/')).into()
    }

    fn login(&self) -> String {
        // An IPv6 address has colons of its own.
        let host = &self.settings.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{}@{host}", self.settings.user)
    }

    pub(super) fn common(&self, apply: Apply) -> Vec<OsString> {
        let mut args = self.base(apply);
        // What has holes keeps them.
        args.extend(["-aHAX", "--numeric-ids", "--sparse"].map(OsString::from));
        args.push(format!("--partial-dir={PARTIAL}").into());
        args
    }

    /// What every call has.
    pub(super) fn base(&self, apply: Apply) -> Vec<OsString> {
        let settings = self.settings;
        let mut args: Vec<OsString> = vec![
            "--stats".into(),
            "--no-human-readable".into(),
            format!("--timeout={}", settings.silence.0.as_secs().max(1)).into(),
            "-e".into(),
            self.shell.clone().into(),
        ];
        if settings.bandwidth_kib > 0 {
            args.push(format!("--bwlimit={}", settings.bandwidth_kib).into());
        }
        if apply == Apply::No {
            args.push("--dry-run".into());
        }
        args
    }

    /// Where each path lies in a tree.
    pub(super) fn places<'t>(&'t self, tree: &'t Path) -> impl Iterator<Item = (&'t str, PathBuf)> {
        self.settings.paths.iter().map(move |path| (path.as_str(), below(tree, path)))
    }
}

/// A file is the same when its content is: one of the same size and time may have another.
pub(super) fn by_content() -> [OsString; 2] {
    ["--checksum".into(), format!("--timeout={READING_SECONDS_MAX}").into()]
}

/// Who may not give files to others here keeps owners beside them.
pub(super) fn with_owners() -> Option<OsString> {
    (!nix::unistd::geteuid().is_root()).then(|| "--fake-super".into())
}

/// What is in a directory of this host. One that cannot be read is not empty: what was brought may be the only copy.
fn entries_in(directory: &Path) -> Result<Vec<OsString>, Failure> {
    let paths = |entries: std::fs::ReadDir| entries.map(|entry| Ok(entry?.path().into())).collect();
    let read: std::io::Result<Vec<OsString>> = std::fs::read_dir(directory).and_then(paths);
    let mut entries = read.map_err(|error| {
        Failure::new(codes::UNREADABLE, format!("{} cannot be read: {error}", directory.display())).later()
    })?;
    entries.sort();
    Ok(entries)
}

/// The options by which exactly `names` are meant, of those that are there; written to `list`.
pub(super) fn exactly(names: &[Name], list: &Path) -> Result<[OsString; 3], Failure> {
    // What begins like a comment is a name as well. A directory with its slash would mean all that is in it.
    let text: Vec<u8> = names.iter().flat_map(|name| [b"./", name.plain(), b"\0"].concat()).collect();
    std::fs::write(list, text)
        .map_err(|error| Failure::new(codes::UNWRITABLE, format!("{}: {error}", list.display())))?;
    let mut from = OsString::from("--files-from=");
    from.push(list);
    Ok(["--from0".into(), "--ignore-missing-args".into(), from])
}

/// A directory of this host whose content is meant.
pub(super) fn within(directory: &Path) -> OsString {
    let mut path = directory.as_os_str().to_owned();
    path.push(OsStr::from_bytes(b"/"));
    path
}

/// What a restore kept on the device is no part of what lives there.
pub(super) fn not_kept() -> impl Iterator<Item = OsString> {
    [ASIDE, UNDONE].into_iter().map(|begin| format!("--exclude={begin}*").into())
}

/// The options that keep what gives way.
fn kept_in(aside: Option<&str>) -> impl Iterator<Item = OsString> {
    aside.into_iter().flat_map(|aside| ["--backup".into(), format!("--backup-dir={aside}").into()])
}

/// rsync splits the shell's command at blanks, and knows quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_read_is_no_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("b"), "").unwrap();
        std::fs::write(directory.path().join("a"), "").unwrap();
        assert_eq!(entries_in(directory.path()).unwrap(), [directory.path().join("a"), directory.path().join("b")]);
        assert_eq!(entries_in(&directory.path().join("gone")).unwrap_err().trouble.code, "unreadable");
    }
}
