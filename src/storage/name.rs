//! Names in a repository: checked before they become part of a path, an address or a line for a program.

use super::StorageError;

/// Longest name, in bytes; restic's have 64 and a directory.
const NAME_BYTES_MAX: usize = 300;

/// Begins the name of every probe of ours; restic looks at no file of such a name.
pub(super) const PROBE_PREFIX: &str = "larder-probe-";

/// A name that leads nowhere else.
pub(super) fn check(name: &str) -> Result<(), StorageError> {
    let refuse = |why: &'static str| {
        let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
        Err(StorageError::BadName { name: shown, why })
    };
    match name {
        "" => refuse("it is empty"),
        _ if name.len() > NAME_BYTES_MAX => refuse("it is too long"),
        _ if name.chars().any(char::is_control) => refuse("it has a control character"),
        _ if name.contains('\\') => refuse("it has a backslash"),
        _ if name.starts_with('/') => refuse("it begins with `/`"),
        _ if name.split('/').any(str::is_empty) => refuse("a part of it is empty"),
        _ if name.split('/').any(|part| matches!(part, "." | "..")) => refuse("a part of it is `.` or `..`"),
        _ => Ok(()),
    }
}

/// The directory to list; empty is the repository itself.
pub(super) fn check_directory(name: &str) -> Result<(), StorageError> {
    if name.is_empty() { Ok(()) } else { check(name) }
}

/// Where `name` lies below the repository: packs are in directories by the first two digits of their names.
pub(super) fn laid_out(name: &str) -> Result<String, StorageError> {
    check(name)?;
    Ok(match name.strip_prefix("data/") {
        Some(id) if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("data/{}/{id}", id.get(..2).unwrap_or_default())
        }
        _ => name.to_owned(),
    })
}

/// A name for a probe that nobody else has.
pub(super) fn of_probe() -> String {
    format!("{PROBE_PREFIX}{}", ulid::Ulid::new().to_string().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_refused_and_a_pack_lies_in_its_directory() {
        for bad in ["", "/etc", "../x", "keys/../../x", "keys//x", "keys/", "a\nb", "a\0", ".", "keys/.", "a\\b"] {
            assert!(matches!(check(bad), Err(StorageError::BadName { .. })), "{bad:?}");
        }
        assert!(check(&"x".repeat(301)).is_err());
        let id = "ab".repeat(32);
        assert_eq!(laid_out(&format!("data/{id}")).unwrap(), format!("data/ab/{id}"));
        assert_eq!(laid_out(&format!("keys/{id}")).unwrap(), format!("keys/{id}"));
        assert_eq!(laid_out("data/x").unwrap(), "data/x");
        assert!(of_probe().starts_with(PROBE_PREFIX) && of_probe() != of_probe());
    }
}
