//! Where a program lies.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where programs are looked for when there is no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Finds a program as a shell would: a name without `/` along the `PATH`, anything else as it is.
///
/// # Errors
/// Not found, or found but not executable.
pub fn find_program(program: &Path) -> io::Result<PathBuf> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return executable(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut refused = None;
    for directory in std::env::split_paths(&path).filter(|directory| directory.is_absolute()) {
        match executable(directory.join(program)) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such program on the PATH")))
}

fn executable(path: PathBuf) -> io::Result<PathBuf> {
    let metadata = std::fs::metadata(&path)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        return Ok(path);
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "not an executable file"))
}
