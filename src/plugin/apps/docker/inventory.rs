//! What there is and what of it is kept: pure decisions over what the engine told.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::plugin::apps::docker::api::Mount;

mod data_directory;

pub(super) use data_directory::DataDirectory;

pub(crate) const LABEL_PROJECT: &str = "com.docker.compose.project";
pub(super) const LABEL_SERVICE: &str = "com.docker.compose.service";
const LABEL_DEPENDS: &str = "com.docker.compose.depends_on";
const LABEL_WORKING_DIR: &str = "com.docker.compose.project.working_dir";
const LABEL_TASK: &str = "com.docker.swarm.task.id";

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
        let subpaths = subpaths(&raw);
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
            mounts: serde_json::from_value::<Vec<Mount>>(read("/Mounts"))
                .unwrap_or_default()
                .into_iter()
                .map(|mount| Mount { subpath: subpaths.get(&mount.destination).cloned(), ..mount })
                .collect(),
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

    /// What a stop would do to it that a start does not undo; none: nothing.
    pub(super) fn lost_by_a_stop(&self) -> Option<&'static str> {
        match () {
            () if self.flag("/HostConfig/AutoRemove") => {
                Some("was started with `--rm`: the engine removes it and its anonymous volumes when it stops")
            }
            () if self.label(LABEL_TASK).is_some() => {
                Some("is a task of a swarm: the swarm makes another one in its place when it stops")
            }
            () => None,
        }
    }

    /// Ended, and to be started again by the engine in a moment.
    pub(super) fn is_between_restarts(raw: &Value) -> bool {
        raw.pointer("/State/Restarting").and_then(Value::as_bool).unwrap_or(false)
    }

    fn flag(&self, pointer: &str) -> bool {
        self.raw.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Containers that have to work before this one can, by id or name: it lives in their network, sees their
    /// processes, shares their memory, or mounts what they mount.
    fn tied_to(&self) -> Vec<&str> {
        let text = |pointer: &str| self.raw.pointer(pointer).and_then(Value::as_str);
        let modes = ["/HostConfig/NetworkMode", "/HostConfig/IpcMode", "/HostConfig/PidMode"];
        let tied = modes.iter().filter_map(|mode| text(mode)?.strip_prefix("container:"));
        let list = |pointer: &str| self.raw.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        let lent = list("/HostConfig/VolumesFrom").chain(list("/HostConfig/Links")).filter_map(Value::as_str);
        tied.chain(lent.filter_map(|each| each.split(':').next()))
            .map(|each| each.trim_start_matches('/'))
            .filter(|each| !each.is_empty())
            .collect()
    }

    fn needs(&self, other: &Self) -> bool {
        // An id may be told by its beginning.
        let is_it = |told: &&str| other.name == *told || (told.len() >= 12 && other.id.starts_with(*told));
        let same_project = other.label(LABEL_PROJECT) == self.label(LABEL_PROJECT);
        other.id != self.id
            && (self.tied_to().iter().any(is_it)
                || (same_project && self.depends_on().any(|needed| other.service() == needed)))
    }

    /// What is mounted below `destination`, as paths relative to it.
    pub(super) fn covered(&self, destination: &str) -> Vec<String> {
        let tmpfs = self.raw.pointer("/HostConfig/Tmpfs").and_then(Value::as_object);
        let others = self.mounts.iter().map(|mount| mount.destination.as_str());
        let others = others.chain(tmpfs.into_iter().flatten().map(|(at, _)| at.as_str()));
        let below: BTreeSet<String> = others.filter_map(|other| below(other, destination)).collect();
        below.into_iter().collect()
    }

    pub(super) fn service(&self) -> &str {
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
        let waits_for = |each: &Container, left: &[Container]| left.iter().any(|other| each.needs(other));
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
    /// Which directory of the volume it is; none: all of it.
    pub(super) subpath: Option<String>,
    /// What is left out, relative to the root: what other mounts cover, and data of databases that have a dump.
    pub(super) without: Vec<String>,
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
    /// Where the databases that have a dump keep their data.
    pub(super) dumped: &'a [DataDirectory],
    /// Names of what may be left out.
    pub(super) accept: &'a [String],
}

/// Something that is not in the backup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct LeftOut {
    /// By which the config accepts it.
    pub(super) name: String,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) by: By,
}

/// Who wanted it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    /// Nobody: the run is no success.
    Nobody,
    /// A setting.
    Config,
    /// It is kept in another form, or can be made again.
    Nature,
    /// It is the host's own, or has no files that stay.
    Host,
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

