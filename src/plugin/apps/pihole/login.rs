//! The login: a password, and the code of the second factor where the Pi-hole asks for one.
//!
//! The first try goes without a code, since an app password needs none. A Pi-hole takes each code once and looks at one
//! a second, so a code that was used just now (a login of somebody else, the run before) is waited out, within bounds.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::error::codes;
use crate::plugin::apps::pihole::api::{Refusal, Session};
use crate::plugin::apps::pihole::totp::{STEP, Seed, Step};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::web::{Web, WebError};

/// How often a login is sent again because another code was looked at in the same second.
const RATE_LIMITED_MAX: u32 = 3;
/// Those seconds are whole ones.
const RATE_LIMIT_PAUSE: Duration = Duration::from_millis(1_100);

/// What the settings hold for a login.
pub(super) struct Credential {
    pub(super) password: Option<SecretString>,
    pub(super) seed: Option<Seed>,
}

/// What the Pi-hole says of a login.
#[derive(Deserialize)]
pub(super) struct Login {
    pub(super) session: LoginSession,
}

#[derive(Deserialize)]
pub(super) struct LoginSession {
    #[serde(default)]
    pub(super) valid: bool,
    /// Whether the web password needs a second factor.
    #[serde(default)]
    pub(super) totp: bool,
    #[serde(default)]
    pub(super) sid: Option<String>,
    #[serde(default)]
    pub(super) message: Option<String>,
}

/// A login that came to nothing.
pub(super) struct NotOpened {
    pub(super) failure: Failure,
    /// Whether the Pi-hole said that there is no session.
    pub(super) answered: bool,
}

impl NotOpened {
    pub(super) fn for_sure(failure: Failure) -> Self {
        Self { failure, answered: true }
    }
}

/// Sends the password, and a code where it is asked for.
pub(super) fn log_in(
    session: &Session<'_>,
    password: &SecretString,
    seed: Option<&Seed>,
    events: &mut EventWriter<'_>,
) -> Result<LoginSession, NotOpened> {
    let (mut sent, mut rate_limited, mut waited) = (None, 0, false);
    loop {
        let code = sent.and_then(|step| Some(seed?.code(step)));
        let refusal = match send(session, password, code)? {
            Said::Yes(login) => return Ok(login),
            Said::No(refusal) => refusal,
        };
        match (asked(&refusal, session, code), sent) {
            (Asked::ForCode, _) if seed.is_some() => {}
            (Asked::ForPause, Some(_)) if rate_limited < RATE_LIMITED_MAX => {
                rate_limited += 1;
                std::thread::sleep(RATE_LIMIT_PAUSE);
            }
            (Asked::ForNextCode, Some(step)) if !waited => {
                waited = true;
                let left = step.left(now_s()).min(STEP);
                events.log(format!("the code was used just now: waiting {} s for the next one", left.as_secs()));
                std::thread::sleep(left);
            }
            (asked, _) => return Err(NotOpened::for_sure(asked.failure(refusal, session.web))),
        }
        sent = Some(Step::at(now_s()));
    }
}

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

enum Said {
    Yes(LoginSession),
    No(Refusal),
}

fn send(session: &Session<'_>, password: &SecretString, code: Option<u32>) -> Result<Said, NotOpened> {
    let mut body = json!({ "password": password.expose_secret() });
    if let Some(code) = code {
        // As a number: a text is refused as a wrong code.
        body["totp"] = code.into();
    }
    let answer = session.post("/api/auth").json(&body).send().map_err(|error| {
        let answered = matches!(
            error,
            WebError::UnknownHost { .. }
                | WebError::Refused { .. }
                | WebError::Unreachable { .. }
                | WebError::OtherCertificate { .. }
                | WebError::OutOfDate { .. }
                | WebError::UntrustedIssuer { .. }
                | WebError::WrongName { .. }
        );
        NotOpened { failure: error.into(), answered }
    })?;
    if answer.status() != 200 {
        return Refusal::read(answer).map(Said::No).map_err(NotOpened::for_sure);
    }
    let what = answer.what().to_owned();
    let login: Login = answer.json().map_err(|error| NotOpened { failure: error.into(), answered: false })?;
    if !login.session.valid {
        return Err(NotOpened::for_sure(super::api::wrong_password(session.web)));
    }
    if login.session.sid.as_deref().is_some_and(str::is_empty) {
        return Err(NotOpened::for_sure(Failure::new(codes::UNEXPECTED_ANSWER, format!("{what} gave no sid"))));
    }
    Ok(Said::Yes(login.session))
}

/// What a refusal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    ForCode,
    /// The code is wrong.
    ForOtherCode,
    /// The code is right and was used before.
    ForNextCode,
    /// Another code was looked at in this second.
    ForPause,
    /// It is not about a second factor.
    Otherwise,
}

fn asked(refusal: &Refusal, session: &Session<'_>, code: Option<u32>) -> Asked {
    let says = |word: &str| refusal.message().contains(word);
    match (refusal.status, code) {
        (400, None) if says("2FA") || wants_code(session) => Asked::ForCode,
        (429, Some(_)) if says("2FA") => Asked::ForPause,
        (401, Some(_)) if says("Reused") => Asked::ForNextCode,
        (401, Some(_)) if says("2FA") => Asked::ForOtherCode,
        _ => Asked::Otherwise,
    }
}

fn wants_code(session: &Session<'_>) -> bool {
    let answer = session.get("/api/auth").send().ok().filter(|answer| matches!(answer.status(), 200 | 401));
    answer.and_then(|answer| answer.json::<Login>().ok()).is_some_and(|login| login.session.totp)
}

impl Asked {
    fn failure(self, refusal: Refusal, web: &Web) -> Failure {
        let shown = web.shown();
        match self {
            Self::ForCode => Failure::new(
                codes::SECOND_FACTOR,
                format!("the Pi-hole {shown} wants a second factor for this password"),
            )
            .hint("use an app password, which needs none (Settings, Web interface / API), or set `totp_secret`"),
            Self::ForOtherCode => Failure::new(
                codes::SECOND_FACTOR_REFUSED,
                format!("the Pi-hole {shown} does not take the code of the second factor"),
            )
            .hint(
                "the clocks of this host and of the Pi-hole must agree to half a minute, and `totp_secret` must be the \
                 one that it showed when the second factor was switched on",
            ),
            Self::ForNextCode => Failure::new(
                codes::SECOND_FACTOR_USED,
                format!("the Pi-hole {shown} has seen the code of the second factor before, and the next one too"),
            )
            .hint("somebody else logs in with it, or the clock of this host stands still; it is tried again")
            .later(),
            Self::ForPause => refusal
                .failure(web)
                .hint("somebody else keeps trying codes of the second factor there; it is tried again")
                .later(),
            Self::Otherwise => refusal.failure(web),
        }
    }
}
