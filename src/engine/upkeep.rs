//! Keeps a repository small and sound: prune and check.

use super::messages::{self, Message};
use super::repository::garbled;
use super::{CHECK_JSON_MIN, Call, EngineError, RepositoryAccess, Restic};
use crate::process::{Context, Exit};

/// Most lines of `prune` that a report has.
const LINES_MAX: usize = 20;

/// What `prune` said it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneReport {
    /// restic's own figures, one a line: `total prune: 3 blobs / 1.234 KiB`.
    pub lines: Vec<String>,
}

/// A check that found nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Whether data was read, and how much of it (`5%`); none: structure only.
    pub read_data: Option<String>,
}

impl Restic {
    /// Removes data that no snapshot needs any more.
    ///
    /// # Errors
    /// Everything that restic can fail with.
    pub async fn prune(&self, access: &RepositoryAccess, context: &Context) -> Result<PruneReport, EngineError> {
        self.check_identity(access, context).await?;
        // `prune` knows no JSON in any version, but says why it gives up in JSON when asked.
        let mut lines = Vec::new();
        let mut hear = |line: &str| {
            if is_figure(line) && lines.len() < LINES_MAX {
                lines.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        };
        let answer = self.call_locking(access, context, Call::new("prune", &["--json"]), &mut hear).await?;
        answer.success("prune", access)?;
        Ok(PruneReport { lines })
    }

    /// Checks the repository's structure, and with `read_data` (restic's `--read-data-subset`: `5%`, `1G`, `1/10`) the
    /// content of a part of it.
    ///
    /// # Errors
    /// `Damaged` when it found anything; and everything that restic can fail with.
    pub async fn check(
        &self,
        access: &RepositoryAccess,
        read_data: Option<&str>,
        context: &Context,
    ) -> Result<CheckReport, EngineError> {
        self.check_identity(access, context).await?;
        let mut call = Call::new("check", &[]);
        if self.version >= CHECK_JSON_MIN {
            call = call.arg("--json");
        }
        if let Some(part) = read_data {
            call = call.arg(format!("--read-data-subset={part}"));
        }
        let mut errors = None;
        let mut hear = |line: &str| {
            if let Some(Message::CheckSummary { errors: found }) = messages::parse(line) {
                errors = Some(found);
            }
        };
        let answer = self.call_reading(access, context, call, &mut hear).await?;
        let found = errors.is_some_and(|errors| errors > 0) || answer.complaints.items_total > 0;
        if answer.exit == Exit::Success && !found && !answer.complaints.is_fatal(0) {
            // The exit code alone is no proof where restic also says what it found.
            if errors.is_none() && self.version >= CHECK_JSON_MIN {
                return Err(garbled("check"));
            }
            return Ok(CheckReport { read_data: read_data.map(str::to_owned) });
        }
        let damaged = |detail: String| EngineError::Damaged { location: access.location.clone(), detail };
        Err(match answer.error("check", access) {
            // What `check` found it tells item by item; its last word is only that there was something.
            EngineError::Failed { detail, .. } if found || answer.exit == Exit::Code(1) => {
                let first = answer.complaints.items.first().map(|(_, why)| why.clone());
                damaged(first.unwrap_or(detail))
            }
            other => other,
        })
    }
}

fn is_figure(line: &str) -> bool {
    ["to repack:", "this removes:", "to delete:", "total prune:", "remaining:", "unused size after prune:"]
        .iter()
        .any(|name| line.trim_start().starts_with(name))
}
