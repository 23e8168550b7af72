//! The certificate that is pinned by its fingerprint, as a file for restic, which knows authorities only.

use std::path::PathBuf;

use super::{EngineError, RepositoryAccess, kept};
use crate::storage;

/// Under which certificates are kept.
const CERTIFICATES: &str = "certificates";

/// The file with it; asked of the server once, and taken only when it has the fingerprint. Blocking.
pub(super) fn certificate(access: &RepositoryAccess, base: &str, fingerprint: &str) -> Result<PathBuf, EngineError> {
    let path = kept::named(access, CERTIFICATES, fingerprint);
    if !path.exists() {
        let pem = storage::certificate(base, fingerprint).map_err(|error| super::control::told(access, &error))?;
        kept::write(&path, pem.as_bytes()).map_err(|error| EngineError::Files(path.clone(), error))?;
    }
    Ok(path)
}
