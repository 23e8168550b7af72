//! What replication hangs on a database, asked in the same words of every server, over the network or in a container.
//!
//! Older servers lack a catalog (subscriptions came with 10, slots with 9.4): a question that names it would fail there.

use super::server::literal;
use crate::error::Kind;
use crate::plugin::kit::builtin::Failure;

/// What a database that is replaced would take with it, or what would go on in another one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::plugin) struct Bound {
    pub(in crate::plugin) slots: Vec<String>,
    /// Subscriptions that work.
    pub(in crate::plugin) subscriptions: Vec<String>,
}

/// `ask` answers a question of one column.
pub(in crate::plugin) fn bound(
    database: &str,
    mut ask: impl FnMut(&str) -> Result<Vec<String>, Failure>,
) -> Result<Bound, Failure> {
    let mut slots = Vec::new();
    if has(&mut ask, "pg_replication_slots")? {
        slots = ask(&format!("SELECT slot_name FROM pg_replication_slots WHERE database = {}", literal(database)))?;
    }
    Ok(Bound { slots, subscriptions: subscribed(database, " AND subenabled", ask)? })
}

/// All subscriptions of a database.
pub(in crate::plugin) fn subscriptions(
    database: &str,
    ask: impl FnMut(&str) -> Result<Vec<String>, Failure>,
) -> Result<Vec<String>, Failure> {
    subscribed(database, "", ask)
}

/// Those of a database that take nothing over.
pub(super) fn silent(
    database: &str,
    ask: impl FnMut(&str) -> Result<Vec<String>, Failure>,
) -> Result<Vec<String>, Failure> {
    subscribed(database, " AND NOT subenabled", ask)
}

fn subscribed(
    database: &str,
    and: &str,
    mut ask: impl FnMut(&str) -> Result<Vec<String>, Failure>,
) -> Result<Vec<String>, Failure> {
    if !has(&mut ask, "pg_subscription")? {
        return Ok(Vec::new());
    }
    let from = "SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid";
    match ask(&format!("{from} WHERE datname = {}{and}", literal(database))) {
        // Who may not see any has made none, and is told of those that work by their sessions.
        Err(failure) if failure.trouble.is_of(Kind::Denied) => Ok(Vec::new()),
        other => other,
    }
}

fn has(ask: &mut impl FnMut(&str) -> Result<Vec<String>, Failure>, catalog: &str) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE nspname = 'pg_catalog' AND relname = {}",
        literal(catalog)
    );
    Ok(!ask(&sql)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    /// A server with these catalogs.
    fn server(catalogs: &'static [&'static str]) -> impl FnMut(&str) -> Result<Vec<String>, Failure> {
        move |sql| {
            if sql.contains("FROM pg_class") {
                let has = catalogs.iter().filter(|catalog| sql.contains(&format!("E'{catalog}'")));
                return Ok(has.map(|catalog| (*catalog).to_owned()).collect());
            }
            match catalogs.iter().find(|catalog| sql.contains(&format!("FROM {catalog} "))) {
                Some(catalog) => Ok(vec![format!("one of {catalog}")]),
                None => Err(Failure::new(codes::PG_FAILED, "relation does not exist")),
            }
        }
    }

    #[test]
    fn a_server_without_a_catalog_is_not_asked_for_it() {
        let (slot, subscription) = ("one of pg_replication_slots".to_owned(), "one of pg_subscription".to_owned());
        let all = bound("it's", server(&["pg_replication_slots", "pg_subscription"])).unwrap();
        assert_eq!(all, Bound { slots: vec![slot.clone()], subscriptions: vec![subscription.clone()] });
        let of_9_6 = bound("it's", server(&["pg_replication_slots"])).unwrap();
        assert_eq!(of_9_6, Bound { slots: vec![slot], subscriptions: Vec::new() });
        assert_eq!(bound("it's", server(&[])).unwrap(), Bound::default());
        assert_eq!(subscriptions("it's", server(&["pg_subscription"])).unwrap(), [subscription]);
        assert_eq!(subscriptions("it's", server(&[])).unwrap(), Vec::<String>::new());
    }
}
