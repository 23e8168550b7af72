//! One thing that a person made in Grafana: its kind, its name, its content; how it lies in a file; pure.

use std::path::Path;

use serde_json::{Map, Value};

use crate::plugin::kit::tool::file_name;

/// The kinds, in the order in which they are put back: what others need comes first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Folder,
    DataSource,
    LibraryPanel,
    Dashboard,
    ContactPoint,
    MuteTiming,
    Template,
    Policies,
    RuleGroup,
}

impl Kind {
    pub(super) const ALL: &'static [Self] = &[
        Self::Folder,
        Self::DataSource,
        Self::LibraryPanel,
        Self::Dashboard,
        Self::ContactPoint,
        Self::MuteTiming,
        Self::Template,
        Self::Policies,
        Self::RuleGroup,
    ];

    /// Its directory in the backup.
    pub(super) fn directory(self) -> &'static str {
        match self {
            Self::Folder => "folders",
            Self::DataSource => "data-sources",
            Self::LibraryPanel => "library-panels",
            Self::Dashboard => "dashboards",
            Self::ContactPoint => "contact-points",
            Self::MuteTiming => "mute-timings",
            Self::Template => "templates",
            Self::Policies => "policies",
            Self::RuleGroup => "rule-groups",
        }
    }

    /// What is counted.
    pub(super) fn figure(self) -> &'static str {
        match self {
            Self::Folder => "folders",
            Self::DataSource => "data_sources",
            Self::LibraryPanel => "library_panels",
            Self::Dashboard => "dashboards",
            Self::ContactPoint => "contact_points",
            Self::MuteTiming => "mute_timings",
            Self::Template => "templates",
            Self::Policies => "policies",
            Self::RuleGroup => "alert_rules",
        }
    }

    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::DataSource => "data source",
            Self::LibraryPanel => "library panel",
            Self::Dashboard => "dashboard",
            Self::ContactPoint => "contact point",
            Self::MuteTiming => "mute timing",
            Self::Template => "template",
            Self::Policies => "notification policies",
            Self::RuleGroup => "alert rule group",
        }
    }

    /// The format of its artifacts.
    pub(super) fn format(self) -> &'static str {
        match self {
            Self::Folder => "grafana-folder",
            Self::DataSource => "grafana-data-source",
            Self::LibraryPanel => "grafana-library-panel",
            Self::Dashboard => "grafana-dashboard",
            Self::ContactPoint => "grafana-contact-point",
            Self::MuteTiming => "grafana-mute-timing",
            Self::Template => "grafana-template",
            Self::Policies => "grafana-policies",
            Self::RuleGroup => "grafana-rule-group",
        }
    }

    /// What changes by itself or belongs to one instance, at the top of the object and of its parts.
    fn volatile(self) -> &'static [&'static str] {
        match self {
            Self::Folder => &[],
            Self::DataSource => &["id", "orgId", "version", "accessControl", "typeLogoUrl", "typeName", "apiVersion"],
            Self::LibraryPanel => &["id", "orgId", "version", "meta", "folderId", "schemaVersion"],
            Self::Dashboard => &["id", "version"],
            Self::ContactPoint | Self::MuteTiming | Self::Template | Self::Policies => &["provenance", "version"],
            Self::RuleGroup => &["id", "updated", "provenance", "orgID"],
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Object {
    pub(super) kind: Kind,
    /// Its uid; where there is none its name. The same in every run.
    pub(super) name: String,
    pub(super) body: Value,
}

impl Object {
    /// Checks it and takes out what is not to be kept; the error says what is wrong with it.
    pub(super) fn new(kind: Kind, mut body: Value) -> Result<Self, String> {
        let name = name_of(kind, &body)?;
        check(kind, &body)?;
        strip(kind, &mut body);
        Ok(Self { kind, name, body: sorted(body) })
    }

    /// Where it lies in the backup.
    pub(super) fn path(&self) -> String {
        format!("{}/{}.json", self.kind.directory(), file_name(&self.name))
    }

    /// As it lies in the backup.
    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.body).unwrap_or_default();
        text.push('\n');
        text
    }

    /// How many it counts for: a group holds rules, the policies are routes.
    pub(super) fn weight(&self) -> u64 {
        match self.kind {
            Kind::RuleGroup => self.body.get("rules").and_then(Value::as_array).map_or(0, |rules| rules.len() as u64),
            Kind::Policies => routes(&self.body),
            _ => 1,
        }
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> Option<&str> {
        let folder = match self.kind {
            Kind::Folder => self.body.get("parentUid"),
            Kind::Dashboard | Kind::LibraryPanel | Kind::RuleGroup => self.body.get("folderUid"),
            _ => None,
        };
        folder.and_then(Value::as_str).filter(|uid| !uid.is_empty() && *uid != "general")
    }

    /// `dashboard Home (abc)`.
    pub(super) fn shown(&self) -> String {
        let title = ["/title", "/name", "/dashboard/title", "/object/spec/title"]
            .iter()
            .find_map(|pointer| self.body.pointer(pointer)?.as_str())
            .unwrap_or_default();
        match (self.kind, title.is_empty() || title == self.name) {
            (Kind::Policies, _) => self.kind.word().to_owned(),
            (kind, true) => format!("{} {}", kind.word(), self.name),
            (kind, false) => format!("{} {title} ({})", kind.word(), self.name),
        }
    }

    /// A text at the top of its body.
    pub(super) fn text_of(&self, key: &str) -> &str {
        self.body.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Names of secrets that it has on the server and that are not in the backup.
    pub(super) fn secrets(&self) -> Vec<String> {
        match self.kind {
            Kind::DataSource => {
                let fields = self.body.get("secureJsonFields").and_then(Value::as_object);
                fields
                    .into_iter()
                    .flatten()
                    .filter(|(_, set)| **set == Value::Bool(true))
                    .map(|(name, _)| name.clone())
                    .collect()
            }
            Kind::ContactPoint => {
                let fields = self.body.get("settings").and_then(Value::as_object);
                fields
                    .into_iter()
                    .flatten()
                    .filter(|(_, value)| *value == "[REDACTED]")
                    .map(|(name, _)| name.clone())
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Comes from files on the server; the API cannot change it.
    pub(super) fn is_provisioned(&self) -> bool {
        let flag = match self.kind {
            Kind::DataSource => "readOnly",
            Kind::Dashboard => "provisioned",
            _ => return false,
        };
        self.body.get(flag) == Some(&Value::Bool(true))
    }
}

/// Reads an object of a backup; `path` is relative to `staging`.
pub(super) fn read(staging: &Path, path: &Path) -> Result<Object, String> {
    let directory = path.parent().and_then(Path::to_str).unwrap_or_default();
    let kind = Kind::ALL.iter().find(|kind| kind.directory() == directory).ok_or("it is of no kind that is known")?;
    let bytes = std::fs::read(staging.join(path)).map_err(|error| format!("it cannot be read: {error}"))?;
    let body: Value = serde_json::from_slice(&bytes).map_err(|_| "it is no JSON")?;
    let object = Object::new(*kind, body)?;
    if Path::new(&object.path()) != path {
        return Err("it is another object than its file's name says".to_owned());
    }
    Ok(object)
}

fn name_of(kind: Kind, body: &Value) -> Result<String, String> {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = match kind {
        Kind::Folder | Kind::DataSource | Kind::LibraryPanel | Kind::ContactPoint => text("/uid").map(str::to_owned),
        Kind::Dashboard => text("/dashboard/uid").or_else(|| text("/object/metadata/name")).map(str::to_owned),
        Kind::MuteTiming | Kind::Template => text("/name").map(str::to_owned),
        Kind::Policies => Some("tree".to_owned()),
        Kind::RuleGroup => text("/folderUid").zip(text("/title")).map(|(folder, title)| format!("{folder}/{title}")),
    };
    match name {
        Some(name) if name.len() <= 500 => Ok(name),
        _ => Err(format!("a {} without a name or uid", kind.word())),
    }
}

/// Whether it holds what makes it one of its kind.
fn check(kind: Kind, body: &Value) -> Result<(), String> {
    let is_text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let is_list = |pointer: &str| body.pointer(pointer).is_some_and(Value::is_array);
    let is_object = |pointer: &str| body.pointer(pointer).is_some_and(Value::is_object);
    let good = match kind {
        Kind::Folder => is_text("/title"),
        Kind::DataSource => is_text("/name") && is_text("/type"),
        Kind::LibraryPanel => is_text("/name") && is_object("/model"),
        Kind::Dashboard if is_object("/object") => {
            is_text("/object/spec/title")
                && (is_object("/object/spec/elements") || is_list("/object/spec/panels"))
                && is_text("/object/apiVersion")
        }
        // A dashboard without any panel is one that was just begun: its list is there all the same, or it has tags.
        Kind::Dashboard => {
            is_text("/dashboard/title")
                && (is_list("/dashboard/panels")
                    || is_list("/dashboard/rows")
                    || is_number(body, "/dashboard/schemaVersion"))
        }
        Kind::ContactPoint => is_text("/type") && is_object("/settings"),
        Kind::MuteTiming => is_list("/time_intervals"),
        Kind::Template => is_text("/template"),
        Kind::Policies => is_text("/receiver"),
        Kind::RuleGroup => is_list("/rules") && is_number(body, "/interval"),
    };
    if good { Ok(()) } else { Err(format!("a {} that has not what every {} has", kind.word(), kind.word())) }
}

fn is_number(body: &Value, pointer: &str) -> bool {
    body.pointer(pointer).is_some_and(Value::is_number)
}

fn strip(kind: Kind, body: &mut Value) {
    let parts: Vec<&mut Value> = match kind {
        Kind::Dashboard => match body.get_mut("dashboard") {
            Some(dashboard) => vec![dashboard],
            None => Vec::new(),
        },
        Kind::RuleGroup => body
            .get_mut("rules")
            .and_then(Value::as_array_mut)
            .map(|rules| rules.iter_mut().collect())
            .unwrap_or_default(),
        _ => vec![body],
    };
    for part in parts {
        if let Value::Object(fields) = part {
            fields.retain(|key, _| !kind.volatile().contains(&key.as_str()));
        }
    }
}

fn routes(policy: &Value) -> u64 {
    let below = policy.get("routes").and_then(Value::as_array);
    1 + below.into_iter().flatten().map(routes).sum::<u64>()
}

/// The same with every object's keys in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<(String, Value)> = fields.into_iter().collect();
            pairs.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(pairs.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_object_is_the_same_file_whatever_its_order_and_number() {
        let one = json!({"dashboard": {"uid": "a", "title": "T", "id": 4, "version": 2, "panels": [{"b": 1, "a": 2}]}, "folderUid": "f"});
        let other: Value = serde_json::from_str(
            r#"{"folderUid":"f","dashboard":{"version":9,"title":"T","panels":[{"a":2,"b":1}],"uid":"a","id":7}}"#,
        )
        .unwrap();
        let (one, other) = (Object::new(Kind::Dashboard, one).unwrap(), Object::new(Kind::Dashboard, other).unwrap());
        assert_eq!(one.text(), other.text());
        assert_eq!((one.path().as_str(), one.shown().as_str()), ("dashboards/a.json", "dashboard T (a)"));
    }

    #[test]
    fn what_is_no_object_of_its_kind_is_refused() {
        for (kind, body) in [
            (Kind::Dashboard, json!({})),
            (Kind::Dashboard, json!({"dashboard": {}})),
            (Kind::Dashboard, json!({"dashboard": {"uid": "a", "title": "x"}})),
            (Kind::Dashboard, json!({"object": {"metadata": {"name": "a"}, "spec": {}}})),
            (Kind::Folder, json!({"uid": "a"})),
            (Kind::RuleGroup, json!({"folderUid": "f", "title": "g", "rules": []})),
            (Kind::Policies, json!({})),
        ] {
            assert!(Object::new(kind, body.clone()).is_err(), "{body}");
        }
    }
}
