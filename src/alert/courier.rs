//! The task that empties the outbox: thin around the decisions of [`super::outbox`].

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::compose::{ComposeError, compose};
use super::outbox::{self, Outbox, Tried};
use super::smtp::{Answer, Patience, Session, SmtpFault};
use crate::clock::Clock;
use crate::config::model::{Config, Email};
use crate::error::{Trouble, chain, codes};
use crate::store::ledger::Ledger;
use crate::store::record::OutboxMail;
use crate::store::{Batch, StoreError};

/// Mails that one conversation hands over at most.
const ROUND_MAX: usize = 50;
/// Longest sleep without looking at the clock again: it may be set, or the machine may have slept.
const LOOK_AGAIN: Duration = Duration::from_mins(5);
/// Most answers about single recipients that are repeated.
const ANSWERS_MAX: usize = 5;
/// Pause when the store can't be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(30);

/// A clock that is this much behind what it showed was set back; what waited for its time waits no more.
const SET_BACK: SignedDuration = SignedDuration::from_mins(1);

struct Courier {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    /// What the clock showed last.
    seen: Timestamp,
    /// The settings that the waiting mails were last tried with.
    email: Option<Email>,
    /// Tries in a row that did not get as far as the first mail.
    unreachable: u32,
    /// No conversation before this.
    not_before: Timestamp,
}

pub(super) async fn run(
    ledger: Ledger,
    mut config: watch::Receiver<Arc<Config>>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    cancel: CancellationToken,
) {
    let mut courier =
        Courier { ledger, clock, seen: Timestamp::MIN, email: None, unreachable: 0, not_before: Timestamp::MIN };
    loop {
        let email = config.borrow_and_update().site.email.clone();
        let pause = tokio::select! {
            () = cancel.cancelled() => return,
            pause = courier.round(email) => pause.unwrap_or_else(|error| {
                tracing::error!(error = chain(&error), "the outbox cannot be read or written");
                STORE_PAUSE
            }),
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = wake.notified() => {}
            // Without a sender nothing changes any more.
            Ok(()) = config.changed() => {}
            () = tokio::time::sleep(pause.min(LOOK_AGAIN)) => {}
        }
    }
}

impl Courier {
    /// Sends what is due; how long nothing will be.
    async fn round(&mut self, email: Option<Email>) -> Result<Duration, StoreError> {
        let now = self.clock.now();
        self.drop_excess(now).await?;
        let Some(email) = email else { return Ok(LOOK_AGAIN) };
        let set_back = self.seen.duration_since(now) > SET_BACK;
        self.seen = now;
        if set_back || self.email.as_ref() != Some(&email) {
            self.revive(&email, now).await?;
            self.email = Some(email.clone());
            (self.unreachable, self.not_before) = (0, Timestamp::MIN);
        }
        if self.not_before <= now {
            let due = self.read(move |ledger| ledger.outbox_due(now, ROUND_MAX)).await?;
            if !due.is_empty() {
                self.hand_over(&email, due).await?;
            }
        }
        self.pause().await
    }

    async fn pause(&self) -> Result<Duration, StoreError> {
        let next = self.read(Ledger::outbox_next_due).await?;
        let now = self.clock.now();
        Ok(next.map_or(LOOK_AGAIN, |next| {
            Duration::try_from(next.max(self.not_before).duration_since(now)).unwrap_or_default()
        }))
    }

    async fn hand_over(&mut self, email: &Email, due: Vec<(u64, OutboxMail)>) -> Result<(), StoreError> {
        let mut session = match Session::open(email, Patience::default()).await {
            Ok(session) => session,
            Err(fault) => return self.note_unreachable(due, &fault).await,
        };
        let mut due = due.into_iter();
        while let Some((sequence, mail)) = due.next() {
            match attempt(&mut session, email, &mail).await {
                Ok(tried) => self.note(sequence, mail, tried).await?,
                Err(fault) => {
                    // Not known whether it was taken: it is sent again, with the same Message-ID.
                    let rest = std::iter::once((sequence, mail)).chain(due).collect();
                    return self.note_unreachable(rest, &fault).await;
                }
            }
        }
        session.close().await;
        Ok(())
    }

    /// Writes what one try came to, before the next mail is tried.
    async fn note(&mut self, sequence: u64, mail: OutboxMail, tried: Tried) -> Result<(), StoreError> {
        let now = self.clock.now();
        (self.unreachable, self.not_before) = (0, Timestamp::MIN);
        match &tried {
            Tried::Delivered => tracing::info!(subject = mail.subject, "mail delivered"),
            Tried::Later { why, .. } => tracing::warn!(subject = mail.subject, why, "mail not taken yet"),
            Tried::Refused { why, .. } => tracing::error!(subject = mail.subject, why, "mail refused"),
        }
        self.write(move |ledger, batch| {
            let mut state = Outbox::read(ledger)?;
            state.failing_since = None;
            state.trouble = None;
            match &tried {
                Tried::Delivered => {
                    state.delivered_total += 1;
                    state.last_delivered = Some(now);
                }
                Tried::Later { why, .. } => state.trouble = Some(Trouble::new(codes::MAIL_LATER, why.clone())),
                Tried::Refused { why, .. } => {
                    state.refused_total += 1;
                    state.trouble = Some(Trouble::new(codes::MAIL_REJECTED, why.clone()).with_hint(
                        "check `from` and `to` of `email` in the Site: a push that changes them sends it again",
                    ));
                }
            }
            match outbox::after(&mail, sequence, &tried, now) {
                Some(mail) => batch.update_mail(sequence, &mail)?,
                None => batch.remove_mail(sequence),
            }
            state.write(batch)
        })
        .await
    }

