//! What a child leaves running when it ends well, for children that are meant to: a hook that starts an application.
//!
//! It is told, not ended; what it still writes goes where nobody reads it, into a `cat` of its own that lives as long as
//! somebody can write to it, so that neither a full pipe nor a closed one (`SIGPIPE`, also at the daemon's end) hurts it.
//! A list of words says to the next daemon which marked processes are no leftovers of a crash.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::{ChildStderr, ChildStdout};

use super::program::find_program;
use super::table;
use super::tree::{Root, Tree, tend};

/// Words that a list holds at most; the oldest go first.
const WORDS_MAX: usize = 1000;

/// What a child left running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftAlive {
    /// The word in their mark.
    pub word: String,
    pub processes: Vec<Alive>,
}

/// One process that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    pub pid: i32,
    /// What it was started as.
    pub program: String,
}

impl Tree {
    /// Lets what is left of the tree live on, and tells it; whoever of it dies later is reaped.
    pub(super) async fn leave(mut self) -> LeftAlive {
        self.released = true;
        let root = Arc::clone(&self.root);
        let processes = tokio::task::spawn_blocking(move || root.alive()).await.unwrap_or_default();
        if !processes.is_empty() {
            tokio::spawn(tend(Arc::clone(&self.root)));
        }
        LeftAlive { word: self.root.word.clone(), processes }
    }
}

impl Root {
    /// The living processes of the tree, to be told. Blocking.
    pub(super) fn alive(&self) -> Vec<Alive> {
        let members = self.members(&table::read(), &mut BTreeSet::new());
        let told = members.into_iter().map(|process| {
            let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
            let program = if first.is_empty() { process.name } else { String::from_utf8_lossy(first).into_owned() };
            Alive { pid: process.pid, program }
        });
        told.collect()
    }
}

/// Has what comes through the pipes read by nobody for as long as somebody writes.
pub(super) fn hand_over(stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) {
    let stdout = stdout.and_then(|pipe| pipe.into_owned_fd().ok());
    let stderr = stderr.and_then(|pipe| pipe.into_owned_fd().ok());
    let Ok(cat) = find_program(Path::new("cat")) else { return };
    for pipe in stdout.into_iter().chain(stderr) {
        swallow(&cat, pipe);
    }
}

fn swallow(cat: &Path, pipe: OwnedFd) {
    // The end that we read was made for waiting elsewhere; the description is shared with `cat`.
    let plain = nix::fcntl::fcntl(&pipe, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()));
    let mut command = tokio::process::Command::new(cat);
    command.env_clear().stdin(pipe).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if let Err(error) = plain.map_err(std::io::Error::from).and_then(|_| command.spawn().map(drop)) {
        tracing::warn!(%error, "what a hook left running can't write any more");
    }
}

/// The words of what may live on, in a file.
#[derive(Clone, Debug)]
pub struct Spared {
    file: PathBuf,
}

impl Spared {
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Adds a word. Not synced: a machine that crashes leaves no process.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add(&self, word: &str) -> std::io::Result<()> {
        let mut file = std::fs::File::options().append(true).create(true).open(&self.file)?;
        file.write_all(format!("{word}\n").as_bytes())
    }

    /// All words.
    #[must_use]
    pub fn words(&self) -> BTreeSet<String> {
        std::fs::read_to_string(&self.file).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Forgets the words that no living process carries.
    pub fn tidy(&self) {
        let words = self.words();
        if words.is_empty() {
            return;
        }
        let carried: BTreeSet<String> = table::read()
            .iter()
            .filter_map(|process| table::environment(process.pid, super::MARK))
            .flat_map(|mark| mark.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        // Words begin with the state and the run, so in order the newest are the last.
        let left: Vec<&str> = words.intersection(&carried).map(String::as_str).collect();
        let kept = left.get(left.len().saturating_sub(WORDS_MAX)..).unwrap_or_default();
        let text = if kept.is_empty() { String::new() } else { format!("{}\n", kept.join("\n")) };
        let _ = std::fs::write(&self.file, text);
    }
}
