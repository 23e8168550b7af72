//! Puts one object into Grafana, by the call that its kind wants.

use serde_json::{Value, json};

use super::api::{self, Api, odd, part};
use super::object::{Kind, Object};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::web::Answer;

const BASE: &str = "/api/v1/provisioning";

/// Creates it, or replaces what is there of that name (`now`).
pub(super) fn put(api: &Api, object: &Object, now: Option<&Object>, namespace: &str) -> Result<(), Failure> {
    let name = part(&object.name);
    let body = &object.body;
    match (object.kind, now.is_some()) {
        (Kind::Folder, _) => folder(api, object, now),
        (Kind::DataSource, false) => {
            let answer = api.change("POST", "/api/datasources", &without(body, &["secureJsonFields", "readOnly"]))?;
            if answer.status() == 409 {
                return Err(told(
                    object,
                    answer,
                    "another data source has this name: rename or delete that one in Grafana",
                ));
            }
            good(object, answer)
        }
        (Kind::DataSource, true) => {
            let body = without(body, &["secureJsonFields", "readOnly"]);
            good(object, api.change("PUT", &format!("/api/datasources/uid/{name}"), &body)?)
        }
        (Kind::LibraryPanel, there) => library_panel(api, object, there),
        (Kind::Dashboard, there) if body.get("object").is_some() => new_dashboard(api, object, there, namespace),
        (Kind::Dashboard, _) => {
            let mut dashboard = body.get("dashboard").cloned().unwrap_or_default();
            if let Some(fields) = dashboard.as_object_mut() {
                fields.insert("id".to_owned(), Value::Null);
            }
            let body = json!({
                "dashboard": dashboard,
                "folderUid": object.folder().unwrap_or_default(),
                "overwrite": true,
                "message": "restored by larder",
            });
            good(object, api.change("POST", "/api/dashboards/db", &body)?)
        }
        (Kind::ContactPoint, false) => good(object, api.change("POST", &format!("{BASE}/contact-points"), body)?),
        (Kind::ContactPoint, true) => good(object, api.change("PUT", &format!("{BASE}/contact-points/{name}"), body)?),
        (Kind::MuteTiming, false) => good(object, api.change("POST", &format!("{BASE}/mute-timings"), body)?),
        (Kind::MuteTiming, true) => good(object, api.change("PUT", &format!("{BASE}/mute-timings/{name}"), body)?),
        (Kind::Template, _) => template(api, object),
        (Kind::Policies, _) => good(object, api.change("PUT", &format!("{BASE}/policies"), body)?),
        (Kind::RuleGroup, _) => {
            let (folder, group) = (part(object.text_of("folderUid")), part(object.text_of("title")));
            good(object, api.change("PUT", &format!("{BASE}/folder/{folder}/rule-groups/{group}"), body)?)
        }
    }
}

/// Takes away what was created a moment ago; that it is gone already is well.
pub(super) fn remove(api: &Api, object: &Object, namespace: &str) -> Result<(), Failure> {
    let name = part(&object.name);
    let path = match object.kind {
        Kind::Folder => format!("/api/folders/{name}"),
        Kind::DataSource => format!("/api/datasources/uid/{name}"),
        Kind::LibraryPanel => format!("/api/library-elements/{name}"),
        Kind::Dashboard if object.body.get("object").is_some() => {
            let collection = in_namespace(object.text_of("collection"), namespace).unwrap_or_default();
            format!("{collection}/{name}")
        }
        Kind::Dashboard => format!("/api/dashboards/uid/{name}"),
        Kind::ContactPoint => format!("{BASE}/contact-points/{name}"),
        Kind::MuteTiming => format!("{BASE}/mute-timings/{name}"),
        Kind::Template => format!("{BASE}/templates/{name}"),
        // There always is one.
        Kind::Policies => return Ok(()),
        Kind::RuleGroup => {
            let (folder, group) = (part(object.text_of("folderUid")), part(object.text_of("title")));
            format!("{BASE}/folder/{folder}/rule-groups/{group}")
        }
    };
    let answer = api.change("DELETE", &path, &Value::Null)?;
    if answer.status() == 404 { Ok(()) } else { good(object, answer) }
}

