//! How a restic reaches its storage: options and environment for one call. Secrets go by the environment or private
//! files, never by an argument.

use std::ffi::OsString;
use std::path::PathBuf;

use secrecy::SecretString;

use super::{EngineError, RepositoryAccess};
use crate::config::model::{BucketStyle, Tls};
use crate::storage::{Place, SftpPlace, SshFiles};

/// What one call of restic gets; private files are removed with it.
#[derive(Default)]
pub(super) struct Reach {
    /// The repository's address, where it is another one than the access has.
    pub(super) location: Option<SecretString>,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(String, SecretString)>,
    /// Private files that go with it.
    pub(super) kept: Vec<SshFiles>,
}

impl Reach {
    /// Blocking: writes private files, and looks at a pinned certificate.
    pub(super) fn of(access: &RepositoryAccess) -> Result<Self, EngineError> {
        Self::with_hosts(access, None)
    }

    /// As [`Self::of`], where restic logs in to another host, too.
    pub(super) fn with_hosts(access: &RepositoryAccess, other: Option<&SftpPlace>) -> Result<Self, EngineError> {
        let mut reach = Self::default();
        if let Some(connections) = access.limits.connections {
            let backend = match &access.place {
                Place::Local(_) => "local",
                Place::S3(_) => "s3",
                Place::Rest(_) => "rest",
                Place::Sftp(_) => "sftp",
            };
            reach.option(&format!("{backend}.connections={connections}"));
        }
        match &access.place {
            Place::Local(_) => {}
            Place::S3(s3) => {
                let lookup = match s3.style {
                    BucketStyle::Path => "path",
                    BucketStyle::Virtual => "dns",
                };
                reach.option(&format!("s3.bucket-lookup={lookup}"));
                reach.option(&format!("s3.region={}", s3.region));
                reach.variable("AWS_ACCESS_KEY_ID", s3.access_key.clone());
                reach.variable("AWS_SECRET_ACCESS_KEY", s3.secret_key.clone());
                reach.trust(access, &s3.endpoint, &s3.tls)?;
            }
            Place::Rest(rest) => {
                if let (Some(user), Some(password)) = (&rest.user, &rest.password) {
                    reach.variable("RESTIC_REST_USERNAME", SecretString::from(user.clone()));
                    reach.variable("RESTIC_REST_PASSWORD", password.clone());
                }
                reach.trust(access, &rest.url, &rest.tls)?;
            }
            Place::Sftp(sftp) => {
                let all: Vec<&SftpPlace> = std::iter::once(sftp).chain(other).collect();
                let files = SshFiles::write(&all).map_err(|error| EngineError::Files(std::env::temp_dir(), error))?;
                let options: Vec<String> = files.options().iter().map(|option| quoted(option)).collect();
                reach.option(&format!("sftp.args={}", options.join(" ")));
                reach.env.extend(files.env());
                reach.kept.push(files);
            }
        }
        Ok(reach)
    }

    fn option(&mut self, option: &str) {
        self.args.extend(["-o".into(), option.into()]);
    }

    fn variable(&mut self, name: &str, value: SecretString) {
        self.env.push((name.to_owned(), value));
    }

    /// restic knows authorities only; a pinned certificate is one for itself.
    fn trust(&mut self, access: &RepositoryAccess, base: &str, tls: &Tls) -> Result<(), EngineError> {
        let file: Option<PathBuf> = match (&tls.ca, &tls.fingerprint) {
            (Some(ca), _) => Some(ca.clone()),
            (None, Some(fingerprint)) => Some(super::pinned::certificate(access, base, fingerprint)?),
            (None, None) => None,
        };
        if let Some(file) = file {
            self.args.extend(["--cacert".into(), file.into_os_string()]);
        }
        Ok(())
    }
}

/// For restic, which splits the text into words as a shell does.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=,:@[]+%".contains(c);
    match word {
        _ if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        // ssh's own quotes around a path with a blank in it are a part of the word.
        _ if word.contains('"') => format!("'{word}'"),
        _ => format!("\"{word}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_restic_keeps_its_blanks_and_its_quotes() {
        assert_eq!(quoted("UserKnownHostsFile=/tmp/x/known"), "UserKnownHostsFile=/tmp/x/known");
        assert_eq!(quoted("/tmp/a b/key"), "\"/tmp/a b/key\"");
        assert_eq!(quoted("UserKnownHostsFile=\"/tmp/a b/known\""), "'UserKnownHostsFile=\"/tmp/a b/known\"'");
    }
}
