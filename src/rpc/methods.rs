//! The methods as one list that is read twice: once to serve them, once to describe them.

use std::future::Future;
use std::io::Read as _;
use std::pin::Pin;
use std::sync::Arc;

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

/// What `document::openrpc` makes of the types, which a test checks; packed by `build.rs`.
const COMMITTED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openrpc.json.z"));

/// The OpenRPC document, as it is committed.
pub(crate) fn committed_openrpc() -> String {
    let mut text = String::new();
    // What was packed when this was built is whole.
    let _ = flate2::read::ZlibDecoder::new(COMMITTED).read_to_string(&mut text);
    text
}

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

type Answer = Result<Box<RawValue>, ErrorObjectOwned>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Serving {
    /// What all methods have in common, compiled once and not for each of them.
    fn serve(
        &mut self,
        name: &'static str,
        access: Access,
        answer: Arc<dyn Fn(Params<'static>, Arc<Rpc>) -> Answering + Send + Sync>,
    ) {
        let answer = move |params: Params<'static>, rpc: Arc<Rpc>, extensions: Extensions| {
            let answer = Arc::clone(&answer);
            async move {
                match allow(name, access, &extensions) {
                    Ok(()) => payload(answer(params, rpc).await),
                    Err(refused) => payload(Err(refused)),
                }
            }
        };
        registered(name, self.0.register_async_method(name, answer).is_ok());
    }
}

impl Register for Serving {
    fn method<P, R, F, Fut>(&mut self, name: &'static str, access: Access, _summary: &'static str, handler: F)
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Fn(Rpc, P) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Trouble>> + Send + 'static,
    {
        let answer = move |params: Params<'static>, rpc: Arc<Rpc>| {
            let handler = handler.clone();
            let answering = async move {
                let params = parse::<P>(name, &params)?;
                let result = handler((*rpc).clone(), params).await.map_err(error_of)?;
                to_raw_value(&result).map_err(|_| ErrorObject::from(ErrorCode::InternalError))
            };
            Box::pin(answering) as Answering
        };
        self.serve(name, access, Arc::new(answer));
    }

    fn runs(&mut self, names: &Names, _summary: &'static str) {
        registered(names.subscribe, subscribe::serve(&mut self.0, names).is_ok());
    }

    fn discover(&mut self, name: &'static str, _summary: &'static str) {
        let answer = move |params: Params<'_>, _: &Rpc, extensions: &Extensions| {
            let result = allow(name, Access::Read, extensions)
                .and_then(|()| parse::<crate::rpc::wire::NoParams>(name, &params))
                .and_then(|_| {
                    serde_json::from_str::<Box<RawValue>>(&committed_openrpc())
                        .map_err(|_| ErrorObject::from(ErrorCode::InternalError))
                });
            payload(result)
        };
        registered(name, self.0.register_method(name, answer).is_ok());
    }
}

fn payload(result: Answer) -> ResponsePayload<'static, Box<RawValue>> {
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
