//! What a store's errors say to a person: a code, a sentence, the next step.

use std::io::ErrorKind;

use super::{StoreError, Tree};
use crate::error::{Code, Trouble, chain, codes};

impl StoreError {
    /// Stable, for machines.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::InUse { .. } => codes::STATE_IN_USE,
            Self::Open { .. } => codes::STATE_NOT_OPENED,
            Self::Damaged { .. } => codes::STATE_DAMAGED,
            Self::Newer { .. } => codes::STATE_NEWER,
            Self::Read(_) => codes::STATE_NOT_READ,
            Self::Write(_) => codes::STATE_NOT_WRITTEN,
            Self::ValueTooLarge { .. } => codes::STATE_VALUE_TOO_LARGE,
            Self::Record { .. } | Self::Pack { .. } => codes::STATE_RECORD_UNREADABLE,
            Self::Export { .. } => codes::EXPORT_NOT_WRITTEN,
            Self::Import { .. } => codes::EXPORT_NOT_IMPORTED,
            Self::NotEmpty { .. } => codes::STATE_NOT_EMPTY,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::InUse { path } => format!(
                "another `larder serve` works with {}; stop it, or give this one its own directory with --state",
                path.display()
            ),
            Self::Open { path, source } => match source.kind() {
                ErrorKind::NotFound => {
                    let parent = path.parent().unwrap_or(path);
                    format!("make the directory above it: mkdir -p {}", parent.display())
                }
                ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                    format!(
                        "something that is no directory is in the way of {}; name another with --state",
                        path.display()
                    )
                }
                _ => io_hint(source.kind(), &format!("{}", path.display())),
            },
            Self::Damaged { .. } => {
                "restart the daemon: it sets the damaged store aside, starts with the newest export, \
                                     and reads the config from Git again; no backup is lost"
                    .to_owned()
            }
            Self::Newer { .. } => {
                "start the newer Larder again, or move the directory away: a fresh one is filled from Git".to_owned()
            }
            Self::Read(source) | Self::Write(source) => io_hint(source.kind(), "the state directory"),
            Self::ValueTooLarge { key, .. } if key.starts_with(Tree::Desired.as_str()) => {
                "make this document of the config smaller: split a target with long lists into several".to_owned()
            }
            Self::ValueTooLarge { .. } => {
                "this is a bug in Larder: large things belong into files; please report it".to_owned()
            }
            Self::Record { .. } | Self::Pack { .. } => {
                "the record was damaged or written by another version; `larder export` shows it, and a restart with an \
                 empty state directory rebuilds it from Git"
                    .to_owned()
            }
            Self::Export { path, source } => {
                io_hint(source.kind(), &path.parent().unwrap_or(path).display().to_string())
            }
            Self::Import { .. } => "take another export: `export/` in the state directory has the last few".to_owned(),
            Self::NotEmpty { .. } => {
                "name a fresh directory with --state, or move the present one away first".to_owned()
            }
        }
    }

    /// This error for a person.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        Trouble::new(self.code(), chain(self)).with_hint(self.hint())
    }
}

fn io_hint(kind: ErrorKind, place: &str) -> String {
    match kind {
        ErrorKind::PermissionDenied => format!("let the daemon's user write to {place}"),
        ErrorKind::ReadOnlyFilesystem => {
            format!("the file system of {place} is mounted read-only; remount it writable")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("the disk of {place} is full; free some space, the daemon goes on by itself")
        }
        _ => format!("look at the disk of {place}: dmesg, smartctl, df"),
    }
}
