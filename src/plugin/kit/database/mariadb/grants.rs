//! What the user may see, as `SHOW GRANTS` says it; pure.
//!
//! information_schema hides what somebody has no right on, and mariadb-dump leaves that out without a word. So what a
//! dump may lack is known from the rights alone.

/// The rights of a user, with those of the roles in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants(Vec<Grant>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    /// In upper case.
    privileges: Vec<String>,
    /// None: all.
    database: Option<String>,
    /// None: all.
    table: Option<String>,
}

impl Grants {
    /// Reads lines such as ``GRANT SELECT, SHOW VIEW ON `app`.* TO `u`@`%` ``.
    pub(super) fn read(lines: &[String]) -> Self {
        Self(lines.iter().filter_map(|line| Grant::read(line)).collect())
    }

    /// Whether the user has the right on all of a database.
    pub(super) fn on_database(&self, privilege: &str, database: &str) -> bool {
        let on = |grant: &Grant| grant.table.is_none() && grant.is_on(database) && grant.has(privilege);
        self.0.iter().any(on)
    }

    /// Whether the user has the right everywhere.
    pub(super) fn everywhere(&self, privilege: &str) -> bool {
        self.0.iter().any(|grant| grant.database.is_none() && grant.has(privilege))
    }

    /// Whether the user has the right on one table, or on all of its database.
    pub(super) fn on_table(&self, privilege: &str, database: &str, table: &str) -> bool {
        let on = |grant: &Grant| {
            let of_table = grant.table.as_deref().is_none_or(|own| own == table);
            of_table && grant.is_on(database) && grant.has(privilege)
        };
        self.0.iter().any(on)
    }
}

impl Grant {
    fn read(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("GRANT ")?;
        let (privileges, rest) = split_outside(rest, " ON ")?;
        let rest = rest.strip_prefix("TABLE ").unwrap_or(rest);
        let (on, _) = split_outside(rest, " TO ")?;
        let (database, table) = split_outside(on, ".")?;
        // Rights on columns are none on the table.
        let privileges = privileges.split(", ").filter(|each| !each.contains('(')).map(str::to_uppercase).collect();
        let name = |text: &str| (text != "*").then(|| text.trim_matches('`').replace("``", "`"));
        Some(Self { privileges, database: name(database), table: name(table) })
    }

    fn has(&self, privilege: &str) -> bool {
        self.privileges.iter().any(|own| own == privilege || own == "ALL PRIVILEGES" || own == "ALL")
    }

    fn is_on(&self, database: &str) -> bool {
        self.database.as_deref().is_none_or(|pattern| fits(pattern.as_bytes(), database.as_bytes()))
    }
}

/// Splits at a text that stands outside of backquotes.
fn split_outside<'t>(text: &'t str, at: &str) -> Option<(&'t str, &'t str)> {
    let mut quoted = false;
    for (index, letter) in text.char_indices() {
        quoted ^= letter == '`';
        if !quoted && text.get(index..).is_some_and(|rest| rest.starts_with(at)) {
            return Some((text.get(..index)?, text.get(index + at.len()..)?));
        }
    }
    None
}

/// Whether a name fits a pattern with `%` and `_`, which a backslash makes to letters.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'\\', letter, rest @ ..] => {
            name.split_first().is_some_and(|(first, name)| first == letter && fits(rest, name))
        }
        [b'%', rest @ ..] => (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| fits(rest, name))),
        [letter, rest @ ..] => {
            name.split_first().is_some_and(|(first, name)| (*letter == b'_' || first == letter) && fits(rest, name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_servers_show_them() {
        let grants = Grants::read(&[
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*AB'".to_owned(),
            "GRANT SELECT, SHOW VIEW, EVENT ON `my\\_app%`.* TO `u`@`%`".to_owned(),
            "GRANT SELECT, TRIGGER ON `other`.`a ON b` TO `u`@`%`".to_owned(),
            "GRANT SELECT (`x`) ON `other`.`t` TO `u`@`%`".to_owned(),
            "GRANT SELECT ON `mysql`.`proc` TO `u`@`%`".to_owned(),
            "GRANT ALL PRIVILEGES ON `od``d`.* TO `u`@`%` WITH GRANT OPTION".to_owned(),
            "GRANT `role` TO `u`@`%`".to_owned(),
            "SET DEFAULT ROLE `role` FOR `u`@`%`".to_owned(),
        ]);
        for (privilege, database, wanted) in [
            ("SELECT", "my_app", true),
            ("SELECT", "my_app_2", true),
            ("SELECT", "myxapp", false),
            ("TRIGGER", "my_app", false),
            ("TRIGGER", "od`d", true),
            ("SELECT", "other", false),
        ] {
            assert_eq!(grants.on_database(privilege, database), wanted, "{privilege} {database}");
        }
        assert!(grants.on_table("SELECT", "mysql", "proc") && !grants.on_table("SELECT", "mysql", "user"));
        assert!(!grants.on_table("SELECT", "other", "t") && grants.on_table("TRIGGER", "other", "a ON b"));
        assert!(!grants.everywhere("SELECT"));
        assert!(Grants::read(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`".to_owned()]).everywhere("EVENT"));
    }
}
