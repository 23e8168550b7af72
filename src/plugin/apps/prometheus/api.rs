//! A Prometheus and the right to call it.

use serde_json::Value;

use super::settings::PrometheusSettings;
use crate::error::{Kind, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::endpoint;
use crate::web::{Answer, Call, Web};

/// The server, with the right to call it.
pub(super) struct Server<'s> {
    pub(super) web: Web,
    pub(super) settings: &'s PrometheusSettings,
}

impl<'s> Server<'s> {
    pub(super) fn open(settings: &'s PrometheusSettings) -> Result<Self, Failure> {
        if settings.username.is_some() != settings.password.is_some() {
            return Err(Failure::new(codes::SETTINGS, "only one of `username` and `password` is given")
                .hint("give both, or none"));
        }
        let web = endpoint::open(&settings.url, settings.tls.as_ref(), settings.allow_http, settings.silence)?;
        Ok(Self { web, settings })
    }

    pub(super) fn send<'w>(&self, call: Call<'w>) -> Result<Answer<'w>, Failure> {
        let call = call.header("accept", "application/json");
        let call = match (&self.settings.token, &self.settings.username, &self.settings.password) {
            (Some(token), _, _) => call.bearer(&token.0),
            (None, Some(user), Some(password)) => call.basic(user, &password.0),
            _ => call,
        };
        Ok(call.send()?)
    }

    /// The same; none when the server has no such place.
    pub(super) fn data_if_there(&self, call: Call<'_>) -> Result<Option<Value>, Failure> {
        match self.data(call) {
            Ok(data) => Ok(Some(data)),
            Err(failure) if failure.trouble.is_of(Kind::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// `data` of an answer with `"status":"success"`.
    pub(super) fn data(&self, call: Call<'_>) -> Result<Value, Failure> {
        let answer = self.send(call)?;
        let (status, what) = (answer.status(), answer.what().to_owned());
        match status {
            200..=299 => {}
            401 | 403 => {
                return Err(Failure::new(codes::UNAUTHORIZED, format!("{what} is not allowed (status {status})"))
                    .hint("give `username` and `password`, or `token`"));
            }
            404 => {
                return Err(Failure::new(codes::NOT_FOUND, format!("{what} is not there"))
                    .hint("check `url`: a route prefix belongs to it"));
            }
            300..=399 => {
                return Err(Failure::new(codes::REDIRECTED, format!("{what} was redirected (status {status})"))
                    .hint("write `url` with its route prefix, as the browser shows it before /graph"));
            }
            _ => {
                let said = answer.said();
                let failure = Failure::new(codes::APP_FAILED, format!("{what} answered with status {status}: {said}"))
                    .hint("look in Prometheus's log, then run it again");
                return Err(if matches!(status, 502..=504) { failure.later() } else { failure });
            }
        }
        let whole: Value = answer.json()?;
        match (whole.get("status").and_then(Value::as_str), whole.get("data")) {
            (Some("success"), Some(data)) => Ok(data.clone()),
            _ => {
                Err(Failure::new(codes::UNEXPECTED_ANSWER, format!("{what} gave another answer than Prometheus does"))
                    .hint("check `url`: another application may answer there"))
            }
        }
    }

    pub(super) fn version(&self) -> Result<String, Failure> {
        let told = self.data(self.web.get("/api/v1/status/buildinfo"))?;
        let version = told.get("version").and_then(Value::as_str).unwrap_or("of unknown version");
        Ok(format!("Prometheus {version}"))
    }

    pub(super) fn loaded_config(&self) -> Result<String, Failure> {
        let told = self.data(self.web.get("/api/v1/status/config"))?;
        let yaml = told.get("yaml").and_then(Value::as_str).unwrap_or_default();
        if yaml.trim().is_empty() {
            return Err(Failure::new(codes::UNEXPECTED_ANSWER, "Prometheus tells no loaded configuration")
                .hint("check `url`: another application may answer there"));
        }
        Ok(yaml.to_owned())
    }
}
