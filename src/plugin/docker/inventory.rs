//! What there is and what of it is kept: pure decisions over what the engine told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::plugin::docker::database::Database;
use crate::plugin::docker::engine::Mount;

pub(crate) const LABEL_PROJECT: &str = "com.docker.compose.project";
const LABEL_SERVICE: &str = "com.docker.compose.service";
const LABEL_DEPENDS: &str = "com.docker.compose.depends_on";
const LABEL_WORKING_DIR: &str = "com.docker.compose.project.working_dir";
const LABEL_CONFIG_FILES: &str = "com.docker.compose.project.config_files";
const LABEL_ENV_FILES: &str = "com.docker.compose.project.environment_file";

/// A container as it was looked up.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) id: String,
    /// Without the slash.
    pub(super) name: String,
    pub(super) image: String,
    pub(super) state: State,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) env: Vec<(String, String)>,
    pub(super) command: Vec<String>,
    /// All that the engine told.
    pub(super) raw: Value,
}

/// Whether a container works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Running,
    Paused,
    Stopped,
}

impl State {
    /// Of what the engine tells of one container.
    pub(super) fn of(raw: &Value) -> Self {
        let is = |field: &str| raw.pointer(&format!("/State/{field}")).and_then(Value::as_bool).unwrap_or(false);
        match () {
            () if is("Paused") => Self::Paused,
            () if is("Running") || is("Restarting") => Self::Running,
            () => Self::Stopped,
        }
    }
}

