//! Files by name in many snapshots.

use serde::Deserialize;

use super::messages::Entry;
use super::repository::garbled;
use super::{Call, EngineError, RepositoryAccess, Restic, keep, wanted};
use crate::process::Context;

/// One file that was found, and the snapshot that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    pub snapshot: String,
    pub entry: Entry,
}

/// One snapshot's part of `restic find --json`.
#[derive(Deserialize)]
struct Hits {
    #[serde(default)]
    matches: Vec<Match>,
    snapshot: String,
}

#[derive(Deserialize)]
struct Match {
    path: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    mtime: Option<jiff::Timestamp>,
}

impl Restic {
    /// Finds files that have the name `pattern`, else those whose name matches `pattern` in the snapshots that have all of `tags`, at most `found_max`.
    ///
    /// # Errors
    /// Everything that restic can fail with.
    pub async fn find(
        &self,
        access: &RepositoryAccess,
        pattern: &str,
        tags: &[String],
        found_max: usize,
        context: &Context,
    ) -> Result<Vec<FoundFile>, EngineError> {
        self.check_identity(access, context).await?;
        if wanted::is_special(pattern) {
            // A file of this very name is what is meant.
            let found = self.find_pattern(access, &wanted::literal(pattern), tags, found_max, context).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            wanted::check_wanted(&[pattern.to_owned()])?;
        }
        self.find_pattern(access, pattern, tags, found_max, context).await
    }

    async fn find_pattern(
        &self,
        access: &RepositoryAccess,
        pattern: &str,
        tags: &[String],
        found_max: usize,
        context: &Context,
    ) -> Result<Vec<FoundFile>, EngineError> {
        let mut call = Call::new("find", &["--json"]).without_lock();
        if !tags.is_empty() {
            call = call.arg(format!("--tag={}", tags.join(",")));
        }
        let call = call.arg("--").arg(pattern);
        let mut output = String::new();
        let answer = self.call(access, context, &call, &mut |line| keep(&mut output, line)).await?;
        answer.success("find", access)?;
        let hits: Vec<Hits> = serde_json::from_str(output.trim()).map_err(|_| garbled("find"))?;
        let found = hits.into_iter().flat_map(|hits| {
            let snapshot = hits.snapshot;
            hits.matches.into_iter().map(move |each| FoundFile {
                snapshot: snapshot.clone(),
                entry: Entry { path: each.path, kind: each.kind, bytes: each.size, modified: each.mtime },
            })
        });
        Ok(found.take(found_max).collect())
    }
}
