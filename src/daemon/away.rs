//! Destinations that are away: told of once when they go and once when they are back, not by each job.

use jiff::Timestamp;

use crate::config::model::Config;
use crate::runner::world::World;
use crate::store::record::{RunRecord, Shipment};
use crate::store::{Batch, StoreError};
use crate::types::{Name, Outcome};

/// What the shipments of a run said that is new.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) mails: usize,
    /// Who takes again what is shipped, as far as jobs lack it.
    pub(super) back: Vec<Name>,
}

/// Notes what the shipments of an ended run say of their destinations.
///
/// # Errors
/// When the store cannot be read or written.
pub(super) fn note(world: &World, config: &Config, run: &RunRecord, now: Timestamp) -> Result<News, StoreError> {
    let mut news = News::default();
    for shipment in &run.shipments {
        note_one(world, config, run, shipment, now, &mut news)?;
    }
    Ok(news)
}

fn note_one(
    world: &World,
    config: &Config,
    run: &RunRecord,
    shipment: &Shipment,
    now: Timestamp,
    news: &mut News,
) -> Result<(), StoreError> {
    world.with_destinations(|ledger| {
        let Some(mut record) = ledger.destination(&shipment.destination)? else { return Ok(()) };
        let trouble = match (record.away_since, shipment.is_away()) {
            // Another run that began later shipped there: it is one shipment that broke off, and is made up for.
            (None, true) if record.last_used > run.started => {
                news.back.push(shipment.destination.clone());
                return Ok(());
            }
            (None, true) => shipment.trouble.as_ref(),
            (Some(_), false) if matches!(shipment.outcome, Outcome::Success | Outcome::Partial) => None,
            _ => return Ok(()),
        };
        let name = &shipment.destination;
        let jobs = config.jobs_to(name).count();
        let mut batch = Batch::default();
        let mail = crate::alert::mail_for_destination(&config.site, &record, trouble, jobs, now);
        if let Some(mail) = &mail {
            batch.enqueue_mail(mail)?;
        }
        record.away_since = trouble.map(|_| now);
        if let Some(trouble) = trouble {
            // A run that found all of them away did not get as far as to ship.
            record.trouble = Some(trouble.clone());
        }
        batch.put_destination(&record)?;
        ledger.commit(batch)?;
        news.mails += usize::from(mail.is_some());
        if trouble.is_none() {
            news.back.push(name.clone());
        }
        Ok(())
    })
}
