//! Paths of this machine, shipped from where they lie: how they are captured, counted and judged.
//!
//! Its one promise beyond naming paths: what is missing, empty or not mounted is an error, never an empty backup.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Trouble, codes};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::settings::PatternText;
use crate::plugin::kit::{apart, digest, live};
use crate::plugin::protocol::{Request, SOURCE_BYTES, SOURCE_FILES, Source, Verdict};
use crate::types::pattern::{self, Pattern};

mod mounts;
pub(in crate::plugin) mod survey;

use mounts::{Mounts, Unmounted};
use survey::Survey;

/// What to keep.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::plugin) struct FilesSettings {
    /// Absolute paths of directories or files.
    #[schemars(length(min = 1), inner(regex(pattern = "^/")))]
    paths: Vec<PathBuf>,
    /// What to leave out, as restic's `--exclude` reads it: `*.tmp` anywhere, `/srv/photos/cache` there only, `!keep`
    /// brings back. Blanks belong to a pattern.
    #[serde(default)]
    exclude: Vec<PatternText>,
    /// Leave out what is mounted below `paths`, but for the empty mount points.
    #[serde(default)]
    one_file_system: bool,
    /// This path must be a mount point, else nothing is read.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    require_mount: Option<PathBuf>,
    /// Databases that may be read while they are in use, or directories of such ones: they are said and not judged.
    #[serde(default)]
    #[schemars(inner(regex(pattern = "^/")))]
    accept: Vec<PathBuf>,
    /// Whether a path may be there without holding a single file.
    #[serde(default)]
    allow_empty: bool,
}

pub(in crate::plugin) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: FilesSettings = builtin::settings(request)?;
    if settings.paths.is_empty() {
        return Err(Failure::new(codes::SETTINGS, "`paths` is empty").hint("name at least one absolute path"));
    }
    let mounts = Mounts::read()?;
    require_mount(&settings, &mounts)?;
    let (exclude, others) = excludes(&settings)?;
    if !others.is_empty() {
        let message = format!("left out, for `one_file_system` is set: what is mounted at {}", others.join(", "));
        events.notice(Trouble::new(codes::MOUNTS_LEFT_OUT, message));
    }
    let mut survey = Survey::new(&exclude, &request.own);
    for path in &settings.paths {
        for remark in look(path, &settings, &mounts, &mut survey)? {
            events.warning(remark);
        }
        events.source(Source { path: path.clone(), exclude: exclude.clone() });
        events.progress(survey.bytes, 0);
    }
    if let Some(told) = survey.uncounted() {
        events.log(told);
    }
    if !survey.complete() {
        events.log(format!("counting stopped after {} files; the figures are lower bounds", survey.files));
    }
    let looked = live::tree::look(&settings.paths, &|path| survey.excludes(path));
    live::told::copy(&looked, &request.staging, &settings.accept, events)?;
    events.figure(SOURCE_FILES, survey.files);
    events.figure(SOURCE_BYTES, survey.bytes);
    Ok(())
}

/// Files and bytes below a source, as restic would keep them, without what is Larder's `own`; none when that could not be
/// counted to its end.
pub(crate) fn count(source: &Source, own: &[PathBuf]) -> Option<(u64, u64)> {
    let mut survey = Survey::new(&source.exclude, own);
    let metadata = std::fs::symlink_metadata(&source.path).ok()?;
    if metadata.is_dir() {
        survey.walk(&source.path).ok()?;
    } else if !survey.excludes(&source.path) {
        survey.count_file(metadata.len());
    }
    survey.complete().then_some((survey.files, survey.bytes))
}

/// Whether the source's own patterns leave `path` out.
pub(crate) fn is_excluded(source: &Source, path: &Path) -> bool {
    let patterns: Vec<Pattern> = source.exclude.iter().filter_map(|text| Pattern::parse(text).ok()).collect();
    pattern::excludes(&patterns, path)
}

/// The content is proven by the engine that reads it; here it is proven that there still is what was counted.
pub(in crate::plugin) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<FilesSettings> { settings, facts } = ValidateJob::of(request)?;
    let mounts = Mounts::read()?;
    let mount_lost = require_mount(&settings, &mounts).err();
    let mut survey = Survey::new(&excludes(&settings)?.0, &request.own);
    for source in &facts.sources {
        let name = format!("{} is there", source.path.display());
        let before = survey.files;
        let looked = match &mount_lost {
            Some(lost) => Err(lost.clone()),
            None => look(&source.path, &settings, &mounts, &mut survey),
        };
        match looked {
            Ok(_) => events.validation(name, Verdict::Proven, format!("{} files", survey.files - before)),
            Err(failure) => events.validation(name, Verdict::Failed, failure.trouble.message),
        }
    }
    for artifact in &facts.artifacts {
        digest::check(artifact, &request.staging.join(&artifact.path), events)?;
    }
    let looked = live::tree::look(&settings.paths, &|path| survey.excludes(path));
    live::told::judge(&looked, &request.staging, &settings.accept, events);
    let counted = facts.figures.get(SOURCE_FILES).copied().unwrap_or(0);
    let name = "the files that were counted are still there";
    let detail = format!("{counted} files at the capture, {} now", survey.files);
    let verdict = match (survey.files, survey.complete()) {
        (now, _) if now >= counted.div_ceil(2) => Verdict::Proven,
        (_, false) => Verdict::CouldNotVerify,
        _ => Verdict::Failed,
    };
    events.validation(name, verdict, detail);
    Ok(())
}

