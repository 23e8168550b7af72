//! Reads everything that is kept, object by object, and believes none that is not whole.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::api::{self, Api, odd, part};
use super::object::{Kind, Object};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;

/// Gets each object, folders first.
pub(super) type Take<'t> = &'t mut dyn FnMut(Object) -> Result<(), Failure>;

/// Deeper folders are a loop.
const DEPTH_MAX: usize = 32;

/// Gives each object to `take`; answers the uids of dashboards that Grafana lists and then says are not there.
pub(super) fn everything(api: &Api, take: Take<'_>) -> Result<Vec<String>, Failure> {
    let mut folders = BTreeSet::new();
    folders_below(api, None, &mut folders, take, 0)?;
    for row in rows(api.get("/api/datasources", &[])?, "/api/datasources")? {
        let uid = row.get("uid").and_then(Value::as_str).unwrap_or_default();
        let whole = api.get(&format!("/api/datasources/uid/{}", part(uid)), &[])?;
        take(object(Kind::DataSource, whole)?)?;
    }
    let elements = |answer: Value| answer.pointer("/result/elements").and_then(Value::as_array).cloned();
    for row in api.list("/api/library-elements", &[("perPage", "100")], elements)? {
        let panel = object(Kind::LibraryPanel, row)?;
        in_a_folder(api, &panel, &mut folders, take)?;
        take(panel)?;
    }
    let mut unseen = Vec::new();
    for uid in listed_dashboards(api)? {
        match dashboard(api, &uid)? {
            Some(dashboard) => {
                in_a_folder(api, &dashboard, &mut folders, take)?;
                take(dashboard)?;
            }
            None => unseen.push(uid),
        }
    }
    alerting(api, &mut folders, take)?;
    if !unseen.is_empty() {
        // What is not listed any more was deleted meanwhile.
        let listed: BTreeSet<String> = listed_dashboards(api)?.into_iter().collect();
        unseen.retain(|uid| listed.contains(uid));
    }
    Ok(unseen)
}

fn listed_dashboards(api: &Api) -> Result<Vec<String>, Failure> {
    let found = |answer: Value| answer.as_array().cloned();
    let rows = api.list("/api/search", &[("type", "dash-db"), ("limit", "5000")], found)?;
    Ok(rows.iter().filter_map(|row| row.get("uid").and_then(Value::as_str).map(str::to_owned)).collect())
}

fn folders_below(
    api: &Api,
    parent: Option<&str>,
    seen: &mut BTreeSet<String>,
    take: Take<'_>,
    depth: usize,
) -> Result<(), Failure> {
    let mut query = vec![("limit", "1000")];
    query.extend(parent.map(|parent| ("parentUid", parent)));
    let rows = |answer: Value| answer.as_array().cloned();
    for row in api.list("/api/folders", &query, rows)? {
        let folder = object(Kind::Folder, folder_body(&row, parent))?;
        // A server that does not know nested folders gives the same list for every parent.
        if !seen.insert(folder.name.clone()) || depth >= DEPTH_MAX {
            continue;
        }
        let uid = folder.name.clone();
        take(folder)?;
        folders_below(api, Some(&uid), seen, take, depth + 1)?;
    }
    Ok(())
}

fn folder_body(row: &Value, parent: Option<&str>) -> Value {
    let parent = parent.or_else(|| row.get("parentUid").and_then(Value::as_str).filter(|uid| !uid.is_empty()));
    let mut body = json!({ "uid": row.get("uid"), "title": row.get("title") });
    if let (Some(parent), Value::Object(fields)) = (parent, &mut body) {
        fields.insert("parentUid".to_owned(), parent.into());
    }
    body
}

/// A folder that the list did not show (it may be shared, or below one that is not to be seen) is asked for by name.
fn in_a_folder(api: &Api, object: &Object, seen: &mut BTreeSet<String>, take: Take<'_>) -> Result<(), Failure> {
    let mut missing = object.folder().filter(|uid| !seen.contains(*uid)).map(str::to_owned);
    while let Some(uid) = missing.take() {
        let Some(row) = api.find(&format!("/api/folders/{}", part(&uid)))? else {
            return Err(Failure::new(
                codes::FOLDER_UNSEEN,
                format!("the folder of the {} is not to be seen", object.shown()),
            )
            .hint("give the service account the basic role Admin in this organisation"));
        };
        let folder = self::object(Kind::Folder, folder_body(&row, None))?;
        if folder.name != uid {
            return Err(odd(&format!("the folder {uid} is shown as {}", folder.name)));
        }
        seen.insert(uid);
        missing = folder.folder().filter(|uid| !seen.contains(*uid)).map(str::to_owned);
        take(folder)?;
    }
    Ok(())
}

