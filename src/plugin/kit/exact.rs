//! A directory that gets other content as a whole: everything that a backup has and nothing else, with the old content
//! kept beside.
//!
//! The new content lies ready in a directory beside, so the change itself is one exchange of two names where the file
//! system can do that: whoever looks sees the old directory or the new one. Where it cannot, because the directory is a
//! mount point or its parent cannot be written to, the entries are moved one by one. A [`Swap`] is noted in a journal at
//! each step, and [`Swap::undo`] leads from any instant back to what was there. What is named in `without` (what other
//! mounts cover, the data of a database that is put back by other means) stays as it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};

/// How a directory's content is changed, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Swap {
    goal: PathBuf,
    /// What will be there.
    new: PathBuf,
    /// Where what was there goes.
    old: PathBuf,
    /// Relative to the goal.
    without: Vec<PathBuf>,
    way: Way,
    /// Which directory was there, by its number.
    inode: u64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Exchange,
    Entries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// The goal is as it was.
    Preparing,
    /// What was there goes aside.
    Aside,
    /// All of it is aside; the new content comes.
    Placing,
    Done,
}

/// Makes a step durable before it is done.
type Note<'n, E> = &'n mut dyn FnMut(&Swap) -> Result<(), E>;

impl Swap {
    /// Decides how `goal` can be given other content. Nothing is made yet.
    pub(crate) fn plan(goal: &Path, run: &str, without: &[String]) -> io::Result<Self> {
        let goal = goal.canonicalize()?;
        let found = fs::metadata(&goal)?;
        if !found.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        let run = run.to_lowercase();
        let parent = goal.parent().filter(|parent| can_exchange(parent, &goal, &run));
        let way = if parent.is_some() { Way::Exchange } else { Way::Entries };
        let name = goal.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (new, old) = match parent {
            Some(parent) => {
                (parent.join(format!(".{name}.larder-new-{run}")), parent.join(format!("{name}.before-{run}")))
            }
            None => (goal.join(format!(".larder-new-{run}")), goal.join(format!(".larder-before-{run}"))),
        };
        let without = without.iter().map(PathBuf::from).collect();
        Ok(Self { goal, new, old, without, way, inode: found.ino(), step: Step::Preparing })
    }

    /// Where the new content is to be made ready, with the attributes of the directory itself.
    pub(crate) fn new_content(&self) -> &Path {
        &self.new
    }

    /// Where what was there is kept.
    pub(crate) fn old_content(&self) -> &Path {
        &self.old
    }

    /// How many bytes may be written there.
    pub(crate) fn room(&self) -> io::Result<u64> {
        let at = if self.way == Way::Exchange { self.goal.parent().unwrap_or(&self.goal) } else { &self.goal };
        room_at(at)
    }

    /// Makes the empty directory for the new content.
    pub(crate) fn prepare<E: From<io::Error>>(&self, note: Note<'_, E>) -> Result<(), E> {
        note(self)?;
        remove(&self.new)?;
        fs::create_dir(&self.new)?;
        Ok(())
    }

    /// Puts the new content in the place of what is there.
    pub(crate) fn swap<E: From<io::Error>>(&mut self, note: Note<'_, E>) -> Result<(), E> {
        self.step = Step::Aside;
        note(self)?;
        match self.way {
            Way::Exchange => {
                for kept in &self.without {
                    carry(&self.goal, &self.new, kept)?;
                }
                exchange(&self.new, &self.goal)?;
                fs::rename(&self.new, &self.old)?;
                sync_parent(&self.goal)?;
            }
            Way::Entries => {
                let apart = self.apart();
                if !self.old.exists() {
                    fs::create_dir(&self.old)?;
                }
                attributes(&self.goal, &self.old)?;
                part(&self.goal, &self.old, &apart)?;
                File::open(&self.goal)?.sync_all()?;
                self.step = Step::Placing;
                note(self)?;
                join(&self.new, &self.goal)?;
                attributes(&self.new, &self.goal)?;
                fs::remove_dir(&self.new)?;
                File::open(&self.goal)?.sync_all()?;
            }
        }
        self.step = Step::Done;
        note(self)?;
        Ok(())
    }

    /// Leads back to what was there, however far it came; may be done twice.
    pub(crate) fn undo<E: From<io::Error>>(&mut self, note: Note<'_, E>) -> Result<(), E> {
        match self.way {
            Way::Exchange => {
                let is_old = |path: &Path| fs::metadata(path).is_ok_and(|found| found.ino() == self.inode);
                let mut new = self.new.clone();
                if !is_old(&self.goal) {
                    let old = [&self.old, &self.new].into_iter().find(|path| is_old(path));
                    let old = old.ok_or_else(|| io::Error::other(format!("{} is not there", self.old.display())))?;
                    exchange(old, &self.goal)?;
                    new.clone_from(old);
                }
                for kept in &self.without {
                    if self.goal.join(kept).symlink_metadata().is_err() && new.join(kept).symlink_metadata().is_ok() {
                        carry(&new, &self.goal, kept)?;
                    }
                }
                remove(&new)?;
                sync_parent(&self.goal)?;
            }
            Way::Entries => {
                if matches!(self.step, Step::Placing | Step::Done) {
                    if !self.new.exists() {
                        fs::create_dir(&self.new)?;
                    }
                    part(&self.goal, &self.new, &self.apart())?;
                    self.step = Step::Aside;
                    note(self)?;
                }
                if self.step == Step::Aside && self.old.exists() {
                    join(&self.old, &self.goal)?;
                    attributes(&self.old, &self.goal)?;
                    fs::remove_dir(&self.old)?;
                }
                remove(&self.new)?;
                File::open(&self.goal)?.sync_all()?;
            }
        }
        Ok(())
    }

