//! The encrypted secrets of a revision: each file is one of SOPS, each reference leads to a value, and the daemon opens it.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::diagnostic::{Diagnostic, Severity};
use super::document::ParsedFile;
use super::text::Finding;
use crate::error::{Code, Trouble, chain, codes};
use crate::secret::address::{Address, DIRECTORY};
use crate::secret::identity::IdentityError;
use crate::secret::keyring::{Keyring, Look};
use crate::secret::keys::Identities;
use crate::secret::sops::{SopsError, SopsFile};
use crate::source::FileSet;

/// Everything that is wrong with the files of secrets and with the references to them.
pub(super) fn check(files: &dyn FileSet, parsed: &[Arc<ParsedFile>], keyring: &Keyring) -> Vec<Diagnostic> {
    let referring = || parsed.iter().filter_map(|file| Some((file.source.as_ref()?, &file.sealed)));
    if files.sealed().is_empty() && referring().all(|(_, sealed)| sealed.is_empty()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut known = BTreeMap::new();
    for entry in files.sealed() {
        match files.read(entry) {
            Err(trouble) => found.push(Diagnostic::of_file(&entry.path, trouble)),
            Ok(bytes) => match SopsFile::read(&bytes) {
                Ok(file) => drop(known.insert(entry.path.as_str(), Arc::new(file))),
                Err(error) => {
                    let trouble = Trouble::new(codes::SECRET_FILE, chain(&error)).with_hint(error.hint(&entry.path));
                    found.push(Diagnostic::of_file(&entry.path, trouble));
                }
            },
        }
    }
    let there: Vec<&str> = files.sealed().iter().map(|entry| entry.path.as_str()).collect();
    let refused: Vec<&str> = files.refused().iter().map(|(path, _)| path.as_str()).collect();
    let mut opener = Opener { keyring, identities: None, told: false };
    for (source, sealed) in referring() {
        for reference in sealed {
            let address = &reference.value;
            let file = known.get(address.file.as_str());
            // What is wrong with a file as a whole was told.
            if file.is_none() && (there.contains(&address.file.as_str()) || refused.contains(&address.file.as_str())) {
                continue;
            }
            let problem = match file {
                None => Some((Severity::Error, codes::SECRET_FILE_MISSING, missing(address, &there))),
                Some(file) => opener.problem(address, file),
            };
            if let Some((severity, code, trouble)) = problem {
                let finding = match severity {
                    Severity::Error => Finding::error(reference.span, code, trouble.message),
                    Severity::Warning => Finding::warning(reference.span, code, trouble.message),
                };
                found.push(source.diagnostic(&finding.maybe_hint(trouble.hint)));
            }
        }
    }
    found
}

/// The identities at hand, read when the first file needs them.
struct Opener<'a> {
    keyring: &'a Keyring,
    identities: Option<Result<Option<Arc<Identities>>, IdentityError>>,
    /// That there are none is said once.
    told: bool,
}

impl Opener<'_> {
    fn problem(&mut self, address: &Address, file: &Arc<SopsFile>) -> Option<(Severity, Code, Trouble)> {
        let refuse = |error: &SopsError, code| Some((Severity::Error, code, told(code, error, &address.file)));
        let path = match file.meant(address.path.as_deref()) {
            Ok(path) => path,
            Err(error) => return refuse(&error, codes::SECRET_FILE_MISSING),
        };
        let identities = match self.identities.get_or_insert_with(|| self.keyring.identities()) {
            Ok(identities) => identities.as_ref(),
            // The revision may be right: whoever mends the identity needs no other one.
            Err(error) => return without_identity(&mut self.told, error),
        };
        match self.keyring.look(file, identities) {
            Err(error) => refuse(&error, codes::SECRET_NOT_OPENED),
            Ok(Look::Unknown) => None,
            Ok(Look::Silent(silent)) => without_identity(&mut self.told, &IdentityError::Silent(silent)),
            Ok(Look::Opened(opened)) => match opened.text(&path) {
                Err(error) => refuse(&error, codes::SECRET_NOT_OPENED),
                Ok(text) if text.expose_secret().is_empty() => {
                    let trouble = Trouble::new(codes::SECRET_NOT_OPENED, format!("the secret {address} is empty"));
                    let trouble = trouble.with_hint(format!("set it with `larder secret set '{address}'`"));
                    Some((Severity::Error, codes::SECRET_NOT_OPENED, trouble))
                }
                Ok(_) => None,
            },
        }
    }
}

/// Said once, as `told` remembers.
fn without_identity(told: &mut bool, error: &IdentityError) -> Option<(Severity, Code, Trouble)> {
    let trouble = Trouble::of(codes::IDENTITY_MISSING, error, Some(error.hint()));
    (!std::mem::replace(told, true)).then_some((Severity::Warning, codes::IDENTITY_MISSING, trouble))
}

fn told(code: Code, error: &SopsError, file: &str) -> Trouble {
    Trouble::new(code, format!("{file}: {}", chain(error))).with_hint(error.hint(file))
}

fn missing(address: &Address, there: &[&str]) -> Trouble {
    let near = super::suggest::nearest(&address.file, there.iter().copied());
    let hint = match near {
        Some(near) => format!("did you mean {near}? Else make it with `larder secret set '{address}'`"),
        None => format!("make it with `larder secret set '{address}'`, and push it with what refers to it"),
    };
    let outside = if address.path.is_none() && !address.file.starts_with(DIRECTORY) {
        " (paths start at the config root)"
    } else {
        ""
    };
    Trouble::new(codes::SECRET_FILE_MISSING, format!("this revision has no file {}{outside}", address.file))
        .with_hint(hint)
}
