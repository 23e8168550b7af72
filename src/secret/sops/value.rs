//! One value as SOPS writes it: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.
//!
//! The keys that lead to it are authenticated with it, so a value that was moved to another key does not open. The nonce
//! has 32 bytes where SOPS wrote it.

use aes::Aes256;
use aes_gcm::aead::consts::{U12, U32};
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{AesGcm, Nonce};
use data_encoding::BASE64;
use ring::rand::SecureRandom as _;
use secrecy::zeroize::Zeroizing;

use super::SopsError;

const HEAD: &str = "ENC[AES256_GCM,";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// What opens all values of one file. Wiped when dropped.
pub struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

/// What a value was before it was encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Text,
    Int,
    Float,
    Bool,
    Bytes,
    Time,
    Comment,
}

impl Type {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "str" => Self::Text,
            "int" | "int64" => Self::Int,
            "float" => Self::Float,
            "bool" => Self::Bool,
            "bytes" => Self::Bytes,
            "time" => Self::Time,
            "comment" => Self::Comment,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Text => "str",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Bytes => "bytes",
            Self::Time => "time",
            Self::Comment => "comment",
        }
    }
}

impl DataKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn random() -> Result<Self, SopsError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        ring::rand::SystemRandom::new().fill(key.as_mut_slice()).map_err(|_| SopsError::Random)?;
        Ok(Self(key))
    }

    /// None when it has another length.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Opens a value; `context` is what is authenticated with it. None when it is none, was changed, or the key is another.
    pub(super) fn open(&self, sealed: &str, context: &str) -> Option<(Type, Zeroizing<Vec<u8>>)> {
        let inner = sealed.strip_prefix(HEAD)?.strip_suffix(']')?;
        let mut parts = inner.split(',');
        let mut part = |name: &str| parts.next()?.strip_prefix(name);
        let (data, nonce, tag, kind) = (part("data:")?, part("iv:")?, part("tag:")?, part("type:")?);
        let kind = Type::read(kind)?;
        let nonce = BASE64.decode(nonce.as_bytes()).ok()?;
        let mut data = BASE64.decode(data.as_bytes()).ok()?;
        let tag = BASE64.decode(tag.as_bytes()).ok().filter(|tag| tag.len() == TAG_BYTES)?;
        data.extend_from_slice(&tag);
        let payload = Payload { msg: &data, aad: context.as_bytes() };
        let key = self.0.as_slice().into();
        let plain = match nonce.len() {
            NONCE_BYTES => AesGcm::<Aes256, U32>::new(key).decrypt(Nonce::from_slice(&nonce), payload),
            12 => AesGcm::<Aes256, U12>::new(key).decrypt(Nonce::from_slice(&nonce), payload),
            _ => return None,
        };
        plain.ok().map(|plain| (kind, Zeroizing::new(plain)))
    }

    /// Seals a value; the empty text stays empty, as SOPS has it.
    pub(super) fn seal(&self, kind: Type, plain: &[u8], context: &str) -> Result<String, SopsError> {
        if plain.is_empty() {
            return Ok(String::new());
        }
        let mut nonce = [0; NONCE_BYTES];
        ring::rand::SystemRandom::new().fill(&mut nonce).map_err(|_| SopsError::Random)?;
        let cipher = AesGcm::<Aes256, U32>::new(self.0.as_slice().into());
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let sealed = cipher.encrypt(Nonce::from_slice(&nonce), payload).map_err(|_| SopsError::TooLong)?;
        let (data, tag) = sealed.split_at(sealed.len().saturating_sub(TAG_BYTES));
        let (data, nonce, tag) = (BASE64.encode(data), BASE64.encode(&nonce), BASE64.encode(tag));
        Ok(format!("{HEAD}data:{data},iv:{nonce},tag:{tag},type:{}]", kind.word()))
    }
}

/// Whether a text looks like an encrypted value.
pub(super) fn is_sealed(text: &str) -> bool {
    text.starts_with(HEAD) && text.ends_with(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_with_its_key_at_its_place_and_nowhere_else() {
        let key = DataKey::random().unwrap();
        let sealed = key.seal(Type::Text, "pä\"ss".as_bytes(), "a:b:").unwrap();
        let (kind, plain) = key.open(&sealed, "a:b:").unwrap();
        assert_eq!((kind, plain.as_slice()), (Type::Text, "pä\"ss".as_bytes()));
        assert!(key.open(&sealed, "a:c:").is_none());
        assert!(DataKey::random().unwrap().open(&sealed, "a:b:").is_none());
        assert!(key.open(&sealed.replace("type:str", "type:odd"), "a:b:").is_none());
    }

    #[test]
    fn what_is_cut_or_no_value_does_not_open() {
        let key = DataKey::random().unwrap();
        let sealed = key.seal(Type::Text, b"password", "a:").unwrap();
        for end in 0..sealed.len() {
            assert!(key.open(&sealed[..end], "a:").is_none());
        }
        assert_eq!(key.seal(Type::Text, b"", "a:").unwrap(), "");
    }
}
