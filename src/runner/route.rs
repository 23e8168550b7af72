//! The way to a destination: whether it is there, restic, and the repository that is meant.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use crate::artifact::mount;
use crate::config::model::{Destination, LocalRepository};
use crate::engine::{self, RepositoryAccess, Restic};
use crate::error::{Trouble, codes};
use crate::look::{self, LOOK_MAX, Silent};
use crate::process::Context;
use crate::runner::silence::Asks;
use crate::runner::world::World;
use crate::types::Name;

/// Where something goes and under what bounds.
#[derive(Clone)]
pub struct Route {
    pub world: Arc<World>,
    pub destination: Destination,
    pub per_destination: u32,
    pub context: Context,
    /// For each restic command.
    pub deadline: Duration,
}

/// Whether the destination can be used now.
///
/// # Errors
/// When a mount point that it needs is not mounted, or its place does not answer or does not let us.
pub async fn present(world: &World, destination: &Destination, asks: Asks) -> Result<(), Trouble> {
    mounted(destination).await?;
    if destination.repository.local().is_some() {
        return Ok(());
    }
    if let Some(trouble) = world.silences.of(&destination.name, asks) {
        return Err(trouble);
    }
    let access = world.access(destination).await?;
    let begun = Instant::now();
    let answered = engine::answers(&access).await.map_err(|error| named(destination, error.trouble()));
    world.silences.note(&destination.name, begun, &answered);
    answered
}

/// A trouble of a server says whose it is.
pub(super) fn named(destination: &Destination, trouble: Trouble) -> Trouble {
    let whose = format!("destination {}: ", destination.name);
    if trouble.message.starts_with(&whose) {
        return trouble;
    }
    Trouble { message: format!("{whose}{}", trouble.message), ..trouble }
}

/// Whether the mount that a destination on this machine needs is there, and its place answers.
///
/// # Errors
/// It is not mounted, or does not answer.
pub async fn mounted(destination: &Destination) -> Result<(), Trouble> {
    let Some(LocalRepository { path, require_mount, .. }) = destination.repository.local() else { return Ok(()) };
    let silent =
        |silent: Silent| silent.trouble(codes::DESTINATION_HANGING, &format!("destination {}:", destination.name));
    let point = require_mount.clone();
    let looked = require_mount.as_ref().unwrap_or(path);
    let mounted = look::at(looked, LOOK_MAX, move || point.is_none_or(|point| mount::is_point(&point)));
    let mounted = mounted.await.map_err(silent)?;
    if mounted {
        let looked = path.clone();
        look::at(path, LOOK_MAX, move || look::touch(&looked)).await.map_err(silent)?;
    }
    match require_mount {
        Some(point) if !mounted => Err(Trouble::new(
            codes::DESTINATION_UNMOUNTED,
            format!("destination {}: {} is not mounted", destination.name, point.display()),
        )
        .with_hint(format!("mount {}; a deferred run is tried again by itself", point.display()))),
        _ => Ok(()),
    }
}

/// Refuses to make a repository where the disk that should hold it seems to be away: it would lie on the system's disk, be
/// hidden by the next mount, and there would be two.
///
/// # Errors
/// It is away, or does not answer.
pub async fn may_be_made(destination: &Destination) -> Result<(), Trouble> {
    let Some(local) = destination.repository.local().cloned() else { return Ok(()) };
    let (name, path) = (destination.name.clone(), local.path.clone());
    look::at(&path, LOOK_MAX, move || looks_mounted(&name, &local))
        .await
        .map_err(|silent| silent.trouble(codes::DESTINATION_HANGING, "the repository"))?
}

fn looks_mounted(destination: &Name, local: &LocalRepository) -> Result<(), Trouble> {
    let LocalRepository { path, create, .. } = local;
    if *create || path.join("config").exists() {
        return Ok(());
    }
    let Some(place) = mount::missing_below(path) else { return Ok(()) };
    Err(Trouble::new(
        codes::DESTINATION_UNMOUNTED,
        format!(
            "destination {destination}: there is no repository at {}, and nothing is mounted there although it lies below {}",
            path.display(),
            place.display()
        ),
    )
    .with_hint("mount its disk; if the repository is meant to lie on the system's disk, write `create: true` beside its `path`"))
}

