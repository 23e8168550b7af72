//! The outbox: mails that wait in the order in which they were written.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::ledger::{Ledger, parse};
use super::record::OutboxMail;
use super::scan::walk;
use super::{Batch, ScanOrder, StoreError, Tree, VALUE_BYTES_MAX};

/// Greatest sequence that this process gave out.
static LAST_SEQUENCE: AtomicU64 = AtomicU64::new(0);

impl Batch {
    /// Puts a mail behind all others and answers its sequence.
    ///
    /// The sequence is the mail's time in microseconds times 4096, or one above the last: in order and unique even
    /// when many mails have the same time or the clock was turned back.
    ///
    /// # Errors
    /// When the mail cannot be written as JSON.
    pub fn enqueue_mail(&mut self, mail: &OutboxMail) -> Result<u64, StoreError> {
        let micros = u64::try_from(mail.created.as_microsecond()).unwrap_or(0);
        let floor = micros.saturating_mul(4096);
        let next = |last: u64| floor.max(last.saturating_add(1));
        let last = LAST_SEQUENCE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let sequence = next(last.unwrap_or_else(|last| last));
        self.update_mail(sequence, mail)?;
        Ok(sequence)
    }

    /// Puts a mail again, after a try that failed. One that is too large goes as text alone: half an HTML document is none.
    ///
    /// # Errors
    /// When the mail cannot be written as JSON.
    pub fn update_mail(&mut self, sequence: u64, mail: &OutboxMail) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(mail).map_or(0, |json| json.len());
        if bytes > VALUE_BYTES_MAX {
            let plain = OutboxMail { html: String::new(), ..mail.clone() };
            return self.put_fitted(Tree::Outbox, sequence.to_be_bytes(), &plain);
        }
        self.put_fitted(Tree::Outbox, sequence.to_be_bytes(), mail)
    }

    pub fn remove_mail(&mut self, sequence: u64) {
        self.remove(Tree::Outbox, sequence.to_be_bytes());
    }
}

impl Ledger {
    /// The mails that may be tried now, oldest first, at most `limit`, with their sequences.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn outbox_due(&self, now: Timestamp, limit: usize) -> Result<Vec<(u64, OutboxMail)>, StoreError> {
        let mut due = Vec::new();
        self.each_mail(|sequence, mail| {
            if mail.not_before <= now && due.len() < limit {
                due.push((sequence, mail));
            }
            due.len() < limit
        })?;
        Ok(due)
    }

    /// How many mails wait.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn outbox_len(&self) -> Result<u64, StoreError> {
        let mut waiting = 0;
        self.each_mail(|_, _| {
            waiting += 1;
            true
        })?;
        Ok(waiting)
    }

    /// When the next mail may be tried; none: the outbox is empty.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn outbox_next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut next: Option<Timestamp> = None;
        self.each_mail(|_, mail| {
            next = Some(next.map_or(mail.not_before, |next| next.min(mail.not_before)));
            true
        })?;
        Ok(next)
    }

    /// Calls `more` with each mail, oldest first, until it answers false.
    fn each_mail(&self, mut more: impl FnMut(u64, OutboxMail) -> bool) -> Result<(), StoreError> {
        walk(self.store(), Tree::Outbox, &[], None, ScanOrder::Ascending, |key, value| {
            let sequence = <[u8; 8]>::try_from(key.as_slice()).map(u64::from_be_bytes);
            if let (Ok(sequence), Some(mail)) = (sequence, parse(Tree::Outbox, &key, &value))
                && !more(sequence, mail)
            {
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}
