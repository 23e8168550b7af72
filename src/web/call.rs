//! One call: what is sent.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use crate::web::{Answer, Web, WebError, tls};

/// A call that is being put together; nothing is sent before [`Call::send`].
pub(crate) struct Call<'w> {
    web: &'w Web,
    method: String,
    path: String,
    query: Vec<(String, String)>,
    /// Sent as it is in place of `query`.
    signed_query: Option<SecretString>,
    /// When the whole call has to be over.
    end: Option<Instant>,
    headers: Vec<(HeaderName, HeaderValue)>,
    basic: Option<(String, SecretString)>,
    body: Body,
    /// The first thing that was wrong.
    wrong: Option<WebError>,
}

enum Body {
    None,
    Bytes(Vec<u8>),
    File(std::path::PathBuf),
    Multipart { fields: Vec<(String, String)>, file: Upload },
}

/// A file to send; it is streamed.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    /// The field's name.
    pub(crate) field: String,
    pub(crate) path: std::path::PathBuf,
    /// As the server sees it.
    pub(crate) file_name: String,
    pub(crate) content_type: String,
}

impl<'w> Call<'w> {
    pub(super) fn new(web: &'w Web, method: &str, path: &str) -> Self {
        Self {
            web,
            method: method.to_owned(),
            path: path.to_owned(),
            query: Vec::new(),
            signed_query: None,
            end: None,
            headers: Vec::new(),
            basic: None,
            body: Body::None,
            wrong: None,
        }
    }

    pub(crate) fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    /// A query that somebody signed: not a byte of it may change.
    pub(crate) fn signed_query(self, query: &str) -> Self {
        Self { signed_query: Some(SecretString::from(query)), ..self }
    }

    /// All of it, the body and a second attempt included, has to be over by then; else it is `Silent`.
    pub(crate) fn until(self, end: Option<Instant>) -> Self {
        Self { end, ..self }
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        self.any_header(name, value, false)
    }

    /// A header that is a secret: kept out of logs.
    pub(crate) fn secret_header(self, name: &str, value: &SecretString) -> Self {
        self.any_header(name, value.expose_secret(), true)
    }

    /// `Authorization: Bearer …`
    pub(crate) fn bearer(self, token: &SecretString) -> Self {
        self.any_header("authorization", &format!("Bearer {}", token.expose_secret()), true)
    }

    /// `Authorization: Basic …`
    pub(crate) fn basic(mut self, user: &str, password: &SecretString) -> Self {
        self.basic = Some((user.to_owned(), password.clone()));
        self
    }

