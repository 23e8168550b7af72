//! What a restore could not give back: only root may give files to others.
//!
//! restic restores the rest without a word then, and what was set-uid for its owner is so for whoever restored it. So the
//! owners that the snapshot has are compared with those that the files have now.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc;

use super::messages::{self, Rights};
use super::repository::garbled;
use super::snapshots::{missing_or, snapshot_id};
use super::{Call, EngineError, RepositoryAccess, Restic};
use crate::process::{Context, Exit};

/// Files, directories and links that have other owners than the snapshot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unkept {
    pub owners: u64,
    /// Those of them that run with the rights of the owner or group that they have now.
    pub set_id: u64,
}

impl Restic {
    /// Compares the owners of what was restored `below` with those of the snapshot; none: this process is root, which
    /// may give them all.
    ///
    /// # Errors
    /// No such snapshot, and everything that restic can fail with.
    pub async fn unkept(
        &self,
        access: &RepositoryAccess,
        snapshot: &str,
        below: &Path,
        context: &Context,
    ) -> Result<Option<Unkept>, EngineError> {
        if nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let id = snapshot_id(snapshot)?;
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let (tell, told) = mpsc::channel::<Rights>();
        let root = below.to_owned();
        let counting = tokio::task::spawn_blocking(move || count(&root, told));
        let mut understood = false;
        let answer = {
            let hear = move |line: &str| {
                let rights = messages::rights(line);
                let is_of_others = |rights: &Rights| (rights.user, rights.group) != own;
                // Whoever counts hears to the end.
                rights.filter(is_of_others).and_then(|rights| tell.send(rights).ok());
            };
            let call = Call::new("ls", &["--json"]).without_lock().arg(id);
            let mut watched = |line: &str| {
                understood = understood || messages::parse(line).is_some();
                hear(line);
            };
            self.call(access, context, &call, &mut watched).await?
        };
        if answer.exit != Exit::Success {
            return Err(missing_or(answer.error("ls", access), id, access));
        }
        if !understood {
            return Err(garbled("ls"));
        }
        counting.await.map(Some).map_err(|_| garbled("ls"))
    }
}

fn count(below: &Path, told: mpsc::Receiver<Rights>) -> Unkept {
    let mut unkept = Unkept::default();
    for wanted in told {
        let path = below.join(wanted.path.trim_start_matches('/'));
        // What was not chosen is not there.
        let Ok(found) = std::fs::symlink_metadata(path) else { continue };
        let (user, group) = (found.uid() == wanted.user, found.gid() == wanted.group);
        if user && group {
            continue;
        }
        unkept.owners += 1;
        let is_set = (!user && found.mode() & 0o4000 != 0) || (!group && found.mode() & 0o2000 != 0);
        if found.is_file() && is_set {
            unkept.set_id += 1;
        }
    }
    unkept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_what_runs_with_them_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let (tell, told) = mpsc::channel();
        let send = |name: &str, mode: u32, owner: (u32, u32)| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            tell.send(Rights { path: format!("/{name}"), user: owner.0, group: owner.1 }).unwrap();
        };
        send("mine", 0o4755, (user, group));
        send("other", 0o644, (user + 1, group));
        send("group", 0o644, (user, group + 1));
        send("suid", 0o4755, (user + 1, group + 1));
        send("sgid", 0o2755, (user, group + 1));
        send("suid-of-mine", 0o4755, (user, group + 1));
        tell.send(Rights { path: "/not-chosen".to_owned(), user: user + 1, group }).unwrap();
        drop(tell);
        assert_eq!(count(directory.path(), told), Unkept { owners: 5, set_id: 2 });
    }
}
