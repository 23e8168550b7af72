//! The configuration and what it names: copied with their rights, checked by promtool.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::promtool::Promtool;
use super::{FILE_FORMAT, FILES, RIGHTS, RIGHTS_FORMAT, mirrored};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{CaptureFacts, Request, Verdict};

/// Largest file of rules or targets, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Whose a file was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rights {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Copies the files into the staging directory.
pub(super) fn keep(request: &Request, files: &[PathBuf], events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let mut rights = Vec::new();
    let mut rules = 0;
    for path in files {
        let unreadable = |error: std::io::Error| {
            Failure::new(codes::PATH_UNREADABLE, format!("{} cannot be read: {error}", path.display()))
                .hint("give the daemon's user read permission")
        };
        // Neither an artifact nor a line of the rights has a form for other names.
        if path.to_str().is_none() {
            return Err(Failure::new(codes::PATH_NOT_UTF8, format!("the name of {} is not UTF-8", path.display()))
                .hint("rename it, and correct what the configuration names"));
        }
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.len() > FILE_BYTES_MAX {
            return Err(Failure::new(codes::TOO_LARGE, format!("{} has more than 64 MiB", path.display()))
                .hint("that is no rule file; correct what the configuration names"));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        if bytes.is_empty() {
            events.log(format!("{} is empty and not kept", path.display()));
            continue;
        }
        let copy = mirrored(&request.staging, path);
        write(&copy, &bytes)?;
        let relative = copy.strip_prefix(&request.staging).unwrap_or(&copy).to_string_lossy().into_owned();
        events.artifact(&relative, FILE_FORMAT, digest::sha256(&copy, |_| {})?);
        let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
        rights.push(Rights { path: path.clone(), mode, uid, gid });
        rules += u64::from(is_rules(&copy));
    }
    let text = serde_json::to_string_pretty(&rights)
        .map_err(|error| Failure::new(codes::INTERNAL, format!("the rights have no form: {error}")))?;
    write(&request.staging.join(RIGHTS), text.as_bytes())?;
    events.artifact(RIGHTS, RIGHTS_FORMAT, digest::sha256(&request.staging.join(RIGHTS), |_| {})?);
    events.figure("files", rights.len() as u64);
    events.figure("rule_files", rules);
    Ok(())
}

/// Checks the copies.
pub(super) fn judge(
    request: &Request,
    facts: &CaptureFacts,
    config: &Path,
    promtool: Option<&Promtool>,
    events: &mut EventWriter<'_>,
) {
    let copy = mirrored(&request.staging, config);
    let kept: Vec<PathBuf> = kept(facts).map(|path| request.staging.join(path)).collect();
    let (verdict, detail) = if kept.contains(&copy) && copy.is_file() {
        (Verdict::Proven, format!("{} files with it", kept.len().saturating_sub(1)))
    } else {
        (Verdict::Failed, "it is not in the backup".to_owned())
    };
    events.validation("the configuration is in the backup", verdict, detail);
    let masked = std::fs::read_to_string(&copy).is_ok_and(|text| {
        text.lines().filter(|line| !line.trim_start().starts_with('#')).any(|line| line.contains("<secret>"))
    });
    if masked {
        let detail = "it has `<secret>` in it: `config_file` names what the API told, not the file itself";
        events.validation("the configuration has its secrets", Verdict::Failed, detail);
    }
    let Some(promtool) = promtool else {
        let detail = "promtool is not on this host: install it, or name it as `promtool`";
        events.validation("promtool finds the configuration and rules good", Verdict::CouldNotVerify, detail);
        return;
    };
    let (verdict, detail) = promtool.judge(&["check", "config", "--syntax-only"], &copy);
    events.validation("promtool check config", verdict, detail);
    let (mut good, mut worst) = (0, None);
    for path in kept.iter().filter(|path| is_rules(path)) {
        match promtool.judge(&["check", "rules"], path) {
            (Verdict::Proven, _) => good += 1,
            (verdict, detail) => {
                worst.get_or_insert((verdict, format!("{}: {detail}", path.display())));
            }
        }
    }
    match worst {
        Some((verdict, detail)) => events.validation("promtool check rules", verdict, detail),
        None if good > 0 => events.validation("promtool check rules", Verdict::Proven, format!("{good} files")),
        // Nothing was looked at, so nothing is said; that the server has none either was asked at the capture.
        None => {}
    }
}

/// The files of the configuration among the artifacts, relative to the staging directory.
pub(super) fn kept(facts: &CaptureFacts) -> impl Iterator<Item = &Path> {
    let below = |path: &&Path| path.starts_with(FILES);
    facts.artifacts.iter().map(|artifact| artifact.path.as_path()).filter(below)
}

/// Whether a file holds groups of rules.
fn is_rules(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    serde_yaml::from_str::<serde_yaml::Value>(&text).is_ok_and(|top| top.get("groups").is_some())
}

/// A new file with these bytes, flushed.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    let written = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut file = std::fs::File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(|error| unwritable(path, &error))
}

pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::unwritten(codes::UNWRITABLE, error, format!("{} cannot be written: {error}", path.display()))
        .hint("make room there, and give the daemon's user write permission")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::protocol::Action;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn a_name_that_is_not_utf8_is_refused_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(std::ffi::OsStr::from_bytes(b"rules-\xff.yml"));
        std::fs::write(&path, "groups: []").unwrap();
        let request = Request { staging: directory.path().join("staging"), ..Request::new(Action::Capture) };
        let mut out = Vec::new();
        let failure = keep(&request, &[path], &mut EventWriter { out: &mut out }).unwrap_err();
        assert!(failure.trouble.is(codes::PATH_NOT_UTF8) && failure.trouble.message.contains("rules-"), "{failure:?}");
    }
}
