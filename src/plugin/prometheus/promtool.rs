//! promtool, where it is: the judge of configurations, rules and blocks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::plugin::Verdict;
use crate::plugin::builtin::Failure;
use crate::plugin::tool::{DEADLINE_OF_WORK, Tools};
use crate::plugin::transcript::tidy;
use crate::process::{self, Exit};

pub(super) struct Promtool {
    program: PathBuf,
    tools: Tools,
}

impl Promtool {
    /// None: there is no promtool.
    pub(super) fn find(named: Option<&Path>, directory: &Path) -> Result<Option<Self>, Failure> {
        let Some(program) = named.map(Path::to_owned).or_else(|| process::find_program(Path::new("promtool")).ok())
        else {
            return Ok(None);
        };
        let tools = Tools::new(Vec::new(), super::no_secrets(), directory)?;
        Ok(Some(Self { program, tools }))
    }

    /// Whether `promtool ARGS` is content, and what it said.
    pub(super) fn judge(&self, args: &[&str], path: &Path) -> (Verdict, String) {
        let (exit, lines, stderr) = self.run(args, path);
        match exit {
            Exit::Success => (Verdict::Proven, String::new()),
            Exit::NotStarted { detail, .. } => {
                (Verdict::CouldNotVerify, format!("promtool cannot be started: {detail}"))
            }
            _ => {
                let told = lines.iter().map(String::as_str).chain(stderr.lines()).filter(|line| {
                    let line = line.to_ascii_lowercase();
                    line.contains("fail") || line.contains("error")
                });
                let told: Vec<&str> = told.take(3).collect();
                (Verdict::Failed, tidy(&told.join("; "), 400))
            }
        }
    }

    /// How many blocks it lists in a data directory.
    pub(super) fn count_blocks(&self, directory: &Path) -> Result<usize, String> {
        let (exit, lines, stderr) = self.run(&["tsdb", "list"], directory);
        match exit {
            Exit::Success => Ok(lines.iter().filter(|line| super::blocks::is_ulid(first_word(line))).count()),
            _ => Err(tidy(&stderr, 300)),
        }
    }

    fn run(&self, args: &[&str], path: &Path) -> (Exit, Vec<String>, String) {
        let mut lines = Vec::new();
        let mut all: Vec<OsString> = args.iter().map(OsString::from).collect();
        all.push(path.into());
        let ran = self.tools.run(
            &self.program,
            all,
            &[],
            DEADLINE_OF_WORK,
            |line| {
                if lines.len() < 100_000 {
                    lines.push(line.to_owned());
                }
            },
            || {},
        );
        (ran.exit, lines, ran.stderr)
    }
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}
