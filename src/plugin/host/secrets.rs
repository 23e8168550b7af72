//! Settings on their way to a plugin: references to secrets become the secrets, wherever the schema says so.
//!
//! The schema is walked together with the value, so a plugin of somebody else gets its secrets the same way as a
//! built-in one: it marks the property with `"x-larder-secret": true`.

use secrecy::SecretString;
use serde_json::Value;

use crate::error::{Trouble, chain, codes};
use crate::secret::SecretRef;

/// The keyword that marks a secret in a schema.
const SECRET_KEYWORD: &str = "x-larder-secret";

/// Deepest nesting of a schema or value that is walked, counting each `$ref`.
const DEPTH_MAX: usize = 64;

/// Settings with the secrets in them, and the secrets alone for the redactor.
pub(crate) struct Resolved {
    pub(crate) settings: Value,
    pub(crate) secrets: Vec<SecretString>,
}

/// Puts the secret in the place of each reference. It reads files: call it where blocking is allowed.
///
/// # Errors
/// When a secret can't be had, or stands where the reference is not one.
pub(crate) fn resolve(schema: &Value, settings: &Value) -> Result<Resolved, Trouble> {
    let mut resolved = Resolved { settings: settings.clone(), secrets: Vec::new() };
    let secrets = &mut resolved.secrets;
    let mut walk = Walk { root: schema, at_secret: &mut |value, path| replace(value, path, secrets) };
    walk.visit(schema, &mut resolved.settings, "", 0)?;
    Ok(resolved)
}

/// Where in the settings a secret is referred to, and by what.
pub(crate) fn references(schema: &Value, settings: &Value) -> Vec<(String, SecretRef)> {
    let mut found = Vec::new();
    let mut collect = |value: &mut Value, path: &str| {
        found.extend(serde_json::from_value(value.clone()).ok().map(|reference| (path.to_owned(), reference)));
        Ok(())
    };
    // What cannot be walked is told when it is resolved.
    let _ = Walk { root: schema, at_secret: &mut collect }.visit(schema, &mut settings.clone(), "", 0);
    found
}

struct Walk<'a, 'b> {
    root: &'a Value,
    /// Called with each value that the schema marks, and its path.
    at_secret: &'b mut dyn FnMut(&mut Value, &str) -> Result<(), Trouble>,
}

