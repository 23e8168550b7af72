//! Calls to the daemon: over its local socket, or over HTTP with a token.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use crate::cli::args::Global;
use crate::cli::socket;
use crate::error::{Trouble, codes};
use crate::secret::SecretRef;
use crate::web::{ClearText, Trust, Web, WebError};

/// The longest that one call may take; long work answers with an id at once.
const CALL_MAX: Duration = Duration::from_secs(60);

/// The longest list that is read whole, in pages.
const PAGES_MAX: usize = 500;

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nobody answered.
    NotReachable(Trouble),
    /// The daemon answered no.
    Refused(Trouble),
}

impl From<Trouble> for CallError {
    fn from(trouble: Trouble) -> Self {
        Self::Refused(trouble)
    }
}

/// A way to the daemon.
pub(crate) enum Client {
    Local(PathBuf),
    Http { web: Box<Web>, token: Option<SecretString> },
}

impl Client {
    /// The daemon that the options name; nothing is sent yet.
    ///
    /// # Errors
    /// When the address or the token file cannot be used.
    pub(crate) fn connect(global: &Global) -> Result<Self, Trouble> {
        let Some(url) = &global.url else {
            return Ok(Self::Local(crate::cli::state_dir(global)?.join("larder.sock")));
        };
        let bad = |error: WebError| {
            let trouble = error.trouble();
            match error {
                WebError::ClearText { .. } => trouble.with_hint("use https, or an address of the own network"),
                _ => trouble,
            }
        };
        let web =
            Web::open(url, Trust::System, ClearText::Refused).and_then(|web| web.patient(CALL_MAX)).map_err(bad)?;
        let token =
            match &global.token_file {
                Some(file) => Some(SecretRef::File(file.clone()).resolve().map_err(|error| {
                    Trouble::new(codes::NO_TOKEN, crate::error::chain(&error)).with_hint(error.hint())
                })?),
                None => None,
            };
        Ok(Self::Http { web: Box::new(web.at_once()), token })
    }

    /// Calls one method and waits for its result.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let params = without_nulls(params);
        match self {
            Self::Local(path) => socket::call(path, method, &params, CALL_MAX).map_err(|error| match error {
                socket::SocketError::Refused(trouble) => CallError::Refused(trouble),
                other => CallError::NotReachable(other.into_trouble()),
            }),
            Self::Http { web, token } => over_http(web, token.as_ref(), method, &params),
        }
    }

    /// Reads a list to its end.
    ///
    /// # Errors
    /// As `call`.
    pub(crate) fn all(&self, method: &str, params: Value, page: u32) -> Result<Vec<Value>, CallError> {
        let mut items = Vec::new();
        let mut cursor = Value::Null;
        for _ in 0..PAGES_MAX {
            let mut params = params.clone();
            params["limit"] = json!(page);
            params["cursor"] = cursor;
            let mut answer = self.call(method, params)?;
            if let Value::Array(more) = answer["items"].take() {
                items.extend(more);
            }
            cursor = answer["next"].take();
            if cursor.is_null() {
                break;
            }
        }
        Ok(items)
    }
}

/// Parameters that were not given are left out, so that older daemons do not refuse them.
fn without_nulls(mut params: Value) -> Value {
    if let Value::Object(fields) = &mut params {
        fields.retain(|_, value| !value.is_null());
    }
    params
}

fn over_http(web: &Web, token: Option<&SecretString>, method: &str, params: &Value) -> Result<Value, CallError> {
    let mut call = web.post("/rpc").json(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}));
    if let Some(token) = token {
        call = call.bearer(token);
    }
    let unreachable = |error: WebError| {
        CallError::NotReachable(
            Trouble::new(
                codes::DAEMON_NOT_REACHABLE,
                format!("no daemon answers at {}: {}", web.shown(), crate::error::chain(&error)),
            )
            .with_hint(error.hint().unwrap_or_else(|| "check that `larder serve` listens there".to_owned())),
        )
    };
    let answer = call.send().map_err(unreachable)?;
    if answer.status() == 401 {
        return Err(CallError::Refused(
            Trouble::new(codes::UNAUTHORIZED, "the daemon does not accept the token")
                .with_hint("give --token-file with a valid token"),
        ));
    }
    socket::result_of(answer.json().map_err(unreachable)?).map_err(CallError::Refused)
}
