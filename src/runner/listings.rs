//! One look into a repository for all who ask at about the same time: four runs that end together need no four of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::model::Artifacts;
use crate::error::{Trouble, codes};
use crate::types::Name;

/// At most two looks a second: a night of many small runs otherwise takes longer to look than to ship.
const APART: Duration = Duration::from_millis(500);

/// Whose snapshots are looked for, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Of {
    pub name: Name,
    pub location: String,
    /// Their manifests tell which snapshots are ours.
    pub artifacts: Artifacts,
}

/// The newest look into each repository, while somebody uses what it showed.
#[derive(Debug)]
pub struct Listings<T> {
    of: Mutex<BTreeMap<Of, Turn<T>>>,
    apart: Duration,
}

impl<T> Default for Listings<T> {
    fn default() -> Self {
        Self { of: Mutex::default(), apart: APART }
    }
}

type Turn<T> = Arc<tokio::sync::Mutex<Newest<T>>>;

#[derive(Debug)]
struct Newest<T> {
    begun: Option<Instant>,
    seen: Weak<T>,
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self { begun: None, seen: Weak::new() }
    }
}

impl<T> Listings<T> {
    /// What a look showed that began after this was called: that of somebody else, or `look`'s.
    ///
    /// # Errors
    /// What `look` fails with, or that it was cancelled while another one was waited for.
    pub async fn newest(
        &self,
        of: Of,
        cancel: &CancellationToken,
        look: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<Arc<T>, Trouble> {
        let asked = Instant::now();
        let stopped = Trouble::new(codes::CANCELLED, format!("cancelled before {} was listed", of.name));
        let turn = self.of.lock().unwrap_or_else(PoisonError::into_inner).entry(of).or_default().clone();
        let mut newest = tokio::select! {
            newest = turn.lock() => newest,
            () = cancel.cancelled() => return Err(stopped),
        };
        if newest.begun.is_some_and(|begun| begun >= asked)
            && let Some(seen) = newest.seen.upgrade()
        {
            return Ok(seen);
        }
        // Who asks meanwhile shares this look.
        if let Some(begun) = newest.begun {
            tokio::select! {
                () = tokio::time::sleep(self.apart.saturating_sub(begun.elapsed())) => {}
                () = cancel.cancelled() => return Err(stopped),
            }
        }
        let begun = Instant::now();
        let seen = Arc::new(look.await?);
        *newest = Newest { begun: Some(begun), seen: Arc::downgrade(&seen) };
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn nas(location: &str) -> Of {
        Of { name: Name::parse("nas").unwrap(), location: location.to_owned(), artifacts: Artifacts::default() }
    }

    #[tokio::test]
    async fn who_asks_while_one_is_taken_shares_the_next_and_nobody_gets_one_that_began_before() {
        let (listings, taken) =
            (Arc::new(Listings { apart: Duration::ZERO, ..Listings::default() }), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let (listings, taken): (Arc<Listings<()>>, _) = (listings.clone(), taken.clone());
            tokio::spawn(async move {
                let asked = Instant::now();
                let begun = Arc::new(Mutex::new(None));
                let mark = begun.clone();
                let list = async move {
                    taken.fetch_add(1, Ordering::Relaxed);
                    *mark.lock().unwrap() = Some(Instant::now());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(())
                };
                let cancel = CancellationToken::new();
                let listing = listings.newest(nas("/mnt/nas"), &cancel, list).await.unwrap();
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
        let listings = Listings::default();
        let cancel = CancellationToken::new();
        let failed = async { Err(Trouble::new(codes::REPOSITORY_LOCKED, "locked")) };
        assert!(listings.newest(nas("/a"), &cancel, failed).await.is_err());
        assert!(listings.newest(nas("/a"), &cancel, async { Ok(()) }).await.is_ok());
        let never = listings.newest(nas("/a"), &cancel, std::future::pending());
        tokio::pin!(never);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut never).await.is_err());
        let stop = CancellationToken::new();
        stop.cancel();
        let told = listings.newest(nas("/a"), &stop, async { Ok(()) }).await.unwrap_err();
        assert!(told.is(codes::CANCELLED), "{told}");
    }

    #[tokio::test]
    async fn two_looks_are_half_a_second_apart_and_those_who_ask_meanwhile_share_the_second() {
        let (listings, cancel) = (Listings::default(), CancellationToken::new());
        let looks = AtomicUsize::new(0);
        let look = || listings.newest(nas("/a"), &cancel, async { Ok(looks.fetch_add(1, Ordering::Relaxed)) });
        let first = look().await.unwrap();
        let begun = Instant::now();
        let (one, two, three) = tokio::join!(look(), look(), look());
        assert!(begun.elapsed() >= APART / 2, "{:?}", begun.elapsed());
        assert_eq!((*first, *one.unwrap(), *two.unwrap(), *three.unwrap()), (0, 1, 1, 1));
    }
}