    /// What is left of what was there; nothing where there was nothing.
    pub(crate) fn finish(&self) -> io::Result<Option<&Path>> {
        let empty = fs::read_dir(&self.old).map_or(true, |mut entries| entries.next().is_none());
        if empty && self.old.exists() {
            fs::remove_dir(&self.old)?;
        }
        Ok((!empty).then_some(self.old.as_path()))
    }

    /// What is not moved: what stays, and our own two.
    fn apart(&self) -> Vec<PathBuf> {
        let own = [&self.new, &self.old].into_iter().filter_map(|path| path.strip_prefix(&self.goal).ok());
        self.without.iter().cloned().chain(own.map(Path::to_owned)).collect()
    }
}

/// Whether two directories below `parent` can change their names at once, and `goal` is no mount point.
/// Bytes that are free where `path` lies.
pub(crate) fn room_at(path: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(path)?;
    Ok(found.blocks_available() * found.fragment_size())
}

fn can_exchange(parent: &Path, goal: &Path, run: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let escaped = goal
        .to_string_lossy()
        .replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
        .replace('\n', "\\012");
    if mounts.lines().any(|line| line.split(' ').nth(4) == Some(escaped.as_str())) {
        return false;
    }
    let tries = [parent.join(format!(".larder-try-{run}-a")), parent.join(format!(".larder-try-{run}-b"))];
    let [a, b] = &tries;
    let done = fs::create_dir(a).and_then(|()| fs::create_dir(b)).and_then(|()| exchange(a, b));
    for each in &tries {
        let _ = fs::remove_dir(each);
    }
    done.is_ok()
}

fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).map_err(io::Error::from)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Moves one thing from one tree to the same place of another. An empty directory in its way goes.
fn carry(from: &Path, into: &Path, relative: &Path) -> io::Result<()> {
    let (source, target) = (from.join(relative), into.join(relative));
    if source.symlink_metadata().is_err() {
        return Ok(());
    }
    let mut made = into.to_owned();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        made.push(part);
        if !made.is_dir() {
            fs::create_dir(&made)?;
            let model = from.join(made.strip_prefix(into).unwrap_or(&made));
            attributes(&model, &made)?;
        }
    }
    if target.is_dir() {
        fs::remove_dir(&target)?;
    }
    fs::rename(source, target)
}

/// Moves what is in one directory into another, but for what is `apart`; directories on the way to that are made there
/// too, and stay here.
fn part(from: &Path, into: &Path, apart: &[PathBuf]) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let of = |path: &PathBuf| path.strip_prefix(&name).ok().map(Path::to_owned);
        let below: Vec<PathBuf> = apart.iter().filter_map(of).collect();
        if below.is_empty() {
            fs::rename(from.join(&name), into.join(&name))?;
        } else if !below.iter().any(|path| path.as_os_str().is_empty()) {
            let made = into.join(&name);
            if !made.is_dir() {
                fs::create_dir(&made)?;
                attributes(&from.join(&name), &made)?;
            }
            part(&from.join(&name), &made, &below)?;
        }
    }
    Ok(())
}

