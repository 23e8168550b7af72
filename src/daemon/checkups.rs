//! What doctor asks the daemon: restic, the artifacts, the state directory and the files of the store.

use std::time::Duration;

use crate::artifact::Shelf;
use crate::daemon::lacking;
use crate::daemon::queries::Repositories;
use crate::daemon::state_watch;
use crate::error::{Trouble, chain, codes};
use crate::look;
use crate::rpc::wire::Checkup;
use crate::store::{StoreError, Verified};
use crate::types::{ByteSize, show_duration};

/// The longest that the store's files may take to be read.
const STORE_MAX: Duration = Duration::from_secs(20);

/// The longest that all secrets together may take.
const SECRETS_MAX: Duration = Duration::from_secs(20);

impl Repositories {
    pub(super) async fn look_around(self) -> Result<Vec<Checkup>, Trouble> {
        let mut checkups = vec![self.restic().await, self.artifacts().await, self.state().await];
        checkups.extend(self.store().await);
        checkups.extend(self.secrets().await);
        checkups.extend(self.world.catalogue.broken().map(|trouble| Checkup {
            what: "plugin".to_owned(),
            seen: String::new(),
            trouble: Some(trouble.clone()),
        }));
        Ok(checkups)
    }

    /// Whether every secret that the config refers to can be had.
    async fn secrets(&self) -> Vec<Checkup> {
        let (config, catalogue) = (self.config.borrow().clone(), self.world.catalogue.clone());
        let looked = blocking(move || {
            let all = lacking::references(&config, &catalogue);
            let troubles = lacking::among(&all, SECRETS_MAX);
            Ok((all.len(), troubles))
        });
        match looked.await {
            Ok((0, _)) => Vec::new(),
            Ok((count, troubles)) if troubles.is_empty() => {
                vec![checkup("secrets", Ok(format!("all can be read ({count} references)")))]
            }
            Ok((_, troubles)) => troubles.into_iter().map(|trouble| checkup("secret", Err(trouble))).collect(),
            Err(trouble) => vec![checkup("secrets", Err(trouble))],
        }
    }

    async fn restic(&self) -> Checkup {
        let found = self.world.restic().await;
        checkup(
            "restic",
            found
                .map(|restic| format!("{} ({})", restic.version(), restic.program().display()))
                .map_err(|error| error.trouble()),
        )
    }

    async fn artifacts(&self) -> Checkup {
        let shelf = Shelf::new(&self.config.borrow().site.artifacts);
        let seen = shelf.root().display().to_string();
        checkup("artifacts", blocking(move || shelf.ready()).await.map(|()| format!("{seen} can be written")))
    }

    /// Whether the state directory takes a file, and how much room it has.
    async fn state(&self) -> Checkup {
        if let Some(incident) = self.world.live.state() {
            return checkup("state", Err(incident.trouble));
        }
        let root = self.world.paths.root().to_owned();
        let looked = blocking(move || {
            let failed = |error: &dyn std::fmt::Display| {
                Trouble::new(codes::STATE_NOT_WRITABLE, format!("the state directory {}: {error}", root.display()))
                    .with_hint("make room, or give the daemon's user write access")
            };
            tempfile::NamedTempFile::new_in(&root).map_err(|error| failed(&error))?;
            let room = nix::sys::statvfs::statvfs(&root).map_err(|error| failed(&error))?;
            let free = ByteSize(room.blocks_available().saturating_mul(room.fragment_size()));
            Ok(format!("{}, {free} free", root.display()))
        });
        checkup("state", looked.await)
    }

    /// Whether the files of the store have every record that was written; nothing where the state is known to be lost.
    async fn store(&self) -> Option<Checkup> {
        if self.world.live.state().is_some() {
            return None;
        }
        let (world, path) = (self.world.clone(), self.world.paths.store());
        let work = look::work(&path, move || world.ledger.store().verify_files());
        let seen = match tokio::time::timeout(STORE_MAX, work).await {
            Ok(Ok(Ok(Verified::Whole(records)))) => Ok(format!("the state store adds up: {records} records")),
            Ok(Ok(Ok(Verified::Not(why)))) => Ok(format!("the state store is not checked: {why}")),
            Ok(Ok(Err(StoreError::Damaged { detail, .. }))) => {
                let kept = state_watch::keep_what_is_known(&self.world).await;
                Err(damaged(&detail, kept))
            }
            Ok(Ok(Err(error))) => Err(Trouble::new(
                codes::STATE_UNCHECKED,
                format!("the state store cannot be checked: {}", chain(&error)),
            )
            .with_hint("make room in the state directory, where a copy of it is read")),
            Ok(Err(silent)) => Err(silent.trouble(codes::STATE_HANGS, "the state store")),
            Err(_) => {
                Ok(format!("the state store is not checked: that takes longer than {}", show_duration(STORE_MAX)))
            }
        };
        Some(checkup("state store", seen))
    }
}

/// The store's files have not what they should; `kept`: what is in memory was exported.
fn damaged(detail: &str, kept: bool) -> Trouble {
    let knows =
        if kept { "what the daemon knows was exported just now" } else { "the daemon exports what it still can" };
    Trouble::new(codes::STATE_DAMAGED, format!("the state store does not add up any more: {detail}")).with_hint(format!(
        "look at its disk (`dmesg`), then restart the daemon: {knows}, and a start sets the damaged store aside and begins \
         from the newest export; no backup is lost"
    ))
}

fn checkup(what: &str, looked: Result<String, Trouble>) -> Checkup {
    let (seen, trouble) = match looked {
        Ok(seen) => (seen, None),
        Err(trouble) => (trouble.message.clone(), Some(trouble)),
    };
    Checkup { what: what.to_owned(), seen, trouble }
}

async fn blocking<T: Send + 'static>(look: impl FnOnce() -> Result<T, Trouble> + Send + 'static) -> Result<T, Trouble> {
    let stopped = |error: tokio::task::JoinError| Trouble::new(codes::INTERNAL, format!("the look broke: {error}"));
    tokio::task::spawn_blocking(look).await.map_err(stopped)?
}
