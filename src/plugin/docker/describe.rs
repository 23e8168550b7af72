//! The rest of an artifact: what each container was made of, the files that compose was started from, the inventory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::error::Trouble;
use crate::plugin::builtin::{Failure, Voice};
use crate::plugin::digest;
use crate::plugin::docker::inventory::{self, Container};
use crate::plugin::docker::list::{Brief, Inventory, KeptFile};
use crate::plugin::docker::{INVENTORY, Work, unwritable};
use crate::plugin::tool::file_name;

/// Longest compose or env file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

const FORMAT_INVENTORY: &str = "docker-inventory";
const FORMAT_CONTAINER: &str = "docker-container";
const FORMAT_FILE: &str = "file";

impl Work<'_> {
    /// The containers' records, compose files, and the inventory.
    pub(super) fn describe(
        &mut self,
        containers: &[Container],
        inventory: &mut Inventory,
        voice: &mut Voice<'_>,
    ) -> Result<(), Failure> {
        if !containers.is_empty() {
            self.make_directory("containers")?;
        }
        for container in containers {
            let image = container.raw.get("Image").and_then(serde_json::Value::as_str).unwrap_or(&container.image);
            let record = container.record(self.engine.digests(image), self.settings.env);
            let artifact = format!("containers/{}.json", file_name(&container.name));
            self.write_json(&artifact, FORMAT_CONTAINER, &record)?;
            inventory.containers.push(Brief {
                name: container.name.clone(),
                id: container.id.clone(),
                image: container.image.clone(),
                state: container.state,
                artifact,
            });
        }
        if self.settings.compose_files {
            inventory.files = self.compose_files(containers, voice)?;
        }
        self.write_json(INVENTORY, FORMAT_INVENTORY, inventory)
    }

    fn compose_files(&mut self, containers: &[Container], voice: &mut Voice<'_>) -> Result<Vec<KeptFile>, Failure> {
        let mut wanted: Vec<(PathBuf, bool)> =
            inventory::compose_files(containers, self.settings.env).into_iter().map(|path| (path, true)).collect();
        if self.settings.env {
            wanted.extend(inventory::default_env_files(containers).into_iter().map(|path| (path, false)));
        }
        let mut kept: Vec<KeptFile> = Vec::new();
        for (path, named) in wanted {
            if kept.iter().any(|each| each.path == path) {
                continue;
            }
            let read = std::fs::metadata(&path).and_then(|found| {
                if !found.is_file() || found.len() > FILE_BYTES_MAX {
                    return Err(std::io::Error::other("it is no file of a usual size"));
                }
                Ok((found.permissions().mode() & 0o7777, std::fs::read(&path)?))
            });
            match read {
                // An artifact is never empty.
                Ok((_, text)) if text.is_empty() => {}
                Ok((mode, text)) => {
                    self.make_directory("files")?;
                    let artifact = format!("files/{}", file_name(&path.display().to_string()));
                    let into = self.request.staging.join(&artifact);
                    std::fs::write(&into, text).map_err(|error| unwritable(&into, &error))?;
                    self.artifacts.push((artifact.clone(), FORMAT_FILE, digest::sha256(&into, |_| {})?));
                    kept.push(KeptFile { artifact, path, mode });
                }
                Err(error) if named => voice.warning(
                    Trouble::new(
                        "compose_file_unreadable",
                        format!("{} is named by a container and cannot be kept: {error}", path.display()),
                    )
                    .with_hint(
                        "let the daemon's user read it; where it is on another machine, say `compose_files: false`",
                    ),
                ),
                Err(_) => {}
            }
        }
        Ok(kept)
    }

    fn write_json(
        &mut self,
        artifact: &str,
        format: &'static str,
        value: &impl serde::Serialize,
    ) -> Result<(), Failure> {
        let path = self.request.staging.join(artifact);
        let text = serde_json::to_vec_pretty(value)
            .map_err(|error| Failure::new("internal", format!("{artifact} cannot be written: {error}")))?;
        std::fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
        self.artifacts.push((artifact.to_owned(), format, digest::sha256(&path, |_| {})?));
        Ok(())
    }
}
