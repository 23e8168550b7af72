//! Copies snapshots from one repository into another by one call of restic.
//!
//! What is to be copied is decided elsewhere and named by ids. restic leaves out what it finds there already and what it does
//! not find at the source, both without an error: whoever wants to know what is there now lists it.

use std::ffi::OsString;

use secrecy::{ExposeSecret as _, SecretString};

use super::machine_key::MachineKey;
use super::messages;
use super::reach::Reach;
use super::{Call, EngineError, IDS_MAX, RepositoryAccess, Restic};
use crate::process::Context;
use crate::storage::{Place, RestPlace};

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyProgress {
    /// Snapshots that are there now.
    pub saved: u64,
    pub wanted: u64,
}

impl Restic {
    /// Copies the snapshots `ids` of `from` into `to`, in that order; both are the expected repositories.
    ///
    /// # Errors
    /// One is no whole id; one of the two is another repository; and everything that restic can fail with.
    pub async fn copy(
        &self,
        from: &RepositoryAccess,
        to: &RepositoryAccess,
        ids: &[String],
        context: &Context,
        mut on_progress: impl FnMut(CopyProgress) + Send,
    ) -> Result<(), EngineError> {
        if let Some(bad) = ids.iter().find(|id| !messages::is_id(id)) {
            return Err(EngineError::SnapshotId { id: bad.chars().take(80).collect() });
        }
        self.check_identity(from, context).await?;
        self.check_identity(to, context).await?;
        // What is fetched comes from the one, what is sent goes to the other; neither is loaded beyond its own bound.
        let mut to = to.clone();
        to.limits.download = to.limits.download.into_iter().chain(from.limits.download).min();
        let mut progress = CopyProgress { saved: 0, wanted: ids.len() as u64 };
        for some in ids.chunks(IDS_MAX) {
            let call = Call::new("copy", &["--json"]).with_figures().copying_from(from).naming(some);
            let mut hear = |line: &str| {
                if line.starts_with("snapshot ")
                    && line.split_whitespace().nth(2).is_some_and(|word| word.starts_with("saved"))
                {
                    progress.saved += 1;
                    on_progress(progress);
                }
            };
            match self.call_locking(&to, context, call, &mut hear).await?.success("copy", &to) {
                // Nobody says which of the two it is.
                Err(EngineError::Damaged { detail, .. }) => {
                    return Err(EngineError::Failed {
                        operation: "copy".to_owned(),
                        how: "something is damaged".to_owned(),
                        detail,
                    });
                }
                answer => answer?,
            };
        }
        Ok(())
    }
}

/// `[0:01] 66.67%  2 / 3 packs copied`: how many of how many; none: it is another line.
pub(super) fn packs(line: &str) -> Option<(u64, u64)> {
    let figures = line.strip_prefix('[')?.split_once(']')?.1.strip_suffix("packs copied")?;
    let numbers: Vec<u64> = figures.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers.as_slice() {
        [done, total] => Some((*done, *total)),
        [done] => Some((*done, 0)),
        _ => None,
    }
}

/// Whether a copy says that a snapshot begins or is done.
pub(super) fn is_about_the_next(line: &str) -> bool {
    line.starts_with("snapshot ")
}

/// The second repository of a call, which restic reads from.
pub(super) struct Second {
    access: RepositoryAccess,
    key: Option<MachineKey>,
}

impl Second {
    pub(super) fn of(access: &RepositoryAccess, key: Option<MachineKey>) -> Self {
        Self { access: access.clone(), key }
    }

    fn password(&self) -> &SecretString {
        self.key.as_ref().map_or(&self.access.password, |key| &key.secret)
    }

    /// What must be seen nowhere.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        [self.access.secrets(), vec![self.password().clone()]].concat()
    }

    /// How restic reaches both, this one as the second. Blocking, as [`Reach::of`].
    pub(super) fn reach(&self, first: &RepositoryAccess) -> Result<Reach, EngineError> {
        let plain = |text: &str| SecretString::from(text.to_owned());
        let mut location = plain(&self.access.location);
        let mut reach = match (&first.place, &self.access.place) {
            (Place::Sftp(_), Place::Sftp(other)) => Reach::with_hosts(first, Some(other))?,
            _ => Reach::of(first)?,
        };
        match (&first.place, &self.access.place) {
            // Options and variables are for a kind of storage, not for one of two of the same kind: those of the first
            // serve both. The config has what they may differ in.
            (Place::Sftp(_), Place::Sftp(_)) | (Place::Local(_), Place::Local(_)) => {}
            (Place::S3(_), Place::S3(_)) => reach.trust_also(&self.access)?,
            (Place::Rest(one), Place::Rest(other)) => {
                reach.trust_also(&self.access)?;
                reach.env.retain(|(name, _)| !name.starts_with("RESTIC_REST_"));
                reach.location = Some(with_login(one));
                location = with_login(other);
            }
            _ => reach.add(Reach::of(&self.access)?),
        }
        reach.env.push(("RESTIC_FROM_REPOSITORY".to_owned(), location));
        // Its own standard input is the first one's.
        reach.env.push(("RESTIC_FROM_PASSWORD".to_owned(), self.password().clone()));
        reach.env.extend(self.key.as_ref().map(|key| ("RESTIC_FROM_KEY_HINT".to_owned(), plain(&key.id))));
        Ok(reach)
    }
}