impl Container {
    pub(super) fn of(raw: Value) -> Option<Self> {
        let text = |pointer: &str| raw.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let list = |pointer: &str| -> Vec<String> {
            let all = raw.pointer(pointer).and_then(Value::as_array);
            all.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let read = |pointer: &str| raw.pointer(pointer).cloned().unwrap_or(Value::Null);
        let id = text("/Id")?;
        let mut command = list("/Config/Entrypoint");
        command.extend(list("/Config/Cmd"));
        Some(Self {
            name: text("/Name").unwrap_or_else(|| id.clone()).trim_start_matches('/').to_owned(),
            id,
            image: text("/Config/Image").unwrap_or_default(),
            state: State::of(&raw),
            labels: serde_json::from_value(read("/Config/Labels")).unwrap_or_default(),
            mounts: serde_json::from_value(read("/Mounts")).unwrap_or_default(),
            env: list("/Config/Env")
                .iter()
                .map(|each| each.split_once('=').unwrap_or((each, "")))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            command,
            raw,
        })
    }

    pub(super) fn env(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .find(|(each, _)| each == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Made for one command (`docker compose run`); it goes away by itself.
    pub(super) fn is_one_off(&self) -> bool {
        self.label("com.docker.compose.oneoff").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn service(&self) -> &str {
        self.label(LABEL_SERVICE).unwrap_or(&self.name)
    }

    /// The services that it needs, from `db:service_healthy:true,redis:service_started:false`.
    fn depends_on(&self) -> impl Iterator<Item = &str> {
        let all = self.label(LABEL_DEPENDS).unwrap_or_default();
        all.split(',').filter_map(|each| each.split(':').next()).filter(|service| !service.is_empty())
    }

    /// What a person would need to make it again; without `env`, only the names of its variables.
    pub(super) fn record(&self, digests: Option<Value>, with_env: bool) -> Value {
        let mut config = self.raw.get("Config").cloned().unwrap_or(Value::Null);
        if !with_env && let Some(config) = config.as_object_mut() {
            let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
            config.insert("Env".to_owned(), json!(names));
        }
        json!({
            "id": self.id,
            "name": self.name,
            "image": self.image,
            "image_id": self.raw.get("Image"),
            "image_digests": digests,
            "state": self.state,
            "labels": self.labels,
            "restart_policy": self.raw.pointer("/HostConfig/RestartPolicy"),
            "networks": self.raw.pointer("/NetworkSettings/Networks"),
            "mounts": self.raw.get("Mounts"),
            "config": config,
            "host_config": self.raw.get("HostConfig"),
        })
    }
}

/// The containers in the order in which they are started: what another one needs comes before it.
pub(super) fn start_order(mut containers: Vec<Container>) -> Vec<Container> {
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let mut ordered: Vec<Container> = Vec::with_capacity(containers.len());
    while !containers.is_empty() {
        let waits_for = |each: &Container, left: &[Container]| {
            each.depends_on().any(|needed| {
                left.iter().any(|other| {
                    other.id != each.id
                        && other.service() == needed
                        && other.label(LABEL_PROJECT) == each.label(LABEL_PROJECT)
                })
            })
        };
        // Those that need each other in a circle are taken as they come.
        let next = containers.iter().position(|each| !waits_for(each, &containers)).unwrap_or(0);
        ordered.push(containers.remove(next));
    }
    ordered
}

/// Something whose files are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: ItemKind,
    /// The volume's name, or the bind's path on the host.
    pub(super) name: String,
    /// The volume's directory on the engine's host.
    pub(super) source: PathBuf,
    /// Through which container it is read; its id.
    pub(super) container: String,
    pub(super) container_name: String,
    pub(super) destination: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ItemKind {
    Volume,
    Bind,
}

/// Which mounts are kept.
pub(super) struct Wanted<'a> {
    pub(super) volumes: bool,
    pub(super) include: &'a [String],
    pub(super) exclude: &'a [String],
    pub(super) binds: Binds,
    /// Data directories of databases that have a dump.
    pub(super) dumped: &'a [Database],
}

/// Which directories of the host are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Binds {
    /// Those below the directory of the compose project.
    #[default]
    Project,
    All,
    None,
}

/// What is kept, and what is left out with its reason, for the log.
pub(super) fn items(containers: &[Container], wanted: &Wanted<'_>) -> (Vec<Item>, Vec<String>) {
    let mut kept: BTreeMap<(ItemKind, String), Item> = BTreeMap::new();
    let mut left_out: BTreeSet<String> = BTreeSet::new();
    let dumped: BTreeSet<String> = wanted
        .dumped
        .iter()
        .flat_map(|database| {
            let container = containers.iter().find(|each| each.id == database.container);
            container.into_iter().flat_map(|each| &each.mounts).filter(|mount| database.lives_in(&mount.destination))
        })
        .map(|mount| key(mount).1)
        .collect();
    for container in containers {
        for mount in &container.mounts {
            let (kind, name) = key(mount);
            let skip = |why: &str| Some(format!("{name} ({}): {why}", mount.destination));
            let reason = match mount.kind.as_str() {
                "volume" if !wanted.volumes => skip("`with_volumes: false`"),
                "volume" if !wanted.include.is_empty() && !wanted.include.contains(&name) => {
                    skip("not in `only_volumes`")
                }
                "volume" | "bind" if wanted.exclude.contains(&name) => skip("in `exclude`"),
                "volume" | "bind" if dumped.contains(&name) => skip("its database has a dump"),
                "volume" => None,
                "bind" if is_of_the_system(&mount.source) => skip("it belongs to the host"),
                "bind" => match wanted.binds {
                    Binds::None => skip("`binds: none`"),
                    Binds::All => None,
                    Binds::Project => {
                        let below = container
                            .label(LABEL_WORKING_DIR)
                            .is_some_and(|project| Path::new(&mount.source).starts_with(project));
                        if below { None } else { skip("not below the project's directory; see `binds`") }
                    }
                },
                _ => skip("it has no files that stay"),
            };
            match reason {
                Some(reason) => {
                    left_out.insert(reason);
                }
                None => {
                    kept.entry((kind, name.clone())).or_insert_with(|| Item {
                        kind,
                        name,
                        source: PathBuf::from(&mount.source),
                        container: container.id.clone(),
                        container_name: container.name.clone(),
                        destination: mount.destination.clone(),
                    });
                }
            }
        }
    }
    (kept.into_values().collect(), left_out.into_iter().collect())
}

fn key(mount: &Mount) -> (ItemKind, String) {
    if mount.kind == "volume" { (ItemKind::Volume, mount.name.clone()) } else { (ItemKind::Bind, mount.source.clone()) }
}

fn is_of_the_system(source: &str) -> bool {
    let roots = ["/proc", "/sys", "/dev", "/run", "/var/run", "/etc/localtime", "/etc/timezone", "/lib/modules"];
    let is_socket = Path::new(source).extension().is_some_and(|end| end == "sock");
    source == "/" || is_socket || roots.iter().any(|root| Path::new(source).starts_with(root))
}

/// Files that compose was started from, by the containers' labels; absolute, in order, each once.
pub(super) fn compose_files(containers: &[Container], with_env: bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for container in containers {
        let mut paths: Vec<PathBuf> = Vec::new();
        let list = |label: &str| -> Vec<PathBuf> {
            container.label(label).unwrap_or_default().split(',').map(PathBuf::from).collect()
        };
        paths.extend(list(LABEL_CONFIG_FILES));
        if with_env {
            paths.extend(list(LABEL_ENV_FILES));
        }
        paths.retain(|path| path.is_absolute());
        files.extend(paths);
    }
    let mut seen = BTreeSet::new();
    files.retain(|path| seen.insert(path.clone()));
    files
}

/// Where compose looks for variables by itself.
pub(super) fn default_env_files(containers: &[Container]) -> BTreeSet<PathBuf> {
    containers.iter().filter_map(|each| each.label(LABEL_WORKING_DIR)).map(|dir| Path::new(dir).join(".env")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::plugin::docker) fn container(
        name: &str,
        labels: &[(&str, &str)],
        mounts: &[(&str, &str, &str)],
    ) -> Container {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let mounts: Vec<Value> = mounts
            .iter()
            .map(|(kind, name, at)| json!({"Type": kind, "Name": name, "Source": name, "Destination": at}))
            .collect();
        Container::of(json!({
            "Id": format!("id-{name}"), "Name": format!("/{name}"), "State": {"Running": true}, "Mounts": mounts,
            "Config": {"Image": "app:1", "Labels": labels, "Env": ["TOKEN=hunter2"]},
        }))
        .unwrap()
    }

    fn names(containers: &[Container]) -> Vec<&str> {
        containers.iter().map(|each| each.name.as_str()).collect()
    }

    #[test]
    fn what_another_needs_is_started_first_and_a_circle_ends() {
        let of = |name: &str, needs: &str| {
            container(name, &[(LABEL_PROJECT, "p"), (LABEL_SERVICE, name), (LABEL_DEPENDS, needs)], &[])
        };
        let web = of("a-web", "m-app:service_started:true");
        let app = of("m-app", "z-db:service_healthy:false,y-redis:service_started:false");
        let ordered = start_order(vec![web, app, of("z-db", ""), of("y-redis", "")]);
        assert_eq!(names(&ordered), ["y-redis", "z-db", "m-app", "a-web"]);
        let circle = start_order(vec![of("a", "b:x:x"), of("b", "a:x:x"), of("c", "c:x:x")]);
        assert_eq!(circle.len(), 3);
    }

    #[test]
    fn every_volume_is_kept_once_and_what_belongs_to_the_host_is_not() {
        let project: &[(&str, &str)] = &[(LABEL_WORKING_DIR, "/srv/app")];
        let one = container(
            "one",
            project,
            &[
                ("volume", "data", "/data"),
                ("bind", "/srv/app/config", "/config"),
                ("bind", "/mnt/media", "/media"),
                ("bind", "/var/run/docker.sock", "/var/run/docker.sock"),
                ("tmpfs", "", "/tmp"),
            ],
        );
        let two = container("two", project, &[("volume", "data", "/shared"), ("volume", "cache", "/cache")]);
        let exclude = ["cache".to_owned()];
        let mut wanted = Wanted { volumes: true, include: &[], exclude: &exclude, binds: Binds::Project, dumped: &[] };
        let kept = |wanted: &Wanted<'_>| -> Vec<String> {
            items(&[one.clone(), two.clone()], wanted).0.into_iter().map(|item| item.name).collect()
        };
        assert_eq!(kept(&wanted), ["data", "/srv/app/config"]);
        wanted.binds = Binds::All;
        assert_eq!(kept(&wanted), ["data", "/mnt/media", "/srv/app/config"]);
        wanted.volumes = false;
        wanted.binds = Binds::None;
        assert_eq!(kept(&wanted), Vec::<String>::new());
    }

    #[test]
    fn without_env_a_record_has_names_only() {
        let container = container("one", &[], &[]);
        assert!(container.record(None, true).to_string().contains("hunter2"));
        let without = container.record(None, false).to_string();
        assert!(without.contains("TOKEN") && !without.contains("hunter2"));
    }
}