    /// The server as a whole can't be reached: a pause for all, told on the first that waits.
    async fn note_unreachable(&mut self, due: Vec<(u64, OutboxMail)>, fault: &SmtpFault) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.unreachable = self.unreachable.saturating_add(1);
        let seed = due.first().map_or(0, |(sequence, _)| *sequence);
        let pause = outbox::pause(self.unreachable, seed);
        self.not_before = outbox::later(now, pause);
        let trouble = fault.trouble();
        tracing::warn!(code = trouble.code, trouble = trouble.message, ?pause, waiting = due.len(), "mails wait");
        self.write(move |ledger, batch| {
            for (sequence, mail) in due.into_iter().take(1) {
                let attempts = mail.attempts.saturating_add(1);
                let last_error = Some(trouble.message.clone());
                batch.update_mail(sequence, &OutboxMail { attempts, last_error, ..mail })?;
            }
            let mut state = Outbox::read(ledger)?;
            state.failing_since = state.failing_since.or(Some(now));
            state.trouble = Some(trouble);
            state.write(batch)
        })
        .await
    }

    async fn revive(&self, email: &Email, now: Timestamp) -> Result<(), StoreError> {
        let told = email.to.clone();
        self.write(move |ledger, batch| {
            for (sequence, mail) in ledger.outbox_due(Timestamp::MAX, usize::MAX)? {
                if mail.not_before > now {
                    batch.update_mail(sequence, &outbox::revived(&mail, &told, now))?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn drop_excess(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |ledger, batch| {
            let mails = ledger.outbox_due(Timestamp::MAX, usize::MAX)?;
            let excess = outbox::excess(&mails, now);
            if excess.is_empty() {
                return Ok(());
            }
            for (sequence, mail) in mails.iter().filter(|(sequence, _)| excess.contains(sequence)) {
                let why = mail.last_error.as_deref().unwrap_or("it was never tried");
                tracing::error!(subject = mail.subject, created = %mail.created, why, "mail dropped");
                batch.remove_mail(*sequence);
            }
            let mut state = Outbox::read(ledger)?;
            state.dropped_total += excess.len() as u64;
            state.write(batch)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Ledger) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ledger = self.ledger.clone();
        tokio::task::spawn_blocking(move || read(&ledger))
            .await
            .unwrap_or_else(|error| Err(StoreError::Read(std::io::Error::other(error))))
    }

    async fn write(
        &self,
        fill: impl FnOnce(&Ledger, &mut Batch) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.read(move |ledger| {
            let mut batch = Batch::default();
            fill(ledger, &mut batch)?;
            if batch.writes.is_empty() { Ok(()) } else { ledger.commit(batch) }
        })
        .await
    }
}

/// Tries one mail in an open conversation.
async fn attempt(session: &mut Session, email: &Email, mail: &OutboxMail) -> Result<Tried, SmtpFault> {
    match compose(&email.from, mail) {
        Ok(composed) => Ok(judge(&session.send(&composed).await?)),
        Err(error) => Ok(unsendable(mail, &error)),
    }
}

fn unsendable(mail: &OutboxMail, error: &ComposeError) -> Tried {
    Tried::Refused { to: mail.to.clone(), why: chain(error) }
}

/// What the server's answers mean for the mail: who may get it later keeps it waiting, and only they are tried again.
fn judge(answer: &Answer) -> Tried {
    let addresses = |list: &[(lettre::Address, String)]| list.iter().map(|(to, _)| to.to_string()).collect();
    let lines = answer.later.iter().chain(&answer.refused).map(|(to, why)| format!("{to}: {why}"));
    let why = lines.take(ANSWERS_MAX).collect::<Vec<_>>().join("; ");
    if !answer.later.is_empty() {
        Tried::Later { to: addresses(&answer.later), why }
    } else if !answer.refused.is_empty() {
        Tried::Refused { to: addresses(&answer.refused), why }
    } else {
        Tried::Delivered
    }
}

pub(super) async fn send_test(email: &Email, now: Timestamp) -> Result<String, Trouble> {
    let mail = OutboxMail {
        created: now,
        to: email.to.clone(),
        subject: "Larder: test mail".to_owned(),
        text: "This is a test. When a backup fails, the mail about it takes the same way.\n".to_owned(),
        html: String::new(),
        attempts: 0,
        not_before: now,
        last_error: None,
    };
    send_now(email, &mail).await
}

/// Sends a mail past the outbox.
pub(super) async fn send_now(email: &Email, mail: &OutboxMail) -> Result<String, Trouble> {
    let composed = compose(&email.from, mail).map_err(|error| {
        Trouble::new(codes::MAIL_ADDRESS, chain(&error)).with_hint("mend `from` and `to` of `email` in the Site")
    })?;
    let mut session = Session::open(email, Patience::default()).await.map_err(|fault| fault.trouble())?;
    let answer = session.send(&composed).await.map_err(|fault| fault.trouble())?;
    session.close().await;
    let said = |line: &str| format!("{}:{} answered {line}", email.smtp.host, email.smtp.port);
    match judge(&answer) {
        Tried::Delivered => {
            let line = answer.taken.as_deref().unwrap_or_default();
            Ok(format!("{} for {}", said(line), email.to.join(", ")))
        }
        Tried::Later { why, .. } => Err(Trouble::new(codes::MAIL_LATER, said(&why))
            .with_hint("the server puts off strangers at first (greylisting); a real mail is tried again by itself")),
        Tried::Refused { why, .. } => {
            Err(Trouble::new(codes::MAIL_REJECTED, said(&why))
                .with_hint("check `from` and `to` of `email` in the Site"))
        }
    }
}
