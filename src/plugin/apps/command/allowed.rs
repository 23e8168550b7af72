//! Which programs may be run, and which variables be set.

use std::path::{Path, PathBuf};

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::commands::trusted;

/// How a variable that holds a secret ends. No loader, shell or interpreter reads one that ends so.
const SECRET_ENDINGS: [&str; 8] =
    ["_PASSWORD", "_PASSWD", "_PWD", "_TOKEN", "_SECRET", "_KEY", "_AUTH", "_CREDENTIALS"];

/// A plain name: no directory, not hidden.
pub(super) fn is_file_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() <= 200 && name.bytes().all(fits) && !name.starts_with(['.', '-'])
}

pub(super) fn is_secret_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let ends = SECRET_ENDINGS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending));
    let own = name.starts_with("LD_") || name.starts_with("LARDER_");
    name.bytes().all(fits) && !own && (ends || matches!(name, "PGPASSWORD" | "REDISCLI_AUTH"))
}

/// The program of that name in the operator's directory.
pub(super) fn find(directory: Option<&Path>, name: &str) -> Result<PathBuf, Failure> {
    let Some(directory) = directory else {
        return Err(Failure::new(codes::NO_COMMANDS, "no programs are allowed: the daemon has no plugins directory")
            .hint("start it with `--plugins DIR` and put the program into DIR/commands"));
    };
    let shown = directory.display();
    if !is_file_name(name) {
        return Err(Failure::new(codes::SETTINGS, format!("`command: {name}` is no file name"))
            .hint(format!("name a file in {shown}, without a directory")));
    }
    let refuse = |trouble| Failure { trouble, retry: false };
    let look = |path: &Path| {
        std::fs::metadata(path).map_err(|error| {
            Failure::new(codes::COMMAND_NOT_ALLOWED, format!("there is no program {name} in {shown}: {error}"))
                .hint("the operator of the daemon puts it there")
        })
    };
    trusted(directory, &look(directory)?).map_err(refuse)?;
    // A link of the operator is followed, and what it leads to looked at as well.
    let path = directory.join(name);
    let metadata = look(&path)?;
    trusted(&path, &metadata).map_err(refuse)?;
    if !metadata.is_file() {
        return Err(Failure::new(codes::COMMAND_NOT_ALLOWED, format!("{} is no regular file", path.display())));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_programs() {
        for name in ["dump", "dump-app.sh", "A_1"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", "../sh", "/bin/sh", ".hidden", "-rf", "a b", "a/b", "..", "ü"] {
            assert!(!is_file_name(name), "{name}");
        }
        assert_eq!(find(None, "dump").unwrap_err().trouble.code, "no_commands");
    }

    #[test]
    fn only_variables_that_nobody_else_reads_are_set() {
        for name in ["API_TOKEN", "DB_PASSWORD", "MYSQL_PWD", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "PATH",
            "LD_PRELOAD",
            "LD_KEY",
            "BASH_ENV",
            "PYTHONPATH",
            "GIT_SSH_COMMAND",
            "PWD",
            "_KEY",
            "a_KEY",
            "A=B_KEY",
            "LARDER_CHILD_KEY",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
