//! Counts files and bytes below paths, within a bound of entries and time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::plugin::kit::apart::{self, Mounts, Own, OwnKind};
use crate::types::pattern::{self, Pattern};

/// Entries that are looked at for the figures; beyond, the figures are lower bounds.
const ENTRIES_MAX: u64 = 50_000_000;
const TIME_MAX: Duration = Duration::from_mins(10);
/// Entries that are looked at in search of one single file.
const SEARCH_ENTRIES_MAX: u64 = 50_000_000;
/// Unreadable directories that are named.
const NAMED_MAX: usize = 5;

/// What was counted so far, over all paths.
pub(crate) struct Survey {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    exclude: Vec<Pattern>,
    /// What the host leaves out by itself.
    own: Vec<Own>,
    mounts: Mounts,
    entries: u64,
    started: Instant,
    unreadable: Vec<PathBuf>,
    unreadable_more: u64,
    cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    FirstFile,
    Bound,
}

impl Survey {
    /// `own` are the directories of Larder itself.
    pub(crate) fn new(exclude: &[String], own: &[PathBuf]) -> Self {
        Self {
            files: 0,
            bytes: 0,
            exclude: exclude.iter().filter_map(|text| Pattern::parse(text).ok()).collect(),
            own: own.iter().map(|path| Own { path: path.clone(), kind: OwnKind::State }).collect(),
            mounts: Mounts::read(),
            entries: 0,
            started: Instant::now(),
            unreadable: Vec::new(),
            unreadable_more: 0,
            cut: false,
        }
    }

    /// False when a bound ended the count.
    pub(crate) fn complete(&self) -> bool {
        !self.cut
    }

    /// Whether a pattern matches the path or a directory on the way to it.
    pub(crate) fn excludes(&self, path: &Path) -> bool {
        pattern::excludes(&self.exclude, path)
    }

    pub(crate) fn count_file(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts what is below `root`.
    ///
    /// # Errors
    /// When `root` itself can't be listed; below it, that is a warning.
    pub(crate) fn walk(&mut self, root: &Path) -> std::io::Result<()> {
        std::fs::read_dir(root)?;
        if !self.excludes(root) {
            self.descend(root, Until::Bound);
        }
        Ok(())
    }

    /// Looks for one file below `root` even where counting has ended.
    pub(crate) fn holds_a_file(&self, root: &Path) -> bool {
        if self.complete() {
            return false;
        }
        let mut search = Self { exclude: self.exclude.clone(), own: self.own.clone(), ..Self::new(&[], &[]) };
        search.descend(root, Until::FirstFile);
        search.files > 0
    }

    /// Which directories could not be counted, for the log: whether the backup is whole says who ships it.
    pub(crate) fn uncounted(&self) -> Option<String> {
        let all = self.unreadable.len() as u64 + self.unreadable_more;
        let named: Vec<String> = self.unreadable.iter().map(|path| path.display().to_string()).collect();
        let more = if self.unreadable_more > 0 { format!(" and {} more", self.unreadable_more) } else { String::new() };
        (all > 0).then(|| format!("{all} directories cannot be read: {}{more}", named.join(", ")))
    }

    fn descend(&mut self, root: &Path, until: Until) {
        let entries_max = if until == Until::Bound { ENTRIES_MAX } else { SEARCH_ENTRIES_MAX };
        let cuts: BTreeSet<PathBuf> =
            apart::cuts(root, &self.own, &self.mounts).into_iter().map(|cut| cut.path).collect();
        let mut open = vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else {
                self.note_unreadable(directory);
                continue;
            };
            for entry in entries.flatten() {
                self.entries += 1;
                if self.entries > entries_max || self.started.elapsed() > TIME_MAX {
                    self.cut = true;
                    return;
                }
                let path = entry.path();
                if cuts.contains(&path) || self.excludes(&path) {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(path),
                    Ok(kind) if kind.is_file() => {
                        self.count_file(entry.metadata().map_or(0, |metadata| metadata.len()));
                        if until == Until::FirstFile {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn note_unreadable(&mut self, directory: PathBuf) {
        if self.unreadable.len() < NAMED_MAX {
            self.unreadable.push(directory);
        } else {
            self.unreadable_more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_excluded_is_no_content() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/cache")).unwrap();
        std::fs::write(directory.path().join("a/cache/x"), "12345").unwrap();
        std::fs::write(directory.path().join("a/y.tmp"), "12").unwrap();
        std::fs::write(directory.path().join("a/z"), "123").unwrap();
        let mut all = Survey::new(&[], &[]);
        all.walk(directory.path()).unwrap();
        assert_eq!((all.files, all.bytes, all.complete()), (3, 10, true));
        let mut some = Survey::new(&["*.tmp".to_owned(), "cache".to_owned()], &[]);
        some.walk(directory.path()).unwrap();
        assert_eq!((some.files, some.bytes), (1, 3));
        let mut own = Survey::new(&[], &[directory.path().canonicalize().unwrap().join("a/cache")]);
        own.walk(directory.path()).unwrap();
        assert_eq!((own.files, own.bytes), (2, 5));
    }

    #[test]
    fn many_unreadable_directories_are_counted_and_a_few_named() {
        let mut survey = Survey::new(&[], &[]);
        (0..40).for_each(|n| survey.note_unreadable(PathBuf::from(format!("/d{n}"))));
        let told = survey.uncounted().unwrap();
        assert!(told.contains("40 directories") && told.contains("and 35 more"), "{told}");
    }
}
