//! age: for whom a data key is encrypted, and which identity opens it.
//!
//! An identity of a plugin (`AGE-PLUGIN-…`, a hardware key) is asked through age's protocol: `age-plugin-NAME` is started as
//! a child and told what to open. Nobody sits at a daemon, so what a plugin wants to be typed is not answered.

use std::io::{Read as _, Write as _};
use std::str::FromStr as _;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::plugin::{IdentityPluginV1, RecipientPluginV1};
use age::{DecryptError, Decryptor, EncryptError, Encryptor};
use secrecy::zeroize::Zeroizing;

/// Longest data key that is read; SOPS has 32 bytes.
const DATA_KEY_BYTES_MAX: u64 = 256;
/// Most identities of one source.
const IDENTITIES_MAX: usize = 64;

/// Says why a data key cannot be opened or encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no identity fits")]
    NoMatch,
    #[error("it is no file of age, or was changed")]
    Damaged,
    #[error("the plugin `age-plugin-…` of this key is not on the PATH, or failed")]
    Plugin,
    #[error("it cannot be encrypted for it")]
    Encrypt,
}

/// Says which line of an identity file is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    #[error("line {0} is no age identity (`AGE-SECRET-KEY-1…` or `AGE-PLUGIN-…`)")]
    Line(usize),
    #[error("it holds no identity")]
    Empty,
    #[error("it holds more than {IDENTITIES_MAX} identities")]
    Many,
}

/// Identities that were read: what opens data keys.
#[derive(Default)]
pub struct Identities {
    own: Vec<age::x25519::Identity>,
    plugins: Vec<age::plugin::Identity>,
}

impl Identities {
    /// Reads the lines of an identity file.
    ///
    /// # Errors
    /// When a line is no identity, or there is none.
    pub fn parse(text: &str) -> Result<Self, NoIdentity> {
        let mut found = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Ok(identity) = age::x25519::Identity::from_str(line) {
                found.own.push(identity);
            } else if let Ok(identity) = age::plugin::Identity::from_str(line) {
                found.plugins.push(identity);
            } else {
                return Err(NoIdentity::Line(index + 1));
            }
            if found.own.len() + found.plugins.len() > IDENTITIES_MAX {
                return Err(NoIdentity::Many);
            }
        }
        if found.is_empty() { Err(NoIdentity::Empty) } else { Ok(found) }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.plugins.is_empty()
    }

    /// Whether some are of plugins, whose recipients are not known.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        !self.plugins.is_empty()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.own.extend(other.own);
        self.plugins.extend(other.plugins);
    }

    /// Whom to encrypt for so that these open it; a plugin's are not known.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        let own = self.own.iter().map(|identity| identity.to_public().to_string());
        own.chain(self.plugins.iter().map(|identity| format!("age1{}1…", identity.plugin()))).collect()
    }

    /// Whether one of these may be of `recipient`.
    #[must_use]
    pub fn may_open(&self, recipient: &str) -> bool {
        let own = self.own.iter().any(|identity| identity.to_public().to_string() == recipient);
        own || self.plugins.iter().any(|identity| is_of_plugin(recipient, identity.plugin()))
    }

    /// Opens a data key.
    pub(super) fn unwrap(&self, sealed: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        match open(sealed, self.own.iter().map(|identity| identity as &dyn age::Identity)) {
            Err(KeyError::NoMatch) if !self.plugins.is_empty() => {}
            answer => return answer,
        }
        let mut names: Vec<&str> = self.plugins.iter().map(age::plugin::Identity::plugin).collect();
        names.sort_unstable();
        names.dedup();
        let mut answer = Err(KeyError::NoMatch);
        for name in names {
            let plugin = IdentityPluginV1::new(name, &self.plugins, age::NoCallbacks).map_err(|_| KeyError::Plugin)?;
            answer = open(sealed, std::iter::once(&plugin as &dyn age::Identity));
            if answer.is_ok() {
                break;
            }
        }
        answer
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identities").field(&self.recipients()).finish()
    }
}

/// Makes an identity: the lines of its file, and its recipient.
#[must_use]
pub fn generate() -> (secrecy::SecretString, String) {
    use secrecy::ExposeSecret as _;
    let identity = age::x25519::Identity::generate();
    (identity.to_string().expose_secret().into(), identity.to_public().to_string())
}

/// Whether data keys can be encrypted for it.
#[must_use]
pub fn is_recipient(text: &str) -> bool {
    age::x25519::Recipient::from_str(text).is_ok() || age::plugin::Recipient::from_str(text).is_ok()
}

/// Encrypts a data key.
///
/// # Errors
/// When `recipient` is none, or its plugin is not there.
pub(super) fn wrap(data_key: &[u8], recipient: &str) -> Result<String, KeyError> {
    if let Ok(own) = age::x25519::Recipient::from_str(recipient) {
        return seal(data_key, &own);
    }
    let plugin = age::plugin::Recipient::from_str(recipient).map_err(|_| KeyError::Encrypt)?;
    let name = plugin.plugin().to_owned();
    let asked = RecipientPluginV1::new(&name, &[plugin], &[], age::NoCallbacks).map_err(|_| KeyError::Plugin)?;
    seal(data_key, &asked)
}

fn seal(data_key: &[u8], recipient: &dyn age::Recipient) -> Result<String, KeyError> {
    let encryptor = Encryptor::with_recipients(std::iter::once(recipient)).map_err(|error| match error {
        EncryptError::Plugin(_) => KeyError::Plugin,
        _ => KeyError::Encrypt,
    })?;
    let mut out = Vec::new();
    let written = (|| {
        let armored = ArmoredWriter::wrap_output(&mut out, Format::AsciiArmor)?;
        let mut writer = encryptor.wrap_output(armored)?;
        writer.write_all(data_key)?;
        writer.finish()?.finish()
    })();
    written.map_err(|_: std::io::Error| KeyError::Encrypt)?;
    String::from_utf8(out).map_err(|_| KeyError::Encrypt)
}

fn open<'a>(
    sealed: &str,
    identities: impl Iterator<Item = &'a dyn age::Identity>,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let told = |error: DecryptError| match error {
        DecryptError::NoMatchingKeys => KeyError::NoMatch,
        DecryptError::Plugin(_) | DecryptError::PluginResolve(_) => KeyError::Plugin,
        _ => KeyError::Damaged,
    };
    let decryptor = Decryptor::new(ArmoredReader::new(sealed.as_bytes())).map_err(told)?;
    let reader = decryptor.decrypt(identities).map_err(told)?;
    let mut key = Zeroizing::new(Vec::with_capacity(64));
    reader.take(DATA_KEY_BYTES_MAX).read_to_end(&mut key).map_err(|_| KeyError::Damaged)?;
    Ok(key)
}

/// Whether `recipient` is one that the plugin makes: `age1NAME1…`.
fn is_of_plugin(recipient: &str, plugin: &str) -> bool {
    recipient.strip_prefix("age1").and_then(|rest| rest.strip_prefix(plugin)).is_some_and(|rest| rest.starts_with('1'))
}
