//! Work of a run on paths that somebody named: off the runtime's threads, ended with the run, and given up when the path
//! stops answering.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{RunExecutor, Stop};
use crate::error::{Trouble, codes};
use crate::look::{self, LOOK_MAX};
use crate::types::Outcome;

/// How often it is seen whether a path that is worked on still answers.
const WATCH_EVERY: Duration = Duration::from_secs(30);

/// Work that looks for the cancellation itself gets so long to end.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Most paths of a target's settings that are looked at before a run.
const PATHS_MAX: usize = 200;

impl RunExecutor {
    /// Does `work`, which touches `path`, a `what` to people.
    pub(super) async fn away<T: Send + 'static>(
        &self,
        what: &str,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stop> {
        let hanging = |trouble| Stop { outcome: Outcome::Deferred, trouble };
        let cancelled = async {
            self.context.cancel.cancelled().await;
            tokio::time::sleep(CANCEL_GRACE).await;
        };
        tokio::select! {
            biased;
            done = look::work(path, work) => {
                done.map_err(|silent| hanging(silent.trouble(codes::PATH_HANGING, what)))
            }
            () = tokio::time::sleep(self.left()) => Err(Stop::failed(
                Trouble::new(codes::DEADLINE_EXCEEDED, format!("the run's time is over while {what} {} is worked on", path.display()))
                    .with_hint("raise the policy's `timeout` if the work is really that long"),
            )),
            silent = look::until_silent(path, WATCH_EVERY) => Err(hanging(silent.trouble(codes::PATH_HANGING, what))),
            () = cancelled => Err(Stop {
                outcome: Outcome::Cancelled,
                trouble: Trouble::new(codes::CANCELLED, format!("cancelled while {what} {} was waited for", path.display())),
            }),
        }
    }

    /// Whether every path that the target's settings name answers, be it that it is not there: a plugin that meets a share
    /// whose server is gone could be waited for a long time.
    pub(super) async fn settings_answer(&self) -> Result<(), Stop> {
        let mut paths = Vec::new();
        paths_in(&self.target.settings, &mut paths);
        paths.sort();
        paths.dedup();
        let mut looks = tokio::task::JoinSet::new();
        for path in paths {
            looks.spawn(async move {
                let looked = path.clone();
                look::at(&path, LOOK_MAX, move || look::touch(&looked)).await
            });
        }
        loop {
            tokio::select! {
                () = self.context.cancel.cancelled() => {
                    return Err(Stop {
                        outcome: Outcome::Cancelled,
                        trouble: Trouble::new(codes::CANCELLED, "cancelled before anything was read"),
                    });
                }
                joined = looks.join_next() => match joined {
                    None => return Ok(()),
                    Some(Ok(Err(silent))) => {
                        let trouble = silent.trouble(codes::PATH_HANGING, "the target's path");
                        return Err(Stop { outcome: Outcome::Deferred, trouble });
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// The absolute paths in a plugin's settings, references to files among them.
fn paths_in(value: &serde_json::Value, found: &mut Vec<PathBuf>) {
    match value {
        serde_json::Value::String(text) if text.starts_with('/') && found.len() < PATHS_MAX => {
            found.push(PathBuf::from(text));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| paths_in(item, found)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| paths_in(field, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_that_settings_name_is_found() {
        let settings = serde_json::json!({
            "paths": ["/srv/a", {"path": "/srv/b", "exclude": ["*.tmp"]}],
            "password": {"file": "/run/secret"},
            "socket": "/run/docker.sock", "host": "localhost", "port": 5432,
        });
        let mut found = Vec::new();
        paths_in(&settings, &mut found);
        found.sort();
        assert_eq!(found, ["/run/docker.sock", "/run/secret", "/srv/a", "/srv/b"].map(PathBuf::from));
    }
}
