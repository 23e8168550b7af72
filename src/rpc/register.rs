//! What takes in the list of methods, and what every method has alike: who may call it, its parameters, its errors.

use std::future::Future;

use jsonrpsee::Extensions;
use jsonrpsee::types::error::{ErrorCode, ErrorObject};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Kind, Trouble, codes};
use crate::rpc::Rpc;
use crate::rpc::access::Access;

/// JSON-RPC codes of our own; `data.code` says more.
pub const FAILED: i32 = -32000;
pub const FORBIDDEN: i32 = -32003;
pub const NOT_FOUND: i32 = -32004;

/// `error.data`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorData {
    /// Stable: `unknown_target`, `wrong_password`, …
    pub code: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// What takes in the list of methods.
pub(super) trait Register {
    /// A method that answers once.
    fn method<P, R, F, Fut>(&mut self, name: &'static str, access: Access, summary: &'static str, handler: F)
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Fn(Rpc, P) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Trouble>> + Send + 'static;

    /// The one subscription: `run.subscribe`.
    fn runs(&mut self, names: &Names, summary: &'static str);

    /// The document of all methods.
    fn discover(&mut self, name: &'static str, summary: &'static str);
}

/// The three names of a subscription.
pub(super) struct Names {
    pub(super) subscribe: &'static str,
    pub(super) update: &'static str,
    pub(super) unsubscribe: &'static str,
}

/// Whether the caller may call `name`.
pub(super) fn allow(name: &str, needed: Access, extensions: &Extensions) -> Result<(), ErrorObjectOwned> {
    match extensions.get::<Access>() {
        Some(access) if *access >= needed => Ok(()),
        given => Err(error_of(
            Trouble::new(
                codes::FORBIDDEN,
                format!(
                    "{name} needs a {} token, this one is for {}",
                    needed.as_str(),
                    given.map_or("nothing", |a| a.as_str())
                ),
            )
            .with_hint("use a control token, or the Unix socket in the state directory"),
        )),
    }
}

/// Reads the parameters: an object, or nothing.
pub(super) fn parse<P: DeserializeOwned>(name: &str, params: &Params<'_>) -> Result<P, ErrorObjectOwned> {
    let text = params.as_str().map_or("{}", str::trim);
    let text = if text.is_empty() || text == "null" { "{}" } else { text };
    let refuse = |why: String| {
        error_of(
            Trouble::new(codes::INVALID_PARAMS, format!("{name}: {why}"))
                .with_hint("`rpc.discover` describes the parameters of every method"),
        )
    };
    if !text.starts_with('{') {
        return Err(refuse("parameters are given by name, in an object".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| refuse(error.to_string()))
}

/// A trouble as JSON-RPC tells it.
pub(super) fn error_of(trouble: Trouble) -> ErrorObjectOwned {
    let number = match trouble.kind() {
        Some(Kind::Params) => ErrorCode::InvalidParams.code(),
        Some(Kind::Forbidden) => FORBIDDEN,
        Some(Kind::NotFound) => NOT_FOUND,
        _ => FAILED,
    };
    ErrorObject::owned(number, trouble.message, Some(ErrorData { code: trouble.code, hint: trouble.hint }))
}