/// One dashboard whole; none: Grafana says that it is not there.
pub(super) fn dashboard(api: &Api, uid: &str) -> Result<Option<Object>, Failure> {
    let answer = api.ask(&format!("/api/dashboards/uid/{}", part(uid)), &[])?;
    let object = match answer.status() {
        404 => return Ok(None),
        // One of the new schema: the message says where it is.
        406 => {
            let said = api::json(answer)?;
            let message = said.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
            let path = new_place(&message, uid)
                .ok_or_else(|| odd(&format!("the dashboard {uid} is elsewhere, but it does not say where")))?;
            new_dashboard(api.get(&path, &[])?, &path)?
        }
        _ => {
            let whole = api::json(api::good(answer)?)?;
            let meta = |key: &str| whole.pointer(&format!("/meta/{key}")).cloned();
            let body = json!({
                "dashboard": whole.get("dashboard"),
                "folderUid": meta("folderUid").unwrap_or_else(|| "".into()),
                "provisioned": meta("provisioned").unwrap_or(Value::Bool(false)),
            });
            object(Kind::Dashboard, body)?
        }
    };
    if object.name != uid {
        return Err(odd(&format!("the dashboard {uid} is shown as {}", object.name)));
    }
    Ok(Some(object))
}

fn new_dashboard(whole: Value, path: &str) -> Result<Object, Failure> {
    let folder = whole.pointer("/metadata/annotations/grafana.app~1folder").and_then(Value::as_str).unwrap_or_default();
    let name = whole.pointer("/metadata/name").cloned().unwrap_or_default();
    let (collection, _) = path.rsplit_once('/').unwrap_or((path, ""));
    let body = json!({
        "object": {
            "apiVersion": whole.get("apiVersion"),
            "kind": whole.get("kind"),
            "metadata": { "name": name },
            "spec": whole.get("spec"),
        },
        "collection": collection,
        "folderUid": folder,
    });
    object(Kind::Dashboard, body)
}

/// The path that a message of 406 names, when it is one of the new API and of this dashboard.
fn new_place(message: &str, uid: &str) -> Option<String> {
    let start = message.find("/apis/")?;
    let path: String = message.get(start..)?.chars().take_while(|c| !c.is_whitespace()).collect();
    let path = path.trim_end_matches(['.', ',', '"', '\'']).replace("<uid>", uid);
    // Older messages leave out the slash before the version's end, all name the object last.
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '~' | '%'));
    (plain && path.ends_with(&format!("/{uid}")) && !path.contains("..")).then_some(path)
}

fn alerting(api: &Api, folders: &mut BTreeSet<String>, take: Take<'_>) -> Result<(), Failure> {
    const BASE: &str = "/api/v1/provisioning";
    let Some(rules) = api.find(&format!("{BASE}/alert-rules"))? else {
        // Unified alerting is switched off: there is nothing to keep. Then nothing else of it is there either.
        return match api.find(&format!("{BASE}/policies"))? {
            None => Ok(()),
            Some(_) => Err(odd("alerting is there, but its rules are not")),
        };
    };
    for (place, kind) in
        [("contact-points", Kind::ContactPoint), ("mute-timings", Kind::MuteTiming), ("templates", Kind::Template)]
    {
        let path = format!("{BASE}/{place}");
        for row in rows(api.get(&path, &[])?, &path)? {
            // The one that comes with Grafana has no uid in some versions, and cannot be made.
            if kind == Kind::ContactPoint && row.get("uid").and_then(Value::as_str).is_none_or(str::is_empty) {
                continue;
            }
            take(object(kind, row)?)?;
        }
    }
    take(object(Kind::Policies, api.get(&format!("{BASE}/policies"), &[])?)?)?;
    let mut groups: BTreeMap<(String, String), u64> = BTreeMap::new();
    for rule in rows(rules, "alert-rules")? {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let place =
            text("folderUID").zip(text("ruleGroup")).ok_or_else(|| odd("an alert rule without folder or group"))?;
        *groups.entry(place).or_default() += 1;
    }
    for ((folder, group), count) in groups {
        let path = format!("{BASE}/folder/{}/rule-groups/{}", part(&folder), part(&group));
        let group = object(Kind::RuleGroup, api.get(&path, &[])?)?;
        if group.weight() < count {
            return Err(odd(&format!("the {} has {} rules, the list says {count}", group.shown(), group.weight())));
        }
        in_a_folder(api, &group, folders, take)?;
        take(group)?;
    }
    Ok(())
}

fn rows(answer: Value, path: &str) -> Result<Vec<Value>, Failure> {
    match answer {
        Value::Array(rows) => Ok(rows),
        Value::Null => Ok(Vec::new()),
        _ => Err(odd(&format!("{path} gave no list"))),
    }
}

fn object(kind: Kind, body: Value) -> Result<Object, Failure> {
    Object::new(kind, body).map_err(|why| {
        Failure::new(codes::OBJECT_INCOMPLETE, format!("Grafana gave {why}"))
            .hint("look at it in Grafana; a proxy or a mock in between may have answered")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_new_dashboard_is_read_from_the_message_and_never_leads_elsewhere() {
        let message = |path: &str| format!("dashboard api version not supported, use {path} instead");
        let good = "/apis/dashboard.grafana.app/v2beta1/namespaces/default/dashboards/abc";
        assert_eq!(new_place(&message(good), "abc").as_deref(), Some(good));
        let template = "/apis/dashboard.grafana.app/v2/namespaces/default/dashboards/<uid>";
        assert!(new_place(&message(template), "abc").unwrap().ends_with("/abc"));
        for bad in ["/apis/x/../../admin/abc", "/apis/x/other", "https://evil/abc", "/apis/a?b=/abc"] {
            assert_eq!(new_place(&message(bad), "abc"), None, "{bad}");
        }
    }
}
