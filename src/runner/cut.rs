//! Which patterns restic gets for a run: each source's own for that source alone, and what is left out by itself.
//!
//! restic reads one list for the whole snapshot, in which the last pattern that matches decides. So the list says, in
//! this order: what a source excludes; that a source inside another one is there all the same, and what it excludes;
//! what is Larder's own or holds no data; and that the run's artifacts are there, whatever was said before.

use std::path::{Path, PathBuf};

use crate::config::model::{Cache, Config, Destination, Site};
use crate::error::{Trouble, codes};
use crate::plugin::Source;
use crate::plugin::kit::apart::{self, Cut, Mounts, Own, OwnKind, Why};
use crate::types::pattern::{self, Pattern};

/// Paths that a notice names.
const NAMED_MAX: usize = 8;

/// What Larder itself keeps on this machine.
#[must_use]
pub fn own<'a>(site: &Site, destinations: impl Iterator<Item = &'a Destination>, state: &Path) -> Vec<Own> {
    let mut own = vec![
        Own { path: site.artifacts.path.clone(), kind: OwnKind::Artifacts },
        Own { path: state.to_owned(), kind: OwnKind::State },
    ];
    for destination in destinations {
        let local = destination.repository.local();
        own.extend(local.map(|local| Own { path: local.path.clone(), kind: OwnKind::Repository }));
        if let Cache::At(path) = &destination.cache {
            own.push(Own { path: path.clone(), kind: OwnKind::Cache });
        }
    }
    own
}

/// What a config keeps on this machine.
#[must_use]
pub fn own_of(config: &Config, state: &Path) -> Vec<Own> {
    own(&config.site, config.destinations.values(), state)
}

/// What of the sources is shipped, and how.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Without those that are wholly Larder's own.
    pub sources: Vec<Source>,
    cuts: Vec<Cut>,
    pub notices: Vec<Trouble>,
}

/// Looks at what lies below the sources; `artifacts`: there is something beside them. Blocking.
///
/// # Errors
/// When there were sources and nothing of them is left.
pub fn shape(sources: &[Source], own: &[Own], mounts: &Mounts, artifacts: bool) -> Result<Shape, Trouble> {
    let mut shape = Shape::default();
    let mut ours = Vec::new();
    for source in sources {
        match apart::owner(&source.path, own) {
            Some(owner) => ours.push((source.path.clone(), owner.kind)),
            None => {
                shape.cuts.extend(apart::cuts(&source.path, own, mounts));
                shape.sources.push(source.clone());
            }
        }
    }
    if let ([], Some((path, kind)), false) = (shape.sources.as_slice(), ours.first(), artifacts) {
        let message = format!("{} is Larder's own ({}): nothing is left to back up", path.display(), kind.as_str());
        return Err(Trouble::new(codes::ONLY_OWN, message).with_hint("name the directories that hold your data"));
    }
    shape.cuts.sort();
    shape.cuts.dedup();
    let cut = shape.cuts.iter().filter_map(|cut| match &cut.why {
        Why::Own(kind) => Some((cut.path.clone(), *kind)),
        Why::NoData(_) => None,
    });
    let own: Vec<String> =
        ours.into_iter().chain(cut).map(|(path, kind)| format!("{} ({})", path.display(), kind.as_str())).collect();
    let kernel: Vec<String> = shape
        .cuts
        .iter()
        .filter_map(|cut| match &cut.why {
            Why::NoData(kind) => Some(format!("{} ({kind})", cut.path.display())),
            Why::Own(_) => None,
        })
        .collect();
    if !own.is_empty() {
        let message = format!("left out by itself, for it is Larder's own: {}", listed(&own));
        shape.notices.push(Trouble::new(codes::OWN_LEFT_OUT, message));
    }
    if !kernel.is_empty() {
        let message = format!("left out by itself, for it holds no data: {}", listed(&kernel));
        shape.notices.push(Trouble::new(codes::NO_DATA_LEFT_OUT, message));
    }
    Ok(shape)
}

impl Shape {
    /// The list for restic; `view` is where the run's artifacts lie.
    ///
    /// # Errors
    /// The pattern that restic would not understand.
    pub fn patterns(&self, view: &Path) -> Result<Vec<String>, Trouble> {
        let mut sources: Vec<&Source> = self.sources.iter().collect();
        sources.sort_by_key(|source| source.path.components().count());
        let mut list = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let above = sources.get(..index).unwrap_or_default();
            if above.iter().any(|other| source.path.starts_with(&other.path) && source.path != other.path) {
                list.push(format!("!{}", pattern::literal(&source.path)));
            }
            for text in &source.exclude {
                list.extend(parsed(text)?.below(&source.path));
            }
        }
        for cut in &self.cuts {
            let path = pattern::literal(&cut.path);
            list.push(if matches!(cut.why, Why::NoData(_)) { format!("{path}/*") } else { path });
        }
        if self.sources.iter().any(|source| view.starts_with(&source.path)) {
            list.push(format!("!{}", pattern::literal(view)));
        }
        Ok(list)
    }

    /// Whether no source lies in another: then what was counted is counted once.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        let inside = |path: &PathBuf| self.sources.iter().filter(|other| path.starts_with(&other.path)).count() > 1;
        !self.sources.iter().any(|source| inside(&source.path))
    }
}

fn parsed(text: &str) -> Result<Pattern, Trouble> {
    Pattern::parse(text).map_err(|error| {
        Trouble::new(codes::BAD_PATTERN, format!("the exclude pattern {text:?} cannot be used: {error}"))
            .with_hint("correct the pattern; `\\` before a character takes its meaning away")
    })
}

fn listed(all: &[String]) -> String {
    let named = all.get(..NAMED_MAX).unwrap_or(all).join(", ");
    match all.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, exclude: &[&str]) -> Source {
        Source { path: path.into(), exclude: exclude.iter().map(|text| (*text).to_owned()).collect() }
    }

    #[test]
    fn a_source_inside_another_is_kept_whatever_the_outer_one_excludes() {
        let sources = [source("/srv/photos", &["*.raw"]), source("/srv", &["photos", "*.jpg"])];
        let shape = Shape { sources: sources.to_vec(), ..Shape::default() };
        let list = shape.patterns(Path::new("/backups/x")).unwrap();
        assert_eq!(
            list,
            ["/srv/**/photos", "/srv/**/*.jpg", "!/srv/photos", "/srv/photos/**/*.raw"].map(str::to_owned)
        );
        assert!(!shape.is_flat());
    }

    #[test]
    fn the_artifacts_come_back_where_a_source_holds_them() {
        let shape = Shape {
            sources: vec![source("/home/me", &["*.sql", "*.json"])],
            cuts: vec![
                Cut { path: "/home/me/backups".into(), why: Why::Own(OwnKind::Artifacts) },
                Cut { path: "/home/me/chroot/proc".into(), why: Why::NoData("proc".to_owned()) },
            ],
            notices: Vec::new(),
        };
        let list = shape.patterns(Path::new("/home/me/backups/.larder/ship/a/b")).unwrap();
        assert_eq!(list.last().unwrap(), "!/home/me/backups/.larder/ship/a/b");
        assert_eq!(list.get(2..4).unwrap(), ["/home/me/backups", "/home/me/chroot/proc/*"]);
    }

    #[test]
    fn a_pattern_that_restic_refuses_is_named() {
        let shape = Shape { sources: vec![source("/srv", &["["])], ..Shape::default() };
        assert_eq!(shape.patterns(Path::new("/b")).unwrap_err().code, "bad_pattern");
    }
}
