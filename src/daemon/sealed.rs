//! The encrypted files of the revision in force: read from the Git tree, kept as they are, opened when a run needs them.
//!
//! Beside the socket lies for whom a secret must be encrypted so that this daemon opens it, for the hook that checks a push.

use std::time::Duration;

use crate::daemon::Settings;
use crate::error::{Trouble, codes};
use crate::look;
use crate::secret::identity::Sources;
use crate::secret::keyring::Keyring;
use crate::secret::vault::{self, Files};
use crate::source::FileSet;
use crate::source::bare::Bare;
use crate::store::layout::StateDir;
use crate::types::Revision;

/// How long the repository may take at the start; the first look reads it anyway.
const REPOSITORY_MAX: Duration = Duration::from_secs(10);
/// How long the identity may take to answer.
const IDENTITY_MAX: Duration = Duration::from_secs(10);

/// What opens the secrets of a pushed revision.
pub(super) fn keyring(settings: &Settings) -> Keyring {
    Keyring::of_daemon(Sources::of_process(settings.identity.clone()))
}

/// Has the files of the revision in force at hand before anything is recovered. What cannot be read is read by the first look.
pub(super) async fn at_start(settings: &Settings, paths: &StateDir, revision: Option<Revision>) {
    vault::install(Sources::of_process(settings.identity.clone()));
    tell_recipients(paths);
    let Some(revision) = revision else { return };
    let (repository, root) = (settings.repository.clone(), settings.root.clone());
    let read = move || {
        Bare::open(&repository).and_then(|bare| bare.files(&revision, &root)).map(|files| put(&files, &revision))
    };
    match look::at(&settings.repository, REPOSITORY_MAX, read).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(trouble = %error.trouble(), "the secrets of the revision in force cannot be read yet");
        }
        Err(silent) => {
            let trouble = silent.trouble(codes::REPOSITORY_HANGING, "the config repository");
            tracing::warn!(%trouble, "the secrets of the revision in force cannot be read yet");
        }
    }
}

/// Takes over the files of `revision`, unless they are here.
pub(super) fn keep(paths: &StateDir, bare: &Bare, revision: &Revision, root: &str) {
    if vault::revision().as_deref() == Some(revision.as_str()) {
        return;
    }
    match bare.files(revision, root) {
        Ok(files) => put(&files, revision),
        Err(error) => {
            tracing::error!(trouble = %error.trouble(), "the secrets of the revision in force cannot be read");
        }
    }
    tell_recipients(paths);
}

fn put(files: &dyn FileSet, revision: &Revision) {
    let mut kept = Files::new();
    for entry in files.sealed() {
        match files.read(entry) {
            Ok(bytes) => drop(kept.insert(entry.path.clone(), bytes)),
            Err(trouble) => tracing::error!(path = entry.path, %trouble, "a file with secrets cannot be read"),
        }
    }
    vault::put(revision.as_str(), kept);
}

/// Writes for whom to encrypt. A plugin's recipients are not known, so then none are told.
fn tell_recipients(paths: &StateDir) {
    let sources = vault::sources().unwrap_or_default();
    let path = paths.recipients();
    if !sources.is_any() {
        let _ = std::fs::remove_file(&path);
        return;
    }
    let asked = sources.place().to_owned();
    let read = look::within(&asked, IDENTITY_MAX, move || sources.read());
    let recipients = match read {
        Ok(Ok(identities)) if identities.has_plugins() => Vec::new(),
        Ok(Ok(identities)) => identities.recipients(),
        // What was known of it may still be right.
        Ok(Err(error)) => return warn(&Trouble::of(codes::IDENTITY_MISSING, &error, Some(error.hint()))),
        Err(silent) => return warn(&silent.trouble(codes::IDENTITY_MISSING, "the age identity")),
    };
    let mut text = recipients.join("\n");
    text.push_str(if text.is_empty() { "" } else { "\n" });
    if std::fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return;
    }
    if let Err(error) = std::fs::write(&path, text) {
        tracing::warn!(path = %path.display(), %error, "for whom secrets must be encrypted cannot be written");
    }
}

fn warn(trouble: &Trouble) {
    tracing::warn!(%trouble, "nothing that is encrypted in Git can be opened");
}
