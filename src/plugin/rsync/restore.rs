//! The way back: to the paths on the device, without deleting anything there.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::remote::{Apply, Outcome, Remote};
use super::{RsyncSettings, TREE};
use crate::error::Trouble;
use crate::plugin::Verdict;
use crate::plugin::builtin::{self, Failure, Voice};
use crate::plugin::protocol::{Request, Verb};

/// What the operator may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RsyncRestore {
    /// Put everything below this directory of the device instead of at its own paths.
    #[serde(default)]
    #[schemars(regex(pattern = "^/"))]
    below: Option<String>,
}

pub(super) fn restore(request: &Request, voice: &mut Voice<'_>) -> Result<(), Failure> {
    let settings = RsyncSettings::of(request)?;
    let options: RsyncRestore = builtin::options(request)?;
    let order = request.restore.clone().unwrap_or_default();
    let refused = |path: &str| !path.starts_with('/') || path.split('/').any(|part| part == "..");
    if options.below.as_deref().is_some_and(refused) {
        return Err(
            Failure::new("restore_options", "`below` is no absolute path").hint("write a whole path of the device")
        );
    }
    let remote = Remote::open(&settings, &request.staging)?;
    let facts = request.capture.clone().unwrap_or_default();
    let mut work = Vec::new();
    for (path, from) in remote.places(&tree_in(&facts, &order.tree, &settings)) {
        if !from.exists() {
            return Err(Failure::new("nothing_to_restore", format!("the backup has no {path}"))
                .hint("choose another snapshot: `larder snapshots TARGET`"));
        }
        let to = match &options.below {
            Some(below) => format!("{}{path}", below.trim_end_matches('/')),
            None => path.to_owned(),
        };
        work.push((from, to));
    }
    for (from, to) in &work {
        let (looked, _) = remote.send(from, to, Apply::No, voice)?;
        let verb = if looked.transferred == 0 { Verb::Keep } else { Verb::Replace };
        let detail = format!("{} of {} files would be sent; nothing is deleted", looked.transferred, looked.files);
        voice.step(verb, format!("{to} on {}", settings.host), detail);
    }
    if order.dry_run {
        return Ok(());
    }
    for (from, to) in &work {
        let (_, outcome) = remote.send(from, to, Apply::Yes, voice)?;
        if let Outcome::Partial(said) = outcome {
            voice.warning(
                Trouble::new("files_unwritable", format!("some files could not be sent: {said}"))
                    .with_hint("give the login write permission on the device"),
            );
        }
        let (left, _) = remote.send(from, to, Apply::No, voice)?;
        let verdict = if left.transferred == 0 { Verdict::Proven } else { Verdict::Failed };
        voice.validation(
            format!("{to} is as in the backup"),
            verdict,
            format!("{} files, {} differ", left.files, left.transferred),
        );
    }
    Ok(())
}

/// The copy was shipped from where it lay: below `tree` its files lie at that path, as the capture named it.
fn tree_in(facts: &crate::plugin::CaptureFacts, tree: &Path, settings: &RsyncSettings) -> std::path::PathBuf {
    let inside = |copy: &Path| tree.join(copy.strip_prefix("/").unwrap_or(copy));
    let named = facts.sources.iter().zip(&settings.paths).find_map(|(source, path)| {
        let shown = source.path.to_str()?;
        shown.strip_suffix(path.trim_end_matches('/')).filter(|copy| copy.ends_with(TREE)).map(std::path::PathBuf::from)
    });
    named.map_or_else(|| inside(&settings.tree()), |copy| inside(&copy))
}
