//! One listing of a repository for all who ask at about the same time: four runs that end together need no four of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::engine::Snapshot;
use crate::error::{Trouble, codes};
use crate::types::Name;

/// The newest listing of each repository, by its destination and location, while somebody uses it.
#[derive(Debug, Default)]
pub struct Listings {
    of: Mutex<BTreeMap<(Name, String), Turn>>,
}

type Turn = Arc<tokio::sync::Mutex<Newest>>;

#[derive(Debug, Default)]
struct Newest {
    begun: Option<Instant>,
    listing: Weak<Vec<Snapshot>>,
}

impl Listings {
    /// A listing that began after this was called: that of somebody else, or `list`'s.
    ///
    /// # Errors
    /// What `list` fails with, or that it was cancelled while another one was waited for.
    pub async fn newest(
        &self,
        name: &Name,
        location: &str,
        cancel: &CancellationToken,
        list: impl Future<Output = Result<Vec<Snapshot>, Trouble>>,
    ) -> Result<Arc<Vec<Snapshot>>, Trouble> {
        let asked = Instant::now();
        let turn = {
            let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
            of.entry((name.clone(), location.to_owned())).or_default().clone()
        };
        let mut newest = tokio::select! {
            newest = turn.lock() => newest,
            () = cancel.cancelled() => {
                return Err(Trouble::new(codes::CANCELLED, format!("cancelled before {name} was listed")));
            }
        };
        if newest.begun.is_some_and(|begun| begun >= asked)
            && let Some(listing) = newest.listing.upgrade()
        {
            return Ok(listing);
        }
        let begun = Instant::now();
        let listing = Arc::new(list.await?);
        *newest = Newest { begun: Some(begun), listing: Arc::downgrade(&listing) };
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_asks_while_one_is_taken_shares_the_next_and_nobody_gets_one_that_began_before() {
        let (listings, taken) = (Arc::new(Listings::default()), Arc::new(AtomicUsize::new(0)));
        let nas = Name::parse("nas").unwrap();
        let ask = || {
            let (listings, taken, nas) = (listings.clone(), taken.clone(), nas.clone());
            tokio::spawn(async move {
                let asked = Instant::now();
                let begun = Arc::new(Mutex::new(None));
                let mark = begun.clone();
                let list = async move {
                    taken.fetch_add(1, Ordering::Relaxed);
                    *mark.lock().unwrap() = Some(Instant::now());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(Vec::new())
                };
                let cancel = CancellationToken::new();
                let listing = listings.newest(&nas, "/mnt/nas", &cancel, list).await.unwrap();
                let begun = *begun.lock().unwrap();
                assert!(begun.is_none_or(|begun| begun >= asked));
                listing
            })
        };
        let first = ask();
        while taken.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let others = [ask(), ask(), ask()];
        let first = first.await.unwrap();
        let mut shared = Vec::new();
        for other in others {
            shared.push(other.await.unwrap());
        }
        assert_eq!(taken.load(Ordering::Relaxed), 2, "one for the three that came later");
        assert!(shared.iter().all(|each| Arc::ptr_eq(each, &shared[0]) && !Arc::ptr_eq(each, &first)));
        drop((first, shared));
        ask().await.unwrap();
        assert_eq!(taken.load(Ordering::Relaxed), 3, "who comes later looks for themselves");
    }

    #[tokio::test]
    async fn one_that_fails_is_nobody_elses_and_who_is_cancelled_waits_no_longer() {
        let (listings, nas) = (Listings::default(), Name::parse("nas").unwrap());
        let cancel = CancellationToken::new();
        let failed = async { Err(Trouble::new(codes::REPOSITORY_LOCKED, "locked")) };
        assert!(listings.newest(&nas, "/a", &cancel, failed).await.is_err());
        assert!(listings.newest(&nas, "/a", &cancel, async { Ok(Vec::new()) }).await.is_ok());
        let never = listings.newest(&nas, "/a", &cancel, std::future::pending());
        tokio::pin!(never);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut never).await.is_err());
        let stop = CancellationToken::new();
        stop.cancel();
        let told = listings.newest(&nas, "/a", &stop, async { Ok(Vec::new()) }).await.unwrap_err();
        assert!(told.is(codes::CANCELLED), "{told}");
    }
}
