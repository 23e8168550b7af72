//! The methods as one list that is read twice: once to serve them, once to describe them.

use std::future::Future;

use jsonrpsee::types::error::{ErrorCode, ErrorObject};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{Extensions, Methods, ResponsePayload, RpcModule};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::Trouble;
use crate::rpc::access::Access;
use crate::rpc::{Rpc, acting, document, reading, subscribe};

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
    fn runs(&mut self, names: &subscribe::Names, summary: &'static str);

    /// The document of all methods.
    fn discover(&mut self, name: &'static str, summary: &'static str);
}

/// Every method there is.
pub(super) fn register_all(to: &mut impl Register) {
    reading::register(to);
    acting::register(to);
    subscribe::register(to);
    document::register(to);
}

/// The methods, ready to serve.
pub(super) fn module(rpc: &Rpc) -> Methods {
    let mut serving = Serving(RpcModule::new(rpc.clone()));
    register_all(&mut serving);
    serving.0.into()
}

struct Serving(RpcModule<Rpc>);

impl Register for Serving {
    fn method<P, R, F, Fut>(&mut self, name: &'static str, access: Access, _summary: &'static str, handler: F)
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Fn(Rpc, P) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Trouble>> + Send + 'static,
    {
        let answer = move |params: Params<'static>, rpc: std::sync::Arc<Rpc>, extensions: Extensions| {
            let handler = handler.clone();
            async move {
                let result = async {
                    allow(name, access, &extensions)?;
                    let params = parse::<P>(name, &params)?;
                    let result = handler((*rpc).clone(), params).await.map_err(error_of)?;
                    to_raw_value(&result).map_err(|_| ErrorObject::from(ErrorCode::InternalError))
                };
                payload(result.await)
            }
        };
        registered(name, self.0.register_async_method(name, answer).is_ok());
    }

    fn runs(&mut self, names: &subscribe::Names, _summary: &'static str) {
        registered(names.subscribe, subscribe::serve(&mut self.0, names).is_ok());
    }

    fn discover(&mut self, name: &'static str, _summary: &'static str) {
        let answer = move |params: Params<'_>, _: &Rpc, extensions: &Extensions| {
            let result = allow(name, Access::Read, extensions)
                .and_then(|()| parse::<crate::rpc::wire::NoParams>(name, &params))
                .and_then(|_| document::committed().map_err(|_| ErrorObject::from(ErrorCode::InternalError)));
            payload(result)
        };
        registered(name, self.0.register_method(name, answer).is_ok());
    }
}

fn payload(result: Result<Box<RawValue>, ErrorObjectOwned>) -> ResponsePayload<'static, Box<RawValue>> {
    match result {
        Ok(value) => ResponsePayload::success(value),
        Err(error) => ResponsePayload::error(error),
    }
}

/// A name twice is a mistake of ours that a test finds; the first one stays.
fn registered(name: &str, well: bool) {
    if !well {
        tracing::error!(name, "an RPC method is registered twice");
    }
}

/// Whether the caller may call `name`.
pub(super) fn allow(name: &str, needed: Access, extensions: &Extensions) -> Result<(), ErrorObjectOwned> {
    match extensions.get::<Access>() {
        Some(access) if *access >= needed => Ok(()),
        given => Err(error_of(
            Trouble::new(
                "forbidden",
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
            Trouble::new("invalid_params", format!("{name}: {why}"))
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
    let number = match trouble.code.as_str() {
        "invalid_params" => ErrorCode::InvalidParams.code(),
        "forbidden" => FORBIDDEN,
        "not_found" => NOT_FOUND,
        code if code.starts_with("unknown_") => NOT_FOUND,
        _ => FAILED,
    };
    ErrorObject::owned(number, trouble.message, Some(ErrorData { code: trouble.code, hint: trouble.hint }))
}