/// What is kept, and what is left out.
pub(super) fn items(containers: &[Container], wanted: &Wanted<'_>) -> (Vec<Item>, Vec<LeftOut>) {
    let mut kept: BTreeMap<(ItemKind, String), Item> = BTreeMap::new();
    let mut left_out: BTreeSet<LeftOut> = BTreeSet::new();
    let whole: BTreeSet<String> = containers
        .iter()
        .flat_map(|each| &each.mounts)
        .filter(|mount| mount.kind == "volume" && mount.subpath.is_none())
        .map(|mount| mount.name.clone())
        .collect();
    let data = |mount: &Mount| wanted.dumped.iter().filter(|each| each.is_in(mount)).collect::<Vec<_>>();
    for container in containers {
        for mount in &container.mounts {
            let (kind, volume) = key(mount);
            // All of a volume has each of its directories.
            let subpath = mount.subpath.clone().filter(|_| !whole.contains(&volume));
            if mount.subpath.is_some() && subpath.is_none() {
                continue;
            }
            let name = subpath.as_ref().map_or_else(|| volume.clone(), |subpath| format!("{volume}/{subpath}"));
            match reason(container, mount, &[&volume, &name], &data(mount), wanted) {
                Some((why, by)) => {
                    let by = if by == By::Nobody && wanted.accept.contains(&name) { By::Config } else { by };
                    let kind = if kind == ItemKind::Volume { "volume" } else { "bind mount" };
                    let what = format!("{kind} {name} ({} in {})", mount.destination, container.name);
                    left_out.insert(LeftOut { name, what, why, by });
                }
                None => {
                    let mut without = container.covered(&mount.destination);
                    without.extend(data(mount).into_iter().map(|each| each.path.clone()));
                    let item = Item {
                        kind,
                        name: name.clone(),
                        source: PathBuf::from(&mount.source),
                        container: container.id.clone(),
                        container_name: container.name.clone(),
                        destination: mount.destination.clone(),
                        subpath,
                        without,
                    };
                    match kept.entry((kind, name)) {
                        Entry::Vacant(entry) => drop(entry.insert(item)),
                        // Through whom more of it is seen.
                        Entry::Occupied(mut entry) if item.without.len() < entry.get().without.len() => {
                            entry.insert(item);
                        }
                        Entry::Occupied(_) => {}
                    }
                }
            }
        }
    }
    left_out.retain(|each| !kept.values().any(|item| item.name == each.name));
    (kept.into_values().collect(), left_out.into_iter().collect())
}

/// Why a mount is not kept; none: it is.
fn reason(
    container: &Container,
    mount: &Mount,
    names: &[&String],
    data: &[&DataDirectory],
    wanted: &Wanted<'_>,
) -> Option<(String, By)> {
    let said = |why: &str, by: By| Some((why.to_owned(), by));
    let is_in = |list: &[String]| names.iter().any(|name| list.contains(name));
    match mount.kind.as_str() {
        "volume" if !wanted.volumes => said("`with_volumes: false`", By::Config),
        "volume" if !wanted.include.is_empty() && !is_in(wanted.include) => said("not in `only_volumes`", By::Config),
        "volume" | "bind" if is_in(wanted.exclude) => said("in `exclude`", By::Config),
        "volume" | "bind" if data.iter().any(|each| each.path.is_empty()) => {
            said("its database has a dump", By::Nature)
        }
        "volume" => None,
        "bind" if is_of_the_system(mount) => said("it belongs to the host", By::Host),
        "bind" => match wanted.binds {
            Binds::None => said("`binds: none`", By::Config),
            Binds::All => None,
            Binds::Project => {
                let below = container
                    .label(LABEL_WORKING_DIR)
                    .is_some_and(|project| Path::new(&mount.source).starts_with(project));
                if below { None } else { said("it lies outside of the project's directory", By::Nobody) }
            }
        },
        _ => said("it has no files that stay", By::Host),
    }
}

pub(super) fn key(mount: &Mount) -> (ItemKind, String) {
    if mount.kind == "volume" { (ItemKind::Volume, mount.name.clone()) } else { (ItemKind::Bind, mount.source.clone()) }
}

/// `path` relative to `parent`, when it lies below it.
pub(super) fn below(path: &str, parent: &str) -> Option<String> {
    let rest = Path::new(path).strip_prefix(parent).ok()?;
    rest.to_str().filter(|rest| !rest.is_empty()).map(str::to_owned)
}

/// Directories of volumes that are mounted by themselves, by where they are in the container.
fn subpaths(raw: &Value) -> BTreeMap<String, String> {
    let all = raw.pointer("/HostConfig/Mounts").and_then(Value::as_array);
    let one = |mount: &Value| {
        let target = mount.get("Target").and_then(Value::as_str)?;
        let subpath = mount.pointer("/VolumeOptions/Subpath").and_then(Value::as_str)?;
        let subpath = subpath.trim_matches('/');
        (!subpath.is_empty()).then(|| (target.to_owned(), subpath.to_owned()))
    };
    all.into_iter().flatten().filter_map(one).collect()
}

fn is_of_the_system(mount: &Mount) -> bool {
    let source = Path::new(&mount.source);
    let below = |roots: &[&str]| roots.iter().any(|root| source.starts_with(root));
    let is_socket = source.extension().is_some_and(|end| end == "sock");
    // Disks that a person plugs in are mounted below /run too.
    let runs = below(&["/run", "/var/run"]) && !below(&["/run/media", "/var/run/media"]);
    let always = ["/proc", "/sys", "/dev", "/etc/localtime", "/etc/timezone", "/lib/modules", "/usr/lib/modules"];
    let programs = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/etc/ssl", "/etc/pki", "/etc/ca-certificates"];
    let names = ["/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/os-release"];
    let lent = !mount.writable && !below(&["/usr/local"]) && (below(&programs) || below(&names));
    source == Path::new("/") || is_socket || runs || below(&always) || lent
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::plugin::apps::docker) fn container(
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
        let mut wanted =
            Wanted { volumes: true, include: &[], exclude: &exclude, binds: Binds::Project, dumped: &[], accept: &[] };
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
