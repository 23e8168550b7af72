//! The installation itself: its database, its documents and the .env that makes both readable.
//!
//! What the database and the files are, their plugins know; here it is found out which, and proven that the key is there
//! without which every encrypted column is lost.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::settings::NinjaSettings;
use crate::error::codes;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::database::mariadb;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::restore::RestoreJob;
use crate::plugin::kit::settings::Secret;
use crate::plugin::kit::{dotenv, files};
use crate::plugin::protocol::{CaptureFacts, Request, Verdict};

pub(super) const ENV: &str = ".env";
const ENV_BYTES_MAX: u64 = 1 << 20;
/// Where the application keeps what people uploaded.
const TREES: [&str; 2] = ["storage", "public/storage"];
/// Made anew by the application.
const LEFT_OUT: [&str; 2] = ["storage/framework", "storage/logs"];
/// Keys of AES-128 and AES-256.
const KEY_BYTES: [usize; 2] = [16, 32];

/// What a target keeps.
pub(super) enum Kept {
    Install(Install),
    Company,
}

impl NinjaSettings {
    pub(super) fn kept(&self) -> Result<Kept, Failure> {
        let refuse = |what: &str| {
            Err(Failure::new(codes::SETTINGS, what)
                .hint("give `directory: /PATH` for all of it, or `url` and `token` for one company"))
        };
        match (&self.directory, &self.url) {
            (Some(directory), None) if directory.is_absolute() => Install::read(directory, self).map(Kept::Install),
            (Some(_), None) => refuse("`directory` is no absolute path"),
            (None, Some(_)) if self.database.is_some() => refuse("`database` goes with `directory`"),
            (None, Some(_)) if self.token.is_none() => refuse("`token` is missing"),
            (None, Some(_)) => Ok(Kept::Company),
            _ => refuse("exactly one of `directory` and `url` is needed"),
        }
    }
}

/// An installation, as its .env says.
pub(super) struct Install {
    directory: PathBuf,
    key: SecretString,
    /// The settings of the plugin `mariadb`.
    database: Value,
}

impl Install {
    pub(super) fn read(directory: &Path, settings: &NinjaSettings) -> Result<Self, Failure> {
        let path = directory.join(ENV);
        let variables = variables(&path)?;
        let of = |name: &str| variables.iter().rfind(|(each, _)| each == name).map(|(_, value)| value.clone());
        let key = key_of(&variables).ok_or_else(|| {
            Failure::new(codes::NO_APP_KEY, format!("{} has no APP_KEY that is one", path.display())).hint(
                "without it every encrypted column of the database is lost: write the APP_KEY that the application \
                 runs with (perhaps from the environment of its container) into this file",
            )
        })?;
        let database = settings.database.as_ref();
        let missing = |name: &str| {
            Failure::new(codes::NO_DATABASE_NAMED, format!("{} has no {name}", path.display()))
                .hint("is `directory` that of Invoice Ninja? `database` in the settings can name what is missing")
        };
        let name = of("DB_DATABASE").ok_or_else(|| missing("DB_DATABASE"))?;
        let user = database.and_then(|each| each.user.clone()).or_else(|| of("DB_USERNAME"));
        let password: Option<SecretString> = match database {
            Some(database) if database.user.is_some() => {
                database.password.as_ref().map(|Secret(secret)| secret.clone())
            }
            _ => of("DB_PASSWORD").map(SecretString::from),
        };
        let socket = database.and_then(|each| each.socket.clone()).or_else(|| of("DB_SOCKET").map(PathBuf::from));
        let socket = socket.filter(|socket| socket.is_absolute());
        let host = database.and_then(|each| each.host.clone()).or_else(|| of("DB_HOST"));
        let port = database.and_then(|each| each.port).or_else(|| of("DB_PORT")?.parse().ok());
        let mut with = json!({ "database": name, "user": user.ok_or_else(|| missing("DB_USERNAME"))? });
        match socket {
            Some(socket) => with["socket"] = json!(socket),
            None => with["host"] = json!(host.ok_or_else(|| missing("DB_HOST"))?),
        }
        if let Some(port) = port {
            with["port"] = json!(port);
        }
        if let Some(password) = password.filter(|password| !password.expose_secret().is_empty()) {
            with["password"] = json!(password.expose_secret());
        }
        Ok(Self { directory: directory.to_owned(), key, database: with })
    }