/// The patterns, and with `one_file_system` the mount points below the paths.
fn excludes(settings: &FilesSettings) -> Result<(Vec<String>, Vec<String>), Failure> {
    let mut exclude: Vec<String> = settings.exclude.iter().map(|text| text.0.clone()).collect();
    for text in &exclude {
        Pattern::parse(text).map_err(|error| {
            Failure::new(codes::BAD_PATTERN, format!("the exclude pattern {text:?} cannot be used: {error}"))
                .hint("correct it; `\\` before a character takes its meaning away")
        })?;
    }
    let mut others = Vec::new();
    if settings.one_file_system {
        let mounts = apart::Mounts::read();
        for path in &settings.paths {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            for (point, _) in mounts.below(&real) {
                let Ok(rest) = point.strip_prefix(&real) else { continue };
                exclude.push(format!("{}/*", pattern::literal(&path.join(rest))));
                others.push(path.join(rest).display().to_string());
            }
        }
    }
    Ok((exclude, others))
}

fn require_mount(settings: &FilesSettings, mounts: &Mounts) -> Result<(), Failure> {
    match &settings.require_mount {
        Some(point) if !mounts.is_mounted(point) => Err(Failure::new(
            codes::NOT_MOUNTED,
            format!("{} is no mount point at the moment, and `require_mount` names it", point.display()),
        )
        .hint(format!("mount it (`mount {}`), or correct `require_mount`", point.display()))
        .later()),
        _ => Ok(()),
    }
}

/// Looks at one path before it is named as a source; remarks are what a person should see.
fn look(path: &Path, settings: &FilesSettings, mounts: &Mounts, survey: &mut Survey) -> Result<Vec<Trouble>, Failure> {
    let shown = path.display();
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(Failure::new(codes::SETTINGS, format!("the path {shown} is not absolute, or has `..` in it"))
            .hint("write the whole path, beginning with `/`"));
    }
    let remarks = unmounted(path, mounts)?;
    let metadata = std::fs::symlink_metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(codes::PATH_MISSING, format!("{shown} is not there"))
            .hint("correct `paths`, or mount what it lies on"),
        _ => Failure::new(codes::PATH_UNREADABLE, format!("{shown} cannot be read: {error}"))
            .hint("give the daemon's user read permission"),
    })?;
    if metadata.is_symlink() {
        let target = std::fs::read_link(path).unwrap_or_default();
        return Err(Failure::new(
            codes::PATH_IS_LINK,
            format!("{shown} is a symbolic link (to {}): only the link would be kept", target.display()),
        )
        .hint("name the directory that it leads to"));
    }
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(Failure::new(codes::PATH_KIND, format!("{shown} is neither a directory nor a regular file")));
    }
    // A directory on the way may be a link into a file system that is not there.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    unmounted(&real, mounts)?;
    if let Some(kind) = apart::Mounts::read().no_data_at(&real).filter(|kind| *kind != "tmpfs") {
        return Err(Failure::new(codes::PATH_NO_DATA, format!("{shown} is a file system without data ({kind})"))
            .hint("name the directories that hold your data"));
    }
    let before = survey.files;
    if metadata.is_file() && !survey.excludes(path) {
        survey.count_file(metadata.len());
    } else if metadata.is_dir() {
        survey.walk(path).map_err(|error| {
            Failure::new(codes::PATH_UNREADABLE, format!("{shown} cannot be listed: {error}"))
                .hint("give the daemon's user read permission")
        })?;
    }
    if survey.files == before && !settings.allow_empty && !survey.holds_a_file(path) {
        return Err(Failure::new(codes::PATH_EMPTY, format!("{shown} holds no file at all (after `exclude`)"))
            .hint("mount what should be there, or say `allow_empty: true` if that is right"));
    }
    Ok(remarks)
}

fn unmounted(path: &Path, mounts: &Mounts) -> Result<Vec<Trouble>, Failure> {
    let mut remarks = Vec::new();
    for Unmounted { point, automatic } in mounts.unmounted_around(path) {
        let below = point.starts_with(path) && point != path;
        let told = format!("/etc/fstab mounts something at {}, which is not mounted now", point.display());
        if below && !automatic {
            remarks.push(Trouble::new(
                codes::NOT_MOUNTED,
                format!("{told} (noauto): {} is kept without it", path.display()),
            ));
        } else {
            return Err(Failure::new(
                codes::NOT_MOUNTED,
                format!("{told}: {} would be kept without it", path.display()),
            )
            .hint(format!("`mount {}`, or take it out of /etc/fstab", point.display()))
            .later());
        }
    }
    Ok(remarks)
}
