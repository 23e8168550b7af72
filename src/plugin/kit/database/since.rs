//! What became of databases since the last capture: one rule for all of them, wherever they run.

use super::remark::Remark;
use crate::error::codes;
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
            code: codes::DATABASE_GONE,
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
        code: codes::DATABASE_EMPTIED,
        sentence: "no row is left of what the last backup has",
        name: format!("{database} (it had {before})"),
        hint: "look whether it was emptied on purpose; then say `allow_empty: true`".to_owned(),
        is_missing: !may_be_empty,
    })
}

/// Tables that the last capture has and that are no more, or lost all their rows. Applications drop and empty tables
/// as they work, so this is said and no more. `key` is that of the database's figures, `now` how many rows a table has.
pub(crate) fn tables_of(
    previous: Option<&CaptureFacts>,
    key: &str,
    database: &str,
    count: u64,
    now: &dyn Fn(&str) -> Option<u64>,
) -> Vec<Remark> {
    let Some(previous) = previous else { return Vec::new() };
    // Names have dots: `rows.a.b` is a table of `a`, or all of a database called `a.b`.
    let is_of_another = |name: &str| {
        let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        ends.filter_map(|end| name.get(..end))
            .any(|part| previous.figures.contains_key(&format!("content.{key}.{part}")))
    };
    let (gone, mut remarks) = changed(previous, &format!("rows.{key}."), database, &|name| !is_of_another(name), now);
    let before = previous.figures.get(&format!("tables.{key}")).copied().unwrap_or(0);
    // Only the first ones have figures of their own.
    if before > count && gone == 0 {
        remarks.push(table_gone(format!("{} of {database} ({before} before, {count} now)", before - count)));
    }
    remarks
}

/// The same for figures that begin with `prefix`, where `is_one` says which of them are of tables.
pub(crate) fn tables(
    previous: &CaptureFacts,
    prefix: &str,
    database: &str,
    is_one: &dyn Fn(&str) -> bool,
    now: &dyn Fn(&str) -> Option<u64>,
) -> Vec<Remark> {
    changed(previous, prefix, database, is_one, now).1
}

/// How many are no more, and what is said of all that changed.
fn changed(
    previous: &CaptureFacts,
    prefix: &str,
    database: &str,
    is_one: &dyn Fn(&str) -> bool,
    now: &dyn Fn(&str) -> Option<u64>,
) -> (u64, Vec<Remark>) {
    let mut gone = 0;
    let named = previous.figures.iter().filter_map(|(name, before)| Some((name.strip_prefix(prefix)?, *before)));
    let remark = |(name, before): (&str, u64)| match now(name) {
        None => {
            gone += 1;
            Some(table_gone(format!("{name} of {database} (it had {before})")))
        }
        Some(0) if before > 0 => Some(Remark {
            code: codes::TABLE_EMPTIED,
            sentence: "tables that had rows at the last backup have none now",
            name: format!("{name} of {database} (it had {before})"),
            hint: TABLE_HINT.to_owned(),
            is_missing: false,
        }),
        Some(_) => None,
    };
    let remarks = named.filter(|(name, _)| is_one(name)).filter_map(remark).collect();
    (gone, remarks)
}

const TABLE_HINT: &str = "nothing is to be done if that is right; else older backups have them";

fn table_gone(name: String) -> Remark {
    Remark {
        code: codes::TABLE_GONE,
        sentence: "tables that the last backup has are not in this one",
        name,
        hint: TABLE_HINT.to_owned(),
        is_missing: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::protocol::ArtifactFile;

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
    fn a_table_that_is_gone_or_lost_its_rows_is_said_and_one_of_another_database_is_not() {
        let figures =
            [("rows.a", 30), ("content.a", 1), ("tables.a", 3), ("rows.a.public.kept", 10), ("rows.a.public.gone", 9)]
                .into_iter()
                .chain([("rows.a.public.emptied", 8), ("rows.a.public.never", 0), ("rows.a.b", 7), ("content.a.b", 2)])
                .chain([("rows.a.b.public.t", 7)]);
        let figures = figures.map(|(name, value)| (name.to_owned(), value)).collect();
        let previous = CaptureFacts { figures, ..CaptureFacts::default() };
        let now = |name: &str| match name {
            "public.kept" => Some(1),
            "public.emptied" | "public.never" => Some(0),
            _ => None,
        };
        let told = tables_of(Some(&previous), "a", "a", 2, &now);
        assert!(told.iter().all(|remark| !remark.is_missing));
        let told: Vec<_> = told.iter().map(|remark| (remark.code.name(), remark.name.as_str())).collect();
        let wanted =
            [("table_emptied", "public.emptied of a (it had 8)"), ("table_gone", "public.gone of a (it had 9)")];
        assert_eq!(told, wanted);
        let told = tables_of(Some(&previous), "a", "a", 2, &|_| Some(1));
        assert_eq!(told[0].name, "1 of a (3 before, 2 now)");
        assert!(tables_of(Some(&previous), "a", "a", 3, &|_| Some(1)).is_empty());
        assert!(tables_of(None, "a", "a", 0, &|_| None).is_empty());
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
