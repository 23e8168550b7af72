//! How much restic lets others go first: the programs that it is started through.
//!
//! Both set what they are asked for and then become restic, so every thread of it has the priority from its first
//! instruction on. Set from outside it would be that of single threads.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{EngineError, RepositoryAccess};
use crate::config::model::{IoPriority, Limits};
use crate::process::find_program;

/// How much nicer than the daemon restic is where nothing is said.
const NICER: i32 = 10;

/// What stands before restic's own path; `nice` is where that program was found.
pub(super) fn before(access: &RepositoryAccess, nice: Option<&PathBuf>) -> Result<Vec<OsString>, EngineError> {
    let Limits { nice: wanted, ionice, .. } = access.limits;
    let missing = |program: &str| EngineError::PriorityProgram {
        program: program.to_owned(),
        destination: access.destination.to_string(),
    };
    let mut words: Vec<OsString> = Vec::new();
    // Never before the daemon: that takes a right which it need not have.
    let nicer = wanted.map_or(NICER, |wanted| (i32::from(wanted) - own_niceness()).max(0));
    match nice {
        Some(nice) => words.extend([nice.into(), "-n".into(), nicer.to_string().into()]),
        None if wanted.is_some() => return Err(missing("nice")),
        None => {}
    }
    if let Some(ionice) = ionice {
        let program = find_program(Path::new("ionice")).map_err(|_| missing("ionice"))?;
        words.push(program.into());
        match ionice {
            IoPriority::Idle => words.extend(["-c".into(), "3".into()]),
            IoPriority::BestEffort(level) => {
                words.extend(["-c".into(), "2".into(), "-n".into(), level.to_string().into()]);
            }
        }
    }
    Ok(words)
}

/// The daemon's own niceness; 0 where the system does not tell.
fn own_niceness() -> i32 {
    std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| niceness(&stat)).unwrap_or(0)
}

/// The nineteenth field; the second is the program's name in parentheses, with whatever it has in it.
fn niceness(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_niceness_is_read_behind_whatever_name_a_program_has() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 1 2 0 0 30 10 5 0 99 0 0";
        assert_eq!(niceness(stat), Some(10));
        assert_eq!((niceness(""), niceness("42 (x) S 1")), (None, None));
    }
}
