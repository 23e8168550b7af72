//! What sled's errors and panics mean: damage, or what the system refused.

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::store::StoreError;

/// Calls sled; a panic and an error that only damage explains become `Damaged`, what the system refused becomes `wrap`.
pub(super) fn guarded<T>(
    path: &Path,
    wrap: fn(io::Error) -> StoreError,
    act: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, StoreError> {
    let damaged = |detail: String| StoreError::Damaged { path: path.to_owned(), detail };
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if is_of_the_system(&error) => Err(wrap(error)),
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(panic) => Err(damaged(format!("sled panicked: {}", panic_text(panic.as_ref())))),
    }
}

/// Whether the file system refused, rather than that what it gave made no sense.
///
/// By kind alone: sled copies errors by kind and text, so the number of the system's error is lost.
fn is_of_the_system(error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound => false,
        ErrorKind::Other => is_held(error),
        _ => true,
    }
}

/// Whether sled's lock on its file is held; sled says that with an error of its own making.
pub(super) fn is_held(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Other && error.to_string().contains("could not acquire lock")
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_senseless_content_are_damage_and_a_refusal_of_the_system_is_not() {
        let told = |answer: Result<(), sled::Error>| guarded(Path::new("/s"), StoreError::Read, || answer).unwrap_err();
        let io = |kind: ErrorKind, text: &str| told(Err(sled::Error::Io(io::Error::new(kind, text))));
        let damaged = [
            guarded::<()>(Path::new("/s"), StoreError::Read, || panic!("tried to serialize Uninitialized"))
                .unwrap_err(),
            told(Err(sled::Error::Corruption { at: None, bt: () })),
            io(ErrorKind::UnexpectedEof, "failed to fill whole buffer"),
            io(ErrorKind::Other, "bad header"),
        ];
        for error in damaged {
            assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
            assert!(error.hint().contains("sets the damaged store aside"));
        }
        let refused = [
            io(ErrorKind::StorageFull, "no space"),
            io(ErrorKind::PermissionDenied, "no"),
            io(ErrorKind::ReadOnlyFilesystem, "no"),
            io(ErrorKind::Other, "could not acquire lock on \"/s/db\""),
        ];
        for error in refused {
            assert!(matches!(error, StoreError::Read(_)), "{error:?}");
        }
    }
}
