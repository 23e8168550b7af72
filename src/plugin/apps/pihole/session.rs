//! A session with a Pi-hole: opened with a password, always closed again.
//!
//! A Pi-hole has 16 seats and never evicts one; a session that is left open keeps its seat for half an hour. So it is
//! written into the journal before the login is sent, by the name that this run alone gives itself (its user agent),
//! and `recover` finds and ends it by that name. The session's id is a secret and stays in memory.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::plugin::apps::pihole::login::{self, Credential, Login, NotOpened};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::download;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::voice::Voice;
use crate::web::{Answer, Call, Web};

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

/// An open session, or the right to go without one where the Pi-hole has no password.
pub(super) struct Session<'w> {
    pub(super) web: &'w Web,
    sid: Option<SecretString>,
    user_agent: String,
    /// Whether the password is the app password, which may not import.
    pub(super) by_app_password: bool,
}

#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: i64,
    #[serde(default)]
    current_session: bool,
    #[serde(default)]
    user_agent: Option<String>,
}

/// An answer that is an error.
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The call.
    what: String,
    told: Told,
}

/// An error as the API tells it, or a login that failed.
#[derive(Default, Deserialize)]
struct Told {
    #[serde(default)]
    error: ToldError,
    #[serde(default)]
    session: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct ToldError {
    #[serde(default)]
    key: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    hint: Option<serde_json::Value>,
}

/// Opens a session, does `work` with it, and closes it whatever came of it.
pub(super) fn with_session<T>(
    web: &Web,
    credential: &Credential,
    run: &str,
    journal: Option<&Journal>,
    voice: &mut Voice<'_>,
    work: impl FnOnce(&Session<'_>, &mut Voice<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let user_agent = format!("larder/{} (run {run})", env!("CARGO_PKG_VERSION"));
    if let Some(journal) = journal {
        let note = Note { user_agent: user_agent.clone(), at_s: jiff::Timestamp::now().as_second() };
        journal.note(ENTRY, &note)?;
    }
    let session = match Session::open(web, credential, &user_agent, voice) {
        Ok(session) => session,
        Err(NotOpened { failure, answered }) => {
            // A login whose answer was lost may have taken a seat: then the entry stays.
            if let (true, Some(journal)) = (answered, journal) {
                journal.done(ENTRY)?;
            }
            return Err(failure);
        }
    };
    if session.sid.is_none() && credential.password.is_some() {
        voice.warning(
            Trouble::new("no_password", format!("the Pi-hole {} has no password: anybody may change it", web.shown()))
                .with_hint("set one: `pihole setpassword`"),
        );
    }
    let result = work(&session, voice);
    match session.close() {
        Ok(()) => {
            if let Some(journal) = journal {
                journal.done(ENTRY)?;
            }
        }
        Err(failure) => {
            let message = format!("the session could not be ended: {}", failure.trouble.message);
            voice.warning(
                Trouble::new("session_left", message)
                    .with_hint("it is tried again; without that it ends by itself in half an hour"),
            );
        }
    }
    result
}

/// Ends what killed runs left open.
pub(super) fn recover(
    web: &Web,
    credential: &Credential,
    run: &str,
    journal: &Journal,
    voice: &mut Voice<'_>,
) -> Result<(), Failure> {
    for (name, value) in journal.entries::<serde_json::Value>()? {
        // Others are of what a restore changes.
        let Ok(note) = serde_json::from_value::<Note>(value) else { continue };
        if jiff::Timestamp::now().as_second().saturating_sub(note.at_s) > FORGOTTEN_AFTER_S {
            voice.log("the session is older than a day and ended by itself");
            journal.done(&name)?;
            continue;
        }
        let user_agent = format!("larder/{} (recover {run})", env!("CARGO_PKG_VERSION"));
        let session = Session::open(web, credential, &user_agent, voice).map_err(|not| not.failure)?;
        let ended = session.end_others(&note.user_agent);
        session.close()?;
        voice.log(format!("ended {} sessions that a killed run left open", ended?));
        journal.done(&name)?;
    }
    Ok(())
}

impl<'w> Session<'w> {
    fn open(web: &'w Web, credential: &Credential, user_agent: &str, voice: &mut Voice<'_>) -> Result<Self, NotOpened> {
        let bare = Self { web, sid: None, user_agent: user_agent.to_owned(), by_app_password: false };
        let Some(password) = &credential.password else {
            return bare.without_password().map_err(NotOpened::for_sure);
        };
        let login = login::log_in(&bare, password, credential.seed.as_ref(), voice)?;
        let by_app_password = login.message.as_deref().is_some_and(|message| message.contains("app-password"));
        // Without a sid: no password is set on the Pi-hole, so it takes any and opens no session.
        Ok(Self { sid: login.sid.map(SecretString::from), by_app_password, ..bare })
    }

    fn without_password(self) -> Result<Self, Failure> {
        let answer = self.get("/api/auth").send()?;
        if !matches!(answer.status(), 200 | 401) {
            return Err(explain(answer, self.web));
        }
        let login: Login = answer.json()?;
        if login.session.valid {
            return Ok(self);
        }
        let two = if login.session.totp {
            "; it asks for a second factor too, which an app password goes without"
        } else {
            ""
        };
        Err(Failure::new("password_missing", format!("the Pi-hole {} wants a password{two}", self.web.shown()))
            .hint("write `password: {env: NAME}` with an app password (Settings, Web interface / API)"))
    }

    pub(super) fn get(&self, path: &str) -> Call<'w> {
        self.dress(self.web.get(path))
    }

    pub(super) fn post(&self, path: &str) -> Call<'w> {
        self.dress(self.web.post(path))
    }

