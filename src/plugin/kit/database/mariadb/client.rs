//! Which programs to use, and how the password reaches them.
//!
//! The option file lies on no disk, and is gone with the plugin however that ends.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;

use super::{MariadbSettings, SslMode};
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::memory_file::MemoryFile;
use crate::plugin::kit::tool::{DEADLINE_OF_QUESTION, Tools};
use crate::process::find_program;

/// The programs of one kind.
pub(super) struct Client {
    pub(super) dump: PathBuf,
    pub(super) shell: PathBuf,
    /// MariaDB's, not Oracle's.
    pub(super) is_mariadb: bool,
    /// What the dump program says of its version.
    pub(super) told: String,
}

/// The programs that are there: MariaDB's first, and one of each kind.
pub(super) fn find(bin_dir: Option<&Path>, tools: &Tools) -> Result<Vec<Client>, Failure> {
    let at = |name: &str| match bin_dir {
        Some(directory) => find_program(&directory.join(name)),
        None => find_program(Path::new(name)),
    };
    let mut clients: Vec<Client> = Vec::new();
    for (dump, shell) in [("mariadb-dump", "mariadb"), ("mysqldump", "mysql")] {
        let (Ok(dump), Ok(shell)) = (at(dump), at(shell)) else { continue };
        let mut told = String::new();
        let hear = |line: &str| {
            if told.is_empty() {
                line.trim().clone_into(&mut told);
            }
        };
        tools.run(&dump, vec!["--version".into()], &[], DEADLINE_OF_QUESTION, hear, || {});
        // Where there is one kind only, both names often lead to the same programs.
        let is_mariadb = told.contains("MariaDB");
        if !told.is_empty() && clients.iter().all(|client| client.is_mariadb != is_mariadb) {
            clients.push(Client { dump, shell, is_mariadb, told });
        }
    }
    if !clients.is_empty() {
        return Ok(clients);
    }
    let missing = "mariadb-dump and mariadb, or mysqldump and mysql,";
    Err(match bin_dir {
        Some(directory) => {
            Failure::new(codes::NO_CLIENT, format!("{} does not hold {missing} that work", directory.display()))
                .hint("correct `bin_dir`, or leave it out to have them found")
        }
        None => Failure::new(codes::NO_CLIENT, format!("{missing} are not installed on this machine"))
            .hint("apt install mariadb-client"),
    })
}

/// Options that must not stand on a command line, such as the password.
pub(super) struct OptionFile(MemoryFile);

impl OptionFile {
    pub(super) fn new(settings: &MariadbSettings, client: &Client) -> Result<Self, Failure> {
        MemoryFile::new(text(settings, client).as_bytes())
            .map(Self)
            .map_err(|error| Failure::new(codes::INTERNAL, format!("the option file cannot be made: {error}")).later())
    }

    /// It must be the first argument. No other option file is read then, so nobody's `.my.cnf` changes what is kept.
    pub(super) fn argument(&self) -> String {
        format!("--defaults-file={}", self.0.path().display())
    }
}

fn text(settings: &MariadbSettings, client: &Client) -> String {
    use std::fmt::Write as _;
    let mut text = "[client]\n".to_owned();
    let mut put = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}={}", quoted(value));
    };
    put("user", &settings.user);
    if let Some(password) = &settings.password {
        put("password", password.0.expose_secret());
    }
    if let Some(socket) = &settings.socket {
        put("protocol", "socket");
        put("socket", &socket.display().to_string());
    } else if let Some(host) = &settings.host {
        // Otherwise `localhost` means a socket.
        put("protocol", "tcp");
        put("host", host);
        put("port", &settings.port.to_string());
    }
    if let Some(ca) = &settings.ssl_ca {
        put("ssl-ca", &ca.display().to_string());
    }
    for (name, value) in ssl(settings.ssl_mode, client.is_mariadb) {
        put(name, value);
    }
    text.push_str("[mysql]\n");
    let _ = writeln!(text, "connect-timeout={}", settings.connect_timeout);
    text
}

fn ssl(mode: Option<SslMode>, is_mariadb: bool) -> &'static [(&'static str, &'static str)] {
    match (mode, is_mariadb) {
        (None, _) => &[],
        (Some(SslMode::Disable), true) => &[("ssl", "0")],
        (Some(SslMode::Require), true) => &[("ssl", "1"), ("ssl-verify-server-cert", "0")],
        (Some(SslMode::Verify), true) => &[("ssl", "1"), ("ssl-verify-server-cert", "1")],
        (Some(SslMode::Disable), false) => &[("ssl-mode", "DISABLED")],
        (Some(SslMode::Require), false) => &[("ssl-mode", "REQUIRED")],
        (Some(SslMode::Verify), false) => &[("ssl-mode", "VERIFY_IDENTITY")],
    }
}

/// A value as option files have it.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            _ => text.push(letter),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_any_letters_stays_one_value() {
        assert_eq!(quoted("a\"b\\c # d\n[client]"), r#""a\"b\\c # d\n[client]""#);
    }
}
