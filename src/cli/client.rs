//! Calls to the daemon: over its local socket, or over HTTP with a token.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::cli::args::Global;
use crate::cli::socket;
use crate::error::Trouble;
use crate::secret::SecretRef;

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
    Http { runtime: tokio::runtime::Runtime, client: reqwest::Client, url: String, token: Option<SecretString> },
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
        if !(url.starts_with("http://") || url.starts_with("https://")) || url.contains('@') {
            return Err(Trouble::new(
                "bad_url",
                "the URL must be http://HOST:PORT or https://HOST without user and password",
            )
            .with_hint("put the token into a file and give --token-file"));
        }
        let token = match &global.token_file {
            Some(file) => Some(
                SecretRef::File(file.clone())
                    .resolve()
                    .map_err(|error| Trouble::new("no_token", crate::error::chain(&error)).with_hint(error.hint()))?,
            ),
            None => None,
        };
        let internal =
            |error: &dyn std::fmt::Display| Trouble::new("internal", format!("cannot make a client: {error}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| internal(&error))?;
        let client = reqwest::Client::builder().timeout(CALL_MAX).build().map_err(|error| internal(&error))?;
        Ok(Self::Http { runtime, client, url: format!("{}/rpc", url.trim_end_matches('/')), token })
    }

    /// Calls one method and waits for its result.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, CallError> {
        let params = without_nulls(params);
        match self {
            Self::Local(path) => socket::call(path, method, &params, CALL_MAX).map_err(|error| match error {
                socket::SocketError::NotReachable(trouble) => CallError::NotReachable(trouble),
                socket::SocketError::Refused(trouble) => CallError::Refused(trouble),
            }),
            Self::Http { runtime, client, url, token } => {
                runtime.block_on(over_http(client, url, token.as_ref(), method, &params))
            }
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

async fn over_http(
    client: &reqwest::Client,
    url: &str,
    token: Option<&SecretString>,
    method: &str,
    params: &Value,
) -> Result<Value, CallError> {
    let mut request = client.post(url).json(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}));
    if let Some(token) = token {
        request = request.bearer_auth(token.expose_secret());
    }
    let unreachable = |error: reqwest::Error| {
        CallError::NotReachable(
            Trouble::new(
                "daemon_not_reachable",
                format!("no daemon answers at {url}: {}", crate::error::chain(&error)),
            )
            .with_hint("check the address, and that `larder serve` listens there"),
        )
    };
    let response = request.send().await.map_err(unreachable)?;
    if response.status() == reqwest::StatusCode::UNAUTHORIZED {
        return Err(CallError::Refused(
            Trouble::new("unauthorized", "the daemon does not accept the token")
                .with_hint("give --token-file with a valid token"),
        ));
    }
    let answer: Value = response.json().await.map_err(unreachable)?;
    socket::result_of(answer).map_err(CallError::Refused)
}
