//! What an engine has, in few words, for those who look around: discovery and `larder init`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::model::Target;
use crate::error::Trouble;
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::database::{self, Kind};
use crate::plugin::apps::docker::inventory::LABEL_PROJECT;
use crate::plugin::apps::docker::settings;

/// Where an engine listens unless somebody says otherwise.
pub(crate) const SOCKET: &str = settings::SOCKET;
/// How long a look may wait for each answer.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// More of a kind than this are not told.
const SEEN_MAX: usize = 2_000;

/// Containers and volumes of one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInventory {
    /// Of which engine.
    pub socket: String,
    pub containers: Vec<Seen>,
    /// Named volumes, with the compose project that they belong to.
    pub volumes: BTreeMap<String, Option<String>>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub image: String,
    pub project: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub volumes: Vec<String>,
}

impl Seen {
    pub(crate) fn database(&self) -> Option<Kind> {
        database::kind_of_image(&self.image)
    }
}

impl EngineInventory {
    /// The compose projects, in order of their names.
    #[must_use]
    pub fn projects(&self) -> BTreeSet<&str> {
        self.containers.iter().filter_map(|each| each.project.as_deref()).collect()
    }
}

/// Asks the engine. It blocks, for some seconds at most when the engine hangs.
///
/// # Errors
/// When it does not answer: then nothing is known, which is not the same as nothing being there.
pub fn look(socket: &str) -> Result<EngineInventory, Trouble> {
    let told = || {
        let engine = Engine::open(socket, LOOK_MAX)?;
        Ok((engine.containers(None)?, engine.volumes()?))
    };
    let (containers, volumes) = told().map_err(|failure: crate::plugin::kit::builtin::Failure| failure.trouble)?;
    let project =
        |labels: &BTreeMap<String, String>| labels.get(LABEL_PROJECT).filter(|name| !name.is_empty()).cloned();
    let mut seen: Vec<Seen> = containers
        .into_iter()
        .filter(|each| !each.labels.iter().flatten().any(|(name, value)| name.ends_with(".oneoff") && value == "True"))
        .take(SEEN_MAX)
        .map(|each| {
            let labels = each.labels.unwrap_or_default();
            let mounts = each.mounts.unwrap_or_default().into_iter();
            Seen {
                name: each.names.into_iter().flatten().next().unwrap_or(each.id).trim_start_matches('/').to_owned(),
                image: each.image,
                project: project(&labels),
                labels,
                volumes: mounts.filter(|mount| mount.kind == "volume").map(|mount| mount.name).collect(),
            }
        })
        .collect();
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    let volumes = volumes.into_iter().take(SEEN_MAX).map(|volume| {
        let project = volume.labels.as_ref().and_then(project);
        (volume.name, project)
    });
    Ok(EngineInventory { socket: socket.to_owned(), containers: seen, volumes: volumes.collect() })
}

/// Something that no target covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Uncovered {
    /// A compose project.
    Project(String),
    /// A container of no project.
    Container(String),
    /// A named volume that none of those mounts.
    Volume(String),
}

impl Uncovered {
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Project(_) => "project",
            Self::Container(_) => "container",
            Self::Volume(_) => "volume",
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Project(name) | Self::Container(name) | Self::Volume(name) => name,
        }
    }
}

