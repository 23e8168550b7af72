//! What ssh is started with: its files in a private directory, and the options that name them.
//!
//! The same goes to restic (`-o sftp.args=…`), so both log in by the same key and trust the same host. Nothing of it
//! depends on the user's own `known_hosts`, agent or shared connections.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::process;
use crate::storage::SftpPlace;
use crate::storage::askpass::ASKPASS_FILE;

/// The port of SSH; a line of `known_hosts` for any other has it in it.
const DEFAULT_PORT: u16 = 22;
/// How long a connection may take to come about, in seconds.
const CONNECT_MAX_S: u64 = 4;

/// The files that ssh needs for one place; they are gone when this is dropped.
#[derive(Debug)]
pub struct SshFiles {
    directory: tempfile::TempDir,
    options: Vec<String>,
    env: Vec<(String, SecretString)>,
}

impl SshFiles {
    /// For all of `places`, the first of which says by which password one logs in.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write(places: &[&SftpPlace]) -> io::Result<Self> {
        let directory = process::scratch("sftp")?;
        let at = |name: &str| directory.path().join(name);
        let known_hosts = at("known_hosts");
        private(&known_hosts, places.iter().map(|place| known_hosts_text(place)).collect::<String>().as_bytes())?;
        // What a user's own config says of the host is no part of what is meant.
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        let mut option = |text: String| options.extend(["-o".to_owned(), text]);
        option(format!("UserKnownHostsFile={}", quoted(&known_hosts)));
        for each in [
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "CheckHostIP=no",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            // A connection that somebody shares was not checked by what is pinned here.
            "ControlMaster=no",
            "ControlPath=none",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
            "NumberOfPasswordPrompts=1",
            "LogLevel=INFO",
            // A host that lost its power says nothing for ever.
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
        ] {
            option(each.to_owned());
        }
        option(format!("ConnectTimeout={CONNECT_MAX_S}"));
        let mut ways = Vec::new();
        let mut keys: Vec<PathBuf> = Vec::new();
        let mut texts = Vec::new();
        for key in places.iter().filter_map(|place| place.key.as_ref()) {
            // Without a newline at its end OpenSSH takes it for no key.
            // Nor may its lines end as Windows ends them.
            let text = format!("{}\n", key.expose_secret().replace("\r\n", "\n").trim_end());
            if texts.iter().any(|known: &SecretString| known.expose_secret() == text) {
                continue;
            }
            let path = if keys.is_empty() { at("key") } else { at(&format!("key{}", keys.len())) };
            let text = SecretString::from(text);
            private(&path, text.expose_secret().as_bytes())?;
            texts.push(text);
            keys.push(path);
        }
        if keys.is_empty() {
            option("PubkeyAuthentication=no".to_owned());
        } else {
            ways.push("publickey");
        }
        let mut env = Vec::new();
        let place = places.first();
        if let Some((place, password)) = place.and_then(|place| Some((place, place.password.as_ref()?))) {
            let path = at("password");
            private(&path, password.expose_secret().as_bytes())?;
            ways.extend(["password", "keyboard-interactive"]);
            for (name, value) in [
                ("SSH_ASKPASS", place.askpass.to_string_lossy().into_owned()),
                ("SSH_ASKPASS_REQUIRE", "force".to_owned()),
                (ASKPASS_FILE, path.to_string_lossy().into_owned()),
            ] {
                env.push((name.to_owned(), SecretString::from(value)));
            }
        }
        if !ways.is_empty() {
            option(format!("PreferredAuthentications={}", ways.join(",")));
        }
        // Under batch mode ssh asks nobody, not even by SSH_ASKPASS.
        let batch = if env.is_empty() { "yes" } else { "no" };
        option(format!("BatchMode={batch}"));
        for path in &keys {
            options.extend(["-i".to_owned(), escaped(path)]);
        }
        Ok(Self { directory, options, env })
    }

    /// The arguments for `ssh` and `sftp`, without host, port and user; no secret is in them.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        self.options.clone()
    }

    /// What has to be in the environment.
    #[must_use]
    pub fn env(&self) -> Vec<(String, SecretString)> {
        self.env.clone()
    }

    /// The private directory, for files of the same call.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// `host` as `known_hosts` has it.
