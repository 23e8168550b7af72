//! One volume into one tar: through the engine, or where Podman would lose the owners, by the host's `tar`.
//!
//! Podman 4.3 was seen to hand out every file with the owner that its container runs as. Docker keeps them.

use std::ffi::OsString;
use std::path::Path;

use crate::plugin::builtin::Failure;
use crate::plugin::digest;
use crate::plugin::docker::engine::Engine;
use crate::plugin::tool::{DEADLINE_OF_WORK, Tools};
use crate::process::Exit;
use crate::web::Saved;

/// Where a volume or bind is.
pub(super) struct Place<'a> {
    /// A container's id.
    pub(super) container: &'a str,
    pub(super) destination: &'a str,
    /// On the engine's host.
    pub(super) source: &'a Path,
}

/// Whether the files can be read on this host, at least their list.
pub(super) fn is_here(source: &Path) -> bool {
    source.is_absolute() && std::fs::read_dir(source).is_ok()
}

/// Writes the tar; none: the container or what is mounted there is gone.
pub(super) fn save(
    engine: &Engine,
    place: &Place<'_>,
    into: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Option<Saved>, Failure> {
    if engine.podman && is_here(place.source) {
        // That it is the very volume is known by its container only.
        if engine.inspect(place.container)?.is_none() {
            return Ok(None);
        }
        return by_tar(place.source, into, on_bytes).map(Some);
    }
    engine.save(place.container, place.destination, into, |bytes, _| on_bytes(bytes))
}

fn by_tar(source: &Path, into: &Path, on_bytes: &mut dyn FnMut(u64)) -> Result<Saved, Failure> {
    let tools = Tools::new(Vec::new(), Vec::new(), Path::new("/"))?;
    let mut args: Vec<OsString> =
        ["--format=posix", "--numeric-owner", "--xattrs", "--acls"].map(OsString::from).to_vec();
    args.extend([OsString::from("-C"), source.into(), "-cf".into(), into.into(), ".".into()]);
    let size = || std::fs::metadata(into).map_or(0, |found| found.len());
    let ran = tools.run(Path::new("tar"), args, &[], DEADLINE_OF_WORK, |_| {}, || on_bytes(size()));
    // 1: a file changed while it was read, as with any reader of what is in use.
    if !matches!(ran.exit, Exit::Success | Exit::Code(1)) {
        let said = crate::plugin::transcript::tidy(ran.stderr.lines().last().unwrap_or_default(), 300);
        return Err(Failure::new("volume_unreadable", format!("{} cannot be read: {said}", source.display())));
    }
    std::fs::File::open(into)
        .and_then(|file| file.sync_all())
        .map_err(|error| Failure::new("unwritable", format!("{} cannot be synced: {error}", into.display())))?;
    Ok(Saved { bytes: size(), sha256: digest::sha256(into, |_| {})? })
}
