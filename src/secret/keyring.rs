//! What is known, where a push is checked, of the identity that the daemon will open secrets with.

use std::sync::Arc;
use std::time::Duration;

use super::identity::{IdentityError, Sources};
use super::keys::Identities;
use super::sops::{Opened, SopsError, SopsFile};
use crate::look::{self, Silent};

/// How long an identity, or the plugin that holds it, may take to answer: who pushes waits, and so does the daemon.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Whose identities lie at the sources of a [`Keyring`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The daemon's: what they don't open, it will not.
    Daemon,
    /// Somebody's who pushes or edits: what they don't open says nothing.
    #[default]
    Somebody,
}

/// Identities at hand, and the daemon's recipients as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    pub sources: Sources,
    pub owner: Owner,
    /// Of the daemon.
    pub recipients: Vec<String>,
}

/// What a look at one file came to.
#[derive(Debug)]
pub enum Look {
    Opened(Box<Opened>),
    /// No identity at hand is of a recipient; the daemon's may be.
    Unknown,
    /// The plugin that holds the daemon's identity did not answer.
    Silent(Silent),
}

impl Keyring {
    /// The daemon's own.
    #[must_use]
    pub fn of_daemon(sources: Sources) -> Self {
        Self { sources, owner: Owner::Daemon, recipients: Vec::new() }
    }

    /// The identities at hand; none where there are none and nobody must have one.
    ///
    /// # Errors
    /// When they cannot be read in time, or the daemon has none.
    pub fn identities(&self) -> Result<Option<Arc<Identities>>, IdentityError> {
        if self.owner == Owner::Somebody && !self.sources.is_any() {
            return Ok(None);
        }
        let sources = self.sources.clone();
        let read = look::within(self.sources.place(), ANSWER_MAX, move || sources.read());
        read.map_err(IdentityError::Silent)?.map(|identities| Some(Arc::new(identities)))
    }

    /// Looks whether the daemon can open `file`; `identities` are those at hand.
    ///
    /// # Errors
    /// When it cannot, or the file was changed.
    pub fn look(&self, file: &Arc<SopsFile>, identities: Option<&Arc<Identities>>) -> Result<Look, SopsError> {
        let theirs = file.recipients();
        if !self.recipients.is_empty() && !self.recipients.iter().any(|ours| theirs.contains(&ours.as_str())) {
            return Err(SopsError::NotForUs { theirs: theirs.join(", "), ours: self.recipients.join(", ") });
        }
        let Some(identities) = identities else { return Ok(Look::Unknown) };
        let opened = if identities.has_plugins() {
            let (file, identities) = (file.clone(), identities.clone());
            match look::within(self.sources.place(), ANSWER_MAX, move || file.open(&identities)) {
                Ok(opened) => opened,
                Err(_) if self.owner == Owner::Somebody => return Ok(Look::Unknown),
                Err(silent) => return Ok(Look::Silent(silent)),
            }
        } else {
            file.open(identities)
        };
        match opened {
            Ok(opened) => Ok(Look::Opened(Box::new(opened))),
            Err(SopsError::NotForUs { .. }) if self.owner == Owner::Somebody => Ok(Look::Unknown),
            Err(error) => Err(error),
        }
    }
}
