//! Which site this is: asked before anything is shipped, chosen from a repository, or shown.
//!
//! The store has it. A store that was lost without an export finds it again in the manifests of its own artifacts, which
//! no other site can share; where they tell nothing, or of several sites, a new one is drawn, and what the old one made is
//! another site's until somebody says otherwise (`larder rebuild --site`).

use crate::artifact::Shelf;
use crate::config::model::Artifacts;
use crate::error::{Trouble, codes};
use crate::look::{self, LOOK_MAX};
use crate::runner::lost;
use crate::runner::world::World;
use crate::store::Batch;
use crate::types::site::SiteId;

/// Which site this is.
enum Told {
    Known(SiteId),
    /// Where the artifacts lie is not there to be asked.
    NotYet(Trouble),
}

impl World {
    /// The identity of this site; drawn at the first call of all, but not while the artifacts' mount is away: their
    /// manifests may know it.
    ///
    /// # Errors
    /// When the store cannot be read or written, or nothing is known and the mount is away.
    pub async fn site(&self, artifacts: &Artifacts) -> Result<SiteId, Trouble> {
        match self.look_for_site(artifacts).await? {
            Told::Known(site) => Ok(site),
            Told::NotYet(trouble) => Err(trouble),
        }
    }

    async fn look_for_site(&self, artifacts: &Artifacts) -> Result<Told, Trouble> {
        let mut known = self.site.lock().await;
        if let Some(site) = known.as_ref() {
            return Ok(Told::Known(site.clone()));
        }
        let (ledger, shelf) = (self.ledger.clone(), Shelf::new(artifacts));
        let site = look::at(&artifacts.path, LOOK_MAX, move || -> Result<Result<(SiteId, bool), Trouble>, Trouble> {
            if let Some(site) = ledger.site_id().map_err(|error| error.trouble())? {
                return Ok(Ok((site, false)));
            }
            if let Err(trouble) = shelf.mounted() {
                return Ok(Err(trouble));
            }
            let found = recovered(&shelf);
            let is_found = found.is_some();
            let site = found.unwrap_or_else(SiteId::generate);
            let mut batch = Batch::default();
            batch.put_site_id(&site).and_then(|()| ledger.commit(batch)).map_err(|error| error.trouble())?;
            Ok(Ok((site, is_found)))
        });
        let site = site.await.map_err(|silent| silent.trouble(codes::PATH_HANGING, "the artifact root"))??;
        let (site, is_found) = match site {
            Ok(site) => site,
            Err(trouble) => return Ok(Told::NotYet(trouble)),
        };
        if is_found {
            let detail =
                format!("it knows no site, although the manifests in {} are of {site}", artifacts.path.display());
            lost::note(self, &detail).map_err(|error| error.trouble())?;
        }
        tracing::info!(%site, "the identity of this site");
        Ok(Told::Known(known.insert(site).clone()))
    }

    /// As [`Self::site`]; none while that cannot be told.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn site_if_known(&self, artifacts: &Artifacts) -> Result<Option<SiteId>, Trouble> {
        match self.look_for_site(artifacts).await? {
            Told::Known(site) => Ok(Some(site)),
            Told::NotYet(trouble) => {
                tracing::warn!(%trouble, "which site this is cannot be told yet");
                Ok(None)
            }
        }
    }

    /// Looks whether manifests tell of a state before this one, where the state knows no site yet; draws none.
    pub(crate) async fn look_for_an_earlier_state(&self, artifacts: &Artifacts) {
        let (ledger, shelf) = (self.ledger.clone(), Shelf::new(artifacts));
        let look = move || matches!(ledger.site_id(), Ok(None)) && recovered(&shelf).is_some();
        if look::at(&artifacts.path, LOOK_MAX, look).await == Ok(true)
            && let Err(trouble) = self.site(artifacts).await
        {
            tracing::error!(%trouble, "the identity of this site cannot be written down");
        }
    }
}

/// What the manifests say; none when they say nothing, or not all the same.
fn recovered(shelf: &Shelf) -> Option<SiteId> {
    let mut sites = shelf.sites().into_iter();
    let (site, other) = (sites.next()?, sites.next());
    if let Some(other) = other {
        tracing::warn!(%site, %other, "the artifacts are of several sites; none of them is taken for this one");
        return None;
    }
    tracing::warn!(%site, "the identity of this site was found in the manifests of its artifacts");
    Some(site)
}
