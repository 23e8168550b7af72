//! HTTP to applications: for plugins and the command line; the only place that names reqwest.
//!
//! Calls block; a plugin is a process that does one thing at a time. Bodies stream. Nothing is waited for without a
//! bound: a server that says nothing for a while, announces more than is wanted, or closes early is an error of its own.
//! Redirects are never followed: an answer of 302 is an answer (a login page behind one is no export). Proxies of the
//! environment are deliberately not used, and credentials are not sent in clear text to hosts that are not local.

mod answer;
mod call;
mod error;
mod raw;
mod runtime;
mod socket;
mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

pub(crate) use answer::{Answer, Saved};
pub(crate) use call::{Call, Upload};
pub(crate) use error::WebError;
pub(crate) use socket::{Socket, Upgraded};
pub(crate) use tls::Trust;

use runtime::Runtime;

use crate::types::host;

/// How long a connection may take to come about; less for whoever waits less for an answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long a server may say nothing, in the head or the middle of a body.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A refused connection is tried again after these: applications restart.
const REFUSED_AGAIN: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];

/// A connection that was idle for longer is not used again: servers and proxies close them after 5 or 10 seconds, and
/// whoever sends something at that moment hears nothing.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// What this program calls itself.
const USER_AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));

/// Whether credentials may go over plain HTTP to a host that is not local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClearText {
    Refused,
    Allowed,
}

/// A server and the way to it.
pub(crate) struct Web {
    runtime: Runtime,
    client: reqwest::Client,
    base: Url,
    trust: Trust,
    /// The Unix socket that is spoken to instead of the base's host.
    socket: Option<PathBuf>,
    silence: Duration,
    refused_again: &'static [Duration],
}

impl Web {
    /// A client for what lies below `base`, such as `https://pihole.lan` or `http://nas.lan:8989/sonarr`.
    ///
    /// # Errors
    /// When the address cannot be used, the certificates cannot be read, or credentials would go in clear text.
    pub(crate) fn open(base: &str, trust: Trust, clear_text: ClearText) -> Result<Self, WebError> {
        let base = base_url(base)?;
        let host = base.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if base.scheme() == "http" && clear_text == ClearText::Refused && !host::is_local(bare) {
            return Err(WebError::ClearText { host: host.to_owned() });
        }
        let client = tls::with_trust(builder(SILENCE_MAX), &trust)?.build().map_err(WebError::client)?;
        Ok(Self {
            runtime: Runtime::new()?,
            client,
            base,
            trust,
            socket: None,
            silence: SILENCE_MAX,
            refused_again: REFUSED_AGAIN,
        })
    }

    /// A client for the server behind a Unix socket (a container engine); the paths are below `/`.
    ///
    /// # Errors
    /// When a client cannot be made; whether somebody listens shows at the first call.
    pub(crate) fn unix(socket: &Path) -> Result<Self, WebError> {
        let client = builder(SILENCE_MAX).unix_socket(socket.to_owned()).build().map_err(WebError::client)?;
        let base = base_url("http://localhost")?;
        Ok(Self {
            runtime: Runtime::new()?,
            client,
            base,
            trust: Trust::System,
            socket: Some(socket.to_owned()),
            silence: SILENCE_MAX,
            refused_again: &[],
        })
    }

    /// The same with another bound for silence: some servers work for minutes before they answer.
    ///
    /// # Errors
    /// As [`Web::open`].
    pub(crate) fn patient(mut self, silence: Duration) -> Result<Self, WebError> {
        let builder = match &self.socket {
            Some(socket) => builder(silence).unix_socket(socket.clone()),
            None => tls::with_trust(builder(silence), &self.trust)?,
        };
        self.client = builder.build().map_err(WebError::client)?;
        self.silence = silence;
        Ok(self)
    }

    /// The same with a connection of its own for each call: a proxy may close one that is idle at any moment, also while
    /// the next call is on its way.
    ///
    /// # Errors
    /// As [`Web::open`].
    pub(crate) fn without_idle_connections(mut self) -> Result<Self, WebError> {
        let builder = match &self.socket {
            Some(socket) => builder(self.silence).unix_socket(socket.clone()),
            None => tls::with_trust(builder(self.silence), &self.trust)?,
        };
        self.client = builder.pool_max_idle_per_host(0).build().map_err(WebError::client)?;
        Ok(self)
    }

