//! Looks up what the settings name: containers with all that is known of them, and volumes that none of them mounts.

use std::path::PathBuf;

use crate::error::codes;
use crate::plugin::apps::docker::api::{Engine, Listed};
use crate::plugin::apps::docker::inventory::{Container, Item, ItemKind, LABEL_PROJECT, start_order};
use crate::plugin::apps::docker::settings::Chosen;
use crate::plugin::kit::builtin::Failure;

/// More containers than this in one target are an error.
const CONTAINERS_MAX: usize = 1_000;

/// What the settings name.
pub(super) struct Found {
    /// In the order of starting.
    pub(super) containers: Vec<Container>,
    /// Where volumes are named: those; else nothing.
    pub(super) volumes: Vec<String>,
    /// Volumes that no container mounts.
    pub(super) unmounted: Vec<Item>,
}

pub(super) fn look_up(engine: &Engine, chosen: &Chosen) -> Result<Found, Failure> {
    let mut unmounted = Vec::new();
    let (ids, volumes) = match chosen {
        Chosen::Project(name) => {
            (labelled(engine, &format!("{LABEL_PROJECT}={name}"), "compose project", name)?, vec![])
        }
        Chosen::Label(label) => (labelled(engine, label, "container with the label", label)?, vec![]),
        Chosen::Containers(names) => {
            let mut ids = Vec::new();
            for name in names {
                ids.push(by_name(engine, name)?);
            }
            (ids, vec![])
        }
        Chosen::Volumes(names) => {
            let all = engine.containers(None)?;
            let mut ids: Vec<String> = Vec::new();
            for name in names {
                let Some(volume) = engine.volume(name)? else {
                    return Err(Failure::new(codes::VOLUME_MISSING, format!("there is no volume {name}"))
                        .hint("`docker volume ls` lists what there is; correct `volumes`"));
                };
                let mounting: Vec<&Listed> = all.iter().filter(|each| mounts(each, name)).collect();
                if mounting.is_empty() {
                    unmounted.push(Item {
                        kind: ItemKind::Volume,
                        name: name.clone(),
                        source: PathBuf::from(volume.mountpoint),
                        container: String::new(),
                        container_name: String::new(),
                        destination: String::new(),
                        subpath: None,
                        without: Vec::new(),
                    });
                }
                ids.extend(mounting.into_iter().map(|each| each.id.clone()));
            }
            ids.sort();
            ids.dedup();
            (ids, names.clone())
        }
    };
    if ids.len() > CONTAINERS_MAX {
        return Err(Failure::new(
            codes::TOO_MANY_CONTAINERS,
            format!("more than {CONTAINERS_MAX} containers are meant"),
        ));
    }
    let mut containers = Vec::new();
    for id in ids {
        // One that went away since it was listed is not missed: nobody had named it.
        let found = engine.inspect(&id)?.and_then(Container::of);
        containers.extend(found.filter(|each| !each.is_one_off()));
    }
    Ok(Found { containers: start_order(containers), volumes, unmounted })
}

/// Refuses when a container was removed or replaced while its data was read.
pub(super) fn still_there(engine: &Engine, containers: &[Container]) -> Result<(), Failure> {
    for container in containers {
        let now = engine.inspect(&container.name)?.and_then(Container::of);
        if now.is_none_or(|now| now.id != container.id) {
            return Err(Failure::new(
                codes::CONTAINER_REPLACED,
                format!("{} was removed or made anew while it was read", container.name),
            )
            .hint("nothing is kept of this run; it is tried again")
            .later());
        }
    }
    Ok(())
}

fn labelled(engine: &Engine, label: &str, kind: &str, shown: &str) -> Result<Vec<String>, Failure> {
    let listed = engine.containers(Some(label))?;
    if listed.is_empty() {
        return Err(Failure::new(codes::CONTAINER_MISSING, format!("there is no {kind} {shown}"))
            .hint("`docker ps --all` lists what there is; after `docker compose down` its volumes have no container"));
    }
    Ok(listed.into_iter().map(|each| each.id).collect())
}

fn by_name(engine: &Engine, name: &str) -> Result<String, Failure> {
    let found = engine.inspect(name)?.and_then(Container::of);
    // The engine also answers to the beginning of an id.
    found.filter(|found| found.name == name || found.id == name).map(|found| found.id).ok_or_else(|| {
        Failure::new(codes::CONTAINER_MISSING, format!("there is no container {name}"))
            .hint("`docker ps --all` lists what there is; correct `containers`")
    })
}

fn mounts(container: &Listed, volume: &str) -> bool {
    container.mounts.iter().flatten().any(|mount| mount.kind == "volume" && mount.name == volume)
}
