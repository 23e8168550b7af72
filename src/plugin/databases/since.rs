//! What became of databases since the last capture: one rule for all of them, wherever they run.

use super::remark::Remark;
use crate::plugin::protocol::CaptureFacts;

/// Databases of the last capture that are no more: those of its files in one of `formats` that are not in `now`.
///
/// The names are those of files, without what stands behind the last dot.
pub(crate) fn gone(
    previous: Option<&CaptureFacts>,
    formats: &[&str],
    now: &[String],
    except: &[String],
) -> Vec<Remark> {
    let artifacts = previous.into_iter().flat_map(|facts| &facts.artifacts);
    let of_databases = artifacts.filter(|artifact| formats.contains(&artifact.format.as_str()));
    let names = of_databases.filter_map(|artifact| artifact.path.to_str());
    names
        .filter(|name| !now.iter().chain(except).any(|other| other == name))
        .map(|name| Remark {
            code: "database_gone",
            sentence: "databases that the last backup has are no more",
            name: name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned(),
            hint: "their backups stay; if they were dropped on purpose, name them in `except`".to_owned(),
            is_missing: true,
        })
        .collect()
}

/// A database that had rows at the last capture and has none now. `key` is that of its figures.
pub(crate) fn emptied(
    previous: Option<&CaptureFacts>,
    key: &str,
    database: &str,
    rows: u64,
    may_be_empty: bool,
) -> Option<Remark> {
    let before = previous?.figures.get(&format!("rows.{key}")).copied().filter(|before| *before > 0 && rows == 0)?;
    Some(Remark {
        code: "database_emptied",
        sentence: "no row is left of what the last backup has",
        name: format!("{database} (it had {before})"),
        hint: "look whether it was emptied on purpose; then say `allow_empty: true`".to_owned(),
        is_missing: !may_be_empty,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::ArtifactFile;

    fn before() -> CaptureFacts {
        let artifact =
            |path: &str, format: &str| ArtifactFile { path: path.into(), format: format.to_owned(), sha256: None };
        CaptureFacts {
            artifacts: vec![artifact("a.dump", "db"), artifact("b.c.dump", "db"), artifact("globals.sql", "roles")],
            figures: [("rows.a".to_owned(), 20_000), ("rows.b".to_owned(), 0)].into(),
            ..CaptureFacts::default()
        }
    }

    #[test]
    fn a_database_that_is_gone_is_missed_until_it_is_named() {
        let names = |now: &[&str], except: &[&str]| -> Vec<String> {
            let owned = |names: &[&str]| names.iter().map(|name| format!("{name}.dump")).collect::<Vec<_>>();
            let remarks = gone(Some(&before()), &["db"], &owned(now), &owned(except));
            assert!(remarks.iter().all(|remark| remark.is_missing));
            remarks.into_iter().map(|remark| remark.name).collect()
        };
        assert_eq!(names(&["a"], &[]), ["b.c"]);
        assert_eq!(names(&["a", "b.c", "new"], &[]), Vec::<String>::new());
        assert_eq!(names(&["a"], &["b.c"]), Vec::<String>::new());
        assert!(gone(None, &["db"], &[], &[]).is_empty());
    }

    #[test]
    fn a_database_without_a_row_is_missed_when_it_had_some() {
        let of = |key: &str, rows, allowed| emptied(Some(&before()), key, key, rows, allowed).map(|it| it.is_missing);
        assert_eq!(of("a", 0, false), Some(true));
        assert_eq!(of("a", 0, true), Some(false));
        assert_eq!(of("a", 1, false), None);
        assert_eq!(of("b", 0, false), None);
        assert_eq!(of("c", 0, false), None);
    }
}