/// Moves what is in one directory into another; a directory that is there too gets what the other one has.
fn join(from: &Path, into: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_dir());
        if is_directory(&entry.path()) && is_directory(&target) {
            join(&entry.path(), &target)?;
            attributes(&entry.path(), &target)?;
            fs::remove_dir(entry.path())?;
        } else {
            fs::rename(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Gives a directory the owner and the mode of another one.
fn attributes(from: &Path, into: &Path) -> io::Result<()> {
    let found = fs::metadata(from)?;
    let own = fs::metadata(into)?;
    if (own.uid(), own.gid()) != (found.uid(), found.gid()) {
        std::os::unix::fs::chown(into, Some(found.uid()), Some(found.gid()))?;
    }
    fs::set_permissions(into, fs::Permissions::from_mode(found.mode() & 0o7777))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tree(path: &Path) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut open = vec![path.to_owned()];
        while let Some(directory) = open.pop() {
            let mode = fs::metadata(&directory).unwrap().mode() & 0o7777;
            all.insert(directory.strip_prefix(path).unwrap().to_owned(), format!("{mode:o}"));
            for entry in fs::read_dir(&directory).unwrap() {
                let path_of = entry.unwrap().path();
                if path_of.is_dir() {
                    open.push(path_of);
                } else {
                    let text = fs::read_to_string(&path_of).unwrap();
                    all.insert(path_of.strip_prefix(path).unwrap().to_owned(), text);
                }
            }
        }
        all
    }

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// A directory with something that stays in it, and a swap whose new content lies ready.
    fn place(way: Way) -> (tempfile::TempDir, PathBuf, Swap) {
        let home = tempfile::tempdir().unwrap();
        let goal = home.path().join("data");
        fs::create_dir(&goal).unwrap();
        write(
            &goal,
            &[
                ("app.db", "old"),
                ("app.db-wal", "stale"),
                ("kept/live", "live"),
                ("sub/deep/live", "live"),
                ("sub/x", "old"),
            ],
        );
        fs::set_permissions(&goal, fs::Permissions::from_mode(0o750)).unwrap();
        let without = ["kept".to_owned(), "sub/deep".to_owned(), "never-there".to_owned()];
        let mut swap = Swap::plan(&goal, "01RUN", &without).unwrap();
        if way == Way::Entries {
            swap.way = way;
            swap.new = goal.join(".larder-new-01run");
            swap.old = goal.join(".larder-before-01run");
        }
        swap.prepare(&mut |_| Ok::<_, io::Error>(())).unwrap();
        write(swap.new_content(), &[("app.db", "new"), ("sub/y", "new")]);
        fs::create_dir(swap.new_content().join("kept")).unwrap();
        fs::set_permissions(swap.new_content(), fs::Permissions::from_mode(0o700)).unwrap();
        (home, goal, swap)
    }

    #[test]
    fn the_new_content_is_there_and_nothing_else_but_what_stays() {
        for way in [Way::Exchange, Way::Entries] {
            let (_home, goal, mut swap) = place(way);
            assert_eq!(swap.way, way);
            swap.swap(&mut |_| Ok::<_, io::Error>(())).unwrap();
            let kept = swap.finish().unwrap().unwrap().to_owned();
            let old = tree(&kept);
            assert_eq!(old[Path::new("app.db-wal")], "stale");
            assert!(!old.contains_key(Path::new("kept/live")) && !old.contains_key(Path::new("sub/deep")), "{old:?}");
            if way == Way::Entries {
                fs::remove_dir_all(kept).unwrap();
            }
            let now = tree(&goal);
            let files: Vec<(&Path, &str)> = now
                .iter()
                .map(|(path, text)| (path.as_path(), text.as_str()))
                .filter(|(path, _)| !goal.join(path).is_dir())
                .collect();
            let path = |text: &'static str| Path::new(text);
            assert_eq!(
                files,
                [
                    (path("app.db"), "new"),
                    (path("kept/live"), "live"),
                    (path("sub/deep/live"), "live"),
                    (path("sub/y"), "new")
                ]
            );
            assert_eq!(now[Path::new("")], "700");
        }
    }

    #[test]
    fn whatever_instant_it_is_stopped_at_it_leads_back() {
        for way in [Way::Exchange, Way::Entries] {
            for stop in 0..5 {
                let (home, goal, mut swap) = place(way);
                let mut before = tree(&goal);
                before.retain(|path, _| !path.starts_with(".larder-new-01run"));
                let (mut noted, mut left) = (swap.clone(), stop);
                // Killed just after a note, so before what it stands for.
                let _ = swap.swap(&mut |swap| {
                    noted = swap.clone();
                    if left == 0 {
                        return Err(io::Error::other("killed"));
                    }
                    left -= 1;
                    Ok(())
                });
                for _ in 0..2 {
                    noted.undo(&mut |_| Ok::<_, io::Error>(())).unwrap();
                    assert_eq!(tree(&goal), before, "{way:?}, stopped at {stop}");
                    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "{way:?}, stopped at {stop}");
                }
            }
        }
    }

    #[test]
    fn a_move_of_entries_that_stops_half_way_leads_back() {
        for moved in 0..4 {
            let (_home, goal, mut swap) = place(Way::Entries);
            let mut before = tree(&goal);
            before.retain(|path, _| !path.starts_with(".larder-new-01run"));
            swap.step = Step::Aside;
            fs::create_dir(&swap.old).unwrap();
            attributes(&goal, &swap.old).unwrap();
            for name in ["app.db", "app.db-wal"].iter().take(moved) {
                fs::rename(goal.join(name), swap.old.join(name)).unwrap();
            }
            if moved == 3 {
                part(&goal, &swap.old, &swap.apart()).unwrap();
                swap.step = Step::Placing;
                fs::rename(swap.new.join("app.db"), goal.join("app.db")).unwrap();
            }
            swap.undo(&mut |_| Ok::<_, io::Error>(())).unwrap();
            assert_eq!(tree(&goal), before, "{moved}");
        }
    }
}
