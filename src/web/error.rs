//! Why a call came to nothing: what was asked of whom, told so that a person knows the next step.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::CertificateError as Why;

use crate::error::{Code, Trouble, codes};
use crate::types::{ByteSize, show_duration};

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    #[error("{address:?} cannot be used as an address: {why}")]
    Address { address: String, why: String },
    #[error("credentials would go to {host} in clear text")]
    ClearText { host: String },
    #[error("the certificates in {} cannot be used: {why}", .path.display())]
    Authorities { path: PathBuf, why: String },
    #[error("{text:?} is no SHA-256 fingerprint of a certificate")]
    Fingerprint { text: String },
    #[error("both a file of authorities and a fingerprint are given")]
    TwoTrusts,
    #[error("an HTTP client cannot be made: {0}")]
    Client(String),
    #[error("an HTTP client cannot be run")]
    Runtime(#[source] io::Error),

    #[error("the host of {server} is not known")]
    UnknownHost { server: String },
    #[error("{server} refuses connections")]
    Refused { server: String },
    #[error("{server} cannot be reached: {detail}")]
    Unreachable { server: String, detail: String },
    #[error("{server} has a certificate of an authority that is not trusted")]
    UntrustedIssuer { server: String, fingerprint: Option<String> },
    #[error("{server} has a certificate for other names")]
    WrongName { server: String, fingerprint: Option<String> },
    #[error("{server} has a certificate that is not valid at this time")]
    OutOfDate { server: String },
    #[error("{server} has another certificate than the one with the given fingerprint")]
    OtherCertificate { server: String, fingerprint: Option<String> },
    #[error("{server} does not speak TLS as expected: {detail}")]
    Tls { server: String, detail: String },

    #[error("{what} said nothing for {}", show_duration(*.silence))]
    Silent { what: String, silence: Duration },
    #[error("{what} ended in the middle{}", so_far(*.got, *.announced))]
    Cut { what: String, got: u64, announced: Option<u64> },
    #[error("{what} has more than {}", ByteSize(*.bytes_max))]
    TooLarge { what: String, bytes_max: u64 },
    #[error("{what} is no JSON as expected: {detail}")]
    NotJson { what: String, detail: String },
    #[error("{what} failed: {detail}")]
    Protocol { what: String, detail: String },
    #[error("{} cannot be read", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be written", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

fn so_far(got: u64, announced: Option<u64>) -> String {
    match announced {
        Some(announced) => format!(", after {got} of {announced} bytes"),
        None if got > 0 => format!(", after {got} bytes"),
        None => String::new(),
    }
}

impl WebError {
    pub(super) fn client(error: reqwest::Error) -> Self {
        Self::Client(innermost(&error))
    }

    /// A stable name for it.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Address { .. } => codes::BAD_URL,
            Self::ClearText { .. } => codes::CLEAR_TEXT,
            Self::Authorities { .. } | Self::Fingerprint { .. } | Self::TwoTrusts => codes::BAD_TLS,
            Self::Client(_) | Self::Runtime(_) => codes::INTERNAL,
            Self::UnknownHost { .. } => codes::UNKNOWN_HOST,
            Self::Refused { .. } | Self::Unreachable { .. } => codes::UNREACHABLE,
            Self::UntrustedIssuer { .. } => codes::CERTIFICATE_UNTRUSTED,
            Self::WrongName { .. } => codes::CERTIFICATE_WRONG_NAME,
            Self::OutOfDate { .. } => codes::CERTIFICATE_OUT_OF_DATE,
            Self::OtherCertificate { .. } => codes::CERTIFICATE_CHANGED,
            Self::Tls { .. } => codes::TLS_FAILED,
            Self::Silent { .. } => codes::SILENT,
            Self::Cut { .. } => codes::CUT_SHORT,
            Self::TooLarge { .. } => codes::TOO_LARGE,
            Self::NotJson { .. } => codes::UNEXPECTED_ANSWER,
            Self::Protocol { .. } => codes::HTTP_FAILED,
            Self::Read { .. } => codes::UNREADABLE,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => codes::DISK_FULL,
            Self::Write { .. } => codes::UNWRITABLE,
        }
    }

    /// The next step.
    pub(crate) fn hint(&self) -> Option<String> {
        let pin = |fingerprint: &Option<String>| match fingerprint {
            Some(seen) => {
                format!("compare {seen} with the server's own, then write `tls: {{fingerprint: \"{seen}\"}}`")
            }
            None => "write the server's fingerprint as `tls: {fingerprint: …}`".to_owned(),
        };
        Some(match self {
            Self::Address { .. } => "write http://HOST[:PORT][/PREFIX] or https://…".to_owned(),
            Self::ClearText { .. } => {
                "use https, or say `allow_http: true` when the way there is safe (a VPN)".to_owned()
            }
            Self::Authorities { .. } => "give a PEM file with the authority's certificate".to_owned(),
            Self::Fingerprint { .. } => {
                "64 hex digits: `openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE`".to_owned()
            }
            Self::TwoTrusts => "keep one of `ca` and `fingerprint`".to_owned(),
            Self::UnknownHost { .. } => "correct the host, or look at the DNS of the daemon's host".to_owned(),
            Self::Refused { .. } => "start the application, or correct host and port".to_owned(),
            Self::Unreachable { .. } => "look at the network between the daemon and the application".to_owned(),
            Self::UntrustedIssuer { fingerprint, .. } => {
                format!("give its authority as `tls: {{ca: FILE}}`; or {}", pin(fingerprint))
            }
            Self::WrongName { fingerprint, .. } => {
                format!("use a name that the certificate has; or {}", pin(fingerprint))
            }
            Self::OutOfDate { .. } => "renew the server's certificate, or set the clock of this host".to_owned(),
            Self::OtherCertificate { fingerprint, .. } => {
                format!("if the certificate was renewed: {}; else somebody stands in between", pin(fingerprint))
            }
            Self::Tls { .. } => "check that the port speaks https; else use http:// in the own network".to_owned(),
            Self::Silent { .. } => "look whether the application hangs".to_owned(),
            Self::Cut { .. } => {
                "look in the log of the application or the proxy before it; nothing was kept".to_owned()
            }
            Self::TooLarge { .. } => {
                "no honest answer is so long: look whether `url` names the right application".to_owned()
            }
            Self::NotJson { .. } => {
                "check the address (with its prefix): a login page, a proxy or another application may answer there"
                    .to_owned()
            }
            Self::Protocol { .. } => "look in the log of the application or the proxy before it".to_owned(),
            Self::Write { .. } => "make room where the artifacts lie".to_owned(),
            _ => return None,
        })
    }

    /// Whether it may pass by itself.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// The same for a command that has no plugin's failure.
    pub(crate) fn trouble(&self) -> Trouble {
        Trouble::of(self.code(), self, self.hint())
    }

    /// What an error of a certificate is; none when `error` is none of those.
    pub(super) fn of_certificate(error: &reqwest::Error, server: &str, fingerprint: Option<String>) -> Option<Self> {
        let tls = sources(error).find_map(of_tls)?;
        let server = server.to_owned();
        let rustls::Error::InvalidCertificate(why) = tls else {
            return Some(Self::Tls { server, detail: tls.to_string() });
        };
        Some(match why {
            Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. } => {
                Self::OutOfDate { server }
            }
            Why::NotValidForName | Why::NotValidForNameContext { .. } => Self::WrongName { server, fingerprint },
            Why::ApplicationVerificationFailure => Self::OtherCertificate { server, fingerprint },
            // Also an end entity that is its own authority, as appliances make them.
            Why::UnknownIssuer | Why::BadSignature | Why::Other(_) => Self::UntrustedIssuer { server, fingerprint },
            other => Self::Tls { server, detail: other.to_string() },
        })
    }

    /// What the failure of a call is, apart from certificates.
    pub(super) fn of_call(error: &reqwest::Error, server: &str, what: &str, silence: Duration) -> Self {
        let (server, what) = (server.to_owned(), what.to_owned());
        if error.is_timeout() && !error.is_connect() {
            return Self::Silent { what, silence };
        }
        let kind = sources(error).find_map(|each| each.downcast_ref::<io::Error>().map(io::Error::kind));
        let text = innermost(error);
        if error.is_connect() {
            return match kind {
                Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Self::Refused { server },
                _ if error.is_timeout() => Self::Unreachable { server, detail: "no connection in time".to_owned() },
                _ if text.contains("lookup") || text.contains("resolve") || text.contains("not known") => {
                    Self::UnknownHost { server }
                }
                _ => Self::Unreachable { server, detail: text },
            };
        }
        let cut = matches!(
            kind,
            Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        ) || sources(error)
            .any(|each| each.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message));
        if cut { Self::Cut { what, got: 0, announced: None } } else { Self::Protocol { what, detail: text } }
    }
}

/// The error of TLS in `error`, through the I/O errors that it is wrapped in.
fn of_tls<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(outer) => of_tls(outer.get_ref()?),
        None => error.downcast_ref(),
    }
}

fn sources(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let each = next?;
        next = each.source();
        Some(each)
    })
}

/// The last of the chain says most, and never has the address with its query in it.
fn innermost(error: &reqwest::Error) -> String {
    sources(error).last().map_or_else(|| "no reason is known".to_owned(), ToString::to_string)
}
