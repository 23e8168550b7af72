//! Why a call to a storage came to nothing, told so that a person knows the next step.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::model::LockMode;
use crate::error::{Code, Trouble, codes};
use crate::look::Silent;
use crate::types::{ByteSize, show_duration};
use crate::web::WebError;

/// Why a call to a storage came to nothing. `place` is what people may see of it: no key, no password.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{name:?} is no name in a repository: {why}")]
    BadName { name: String, why: &'static str },
    #[error("{what} {value:?} cannot be used: {why}")]
    BadPlace { what: &'static str, value: String, why: String },
    #[error("{place} has {name} already")]
    Exists { place: String, name: String },
    #[error("{place} has no {name}")]
    NotFound { place: String, name: String },
    #[error("{name} in {place} has more than {}", ByteSize(*.bytes_max))]
    TooLarge { place: String, name: String, bytes_max: u64 },
    #[error("{place} has more than {count_max} files in {directory:?}")]
    TooMany { place: String, directory: String, count_max: usize },

    #[error("{place} refuses the login{}", said(.detail))]
    Login { place: String, detail: String },
    #[error("{place} does not let this login {what}{}", said(.detail))]
    Denied { place: String, what: String, detail: String },
    #[error("{place} keeps {name} until {until}")]
    Locked { place: String, name: String, until: Timestamp },
    #[error("{place} locks nothing: {why}")]
    LockOff { place: String, why: String },
    #[error("{place} lets these keys delete a file that is locked by {}", .mode.word())]
    LockLifted { place: String, mode: LockMode },
    #[error("the bucket of {place} is not there")]
    BucketMissing { place: String },
    #[error("the directory {} of {place} is not there", .path)]
    DirectoryMissing { place: String, path: String },
    #[error("{place} is not in the region {given:?}{}", right_region(.right.as_ref()))]
    Region { place: String, given: String, right: Option<String> },
    #[error("{place} refuses calls because its clock and this host's differ{}", by(*.skew_s))]
    Clock { place: String, skew_s: Option<i64> },
    #[error("{place} takes no more calls for now{}", said(.detail))]
    Busy { place: String, detail: String },
    #[error("{place} has no room{}", said(.detail))]
    Full { place: String, detail: String },
    #[error("{place} answered {what} with something unexpected{}", said(.detail))]
    Unexpected { place: String, what: String, detail: String },
    #[error("{place} does not do this: {what}")]
    Unsupported { place: String, what: String },

    /// The call itself failed; what it is, and how it is told.
    #[error("{}", .1.message)]
    Web(Code, Trouble),
    #[error("the host {host} is not known")]
    HostUnknown { host: String },
    #[error("{place} refuses connections")]
    Refused { place: String },
    #[error("{place} cannot be reached{}", said(.detail))]
    Unreachable { place: String, detail: String },
    #[error("{place} did not answer within {}", show_duration(*.waited))]
    NoAnswer { place: String, waited: Duration },
    #[error("{place} has another host key than the one that is pinned{}", shows(.shown.as_ref()))]
    HostKeyChanged { place: String, shown: Option<String> },
    #[error("no host key of {place} is pinned{}", shows(.shown.as_ref()))]
    HostKeyUnknown { place: String, shown: Option<String> },
    #[error("{place} lets this login in and has no SFTP for it{}", said(.detail))]
    NotSftp { place: String, detail: String },
    #[error("ssh to {place} failed{}", said(.detail))]
    Ssh { place: String, detail: String },
    #[error("the program {} cannot be used: {detail}", .program.display())]
    Program { program: PathBuf, detail: String },

    #[error("{} cannot be read", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be written", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Hangs(Silent),
}

fn said(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

fn shows(shown: Option<&String>) -> String {
    shown.map_or_else(String::new, |shown| format!("; it has {shown}"))
}

fn right_region(right: Option<&String>) -> String {
    right.map_or_else(String::new, |right| format!("; it is in {right:?}"))
}

fn by(skew_s: Option<i64>) -> String {
    skew_s.map_or_else(String::new, |skew| format!(" by {}", show_duration(Duration::from_secs(skew.unsigned_abs()))))
}

impl From<WebError> for StorageError {
    fn from(error: WebError) -> Self {
        let (mut code, mut trouble) = (error.code(), error.trouble());
        if let WebError::Cut { .. } = &error {
            code = codes::STORAGE_CUT;
            code.name().clone_into(&mut trouble.code);
        }
        // Those of the web module speak of applications.
        let hint = match &error {
            WebError::Refused { .. } => "start the storage's server, or correct host and port",
            WebError::Unreachable { .. } => {
                "look at the network between this host and the storage, and at its firewall"
            }
            WebError::Silent { .. } => "look whether the storage's server hangs, and whether the port is the right one",
            WebError::Cut { .. } | WebError::Protocol { .. } => {
                "look in the log of the storage's server or the proxy before it, and whether the port is the right one"
            }
            _ => return Self::Web(code, trouble),
        };
        trouble.hint = Some(hint.to_owned());
        Self::Web(code, trouble)
    }
}

impl StorageError {
    /// A stable name for it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::BadName { .. } => codes::INVALID_NAME,
            Self::BadPlace { .. } => codes::BAD_STORAGE,
            Self::Exists { .. } => codes::OBJECT_EXISTS,
            Self::NotFound { .. } => codes::NOT_FOUND,
            Self::TooLarge { .. } => codes::TOO_LARGE,
            Self::TooMany { .. } => codes::TOO_MANY_FILES,
            Self::Login { .. } => codes::UNAUTHORIZED,
            Self::Denied { .. } => codes::STORAGE_DENIED,
            Self::Locked { .. } => codes::OBJECT_LOCKED,
            Self::LockOff { .. } => codes::OBJECT_LOCK_OFF,
            Self::LockLifted { .. } => codes::OBJECT_LOCK_LIFTED,
            Self::BucketMissing { .. } => codes::BUCKET_MISSING,
            Self::DirectoryMissing { .. } => codes::PATH_MISSING,
            Self::Region { .. } => codes::WRONG_REGION,
            Self::Clock { .. } => codes::CLOCK_SKEWED,
            Self::Busy { .. } => codes::STORAGE_BUSY,
            Self::Full { .. } => codes::DISK_FULL,
            Self::Unexpected { .. } => codes::UNEXPECTED_ANSWER,
            Self::Unsupported { .. } => codes::STORAGE_UNSUPPORTED,
            Self::Web(code, _) => *code,
            Self::HostUnknown { .. } => codes::UNKNOWN_HOST,
            Self::Refused { .. } | Self::Unreachable { .. } => codes::UNREACHABLE,
            Self::NoAnswer { .. } => codes::SILENT,
            Self::HostKeyChanged { .. } => codes::HOST_KEY_CHANGED,
            Self::HostKeyUnknown { .. } => codes::HOST_KEY_UNKNOWN,
            Self::NotSftp { .. } => codes::NOT_SFTP,
            Self::Ssh { .. } => codes::SSH_FAILED,
            Self::Program { .. } => codes::PROGRAM_MISSING,
            Self::Read { .. } => codes::UNREADABLE,
            Self::Write { source, .. } if is_full(source) => codes::DISK_FULL,
            Self::Write { .. } => codes::UNWRITABLE,
            Self::Hangs(_) => codes::DESTINATION_HANGING,
        }
    }

    /// What to type or look at next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::BadPlace { .. } => "correct it in the destination's document",
            Self::Exists { .. } => "nothing was overwritten; look whether another program writes there",
            Self::TooLarge { .. } => "no file of restic's that is read here is so large: look what it is",
            Self::TooMany { .. } => {
                "`restic prune` or `restic rebuild-index` makes fewer of them; look whether it runs"
            }
            Self::Login { .. } => "correct the key, the user or the password of the destination, and test it again",
            Self::Denied { .. } => {
                "give the login the right to list, read and write there (to delete only where it is meant to), or use \
                 another path"
            }
            Self::Locked { .. } => "wait for that time; the storage's lock on it is what protects it",
            Self::LockOff { .. } => {
                "make a bucket with Object Lock and move there (on AWS, also `aws s3api put-object-lock-configuration \
                 --bucket BUCKET --object-lock-configuration ObjectLockEnabled=Enabled`), or delete `object_lock`"
            }
            Self::LockLifted { mode: LockMode::Governance, .. } => {
                "take the right s3:BypassGovernanceRetention from these keys, or write `mode: compliance`"
            }
            Self::LockLifted { mode: LockMode::Compliance, .. } => {
                "the server does not keep its word: use another one, or delete `object_lock`"
            }
            Self::BucketMissing { .. } => "make the bucket at the storage, or correct its name",
            Self::DirectoryMissing { .. } => "make the directory at the storage, or correct the path",
            Self::Region { right: Some(right), .. } => return Some(format!("write `region: {right}`")),
            Self::Region { .. } => "correct `region`: the storage's own page says it",
            Self::Clock { .. } => "set the clock: `timedatectl set-ntp true` on the host whose clock is wrong",
            Self::Busy { .. } => "wait some minutes; if it goes on, fewer jobs at once or a larger plan help",
            Self::Full { .. } => "make room at the storage, or raise the quota",
            Self::Unexpected { .. } => {
                "look whether address and port are those of the storage, and no proxy is before it"
            }
            Self::Web(_, trouble) => return trouble.hint.clone(),
            Self::HostUnknown { .. } => "correct the host, or look at the DNS of this host",
            Self::Refused { .. } => "start the server there, or correct host and port",
            Self::Unreachable { .. } => "look at the network between this host and the storage, and at its firewall",
            Self::NoAnswer { .. } => "look whether the server there hangs, and whether the port is the right one",
            Self::HostKeyChanged { shown: Some(shown), .. } => {
                return Some(format!(
                    "if the host was set up again, compare {shown} with its own (`ssh-keygen -lf \
                     /etc/ssh/ssh_host_ed25519_key.pub` there), then pin that; else somebody stands in between"
                ));
            }
            Self::HostKeyChanged { .. } => {
                "if the host was set up again, pin its new key; else somebody stands in between"
            }
            Self::HostKeyUnknown { shown: Some(shown), .. } => {
                return Some(format!("compare it with the host's own, then pin it: `known_hosts: [\"{shown}\"]`"));
            }
            Self::HostKeyUnknown { .. } => "`ssh-keyscan -p PORT HOST`, compare it with the host's own, and pin it",
            Self::NotSftp { .. } => "switch SFTP on for this login at the host (`Subsystem sftp internal-sftp`)",
            Self::Ssh { .. } => "try `sftp -P PORT USER@HOST` with the same login",
            Self::Program { .. } => "install it: `apt install openssh-client`",
            Self::Write { source, .. } if is_full(source) => "make room there",
            Self::Read { .. } | Self::Write { .. } => "give the daemon's user the rights on it",
            Self::Hangs(silent) => return Some(silent.hint()),
            Self::Unsupported { .. } | Self::BadName { .. } | Self::NotFound { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// As it is told to a person.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        Trouble::of(self.code(), self, self.hint())
    }

    /// Whether nobody was there to answer, or not who should be: nothing was asked of the storage then.
    pub(super) fn is_of_the_way(&self) -> bool {
        matches!(
            self,
            Self::HostUnknown { .. }
                | Self::Refused { .. }
                | Self::Unreachable { .. }
                | Self::NoAnswer { .. }
                | Self::HostKeyChanged { .. }
                | Self::HostKeyUnknown { .. }
                | Self::Program { .. }
                | Self::Ssh { .. }
                | Self::BadPlace { .. }
                | Self::Hangs(_)
                | Self::Web(..)
        )
    }

    /// Whether the storage does not know who asks, or lets nobody ask at all.
    pub(super) fn is_of_the_login(&self) -> bool {
        matches!(
            self,
            Self::Login { .. } | Self::Clock { .. } | Self::Region { .. } | Self::NotSftp { .. } | Self::Busy { .. }
        )
    }
}

pub(super) fn is_full(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_to_type() {
        let region = StorageError::Region {
            place: "the bucket b".to_owned(),
            given: "us-east-1".to_owned(),
            right: Some("eu-west-1".to_owned()),
        };
        let trouble = region.trouble();
        assert!(trouble.is(codes::WRONG_REGION) && trouble.message.contains("it is in \"eu-west-1\""), "{trouble}");
        assert_eq!(trouble.hint.as_deref(), Some("write `region: eu-west-1`"));
        let clock = StorageError::Clock { place: "s3".to_owned(), skew_s: Some(-1200) };
        assert!(clock.to_string().ends_with("differ by 20m"), "{clock}");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(StorageError::Write { path: PathBuf::from("/x"), source: full }.code(), codes::DISK_FULL);
    }
}
