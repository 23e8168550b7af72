//! Everything that commonly goes wrong between us and a mail server, told apart.

use std::io;

use lettre::transport::smtp;
use lettre::transport::smtp::response::Severity;
use rustls::CertificateError;

use super::{GREETING, TLS_GREETING};
use crate::error::{Code, Trouble, codes};
use crate::process::Redactor;
use crate::secret::SecretError;

/// Longest text of a server that is repeated, in characters.
const ANSWER_CHARS_MAX: usize = 300;

/// Why a conversation could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub(in crate::alert) enum SmtpFault {
    #[error("the name of the mail server {host} cannot be resolved")]
    Name { host: String, source: io::Error },
    #[error("the name of the mail server {host} has no address")]
    NoAddress { host: String },
    #[error("no connection to the mail server {server}: {detail}")]
    Connect { server: String, kind: io::ErrorKind, detail: String },
    #[error("the mail server {server} did not get done with {step} in time")]
    Timeout { step: &'static str, server: String },
    #[error("the connection to the mail server {server} broke during {step}: {detail}")]
    Broken { server: String, step: &'static str, detail: String },
    #[error("the certificate of the mail server {server} is not trusted ({detail})")]
    UnknownIssuer { server: String, detail: String },
    #[error("the certificate of the mail server {server} is for another name ({detail})")]
    WrongName { server: String, detail: String },
    #[error("the certificate of the mail server {server} has expired or is not valid yet ({detail})")]
    Expired { server: String, detail: String },
    #[error("no TLS with the mail server {server}: {detail}")]
    Tls { server: String, detail: String },
    #[error("the system's certificates cannot be loaded: {0}")]
    Certificates(String),
    #[error("the mail server {server} does not offer STARTTLS")]
    NoStartTls { server: String },
    #[error("the mail server {server} offers no login with a password")]
    NoAuth { server: String },
    #[error("a user name for mail is set ({username}), but no password")]
    NoPassword { username: String },
    #[error("the password for mail cannot be read")]
    Secret(#[source] SecretError),
    #[error("the mail server {server} refused the login of {username}: {code} {text}")]
    Login { server: String, username: String, code: u16, text: String },
    #[error("the mail server {server} answered {step} with {code} {text}")]
    Answer { server: String, step: &'static str, code: u16, text: String, severity: Severity },
    #[error("the mail server {server} does not take {name} as the name of this machine: {code} {text}")]
    Hello { server: String, name: String, code: u16, text: String },
    #[error("the mail server {server} answered {step} with something that is no SMTP: {detail}")]
    NotSmtp { server: String, step: &'static str, detail: String },
}

impl SmtpFault {
    /// Sorts an error of the transport.
    pub(super) fn of(server: &str, step: &'static str, error: &smtp::Error) -> Self {
        let server = server.to_owned();
        if let Some(tls) = tls_error(error) {
            return Self::of_tls(server, tls);
        }
        if let Some(code) = error.status() {
            let text = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(ANSWER_CHARS_MAX).collect();
            let number = code.to_string().parse().unwrap_or(0);
            return Self::Answer { server, step, code: number, text, severity: code.severity };
        }
        let detail = innermost(error).chars().take(ANSWER_CHARS_MAX).collect();
        if error.is_response() || error.is_client() {
            return Self::NotSmtp { server, step, detail };
        }
        match connect_error(error) {
            Some(kind) if [GREETING, TLS_GREETING].contains(&step) => Self::Connect { server, kind, detail },
            _ => Self::Broken { server, step, detail },
        }
    }

    /// For errors before a connection: the system's certificates.
    pub(super) fn of_certificates(error: &smtp::Error) -> Self {
        Self::Certificates(innermost(error))
    }

    fn of_tls(server: String, error: &rustls::Error) -> Self {
        use CertificateError::{
            Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
            UnknownIssuer,
        };
        let detail = error.to_string();
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                NotValidForName | NotValidForNameContext { .. } => Self::WrongName { server, detail },
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
                    Self::Expired { server, detail }
                }
                UnknownIssuer => Self::UnknownIssuer { server, detail },
                // A certificate that signed itself is often its own authority, which must not serve.
                CertificateError::Other(_) if detail.contains("CaUsedAsEndEntity") => {
                    Self::UnknownIssuer { server, detail: "it signed itself".to_owned() }
                }
                _ => Self::Tls { server, detail },
            },
            _ => Self::Tls { server, detail },
        }
    }

    /// The same fault, when it came in answer to a login.
    pub(super) fn of_login(self, username: &str) -> Self {
        match self {
            Self::Answer { server, code, text, severity: Severity::PermanentNegativeCompletion, .. } => {
                Self::Login { server, username: username.to_owned(), code, text }
            }
            other => other,
        }
    }

    /// The same fault, when it is about the name by which we introduced ourselves. Many servers say so only later.
    pub(super) fn of_name(self, name: &str) -> Self {
        let about_it = |text: &str| ["helo", "ehlo"].iter().any(|word| text.to_ascii_lowercase().contains(word));
        match self {
            Self::Answer { server, code, text, severity: Severity::PermanentNegativeCompletion, .. }
                if about_it(&text) || matches!(code, 501 | 504) && text.to_ascii_lowercase().contains("host") =>
            {
                Self::Hello { server, name: name.to_owned(), code, text }
            }
            other => other,
        }
    }

    /// The same fault, when the server repeated what it was told.
    pub(super) fn redacted(mut self, redact: &Redactor) -> Self {
        match &mut self {
            // What a server says was cut.
            Self::Login { text, .. }
            | Self::Answer { text, .. }
            | Self::Hello { text, .. }
            | Self::Broken { detail: text, .. }
            | Self::NotSmtp { detail: text, .. } => *text = redact.redact_cut(text).into_owned(),
            _ => {}
        }
        self
    }

    pub(in crate::alert) fn code(&self) -> Code {
        match self {
            Self::Name { .. } | Self::NoAddress { .. } => codes::MAIL_DNS,
            Self::Connect { kind: io::ErrorKind::ConnectionRefused, .. } => codes::MAIL_REFUSED,
            Self::Connect { .. } => codes::MAIL_UNREACHABLE,
            Self::Timeout { .. } => codes::MAIL_TIMEOUT,
            Self::Broken { .. } => codes::MAIL_BROKEN,
            Self::UnknownIssuer { .. } => codes::MAIL_TLS_UNKNOWN_CA,
            Self::WrongName { .. } => codes::MAIL_TLS_WRONG_NAME,
            Self::Expired { .. } => codes::MAIL_TLS_EXPIRED,
            Self::Tls { .. } => codes::MAIL_TLS,
            Self::Certificates(_) => codes::MAIL_TLS_NO_CERTIFICATES,
            Self::NoStartTls { .. } => codes::MAIL_NO_STARTTLS,
            Self::NoAuth { .. } => codes::MAIL_NO_AUTH,
            Self::NoPassword { .. } | Self::Secret(_) => codes::MAIL_PASSWORD,
            Self::Login { .. } => codes::MAIL_AUTH_FAILED,
            Self::Answer { .. } => codes::MAIL_REJECTED,
            Self::Hello { .. } => codes::MAIL_HELLO_REFUSED,
            Self::NotSmtp { .. } => codes::MAIL_NOT_SMTP,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Name { host, .. } | Self::NoAddress { host } => {
                format!("check `email.smtp` in the Site, and that this machine resolves it: `getent hosts {host}`")
            }
            Self::Connect { .. } => "check the port in `email.smtp` (465 smtps, 587 smtp) and firewalls".to_owned(),
            Self::Timeout { step: GREETING, .. } => {
                "a server that waits in silence may want TLS from the first byte: write smtps:// in `email.smtp`"
                    .to_owned()
            }
            Self::Timeout { .. } | Self::Broken { .. } => {
                "look into the mail server's log; mails wait and are tried again".to_owned()
            }
            Self::UnknownIssuer { .. } => "add your CA to the system (`update-ca-certificates`), or start larder \
                 with SSL_CERT_FILE naming a bundle that has it"
                .to_owned(),
            Self::WrongName { .. } => {
                "write the name that the certificate has in `email.smtp`, or get one for this name".to_owned()
            }
            Self::Expired { .. } => "renew the mail server's certificate; also check this machine's clock".to_owned(),
            Self::Tls { .. } => {
                "a server that begins without TLS (often port 587) wants smtp:// in `email.smtp`".to_owned()
            }
            Self::Certificates(_) => "install the package `ca-certificates`, or set SSL_CERT_FILE".to_owned(),
            Self::NoStartTls { .. } => {
                "use smtps:// on port 465, or smtp+plain:// on a network where others can't listen".to_owned()
            }
            Self::NoAuth { .. } => {
                "many servers offer it only over TLS; else remove `username` and `password` from `email`".to_owned()
            }
            Self::NoPassword { .. } => "add `password: {file: …}` to `email` in the Site".to_owned(),
            Self::Secret(error) => error.hint(),
            Self::Login { .. } => {
                "check `username` and `password` of `email`; some providers want an app password".to_owned()
            }
            Self::Answer { .. } => "the server's own words say why; its log has more".to_owned(),
            Self::Hello { .. } => {
                "write the full name that the server knows this machine by, such as `hello_name: nas.home.lan`, into `email` in the Site"
                    .to_owned()
            }
            Self::NotSmtp { .. } => "check the port in `email.smtp`: something else answers there".to_owned(),
        }
    }

    pub(in crate::alert) fn trouble(&self) -> Trouble {
        let text: String = crate::error::chain(self).chars().take(1000).collect();
        Trouble::new(self.code(), text).with_hint(self.hint())
    }
}

/// The last cause; the transport's own words repeat it.
fn innermost(error: &smtp::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// Why there was no connection at all, such as no route or no such address family; none when one broke.
fn connect_error(error: &smtp::Error) -> Option<io::ErrorKind> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut};
    let cause = std::error::Error::source(error)?.downcast_ref::<io::Error>()?;
    let broke = matches!(cause.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected);
    let from_the_system = cause.raw_os_error().is_some() || cause.kind() == TimedOut;
    (from_the_system && !broke).then(|| cause.kind())
}

/// The TLS error below a transport error.
fn tls_error(error: &smtp::Error) -> Option<&rustls::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        if let Some(tls) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref).and_then(|e| e.downcast_ref())
        {
            return Some(tls);
        }
        source = cause.source();
    }
    None
}
