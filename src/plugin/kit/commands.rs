//! The operator's own programs, which the plugin `command` runs: where they lie, and whom they must belong to.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::{Trouble, codes};

/// The plugin that runs them.
pub(crate) const PLUGIN: &str = "command";
/// The variable by which the host tells where the programs lie.
pub(crate) const DIRECTORY_VARIABLE: &str = "LARDER_COMMANDS";
/// Below the plugins directory.
pub(crate) const DIRECTORY_NAME: &str = "commands";

/// Whoever may write to a plugin, or to where it lies, runs programs as the daemon's user.
pub(crate) fn trusted(path: &Path, metadata: &std::fs::Metadata) -> Result<(), Trouble> {
    if metadata.mode() & 0o002 != 0 {
        return Err(Trouble::new(codes::PLUGIN_WRITABLE, format!("{} may be changed by every user", path.display()))
            .with_hint(format!("chmod o-w {}", path.display())));
    }
    let own = nix::unistd::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != own {
        return Err(Trouble::new(
            codes::PLUGIN_OWNER,
            format!("{} belongs to the user {}, who is neither root nor the daemon's", path.display(), metadata.uid()),
        )
        .with_hint(format!("chown root {}", path.display())));
    }
    Ok(())
}