pub(super) fn host_in_known_hosts(host: &str, port: u16) -> String {
    if port == DEFAULT_PORT { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// One line for each pinned key, for this host and port.
fn known_hosts_text(place: &SftpPlace) -> String {
    let host = host_in_known_hosts(&place.host, place.port);
    let lines: Vec<String> = place.known_hosts.iter().map(|key| format!("{host} {key}\n")).collect();
    lines.concat()
}

/// Whether a word names a kind of key, so that no host stands before it.
pub(super) fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-"].iter().any(|begin| word.starts_with(begin))
}

/// A new file that only this user may read.
pub(super) fn private(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// `%` begins a token of ssh's.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

/// A path as a value that ssh splits at spaces.
fn quoted(path: &Path) -> String {
    let text = escaped(path);
    if text.contains([' ', '\t', '#', '=']) { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16, known_hosts: &[&str]) -> SftpPlace {
        SftpPlace {
            host: "nas.lan".to_owned(),
            port,
            user: "backup".to_owned(),
            path: "/srv/repo".to_owned(),
            key: Some(SecretString::from("the key text")),
            password: None,
            known_hosts: known_hosts.iter().map(|line| (*line).to_owned()).collect(),
            askpass: PathBuf::from("/usr/bin/larder"),
            mark: "test:storage".to_owned(),
        }
    }

    #[test]
    fn a_key_is_of_this_host_and_port_alone() {
        let keys = ["ssh-ed25519 AAAA", "ssh-rsa BBBB"];
        assert_eq!(known_hosts_text(&place(22, &keys)), "nas.lan ssh-ed25519 AAAA\nnas.lan ssh-rsa BBBB\n");
        assert_eq!(known_hosts_text(&place(2222, &keys[..1])), "[nas.lan]:2222 ssh-ed25519 AAAA\n");
    }

    #[test]
    fn of_two_hosts_both_are_known_and_each_key_is_there_once() {
        let (one, mut other) = (place(22, &["ssh-ed25519 AAAA"]), place(2222, &["ssh-ed25519 BBBB"]));
        let same = SshFiles::write(&[&one, &other]).unwrap();
        assert_eq!(same.options().iter().filter(|word| *word == "-i").count(), 1);
        let known = std::fs::read_to_string(same.directory().join("known_hosts")).unwrap();
        assert_eq!(known, "nas.lan ssh-ed25519 AAAA\n[nas.lan]:2222 ssh-ed25519 BBBB\n");
        other.key = Some(SecretString::from("another key"));
        let both = SshFiles::write(&[&one, &other]).unwrap();
        assert_eq!(both.options().iter().filter(|word| *word == "-i").count(), 2);
        assert_eq!(std::fs::read_to_string(both.directory().join("key1")).unwrap(), "another key\n");
    }

    #[test]
    fn files_are_private_and_no_secret_is_an_argument() {
        use std::os::unix::fs::PermissionsExt as _;
        let mut place = place(22, &["ssh-ed25519 AAAA"]);
        let by_key = SshFiles::write(&[&place]).unwrap();
        assert!(by_key.options().contains(&"BatchMode=yes".to_owned()) && by_key.env().is_empty());
        let key = by_key.directory().join("key");
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "the key text\n");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        place.password = Some(SecretString::from("hunter2"));
        let by_both = SshFiles::write(&[&place]).unwrap();
        let all = by_both.options().join(" ");
        assert!(all.contains("BatchMode=no") && all.contains("publickey,password,keyboard-interactive"), "{all}");
        assert!(!all.contains("hunter2") && !format!("{by_both:?}").contains("hunter2"));
        assert!(by_both.env().iter().all(|(_, value)| value.expose_secret() != "hunter2"));
        let directory = by_both.directory().to_owned();
        drop(by_both);
        assert!(!directory.exists());
    }
}