/// What none of `targets` covers, in order; pure. Names in `exclude` are not missed, whatever has them.
///
/// A target of another engine covers nothing; whether one that is switched off does, whoever calls decides. Volumes
/// without a name of a person's choice (64 hex digits) are not missed.
pub fn uncovered<'t>(
    inventory: &EngineInventory,
    targets: impl Iterator<Item = &'t Target>,
    exclude: &[String],
) -> Vec<Uncovered> {
    let mut covered: BTreeSet<Uncovered> = BTreeSet::new();
    let list = |target: &Target, field: &str| -> Vec<String> {
        let named = target.settings.get(field).and_then(serde_json::Value::as_array);
        named.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    for target in targets.filter(|target| target.plugin.as_str() == "docker") {
        let text = |field: &str| target.settings.get(field).and_then(serde_json::Value::as_str);
        if text("socket").unwrap_or(SOCKET) != inventory.socket {
            continue;
        }
        let volumes = list(target, "volumes");
        let named = list(target, "containers");
        let is_meant = |seen: &Seen| {
            let labelled = text("label").is_some_and(|label| match label.split_once('=') {
                Some((key, value)) => seen.labels.get(key).is_some_and(|there| there == value),
                None => seen.labels.contains_key(label),
            });
            labelled
                || named.contains(&seen.name)
                || (text("project").is_some() && seen.project.as_deref() == text("project"))
        };
        covered.extend(volumes.into_iter().map(Uncovered::Volume));
        for seen in inventory.containers.iter().filter(|seen| is_meant(seen)) {
            covered.insert(Uncovered::Container(seen.name.clone()));
            covered.extend(seen.volumes.iter().cloned().map(Uncovered::Volume));
        }
        covered.extend(text("project").map(|name| Uncovered::Project(name.to_owned())));
    }
    let whole = |project: &str| {
        let mut of_it = inventory.containers.iter().filter(|seen| seen.project.as_deref() == Some(project));
        covered.contains(&Uncovered::Project(project.to_owned()))
            || of_it.all(|seen| covered.contains(&Uncovered::Container(seen.name.clone())))
    };
    let is_excluded = |name: &str| exclude.iter().any(|each| each == name);
    let mut missed: BTreeSet<Uncovered> = BTreeSet::new();
    for seen in &inventory.containers {
        match &seen.project {
            Some(project) if !whole(project) => missed.insert(Uncovered::Project(project.clone())),
            Some(_) => false,
            // What has no volume has nothing to lose.
            None if seen.volumes.is_empty() => false,
            None => {
                let one = Uncovered::Container(seen.name.clone());
                let all = seen.volumes.iter().all(|name| covered.contains(&Uncovered::Volume(name.clone())));
                !covered.contains(&one) && !all && missed.insert(one)
            }
        };
    }
    let mounted: BTreeSet<&str> =
        inventory.containers.iter().flat_map(|seen| &seen.volumes).map(String::as_str).collect();
    for (name, project) in &inventory.volumes {
        let one = Uncovered::Volume(name.clone());
        let anonymous = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let of_a_project = project.as_ref().is_some_and(|project| inventory.projects().contains(project.as_str()));
        if !mounted.contains(name.as_str()) && !anonymous && !of_a_project && !covered.contains(&one) {
            missed.insert(one);
        }
    }
    missed.into_iter().filter(|each| !is_excluded(each.name())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::types::Name;

    fn target(settings: Value) -> Target {
        let name = |text: &str| Name::parse(text).unwrap();
        Target { enabled: true, ..Target::bare(name("t"), name("docker"), settings) }
    }

    fn inventory() -> EngineInventory {
        let seen = |name: &str, project: Option<&str>, volumes: &[&str]| Seen {
            name: name.to_owned(),
            project: project.map(str::to_owned),
            labels: BTreeMap::from([("tier".to_owned(), name.to_owned())]),
            volumes: volumes.iter().map(|each| (*each).to_owned()).collect(),
            ..Seen::default()
        };
        EngineInventory {
            socket: SOCKET.to_owned(),
            containers: vec![
                seen("app-1", Some("app"), &["data"]),
                seen("app-2", Some("app"), &[]),
                seen("lonely", None, &["own"]),
                seen("stateless", None, &[]),
            ],
            volumes: ["data", "own", "old", &"a".repeat(64)].map(|name| (name.to_owned(), None)).into(),
        }
    }

    fn missed(settings: &[Value], exclude: &[&str]) -> Vec<String> {
        let targets: Vec<Target> = settings.iter().cloned().map(target).collect();
        let exclude: Vec<String> = exclude.iter().map(|each| (*each).to_owned()).collect();
        let all = uncovered(&inventory(), targets.iter(), &exclude);
        all.iter().map(|each| format!("{} {}", each.kind(), each.name())).collect()
    }

    #[test]
    fn what_no_target_covers_is_told() {
        let all = ["project app", "container lonely", "volume old"];
        assert_eq!(missed(&[], &[]), all);
        assert_eq!(missed(&[json!({"project": "app"})], &[]), all[1..]);
        assert_eq!(missed(&[json!({"project": "app", "socket": "/other.sock"})], &[]), all);
        assert_eq!(missed(&[json!({"containers": ["app-1"]})], &[]), all);
        assert_eq!(missed(&[json!({"containers": ["app-1", "app-2", "lonely"]})], &[]), all[2..]);
        assert_eq!(missed(&[json!({"label": "tier=lonely"})], &[]), ["project app", "volume old"]);
        assert_eq!(missed(&[json!({"volumes": ["own", "old"]})], &[]), ["project app"]);
        assert_eq!(missed(&[], &["app", "old"]), ["container lonely"]);
    }
}
