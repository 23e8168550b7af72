//! Destinations that are away: told of once when they go and once when they are back, not by each job.

use jiff::Timestamp;

use crate::config::model::Config;
use crate::runner::world::World;
use crate::store::record::{RunRecord, Shipment};
use crate::store::{Batch, StoreError};
use crate::types::Outcome;

/// Notes what the shipments of an ended run say of their destinations; answers with how many mails were written.
///
/// # Errors
/// When the store cannot be read or written.
pub(super) fn note(world: &World, config: &Config, run: &RunRecord, now: Timestamp) -> Result<usize, StoreError> {
    let mut mails = 0;
    for shipment in &run.shipments {
        mails += usize::from(note_one(world, config, shipment, now)?);
    }
    Ok(mails)
}

fn note_one(world: &World, config: &Config, shipment: &Shipment, now: Timestamp) -> Result<bool, StoreError> {
    world.with_destinations(|ledger| {
        let Some(mut record) = ledger.destination(&shipment.destination)? else { return Ok(false) };
        let trouble = match (record.away_since, shipment.is_away()) {
            (None, true) => shipment.trouble.as_ref(),
            (Some(_), false) if matches!(shipment.outcome, Outcome::Success | Outcome::Partial) => None,
            _ => return Ok(false),
        };
        let name = &shipment.destination;
        let jobs = config.jobs().filter(|(_, _, policy)| policy.destinations.contains(name)).count();
        let mut batch = Batch::default();
        let mail = crate::alert::mail_for_destination(&config.site, &record, trouble, jobs, now);
        if let Some(mail) = &mail {
            batch.enqueue_mail(mail)?;
        }
        record.away_since = trouble.map(|_| now);
        batch.put_destination(&record)?;
        ledger.commit(batch)?;
        Ok(mail.is_some())
    })
}
