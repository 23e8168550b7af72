//! One volume into one tar: through the engine, or where that would lose owners or attributes, by the host's `tar`.
//!
//! Podman 4.3 was seen to hand out every file with the owner that its container runs as. Docker keeps them.

use std::ffi::OsString;
use std::path::Path;

use crate::error::codes;
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::attributes;
use crate::plugin::apps::docker::content::{self, Fate};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Tools};
use crate::process::Exit;
use crate::web::Saved;

const SAME_TRIES: usize = 5;

/// Where a volume or bind is.
pub(super) struct Place<'a> {
    /// A container's id.
    pub(super) container: &'a str,
    pub(super) destination: &'a str,
    /// On the engine's host.
    pub(super) source: &'a Path,
    /// What is left out, relative to the root.
    pub(super) without: &'a [String],
}

/// How the attributes of files were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attributes {
    All,
    /// The engine's archive has capabilities only, and the files cannot be seen here.
    Capabilities,
}

/// Whether the files can be read on this host, at least their list.
pub(super) fn is_here(source: &Path) -> bool {
    source.is_absolute() && std::fs::read_dir(source).is_ok()
}

/// Whether what lies at `source` on this host is what the container has: an engine may be on another host, or see other
/// directories under the same names.
pub(super) fn is_the_same(engine: &Engine, place: &Place<'_>) -> Result<bool, Failure> {
    // Its time may change while the question is on its way.
    for _ in 0..SAME_TRIES {
        let here = || std::fs::metadata(place.source).and_then(|found| found.modified()).ok();
        let Some(before) = here().filter(|_| is_here(place.source)) else { return Ok(false) };
        let Some(told) = engine.stat(place.container, place.destination)? else { return Ok(false) };
        let told = told.mtime.parse::<jiff::Timestamp>().ok().map(std::time::SystemTime::from);
        if told == Some(before) {
            return Ok(true);
        }
        if here() == Some(before) {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Writes the tar; none: the container or what is mounted there is gone.
pub(super) fn save(
    engine: &Engine,
    place: &Place<'_>,
    into: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Option<(Saved, Attributes)>, Failure> {
    if engine.podman && is_here(place.source) {
        // That it is the very volume is known by its container only.
        if engine.inspect(place.container)?.is_none() {
            return Ok(None);
        }
        return by_tar(place, into, on_bytes).map(|saved| Some((saved, Attributes::All)));
    }
    let mut whole = into.as_os_str().to_owned();
    whole.push(".whole");
    let whole = std::path::PathBuf::from(whole);
    let Some(mut saved) = engine.save(place.container, place.destination, &whole, |bytes, _| on_bytes(bytes))? else {
        return Ok(None);
    };
    let attributes = match is_the_same(engine, place)? {
        // Looked for first: the engine's own archive is of one instant more often than the files here.
        true if attributes::any(place.source, place.without) => {
            std::fs::remove_file(&whole).map_err(|error| crate::plugin::apps::docker::unwritable(&whole, &error))?;
            return by_tar(place, into, on_bytes).map(|saved| Some((saved, Attributes::All)));
        }
        true => Attributes::All,
        false => Attributes::Capabilities,
    };
    if place.without.is_empty() {
        std::fs::rename(&whole, into).map_err(|error| crate::plugin::apps::docker::unwritable(into, &error))?;
    } else {
        let fate = |name: &[u8]| {
            let is_out = content::lies_below(name, place.without);
            if is_out { Fate::LeaveOut } else { Fate::Keep }
        };
        let written = content::rewrite(&whole, into, &mut { fate });
        let _ = std::fs::remove_file(&whole);
        written?;
        let bytes = std::fs::metadata(into).map_or(0, |found| found.len());
        saved = Saved { bytes, sha256: digest::sha256(into, |_| {})? };
    }
    Ok(Some((saved, attributes)))
}

pub(super) fn by_tar(place: &Place<'_>, into: &Path, on_bytes: &mut dyn FnMut(u64)) -> Result<Saved, Failure> {
    let tools = Tools::new(Vec::new(), Vec::new(), Path::new("/"))?;
    let mut args: Vec<OsString> =
        ["--format=posix", "--sort=name", "--numeric-owner", "--xattrs", "--acls"].map(OsString::from).to_vec();
    args.extend(["--anchored", "--no-wildcards"].map(OsString::from));
    args.extend(place.without.iter().map(|path| OsString::from(format!("--exclude=./{path}"))));
    args.extend([OsString::from("-C"), place.source.into(), "-cf".into(), into.into(), ".".into()]);
    let size = || std::fs::metadata(into).map_or(0, |found| found.len());
    let ran = tools.run(Path::new("tar"), args, &[], DEADLINE_OF_WORK, |_| {}, || on_bytes(size()));
    // 1: a file changed while it was read, as with any reader of what is in use.
    if !matches!(ran.exit, Exit::Success | Exit::Code(1)) {
        let said = crate::plugin::kit::tidy::tidy(ran.stderr.lines().last().unwrap_or_default(), 300);
        return Err(Failure::new(
            codes::VOLUME_UNREADABLE,
            format!("{} cannot be read: {said}", place.source.display()),
        ));
    }
    std::fs::File::open(into)
        .and_then(|file| file.sync_all())
        .map_err(|error| Failure::new(codes::UNWRITABLE, format!("{} cannot be synced: {error}", into.display())))?;
    Ok(Saved { bytes: size(), sha256: digest::sha256(into, |_| {})? })
}