/// What becomes of a repository that was never there.
enum Make<'a> {
    Nothing,
    Anew,
    Like(&'a RepositoryAccess),
}

/// What lies at a destination.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made, and nothing keeps one")]
pub enum Opened {
    Made(Restic, RepositoryAccess),
    /// Nothing yet, told for whoever needs it.
    NotMade(Trouble),
}

impl Opened {
    fn made(self) -> Result<(Restic, RepositoryAccess), Trouble> {
        match self {
            Self::Made(restic, access) => Ok((restic, access)),
            Self::NotMade(trouble) => Err(trouble),
        }
    }
}

impl Route {
    /// restic and the way into the repository, which is the pinned one or is pinned now.
    ///
    /// # Errors
    /// When it is not mounted, restic or the password is missing, or the repository is another one or not made yet.
    pub async fn open(&self) -> Result<(Restic, RepositoryAccess), Trouble> {
        self.open_if_made().await?.made()
    }

    /// As [`Self::open`], for what has nothing to do where the repository was not made yet: that is no error then.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_if_made(&self) -> Result<Opened, Trouble> {
        self.enter(Make::Nothing).await
    }

    /// As [`Self::open`]; makes the repository if there was never one. Only what writes into it may.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_or_make(&self) -> Result<(Restic, RepositoryAccess), Trouble> {
        self.enter(Make::Anew).await?.made()
    }

    /// As [`Self::open_or_make`]; one that is made cuts files as that of `like` does.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_or_make_like(&self, like: &RepositoryAccess) -> Result<(Restic, RepositoryAccess), Trouble> {
        self.enter(Make::Like(like)).await?.made()
    }

    async fn enter(&self, make: Make<'_>) -> Result<Opened, Trouble> {
        mounted(&self.destination).await?;
        let restic = self.world.restic().await.map_err(|error| error.trouble())?.with_deadline(self.deadline);
        let mut access = self.world.access(&self.destination).await?;
        let lacks_key = access.machine_key && !engine::has_machine_key(&access);
        // Of several runs the first makes the repository and its key: two at once would make two, and a storage that is no
        // directory keeps one of them from half of the other.
        let makes = !matches!(make, Make::Nothing);
        let _turn = if makes && (access.expected_id.is_none() || lacks_key) {
            let turn = self.turn().await?;
            access = self.world.access(&self.destination).await?;
            Some(turn)
        } else {
            None
        };
        if access.expected_id.is_none() {
            may_be_made(&self.destination).await?;
            let id = match make {
                Make::Nothing => restic.open(&access, &self.context).await.transpose(),
                Make::Anew => Some(restic.open_or_init(&access, &self.context).await),
                Make::Like(like) => Some(restic.open_or_init_like(&access, Some(like), &self.context).await),
            };
            let Some(id) = id else { return Ok(Opened::NotMade(not_made(&access.location))) };
            let id = id.map_err(|error| error.trouble())?;
            access.expected_id = Some(id.clone());
            self.world
                .note_destination(&self.destination, |record| {
                    record.repository_id = Some(id);
                    record.location.clone_from(&access.location);
                })
                .map_err(|error| error.trouble())?;
        }
        if makes {
            restic.have_machine_key(&access, &self.context).await;
        }
        Ok(Opened::Made(restic, access))
    }

    /// Waits until nobody else makes the repository of this destination, and keeps others from it.
    async fn turn(&self) -> Result<OwnedMutexGuard<()>, Trouble> {
        let turn = self.world.making(&self.destination.name);
        tokio::select! {
            turn = turn.lock_owned() => Ok(turn),
            () = self.context.cancel.cancelled() => {
                let message = format!("cancelled before the repository of {} was opened", self.destination.name);
                Err(Trouble::new(codes::CANCELLED, message))
            }
        }
    }
}

fn not_made(location: &str) -> Trouble {
    Trouble::new(
        codes::REPOSITORY_NOT_MADE,
        format!("there is no repository at {location} yet; the first run makes it"),
    )
    .with_hint("push a target and `larder run` it; if there was one, mount its disk")
}