impl<'a> Walk<'a, '_> {
    fn visit(&mut self, node: &'a Value, value: &mut Value, path: &str, depth: usize) -> Result<(), Trouble> {
        let Value::Object(schema) = node else { return Ok(()) };
        if depth > DEPTH_MAX {
            return Err(Trouble::new(codes::SETTINGS_TOO_DEEP, format!("the settings schema is too deep at `{path}`")));
        }
        if schema.get(SECRET_KEYWORD) == Some(&Value::Bool(true)) {
            return (self.at_secret)(value, path);
        }
        if let Some(Value::String(reference)) = schema.get("$ref")
            && let Some(target) = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
        {
            self.visit(target, value, path, depth + 1)?;
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for branch in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
                self.visit(branch, value, path, depth + 1)?;
            }
        }
        match value {
            Value::Object(fields) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                for (key, field) in fields {
                    let known = properties.and_then(|all| all.get(key)).or_else(|| schema.get("additionalProperties"));
                    if let Some(known) = known {
                        self.visit(known, field, &join(path, key), depth + 1)?;
                    }
                }
            }
            Value::Array(items) => {
                let prefix = schema.get("prefixItems").and_then(Value::as_array);
                for (index, item) in items.iter_mut().enumerate() {
                    let known = prefix.and_then(|all| all.get(index)).or_else(|| schema.get("items"));
                    if let Some(known) = known {
                        self.visit(known, item, &format!("{path}[{index}]"), depth + 1)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn replace(value: &mut Value, path: &str, secrets: &mut Vec<SecretString>) -> Result<(), Trouble> {
    match value {
        Value::Object(_) => {
            let reference: SecretRef = serde_json::from_value(value.clone()).map_err(|_| {
                Trouble::new(codes::SECRET_REFERENCE, format!("the setting `{path}` is no reference to a secret"))
                    .with_hint("write {secret: NAME}, {env: NAME}, {file: PATH} or {credential: NAME}")
            })?;
            let secret = reference.resolve().map_err(|error| {
                Trouble::new(codes::SECRET_MISSING, format!("the setting `{path}`: {}", chain(&error)))
                    .with_hint(error.hint())
            })?;
            *value = Value::String(secrecy::ExposeSecret::expose_secret(&secret).to_owned());
            secrets.push(secret);
        }
        // The schema let a plain string through (the config refuses it where it can): hidden all the same.
        Value::String(plain) if !plain.is_empty() => secrets.push(SecretString::from(plain.clone())),
        _ => {}
    }
    Ok(())
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Gives every marked place of somebody's schema the shape of a [`SecretRef`], so a plugin need only mark it.
pub(crate) fn complete_secrets(schema: &mut Value) {
    let canonical = schemars::schema_for!(SecretRef).to_value();
    complete(schema, &canonical, 0);
}

fn complete(node: &mut Value, canonical: &Value, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match node {
        Value::Object(schema) => {
            if schema.get(SECRET_KEYWORD) == Some(&Value::Bool(true)) {
                let description = schema.remove("description");
                let mut whole = canonical.clone();
                if let (Some(description), Value::Object(whole)) = (description, &mut whole) {
                    whole.insert("description".to_owned(), description);
                }
                if let Value::Object(whole) = &mut whole {
                    whole.remove("$schema");
                    whole.remove("title");
                }
                *node = whole;
            } else {
                schema.values_mut().for_each(|child| complete(child, canonical, depth + 1));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|child| complete(child, canonical, depth + 1)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;
    use crate::plugin::kit::settings::Secret;
    use secrecy::ExposeSecret as _;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Sample {
        host: String,
        password: Option<Secret>,
        servers: Vec<Server>,
        headers: std::collections::BTreeMap<String, Secret>,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Server {
        token: Secret,
    }

    fn sample_schema() -> Value {
        schemars::schema_for!(Sample).to_value()
    }

    #[test]
    fn references_become_secrets_wherever_the_schema_marks_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "pa\"ss\n").unwrap();
        let reference = json!({"file": file.path()});
        let settings = json!({
            "host": "db",
            "password": reference,
            "servers": [{"token": reference}],
            "headers": {"X-Key": reference},
        });
        let resolved = resolve(&sample_schema(), &settings).unwrap();
        assert_eq!(resolved.settings["password"], "pa\"ss");
        assert_eq!(resolved.settings["servers"][0]["token"], "pa\"ss");
        assert_eq!(resolved.settings["headers"]["X-Key"], "pa\"ss");
        assert_eq!(resolved.settings["host"], "db");
        assert_eq!(resolved.secrets.len(), 3);
        assert!(resolved.secrets.iter().all(|secret| secret.expose_secret() == "pa\"ss"));
    }

    #[test]
    fn a_field_that_looks_like_a_reference_but_is_not_marked_stays() {
        let settings = json!({"host": {"env": "PATH"}, "password": null});
        assert_eq!(resolve(&sample_schema(), &settings).unwrap().settings, settings);
    }

    #[test]
    fn a_secret_that_is_missing_names_the_setting_and_the_way_out() {
        let settings = json!({"servers": [{"token": {"env": "LARDER_NO_SUCH_VARIABLE"}}]});
        let Err(trouble) = resolve(&sample_schema(), &settings) else { panic!("it should fail") };
        assert_eq!(trouble.code, "secret_missing");
        assert!(trouble.message.contains("servers[0].token"), "{trouble}");
        assert!(trouble.hint.unwrap().contains("LARDER_NO_SUCH_VARIABLE"));
    }

    #[test]
    fn an_external_schema_need_only_mark_its_secrets() {
        let mut schema = json!({"type": "object", "properties": {
            "token": {"x-larder-secret": true, "description": "The token."},
        }});
        complete_secrets(&mut schema);
        assert_eq!(schema["properties"]["token"]["description"], "The token.");
        assert!(schema["properties"]["token"]["oneOf"].is_array());
        assert_eq!(schema["properties"]["token"][SECRET_KEYWORD], true);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#"});
        assert!(resolve(&schema, &json!({})).is_err());
    }
}
