//! The OpenRPC document: generated from the types, committed as `schema/openrpc.json`, served by `rpc.discover`.

use std::future::Future;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::error::Trouble;
use crate::rpc::Rpc;
use crate::rpc::access::Access;
use crate::rpc::methods::register_all;
use crate::rpc::register::{ErrorData, FAILED, FORBIDDEN, NOT_FOUND, Names, Register};
use crate::rpc::wire::{NoParams, RunSubscribeParams};
use crate::runner::live::RunUpdate;

/// The version of the interface; its second part grows when something is added.
pub const INTERFACE_VERSION: &str = "1.0.0";

/// Makes the document from the types.
#[must_use]
pub fn openrpc() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut describing = Describing { generator: settings.into_generator(), methods: Vec::new() };
    register_all(&mut describing);
    let Describing { mut generator, mut methods } = describing;
    let data = generator.subschema_for::<ErrorData>();
    methods.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let schemas = generator.take_definitions(true);
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "Larder",
            "version": INTERFACE_VERSION,
            "description": "JSON-RPC 2.0 over `POST /rpc`, WebSocket `/rpc` and the Unix socket in the state directory. Parameters are given by name. Over TCP a bearer token is needed; `x-access` says which. Times are RFC 3339.",
            "license": {"name": "Apache-2.0"},
        },
        "methods": methods,
        "components": {
            "schemas": schemas,
            "errors": {
                "Failed": error(FAILED, "The thing could not be done; data says why.", &data),
                "Forbidden": error(FORBIDDEN, "The token does not allow this method.", &data),
                "NotFound": error(NOT_FOUND, "There is no such thing.", &data),
                "InvalidParams": error(-32602, "The parameters do not fit.", &data),
            },
        },
    })
}

fn error(code: i32, message: &str, data: &Schema) -> Value {
    json!({"code": code, "message": message, "data": data})
}

struct Describing {
    generator: SchemaGenerator,
    methods: Vec<Value>,
}

impl Describing {
    fn describe<P: JsonSchema, R: JsonSchema>(&mut self, name: &str, access: Access, summary: &str) {
        let params = self.parameters::<P>();
        let result = self.generator.subschema_for::<R>();
        let failures = ["Failed", "Forbidden", "NotFound", "InvalidParams"];
        self.methods.push(json!({
            "name": name,
            "summary": summary,
            "paramStructure": "by-name",
            "params": params,
            "result": {"name": "result", "schema": result},
            "errors": failures.map(|failure| json!({"$ref": format!("#/components/errors/{failure}")})),
            "x-access": access.as_str(),
        }));
    }

    /// One content descriptor for each field of `P`.
    fn parameters<P: JsonSchema>(&mut self) -> Vec<Value> {
        let schema = P::json_schema(&mut self.generator).to_value();
        let required = |name: &str| {
            schema["required"].as_array().is_some_and(|all| all.iter().any(|known| known.as_str() == Some(name)))
        };
        let none = Map::new();
        let fields = schema["properties"].as_object().unwrap_or(&none);
        fields
            .iter()
            .map(|(name, field)| {
                let mut field = field.clone();
                let description = field.as_object_mut().and_then(|field| field.remove("description"));
                let mut descriptor = json!({"name": name, "required": required(name), "schema": field});
                if let Some(description) = description {
                    descriptor["description"] = description;
                }
                descriptor
            })
            .collect()
    }
}

impl Register for Describing {
    fn method<P, R, F, Fut>(&mut self, name: &'static str, access: Access, summary: &'static str, _handler: F)
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Fn(Rpc, P) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Trouble>> + Send + 'static,
    {
        self.describe::<P, R>(name, access, summary);
    }

    fn runs(&mut self, names: &Names, summary: &'static str) {
        self.describe::<RunSubscribeParams, String>(names.subscribe, Access::Read, summary);
        let update = self.generator.subschema_for::<RunUpdate>();
        if let Some(subscribe) = self.methods.last_mut() {
            subscribe["result"]["name"] = json!("subscription");
            subscribe["x-notification"] = json!({"method": names.update, "schema": update});
        }
        self.describe::<NoParams, bool>(names.unsubscribe, Access::Read, "End a subscription.");
        if let Some(unsubscribe) = self.methods.last_mut() {
            unsubscribe["paramStructure"] = json!("by-position");
            unsubscribe["params"] =
                json!([{"name": "subscription", "required": true, "schema": {"type": ["string", "integer"]}}]);
        }
    }

    fn discover(&mut self, name: &'static str, summary: &'static str) {
        self.describe::<NoParams, Value>(name, Access::Read, summary);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn path() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/openrpc.json")
    }

    /// `LARDER_BLESS=1 cargo test --lib rpc::document` writes it anew.
    #[test]
    fn the_committed_document_is_what_the_types_say() {
        let made = format!("{}\n", serde_json::to_string_pretty(&openrpc()).unwrap());
        if std::env::var_os("LARDER_BLESS").is_some() {
            std::fs::write(path(), &made).unwrap();
        }
        let committed = std::fs::read_to_string(path()).unwrap();
        assert!(committed == made, "schema/openrpc.json is out of date: LARDER_BLESS=1 cargo test --lib rpc::document");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_parameter_object_is_closed() {
        let document = openrpc();
        let mut references = BTreeSet::new();
        collect(&document, &mut references);
        assert!(references.len() > 20);
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    fn collect(value: &Value, references: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    references.insert(reference.to_owned());
                }
                map.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }
}
