//! What the databases of the backup would read on the device, by names below a directory there; pure.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::super::changes::Name;
use crate::plugin::kit::live::tree::Database;
use crate::plugin::kit::place::with_suffix;
use crate::plugin::kit::sqlite_files::BESIDE;

/// Names without the slash of a directory.
#[derive(Default)]
pub(super) struct Reads {
    /// Directories that are a database each, with all that is in them.
    whole: BTreeSet<Vec<u8>>,
    /// What belongs to a database file and lies beside it.
    beside: BTreeSet<Vec<u8>>,
}

impl Reads {
    /// Of those of `databases` that lie below `root`.
    pub(super) fn of(databases: &[Database], root: &Path) -> Self {
        let mut reads = Self::default();
        for database in databases {
            let Ok(name) = database.path.strip_prefix(root) else { continue };
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            if database.kind.is_a_directory() {
                reads.whole.insert(bytes(name));
            } else {
                reads.beside.extend(BESIDE.map(|end| bytes(&with_suffix(name, end))));
            }
        }
        reads
    }

    pub(super) fn has(&self, name: &Name) -> bool {
        let is_whole = |at: &[u8]| self.whole.contains(at);
        self.beside.contains(name.plain()) || is_whole(name.plain()) || name.parents().any(is_whole)
    }

    /// The directories.
    pub(super) fn whole(&self) -> impl Iterator<Item = Name> {
        self.whole.iter().map(|name| Name([name.as_slice(), b"/"].concat()))
    }

    pub(super) fn beside(&self) -> impl Iterator<Item = Name> {
        self.beside.iter().cloned().map(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::kit::live::Kind;

    #[test]
    fn what_lies_in_a_database_or_beside_one_is_read_and_nothing_else() {
        let database = |kind: Kind, path: &str| Database { kind, path: path.into(), in_use: false };
        let all = [database(Kind::Sqlite, "/copy/a/app.db"), database(Kind::Postgres, "/copy/pg")];
        let reads = Reads::of(&all, Path::new("/copy"));
        for (name, is_read) in [
            ("a/app.db-wal", true),
            ("a/app.db-journal", true),
            ("a/app.db-walnut", false),
            ("app.db-wal", false),
            ("pg/", true),
            ("pg/base/1", true),
            ("pgx/base/1", false),
        ] {
            assert_eq!(reads.has(&Name::from(name)), is_read, "{name}");
        }
        assert_eq!(reads.beside().count(), 3);
        assert!(Reads::of(&[database(Kind::Postgres, "/copy")], Path::new("/copy")).has(&Name::from("base/1")));
    }
}