    /// The paths that are kept. `public/storage` may be a link into `storage`, and is kept with that then.
    fn paths(&self) -> Vec<PathBuf> {
        let storage = self.directory.join(TREES[0]);
        let mut paths: Vec<PathBuf> = Vec::new();
        for tree in TREES.map(|tree| self.directory.join(tree)) {
            let leads_into = |link: &Path| {
                let place = |path: &Path| path.canonicalize().ok();
                matches!((place(link), place(&storage)), (Some(there), Some(storage)) if there.starts_with(&storage))
            };
            if !(tree.is_symlink() && leads_into(&tree)) {
                paths.push(tree);
            }
        }
        paths.push(self.directory.join(ENV));
        paths
    }

    fn files(&self) -> Value {
        let exclude: Vec<PathBuf> = LEFT_OUT.iter().map(|each| self.directory.join(each)).collect();
        json!({ "paths": self.paths(), "exclude": exclude, "allow_empty": false })
    }

    pub(super) fn version(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.directory.join("VERSION.txt")).ok()?;
        let version = text.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        (!version.is_empty() && version.len() < 30 && version.chars().all(plain))
            .then(|| format!("Invoice Ninja {version}"))
    }

    pub(super) fn capture(&self, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        mariadb::capture(&with(request, self.database.clone()), events)?;
        files::capture(&with(request, self.files()), events)?;
        match self.version() {
            Some(version) => events.version(version),
            None => events.log("VERSION.txt does not tell the version of Invoice Ninja"),
        }
        Ok(())
    }

    pub(super) fn validate(&self, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        events.validation(".env has an APP_KEY", Verdict::Proven, format!("{} bytes", self.key_bytes()));
        mariadb::validate::validate(&with(request, self.database.clone()), events)?;
        files::validate(&with(request, self.files()), events)
    }

    pub(super) fn recover(&self, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
        let request = with(request, self.database.clone());
        mariadb::restore::recover(&request, events)
    }

    fn key_bytes(&self) -> usize {
        length_of(self.key.expose_secret()).unwrap_or(0)
    }

    pub(super) fn database_name(&self) -> Option<&str> {
        self.database.get("database").and_then(Value::as_str)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The same to the plugin of the database, with these choices. `facts` are those of the database.
    pub(super) fn of_database<'j, O>(
        &self,
        job: &RestoreJob<'j, NinjaSettings, O>,
        options: Value,
        facts: &'j CaptureFacts,
    ) -> Result<mariadb::restore::Job<'j>, Failure> {
        job.part(self.database.clone(), options, facts)
    }

    pub(super) fn has_key(&self, key: &SecretString) -> bool {
        self.key.expose_secret() == key.expose_secret()
    }
}

/// The key in a .env, when it is there and is one.
pub(super) fn key_in(path: &Path) -> Result<Option<SecretString>, Failure> {
    variables(path).map(|variables| key_of(&variables))
}

fn key_of(variables: &[(String, String)]) -> Option<SecretString> {
    let key = variables.iter().rfind(|(name, _)| name == "APP_KEY").map(|(_, value)| value)?;
    length_of(key)?;
    Some(SecretString::from(key.clone()))
}

/// How many bytes a key has, when that is a length of keys.
fn length_of(key: &str) -> Option<usize> {
    let length = match key.strip_prefix("base64:") {
        Some(encoded) => data_encoding::BASE64.decode(encoded.as_bytes()).ok()?.len(),
        None => key.len(),
    };
    KEY_BYTES.contains(&length).then_some(length)
}

fn variables(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let unreadable = |why: String| {
        Failure::new(codes::ENV_UNREADABLE, format!("{} cannot be read: {why}", path.display()))
            .hint("`directory` is where Invoice Ninja is installed, and the daemon's user must be allowed to read it")
    };
    let text = dotenv::read(path, ENV_BYTES_MAX).map_err(|error| unreadable(error.to_string()))?;
    dotenv::parse(&text).map_err(|line| unreadable(format!("line {line} is not NAME=value")))
}

fn with(request: &Request, settings: Value) -> Request {
    Request { settings, ..request.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_of_the_lengths_that_ciphers_take() {
        for (key, length) in [
            ("base64:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", Some(32)),
            ("base64:AAAAAAAAAAAAAAAAAAAAAA==", Some(16)),
            ("RR++yx2rJ9kdxbdh3+AmbHLDQu+Q76i+", Some(32)),
            ("base64:AAAA", None),
            ("base64:", None),
            ("base64:no base64 at all, but 32 letters", None),
            ("SomeRandomString", Some(16)),
            ("", None),
        ] {
            assert_eq!(length_of(key), length, "{key}");
        }
    }
}
