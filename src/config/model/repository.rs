//! Where a repository lies: a directory, a bucket, a host with SFTP, or a REST server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;

/// Where a repository lies, and what opens its storage. Secrets are references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Repository {
    Local(LocalRepository),
    S3(S3Repository),
    Sftp(SftpRepository),
    Rest(RestRepository),
}

/// A directory of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRepository {
    /// Absolute.
    pub path: PathBuf,
    /// This path must be a mount point before anything is read or written.
    pub require_mount: Option<PathBuf>,
    /// It may be made anew below a mount point on which nothing is mounted.
    #[serde(default)]
    pub create: bool,
}

/// A part of a bucket of an S3-compatible server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Repository {
    /// `https://HOST[:PORT]`, without a path.
    pub endpoint: String,
    pub bucket: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
    pub region: String,
    pub style: BucketStyle,
    pub access_key: SecretRef,
    pub secret_key: SecretRef,
    pub tls: Tls,
    pub allow_http: bool,
}

/// Where a bucket's name stands in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BucketStyle {
    /// `https://HOST/BUCKET/…`
    Path,
    /// `https://BUCKET.HOST/…`
    Virtual,
}

/// For how long a bucket keeps what is needed, whoever has our keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLock {
    pub mode: LockMode,
    /// How far ahead the locks are held, from each look at them on.
    pub days: u32,
}

/// Who can lift a lock on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Whoever has a right of its own for it.
    Governance,
    /// Nobody.
    Compliance,
}

impl LockMode {
    /// As it is written in a document.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

/// A directory of a host with SFTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SftpRepository {
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Absolute.
    pub path: String,
    /// The host's keys, `TYPE BASE64` each; never empty.
    pub known_hosts: Vec<String>,
    /// An OpenSSH private key without a passphrase.
    pub key: Option<SecretRef>,
    pub password: Option<SecretRef>,
}

/// A repository of a restic REST server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestRepository {
    /// `https://HOST[:PORT]/PATH`, without a slash at its end.
    pub url: String,
    pub user: Option<String>,
    pub password: Option<SecretRef>,
    pub tls: Tls,
    pub allow_http: bool,
}

/// Whose certificate is trusted; neither: the authorities that the system trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// A PEM file with authorities.
    pub ca: Option<PathBuf>,
    /// SHA-256 of the one certificate, in hex.
    pub fingerprint: Option<String>,
}

impl Repository {
    /// The repository as restic's `-r` takes it; no secret is in it.
    #[must_use]
    pub fn location(&self) -> String {
        match self {
            Self::Local(local) => local.path.display().to_string(),
            Self::S3(S3Repository { endpoint, bucket, prefix, .. }) if prefix.is_empty() => {
                format!("s3:{endpoint}/{bucket}")
            }
            Self::S3(S3Repository { endpoint, bucket, prefix, .. }) => format!("s3:{endpoint}/{bucket}/{prefix}"),
            Self::Sftp(SftpRepository { host, port, user, path, .. }) => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                format!("sftp://{user}@{host}:{port}/{path}")
            }
            Self::Rest(rest) => format!("rest:{}/", rest.url),
        }
    }

    /// The directory, where it is one of this host.
    #[must_use]
    pub fn local(&self) -> Option<&LocalRepository> {
        match self {
            Self::Local(local) => Some(local),
            Self::S3(_) | Self::Sftp(_) | Self::Rest(_) => None,
        }
    }

    /// Whose storage it is, and where on that it lies. A login may see a part of a host, so another one is another storage.
    #[must_use]
    pub fn place(&self) -> (String, PathBuf) {
        match self {
            Self::Local(local) => (String::new(), local.path.clone()),
            Self::S3(S3Repository { endpoint, bucket, prefix, .. }) => {
                (format!("s3:{endpoint}/{bucket}"), PathBuf::from(prefix))
            }
            Self::Sftp(SftpRepository { host, port, user, path, .. }) => {
                (format!("sftp:{user}@{host}:{port}"), PathBuf::from(path))
            }
            Self::Rest(rest) => {
                let end = rest.url.find("://").map_or(0, |scheme| scheme + 3);
                let host =
                    rest.url.get(end..).and_then(|rest| rest.find('/')).map_or(rest.url.len(), |path| end + path);
                let (host, path) = rest.url.split_at(host);
                (format!("rest:{host}"), PathBuf::from(path.trim_start_matches('/')))
            }
        }
    }

    /// References to what opens the storage.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::S3(s3) => vec![&s3.access_key, &s3.secret_key],
            Self::Sftp(sftp) => sftp.key.iter().chain(&sftp.password).collect(),
            Self::Rest(rest) => rest.password.iter().collect(),
        }
    }

    /// What kind of storage it is, in a word for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::S3(_) => "S3",
            Self::Sftp(_) => "SFTP",
            Self::Rest(_) => "REST",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_what_restic_takes_and_holds_no_secret() {
        let secret = || SecretRef::Env("SECRET".to_owned());
        let s3 = |prefix: &str| {
            Repository::S3(S3Repository {
                endpoint: "https://s3.lan:9000".to_owned(),
                bucket: "backups".to_owned(),
                prefix: prefix.to_owned(),
                region: "us-east-1".to_owned(),
                style: BucketStyle::Path,
                access_key: secret(),
                secret_key: secret(),
                tls: Tls::default(),
                allow_http: false,
            })
        };
        assert_eq!(s3("").location(), "s3:https://s3.lan:9000/backups");
        assert_eq!(s3("home/a").location(), "s3:https://s3.lan:9000/backups/home/a");
        let sftp = |host: &str| {
            Repository::Sftp(SftpRepository {
                host: host.to_owned(),
                port: 22,
                user: "larder".to_owned(),
                path: "/srv/restic".to_owned(),
                known_hosts: vec!["ssh-ed25519 AAAA".to_owned()],
                key: Some(secret()),
                password: None,
            })
        };
        assert_eq!(sftp("nas.lan").location(), "sftp://larder@nas.lan:22//srv/restic");
        assert_eq!(sftp("fd00::1").location(), "sftp://larder@[fd00::1]:22//srv/restic");
        let rest = RestRepository {
            url: "https://nas.lan:8000/home".to_owned(),
            user: Some("larder".to_owned()),
            password: Some(secret()),
            tls: Tls::default(),
            allow_http: false,
        };
        let rest = Repository::Rest(rest);
        assert_eq!(rest.location(), "rest:https://nas.lan:8000/home/");
        let place = |repository: &Repository| {
            let (storage, path) = repository.place();
            (storage, path.display().to_string())
        };
        let is = |storage: &str, path: &str| (storage.to_owned(), path.to_owned());
        assert_eq!(place(&rest), is("rest:https://nas.lan:8000", "home"));
        assert_eq!(place(&s3("home/a")), is("s3:https://s3.lan:9000/backups", "home/a"));
        assert_eq!(place(&sftp("nas.lan")), is("sftp:larder@nas.lan:22", "/srv/restic"));
    }
}
