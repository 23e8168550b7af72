//! Grafana's HTTP API: calls with the right to make them, lists page by page, failures with their next step.

use std::collections::BTreeSet;

use secrecy::SecretString;
use serde_json::Value;

use super::settings::GrafanaSettings;
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::endpoint;
use crate::plugin::kit::tidy::tidy;
use crate::web::{Answer, Call, Web};

/// Largest answer, in bytes: a list of all data sources, one dashboard with pictures in it.
const JSON_BYTES_MAX: u64 = 64 << 20;
/// A list with more pages has no end.
const PAGES_MAX: u64 = 1_000;

/// Grafana, with the right to call it.
pub(super) struct Api {
    web: Web,
    right: Right,
    org: Option<u64>,
}

enum Right {
    Token(SecretString),
    Login(String, SecretString),
}

impl Api {
    pub(super) fn open(settings: &GrafanaSettings) -> Result<Self, Failure> {
        let right = match (&settings.token, &settings.username, &settings.password) {
            (Some(token), None, None) if settings.org.is_none() => Right::Token(token.0.clone()),
            (None, Some(user), Some(password)) => Right::Login(user.clone(), password.0.clone()),
            (Some(_), None, None) => {
                return Err(Failure::new(codes::SETTINGS, "`org` is given, but a token belongs to one organisation")
                    .hint("leave out `org`, or use `username` and `password`"));
            }
            _ => {
                return Err(Failure::new(codes::SETTINGS, "it is not clear how to log in")
                    .hint("give `token`, or both `username` and `password`"));
            }
        };
        let web = endpoint::open(&settings.url, settings.tls.as_ref(), settings.allow_http, settings.silence)?;
        Ok(Self { web, right, org: settings.org })
    }

    /// The version, from a healthy Grafana; and whether it takes the token.
    pub(super) fn version(&self) -> Result<String, Failure> {
        let answer = self.send(self.web.get("/api/health"))?;
        if answer.status() == 503 {
            return Err(Failure::new(codes::APP_UNHEALTHY, "Grafana says that its database is not well")
                .hint("look in Grafana's log")
                .later());
        }
        let health: Value = json(good(answer)?)?;
        let version = health.get("version").and_then(Value::as_str).unwrap_or("of unknown version");
        // Health is open to all: this one is not.
        self.get("/api/org", &[])?;
        Ok(tidy(version, 60))
    }

    /// The namespace of the new APIs that belongs to the organisation.
    pub(super) fn namespace(&self) -> Result<String, Failure> {
        let org = self.get("/api/org", &[])?.get("id").and_then(Value::as_u64).unwrap_or(1);
        Ok(if org == 1 { "default".to_owned() } else { format!("org-{org}") })
    }

    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        json(good(self.ask(path, query)?)?)
    }

    /// None where there is nothing at that place.
    pub(super) fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        let answer = self.ask(path, &[])?;
        if answer.status() == 404 { Ok(None) } else { json(good(answer)?).map(Some) }
    }

    /// The answer whatever its status.
    pub(super) fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer<'_>, Failure> {
        let call = query.iter().fold(self.web.get(path), |call, (name, value)| call.query(name, value));
        self.send(call)
    }

    /// Sends a body; the answer whatever its status.
    pub(super) fn change(&self, method: &str, path: &str, body: &Value) -> Result<Answer<'_>, Failure> {
        // Without it everything that is restored could no longer be changed in the interface.
        let call = self.web.call(method, path).header("X-Disable-Provenance", "true").json(body);
        self.send(call)
    }

    /// A whole list, page by page. It ends with a page that has nothing new: some servers repeat the last one for ever,
    /// some give fewer rows than they are asked for.
    pub(super) fn list(
        &self,
        path: &str,
        query: &[(&str, &str)],
        rows: fn(Value) -> Option<Vec<Value>>,
    ) -> Result<Vec<Value>, Failure> {
        let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
        for page in 1..=PAGES_MAX {
            let number = page.to_string();
            let mut query = query.to_vec();
            query.push(("page", &number));
            let found = rows(self.get(path, &query)?).ok_or_else(|| odd(&format!("{path} gave no list")))?;
            let before = all.len();
            for row in found {
                let uid = row.get("uid").and_then(Value::as_str).filter(|uid| !uid.is_empty());
                let uid = uid.ok_or_else(|| odd(&format!("{path} lists something without a uid")))?.to_owned();
                if seen.insert(uid) {
                    all.push(row);
                }
            }
            if all.len() == before {
                return Ok(all);
            }
        }
        Err(odd(&format!("{path} has more than {PAGES_MAX} pages")))
    }

    fn send<'w>(&'w self, call: Call<'w>) -> Result<Answer<'w>, Failure> {
        let call = call.header("accept", "application/json");
        let call = match &self.right {
            Right::Token(token) => call.bearer(token),
            Right::Login(user, password) => call.basic(user, password),
        };
        let call = match self.org {
            Some(org) => call.header("X-Grafana-Org-Id", &org.to_string()),
            None => call,
        };
        Ok(call.send()?)
    }
}

pub(super) fn json(answer: Answer<'_>) -> Result<Value, Failure> {
    Ok(answer.json_up_to(JSON_BYTES_MAX)?)
}

/// The answer when it is a good one.
pub(super) fn good(answer: Answer<'_>) -> Result<Answer<'_>, Failure> {
    let (status, what) = (answer.status(), answer.what().to_owned());
    let failure = match status {
        200..=299 => return Ok(answer),
        401 => Failure::new(codes::UNAUTHORIZED, format!("Grafana does not take the token or the login ({what})"))
            .hint("make a new service account token, or look whether it expired"),
        403 => {
            let said = answer.said();
            Failure::new(codes::FORBIDDEN, format!("{what} is not allowed: {said}"))
                .hint("give the service account the basic role Admin in this organisation")
        }
        300..=399 => Failure::new(codes::REDIRECTED, format!("{what} was redirected (status {status})"))
            .hint("a login or another address stands before the API: write `url` as the browser shows it"),
        404 => Failure::new(codes::NOT_FOUND, format!("{what} is not there"))
            .hint("check `url`: a sub-path belongs to it; Grafana should be of version 9 or newer"),
        _ => {
            let said = answer.said();
            let failure = Failure::new(codes::APP_FAILED, format!("{what} answered with status {status}: {said}"))
                .hint("look in Grafana's log, then run it again");
            if matches!(status, 502..=504) { failure.later() } else { failure }
        }
    };
    Err(failure)
}

pub(super) fn odd(what: &str) -> Failure {
    Failure::new(codes::UNEXPECTED_ANSWER, format!("Grafana gave an odd answer: {}", tidy(what, 300)))
        .hint("check `url`: a login page, a proxy or another application may answer there")
}

/// One part of a path, with what paths do not allow encoded.
pub(super) fn part(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else if byte == b'.' && text.bytes().any(|other| other != b'.') {
            encoded.push('.');
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