/// restic's address of a REST server with its own login in it: what is in the environment would go to both. It is handed
/// over in the environment itself.
fn with_login(rest: &RestPlace) -> SecretString {
    let login = match (&rest.user, &rest.password) {
        (Some(user), Some(password)) => format!("{}:{}@", encoded(user), encoded(password.expose_secret())),
        _ => String::new(),
    };
    let (scheme, host) = rest.url.split_once("://").unwrap_or(("https", rest.url.as_str()));
    SecretString::from(format!("rest:{scheme}://{login}{host}/"))
}

/// For the part of an address before the host.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

impl Reach {
    /// What another kind of storage needs, too.
    fn add(&mut self, other: Self) {
        self.args.extend(other.args);
        self.env.extend(other.env);
        self.kept.extend(other.kept);
    }

    /// Trusts the authorities of another storage of the same kind, too.
    fn trust_also(&mut self, other: &RepositoryAccess) -> Result<(), EngineError> {
        let other = Self::of(other)?;
        let mut words = other.args.iter();
        while let Some(word) = words.next() {
            if word == "--cacert"
                && let Some(file) = words.next()
            {
                self.args.extend([OsString::from("--cacert"), file.clone()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::model::{Cache, Limits, Tls};
    use crate::types::Name;

    fn access(name: &str, place: Place, location: &str) -> RepositoryAccess {
        RepositoryAccess {
            destination: Name::parse(name).unwrap(),
            location: location.to_owned(),
            place,
            password: SecretString::from(format!("password of {name}")),
            expected_id: None,
            limits: Limits::default(),
            machine_key: true,
            restic_cache: Cache::Own,
            cache: PathBuf::from("/var/cache/larder"),
        }
    }

    fn rest(user: Option<&str>, ca: &str) -> RestPlace {
        RestPlace {
            url: format!("https://{}.lan:8000/home", user.unwrap_or("open")),
            user: user.map(str::to_owned),
            password: user.map(|user| SecretString::from(format!("{user}'s p@ss/word"))),
            tls: Tls { ca: Some(ca.into()), fingerprint: None },
            allow_http: false,
        }
    }

    fn value<'r>(reach: &'r Reach, name: &str) -> Option<&'r str> {
        reach.env.iter().find(|(own, _)| own == name).map(|(_, value)| value.expose_secret())
    }

    #[test]
    fn each_of_two_rest_servers_gets_its_own_login_and_none_that_of_the_other() {
        let to = access("vault", Place::Rest(rest(Some("me"), "/a.pem")), "rest:https://me.lan:8000/home/");
        let from = access("nas", Place::Rest(rest(None, "/b.pem")), "rest:https://open.lan:8000/home/");
        let reach = Second::of(&from, None).reach(&to).unwrap();
        let location = reach.location.as_ref().unwrap().expose_secret();
        assert_eq!(location, "rest:https://me:me%27s%20p%40ss%2Fword@me.lan:8000/home/");
        assert_eq!(value(&reach, "RESTIC_FROM_REPOSITORY"), Some("rest:https://open.lan:8000/home/"));
        assert_eq!(value(&reach, "RESTIC_REST_PASSWORD"), None, "it would go to both");
        assert_eq!(value(&reach, "RESTIC_FROM_PASSWORD"), Some("password of nas"));
        assert_eq!(reach.args, ["--cacert", "/a.pem", "--cacert", "/b.pem"]);
    }

    #[test]
    fn a_directory_beside_a_server_needs_what_the_server_needs() {
        let to = access("vault", Place::Rest(rest(Some("me"), "/a.pem")), "rest:https://me.lan:8000/home/");
        let from = access("nas", Place::Local("/mnt/nas".into()), "/mnt/nas");
        let key = MachineKey { id: "ab".repeat(32), secret: SecretString::from("its secret".to_owned()) };
        let there = Second::of(&from, Some(key)).reach(&to).unwrap();
        assert_eq!(value(&there, "RESTIC_REST_USERNAME"), Some("me"));
        assert_eq!(value(&there, "RESTIC_FROM_PASSWORD"), Some("its secret"));
        assert_eq!(value(&there, "RESTIC_FROM_KEY_HINT"), Some("ab".repeat(32).as_str()));
        let back = Second::of(&to, None).reach(&from).unwrap();
        assert_eq!(value(&back, "RESTIC_REST_USERNAME"), Some("me"));
        assert_eq!(back.args, ["--cacert", "/a.pem"]);
        assert!(!format!("{:?}", there.args).contains("pass"), "no secret is an argument");
    }

    #[test]
    fn the_figures_of_a_copy_are_read_and_nothing_else() {
        assert_eq!(packs("[0:01] 66.67%  2 / 3 packs copied"), Some((2, 3)));
        assert_eq!(packs("[0:00]          0 packs copied"), Some((0, 0)));
        for other in ["snapshot 82b8c6e4 saved", "  copy started, this may take a while...", "", "[x", "[]packs copied"]
        {
            assert_eq!(packs(other), None, "{other}");
        }
    }
}
