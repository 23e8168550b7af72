//! The plugin `files`: what it says of itself. Its work is in `kit/files`.

use crate::plugin::kit::builtin::Builtin;
use crate::plugin::kit::files;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "files",
    summary: "directories and files of this machine, shipped in place",
    guide: GUIDE,
    schema: || schemars::schema_for!(files::FilesSettings).to_value(),
    capture: files::capture,
    validate: files::validate,
    restore: None,
    recover: None,
};

const GUIDE: &str = "
In the backup: every file and directory below `paths`, with owners, modes, times, links and extended attributes.
Nothing is copied first; restic reads the files where they are.

An SQLite database that somebody has open, or that was written to in the last minutes, is kept a second time as SQLite's
online backup copies it (databases/): put that one back, and remove the -wal, -shm and -journal files beside it.

Not in it: what `exclude` matches; what is Larder's own (repositories, artifacts, state) and file systems without data,
such as /proc, which are left out by themselves, told as a notice; with `one_file_system` what is mounted below.
Files that change while they are read are kept as they were read. Other databases
(PostgreSQL, MySQL, LMDB, Berkeley DB, …) that are in use meanwhile are recognised, and the run says that nobody can vouch
for them: stop their program in hooks, use their own plugin, or `accept` them.

Least privilege: read permission on all of `paths` (root, or CAP_DAC_READ_SEARCH). Nothing is written.

A path that is missing, holds no file at all, is a symbolic link, or lies on a file system that /etc/fstab names and
that is not mounted, fails the run.";