    fn any_header(mut self, name: &str, value: &str, secret: bool) -> Self {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(secret);
                self.headers.push((name, value));
            }
            // The value may be a secret: it is not shown.
            _ => {
                self.wrong.get_or_insert(WebError::Protocol {
                    what: format!("the header {}", name.chars().take(60).collect::<String>()),
                    detail: "its name or value has a character that no header may have".to_owned(),
                });
            }
        }
        self
    }

    pub(crate) fn json(self, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default();
        self.body("application/json", body)
    }

    /// As a browser sends a form.
    pub(crate) fn form(self, fields: &[(&str, &str)]) -> Self {
        let mut body = reqwest::Url::parse("http://localhost").ok();
        if let Some(url) = &mut body {
            url.query_pairs_mut().extend_pairs(fields);
        }
        let encoded = body.as_ref().and_then(|url| url.query()).unwrap_or_default().as_bytes().to_vec();
        self.body("application/x-www-form-urlencoded", encoded)
    }

    pub(crate) fn body(mut self, content_type: &str, bytes: Vec<u8>) -> Self {
        self.body = Body::Bytes(bytes);
        self.header("content-type", content_type)
    }

    /// On a connection that nothing follows on: for a server that may say more than its answer.
    pub(crate) fn alone(self) -> Self {
        self.header("connection", "close")
    }

    /// A file as the whole body; it is streamed.
    pub(crate) fn file(mut self, content_type: &str, path: &Path) -> Self {
        self.body = Body::File(path.to_owned());
        self.header("content-type", content_type)
    }

    /// A form with a file, as a browser uploads one.
    pub(crate) fn upload(mut self, fields: &[(&str, &str)], file: Upload) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.body = Body::Multipart { fields, file };
        self
    }

    /// Sends it and waits for the head of the answer, whatever its status. A refused connection is tried again for some
    /// seconds; nothing was sent then. A connection that breaks before the head is replaced once, for a call that only
    /// reads: it may have been an idle one that the server closed at that moment.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) fn send(mut self) -> Result<Answer<'w>, WebError> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let mut pauses = self.web.refused_again.iter();
        let mut again = matches!(self.method.as_str(), "GET" | "HEAD");
        loop {
            match self.attempt() {
                Err(error @ WebError::Refused { .. }) => match pauses.next() {
                    Some(pause) => std::thread::sleep(*pause),
                    None => return Err(error),
                },
                Err(WebError::Cut { .. } | WebError::Protocol { .. }) if std::mem::take(&mut again) => {}
                result => return result,
            }
        }
    }

    fn attempt(&self) -> Result<Answer<'w>, WebError> {
        let (web, started) = (self.web, Instant::now());
        let mut address = web.address(&self.path)?;
        if let Some(query) = &self.signed_query {
            address.set_query(Some(query.expose_secret()));
        } else if !self.query.is_empty() {
            address.query_pairs_mut().extend_pairs(&self.query);
        }
        let method = reqwest::Method::from_bytes(self.method.as_bytes()).map_err(|_| WebError::Protocol {
            what: format!("the method {}", self.method),
            detail: "it is none of HTTP".to_owned(),
        })?;
        // Without the query: it may hold a key.
        let what = format!("{} {}{}", self.method, web.origin(), address.path());
        let mut request = web.client.request(method, address);
        if let Some(end) = self.end {
            request = request.timeout(end.saturating_duration_since(started));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some((user, password)) = &self.basic {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let sent = web.runtime.block_on(async {
            let request = match &self.body {
                Body::None => request,
                Body::Bytes(bytes) => request.body(bytes.clone()),
                Body::File(path) => {
                    let (opened, length) = open(path).await?;
                    request.header(reqwest::header::CONTENT_LENGTH, length).body(reqwest::Body::from(opened))
                }
                Body::Multipart { fields, file } => request.multipart(form(fields, file).await?),
            };
            Ok::<_, WebError>(request.send().await)
        })?;
        match sent {
            Ok(response) => Ok(Answer::new(web, response, what)),
            Err(error) => Err(self.explain(&error, &what, self.waited(started))),
        }
    }

    /// How long an attempt that began then may wait.
    fn waited(&self, started: Instant) -> Duration {
        let left = self.end.map(|end| end.saturating_duration_since(started));
        left.map_or(self.web.silence, |left| left.min(self.web.silence))
    }

    fn explain(&self, error: &reqwest::Error, what: &str, waited: Duration) -> WebError {
        let server = self.web.shown();
        let certificate = WebError::of_certificate(error, &server, None).map(|_| self.certificate_of());
        match certificate {
            Some(fingerprint) => WebError::of_certificate(error, &server, fingerprint),
            None => None,
        }
        .unwrap_or_else(|| WebError::of_call(error, &server, what, waited))
    }

    /// Looks which certificate the server has, for the hint.
    fn certificate_of(&self) -> Option<String> {
        let (config, seen) = tls::looking().ok()?;
        let client = super::builder(self.web.silence).tls_backend_preconfigured(config).build().ok()?;
        let address = self.web.address("/").ok()?;
        // The handshake ends in an error on purpose: nothing is sent to a server that is not trusted.
        let _ = self.web.runtime.block_on(async { client.get(address).send().await });
        let seen = *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.as_ref().map(tls::show)
    }
}

async fn open(path: &Path) -> Result<(tokio::fs::File, u64), WebError> {
    let unreadable = |source| WebError::Read { path: path.to_owned(), source };
    let opened = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let length = opened.metadata().await.map_err(unreadable)?.len();
    Ok((opened, length))
}

async fn form(fields: &[(String, String)], file: &Upload) -> Result<reqwest::multipart::Form, WebError> {
    let (opened, length) = open(&file.path).await?;
    let part = reqwest::multipart::Part::stream_with_length(reqwest::Body::from(opened), length)
        .file_name(file.file_name.clone())
        .mime_str(&file.content_type)
        .map_err(WebError::client)?;
    let form = fields
        .iter()
        .fold(reqwest::multipart::Form::new(), |form, (name, value)| form.text(name.clone(), value.clone()));
    Ok(form.part(file.field.clone(), part))
}
