//! What could not be put back on an application: told once, and given up by its value.

use std::sync::Arc;

use jiff::SignedDuration;
use tokio::sync::{Notify, watch};

use crate::config::model::{Config, Site};
use crate::error::{Trouble, chain};
use crate::run::hold::{self, HoldKind};
use crate::runner::control::Acceptance;
use crate::runner::journal;
use crate::runner::world::World;
use crate::store::unfinished::Unfinished;
use crate::store::{Batch, StoreError};
use crate::types::Name;

/// What is put back at the next try is nothing to be woken for: an engine may start after the daemon.
const TOLD_AFTER: SignedDuration = SignedDuration::from_mins(4);

/// Writes the mails about what is news of it, and has the pages written anew.
pub(super) fn teller(
    config: watch::Receiver<Arc<Config>>,
    changed: Arc<Notify>,
    mail: Arc<Notify>,
) -> impl Fn(&World) + Send + Sync + 'static {
    let seen = std::sync::Mutex::new(Vec::new());
    move |world| {
        let site = config.borrow().site.clone();
        match tell(world, &site) {
            Ok(known) => {
                let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if *seen != known {
                    changed.notify_one();
                    mail.notify_one();
                }
                *seen = known;
            }
            Err(error) => tracing::error!(error = %chain(&error), "cannot tell what is still to be put back"),
        }
    }
}

/// Answers with what is still to be put back.
fn tell(world: &World, site: &Site) -> Result<Vec<Unfinished>, StoreError> {
    let mut left = Vec::new();
    let now = world.clock.now();
    for mut unfinished in world.ledger.unfinished()? {
        let mail = crate::alert::mail_for_unfinished(site, &unfinished, now);
        let is_news = unfinished.ended || (!unfinished.told && now.duration_since(unfinished.since) >= TOLD_AFTER);
        let mut batch = Batch::default();
        if let Some(mail) = mail.filter(|_| is_news) {
            batch.enqueue_mail(&mail)?;
            unfinished.told = true;
        }
        if unfinished.ended {
            batch.remove_unfinished(unfinished.run);
        } else {
            if is_news {
                batch.put_unfinished(&unfinished)?;
            }
            left.push(unfinished);
        }
        world.ledger.commit(batch)?;
    }
    Ok(left)
}

/// What is still to be put back for `target`; where a journal cannot be read, nobody knows whose it is.
fn left(world: &World, target: &Name) -> Result<Vec<Unfinished>, StoreError> {
    let of_target = |each: &Unfinished| each.target.as_ref().is_none_or(|whose| whose == target) && !each.ended;
    Ok(world.ledger.unfinished()?.into_iter().filter(of_target).collect())
}

/// The commands that give it up, with what each is about.
pub(super) fn told(world: &World, target: &Name) -> Vec<String> {
    let all = left(world, target).unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "cannot read what is still to be put back");
        Vec::new()
    });
    all.iter().map(|each| format!("`{}` for: {}", each.accept_command(), each.trouble.message)).collect()
}

/// Gives up what is shown for `target` with `value`; none: nothing is.
pub(super) fn accept(world: &World, target: &Name, value: &str) -> Result<Option<Acceptance>, Trouble> {
    let all = left(world, target).map_err(|error| error.trouble())?;
    let Some(unfinished) = all.iter().find(|each| hold::is_value(&each.value(), value)) else {
        return Ok(None);
    };
    journal::give_up(world, unfinished.run)?;
    tracing::warn!(run = %unfinished.run, %target, "what was still to be put back was given up");
    let Ok(policy) = Name::parse("undo") else { return Ok(None) };
    let (since, reason) = (unfinished.since, unfinished.trouble.message.clone());
    Ok(Some(Acceptance { policy, kind: HoldKind::Incomplete, since, reason }))
}
