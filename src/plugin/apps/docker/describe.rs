//! The rest of an artifact: what each container was made of, the files that compose was started from, the inventory.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::error::{Trouble, codes};
use crate::plugin::apps::docker::content::Owner;
use crate::plugin::apps::docker::inventory::{By, Container, LeftOut};
use crate::plugin::apps::docker::list::{Brief, Inventory, KeptDirectory, KeptFile};
use crate::plugin::apps::docker::{INVENTORY, Work, compose, unwritable};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::file_name;

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
        events: &mut EventWriter<'_>,
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
            self.compose_files(containers, inventory, events)?;
        }
        self.write_json(INVENTORY, FORMAT_INVENTORY, inventory)
    }

    fn compose_files(
        &mut self,
        containers: &[Container],
        inventory: &mut Inventory,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let stack = compose::stack(containers, self.settings.env);
        for file in stack.files {
            let read = std::fs::metadata(&file.path).and_then(|found| {
                if !found.is_file() || found.len() > FILE_BYTES_MAX {
                    return Err(std::io::Error::other("it is no file of a usual size"));
                }
                Ok((found, std::fs::read(&file.path)?))
            });
            match read {
                // An artifact is never empty.
                Ok((_, text)) if text.is_empty() => {}
                Ok((found, text)) => {
                    self.make_directory("files")?;
                    let artifact = format!("files/{}", file_name(&file.path.display().to_string()));
                    let into = self.request.staging.join(&artifact);
                    std::fs::write(&into, text).map_err(|error| unwritable(&into, &error))?;
                    self.artifacts.push((artifact.clone(), FORMAT_FILE, digest::sha256(&into, |_| {})?));
                    let owner = owner(&found);
                    inventory.files.push(KeptFile { artifact, path: file.path, mode: owner.mode, owner: Some(owner) });
                }
                Err(error) if file.needed => {
                    let told =
                        format!("{} is named by {} and cannot be kept: {error}", file.path.display(), file.named_by);
                    events.warning(Trouble::new(codes::COMPOSE_FILE_UNREADABLE, told).with_hint(
                        "let the daemon's user read it; where it is on another machine, say `compose_files: false`",
                    ));
                }
                Err(_) => {}
            }
        }
        for named in stack.unfollowed {
            let told = format!("{named} has a variable that is not known here, so the file is not kept");
            events.warning(
                Trouble::new(codes::COMPOSE_FILE_UNKNOWN, told).with_hint("set it in the project's .env file"),
            );
        }
        inventory.left_out.extend(stack.built.into_iter().map(|service| LeftOut {
            what: format!("the directory that the image of the service {service} is built from"),
            name: service,
            why: "images are not kept".to_owned(),
            by: By::Nature,
        }));
        inventory.directories = directories(&inventory.files);
        Ok(())
    }

    fn write_json(
        &mut self,
        artifact: &str,
        format: &'static str,
        value: &impl serde::Serialize,
    ) -> Result<(), Failure> {
        let path = self.request.staging.join(artifact);
        let text = serde_json::to_vec_pretty(value)
            .map_err(|error| Failure::new(codes::INTERNAL, format!("{artifact} cannot be written: {error}")))?;
        std::fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
        self.artifacts.push((artifact.to_owned(), format, digest::sha256(&path, |_| {})?));
        Ok(())
    }
}

fn owner(found: &std::fs::Metadata) -> Owner {
    Owner { uid: found.uid().into(), gid: found.gid().into(), mode: found.mode() & 0o7777 }
}

/// All directories on the way to the files, with whose they are.
fn directories(files: &[KeptFile]) -> Vec<KeptDirectory> {
    let above = files.iter().flat_map(|file| file.path.ancestors().skip(1)).filter(|path| path.parent().is_some());
    let all: BTreeSet<PathBuf> = above.map(std::path::Path::to_owned).collect();
    let look = |path: PathBuf| Some(KeptDirectory { owner: owner(&std::fs::metadata(&path).ok()?), path });
    all.into_iter().filter_map(look).collect()
}
