//! promtool, where it is: the judge of configurations, rules and blocks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::tidy::tidy;
use crate::plugin::kit::tool::{DEADLINE_OF_WORK, Tools};
use crate::plugin::protocol::Verdict;
use crate::process::{self, Exit};

pub(super) struct Promtool {
    program: PathBuf,
    tools: Tools,
    /// Its version and the server's, major and minor, where both are known.
    versions: Option<((u32, u32), (u32, u32))>,
}

impl Promtool {
    /// None: there is no promtool. `server` is the version of the Prometheus whose files it judges, as
    /// `Prometheus 3.5.0`.
    ///
    /// # Errors
    /// When no program can be run at all.
    pub(super) fn find(named: Option<&Path>, directory: &Path, server: Option<&str>) -> Result<Option<Self>, Failure> {
        let Some(program) = named.map(Path::to_owned).or_else(|| process::find_program(Path::new("promtool")).ok())
        else {
            return Ok(None);
        };
        let tools = Tools::new(Vec::new(), super::no_secrets(), directory)?;
        let mut found = Self { program, tools, versions: None };
        // It tells its version on standard output, or as an older one on standard error.
        let (_, lines, stderr) = found.run_all(vec!["--version".into()]);
        let own = lines.iter().map(String::as_str).chain(stderr.lines()).find_map(version);
        found.versions = own.zip(server.and_then(version));
        Ok(Some(found))
    }

    /// What a refusal means: one of another version than the server may refuse what the server takes.
    fn refusal(&self, said: String) -> (Verdict, String) {
        match self.versions {
            Some((own, server)) if own != server => {
                let shown = |(major, minor): (u32, u32)| format!("{major}.{minor}");
                let why = format!(
                    "promtool {} refuses it, but the server is Prometheus {}: install the promtool of the server, or name \
                     it as `promtool` ({said})",
                    shown(own),
                    shown(server),
                );
                (Verdict::CouldNotVerify, tidy(&why, 500))
            }
            _ => (Verdict::Failed, said),
        }
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
                self.refusal(tidy(&told.join("; "), 300))
            }
        }
    }

    /// How many blocks it lists in a data directory.
    ///
    /// # Errors
    /// What its refusal means, and what it said.
    pub(super) fn count_blocks(&self, directory: &Path) -> Result<usize, (Verdict, String)> {
        let (exit, lines, stderr) = self.run(&["tsdb", "list"], directory);
        match exit {
            Exit::Success => Ok(lines.iter().filter(|line| is_ulid(first_word(line))).count()),
            Exit::NotStarted { detail, .. } => {
                Err((Verdict::CouldNotVerify, format!("promtool cannot be started: {detail}")))
            }
            _ => Err(self.refusal(tidy(&stderr, 300))),
        }
    }

    fn run(&self, args: &[&str], path: &Path) -> (Exit, Vec<String>, String) {
        let mut all: Vec<OsString> = args.iter().map(OsString::from).collect();
        all.push(path.into());
        self.run_all(all)
    }

    fn run_all(&self, all: Vec<OsString>) -> (Exit, Vec<String>, String) {
        let mut lines = Vec::new();
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

/// Major and minor of the first version in a text.
fn version(text: &str) -> Option<(u32, u32)> {
    text.split([' ', ',', '+', '-']).find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next()?, parts.next()?);
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}

/// As blocks are named.
pub(super) fn is_ulid(name: &str) -> bool {
    name.len() == 26 && name.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_tell_them() {
        assert_eq!(version("promtool, version 2.42.0+ds (branch: debian/sid)"), Some((2, 42)));
        assert_eq!(version("Prometheus 3.5.0"), Some((3, 5)));
        assert_eq!(version("Prometheus 3.6.0-rc.1"), Some((3, 6)));
        assert_eq!(version("Prometheus of unknown version"), None);
    }
}
