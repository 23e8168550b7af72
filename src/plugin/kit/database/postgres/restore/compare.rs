//! Compares a restored database with the backup, and says what differs; pure but for the telling.

use crate::plugin::kit::database::postgres::scan::Scan;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::Verdict;

/// Differences that are told.
const DIFFERENCES_MAX: usize = 5;

/// Says whether `found` is what `wanted` was.
pub(super) fn tell(
    goal: &str,
    wanted: &Scan,
    found: &Scan,
    same_major: bool,
    owner: bool,
    events: &mut EventWriter<'_>,
) -> Verdict {
    let (rows, values) = differences(wanted, found);
    // Another version writes some values and lists some objects in another way, but loses no row.
    let objects = if same_major { objects(wanted, found, owner) } else { Vec::new() };
    let (verdict, told) = match (rows.is_empty(), values.is_empty() && objects.is_empty(), same_major) {
        (true, true, _) => (Verdict::Proven, Vec::new()),
        (true, false, false) => (Verdict::CouldNotVerify, values),
        _ => (Verdict::Failed, rows.into_iter().chain(values).chain(objects).collect()),
    };
    let detail = if told.is_empty() {
        let count: u64 = found.objects.values().map(|named| named.count).sum();
        format!("{} tables, {} rows, {count} objects", found.count("TABLE"), found.rows())
    } else {
        let more = told.len().saturating_sub(DIFFERENCES_MAX);
        let shown = told.into_iter().take(DIFFERENCES_MAX).collect::<Vec<_>>().join("; ");
        if more > 0 { format!("{shown}; and {more} more") } else { shown }
    };
    events.validation(format!("database {goal} holds what the backup does"), verdict, detail);
    verdict
}

/// Tables that are missing, too many or of other length; and those with other values.
fn differences(wanted: &Scan, found: &Scan) -> (Vec<String>, Vec<String>) {
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for (name, table) in &wanted.tables {
        match found.tables.get(name) {
            None => rows.push(format!("{name} is missing")),
            Some(other) if other.rows != table.rows => {
                rows.push(format!("{name} has {} rows instead of {}", other.rows, table.rows));
            }
            Some(other) if other != table => values.push(format!("{name} has other values")),
            Some(_) => {}
        }
    }
    let more = found.tables.keys().filter(|name| !wanted.tables.contains_key(*name));
    rows.extend(more.map(|name| format!("{name} is too many")));
    (rows, values)
}

/// Kinds of which there are more, fewer or others; rights only where they were to be restored.
fn objects(wanted: &Scan, found: &Scan, owner: bool) -> Vec<String> {
    let both = |kind: &String| {
        let of = |scan: &Scan| scan.objects.get(kind).copied().unwrap_or_default();
        (of(wanted), of(found))
    };
    let mut kinds: Vec<&String> = wanted.objects.keys().chain(found.objects.keys()).collect();
    kinds.sort();
    kinds.dedup();
    let differs = |kind: &String| match both(kind) {
        (then, now) if then.count != now.count => Some(format!("{} of {kind} instead of {}", now.count, then.count)),
        (then, now) if then != now => Some(format!("{kind} of other names")),
        _ => None,
    };
    kinds.into_iter().filter(|kind| owner || !kind.ends_with("ACL")).filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::kit::database::postgres::scan::{Named, Table};

    fn scan(rows: u64, sum: u64, indexes: u64) -> Scan {
        let mut scan = Scan::default();
        scan.tables.insert("public.t".to_owned(), Table { rows, sum });
        scan.objects.insert("INDEX".to_owned(), Named { count: indexes, sum: 0 });
        scan
    }

    fn verdict(found: &Scan, same_major: bool) -> String {
        let mut out = Vec::new();
        tell("app", &scan(3, 7, 1), found, same_major, true, &mut EventWriter { out: &mut out });
        serde_json::from_slice::<serde_json::Value>(&out).unwrap()["verdict"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_lost_row_fails_whatever_the_version_and_other_values_only_in_the_same() {
        assert_eq!(verdict(&scan(3, 7, 1), true), "proven");
        assert_eq!(verdict(&scan(2, 7, 1), true), "failed");
        assert_eq!(verdict(&scan(2, 7, 1), false), "failed");
        assert_eq!(verdict(&scan(3, 8, 1), true), "failed");
        assert_eq!(verdict(&scan(3, 8, 1), false), "could_not_verify");
        assert_eq!(verdict(&scan(3, 7, 0), true), "failed");
        assert_eq!(verdict(&scan(3, 7, 0), false), "proven");
        assert_eq!(verdict(&Scan::default(), true), "failed");
    }
}