    /// The same without further attempts where a connection is refused: somebody waits for the answer.
    pub(crate) fn at_once(self) -> Self {
        Self { refused_again: &[], ..self }
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Call<'_> {
        self.call("POST", path)
    }

    pub(crate) fn put(&self, path: &str) -> Call<'_> {
        self.call("PUT", path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call<'_> {
        self.call("DELETE", path)
    }

    /// A call of any method; `path` starts with `/` and lies below the base.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call::new(self, method, path)
    }

    /// The address without user, password and query, for messages.
    pub(crate) fn shown(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// `scheme://host:port` of the base.
    pub(crate) fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// Where `path` lies.
    fn address(&self, path: &str) -> Result<Url, WebError> {
        let below = self.base.path().trim_end_matches('/');
        let whole = format!("{}{below}/{}", self.base.origin().ascii_serialization(), path.trim_start_matches('/'));
        let address = Url::parse(&whole)
            .map_err(|_| WebError::Address { address: whole.clone(), why: "it is no address".to_owned() })?;
        // `..` in a path that an application named must not lead elsewhere.
        let inside = address.origin() == self.base.origin() && address.path().starts_with(below);
        if inside {
            Ok(address)
        } else {
            Err(WebError::Address { address: whole, why: "it leads elsewhere".to_owned() })
        }
    }
}

/// The certificate of the server at `base` in PEM, where it is the one with this fingerprint.
///
/// # Errors
/// The server cannot be reached, or has another one.
pub(crate) fn pinned_certificate(base: &str, fingerprint: &str) -> Result<String, WebError> {
    let Trust::Fingerprint(wanted) = Trust::from_settings(None, Some(fingerprint))? else {
        return Err(WebError::Fingerprint { text: fingerprint.to_owned() });
    };
    let (config, shown) = tls::keeping(wanted)?;
    let mut web = Web::open(base, Trust::Fingerprint(wanted), ClearText::Allowed)?.at_once();
    web.client = builder(CONNECT_MAX).tls_backend_preconfigured(config).build().map_err(WebError::client)?;
    // Whatever it answers: the handshake is what counts.
    let sent = web.get("/").send().map(drop);
    let shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    match (shown, sent) {
        (Some(der), _) => Ok(tls::pem(&der)),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(WebError::Tls { server: web.shown(), detail: "it showed no certificate".to_owned() }),
    }
}

fn builder(silence: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_MAX.min(silence))
        .read_timeout(silence)
        .pool_idle_timeout(IDLE_MAX)
        .no_proxy()
}

