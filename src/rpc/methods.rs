//! The methods as one list that is read twice: once to serve them, once to describe them.

use std::future::Future;

use jsonrpsee::types::error::{ErrorCode, ErrorObject};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{Extensions, Methods, ResponsePayload, RpcModule};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::Trouble;
use crate::rpc::access::Access;
use crate::rpc::register::{Names, Register, allow, error_of, parse};
use crate::rpc::{Rpc, acting, reading, subscribe};

/// What `document::openrpc` makes of the types, which a test checks.
const COMMITTED: &str = include_str!("../../schema/openrpc.json");

/// Every method there is.
pub(super) fn register_all(to: &mut impl Register) {
    reading::register(to);
    acting::register(to);
    subscribe::register(to);
    to.discover("rpc.discover", "This document.");
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

    fn runs(&mut self, names: &Names, _summary: &'static str) {
        registered(names.subscribe, subscribe::serve(&mut self.0, names).is_ok());
    }

    fn discover(&mut self, name: &'static str, _summary: &'static str) {
        let answer = move |params: Params<'_>, _: &Rpc, extensions: &Extensions| {
            let result = allow(name, Access::Read, extensions)
                .and_then(|()| parse::<crate::rpc::wire::NoParams>(name, &params))
                .and_then(|_| {
                    serde_json::from_str::<Box<RawValue>>(COMMITTED)
                        .map_err(|_| ErrorObject::from(ErrorCode::InternalError))
                });
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
