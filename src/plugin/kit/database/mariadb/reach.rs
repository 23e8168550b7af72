//! Client programs that run somewhere else than on this host: where the server is, such as in its container.

use std::ffi::OsString;
use std::fs::File;

use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::tool::Ran;

/// Which of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin) enum Program {
    /// `mariadb` or `mysql`.
    Shell,
    /// `mariadb-dump` or `mysqldump`.
    Dump,
}

/// What a program reads. How long it is must be known before: not every way there can tell that it came to an end.
pub(in crate::plugin) struct Input {
    pub(in crate::plugin) from: File,
    pub(in crate::plugin) bytes: u64,
}

/// The way to the programs. It logs in by itself: no user and no password is among the arguments.
pub(in crate::plugin) trait Reach {
    /// Runs a program to its end; what it writes goes to `on_bytes`, and `on_tick` is called while it works.
    fn run(
        &self,
        program: Program,
        args: Vec<OsString>,
        input: Option<Input>,
        on_bytes: &mut dyn FnMut(&[u8]),
        on_tick: &mut dyn FnMut(),
    ) -> Result<Ran, Failure>;
}