    fn dress(&self, call: Call<'w>) -> Call<'w> {
        let call = call.header("accept", "application/json, application/zip").header("user-agent", &self.user_agent);
        match &self.sid {
            Some(sid) => call.secret_header("x-ftl-sid", sid),
            None => call,
        }
    }

    fn end_others(&self, user_agent: &str) -> Result<u64, Failure> {
        let answer = self.get("/api/auth/sessions").send()?;
        if answer.status() != 200 {
            return Err(explain(answer, self.web));
        }
        let listed: Sessions = answer.json()?;
        let ours = |each: &&Listed| !each.current_session && each.user_agent.as_deref() == Some(user_agent);
        let mut ended = 0;
        for each in listed.sessions.iter().filter(ours) {
            let answer = self.dress(self.web.delete(&format!("/api/auth/session/{}", each.id))).send()?;
            match answer.status() {
                204 => ended += 1,
                // It ended in the meantime.
                400 | 404 => {}
                _ => return Err(explain(answer, self.web)),
            }
        }
        Ok(ended)
    }

    /// Logs out. A session that is not there any more is closed as well.
    pub(super) fn close(self) -> Result<(), Failure> {
        if self.sid.is_none() {
            return Ok(());
        }
        let answer = self.dress(self.web.delete("/api/auth")).send()?;
        match answer.status() {
            204 | 200 | 401 | 410 => Ok(()),
            _ => Err(explain(answer, self.web)),
        }
    }
}

pub(super) fn wrong_password(web: &Web) -> Failure {
    Failure::new("unauthorized", format!("the Pi-hole {} does not take the password", web.shown()))
        .hint("give an app password (Settings, Web interface / API), or the one of `pihole setpassword`")
}

/// From an answer that is an error to a code, a sentence and the next step.
pub(super) fn explain(answer: Answer<'_>, web: &Web) -> Failure {
    match Refusal::read(answer) {
        Ok(refusal) => refusal.failure(web),
        Err(failure) => failure,
    }
}

impl Refusal {
    /// What the API tells; a failure when it is not the API that answered.
    pub(super) fn read(answer: Answer<'_>) -> Result<Self, Failure> {
        let (status, what) = (answer.status(), answer.what().to_owned());
        if (300..400).contains(&status) {
            return Err(download::redirected(&answer));
        }
        if answer.content_type().contains("html") {
            return Err(download::a_page(&what));
        }
        Ok(Self { status, what, told: answer.json().unwrap_or_default() })
    }

    pub(super) fn message(&self) -> &str {
        &self.told.error.message
    }

    pub(super) fn failure(self, web: &Web) -> Failure {
        let Self { status, what, told } = self;
        let said = said(&told.error);
        let failed = |code: &str| Failure::new(code, format!("{what} was answered with {status}{said}"));
        match (status, told.error.key.as_str()) {
            (429, "api_seats_exceeded") => Failure::new(
                "seats_exceeded",
                format!("all sessions that the Pi-hole {} allows at once are taken", web.shown()),
            )
            .hint("log others out (Settings, Web interface / API), or raise webserver.api.max_sessions; it is tried again")
            .later(),
            (429, _) => failed("rate_limited").hint("somebody tries passwords there; it is tried again").later(),
            (401, _) if told.session.is_some() => wrong_password(web),
            (401, _) => failed("unauthorized").hint("the session ended too early: was the password changed just now?"),
            (403, _) => failed("forbidden").hint(READ_ONLY_HINT),
            (404, _) => failed("not_found").hint("the address must be that of a Pi-hole of version 6; 5 has no such API"),
            (500..=599, _) => failed("app_failed").hint("look into /var/log/pihole/FTL.log on the Pi-hole"),
            _ => failed("refused"),
        }
    }
}

/// What to do where a password may not change anything.
pub(super) const READ_ONLY_HINT: &str =
    "restore with the web password, or let app passwords change things: webserver.api.app_sudo = true";

fn said(error: &ToldError) -> String {
    let hint = match &error.hint {
        Some(serde_json::Value::String(hint)) if !hint.is_empty() => format!(" ({hint})"),
        _ => String::new(),
    };
    let text = if error.message.is_empty() { String::new() } else { format!(": {}{hint}", error.message) };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
