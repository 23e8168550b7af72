//! Where a server keeps its data, as a place in one of its container's mounts.

use super::{Container, ItemKind, below, key};
use crate::plugin::apps::docker::api::Mount;

/// Where a server keeps its data: in which mount, and where in that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plugin::apps::docker) struct DataDirectory {
    key: (ItemKind, String),
    subpath: Option<String>,
    /// Relative to the mount; empty: all of it.
    pub(in crate::plugin::apps::docker) path: String,
}

impl DataDirectory {
    /// The one at `path` in the container; none: it lies in no mount.
    pub(in crate::plugin::apps::docker) fn at(container: &Container, path: &str) -> Option<Self> {
        let holds = |mount: &&Mount| std::path::Path::new(path).starts_with(&mount.destination);
        let mount = container.mounts.iter().filter(holds).max_by_key(|mount| mount.destination.len())?;
        let path = below(path, &mount.destination).unwrap_or_default();
        Some(Self { key: key(mount), subpath: mount.subpath.clone(), path })
    }

    pub(in crate::plugin::apps::docker) fn is_in(&self, mount: &Mount) -> bool {
        self.key == key(mount) && self.subpath == mount.subpath
    }

    /// Whether it is a part of what is kept of a volume or bind, `without` some of it.
    pub(in crate::plugin::apps::docker) fn is_part_of(
        &self,
        named: &(ItemKind, String),
        subpath: Option<&str>,
        without: &[String],
    ) -> bool {
        let is_out = |path: &String| self.path == *path || below(&self.path, path).is_some();
        self.key == *named && self.subpath.as_deref() == subpath && !without.iter().any(is_out)
    }

    /// The volume's name or the bind's path.
    pub(in crate::plugin::apps::docker) fn mount(&self) -> &str {
        &self.key.1
    }
}
