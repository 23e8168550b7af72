//! Runs the program and keeps what it wrote.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::settings::CommandSettings;
use super::{allowed, ended, ready};
use crate::error::codes;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::inside;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Ends, Tools};
use crate::plugin::protocol::Request;
use crate::types::pattern::Pattern;

/// Files that one run may leave.
const FILES_MAX: usize = 1_000;

/// Directories in its working directory that are looked into.
const DEPTH_MAX: usize = 16;
const FORMAT: &str = "command";

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: CommandSettings = builtin::settings(request)?;
    let refuse = |what: String, hint: &str| Err(Failure::new(codes::SETTINGS, what).hint(hint));
    if settings.stdout.is_some() != settings.files.is_empty() {
        return refuse(
            "what to keep is not named in one way".to_owned(),
            "give exactly one of `stdout: NAME` and `files: [..]`",
        );
    }
    if let Some(name) = settings.stdout.as_deref().filter(|name| !allowed::is_file_name(name)) {
        return refuse(
            format!("`stdout: {name}` is no file name"),
            "letters, digits, `_`, `.` and `-`, not first a dot",
        );
    }
    let (program, tools) = ready(&settings, &settings.command, &request.staging)?;
    let kept = run(&settings, &tools, &program, &request.staging, events)?;
    let mut bytes = 0;
    for relative in &kept {
        let path = request.staging.join(relative);
        let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let shown = relative.display();
        if length == 0 {
            return Err(Failure::new(
                codes::OUTPUT_EMPTY,
                format!("{} ended well but {shown} is empty", settings.command),
            )
            .hint("run it by hand as the daemon's user; what it wrote to standard error is in the run's log"));
        }
        let what = format!("{} ended well but {shown}", settings.command);
        inside::refuse_nothing(codes::OUTPUT_EMPTY, &what, &path, &request.staging, events)?;
        bytes += length;
        events.artifact(&relative.to_string_lossy(), FORMAT, digest::sha256(&path, |_| {})?);
    }
    events.figure("files", kept.len() as u64);
    events.figure("bytes", bytes);
    Ok(())
}

/// Runs the program to its end; answers what is kept, relative to its working directory.
pub(super) fn run(
    settings: &CommandSettings,
    tools: &Tools,
    program: &Path,
    staging: &Path,
    events: &mut EventWriter<'_>,
) -> Result<Vec<PathBuf>, Failure> {
    let output = settings.stdout.as_ref().map(|name| staging.join(name));
    let stdout = output.as_ref().map(File::create_new).transpose().map_err(|error| {
        let told = format!("standard output cannot be written to a file: {error}");
        Failure::unwritten(codes::OUTPUT_UNWRITABLE, &error, told)
    })?;
    let args = settings.args.iter().map(Into::into).collect();
    let mut told = u64::MAX;
    let ran = tools.pipe(program, args, &[], DEADLINE_OF_WORK, Ends { stdin: None, stdout }, || {
        let written = output.as_ref().map_or(0, |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
        // Only what grew is progress: one that hangs is noticed.
        if written != told {
            told = written;
            events.progress(written, 0);
        }
    });
    for line in ran.stderr.lines().filter(|line| !line.trim().is_empty()) {
        events.log(line);
    }
    if let Some(failure) = ended(&settings.command, &ran) {
        let failure = failure.hint("the run's log has the end of what it wrote to standard error");
        // Looked at before room is made.
        let failure = of_a_full_disk(failure, staging);
        if let Some(path) = &output {
            let _ = std::fs::remove_file(path);
        }
        return Err(failure);
    }
    match &settings.stdout {
        Some(name) => Ok(vec![name.into()]),
        None => matching(settings, staging),
    }
}

/// Why a program failed is known only to itself; where no room is left, that is why.
fn of_a_full_disk(failure: Failure, staging: &Path) -> Failure {
    let room = nix::sys::statvfs::statvfs(staging).map(|found| found.blocks_available());
    if room != Ok(0) {
        return failure;
    }
    let told = format!("{}: no room is left in {}", failure.trouble.message, staging.display());
    Failure::new(codes::DISK_FULL, told).hint("make room where the artifacts lie")
}

/// The regular files that a pattern matches, in order.
fn matching(settings: &CommandSettings, staging: &Path) -> Result<Vec<PathBuf>, Failure> {
    let patterns: Vec<Pattern> = settings
        .files
        .iter()
        .filter_map(|text| Pattern::parse(&format!("/{}", text.trim_start_matches('/'))).ok())
        .collect();
    let mut found = Vec::new();
    let mut directories = vec![(PathBuf::new(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        for entry in std::fs::read_dir(staging.join(&directory)).into_iter().flatten().flatten() {
            let relative = directory.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH_MAX => directories.push((relative, depth + 1)),
                // A link could lead anywhere: only what is really there is kept.
                Ok(kind) if kind.is_file() && patterns.iter().any(|pattern| pattern.matches(&relative)) => {
                    found.push(relative);
                }
                _ => {}
            }
        }
    }
    found.sort();
    match found.len() {
        0 => {
            Err(Failure::new(codes::NOTHING_WRITTEN, format!("{} left no file that `files` matches", settings.command))
                .hint("it must write into its working directory; patterns are relative to that"))
        }
        count if count > FILES_MAX => {
            Err(Failure::new(codes::TOO_MANY_FILES, format!("{} left {count} files", settings.command))
                .hint(format!("at most {FILES_MAX} are kept; have it pack them into one")))
        }
        _ => Ok(found),
    }
}
