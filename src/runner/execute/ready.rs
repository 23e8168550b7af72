//! What a run makes sure of before it touches anything.

use secrecy::SecretString;
use tokio::task::JoinSet;

use super::{RunExecutor, Stop};
use crate::process::Redactor;
use crate::runner::route;
use crate::types::Outcome;

impl RunExecutor {
    /// Hides what restic knows from the log; plugins add their own. What can't be read is said where it is needed.
    pub(super) async fn hide_passwords(&mut self) {
        let references = self.destinations.iter().flat_map(|each| {
            let storage =
                each.repository.secrets().into_iter().map(|reference| (reference, "a secret of the storage of"));
            let all = std::iter::once((&each.password, "the password of")).chain(storage);
            all.map(|(reference, what)| (reference.clone(), format!("{what} {}", each.name)))
        });
        let read = references.map(|(reference, what)| async move {
            reference.resolved().await.map_err(|error| format!("{what}: {error}"))
        });
        let mut reading: JoinSet<Result<SecretString, String>> = read.collect();
        let mut secrets = Vec::new();
        while let Some(joined) = reading.join_next().await {
            match joined.map_err(|error| error.to_string()).flatten() {
                Ok(secret) => secrets.push(secret),
                Err(error) => self.context.log.line(&format!("{error}, so it is not hidden here")),
            }
        }
        self.context.redact = Redactor::new(secrets);
    }

    /// What must be there before anything is touched; its lack defers the run.
    pub(super) async fn preconditions(&self) -> Result<(), Stop> {
        let (shelf, root) = (self.shelf.clone(), self.shelf.root().to_owned());
        let ready = self.away("the artifact root", &root, move || shelf.ready()).await?;
        ready.map_err(|trouble| Stop { outcome: Outcome::Deferred, trouble })?;
        let mut first = None;
        for destination in &self.destinations {
            let present = tokio::select! {
                present = route::present(&self.world, destination) => present,
                () = self.context.cancel.cancelled() => return Ok(()),
            };
            match present {
                // With some of several destinations there, the run goes on and comes to `Partial`.
                Ok(()) => return Ok(()),
                Err(trouble) => first = first.or(Some(trouble)),
            }
        }
        first.map_or(Ok(()), |trouble| Err(Stop { outcome: Outcome::Deferred, trouble }))
    }
}