fn folder(api: &Api, object: &Object, now: Option<&Object>) -> Result<(), Failure> {
    let Some(now) = now else {
        return good(object, api.change("POST", "/api/folders", &object.body)?);
    };
    let path = format!("/api/folders/{}", part(&object.name));
    if now.folder() != object.folder() {
        let parent = json!({ "parentUid": object.folder().unwrap_or_default() });
        good(object, api.change("POST", &format!("{path}/move"), &parent)?)?;
    }
    let body = json!({ "title": object.text_of("title"), "overwrite": true });
    good(object, api.change("PUT", &path, &body)?)
}

fn library_panel(api: &Api, object: &Object, there: bool) -> Result<(), Failure> {
    let body = json!({
        "uid": object.name,
        "folderUid": object.folder().unwrap_or_default(),
        "name": object.text_of("name"),
        "kind": object.body.get("kind").cloned().unwrap_or_else(|| 1.into()),
        "model": object.body.get("model"),
    });
    if !there {
        return good(object, api.change("POST", "/api/library-elements", &body)?);
    }
    let path = format!("/api/library-elements/{}", part(&object.name));
    let version = api.get(&path, &[])?.pointer("/result/version").cloned().unwrap_or_default();
    let mut body = body;
    if let Some(fields) = body.as_object_mut() {
        fields.insert("version".to_owned(), version);
    }
    good(object, api.change("PATCH", &path, &body)?)
}

fn template(api: &Api, object: &Object) -> Result<(), Failure> {
    let path = format!("{BASE}/templates/{}", part(&object.name));
    let mut body = object.body.clone();
    // What is there is replaced only by whoever names its version.
    let version = api.find(&path)?.and_then(|now| now.get("version").cloned());
    if let (Some(version), Some(fields)) = (version, body.as_object_mut()) {
        fields.insert("version".to_owned(), version);
    }
    good(object, api.change("PUT", &path, &body)?)
}

fn new_dashboard(api: &Api, object: &Object, there: bool, namespace: &str) -> Result<(), Failure> {
    let collection = in_namespace(object.text_of("collection"), namespace)
        .ok_or_else(|| odd(&format!("the backup does not say where the {} belongs", object.shown())))?;
    let mut body = object.body.get("object").cloned().unwrap_or_default();
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), namespace.into());
        if let Some(folder) = object.folder() {
            metadata.insert("annotations".to_owned(), json!({ "grafana.app/folder": folder }));
        }
    }
    let path = format!("{collection}/{}", part(&object.name));
    if !there {
        let answer = api.change("POST", &collection, &body)?;
        if answer.status() != 409 {
            return good(object, answer);
        }
    }
    good(object, api.change("PUT", &path, &body)?)
}

/// `/apis/<group>/<version>/namespaces/<namespace>/dashboards`, in the namespace of this organisation.
fn in_namespace(collection: &str, namespace: &str) -> Option<String> {
    let parts: Vec<&str> = collection.split('/').collect();
    match parts.as_slice() {
        ["", "apis", group, version, "namespaces", _, resource] => {
            Some(format!("/apis/{}/{}/namespaces/{namespace}/{}", part(group), part(version), part(resource)))
        }
        _ => None,
    }
}

fn without(body: &Value, keys: &[&str]) -> Value {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|key, _| !keys.contains(&key.as_str()));
    }
    body
}

fn good(object: &Object, answer: Answer<'_>) -> Result<(), Failure> {
    match answer.status() {
        200..=299 => Ok(()),
        400 | 404 | 409 | 412 | 422 => Err(told(object, answer, "mend this one in Grafana, then restore again")),
        _ => api::good(answer).map(drop),
    }
}

fn told(object: &Object, answer: Answer<'_>, hint: &str) -> Failure {
    let status = answer.status();
    let said = answer.said();
    Failure::new(codes::OBJECT_REFUSED, format!("Grafana refuses the {} (status {status}): {said}", object.shown()))
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_dashboard_goes_into_the_namespace_of_its_organisation() {
        let from = "/apis/dashboard.grafana.app/v2beta1/namespaces/default/dashboards";
        let to = "/apis/dashboard.grafana.app/v2beta1/namespaces/org-3/dashboards";
        assert_eq!(in_namespace(from, "org-3").as_deref(), Some(to));
        assert_eq!(in_namespace("/apis/x", "default"), None);
    }
}
