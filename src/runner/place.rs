//! Where a destination's storage is, with the secrets that open it.

use std::path::PathBuf;
use std::sync::OnceLock;

use secrecy::SecretString;

use crate::config::model::{Destination, Repository};
use crate::error::{Trouble, codes};
use crate::secret::SecretRef;
use crate::storage::{Place, RestPlace, S3Place, SftpPlace};

/// The place of `destination`.
///
/// # Errors
/// When a secret cannot be had.
pub(super) async fn place(destination: &Destination, state_id: &str) -> Result<Place, Trouble> {
    let secret = async |field: &'static str, reference: &SecretRef| -> Result<SecretString, Trouble> {
        reference.resolved().await.map_err(|error| {
            let message = format!("destination {}: `{field}`: {}", destination.name, crate::error::chain(&error));
            Trouble::new(codes::PASSWORD_UNAVAILABLE, message).with_hint(error.hint())
        })
    };
    let maybe = async |field: &'static str, reference: Option<&SecretRef>| match reference {
        Some(reference) => secret(field, reference).await.map(Some),
        None => Ok(None),
    };
    Ok(match &destination.repository {
        Repository::Local(local) => Place::Local(local.path.clone()),
        Repository::S3(s3) => Place::S3(S3Place {
            endpoint: s3.endpoint.clone(),
            bucket: s3.bucket.clone(),
            prefix: s3.prefix.clone(),
            region: s3.region.clone(),
            style: s3.style,
            access_key: secret("access_key", &s3.access_key).await?,
            secret_key: secret("secret_key", &s3.secret_key).await?,
            tls: s3.tls.clone(),
            allow_http: s3.allow_http,
            locked: destination.object_lock.map(|lock| lock.mode),
        }),
        Repository::Sftp(sftp) => Place::Sftp(SftpPlace {
            host: sftp.host.clone(),
            port: sftp.port,
            user: sftp.user.clone(),
            path: sftp.path.clone(),
            key: maybe("key", sftp.key.as_ref()).await?,
            password: maybe("password", sftp.password.as_ref()).await?,
            known_hosts: sftp.known_hosts.clone(),
            askpass: program(),
            mark: format!("{state_id}:storage"),
        }),
        Repository::Rest(rest) => Place::Rest(RestPlace {
            url: rest.url.clone(),
            user: rest.user.clone(),
            password: maybe("password", rest.password.as_ref()).await?,
            tls: rest.tls.clone(),
            allow_http: rest.allow_http,
        }),
    })
}

/// This program, which ssh asks for a password: as it was when it was first asked for, since the system calls one that was
/// replaced since then by no name that can be started.
pub(super) fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::current_exe().unwrap_or_else(|_| PathBuf::from("larder"))).clone()
}
