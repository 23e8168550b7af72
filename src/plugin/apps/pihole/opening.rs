//! Opens a session with a Pi-hole for one piece of work, and closes it whatever came of that.
//!
//! A Pi-hole has 16 seats and never evicts one; a session that is left open keeps its seat for half an hour. So it is
//! written into the journal before the login is sent, by the name that this run alone gives itself (its user agent),
//! and `recover` finds and ends it by that name.

use serde::{Deserialize, Serialize};

use crate::error::{Trouble, codes};
use crate::plugin::apps::pihole::api::{Pass, Session, explain};
use crate::plugin::apps::pihole::login::{Credential, Login, NotOpened, log_in};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::web::Web;

/// The only entry of the journal.
const ENTRY: &str = "session";

/// A session that is this old is gone by itself, whatever its Pi-hole allows (half an hour by default).
const FORGOTTEN_AFTER_S: i64 = 24 * 3600;

/// What is noted before a login: by what to find its session again.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    user_agent: String,
    at_s: i64,
}

/// Opens a session, does `work` with it, and closes it whatever came of it.
pub(super) fn with_session<T>(
    web: &Web,
    credential: &Credential,
    run: &str,
    journal: Option<&Journal>,
    events: &mut EventWriter<'_>,
    work: impl FnOnce(&Session<'_>, &mut EventWriter<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let session = begin(web, credential, run, journal, events)?;
    let result = work(&session, events);
    end(session, journal, events)?;
    result
}

/// A session that lasts from one piece of work to the next. One that nobody leaves is closed without a word.
pub(super) struct Seat {
    pub(super) web: Web,
    pass: Pass,
    is_left: bool,
}

impl Seat {
    pub(super) fn take(
        web: Web,
        credential: &Credential,
        run: &str,
        events: &mut EventWriter<'_>,
    ) -> Result<Self, Failure> {
        let Session { pass, .. } = begin(&web, credential, run, None, events)?;
        Ok(Self { web, pass, is_left: false })
    }

    pub(super) fn session(&self) -> Session<'_> {
        Session { web: &self.web, pass: self.pass.clone() }
    }

    pub(super) fn leave(mut self, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        self.is_left = true;
        end(self.session(), None, events)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.is_left
            && let Err(failure) = self.session().close()
        {
            tracing::warn!(why = %failure.trouble.message, "the session could not be ended; it ends by itself in half an hour");
        }
    }
}

fn begin<'w>(
    web: &'w Web,
    credential: &Credential,
    run: &str,
    journal: Option<&Journal>,
    events: &mut EventWriter<'_>,
) -> Result<Session<'w>, Failure> {
    let user_agent = format!("larder/{} (run {run})", env!("CARGO_PKG_VERSION"));
    if let Some(journal) = journal {
        let note = Note { user_agent: user_agent.clone(), at_s: jiff::Timestamp::now().as_second() };
        journal.note(ENTRY, &note)?;
    }
    let session = match open(web, credential, &user_agent, events) {
        Ok(session) => session,
        Err(NotOpened { failure, answered }) => {
            // A login whose answer was lost may have taken a seat: then the entry stays.
            return Err(match journal.filter(|_| answered) {
                Some(journal) => failure.after(journal.done(ENTRY)),
                None => failure,
            });
        }
    };
    if !session.has_sid() && credential.password.is_some() {
        events.warning(
            Trouble::new(
                codes::NO_PASSWORD,
                format!("the Pi-hole {} has no password: anybody may change it", web.shown()),
            )
            .with_hint("set one: `pihole setpassword`"),
        );
    }
    Ok(session)
}

fn end(session: Session<'_>, journal: Option<&Journal>, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    match session.close() {
        Ok(()) => journal.map_or(Ok(()), |journal| journal.done(ENTRY)),
        Err(failure) => {
            let message = format!("the session could not be ended: {}", failure.trouble.message);
            events.warning(
                Trouble::new(codes::SESSION_LEFT, message)
                    .with_hint("it is tried again; without that it ends by itself in half an hour"),
            );
            Ok(())
        }
    }
}

/// Ends what killed runs left open.
pub(super) fn recover(
    web: &Web,
    credential: &Credential,
    run: &str,
    journal: &Journal,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    for (name, value) in journal.entries::<serde_json::Value>()? {
        // Others are of what a restore changes.
        let Ok(note) = serde_json::from_value::<Note>(value) else { continue };
        if jiff::Timestamp::now().as_second().saturating_sub(note.at_s) > FORGOTTEN_AFTER_S {
            events.log("the session is older than a day and ended by itself");
            journal.done(&name)?;
            continue;
        }
        let user_agent = format!("larder/{} (recover {run})", env!("CARGO_PKG_VERSION"));
        let session = open(web, credential, &user_agent, events).map_err(|not| not.failure)?;
        let ended = session.end_others(&note.user_agent);
        session.close()?;
        events.log(format!("ended {} sessions that a killed run left open", ended?));
        journal.done(&name)?;
    }
    Ok(())
}

fn open<'w>(
    web: &'w Web,
    credential: &Credential,
    user_agent: &str,
    events: &mut EventWriter<'_>,
) -> Result<Session<'w>, NotOpened> {
    let bare = Session::bare(web, user_agent);
    let Some(password) = &credential.password else {
        return without_password(bare).map_err(NotOpened::for_sure);
    };
    let login = log_in(&bare, password, credential.seed.as_ref(), events)?;
    let by_app_password = login.message.as_deref().is_some_and(|message| message.contains("app-password"));
    Ok(bare.with_sid(login.sid, by_app_password))
}

fn without_password(session: Session<'_>) -> Result<Session<'_>, Failure> {
    let answer = session.get("/api/auth").send()?;
    if !matches!(answer.status(), 200 | 401) {
        return Err(explain(answer, session.web));
    }
    let login: Login = answer.json()?;
    if login.session.valid {
        return Ok(session);
    }
    let two =
        if login.session.totp { "; it asks for a second factor too, which an app password goes without" } else { "" };
    Err(Failure::new(codes::PASSWORD_MISSING, format!("the Pi-hole {} wants a password{two}", session.web.shown()))
        .hint("write `password: {env: NAME}` with an app password (Settings, Web interface / API)"))
}
