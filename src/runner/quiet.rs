//! Who reads a destination for hours, and who must be alone in it: a copy, and what restic does under an exclusive lock.
//!
//! A run is in nobody's way here: it takes a slot of its destination, and who wants to be alone takes those last, so that it
//! keeps no run waiting while it waits for a copy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio_util::sync::CancellationToken;

use crate::error::{Trouble, codes};
use crate::types::Name;

/// Copies and who waits for their end, by destination.
#[derive(Debug, Default)]
pub struct Quiet {
    of: Mutex<BTreeMap<Name, Place>>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    used: Arc<RwLock<()>>,
    copied_to: Arc<Turn<()>>,
}

/// That one copy is under way; ends with it.
#[derive(Debug)]
pub struct Copying {
    _guards: (OwnedMutexGuard<()>, OwnedRwLockReadGuard<()>, OwnedRwLockReadGuard<()>),
}

/// That nobody copies from or to a destination; ends with it.
pub type Alone = OwnedRwLockWriteGuard<()>;

impl Quiet {
    /// Waits for the copy into `to` that is under way and for those who are alone in one of the two.
    ///
    /// # Errors
    /// When it was cancelled meanwhile.
    pub async fn copying(&self, from: &Name, to: &Name, cancel: &CancellationToken) -> Result<Copying, Trouble> {
        let (source, copy) = (self.place(from), self.place(to));
        let wait = async {
            let turn = copy.copied_to.lock_owned().await;
            let there = copy.used.read_owned().await;
            Copying { _guards: (turn, there, source.used.read_owned().await) }
        };
        or_cancelled(wait, to, cancel).await
    }

    /// Whether something is copied there now.
    #[must_use]
    pub fn is_copied_to(&self, to: &Name) -> bool {
        self.place(to).copied_to.try_lock().is_err()
    }

    /// Waits until nothing is copied from or to `name`.
    ///
    /// # Errors
    /// When it was cancelled meanwhile.
    pub async fn alone(&self, name: &Name, cancel: &CancellationToken) -> Result<Alone, Trouble> {
        or_cancelled(self.place(name).used.write_owned(), name, cancel).await
    }

    /// As [`Self::alone`], if nothing is now.
    #[must_use]
    pub fn alone_now(&self, name: &Name) -> Option<Alone> {
        self.place(name).used.try_write_owned().ok()
    }

    fn place(&self, name: &Name) -> Place {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default().clone()
    }
}

async fn or_cancelled<T>(wait: impl Future<Output = T>, name: &Name, cancel: &CancellationToken) -> Result<T, Trouble> {
    tokio::select! {
        got = wait => Ok(got),
        () = cancel.cancelled() => {
            Err(Trouble::new(codes::CANCELLED, format!("cancelled while something else was copied from or to {name}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[tokio::test]
    async fn two_copies_share_their_source_never_their_destination_and_keep_out_who_wants_to_be_alone() {
        let (quiet, cancel) = (Quiet::default(), CancellationToken::new());
        let (nas, one, other) = (name("nas"), name("one"), name("other"));
        let first = quiet.copying(&nas, &one, &cancel).await.unwrap();
        let second = quiet.copying(&nas, &other, &cancel).await.unwrap();
        assert!(quiet.is_copied_to(&one) && !quiet.is_copied_to(&nas));
        assert!(quiet.alone_now(&nas).is_none() && quiet.alone_now(&one).is_none());
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(quiet.copying(&nas, &one, &stop).await.unwrap_err().is(codes::CANCELLED));
        drop(first);
        assert!(quiet.alone_now(&nas).is_none() && quiet.alone_now(&one).is_some());
        drop(second);
        let alone = quiet.alone(&nas, &cancel).await.unwrap();
        assert!(quiet.copying(&nas, &one, &stop).await.is_err());
        drop(alone);
        assert!(!quiet.is_copied_to(&one), "who gave up waiting holds nothing");
    }
}