/// Reads an address: http or https, a host, no user, no password, no query.
fn base_url(text: &str) -> Result<Url, WebError> {
    // A password in it must not be quoted, nor a key behind the `?`.
    let front = text.split(['?', '#']).next().unwrap_or_default();
    let hidden = front.rsplit_once('@').map_or_else(|| front.to_owned(), |(_, behind)| format!("…@{behind}"));
    let refuse = |why: &str| WebError::Address { address: hidden.clone(), why: why.to_owned() };
    let url = Url::parse(text).map_err(|error| refuse(&format!("it cannot be read ({error})")))?;
    match url.scheme() {
        _ if !url.username().is_empty() || url.password().is_some() => {
            Err(refuse("user and password do not belong into it: there are settings for them"))
        }
        "http" | "https" if url.host_str().is_none_or(str::is_empty) => Err(refuse("it names no host")),
        "http" | "https" if url.query().is_some() || url.fragment().is_some() => {
            Err(refuse("it must end before `?` and `#`"))
        }
        "http" | "https" => Ok(url),
        _ => Err(refuse("it must start with http:// or https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_is_refused_without_showing_a_password() {
        for bad in ["nas", "ftp://nas", "http://", "http://me:hunter2@nas", "http://nas/?a=hunter2", "http://nas/#x"] {
            let error = base_url(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(base_url("http://[fd00::1]:8080/sonarr/").is_ok());
    }

    #[test]
    fn what_an_application_names_stays_below_the_address() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let web = Web::open("http://nas.lan:8989/sonarr/", Trust::System, ClearText::Refused).unwrap();
        assert_eq!(web.address("/api/v3?x=1").unwrap().as_str(), "http://nas.lan:8989/sonarr/api/v3?x=1");
        assert!(web.address("/../admin").is_err());
        assert_eq!(web.address("//evil.example/x").unwrap().host_str(), Some("nas.lan"));
    }

    #[test]
    fn credentials_do_not_go_in_clear_text_to_the_internet() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let open = |url, clear| Web::open(url, Trust::System, clear);
        assert!(matches!(open("http://app.example.org", ClearText::Refused), Err(WebError::ClearText { .. })));
        assert!(open("http://app.example.org", ClearText::Allowed).is_ok());
        assert!(open("http://192.168.1.2", ClearText::Refused).is_ok());
        assert!(open("http://[::1]:80", ClearText::Refused).is_ok());
    }

    /// A server that does as `play` says with each connection, by its number from 0; answers its address.
    fn server(play: fn(usize, std::net::TcpStream)) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for (number, connection) in listener.incoming().flatten().enumerate() {
                std::thread::spawn(move || play(number, connection));
            }
        });
        address
    }

    fn hear(connection: &mut std::net::TcpStream) -> bool {
        use std::io::Read as _;
        let mut bytes = [0; 4096];
        connection.read(&mut bytes).is_ok_and(|read| read > 0)
    }

    fn say(connection: &mut std::net::TcpStream) {
        use std::io::Write as _;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    }

    fn asked(call: Call<'_>) -> Result<Vec<u8>, WebError> {
        call.send()?.bytes(100)
    }

    #[test]
    fn a_connection_that_was_idle_is_not_used_again() {
        let address = server(|_, mut connection| {
            // Takes one question, and nothing ever after: as a proxy that has forgotten the connection.
            if hear(&mut connection) {
                say(&mut connection);
                std::thread::sleep(Duration::from_secs(20));
            }
        });
        let web =
            Web::open(&address, Trust::System, ClearText::Refused).unwrap().patient(Duration::from_secs(5)).unwrap();
        assert_eq!(asked(web.post("/")).unwrap(), b"ok");
        std::thread::sleep(IDLE_MAX + Duration::from_millis(100));
        assert_eq!(asked(web.post("/")).unwrap(), b"ok");
    }

    #[test]
    fn what_only_reads_is_asked_once_more_when_the_connection_breaks_and_nothing_else_is() {
        let breaks_first = |number: usize, mut connection: std::net::TcpStream| {
            if hear(&mut connection) && number > 0 {
                say(&mut connection);
            }
        };
        let web = Web::open(&server(breaks_first), Trust::System, ClearText::Refused).unwrap();
        assert_eq!(asked(web.get("/")).unwrap(), b"ok");
        let web = Web::open(&server(breaks_first), Trust::System, ClearText::Refused).unwrap();
        assert!(matches!(asked(web.post("/")), Err(WebError::Cut { .. } | WebError::Protocol { .. })));
        let never = |_, mut connection: std::net::TcpStream| assert!(hear(&mut connection));
        let web = Web::open(&server(never), Trust::System, ClearText::Refused).unwrap();
        assert!(matches!(asked(web.get("/")), Err(WebError::Cut { .. } | WebError::Protocol { .. })));
    }

    #[test]
    fn nothing_follows_on_a_connection_whose_answer_may_not_be_the_last_word() {
        let address = server(|_, mut connection| {
            use std::io::Write as _;
            if hear(&mut connection) {
                say(&mut connection);
                // Behind the end of the answer: as an FTL does after gravity.
                let _ = connection.write_all(b"{\"error\":{\"key\":\"late\"}}");
                std::thread::sleep(Duration::from_secs(2));
            }
        });
        let web = Web::open(&address, Trust::System, ClearText::Refused).unwrap();
        for _ in 0..3 {
            assert_eq!(asked(web.post("/").alone()).unwrap(), b"ok");
        }
    }
}
