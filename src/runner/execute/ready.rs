//! What a run makes sure of before it touches anything.

use secrecy::SecretString;
use tokio::task::JoinSet;

use super::{RunExecutor, Stop};
use crate::error::{Kind, Trouble};
use crate::process::Redactor;
use crate::runner::route;
use crate::store::record::{Shipment, is_of_who_is_away};
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
    pub(super) async fn preconditions(&mut self) -> Result<(), Stop> {
        let (shelf, root) = (self.shelf.clone(), self.shelf.root().to_owned());
        let ready = self.away("the artifact root", &root, move || shelf.ready()).await?;
        ready.map_err(|trouble| Stop { outcome: Outcome::Deferred, trouble })?;
        // All at once: who does not answer must not delay a run that has somewhere else to go.
        let mut looks = JoinSet::new();
        for (index, destination) in self.destinations.iter().cloned().enumerate() {
            let (world, asks) = (self.world.clone(), self.asks());
            looks.spawn(async move { (index, route::present(&world, &destination, asks).await) });
        }
        let mut away = Vec::new();
        loop {
            let looked = tokio::select! {
                looked = looks.join_next() => looked,
                () = self.context.cancel.cancelled() => return Ok(()),
            };
            match looked {
                // With some of several destinations there, the run goes on and comes to `Partial`.
                Some(Ok((_, Ok(())))) => return Ok(()),
                // What does not get better by itself is told by the shipment, at once.
                Some(Ok((_, Err(trouble)))) if !waits(&trouble) => return Ok(()),
                Some(Ok((index, Err(trouble)))) => away.push((index, trouble)),
                Some(Err(_)) => {}
                None => break,
            }
        }
        away.sort_by_key(|(index, _)| *index);
        let Some((_, first)) = away.first().cloned() else { return Ok(()) };
        // Each is told of as one that nothing could be shipped to.
        self.record.shipments = away
            .into_iter()
            .filter_map(|(index, trouble)| Some(Shipment::none(self.destinations.get(index)?.name.clone(), trouble)))
            .collect();
        Err(Stop { outcome: Outcome::Deferred, trouble: first })
    }
}

/// Whether it is over by itself, so that it need not be a failure yet.
fn waits(trouble: &Trouble) -> bool {
    is_of_who_is_away(trouble) || trouble.kind().is_some_and(Kind::waits)
}
