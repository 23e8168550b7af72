//! Which certificates are trusted: the system's authorities, one file of them, or exactly one certificate.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};

use crate::web::WebError;

/// Largest file of certificates, in bytes.
const CA_BYTES_MAX: u64 = 1 << 20;

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The authorities that the system trusts.
    System,
    /// The authorities in a PEM file, and no others.
    Authorities(PathBuf),
    /// The one certificate with this SHA-256, whoever signed it and whatever its names and dates are.
    Fingerprint([u8; 32]),
}

impl Trust {
    /// From what settings have: a file, a fingerprint in hex with or without colons, or neither.
    ///
    /// # Errors
    /// When both are given, or the fingerprint is none.
    pub(crate) fn from_settings(ca: Option<&Path>, fingerprint: Option<&str>) -> Result<Self, WebError> {
        match (ca, fingerprint) {
            (None, None) => Ok(Self::System),
            (Some(ca), None) => Ok(Self::Authorities(ca.to_owned())),
            (None, Some(text)) => {
                let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
                let bytes = hex::decode(digits.trim_start_matches("sha256/")).unwrap_or_default();
                bytes.try_into().map(Self::Fingerprint).map_err(|_| WebError::Fingerprint { text: text.to_owned() })
            }
            (Some(_), Some(_)) => Err(WebError::TwoTrusts),
        }
    }
}

/// Makes `builder` trust whom it should.
pub(super) fn with_trust(builder: reqwest::ClientBuilder, trust: &Trust) -> Result<reqwest::ClientBuilder, WebError> {
    match trust {
        Trust::System => Ok(builder),
        Trust::Authorities(path) => {
            let unreadable = |why: String| WebError::Authorities { path: path.clone(), why };
            let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
            if size > CA_BYTES_MAX {
                return Err(unreadable(format!("it has more than {CA_BYTES_MAX} bytes")));
            }
            let pem = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|_| unreadable("it holds no certificates in PEM form".to_owned()))?;
            if certificates.is_empty() {
                return Err(unreadable("it holds no certificate in PEM form".to_owned()));
            }
            Ok(builder.tls_certs_only(certificates))
        }
        Trust::Fingerprint(wanted) => Ok(builder.tls_backend_preconfigured(pinned(Pin::Exactly(*wanted))?)),
    }
}

/// The fingerprint of the certificate that a server showed.
pub(super) type Seen = Arc<Mutex<Option<[u8; 32]>>>;

/// A client configuration that shows which certificate a server has, and trusts none.
pub(super) fn looking() -> Result<(rustls::ClientConfig, Seen), WebError> {
    let seen = Seen::default();
    Ok((pinned(Pin::Look(Arc::clone(&seen)))?, seen))
}

/// The certificate that a server showed, in DER.
pub(super) type Shown = Arc<Mutex<Option<Vec<u8>>>>;

/// A client configuration that trusts one certificate, and keeps it.
pub(super) fn keeping(wanted: [u8; 32]) -> Result<(rustls::ClientConfig, Shown), WebError> {
    let shown = Shown::default();
    Ok((pinned(Pin::Keep(wanted, Arc::clone(&shown)))?, shown))
}

/// In PEM.
pub(super) fn pem(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// A fingerprint as people write it.
pub(super) fn show(fingerprint: &[u8; 32]) -> String {
    let pairs: Vec<String> = fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

fn pinned(pin: Pin) -> Result<rustls::ClientConfig, WebError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| WebError::Client(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { pin, provider }))
        .with_no_client_auth();
    Ok(config)
}

#[derive(Debug)]
enum Pin {
    Exactly([u8; 32]),
    Look(Seen),
    Keep([u8; 32], Shown),
}

/// Knows one certificate by its hash. Signatures of the handshake are still checked: the server has the key.
#[derive(Debug)]
struct Verifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let hash: [u8; 32] = Sha256::digest(end_entity).into();
        match &self.pin {
            Pin::Exactly(wanted) if *wanted == hash => Ok(ServerCertVerified::assertion()),
            Pin::Keep(wanted, shown) if *wanted == hash => {
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
                Ok(ServerCertVerified::assertion())
            }
            Pin::Exactly(_) | Pin::Keep(..) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            Pin::Look(seen) => {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash);
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_and_browsers_write_it() {
        let hex = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        let wanted = Trust::Fingerprint([0xab; 32]);
        assert_eq!(Trust::from_settings(None, Some(&hex)).unwrap(), wanted);
        assert_eq!(Trust::from_settings(None, Some(&colons)).unwrap(), wanted);
        assert_eq!(show(&[0xab; 32]), colons);
        assert!(Trust::from_settings(None, Some("abcd")).is_err());
        assert!(Trust::from_settings(Some(Path::new("/ca")), Some(&hex)).is_err());
    }
}
