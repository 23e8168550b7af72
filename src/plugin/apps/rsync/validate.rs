//! What is known of the copy behind a run: whether it has what the device told, is the same, and holds sound databases.

use std::path::{Path, PathBuf};

use super::ends::Outcome;
use super::remote::{Apply, Remote};
use super::settings::{RsyncSettings, below};
use super::stats::{self, Stats};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::{asked, live};
use crate::plugin::protocol::{Request, SOURCE_BYTES, SOURCE_FILES, Verdict};

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings = RsyncSettings::of(request)?;
    let facts = asked::facts(request)?;
    let told = |name: &str| facts.figures.get(name).copied().unwrap_or(0);
    let mut found = Stats::default();
    for source in &facts.sources {
        stats::count(&source.path, &mut found);
    }
    // Of a partial run the copy has less than the other side told.
    let same = found.files == told(SOURCE_FILES) && found.bytes == told(SOURCE_BYTES);
    let detail = format!(
        "{} files with {} bytes; the device told {} with {}",
        found.files,
        found.bytes,
        told(SOURCE_FILES),
        told(SOURCE_BYTES)
    );
    let verdict = match same {
        true => Verdict::Proven,
        false if found.files.saturating_mul(2) < told(SOURCE_FILES) => Verdict::Failed,
        false => Verdict::CouldNotVerify,
    };
    events.validation("the copy has what the device told", verdict, detail);
    let roots: Vec<PathBuf> = facts.sources.iter().map(|source| source.path.clone()).collect();
    let accept: Vec<PathBuf> = settings.accept.iter().map(|path| below(&settings.tree(), path)).collect();
    let looked = live::tree::look(&roots, &|_| false);
    let tree = settings.tree();
    let shown =
        |path: &Path| path.strip_prefix(&tree).map_or_else(|_| path.to_owned(), |name| Path::new("/").join(name));
    live::told::judge_copies(&looked, &request.staging, &accept, &shown, events);
    let remote = Remote::open(&settings, &request.staging)?;
    // With checksums would read both sides whole in every run; a restore compares by them.
    let (verdict, detail) = match remote.fetch(&settings.tree(), Apply::No, events) {
        // What cannot be read is not even listed: nothing left to fetch would prove nothing.
        Ok((_, Outcome::Partial(said))) => (Verdict::CouldNotVerify, format!("not all could be read there: {said}")),
        Ok((looked, _)) if looked.transferred == 0 => {
            (Verdict::Proven, "nothing is left to be fetched, by size and time".to_owned())
        }
        Ok((looked, _)) => {
            let detail = format!(
                "{} files changed on the device since, by size and time: the next run has them",
                looked.transferred
            );
            (if looked.transferred * 10 <= looked.files { Verdict::Proven } else { Verdict::CouldNotVerify }, detail)
        }
        Err(failure) => (Verdict::CouldNotVerify, failure.trouble.message),
    };
    events.validation("rsync finds both sides the same", verdict, detail);
    Ok(())
}
