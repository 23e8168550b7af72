//! A key file of a restic repository, made from the repository's master key: the one place that handles it.
//!
//! The format is that of restic's design document ("Keys, Encryption and MAC"): the master key's JSON, encrypted with
//! AES-256-CTR and authenticated with Poly1305-AES, by keys that scrypt makes of a secret. Stretching is for what people
//! remember: of 32 random bytes the smallest parameters are as strong as AES-256, and restic opens such a key at once.

use aes::cipher::{BlockEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _};
use aes::{Aes128, Aes256};
use data_encoding::BASE64;
use jiff::Timestamp;
use poly1305::Poly1305;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// scrypt's parameters, as small as they go: N=2, r=1, p=1.
const LOG_N: u8 = 1;
const R: u32 = 1;
const P: u32 = 1;
/// Random bytes of the secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of the salt; restic takes no other length.
const SALT_BYTES: usize = 64;
/// Random bytes in front of the ciphertext.
const IV_BYTES: usize = 16;

/// No random bytes can be had, or the cipher refuses its key: neither happens on a machine that is well.
#[derive(Debug, thiserror::Error)]
#[error("no key can be made: {0}")]
pub(super) struct SealError(&'static str);

/// A key file, and what opens it.
pub(super) struct Sealed {
    /// Its name: the SHA-256 of its bytes, 64 hexadecimal digits.
    pub(super) id: String,
    pub(super) file: Vec<u8>,
    /// 64 hexadecimal digits.
    pub(super) secret: SecretString,
}

/// Who a key is for, as `restic key list` shows it.
pub(super) struct Holder<'a> {
    pub(super) user: &'a str,
    pub(super) host: &'a str,
    pub(super) created: Timestamp,
}

#[derive(Serialize)]
struct KeyFile<'a> {
    created: String,
    username: &'a str,
    hostname: &'a str,
    kdf: &'static str,
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// Seals `master` (the JSON that `restic cat masterkey` prints) with a secret of its own.
///
/// # Errors
/// No random bytes can be had.
pub(super) fn seal(master: &SecretString, holder: &Holder<'_>) -> Result<Sealed, SealError> {
    let random = |bytes: &mut [u8]| {
        use ring::rand::SecureRandom as _;
        ring::rand::SystemRandom::new().fill(bytes).map_err(|_| SealError("the system has no random bytes"))
    };
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    let (mut salt, mut iv) = ([0; SALT_BYTES], [0; IV_BYTES]);
    random(&mut *secret)?;
    random(&mut salt)?;
    random(&mut iv)?;
    let secret = SecretString::from(hex::encode(secret.as_slice()));
    let data = encrypt(master.expose_secret().as_bytes(), secret.expose_secret().as_bytes(), &salt, iv)?;
    let file = KeyFile {
        created: holder.created.to_string(),
        username: holder.user,
        hostname: holder.host,
        kdf: "scrypt",
        n: 1 << LOG_N,
        r: R,
        p: P,
        salt: BASE64.encode(&salt),
        data: BASE64.encode(&data),
    };
    let file = serde_json::to_vec(&file).map_err(|_| SealError("it cannot be written as JSON"))?;
    Ok(Sealed { id: hex::encode(Sha256::digest(&file)), file, secret })
}

/// `iv ‖ ciphertext ‖ MAC`.
fn encrypt(plain: &[u8], password: &[u8], salt: &[u8], iv: [u8; IV_BYTES]) -> Result<Vec<u8>, SealError> {
    let refused = |_| SealError("the cipher refuses its key");
    let parameters = scrypt::Params::new(LOG_N, R, P, 64).map_err(|_| SealError("scrypt refuses its parameters"))?;
    let mut keys = Zeroizing::new([0_u8; 64]);
    scrypt::scrypt(password, salt, &parameters, &mut *keys).map_err(|_| SealError("scrypt refuses its parameters"))?;
    let [cipher_key, mac_key, mac_clamped] = [&keys[..32], &keys[32..48], &keys[48..]];
    let mut data = iv.to_vec();
    data.extend_from_slice(plain);
    let mut cipher = ctr::Ctr128BE::<Aes256>::new_from_slices(cipher_key, &iv).map_err(refused)?;
    cipher.apply_keystream(&mut data[IV_BYTES..]);
    let mut nonce = aes::Block::from(iv);
    Aes128::new_from_slice(mac_key).map_err(refused)?.encrypt_block(&mut nonce);
    let mut one_time = Zeroizing::new([0_u8; 32]);
    one_time[..16].copy_from_slice(mac_clamped);
    one_time[16..].copy_from_slice(&nonce);
    let mac = Poly1305::new(poly1305::Key::from_slice(&*one_time)).compute_unpadded(&data[IV_BYTES..]);
    data.extend_from_slice(&mac);
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_bytes_and_no_two_are_alike() {
        let master = SecretString::from(r#"{"mac":{"k":"a","r":"b"},"encrypt":"c"}"#.to_owned());
        let holder = Holder { user: "root", host: "nas", created: Timestamp::UNIX_EPOCH };
        let (one, two) = (seal(&master, &holder).unwrap(), seal(&master, &holder).unwrap());
        assert_eq!(one.id, hex::encode(Sha256::digest(&one.file)));
        assert!(one.id != two.id && one.secret.expose_secret() != two.secret.expose_secret());
        assert_eq!(one.secret.expose_secret().len(), 2 * SECRET_BYTES);
        let shown: serde_json::Value = serde_json::from_slice(&one.file).unwrap();
        assert_eq!((&shown["N"], &shown["hostname"]), (&serde_json::json!(2), &serde_json::json!("nas")));
        let data = BASE64.decode(shown["data"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(data.len(), IV_BYTES + master.expose_secret().len() + 16);
    }
}
