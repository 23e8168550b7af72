//! Starts a child: found program, minimal environment, own process group, our mark.

use std::ffi::OsStr;
use std::io;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use secrecy::ExposeSecret as _;
use tokio::process::Child;

use super::program::find_program;
use super::tree::Tree;
use super::{Command, LogStdout, MARK, Stdin};
use crate::look::{self, LOOK_MAX};

/// What a child inherits of the environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Why a child never ran.
pub(super) struct SpawnFailure {
    pub(super) kind: io::ErrorKind,
    pub(super) detail: String,
}

impl SpawnFailure {
    fn of(error: &io::Error) -> Self {
        Self { kind: error.kind(), detail: error.to_string() }
    }
}

/// Makes sure that starting `command` can't hang: a program or a working directory on a share whose server is gone
/// would take the thread that starts it along.
pub(super) async fn program_answers(command: &Command) -> Result<(), SpawnFailure> {
    let (program, directory) = (command.program.clone(), command.current_dir.clone());
    let looked = look::at(&command.program, LOOK_MAX, move || {
        if let Some(directory) = directory {
            look::touch(&directory);
        }
        // Its first page is what starting it reads.
        let found = find_program(&program).and_then(std::fs::File::open);
        let _ = found.map(|mut file| std::io::Read::read(&mut file, &mut [0_u8; 512]));
    });
    looked.await.map_err(|silent| SpawnFailure { kind: io::ErrorKind::TimedOut, detail: silent.to_string() })
}

/// Starts `command`. The program is given by its path, so the system's search along the `PATH`, which hands a file of
/// an unknown format to a shell, is never used.
pub(super) fn spawn(command: &Command, mark: &str) -> Result<(Child, Tree), SpawnFailure> {
    if let Some(directory) = command.current_dir.as_ref().filter(|directory| !directory.is_dir()) {
        let detail = format!("the working directory {} does not exist", directory.display());
        return Err(SpawnFailure { kind: io::ErrorKind::NotFound, detail });
    }
    let program = find_program(&command.program).map_err(|error| SpawnFailure::of(&error))?;
    let word = next_word(mark);
    let stdin = match &command.stdin {
        Stdin::Null => Stdio::null(),
        Stdin::Bytes(_) => Stdio::piped(),
        Stdin::From(file) => Stdio::from(file.try_clone().map_err(|error| SpawnFailure::of(&error))?),
    };
    let stdout = match &command.log_stdout {
        LogStdout::Yes | LogStdout::No => Stdio::piped(),
        LogStdout::Into(file) => Stdio::from(file.try_clone().map_err(|error| SpawnFailure::of(&error))?),
    };
    let mut child = tokio::process::Command::new(program);
    child.args(&command.args).env_clear();
    child.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    child.envs(command.env.iter().map(|(name, value)| (name.as_str(), OsStr::new(value.expose_secret()))));
    child.env(MARK, mark_of_child(&word));
    if let Some(directory) = &command.current_dir {
        child.current_dir(directory);
    }
    child.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
    child.process_group(0).kill_on_drop(true);
    Tree::start(child, word).map_err(|error| SpawnFailure::of(&error))
}

/// A word that no other child has: several children of one run must not end each other.
fn next_word(mark: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mark: String = mark.chars().map(|c| if c.is_whitespace() || c == '\0' { '_' } else { c }).collect();
    format!("{mark}:{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Where this process is itself a child of ours (a plugin), its own words come first.
fn mark_of_child(word: &str) -> String {
    match std::env::var(MARK) {
        Ok(outer) if !outer.is_empty() => format!("{outer} {word}"),
        _ => word.to_owned(),
    }
}
