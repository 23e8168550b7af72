//! Where a repository lies, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalars::{RawArgument, RawHost, RawPath, RawUrl};
use crate::secret::SecretRef;

/// Where a repository lies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
#[schemars(rename = "Repository", extend("examples" = [{"type": "local", "path": "/mnt/nas/restic"}]))]
pub enum RawRepository {
    /// A directory on this host; a mounted share or disk is one, too.
    Local {
        /// The directory.
        path: RawPath,
        /// Nothing is read or written unless something is mounted here.
        require_mount: Option<RawPath>,
        /// Make the repository even where it looks as if its disk were not mounted. Without it: false.
        create: Option<bool>,
    },
    /// A bucket of an S3-compatible server: AWS, B2, Wasabi, MinIO, Garage and others.
    S3 {
        /// The server's address, without the bucket.
        endpoint: RawUrl,
        /// The bucket; it must be there.
        bucket: RawArgument,
        /// Where in the bucket the repository lies. Without it: at its top.
        prefix: Option<RawArgument>,
        /// The bucket's region. Without it: us-east-1, which most servers but AWS take.
        region: Option<RawArgument>,
        /// Where the bucket's name stands in an address. Without it: virtual for AWS, else path.
        style: Option<RawBucketStyle>,
        /// The id of the access key, as a reference.
        access_key: SecretRef,
        /// The secret of the access key, as a reference.
        secret_key: SecretRef,
        /// Whose certificate is trusted. Without it: the authorities that the system trusts.
        tls: Option<RawTls>,
        /// Go over http:// to a host that is not in the own network. Without it: false.
        allow_http: Option<bool>,
    },
    /// A directory of a host that is reached with SSH.
    Sftp {
        /// The host: a name or an address.
        host: RawHost,
        /// Its port. Without it: 22.
        #[schemars(range(min = 1))]
        port: Option<u16>,
        /// The user on the host.
        user: RawArgument,
        /// The repository's directory on the host.
        path: RawPath,
        /// The host's public keys, a line each as `ssh-keyscan HOST` prints them. No other host is spoken to.
        #[schemars(length(min = 1, max = 16), extend("examples" = [["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…"]]))]
        known_hosts: Vec<RawArgument>,
        /// A private key without a passphrase, as a reference.
        key: Option<SecretRef>,
        /// The user's password, as a reference, where there is no key.
        password: Option<SecretRef>,
    },
    /// A repository of a restic REST server, such as rest-server.
    Rest {
        /// The repository's address.
        url: RawUrl,
        /// The user, where the server wants one.
        user: Option<RawArgument>,
        /// The user's password, as a reference.
        password: Option<SecretRef>,
        /// Whose certificate is trusted. Without it: the authorities that the system trusts.
        tls: Option<RawTls>,
        /// Go over http:// to a host that is not in the own network. Without it: false.
        allow_http: Option<bool>,
    },
}

/// Where a bucket's name stands in an address.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "BucketStyle", inline)]
pub enum RawBucketStyle {
    /// `https://HOST/BUCKET/…`
    Path,
    /// `https://BUCKET.HOST/…`
    Virtual,
}

/// How what lies in a bucket is locked, and for how long.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ObjectLock", extend("examples" = [{"mode": "compliance", "days": 30}]))]
pub struct RawObjectLock {
    /// Who can lift a lock before its end.
    pub mode: RawLockMode,
    /// How many days ahead the locks are held: so long everything can be brought back, whoever deletes it. What was once
    /// locked for so long is paid for so long.
    #[schemars(range(min = 1, max = 1000))]
    pub days: u32,
}

/// Who can lift a lock before its end.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "LockMode", inline)]
pub enum RawLockMode {
    /// Whoever has the right s3:BypassGovernanceRetention.
    Governance,
    /// Nobody, not even the owner of the bucket.
    Compliance,
}

/// Whose certificate is trusted: an authority or exactly one certificate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls", extend("minProperties" = 1, "maxProperties" = 1, "examples" = [{"ca": "/etc/ssl/nas.pem"}]))]
pub struct RawTls {
    /// A PEM file with the authority that signed the server's certificate.
    pub ca: Option<RawPath>,
    /// The SHA-256 fingerprint of the one certificate to trust, in hex.
    pub fingerprint: Option<RawArgument>,
}
