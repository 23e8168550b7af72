//! A session with a Pi-hole: what is asked within it, and how it ends. The session's id is a secret and stays in memory.

use secrecy::SecretString;
use serde::Deserialize;

use crate::error::{Code, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::download;
use crate::web::{Answer, Call, Web};

/// An open session, or the right to go without one where the Pi-hole has no password.
pub(super) struct Session<'w> {
    pub(super) web: &'w Web,
    pub(super) pass: Pass,
}

/// What makes a session of a way to the Pi-hole.
#[derive(Clone)]
pub(super) struct Pass {
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

impl<'w> Session<'w> {
    /// One that was not opened yet.
    pub(super) fn bare(web: &'w Web, user_agent: &str) -> Self {
        Self { web, pass: Pass { sid: None, user_agent: user_agent.to_owned(), by_app_password: false } }
    }

    /// Without a sid: no password is set on the Pi-hole, so it takes any and opens no session.
    pub(super) fn with_sid(self, sid: Option<String>, by_app_password: bool) -> Self {
        Self { pass: Pass { sid: sid.map(SecretString::from), by_app_password, ..self.pass }, ..self }
    }

    pub(super) fn has_sid(&self) -> bool {
        self.pass.sid.is_some()
    }

    pub(super) fn get(&self, path: &str) -> Call<'w> {
        self.dress(self.web.get(path))
    }

    pub(super) fn post(&self, path: &str) -> Call<'w> {
        self.dress(self.web.post(path))
    }

    fn dress(&self, call: Call<'w>) -> Call<'w> {
        let call =
            call.header("accept", "application/json, application/zip").header("user-agent", &self.pass.user_agent);
        match &self.pass.sid {
            Some(sid) => call.secret_header("x-ftl-sid", sid),
            None => call,
        }
    }

    pub(super) fn end_others(&self, user_agent: &str) -> Result<u64, Failure> {
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
        if self.pass.sid.is_none() {
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
    Failure::new(codes::UNAUTHORIZED, format!("the Pi-hole {} does not take the password", web.shown()))
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
        let failed = |code: Code| Failure::new(code, format!("{what} was answered with {status}{said}"));
        match (status, told.error.key.as_str()) {
            (429, "api_seats_exceeded") => Failure::new(
                codes::SEATS_EXCEEDED,
                format!("all sessions that the Pi-hole {} allows at once are taken", web.shown()),
            )
            .hint("log others out (Settings, Web interface / API), or raise webserver.api.max_sessions; it is tried again"),
            (429, _) => failed(codes::RATE_LIMITED).hint("somebody tries passwords there; it is tried again"),
            (401, _) if told.session.is_some() => wrong_password(web),
            (401, _) => failed(codes::UNAUTHORIZED).hint("the session ended too early: was the password changed just now?"),
            (403, _) => failed(codes::FORBIDDEN).hint(READ_ONLY_HINT),
            (404, _) => failed(codes::NOT_FOUND).hint("the address must be that of a Pi-hole of version 6; 5 has no such API"),
            (500..=599, _) => failed(codes::APP_FAILED).hint("look into /var/log/pihole/FTL.log on the Pi-hole"),
            _ => failed(codes::REFUSED),
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
